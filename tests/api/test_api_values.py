"""Reading values on a real database."""

from __future__ import annotations

import csv
import io
import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from qis.adapters.postgres import receipts
from qis.application import queries
from qis.domain.snap import Snap
from tests.api.events import followed
from tests.api.world import BASE, INTRADAY, SERIES, World, reading
from tests.support.databases import FreshDatabase

SNAP = "2026-01-05T13:15:00Z"
OFFICIAL, HISTORICAL = f"{BASE}/official", f"{BASE}/historical"


def settled(world: World) -> str:
    """The present moment of the database's clock, when all before it is settled."""
    world.reads.settle()
    return world.reads.moment().clock.isoformat()


def test_an_official_value_carries_its_digits_semantics_and_provenance(world: World) -> None:
    world.claim("2026-01-05", "1.03120", received_at="2026-01-05T15:00:00Z")
    reply = world.get(OFFICIAL, snap="2026-01-05")
    assert reply.status == 200, reply.text
    body = reply.json
    assert body["value"] == "1.03120"
    assert (body["kind"], body["currency"], body["base_currency"]) == ("fx_rate", "USD", "EUR")
    assert body["snap"] == SNAP
    assert (body["status"], body["version"], body["restated"], body["restatement"]) == (
        "official",
        1,
        False,
        None,
    )
    assert body["sources"] == ["ecb"]
    assert body["quality"]["accuracy"] == "1.0000"
    assert reply.headers["ETag"].startswith('"')
    assert reply.headers["Content-Type"] == "application/json; charset=utf-8"
    assert world.get(OFFICIAL, snap="2026-01-05", basis=reply.headers["Qis-Basis"]).text == reply.text
    assert world.get(OFFICIAL, snap="2026-01-05", basis=body["basis"]).text == reply.text


def test_the_old_answer_is_given_byte_for_byte_after_a_restatement(world: World) -> None:
    world.claim("2026-01-05", "1.0312")
    before = world.get(OFFICIAL, snap="2026-01-05")
    moment = settled(world)
    restated = world.send(
        "POST", f"{BASE}/restate", {"snap": "2026-01-05", "value": "1.0313", "reason": "typo"}, id=SERIES
    )
    assert restated.status == 200, restated.text
    after = world.get(OFFICIAL, snap="2026-01-05").json
    assert (after["value"], after["version"], after["restated"]) == ("1.0313", 2, True)
    assert after["restatement"] == {
        "cause": "correction",
        "reason": "typo",
        "restated_by": "alice",
        "before": {"value": "1.0312", "official_version": 1},
    }
    as_of = world.get(OFFICIAL, snap="2026-01-05", asOf=moment)
    assert as_of.text == before.text
    assert as_of.headers["ETag"] == before.headers["ETag"]
    assert world.get(OFFICIAL, snap="2026-01-05", basis=before.headers["Qis-Basis"]).text == before.text
    csv_before = world.get(OFFICIAL, snap="2026-01-05", asOf=moment, format="csv").text
    assert "1.0312" in csv_before
    assert "typo" not in csv_before


def test_as_of_is_exact_at_both_ends_of_a_version(world: World) -> None:
    world.claim("2026-01-05", "1.0312")
    world.claim("2026-01-05", "1.0313", received_at="2026-01-05T14:00:00Z")
    versions = world.get(f"{BASE}/explain", snap="2026-01-05").json["versions"]
    assert [v["value"] for v in versions] == ["1.0312", "1.0313"]
    world.reads.settle()
    first, second = (datetime.fromisoformat(v["recorded_from"]) for v in versions)
    tick = timedelta(microseconds=1)
    for moment, expected in ((first, "1.0312"), (second - tick, "1.0312"), (second, "1.0313")):
        assert world.get(OFFICIAL, snap="2026-01-05", asOf=moment.isoformat()).json["value"] == expected
    early = world.get(OFFICIAL, snap="2026-01-05", asOf=(first - tick).isoformat())
    assert (early.status, early.json["reason"]) == (404, "not-yet-reconciled")


