"""Rows of the log: how one becomes an event, how an event becomes one, and what wakes the followers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any
from uuid import UUID

import msgspec

from qis.domain.events import VERSIONS, Event, Position, upcast

WAKE_CHANNEL = "qis_events"
COLUMNS = (
    "event_id, type, type_version, stream, version, recorded_at, actor, correlation_id, causation_id, "
    "data, tx, position"
)
COPY = (
    "COPY events (event_id, type, type_version, stream, version, recorded_at, actor, correlation_id, "
    "causation_id, data) FROM STDIN"
)


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
