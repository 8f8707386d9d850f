"""Trading calendars: the days and hours of an exchange, or the publication days of a central bank.

The data files beside this module are written by ``scripts/build_calendars.py`` and cover 1999 to 2030. They
hold what is known at the time of building: closures announced later need a new build. Changes of regular
hours are kept as far as the upstream data has them (Tokyo, 2024-11-05).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from importlib import resources
from itertools import takewhile
from types import MappingProxyType
from typing import Any, Final
from zoneinfo import ZoneInfo

from qis.domain.errors import QisError, shown

CALENDARS: Final = ("CMES", "ECB", "FED", "XETR", "XLON", "XNYS", "XTKS")
ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "CME": "CMES",
        "JPX": "XTKS",
        "LSE": "XLON",
        "NASDAQ": "XNYS",
        "NYSE": "XNYS",
        "TARGET": "ECB",
        "TSE": "XTKS",
        "XETRA": "XETR",
        "XNAS": "XNYS",
    }
)
"""Everyday names. NASDAQ keeps the days and hours of the NYSE."""

_DAY: Final = timedelta(days=1)
_SATURDAY: Final = 5


class CalendarError(QisError):
    """A question that a trading calendar cannot answer."""

    slug = "calendar"


class UnknownCalendar(CalendarError):
    """There is no calendar of that name."""

    slug = "unknown-calendar"


class NotASession(CalendarError):
    """The calendar is closed on that day."""

    slug = "not-a-session"


class OutOfRange(CalendarError):
    """The day lies outside the years that the calendar covers."""

    slug = "calendar-range"


class NoTradingHours(CalendarError):
    """The calendar has days only: a central bank publishes, it does not open and close."""

    slug = "no-trading-hours"


@dataclass(frozen=True, slots=True)
class Hours:
    """Regular local hours from ``since`` on. A session may open on an earlier day than it closes."""

    since: date
    opens: time
    closes: time


@dataclass(frozen=True, slots=True, eq=False)
class TradingCalendar:
    """Sessions are the weekdays from ``first`` to ``last`` that are not ``closed``."""

    name: str
    zone: ZoneInfo
    first: date
    last: date
    closed: frozenset[date]
    hours: tuple[Hours, ...]
    """Oldest first; empty for a calendar of days only."""
    opens_days_before: int
    """Days between the opening and the session's date: 1 for an overnight market, else 0."""
    early_closes: Mapping[date, time]
    """Local closing time of half days."""

    def is_session(self, day: date) -> bool:
        """Whether the market trades (or the bank publishes) on ``day``.

        Raises:
            OutOfRange: ``day`` is not covered.
        """
        self._covered(day)
        return day.weekday() < _SATURDAY and day not in self.closed

    def open(self, day: date) -> datetime:
        """The opening of the session of ``day``, in the calendar's zone.

        Raises:
            NotASession, NoTradingHours, OutOfRange
        """
        return self._at(day - self.opens_days_before * _DAY, self._hours(day).opens)

    def close(self, day: date) -> datetime:
        """The close of the session of ``day``, in the calendar's zone; half days are known.

        Raises:
            NotASession, NoTradingHours, OutOfRange
        """
        hours = self._hours(day)
        return self._at(day, self.early_closes.get(day, hours.closes))

    def sessions(self, start: date, end: date) -> Iterator[date]:
        """The sessions from ``start`` to ``end``, both included.

        Raises:
            OutOfRange: ``start`` or ``end`` is not covered.
        """
        self._covered(start)
        self._covered(end)
        return takewhile(lambda day: day <= end, self._walk(start))

    def next_session(self, day: date) -> date:
        """The first session after ``day``, which itself need not be one.

        Raises:
            OutOfRange: ``day``, or the session sought, is not covered.
        """
        self._covered(day)
        for session in self._walk(day + _DAY):
            return session
        raise OutOfRange(f"{self.name} covers no session after {day}")

    def _walk(self, day: date) -> Iterator[date]:
        while day <= self.last:
            if self.is_session(day):
                yield day
            day += _DAY

    def _covered(self, day: date) -> None:
        if not self.first <= day <= self.last:
            raise OutOfRange(f"{self.name} covers {self.first} to {self.last}, not {day}")

    def _hours(self, day: date) -> Hours:
        if not self.is_session(day):
            raise NotASession(f"{self.name} is closed on {day}")
        for hours in reversed(self.hours):
            if hours.since <= day:
                return hours
        raise NoTradingHours(f"{self.name} has days but no trading hours")

    def _at(self, day: date, clock: time) -> datetime:
        return datetime.combine(day, clock, self.zone)


def calendar(name: str) -> TradingCalendar:
    """The calendar of that ISO 10383 code (``XNYS``), bank (``ECB``, ``FED``) or everyday name (``NYSE``).

    Raises:
        UnknownCalendar: there is none.
    """
    code = ALIASES.get(name.upper(), name.upper())
    if code not in CALENDARS:
        raise UnknownCalendar(f"{shown(name)} is none of the calendars {', '.join((*CALENDARS, *ALIASES))}")
    return _load(code)


@lru_cache(maxsize=len(CALENDARS))
def _load(code: str) -> TradingCalendar:
    body: dict[str, Any] = json.loads(resources.files(__name__).joinpath(f"{code}.json").read_bytes())
    return TradingCalendar(
        name=body["name"],
        zone=ZoneInfo(body["zone"]),
        first=date.fromisoformat(body["first"]),
        last=date.fromisoformat(body["last"]),
        closed=frozenset(_days(body["closed"])),
        hours=tuple(
            Hours(date.fromisoformat(since), time.fromisoformat(opens), time.fromisoformat(closes))
            for since, opens, closes in body["hours"]
        ),
        opens_days_before=body["opens_days_before"],
        early_closes=MappingProxyType(
            {
                day: time.fromisoformat(clock)
                for clock, years in body["early_closes"].items()
                for day in _days(years)
            }
        ),
    )


def _days(years: Mapping[str, str]) -> Iterator[date]:
    """Days from their compact form: for each year, ``MM-DD`` separated by blanks."""
    for year, days in years.items():
        for day in days.split():
            yield date.fromisoformat(f"{year}-{day}")
