"""Gaps: the days between a source's first and last claim on which its market was open and it said nothing.

A day is a session of the series' calendar: of a daily series the hour of its snap, of one with a cadence the
hours from the opening to the close; without a calendar a cadence expects every UTC day. A series that
declares neither has no gaps that anybody could know of. Silence before the first claim and after the last is
no gap: whether a source ought to speak at all is completeness.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from qis.domain.calendars import calendar
from qis.domain.scoreboard import HOUR
from qis.domain.series import Semantics
from qis.domain.snap import Snap

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Spoken:
    """When a source spoke of a series in a window."""

    hours: Sequence[int]
    """Hours of snaps with a claim, in nanoseconds, ascending."""
    before: bool = False
    """Whether it had spoken before the window."""
    after: bool = False
    """Whether it speaks after the window."""


@dataclass(frozen=True, slots=True)
class Gaps:
    """The sessions from the first claim to the last, and those without one."""

    expected: int
    missed: tuple[date, ...]
    longest: int
    """Sessions in the longest run of missed ones."""


def has_days(semantics: Semantics) -> bool:
    """Whether a series declares the days on which it is expected."""
    return semantics.cadence is not None or (
        semantics.calendar is not None and semantics.snap_time is not None
    )


def gaps_of(semantics: Semantics, spoken: Spoken, first: Snap, until: Snap) -> Gaps:
    """The gaps of a source in a series, of the sessions that lie wholly in ``first`` <= snap < ``until``.

    Args:
        first, until: whole hours.
    """
    if not (spoken.hours or (spoken.before and spoken.after)):
        return Gaps(0, (), 0)
    low = first.ns if spoken.before else spoken.hours[0]
    high = until.ns if spoken.after else spoken.hours[-1] + HOUR
    expected = run = longest = 0
    missed = []
    for day, begins, ends in _sessions(semantics, first, until):
        if begins < first.ns or ends > until.ns or ends <= low or begins >= high:
            continue
        expected += 1
        if bisect_left(spoken.hours, begins) == bisect_left(spoken.hours, ends):
            missed.append(day)
            run += 1
            longest = max(longest, run)
        else:
            run = 0
    return Gaps(expected, tuple(missed), longest)


def _sessions(semantics: Semantics, first: Snap, until: Snap) -> Iterator[tuple[date, int, int]]:
    """Sessions that may lie in a window, each with the hours [begin, end) in which a claim of it falls."""
    if semantics.calendar is None:
        for midnight in range(first.ns - first.ns % (24 * HOUR), until.ns, 24 * HOUR):
            yield Snap(midnight).moment.date(), midnight, midnight + 24 * HOUR
        return
    days, at = calendar(semantics.calendar), semantics.snap_time
    low, high = max(first.moment.date() - _DAY, days.first), min(until.moment.date() + _DAY, days.last)
    for day in days.sessions(low, high) if low <= high else ():
        if semantics.cadence is not None:
            begin, last = Snap.of(days.open(day)).ns, Snap.of(days.close(day)).ns
        elif at is not None:
            begin = last = at.on(day).ns
        yield day, begin - begin % HOUR, last - last % HOUR + HOUR
