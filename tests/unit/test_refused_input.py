"""What ingestion refuses: each broken rule is named with its field, and the neighbours are taken."""

from __future__ import annotations

import json
from typing import Any

import pytest

from qis.application.ingest import MAX_BYTES, Delivery
from qis.domain.claims import parse_claim
from qis.domain.errors import InvalidInput, refuse, shown
from qis.domain.rules import parse_rules
from qis.domain.series import Kind, parse_series, parse_source
from tests.support.builders import (
    EUR,
    FIXING,
    catalogue,
    claim_body,
    claim_record,
    daily_body,
    rules_body,
    series,
    series_body,
    series_of,
    source,
    source_body,
)
from tests.support.fakes import (
    FixedCatalogue,
    MemoryDeadLetters,
    MemoryEventStore,
    ingest_into,
)
from tests.support.refusals import broken

VOLUME, RATE, PRICE = "VOL.X", "RATE.X", "PX.X"
CATALOGUE = catalogue(
    series_=[
        series(),
        parse_series(daily_body()),
        series_of(Kind.VOLUME, VOLUME, currency=None, base_currency=None, unit="shares"),
        series_of(Kind.RATE, RATE, currency=None, base_currency=None, unit="percent"),
        series_of(Kind.PRICE, PRICE, base_currency=None, attribute="PX_LAST"),
    ],
    sources=[source("alpha"), source("beta"), source("paused", active=False)],
)


def claim_of(**changes: Any) -> object:
    return parse_claim(claim_body(**changes), CATALOGUE.series, CATALOGUE.active)


BAD_CLAIMS: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "naive time": ({"snap": "2026-01-05T16:00:00"}, [("snap", "aware-time")]),
    "naive reception time": ({"received_at": "2026-01-05T16:00:00"}, [("received_at", "aware-time")]),
    "date that is none": ({"snap": "2026-02-30T16:00:00Z"}, [("snap", "iso-8601")]),
    "time in words": ({"snap": "yesterday"}, [("snap", "iso-8601")]),
    "epoch seconds": ({"snap": 1767624000}, [("snap", "iso-8601")]),
    "year 2300": ({"snap": "2300-01-01T00:00:00Z"}, [("snap", "snap-range")]),
    "a date of the year 1500": (
        {"reference_data_id": FIXING, "snap": "1500-01-01"},
        [("snap", "snap-range")],
    ),
    "ten decimals of a second": ({"snap": "2026-01-05T16:00:00.0123456789Z"}, [("snap", "iso-8601")]),
    "date for an intraday series": ({"snap": "2026-01-05"}, [("snap", "snap-time")]),
    "wrong snap time": (
        {"reference_data_id": FIXING, "snap": "2026-01-05T14:16:00+01:00"},
        [("snap", "snap-time")],
    ),
    "right clock in the wrong zone": (
        {"reference_data_id": FIXING, "snap": "2026-01-05T14:15:00Z"},
        [("snap", "snap-time")],
    ),
    "holiday of the exchange": ({"snap": "2026-01-01 NYSE close"}, [("snap", "calendar")]),
    "unknown series": ({"reference_data_id": "NO.SUCH"}, [("reference_data_id", "known-series")]),
    "malformed series": ({"reference_data_id": "a b"}, [("reference_data_id", "identifier")]),
    "unknown source": ({"source": "nobody"}, [("source", "known-source")]),
    "paused source": ({"source": "paused"}, [("source", "active-source")]),
    "malformed source": ({"source": "Alpha"}, [("source", "name")]),
    "wrong currency": ({"currency": "GBP"}, [("currency", "series-currency")]),
    "currency in words": ({"currency": "dollars"}, [("currency", "currency-code")]),
    "currency of a volume": (
        {"reference_data_id": VOLUME, "currency": "USD"},
        [("currency", "series-currency")],
    ),
    "wrong unit": ({"reference_data_id": VOLUME, "unit": "contracts"}, [("unit", "series-unit")]),
    "unit of a price": ({"unit": "shares"}, [("unit", "series-unit")]),
    "wrong attribute": (
        {"reference_data_id": PRICE, "attribute": "PX_BID"},
        [("attribute", "series-attribute")],
    ),
    "NaN": ({"value": "NaN"}, [("value", "finite")]),
    "infinity": ({"value": "-Infinity"}, [("value", "finite")]),
    "400 digits": ({"value": "1" * 400}, [("value", "max-digits")]),
    "39 digits": ({"value": "1" * 39}, [("value", "max-digits")]),
    "39 digits by exponent": ({"value": "1e38"}, [("value", "max-digits")]),
    "19 decimals": ({"value": "0.0000000000000000001"}, [("value", "max-scale")]),
    "number in words": ({"value": "one"}, [("value", "decimal")]),
    "decimal comma": ({"value": "1,10"}, [("value", "decimal")]),
    "thousands separator": ({"value": "1_000"}, [("value", "decimal")]),
    "blank value": ({"value": " "}, [("value", "decimal")]),
    "float": ({"value": 1.1}, [("value", "decimal")]),
    "boolean": ({"value": True}, [("value", "decimal")]),
    "list": ({"value": ["1.1"]}, [("value", "decimal")]),
    "integer of 400 digits": ({"value": 10**400}, [("value", "max-digits")]),
    "zero rate of exchange": ({"value": "0"}, [("value", "positive")]),
    "negative rate of exchange": ({"value": "-1.1"}, [("value", "positive")]),
    "negative volume": ({"reference_data_id": VOLUME, "value": "-1"}, [("value", "not-negative")]),
    "negative traded volume": ({"volume": "-1"}, [("volume", "not-negative")]),
    "volume that is no number": ({"volume": "many"}, [("volume", "decimal")]),
    "unknown field": ({"price": "1.1"}, [("price", "known-field")]),
    "missing value": ({"value": None}, [("value", "required")]),
    "several at once": (
        {"value": None, "source": None, "colour": "red"},
        [("colour", "known-field"), ("source", "required"), ("value", "required")],
    ),
}


