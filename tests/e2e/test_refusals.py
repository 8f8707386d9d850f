"""Bad input is told what is wrong with it, wherever it comes from, and can come again once it is right."""

from __future__ import annotations

import base64
import json
from typing import Any
from uuid import uuid4

import pytest

from tests.e2e.twin import Twin
from tests.support.builders import EUR, claim_body, rules_body, series_body, source_body
from tests.support.waiting import until

VOLUME = "VOL.E2E"
UNKNOWN = "FX.LATER"

BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "naive time": ({"snap": "2026-01-05T14:00:00"}, "snap", "aware-time"),
    "wrong currency": ({"currency": "GBP"}, "currency", "series-currency"),
    "wrong unit": ({"reference_data_id": VOLUME, "value": "5", "unit": "lots"}, "unit", "series-unit"),
    "unknown series": ({"reference_data_id": "NO.SUCH"}, "reference_data_id", "known-series"),
    "unknown source": ({"source": "nobody"}, "source", "known-source"),
    "NaN in text": ({"value": "NaN"}, "value", "finite"),
    "infinity in text": ({"value": "Infinity"}, "value", "finite"),
    "400 digits": ({"value": "1" * 400}, "value", "max-digits"),
    "unknown field": ({"colour": "red"}, "colour", "known-field"),
    "value in words": ({"value": "1,10"}, "value", "decimal"),
}
NOT_JSON: dict[str, tuple[bytes, str, str]] = {
    "malformed JSON": (b'{"snap": "2026', "record", "json"),
    "no JSON at all": (b"\xff\xfe\x00", "record", "json"),
    "NaN": (b'{"value": NaN}', "value", "finite"),
    "a key twice": (b'{"value": "1", "value": "2"}', "value", "distinct-keys"),
    "oversize": (b'{"value": "1", "filler": "' + b"x" * 70_000 + b'"}', "record", "max-bytes"),
    "a list": (b"[1, 2]", "body", "object"),
}


@pytest.fixture(scope="module", autouse=True)
def _catalogue(twin: Twin) -> None:
    volume = series_body(VOLUME, currency=None, base_currency=None, unit="shares")
    twin.register([rules_body(max_move=None)], [source_body()], [series_body(), {**volume, "kind": "volume"}])


def violations_of(answer: Any) -> list[tuple[str, str]]:
    assert answer.status_code == 400, answer.text
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["type"] == "urn:qis:problem:invalid-input"
    return [(v["field"], v["rule"]) for v in body["violations"]]


def rejected(twin: Twin, load: str, count: int = 1) -> list[dict[str, Any]]:
    """Dead letters of a load, once there are ``count``; other messages are dropped."""
    letters: list[dict[str, Any]] = []

    def there() -> bool:
        letters.extend(m for m in twin.take("ingest-dlq") if m.get("load_id") == load)
        return len(letters) >= count

    until(there, f"{count} dead letters of {load}")
    return letters


@pytest.mark.parametrize("name", BAD)
def test_by_rest_it_is_refused_with_field_and_rule(twin: Twin, name: str) -> None:
    changes, field, rule = BAD[name]
    body = claim_body(**changes)
    path = f"/api/v1/data/reference/{body['reference_data_id']}/ingest"
    assert violations_of(twin.call("POST", path, body)) == [(field, rule)]


@pytest.mark.parametrize(
    ("raw", "rule"), [(b'{"snap": "2026', "json"), (b'{"value": NaN}', "finite"), (b"", "required")]
)
def test_by_rest_a_body_that_is_no_json_is_refused(twin: Twin, raw: bytes, rule: str) -> None:
    answer = twin.call("POST", f"/api/v1/data/reference/{EUR}/ingest", raw)
    assert [r for _, r in violations_of(answer)] == [rule]


def test_by_rest_an_oversize_body_is_refused(twin: Twin) -> None:
    raw = b'{"claims": ["' + b"x" * (10 * 1024 * 1024 + 1) + b'"]}'
    assert twin.call("POST", "/api/v1/data/ingest", raw).status_code == 413


def test_by_rest_good_claims_beside_a_bad_one_are_taken(twin: Twin) -> None:
    good = claim_body(snap=f"2026-06-01T10:00:00.{uuid4().int % 10**6:06d}Z")
    answer = twin.call("POST", "/api/v1/data/ingest", {"claims": [good, claim_body(value="NaN"), good]})
    assert answer.status_code == 202, answer.text
    counts = {k: answer.json()[k] for k in ("accepted", "duplicates", "rejected")}
    assert counts == {"accepted": 1, "duplicates": 1, "rejected": 1}


