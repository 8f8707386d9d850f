"""The detectors in the quality function find what they find in a file, however the claims arrived."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from qis.application.claimed_records import ClaimedRecords
from qis.application.detection import Arrived, detect
from qis.application.detectors import EVERY, Detectors
from qis.application.quality import Quality
from qis.application.relay import backbone_record
from qis.domain import events as ev
from qis.domain.detection import DetectionRules, Observation, SeriesDetector
from qis.domain.series import Kind
from qis.domain.snap import Snap
from tests.support.builders import EUR, append, catalogue, reconciled, rules, series, series_of
from tests.support.fakes import (
    FixedCatalogue,
    MemoryDetectorStates,
    MemoryEventStore,
    MemoryFacts,
    open_exceptions,
)

DAY = 86_400 * 10**9
SOURCES = ("alpha", "beta", "gamma", "delta")
Claims = dict[str, Decimal]


def day(n: int) -> Snap:
    return Snap((20_000 + n) * DAY)


def claims_of(days: int, seed: int) -> list[Claims]:
    """Four sources around a walk, with faults of several kinds."""
    numbers = random.Random(seed)
    value, out = 1.1, []
    for _ in range(days):
        value *= 1 + numbers.gauss(0, 0.006)
        noise = {s: value * (1 + numbers.gauss(0, 0.0005)) for s in SOURCES}
        out.append({s: Decimal(f"{v:.5f}") for s, v in noise.items()})
    for n in (40, 90):
        out[n]["beta"] *= 10
        out[n + 10]["gamma"] = -out[n + 10]["gamma"]
        for i in range(5):
            out[n + 20 + i]["alpha"] = out[n + 19]["alpha"]
            out[n + 30 + i]["delta"] = (out[n + 30 + i]["delta"] * Decimal("1.02")).quantize(
                Decimal("0.00001")
            )
    del out[75]["beta"]
    return out


class World:
    """Decisions go in as the backbone brings them; findings come out."""

    def __init__(self, kind: Kind = Kind.FX_RATE) -> None:
        self.log, self.store = MemoryEventStore(), MemoryEventStore()
        self.facts = MemoryFacts(self.store)
        self.states = MemoryDetectorStates(self.facts)
        unit = {"unit": "percent"} if kind is Kind.RATE else {}
        kept = catalogue([series() if kind is Kind.FX_RATE else series_of(kind, EUR, **unit)], [rules()])
        records = ClaimedRecords(self.facts)
        watchers = [Detectors(self.states, records)]
        self.quality = Quality(self.store, FixedCatalogue(kept), self.facts, watchers)

    def decided(self, at: Snap, claims: Claims) -> dict[str, Any]:
        used = [{"source": s, "claim_id": "0", "value": str(v)} for s, v in claims.items()]
        stream = ev.value_stream(EUR, at.text)
        version = self.log.versions([stream]).get(stream, 0)
        self.log.append([append(stream, version, reconciled("official", "1", at, EUR, sources_used=used))])
        event: dict[str, Any] = json.loads(backbone_record(self.log.log[-1])[1])
        return event

    def open(self) -> set[tuple[str, str, str]]:
        return open_exceptions(self.store)


def offline(days: Sequence[Claims]) -> set[tuple[str, str, str]]:
    """What ``qis detect`` finds in the same claims."""
    claims = [
        Arrived(EUR, day(n).ns, Observation(s, v)) for n, said in enumerate(days) for s, v in said.items()
    ]
    return {(f.kind.value, Snap(f.since_ns).text, f.source) for f in detect(claims, DetectionRules())}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_findings_are_those_of_the_file_whatever_the_batches(seed: int) -> None:
    days = claims_of(140, seed)
    numbers = random.Random(seed)
    world = World()
    waiting = [world.decided(day(n), said) for n, said in enumerate(days)]
    while waiting:
        size = numbers.randint(1, 30)
        world.quality.follow(waiting[:size])
        waiting = waiting[size:]
    assert world.open() == offline(days)
    assert len(world.open()) > 10


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_findings_are_those_of_the_file_whatever_the_order_of_arrival(seed: int) -> None:
    days = claims_of(140, seed)
    numbers = random.Random(seed)
    world = World()
    arriving = [(n, s) for n, said in enumerate(days) for s in said]
    arriving.sort(key=lambda a: a[0] + numbers.random() * 4)  # up to four days late, sources in any order
    known: dict[int, Claims] = {}
    for n, source in arriving:
        known.setdefault(n, {})[source] = days[n][source]
        world.quality.follow([world.decided(day(n), known[n])])
    assert world.open() == offline(days)


def test_a_series_keeps_few_states() -> None:
    world = World()
    for n, said in enumerate(claims_of(140, 1)):
        world.quality.follow([world.decided(day(n), said)])
    assert len(world.states.states[EUR]) <= 1 + 140 // EVERY
    assert max(len(k.state) for k in world.states.states[EUR].values()) < 4096


def test_a_state_of_other_thresholds_is_not_used() -> None:
    days = claims_of(140, 1)
    world = World()
    world.quality.follow([world.decided(day(n), said) for n, said in enumerate(days[:100])])
    kept = world.states.states[EUR]
    for at, state in kept.items():
        kept[at] = state._replace(state=json.dumps({"rules": "other/1", "state": "[]"}))
    world.quality.follow([world.decided(day(n + 100), said) for n, said in enumerate(days[100:])])
    assert world.open() == offline(days)


def test_a_state_of_other_code_is_not_used() -> None:
    days = claims_of(140, 1)
    world = World()
    world.quality.follow([world.decided(day(n), said) for n, said in enumerate(days[:100])])
    kept = world.states.states[EUR]
    for at, state in kept.items():
        kept[at] = state._replace(state=json.dumps({"rules": DetectionRules().name, "state": "[1,2]"}))
    world.quality.follow([world.decided(day(n + 100), said) for n, said in enumerate(days[100:])])
    assert world.open() == offline(days)


def test_a_rate_has_no_level_to_leave() -> None:
    world = World(Kind.RATE)
    world.quality.follow([world.decided(day(n), said) for n, said in enumerate(claims_of(140, 1))])
    assert world.open() == set()


def test_the_order_of_claims_within_a_snap_plays_no_part() -> None:
    days = claims_of(140, 5)
    found = []
    for seed in (1, 2):
        numbers = random.Random(seed)
        detector = SeriesDetector(EUR, DetectionRules())
        judged = []
        for n, said in enumerate(days):
            given = [Observation(s, v) for s, v in said.items()]
            numbers.shuffle(given)
            judged.append(sorted(detector.observe(day(n).ns, given)))
        found.append((judged, detector.checkpoint()))
    assert found[0][0] == found[1][0]