def test_what_was_not_known_then_is_not_told(world: World) -> None:
    moment = settled(world)
    world.claim("2026-01-05", "1.0312")
    reply = world.get(OFFICIAL, snap="2026-01-05", asOf=moment)
    assert (reply.status, reply.json["reason"]) == (404, "not-known-at-as-of")
    assert "1.03" not in reply.text
    never = world.get(OFFICIAL, snap="2026-01-07", asOf=moment)
    differing = {k for k in reply.json if reply.json[k] != never.json[k]}
    assert differing == {"detail", "correlation_id"}


def test_an_unchanged_value_is_answered_with_304_and_no_body(world: World) -> None:
    world.claim("2026-01-05", "1.0312")
    reply = world.get(OFFICIAL, snap="2026-01-05")
    event = reading(OFFICIAL, snap="2026-01-05")
    event["multiValueHeaders"]["If-None-Match"] = [f'"other", W/{reply.headers["ETag"]}']
    again = world.call(event)
    assert (again.status, again.text) == (304, "")
    assert again.headers["ETag"] == reply.headers["ETag"]


@pytest.mark.parametrize(
    ("query", "field", "rule"),
    [
        ({"snap": "2026-01-05T13:15:00"}, "snap", "aware-time"),
        ({"snap": "2026-01-05T13:16:00Z"}, "snap", "snap-time"),
        ({"snap": "yesterday"}, "snap", "iso-8601"),
        ({"snap": "2026-01-05T14:15:00.5 01:00"}, "snap", "offset"),
        ({"snap": "2026-01-05", "asOf": "2026-01-05T14:15 0100"}, "asOf", "offset"),
        ({}, "snap", "required"),
        ({"snap": "2026-01-05", "asOf": "2199-01-01T00:00:00Z"}, "asOf", "as-of-future"),
        ({"snap": "2026-01-05", "asOf": "2026-01-01"}, "asOf", "iso-8601"),
        ({"snap": "2026-01-05", "basis": "tomorrow"}, "basis", "basis"),
        ({"snap": "2026-01-05", "basis": "9223372036854775000.1"}, "basis", "basis-future"),
        ({"snap": "2026-01-05", "basis": "99999999999999999999.1"}, "basis", "basis"),
        ({"snap": "2026-01-05", "basis": "9999999999999999999.1"}, "basis", "basis"),
        ({"snap": "2026-01-05", "basis": "1.1", "asOf": "2026-01-01T00:00:00Z"}, "basis", "exclusive"),
        ({"snap": "2026-01-05", "format": "xml"}, "format", "choice"),
        ({"snap": "2026-01-05", "granularity": "day"}, "granularity", "known-parameter"),
    ],
)
def test_a_bad_parameter_is_named_with_its_rule(
    world: World, query: dict[str, str], field: str, rule: str
) -> None:
    reply = world.get(OFFICIAL, **query)
    assert reply.status == 400, reply.text
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert reply.json["type"] == "urn:qis:problem:invalid-input"
    assert [(v["field"], v["rule"]) for v in reply.json["violations"]] == [(field, rule)]


def test_no_data_says_why(world: World) -> None:
    def why(id_: str = SERIES) -> tuple[int, str]:
        reply = world.get(OFFICIAL, id_, snap="2026-01-05T13:15:00Z")
        return reply.status, reply.json["reason"]

    assert why("NO.SUCH") == (404, "unknown-series")
    assert why() == (404, "no-claims-yet")
    claim = {"snap": "2026-01-05", "value": "1.03", "source": "ecb", "reference_data_id": SERIES}
    world.ingest.submit([claim], "feed", "c", None)
    assert why() == (404, "not-yet-reconciled")


