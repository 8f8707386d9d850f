"""Event sources with the semantics of AWS: a Kinesis stream to a function, shard by shard.

For each shard: a durable checkpoint, batches, filters, lanes by partition key, partial failures, bisection,
retries, a maximum age and a destination for what cannot be processed.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import time
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from local.patterns import matches
from local.runtime import Answer

log = logging.getLogger(__name__)

FIRST_BACKOFF, LAST_BACKOFF = 0.1, 2.0
EXHAUSTED, TOO_OLD = "RetryAttemptsExhausted", "RecordAgeExceeded"
AWAY_PAUSE = 1.0
"""Seconds after which a stream or queue that did not answer is asked again."""
MAX_PAYLOAD = 6 * 1024 * 1024
FRAME = 600
"""Bytes of an event record beside its data and key, rounded up."""
Record = dict[str, Any]
"""A Kinesis record as GetRecords gives it: ``SequenceNumber``, ``PartitionKey``, ``Data`` (base64),
``ApproximateArrivalTimestamp`` (seconds)."""


@dataclass(frozen=True, slots=True)
class EventSource:
    """An event source mapping as the template describes it."""

    name: str
    function: str
    stream: str
    stream_arn: str
    batch_size: int
    window: float
    parallelization: int
    max_retries: int
    """-1: for ever."""
    max_age: float
    """Seconds; -1: for ever."""
    bisect: bool
    partial_failures: bool
    on_failure_url: str | None
    filters: Sequence[Mapping[str, Any]]
    from_start: bool


class Shards(Protocol):
    """Reading a stream."""

    async def shards(self, stream: str) -> list[str]: ...

    async def iterator(self, stream: str, shard: str, after: str | None, from_start: bool) -> str: ...

    async def records(self, iterator: str, limit: int) -> tuple[list[Record], str]: ...


Invoke = Callable[[str, bytes], Awaitable[Answer]]
SendFailure = Callable[[str, dict[str, Any]], Awaitable[None]]


class Checkpoints:
    """The last record done, by event source and shard; one small file each, replaced atomically."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def read(self, source: str, shard: str) -> str | None:
        """The sequence number, or ``None`` before the first."""
        path = self._folder / f"{source}.{shard}"
        return path.read_text() if path.exists() else None

    def write(self, source: str, shard: str, sequence: str | None) -> None:
        """Keep a sequence number; ``None``: nothing is done yet."""
        path = self._folder / f"{source}.{shard}"
        if sequence is None:
            path.unlink(missing_ok=True)
            return
        fresh = path.with_suffix(".new")
        fresh.write_text(sequence)
        os.replace(fresh, path)  # noqa: PTH105 - atomic also over an existing file


@dataclass(slots=True)
class _Part:
    """A run of records on its way through retries."""

    records: list[Record]
    retries: int = 0


@dataclass(slots=True)
class Lag:
    """What a shard still has before it, for whoever waits for the pipeline to be empty."""

    idle_since: float | None = None
    processed: int = 0
    failed: int = 0
    running: int = field(default=0)


