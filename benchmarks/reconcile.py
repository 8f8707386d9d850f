"""Decisions through the real ``reconcile`` handler, beside COPY of the events that it appended.

One process, a batch of 500 records of the backbone a call, a commit for each, fsync on. A round is claims
that the real ``ingest`` handler has just stored (that is not timed), in the order of the log.
"""

from __future__ import annotations

import base64
import contextlib
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks import feed, parts, stored
from benchmarks.common import Document, Options, Rounds, against, document, main
from local.aws import AwsServer
from qis.adapters.postgres.event_store import PostgresEventStore
from qis.adapters.postgres.followers import PostgresFollower
from qis.application.relay import backbone_record
from qis.domain.events import Event, Position

if TYPE_CHECKING:
    from psycopg import Connection

OURS = "reconcile handler"
COPY = "psycopg COPY of the events that it appended"
BATCHES = 8


def run(given: Mapping[str, object] | None = None) -> Document:
    """The document. Options ``quick`` and ``data``."""
    options = Options.of(given or {})
    series, rounds = (100, 1) if options.quick else (1_000, 12)
    mixes = (feed.MIXED,) if options.quick else (feed.MIXED, feed.THREE)
    ids = feed.series_ids(series)
    with parts.folder(options) as home, parts.postgres(home, options) as server, parts.aws(home) as aws:
        with _system(server, aws, ids) as system:
            results = [
                against(
                    f"reconcile, {mix.name}", "claims/s", BATCHES * feed.BATCH, taken[OURS], COPY, taken[COPY]
                )
                for mix in mixes
                for taken in [_measure(system, mix, ids, rounds)]
            ]
        return document("reconcile", results, **parts.about(home, server), batch=feed.BATCH)


@dataclass(frozen=True, slots=True)
class _System:
    """The two handlers, and the databases of ours and of the baseline."""

    server: parts.Postgres
    ingest: Callable[[dict[str, Any]], object]
    reconcile: Callable[[dict[str, Any]], object]
    log: Connection
    copy: Connection


@contextlib.contextmanager
def _system(server: parts.Postgres, aws: AwsServer, ids: Sequence[str]) -> Iterator[_System]:
    target = server.database("bench_reconcile")
    server.database("bench_reconcile_copy")
    wired = parts.wiring(target, aws.url, "http://127.0.0.1/unused", "")
    with contextlib.closing(parts.open_database(target)) as database:
        feed.register(PostgresEventStore(database), ids)
    ingest_variables = {**aws.environment(), **parts.function_environment(wired, "ingest", target)}
    with parts.environment(ingest_variables), parts.quiet():
        ingest = parts.handler("ingest")
        ingest({"Records": feed.batches(feed.claims(feed.ONE, ids), 1, 0)[0]["Records"][:1]})
    with (
        parts.environment({**parts.NO_AWS, **parts.function_environment(wired, "reconcile", target)}),
        contextlib.closing(server.connect("bench_reconcile")) as log,
        contextlib.closing(server.connect("bench_reconcile_copy")) as copy,
    ):
        yield _System(server, ingest, parts.handler("reconcile"), log, copy)


def _measure(system: _System, mix: feed.Mix, ids: Sequence[str], rounds: int) -> dict[str, Rounds]:
    """Rounds of each contender, by its name; the first, in which all is warmed up, is not kept."""
    claims = feed.claims(mix, ids)
    taken: dict[str, Rounds] = {}
    for number in range(rounds + 1):
        first = 1_000_000 * int(mix.first_day.timestamp()) + number * 1_000_000
        if number == 1:
            taken = {}
            system.server.settle()
        _round(system, feed.batches(claims, BATCHES, first), taken)
    return taken


def _round(system: _System, arriving: Sequence[dict[str, Any]], taken: dict[str, Rounds]) -> None:
    follower = PostgresFollower(system.log, "benchmark")
    before = _end(system.log)
    with parts.quiet():
        for batch in arriving:
            system.ingest(batch)
    ingested = follower.read(before, 2 * BATCHES * feed.BATCH)
    if len(ingested) != BATCHES * feed.BATCH:
        raise RuntimeError(f"{BATCHES * feed.BATCH} claims became {len(ingested)} events")
    runs = [_delivered(ingested[i : i + feed.BATCH]) for i in range(0, len(ingested), feed.BATCH)]
    decided_after = stored.last_position(system.log)
    gc.collect()
    with parts.quiet():
        taken.setdefault(OURS, Rounds([], [])).run([partial(system.reconcile, r) for r in runs])
    rows = stored.with_json(stored.rows_after(system.log, decided_after))
    size = -(-len(rows) // BATCHES)
    gc.collect()
    taken.setdefault(COPY, Rounds([], [])).run(
        [partial(stored.copy_rows, system.copy, rows[i : i + size]) for i in range(0, len(rows), size)]
    )


def _end(log: Connection) -> Position:
    """The last place of the log; nothing else writes to it."""
    row = log.execute("SELECT tx, position FROM events ORDER BY tx DESC, position DESC LIMIT 1").fetchone()
    assert row is not None
    return Position(int(row[0]), row[1])


def _delivered(events: Sequence[Event]) -> dict[str, Any]:
    """Events as Lambda delivers them from the backbone."""
    records = []
    for number, event in enumerate(events):
        key, body = backbone_record(event)
        kinesis = {
            "partitionKey": key,
            "sequenceNumber": str(number),
            "data": base64.b64encode(body).decode(),
            "approximateArrivalTimestamp": event.recorded_at.timestamp(),
        }
        records.append({"kinesis": kinesis, "eventSource": "aws:kinesis"})
    return {"Records": records}


if __name__ == "__main__":
    main(run)
