"""Typed builders: valid things with sensible values, of which a test changes what it is about."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from decimal import Decimal
from hashlib import md5
from itertools import count
from typing import Any

from qis.adapters.resolvers import resolver
from qis.application.corrections import Overrides
from qis.application.ports import Append, Catalogue
from qis.domain import events as ev
from qis.domain.claims import Claim, claim_identity
from qis.domain.rules import RuleBook, RuleSet, parse_layer, parse_rules, rule_set_json
from qis.domain.series import Kind, Series, Source, parse_series, parse_source
from qis.domain.snap import NANOS, Snap, parse_instant

EUR = "FX.EURUSD"
"""An intraday FX series: any instant is a snap."""
FIXING = "FX.EURUSD.ECB"
"""A daily FX series: 14:15 Berlin, TARGET days."""
SOURCES = ("alpha", "beta", "delta", "gamma")
DAY = timedelta(days=1)
OVERRIDES = Overrides(count(1_767_621_600_000).__next__, "test", resolver)
"""A clock that moves on by a millisecond at every look, and the resolvers that are installed."""
FIRST = parse_instant("2026-01-05T14:00:00Z", "snap")


def snap(days: float = 0) -> Snap:
    """The snap ``days`` after the first one."""
    return Snap(FIRST.ns + int(days * 86_400) * NANOS)


def rules_body(**changes: Any) -> dict[str, Any]:
    """A rule set as it comes by REST: precedence, 0.1 % tolerance, 5 % largest move, one source suffices."""
    return {
        "rules": "fx",
        "method": "precedence",
        "precedence": ["alpha", "beta", "gamma"],
        "tolerance": "0.001",
        "min_sources": 1,
        "fallback": "median",
        "max_move": "0.05",
        **changes,
    }


def rules(version: int = 1, **changes: Any) -> RuleSet:
    """That rule set, typed."""
    return parse_rules(rules_body(**changes), version)


def series_body(reference_data_id: str = EUR, **semantics: Any) -> dict[str, Any]:
    """An FX series as it comes by REST."""
    return {
        "reference_data_id": reference_data_id,
        "name": "Euro in US dollars",
        "kind": "fx_rate",
        "rules": "fx",
        "semantics": {
            "price_type": "mid",
            "currency": "USD",
            "base_currency": "EUR",
            "timing": "point_in_time",
            **semantics,
        },
    }


def daily_body(reference_data_id: str = FIXING, **semantics: Any) -> dict[str, Any]:
    """A daily fixing as it comes by REST."""
    daily = {"price_type": "fixing", "snap_time": "14:15", "snap_zone": "Europe/Berlin", "calendar": "ECB"}
    return series_body(reference_data_id, **{**daily, **semantics})


def series(reference_data_id: str = EUR, **semantics: Any) -> Series:
    """The FX series, typed."""
    return parse_series(series_body(reference_data_id, **semantics))


def daily(reference_data_id: str = FIXING, **semantics: Any) -> Series:
    """The daily fixing, typed."""
    return parse_series(daily_body(reference_data_id, **semantics))


def series_of(kind: Kind, reference_data_id: str, **semantics: Any) -> Series:
    """A series of any kind."""
    body = series_body(reference_data_id, **semantics)
    return parse_series({**body, "kind": kind.value})


def source_body(source: str = "alpha", **changes: Any) -> dict[str, Any]:
    """A source as it comes by REST."""
    named = {"source": source, "name": source.title(), "kind": "vendor", "licence": "test"}
    return {**named, **changes}


def source(name: str = "alpha", **changes: Any) -> Source:
    """A source, typed."""
    return parse_source(source_body(name, **changes))


def catalogue(
    series_: Iterable[Series] | None = None,
    rule_sets: Iterable[RuleSet] | None = None,
    sources: Iterable[Source] | None = None,
) -> Catalogue:
    """A catalogue; by default the FX series, the daily fixing, four sources and the rules ``fx``."""
    chosen = list(sources) if sources is not None else [source(s) for s in SOURCES]
    return Catalogue(
        revision=1,
        series={s.reference_data_id: s for s in (series_ or (series(), daily()))},
        sources={s.source: s for s in chosen},
        rules=RuleBook(parse_layer(rule_set_json(r), r.version) for r in (rule_sets or (rules(),))),
        active={s.source: s.active for s in chosen},
    )


def claim(
    source_: str = "alpha",
    value: str = "1.1000",
    at: Snap = FIRST,
    received: int | None = 60,
    reference_data_id: str = EUR,
) -> Claim:
    """A claim; ``received`` is in seconds after its snap."""
    received_at = None if received is None else Snap(at.ns + received * NANOS)
    number = Decimal(value)
    identity = claim_identity(reference_data_id, at, source_, number, received_at)
    return Claim(identity, reference_data_id, at, source_, number, None, received_at)


def claim_body(**changes: Any) -> dict[str, Any]:
    """A claim as it comes by stream or REST; a change to ``None`` leaves the field out."""
    body = {"snap": FIRST.text, "reference_data_id": EUR, "source": "alpha", "value": "1.1000", **changes}
    return {k: v for k, v in body.items() if v is not None}


def claim_record(**changes: Any) -> bytes:
    """That claim as a record of the ingest stream."""
    return json.dumps(claim_body(**changes)).encode()


def ingested(claim_: Claim, record_id: str = "record-1") -> ev.NewEvent:
    """The event that keeps a claim."""
    raw = {"uri": "s3://raw/object", "index": 0}
    return ev.NewEvent(ev.DATA_INGESTED, {**claim_.as_json(), "record_id": record_id, "raw": raw})


def published(
    value: str, at: Snap = FIRST, version: int = 1, reference_data_id: str = EUR, **more: Any
) -> ev.NewEvent:
    """The event that makes a value official: the first is a publication, later ones are restatements."""
    data = {
        "reference_data_id": reference_data_id,
        "snap": at.text,
        "value": value,
        "official_version": version,
        "quality": {},
        **more,
    }
    return ev.NewEvent(ev.DATA_PUBLISHED if version == 1 else ev.DATA_RESTATED, data)


def reconciled(
    status: str, value: str | None, at: Snap = FIRST, reference_data_id: str = EUR, **more: Any
) -> ev.NewEvent:
    """The event that records a decision."""
    data = {
        "reference_data_id": reference_data_id,
        "snap": at.text,
        "status": status,
        "value": value,
        "sources_used": [],
        "sources_rejected": [],
        **more,
    }
    return ev.NewEvent(ev.DATA_RECONCILED, data)


def detected(issue_id: object, at: Snap = FIRST, *, gate: bool = True, **more: Any) -> ev.NewEvent:
    """The event that opens an exception."""
    data = {
        "reference_data_id": EUR,
        "snap": at.text,
        "issue_id": str(issue_id),
        "kind": "suspect",
        "gate": gate,
        "proposed": "1.1",
        "claim_ids": [],
        "checks": [],
        "submitters": ["feed:alpha"],
        "reason": "test",
        **more,
    }
    return ev.NewEvent(ev.QUALITY_ISSUE_DETECTED, data)


def append(stream: str, expected: int, *events: ev.NewEvent, **more: Any) -> Append:
    """Events for one stream."""
    named = {"actor": "tester", "correlation_id": "test", **more}
    return Append(stream, expected, events, **named)


def value_append(expected: int, *events: ev.NewEvent, **more: Any) -> Append:
    """Events for the stream of the value that the first event speaks of."""
    data = events[0].data
    return append(ev.value_stream(data["reference_data_id"], data["snap"]), expected, *events, **more)


def aggregate(records: Iterable[bytes]) -> bytes:
    """Records as the Kinesis Producer Library packs them together."""
    message = _delimited(1, b"key")
    for data in records:
        message += _delimited(3, _varint(1 << 3) + _varint(0) + _delimited(3, data))
    return b"\xf3\x89\x9a\xc2" + message + md5(message, usedforsecurity=False).digest()


def _delimited(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def kinesis_event(payloads: Iterable[bytes], stream: str = "events") -> dict[str, Any]:
    """A batch as Lambda delivers it from a Kinesis stream."""
    return {"Records": [_record(i, p, stream) for i, p in enumerate(payloads)]}


def _record(number: int, payload: bytes, stream: str) -> Mapping[str, Any]:
    sequence = f"49590338271490256608559692538361571095921575989136{number:06d}"
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": "key",
            "sequenceNumber": sequence,
            "data": base64.b64encode(payload).decode(),
            "approximateArrivalTimestamp": 1545084650.987,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"shardId-000000000000:{sequence}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": "arn:aws:iam::000000000000:role/test",
        "awsRegion": "us-east-1",
        "eventSourceARN": f"arn:aws:kinesis:us-east-1:000000000000:stream/{stream}",
    }
