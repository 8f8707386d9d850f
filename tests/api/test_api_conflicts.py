"""Two people correct one value by REST, each having seen the same version of it."""

from __future__ import annotations

import pytest

from tests.api.world import BASE, SERIES, Reply, World

pytestmark = pytest.mark.integration
RESTATE = f"{BASE}/restate"


def test_the_second_of_two_corrections_from_one_basis_is_an_exception_that_shows_both(world: World) -> None:
    world.claim("2026-01-05", "1.10")
    body = {"snap": "2026-01-05", "reason": "typing error", "official_version": 1}
    first = world.send("POST", RESTATE, {**body, "value": "1.1001"}, "ann@example.com", id=SERIES)
    assert [e["type"] for e in first.json["events"]] == ["DataRestated"]
    second = world.send("POST", RESTATE, {**body, "value": "1.1002"}, "bob", id=SERIES)
    assert [e["type"] for e in second.json["events"]] == ["QualityIssueDetected"]
    (item,) = world.get("/api/v1/exceptions").json["items"]
    assert (item["kind"], item["proposed"]) == ("conflict", "1.1002")
    assert [(s["value"], s["by"]) for s in item["siblings"]] == [
        ("1.1001", "ann@example.com"),
        ("1.1002", "bob"),
    ]
    assert item["submitters"] == ["ann@example.com", "bob"]
    approve = "/api/v1/exceptions/{item}/approve"
    assert world.send("POST", approve, None, "bob", item=item["item"]).status == 403
    done = world.send("POST", approve, None, "cid", item=item["item"]).json
    assert [e["type"] for e in done["events"]] == ["QualityApproved", "DataRestated"]
    assert world.get(f"{BASE}/official", SERIES, snap="2026-01-05").json["value"] == "1.1002"


def test_the_approver_says_which_of_the_siblings_is_right(world: World) -> None:
    world.claim("2026-01-05", "1.10")
    body = {"snap": "2026-01-05", "reason": "typing error", "official_version": 1}
    for value, by in (("1.1001", "ann"), ("1.1002", "bob"), ("1.1003", "cid")):
        world.send("POST", RESTATE, {**body, "value": value}, by, id=SERIES)
    (waiting,) = world.get("/api/v1/exceptions").json["items"]

    def approve(body: object, by: str) -> Reply:
        return world.send("POST", "/api/v1/exceptions/{item}/approve", body, by, item=waiting["item"])

    for refused, rule in (
        ({"value": "1.2"}, "waiting-value"),
        ({"value": None}, "required"),
        ({}, "required"),
    ):
        answer = approve(refused, "dan")
        assert (answer.status, answer.json["violations"][0]["rule"]) == (400, rule)
    assert approve({"value": "1.1003"}, "bob").status == 403
    done = approve({"value": "1.1002"}, "dan").json
    assert [(e["type"], e["value"]) for e in done["events"]] == [
        ("QualityApproved", "1.1002"),
        ("DataRestated", "1.1002"),
    ]
    official = world.get(f"{BASE}/official", SERIES, snap="2026-01-05").json
    assert (official["value"], official["restated"]) == ("1.1002", True)
    assert official["restatement"]["restated_by"] == "dan"
    assert world.get("/api/v1/exceptions").json["items"] == []


def test_rules_with_an_unknown_resolver_are_refused(world: World) -> None:
    body = {"rules": "house", "level": "house", "conflict": "coin-toss"}
    answer = world.send("PUT", "/api/v1/rules/{rules}", body, rules="house")
    assert answer.status == 400
    (violation,) = answer.json["violations"]
    assert (violation["field"], violation["value"], violation["rule"]) == (
        "conflict",
        "coin-toss",
        "known-resolver",
    )


@pytest.mark.parametrize("version", ["1", 0, 1.5, True])
def test_a_malformed_version_is_refused(world: World, version: object) -> None:
    world.claim("2026-01-05", "1.10")
    body = {"snap": "2026-01-05", "value": "1.1", "reason": "x", "official_version": version}
    answer = world.send("POST", RESTATE, body, id=SERIES)
    assert (answer.status, answer.json["violations"][0]["rule"]) == (400, "count")
