"""Settings of what watches, guards, restores and pays: alarms, edge, cluster, recovery, cost."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cdk.environments.model import Model


class Alarms(Model):
    """When someone is told."""

    notify: bool
    """Make a topic that every alarm publishes to."""
    iterator_age_seconds: Annotated[int, Field(ge=1)]
    follower_lag_seconds: Annotated[int, Field(ge=1)]
    consumer_age_seconds: Annotated[int, Field(ge=1)]
    horizon_held_seconds: Annotated[int, Field(ge=1)]
    """How long one transaction may hold up the followers of the log before someone is told."""


class Edge(Model):
    """CloudFront and WAF before the API."""

    requests_per_address: Annotated[int, Field(ge=10)]
    """In five minutes; beyond it an address is blocked."""
    shield: bool
    """Shield Advanced: $3,000 a month, for the whole organisation."""
    load_balancer: bool
    """An ALB before the services of the cluster."""


class NodeGroup(Model):
    """Nodes of one kind."""

    instance: Literal["m6i.2xlarge", "r6i.xlarge", "m7g.2xlarge", "t4g.medium"]
    smallest: Annotated[int, Field(ge=0)]
    desired: Annotated[int, Field(ge=0)]
    largest: Annotated[int, Field(ge=1)]
    spot: bool


class Cluster(Model):
    """EKS for what must run long: feeds, relay, batch."""

    version: Literal["1.35", "1.36"]
    nodes: dict[Annotated[str, Field(pattern=r"^[a-z]{3,20}$")], NodeGroup]


Percent = Annotated[int, Field(ge=1, le=100)]


class StoreLimits(Model):
    """How near to its limits a store may come, for a quarter of an hour, before someone is told."""

    cpu_percent: Percent
    """Beyond four fifths what waits grows faster than what arrives, and a failover has no room."""
    memory_percent: Percent
    """Of a cache whose content must stay, of the heap of the log search."""
    disk_percent: Percent
    """Enough must be left to make it larger in peace: disks grow by hand, files are moved in the meantime."""
    kafka_cpu_percent: Percent
    """Lower than for others: when a broker is away the rest does its work."""
    database_connections: Annotated[int, Field(ge=10, le=16_000)]
    """About half of the instance's own limit, which follows from its memory (one for each 9.5 MB, at most
    5,000): two versions side by side hold twice as many."""
    database_free_mib: Annotated[int, Field(ge=64)]
    """A tenth of the smallest instance: three quarters are Aurora's own cache, below a tenth it swaps."""
    documents_free_mib: Annotated[int, Field(ge=64)]
    """The same for the document store."""
    replica_lag_ms: Annotated[int, Field(ge=10)]
    """Readers share the writer's storage and are some 20 ms behind it."""
    capacity_percent: Percent
    """Of the most that serverless instances scale to: then they are like an instance that is too small."""
    borrow_ms: Annotated[int, Field(ge=1)]
    """For a connection of the proxy: of the 25 ms promised for a query at the median it should take none."""
    cache_evictions: Annotated[int, Field(ge=1)]
    """In five minutes. Some are what a cache is for; so many mean that it holds less than is asked again."""


class Observability(Model):
    """Dashboards, traces, canary."""

    trace_share: Annotated[float, Field(ge=0, le=1)]
    canary: bool
    stores: StoreLimits


class Recovery(Model):
    """AWS Backup beside the stores' own backups."""

    daily_days: Annotated[int, Field(ge=1)]
    vault_lock_days: Annotated[int, Field(ge=1)]
    restore_tests: bool


class Objectives(Model):
    """What holds when the event store is lost, with its zone or its region."""

    rto_minutes: Annotated[int, Field(ge=1)]
    """After so long it takes writes again."""
    rpo_minutes: Annotated[int, Field(ge=1)]
    """What was acknowledged in so long before the loss may be gone."""


class Cost(Model):
    """What may be spent, and who is told before it is."""

    monthly_usd: Annotated[int, Field(ge=1)]
    anomaly_usd: Annotated[int, Field(ge=1)]
