"""Weights learned from the log by REST: causal, from a position, put in force by a person."""

from __future__ import annotations

import random
from collections import deque
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from qis.application.fusing import Plan, fuse
from qis.domain import events as ev
from qis.domain.fusion.consensus import Terms
from qis.domain.fusion.items import Claimed, Item
from qis.domain.fusion.learned import KIND, learned_from
from qis.domain.fusion.memory import Memory
from qis.domain.fusion.methods import Settings
from qis.domain.reconciliation import chain_of
from qis.domain.rules import RuleBook, parse_layer
from qis.domain.snap import parse_instant
from qis.domain.value_history import ValueHistory
from tests.api.world import BASE, RULES, SERIES, World

pytestmark = pytest.mark.integration
LEARN = "/api/v1/rules/{rules}/learn"
FX = {"rules": "fx"}
DAYS = [d for d in (date(2026, 1, 5) + timedelta(i) for i in range(60)) if d.weekday() < 5][:30]
RANGE = {"from": DAYS[0].isoformat(), "to": (DAYS[-1] + timedelta(1)).isoformat()}
LEARNING = {**RULES, "method": "accu", "max_move": None}
SOURCES = ("ecb", "vendor-a", "vendor-b")


def said() -> dict[date, dict[str, str]]:
    """Two sources that agree, and one that is off every other day."""
    rng = random.Random(7)
    found = {}
    for i, day in enumerate(DAYS):
        value = Decimal("1.10") + Decimal(rng.randrange(-99, 100)).scaleb(-4)
        found[day] = {s: str(value) for s in SOURCES[:2]} | {
            "vendor-b": str(value + (Decimal("0.02") if i % 2 else 0))
        }
    return found


@pytest.fixture
def learned(world: World) -> World:
    assert world.send("PUT", "/api/v1/rules/{rules}", LEARNING, "admin", **FX).status == 200
    for day, values in said().items():
        snap = {"snap": day.isoformat(), "reference_data_id": SERIES}
        world.claims([{**snap, "source": s, "value": v} for s, v in values.items()])
    return world


def learn(world: World, **more: Any) -> dict[str, Any]:
    answer = world.send("POST", LEARN, {**RANGE, **more}, **FX)
    assert answer.status == 200, answer.text
    told: dict[str, Any] = answer.json
    return told


def test_what_is_learned_from_the_log_is_what_is_learned_from_a_file(learned: World) -> None:
    weights = learn(learned)["candidate"]["method"]["weights"]
    memory = Memory()
    snaps = [
        (at, [Item(SERIES, KIND, [Claimed(s, Decimal(v)) for s, v in values.items()])])
        for at, values in enumerate(said().values())
    ]
    plan = Plan("accu", Settings(terms=Terms(0.001)))
    deque(fuse(snaps, plan, memory), maxlen=0)
    assert {s: tuple(c) for s, c in weights["sources"].items()} == dict(learned_from(memory, KIND).sources)
    assert weights["sources"]["vendor-b"][:2] == [30, 15]


def test_parts_learn_what_the_whole_does_and_nothing_is_stored(learned: World) -> None:
    before = len(learned.log())
    whole = learn(learned)
    part = learn(learned, limit=7)
    parts = 1
    while part["resume"] is not None:
        assert part["candidate"] is None
        part = learn(learned, limit=7, resume=part["resume"])
        parts += 1
    assert parts > 5
    assert part == whole
    assert len(learned.log()) == before


def test_what_came_after_the_position_is_not_looked_at(learned: World) -> None:
    first = learn(learned)
    for day, values in said().items():
        learned.claim(day.isoformat(), values["ecb"], "vendor-b", received_at=f"{day}T20:00:00Z")
    assert learn(learned, basis=first["basis"]) == first
    then, now = (
        {s["source"]: s["right"] for s in told["revision"]["sources"]} for told in (first, learn(learned))
    )
    assert (then["vendor-b"], now["vendor-b"]) == (15, 30)


def test_a_person_puts_the_weights_in_force_for_later_snaps_only(learned: World) -> None:
    told = learn(learned)
    moved = {s["source"]: s["moved"] for s in told["revision"]["sources"]}
    assert moved == {"ecb": True, "vendor-a": True, "vendor-b": True}
    candidate = told["candidate"]
    assert candidate["method"]["weights"]["from"]["basis"] == told["basis"]
    assert learned.send("PUT", "/api/v1/rules/{rules}", candidate, "bob", **FX).status == 200
    day = (DAYS[-1] + timedelta(1)).isoformat()
    values = (("ecb", "1.3000"), ("vendor-a", "1.3000"), ("vendor-b", "1.4000"))
    for snap in (day, DAYS[-1].isoformat()):
        given = {"snap": snap, "reference_data_id": SERIES, "received_at": f"{day}T21:00:00Z"}
        learned.claims([{**given, "source": s, "value": v} for s, v in values])
    later, before = (
        learned.get(f"{BASE}/explain", SERIES, snap=s).json["decision"] for s in (day, DAYS[-1].isoformat())
    )
    assert later["weights"]["ecb"] > later["weights"]["vendor-b"]
    assert len(set(before["weights"].values())) == 1
    again = learn(learned)
    assert (again["candidate"], again["revision"]["reason"]) == (None, "nothing has changed enough")


def test_each_stored_decision_is_derived_again_from_the_log(learned: World) -> None:
    candidate = learn(learned)["candidate"]
    learned.send("PUT", "/api/v1/rules/{rules}", candidate, "bob", **FX)
    learned.claim((DAYS[-1] + timedelta(1)).isoformat(), "1.31", "vendor-a")
    log = learned.log()
    book = RuleBook(parse_layer(e.data, e.version) for e in log if e.stream == ev.rules_stream("fx"))
    histories: dict[str, ValueHistory] = {}
    derived = 0
    for event in log:
        if not event.stream.startswith("value:") and event.data.get("reference_data_id") != SERIES:
            continue
        history = histories.get(event.stream)
        if event.type == ev.DATA_RECONCILED and history is not None:
            decision = history.decide(book.exactly(chain_of(event.data)), (), {}, by_policy=False)
            again = {"reference_data_id": SERIES, "snap": history.snap.text, **decision.as_json()}
            assert again == event.data
            derived += 1
        if history is None and "snap" in event.data:
            history = histories[event.stream] = ValueHistory(
                SERIES, parse_instant(event.data["snap"], "snap")
            )
        if history is not None:
            history.fold([event])
    assert derived >= 31


@pytest.mark.parametrize(
    ("changes", "field", "rule"),
    [
        ({"to": "2026-01-01"}, "to", "ordered"),
        ({"basis": "x"}, "basis", "basis"),
        ({"resume": "x"}, "resume", "resume"),
        ({"limit": 0}, "limit", "count"),
    ],
)
def test_a_malformed_request_is_refused(world: World, changes: dict[str, Any], field: str, rule: str) -> None:
    world.send("PUT", "/api/v1/rules/{rules}", LEARNING, "admin", **FX)
    answer = world.send("POST", LEARN, {**RANGE, **changes}, **FX)
    assert (answer.status, [(v["field"], v["rule"]) for v in answer.json["violations"]]) == (
        400,
        [(field, rule)],
    )


def test_rules_that_weigh_nobody_have_nothing_to_learn(world: World) -> None:
    answer = world.send("POST", LEARN, RANGE, **FX)
    assert answer.json["violations"][0]["rule"] == "learning-method"
