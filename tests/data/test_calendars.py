"""The calendar data against the library it was built from, and the questions a calendar answers."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType
from zoneinfo import ZoneInfo

import exchange_calendars
import pytest

from qis.domain import calendars
from qis.domain.calendars import (
    NotASession,
    NoTradingHours,
    OutOfRange,
    UnknownCalendar,
    calendar,
)

# The library's own use of pandas; nothing here can change it.
pytestmark = pytest.mark.filterwarnings("ignore:Series.values returning an ndarray:DeprecationWarning")

ROOT = Path(__file__).parents[2]
FIRST, LAST = date(1999, 1, 1), date(2030, 12, 31)
EXCHANGES = ("CMES", "XETR", "XLON", "XNYS", "XTKS")


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_calendars", ROOT / "scripts/build_calendars.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", EXCHANGES)
def test_every_session_opens_and_closes_as_in_the_library(name: str) -> None:
    library = exchange_calendars.get_calendar(name, start=FIRST, end=LAST)
    expected = {
        session.date(): (opens.to_pydatetime(), closes.to_pydatetime())
        for session, opens, closes in zip(
            library.sessions, library.schedule["open"], library.schedule["close"], strict=True
        )
    }
    ours = calendar(name)
    found = {
        day: (ours.open(day).astimezone(UTC), ours.close(day).astimezone(UTC))
        for day in ours.sessions(FIRST, LAST)
    }
    assert found == expected


def test_the_committed_files_are_what_the_script_writes() -> None:
    folder = Path(calendars.__file__).parent
    written = dict(_script().calendars())
    assert sorted(written) == sorted(calendars.CALENDARS)
    for name, body in written.items():
        assert (folder / f"{name}.json").read_text() == json.dumps(body, indent=1) + "\n"


def test_half_days_close_early() -> None:
    new_york, berlin = ZoneInfo("America/New_York"), ZoneInfo("Europe/Berlin")
    nyse = calendar("NYSE")
    assert nyse.close(date(2024, 11, 29)) == datetime(2024, 11, 29, 13, tzinfo=new_york)
    assert nyse.close(date(2024, 11, 27)) == datetime(2024, 11, 27, 16, tzinfo=new_york)
    assert calendar("XETR").close(date(2024, 12, 30)) == datetime(2024, 12, 30, 14, tzinfo=berlin)


def test_daylight_saving_moves_the_close_in_utc() -> None:
    nyse = calendar("XNYS")
    assert nyse.close(date(2026, 3, 6)).astimezone(UTC).hour == 21
    assert nyse.close(date(2026, 3, 9)).astimezone(UTC).hour == 20
    assert nyse.close(date(2026, 3, 9)).utcoffset() == timedelta(hours=-4)


def test_changed_hours_hold_from_their_day_on() -> None:
    tokyo = calendar("XTKS")
    assert f"{tokyo.close(date(2024, 11, 1)):%H:%M}" == "15:00"
    assert f"{tokyo.close(date(2024, 11, 5)):%H:%M}" == "15:30"


def test_an_overnight_session_opens_on_the_day_before() -> None:
    globex = calendar("CME")
    monday = date(2026, 1, 5)
    assert globex.open(monday) == datetime(2026, 1, 4, 17, tzinfo=ZoneInfo("America/Chicago"))
    assert globex.close(monday).date() == monday


def test_next_sessions_skip_weekends_and_holidays() -> None:
    nyse = calendar("NYSE")
    assert nyse.next_session(date(2001, 9, 10)) == date(2001, 9, 17)
    assert nyse.next_session(date(2025, 7, 3)) == date(2025, 7, 7)
    assert list(nyse.sessions(date(2025, 7, 3), date(2025, 7, 7))) == [date(2025, 7, 3), date(2025, 7, 7)]
    assert list(nyse.sessions(date(2025, 7, 7), date(2025, 7, 3))) == []


@pytest.mark.parametrize(
    ("name", "open_days", "closed_days"),
    [
        ("ECB", ["1999-04-02", "2015-01-02", "2019-12-31"], ["2001-12-31", "2015-04-06", "2019-12-26"]),
        (
            "FED",
            ["2012-10-29", "2015-12-24", "2020-06-19"],
            ["2010-12-31", "2017-01-20", "2018-12-24", "2026-06-19"],
        ),
    ],
)
def test_central_banks_publish_on_their_own_days(
    name: str, open_days: list[str], closed_days: list[str]
) -> None:
    bank = calendar(name)
    assert all(bank.is_session(date.fromisoformat(day)) for day in open_days)
    assert not any(bank.is_session(date.fromisoformat(day)) for day in closed_days)


def test_refusals_are_named() -> None:
    nyse = calendar("nyse")
    with pytest.raises(UnknownCalendar, match="XMOON"):
        calendar("XMOON")
    with pytest.raises(NotASession, match="XNYS is closed on 2026-01-03"):
        nyse.close(date(2026, 1, 3))
    with pytest.raises(NoTradingHours, match="ECB"):
        calendar("ECB").close(date(2026, 1, 5))
    for ask in (nyse.is_session, nyse.open, nyse.next_session, lambda day: nyse.sessions(FIRST, day)):
        with pytest.raises(OutOfRange, match="2031-01-01"):
            ask(date(2031, 1, 1))
    with pytest.raises(OutOfRange, match="after 2030-12-31"):
        nyse.next_session(LAST)


def test_aliases_lead_to_calendars_and_each_is_loaded_once() -> None:
    assert set(calendars.ALIASES.values()) <= set(calendars.CALENDARS)
    assert calendar("NYSE") is calendar("xnys")


def test_importing_reads_no_file() -> None:
    code = (
        "import sys, qis.domain.snap\n"
        "import qis.domain.calendars as c\n"
        "assert c._load.cache_info().currsize == 0\n"
        "assert 'exchange_calendars' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_data_stay_small() -> None:
    folder = Path(calendars.__file__).parent
    assert sum(file.stat().st_size for file in folder.glob("*.json")) < 40_000
