"""Ingest through the real handler, beside COPY of the same rows and the library `eventsourcing`.

One process, a commit per batch of 500 records, fsync on. A round is the same claims for every contender,
one after the other, on one server, in databases that have grown by the same.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks import feed, parts, stored
from benchmarks.common import Document, Options, Result, Rounds, against, document, main
from benchmarks.library import Claims, Library, domain_events, originated
from local.aws import AwsServer
from qis.adapters.postgres.event_store import PostgresEventStore

if TYPE_CHECKING:
    from psycopg import Connection

OURS = "ingest handler"
COPY = "psycopg COPY of the same rows"
COPY_TEXT = "COPY of the same rows, already rendered"
LIBRARY = "eventsourcing 9, event store on the application recorder"
LIBRARY_APPLICATION = "eventsourcing 9, an application: streams read, added to and saved together"
LIBRARY_RECORDER = "eventsourcing 9, application recorder alone"
LIBRARY_UNORDERED = "eventsourcing 9, aggregate recorder alone"


def run(given: Mapping[str, object] | None = None) -> Document:
    """The document. Options ``quick`` and ``data``."""
    options = Options.of(given or {})
    series, rounds, batches = (100, 1, 2) if options.quick else (1_000, 15, 8)
    mixes = (feed.MIXED,) if options.quick else (feed.MIXED, feed.ONE, feed.THREE)
    ids = feed.series_ids(series)
    with parts.folder(options) as home, parts.postgres(home, options) as server, parts.aws(home) as aws:
        with _contenders(server, aws, ids) as contenders:
            taken = [
                (mix, _measure(contenders, mix, ids, rounds if mix is mixes[0] else rounds // 2, batches))
                for mix in mixes
            ]
        return document(
            "ingest",
            [r for mix, each in taken for r in _results(mix, each, batches * feed.BATCH)],
            **parts.about(home, server),
            feed={
                "series": series,
                "batch": feed.BATCH,
                "batches_per_round": batches,
                "first_claims": {mix.name: round(mix.first_claims, 3) for mix in mixes},
            },
        )


@dataclass(frozen=True, slots=True)
class Contenders:
    """Who is measured."""

    server: parts.Postgres
    handle: Callable[[dict[str, Any]], object]
    log: Connection
    copy: Connection
    copy_text: Connection
    application: Claims
    library: Library
    library_recorder: Library
    library_unordered: Library


@contextlib.contextmanager
def _contenders(server: parts.Postgres, aws: AwsServer, ids: Sequence[str]) -> Iterator[Contenders]:
    target = server.database("bench_ingest")
    wired = parts.wiring(target, aws.url, "http://127.0.0.1/unused", "")
    database = parts.open_database(target)
    feed.register(PostgresEventStore(database), ids)
    database.close()
    for name in ("copy", "copy_text"):
        server.database(f"bench_ingest_{name}")
    variables = {**aws.environment(), **parts.function_environment(wired, "ingest", target)}
    aws.client("sqs").create_queue(QueueName=variables["QIS_INGEST_DLQ_URL"].rpartition("/")[2])
    with contextlib.ExitStack() as stack:
        stack.enter_context(parts.environment(variables))
        log, copy, copy_text = (
            stack.enter_context(contextlib.closing(server.connect(name)))
            for name in ("bench_ingest", "bench_ingest_copy", "bench_ingest_copy_text")
        )
        libraries = (
            stack.enter_context(
                contextlib.closing(
                    Library(server.database(f"bench_ingest_{name}", migrated=False), ordered=o)
                )
            )
            for name, o in (("store", True), ("recorder", True), ("unordered", False))
        )
        application = stack.enter_context(
            contextlib.closing(Claims(server.database("bench_ingest_application", migrated=False)))
        )
        yield Contenders(server, parts.handler("ingest"), log, copy, copy_text, application, *libraries)


def _measure(
    contenders: Contenders, mix: feed.Mix, ids: Sequence[str], rounds: int, batches: int
) -> dict[str, Rounds]:
    """Rounds of each contender, by its name; the first, in which all is warmed up, is not kept."""
    claims = feed.claims(mix, ids)
    taken: dict[str, Rounds] = {}
    for number in range(rounds + 1):
        events = feed.batches(
            claims, batches, 1_000_000 * int(mix.first_day.timestamp()) + number * 1_000_000
        )
        if number == 1:
            taken = {}
            contenders.server.settle()
        _round(contenders, events, taken)
    return taken


def _round(contenders: Contenders, events: Sequence[dict[str, Any]], taken: dict[str, Rounds]) -> None:
    def timed(name: str, call: Callable[[Any], object], arguments: Sequence[Any]) -> None:
        gc.collect()
        taken.setdefault(name, Rounds([], [])).run([partial(call, a) for a in arguments])

    before = stored.last_position(contenders.log)
    with parts.quiet():
        timed(OURS, contenders.handle, events)
    rows = stored.rows_after(contenders.log, before)
    expected = sum(len(e["Records"]) for e in events)
    if len(rows) != expected:
        raise RuntimeError(f"{expected} claims became {len(rows)} events")
    runs = [rows[i : i + feed.BATCH] for i in range(0, len(rows), feed.BATCH)]
    timed(COPY, partial(stored.copy_rows, contenders.copy), [stored.with_json(r) for r in runs])
    timed(COPY_TEXT, partial(stored.copy_text, contenders.copy_text), [stored.as_text(r) for r in runs])
    timed(LIBRARY, contenders.library.put, [domain_events(r) for r in runs])
    known = [originated(r) for r in runs]
    timed(LIBRARY_APPLICATION, contenders.application.take, known)
    timed(LIBRARY_RECORDER, contenders.library_recorder.record, known)
    timed(LIBRARY_UNORDERED, contenders.library_unordered.record, known)


def _results(mix: feed.Mix, taken: Mapping[str, Rounds], n: int) -> list[Result]:
    metric = f"ingest, {mix.name}"
    return [
        against(metric, "records/s", n, taken[OURS], name, taken[name])
        for name in (COPY, COPY_TEXT, LIBRARY_APPLICATION, LIBRARY, LIBRARY_RECORDER, LIBRARY_UNORDERED)
    ]


if __name__ == "__main__":
    main(run)
