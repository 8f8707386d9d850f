"""Open connections of the push channel, and the log as it is for each of them.

A connection is held by a lock of the session, outside of any transaction: a transaction held open while
messages are sent would stall every follower of the log (see the event store). The lock ends with the session,
so a process that dies lets go at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from qis.adapters.postgres.log import COLUMNS, event_of
from qis.application.ports import Unavailable
from qis.application.push import PUSHED, Listener, Page
from qis.domain.events import Position

if TYPE_CHECKING:
    from psycopg import Connection

    from qis.adapters.postgres.connection import Database

HOLD_SECONDS = 10.0
"""For how long another holder of a connection is waited for."""

_LOCK = "hashtextextended('qis push ' || %s, 0)"

_HELD = """
SELECT tx::text, position, told_at,
    ARRAY(SELECT key FROM push_subscriptions s WHERE s.connection_id = c.connection_id)
FROM push_connections c WHERE connection_id = %s AND expires_at > %s
"""

# Looks at a bounded piece of the log, whatever is in it; fetches the events only of what is listened to. A
# value's stream is named "value:SERIES@SNAP", and no id holds an "@".
_READ = f"""
WITH scanned AS MATERIALIZED (
    SELECT tx, position, recorded_at, type, stream FROM events
    WHERE (tx, position) > (%(tx)s::xid8, %(position)s) AND tx < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY tx, position LIMIT %(limit)s
), reached AS (
    SELECT tx, position, (SELECT count(*) FROM scanned) AS rows
    FROM scanned ORDER BY tx DESC, position DESC LIMIT 1
), named AS (
    SELECT *, split_part(substr(stream, 7), '@', 1) AS series FROM scanned WHERE type = ANY(%(types)s)
), wanted AS (
    SELECT series FROM (SELECT DISTINCT series FROM named) s WHERE EXISTS (
        SELECT FROM push_subscriptions p
        WHERE p.connection_id = %(connection)s AND p.key = ANY(push_keys(s.series))
    )
)
SELECT reached.tx::text, reached.position, reached.rows, found.* FROM reached LEFT JOIN (
    SELECT {", ".join(f"e.{c}" for c in COLUMNS.split(", "))}
    FROM named n JOIN wanted w USING (series)
    JOIN events e ON (e.tx, e.position, e.recorded_at) = (n.tx, n.position, n.recorded_at)
) found ON true
ORDER BY found.tx, found.position
"""  # noqa: S608 - the only thing interpolated is the constant list of columns

_LISTENING = """
SELECT DISTINCT c.connection_id FROM unnest(%s::text[]) AS s(id)
JOIN push_subscriptions p ON p.key = ANY(push_keys(s.id))
JOIN push_connections c USING (connection_id) WHERE c.expires_at > %s
ORDER BY c.connection_id
"""


class PostgresConnections:
    """``Connections`` on PostgreSQL. Needs a session of its own: a proxy between would have to pin it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, connection_id: str, subject: str, at: datetime, expires_at: datetime) -> None:
        """See ``Connections.open``."""
        self._database.connect().execute(
            "INSERT INTO push_connections (connection_id, subject, expires_at, told_at)"
            " VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (connection_id, subject, expires_at, at),
        )

    def forget(self, connection_id: str) -> None:
        """See ``Connections.forget``."""
        self._database.connect().execute(
            "DELETE FROM push_connections WHERE connection_id = %s", (connection_id,)
        )

    @contextmanager
    def hold(self, connection_id: str, at: datetime) -> Iterator[Listener | None]:
        """See ``Connections.hold``."""
        from psycopg.errors import LockNotAvailable

        with self._database.session() as connection:
            connection.execute(
                "SELECT set_config('lock_timeout', %s, false)", (f"{int(HOLD_SECONDS * 1000)}ms",)
            )
            try:
                connection.execute(f"SELECT pg_advisory_lock({_LOCK})", (connection_id,))
            except LockNotAvailable as error:
                raise Unavailable(f"another process serves the connection {connection_id}") from error
            try:
                row = connection.execute(_HELD, (connection_id, at)).fetchone()
                yield None if row is None else _listener(connection_id, row)
            finally:
                if not (connection.closed or connection.broken):  # else the lock ended with the session
                    connection.execute(f"SELECT pg_advisory_unlock({_LOCK})", (connection_id,))

    def listen(self, connection_id: str, keys: frozenset[str], cursor: Position) -> None:
        """See ``Connections.listen``."""
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM push_subscriptions WHERE connection_id = %s AND key <> ALL(%s)",
                (connection_id, list(keys)),
            )
            connection.execute(
                "INSERT INTO push_subscriptions (key, connection_id) SELECT unnest(%s::text[]), %s"
                " ON CONFLICT DO NOTHING",
                (sorted(keys), connection_id),
            )
            _move(connection, connection_id, cursor, None)

    def read(self, connection_id: str, after: Position, limit: int) -> Page | None:
        """See ``Connections.read``."""
        rows = (
            self._database.connect()
            .execute(
                _READ,
                {
                    "tx": str(after.tx),
                    "position": after.sequence,
                    "limit": limit,
                    "types": list(PUSHED),
                    "connection": connection_id,
                },
            )
            .fetchall()
        )
        if not rows:
            return None
        tx, position, scanned = rows[0][:3]
        events = [event_of(row[3:]) for row in rows if row[3] is not None]
        return Page(events, Position(int(tx), position), scanned == limit)

    def move(self, connection_id: str, to: Position | None, told_at: datetime | None) -> None:
        """See ``Connections.move``."""
        _move(self._database.connect(), connection_id, to, told_at)

    def newest(self) -> Position:
        """See ``Connections.newest``."""
        row = (
            self._database.connect()
            .execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
            .fetchone()
        )
        assert row is not None
        return Position(int(row[0]), 0)

    def listening(self, series: Collection[str], at: datetime) -> Sequence[str]:
        """See ``Connections.listening``."""
        rows = self._database.connect().execute(_LISTENING, (sorted(series), at)).fetchall()
        return [row[0] for row in rows]

    def living(self, at: datetime) -> Sequence[str]:
        """See ``Connections.living``."""
        return self._ids("expires_at > %s", at)

    def over(self, at: datetime) -> Sequence[str]:
        """See ``Connections.over``."""
        return self._ids("expires_at <= %s", at)

    def _ids(self, condition: str, at: datetime) -> Sequence[str]:
        rows = self._database.connect().execute(
            f"SELECT connection_id FROM push_connections WHERE {condition} ORDER BY 1",  # noqa: S608
            (at,),
        )
        return [row[0] for row in rows.fetchall()]

    def unknown(self, series: frozenset[str], groups: frozenset[str]) -> tuple[Sequence[str], Sequence[str]]:
        """See ``Connections.unknown``."""
        connection = self._database.connect()
        missing = connection.execute(
            "SELECT id FROM unnest(%s::text[]) AS s(id) WHERE NOT EXISTS ("
            " SELECT FROM catalogue WHERE kind = 'series' AND name = id) ORDER BY 1",
            (sorted(series),),
        ).fetchall()
        empty = connection.execute(
            "SELECT name FROM unnest(%s::text[]) AS g(name) WHERE NOT EXISTS (SELECT FROM catalogue c"
            " WHERE c.kind = 'series' AND c.definition ->> 'rules' = g.name) ORDER BY 1",
            (sorted(groups),),
        ).fetchall()
        return [row[0] for row in missing], [row[0] for row in empty]


def _move(connection: Connection, connection_id: str, to: Position | None, told_at: datetime | None) -> None:
    """Move a push connection to a place in the log, on a database connection that may be in a transaction."""
    tx, position = (None, None) if to is None else (str(to.tx), to.sequence)
    connection.execute(
        "UPDATE push_connections SET tx = coalesce(%s::xid8, tx), position = coalesce(%s, position),"
        " told_at = coalesce(%s, told_at) WHERE connection_id = %s",
        (tx, position, told_at, connection_id),
    )


def _listener(connection_id: str, row: Sequence[Any]) -> Listener:
    tx, position, told_at, keys = row
    return Listener(
        connection_id, None if tx is None else Position(int(tx), position), told_at, frozenset(keys)
    )
