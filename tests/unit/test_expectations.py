"""How many values a series is expected to have: by its calendar and snap, or by its cadence."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qis.domain.errors import InvalidInput
from qis.domain.expectations import expected_values
from qis.domain.series import parse_series
from qis.domain.snap import NANOS, Snap, parse_instant
from tests.support.builders import daily_body, series_body

MONDAY = parse_instant("2026-01-05T00:00:00Z", "snap")
DAY = 86_400 * NANOS


def expected(first: Snap, until: Snap, **semantics: Any) -> int | None:
    return expected_values(parse_series(series_body(**semantics)).semantics, first, until)


def test_a_session_of_minutes() -> None:
    week = MONDAY, Snap(MONDAY.ns + 7 * DAY)
    given_ = {"calendar": "XNYS", "cadence": "PT1M"}
    assert expected(*week, **given_) == 5 * 391, "the close has a value of its own"
    assert expected(*week, **given_, timing="interval_start") == 5 * 390
    half = parse_instant("2026-11-27T00:00:00Z", "snap")
    assert expected(half, Snap(half.ns + DAY), **given_, timing="interval_start") == 210, "a half day"
    assert expected(Snap(MONDAY.ns - 2 * DAY), MONDAY, **given_) == 0, "a weekend"


def test_around_the_clock_without_a_calendar_and_no_expectation_without_a_cadence() -> None:
    assert expected(MONDAY, Snap(MONDAY.ns + DAY), cadence="PT1H") == 24
    assert expected(Snap(MONDAY.ns + 1), Snap(MONDAY.ns + DAY), cadence="PT1H") == 23
    assert expected(MONDAY, Snap(MONDAY.ns + DAY)) is None


@settings(max_examples=150, deadline=None)
@given(st.integers(-3000, 12_000), st.integers(0, 9000), st.sampled_from([1, 7, 30, 60, 390]))
def test_windows_add_up_to_what_counting_gives(start: int, length: int, minutes: int) -> None:
    first = Snap(MONDAY.ns + start * 60 * NANOS)
    until = Snap(first.ns + length * 60 * NANOS)
    middle = Snap((first.ns + until.ns) // 2)
    given_ = {"calendar": "XNYS", "cadence": f"PT{minutes}M"}
    whole = expected(first, until, **given_)
    left, right = expected(first, middle, **given_), expected(middle, until, **given_)
    assert left is not None
    assert right is not None
    assert whole == left + right
    assert whole == sum(first <= s < until for s in _steps(minutes))


def _steps(minutes: int) -> list[Snap]:
    """New York opens 14:30 UTC and closes 21:00 in January; 1 and 19 January 2026 are holidays."""
    found = []
    for day in range(-7, 25):
        at = datetime.fromisoformat("2026-01-05T14:30:00+00:00") + timedelta(days=day)
        if at.weekday() < 5 and f"{at:%m-%d}" not in ("01-01", "01-19"):
            found += [Snap.of(at + timedelta(minutes=m)) for m in range(0, 391, minutes)]
    return found


@pytest.mark.parametrize(
    ("semantics", "rule"),
    [
        ({"cadence": "soon"}, "iso-8601-duration"),
        ({"cadence": "PT0S"}, "cadence"),
        ({"cadence": "P2D"}, "cadence"),
        ({"cadence": "PT1M", "calendar": "ECB"}, "trading-hours"),
    ],
)
def test_a_cadence_that_means_nothing_is_refused(semantics: dict[str, str], rule: str) -> None:
    with pytest.raises(InvalidInput, match=rule):
        parse_series(series_body(**semantics))


def test_a_daily_series_has_no_cadence_and_a_definition_keeps_its_form() -> None:
    with pytest.raises(InvalidInput, match="cadence"):
        parse_series(daily_body(cadence="PT1M"))
    body = parse_series(series_body(cadence="PT90S")).as_json()
    assert body["semantics"]["cadence"] == "PT1M30S"
    assert parse_series(body) == parse_series(series_body(cadence="PT90S"))
    assert "cadence" not in parse_series(series_body()).as_json()["semantics"]
