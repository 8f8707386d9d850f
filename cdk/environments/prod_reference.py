"""The deployment document's own production sizes, on versions that live.

What it names and AWS ended is replaced by its successor: EKS 1.28, Aurora 15.4, MSK 2.8.1, Redis 7.0 (by
Valkey), Timestream for LiveAnalytics (by InfluxDB). Where the documents disagree the stricter figure holds:
backups of 35 days, not 30. Where it names a service without a size (OpenSearch, EFS), the size is ours. It
costs more than three times the budget: it is there to be compared with, and for whoever wants it.
"""

from __future__ import annotations

from cdk.environments import prod
from cdk.environments.operations import Cluster, Edge, NodeGroup
from cdk.environments.settings import Settings
from cdk.environments.stores import Cache, Documents, Files, Influx, Search
from cdk.environments.traffic import Kafka, Stream


def settings() -> Settings:
    """``prod`` with every size that the document gives."""
    base = prod.settings()
    assert base.network is not None
    assert base.database is not None
    return Settings.model_validate(
        dict(base)
        | {
            "name": "prod-reference",
            "network": base.network.model_copy(update={"cidr": "10.43.0.0/16", "nat_gateways": 1}),
            "streams": {
                "ingest": Stream(shards=10, retention_hours=168, shard_metrics=True),
                "events": Stream(shards=10, retention_hours=168),
                "alerts": Stream(shards=2, retention_hours=24),
                "audit": Stream(shards=5, retention_hours=168),
            },
            "database": base.database.model_copy(
                update={"writer": "r6g.2xlarge", "readers": ("r6g.xlarge", "r6g.xlarge")}
            ),
            "documents": Documents(
                engine_version="5.0.0",
                instance="r6g.large",
                instances=3,
                backup_retention_days=7,
                deletion_protection=True,
            ),
            "time_series": Influx(
                store="influxdb", instance="db.influx.medium", storage_gib=100, standby=True
            ),
            "caches": {
                "hot": Cache(node="r6g.2xlarge", nodes=6, snapshot_days=7),
                "session": Cache(node="r6g.large", nodes=3, snapshot_days=7),
                "compute": Cache(node="r6g.xlarge", nodes=4, snapshot_days=7),
            },
            "kafka": Kafka(
                version="3.9.x.kraft",
                broker="kafka.m5.2xlarge",
                brokers=6,
                storage_gib=1000,
                scram_users=("consumers",),
            ),
            "search": Search(engine_version="2.19", instance="r6g.large.search", nodes=3, storage_gib=100),
            "files": Files(infrequent_after_days=30, backups=True),
            "edge": Edge(requests_per_address=20_000, shield=True, load_balancer=True),
            "cluster": Cluster(
                version="1.36",
                nodes={
                    "compute": NodeGroup(
                        instance="m6i.2xlarge", smallest=3, desired=6, largest=20, spot=False
                    ),
                    "memory": NodeGroup(instance="r6i.xlarge", smallest=2, desired=4, largest=10, spot=False),
                },
            ),
        }
    )
