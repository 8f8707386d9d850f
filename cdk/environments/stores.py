"""Settings of what keeps data: databases, caches, buckets, file systems, search."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cdk.environments.model import COMPLIANCE_DAYS, BackupDays, Model

Acu = Annotated[float, Field(ge=0, le=256, multiple_of=0.5)]
DatabaseSize = Literal["serverless", "t4g.medium", "r6g.large", "r6g.xlarge", "r6g.2xlarge"]
CacheNode = Literal["t4g.small", "r7g.large", "r6g.large", "r6g.xlarge", "r6g.2xlarge"]
CachePurpose = Literal["hot", "session", "compute"]


class Capacity(Model):
    """What the serverless instances of a cluster scale between. One ACU is about 2 GiB of memory; from 0
    the cluster pauses when nobody asks."""

    min_acu: Acu
    max_acu: Annotated[Acu, Field(ge=1)]

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.min_acu > self.max_acu:
            raise ValueError("min_acu: is above max_acu")
        return self


class Database(Model):
    """The event store: Aurora PostgreSQL."""

    engine_version: Literal["17.7", "17.9", "18.6"]
    writer: DatabaseSize
    readers: Annotated[tuple[DatabaseSize, ...], Field(max_length=15)]
    serverless: Capacity | None
    """Of the instances that are ``serverless``."""
    port: Annotated[int, Field(ge=1150, le=65_535)]
    backup_retention_days: BackupDays
    deletion_protection: bool
    idle_transaction_seconds: Annotated[int, Field(ge=1, le=86_400)]
    """After which the server ends a session of anybody that leaves a transaction open and does nothing: it
    stalls every follower of the log."""
    end_transactions_after: Annotated[int, Field(ge=0)]
    """Seconds after which the relay ends a foreign transaction that holds followers up, also one at work:
    more than the longest migration takes. 0: it only tells of it."""
    proxy: bool
    """RDS Proxy: thousands of function instances share the database's connections."""
    global_database: bool
    """Replicated to a second region, asynchronously."""

    @model_validator(mode="after")
    def _instances_fit(self) -> Self:
        serverless = "serverless" in (self.writer, *self.readers)
        if serverless and self.serverless is None:
            raise ValueError("serverless: say what the serverless instances scale between")
        if not serverless and self.serverless is not None:
            raise ValueError("serverless: is for serverless instances, and there is none")
        return self

    @model_validator(mode="after")
    def _pausing_fits(self) -> Self:
        if self.serverless is None or self.serverless.min_acu > 0:
            return self
        for name in ("proxy", "global_database"):
            if getattr(self, name):
                raise ValueError(
                    f"serverless.min_acu: 0 lets the cluster pause, which it never does with {name}; use 0.5"
                )
        return self


class Documents(Model):
    """DocumentDB: complex values, where a consumer wants MongoDB's protocol."""

    engine_version: Literal["5.0.0"]
    instance: Literal["t4g.medium", "r5.large", "r6g.large"]
    instances: Annotated[int, Field(ge=1, le=16)]
    backup_retention_days: BackupDays
    deletion_protection: bool


class Rollups(Model):
    """No service of its own: the event store's read models and Parquet in the lake."""

    store: Literal["rollups"]


class Influx(Model):
    """Timestream for InfluxDB, what a new account can have."""

    store: Literal["influxdb"]
    instance: Literal["db.influx.medium", "db.influx.large", "db.influx.xlarge"]
    storage_gib: Annotated[int, Field(ge=20, le=16_384)]
    standby: bool
    """A second instance in another zone."""


class LiveAnalytics(Model):
    """Timestream for LiveAnalytics, closed to new customers since 2025-06-20."""

    store: Literal["liveanalytics"]
    account_has_it: Literal[True]
    """Said by whoever sets this: AWS refuses it to accounts that did not use it before."""
    memory_hours: Annotated[int, Field(ge=1, le=8766)]
    official_values_days: Annotated[int, Field(ge=COMPLIANCE_DAYS, le=73_000)]
    quality_metrics_days: Annotated[int, Field(ge=1, le=73_000)]


TimeSeries = Annotated[Rollups | Influx | LiveAnalytics, Field(discriminator="store")]


class Cache(Model):
    """One Valkey replication group: a primary and its replicas."""

    node: CacheNode
    nodes: Annotated[int, Field(ge=1, le=6)]
    snapshot_days: Annotated[int, Field(ge=0, le=35)]


class Search(Model):
    """OpenSearch for logs."""

    engine_version: Literal["2.19", "3.1"]
    instance: Literal["t3.small.search", "r6g.large.search"]
    nodes: Annotated[int, Field(ge=1, le=12)]
    storage_gib: Annotated[int, Field(ge=10, le=3072)]


class Files(Model):
    """EFS: files that several containers share."""

    infrequent_after_days: Literal[7, 14, 30, 60, 90]
    backups: bool


class Bucket(Model):
    """The bucket of raw inputs, and what all buckets have in common."""

    name_has_account: bool
    """Bucket names are global: in AWS the account id makes ours unique."""
    access_logs: bool
    noncurrent_days: Annotated[int, Field(ge=1)]
    """Days that an overwritten version is kept."""


class Lake(Model):
    """Buckets of the data lake, backups, assets and rejected data, and the catalogue."""

    infrequent_after_days: Annotated[int, Field(ge=30)]
    """S3 refuses less."""
    glacier_after_days: Annotated[int, Field(ge=60)]
    deep_archive_after_days: Annotated[int, Field(ge=150)]
    lock_mode: Literal["GOVERNANCE", "COMPLIANCE"]
    lock_days: Annotated[int, Field(ge=1, le=36_500)]
    """For how long no object of the lake or the backups can be deleted."""
    rejected_days: Annotated[int, Field(ge=1)]
    delivery_seconds: Annotated[int, Field(ge=60, le=900)]
    """How long events are gathered before they become a file, unless they fill one earlier."""
    query_scan_gib: Annotated[int, Field(ge=1)]
    """A query that reads more is ended."""

    @model_validator(mode="after")
    def _each_class_lasts(self) -> Self:
        if self.glacier_after_days < self.infrequent_after_days + 30:
            raise ValueError("glacier_after_days: Standard-IA is billed for 30 days at least")
        if self.deep_archive_after_days < self.glacier_after_days + 90:
            raise ValueError("deep_archive_after_days: Glacier is billed for 90 days at least")
        if self.deep_archive_after_days > self.lock_days >= COMPLIANCE_DAYS:
            raise ValueError("deep_archive_after_days: must start before the lock ends, or it saves nothing")
        return self
