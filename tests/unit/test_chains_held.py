"""Options chains in the running system: the findings of a file, however claims arrive, with few in memory."""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

import pytest

from qis.application.claimed_records import ClaimedRecords
from qis.application.detection import detect
from qis.application.quality import ClaimEntry, Quality
from qis.application.record_detectors import CHAINS_AT_A_TIME, RecordDetectors
from qis.application.relay import backbone_record
from qis.domain import events as ev
from qis.domain.claims import Claim, chronological
from qis.domain.detection import DetectionRules
from qis.domain.kinds.record import value_text
from qis.domain.snap import Snap, parse_instant
from tests.support import records
from tests.support.builders import append, catalogue, ingested, reconciled
from tests.support.fakes import FixedCatalogue, MemoryEventStore, MemoryFacts, Ticking, open_exceptions
from tests.support.records import AT, CHAIN

SOURCES = ("alpha", "beta", "gamma")
FIRST = parse_instant(AT, "snap").moment
RECORDED = FIRST + timedelta(days=99)
"""Later than all times of reception, which therefore count."""
SERIES = {CHAIN: records.series(CHAIN)}


class CountedFacts(MemoryFacts):
    """Facts that note how many documents were read at once."""

    def __init__(self, store: MemoryEventStore) -> None:
        super().__init__(store)
        self.most = 0

    def claimed(self, entries: Collection[ClaimEntry]) -> Sequence[ev.Data]:
        self.most = max(self.most, len(entries))
        return super().claimed(entries)


class World:
    """Claims go in as the backbone brings their decisions; findings come out."""

    def __init__(self) -> None:
        self.store = MemoryEventStore(Ticking(RECORDED))
        self.facts = CountedFacts(self.store)
        watchers = [RecordDetectors(ClaimedRecords(self.facts))]
        kept = FixedCatalogue(catalogue(SERIES.values(), [records.rules()]))
        self.quality = Quality(self.store, kept, self.facts, watchers)

    def take(self, claim: Claim[Any]) -> dict[str, Any]:
        """Store a claim and the decision on its snap; the decision as the backbone brings it."""
        stream = ev.value_stream(CHAIN, claim.snap.text)
        used = [{"source": claim.source, "claim_id": claim.claim_id, "value": value_text(claim.value)}]
        for event in (
            ingested(claim),
            reconciled("official", "1", claim.snap, CHAIN, sources_used=used),
        ):
            version = self.store.versions([stream]).get(stream, 0)
            assert not self.store.append([append(stream, version, event)])
        event_: dict[str, Any] = json.loads(backbone_record(self.store.log[-1])[1])
        return event_


def chain(day: int, source: str, numbers: random.Random, minute: int) -> Claim[Any]:
    """A chain; in some the contracts of a strike are missing."""
    value = records.chain()
    if numbers.random() < 0.3:
        value["contracts"] = [c for c in value["contracts"] if "00100000" not in c["symbol"]]
    snap = FIRST + timedelta(days=day)
    received = (snap + timedelta(minutes=minute)).isoformat()
    return records.record_claim(CHAIN, source, value, snap=snap.isoformat(), received_at=received)


def offline(claims: Sequence[Claim[Any]]) -> set[tuple[str, str, str]]:
    """What ``qis detect`` finds in the last claims."""
    ordered = chronological((c, Snap.of(RECORDED)) for c in claims)
    last = {(c.snap, c.source): c for c in ordered}
    found = detect([], DetectionRules(), SERIES, last.values())
    return {(f.kind.value, Snap(f.since_ns).text, f.source) for f in found}


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_findings_are_those_of_the_file_whatever_the_order_and_few_chains_are_held(seed: int) -> None:
    """A batch may bring a snap of long ago beside one of today: what lies between is not read."""
    numbers = random.Random(seed)
    claims = [
        chain(day, source, numbers, 7 * correction + place)
        for day in range(30)
        for place, source in enumerate(SOURCES)
        for correction in range(numbers.choice([1, 1, 1, 6]))
    ]
    world = World()
    waiting = numbers.sample(claims, len(claims))
    while waiting:
        size = numbers.randint(1, 20)
        world.quality.follow([world.take(c) for c in waiting[:size]])
        waiting = waiting[size:]
    assert open_exceptions(world.store) == offline(claims)
    assert len(offline(claims)) > 5
    assert world.facts.most <= (CHAINS_AT_A_TIME + 1) * len(SOURCES)


def test_the_snaps_between_two_that_are_new_are_not_read() -> None:
    numbers, world = random.Random(1), World()
    for day in range(30):
        world.quality.follow([world.take(chain(day, "alpha", numbers, 1))])
    world.facts.most = 0
    world.quality.follow([world.take(chain(day, "beta", numbers, 1)) for day in (0, 29)])
    assert world.facts.most <= 2 * len(SOURCES)
