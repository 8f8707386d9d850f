"""Publish: official values and restatements to the consuming domains, as CloudEvents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qis.application.ports import Bus
from qis.domain.events import cloud_event_type
from qis.domain.public_events import CloudEvent

SOURCE = "/qis/data-management"


def cloud_event(event: Mapping[str, Any]) -> CloudEvent:
    """A backbone event in the CloudEvents 1.0 form of the public interface."""
    out: CloudEvent = {
        "specversion": "1.0",
        "id": event["event_id"],
        "source": SOURCE,
        "type": cloud_event_type(event["type"], event["type_version"]),
        "subject": event["reference_data_id"] or event["data"]["issue"],
        "time": event["recorded_at"],
        "datacontenttype": "application/json",
        "correlationid": event["correlation_id"],
        "sequence": event["position"],
        "data": event["data"],
    }
    if event["causation_id"]:
        out["causationid"] = event["causation_id"]
    return out


def publish(events: Sequence[Mapping[str, Any]], bus: Bus) -> frozenset[int]:
    """Send backbone events to the bus. Delivered at least once; consumers drop repeats by ``id``.

    Returns:
        Indexes of the events that the bus did not take, to be delivered again.
    """
    return bus.put([cloud_event(e) for e in events])