def test_too_few_sources_are_the_reason(world: World) -> None:
    world.register.rules(
        {
            "rules": "fx",
            "precedence": ["ecb"],
            "method": "precedence",
            "tolerance": "0.001",
            "min_sources": 2,
            "fallback": "hold",
        },
        "admin",
        "c",
    )
    world.claim("2026-01-05", "1.03")
    reply = world.get(OFFICIAL, snap="2026-01-05")
    assert (reply.status, reply.json["reason"]) == (404, "insufficient-sources")
    assert "1 usable of 2" in reply.json["detail"]


def test_a_held_value_names_its_exception_and_is_out_once_approved(world: World) -> None:
    world.claim("2026-01-05", "1.03")
    world.claim("2026-01-06", "1.50")
    held = world.get(OFFICIAL, snap="2026-01-06")
    assert (held.status, held.json["reason"]) == (404, "held-for-review")
    item = held.json["item"]
    queue = world.get("/api/v1/exceptions").json["items"]
    assert [(e["item"], e["status"], e["proposed"]) for e in queue] == [(item, "open", "1.50")]
    refused = world.send("POST", "/api/v1/exceptions/{item}/approve", None, subject="feed", item=item)
    assert (refused.status, refused.json["type"]) == (403, "urn:qis:problem:four-eyes")
    approved = world.send("POST", "/api/v1/exceptions/{item}/approve", None, subject="bob", item=item)
    assert approved.status == 200, approved.text
    assert world.get(OFFICIAL, snap="2026-01-06").json["value"] == "1.50"
    assert world.get("/api/v1/exceptions").json["items"] == []
    one = world.get("/api/v1/exceptions/{item}", item).json
    assert (one["status"], one["closed_by"]) == ("approved", "bob")
    again = world.send("POST", "/api/v1/exceptions/{item}/reject", {"reason": "no"}, subject="bob", item=item)
    assert again.status == 409


def test_a_restatement_that_is_held_says_what_it_was_measured_against(world: World) -> None:
    world.claim("2026-01-05", "1.03")
    world.claim("2026-01-06", "1.04")
    body = {"snap": "2026-01-06", "value": "9.9", "reason": "typo"}
    held = world.send("POST", f"{BASE}/restate", body, id=SERIES)
    assert held.status == 200, held.text
    (event,) = held.json["events"]
    assert [c["check"] for c in event["checks"] if not c["passed"]] == ["spike"]


def history_of(world: World, days: int) -> list[str]:
    start = datetime(2026, 1, 5, 13, 15, tzinfo=UTC)
    claims = [
        {
            "snap": (start + timedelta(hours=6 * n)).isoformat(),
            "value": f"100.{n:04d}0",
            "source": "ecb",
            "reference_data_id": INTRADAY,
        }
        for n in range(4 * days)
    ]
    world.claims(claims)
    return [c["value"] for c in claims]


def test_pages_hold_everything_once_and_are_not_disturbed_by_restatements(world: World) -> None:
    values = history_of(world, 5)
    event = reading(HISTORICAL, INTRADAY, from_="2026-01-01", to="2026-02-01", limit="7")
    pages = [world.call(event)]
    world.send(
        "POST",
        f"{BASE}/restate",
        {"snap": "2026-01-09T13:15:00Z", "value": "101", "reason": "late"},
        id=INTRADAY,
    )
    while (link := pages[-1].json["next"]) is not None:
        assert pages[-1].headers["Link"] == f'<{link}>; rel="next"'
        pages.append(world.call(followed(event, link)))
    assert [i["value"] for p in pages for i in p.json["items"]] == values
    assert {p.headers["Qis-Basis"] for p in pages} == {pages[0].headers["Qis-Basis"]}
    assert [len(p.json["items"]) for p in pages] == [7, 7, 6]
    fresh = world.get(HISTORICAL, INTRADAY, from_="2026-01-01", to="2026-02-01").json
    assert fresh["next"] is None
    assert "101" in [i["value"] for i in fresh["items"]]


