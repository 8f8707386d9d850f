"""What every event store does: one suite, run against the one in memory and the one on PostgreSQL."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from qis.application.ports import EventStore, Issue, Neighbours
from qis.domain import events as ev
from tests.support.builders import (
    EUR,
    FIRST,
    append,
    claim,
    detected,
    ingested,
    published,
    reconciled,
    snap,
    value_append,
)


def note(number: int) -> ev.NewEvent:
    """An event that no read model follows."""
    data = {"reference_data_id": EUR, "number": number}
    return ev.NewEvent(ev.QUALITY_METRICS_CALCULATED, data)


def numbers(store: EventStore, stream: str) -> list[int]:
    loaded = store.load([stream])
    return [e.data["number"] for e in loaded[stream].events] if stream in loaded else []


# append and load ---------------------------------------------------------------------------------


def test_what_was_appended_is_loaded_in_order_with_its_envelope(store: EventStore) -> None:
    cause = uuid4()
    store.append([append("s", 0, note(1), note(2), actor="ann", correlation_id="load-7", causation_id=cause)])
    loaded = store.load(["s"])["s"]
    assert loaded.version == 2
    assert [(e.version, e.data["number"]) for e in loaded.events] == [(1, 1), (2, 2)]
    first = loaded.events[0]
    assert (first.type, first.type_version) == (ev.QUALITY_METRICS_CALCULATED, 1)
    assert (first.stream, first.actor, first.correlation_id) == ("s", "ann", "load-7")
    assert first.causation_id == cause
    assert first.reference_data_id == EUR
    assert first.recorded_at.utcoffset() == timedelta(0)
    assert len({e.event_id for e in loaded.events}) == 2
    assert loaded.events[0].position < loaded.events[1].position


def test_an_event_without_a_cause_has_none(store: EventStore) -> None:
    store.append([append("s", 0, note(1))])
    assert store.load(["s"])["s"].events[0].causation_id is None


def test_streams_that_do_not_exist_are_left_out(store: EventStore) -> None:
    store.append([append("a", 0, note(1))])
    assert set(store.load(["a", "b"])) == {"a"}
    assert store.load([]) == {}
    assert dict(store.versions(["a", "b"])) == {"a": 1}
    assert dict(store.versions([])) == {}


def test_streams_are_told_apart_by_their_whole_name(store: EventStore) -> None:
    names = ["s", "S", "s ", "s\x01", "ß", "s:é", "s:e\u0301"]
    for number, name in enumerate(names):
        store.append([append(name, 0, note(number))])
    assert [numbers(store, name) for name in names] == [[n] for n in range(len(names))]


def test_data_comes_back_as_it_was_given(store: EventStore) -> None:
    data = {
        "text": 'tab\t newline\n return\r backslash \\ \\N \\. quote " \u2028 é 漢 🙂',
        "nested": {"list": [1, None, True, "1.10"], "empty": {}},
    }
    store.append([append("s", 0, ev.NewEvent(ev.QUALITY_METRICS_CALCULATED, data))])
    assert store.load(["s"])["s"].events[0].data == data


def test_events_of_one_append_share_their_moment_and_the_next_append_is_later(store: EventStore) -> None:
    store.append([append("s", 0, note(1), note(2)), append("t", 0, note(1))])
    store.append([append("s", 2, note(3))])
    first, second, third = store.load(["s"])["s"].events
    other = store.load(["t"])["t"].events[0]
    assert first.recorded_at == second.recorded_at == other.recorded_at < third.recorded_at
    assert second.position < third.position


# expected versions -------------------------------------------------------------------------------


@pytest.mark.parametrize(("present", "expected"), [(0, 1), (0, 5), (2, 0), (2, 1), (2, 3)])
def test_an_append_at_another_version_loses_and_stores_nothing(
    store: EventStore, present: int, expected: int
) -> None:
    if present:
        store.append([append("s", 0, *(note(n) for n in range(present)))])
    assert store.append([append("s", expected, note(99))]) == {"s"}
    assert numbers(store, "s") == list(range(present))
    assert store.versions(["s"]).get("s", 0) == present


def test_an_append_at_the_present_version_wins(store: EventStore) -> None:
    assert store.append([append("s", 0, note(0), note(1))]) == frozenset()
    assert store.append([append("s", 2, note(2))]) == frozenset()
    assert numbers(store, "s") == [0, 1, 2]


def test_streams_of_a_batch_that_lose_do_not_disturb_the_others(store: EventStore) -> None:
    store.append([append("old", 0, note(0)), append("taken", 0, note(0))])
    lost = store.append(
        [
            append("old", 1, note(1)),
            append("taken", 0, note(9)),
            append("new", 0, note(5)),
            append("ahead", 3, note(9)),
        ]
    )
    assert lost == {"taken", "ahead"}
    assert [numbers(store, s) for s in ("old", "taken", "new", "ahead")] == [[0, 1], [0], [5], []]


def test_several_appends_for_one_stream_win_together_in_order(store: EventStore) -> None:
    batch = [append("s", 0, note(0)), append("t", 0, note(7)), append("s", 1, note(1), note(2))]
    assert store.append(batch) == frozenset()
    assert numbers(store, "s") == [0, 1, 2]
    assert store.versions(["s", "t"]) == {"s": 3, "t": 1}


def test_several_appends_for_one_stream_lose_together(store: EventStore) -> None:
    store.append([append("s", 0, note(0))])
    assert store.append([append("s", 0, note(8)), append("s", 1, note(9))]) == {"s"}
    assert numbers(store, "s") == [0]


def test_an_empty_batch_changes_nothing(store: EventStore) -> None:
    assert store.append([]) == frozenset()


# neighbours --------------------------------------------------------------------------------------


def decide(store: EventStore, days: float, status: str, value: str | None, id_: str = EUR) -> None:
    store.append([value_append(0, reconciled(status, value, snap(days), id_))])


@pytest.mark.parametrize(
    ("decisions", "before", "after"),
    [
        ([], [], []),
        ([(0, "official", "1.0"), (6, "official", "1.6")], [(0, "1.0", True)], [6]),
        ([(0, "official", "1.0"), (1, "official", "1.1")], [(1, "1.1", True)], []),
        ([(0, "official", "1.0"), (1, "suspect", "2.0")], [(0, "1.0", True), (1, "2.0", False)], []),
        ([(0, "suspect", "2.0"), (1, "official", "1.1")], [(1, "1.1", True)], []),
        ([(0, "suspect", "2.0"), (1, "suspect", "3.0")], [(1, "3.0", False)], []),
        ([(0, "official", "1.0"), (1, "insufficient", None)], [(0, "1.0", True)], []),
        ([(1, "insufficient", None)], [], []),
        (
            [(4, "suspect", "2.0"), (5, "insufficient", None), (6, "official", "1"), (7, "official", "1")],
            [],
            [4, 5, 6],
        ),
        ([(4, "suspect", "2.0"), (5, "suspect", "2.0")], [], [4, 5]),
    ],
)
def test_neighbours_are_the_nearest_official_and_nearer_held_before_and_all_to_the_first_official_after(
    store: EventStore,
    decisions: list[tuple[int, str, str | None]],
    before: list[tuple[int, str, bool]],
    after: list[int],
) -> None:
    for days, status, value in decisions:
        decide(store, days, status, value)
    decide(store, 2, "official", "9", "OTHER")
    found = store.neighbours([(EUR, snap(3))])[EUR, snap(3)]
    assert list(found.before) == [(snap(d), Decimal(v), official) for d, v, official in before]
    assert list(found.after) == [snap(d) for d in after]


def test_a_decision_is_no_neighbour_of_itself(store: EventStore) -> None:
    decide(store, 3, "official", "1.0")
    assert store.neighbours([(EUR, snap(3))]) == {(EUR, snap(3)): Neighbours([], [])}


def test_neighbours_of_many_keys_come_in_one_answer(store: EventStore) -> None:
    decide(store, 0, "official", "1.0")
    decide(store, 0, "suspect", "7", "OTHER")
    keys = [(EUR, snap(1)), ("OTHER", snap(1)), ("OTHER", snap(-1)), ("NONE", snap(1))]
    found = store.neighbours(keys)
    assert set(found) == set(keys)
    assert list(found["OTHER", snap(1)].before) == [(FIRST, Decimal("7"), False)]
    assert list(found["OTHER", snap(-1)].after) == [FIRST]
    assert found["NONE", snap(1)] == Neighbours([], [])
    assert store.neighbours([]) == {}


def test_what_was_published_last_is_the_decision_that_neighbours_see(store: EventStore) -> None:
    store.append([value_append(0, reconciled("suspect", "2.0"), published("2.0"))])
    assert list(store.neighbours([(EUR, snap(1))])[EUR, snap(1)].before) == [(FIRST, Decimal("2.0"), True)]
    store.append([value_append(2, published("2.5", version=2))])
    assert list(store.neighbours([(EUR, snap(1))])[EUR, snap(1)].before) == [(FIRST, Decimal("2.5"), True)]
    store.append([value_append(3, reconciled("suspect", "3.0"))])
    assert list(store.neighbours([(EUR, snap(1))])[EUR, snap(1)].before) == [(FIRST, Decimal("3.0"), False)]


def test_a_value_set_by_a_person_is_what_neighbours_see_whatever_is_decided_later(store: EventStore) -> None:
    later = reconciled("suspect", "3.0", pinned="2.5")
    store.append([value_append(0, published("2.5"), later)])
    assert list(store.neighbours([(EUR, snap(1))])[EUR, snap(1)].before) == [(FIRST, Decimal("2.5"), True)]


def test_snaps_that_differ_by_a_nanosecond_are_neighbours(store: EventStore) -> None:
    from qis.domain.snap import Snap

    later = Snap(FIRST.ns + 1)
    store.append([value_append(0, reconciled("official", "1.0", FIRST))])
    store.append([value_append(0, reconciled("official", "1.1", later))])
    assert list(store.neighbours([(EUR, later)])[EUR, later].before) == [(FIRST, Decimal("1.0"), True)]
    assert list(store.neighbours([(EUR, FIRST)])[EUR, FIRST].after) == [later]


# exceptions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", [True, False])
def test_an_exception_is_found_by_its_id_open_or_closed(store: EventStore, gate: bool) -> None:
    issue_id = UUID(int=7)
    assert store.issue(issue_id) is None
    store.append([value_append(0, detected(issue_id, gate=gate))])
    assert store.issue(issue_id) == Issue(EUR, FIRST, gate)
    closing = ev.NewEvent(
        ev.QUALITY_REJECTED, {"reference_data_id": EUR, "snap": FIRST.text, "issue_id": str(issue_id)}
    )
    store.append([value_append(1, closing)])
    assert store.issue(issue_id) == Issue(EUR, FIRST, gate)


def test_a_stream_that_lost_leaves_the_read_models_alone(store: EventStore) -> None:
    store.append([value_append(0, ingested(claim()))])
    lost = store.append(
        [value_append(0, reconciled("official", "1.1"), published("1.1"), detected(UUID(int=1)))]
    )
    assert lost
    assert store.issue(UUID(int=1)) is None
    assert store.neighbours([(EUR, snap(1))])[EUR, snap(1)] == Neighbours([], [])
