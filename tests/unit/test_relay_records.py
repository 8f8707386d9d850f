"""Events of one series travel together: whole, in order, past the filters of whoever wants one of them."""

from __future__ import annotations

import json
from collections.abc import Sequence

from qis.adapters.backbone import backbone_events, failures, record_events
from qis.application.relay import (
    RECORD_BYTES,
    TOGETHER_BYTES,
    backbone_event,
    backbone_record,
    backbone_records,
)
from qis.domain import events as ev
from tests.support.builders import EUR, FIXING, kinesis_event, published, reconciled, snap, value_append
from tests.support.fakes import MemoryEventStore
from tests.support.spine import passes


def log(*series: str, size: int = 10) -> Sequence[ev.Event]:
    """For each series named, in turn, the decision and the publication of another value."""
    store = MemoryEventStore()
    for day, id_ in enumerate(series):
        decided = reconciled("official", "1", snap(day), id_, reason="x" * size)
        assert not store.append([value_append(0, decided, published("1", snap(day), reference_data_id=id_))])
    return store.log


def delivered(records: Sequence[tuple[str, bytes]]) -> list[dict[str, object]]:
    return backbone_events(kinesis_event([data for _, data in records])["Records"])


def test_all_events_arrive_and_those_of_a_series_in_order() -> None:
    events = log(EUR, FIXING, EUR, EUR, FIXING)
    records = backbone_records(events)
    assert [key for key, _ in records] == [EUR, FIXING]
    got = delivered(records)
    for id_ in (EUR, FIXING):
        wanted = [json.loads(json.dumps(backbone_event(e))) for e in events if e.reference_data_id == id_]
        assert [e for e in got if e["reference_data_id"] == id_] == wanted


def test_one_event_travels_as_itself() -> None:
    (event, _) = log(EUR)
    assert backbone_records([event]) == [backbone_record(event)]


def test_every_filter_lets_a_record_of_several_events_through() -> None:
    ((_, data),) = backbone_records(log(EUR))
    body = json.loads(data)
    assert isinstance(body["type"], str), "filters match no list"
    assert all(passes(function, body) for function in ("Publish", "Quality", "Realtime", "Reconcile"))


def test_records_of_several_events_are_bounded() -> None:
    records = backbone_records(log(*[EUR] * 40, size=30_000))
    assert len(records) > 10
    assert max(len(data) for _, data in records) < TOGETHER_BYTES + 100
    assert len(delivered(records)) == 80


def test_an_event_that_no_record_holds_travels_alone_and_fails_nothing_beside_it() -> None:
    events = [*log(EUR), *log(EUR, size=2 * RECORD_BYTES), *log(EUR)]
    records = [data for _, data in backbone_records(events)]
    assert [len(json.loads(data).get("events", "1")) for data in records] == [2, 1, 3]
    lambda_records = kinesis_event(records)["Records"]
    assert [e["type"] for e in record_events(lambda_records[2])] == [
        ev.DATA_PUBLISHED,
        ev.DATA_RECONCILED,
        ev.DATA_PUBLISHED,
    ]


def test_a_record_of_which_several_events_failed_is_delivered_again_once() -> None:
    (record,) = kinesis_event([b"{}"])["Records"]
    assert len(failures([record, record])["batchItemFailures"]) == 1
