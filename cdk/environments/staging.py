"""The parts of ``prod`` at a fraction of its size: what a release is tried on."""

from __future__ import annotations

from cdk.environments.operations import (
    Alarms,
    Cluster,
    Cost,
    Edge,
    NodeGroup,
    Objectives,
    Observability,
    Recovery,
    StoreLimits,
)
from cdk.environments.settings import Settings
from cdk.environments.stores import Bucket, Cache, Capacity, Database, Lake, Rollups
from cdk.environments.traffic import (
    Api,
    Bus,
    Encryption,
    EventSource,
    Function,
    Identity,
    Network,
    Plan,
    Push,
    Queues,
    Release,
    Secrets,
    Stream,
)


def settings() -> Settings:
    """Serverless database with a reader, one shard a stream, canary releases as in ``prod``."""
    backbone = EventSource(
        batch_size=500, window_seconds=0, retry_attempts=5, max_record_age_seconds=21_600, parallelization=1
    )
    return Settings(
        name="staging",
        embedded=False,
        region="us-east-1",
        copies_to=None,
        copy_of=None,
        architecture="arm64",
        log_level="DEBUG",
        log_retention_days=30,
        termination_protection=True,
        functions={
            "ingest": Function(memory_mb=1024, timeout_seconds=60, reserved_concurrency=20, snap_start=True),
            "reconcile": Function(memory_mb=1024, timeout_seconds=60, reserved_concurrency=5),
            "publish": Function(memory_mb=512, timeout_seconds=60, reserved_concurrency=5),
            "quality": Function(memory_mb=1024, timeout_seconds=120, reserved_concurrency=5),
            "query": Function(memory_mb=1024, timeout_seconds=29, reserved_concurrency=20, snap_start=True),
            "realtime": Function(memory_mb=512, timeout_seconds=29, reserved_concurrency=10),
            "relay": Function(memory_mb=512, timeout_seconds=120, reserved_concurrency=2),
            "migrate": Function(memory_mb=512, timeout_seconds=900, reserved_concurrency=1),
        },
        release=Release(canary_minutes=5),
        streams={
            "ingest": Stream(shards=1, retention_hours=24),
            "events": Stream(shards=1, retention_hours=24),
            "alerts": Stream(shards=1, retention_hours=24),
            "audit": Stream(shards=1, retention_hours=24),
        },
        event_sources=dict.fromkeys(("ingest", "reconcile", "publish", "quality", "realtime"), backbone),
        queues=Queues(retention_days=14, visibility_seconds=60),
        bus=Bus(archive_days=14, subscribers=(), schemas=True),
        bucket=Bucket(name_has_account=True, access_logs=True, noncurrent_days=30),
        lake=Lake(
            infrequent_after_days=30,
            glacier_after_days=90,
            deep_archive_after_days=180,
            lock_mode="GOVERNANCE",
            lock_days=7,
            rejected_days=30,
            delivery_seconds=300,
            query_scan_gib=10,
        ),
        api=Api(
            rate_per_second=500,
            burst=500,
            plans={"standard": Plan(rate_per_second=100, burst=200, requests_per_day=1_000_000)},
            domain=None,
        ),
        push=Push(rate_per_second=200, burst=200, domain=None),
        alarms=Alarms(
            notify=True,
            iterator_age_seconds=60,
            follower_lag_seconds=30,
            consumer_age_seconds=86_400,
            horizon_held_seconds=60,
        ),
        encryption=Encryption(rotation_days=365),
        network=Network(
            cidr="10.41.0.0/16",
            availability_zones=3,
            nat_gateways=1,
            endpoints=("kinesis", "sqs", "events"),
        ),
        identity=Identity(
            access_token_minutes=60,
            refresh_token_days=30,
            machine_scopes=("read:data", "write:data"),
            sign_in_urls=("https://localhost/signed-in",),
        ),
        secrets=Secrets(providers=("bloomberg", "refinitiv", "coingecko"), rotation_days=90),
        database=Database(
            engine_version="17.9",
            writer="serverless",
            readers=("serverless",),
            serverless=Capacity(min_acu=0.5, max_acu=8.0),
            port=5432,
            backup_retention_days=14,
            deletion_protection=True,
            idle_transaction_seconds=60,
            end_transactions_after=0,
            proxy=True,
            global_database=False,
        ),
        documents=None,
        time_series=Rollups(store="rollups"),
        caches={"hot": Cache(node="t4g.small", nodes=2, snapshot_days=1)},
        kafka=None,
        search=None,
        files=None,
        edge=Edge(requests_per_address=2000, shield=False, load_balancer=False),
        cluster=Cluster(
            version="1.36",
            nodes={"general": NodeGroup(instance="t4g.medium", smallest=2, desired=2, largest=4, spot=True)},
        ),
        observability=Observability(
            trace_share=0.1,
            canary=True,
            stores=StoreLimits(
                cpu_percent=80,
                memory_percent=85,
                disk_percent=80,
                kafka_cpu_percent=60,
                database_connections=900,
                database_free_mib=1600,
                documents_free_mib=1600,
                replica_lag_ms=2000,
                capacity_percent=90,
                borrow_ms=50,
                cache_evictions=10000,
            ),
        ),
        recovery=Recovery(daily_days=14, vault_lock_days=7, restore_tests=True),
        objectives=Objectives(rto_minutes=60, rpo_minutes=15),
        cost=Cost(monthly_usd=1000, anomaly_usd=50),
    )
