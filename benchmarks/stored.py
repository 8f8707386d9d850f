"""Baselines that store events: COPY on a table like ours, and the library `eventsourcing`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, UUID, uuid5

from local.postgres import OWNER
from qis.adapters.postgres.connection import Target

if TYPE_CHECKING:
    from eventsourcing.persistence import Notification, StoredEvent
    from eventsourcing.postgres import PostgresAggregateRecorder, PostgresDatastore
    from psycopg import Connection

Row = tuple[Any, ...]
_COLUMNS = (
    "event_id, type, type_version, stream, version, recorded_at, actor, correlation_id, causation_id, data"
)
_INSERT = f"INSERT INTO events ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
_COPY = f"COPY events ({_COLUMNS}) FROM STDIN"


def last_position(connection: Connection) -> int:
    """Where the log ends."""
    row = connection.execute("SELECT coalesce(max(position), 0) FROM events").fetchone()
    assert row is not None
    return int(row[0])


def rows_after(connection: Connection, position: int) -> list[Row]:
    """Events stored after a position, as Python values, in their order."""
    query = f"SELECT {_COLUMNS} FROM events WHERE position > %s ORDER BY position"
    return connection.execute(query.encode(), (position,)).fetchall()


def copy_rows(connection: Connection, rows: Sequence[Row]) -> None:
    """COPY of Python values, committed."""
    with connection.cursor().copy(_COPY) as copy:
        for row in rows:
            copy.write_row(row)


def copy_text(connection: Connection, text: bytes) -> None:
    """COPY of text that is rendered already, committed: nothing but the server's work."""
    with connection.cursor().copy(_COPY) as copy:
        copy.write(text)


def insert_rows(connection: Connection, rows: Sequence[Row]) -> None:
    """INSERT of each row on its own, each committed."""
    for row in rows:
        connection.execute(_INSERT, row)


def with_json(rows: Sequence[Row]) -> list[Row]:
    """Rows as ``copy_rows`` takes them."""
    from psycopg.types.json import Jsonb

    return [(*row[:-1], Jsonb(row[-1])) for row in rows]


def as_text(rows: Sequence[Row]) -> bytes:
    """Rows in the text format of COPY."""
    return "".join(
        "\t".join(r"\N" if v is None else _escaped(v if isinstance(v, str) else _plain(v)) for v in row)
        + "\n"
        for row in rows
    ).encode()


def _plain(value: object) -> str:
    return json.dumps(value, separators=(",", ":")) if isinstance(value, dict) else str(value)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


class Library:
    """A recorder of the library `eventsourcing`. Not ordered: its aggregate recorder, without the global
    order that followers need. Ordered: its application recorder, which locks the table for it."""

    def __init__(self, target: Target, *, ordered: bool) -> None:
        from eventsourcing.postgres import (
            PostgresAggregateRecorder,
            PostgresApplicationRecorder,
            PostgresDatastore,
        )

        kind = PostgresApplicationRecorder if ordered else PostgresAggregateRecorder
        self._datastore: PostgresDatastore = PostgresDatastore(
            target.database, target.host, target.port, OWNER, "", originator_id_type="uuid"
        )
        self.recorder: PostgresAggregateRecorder = kind(
            self._datastore, events_table_name="ordered_events" if ordered else "stored_events"
        )
        self.recorder.create_table()

    def append(self, rows: Sequence[tuple[UUID, Row]]) -> None:
        """Encode the state and store, committed."""
        from eventsourcing.persistence import StoredEvent

        events: list[StoredEvent] = [
            StoredEvent(
                originator_id=origin,
                originator_version=row[4],
                topic=row[1],
                state=json.dumps(_state(row), separators=(",", ":")).encode(),
            )
            for origin, row in rows
        ]
        self.recorder.insert_events(events)

    def notifications(self, start: int, limit: int) -> Sequence[Notification]:
        """Events from a place on, in the global order; of an ordered library."""
        from eventsourcing.persistence import ApplicationRecorder

        assert isinstance(self.recorder, ApplicationRecorder)
        return self.recorder.select_notifications(start, limit)

    def close(self) -> None:
        self._datastore.close()


def originated(rows: Sequence[Row]) -> list[tuple[UUID, Row]]:
    """Rows with the identity that the library knows their stream by."""
    return [(uuid5(NAMESPACE_URL, row[3]), row) for row in rows]


def _state(row: Row) -> dict[str, Any]:
    return {
        "type_version": row[2],
        "stream": row[3],
        "recorded_at": row[5].isoformat(),
        "actor": row[6],
        "correlation_id": row[7],
        "data": row[9],
    }
