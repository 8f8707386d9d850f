"""Gaps of a source: open days between its first and last claim on which it said nothing."""

from __future__ import annotations

from bisect import bisect_left
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qis.domain.calendars import calendar
from qis.domain.gaps import Gaps, Spoken, gaps_of, has_days
from qis.domain.scoreboard import HOUR
from qis.domain.series import Semantics, parse_series
from qis.domain.snap import Snap, parse_instant
from tests.support.builders import daily_body, series_body

JANUARY = parse_instant("2026-01-01T00:00:00Z", "snap")
FEBRUARY = parse_instant("2026-02-01T00:00:00Z", "snap")
SESSIONS = list(calendar("ECB").sessions(date(2026, 1, 1), date(2026, 1, 31)))


def daily() -> Semantics:
    return parse_series(daily_body()).semantics


def hour_of(day: date) -> int:
    at = daily().snap_time
    assert at is not None
    ns = at.on(day).ns
    return ns - ns % HOUR


def spoken(days: list[date], before: bool = False, after: bool = False) -> Spoken:
    return Spoken(sorted(map(hour_of, days)), before, after)


def test_a_missed_session_is_a_gap_and_a_weekend_is_none() -> None:
    said = [d for d in SESSIONS if d.day not in (13, 14, 20)]
    found = gaps_of(daily(), spoken(said), JANUARY, FEBRUARY)
    assert found == Gaps(len(SESSIONS), (date(2026, 1, 13), date(2026, 1, 14), date(2026, 1, 20)), 2)


def test_silence_before_the_first_claim_and_after_the_last_is_none() -> None:
    assert gaps_of(daily(), spoken(SESSIONS[5:8]), JANUARY, FEBRUARY) == Gaps(3, (), 0)
    rest = tuple(SESSIONS[:5]), tuple(SESSIONS[8:])
    assert gaps_of(daily(), spoken(SESSIONS[5:8], before=True), JANUARY, FEBRUARY).missed == rest[0]
    assert gaps_of(daily(), spoken(SESSIONS[5:8], after=True), JANUARY, FEBRUARY).missed == rest[1]


def test_a_window_that_a_source_missed_altogether() -> None:
    between = gaps_of(daily(), spoken([], before=True, after=True), JANUARY, FEBRUARY)
    assert between == Gaps(len(SESSIONS), tuple(SESSIONS), len(SESSIONS))
    for one in (spoken([]), spoken([], before=True), spoken([], after=True)):
        assert gaps_of(daily(), one, JANUARY, FEBRUARY) == Gaps(0, (), 0)


def semantics(**given_: Any) -> Semantics:
    return parse_series(series_body(**given_)).semantics


def test_a_claim_in_any_hour_of_its_session_is_enough() -> None:
    minutes = semantics(calendar="XNYS", cadence="PT1M")
    said = [datetime(2026, 1, 5, 14, tzinfo=UTC), datetime(2026, 1, 6, 21, tzinfo=UTC),
            datetime(2026, 1, 7, 12, tzinfo=UTC), datetime(2026, 1, 9, 15, tzinfo=UTC)]  # fmt: skip
    found = gaps_of(minutes, Spoken([Snap.of(at).ns for at in said]), JANUARY, FEBRUARY)
    assert found == Gaps(5, (date(2026, 1, 7), date(2026, 1, 8)), 2), "noon UTC is before the opening"


def test_without_a_calendar_a_cadence_expects_every_day() -> None:
    said = [Snap.of(datetime(2026, 1, day, 23, tzinfo=UTC)).ns for day in (3, 5)]
    found = gaps_of(semantics(cadence="PT1H"), Spoken(said), JANUARY, FEBRUARY)
    assert found == Gaps(3, (date(2026, 1, 4),), 1), "3 January 2026 is a Saturday"


def test_what_declares_no_days_has_none() -> None:
    assert has_days(daily())
    assert has_days(semantics(cadence="PT1H"))
    assert not has_days(semantics())


@settings(max_examples=100, deadline=None)
@given(st.sets(st.sampled_from(SESSIONS), min_size=1), st.integers(1, 30))
def test_two_windows_have_the_gaps_of_the_whole(days: set[date], cut: int) -> None:
    said = spoken(sorted(days))
    middle = Snap.of(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=cut))
    at = bisect_left(said.hours, middle.ns)
    left, right = said.hours[:at], said.hours[at:]
    first = gaps_of(daily(), Spoken(left, after=bool(right)), JANUARY, middle)
    second = gaps_of(daily(), Spoken(right, before=bool(left)), middle, FEBRUARY)
    whole = gaps_of(daily(), said, JANUARY, FEBRUARY)
    assert first.missed + second.missed == whole.missed
    assert first.expected + second.expected == whole.expected
    wanted = [d for d in SESSIONS if min(days) <= d <= max(days)]
    assert (whole.expected, set(whole.missed)) == (len(wanted), set(wanted) - days)


@pytest.mark.parametrize("extra", [-1, 1])
def test_a_claim_at_another_hour_than_the_snap_is_not_of_the_session(extra: int) -> None:
    hours = [hour_of(SESSIONS[0]), hour_of(SESSIONS[1]) + extra * HOUR, hour_of(SESSIONS[2])]
    assert gaps_of(daily(), Spoken(hours), JANUARY, FEBRUARY).missed == (SESSIONS[1],)
