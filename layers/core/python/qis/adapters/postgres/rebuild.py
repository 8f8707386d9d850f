"""Rebuilding a read model from the log: to check the live one, or to put a new one in its place.

A shadow is filled beside live traffic, batch by batch, each in a transaction of its own: a long one would
stall every follower of the log. For an instant writers of the model are held off; a second session applies
the last events to the shadow and takes a snapshot of the database. In that snapshot the live table and the
shadow stand at the same place of the log, so they are compared in it, for as long as that takes, without any
lock. A snapshot that is only read holds nobody up. How long writers wait does not depend on the table's size.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qis.adapters.postgres.log import bounded
from qis.adapters.postgres.projections import MODELS, Model, Placed, placed_of
from qis.domain.errors import Conflict, NotFound
from qis.domain.events import START, Position, upcast

if TYPE_CHECKING:
    from psycopg import Connection

BATCH = 1_000
BATCH_BYTES = 16 * 1024 * 1024
"""Most events, and most bytes of their data, that are read at once; one event may be larger."""
ATTEMPTS = 200
"""To hold off writers: each gives way to transactions that do not end in time."""
PAUSE = 0.05
"""Seconds between attempts."""
LOCK_TIMEOUT_MS = 30
"""How long writers may have to wait while the lock itself waits for a transaction that is open."""
LAST_TIMEOUT_MS = 60
"""Longest statement while writers wait."""
LAST_EVENTS, LAST_BYTES = 100, 1024 * 1024
"""Most that is applied while writers wait; while there is more, the shadow catches up first."""

_COLUMNS = "event_id, type, version, data, actor, recorded_at, tx, position, type_version"
_READ = bounded(
    f"""
    SELECT *, count(*) OVER () AS available FROM (
        SELECT {_COLUMNS} FROM events
        WHERE type = ANY(%s) AND (tx, position) > (%s::xid8, %s)
            AND (%s OR tx < pg_snapshot_xmin(pg_current_snapshot()))
        ORDER BY tx, position LIMIT %s
    ) waiting
    """,
    f"{_COLUMNS}, available",
)


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
    """Rebuild beside the live table and compare the two at one place of the log.

    Needs the schema owner's rights. Writers of the model wait for an instant.

    Raises:
        NotFound: there is no such model.
        Conflict: see ``rebuild``.
    """
    with _shadow(connection, name) as shadow:
        return _compared(connection, shadow, swap=False)


def rebuild(connection: Connection, name: str) -> Rebuilt:
    """Rebuild beside live traffic and put the new table in the place of the live one.

    Needs the schema owner's rights. Writers of the model wait for an instant.

    Raises:
        NotFound: there is no such model.
        Conflict: somebody rebuilds or checks it already, or transactions that began before kept hold of the
            table; the live table is as it was.
    """
    with _shadow(connection, name) as shadow:
        return _compared(connection, shadow, swap=True)


@dataclass(slots=True)
class _Shadow:
    """A table that is filled from the log."""

    model: Model
    connection: Connection
    """A session of its own, in autocommit mode."""
    events: int = 0
    reached: Position = START
    """The last event applied."""

    @property
    def table(self) -> str:
        return f"{self.model.table}_rebuilt"

    @property
    def replaced(self) -> str:
        """The live table's name once it is not live any more."""
        return f"{self.model.table}_replaced"

    def catch_up(self) -> None:
        """Apply what is final of the log, until little is left."""
        while self._apply(BATCH, BATCH_BYTES, everything=False):
            pass

    def finish(self) -> bool:
        """Apply the rest, which may be read while no writer of the model commits. Whether that was all."""
        return not self._apply(LAST_EVENTS, LAST_BYTES, everything=True)

    def _apply(self, limit: int, most_bytes: int, *, everything: bool) -> bool:
        """Apply the next events; whether there may be many more.

        Args:
            limit: most events.
            most_bytes: of their data.
            everything: also of transactions beside which others still run.
        """
        at = str(self.reached.tx), self.reached.sequence
        given = (sorted(self.model.types), *at, everything, limit, most_bytes, most_bytes)
        rows: list[Any] = self.connection.execute(_READ, given).fetchall()
        placed = [placed_of((*row[:3], upcast(row[1], row[8], row[3]), *row[4:8])) for row in rows]
        with self.connection.transaction():
            for wave in waves(placed):
                self.model.apply(self.connection, wave, self.table)
        if not rows:
            return False
        self.events += len(rows)
        self.reached = Position(int(rows[-1][6]), rows[-1][7])
        available: int = rows[-1][9]
        return len(rows) < available or available == limit


