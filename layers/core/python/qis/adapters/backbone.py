"""Records of the streams as Lambda delivers them: decoding, and the answer with partial failures."""

from __future__ import annotations

import json
from binascii import a2b_base64
from collections.abc import Iterable, Mapping
from typing import Any


def sequence_number(record: Mapping[str, Any]) -> str:
    """The record's place in its shard, by which Lambda identifies a failure."""
    return str(record["kinesis"]["sequenceNumber"])


def payload(record: Mapping[str, Any]) -> bytes:
    """The record's data."""
    return a2b_base64(record["kinesis"]["data"])


def backbone_events(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Events of a batch of the backbone.

    Raises:
        ValueError: a record is not an event, or not a whole one. The relay writes nothing else, so the batch
            is not guessed at: Lambda bisects it and sends the record to the on-failure queue.
    """
    return [event for record in records for event in record_events(record)]


def record_events(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Events of one record of the backbone, which holds one or several of a key, in order.

    Raises:
        ValueError: see ``backbone_events``.
    """
    events = unpacked(payload(record))
    for event in events:
        if "left_out" in event:
            raise ValueError(
                f"{event['type']} {event['event_id']} of {event['left_out']} bytes fits no record; "
                f"it is in the log at {event['position']}"
            )
    return events


def unpacked(data: bytes) -> list[dict[str, Any]]:
    """Events of a record as ``relay.backbone_records`` makes it: one that is itself an event, or several."""
    body = json.loads(data)
    events: list[dict[str, Any]] = body.get("events", [body])
    return events


def failures(records: Iterable[Mapping[str, Any]]) -> dict[str, list[dict[str, str]]]:
    """The answer that makes Lambda deliver these again, and what follows them in the shard."""
    numbers = dict.fromkeys(sequence_number(r) for r in records)
    return {"batchItemFailures": [{"itemIdentifier": number} for number in numbers]}
