"""Settings of what moves data: functions, streams, queues, bus, API, network, identity."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cdk.environments.model import AccountId, Model

Scope = Literal["read:data", "write:data", "publish:data", "admin:data"]
StreamName = Literal["ingest", "events", "alerts", "audit"]
Endpoint = Literal["kinesis", "sqs", "events", "kms", "secretsmanager", "sts", "xray", "logs"]

STREAM_OF_SOURCE: dict[str, StreamName] = {
    "ingest": "ingest",
    "reconcile": "events",
    "publish": "events",
    "quality": "events",
    "realtime": "events",
}
"""Which stream each stream-driven function reads."""


class Network(Model):
    """A VPC with public (gateways only), private (functions) and isolated (data) subnets."""

    cidr: Annotated[str, Field(pattern=r"^10\.\d{1,3}\.0\.0/16$")]
    availability_zones: Annotated[int, Field(ge=2, le=3)]
    nat_gateways: Annotated[int, Field(ge=1, le=3)]
    endpoints: tuple[Endpoint, ...]
    """AWS services reached by an interface of the network itself, in each zone."""

    @model_validator(mode="after")
    def _one_gateway_per_zone_at_most(self) -> Self:
        if self.nat_gateways > self.availability_zones:
            raise ValueError("nat_gateways: more gateways than availability_zones")
        if len(set(self.endpoints)) < len(self.endpoints):
            raise ValueError("endpoints: one is named twice")
        return self


class Encryption(Model):
    """Customer keys."""

    rotation_days: Annotated[int, Field(ge=90, le=2560)]


class Function(Model):
    """Size of one function."""

    memory_mb: Annotated[int, Field(ge=128, le=10240)]
    timeout_seconds: Annotated[int, Field(ge=1, le=900)]
    reserved_concurrency: Annotated[int, Field(ge=1, le=1000)]
    snap_start: bool = False
    """Start from a snapshot of the initialised function."""
    provisioned_concurrency: Annotated[int, Field(ge=0, le=1000)] = 0
    """Instances that are always warm."""

    @model_validator(mode="after")
    def _one_way_to_be_warm(self) -> Self:
        if self.snap_start and self.provisioned_concurrency:
            raise ValueError("provisioned_concurrency: AWS does not combine it with snap_start")
        if self.provisioned_concurrency > self.reserved_concurrency:
            raise ValueError("provisioned_concurrency: is above reserved_concurrency, which caps it")
        return self


class Release(Model):
    """How a new version of a function takes over: a tenth of the calls first, the rest when no alarm went
    off."""

    canary_minutes: Literal[5, 10, 15, 30]


class Stream(Model):
    """A Kinesis stream with provisioned shards."""

    shards: Annotated[int, Field(ge=1, le=500)]
    retention_hours: Annotated[int, Field(ge=24, le=8760)]
    shard_metrics: bool = False
    """Records in and out of each shard, each a metric that is paid for."""


class EventSource(Model):
    """How a function reads its stream. Failure handling has bounds: the service's own defaults (retry for
    ever, keep for ever) would let one bad record stop a shard, so they cannot be expressed."""

    batch_size: Annotated[int, Field(ge=1, le=10_000)]
    window_seconds: Annotated[int, Field(ge=0, le=300)]
    retry_attempts: Annotated[int, Field(ge=0, le=10_000)]
    max_record_age_seconds: Annotated[int, Field(ge=60, le=604_800)]
    parallelization: Annotated[int, Field(ge=1, le=10)]


class Kafka(Model):
    """MSK in KRaft mode: no ZooKeeper, clients over TLS only."""

    version: Literal["3.9.x.kraft", "4.0.x.kraft"]
    broker: Literal["kafka.t3.small", "kafka.m7g.large", "kafka.m5.2xlarge"]
    brokers: Annotated[int, Field(ge=2, le=30)]
    storage_gib: Annotated[int, Field(ge=1, le=16_384)]
    scram_users: tuple[Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{2,30}$")], ...]
    """Who signs in with a password (SASL/SCRAM), for clients that cannot sign requests with a role; nobody:
    roles only."""


class Queues(Model):
    """Queues of consumers and of what failed."""

    retention_days: Annotated[int, Field(ge=1, le=14)]
    visibility_seconds: Annotated[int, Field(ge=0, le=43_200)]


class Bus(Model):
    """The bus of official values."""

    archive_days: Annotated[int, Field(ge=1)]
    subscribers: tuple[AccountId, ...]
    """Accounts outside ours that may make rules for themselves on our bus."""
    schemas: bool
    """Publish the schemas of the events in the registry."""


class Plan(Model):
    """A usage plan: what one kind of client may ask for."""

    rate_per_second: Annotated[int, Field(ge=1, le=10_000)]
    burst: Annotated[int, Field(ge=1, le=5_000)]
    requests_per_day: Annotated[int, Field(ge=1)]


class Api(Model):
    """Limits of the REST API; beyond them a caller gets 429."""

    rate_per_second: Annotated[int, Field(ge=1, le=10_000)]
    burst: Annotated[int, Field(ge=1, le=5_000)]
    plans: dict[Annotated[str, Field(pattern=r"^[a-z]{3,20}$")], Plan]
    domain: Annotated[str, Field(pattern=r"^[a-z0-9]+(\.[a-z0-9-]+)+$")] | None
    """Custom domain; its certificate is a parameter of the deployment."""

    @model_validator(mode="after")
    def _plans_within_limits(self) -> Self:
        for name, plan in self.plans.items():
            if plan.rate_per_second > self.rate_per_second or plan.burst > self.burst:
                raise ValueError(f"plans.{name}: asks for more than the API as a whole gives")
        return self


class Push(Model):
    """Limits of the WebSocket API, messages and new connections together; beyond them a caller is refused."""

    rate_per_second: Annotated[int, Field(ge=1, le=10_000)]
    burst: Annotated[int, Field(ge=1, le=5_000)]
    domain: Annotated[str, Field(pattern=r"^[a-z0-9]+(\.[a-z0-9-]+)+$")] | None
    """Custom domain; its certificate is a parameter of the deployment."""


class Identity(Model):
    """The Cognito user pool."""

    access_token_minutes: Annotated[int, Field(ge=5, le=60)]
    refresh_token_days: Annotated[int, Field(ge=1, le=30)]
    machine_scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    """What the machine client (a feed) may ask for."""
    sign_in_urls: tuple[Annotated[str, Field(pattern=r"^https://")], ...]
    """Pages to which people return after signing in; none: machines only."""


class Secrets(Model):
    """Credentials of others that we keep."""

    providers: tuple[Annotated[str, Field(pattern=r"^[a-z]{3,20}$")], ...]
    """Data providers whose credentials are kept."""
    rotation_days: Annotated[int, Field(ge=1, le=365)]
    """How often passwords that are ours to choose change."""
