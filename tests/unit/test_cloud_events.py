"""What goes to the backbone and to the bus: stable names, and CloudEvents that the standard's SDK reads."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from qis.application.ports import Unavailable
from qis.application.publish import cloud_event, publish
from qis.application.relay import backbone_record, relay_batch
from qis.domain import events as ev
from tests.support.builders import EUR, FIRST, append, published, value_append
from tests.support.fakes import MemoryBackbone, MemoryBus, MemoryEventStore, MemoryFollower, Ticking

AT = datetime(2026, 1, 5, 15, tzinfo=UTC)
NAMES = {
    ev.DATA_INGESTED: "com.qis.data.ingested.v1",
    ev.DATA_RECONCILED: "com.qis.data.reconciled.v1",
    ev.DATA_PUBLISHED: "com.qis.data.published.v1",
    ev.DATA_RESTATED: "com.qis.data.restated.v1",
    ev.QUALITY_ISSUE_DETECTED: "com.qis.data.quality.issue.detected.v1",
    ev.QUALITY_ISSUE_RESOLVED: "com.qis.data.quality.issue.resolved.v1",
    ev.QUALITY_APPROVED: "com.qis.data.quality.approved.v1",
    ev.QUALITY_REJECTED: "com.qis.data.quality.rejected.v1",
    ev.QUALITY_METRICS_CALCULATED: "com.qis.data.quality.metrics.calculated.v1",
    ev.ISSUE_OPENED: "com.qis.data.issue.opened.v1",
    ev.ISSUE_EXTENDED: "com.qis.data.issue.extended.v1",
    ev.ISSUE_REDUCED: "com.qis.data.issue.reduced.v1",
    ev.ISSUE_ALERTED: "com.qis.data.issue.alerted.v1",
    ev.ISSUE_ESCALATED: "com.qis.data.issue.escalated.v1",
    ev.ISSUE_TRIAGED: "com.qis.data.issue.triaged.v1",
    ev.ISSUE_SNOOZED: "com.qis.data.issue.snoozed.v1",
    ev.ISSUE_CLOSED: "com.qis.data.issue.closed.v1",
    ev.SERIES_REGISTERED: "com.qis.data.series.registered.v1",
    ev.SCHEMA_EVOLVED: "com.qis.data.schema.evolved.v1",
    ev.SOURCE_ADDED: "com.qis.data.source.added.v1",
    ev.SOURCE_CHANGED: "com.qis.data.source.changed.v1",
    ev.CHECK_CHANGED: "com.qis.data.check.changed.v1",
    ev.RULES_CHANGED: "com.qis.data.rules.changed.v1",
    ev.RULES_APPLIED: "com.qis.data.rules.applied.v1",
}
"""What consumers filter on: to change one of these breaks them."""


def test_the_public_names_of_all_events_are_these() -> None:
    assert {t: ev.cloud_event_type(t, v) for t, v in ev.VERSIONS.items()} == NAMES


def test_a_newer_version_has_another_name() -> None:
    assert ev.cloud_event_type(ev.DATA_PUBLISHED, 2) == "com.qis.data.published.v2"


def stored(**envelope: Any) -> ev.Event:
    store = MemoryEventStore(Ticking(AT))
    store.append([value_append(0, published("1.10"), **envelope)])
    return store.log[0]


def internal(event: ev.Event) -> dict[str, Any]:
    """The event as the backbone brings it."""
    body: dict[str, Any] = json.loads(backbone_record(event)[1])
    return body


def test_a_backbone_record_holds_the_whole_event_under_the_key_of_its_series() -> None:
    event = stored(actor="ann", correlation_id="load", causation_id=UUID(int=3))
    key, _ = backbone_record(event)
    assert key == EUR
    assert internal(event) == {
        "event_id": str(event.event_id),
        "type": "DataPublished",
        "type_version": 1,
        "stream": f"value:{EUR}@{FIRST.text}",
        "version": 1,
        "recorded_at": "2026-01-05T15:00:00.000001+00:00",
        "actor": "ann",
        "correlation_id": "load",
        "causation_id": str(UUID(int=3)),
        "reference_data_id": EUR,
        "position": "1.1",
        "data": dict(event.data),
    }


def test_an_event_of_no_series_goes_under_the_key_of_its_stream() -> None:
    store = MemoryEventStore()
    store.append([append("source:alpha", 0, ev.NewEvent(ev.SOURCE_ADDED, {"source": "alpha"}))])
    key, body = backbone_record(store.log[0])
    assert key == "source:alpha"
    assert json.loads(body)["reference_data_id"] is None


def test_the_standard_sdk_reads_what_is_published() -> None:
    event = stored(correlation_id="load-é", causation_id=UUID(int=3))
    body = json.dumps(cloud_event(internal(event)))
    read = JSONFormat().read(CloudEvent, body)
    assert read.get_type() == "com.qis.data.published.v1"
    assert read.get_source() == "/qis/data-management"
    assert read.get_id() == str(event.event_id)
    assert read.get_subject() == EUR
    assert read.get_time() == event.recorded_at
    assert read.get_specversion() == "1.0"
    assert read.get_datacontenttype() == "application/json"
    assert read.get_extension("correlationid") == "load-é"
    assert read.get_extension("causationid") == str(UUID(int=3))
    assert read.get_extension("sequence") == "1.1"
    assert read.get_data() == dict(event.data)


def test_an_event_without_a_cause_has_no_such_attribute() -> None:
    """An attribute of CloudEvents may be left out, and may not be null."""
    found = cloud_event(internal(stored()))
    assert "causationid" not in found
    assert None not in found.values()


def test_extension_attributes_are_lower_case_letters_and_digits() -> None:
    found = cloud_event(internal(stored(causation_id=UUID(int=3))))
    assert all(name.isalnum() and name == name.lower() and name.isascii() for name in found)


def test_what_the_bus_does_not_take_is_named_by_its_place() -> None:
    first, second = internal(stored()), internal(stored())
    bus = MemoryBus()
    second = {**second, "event_id": "other"}
    bus.refuse = {"other"}
    assert publish([first, second, first], bus) == {1}
    assert [e["id"] for e in bus.events] == [first["event_id"]] * 2
    assert publish([], bus) == frozenset()


# the relay ---------------------------------------------------------------------------------------


def log_of(length: int) -> MemoryEventStore:
    store = MemoryEventStore()
    for number in range(length):
        store.append([append(f"s{number}", 0, ev.NewEvent(ev.QUALITY_METRICS_CALCULATED, {"n": number}))])
    return store


def sent(backbone: MemoryBackbone) -> list[int]:
    return [json.loads(body)["data"]["n"] for _, body in backbone.records]


def test_the_relay_sends_each_event_once_in_order_batch_by_batch() -> None:
    backbone, follower = MemoryBackbone(), MemoryFollower(log_of(7))
    counts = [relay_batch(follower, backbone, AT, 3) for _ in range(4)]
    assert counts == [3, 3, 1, 0]
    assert sent(backbone) == list(range(7))


def test_what_the_backbone_refused_is_sent_again() -> None:
    backbone, follower = MemoryBackbone(), MemoryFollower(log_of(2))
    backbone.refuse = True
    with pytest.raises(Unavailable):
        relay_batch(follower, backbone, AT)
    assert follower.checkpoint() == ev.START
    backbone.refuse = False
    assert relay_batch(follower, backbone, AT + timedelta(seconds=1)) == 2
    assert sent(backbone) == [0, 1]
