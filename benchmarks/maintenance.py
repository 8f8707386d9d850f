"""What writers wait for while the log and a read model are maintained, beside what they wait for alone:
months made for two million events that lie in the default partition, and a rebuild of as many values, in a
process of its own, as an operator starts it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count

from benchmarks import feed, parts, published
from benchmarks.common import Document, Options, Result, document, main, percentiles
from qis.adapters.postgres.event_store import PostgresEventStore
from qis.adapters.postgres.partitions import make_months

ROWS, QUICK_ROWS = 2_000_000, 5_000
SECONDS_ALONE, QUICK_SECONDS = 20.0, 0.5
PACE = 0.01
"""Seconds from one write to the next."""

# Values as reconciliation publishes them, each in a stream of its own, a thousand a transaction.
_FILL = """
INSERT INTO events (recorded_at, event_id, stream, version, type, type_version, actor, correlation_id, data)
SELECT now(), gen_random_uuid(), 'value:BENCH.' || n || '@2025-06-30T12:00:00Z', 1, 'DataPublished', 1,
    'bench', 'bench', jsonb_build_object('reference_data_id', 'BENCH.' || n,
        'snap', '2025-06-30T12:00:00Z', 'value', n || '.25', 'official_version', 1,
        'quality', '{"accuracy": "1.0000", "completeness": "1.0000"}'::jsonb, 'method', 'precedence',
        'confidence', '0.7500', 'sources', '["alpha", "beta"]'::jsonb, 'rules', 'bench', 'rules_version', 1)
FROM generate_series(%s::integer, %s::integer) n
"""


def run(given: Mapping[str, object] | None = None) -> Document:
    """The document. Options ``quick`` and ``data``."""
    options = Options.of(given or {})
    rows = QUICK_ROWS if options.quick else ROWS
    with (
        parts.folder(options) as home,
        parts.postgres(home, options) as server,
        contextlib.ExitStack() as stack,
    ):
        database = stack.enter_context(
            contextlib.closing(parts.open_database(server.database("bench_writers")))
        )
        owner = stack.enter_context(contextlib.closing(server.connect("bench_writers")))
        for (month,) in owner.execute("SELECT partition FROM event_partitions()").fetchall():
            owner.execute(f"DROP TABLE {month}")
        for first in range(1, rows + 1, 1_000):
            owner.execute(_FILL, (first, min(first + 999, rows)))
        rebuild = [sys.executable, "-m", "qis", "rebuild", "official_values", "--json"]
        rebuild += ["--dsn", server.server.dsn_of("bench_writers")]
        subprocess.run(rebuild, check=True, capture_output=True)  # the first one fills the table
        server.settle()
        writer = _Writer(PostgresEventStore(database))
        alone = writer.until(_passed(QUICK_SECONDS if options.quick else SECONDS_ALONE))
        with ThreadPoolExecutor(1) as pool:
            making = pool.submit(make_months, owner)
            beside_months = writer.until(making.done)
            if not making.result():
                raise RuntimeError("no month was missing")
        beside_months += writer.until(_passed(1.0))
        running = subprocess.Popen(rebuild, stdout=subprocess.PIPE)
        beside = writer.until(lambda: running.poll() is not None)
        output, _ = running.communicate()
        answer = json.loads(output)
        if not (answer["equal"] and answer["swapped"]):
            raise RuntimeError(f"the rebuilt table differs: {answer}")
        results = [
            _beside("longest wait of a writer, new months", max(beside_months), max(alone), beside_months),
            _beside("longest wait of a writer, rebuild", max(beside), max(alone), beside),
            _beside("p99 of writers, rebuild", percentiles(beside)[2], percentiles(alone)[2], beside),
        ]
        return document("maintenance", results, rows=answer["rows"], **parts.about(home, server))


def _beside(metric: str, value: float, alone: float, waits: list[float]) -> Result:
    return Result(
        metric,
        value,
        "ms",
        "alone",
        alone,
        value / alone,
        len(waits),
        *percentiles(waits),
    )


def _passed(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


class _Writer:
    """Publishes a value at a time, each new, at a steady pace."""

    def __init__(self, store: PostgresEventStore) -> None:
        self._store = store
        self._days = count()

    def until(self, over: Callable[[], bool]) -> list[float]:
        """Milliseconds of each write, from the moment at which it was due."""
        waits: list[float] = []
        due = time.perf_counter()
        while not over():
            (key,) = published.keys(feed.series_ids(1), 1, next(self._days))
            if self._store.append([published.append(key, 1)]):
                raise RuntimeError("a new value has a history")
            waits.append((time.perf_counter() - due) * 1000)
            due = max(due + PACE, time.perf_counter())
            time.sleep(max(0.0, due - time.perf_counter()))
        return waits


if __name__ == "__main__":
    main(run)
