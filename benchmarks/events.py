"""The event log: appending in batches, and a follower reading all of it, beside other ways."""

from __future__ import annotations

import contextlib
import gc
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from benchmarks import feed, parts, stored
from benchmarks.common import Document, Options, Result, Rounds, against, document, main
from benchmarks.library import Library, originated
from qis.adapters.postgres.event_store import PostgresEventStore
from qis.adapters.postgres.followers import PostgresFollower
from qis.application.ports import Append
from qis.domain import events as ev

if TYPE_CHECKING:
    from psycopg import Connection

OURS = "event store"
INSERT = "single INSERT and commit"
LIBRARY = "eventsourcing 9, application recorder alone"
PAGE = 500


@dataclass(frozen=True, slots=True)
class Contenders:
    """Who is measured."""

    store: PostgresEventStore
    follower: PostgresFollower
    insert: Connection
    library: Library


def run(given: Mapping[str, object] | None = None) -> Document:
    """The document. Options ``quick`` and ``data``."""
    options = Options.of(given or {})
    rounds = 1 if options.quick else 9
    calls = {1: 5, 50: 2, 500: 1} if options.quick else {1: 100, 50: 20, 500: 8}
    with (
        parts.folder(options) as home,
        parts.postgres(home, options) as server,
        _contenders(server) as contenders,
    ):
        numbers = count()
        results = [
            result
            for size, times in calls.items()
            for result in _appends(contenders, server, numbers, size, times, rounds)
        ]
        results.append(_follow(contenders, server, rounds))
        return document("events", results, **parts.about(home, server), page=PAGE)


@contextlib.contextmanager
def _contenders(server: parts.Postgres) -> Iterator[Contenders]:
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(
            contextlib.closing(parts.open_database(server.database("bench_events")))
        )
        server.database("bench_events_insert")
        insert = stack.enter_context(contextlib.closing(server.connect("bench_events_insert")))
        target = server.database("bench_events_library", migrated=False)
        library = stack.enter_context(contextlib.closing(Library(target, ordered=True)))
        follower = PostgresFollower(database.connect(), "benchmark")
        yield Contenders(PostgresEventStore(database), follower, insert, library)


def _appends(
    contenders: Contenders,
    server: parts.Postgres,
    numbers: Iterator[int],
    size: int,
    times: int,
    rounds: int,
) -> list[Result]:
    taken: dict[str, Rounds] = {}
    server.settle()
    for number in range(rounds + 1):
        batches = [_appended(numbers, size) for _ in range(times)]
        rows = [[_row(a) for a in batch] for batch in batches]
        work: dict[str, list[Callable[[], object]]] = {
            OURS: [partial(contenders.store.append, batch) for batch in batches],
            INSERT: [partial(stored.insert_rows, contenders.insert, stored.with_json(r)) for r in rows],
            LIBRARY: [partial(contenders.library.record, originated(r)) for r in rows],
        }
        for name, calls in work.items():
            gc.collect()
            round_ = taken.setdefault(name, Rounds([], [])) if number else Rounds([], [])
            round_.run(calls)
    metric = f"append, {size} event{'s' if size > 1 else ''} a commit"
    return [
        against(metric, "events/s", size * times, taken[OURS], name, taken[name])
        for name in (INSERT, LIBRARY)
    ]


def _appended(numbers: Iterator[int], size: int) -> list[Append]:
    """One event on each of ``size`` new streams."""
    found = []
    for number in (next(numbers) for _ in range(size)):
        id_, snap = f"BENCH.EQ.{number % 1000:05d}", f"2024-01-01T00:00:00.{number:09d}Z"
        data = {
            "claim_id": uuid4().hex,
            "reference_data_id": id_,
            "snap": snap,
            "source": "alpha",
            "value": "123.4567",
            "received_at": "2024-01-01T00:00:30.123456Z",
            "record_id": f"shardId-000000000000:{number:056d}",
            "raw": {"uri": "s3://qis-local-raw/raw/00/" + "0" * 64 + ".jsonl.gz", "index": number % 500},
        }
        event = ev.NewEvent(ev.DATA_INGESTED, data)
        found.append(Append(ev.value_stream(id_, snap), 0, (event,), "feed:alpha", "feed-2024-01-01"))
    return found


def _row(append: Append) -> stored.Row:
    (event,) = append.events
    return (
        uuid4(),
        event.type,
        1,
        append.stream,
        1,
        feed.MIXED.first_day,
        append.actor,
        append.correlation_id,
        None,
        event.data,
    )


def _follow(contenders: Contenders, server: parts.Postgres, rounds: int) -> Result:
    server.settle()
    mine, library = Rounds([], []), Rounds([], [])
    for number in range(rounds + 1):
        for round_, pages in ((mine, _our_pages(contenders)), (library, _library_pages(contenders))):
            gc.collect()
            (round_ if number else Rounds([], [])).run([partial(_exhaust, pages)])
    n = sum(1 for page in _our_pages(contenders) for _ in page)
    return against(f"follow, pages of {PAGE}", "events/s", n, mine, LIBRARY, library)


def _exhaust(pages: Iterator[Sequence[Any]]) -> None:
    for _ in pages:
        pass


def _our_pages(contenders: Contenders) -> Iterator[Sequence[ev.Event]]:
    at = ev.START
    while page := contenders.follower.read(at, PAGE):
        yield page
        at = page[-1].position


def _library_pages(contenders: Contenders) -> Iterator[Sequence[Any]]:
    start = 1
    while page := contenders.library.notifications(start, PAGE):
        yield [json.loads(n.state) for n in page]  # ours are decoded too
        start = page[-1].id + 1


if __name__ == "__main__":
    main(run)
