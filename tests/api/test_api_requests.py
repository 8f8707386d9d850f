"""Requests of every shape: what is refused, how it is told, and what an answer always carries."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qis.api import http
from qis.application.ports import Contended, Unavailable
from qis.domain.errors import Conflict, FourEyes, NotFound
from qis.domain.events import Position
from tests.api.events import proxy_event
from tests.api.fakes import ID, FakeCache, FakeReads, Front, row
from tests.api.tokens import token

OFFICIAL = "/api/v1/data/reference/{id}/official"
INGEST = "/api/v1/data/reference/{id}/ingest"
BULK = "/api/v1/data/ingest"
SNAP = "2026-01-05T00:00:00Z"
CLAIM = {"snap": SNAP, "source": "ecb", "value": "1.5"}


def official(front: Front, headers: dict[str, str] | None = None, **query: str) -> dict[str, Any]:
    return front.checked(
        proxy_event("GET", OFFICIAL, {"id": ID}, {"snap": SNAP, **query}, headers=headers, token=token())
    )


def post(front: Front, resource: str, body: object, **more: Any) -> dict[str, Any]:
    path = {"id": ID} if "{id}" in resource else None
    return front.checked(proxy_event("POST", resource, path, body=body, token=token(), **more))


def rules(answer: dict[str, Any]) -> list[str]:
    return [v["rule"] for v in json.loads(answer["body"])["violations"]]


def test_every_answer_carries_the_security_headers_and_a_correlation_id() -> None:
    front = Front(FakeReads(row(Decimal("1.5"))))
    answers = [
        official(front),
        official(front, headers={"X-Correlation-Id": "abc-1"}),
        official(front, snap="x"),
    ]
    for answer in answers:
        assert answer["headers"]["X-Content-Type-Options"] == "nosniff"
        assert answer["headers"]["Strict-Transport-Security"].startswith("max-age=")
        assert UUID(answers[0]["headers"]["X-Correlation-Id"])
    assert answers[1]["headers"]["X-Correlation-Id"] == "abc-1"
    problem = json.loads(answers[2]["body"])
    assert problem["correlation_id"] == answers[2]["headers"]["X-Correlation-Id"]
    assert answers[2]["headers"]["Cache-Control"] == "no-store"


@pytest.mark.parametrize("given", ["a b", "", "x" * 129, "a\r\nSet-Cookie: b", "\u00e9", "{}"])
def test_a_correlation_id_that_could_do_harm_is_refused_and_not_sent_back(given: str) -> None:
    answer = official(Front(), headers={"X-Correlation-Id": given})
    assert answer["statusCode"] == 400
    assert rules(answer) == ["identifier"]
    assert UUID(answer["headers"]["X-Correlation-Id"])


def test_unknown_paths_and_methods_are_told_apart() -> None:
    front = Front()
    missing = front.respond(proxy_event("GET", "/api/v1/nothing"))
    assert (missing["statusCode"], json.loads(missing["body"])["type"]) == (
        404,
        "urn:qis:problem:no-such-route",
    )
    wrong = front.respond(proxy_event("GET", "/api/v1/data/ingest"))
    assert (wrong["statusCode"], wrong["headers"]["Allow"]) == (405, "POST")
    assert front.faults == []


def test_a_route_of_the_other_function_is_not_answered() -> None:
    front = Front()
    event = proxy_event("PUT", "/api/v1/sources/{source}", {"source": "ecb"}, body={}, token=token())
    assert front.respond(event, "query")["statusCode"] == 404


@pytest.mark.parametrize("event", [{}, {"httpMethod": None}, {"httpMethod": "GET", "path": None}])
def test_an_event_that_is_none_is_answered_all_the_same(event: dict[str, Any]) -> None:
    front = Front()
    assert front.respond(event, "query")["statusCode"] == 404
    assert front.faults == []


def test_a_fault_gives_nothing_away_and_is_reported() -> None:
    front = Front(FakeReads(error=RuntimeError("password=hunter2")))
    answer = official(front)
    assert answer["statusCode"] == 500
    assert "hunter2" not in answer["body"]
    assert [(c, str(e)) for c, e in front.faults] == [
        (answer["headers"]["X-Correlation-Id"], "password=hunter2")
    ]


@pytest.mark.parametrize(
    ("error", "status", "slug"),
    [
        (NotFound("gone"), 404, "not-found"),
        (Conflict("no"), 409, "conflict"),
        (FourEyes("alice"), 403, "four-eyes"),
        (Contended("busy"), 409, "contended"),
        (Unavailable("down"), 503, "unavailable"),
        (RuntimeError("x"), 500, "unexpected"),
    ],
)
def test_each_refusal_has_its_status_and_type(error: Exception, status: int, slug: str) -> None:
    front = Front()
    front.writes.error = error
    answer = post(front, "/api/v1/data/reference/{id}/restate", {"snap": SNAP, "value": "1", "reason": "r"})
    assert (answer["statusCode"], json.loads(answer["body"])["type"]) == (status, f"urn:qis:problem:{slug}")
    assert ("Retry-After" in answer["headers"]) == (slug in ("contended", "unavailable"))


def test_a_repeated_parameter_is_refused() -> None:
    event = proxy_event("GET", OFFICIAL, {"id": ID}, {"snap": [SNAP, SNAP]}, token=token())
    assert rules(Front().checked(event)) == ["single"]


def test_parameters_are_read_from_the_single_form_too() -> None:
    event = proxy_event("GET", OFFICIAL, {"id": ID}, {"snap": SNAP}, token=token())
    del event["multiValueQueryStringParameters"], event["multiValueHeaders"]
    assert Front(FakeReads(row(Decimal(1)))).checked(event)["statusCode"] == 200


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("text/csv", "text/csv"),
        ("text/*", "text/csv"),
        ("application/json;q=0.1, text/csv;q=0.9", "text/csv"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
        ("*/*, application/json;q=0", "text/csv"),
        ("application/json", "application/json"),
        ("text/html", None),
        ("*/*;q=0", None),
    ],
)
def test_the_media_type_follows_what_is_accepted(accept: str, expected: str | None) -> None:
    answer = official(Front(FakeReads(row(Decimal(1)))), headers={"Accept": accept})
    if expected is None:
        assert answer["statusCode"] == 406
    else:
        assert answer["headers"]["Content-Type"] == f"{expected}; charset=utf-8"


def test_format_goes_before_accept() -> None:
    answer = official(Front(FakeReads(row(Decimal(1)))), headers={"Accept": "application/json"}, format="csv")
    assert answer["headers"]["Content-Type"].startswith("text/csv")


BAD_BODIES: dict[str, tuple[str, str]] = {
    "nothing": ("", "required"),
    "not-json": ("{", "json"),
    "two-documents": ("{} {}", "json"),
    "nan": ('{"snap": "x", "source": "s", "value": NaN}', "finite"),
    "infinity": ('{"value": -Infinity}', "finite"),
    "key-twice": ('{"value": "1", "value": "2"}', "distinct-keys"),
    "array": ("[]", "object"),
    "text": ('"x"', "object"),
    "deep": ("[" * (http.MAX_DEPTH + 1) + "]" * (http.MAX_DEPTH + 1), "max-depth"),
    "very-deep": ("[" * 100_000 + "]" * 100_000, "max-depth"),
    "huge-exponent": ('{"value": 1e99999999999999999999}', "decimal"),
    "other-series": ('{"reference_data_id": "OTHER"}', "path"),
}


@pytest.mark.parametrize(("body", "rule"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_a_bad_body_is_named_with_its_rule(body: str, rule: str) -> None:
    front = Front()
    answer = post(front, INGEST, body, headers={"Content-Type": "application/json"})
    assert answer["statusCode"] == 400, answer["body"]
    assert rules(answer) == [rule]
    assert front.writes.calls == []


def test_a_body_that_is_too_large_is_refused_before_it_is_read() -> None:
    answer = post(Front(), BULK, " " * (http.MAX_BODY + 1))
    assert answer["statusCode"] == 413


def test_a_body_in_another_media_type_is_refused() -> None:
    answer = post(Front(), BULK, "a,b", headers={"Content-Type": "text/csv"})
    assert answer["statusCode"] == 415


def test_a_base64_body_is_decoded() -> None:
    front = Front()
    event = proxy_event("POST", BULK, token=token())
    encoded = base64.b64encode(json.dumps({"claims": [CLAIM]}).encode()).decode()
    assert front.checked({**event, "body": encoded, "isBase64Encoded": True})["statusCode"] == 202
    assert rules(front.checked({**event, "body": "%%%", "isBase64Encoded": True})) == ["base64"]
    broken = base64.b64encode(b"\xff\xfe{").decode()
    assert rules(front.checked({**event, "body": broken, "isBase64Encoded": True})) == ["json"]


def test_numbers_keep_every_digit() -> None:
    front = Front()
    digits = "0.1000000000000000055511151231257827"
    post(front, INGEST, f'{{"snap": "s", "source": "ecb", "value": {digits}, "volume": {"9" * 400}}}')
    claim = front.writes.calls[0][1][0]
    assert claim["value"] == Decimal(digits)
    assert claim["volume"] == Decimal("9" * 400)


def test_a_claim_takes_its_series_from_the_path_and_its_actor_from_the_token() -> None:
    front = Front()
    headers = {"X-Correlation-Id": "c-1", "Idempotency-Key": "key-1"}
    answer = post(front, INGEST, CLAIM, headers=headers)
    assert answer["statusCode"] == 202
    assert answer["headers"]["Location"] == f"/api/v1/receipts/{UUID(int=1)}"
    assert front.writes.calls == [("submit", [{**CLAIM, "reference_data_id": ID}], "alice", "c-1", "key-1")]


def test_a_single_claim_that_is_rejected_is_a_bad_request_and_in_a_batch_an_outcome() -> None:
    front = Front()
    front.writes.outcome = "rejected"
    assert rules(post(front, INGEST, CLAIM)) == ["finite"]
    batch = post(front, BULK, {"claims": [CLAIM]})
    assert batch["statusCode"] == 202
    assert json.loads(batch["body"])["claims"][0]["violations"][0]["rule"] == "finite"


@pytest.mark.parametrize("key", ["", "a b", "x" * 129, "\u00e9", "a\nb"])
def test_a_bad_idempotency_key_is_refused(key: str) -> None:
    front = Front()
    assert rules(post(front, BULK, {"claims": [CLAIM]}, headers={"Idempotency-Key": key})) == ["token"]
    assert front.writes.calls == []


@pytest.mark.parametrize("body", [{}, {"claims": {}}, {"claims": None}, {"claims": [], "more": 1}])
def test_a_batch_is_an_object_with_an_array_of_claims(body: object) -> None:
    assert post(Front(), BULK, body)["statusCode"] == 400


def test_commands_are_called_with_who_asked() -> None:
    front = Front()
    item = str(UUID(int=5))
    headers = {"X-Correlation-Id": "c-1"}
    for method, resource, path, body in (
        ("POST", "/api/v1/exceptions/{item}/approve", {"item": item}, None),
        ("POST", "/api/v1/exceptions/{item}/reject", {"item": item}, {"reason": "no"}),
        (
            "PUT",
            "/api/v1/sources/{source}",
            {"source": "ecb"},
            {"name": "ECB", "kind": "official", "licence": "l"},
        ),
    ):
        event = proxy_event(method, resource, path, body=body, headers=headers, token=token(sub="bob"))
        assert front.respond(event)["statusCode"] == 200
    assert front.writes.calls == [
        ("approve", UUID(item), "bob", "c-1", None),
        ("reject", UUID(item), "no", "bob", "c-1"),
        ("source", {"name": "ECB", "kind": "official", "licence": "l", "source": "ecb"}, "bob", "c-1"),
    ]


@pytest.mark.parametrize("item", ["1", "{00000000-0000-0000-0000-000000000005}", "urn:uuid:x"])
def test_an_item_is_a_uuid(item: str) -> None:
    event = proxy_event("POST", "/api/v1/exceptions/{item}/approve", {"item": item}, token=token())
    assert rules(Front().checked(event)) == ["uuid"]


def test_a_path_variable_is_percent_decoded_and_checked() -> None:
    for name in ("..%2F..%2Fetc", "a%00b", "%F0%9F%92%A9", "x" * 129):
        event = proxy_event("GET", OFFICIAL, {"id": name}, {"snap": SNAP}, token=token())
        assert rules(Front().checked(event)) == ["identifier"]


def test_a_pinned_answer_comes_from_the_cache_and_the_latest_never_does() -> None:
    cache, reads = FakeCache(), FakeReads(row(Decimal("1.5")))
    front = Front(reads, cache=cache)
    first = official(front, basis="7.1")
    again = official(front, basis="7.1")
    assert len(reads.points) == 1
    ignored = {"X-Correlation-Id"}
    assert {k: v for k, v in first["headers"].items() if k not in ignored} == {
        k: v for k, v in again["headers"].items() if k not in ignored
    }
    assert first["body"] == again["body"]
    assert "immutable" in first["headers"]["Cache-Control"]
    assert official(front, basis="7.1", format="csv")["body"] != first["body"]
    assert official(front, basis="8.1")["headers"]["Qis-Basis"] == "8.1"
    official(front)
    latest = official(front)
    assert len(reads.points) == 5
    assert latest["headers"]["Cache-Control"] == "private, no-cache"
    assert len(cache.kept) == 3


def test_a_cached_answer_still_needs_a_token() -> None:
    front = Front(FakeReads(row(Decimal(1))), cache=FakeCache())
    official(front, basis="7.1")
    event = proxy_event("GET", OFFICIAL, {"id": ID}, {"snap": SNAP, "basis": "7.1"})
    assert front.checked(event)["statusCode"] == 401


def test_a_refusal_is_not_cached() -> None:
    cache = FakeCache()
    front = Front(FakeReads(None), cache=cache)
    assert official(front, basis="7.1")["statusCode"] == 404
    assert cache.kept == {}


def test_the_latest_answer_names_the_newer_of_horizon_and_its_own_place() -> None:
    assert official(Front(FakeReads(row(Decimal(1)))))["headers"]["Qis-Basis"] == "100.0"
    young = FakeReads(row(Decimal(1)), horizon=Position(6, 0))
    assert official(Front(young))["headers"]["Qis-Basis"] == "7.1"


@given(st.binary(max_size=200))
def test_no_body_brings_the_function_down(body: bytes) -> None:
    front = Front()
    event = proxy_event("POST", BULK, token=token())
    encoded = base64.b64encode(body).decode()
    answer = front.respond({**event, "body": encoded, "isBase64Encoded": True})
    assert answer["statusCode"] in (202, 400)
    assert front.faults == []


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=60), max_size=5))
def test_no_query_brings_the_function_down(query: dict[str, str]) -> None:
    front = Front(FakeReads(row(Decimal(1))))
    event = proxy_event("GET", OFFICIAL, {"id": ID}, {"snap": SNAP, **query}, token=token())
    assert front.respond(event)["statusCode"] in (200, 400)
    assert front.faults == []


@given(st.text(max_size=120))
def test_no_cursor_brings_the_function_down(cursor: str) -> None:
    front = Front()
    for packed in (cursor, base64.urlsafe_b64encode(cursor.encode()).decode()):
        event = proxy_event("GET", "/api/v1/exceptions", None, {"cursor": packed}, token=token())
        assert front.respond(event)["statusCode"] == 400
    assert front.faults == []
