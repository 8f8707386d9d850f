"""The environment of the local twin: only what the twin can make, on one machine."""

from __future__ import annotations

from cdk.environments.operations import Alarms
from cdk.environments.settings import Settings
from cdk.environments.stores import Bucket, Rollups
from cdk.environments.traffic import Api, EventSource, Function, Push, Queues, Stream


def settings() -> Settings:
    """Small, without waiting windows, so that a developer sees each step."""
    backbone = EventSource(
        batch_size=500, window_seconds=0, retry_attempts=10, max_record_age_seconds=3600, parallelization=1
    )
    return Settings(
        name="local",
        embedded=True,
        region="us-east-1",
        copies_to=None,
        copy_of=None,
        architecture="arm64",
        log_level="INFO",
        log_retention_days=7,
        termination_protection=False,
        functions={
            "ingest": Function(memory_mb=512, timeout_seconds=60, reserved_concurrency=2),
            "reconcile": Function(memory_mb=512, timeout_seconds=60, reserved_concurrency=1),
            "publish": Function(memory_mb=256, timeout_seconds=60, reserved_concurrency=1),
            "quality": Function(memory_mb=512, timeout_seconds=60, reserved_concurrency=1),
            "query": Function(memory_mb=512, timeout_seconds=29, reserved_concurrency=2),
            "realtime": Function(memory_mb=512, timeout_seconds=29, reserved_concurrency=2),
            "relay": Function(memory_mb=256, timeout_seconds=120, reserved_concurrency=2),
            "migrate": Function(memory_mb=256, timeout_seconds=300, reserved_concurrency=1),
        },
        release=None,
        streams={
            "ingest": Stream(shards=1, retention_hours=24),
            "events": Stream(shards=1, retention_hours=24),
        },
        event_sources={
            "ingest": backbone,
            "reconcile": backbone,
            "publish": backbone,
            "quality": backbone,
            "realtime": backbone,
        },
        queues=Queues(retention_days=14, visibility_seconds=60),
        bus=None,
        bucket=Bucket(name_has_account=False, access_logs=False, noncurrent_days=30),
        lake=None,
        api=Api(rate_per_second=1000, burst=500, plans={}, domain=None),
        push=Push(rate_per_second=1000, burst=500, domain=None),
        alarms=Alarms(
            notify=False,
            iterator_age_seconds=60,
            follower_lag_seconds=30,
            consumer_age_seconds=86_400,
            horizon_held_seconds=60,
        ),
        encryption=None,
        network=None,
        identity=None,
        secrets=None,
        database=None,
        documents=None,
        time_series=Rollups(store="rollups"),
        caches={},
        kafka=None,
        search=None,
        files=None,
        edge=None,
        cluster=None,
        observability=None,
        recovery=None,
        objectives=None,
        cost=None,
    )
