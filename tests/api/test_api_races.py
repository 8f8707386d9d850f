"""People who decide on one value at the same moment, on a real database: one decision, never half of two."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.api.world import BASE, INTRADAY, Reply, World
from tests.support.databases import FreshDatabase

ROUNDS = 25
OFFICIAL = f"{BASE}/official"
ITEM = "/api/v1/exceptions/{item}"

Act = Callable[[World, str, str], Reply]
"""What a person does: with the exception and its snap."""


def approve(by: str) -> Act:
    return lambda world, item, _: world.send("POST", f"{ITEM}/approve", None, subject=by, item=item)


def reject(by: str) -> Act:
    body = {"reason": "no"}
    return lambda world, item, _: world.send("POST", f"{ITEM}/reject", body, subject=by, item=item)


def moment(number: int) -> str:
    return (datetime(2026, 1, 5, 9, 0, tzinfo=UTC) + timedelta(minutes=number)).isoformat()


def race(database: FreshDatabase, first: Act, second: Act) -> tuple[World, list[tuple[str, list[Reply]]]]:
    """Both act on each of many held values at the same moment. The answers by snap."""
    worlds = [World(database.app).populate(), World(database.another())]
    world = worlds[0]
    world.claim(moment(0), "100", "ecb", INTRADAY)
    # Each stands so far off that it is held, whatever is decided on those before it.
    values = [f"{1000 * 3**n}" for n in range(1, ROUNDS + 1)]
    for number, value in enumerate(values, 1):
        world.claim(moment(number), value, "ecb", INTRADAY)
    barrier = threading.Barrier(2, timeout=60)
    answers = []
    with ThreadPoolExecutor(2) as pool:
        for number in range(ROUNDS, 0, -1):
            snap = moment(number)
            item = world.get(OFFICIAL, INTRADAY, snap=snap).json["item"]

            def act(what: Act, who: World, item: str = item, snap: str = snap) -> Reply:
                barrier.wait()
                return what(who, item, snap)

            answers.append((snap, list(pool.map(act, (first, second), worlds))))
    assert [w.faults.seen for w in worlds] == [[], []]
    return world, answers


def events_of(world: World, snap: str) -> Counter[str]:
    return Counter(e.type for e in world.log() if _same(e.data.get("snap"), snap))


def _same(snap: Any, wanted: str) -> bool:
    return isinstance(snap, str) and datetime.fromisoformat(snap) == datetime.fromisoformat(wanted)


@pytest.mark.parametrize(
    ("first", "second"),
    [(approve("bob"), approve("carol")), (approve("bob"), reject("carol"))],
    ids=["two approve", "one approves and one rejects"],
)
def test_of_two_who_decide_on_a_held_value_exactly_one_does(
    database: FreshDatabase, first: Act, second: Act
) -> None:
    world, answers = race(database, first, second)
    for snap, (one, other) in answers:
        assert sorted([one.status, other.status]) == [200, 409], (one.text, other.text)
        events = events_of(world, snap)
        assert events["QualityApproved"] + events["QualityRejected"] == 1
        assert events["DataPublished"] == events["QualityApproved"]
        held = world.get(OFFICIAL, INTRADAY, snap=snap)
        assert held.status == (200 if events["QualityApproved"] else 404)
