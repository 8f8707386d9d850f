"""Every store is watched, under the name that it has, at the limits of the settings, and shown."""

from __future__ import annotations

import pytest

from cdk.environments import ENVIRONMENTS, load
from tests.infra.synthesis import Environment
from tests.infra.test_infra_alarms import alarms
from tests.infra.walk import alarm_metrics, flat, shown_metrics, text

WITH = sorted(name for name in ENVIRONMENTS if load(name).observability)

STORES: dict[str, tuple[str, str, str]] = {
    "AWS::RDS::DBCluster": ("AWS/RDS", "DBClusterIdentifier", "DBClusterIdentifier"),
    "AWS::RDS::DBProxy": ("AWS/RDS", "ProxyName", "DBProxyName"),
    "AWS::DocDB::DBCluster": ("AWS/DocDB", "DBClusterIdentifier", "DBClusterIdentifier"),
    "AWS::ElastiCache::ReplicationGroup": ("AWS/ElastiCache", "CacheClusterId", "ReplicationGroupId"),
    "AWS::Kinesis::Stream": ("AWS/Kinesis", "StreamName", "Name"),
    "AWS::MSK::Cluster": ("AWS/Kafka", "Cluster Name", "ClusterName"),
    "AWS::OpenSearchService::Domain": ("AWS/ES", "DomainName", "DomainName"),
}
"""By type: the namespace of its metrics, the dimension that names it, the property with the name."""


@pytest.fixture(params=WITH)
def watched(request: pytest.FixtureRequest, environments: dict[str, Environment]) -> Environment:
    return environments[request.param]


def metrics(environment: Environment) -> set[tuple[str, str, str]]:
    return {found for _, properties in alarms(environment) for found in alarm_metrics(properties)}


def test_each_store_is_watched_under_the_name_that_it_has(watched: Environment) -> None:
    found = metrics(watched)
    for type_, (namespace, dimension, property_) in STORES.items():
        for logical_id, resource in watched.of_type(type_):
            name = flat(resource["Properties"][property_])
            nodes = resource["Properties"].get("NumCacheClusters")
            names = [f"{name}-{n:03}" for n in range(1, nodes + 1)] if nodes else [name]
            for one in names:
                assert any(
                    space == namespace and f'"{dimension}"' in dimensions and f'"{one}"' in dimensions
                    for space, _, dimensions in found
                ), (logical_id, one)
    for logical_id, _ in watched.of_type("AWS::EFS::FileSystem"):
        assert any(space == "AWS/EFS" and logical_id in dimensions for space, _, dimensions in found)


def test_nothing_is_watched_that_is_not_there(watched: Environment) -> None:
    """A misspelt name would watch nothing, for ever, in silence."""
    there = {
        (namespace, dimension, flat(resource["Properties"][property_]))
        for type_, (namespace, dimension, property_) in STORES.items()
        for _, resource in watched.of_type(type_)
    }
    stem = load(watched.name).stem
    for namespace, _, dimensions in metrics(watched):
        of = {(space, dimension) for space, dimension, _ in there if space == namespace}
        for space, dimension in of:
            if f'"{dimension}"' in dimensions:
                names = {name for s, d, name in there if (s, d) == (space, dimension)}
                assert any(f'"{name}' in dimensions for name in names), dimensions
                assert f'"{stem}-' in dimensions


def test_limits_are_those_of_the_settings(watched: Environment) -> None:
    settings = load(watched.name)
    assert settings.observability is not None
    limits = settings.observability.stores
    found = {flat(p["AlarmName"]).removeprefix(f"{settings.stem}-"): p for _, p in alarms(watched)}
    wanted = {
        "database-cpu": limits.cpu_percent,
        "database-connections": limits.database_connections,
        "database-memory": limits.database_free_mib * 2**20,
        "database-deadlocks": 0,
        "database-replica-lag": limits.replica_lag_ms,
        "database-capacity": limits.capacity_percent,
        "database-proxy-slow": limits.borrow_ms * 1000,
        "cache-hot-cpu": limits.cpu_percent,
        "cache-hot-evictions": limits.cache_evictions,
        "cache-session-memory": limits.memory_percent,
        "kafka-cpu": limits.kafka_cpu_percent,
        "kafka-disk": limits.disk_percent,
        "search-memory": limits.memory_percent,
        "documents-memory": limits.documents_free_mib * 2**20,
        "files-busy": limits.disk_percent,
        "stream-audit-behind": settings.alarms.iterator_age_seconds * 1000,
    }
    for name, threshold in wanted.items():
        if name in found:
            assert found[name]["Threshold"] == threshold, name
            below = name.endswith("-memory") and not name.startswith(("cache", "search"))
            assert found[name]["ComparisonOperator"].startswith("Less" if below else "Greater"), name
    least = {"database-cpu", "database-memory", "cache-hot-evictions", "stream-audit-behind"}
    assert least <= found.keys()


def test_every_limit_is_used_somewhere(environments: dict[str, Environment]) -> None:
    names = {
        flat(p["AlarmName"]).removeprefix(f"{load(e.name).stem}-")
        for e in environments.values()
        for _, p in alarms(e)
    }
    assert names >= {
        "database-capacity",
        "database-replica-lag",
        "database-proxy-slow",
        "cache-session-memory",
        "kafka-disk",
        "search-disk",
        "documents-cpu",
        "files-busy",
    }


def test_what_calls_someone_about_a_store_is_on_the_dashboard(watched: Environment) -> None:
    shown = set().union(*(shown_metrics(t) for t in watched.templates.values()))
    of_stores = {
        (space, name) for space, name, _ in metrics(watched) if space in {s for s, _, _ in STORES.values()}
    }
    assert of_stores - {("AWS/RDS", "AuroraGlobalDBReplicationLag")} <= shown


def test_a_figure_of_a_cluster_of_nodes_is_that_of_the_worst(watched: Environment) -> None:
    for logical_id, properties in alarms(watched):
        queries = properties.get("Metrics", [])
        if "EngineCPUUtilization" in text(queries):
            (expression,) = (q["Expression"] for q in queries if "Expression" in q)
            assert expression.startswith("MAX(["), logical_id
            assert len(queries) <= 10, "CloudWatch takes ten metrics in an alarm"
