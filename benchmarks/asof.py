"""Point reads as of a past moment beside reads of the latest value, by the number of versions.

A pair is one read of each, of the same value, through the reading adapter, the order changing from pair to
pair; so is the naive way, which keeps no read model and finds the version in the event log.
"""

from __future__ import annotations

import contextlib
import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from benchmarks import feed, parts, published
from benchmarks.common import Document, Options, Result, document, main, paired_ratio, percentiles
from qis.adapters.postgres.event_store import PostgresEventStore
from qis.adapters.postgres.reads import PostgresReads
from qis.application.reading import LATEST, Knowledge
from qis.domain import events as ev

if TYPE_CHECKING:
    from psycopg import Connection

NAIVE = "DISTINCT ON over the events"
_NAIVE = """
SELECT DISTINCT ON (stream) data ->> 'value', version FROM events
WHERE stream = %s AND recorded_at <= %s AND type IN ('DataPublished', 'DataRestated')
ORDER BY stream, version DESC
"""


def run(given: Mapping[str, object] | None = None) -> Document:
    """The document. Options ``quick`` and ``data``."""
    options = Options.of(given or {})
    rounds, pairs = (2, 20) if options.quick else (7, 500)
    series = {1: 20, 10: 10, 20: 2} if options.quick else {1: 1_000, 10: 200, 1_000: 5}
    with (
        parts.folder(options) as home,
        parts.postgres(home, options) as server,
        contextlib.ExitStack() as stack,
    ):
        database = stack.enter_context(contextlib.closing(parts.open_database(server.database("bench_asof"))))
        feed.register(PostgresEventStore(database), feed.series_ids(max(series.values())))
        values = {
            versions: published.keys(feed.series_ids(count), 1, day)
            for day, (versions, count) in enumerate(series.items())
        }
        for versions, keys in values.items():
            published.publish(database, keys, versions)
        owner = stack.enter_context(contextlib.closing(server.connect("bench_asof")))
        server.settle()
        bench = _Bench(PostgresReads(database), owner, rounds, pairs)
        results, medians = [], {}
        for versions, keys in values.items():
            found = bench.measure(keys)
            medians[versions] = statistics.median(percentiles(r)[0] for r in found["as of"])
            results += _results(versions, found, rounds * pairs)
        results += [_flat(versions, medians, rounds * pairs) for versions in list(series)[1:]]
        return document("asof", results, **parts.about(home, server))


class _Bench:
    def __init__(self, reads: PostgresReads, owner: Connection, rounds: int, pairs: int) -> None:
        self._reads = reads
        self._owner = owner
        self._rounds = rounds
        self._pairs = pairs
        self._numbers = random.Random(1)

    def measure(self, keys: Sequence[published.Key]) -> dict[str, list[list[float]]]:
        """Milliseconds of each read, by contender and round; a first round warms up and is not kept."""
        moments = {key: self._moments(key) for key in keys}
        taken: dict[str, list[list[float]]] = {"as of": [], "latest": [], NAIVE: []}
        for number in range(self._rounds + 1):
            gc.collect()
            round_ = self._round(moments)
            if number:
                for name, values in round_.items():
                    taken[name].append(values)
        return taken

    def _round(self, moments: Mapping[published.Key, list[datetime]]) -> dict[str, list[float]]:
        taken: dict[str, list[float]] = {"as of": [], "latest": [], NAIVE: []}
        keys = list(moments)
        for number in range(self._pairs):
            id_, snap = key = self._numbers.choice(keys)
            at = Knowledge(as_of=self._numbers.choice(moments[key]))
            work: list[tuple[str, Callable[[], object]]] = [
                ("as of", lambda i=id_, s=snap, a=at: self._reads.point(i, s, a)),  # type: ignore[misc]
                ("latest", lambda i=id_, s=snap: self._reads.point(i, s, LATEST)),  # type: ignore[misc]
            ]
            for name, call in work if number % 2 else reversed(work):
                taken[name].append(_timed(call))
            if number % 10 == 0:
                stream = ev.value_stream(id_, snap.text)
                taken[NAIVE].append(_timed(lambda s=stream, a=at.as_of: self._naive(s, a)))  # type: ignore[misc]
        return taken

    def _naive(self, stream: str, at: datetime) -> None:
        if self._owner.execute(_NAIVE, (stream, at)).fetchone() is None:
            raise RuntimeError(f"{stream} has no version at {at}")

    def _moments(self, key: published.Key) -> list[datetime]:
        rows = self._owner.execute(
            "SELECT recorded_from FROM official_values WHERE reference_data_id = %s AND snap_ns = %s",
            (key[0], key[1].ns),
        )
        return [row[0] for row in rows]


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


def _results(versions: int, taken: Mapping[str, Sequence[Sequence[float]]], n: int) -> list[Result]:
    """p50 and p99 of each round, their medians, and the medians of the ratios round by round."""
    metric = f"as-of point read, {versions} version{'s' if versions > 1 else ''}"
    mine = [percentiles(r) for r in taken["as of"]]
    whole = percentiles([v for r in taken["as of"] for v in r])
    found = []
    for name, which, quantile in (("latest", 0, "p50"), ("latest", 2, "p99"), (NAIVE, 0, "p50")):
        own = [p[which] for p in mine]
        other = [percentiles(r)[which] for r in taken[name]]
        ratio = paired_ratio(own, other)
        medians = statistics.median(own), statistics.median(other)
        found.append(
            Result(f"{metric}, {quantile}", medians[0], "ms", name, medians[1], ratio, n, *whole),
        )
    return found


def _flat(versions: int, medians: Mapping[int, float], n: int) -> Result:
    ratio = medians[versions] / medians[1]
    return Result(
        f"as-of, {versions} versions to 1, p50", medians[versions], "ms", "1 version", medians[1], ratio, n
    )


if __name__ == "__main__":
    main(run)
