"""The log as it is read: the columns of an event, how a row becomes one, and what wakes the followers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qis.domain.events import VERSIONS, Event, Position, upcast

WAKE_CHANNEL = "qis_events"
COLUMNS = (
    "event_id, type, type_version, stream, version, recorded_at, actor, correlation_id, causation_id, "
    "data, tx, position"
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