def test_csv_pages_carry_the_link_in_a_header_and_the_same_values(world: World) -> None:
    values = history_of(world, 3)
    event = reading(HISTORICAL, INTRADAY, from_="2026-01-01", to="2026-02-01", limit="5", format="csv")
    found: list[str] = []
    while True:
        reply = world.call(event)
        assert reply.headers["Content-Type"] == "text/csv; charset=utf-8"
        found += [row["value"] for row in csv.DictReader(io.StringIO(reply.text))]
        link = reply.headers.get("Link")
        if link is None:
            break
        event = followed(event, link.split(">")[0][1:])
    assert found == values


@pytest.mark.parametrize(
    ("granularity", "periods"), [("day", "%Y-%m-%d"), ("week", "%G-%V"), ("month", "%Y-%m")]
)
def test_granularity_gives_the_last_value_of_each_period(
    world: World, granularity: str, periods: str
) -> None:
    history_of(world, 40)
    everything = world.get(HISTORICAL, INTRADAY, from_="2026-01-01", to="2026-03-01").json["items"]
    last = {datetime.fromisoformat(i["snap"]).strftime(periods): i["snap"] for i in everything}
    event = reading(
        HISTORICAL, INTRADAY, from_="2026-01-01", to="2026-03-01", granularity=granularity, limit="2"
    )
    found = []
    while True:
        body = world.call(event).json
        found += [i["snap"] for i in body["items"]]
        if body["next"] is None:
            break
        event = followed(event, body["next"])
    assert found == list(last.values())


def test_history_as_of_a_moment_is_what_history_was(world: World) -> None:
    history_of(world, 2)
    query = {"from_": "2026-01-01", "to": "2026-02-01"}
    before = world.get(HISTORICAL, INTRADAY, **query)
    moment = settled(world)
    world.send(
        "POST",
        f"{BASE}/restate",
        {"snap": "2026-01-05T13:15:00Z", "value": "100.5", "reason": "r"},
        id=INTRADAY,
    )
    assert world.get(HISTORICAL, INTRADAY, **query).text != before.text
    assert world.get(HISTORICAL, INTRADAY, **query, asOf=moment).text == before.text
    assert world.get(HISTORICAL, INTRADAY, **query, basis=before.headers["Qis-Basis"]).text == before.text


def test_a_cursor_is_good_for_its_own_request_only(world: World) -> None:
    history_of(world, 3)
    event = reading(HISTORICAL, INTRADAY, from_="2026-01-01", to="2026-02-01", limit="5")
    link = world.call(event).json["next"]
    cursor = followed(event, link)["queryStringParameters"]["cursor"]
    for resource, id_, query in (
        (HISTORICAL, SERIES, {"cursor": cursor}),
        (f"{BASE}/audit", INTRADAY, {"cursor": cursor}),
        (HISTORICAL, INTRADAY, {"cursor": cursor + "AAAA"}),
        (HISTORICAL, INTRADAY, {"cursor": "W10"}),
        (HISTORICAL, INTRADAY, {"cursor": "\u00e9"}),
    ):
        reply = world.get(resource, id_, **query)
        assert (reply.status, reply.json["violations"][0]["rule"]) == (400, "cursor"), (resource, query)
    beside = world.get(HISTORICAL, INTRADAY, cursor=cursor, to="2026-03-01")
    assert beside.json["violations"][0]["rule"] == "cursor-alone"


def test_a_snapshot_equals_single_reads_on_its_basis(world: World) -> None:
    world.claim("2026-01-05", "1.0312")
    world.claim(SNAP, "42.00", id_=INTRADAY)
    reply = world.get("/api/v1/data/snapshot", ids=f"{SERIES},NO.SUCH,{INTRADAY}", snap=SNAP)
    assert reply.status == 200, reply.text
    first, missing, second = reply.json["items"]
    basis = reply.headers["Qis-Basis"]
    assert first == world.get(OFFICIAL, SERIES, snap=SNAP, basis=basis).json
    assert second == world.get(OFFICIAL, INTRADAY, snap=SNAP, basis=basis).json
    assert missing["problem"]["reason"] == "unknown-series"
    assert (
        world.get("/api/v1/data/snapshot", ids=f"{SERIES},NO.SUCH,{INTRADAY}", snap=SNAP, basis=basis).text
        == reply.text
    )
    naive = world.get("/api/v1/data/snapshot", ids=SERIES, snap="2026-01-05T13:15:00")
    assert (naive.status, naive.json["violations"][0]["rule"]) == (400, "aware-time")