@contextmanager
def _shadow(connection: Connection, name: str) -> Iterator[_Shadow]:
    """A shadow of a model, filled nearly to the end of the log; it goes at the end of the context.

    One at a time: a second would take away the table that the first fills.
    """
    import psycopg
    from psycopg.conninfo import make_conninfo

    model = _model(name)
    lock = f"qis rebuild {name}"
    held = connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (lock,)).fetchone()
    if held != (True,):
        raise Conflict(f"{name} is being rebuilt already")
    info = connection.info
    try:
        beside = make_conninfo("", **info.get_parameters(), password=info.password or None)
        with psycopg.connect(beside, autocommit=True) as second:
            second.execute("SET statement_timeout = 0")
            # The shadow is worth nothing before the swap, whose commit makes all before it durable.
            second.execute("SET synchronous_commit = off")
            shadow = _Shadow(model, second)
            for table in (shadow.table, shadow.replaced):
                second.execute(f"DROP TABLE IF EXISTS {table}")
            second.execute(f"CREATE TABLE {shadow.table} (LIKE {model.table} INCLUDING ALL)")
            try:
                second.execute(f"GRANT SELECT, INSERT, UPDATE ON {shadow.table} TO qis_app")
                shadow.catch_up()
                yield shadow
            finally:
                for table in (shadow.table, shadow.replaced):
                    second.execute(f"DROP TABLE IF EXISTS {table}")
    finally:
        connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (lock,))


def _compared(connection: Connection, shadow: _Shadow, *, swap: bool) -> Rebuilt:
    """Bring live table and shadow to one place of the log, and compare them there."""
    from psycopg.errors import LockNotAvailable, QueryCanceled

    live = shadow.model.table
    for _ in range(ATTEMPTS):
        try:
            if _settled(connection, shadow, swap=swap):
                break
        except (LockNotAvailable, QueryCanceled):
            # A statement that took too long for those who wait, or a lock that was not to be had.
            shadow.connection.execute("ROLLBACK")
        time.sleep(PAUSE)
        shadow.catch_up()
    else:
        raise Conflict(f"transactions that use {live} did not end; the live table is as it was")
    try:
        names = (live, shadow.replaced) if swap else (shadow.table, live)
        return _compare(shadow.connection, *names, live, shadow.events, swapped=swap)
    finally:
        shadow.connection.execute("ROLLBACK")


def _settled(connection: Connection, shadow: _Shadow, *, swap: bool) -> bool:
    """Hold off writers, apply the rest, and open a snapshot in which both tables stand at one place.

    Returns:
        Whether that came about; where it did not, more events came than may be waited for.
    """
    live, second = shadow.model.table, shadow.connection
    with connection.transaction():
        connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
        connection.execute(f"SET LOCAL statement_timeout = {LAST_TIMEOUT_MS}")
        connection.execute(f"LOCK TABLE {live} IN SHARE ROW EXCLUSIVE MODE")
        second.execute(f"SET statement_timeout = {LAST_TIMEOUT_MS}")
        try:
            finished = shadow.finish()
        finally:
            second.execute("SET statement_timeout = 0")
        if not finished:
            return False
        second.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        second.execute("SELECT 1")  # takes the snapshot
        if swap:
            # Who has read the table and is about to write it waits for us. To wait for its end would be a
            # deadlock, so we give way to it instead.
            connection.execute(f"LOCK TABLE {live} IN ACCESS EXCLUSIVE MODE NOWAIT")
            connection.execute(f"ALTER TABLE {live} RENAME TO {shadow.replaced}")
            connection.execute(f"ALTER TABLE {shadow.table} RENAME TO {live}")
    return True


def _model(name: str) -> Model:
    model = MODELS.get(name)
    if model is None:
        raise NotFound(f"there is no read model {name!r}; known are {', '.join(sorted(MODELS))}")
    return model


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


def _compare(
    connection: Connection, rebuilt: str, old: str, model: str, events: int, *, swapped: bool
) -> Rebuilt:
    """Compare the rows of two tables, in the snapshot that the connection has open."""

    def count(query: str) -> int:
        row = connection.execute(query).fetchone()
        assert row is not None
        return int(row[0])

    rows = "SELECT t::text FROM {} t"
    return Rebuilt(
        model=model,
        events=events,
        rows=count(f"SELECT count(*) FROM {rebuilt}"),
        missing=count(f"SELECT count(*) FROM ({rows.format(rebuilt)} EXCEPT ALL {rows.format(old)}) d"),
        unexpected=count(f"SELECT count(*) FROM ({rows.format(old)} EXCEPT ALL {rows.format(rebuilt)}) d"),
        swapped=swapped,
    )
