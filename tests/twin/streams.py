"""A stream, a function and a clock for the poller, all in memory."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.poller import Checkpoints, EventSource, Record, ShardPoller
from local.runtime import Answer

SHARD = "shardId-000000000000"
QUEUE = "http://aws/000000000000/dlq"
START = 1_700_000_000.0


def source(**changes: Any) -> EventSource:
    """An event source as the template of this product describes them."""
    described: dict[str, Any] = {
        "name": "source",
        "function": "function",
        "stream": "stream",
        "stream_arn": "arn:aws:kinesis:us-east-1:000000000000:stream/stream",
        "batch_size": 500,
        "window": 0.0,
        "parallelization": 1,
        "max_retries": 3,
        "max_age": -1.0,
        "bisect": True,
        "partial_failures": True,
        "on_failure_url": QUEUE,
        "filters": (),
        "from_start": True,
        **changes,
    }
    return EventSource(**described)


def record(number: int, key: str = "key", data: Any = None, arrived: float = START) -> Record:
    """Record ``number`` of a stream; its data is the number if nothing else is given."""
    raw = data if isinstance(data, bytes) else json.dumps(number if data is None else data).encode()
    return {
        "SequenceNumber": f"4959{number:08d}",
        "PartitionKey": key,
        "Data": base64.b64encode(raw).decode(),
        "ApproximateArrivalTimestamp": arrived,
    }


def records(count: int) -> list[Record]:
    """That many records."""
    return [record(n) for n in range(count)]


class Idle(Exception):
    """The poller found nothing to do."""


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = START
        self.naps: list[float] = []
        self.on_nap: Callable[[], None] = lambda: None

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.naps.append(seconds)
        self.on_nap()
        await asyncio.sleep(0)


class Stream:
    """``Shards`` over a list; ``away`` is how many calls fail first."""

    def __init__(self, held: Iterable[Record] = ()) -> None:
        self.held = list(held)
        self.away = 0

    async def shards(self, stream: str) -> list[str]:
        return [SHARD]

    async def iterator(self, stream: str, shard: str, after: str | None, from_start: bool) -> str:
        self._fail()
        if after is None:
            return "0" if from_start else str(len(self.held))
        return str(1 + [r["SequenceNumber"] for r in self.held].index(after))

    async def records(self, iterator: str, limit: int) -> tuple[list[Record], str]:
        self._fail()
        at = int(iterator)
        found = self.held[at : at + limit]
        return found, str(at + len(found))

    def _fail(self) -> None:
        if self.away:
            self.away -= 1
            raise ConnectionError("the stream is away")


Behaviour = Callable[[list[dict[str, Any]]], Any]


@dataclass
class Function:
    """A function that keeps what it was given. ``does`` answers or raises, given the event's records."""

    does: Behaviour = lambda _: None
    calls: list[list[str]] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    """Sequence numbers of calls that succeeded as a whole, in order."""
    hook: Callable[[list[dict[str, Any]]], Awaitable[None]] | None = None

    async def __call__(self, function: str, payload: bytes) -> Answer:
        given = json.loads(payload)["Records"]
        numbers = [r["kinesis"]["sequenceNumber"] for r in given]
        self.calls.append(numbers)
        if self.hook is not None:
            await self.hook(given)
        try:
            answer = self.does(given)
        except RuntimeError as error:
            return Answer(b"", f"RuntimeError: {error}")
        if answer is None:
            self.done += numbers
        return Answer(answer if isinstance(answer, bytes) else json.dumps(answer).encode())


def numbers_of(given: Iterable[dict[str, Any]]) -> list[int]:
    """Numbers of the records of an event."""
    return [int(r["kinesis"]["sequenceNumber"][4:]) for r in given]


def failed(number: int) -> dict[str, Any]:
    """The answer of a function that could not do record ``number``."""
    return {"batchItemFailures": [{"itemIdentifier": record(number)["SequenceNumber"]}]}


class World:
    """A poller and all it touches."""

    def __init__(self, folder: Path, stream: Stream, function: Function, **changes: Any) -> None:
        self.stream, self.function = stream, function
        self.clock = Clock()
        self.sent: list[dict[str, Any]] = []
        self.queue_away = 0
        self.since = 0.0
        self.checkpoints = Checkpoints(folder)
        self.source = source(**changes)
        self.poller = self.make()

    def make(self) -> ShardPoller:
        """The poller of a new start, on the checkpoints that are there."""
        return ShardPoller(
            self.source,
            SHARD,
            self.stream,
            self.function,
            self._send,
            self.checkpoints,
            0.1,
            self.clock,
            self._sleep,
            self.since,
        )

    async def _send(self, url: str, message: dict[str, Any]) -> None:
        if self.queue_away:
            self.queue_away -= 1
            raise ConnectionError("the queue is away")
        self.sent.append({"url": url, **message})

    async def _sleep(self, seconds: float) -> None:
        await self.clock.sleep(seconds)
        if self.poller.lag.idle_since is not None:
            raise Idle

    def drain(self) -> None:
        """Poll until there is nothing left."""

        async def run() -> None:
            try:
                await self.poller.run()
            except Idle:
                return

        asyncio.run(run())

    @property
    def checkpoint(self) -> str | None:
        return self.checkpoints.read(self.source.name, SHARD)
