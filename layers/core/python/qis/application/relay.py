"""Relay: the follower of the log that feeds the backbone. The log is the outbox; there is no second one."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from qis.application.ports import Backbone, FollowerLog
from qis.domain.events import Event

BATCH = 1000


def backbone_event(event: Event) -> dict[str, Any]:
    """One event as it travels."""
    return {
        "event_id": str(event.event_id),
        "type": event.type,
        "type_version": event.type_version,
        "stream": event.stream,
        "version": event.version,
        "recorded_at": event.recorded_at.isoformat(),
        "actor": event.actor,
        "correlation_id": event.correlation_id,
        "causation_id": None if event.causation_id is None else str(event.causation_id),
        "reference_data_id": event.reference_data_id,
        "position": event.position.token,
        "data": event.data,
    }


def backbone_record(event: Event) -> tuple[str, bytes]:
    """Partition key and record of one event: one series stays in order."""
    body = json.dumps(backbone_event(event), separators=(",", ":"))
    return event.reference_data_id or event.stream, body.encode()


def relay_batch(log: FollowerLog, backbone: Backbone, at: datetime, limit: int = BATCH) -> int:
    """Send what is new, then move the checkpoint. A crash in between sends again; consumers are idempotent.

    Returns:
        How many events were sent.

    Raises:
        Unavailable: the backbone refused some; the checkpoint stays.
    """
    events = log.read(log.checkpoint(), limit)
    if not events:
        return 0
    backbone.put([backbone_record(e) for e in events])
    log.move(events[-1].position, at)
    return len(events)