class ShardPoller:
    """One shard of one event source."""

    def __init__(
        self,
        source: EventSource,
        shard: str,
        shards: Shards,
        invoke: Invoke,
        send_failure: SendFailure,
        checkpoints: Checkpoints,
        interval: float,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        since: float = 0.0,
    ) -> None:
        """Args:
        since: when the twin started, in seconds since 1970. The time before, in which nothing could be
            processed, does not count to the age of a record.
        """
        self._source = source
        self._shard = shard
        self._shards = shards
        self._invoke = invoke
        self._send_failure = send_failure
        self._checkpoints = checkpoints
        self._interval = interval
        self._clock = clock
        self._sleep = sleep
        self._since = since
        self._stopping = False
        self.lag = Lag()

    def stop(self) -> None:
        """End once the batch that is in work is done."""
        self._stopping = True

    async def run(self) -> None:
        """Poll until stopped. A stream that does not answer is asked again."""
        iterator: str | None = None
        away = False
        while not self._stopping:
            try:
                if iterator is None:
                    iterator = await self._start()
                records, iterator = await self._read_batch(iterator)
            except (OSError, ValueError) as reason:
                if not away:
                    log.warning("%s: its stream does not answer: %s", self._source.function, reason)
                away, iterator = True, None
                await self._sleep(AWAY_PAUSE)
                continue
            if away:
                log.info("%s: its stream answers again", self._source.function)
                away = False
            if not records:
                if self.lag.idle_since is None:
                    self.lag.idle_since = self._clock()
                await self._sleep(self._interval)
                continue
            self.lag.idle_since = None
            await self.process(records)

    async def _start(self) -> str:
        after = self._checkpoints.read(self._source.name, self._shard)
        return await self._shards.iterator(self._source.stream, self._shard, after, self._source.from_start)

    async def _read_batch(self, iterator: str) -> tuple[list[Record], str]:
        """A batch: as many records as there are up to the size, or until the window closes."""
        records, iterator = await self._shards.records(iterator, self._source.batch_size)
        closes = self._clock() + self._source.window
        while records and len(records) < self._source.batch_size and self._clock() < closes:
            await self._sleep(min(self._interval, self._source.window))
            more, iterator = await self._shards.records(iterator, self._source.batch_size - len(records))
            records += more
        return records, iterator

    async def process(self, records: Sequence[Record]) -> None:
        """Take a batch through the function, and move the checkpoint past it."""
        wanted = [r for r in records if passes(r, self._source.filters)]
        lanes: dict[int, list[Record]] = {}
        for record in wanted:
            lane = zlib.crc32(record["PartitionKey"].encode()) % self._source.parallelization
            lanes.setdefault(lane, []).append(record)
        await asyncio.gather(*(self._lane(lane) for lane in lanes.values()))
        self.lag.processed += len(wanted)
        self._checkpoints.write(self._source.name, self._shard, records[-1]["SequenceNumber"])

    async def _lane(self, records: list[Record]) -> None:
        parts = deque(_Part(run) for run in payloads(records))
        while parts:
            part = parts.popleft()
            fresh = self._young(part.records)
            if len(fresh) < len(part.records):
                await self._give_up(part.records[: len(part.records) - len(fresh)], part, TOO_OLD)
                part.records = fresh
            if not part.records:
                continue
            failed_from, whole = await self._attempt(part.records)
            if failed_from is None:
                continue
            for rest in reversed(await self._again(part, failed_from, whole)):
                parts.appendleft(rest)

    async def _attempt(self, records: list[Record]) -> tuple[int | None, bool]:
        """Index of the first record that failed, and whether the function failed as a whole."""
        event = {"Records": [event_record(r, self._shard, self._source) for r in records]}
        answer = await self._invoke(self._source.function, json.dumps(event, separators=(",", ":")).encode())
        if answer.error is not None:
            log.warning("%s: a batch of %d failed: %s", self._source.function, len(records), answer.error)
            return 0, True
        if not self._source.partial_failures:
            return None, False
        return first_failure(answer.payload, [r["SequenceNumber"] for r in records])

    async def _again(self, part: _Part, failed_from: int, whole: bool) -> list[_Part]:
        """What is to be tried again after a failure. Splitting uses up no retry, and neither half answers
        for what the other may have used up."""
        rest = part.records[failed_from:]
        if whole and self._source.bisect and len(rest) > 1:
            await self._sleep(FIRST_BACKOFF)
            middle = len(rest) // 2
            return [_Part(rest[:middle]), _Part(rest[middle:])]
        # Progress is no repetition: a part that got further starts its retries anew.
        retries = part.retries + 1 if failed_from == 0 else 1
        if 0 <= self._source.max_retries < retries:
            # Splitting at the failed record leaves it alone, as it does after a failure of the whole.
            gone = 1 if self._source.bisect and not whole else len(rest)
            await self._give_up(rest[:gone], part, EXHAUSTED, whole=whole)
            return [_Part(rest[gone:])] if rest[gone:] else []
        await self._sleep(min(FIRST_BACKOFF * 2**retries, LAST_BACKOFF))
        return [_Part(rest, retries)]

    def _young(self, records: list[Record]) -> list[Record]:
        if self._source.max_age < 0:
            return records
        oldest = self._clock() - self._source.max_age
        return [r for r in records if max(r["ApproximateArrivalTimestamp"], self._since) >= oldest]

    async def _give_up(
        self, records: list[Record], part: _Part, condition: str, *, whole: bool = False
    ) -> None:
        self.lag.failed += len(records)
        log.error("%s: %d records are given up: %s", self._source.function, len(records), condition)
        url = self._source.on_failure_url
        if url is None:
            return
        message = self._report(records, part, condition, whole=whole)
        while True:
            try:
                await self._send_failure(url, message)
            except (OSError, ValueError):
                # Nothing may move past records that nobody was told of.
                await self._sleep(AWAY_PAUSE)
            else:
                return

    def _report(self, records: list[Record], part: _Part, condition: str, *, whole: bool) -> dict[str, Any]:
        arrival = [r["ApproximateArrivalTimestamp"] for r in records]
        invoked = condition != TOO_OLD or part.retries > 0
        response = {"statusCode": 200, "executedVersion": "$LATEST"}
        if whole:
            response["functionError"] = "Unhandled"
        return {
            "requestContext": {
                "requestId": str(uuid4()),
                "functionArn": f"arn:aws:lambda:us-east-1:000000000000:function:{self._source.function}",
                "condition": condition,
                "approximateInvokeCount": part.retries + (condition == EXHAUSTED),
            },
            **({"responseContext": response} if invoked else {}),
            "version": "1.0",
            "timestamp": _iso(self._clock()),
            "KinesisBatchInfo": {
                "shardId": self._shard,
                "startSequenceNumber": records[0]["SequenceNumber"],
                "endSequenceNumber": records[-1]["SequenceNumber"],
                "approximateArrivalOfFirstRecord": _iso(arrival[0]),
                "approximateArrivalOfLastRecord": _iso(arrival[-1]),
                "batchSize": len(records),
                "streamArn": self._source.stream_arn,
            },
        }


