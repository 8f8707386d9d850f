"""Rules in use by REST: where each field comes from, versions, differences, trying and applying."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.world import BASE, RULES, SERIES, World

pytestmark = pytest.mark.integration
FIRST, SECOND, THIRD = (f"2026-01-{day:02}T13:15:00Z" for day in (5, 6, 7))
RANGE = {"from": "2026-01-05", "to": "2026-01-08"}
TRY, APPLY = "/api/v1/rules/{rules}/what-if", "/api/v1/rules/{rules}/apply"
FX = {"rules": "fx"}


@pytest.fixture
def decided(world: World) -> World:
    """Three snaps: the best source alone against two that agree on the second one."""
    for day, ecb, others in ((5, "1.10", "1.10"), (6, "1.12", "1.11"), (7, "1.11", "1.11")):
        snap = f"2026-01-{day:02}"
        named = {"snap": snap, "reference_data_id": SERIES}
        world.claims(
            [{**named, "source": "ecb", "value": ecb}, {**named, "source": "vendor-a", "value": others}]
        )
    return world


def everything(world: World) -> list[Any]:
    """All that is stored, as text."""
    tables = ("events", "official_values", "decisions", "exceptions", "stream_heads", "catalogue")
    return world.stored(tables)


def candidate(**changes: Any) -> dict[str, Any]:
    return {"definition": {**RULES, **changes}, **RANGE}


def test_the_rules_of_a_series_are_told_with_their_origin_and_as_they_were_known(world: World) -> None:
    before = world.log()[-1].recorded_at.isoformat()
    world.send("PUT", "/api/v1/rules/{rules}", {"level": "house", "tolerance": "0.5"}, rules="house")
    child = {k: v for k, v in RULES.items() if k != "tolerance"} | {"extends": "house"}
    assert world.send("PUT", "/api/v1/rules/{rules}", child, rules="fx").status == 200
    told = world.get(f"{BASE}/rules", SERIES, snap="2026-01-05").json
    origin = {f["field"]: (f["value"], f["rules"], f["version"]) for f in told["fields"]}
    assert origin["tolerance"] == ("0.5", "house", 1)
    assert origin["fallback"] == ("hold", "fx", 2)
    assert [layer["rules"] for layer in told["chain"]] == ["fx", "house"]
    then = world.get(f"{BASE}/rules", SERIES, snap="2026-01-05", asOf=before).json
    assert {f["field"]: f["value"] for f in then["fields"]}["tolerance"] == "0.001"


def test_versions_are_listed_and_compared(world: World) -> None:
    world.send("PUT", "/api/v1/rules/{rules}", {**RULES, "min_sources": 2}, "bob", rules="fx")
    listed = world.get("/api/v1/rules/{rules}/versions", "fx").json["items"]
    assert [(v["version"], v["by"]) for v in listed] == [(2, "bob"), (1, "admin")]
    told = world.get("/api/v1/rules/{rules}/diff", "fx", from_="1", to="2").json
    assert [(d["field"], d["before"], d["after"]) for d in told["differences"]] == [("min_sources", 1, 2)]
    assert world.get("/api/v1/rules/{rules}/diff", "fx", from_="1", to="3").status == 404


def test_the_rules_in_force_tried_on_history_change_nothing(decided: World) -> None:
    told = decided.send("POST", TRY, RANGE, **FX).json
    assert told["report"]["values"] == 3
    assert told["changes"] == []
    assert told["resume"] is None


def test_a_candidate_is_compared_with_what_is_published_and_nothing_is_stored(decided: World) -> None:
    decided.claim("2026-01-06", "1.11", "vendor-b")
    before = everything(decided)
    whole = decided.send(
        "POST", TRY, candidate(precedence=["vendor-b", "vendor-a"], min_sources=2), **FX
    ).json
    assert everything(decided) == before
    assert [(c["snap"], c["change"], c["published"], c["candidate"]) for c in whole["changes"]] == []
    strict = decided.send("POST", TRY, candidate(min_sources=3), **FX).json
    assert {c["snap"]: c["change"] for c in strict["changes"]} == {FIRST: "newly-held", THIRD: "newly-held"}
    assert strict["report"]["coverage"] == {"published": "1.0000", "candidate": "0.3333"}
    assert everything(decided) == before


def test_a_range_in_parts_gives_the_report_of_the_whole(decided: World) -> None:
    body = candidate(tolerance="0.05")
    whole = decided.send("POST", TRY, body, **FX).json
    assert [(c["snap"], c["change"]) for c in whole["changes"]] == [(SECOND, "newly-published")]
    changes, resume = [], None
    for _ in range(20):
        part = decided.send("POST", TRY, {**body, "limit": 1, "resume": resume}, **FX).json
        changes += part["changes"]
        resume = part["resume"]
        if resume is None:
            break
    assert (changes, part["report"]) == (whole["changes"], whole["report"])


def test_a_candidate_with_a_resolver_that_is_not_installed_is_refused_as_when_it_is_put(world: World) -> None:
    unknown = {**RULES, "conflict": "nobody"}
    tried = world.send("POST", TRY, {"definition": unknown, **RANGE}, **FX)
    put = world.send("PUT", "/api/v1/rules/{rules}", unknown, **FX)
    assert (tried.status, tried.json["violations"]) == (put.status, put.json["violations"])
    assert tried.json["violations"][0]["rule"] == "known-resolver"


def test_a_forged_place_is_refused(decided: World) -> None:
    for resume in ("x", "e30=", "W10=", "WyJYIiwgIngiLCBudWxsLCB7fV0="):
        answer = decided.send("POST", TRY, {**RANGE, "resume": resume}, **FX)
        assert (answer.status, answer.json["violations"][0]["rule"]) == (400, "resume")


def test_changed_rules_decide_nothing_until_they_are_applied(decided: World) -> None:
    decided.send("PUT", "/api/v1/rules/{rules}", {**RULES, "tolerance": "0.05"}, **FX)
    assert decided.get(f"{BASE}/official", SERIES, snap="2026-01-06").status == 404
    predicted = decided.send("POST", TRY, RANGE, **FX).json["report"]["counts"]
    assert predicted["newly-published"] == 1
    body = {**RANGE, "reason": "tolerance was too narrow", "limit": 2}
    first = decided.send("POST", APPLY, body, "bob", **FX).json
    assert (first["decided"], first["next"]) == (2, {"series": SERIES, "snap": SECOND})
    second = decided.send("POST", APPLY, {**body, "after": first["next"]}, "bob", **FX).json
    assert (second["decided"], second["next"]) == (1, None)
    assert first["published"] + second["published"] == 1
    assert decided.get(f"{BASE}/official", SERIES, snap="2026-01-06").json["value"] == "1.12"
    applied = [e for e in decided.log() if e.type == "RulesApplied"]
    assert [(e.actor, e.data["reason"], e.data["decided"]) for e in applied] == [
        ("bob", "tolerance was too narrow", 2),
        ("bob", "tolerance was too narrow", 1),
    ]
    again = decided.send("POST", APPLY, {**RANGE, "reason": "again"}, "bob", **FX).json
    assert (again["restated"], again["published"], again["held"]) == (0, 0, 0)


def test_a_published_value_that_rules_change_is_restated_with_that_cause(decided: World) -> None:
    rules = {**RULES, "precedence": ["vendor-a"], "tolerance": "0.05"}
    decided.claim("2026-01-05", "1.1001", "vendor-a", received_at="2026-01-05T14:00:00Z")
    decided.send("PUT", "/api/v1/rules/{rules}", rules, **FX)
    assert decided.send("POST", APPLY, {**RANGE, "reason": "vendor first"}, **FX).json["restated"] == 1
    now = decided.get(f"{BASE}/official", SERIES, snap="2026-01-05").json
    assert (now["value"], now["restatement"]["cause"]) == ("1.1001", "rules")


@pytest.mark.parametrize(
    ("changes", "field", "rule"),
    [
        ({"to": "2026-01-01"}, "to", "ordered"),
        ({"limit": 0}, "limit", "count"),
        ({"limit": 2001}, "limit", "count"),
        ({"series": ["PX.NONE"]}, "series", "under-rules"),
        ({"series": "PX.ACME"}, "series", "distinct-list"),
        ({"reason": ""}, "reason", "text"),
        ({"after": {"series": SERIES}}, "after.snap", "required"),
    ],
)
def test_a_malformed_request_to_apply_is_refused(
    world: World, changes: dict[str, Any], field: str, rule: str
) -> None:
    answer = world.send("POST", APPLY, {**RANGE, "reason": "test", **changes}, **FX)
    assert answer.status == 400
    assert [(v["field"], v["rule"]) for v in answer.json["violations"]] == [(field, rule)]


def test_rules_that_are_not_registered_are_not_found(world: World) -> None:
    for resource, body in ((TRY, RANGE), (APPLY, {**RANGE, "reason": "test"})):
        assert world.send("POST", resource, body, rules="none").status == 404
    assert world.get("/api/v1/rules/{rules}/versions", "none").status == 404


def test_a_candidate_under_another_name_is_refused(world: World) -> None:
    answer = world.send("POST", TRY, {"definition": {**RULES, "rules": "other"}, **RANGE}, **FX)
    assert answer.json["violations"][0]["field"] == "definition.rules"
