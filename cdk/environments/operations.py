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


class Observability(Model):
    """Dashboards, traces, canary."""

    trace_share: Annotated[float, Field(ge=0, le=1)]
    canary: bool


class Recovery(Model):
    """AWS Backup beside the stores' own backups."""

    daily_days: Annotated[int, Field(ge=1)]
    vault_lock_days: Annotated[int, Field(ge=1)]
    restore_tests: bool


class Cost(Model):
    """What may be spent, and who is told before it is."""

    monthly_usd: Annotated[int, Field(ge=1)]
    anomaly_usd: Annotated[int, Field(ge=1)]
