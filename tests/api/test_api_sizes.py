"""Answers fit into what a function may answer with, whatever was submitted; the rest is told by pages.

Lambda takes at most 6 MB as the answer of a function, in which the body is a JSON string:
https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from qis.api import http, issues
from qis.application import explanation, queries
from qis.application.relay import backbone_record
from qis.domain.errors import MOST_VIOLATIONS, InvalidInput, Violation
from qis.domain.events import DATA_INGESTED, NewEvent
from tests.api.events import followed
from tests.api.world import BASE, INTRADAY, SERIES, Reply, World, reading
from tests.support.builders import append
from tests.support.databases import FreshDatabase

LAMBDA_LIMIT = 6_000_000
RECEIPT = "/api/v1/receipts/{receipt}"
HOSTILE = '"\\' * 10


def payload_bytes(reply: Reply) -> int:
    """Bytes of a function's answer as Lambda counts them."""
    answer = {"statusCode": reply.status, "headers": dict(reply.headers), "body": reply.text}
    return len(json.dumps(answer, ensure_ascii=False).encode())


def pages(world: World, event: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every page of a listing; each fits."""
    while True:
        reply = world.call(event)
        assert reply.status == 200, reply.text
        assert payload_bytes(reply) <= LAMBDA_LIMIT
        yield reply.json
        if reply.json["next"] is None:
            break
        event = followed(event, reply.json["next"])


def broken_claim(number: int, **more: Any) -> dict[str, Any]:
    """A claim with many unknown fields."""
    known = {"snap": "2026-01-05", "value": "1.03", "source": "ecb", "reference_data_id": SERIES, **more}
    return known | {f"x{number}-{field}": '"' for field in range(12)}


@pytest.mark.parametrize(
    "own", [{}, {"record_id": HOSTILE * 6, "correlation_id": "own"}], ids=["plain", "own"]
)
def test_what_is_wrong_with_ten_thousand_claims_is_told_in_answers_that_fit(
    world: World, database: FreshDatabase, own: dict[str, str]
) -> None:
    claims = [broken_claim(n, **{k: f"{v}{n}" for k, v in own.items()}) for n in range(9_999)]
    good = {"snap": "2026-01-05", "value": "1.03", "source": "ecb", "reference_data_id": SERIES}
    reply = world.send("POST", "/api/v1/data/ingest", {"claims": [*claims, good]})
    assert reply.status == 202, reply.text[:500]
    assert payload_bytes(reply) <= LAMBDA_LIMIT
    answer = reply.json
    assert (answer["accepted"], answer["rejected"]) == (1, 9_999)
    assert [c["index"] for c in answer["claims"]] == list(range(10_000))
    told = [c for c in answer["claims"] if c["violations"]]
    assert told, "the first ones have their violations"
    for claim in answer["claims"][:-1]:
        assert len(claim["violations"]) + claim.get("violations_omitted", 0) == 12
        assert "record_id" not in claim
    with database.connect() as owner:
        kept = owner.execute("SELECT max(octet_length(answer::text)) FROM receipts").fetchone()
    assert kept is not None
    assert kept[0] < LAMBDA_LIMIT
    found = list(pages(world, reading(RECEIPT, answer["receipt"])))
    everything = [c for page in found for c in page["claims"]]
    assert [c["index"] for c in everything] == list(range(10_000))
    assert all(len(c["violations"]) == 12 for c in everything[:-1])
    assert not any("violations_omitted" in c or "record_id" in c for c in everything)
    assert [v["status"] for page in found for v in page["values"]] == ["not-yet-reconciled"]


def test_a_repeated_submission_gets_the_same_answer_as_the_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qis.application.ingest.MAX_ANSWER", 2_000)
    key = {"Idempotency-Key": "again"}
    event = reading(RECEIPT, "x") | {"httpMethod": "POST", "resource": "/api/v1/data/ingest"}
    event |= {"path": "/api/v1/data/ingest", "pathParameters": None}
    event["body"] = json.dumps({"claims": [broken_claim(n) for n in range(3)]})
    event["headers"] = {**(event.get("headers") or {}), **key}
    event["multiValueHeaders"] = {**(event.get("multiValueHeaders") or {}), "Idempotency-Key": ["again"]}
    first, second = world.call(event), world.call(event)
    assert first.status == 202, first.text
    assert first.text == second.text
    assert [c.get("violations_omitted") for c in first.json["claims"]] == [12, 12, 12]


def test_a_receipt_is_paged_by_the_claims_that_are_asked_for(world: World) -> None:
    days = [f"2026-01-{day:02}" for day in (5, 6, 7, 8, 9)]
    good = {"value": "1.03", "source": "ecb", "reference_data_id": SERIES}
    answer = world.send("POST", "/api/v1/data/ingest", {"claims": [good | {"snap": d} for d in days]}).json
    found = list(pages(world, reading(RECEIPT, answer["receipt"], limit="2")))
    assert [len(p["claims"]) for p in found] == [2, 2, 1]
    assert [v["snap"][:10] for p in found for v in p["values"]] == days
    whole = world.get(RECEIPT, answer["receipt"]).json
    assert (len(whole["claims"]), whole["next"]) == (5, None)


@pytest.mark.parametrize("after", [[-1], ["x"], [1, 2], [True]])
def test_a_cursor_of_a_receipt_is_a_count(world: World, after: list[object]) -> None:
    body = ["getReceipt", {"receipt": str(UUID(int=9))}, {}, after]
    cursor = urlsafe_b64encode(json.dumps(body).encode()).decode().rstrip("=")
    reply = world.get(RECEIPT, str(UUID(int=9)), cursor=cursor)
    assert (reply.status, reply.json["violations"][0]["rule"]) == (400, "cursor")


def test_a_refusal_names_so_many_violations_and_no_more() -> None:
    refusal = InvalidInput(*[Violation("f" * 9_999, "v" * 9_999, "rule", "m" * 9_999) for _ in range(5_000)])
    assert len(refusal.violations) == MOST_VIOLATIONS
    assert refusal.violations[-1].message == f"{5_000 - MOST_VIOLATIONS + 1} more rules are broken"
    assert len(json.dumps([v.as_json() for v in refusal.violations])) < 20_000
    assert len(str(refusal)) < 20_000


def test_a_definition_with_thousands_of_faults_is_refused_in_few_words(world: World) -> None:
    schema = {f"keyword-{n}": HOSTILE for n in range(20_000)}
    body = {"reference_data_id": "R", "name": "R", "kind": "record", "rules": "fx", "schema": schema}
    reply = world.send("PUT", "/api/v1/series/{id}", body, id="R")
    assert reply.status == 400
    assert len(reply.text) < 50_000


# what is read ------------------------------------------------------------------------------------


def test_pages_of_large_events_end_early_and_leave_nothing_out(world: World) -> None:
    store = world.corrections._store
    text = HOSTILE * 3_000
    for number in range(120):
        event = NewEvent(DATA_INGESTED, {"text": text})
        assert not store.append([append(f"value:{SERIES}@{number:03}", 0, event)])
    found = list(pages(world, reading(f"{BASE}/audit", SERIES, limit="1000")))
    assert len(found) > 2
    assert sum(e["data"].get("text") == text for p in found for e in p["items"]) == 120


@pytest.mark.parametrize(
    ("resource", "name"),
    [
        (f"{BASE}/audit", SERIES),
        ("/api/v1/loads/{load}", "load-1"),
        ("/api/v1/sources", ""),
        ("/api/v1/exceptions", ""),
        ("/api/v1/issues", ""),
        ("/api/v1/issues/{issue}/items", ""),
    ],
)
def test_every_page_ends_at_its_bytes_and_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, resource: str, name: str
) -> None:
    for source, id_ in (("vendor-a", INTRADAY), ("vendor-b", SERIES)):
        for day, value in ((5, "1"), (6, "90"), (7, "7000"), (8, "500000")):  # held: they move too far
            snap = f"2026-01-0{day}T09:00:00Z" if id_ == INTRADAY else f"2026-01-0{day}"
            world.claim(snap, value, source, id_)
    world.ingest.submit([broken_claim(n, correlation_id="load-1") for n in range(3)], "feed", "x", None)
    world.watch.follow([json.loads(backbone_record(e)[1]) for e in world.log()], datetime.now(UTC))
    if "{issue}" in resource:
        name = world.get("/api/v1/issues").json["items"][0]["issue"]
    event = reading(resource, name) if name else reading(resource)
    whole = [i for p in pages(world, event) for i in p["items"]]
    assert len(whole) > 1
    monkeypatch.setattr(queries, "_AUDIT_RUN", 2)
    assert [i for p in pages(world, event) for i in p["items"]] == whole
    monkeypatch.setattr(queries, "MAX_PAGE_BYTES", 1)
    monkeypatch.setattr(issues, "MAX_ANSWER", 1)
    parts = list(pages(world, event))
    assert [len(p["items"]) for p in parts] == [1] * len(whole)
    assert [i for p in parts for i in p["items"]] == whole


def test_an_explanation_leaves_out_the_oldest_where_there_is_no_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    snap = "2026-01-05T09:00:00Z"
    for number in range(5):
        world.claim(snap, f"100.{number}", id_=INTRADAY, received_at=f"2026-01-05T10:00:0{number}Z")
    whole = world.get(f"{BASE}/explain", INTRADAY, snap=snap).json
    assert "omitted" not in whole
    monkeypatch.setattr(explanation, "MOST_BYTES", 1_000)
    monkeypatch.setattr(explanation, "MOST_TOLD", 2)
    some = world.get(f"{BASE}/explain", INTRADAY, snap=snap).json
    assert 0 < len(some["claims"]) < 5
    assert some["claims"] == whole["claims"][-len(some["claims"]) :]
    assert some["omitted"]["claims"] == 5 - len(some["claims"])
    assert "5 claims were made, the last 2 of them: " in some["explanation"]
    graph = world.get(f"{BASE}/lineage", INTRADAY, snap=snap).json
    assert graph["omitted"]["events"] > 0
    monkeypatch.setattr(queries, "MAX_PAGE_BYTES", 3_000)
    sources = world.get(f"{BASE}/sources", INTRADAY, snap=snap).json
    assert sources["omitted"] == {"ecb": 5 - len(sources["sources"][0]["claims"])}


def test_an_answer_that_does_not_fit_is_refused_in_words(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.claim("2026-01-05", "1.03")
    monkeypatch.setattr(http, "MAX_PAYLOAD", 2_500)
    reply = world.get("/api/v1/data/snapshot", snap="2026-01-05", ids=SERIES)
    assert reply.status == 400
    assert reply.json["type"] == "urn:qis:problem:answer-too-large"
    assert world.faults.seen == []
