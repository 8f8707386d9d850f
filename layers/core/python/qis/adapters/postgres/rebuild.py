"""Rebuilding a read model from the log: to check the live one, or to put a new one in its place."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qis.adapters.postgres.projections import MODELS, Model, Placed, placed_of
from qis.domain.errors import Conflict, NotFound
from qis.domain.events import START, Position, upcast

if TYPE_CHECKING:
    from psycopg import Connection

BATCH = 5_000
SWAPS = 40
"""Attempts to put the new table in the place of the old one."""
PAUSE = 0.05
"""Seconds between them."""

_READ = """
SELECT event_id, type, version, data, actor, recorded_at, tx, position, type_version FROM events
WHERE type = ANY(%s) AND (tx, position) > (%s::xid8, %s) AND tx < coalesce(%s::xid8, '18446744073709551615')
ORDER BY tx, position LIMIT %s
"""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild found."""

    model: str
    events: int
    rows: int
    missing: int
    """Rows that the log asks for and the live table did not have."""
    unexpected: int
    """Rows that the live table had and the log does not give."""
    swapped: bool

    @property
    def equal(self) -> bool:
        return not self.missing and not self.unexpected


def check(connection: Connection, name: str) -> Rebuilt:
    """Rebuild beside the live table and compare, in one snapshot of the database, without a lock.

    Raises:
        NotFound: there is no such model.
    """
    model = _model(name)
    shadow = f"{model.table}_check"
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    try:
        connection.execute("SET LOCAL statement_timeout = 0")
        connection.execute(
            f"CREATE TEMPORARY TABLE {shadow} (LIKE {model.table} INCLUDING ALL) ON COMMIT DROP"
        )
        events, _ = _fill(connection, model, shadow, START, None)
        return _compare(connection, model, shadow, events, swapped=False)
    finally:
        connection.execute("ROLLBACK")


def rebuild(connection: Connection, name: str) -> Rebuilt:
    """Rebuild beside live traffic, catch up under a short lock on writers, and swap in.

    Needs the schema owner's rights.

    Raises:
        NotFound: there is no such model.
        Conflict: somebody rebuilds it already, or transactions that began before kept hold of the table.
    """
    model = _model(name)
    lock = f"qis rebuild {name}"
    held = connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (lock,)).fetchone()
    if held != (True,):
        raise Conflict(f"{name} is being rebuilt already")
    try:
        return _rebuild(connection, model)
    finally:
        connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (lock,))


def _rebuild(connection: Connection, model: Model) -> Rebuilt:
    from psycopg.errors import LockNotAvailable

    shadow = f"{model.table}_rebuilt"
    connection.execute("SET statement_timeout = 0")
    connection.execute(f"DROP TABLE IF EXISTS {shadow}")
    connection.execute(f"CREATE TABLE {shadow} (LIKE {model.table} INCLUDING ALL)")
    horizon = connection.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text").fetchone()
    assert horizon is not None
    events, reached = _fill(connection, model, shadow, START, horizon[0])
    filled = events, max(reached, _before(horizon[0]))
    for _ in range(SWAPS):
        with suppress(LockNotAvailable):
            return _swap(connection, model, shadow, filled)
        time.sleep(PAUSE)
    raise Conflict(f"transactions that use {model.table} did not end; the live table is as it was")


def _swap(connection: Connection, model: Model, shadow: str, filled: tuple[int, Position]) -> Rebuilt:
    events, reached = filled
    old = f"{model.table}_replaced"
    connection.execute("BEGIN")
    try:
        # Writers wait from here; whoever holds the table is let finish first, so nothing is in between.
        connection.execute(f"LOCK TABLE {model.table} IN SHARE ROW EXCLUSIVE MODE")
        more, _ = _fill(connection, model, shadow, reached, None)
        found = _compare(connection, model, shadow, events + more, swapped=True)
        connection.execute(f"GRANT SELECT, INSERT, UPDATE ON {shadow} TO qis_app")
        # Who has read the table and is about to write it waits for us now. To wait for its end would be a
        # deadlock, so we give way to it instead.
        connection.execute(f"LOCK TABLE {model.table} IN ACCESS EXCLUSIVE MODE NOWAIT")
        connection.execute(f"ALTER TABLE {model.table} RENAME TO {old}")
        connection.execute(f"ALTER TABLE {shadow} RENAME TO {model.table}")
        connection.execute(f"DROP TABLE {old}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return found


def _before(tx: str) -> Position:
    """The last place before a transaction."""
    return Position(int(tx) - 1, 2**63 - 1)


def _model(name: str) -> Model:
    model = MODELS.get(name)
    if model is None:
        raise NotFound(f"there is no read model {name!r}; known are {', '.join(sorted(MODELS))}")
    return model


def _fill(
    connection: Connection, model: Model, table: str, after: Position, below: str | None
) -> tuple[int, Position]:
    """Apply the log after a position (and below a transaction); how many events, and where it ended."""
    count = 0
    types = sorted(model.types)
    while True:
        rows: list[Any] = connection.execute(
            _READ, (types, str(after.tx), after.sequence, below, BATCH)
        ).fetchall()
        if not rows:
            return count, after
        placed = [placed_of((*row[:3], upcast(row[1], row[8], row[3]), *row[4:8])) for row in rows]
        for wave in waves(placed):
            model.apply(connection, wave, table)
        count += len(rows)
        after = Position(int(rows[-1][6]), rows[-1][7])


def waves(placed: Sequence[Placed]) -> Iterator[Sequence[Placed]]:
    """``placed`` in runs that hold at most one event per value, so that a run is one statement."""
    run: list[Placed] = []
    seen: set[tuple[object, object]] = set()
    for p in placed:
        key = (p.data.get("reference_data_id"), p.data.get("snap"))
        if key in seen:
            yield run
            run, seen = [], set()
        run.append(p)
        seen.add(key)
    if run:
        yield run


def _compare(connection: Connection, model: Model, shadow: str, events: int, *, swapped: bool) -> Rebuilt:
    def count(query: str) -> int:
        row = connection.execute(query).fetchone()
        assert row is not None
        return int(row[0])

    live = model.table
    rows = "SELECT t::text FROM {} t"
    return Rebuilt(
        model=model.table,
        events=events,
        rows=count(f"SELECT count(*) FROM {shadow}"),
        missing=count(f"SELECT count(*) FROM ({rows.format(shadow)} EXCEPT ALL {rows.format(live)}) d"),
        unexpected=count(f"SELECT count(*) FROM ({rows.format(live)} EXCEPT ALL {rows.format(shadow)}) d"),
        swapped=swapped,
    )
