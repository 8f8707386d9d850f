"""Snapshots of streams: what every store does with them, and that a restored history is the folded one."""

from __future__ import annotations

from decimal import Decimal

from qis.application.ports import EventStore
from qis.domain import events as ev
from qis.domain.value_history import SNAPSHOT_FORMAT, ValueHistory
from tests.support.builders import EUR, FIRST, append

STREAM = ev.value_stream(EUR, FIRST.text)


def fill(store: EventStore, start: int, count: int) -> None:
    notes = [
        ev.NewEvent(ev.QUALITY_METRICS_CALCULATED, {"reference_data_id": EUR, "number": n})
        for n in range(start, start + count)
    ]
    assert not store.append([append(STREAM, start, *notes)])


def recent(store: EventStore, form: int = 1) -> tuple[list[int], tuple[int, object] | None]:
    loaded = store.load_recent([STREAM], form)[STREAM]
    return [e.data["number"] for e in loaded.events], loaded.snapshot


def test_without_a_snapshot_the_whole_stream_is_read(store: EventStore) -> None:
    fill(store, 0, 3)
    assert recent(store) == ([0, 1, 2], None)


def test_with_a_snapshot_only_later_events_are_read(store: EventStore) -> None:
    fill(store, 0, 3)
    store.keep_snapshot(STREAM, 2, {"format": 1, "sum": 1})
    assert recent(store) == ([2], (2, {"format": 1, "sum": 1}))
    assert store.load_recent([STREAM], 1)[STREAM].version == 3


def test_a_snapshot_of_the_last_event_leaves_nothing_to_read(store: EventStore) -> None:
    fill(store, 0, 2)
    store.keep_snapshot(STREAM, 2, {"format": 1})
    assert recent(store) == ([], (2, {"format": 1}))
    assert store.load_recent([STREAM], 1)[STREAM].version == 2


def test_a_snapshot_of_another_format_is_not_read(store: EventStore) -> None:
    fill(store, 0, 2)
    store.keep_snapshot(STREAM, 2, {"format": 1})
    assert recent(store, form=2) == ([0, 1], None)


def test_a_snapshot_of_another_format_is_replaced_whatever_its_version(store: EventStore) -> None:
    fill(store, 0, 2)
    store.keep_snapshot(STREAM, 2, {"format": 1})
    store.keep_snapshot(STREAM, 1, {"format": 2})
    assert recent(store, form=2) == ([1], (1, {"format": 2}))


def test_an_older_snapshot_does_not_replace_a_newer_one(store: EventStore) -> None:
    fill(store, 0, 3)
    store.keep_snapshot(STREAM, 3, {"format": 1, "at": 3})
    store.keep_snapshot(STREAM, 2, {"format": 1, "at": 2})
    assert recent(store)[1] == (3, {"format": 1, "at": 3})


def test_a_stream_that_does_not_exist_is_left_out(store: EventStore) -> None:
    assert store.load_recent(["value:none"], 1) == {}


def test_a_restored_history_equals_the_folded_one() -> None:
    history = ValueHistory(EUR, FIRST, version=7)
    history.withdrawn = {"ab"}
    history.approved = {Decimal("1.10"): frozenset({"ann", "bob"}), Decimal("1.2"): frozenset({"bob"})}
    history.pinned = Decimal("1.25")
    state = history.snapshot()
    assert state["format"] == SNAPSHOT_FORMAT
    assert ValueHistory.restore(EUR, FIRST, 7, state) == history
