"""Relay: the follower of the log that feeds the backbone. The log is the outbox; there is no second one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from qis.application.ports import Backbone, FollowerLog
from qis.domain.events import Event
from qis.domain.public_events import MECHANICAL, SEVERAL, BackboneEvent

BATCH = 1000
RECORD_BYTES = 1000 * 1000
"""Largest record; a stream takes 1 MiB of data and key. Most events are a kilobyte."""
TOGETHER_BYTES = 100 * 1000
"""Largest record of several events: what fails of one is delivered again with all of it."""


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
    """Partition key and record of one event: one series stays in order."""
    return _key(event), _body(event)


def backbone_records(events: Sequence[Event]) -> list[tuple[str, bytes]]:
    """Partition keys and records of events, those of one key in order.

    Events of one key travel together, in as few records as hold them: a stream keeps the order of a key
    only if each record waits until the one before it is taken. A record of one event is the event; one of
    several has them as ``events`` and ``SEVERAL`` for a type, which every filter lets through.
    """
    runs: dict[str, list[_Run]] = {}
    for event in events:
        body = _body(event)
        # What a record cannot hold fails whoever needs it, and nothing beside it.
        alone = len(body) > TOGETHER_BYTES or b'"left_out":' in body[-40:]
        of_key = runs.setdefault(_key(event), [])
        if not of_key or alone or of_key[-1].full or of_key[-1].size + len(body) > TOGETHER_BYTES:
            of_key.append(_Run(full=alone))
        of_key[-1].add(body)
    return [(key, run.record()) for key, of_key in runs.items() for run in of_key]


@dataclass(slots=True)
class _Run:
    """Events of one key that travel in one record."""

    full: bool
    size: int = 0
    bodies: list[bytes] = field(default_factory=list)

    def add(self, body: bytes) -> None:
        self.size += len(body) + 1
        self.bodies.append(body)

    def record(self) -> bytes:
        if len(self.bodies) == 1:
            return self.bodies[0]
        return b'{"type":"%s","events":[%s]}' % (SEVERAL.encode(), b",".join(self.bodies))


def _key(event: Event) -> str:
    return event.reference_data_id or event.stream


def _body(event: Event) -> bytes:
    """An event as JSON.

    An event that no record holds would keep back all that follow it, so its data is left out and the size
    told instead: whoever needs that event fails on it alone, and finds it in the log.
    """
    told = backbone_event(event)
    body = json.dumps(told, separators=(",", ":"))
    if len(body) > RECORD_BYTES:
        body = json.dumps({**told, "data": None, "left_out": len(body)}, separators=(",", ":"))
    return body.encode()


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
    backbone.put(backbone_records(events))
    if audit is not None:
        # One record an event, as they are kept.
        audit.put([backbone_record(e) for e in events if e.type not in MECHANICAL])
    log.move(events[-1].position, at)
    return len(events)
