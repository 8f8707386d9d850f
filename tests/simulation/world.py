"""The whole pipeline in one thread: every choice and every fault comes from a seed, time from a counter.

Records arrive in batches that are cut anew at each delivery. A part may fail before it commits, after it
commits and before it acknowledges, or lose a stream to another part that gets in between. The backbone keeps
the order of a key, mixes keys, and brings again what it has brought before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

from qis.application.ingest import Delivery, Ingest
from qis.application.ports import Admission, Append, Basis, Contended, Key, Loaded, Neighbours, Unavailable
from qis.application.publish import publish
from qis.application.quality import Quality
from qis.application.raw import RawBatch, move
from qis.application.reconcile import Reconciler, Trigger
from qis.application.relay import relay_batch
from qis.domain import events as ev
from qis.domain.rules import RuleSet
from qis.domain.snap import Snap, parse_instant
from tests.support.builders import catalogue
from tests.support.fakes import (
    EPOCH,
    FixedCatalogue,
    MemoryAdmissions,
    MemoryBackbone,
    MemoryBus,
    MemoryDeadLetters,
    MemoryEventStore,
    MemoryFacts,
    MemoryFollower,
    MemoryRawOutbox,
    MemoryRawStore,
)

LOAD = "load"
SAFE = (Unavailable, Contended)
"""What a part may end with; whoever feeds it delivers again."""


class Faults:
    """Decides from a seed whether something goes wrong now. ``rate`` 0: never."""

    def __init__(self, random: Random, rate: float) -> None:
        self._random = random
        self.rate = rate
        self.count = 0

    def hit(self) -> bool:
        struck = self.rate > 0 and self._random.random() < self.rate
        self.count += struck
        return struck

    def strike(self, what: str) -> None:
        """Perhaps fail.

        Raises:
            Unavailable: it does.
        """
        if self.hit():
            raise Unavailable(what)

    @contextmanager
    def off(self) -> Any:
        """No faults for a while."""
        rate, self.rate = self.rate, 0.0
        try:
            yield
        finally:
            self.rate = rate


class FaultyStore(MemoryEventStore):
    """A store that fails, and into whose appends others get in between."""

    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self._faults = faults
        self.others: Callable[[], None] = lambda: None

    def load(self, streams: Collection[str]) -> Mapping[str, Loaded]:
        self._faults.strike("the store is away")
        return super().load(streams)

    def neighbours(self, keys: Collection[Key], tracked: Collection[Key] = ()) -> Mapping[Key, Neighbours]:
        self._faults.strike("the store is away")
        return super().neighbours(keys, tracked)

    def append(self, appends: Sequence[Append], bases: Sequence[Basis] = ()) -> frozenset[str]:
        if self._faults.hit():
            with self._faults.off():
                self.others()
        self._faults.strike("the store went away before the commit")
        lost = super().append(appends, bases)
        self._faults.strike("the store went away after the commit")
        return lost


class FaultyAdmissions(MemoryAdmissions):
    """Admissions that fail before or after the commit, and that others get in before."""

    def __init__(self, store: FaultyStore, faults: Faults) -> None:
        super().__init__(store)
        self._others = store
        self._faults = faults

    @contextmanager
    def open(self) -> Iterator[Admission]:
        if self._faults.hit():
            with self._faults.off():
                self._others.others()
        with super().open() as admission:
            yield admission
            self._faults.strike("the store went away before the commit")
        self._faults.strike("the store went away after the commit")


class FaultyBackbone(MemoryBackbone):
    """A backbone that may take only the first of what it is given."""

    def __init__(self, faults: Faults, random: Random) -> None:
        super().__init__()
        self._faults = faults
        self._random = random

    def put(self, records: Sequence[tuple[str, bytes]]) -> None:
        if self._faults.hit():
            super().put(records[: self._random.randint(0, len(records))])
            raise Unavailable("the backbone took only some")
        super().put(records)


class FaultyFollower(MemoryFollower):
    """A follower whose checkpoint may not be written."""

    def __init__(self, store: MemoryEventStore, faults: Faults) -> None:
        super().__init__(store)
        self._faults = faults

    def move(self, to: ev.Position, at: datetime) -> None:
        self._faults.strike("ended before the checkpoint was written")
        super().move(to, at)


class FaultyRawStore(MemoryRawStore):
    """A raw store that may take only the first of what it is given."""

    def __init__(self, faults: Faults, random: Random) -> None:
        super().__init__()
        self._faults = faults
        self._random = random

    def put(self, batches: Sequence[RawBatch]) -> None:
        if self._faults.hit():
            super().put(batches[: self._random.randint(0, len(batches))])
            raise Unavailable("the raw store took only some")
        super().put(batches)


class FaultyDeadLetters(MemoryDeadLetters):
    """A queue that may be away."""

    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self._faults = faults

    def send(self, letters: Sequence[Any]) -> None:
        self._faults.strike("the dead-letter queue is away")
        super().send(letters)


class Consumer:
    """What one function has read of the backbone, key by key."""

    def __init__(self, backbone: MemoryBackbone, random: Random, faults: Faults) -> None:
        self._backbone = backbone
        self._random = random
        self._faults = faults
        self._done: dict[str, int] = {}

    def deliver(self, take: Callable[[list[dict[str, Any]]], None]) -> None:
        """A batch: of some keys the next events, in order within a key."""
        waiting = self._waiting()
        if self._faults.hit():
            for key in waiting:  # as after a repeated put, or a lost checkpoint
                self._done[key] = max(0, self._done.get(key, 0) - self._random.randint(0, 3))
            waiting = self._waiting()
        moved = dict(self._done)
        batch: list[dict[str, Any]] = []
        keys = [k for k in sorted(waiting) if waiting[k]]
        while keys and len(batch) < self._random.randint(1, 12):
            key = self._random.choice(keys)
            at = moved.get(key, 0)
            batch.append(json.loads(waiting[key][at - self._done.get(key, 0)]))
            moved[key] = at + 1
            if moved[key] - self._done.get(key, 0) == len(waiting[key]):
                keys.remove(key)
        if batch:
            with suppress(*SAFE):
                take(batch)
                self._faults.strike("ended before it acknowledged")
                self._done = moved

    def behind(self) -> bool:
        return any(self._waiting().values())

    def _waiting(self) -> dict[str, list[bytes]]:
        by_key: dict[str, list[bytes]] = {}
        for key, data in self._backbone.records:
            by_key.setdefault(key, []).append(data)
        return {key: records[self._done.get(key, 0) :] for key, records in by_key.items()}


class World:
    """All parts, on one store."""

    def __init__(self, records: Sequence[bytes], rules: RuleSet, random: Random, rate: float) -> None:
        self._records = records
        self._random = random
        self.faults = Faults(random, rate)
        self.store = FaultyStore(self.faults)
        self.store.others = self._somebody
        self.letters = FaultyDeadLetters(self.faults)
        self.bus = MemoryBus()
        self.facts = MemoryFacts(self.store)
        known = FixedCatalogue(catalogue(rule_sets=[rules]))
        ids = iter(range(10**9))
        self._ingest = Ingest(
            FaultyAdmissions(self.store, self.faults),
            known,
            "memory://raw",
            self.letters,
            lambda: UUID(int=next(ids)),
        )
        self.raw_outbox, self.raw = MemoryRawOutbox(self.store), FaultyRawStore(self.faults, random)
        self._reconciler = Reconciler(self.store, known)
        self._quality = Quality(self.store, known, self.facts)
        self._backbone = FaultyBackbone(self.faults, random)
        self._follower = FaultyFollower(self.store, self.faults)
        self._read = 0
        self._consumers = {
            name: Consumer(self._backbone, random, self.faults)
            for name in ("reconcile", "publish", "quality")
        }

    def run(self) -> None:
        """Until everything has come to rest; faults end when all records have arrived."""
        while self._read < len(self._records):
            self._somebody()
        for _ in range(20):
            self._somebody()
        with self.faults.off():
            while self._busy():
                self._take_records()
                self._relay()
                self._move_raw()
                for name in self._consumers:
                    self._consume(name)

    def _busy(self) -> bool:
        unsent = self._follower.read(self._follower.checkpoint(), 1)
        behind = any(c.behind() for c in self._consumers.values())
        return self._read < len(self._records) or bool(unsent or self.store.raw) or behind

    def _somebody(self) -> None:
        parts = [
            self._take_records,
            self._relay,
            self._move_raw,
            *(lambda n=n: self._consume(n) for n in self._consumers),
        ]
        self._random.choice(parts)()

    def _take_records(self) -> None:
        batch = list(enumerate(self._records))[self._read : self._read + self._random.randint(1, 8)]
        with suppress(*SAFE):
            self._ingest.deliveries([Delivery(f"record-{n}", LOAD, data) for n, data in batch])
            self.faults.strike("ended before it acknowledged")
            self._read = max(self._read, batch[-1][0] + 1) if batch else self._read

    def _relay(self) -> None:
        with suppress(*SAFE):
            relay_batch(self._follower, self._backbone, EPOCH, limit=self._random.randint(1, 20))

    def _move_raw(self) -> None:
        with suppress(*SAFE):
            move(self.raw_outbox, self.raw)

    def _consume(self, name: str) -> None:
        self._consumers[name].deliver(
            {"reconcile": self._reconcile, "publish": self._publish, "quality": self._follow}[name]
        )

    def _reconcile(self, events: list[dict[str, Any]]) -> None:
        self._reconciler.run(
            Trigger(
                e["reference_data_id"],
                parse_instant(e["data"]["snap"], "snap"),
                e["correlation_id"],
                UUID(e["event_id"]),
            )
            for e in events
            if e["type"] == ev.DATA_INGESTED
        )

    def _publish(self, events: list[dict[str, Any]]) -> None:
        public = [e for e in events if e["type"] in (ev.DATA_PUBLISHED, ev.DATA_RESTATED)]
        self.bus.refuse = {e["event_id"] for e in public if self.faults.hit()}
        if publish(public, self.bus):
            raise Unavailable("the bus refused some")

    def _follow(self, events: list[dict[str, Any]]) -> None:
        self._quality.follow(events)

    # what it came to -----------------------------------------------------------------------------

    def result(self) -> dict[str, Any]:
        """All that must not depend on what went wrong."""
        stored = [e for e in self.store.log if e.type == ev.DATA_INGESTED]
        return {
            "loads": self.store.ledger.loads,
            "claims": sorted(e.data["claim_id"] for e in stored),
            "dead letters": sorted({letter.record_id for letter in self.letters.letters}),
            "decisions": dict(self.store.decisions),
            "official": self._official(),
            "waiting": self._open("suspect"),
            "missing": self._open("missing"),
        }

    def _open(self, kind: str) -> list[tuple[str, Snap]]:
        """Snaps with an open exception of a kind. (That a source stood still is told when it looks so, and
        stays told where a late value proves otherwise.)"""
        found = (e.data for e in self.store.log if e.type == ev.QUALITY_ISSUE_DETECTED)
        return sorted(
            (data["reference_data_id"], parse_instant(data["snap"], "snap"))
            for data in found
            if data["kind"] == kind and self.store.issue_status[UUID(data["issue_id"])] == "open"
        )

    def _official(self) -> dict[tuple[str, Snap], Decimal]:
        """Values that are official now; what is held now may have been so for a moment, in another order."""
        return {
            key: Decimal(self.store.official[key][-1].data["value"])
            for key, (status, _) in self.store.decisions.items()
            if status == "official"
        }
