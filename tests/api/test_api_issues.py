"""Issues on a real database: from held values to a decision, and the read models that follow."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from qis.adapters.postgres import rebuild
from qis.application.relay import backbone_record
from tests.api.events import followed
from tests.api.world import INTRADAY, World, reading
from tests.support.databases import FreshDatabase

ISSUES, ONE = "/api/v1/issues", "/api/v1/issues/{issue}"
OFFICIAL = "/api/v1/data/reference/{id}/official"


def watched(world: World, later: timedelta = timedelta(0)) -> int:
    """What the quality function does with all events so far; then the scheduler runs."""
    now = datetime.now(UTC) + later
    events = [json.loads(backbone_record(e)[1]) for e in world.log()]
    return world.watch.follow(events, now) + world.watch.tick(now)


def spikes(world: World) -> None:
    """One vendor's values of three snaps are far off, each its own way; nobody else says anything."""
    world.claim("2026-01-05T09:00:00Z", "100", "vendor-a", INTRADAY)
    for minute, value in enumerate(("1000", "5000", "30000"), 1):
        world.claim(f"2026-01-05T09:0{minute}:00Z", value, "vendor-a", INTRADAY)


def issue(world: World, status: str = "open") -> dict[str, Any]:
    found = world.get(ISSUES, status=status).json["items"]
    assert len(found) == 1
    one: dict[str, Any] = found[0]
    return one


def test_held_values_of_one_vendor_are_one_issue_with_their_evidence(world: World) -> None:
    spikes(world)
    assert watched(world) == 2, "opened and alerted"
    assert watched(world) == 0, "what is delivered again changes nothing"
    found = issue(world)
    assert (found["kind"], found["scope"]) == ("spike", "source/vendor-a")
    assert (found["status"], found["severity"], found["open"], found["series"]) == ("detected", "high", 3, 1)
    assert found["opened_at"].endswith("Z")
    assert world.get(ONE, found["issue"]).json == found
    first = reading(f"{ONE}/items", found["issue"], limit="2")
    page = world.call(first).json
    last = world.call(followed(first, page["next"])).json
    assert (len(page["items"]), len(last["items"]), last["next"]) == (2, 1, None)
    item = page["items"][0]
    assert item["checks"][0]["check"] == "spike"
    assert item["checks"][0]["threshold"] == "0.05"


@pytest.mark.parametrize(("what", "value"), [("approve", "1000"), ("correct", None)])
def test_two_people_decide_and_every_value_follows(world: World, what: str, value: str | None) -> None:
    spikes(world)
    watched(world)
    id_ = issue(world)["issue"]
    why = {"reason": "seen on the tape"}
    assert world.send("POST", f"{ONE}/{what}", why, issue=id_).status == 409
    assert world.send("POST", f"{ONE}/triage", why, "ann", issue=id_).status == 200
    assert world.send("POST", f"{ONE}/{what}", why, "ann", issue=id_).status == 403
    assert world.send("POST", f"{ONE}/{what}", why, "feed", issue=id_).status == 403
    done = world.send("POST", f"{ONE}/{what}", why, "bob", issue=id_)
    assert done.status == 200, done.text
    assert (done.json["decided"], done.json["left"]) == (3, [])
    closed = issue(world, "closed")
    assert closed["resolution"] == {"approve": "approved", "correct": "corrected"}[what]
    reply = world.get(OFFICIAL, INTRADAY, snap="2026-01-05T09:01:00Z")
    assert reply.json.get("value") == value
    assert world.get("/api/v1/exceptions").json["items"] == []
    assert watched(world) == 0, "decisions on its exceptions do not open it again"


def test_a_right_value_that_comes_later_ends_the_issue_by_itself(world: World) -> None:
    spikes(world)
    watched(world)
    for minute in range(1, 4):
        at = f"2026-01-05T09:0{minute}:00Z"
        world.claim(at, f"100.{minute}", "vendor-a", INTRADAY, received_at="2026-01-05T10:00:00Z")
    assert watched(world) == 1
    assert issue(world)["open"] == 0
    assert watched(world, timedelta(minutes=3)) == 1
    assert issue(world, "closed")["resolution"] == "recovered"


def test_snooze_and_what_is_refused(world: World) -> None:
    spikes(world)
    watched(world)
    id_ = issue(world)["issue"]
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    reply = world.send("POST", f"{ONE}/snooze", {"until": until, "reason": "later"}, issue=id_)
    assert reply.json["events"][0]["status"] == "snoozed"
    assert issue(world, "snoozed")["snoozed_until"] == until.replace("+00:00", "Z")
    assert world.get(ISSUES, status="detected").json["items"] == []
    assert watched(world, timedelta(minutes=30)) == 0
    assert watched(world, timedelta(minutes=61)) == 1
    for body in ({"until": "2020-01-01T00:00:00Z", "reason": "x"}, {"until": "soon", "reason": "x"}, {}):
        assert world.send("POST", f"{ONE}/snooze", body, issue=id_).status == 400
    nothing = "00000000-0000-0000-0000-00000000000a"
    assert world.get(ONE, nothing).status == 404
    assert world.get(f"{ONE}/items", nothing).status == 404
    assert world.send("POST", f"{ONE}/triage", {"reason": "x"}, issue=nothing).status == 404
    assert world.get(ISSUES, status="lost").status == 400


def test_the_read_models_are_what_the_log_gives(world: World, database: FreshDatabase) -> None:
    spikes(world)
    watched(world)
    watched(world, timedelta(minutes=6))
    with database.connect() as connection:
        for model in ("issues", "issue_items", "exceptions"):
            found = rebuild.check(connection, model)
            assert found.equal, found
            assert found.rows
            assert rebuild.rebuild(connection, model).equal
    assert issue(world)["escalated"] is True
