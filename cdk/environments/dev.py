"""The smallest environment in AWS: everything real, sized for a few people, under $150 a month idle."""

from __future__ import annotations

from cdk.environments.settings import (
    Alarms,
    Api,
    Bucket,
    Database,
    EventSource,
    Function,
    Identity,
    Network,
    Queues,
    Settings,
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
            "relay": Function(memory_mb=512, timeout_seconds=120, reserved_concurrency=2),
            "migrate": Function(memory_mb=512, timeout_seconds=900, reserved_concurrency=1),
        },
        streams={
            "ingest": Stream(shards=1, retention_hours=24),
            "events": Stream(shards=1, retention_hours=24),
        },
        event_sources={
            "ingest": backbone.model_copy(update={"batch_size": 500, "window_seconds": 0}),
            "reconcile": backbone.model_copy(update={"window_seconds": 0}),
            "publish": backbone.model_copy(update={"batch_size": 500, "window_seconds": 0}),
            "quality": backbone,
        },
        queues=Queues(retention_days=14, visibility_seconds=60),
        bucket=Bucket(name_has_account=True, access_logs=True, noncurrent_days=30),
        api=Api(rate_per_second=100, burst=200),
        alarms=Alarms(
            notify=True, iterator_age_seconds=300, follower_lag_seconds=60, consumer_age_seconds=86_400
        ),
        network=Network(cidr="10.40.0.0/16", availability_zones=2, nat_gateways=1),
        database=Database(
            engine_version="17.9",
            min_acu=0.5,
            max_acu=4.0,
            readers=0,
            port=5432,
            backup_retention_days=7,
            deletion_protection=True,
        ),
        identity=Identity(access_token_minutes=60, machine_scopes=("read:data", "write:data")),
    )
