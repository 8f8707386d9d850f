"""A made-up market data feed: daily closes of registered series, as Kinesis brings them.

Each day the sources deliver one after the other what they cover. All figures follow from the seed.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from qis.adapters.postgres.event_store import PostgresEventStore
from qis.application.ports import Append
from qis.domain import events as ev
from qis.domain.rules import parse_rules, rule_set_json
from qis.domain.series import parse_series, parse_source

SOURCES = ("alpha", "beta", "gamma")
BATCH = 500
_SEQUENCE = 49590338271490256608559692538361571095921575989136


@dataclass(frozen=True, slots=True)
class Mix:
    """A feed: each source with the part of the series that it covers, from a first day on."""

    name: str
    coverage: Mapping[str, float]
    first_day: datetime

    @property
    def first_claims(self) -> float:
        """The part of the claims that are the first on their snap."""
        return max(self.coverage.values()) / sum(self.coverage.values())


MIXED = Mix(
    "three sources, overlapping",
    {"alpha": 1, "beta": 0.4, "gamma": 0.2},
    datetime(2024, 1, 1, 21, tzinfo=UTC),
)
"""Every series has a source, some have two, few have three."""
ONE = Mix("one source", {"alpha": 1}, datetime(2004, 1, 1, 21, tzinfo=UTC))
THREE = Mix(
    "three sources for every series",
    {"alpha": 1, "beta": 1, "gamma": 1},
    datetime(1984, 1, 1, 21, tzinfo=UTC),
)


def series_ids(count: int) -> list[str]:
    """Names of the registered series."""
    return [f"BENCH.EQ.{n:05d}" for n in range(count)]


def rules_body() -> dict[str, Any]:
    return {
        "rules": "bench",
        "method": "precedence",
        "precedence": list(SOURCES),
        "tolerance": "0.001",
        "min_sources": 1,
        "fallback": "median",
    }


def series_body(reference_data_id: str) -> dict[str, Any]:
    return {
        "reference_data_id": reference_data_id,
        "name": f"Benchmark {reference_data_id}",
        "kind": "price",
        "rules": "bench",
        "semantics": {"price_type": "close", "currency": "USD", "timing": "point_in_time"},
    }


def source_body(source: str) -> dict[str, Any]:
    return {"source": source, "name": source.title(), "kind": "simulated", "licence": "none"}


def register(store: PostgresEventStore, ids: Sequence[str]) -> None:
    """Register rules, sources and series, in one transaction."""

    def append(stream: str, type_: str, data: dict[str, Any]) -> Append:
        return Append(stream, 0, (ev.NewEvent(type_, data),), "benchmark", "benchmark")

    appends = [
        append(ev.rules_stream("bench"), ev.RULES_CHANGED, rule_set_json(parse_rules(rules_body(), 1))),
        *(
            append(ev.source_stream(s), ev.SOURCE_ADDED, parse_source(source_body(s)).as_json())
            for s in SOURCES
        ),
        *(
            append(ev.series_stream(i), ev.SERIES_REGISTERED, parse_series(series_body(i)).as_json())
            for i in ids
        ),
    ]
    if store.append(appends):
        raise RuntimeError("the benchmark's series are registered already")


def claims(mix: Mix, ids: Sequence[str], seed: int = 1) -> Iterator[dict[str, str]]:
    """Claims without end, in the order in which the feed has them."""
    numbers = random.Random(seed)
    price = {i: Decimal(numbers.randrange(10_000, 5_000_000)) / 10_000 for i in ids}
    day = mix.first_day
    while True:
        for i in ids:
            price[i] += Decimal(numbers.randrange(-500, 501)) / 10_000
        received = day + timedelta(seconds=30)
        for source, covered in mix.coverage.items():
            for i in ids[: round(len(ids) * covered)]:
                received += timedelta(microseconds=numbers.randrange(100, 5_000))
                yield {
                    "snap": day.isoformat(),
                    "reference_data_id": i,
                    "source": source,
                    "value": str(price[i] + Decimal(numbers.randrange(-2, 3)) / 10_000),
                    "currency": "USD",
                    "received_at": received.isoformat(),
                }
        day += timedelta(days=1)


def batches(feed: Iterator[dict[str, str]], count: int, first: int) -> list[dict[str, Any]]:
    """The next ``count`` batches as Lambda delivers them; ``first`` numbers the first record."""
    return [
        {"Records": [_record(next(feed), first + b * BATCH + n) for n in range(BATCH)]} for b in range(count)
    ]


def _record(claim: dict[str, str], number: int) -> dict[str, Any]:
    sequence = str(_SEQUENCE + number)
    data = json.dumps(claim, separators=(",", ":")).encode()
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": claim["reference_data_id"],
            "sequenceNumber": sequence,
            "data": base64.b64encode(data).decode(),
            "approximateArrivalTimestamp": 1_767_646_800.0 + number % 1_000_000 / 1000,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"shardId-000000000000:{sequence}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": "arn:aws:iam::000000000000:role/ingest",
        "awsRegion": "us-east-1",
        "eventSourceARN": "arn:aws:kinesis:us-east-1:000000000000:stream/qis-local-ingest",
    }