def test_a_young_as_of_waits_for_a_transaction_in_flight(world: World, database: FreshDatabase) -> None:
    world.claim("2026-01-05", "1.0312")
    with database.connect() as writer:
        writer.execute("BEGIN")
        writer.execute("SELECT pg_current_xact_id()")
        moment = world.reads.moment().clock.isoformat()
        replies = []
        asking = threading.Thread(
            target=lambda: replies.append(
                World(database.another()).get(OFFICIAL, snap="2026-01-05", asOf=moment)
            )
        )
        asking.start()
        asking.join(0.3)
        assert asking.is_alive(), "answered while something could still be recorded before asOf"
        writer.execute("COMMIT")
    asking.join(5)
    assert replies[0].json["value"] == "1.0312"


def test_what_does_not_settle_is_not_answered(world: World, database: FreshDatabase) -> None:
    world.claim("2026-01-05", "1.0312")
    with database.connect() as writer:
        writer.execute("BEGIN")
        writer.execute("SELECT pg_current_xact_id()")
        moment = world.reads.moment().clock.isoformat()
        reply = world.get(OFFICIAL, snap="2026-01-05", asOf=moment)
        latest = world.get(OFFICIAL, snap="2026-01-05")
    assert (reply.status, reply.json["type"]) == (409, "urn:qis:problem:not-settled")
    assert reply.headers["Retry-After"] == "1"
    assert latest.status == 200


def test_explain_tells_who_said_what_and_why(world: World) -> None:
    world.claims(
        [
            {"snap": "2026-01-05", "value": v, "source": s, "reference_data_id": SERIES}
            for s, v in (("ecb", "1.0312"), ("vendor-a", "1.0313"), ("vendor-b", "1.2000"))
        ]
    )
    moment = settled(world)
    world.send(
        "POST", f"{BASE}/restate", {"snap": "2026-01-05", "value": "1.0311", "reason": "agency"}, id=SERIES
    )
    told = world.get(f"{BASE}/explain", snap="2026-01-05").json
    outcomes = {c["source"]: (c["outcome"], c["detail"]) for c in told["claims"]}
    assert outcomes["ecb"] == ("used", None)
    assert outcomes["vendor-b"][0] == "outside-tolerance"
    assert [(v["value"], v["cause"]) for v in told["versions"]] == [
        ("1.0312", None),
        ("1.0311", "correction"),
    ]
    assert told["decision"]["rules_version"] == 1
    assert told["claims"][0]["raw"].startswith("memory://")
    for words in (
        "EUR/USD",
        "1.0311 USD, version 2",
        "vendor-b said 1.2000",
        "Rule set fx version 1",
        "by alice: agency",
    ):
        assert words in told["explanation"]
    then = world.get(f"{BASE}/explain", snap="2026-01-05", asOf=moment).json
    assert then["value"] == "1.0312"
    assert "agency" not in str(then)


def test_explain_of_a_held_value_shows_the_check_that_failed(world: World) -> None:
    world.claim("2026-01-05", "1.03")
    world.claim("2026-01-06", "1.50")
    told = world.get(f"{BASE}/explain", snap="2026-01-06").json
    assert (told["status"], told["value"]) == ("held-for-review", None)
    assert told["decision"]["checks"][0]["threshold"] == "0.05"
    assert told["exceptions"][0]["status"] == "open"
    assert "failed: measured" in told["explanation"]


