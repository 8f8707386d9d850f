"""Followers: reading the log in its gap-free order, one reader per name, with a durable checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from qis.adapters.postgres.log import COLUMNS, WAKE_CHANNEL, bounded, event_of
from qis.application.ports import BUDGET
from qis.domain.events import START, Event, Position

if TYPE_CHECKING:
    from psycopg import Connection

# Pairs below the horizon of running transactions are final: whoever commits later comes after them.
_NEXT = f"""
SELECT {COLUMNS} FROM events
WHERE (tx, position) > (%s::xid8, %s) AND tx < pg_snapshot_xmin(pg_current_snapshot()) {{types}}
ORDER BY tx, position LIMIT %s
"""  # noqa: S608 - the only thing interpolated is the constant list of columns
_READ = bounded(_NEXT.format(types=""), COLUMNS)
_READ_TYPES = bounded(_NEXT.format(types="AND type = ANY(%s)"), COLUMNS)

_LAG = """
SELECT coalesce(greatest(extract(epoch FROM clock_timestamp() - min(recorded_at)), 0), 0)::float8 FROM (
    SELECT recorded_at FROM events WHERE (tx, position) > (%s::xid8, %s) ORDER BY tx, position LIMIT 1
) oldest
"""


_CHECKPOINT = """
SELECT tx::text, position, pg_snapshot_xmax(pg_current_snapshot())::text FROM followers WHERE name = %s
"""

_BEHIND = "SELECT EXISTS (SELECT FROM events WHERE (tx, position) > (%s::xid8, %s))"


class Misplaced(RuntimeError):
    """A checkpoint is not of this server."""


class PostgresFollower:
    """``FollowerLog`` on PostgreSQL, under a lock that lets one process at a time follow."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name
        self._position: Position | None = None

    def acquire(self, seconds: float) -> bool:
        """Become the one active reader of this name, until the connection ends.

        Args:
            seconds: how long to wait for the present one to end.
        """
        from psycopg.errors import LockNotAvailable

        self._connection.execute(
            "SELECT set_config('lock_timeout', %s, false)", (f"{int(seconds * 1000)}ms",)
        )
        with suppress(LockNotAvailable):
            self._connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (self._lock_name,))
            return True
        return False

    @property
    def _lock_name(self) -> str:
        return f"qis follower {self._name}"

    def checkpoint(self) -> Position:
        """See ``FollowerLog.checkpoint``.

        Raises:
            Misplaced: it is beyond all transactions that the server has given a number, so that what is
                appended from now on would come before it, and never be read.
        """
        if self._position is None:
            row = self._connection.execute(_CHECKPOINT, (self._name,)).fetchone()
            position = START if row is None else Position(int(row[0]), row[1])
            if row is not None and position.tx >= int(row[2]):
                raise Misplaced(
                    f"follower {self._name} is at transaction {row[0]} and this server has only come to "
                    f"{row[2]}: the log is on another server, whose transaction numbers were not moved on. "
                    "Nothing may be written before `qis recover` has run"
                )
            self._position = position
        return self._position

    def read(
        self, after: Position, limit: int, types: Collection[str] = (), most_bytes: int = BUDGET
    ) -> Sequence[Event]:
        """See ``FollowerLog.read``."""
        place, size = (str(after.tx), after.sequence), (limit, most_bytes, most_bytes)
        if types:
            rows = self._connection.execute(_READ_TYPES, (*place, sorted(types), *size))
        else:
            rows = self._connection.execute(_READ, (*place, *size))
        return [event_of(row) for row in rows]

    def move(self, to: Position, at: datetime) -> None:
        """See ``FollowerLog.move``."""
        self._connection.execute(
            "INSERT INTO followers (name, tx, position, updated_at) VALUES (%s, %s::xid8, %s, %s)"
            " ON CONFLICT (name) DO UPDATE SET tx = excluded.tx, position = excluded.position,"
            " updated_at = excluded.updated_at",
            (self._name, str(to.tx), to.sequence, at),
        )
        self._position = to

    def behind(self) -> bool:
        """Whether events wait that a running transaction still holds back."""
        at = self.checkpoint()
        row = self._connection.execute(_BEHIND, (str(at.tx), at.sequence)).fetchone()
        assert row is not None
        return bool(row[0])

    def lag_seconds(self) -> float:
        """Age of the oldest event not yet followed; 0 where there is none."""
        at = self.checkpoint()
        row = self._connection.execute(_LAG, (str(at.tx), at.sequence)).fetchone()
        assert row is not None
        return float(row[0])

    def listen(self) -> None:
        """Ask to be woken by appends."""
        self._connection.execute(f"LISTEN {WAKE_CHANNEL}")

    def wait(self, seconds: float) -> bool:
        """Wait until an append wakes this follower, at most ``seconds``. Whether it was woken."""
        woken = False
        for _ in self._connection.notifies(timeout=seconds, stop_after=1):
            woken = True
        return woken