def payloads(records: list[Record]) -> list[list[Record]]:
    """``records`` in runs that an invocation may carry."""
    runs: list[list[Record]] = [[]]
    size = 0
    for record in records:
        weight = len(record["Data"]) + len(record["PartitionKey"]) + FRAME
        if runs[-1] and size + weight > MAX_PAYLOAD:
            runs.append([])
            size = 0
        runs[-1].append(record)
        size += weight
    return runs


def passes(record: Record, filters: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a record passes a filter. With a filter on the data, data that is no JSON does not."""
    if not filters:
        return True
    decoded, data = _decoded(record["Data"])
    shown = {"partitionKey": record["PartitionKey"], "data": data}
    return decoded and any(matches(pattern, shown) for pattern in filters)


@lru_cache(maxsize=2048)
def _decoded(data: str) -> tuple[bool, Any]:
    """Whether a record's data is JSON, and what it says; kept, since several sources read one stream."""
    try:
        return True, json.loads(base64.b64decode(data))
    except ValueError:
        return False, None


def event_record(record: Record, shard: str, source: EventSource) -> dict[str, Any]:
    """A record in the shape of a Lambda event."""
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": record["PartitionKey"],
            "sequenceNumber": record["SequenceNumber"],
            "data": record["Data"],
            "approximateArrivalTimestamp": record["ApproximateArrivalTimestamp"],
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"{shard}:{record['SequenceNumber']}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": "arn:aws:iam::000000000000:role/local",
        "awsRegion": "us-east-1",
        "eventSourceARN": source.stream_arn,
    }


def first_failure(payload: bytes, sequences: Sequence[str]) -> tuple[int | None, bool]:
    """Index of the first failed record in a handler's answer; a malformed answer fails the whole batch."""
    try:
        answer = json.loads(payload)
        failures = (answer or {}).get("batchItemFailures") or []
        places = [sequences.index(f["itemIdentifier"]) for f in failures]
    except (ValueError, AttributeError, KeyError, TypeError):
        return 0, True
    return (min(places), False) if places else (None, False)


def _iso(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment % 1 * 1000):03d}Z"
