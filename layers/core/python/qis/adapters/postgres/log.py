"""Rows of the log: how one becomes an event, how an event becomes one, and what wakes the followers."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import msgspec

from qis.domain.events import VERSIONS, Event, Position, upcast
from qis.domain.snap import Snap, parse_instant

if TYPE_CHECKING:
    from psycopg import Connection

WAKE_CHANNEL = "qis_events"
COLUMNS = (
    "event_id, type, type_version, stream, version, recorded_at, actor, correlation_id, causation_id, "
    "data, tx, position"
)
COPY = (
    "COPY events (event_id, type, type_version, stream, version, recorded_at, actor, correlation_id, "
    "causation_id, data) FROM STDIN"
)


# The stream's head says since when it has events, so that only those months are read.
_CLAIMS = """
SELECT h.stream, e.version, e.claim_id, e.source, e.received_at, e.recorded_at
FROM stream_heads h CROSS JOIN LATERAL (
    SELECT e.version, c.claim_id, c.source, c.received_at, e.recorded_at
    FROM events e
    CROSS JOIN LATERAL jsonb_to_record(e.data) AS c(claim_id text, source text, received_at text)
    WHERE e.stream = h.stream AND e.recorded_at >= h.first_at AND e.type = 'DataIngested'
) e
WHERE h.stream IN (SELECT json_array_elements_text(%s::json))
ORDER BY h.stream, e.version
"""


class ClaimRow(NamedTuple):
    """A claim in the log, without its value."""

    stream: str
    version: int
    """Of its event."""
    claim_id: str
    source: str
    received_at: Snap | None
    recorded_at: datetime


def claims_of(connection: Connection, streams: Collection[str]) -> Iterator[ClaimRow]:
    """The claims that streams hold, those of one stream in the order of the log."""
    rows = connection.execute(_CLAIMS, (json_text(sorted(streams)),))
    for stream, version, claim_id, source, received_at, recorded_at in rows:
        received = None if received_at is None else parse_instant(received_at, "received_at")
        yield ClaimRow(stream, version, claim_id, source, received, recorded_at)


def bounded(events: str, columns: str) -> str:
    """A query of the first rows of ``events`` whose data fit into so many bytes, and of one where none fits.

    Its parameters are those of ``events``, then the bytes twice. Stored sizes come first: they cost nothing,
    and only what they let through is decompressed to be measured.

    Args:
        events: a query of rows of the log in its order, by transaction and position.
        columns: of ``events``, to be read.
    """
    return f"""
SELECT {columns} FROM (
    SELECT *, sum(octet_length(data::text)) OVER log AS bytes FROM (
        SELECT *, sum(pg_column_size(data)) OVER log AS stored, row_number() OVER log AS number
        FROM ({events}) next
        WINDOW log AS (ORDER BY tx, position ROWS UNBOUNDED PRECEDING)
    ) sized
    WHERE number = 1 OR stored <= %s
    WINDOW log AS (ORDER BY tx, position ROWS UNBOUNDED PRECEDING)
) measured
WHERE number = 1 OR bytes <= %s ORDER BY tx, position
"""  # noqa: S608 - what is interpolated are constants of the code


def event_of(row: Sequence[Any]) -> Event:
    """An event from a row of ``COLUMNS``, its data in the newest version of the type."""
    type_, type_version = row[1], row[2]
    return Event(
        event_id=row[0],
        type=type_,
        type_version=VERSIONS.get(type_, type_version),
        stream=row[3],
        version=row[4],
        recorded_at=row[5],
        actor=row[6],
        correlation_id=row[7],
        causation_id=row[8],
        data=upcast(type_, type_version, row[9]),
        position=Position(int(row[10]), row[11]),
    )


def event_id(stream: str, version: int) -> str:
    """The identity of an event, as 32 hexadecimal digits. It follows from the event's place, so a repeated
    append cannot make a second one."""
    identity = _IDENTITY.copy()
    identity.update(f"{stream}#{version}".encode())
    return identity.hexdigest()


_IDENTITY = blake2b(digest_size=16, person=b"qis-event-v1")


def copy_row(
    event_id: str,
    stream: str,
    version: int,
    type_: str,
    data: str,
    recorded_at: str,
    actor: str,
    correlation_id: str,
    causation_id: UUID | None = None,
) -> str:
    """An event's row for ``COPY``, in its text format; ``data`` is JSON."""
    if _SPECIAL.search(f"{stream}{actor}{correlation_id}"):
        stream, actor, correlation_id = (t.translate(_ESCAPES) for t in (stream, actor, correlation_id))
    cause = r"\N" if causation_id is None else causation_id
    # JSON holds no tab or newline of its own; backslashes it does.
    data = data.replace("\\", "\\\\")
    return (
        f"{event_id}\t{type_}\t{VERSIONS[type_]}\t{stream}\t{version}\t{recorded_at}"
        f"\t{actor}\t{correlation_id}\t{cause}\t{data}\n"
    )


_SPECIAL = re.compile(r"[\\\t\n\r]")
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def json_text(value: object) -> str:
    """JSON without spaces."""
    return msgspec.json.encode(value).decode()