@pytest.mark.parametrize(("changes", "expected"), BAD_CLAIMS.values(), ids=BAD_CLAIMS.keys())
def test_a_claim_is_refused_naming_field_and_rule(
    changes: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert broken(lambda: claim_of(**changes)) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"currency": "USD", "received_at": "2026-01-05T15:00:00.123456789+01:00", "volume": "0"},
        {"reference_data_id": FIXING, "snap": "2026-01-05"},
        {"reference_data_id": FIXING, "snap": "2026-01-05T14:15:00+01:00"},
        {"reference_data_id": RATE, "value": "-0.5", "unit": "percent"},
        {"reference_data_id": PRICE, "value": "-37.63", "attribute": "PX_LAST"},
        {"reference_data_id": VOLUME, "value": "0"},
        {"snap": "2026-01-05 NYSE close"},
        {"value": "12345678901234567890.123456789012345678"},
        {"value": 1},
        {"correlation_id": "load", "record_id": "1"},
    ],
)
def test_a_good_claim_is_taken(changes: dict[str, Any]) -> None:
    assert broken(lambda: claim_of(**changes)) == []


@pytest.mark.parametrize("given", [None, [], "text", 1, True, [claim_body()]])
def test_what_is_no_object_is_no_claim(given: object) -> None:
    assert broken(lambda: parse_claim(given, CATALOGUE.series, CATALOGUE.active)) == [("body", "object")]


def test_a_refusal_shows_the_value_shortened_and_without_control_characters() -> None:
    refusal = refuse("value", "\x1b[31m" + "x" * 500, "decimal", "is not")
    (violation,) = refusal.violations
    assert len(violation.value) <= 81
    assert violation.value.isprintable()
    assert str(refusal) == "value: is not [decimal]"
    assert shown("\ud800\x00") == "\ufffd\ufffd"


def test_a_record_full_of_unknown_fields_gets_a_refusal_of_bounded_size() -> None:
    """Otherwise its dead letter would be larger than a queue takes, and would hold its neighbours up."""
    body = {**claim_body(), **{f"x{n}": "y" for n in range(4_000)}}
    with pytest.raises(InvalidInput) as refusal:
        parse_claim(body, CATALOGUE.series, CATALOGUE.active)
    assert len(json.dumps([v.as_json() for v in refusal.value.violations])) < 16_384


# definitions -------------------------------------------------------------------------------------


BAD_SERIES: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "no currency": (series_body(currency=None), [("semantics.currency", "required")]),
    "no base currency": (series_body(base_currency=None), [("semantics.base_currency", "required")]),
    "volume without unit": ({**series_body(), "kind": "volume"}, [("semantics.unit", "required")]),
    "rate without unit": ({**series_body(), "kind": "rate"}, [("semantics.unit", "required")]),
    "unknown kind": ({**series_body(), "kind": "colour"}, [("kind", "choice")]),
    "unknown timing": (series_body(timing="sometimes"), [("semantics.timing", "choice")]),
    "unknown calendar": (series_body(calendar="MOON"), [("semantics.calendar", "calendar")]),
    "unknown zone": (daily_body(snap_zone="Mars/Base"), [("zone", "iana-zone")]),
    "path as zone": (daily_body(snap_zone="../../etc/passwd"), [("zone", "iana-zone")]),
    "snap time without zone": (daily_body(snap_zone=None), [("semantics.snap_zone", "iana-zone")]),
    "zone without snap time": (daily_body(snap_time=None), [("semantics.snap_time", "clock-time")]),
    "25 o'clock": (daily_body(snap_time="25:00"), [("semantics.snap_time", "clock-time")]),
    "unknown field": ({**series_body(), "colour": "red"}, [("colour", "known-field")]),
    "unknown semantics": (series_body(colour="red"), [("semantics.colour", "known-field")]),
    "blank name": ({**series_body(), "name": " "}, [("name", "text")]),
    "line break in the name": ({**series_body(), "name": "a\nb"}, [("name", "text")]),
}


