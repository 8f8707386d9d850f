"""Reading a stream from a moment to its end: what a restored log may lack, and where to read it again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from qis.adapters.backbone import unpacked

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient


def events_since(client: KinesisClient, stream: str, since: datetime) -> Iterator[dict[str, Any]]:
    """Events of the backbone that arrived at ``since`` or later, shard after shard, up to the end of each."""
    for shard in _shards(client, stream):
        iterator = client.get_shard_iterator(
            StreamName=stream, ShardId=shard, ShardIteratorType="AT_TIMESTAMP", Timestamp=since
        )["ShardIterator"]
        while iterator:
            answer = client.get_records(ShardIterator=iterator)
            for record in answer["Records"]:
                yield from unpacked(record["Data"])
            # A shard that was split or merged has no next place; an empty answer may come before its end.
            at_end = not answer["Records"] and not answer["MillisBehindLatest"]
            iterator = "" if at_end else answer.get("NextShardIterator", "")


def _shards(client: KinesisClient, stream: str) -> Iterator[str]:
    for page in client.get_paginator("list_shards").paginate(StreamName=stream):
        for shard in page["Shards"]:
            yield shard["ShardId"]
