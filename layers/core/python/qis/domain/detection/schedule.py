"""When a series speaks: its cadence, the days it leaves out, and the clock time of its snaps, all learned.

Holidays are not learned but known: a day without a value is excused where a bundled calendar that fits the
series' own past is closed on it. A calendar fits if the series hardly ever spoke on a day it is closed on and
was hardly ever silent on one of its sessions.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from qis.domain.calendars import CALENDARS, calendar

DAY_NS = 86_400 * 10**9
_HOUR_NS = 3_600 * 10**9
_ENOUGH = 20
_EPOCH = date(1970, 1, 1)
_MOST_MISSING = 10
_PRESENT = 0.9
_MEMORY = 1 / 20


class Schedule:
    """State of one series' rhythm. ``expected_since`` asks which snaps were left out; ``take`` learns."""

    __slots__ = ("contradicted", "count", "known_phases", "last", "present", "steps")

    def __init__(self) -> None:
        self.count = 0
        self.last = 0
        self.steps = 0.0
        """Share of the steps that are whole days: 1 for a daily series."""
        self.present = [0.5] * 7
        """How often each weekday (Thursday first) has a value."""
        self.contradicted = [0.0] * len(CALENDARS)
        """How often each calendar was wrong of late."""
        self.known_phases: list[int] = []
        """Clock times (UTC) at which the series speaks."""

    def take(self, ns: int) -> list[int]:
        """Learn a snap later than the last, and name the snaps that were left out before it."""
        missing: list[int] = []
        if self.count:
            step = ns - self.last
            whole = abs(step - round(step / DAY_NS) * DAY_NS) <= _HOUR_NS and step >= DAY_NS - _HOUR_NS
            self.steps += (whole - self.steps) * max(_MEMORY, 1 / (self.count + 1))
            if whole and self.steps > _PRESENT:
                missing = self._left_out(ns, round(step / DAY_NS))
        self.count += 1
        self.last = ns
        return missing

    def odd_clock(self, ns: int) -> int | None:
        """How far the snap's clock time lies from those known, in nanoseconds; ``None`` where it is known.

        Two clock times an hour apart are daylight saving, not a fault.
        """
        if self.steps <= _PRESENT or self.count < _ENOUGH:
            if self.count < _ENOUGH and len(self.known_phases) < 3 and ns % DAY_NS not in self.known_phases:
                self.known_phases.append(ns % DAY_NS)
            return None
        phase = ns % DAY_NS
        if phase in self.known_phases or len(self.known_phases) >= 3:
            return None
        nearest = min((abs(phase - p) for p in self.known_phases), default=0)
        nearest = min(nearest, DAY_NS - nearest)
        if nearest <= _HOUR_NS:
            self.known_phases.append(phase)
            return None
        return nearest

    def _left_out(self, ns: int, days: int) -> list[int]:
        """The expected days strictly between the last snap and this one."""
        missing: list[int] = []
        if days == 1:
            self._learn(ns // DAY_NS, spoke=True)
            return missing
        known = self.count >= _ENOUGH
        first = self.last // DAY_NS
        excuse = self._calendar() if known else None
        for day in range(first + 1, first + min(days, 400)):
            usual = self.present[day % 7]
            if known and usual > _PRESENT and not (excuse and not _session(excuse, day)):
                missing.append(self.last + (day - first) * DAY_NS)
            self._learn(day, spoke=False)
        self._learn(ns // DAY_NS, spoke=True)
        return missing if len(missing) <= _MOST_MISSING else missing[:1]

    def _learn(self, day: int, *, spoke: bool) -> None:
        """Days on which the calendars differ tell which of them the series keeps."""
        weekday = day % 7
        self.present[weekday] += (spoke - self.present[weekday]) * 0.1
        if day in _holidays():
            for i, name in enumerate(CALENDARS):
                wrong = _session(name, day) != spoke
                self.contradicted[i] += (wrong - self.contradicted[i]) * _MEMORY

    def _calendar(self) -> str | None:
        """The calendar that the past contradicts least."""
        wrong, name = min(zip(self.contradicted, CALENDARS, strict=True))
        return name if wrong < 0.2 else None


@lru_cache(maxsize=1)
def _holidays() -> frozenset[int]:
    """Days on which one calendar at least is closed, weekends aside."""
    return frozenset((day - _EPOCH).days for name in CALENDARS for day in calendar(name).closed)


@lru_cache(maxsize=16_384)
def _session(name: str, day: int) -> bool:
    known = calendar(name)
    moment = _EPOCH + timedelta(days=day)
    return known.is_session(moment) if known.first <= moment <= known.last else True


def text_of(ns: int) -> str:
    """The day of a snap, for a sentence."""
    return datetime.fromtimestamp(ns // 10**9, UTC).date().isoformat()
