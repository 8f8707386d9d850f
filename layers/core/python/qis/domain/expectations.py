"""How many values of a series the calendar or its cadence expects in a window."""

from __future__ import annotations

from datetime import timedelta

from qis.domain.calendars import calendar
from qis.domain.series import Semantics, Timing
from qis.domain.snap import NANOS, Snap


def expected_values(semantics: Semantics, first: Snap, until: Snap) -> int | None:
    """How many values the calendar expects with ``first`` <= snap < ``until``; ``None``: no expectation.

    Days outside the years that the calendar covers are not expected.
    """
    if semantics.cadence is not None:
        return _expected_by_cadence(semantics, semantics.cadence, first, until)
    if semantics.calendar is None or semantics.snap_time is None:
        return None
    days, at = calendar(semantics.calendar), semantics.snap_time
    low = max(first.local_date(at.zone), days.first)
    high = min(until.local_date(at.zone), days.last)
    if until <= first or high < low:
        return 0
    return sum(first <= at.on(day) < until for day in days.sessions(low, high))


def _expected_by_cadence(semantics: Semantics, cadence: timedelta, first: Snap, until: Snap) -> int:
    """Steps from each opening on, the close included where values are of a moment; around the clock without a
    calendar."""
    step = int(cadence.total_seconds() * NANOS)
    if semantics.calendar is None:
        return max(0, -(-until.ns // step) - -(-first.ns // step))
    days = calendar(semantics.calendar)
    margin = timedelta(days=1)  # a session may open on the day before its date
    low = max((first.moment - margin).astimezone(days.zone).date(), days.first)
    high = min((until.moment + margin).astimezone(days.zone).date(), days.last)
    found = 0
    for day in days.sessions(low, high) if low <= high else ():
        opens, closes = Snap.of(days.open(day)).ns, Snap.of(days.close(day)).ns
        last = closes if semantics.timing is Timing.POINT_IN_TIME else closes - 1
        begin = opens + max(0, -(-(first.ns - opens) // step)) * step
        end = min(last, until.ns - 1)
        found += max(0, (end - begin) // step + 1)
    return found
