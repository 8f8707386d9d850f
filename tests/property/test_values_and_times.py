"""Numbers, times and durations: exact over their whole range, refused outside of it."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qis.application.ingest import decode
from qis.domain.claims import Claim, claim_identity
from qis.domain.durations import duration_text, parse_duration
from qis.domain.events import Position
from qis.domain.numbers import MAX_DIGITS, MAX_SCALE, decimal_text, parse_decimal
from qis.domain.rules import parse_rules, rule_set_json
from qis.domain.snap import NANOS, Snap, SnapTime, localize, parse_instant, parse_snap
from tests.support.builders import FIRST, claim, rules
from tests.support.refusals import attempt, broken

FIRST_NS, END_NS = -2_208_988_800 * NANOS, 7_258_118_400 * NANOS
snaps = st.integers(FIRST_NS, END_NS - 1).map(Snap)


@st.composite
def decimals(draw: st.DrawFn) -> Decimal:
    """Any decimal that a value may be: up to 38 digits, of which up to 18 decimals."""
    scale = draw(st.integers(0, MAX_SCALE))
    digits = draw(st.integers(-(10**MAX_DIGITS) + 1, 10**MAX_DIGITS - 1))
    return Decimal((int(digits < 0), tuple(map(int, str(abs(digits)))), -scale))


# numbers -----------------------------------------------------------------------------------------


@given(decimals())
@example(Decimal("12345678901234567890.123456789012345678"))
@example(Decimal("0.000000000000000001"))
@example(Decimal("-99999999999999999999999999999999999999"))
def test_a_decimal_survives_text_and_json_with_every_digit(number: Decimal) -> None:
    text = decimal_text(number)
    assert parse_decimal(text, "value").as_tuple() == number.as_tuple()
    assert parse_decimal(decode(f'{{"v": {text}}}'.encode())["v"], "value") == number
    assert decimal_text(parse_decimal(text, "value")) == text
    assert "e" not in text.lower()


@given(st.text(max_size=60))
@example("\u0661\u0662")
@example("1_000")
@example("1\n")
@example(" 1")
@example("0x10")
@example("1e999999999999999999999")
def test_any_text_is_a_decimal_or_a_typed_refusal(text: str) -> None:
    number, refused = attempt(lambda: parse_decimal(text, "value"))
    if number is None:
        assert [field for field, _ in refused] == ["value"]
        return
    assert number.is_finite()
    assert number == Decimal(text)
    assert len(decimal_text(number).lstrip("-").replace(".", "").lstrip("0")) <= MAX_DIGITS


@given(number=decimals(), zeros=st.integers(0, 30))
@example(number=Decimal("5.5"), zeros=19)
@example(number=Decimal("12345678901234567890.123456789012345678"), zeros=10)
@example(number=Decimal("0"), zeros=40)
def test_zeros_at_the_end_of_decimals_break_no_limit(number: Decimal, zeros: int) -> None:
    text = decimal_text(number) + ("." if "." not in decimal_text(number) else "") + "0" * (zeros + 1)
    assert parse_decimal(Decimal(text), "value") == number
    if len(text) <= 2 * MAX_DIGITS:
        assert parse_decimal(text, "value") == number


@given(digits=st.integers(1, 10**20), excess=st.integers(1, 20))
def test_a_decimal_beyond_the_last_one_is_never_dropped(digits: int, excess: int) -> None:
    number = Decimal((0, tuple(map(int, str(digits * 10 + 1))), -MAX_SCALE - excess))
    assert broken(lambda: parse_decimal(number, "value")) == [("value", "max-scale")]


@given(decimals(), decimals())
@example(
    Decimal("1.2345678901234567890123456789012345678"), Decimal("1.2345678901234567890123456789012345679")
)
def test_claims_are_the_same_exactly_if_their_numbers_are(a: Decimal, b: Decimal) -> None:
    one, other = (claim_identity("X", FIRST, "alpha", v, None) for v in (a, b))
    assert (one == other) == (a == b)


@pytest.mark.parametrize(("a", "b"), [("1.10", "1.1"), ("0", "-0"), ("0.00", "0"), ("1E+2", "100")])
def test_digits_that_do_not_change_the_number_do_not_change_the_claim(a: str, b: str) -> None:
    one, other = (claim_identity("X", FIRST, "alpha", Decimal(v), None) for v in (a, b))
    assert one == other


@given(decimals(), snaps, st.none() | snaps, st.none() | decimals())
def test_a_claim_survives_its_event(
    value: Decimal, at: Snap, received: Snap | None, volume: Decimal | None
) -> None:
    original = Claim("0" * 32, "X", at, "alpha", value, volume, received)
    assert Claim.from_json(json.loads(json.dumps(original.as_json()))) == original


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@example(b'{"value": 1e99999999999999999999}')
@example(b'{"value": -1E-99999999999999999999}')
@example(b"[" * 50_000)
@example(b'{"a": 1, "a": 2}')
@example(b"\xef\xbb\xbf{}")
def test_any_bytes_are_json_or_a_typed_refusal(payload: bytes) -> None:
    decoded, refused = attempt(lambda: decode(payload))
    if not refused:
        assert decoded == json.loads(payload.decode(), parse_float=Decimal)


# times -------------------------------------------------------------------------------------------


@given(snaps)
@example(Snap(FIRST_NS))
@example(Snap(END_NS - 1))
@example(Snap(-1))
def test_a_snap_survives_its_text(at: Snap) -> None:
    assert parse_instant(at.text, "snap") == at
    assert parse_instant(at.text.lower().replace("t", " ").replace("z", "+00:00"), "snap") == at


@given(snaps, snaps)
def test_texts_of_snaps_of_one_precision_sort_as_the_snaps_do(a: Snap, b: Snap) -> None:
    one, other = (Snap(s.ns - s.ns % NANOS) for s in (a, b))
    assert (one.text < other.text) == (one < other)


@given(snaps, st.integers(-14 * 60, 14 * 60))
def test_an_instant_is_the_same_whatever_offset_it_is_given_with(at: Snap, minutes: int) -> None:
    seconds, nanos = divmod(at.ns, NANOS)
    wall = datetime(1970, 1, 1) + timedelta(seconds=seconds, minutes=minutes)  # noqa: DTZ001
    sign, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
    assert parse_instant(f"{wall.isoformat()}.{nanos:09}{sign}{hours:02}:{rest:02}", "snap") == at


def test_a_naive_moment_is_no_snap() -> None:
    assert broken(lambda: Snap.of(datetime(2026, 1, 5))) == [("snap", "aware-time")]  # noqa: DTZ001


ZONES = sorted(z for z in available_timezones() if "/" in z and not z.startswith(("Etc/", "SystemV/")))


@given(st.sampled_from(ZONES), st.datetimes(datetime(1971, 1, 1), datetime(2037, 12, 31)))  # noqa: DTZ001
@example("Europe/Berlin", datetime(2026, 3, 29, 2, 30))  # noqa: DTZ001
@example("Europe/Berlin", datetime(2026, 10, 25, 2, 30))  # noqa: DTZ001
@example("Australia/Lord_Howe", datetime(2026, 10, 4, 2, 15))  # noqa: DTZ001
@example("Pacific/Apia", datetime(2011, 12, 30, 12))  # noqa: DTZ001
@example("America/New_York", datetime(2026, 3, 8, 2))  # noqa: DTZ001
def test_a_wall_clock_time_is_one_instant_or_a_gap_or_a_fold(zone: str, wall: datetime) -> None:
    """Against a search: the instants near it at which a clock in the zone shows this time."""
    wall = wall.replace(microsecond=0)
    tz = ZoneInfo(zone)
    offsets = {
        (wall.replace(tzinfo=UTC) + timedelta(hours=h)).astimezone(tz).utcoffset() for h in range(-30, 31, 3)
    }
    shown = sorted(
        moment
        for offset in offsets
        if offset is not None
        for moment in [(wall - offset).replace(tzinfo=UTC)]
        if moment.astimezone(tz).replace(tzinfo=None) == wall
    )
    if len(shown) == 1:
        assert localize(wall, zone, "snap") == Snap.of(shown[0])
        return
    assert broken(lambda: localize(wall, zone, "snap")) == [("snap", "dst-fold" if shown else "dst-gap")]


@given(
    st.sampled_from(ZONES),
    st.dates(date(1971, 1, 2), date(2037, 12, 30)),
    st.times().map(lambda t: t.replace(microsecond=0)),
)
def test_a_date_and_its_instant_are_the_same_snap_of_a_daily_series(zone: str, day: date, at: time) -> None:
    snap_time = SnapTime(at, zone)
    expected, refused = attempt(lambda: parse_snap(day.isoformat(), snap_time))
    if expected is None:
        assert refused in ([("snap", "dst-gap")], [("snap", "dst-fold")])
        return
    assert parse_snap(expected.text, snap_time) == expected
    assert expected.local_date(zone) == day
    ((field, rule),) = broken(lambda: parse_snap(Snap(expected.ns + NANOS).text, snap_time))
    assert (field, rule) == ("snap", "snap-time")


def test_an_offset_tells_the_two_instants_of_a_fold_apart() -> None:
    """On 25 October 2026 clocks in Berlin show half past two twice."""
    snap_time = SnapTime(time(2, 30), "Europe/Berlin")
    assert broken(lambda: parse_snap("2026-10-25", snap_time)) == [("snap", "dst-fold")]
    first, second = (parse_snap(f"2026-10-25T02:30:00+0{h}:00", snap_time) for h in (2, 1))
    assert second.ns - first.ns == 3600 * NANOS
    assert broken(lambda: parse_snap("2026-10-25T02:30:00Z", snap_time)) == [("snap", "snap-time")]


@given(st.text(max_size=40))
@example("2026-01-05T16:00:00")
@example("2026-02-30T16:00:00Z")
@example("2026-01-05T25:00:00Z")
@example("2026-01-05T16:00:60Z")
@example("2026-01-05T16:00:00+99:99")
@example("0001-01-01T00:00:00+23:59")
@example("9999-12-31T23:59:59-23:59")
@example("2026-02-30")
@example("2026-01-05 NYSE close")
@example("2026-01-04 NYSE close")
@example("2026-01-05 NOWHERE open")
@example("9999-01-05 NYSE close")
def test_any_text_is_a_snap_or_a_typed_refusal(text: str) -> None:
    for snap_time in (None, SnapTime(time(14, 15), "Europe/Berlin")):
        found, refused = attempt(lambda at=snap_time: parse_snap(text, at))
        if found is None:
            assert [field for field, _ in refused] == ["snap"]
        else:
            assert parse_instant(found.text, "snap") == found


# durations, rules, positions ---------------------------------------------------------------------


@given(
    st.timedeltas(timedelta(0), timedelta(days=9999)).map(
        lambda d: d - timedelta(microseconds=d.microseconds)
    )
)
@example(timedelta(0))
@example(timedelta(days=1))
@example(timedelta(seconds=86_399))
def test_a_duration_survives_its_text(length: timedelta) -> None:
    assert parse_duration(duration_text(length), "max_staleness") == length


@given(st.text(max_size=20))
@example("P")
@example("PT")
@example("P1DT")
@example("P1Y")
@example("PT1.5S")
@example("-P1D")
def test_any_text_is_a_duration_or_a_typed_refusal(text: str) -> None:
    found, refused = attempt(lambda: parse_duration(text, "max_staleness"))
    if found is None:
        assert refused == [("max_staleness", "iso-8601-duration")]
    else:
        assert found >= timedelta(0)
        assert parse_duration(duration_text(found), "max_staleness") == found


@given(
    st.integers(1, 10_000),
    st.none() | decimals().map(Decimal.copy_abs),
    st.none() | st.tuples(decimals(), decimals()),
)
def test_a_rule_set_survives_its_event(
    count: int, move: Decimal | None, bounds: tuple[Decimal, Decimal] | None
) -> None:
    original = rules(
        7,
        min_sources=count,
        max_move=None if move is None else decimal_text(move),
        range=None if bounds is None else [decimal_text(min(bounds)), decimal_text(max(bounds))],
        timely_within="PT90M",
        stale_after=count,
    )
    assert parse_rules(json.loads(json.dumps(rule_set_json(original))), 7) == original


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_a_position_survives_its_token(tx: int, sequence: int) -> None:
    assert Position.parse(Position(tx, sequence).token) == Position(tx, sequence)


@pytest.mark.parametrize(
    "token", ["", "1", "1.", ".1", "-1.1", "1.1.1", "1. 1", "\u0661.1", "1.1\n", "9" * 20 + ".1"]
)
def test_a_malformed_token_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="not a position token"):
        Position.parse(token)


def test_the_builders_make_valid_claims() -> None:
    assert claim().claim_id == claim_identity(
        claim().reference_data_id, FIRST, "alpha", Decimal("1.1"), claim().received_at
    )
