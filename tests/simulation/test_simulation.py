"""Whatever fails, and whenever: the end is the same as without a fault."""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from typing import Any

import pytest

from qis.application.raw import RawBatch
from qis.domain import events as ev
from qis.domain.rules import RuleSet
from qis.domain.snap import NANOS, Snap
from tests.simulation.world import World
from tests.support.builders import EUR, FIXING, SOURCES, rules, snap
from tests.support.raw import payload_of

SEEDS = range(120)
SNAPS = [snap(days) for days in range(6)]
# Values that agree, that differ slightly, and that lie a move (5 %) or several away from each other.
LEVELS = ["100.00", "100.05", "101", "104", "107", "111", "160", "0.01"]
RULES = [
    rules(),
    rules(fallback="hold"),
    rules(min_sources=2),
    rules(method="median"),
    rules(max_move=None),
    rules(stale_after=2),
]
RATE = 0.15


def records(random: Random) -> list[bytes]:
    """Claims of some sources on some snaps: now and then one twice, now and then one that breaks a rule."""
    found: list[dict[str, Any]] = []
    for _ in range(random.randint(10, 40)):
        at = random.choice(SNAPS)
        body = {
            "snap": at.text,
            "reference_data_id": EUR,
            "source": random.choice(SOURCES[:3]),
            "value": random.choice(LEVELS),
            "received_at": Snap(at.ns + random.choice([60, 120]) * NANOS).text,
        }
        if random.random() < 0.1:
            body |= random.choice([{"value": "NaN"}, {"reference_data_id": "NO.SUCH"}, {"currency": "GBP"}])
        elif random.random() < 0.2:
            body |= {"reference_data_id": FIXING, "snap": f"2026-01-{random.randint(12, 16)}"}
        found.append(body)
    found += random.sample(found, random.randint(0, 4))
    random.shuffle(found)
    return [json.dumps(body).encode() for body in found]


def run(seed: int, rate: float) -> World:
    random = Random(seed)
    given, rule_set = records(random), random.choice(RULES)
    world = World(given, rule_set, random, rate)
    world.run()
    return world


@pytest.mark.parametrize("seed", SEEDS)
def test_the_end_is_that_of_a_run_without_faults(seed: int) -> None:
    faulty, clean = run(seed, RATE), run(seed, 0.0)
    assert faulty.faults.count
    assert not clean.faults.count
    found, wanted = faulty.result(), clean.result()
    for name, value in wanted.items():
        assert found[name] == value, name


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_in_the_log_twice_and_everything_is_on_the_bus(seed: int) -> None:
    world = run(seed, RATE)
    log = world.store.log
    assert len({(e.stream, e.version) for e in log}) == len({e.event_id for e in log}) == len(log)
    claims = Counter(e.data["claim_id"] for e in log if e.type == ev.DATA_INGESTED)
    assert set(claims.values()) <= {1}
    public = [e for e in log if e.type in (ev.DATA_PUBLISHED, ev.DATA_RESTATED)]
    versions = Counter((e.stream, e.data["official_version"]) for e in public)
    assert set(versions.values()) <= {1}
    assert {e["id"] for e in world.bus.events} == {str(e.event_id) for e in public}


@pytest.mark.parametrize("seed", SEEDS)
def test_every_claim_leads_to_its_raw_payload_in_the_raw_store(seed: int) -> None:
    world = run(seed, RATE)
    assert not world.store.raw
    kept = [RawBatch(*b) for b in world.raw.bodies.items()]
    for event in world.store.log:
        if event.type == ev.DATA_INGESTED:
            claim = json.loads(payload_of(event.data["raw"], kept))
            assert (claim["source"], claim["value"]) == (event.data["source"], event.data["value"])


def test_a_run_follows_from_its_seed() -> None:
    first, second = run(3, RATE), run(3, RATE)
    assert [(e.event_id, e.recorded_at) for e in first.store.log] == [
        (e.event_id, e.recorded_at) for e in second.store.log
    ]
    assert first.faults.count == second.faults.count


def test_the_faults_are_worth_the_name() -> None:
    """Over all seeds, conflicts and redeliveries really happen."""
    assert sum(run(seed, RATE).faults.count for seed in list(SEEDS)[:20]) > 200


def test_rule_sets_are_all_in_use() -> None:
    used: set[RuleSet] = set()
    for seed in SEEDS:
        random = Random(seed)
        records(random)
        used.add(random.choice(RULES))
    assert used == set(RULES)
