"""Write the calendar data of ``qis.domain.calendars``.

Exchanges come from the exchange-calendars library (Apache-2.0, a development dependency). The two central
banks follow their published rules, because the library has no calendar of them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import exchange_calendars
from exchange_calendars import ExchangeCalendar

FIRST, LAST = date(1999, 1, 1), date(2030, 12, 31)
EXCHANGES = ("CMES", "XETR", "XLON", "XNYS", "XTKS")
TARGET = Path(__file__).parents[1] / "layers/core/python/qis/domain/calendars"
DAY = timedelta(days=1)
MONDAY, THURSDAY, SATURDAY, SUNDAY = 0, 3, 5, 6

FED_CLOSURES = (
    date(2014, 12, 26),
    date(2017, 1, 20),
    date(2018, 12, 5),
    date(2018, 12, 24),
    date(2019, 1, 14),
)
"""Weekdays other than federal holidays without an H.10 rate, seen in the release of 2009-01-26 to 2019-01-25:
days on which federal offices in Washington were closed. Outside those years only the holidays are known."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=TARGET)
    output: Path = parser.parse_args().output
    for name, body in calendars():
        (output / f"{name}.json").write_text(json.dumps(body, indent=1) + "\n", encoding="ascii")


def calendars() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each calendar's name and data file."""
    for name in EXCHANGES:
        yield name, exchange(name)
    rules = "rules of the European Central Bank on TARGET closing days"
    yield "ECB", bank("ECB", "Europe/Berlin", rules, target_closing_days)
    rules = "US federal holidays, and closures seen in the H.10 release of 2009-01-26 to 2019-01-25"
    yield "FED", bank("FED", "America/New_York", rules, federal_holidays)


def exchange(name: str) -> dict[str, Any]:
    """One exchange, as the library has it.

    Raises:
        ValueError: the exchange has a trait that the data format does not express.
    """
    source: ExchangeCalendar = exchange_calendars.get_calendar(name, start=FIRST, end=LAST)
    hours = regular_hours(source)
    closed = set(weekdays())
    early: dict[str, list[date]] = {}
    local = (source.schedule[column].dt.tz_convert(source.tz) for column in ("open", "close"))
    for session, opens, closes in zip(source.sessions, *local, strict=True):
        day = session.date()
        if day not in closed:
            raise ValueError(f"{name} trades on {day}, a weekend")
        closed.remove(day)
        regular = next(h for h in reversed(hours) if h[0] <= day.isoformat())
        if opens.strftime("%H:%M") != regular[1] or (day - opens.date()).days != -source.open_offset:
            raise ValueError(f"{name} opens at {opens}, which is not regular")
        if (clock := closes.strftime("%H:%M")) != regular[2]:
            early.setdefault(clock, []).append(day)
    return {
        "name": name,
        "source": f"exchange-calendars {version('exchange-calendars')}",
        "zone": str(source.tz),
        "first": FIRST.isoformat(),
        "last": LAST.isoformat(),
        "opens_days_before": -source.open_offset,
        "hours": hours,
        "early_closes": {clock: by_year(days) for clock, days in sorted(early.items())},
        "closed": by_year(closed),
    }


def regular_hours(source: ExchangeCalendar) -> list[tuple[str, str, str]]:
    """Regular opening and close from each day on which one of them changed."""

    def since(start: Any) -> str:
        return FIRST.isoformat() if start is None else max(FIRST, start.date()).isoformat()

    opens = {since(start): at.strftime("%H:%M") for start, at in source.open_times}
    closes = {since(start): at.strftime("%H:%M") for start, at in source.close_times}
    hours: list[tuple[str, str, str]] = []
    for start in sorted(opens.keys() | closes.keys()):
        _, last_open, last_close = hours[-1] if hours else ("", "", "")
        hours.append((start, opens.get(start, last_open), closes.get(start, last_close)))
    return hours


def bank(name: str, zone: str, source: str, holidays: Any) -> dict[str, Any]:
    """A calendar of days only."""
    closed = {day for year in range(FIRST.year, LAST.year + 2) for day in holidays(year)}
    return {
        "name": name,
        "source": source,
        "zone": zone,
        "first": FIRST.isoformat(),
        "last": LAST.isoformat(),
        "opens_days_before": 0,
        "hours": [],
        "early_closes": {},
        "closed": by_year(closed.intersection(weekdays())),
    }


def target_closing_days(year: int) -> Iterator[date]:
    """TARGET closing days; the long-term calendar holds from 2000 on."""
    yield date(year, 1, 1)
    yield date(year, 12, 25)
    if year >= 2000:
        sunday = easter(year)
        yield from (sunday - 2 * DAY, sunday + DAY, date(year, 5, 1), date(year, 12, 26))
    if year in (1999, 2001):
        yield date(year, 12, 31)


def federal_holidays(year: int) -> Iterator[date]:
    """US federal holidays as observed: Friday for a Saturday, Monday for a Sunday."""
    fixed = [(1, 1), (7, 4), (11, 11), (12, 25)] + ([(6, 19)] if year >= 2021 else [])
    for month, number in fixed:
        day = date(year, month, number)
        yield day + {SATURDAY: -DAY, SUNDAY: DAY}.get(day.weekday(), 0 * DAY)
    yield nth(year, 1, MONDAY, 3)
    yield nth(year, 2, MONDAY, 3)
    yield nth(year, 6, MONDAY, 1) - 7 * DAY
    yield nth(year, 9, MONDAY, 1)
    yield nth(year, 10, MONDAY, 2)
    yield nth(year, 11, THURSDAY, 4)
    yield from (day for day in FED_CLOSURES if day.year == year)


def nth(year: int, month: int, weekday: int, n: int) -> date:
    """The ``n``-th ``weekday`` of a month."""
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (n - 1))


def easter(year: int) -> date:
    """Easter Sunday of the Gregorian calendar (Meeus, Astronomical Algorithms, chapter 8)."""
    a, (b, c) = year % 19, divmod(year, 100)
    d, e = divmod(b, 4)
    g = (8 * b + 13) // 25
    h = (19 * a + b - d - g + 15) % 30
    i, k = divmod(c, 4)
    weekday = (32 + 2 * e + 2 * i - h - k) % 7
    m = (a + 11 * h + 22 * weekday) // 451
    month, day = divmod(h + weekday - 7 * m + 114, 31)
    return date(year, month, day + 1)


def weekdays() -> Iterator[date]:
    """Monday to Friday of all years."""
    for ordinal in range(FIRST.toordinal(), LAST.toordinal() + 1):
        day = date.fromordinal(ordinal)
        if day.weekday() < SATURDAY:
            yield day


def by_year(days: Iterable[date]) -> Mapping[str, str]:
    """The compact form: for each year, ``MM-DD`` separated by blanks."""
    years: dict[str, list[str]] = {}
    for day in sorted(days):
        years.setdefault(str(day.year), []).append(f"{day:%m-%d}")
    return {year: " ".join(rest) for year, rest in years.items()}


if __name__ == "__main__":
    main()
