"""What can be chosen per environment, and which choices are refused.

Everything here is checked before a construct exists: an unknown key, a value of the wrong type or out of
range, or a combination that AWS would refuse or that would lose data. Sizes and switches are settings;
what must never differ between environments (encryption, bisecting, partial failures) is a default of
the constructs and cannot be set.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from qis.settings import FUNCTIONS

LogRetentionDays = Literal[1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1827, 2557, 3653]
Scope = Literal["read:data", "write:data", "publish:data", "admin:data"]

STREAM_OF_SOURCE: dict[str, str] = {
    "ingest": "ingest",
    "reconcile": "events",
    "publish": "events",
    "quality": "events",
}
"""Which stream each stream-driven function reads."""


class Model(BaseModel):
    """Unknown keys are refused, nothing is coerced, nothing changes after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, revalidate_instances="always")


class Function(Model):
    """Size of one function."""

    memory_mb: Annotated[int, Field(ge=128, le=10240)]
    timeout_seconds: Annotated[int, Field(ge=1, le=900)]
    reserved_concurrency: Annotated[int, Field(ge=1, le=1000)]


class Stream(Model):
    """A Kinesis stream with provisioned shards."""

    shards: Annotated[int, Field(ge=1, le=500)]
    retention_hours: Annotated[int, Field(ge=24, le=8760)]


class EventSource(Model):
    """How a function reads its stream. Failure handling has bounds: the service's own defaults (retry for
    ever, keep for ever) would let one bad record stop a shard, so they cannot be expressed."""

    batch_size: Annotated[int, Field(ge=1, le=10_000)]
    window_seconds: Annotated[int, Field(ge=0, le=300)]
    retry_attempts: Annotated[int, Field(ge=0, le=10_000)]
    max_record_age_seconds: Annotated[int, Field(ge=60, le=604_800)]
    parallelization: Annotated[int, Field(ge=1, le=10)]


class Queues(Model):
    """Queues of consumers and of what failed."""

    retention_days: Annotated[int, Field(ge=1, le=14)]
    visibility_seconds: Annotated[int, Field(ge=0, le=43_200)]


class Bucket(Model):
    """The bucket of raw inputs."""

    name_has_account: bool
    """Bucket names are global: in AWS the account id makes ours unique."""
    access_logs: bool
    noncurrent_days: Annotated[int, Field(ge=1)]
    """Days that an overwritten version is kept."""


class Api(Model):
    """Limits of the REST API; beyond them a caller gets 429."""

    rate_per_second: Annotated[int, Field(ge=1, le=10_000)]
    burst: Annotated[int, Field(ge=1, le=5_000)]


class Alarms(Model):
    """When someone is told."""

    notify: bool
    """Make a topic that every alarm publishes to."""
    iterator_age_seconds: Annotated[int, Field(ge=1)]
    follower_lag_seconds: Annotated[int, Field(ge=1)]
    consumer_age_seconds: Annotated[int, Field(ge=1)]


class Network(Model):
    """A VPC with public (gateway only), private (functions) and isolated (database) subnets."""

    cidr: Annotated[str, Field(pattern=r"^10\.\d{1,3}\.0\.0/16$")]
    availability_zones: Annotated[int, Field(ge=2, le=3)]
    nat_gateways: Annotated[int, Field(ge=1, le=3)]

    @model_validator(mode="after")
    def _one_gateway_per_zone_at_most(self) -> Self:
        if self.nat_gateways > self.availability_zones:
            raise ValueError("nat_gateways: more gateways than availability_zones")
        return self


class Database(Model):
    """Aurora PostgreSQL, Serverless v2. One ACU is about 2 GiB of memory."""

    engine_version: Literal["17.7", "17.9", "18.6"]
    min_acu: Annotated[float, Field(ge=0.5, le=256, multiple_of=0.5)]
    max_acu: Annotated[float, Field(ge=1, le=256, multiple_of=0.5)]
    readers: Annotated[int, Field(ge=0, le=15)]
    port: Annotated[int, Field(ge=1150, le=65_535)]
    backup_retention_days: Annotated[int, Field(ge=1, le=35)]
    deletion_protection: bool

    @model_validator(mode="after")
    def _range_of_capacity(self) -> Self:
        if self.min_acu > self.max_acu:
            raise ValueError("min_acu: is above max_acu")
        return self


class Identity(Model):
    """The Cognito user pool."""

    access_token_minutes: Annotated[int, Field(ge=5, le=60)]
    machine_scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    """What the machine client (a feed) may ask for."""


class Settings(Model):
    """One environment."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{1,11}$")]
    """Part of every physical name: ``qis-<name>-<thing>``."""
    embedded: bool
    """The environment of the local twin: database, cache and key set are given as template parameters,
    everything else is one stack."""
    architecture: Literal["arm64", "x86_64"]
    log_level: Literal["DEBUG", "INFO", "WARNING"]
    log_retention_days: LogRetentionDays
    retain_data: bool = True
    """Keep stateful resources when the stack that made them is deleted."""
    termination_protection: bool
    functions: dict[str, Function]
    streams: dict[Literal["ingest", "events"], Stream]
    event_sources: dict[str, EventSource]
    queues: Queues
    bucket: Bucket
    api: Api
    alarms: Alarms
    network: Network | None
    database: Database | None
    identity: Identity | None

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        parts = {"network": self.network, "database": self.database, "identity": self.identity}
        for name, part in parts.items():
            if self.embedded and part is not None:
                raise ValueError(f"{name}: an embedded environment is given this by the local twin")
            if not self.embedded and part is None:
                raise ValueError(f"{name}: is required outside the local twin")
        if not self.embedded and not self.alarms.notify:
            raise ValueError("alarms.notify: an alarm outside the local twin must reach someone")
        if self.name.startswith("prod") and not self.retain_data:
            raise ValueError("retain_data: production data is never deleted with its stack")
        if self.name.startswith("prod") and self.database and not self.database.deletion_protection:
            raise ValueError("database.deletion_protection: required in production")
        return self

    @model_validator(mode="after")
    def _functions_fit(self) -> Self:
        _same_keys("functions", set(self.functions), set(FUNCTIONS))
        relay = self.functions["relay"]
        if relay.timeout_seconds < 90 or relay.reserved_concurrency < 2:
            raise ValueError(
                "functions.relay: started each minute, it needs a timeout of 90 s or more and a reserved "
                "concurrency of 2 or more, so that one is always active and the next one waits"
            )
        if self.functions["query"].timeout_seconds > 29:
            raise ValueError("functions.query.timeout_seconds: API Gateway waits 29 s at most")
        return self

    @model_validator(mode="after")
    def _event_sources_fit(self) -> Self:
        _same_keys("streams", set(self.streams), set(STREAM_OF_SOURCE.values()))
        _same_keys("event_sources", set(self.event_sources), set(STREAM_OF_SOURCE))
        for name, source in self.event_sources.items():
            kept = next(s for key, s in self.streams.items() if key == STREAM_OF_SOURCE[name])
            if source.max_record_age_seconds > kept.retention_hours * 3600:
                raise ValueError(
                    f"event_sources.{name}.max_record_age_seconds: is longer than the stream keeps records, "
                    "so they would vanish before they reach the dead-letter queue"
                )
        return self


def _same_keys(field: str, given: set[str], wanted: set[str]) -> None:
    if given != wanted:
        raise ValueError(f"{field}: missing {sorted(wanted - given)}, unknown {sorted(given - wanted)}")