def test_lineage_leads_from_payload_to_version(world: World) -> None:
    world.claims(
        [
            {"snap": "2026-01-05", "value": v, "source": s, "reference_data_id": SERIES}
            for s, v in (("ecb", "1.0312"), ("vendor-b", "1.2000"))
        ]
    )
    world.claim("2026-01-05", "1.0313", source="vendor-a")
    graph = world.get(f"{BASE}/lineage", snap="2026-01-05").json
    ids = {n["id"] for n in graph["nodes"]}
    assert len(ids) == len(graph["nodes"])
    assert all(e["from"] in ids and e["to"] in ids for e in graph["edges"])
    assert {"raw", "claim", "decision", "official"} <= {n["type"] for n in graph["nodes"]}
    assert {"contains", "used", "rejected", "published"} <= {e["relation"] for e in graph["edges"]}


def test_audit_pages_through_every_event_of_the_series_and_of_no_other(world: World) -> None:
    world.claim("2026-01-05", "1.0312")
    world.claim("2026-01-06", "1.0313")
    world.register.series(
        {
            "reference_data_id": SERIES + "X",
            "name": "other",
            "kind": "price",
            "rules": "fx",
            "semantics": {"price_type": "close", "currency": "USD", "timing": "point_in_time"},
        },
        "admin",
        "c",
    )
    world.claim("2026-01-05T00:00:00Z", "5", id_=SERIES + "X")
    event = reading(f"{BASE}/audit", limit="3")
    found = []
    while True:
        body = world.call(event).json
        found += body["items"]
        if body["next"] is None:
            break
        event = followed(event, body["next"])
    keys = [(e["stream"], e["version"]) for e in found]
    assert keys == sorted(set(keys))
    assert [e["type"] for e in found].count("DataIngested") == 2
    assert {e["data"]["reference_data_id"] for e in found} == {SERIES}
    assert "SeriesRegistered" in {e["type"] for e in found}
    one = world.get(f"{BASE}/audit", snap="2026-01-05").json["items"]
    assert [e["type"] for e in one] == ["DataIngested", "DataReconciled", "DataPublished"]


def test_sources_come_in_precedence_with_their_claims(world: World) -> None:
    world.claim("2026-01-05", "1.0312", source="vendor-a")
    body = world.get(f"{BASE}/sources", snap="2026-01-05").json
    assert [(s["source"], s["rank"], len(s["claims"])) for s in body["sources"]] == [
        ("ecb", 1, 0),
        ("vendor-a", 2, 1),
        ("vendor-b", 3, 0),
    ]
    assert world.get(f"{BASE}/sources").json["snap"] is None


def test_quality_counts_what_the_calendar_expects(world: World) -> None:
    for day in ("05", "06", "08"):
        world.claim(f"2026-01-{day}", "1.0312")
    body = world.get(f"{BASE}/quality", from_="2026-01-05", to="2026-01-10").json
    assert (body["values"], body["expected"]) == (3, 5)
    assert body["scores"]["completeness"] == "0.6000"
    assert body["reason"] is None


def test_an_empty_window_has_no_scores_and_says_so(world: World) -> None:
    body = world.get(f"{BASE}/quality", INTRADAY, timeWindow="P1D").json
    assert body["reason"] == "empty-window"
    assert set(body["scores"].values()) == {None}
    none = world.get(f"{BASE}/quality", INTRADAY, timeWindow="P0D")
    assert (none.status, none.json["violations"][0]["rule"]) == (400, "positive")


def test_the_catalogue_is_listed_in_pages_and_shown(world: World) -> None:
    event = reading("/api/v1/sources", limit="2")
    body = world.call(event).json
    assert [e["name"] for e in body["items"]] == ["ecb", "vendor-a"]
    rest = world.call(followed(event, body["next"])).json
    assert ([e["name"] for e in rest["items"]], rest["next"]) == (["vendor-b"], None)
    assert world.get("/api/v1/series/{id}").json["definition"]["reference_data_id"] == SERIES
    assert world.get("/api/v1/rules/{rules}", "fx").json["version"] == 1
    missing = world.get("/api/v1/rules/{rules}", "none")
    assert (missing.status, missing.json["reason"]) == (404, "unknown-rules")


