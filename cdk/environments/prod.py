"""Production: the promised figures within the budget of $5,000 a month before traffic.

Against the documents' own sizes (``prod-reference``): MSK, DocumentDB and OpenSearch are off, because nothing
in the product reads them (Kinesis is the backbone, PostgreSQL holds JSON, CloudWatch searches logs), and the
internal load balancer, because nothing in the cluster serves requests; Shield Advanced is off ($3,000);
caches hold answers, not data, and are sized for their hit rate; the writer has the measured capacity several
times over.
"""

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
from cdk.environments.settings import Peer, Settings
from cdk.environments.stores import Bucket, Cache, Database, Lake, Rollups
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
    """Three zones, a writer and two readers of equal size, a copy in the second region."""
    backbone = EventSource(
        batch_size=1000, window_seconds=0, retry_attempts=5, max_record_age_seconds=86_400, parallelization=2
    )
    return Settings(
        name="prod",
        embedded=False,
        region="us-east-1",
        copies_to=Peer(environment="dr", region="us-west-2"),
        copy_of=None,
        architecture="arm64",
        log_level="INFO",
        log_retention_days=90,
        account_concurrency=2000,
        termination_protection=True,
        functions={
            "ingest": Function(memory_mb=1769, timeout_seconds=60, reserved_concurrency=400, snap_start=True),
            "reconcile": Function(memory_mb=1769, timeout_seconds=60, reserved_concurrency=60),
            "publish": Function(memory_mb=1024, timeout_seconds=60, reserved_concurrency=60),
            "quality": Function(memory_mb=1769, timeout_seconds=120, reserved_concurrency=60),
            "query": Function(memory_mb=1769, timeout_seconds=29, reserved_concurrency=800, snap_start=True),
            "realtime": Function(memory_mb=1024, timeout_seconds=29, reserved_concurrency=60),
            "relay": Function(memory_mb=1769, timeout_seconds=120, reserved_concurrency=2),
            "migrate": Function(memory_mb=1024, timeout_seconds=900, reserved_concurrency=1),
        },
        release=Release(canary_minutes=10),
        streams={
            "ingest": Stream(shards=10, retention_hours=168, shard_metrics=True),
            "events": Stream(shards=20, retention_hours=168),
            "alerts": Stream(shards=2, retention_hours=24),
            "audit": Stream(shards=5, retention_hours=168),
        },
        event_sources=dict.fromkeys(("ingest", "reconcile", "publish", "quality", "realtime"), backbone),
        queues=Queues(retention_days=14, visibility_seconds=60),
        bus=Bus(archive_days=90, subscribers=(), schemas=True),
        bucket=Bucket(name_has_account=True, access_logs=True, noncurrent_days=90),
        lake=Lake(
            infrequent_after_days=30,
            glacier_after_days=90,
            deep_archive_after_days=365,
            lock_mode="GOVERNANCE",
            lock_days=2557,
            rejected_days=365,
            delivery_seconds=300,
            query_scan_gib=100,
        ),
        api=Api(
            rate_per_second=10_000,
            burst=5_000,
            plans={
                "standard": Plan(rate_per_second=500, burst=1000, requests_per_day=10_000_000),
                "premium": Plan(rate_per_second=5_000, burst=5_000, requests_per_day=200_000_000),
            },
            domain="api.data.qis.example",
        ),
        push=Push(rate_per_second=1000, burst=1000, domain="push.data.qis.example"),
        alarms=Alarms(
            notify=True,
            iterator_age_seconds=30,
            follower_lag_seconds=5,
            consumer_age_seconds=86_400,
            horizon_held_seconds=60,
        ),
        encryption=Encryption(rotation_days=90),
        network=Network(
            cidr="10.42.0.0/16",
            availability_zones=3,
            nat_gateways=3,
            endpoints=("kinesis", "sqs", "events"),
        ),
        identity=Identity(
            access_token_minutes=60,
            refresh_token_days=30,
            machine_scopes=("read:data", "write:data"),
            sign_in_urls=("https://console.data.qis.example/signed-in",),
        ),
        secrets=Secrets(providers=("bloomberg", "refinitiv", "coingecko"), rotation_days=90),
        database=Database(
            engine_version="17.9",
            writer="r6g.xlarge",
            readers=("r6g.xlarge", "r6g.xlarge"),
            serverless=None,
            port=5432,
            backup_retention_days=35,
            deletion_protection=True,
            idle_transaction_seconds=60,
            end_transactions_after=0,
            proxy=True,
            global_database=True,
        ),
        documents=None,
        time_series=Rollups(store="rollups"),
        caches={
            "hot": Cache(node="r7g.large", nodes=2, snapshot_days=7),
            "session": Cache(node="t4g.small", nodes=2, snapshot_days=1),
            "compute": Cache(node="t4g.small", nodes=2, snapshot_days=1),
        },
        kafka=None,
        search=None,
        files=None,
        edge=Edge(requests_per_address=20_000, shield=False, load_balancer=False),
        cluster=Cluster(
            version="1.36",
            nodes={
                "general": NodeGroup(instance="m7g.2xlarge", smallest=2, desired=2, largest=6, spot=False),
            },
        ),
        observability=Observability(
            trace_share=0.1,
            canary=True,
            stores=StoreLimits(
                cpu_percent=80,
                memory_percent=85,
                disk_percent=80,
                kafka_cpu_percent=60,
                database_connections=2000,
                database_free_mib=3200,
                documents_free_mib=1600,
                replica_lag_ms=1000,
                capacity_percent=90,
                borrow_ms=10,
                cache_evictions=100000,
            ),
        ),
        recovery=Recovery(daily_days=365, vault_lock_days=35, restore_tests=True),
        objectives=Objectives(rto_minutes=15, rpo_minutes=5),
        cost=Cost(monthly_usd=5000, anomaly_usd=100),
    )
