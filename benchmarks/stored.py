"""Baselines that store events in a table like ours: COPY, and single inserts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
