"""Quantities times prices.

The quantities of what stands there come from the templates (``bills``), those of use from a model of traffic
whose figures are named here. Prices are on-demand list prices of one region at one date (``prices.json``),
each with its source. What has no known price is listed and not counted, never taken for nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MONTH_SECONDS = 730 * 3600

CLAIM_BYTES = 200
"""A claim as JSON."""
SOURCES = 3
"""Claims for one official value."""
EVENTS_PER_CLAIM = 1 + 2 / SOURCES
"""Ingested; then reconciled and published, once for all sources."""
STORED_BYTES_PER_CLAIM = 2_000
"""Events, read models and their indexes, and a week of them in one month's average."""
IO_PER_CLAIM = 2
"""Page writes and reads of the store that are billed."""
MS_PER_CLAIM = {"ingest": 0.3, "reconcile": 0.5, "publish": 0.1, "quality": 0.2}
"""Time of each function for a claim's part of a batch; `qis bench ingest` measures the first."""
CLAIMS_PER_INVOCATION = 200
MS_PER_QUERY = 8.0
ANSWER_BYTES = 1_000
LOG_BYTES_PER_INVOCATION = 1_500
TRACED = 0.1
DELIVERED_BYTES = 5_120
"""What Firehose bills for a record of up to 5 KB, as an official value is."""
LAKE_BYTES = 300
"""An official value in the lake: a row of Parquet."""
CONSUMERS = 3
PUSHED_SHARE = 0.1
"""Of all official values those that one listener asks for."""
VALUES_PER_PUSH = 4
"""Values that a message holds, on average: those of one batch that one listener asked for."""
MS_PER_PUSH = 12.0
"""Time of `realtime` for one message: four statements, and handing it to API Gateway."""
HEARTBEATS_PER_MONTH = 730 * 60
REQUESTS_PER_MESSAGE = 3
"""Sent, received, deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the bill. ``usd`` is ``None`` where the price is not known."""

    service: str
    what: str
    quantity: Decimal
    unit: str
    usd: Decimal | None
    choice: str
    basis: str
    """``documented``, ``derived``, ``unverified``, or ``unknown``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What an environment costs in a month of 730 hours."""

    environment: str
    as_of: str
    region: str
    budget_usd: Decimal | None
    idle: list[Line]
    traffic: list[Line]

    @property
    def idle_usd(self) -> Decimal:
        """Before any traffic."""
        return sum((line.usd for line in self.idle if line.usd is not None), Decimal())

    @property
    def total_usd(self) -> Decimal:
        """With the traffic asked for."""
        return self.idle_usd + sum((line.usd for line in self.traffic if line.usd is not None), Decimal())

    @property
    def unknown(self) -> list[Line]:
        """What is not counted."""
        return [line for line in (*self.idle, *self.traffic) if line.usd is None]

    def choices(self) -> list[tuple[str, Decimal]]:
        """What each setting costs before traffic, dearest first."""
        total: dict[str, Decimal] = {}
        for line in self.idle:
            if line.usd is not None:
                total[line.choice] = total.get(line.choice, Decimal()) + line.usd
        return sorted(total.items(), key=lambda pair: (-pair[1], pair[0]))


class UnknownEnvironment(ValueError):
    """No bill of this name."""


class UnlistedPrice(KeyError):
    """A line's price is neither in the table nor named there as unknown."""


def environments() -> list[str]:
    """Names of the environments with a bill."""
    return sorted(path.stem for path in (HERE / "bills").glob("*.json"))


def estimate(
    environment: str, *, claims_per_second: float, queries_per_second: float, listeners: float = 0
) -> Estimate:
    """The bill of ``environment`` in dollars.

    Args:
        listeners: open connections of the push channel, on average.

    Raises:
        UnknownEnvironment: there is none of this name.
        UnlistedPrice: the table of prices does not know a line.
    """
    path = HERE / "bills" / f"{environment}.json"
    if environment not in environments():
        raise UnknownEnvironment(f"{environment!r} is not one of {', '.join(environments())}")
    bill = json.loads(path.read_text(encoding="utf-8"))
    table = json.loads((HERE / "prices.json").read_text(encoding="utf-8"))
    budget = bill["budget_usd"]
    return Estimate(
        environment=environment,
        as_of=table["as_of"],
        region=table["region"],
        budget_usd=None if budget is None else Decimal(budget),
        idle=[_priced(table, **item) for item in bill["items"]],
        traffic=[
            _priced(table, **item)
            for item in _traffic(bill["memory_mb"], claims_per_second, queries_per_second, listeners)
        ],
    )


