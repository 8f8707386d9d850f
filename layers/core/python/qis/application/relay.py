"""Relay: the follower of the log that feeds the backbone. The log is the outbox; there is no second one."""

from __future__ import annotations

import json
from datetime import datetime

from qis.application.ports import Backbone, FollowerLog
from qis.domain.events import Event
from qis.domain.public_events import MECHANICAL, BackboneEvent

BATCH = 1000
RECORD_BYTES = 1000 * 1000
"""Largest record; a stream takes 1 MiB of data and key. Most events are a kilobyte."""


def backbone_event(event: Event) -> BackboneEvent:
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
    """Partition key and record of one event: one series stays in order.

    An event that no record holds would keep back all that follow it, so its data is left out and the size
    told instead: whoever needs that event fails on it alone, and finds it in the log.
    """
    told = backbone_event(event)
    body = json.dumps(told, separators=(",", ":"))
    if len(body) > RECORD_BYTES:
        body = json.dumps({**told, "data": None, "left_out": len(body)}, separators=(",", ":"))
    return event.reference_data_id or event.stream, body.encode()


def relay_batch(
    log: FollowerLog,
    backbone: Backbone,
    at: datetime,
    limit: int = BATCH,
    *,
    audit: Backbone | None = None,
) -> int:
    """Send what is new, then move the checkpoint. A crash in between sends again; consumers are idempotent.

    Args:
        audit: gets what somebody chose or the system decided, without the mass of what claims set off.

    Returns:
        How many events were sent.

    Raises:
        Unavailable: the backbone or the audit refused some; the checkpoint stays.
    """
    events = log.read(log.checkpoint(), limit)
    if not events:
        return 0
    records = [backbone_record(e) for e in events]
    backbone.put(records)
    if audit is not None:
        audit.put([r for e, r in zip(events, records, strict=True) if e.type not in MECHANICAL])
    log.move(events[-1].position, at)
    return len(events)