@pytest.mark.parametrize(("body", "expected"), BAD_SERIES.values(), ids=BAD_SERIES.keys())
def test_a_series_is_refused_naming_field_and_rule(
    body: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert broken(lambda: parse_series(body)) == expected


@pytest.mark.parametrize("body", [series_body(), daily_body()])
def test_a_series_survives_its_event(body: dict[str, Any]) -> None:
    parsed = parse_series(body)
    assert parse_series(json.loads(json.dumps(parsed.as_json()))) == parsed


BAD_RULES: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "unknown method": ({"method": "dice"}, [("method", "choice")]),
    "unknown fallback": ({"fallback": "dice"}, [("fallback", "choice")]),
    "source named twice": ({"precedence": ["alpha", "alpha"]}, [("precedence", "distinct-list")]),
    "precedence in words": ({"precedence": "alpha"}, [("precedence", "distinct-list")]),
    "negative tolerance": ({"tolerance": "-0.1"}, [("tolerance", "not-negative")]),
    "no source needed": ({"min_sources": 0}, [("min_sources", "count")]),
    "half a source needed": ({"min_sources": "1.5"}, [("min_sources", "count")]),
    "true sources needed": ({"min_sources": True}, [("min_sources", "count")]),
    "range the wrong way": ({"range": ["2", "1"]}, [("range", "ordered")]),
    "range of one": ({"range": ["2"]}, [("range", "pair")]),
    "staleness in words": ({"max_staleness": "a day"}, [("max_staleness", "iso-8601-duration")]),
    "unknown field": ({"colour": "red"}, [("colour", "known-field")]),
}


@pytest.mark.parametrize(("changes", "expected"), BAD_RULES.values(), ids=BAD_RULES.keys())
def test_a_rule_set_is_refused_naming_field_and_rule(
    changes: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert broken(lambda: parse_rules(rules_body(**changes), 1)) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"kind": "rumour"}, [("kind", "choice")]),
        ({"active": "yes"}, [("active", "boolean")]),
        ({"source": "A B"}, [("source", "name")]),
        ({"licence": ""}, [("licence", "text")]),
        ({"licence": None}, [("licence", "required")]),
    ],
)
def test_a_source_is_refused_naming_field_and_rule(
    changes: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert broken(lambda: parse_source(source_body(**changes))) == expected


# records of the stream ---------------------------------------------------------------------------


POISON: dict[str, tuple[bytes, str, str]] = {
    "malformed JSON": (b'{"snap": ', "record", "json"),
    "empty record": (b"", "record", "json"),
    "bytes that are no text": (b"\xff\xfe\x00", "record", "json"),
    "deeply nested JSON": (b"[" * 60_000, "record", "json"),
    "exponent of 20 digits": (b'{"value": 1e99999999999999999999}', "record", "json"),
    "oversize": (b'{"pad": "' + b"x" * MAX_BYTES + b'"}', "record", "max-bytes"),
    "duplicate key": (b'{"value": "1", "value": "2"}', "value", "distinct-keys"),
    "JSON's NaN": (b'{"value": NaN}', "value", "finite"),
    "JSON's -Infinity": (b'{"value": -Infinity}', "value", "finite"),
    "400 digits as a JSON number": (
        claim_record(value="@").replace(b'"@"', b"1" * 400),
        "value",
        "max-digits",
    ),
    "array": (b"[]", "body", "object"),
    "null": (b"null", "body", "object"),
    "record id that is no text": (claim_record(record_id=7), "record_id", "identifier"),
    "load of 129 characters": (claim_record(correlation_id="x" * 129), "correlation_id", "identifier"),
    "NUL in the record id": (claim_record(record_id="a\x00"), "record_id", "identifier"),
    "naive time": (claim_record(snap="2026-01-05T16:00:00"), "snap", "aware-time"),
}


@pytest.mark.parametrize(("payload", "field", "rule"), POISON.values(), ids=POISON.keys())
def test_a_poison_record_is_dead_lettered_with_its_reason_and_its_neighbours_are_taken(
    payload: bytes, field: str, rule: str
) -> None:
    store, letters = MemoryEventStore(), MemoryDeadLetters()
    ingest = ingest_into(store, FixedCatalogue(CATALOGUE), letters=letters)
    batch = [
        Delivery("1", "load", claim_record()),
        Delivery("2", "load", payload),
        Delivery("3", "load", claim_record(source="beta")),
    ]
    assert ingest.deliveries(batch) == {"accepted": 2, "duplicate": 0, "rejected": 1, "redelivered": 0}
    (letter,) = letters.letters
    assert [(v["field"], v["rule"]) for v in letter.violations] == [(field, rule)]
    assert letter.payload == payload
    assert f"[{rule}]" in letter.reason
    assert {e.data["source"] for e in store.log if e.data["reference_data_id"] == EUR} == {"alpha", "beta"}
