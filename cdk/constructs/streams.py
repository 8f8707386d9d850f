"""Kinesis: ``ingest`` carries claims in, ``events`` carries the log to its followers, ``alerts`` what quality
finds, ``audit`` who did what."""

from __future__ import annotations

from aws_cdk import Duration
from aws_cdk import aws_kinesis as kinesis
from constructs import Construct

from cdk.constructs.house import House, acknowledge
from cdk.environments.traffic import StreamName

_SHARD_METRICS = [kinesis.ShardLevelMetrics.INCOMING_RECORDS, kinesis.ShardLevelMetrics.OUTGOING_RECORDS]


class Streams(Construct):
    """The two streams of the spine and, where an environment has them, the other two; encrypted."""

    def __init__(self, scope: Construct, id_: str, *, house: House) -> None:
        super().__init__(scope, id_)
        self.ingest = self._stream("Ingest", "ingest", house)
        self.events = self._stream("Events", "events", house)
        others: tuple[StreamName, ...] = ("alerts", "audit")
        self.others = {
            name: self._stream(name.capitalize(), name, house)
            for name in others
            if name in house.settings.streams
        }

    def _stream(self, id_: str, logical: StreamName, house: House) -> kinesis.Stream:
        size = house.settings.streams[logical]
        stream = kinesis.Stream(
            self,
            id_,
            stream_name=house.name(logical),
            stream_mode=kinesis.StreamMode.PROVISIONED,
            shard_count=size.shards,
            retention_period=Duration.hours(size.retention_hours),
            shard_level_metrics=_SHARD_METRICS if size.shard_metrics else None,
            encryption=kinesis.StreamEncryption.KMS if house.data_key else kinesis.StreamEncryption.MANAGED,
            encryption_key=house.data_key,
            removal_policy=house.removal,
        )
        if house.data_key:
            acknowledge(
                stream,
                {"AwsSolutions-KDS3": "The key of Kinesis is free but cannot be revoked or audited by us."},
            )
        return stream
