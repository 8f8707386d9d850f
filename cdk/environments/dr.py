"""The second region of ``prod``: its data, current to the second, and a service small enough to wait.

In a failover the database is promoted and the sizes here are raised to those of ``prod`` by a deployment.
"""

from __future__ import annotations

from cdk.environments import prod
from cdk.environments.operations import Cost
from cdk.environments.settings import Peer, Settings
from cdk.environments.stores import Cache, Capacity, Database
from cdk.environments.traffic import EventSource, Function, Stream


def settings() -> Settings:
    """``prod`` with one serverless replica of the database and one shard a stream."""
    base = prod.settings()
    assert base.network is not None
    assert base.database is not None
    waiting = EventSource(
        batch_size=1000, window_seconds=0, retry_attempts=5, max_record_age_seconds=86_400, parallelization=1
    )
    return Settings.model_validate(
        dict(base)
        | {
            "name": "dr",
            "region": "us-west-2",
            "copies_to": None,
            "copy_of": Peer(environment="prod", region="us-east-1"),
            "active": False,
            "account_concurrency": 1000,
            "functions": {
                name: Function(
                    memory_mb=function.memory_mb,
                    timeout_seconds=function.timeout_seconds,
                    reserved_concurrency=min(function.reserved_concurrency, 100),
                )
                for name, function in base.functions.items()
            },
            "streams": {
                name: Stream(shards=1, retention_hours=stream.retention_hours)
                for name, stream in base.streams.items()
            },
            "event_sources": dict.fromkeys(base.event_sources, waiting),
            "network": base.network.model_copy(
                update={"cidr": "10.44.0.0/16", "nat_gateways": 1, "endpoints": ()}
            ),
            "database": Database(
                engine_version=base.database.engine_version,
                writer="serverless",
                readers=(),
                serverless=Capacity(min_acu=2.0, max_acu=64.0),
                port=base.database.port,
                backup_retention_days=35,
                deletion_protection=True,
                idle_transaction_seconds=60,
                end_transactions_after=0,
                proxy=False,
                global_database=True,
            ),
            "caches": {"hot": Cache(node="t4g.small", nodes=2, snapshot_days=1)},
            "edge": None,
            "cluster": None,
            "cost": Cost(monthly_usd=1000, anomaly_usd=50),
        }
    )
