"""Volumes, schemas and the order of arrival in the running system: what a file of the same rows gives."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from qis.application.arrivals import ArrivalWatch
from qis.application.claimed_records import ClaimedRecords
from qis.application.detection import Arrived, detect
from qis.application.detectors import Detectors
from qis.application.quality import Quality
from qis.application.relay import backbone_record
from qis.domain import events as ev
from qis.domain.claims import Claim, parse_claim
from qis.domain.detection import DetectionRules, Observation
from qis.domain.reconciliation import Decision, reconcile
from qis.domain.snap import Snap
from tests.support.builders import (
    EUR,
    SOURCES,
    append,
    catalogue,
    claim_body,
    ingested,
    reconciled,
    rules,
    series,
)
from tests.support.fakes import (
    FixedCatalogue,
    MemoryArrivalStates,
    MemoryDetectorStates,
    MemoryEventStore,
    MemoryFacts,
    open_exceptions,
)

DAY = 86_400 * 10**9
BOOK = catalogue([series()], [rules(max_move=None)])


def rows(seed: int) -> list[Claim[Any]]:
    """Two sources with volumes and what goes wrong with files: a volume of another size, bars without trades,
    rows twice with another value, rows late and many of them, a currency that is no longer given."""
    numbers = random.Random(seed)
    value, found = 1.1, []
    order = list(range(120))
    order.insert(50, order.pop(44))
    order[70:76] = [74, 75, 70, 71, 72, 73]
    for place, n in enumerate(order):
        value *= 1 + numbers.gauss(0, 0.004)
        for source in SOURCES[:2]:
            body: dict[str, Any] = {
                "snap": Snap((20_000 + n) * DAY).text,
                "source": source,
                "value": f"{value * (1 + numbers.gauss(0, 0.0004)):.5f}",
                "volume": f"{numbers.lognormvariate(5, 0.3) * (1e6 if place == 90 else 1):.0f}",
                "currency": None if source == SOURCES[0] and place > 60 else "USD",
            }
            if 100 <= place < 112 and source == SOURCES[1]:
                body |= {"volume": "0", "value": "1.23456"}
            found.append(body)
            if place == 30 and source == SOURCES[0]:
                found.append({**body, "value": f"{value * 1.0005:.5f}"})
    return [parse_claim(claim_body(**body), BOOK.series, BOOK.active) for body in found]


def offline(claims: list[Claim[Any]]) -> set[tuple[str, str, str]]:
    """What ``qis detect`` finds in these rows, in their order."""
    given = [
        Arrived(EUR, c.snap.ns, Observation(c.source, c.value, c.volume, None, c.currency, c.unit), None)
        for c in claims
    ]
    return {(f.kind.value, Snap(f.since_ns).text, f.source) for f in detect(given, DetectionRules())}


class World:
    """Claims go in and are decided on; what the backbone brings of them is followed."""

    def __init__(self) -> None:
        self.store = MemoryEventStore()
        facts = MemoryFacts(self.store)
        book = FixedCatalogue(BOOK)
        detectors = Detectors(MemoryDetectorStates(facts), ClaimedRecords(facts))
        self.quality = Quality(self.store, book, facts, [detectors])
        self.arrivals = ArrivalWatch(MemoryArrivalStates(), book, self.quality)
        self._claims: dict[Snap, list[Claim[Any]]] = {}

    def take(self, claim: Claim[Any]) -> list[dict[str, Any]]:
        """Store a claim and the decision on its snap; both as the backbone brings them."""
        known = self._claims.setdefault(claim.snap, [])
        known.append(claim)
        decision: Decision[Any] = reconcile(known, rules(max_move=None), ())
        said = {k: v for k, v in decision.as_json().items() if k in ("sources_used", "sources_rejected")}
        stream = ev.value_stream(EUR, claim.snap.text)
        decided = reconciled("official", "1", claim.snap, EUR, **said)
        brought = []
        for event in (ingested(claim), decided):
            version = self.store.versions([stream]).get(stream, 0)
            self.store.append([append(stream, version, event)])
            brought.append(json.loads(backbone_record(self.store.log[-1])[1]))
        return brought

    def follow(self, events: list[dict[str, Any]]) -> None:
        self.quality.follow(events)
        self.arrivals.follow(events)

    def open(self) -> set[tuple[str, str, str]]:
        return open_exceptions(self.store)


@pytest.mark.parametrize("seed", [1, 2])
def test_findings_are_those_of_the_file_also_of_batches_that_are_delivered_again(seed: int) -> None:
    numbers = random.Random(seed)
    world, waiting = World(), rows(seed)
    while waiting:
        size = numbers.randint(1, 20)
        batch = [event for claim in waiting[:size] for event in world.take(claim)]
        for _ in range(numbers.randint(1, 2)):
            world.follow(batch)
        waiting = waiting[size:]
    wanted = offline(rows(seed))
    assert world.open() == wanted
    assert {kind for kind, _, _ in wanted} >= {"volume", "stale", "schema_drift", "duplicate", "out_of_order"}


def test_a_load_of_old_claims_is_one_finding_a_source() -> None:
    claims = rows(1)
    world = World()
    for claim in [*claims[200:], *claims[:60]]:
        world.follow(world.take(claim))
    late = [source for kind, _, source in world.open() if kind == "out_of_order"]
    assert sorted(late) == sorted(SOURCES[:2])


def test_two_claims_of_a_batch_that_show_the_same_open_one_finding() -> None:
    world = World()
    bodies = [{"snap": Snap((20_000 + n) * DAY).text, "currency": "USD"} for n in range(40)]
    bodies += [{"snap": Snap(20_040 * DAY).text, "value": value} for value in ("1.1", "1.2")]
    claims = [parse_claim(claim_body(**body), BOOK.series, BOOK.active) for body in bodies]
    world.follow([event for claim in claims for event in world.take(claim)])
    opened = [e.data["issue_id"] for e in world.store.log if e.type == ev.QUALITY_ISSUE_DETECTED]
    assert len(opened) == len(set(opened)) > 0
    assert world.open() == offline(claims)
