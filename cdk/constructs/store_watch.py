"""What is watched of each store, by the figures that AWS reports of it: which, how far it may go, what to do.

Stores are named, not referred to: their names follow from the settings, so that watching them ties no stack
to another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aws_cdk import Aws, Duration
from aws_cdk import aws_cloudwatch as cloudwatch

from cdk.constructs.house import House
from cdk.environments.operations import StoreLimits

_FIVE_MINUTES = Duration.minutes(5)
_MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """One figure of one store. Someone is told after three periods of five minutes beyond the limit."""

    store: str
    """As the dashboard names it."""
    logical: str
    metric: cloudwatch.IMetric
    above: float | None = None
    below: float | None = None
    what: str
    runbook: str


def watches(house: House, limits: StoreLimits, *, file_system: str | None) -> Iterator[Watch]:
    """Everything that is watched of the stores that the settings have."""
    settings = house.settings
    yield from _event_store(house, limits)
    if settings.database and settings.database.proxy:
        yield from _proxy(house, limits)
    yield from _caches(house, limits)
    yield from _streams(house)
    if settings.documents:
        yield from _documents(house, limits)
    if settings.kafka:
        yield from _kafka(house, limits, settings.kafka.brokers)
    if settings.search:
        yield from _search(house, limits, settings.search.storage_gib)
    if file_system:
        yield from _files(file_system, limits)


def _event_store(house: House, limits: StoreLimits) -> Iterator[Watch]:
    settings = house.settings.database
    assert settings is not None, "settings refuse this"

    def watch(
        logical: str,
        name: str,
        what: str,
        *,
        above: float | None = None,
        below: float | None = None,
        statistic: str = "Maximum",
    ) -> Watch:
        found = _metric("AWS/RDS", name, {"DBClusterIdentifier": house.name("store")}, statistic)
        return Watch(
            store="Event store",
            logical=f"database-{logical}",
            metric=found,
            above=above,
            below=below,
            what=what,
            runbook="database",
        )

    near = "The event store is near its limit of"
    yield watch("cpu", "CPUUtilization", f"{near} CPU", above=limits.cpu_percent, statistic="Average")
    yield watch(
        "connections", "DatabaseConnections", f"{near} connections", above=limits.database_connections
    )
    yield watch(
        "memory",
        "FreeableMemory",
        f"{near} memory",
        below=limits.database_free_mib * _MEBIBYTE,
        statistic="Minimum",
    )
    # An average by the second: anything at all in each of three periods is a pattern, not an accident.
    yield watch("deadlocks", "Deadlocks", "Transactions of the event store lock each other out", above=0)
    if settings.readers:
        yield watch(
            "replica-lag",
            "AuroraReplicaLagMaximum",
            "A reader of the event store is behind, and would take over so",
            above=limits.replica_lag_ms,
        )
    if settings.serverless:
        yield watch("capacity", "ACUUtilization", f"{near} capacity units", above=limits.capacity_percent)


def _proxy(house: House, limits: StoreLimits) -> Iterator[Watch]:
    name = "DatabaseConnectionsBorrowLatency"
    yield Watch(
        store="Event store",
        logical="database-proxy-slow",
        metric=_metric("AWS/RDS", name, {"ProxyName": house.name("store")}, "Average"),
        above=limits.borrow_ms * 1000,  # the metric is in microseconds
        what="Functions wait for a connection of the proxy",
        runbook="database",
    )


def _caches(house: House, limits: StoreLimits) -> Iterator[Watch]:
    for purpose, size in house.settings.caches.items():
        nodes = [f"{house.name(purpose)}-{n:03}" for n in range(1, size.nodes + 1)]
        for logical, name, statistic, above, what in (
            ("cpu", "EngineCPUUtilization", "Average", limits.cpu_percent, "is near its limit of CPU"),
            (
                "memory",
                "DatabaseMemoryUsagePercentage",
                "Maximum",
                limits.memory_percent,
                "is nearly full",
            ),
            ("evictions", "Evictions", "Sum", limits.cache_evictions, "drops what it should still hold"),
        ):
            if logical == "memory" and purpose != "session":
                continue  # it is meant to be full: what goes first is its policy's choice
            of_nodes = [
                _metric("AWS/ElastiCache", name, {"CacheClusterId": node}, statistic) for node in nodes
            ]
            yield Watch(
                store=f"Cache {purpose}",
                logical=f"cache-{purpose}-{logical}",
                metric=_worst(of_nodes),
                above=above,
                what=f"The cache {purpose} {what}",
                runbook="cache",
            )


def _streams(house: House) -> Iterator[Watch]:
    settings = house.settings
    for name in settings.streams:
        of = {"StreamName": house.name(name)}
        for logical, metric, what in (
            ("full", "WriteProvisionedThroughputExceeded", "refuses records: it has too few shards"),
            ("crowded", "ReadProvisionedThroughputExceeded", "has more readers than its shards can serve"),
        ):
            yield Watch(
                store="Streams",
                logical=f"stream-{name}-{logical}",
                metric=_metric("AWS/Kinesis", metric, of, "Sum"),
                above=0,
                what=f"The stream {name} {what}",
                runbook="throttled",
            )
        if name in ("alerts", "audit"):  # the others are read by functions, whose iterator age is watched
            yield Watch(
                store="Streams",
                logical=f"stream-{name}-behind",
                metric=_metric("AWS/Kinesis", "GetRecords.IteratorAgeMilliseconds", of, "Maximum"),
                above=settings.alarms.iterator_age_seconds * 1000,
                what=f"What reads the stream {name} is behind it",
                runbook="behind-the-stream",
            )


def _documents(house: House, limits: StoreLimits) -> Iterator[Watch]:
    of = {"DBClusterIdentifier": house.name("documents")}
    for logical, name, statistic, above, what in (
        ("cpu", "CPUUtilization", "Average", limits.cpu_percent, "is near its limit of CPU"),
        ("replica-lag", "DBClusterReplicaLagMaximum", "Maximum", limits.replica_lag_ms, "has a late replica"),
    ):
        yield Watch(
            store="Documents",
            logical=f"documents-{logical}",
            metric=_metric("AWS/DocDB", name, of, statistic),
            above=above,
            what=f"The document store {what}",
            runbook="documents",
        )
    yield Watch(
        store="Documents",
        logical="documents-memory",
        metric=_metric("AWS/DocDB", "FreeableMemory", of, "Minimum"),
        below=limits.documents_free_mib * _MEBIBYTE,
        what="The document store is near its limit of memory",
        runbook="documents",
    )


def _kafka(house: House, limits: StoreLimits, brokers: int) -> Iterator[Watch]:
    cluster = {"Cluster Name": house.name("kafka")}
    yield Watch(
        store="Kafka",
        logical="kafka-offline",
        metric=_metric("AWS/Kafka", "OfflinePartitionsCount", cluster, "Maximum"),
        above=0,
        what="Partitions of Kafka have no leader: nobody can write to them",
        runbook="kafka",
    )
    for logical, name, above, what in (
        ("under-replicated", "UnderReplicatedPartitions", 0, "Partitions of Kafka miss a copy"),
        ("cpu", "CpuUser", limits.kafka_cpu_percent, "A broker of Kafka is near its limit of CPU"),
        (
            "disk",
            "KafkaDataLogsDiskUsed",
            limits.disk_percent,
            "The disk of a broker of Kafka is nearly full",
        ),
    ):
        of_brokers = [
            _metric("AWS/Kafka", name, cluster | {"Broker ID": str(n)}, "Maximum")
            for n in range(1, brokers + 1)
        ]
        yield Watch(
            store="Kafka",
            logical=f"kafka-{logical}",
            metric=_worst(of_brokers),
            above=above,
            what=what,
            runbook="kafka",
        )


def _search(house: House, limits: StoreLimits, storage_gib: int) -> Iterator[Watch]:
    of = {"DomainName": house.name("logs"), "ClientId": Aws.ACCOUNT_ID}
    for logical, name, above, what in (
        ("red", "ClusterStatus.red", 0, "An index of the log search has lost a part"),
        ("blocked", "ClusterIndexWritesBlocked", 0, "The log search takes no more logs"),
        ("cpu", "CPUUtilization", limits.cpu_percent, "The log search is near its limit of CPU"),
        ("memory", "JVMMemoryPressure", limits.memory_percent, "The log search is near its limit of memory"),
    ):
        yield Watch(
            store="Log search",
            logical=f"search-{logical}",
            metric=_metric("AWS/ES", name, of, "Maximum"),
            above=above,
            what=what,
            runbook="search",
        )
    yield Watch(
        store="Log search",
        logical="search-disk",
        metric=_metric("AWS/ES", "FreeStorageSpace", of, "Minimum"),
        below=storage_gib * 1024 * (100 - limits.disk_percent) / 100,  # MiB, of the fullest node
        what="The disk of a node of the log search is nearly full",
        runbook="search",
    )


def _files(file_system: str, limits: StoreLimits) -> Iterator[Watch]:
    yield Watch(
        store="Shared files",
        logical="files-busy",
        metric=_metric("AWS/EFS", "PercentIOLimit", {"FileSystemId": file_system}, "Maximum"),
        above=limits.disk_percent,
        what="The shared files are near their limit of operations",
        runbook="files",
    )


def _metric(namespace: str, name: str, of: dict[str, str], statistic: str) -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace=namespace,
        metric_name=name,
        dimensions_map=of,
        statistic=statistic,
        period=_FIVE_MINUTES,
    )


def _worst(of: Sequence[cloudwatch.Metric]) -> cloudwatch.IMetric:
    """The worst of several nodes: one alarm that names the store, whichever node it is."""
    return cloudwatch.MathExpression(
        expression=f"MAX([{', '.join(f'm{n}' for n in range(len(of)))}])",
        using_metrics={f"m{n}": metric for n, metric in enumerate(of)},
        label="worst",
        period=_FIVE_MINUTES,
    )
