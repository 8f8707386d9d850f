"""Business rules on a real database: tried on history, put in force, found, corrected, found no longer."""

from __future__ import annotations

import json
from typing import Any

from qis.application.relay import backbone_record
from tests.api.world import INTRADAY, World

CHECK, TRIAL = "/api/v1/checks/{check}", "/api/v1/trials"
MOVES = {
    "name": "No large move",
    "expression": "abs(value / previous - 1) <= 0.1",
    "severity": "high",
    "series": ["PX.*"],
}


def followed(world: World) -> int:
    """What the quality function does with all events so far."""
    return world.quality.follow([json.loads(backbone_record(e)[1]) for e in world.log()])


def values(world: World) -> None:
    """Two sources agree on each value, so that large moves are believed and published."""
    for minute, value in enumerate(("100", "101", "150", "151")):
        for source in ("ecb", "vendor-a"):
            world.claim(f"2026-01-05T09:0{minute}:00Z", value, source, INTRADAY)


def findings(world: World) -> list[tuple[str, str]]:
    items = world.get("/api/v1/exceptions").json["items"]
    return [(i["kind"], i["snap"]) for i in items]


def trial(world: World, **changes: Any) -> Any:
    event_body = {"check": "moves", **MOVES, **changes}
    return world.send("POST", TRIAL, event_body, query={"from": "2026-01-05", "to": "2026-01-06"})


def test_a_rule_is_tried_before_it_is_in_force_and_then_finds_what_the_trial_told(world: World) -> None:
    values(world)
    followed(world)
    reply = trial(world)
    assert reply.status == 200, reply.text
    told = reply.json
    assert (told["series"], told["values"], told["kept"], told["unknown"], told["broken"]) == (1, 4, 2, 1, 1)
    (row,) = told["items"]
    assert row["snap"] == "2026-01-05T09:02:00Z"
    assert row["measured"] | {"low": "150", "high": "150", "sources": "2"} == row["measured"]
    assert (row["measured"]["value"], row["measured"]["previous"]) == ("150", "101")
    assert findings(world) == [], "a trial has no effect"
    assert world.send("PUT", CHECK, MOVES, check="moves").status == 200
    assert world.get("/api/v1/checks").json["items"][0]["definition"]["active"] is True
    followed(world)
    assert findings(world) == [("rule-moves", "2026-01-05T09:02:00Z")]
    assert followed(world) == 0


def test_a_corrected_value_is_checked_again_by_itself(world: World) -> None:
    assert world.send("PUT", CHECK, MOVES, check="moves").status == 200
    values(world)
    followed(world)
    assert findings(world) == [("rule-moves", "2026-01-05T09:02:00Z")]
    where = "/api/v1/data/reference/{id}/restate"
    body = {"snap": "2026-01-05T09:02:00Z", "value": "102", "reason": "bad tape"}
    assert world.send("POST", where, body, "alice", id=INTRADAY).status == 200
    followed(world)
    assert findings(world) == [("rule-moves", "2026-01-05T09:03:00Z")], "now the next one moves"
    assert world.send("PUT", CHECK, {**MOVES, "active": False}, check="moves").status == 200
    world.claim("2026-01-05T09:03:00Z", "151", "vendor-b", INTRADAY)
    followed(world)
    assert findings(world) == [], "a rule that is not active finds nothing, and takes back what it is asked"


def test_a_rule_may_speak_of_another_series(world: World) -> None:
    values(world)
    world.claim("2026-01-05", "1.03", "ecb")
    body = {"expression": 'value <= official("FX.EUR.USD.ECB1415")'}
    told = trial(world, **body).json
    assert (told["values"], told["unknown"]) == (4, 4)


def test_what_is_no_rule_is_refused_where_it_is_stored_and_where_it_is_tried(world: World) -> None:
    for body in ({**MOVES, "expression": "value"}, {**MOVES, "expression": "open('x') > 0"}, {}):
        assert world.send("PUT", CHECK, body, check="moves").status == 400
    assert trial(world, expression="value ** 9 > 1").status == 400
    assert world.get(CHECK, "moves").status == 404
