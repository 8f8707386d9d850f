"""The smallest environment in AWS: everything real, sized for a few people, under $150 a month idle."""

from __future__ import annotations

from cdk.environments.operations import Alarms, Cost, Objectives
from cdk.environments.settings import Settings
from cdk.environments.stores import Bucket, Capacity, Database, Lake, Rollups
from cdk.environments.traffic import (
    Api,
    Bus,
    Encryption,
    EventSource,
    Function,
    Identity,
    Network,
    Push,
    Queues,
    Secrets,
    Stream,
)


def settings() -> Settings:
    """One NAT gateway, Serverless v2 from half a unit, one shard a stream."""
    backbone = EventSource(
        batch_size=200, window_seconds=1, retry_attempts=5, max_record_age_seconds=21_600, parallelization=1
    )
    return Settings(
        name="dev",
        embedded=False,
        region="us-east-1",
        copies_to=None,
        copy_of=None,
        architecture="arm64",
        log_level="INFO",
        log_retention_days=30,
        termination_protection=True,
        functions={
            "ingest": Function(memory_mb=1024, timeout_seconds=60, reserved_concurrency=10),
            "reconcile": Function(memory_mb=1024, timeout_seconds=60, reserved_concurrency=2),
            "publish": Function(memory_mb=512, timeout_seconds=60, reserved_concurrency=2),
            "quality": Function(memory_mb=1024, timeout_seconds=120, reserved_concurrency=2),
            "query": Function(memory_mb=1024, timeout_seconds=29, reserved_concurrency=10),
            "realtime": Function(memory_mb=512, timeout_seconds=29, reserved_concurrency=5),
            "relay": Function(memory_mb=512, timeout_seconds=120, reserved_concurrency=2),
            "migrate": Function(memory_mb=512, timeout_seconds=900, reserved_concurrency=1),
        },
        release=None,
        streams={
            "ingest": Stream(shards=1, retention_hours=24),
            "events": Stream(shards=1, retention_hours=24),
        },
        event_sources={
            "ingest": backbone.model_copy(update={"batch_size": 500, "window_seconds": 0}),
            "reconcile": backbone.model_copy(update={"window_seconds": 0}),
            "publish": backbone.model_copy(update={"batch_size": 500, "window_seconds": 0}),
            "quality": backbone,
            "realtime": backbone.model_copy(update={"window_seconds": 0}),
        },
        queues=Queues(retention_days=14, visibility_seconds=60),
        bus=Bus(archive_days=7, subscribers=(), schemas=False),
        bucket=Bucket(name_has_account=True, access_logs=True, noncurrent_days=30),
        lake=Lake(
            infrequent_after_days=30,
            glacier_after_days=90,
            deep_archive_after_days=180,
            lock_mode="GOVERNANCE",
            lock_days=1,
            rejected_days=30,
            delivery_seconds=900,
            query_scan_gib=1,
        ),
        api=Api(rate_per_second=100, burst=200, plans={}, domain=None),
        push=Push(rate_per_second=100, burst=100, domain=None),
        alarms=Alarms(
            notify=True,
            iterator_age_seconds=300,
            follower_lag_seconds=60,
            consumer_age_seconds=86_400,
            horizon_held_seconds=60,
        ),
        encryption=Encryption(rotation_days=365),
        network=Network(cidr="10.40.0.0/16", availability_zones=2, nat_gateways=1, endpoints=()),
        identity=Identity(
            access_token_minutes=60,
            refresh_token_days=1,
            machine_scopes=("read:data", "write:data"),
            sign_in_urls=(),
        ),
        secrets=Secrets(providers=(), rotation_days=90),
        database=Database(
            engine_version="17.9",
            writer="serverless",
            readers=(),
            serverless=Capacity(min_acu=0.5, max_acu=4.0),
            port=5432,
            backup_retention_days=7,
            deletion_protection=True,
            idle_transaction_seconds=60,
            end_transactions_after=0,
            proxy=False,
            global_database=False,
        ),
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
        objectives=Objectives(rto_minutes=240, rpo_minutes=60),
        cost=Cost(monthly_usd=150, anomaly_usd=20),
    )