@pytest.mark.parametrize("name", BAD)
def test_by_stream_it_is_dead_lettered_with_field_and_rule(twin: Twin, name: str) -> None:
    changes, field, rule = BAD[name]
    load = f"bad-{uuid4()}"
    twin.put_claims([claim_body(**changes)], load)
    (letter,) = rejected(twin, load)
    assert [(v["field"], v["rule"]) for v in letter["violations"]] == [(field, rule)]
    assert f"[{rule}]" in letter["reason"]
    assert json.loads(base64.b64decode(letter["payload"]))["correlation_id"] == load
    assert twin.load(load) == {"accepted": 0, "duplicates": 0, "rejected": 1}


@pytest.mark.parametrize("name", NOT_JSON)
def test_by_stream_what_is_no_claim_is_dead_lettered(twin: Twin, name: str) -> None:
    raw, field, rule = NOT_JSON[name]
    twin.take("ingest-dlq")
    twin.put([("key", raw)])
    found: list[dict[str, Any]] = []

    def there() -> bool:
        found.extend(twin.take("ingest-dlq"))
        return bool(found)

    until(there, "the dead letter")
    (letter,) = found
    assert base64.b64decode(letter["payload"]) == raw
    assert [(v["field"], v["rule"]) for v in letter["violations"]] == [(field, rule)]
    assert letter["load_id"].startswith("feed-")


def test_a_poison_record_in_a_batch_of_500_stops_none_of_the_others(twin: Twin) -> None:
    load = f"poison-{uuid4()}"
    claims = [
        claim_body(snap=f"2026-07-01T{n // 60:02d}:{n % 60:02d}:00Z", value=f"1.1{n:03d}") for n in range(499)
    ]
    records = [
        (EUR, json.dumps({"correlation_id": load, "record_id": f"{load}:{n}", **c}).encode())
        for n, c in enumerate(claims)
    ]
    records.insert(250, (EUR, json.dumps({"correlation_id": load, "value": {"poison": True}}).encode()))
    twin.put(records)
    assert twin.accounted(load, 500) == {"accepted": 499, "duplicates": 0, "rejected": 1}
    (letter,) = rejected(twin, load)
    assert letter["reason"]
    twin.drain()
    stored = twin.one("SELECT count(*) FROM events WHERE type = 'DataIngested' AND correlation_id = %s", load)
    assert stored == 499


def test_what_was_refused_is_taken_once_it_is_right(twin: Twin) -> None:
    """A claim for a series that nobody knew: registered, then put back from the queue."""
    twin.take("ingest-dlq")
    load, series = f"redrive-{uuid4()}", f"FX.LATER.{uuid4().hex[:6].upper()}"
    claims = [
        claim_body(reference_data_id=series),
        claim_body(snap="2026-08-01T10:00:00Z"),
        claim_body(snap="2026-08-01T10:00:00Z", value="not a number"),
    ]
    twin.put_claims(claims, load)
    assert twin.accounted(load, 3) == {"accepted": 1, "duplicates": 0, "rejected": 2}
    until(lambda: twin.waiting("ingest-dlq") == 2, "both dead letters")
    assert twin.official(series, "2026-01-05T14:00:00Z").status_code == 404

    twin.register(series=[series_body(series)])
    told = twin.qis("redrive", "ingest-dlq")
    assert told["records"] == 2
    until(lambda: twin.load(load)["accepted"] == 2, "the claim to be taken")
    until(lambda: twin.waiting("ingest-dlq") == 1, "the other one to be refused again")
    assert twin.load(load) == {"accepted": 2, "duplicates": 0, "rejected": 1}
    until(lambda: twin.official(series, "2026-01-05T14:00:00Z").status_code == 200, "the official value")

    twin.qis("redrive", "ingest-dlq")
    until(lambda: twin.waiting("ingest-dlq") == 1, "the other one to be refused once more")
    assert twin.load(load) == {"accepted": 2, "duplicates": 0, "rejected": 1}, "counts stay exact"
    twin.take("ingest-dlq")


def test_a_poison_event_on_the_backbone_is_isolated_and_reported(twin: Twin) -> None:
    """What no relay would write: the functions fail on it, and on nothing beside it."""
    twin.drain()
    twin.take("events-dlq")
    poison = json.dumps({"type": "DataIngested", "data": {"no": "claim"}, "event_id": "x"}).encode()
    load = f"beside-{uuid4()}"
    claims = [claim_body(snap=f"2026-09-01T10:{n:02d}:00Z", value=f"1.1{n:03d}") for n in range(20)]
    twin.put([("poison", poison)], "events")
    twin.put_claims(claims, load)
    until(lambda: twin.waiting("events-dlq") == 2, "the poison to be given up by both who want claims", 60)
    reports = twin.take("events-dlq")
    assert {r["requestContext"]["condition"] for r in reports} == {"RetryAttemptsExhausted"}
    functions = {r["requestContext"]["functionArn"].rpartition("-")[2] for r in reports}
    assert functions == {"reconcile", "quality"}
    assert [r["KinesisBatchInfo"]["batchSize"] for r in reports] == [1, 1]
    twin.drain()
    assert twin.official(EUR, "2026-09-01T10:19:00Z").json()["value"] == "1.1019"