def test_a_load_is_accounted_for_with_its_rejections(world: World) -> None:
    good = {"snap": "2026-01-05", "value": "1.03", "source": "ecb", "reference_data_id": SERIES}
    bad = {**good, "value": "NaN"}
    answer = world.send("POST", "/api/v1/data/ingest", {"claims": [good, bad, good]})
    assert answer.status == 202, answer.text
    assert answer.headers["Location"] == f"/api/v1/receipts/{answer.json['receipt']}"
    assert [c["outcome"] for c in answer.json["claims"]] == ["accepted", "rejected", "duplicate"]
    load = world.get("/api/v1/loads/{load}", answer.json["receipt"]).json
    assert (load["accepted"], load["rejected"], load["duplicates"]) == (1, 1, 1)
    rules = {v["rule"] for i in load["items"] for v in i["violations"]}
    assert rules == {"finite"}
    receipt = world.get("/api/v1/receipts/{receipt}", answer.json["receipt"])
    assert receipt.status == 200, receipt.text
    assert receipt.json["accepted"] == 1
    unknown = world.get("/api/v1/receipts/{receipt}", "00000000-0000-0000-0000-000000000000")
    assert (unknown.status, unknown.json["reason"]) == (404, "unknown-receipt")


def test_a_receipt_leads_to_the_published_value(world: World, database: FreshDatabase) -> None:
    world.claim("2026-01-05", "1.0312")
    world.claim("2026-01-06", "1.5000")
    claims: list[dict[str, Any]] = [
        {"index": n, "outcome": outcome, "claim_id": None, "violations": [], **about}
        for n, (outcome, about) in enumerate(
            (
                ("accepted", {"reference_data_id": SERIES, "snap": "2026-01-05T13:15:00Z"}),
                ("duplicate", {"reference_data_id": SERIES, "snap": "2026-01-06T13:15:00Z"}),
                ("accepted", {"reference_data_id": SERIES, "snap": "2026-01-07T13:15:00Z"}),
                ("rejected", {}),
            )
        )
    ]
    counts = {"accepted": 2, "duplicates": 1, "rejected": 1}
    answer = {"receipt": str(UUID(int=9)), "status": "stored", **counts, "claims": claims}
    receipts.keep(database.app.connect(), UUID(int=9), "alice", None, b"", answer)
    body = world.get("/api/v1/receipts/{receipt}", str(UUID(int=9))).json
    assert [(v["status"], v["value"], v["version"]) for v in body["values"]] == [
        ("official", "1.0312", 1),
        ("held-for-review", None, None),
        ("not-yet-reconciled", None, None),
    ]


def test_a_page_that_would_be_too_large_ends_early_and_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = history_of(world, 3)
    monkeypatch.setattr(queries, "MAX_PAGE_BYTES", 3_000)
    event = reading(HISTORICAL, INTRADAY, from_="2026-01-01", to="2026-02-01")
    found: list[str] = []
    while True:
        body = world.call(event).json
        assert len(body["items"]) == 4
        found += [i["value"] for i in body["items"]]
        if body["next"] is None:
            break
        event = followed(event, body["next"])
    assert found == values


def test_ready_needs_the_schema(world: World, empty_database: FreshDatabase) -> None:
    assert world.get("/ready").json["status"] == "ready"
    assert World(empty_database.app).get("/ready").status == 503


def test_a_broken_connection_is_made_again(world: World, database: FreshDatabase) -> None:
    world.claim("2026-01-05", "1.03")
    with database.connect() as owner:
        owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert world.get(OFFICIAL, snap="2026-01-05").status == 200


def test_nanosecond_snaps_come_back_whole(world: World) -> None:
    snap = "2026-01-05T13:15:00.123456789Z"
    world.claim(snap, "0.000000000000000001", id_=INTRADAY)
    body = world.get(OFFICIAL, INTRADAY, snap=snap).json
    assert (body["snap"], body["value"]) == (snap, "0.000000000000000001")
    assert Snap(int(body["snap"][-10:-1]) + 0).ns == 123456789