def _priced(
    table: Mapping[str, Any], *, service: str, what: str, price: str, quantity: float, choice: str
) -> Line:
    entry = table["prices"].get(price)
    if entry is None and price not in table["unknown"]:
        raise UnlistedPrice(price)
    amount = Decimal(str(quantity))
    return Line(
        service=service,
        what=what,
        quantity=amount,
        unit=entry["unit"] if entry else price.replace(".", "-").rpartition("-")[2],
        usd=None if entry is None else amount * Decimal(entry["usd"]),
        choice=choice,
        basis=entry["basis"] if entry else "unknown",
    )


def _traffic(
    memory_mb: Mapping[str, int], claims: float, queries: float, listeners: float
) -> Iterator[dict[str, Any]]:
    """Lines of a steady load. Bursts cost the same; what stands idle for them does not."""
    if claims:
        yield from _ingestion(memory_mb, claims * MONTH_SECONDS)
    if queries:
        yield from _reading(memory_mb, queries * MONTH_SECONDS)
    if listeners:
        yield from _pushing(memory_mb, claims * MONTH_SECONDS, listeners)


def _ingestion(memory_mb: Mapping[str, int], claims: float) -> Iterator[dict[str, Any]]:
    events, published = claims * EVENTS_PER_CLAIM, claims / SOURCES
    invocations = len(MS_PER_CLAIM) * claims / CLAIMS_PER_INVOCATION
    yield _line("Kinesis", "claims in", "kinesis.put-unit", claims)
    yield _line("Kinesis", "events to followers", "kinesis.put-unit", events)
    for name, milliseconds in MS_PER_CLAIM.items():
        seconds = claims * milliseconds / 1000
        yield _line("Lambda", name, "lambda.gb-second", seconds * memory_mb[name] / 1024)
    yield _line("Lambda", "invocations", "lambda.request", invocations)
    yield _line("S3", "raw batches", "s3.put", claims / CLAIMS_PER_INVOCATION)
    yield _line("S3", "raw claims, one month", "s3.gb-month", claims * CLAIM_BYTES / 1e9)
    yield _line("Aurora", "one month of events", "aurora.gb-month", claims * STORED_BYTES_PER_CLAIM / 1e9)
    yield _line("Aurora", "reads and writes", "aurora.io", claims * IO_PER_CLAIM)
    yield _line("EventBridge", "official values", "events.event", published)
    delivered = published * DELIVERED_BYTES / 1e9
    yield _line("Firehose", "official values to the lake", "firehose.gb", delivered)
    yield _line("Firehose", "official values as Parquet", "firehose.converted-gb", delivered)
    yield _line("S3", "official values in the lake, one month", "s3.gb-month", published * LAKE_BYTES / 1e9)
    yield _line("SQS", "to consumers", "sqs.request", published * CONSUMERS * REQUESTS_PER_MESSAGE)
    yield _line("CloudWatch", "logs", "logs.gb", invocations * LOG_BYTES_PER_INVOCATION / 1e9)
    yield _line("X-Ray", "traces", "xray.trace", invocations * TRACED)


def _reading(memory_mb: Mapping[str, int], queries: float) -> Iterator[dict[str, Any]]:
    yield _line("API Gateway", "requests", "api.rest-request", queries)
    yield _line(
        "Lambda", "query", "lambda.gb-second", queries * MS_PER_QUERY / 1000 * memory_mb["query"] / 1024
    )
    yield _line("Lambda", "queries", "lambda.request", queries)
    yield _line("CloudWatch", "logs of queries", "logs.gb", queries * LOG_BYTES_PER_INVOCATION / 1e9)
    yield _line("X-Ray", "traces of queries", "xray.trace", queries * TRACED / 2)
    yield _line("Transfer", "answers", "transfer.out-gb", queries * ANSWER_BYTES / 1e9)


def _pushing(memory_mb: Mapping[str, int], claims: float, listeners: float) -> Iterator[dict[str, Any]]:
    """Wake-ups are batches of the backbone; a heartbeat is sent where nothing else was, here: always."""
    values = claims / SOURCES * PUSHED_SHARE * listeners
    pushes = values / VALUES_PER_PUSH + HEARTBEATS_PER_MONTH * listeners
    size = memory_mb["realtime"] / 1024
    yield _line("API Gateway", "connections", "api.websocket-minute", MONTH_SECONDS / 60 * listeners)
    yield _line("API Gateway", "messages", "api.websocket-message", pushes)
    yield _line("Lambda", "realtime", "lambda.gb-second", pushes * MS_PER_PUSH / 1000 * size)
    yield _line("Lambda", "wake-ups", "lambda.request", claims / CLAIMS_PER_INVOCATION)
    yield _line("Transfer", "pushed values", "transfer.out-gb", values * ANSWER_BYTES / 1e9)


def _line(service: str, what: str, price: str, quantity: float) -> dict[str, Any]:
    return {
        "service": service,
        "what": what,
        "price": price,
        "quantity": round(quantity, 3),
        "choice": "traffic",
    }
