"""What can be chosen per environment, and which choices are refused.

Everything here is checked before a construct exists: an unknown key, a value of the wrong type or out of
range, or a combination that AWS would refuse or that would lose data. Sizes and switches are settings;
what must never differ between environments (encryption, bisecting, partial failures) is a default of
the constructs and cannot be set. A part that is ``None`` is not made.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cdk.environments.model import COMPLIANCE_DAYS, RECOVERY_DAYS, LogRetentionDays, Model, Region
from cdk.environments.operations import (
    Alarms,
    Cluster,
    Cost,
    Edge,
    Objectives,
    Observability,
    Recovery,
)
from cdk.environments.stores import (
    Bucket,
    Cache,
    CachePurpose,
    Database,
    Documents,
    Files,
    Lake,
    Search,
    TimeSeries,
)
from cdk.environments.traffic import (
    STREAM_OF_SOURCE,
    Api,
    Bus,
    Encryption,
    EventSource,
    Function,
    Identity,
    Kafka,
    Network,
    Push,
    Queues,
    Release,
    Secrets,
    Stream,
    StreamName,
)
from qis.settings import FUNCTIONS


class Peer(Model):
    """The environment in another region that this one copies to, or is copied from."""

    environment: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,14}$")]
    region: Region


CRITICAL = Objectives(rto_minutes=15, rpo_minutes=5)
"""The tightest that the documents ask for, which they call the critical tier."""


class Settings(Model):
    """One environment."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)?$", min_length=2, max_length=15)]
    embedded: bool
    """The environment of the local twin: database, cache and key set are given as template parameters,
    everything else is one stack."""
    region: Region
    copies_to: Peer | None
    copy_of: Peer | None
    active: bool = True
    """False: data is kept current and nothing is processed, until the other region fails."""
    architecture: Literal["arm64", "x86_64"]
    log_level: Literal["DEBUG", "INFO", "WARNING"]
    log_retention_days: LogRetentionDays
    account_concurrency: Annotated[int, Field(ge=100)] = 1000
    """How many functions the account may run at once: a quota of AWS, raised on request."""
    retain_data: bool = True
    """Keep stateful resources when the stack that made them is deleted."""
    termination_protection: bool
    functions: dict[str, Function]
    release: Release | None
    streams: dict[StreamName, Stream]
    event_sources: dict[str, EventSource]
    queues: Queues
    bus: Bus | None
    bucket: Bucket
    lake: Lake | None
    api: Api
    push: Push
    alarms: Alarms
    encryption: Encryption | None
    network: Network | None
    identity: Identity | None
    secrets: Secrets | None
    database: Database | None
    documents: Documents | None
    time_series: TimeSeries
    caches: dict[CachePurpose, Cache]
    kafka: Kafka | None
    search: Search | None
    files: Files | None
    edge: Edge | None
    cluster: Cluster | None
    observability: Observability | None
    recovery: Recovery | None
    objectives: Objectives | None
    cost: Cost | None

    @property
    def stem(self) -> str:
        """How every physical name begins. Without the name's hyphen, so that a pattern of one environment's
        names never covers those of another."""
        return f"qis-{self.name.replace('-', '')}"

    @property
    def production(self) -> bool:
        """Whether it holds, or stands in for, what consumers rely on."""
        return self.name.startswith("prod") or (
            self.copy_of is not None and self.copy_of.environment.startswith("prod")
        )

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        required = ("network", "database", "identity", "encryption", "bus", "secrets", "objectives")
        for name in required:
            if not self.embedded and getattr(self, name) is None:
                raise ValueError(f"{name}: is required outside the local twin")
        never = (*required, "release", "lake", "documents", "kafka", "search", "files", "edge", "cluster")
        for name in (*never, "observability", "recovery", "cost", "copies_to", "copy_of"):
            if self.embedded and getattr(self, name) is not None:
                raise ValueError(f"{name}: the local twin brings it, or has none")
        if self.embedded and (self.caches or self.time_series.store != "rollups"):
            raise ValueError("caches, time_series: the local twin brings its own")
        if not self.embedded and not self.alarms.notify:
            raise ValueError("alarms.notify: an alarm outside the local twin must reach someone")
        return self

    @model_validator(mode="after")
    def _the_lake_is_there_for_who_needs_it(self) -> Self:
        if self.lake is not None:
            return self
        if self.identity and self.identity.sign_in_urls:
            raise ValueError("identity.sign_in_urls: people read the lake, and there is none")
        if self.time_series.store == "liveanalytics":
            raise ValueError("time_series: what it rejects goes to a bucket of the lake, and there is none")
        for name in ("alerts", "audit"):
            if name in self.streams:
                raise ValueError(f"streams.{name}: ends in the lake, and there is none")
        return self

    @model_validator(mode="after")
    def _production_keeps_what_it_must(self) -> Self:
        if not self.production:
            return self
        if not self.retain_data:
            raise ValueError("retain_data: production data is never deleted with its stack")
        if not self.termination_protection:
            raise ValueError("termination_protection: required in production")
        for name in ("database", "documents"):
            part = getattr(self, name)
            if part and not part.deletion_protection:
                raise ValueError(f"{name}.deletion_protection: required in production")
        if self.database and self.database.backup_retention_days < RECOVERY_DAYS:
            raise ValueError(
                f"database.backup_retention_days: production can go back {RECOVERY_DAYS} days, to the second"
            )
        aims = self.objectives
        if aims and (aims.rto_minutes > CRITICAL.rto_minutes or aims.rpo_minutes > CRITICAL.rpo_minutes):
            raise ValueError(
                f"objectives: production is of the critical tier: back in {CRITICAL.rto_minutes} minutes, at "
                f"most {CRITICAL.rpo_minutes} lost"
            )
        if self.lake is None or self.lake.lock_days < COMPLIANCE_DAYS:
            raise ValueError(f"lake.lock_days: audit records are kept {COMPLIANCE_DAYS} days in production")
        return self

    @model_validator(mode="after")
    def _zones_fit(self) -> Self:
        zones = self.network.availability_zones if self.network else 0
        if self.production and zones < 3:
            raise ValueError("network.availability_zones: production needs 3, to lose one")
        if self.kafka and zones and self.kafka.brokers % zones:
            raise ValueError(f"kafka.brokers: must be a multiple of the {zones} zones")
        if self.caches and "hot" not in self.caches:
            raise ValueError("caches: the one that reading goes through is `hot`")
        for name, size in self.caches.items():
            if self.production and name == "hot" and size.nodes < 2:
                raise ValueError("caches.hot.nodes: a replica in another zone takes over in production")
        if self.search and self.search.nodes > 1 and zones and self.search.nodes % zones:
            raise ValueError(f"search.nodes: must be one, or a multiple of the {zones} zones")
        return self

    @model_validator(mode="after")
    def _regions_fit(self) -> Self:
        if not self.active and not self.copy_of:
            raise ValueError("active: only the copy of another region may wait")
        if self.copies_to and self.copy_of:
            raise ValueError("copies_to: a copy is not copied again")
        for peer in (self.copies_to, self.copy_of):
            if peer and peer.region == self.region:
                raise ValueError("copies_to, copy_of: a copy in the same region is lost with it")
        if self.database:
            if self.database.global_database and not (self.copies_to or self.copy_of):
                raise ValueError("database.global_database: copies_to or copy_of says which region is second")
            if self.copy_of and not self.database.global_database:
                raise ValueError("database.global_database: a copy follows the other region's database")
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
        for name in ("query", "realtime"):
            if self.functions[name].timeout_seconds > 29:
                raise ValueError(f"functions.{name}.timeout_seconds: API Gateway waits 29 s at most")
        reserved = sum(function.reserved_concurrency for function in self.functions.values())
        if reserved > self.account_concurrency - 100:
            raise ValueError(
                f"functions: reserve a concurrency of {reserved} together; AWS keeps 100 of the account's "
                f"{self.account_concurrency} unreserved"
            )
        if self.release is None:
            for name, function in self.functions.items():
                if function.snap_start or function.provisioned_concurrency:
                    raise ValueError(f"functions.{name}: warm starts are of versions, which release makes")
        return self

    @model_validator(mode="after")
    def _event_sources_fit(self) -> Self:
        missing = set(STREAM_OF_SOURCE.values()) - set(self.streams)
        if missing:
            raise ValueError(f"streams: missing {sorted(missing)}")
        _same_keys("event_sources", set(self.event_sources), set(STREAM_OF_SOURCE))
        for name, source in self.event_sources.items():
            kept = self.streams[STREAM_OF_SOURCE[name]]
            readers = kept.shards * source.parallelization
            if readers > self.functions[name].reserved_concurrency:
                raise ValueError(
                    f"event_sources.{name}.parallelization: {readers} batches at once, more than "
                    f"functions.{name}.reserved_concurrency lets run"
                )
            if source.max_record_age_seconds > kept.retention_hours * 3600:
                raise ValueError(
                    f"event_sources.{name}.max_record_age_seconds: is longer than the stream keeps records, "
                    "so they would vanish before they reach the dead-letter queue"
                )
        return self


def _same_keys(field: str, given: set[str], wanted: set[str]) -> None:
    if given != wanted:
        raise ValueError(f"{field}: missing {sorted(wanted - given)}, unknown {sorted(given - wanted)}")
