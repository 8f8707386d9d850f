"""``Snap``: the moment that a value describes, with its precision. Naive time is refused.

Instants are whole nanoseconds since 1970-01-01 UTC, so day and nanosecond snaps share one exact type.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from qis.domain.errors import InvalidInput, refuse

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = EPOCH.replace(tzinfo=None)
NANOS = 1_000_000_000
_MIN_NS = -2_208_988_800 * NANOS  # 1900-01-01
_MAX_NS = 7_258_118_400 * NANOS  # 2200-01-01

_STAMP = re.compile(
    r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?)(?:(?<=:\d\d:\d\d)[.,](\d{1,9}))?(Z|z|[+-]\d\d:?\d\d)?",
    re.ASCII,
)
_COMMON = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{3}|\d{6}))?(?:Z|\+00:00)", re.ASCII)
"""The forms that nearly all feeds send: whole seconds, which repeat, and a fraction."""
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_NAMED = re.compile(r"(\d{4}-\d\d-\d\d) ([A-Za-z]{2,10}) (open|close)", re.ASCII)


class Precision(StrEnum):
    """The finest unit in which a snap was given."""

    DAY = "day"
    MINUTE = "minute"
    SECOND = "second"
    MILLISECOND = "millisecond"
    MICROSECOND = "microsecond"
    NANOSECOND = "nanosecond"


@lru_cache(maxsize=4096)
def _seconds_text(seconds: int) -> str:
    return (_NAIVE_EPOCH + timedelta(0, seconds)).isoformat()


@lru_cache(maxsize=4096)
def _seconds_of(text: str) -> int:
    """Seconds since the epoch of a date and time in UTC without fraction."""
    delta = datetime.fromisoformat(text) - _NAIVE_EPOCH
    return delta.days * 86_400 + delta.seconds


class Snap(msgspec.Struct, frozen=True, order=True, gc=False):
    """An instant in nanoseconds since the epoch, UTC. Ordered and hashable; equal instants are equal.

    (A struct, as there are several to every claim.)
    """

    ns: int

    def __post_init__(self) -> None:
        if not _MIN_NS <= self.ns < _MAX_NS:
            raise refuse("snap", str(self.ns), "snap-range", "lies outside the years 1900 to 2199")

    @property
    def text(self) -> str:
        """Canonical form: RFC 3339 in UTC with as many decimals (0, 3, 6, 9) as it needs."""
        seconds, nanos = divmod(self.ns, NANOS)
        if not nanos:
            return f"{_seconds_text(seconds)}Z"
        micros, rest = divmod(nanos, 1000)
        if rest:
            return f"{_seconds_text(seconds)}.{nanos:09d}Z"
        if micros % 1000:
            return f"{_seconds_text(seconds)}.{micros:06d}Z"
        return f"{_seconds_text(seconds)}.{micros // 1000:03d}Z"

    @property
    def precision(self) -> Precision:
        """Finest unit that the instant itself needs."""
        for unit, precision in (
            (60 * NANOS, Precision.MINUTE),
            (NANOS, Precision.SECOND),
            (1_000_000, Precision.MILLISECOND),
            (1_000, Precision.MICROSECOND),
        ):
            if self.ns % unit == 0:
                return precision
        return Precision.NANOSECOND

    @property
    def moment(self) -> datetime:
        """The instant as an aware datetime, cut to microseconds."""
        seconds, nanos = divmod(self.ns, NANOS)
        return EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)

    def local_date(self, zone: str) -> date:
        """The calendar date of the instant in ``zone``."""
        return self.moment.astimezone(zone_of(zone)).date()

    @classmethod
    def of(cls, moment: datetime) -> Snap:
        """The snap of an aware datetime.

        Raises:
            InvalidInput: ``moment`` is naive.
        """
        if moment.tzinfo is None:
            raise refuse("snap", moment.isoformat(), "aware-time", "has no time zone")
        return cls(_nanos(moment))


def _nanos(moment: datetime) -> int:
    delta = moment - EPOCH
    return (delta.days * 86_400 + delta.seconds) * NANOS + delta.microseconds * 1000


@dataclass(frozen=True, slots=True)
class SnapTime:
    """The daily snap convention of a series: a wall-clock time in a zone, say 14:15 Europe/Berlin."""

    at: time
    zone: str

    def on(self, day: date) -> Snap:
        """The snap of ``day``.

        Raises:
            InvalidInput: the wall-clock time does not exist on that day (a daylight-saving gap) or
                exists twice (a fold).
        """
        return _snap_on(self, day)

    def wall(self, snap: Snap) -> datetime:
        """What a clock in the zone shows, to the microsecond."""
        return snap.moment.astimezone(zone_of(self.zone))

    def is_at(self, snap: Snap) -> bool:
        """Whether a clock in the zone shows this time. Both instants of a fold do; an offset tells which."""
        return self.wall(snap).time() == self.at and snap.ns % 1_000 == 0


@lru_cache(maxsize=4096)
def _snap_on(snap_time: SnapTime, day: date) -> Snap:
    return localize(datetime.combine(day, snap_time.at), snap_time.zone, "snap")


@lru_cache(maxsize=256)
def zone_of(name: str) -> ZoneInfo:
    """The IANA zone ``name``.

    Raises:
        InvalidInput: there is no such zone.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise refuse("zone", name, "iana-zone", "is not an IANA time zone") from error


def localize(wall: datetime, zone: str, field: str) -> Snap:
    """The instant of a wall-clock time in ``zone``; gaps and folds are refused, not guessed.

    Raises:
        InvalidInput: rule ``dst-gap`` or ``dst-fold``.
    """
    tz = zone_of(zone)
    first, second = wall.replace(tzinfo=tz, fold=0), wall.replace(tzinfo=tz, fold=1)
    if first.utcoffset() != second.utcoffset():
        if first.astimezone(UTC).astimezone(tz).replace(tzinfo=None) != wall:
            raise refuse(field, wall.isoformat(), "dst-gap", f"does not exist in {zone} on that day")
        raise refuse(field, wall.isoformat(), "dst-fold", f"exists twice in {zone}; give the offset")
    return Snap.of(first)


def parse_instant(text: object, field: str) -> Snap:
    """An ISO 8601 date and time with offset, up to nanoseconds.

    Raises:
        InvalidInput: not of that form, naive, or not a real date or time.
    """
    if not isinstance(text, str):
        raise _not_iso(field, text)
    try:
        if common := _COMMON.fullmatch(text):
            second, fraction = common.groups()
            ns = _seconds_of(second) * NANOS
            if fraction is not None:
                ns += int(fraction) * (1_000 if len(fraction) == 6 else 1_000_000)
        else:
            wall, nanos = _stamp(text, field)
            ns = _nanos(datetime.fromisoformat(wall)) + nanos
    except ValueError as error:
        raise refuse(field, text, "iso-8601", f"is not a real time ({error})") from error
    try:
        return Snap(ns)
    except InvalidInput as error:
        raise refuse(field, text, "snap-range", error.violations[0].message) from error


def _stamp(text: str, field: str) -> tuple[str, int]:
    """Time and offset as the standard library reads them, and the nanoseconds of the fraction, which it would
    cut to microseconds."""
    if not (match := _STAMP.fullmatch(text)):
        raise _not_iso(field, text)
    wall, fraction, offset = match.groups()
    if offset is None:
        raise refuse(field, text, "aware-time", "has no UTC offset; naive time is refused")
    return wall + offset.upper(), int(fraction.ljust(9, "0")) if fraction else 0


def _not_iso(field: str, text: object) -> InvalidInput:
    return refuse(field, text, "iso-8601", "is not an ISO 8601 time such as 2026-01-05T16:00:00-05:00")


def parse_snap(text: object, snap_time: SnapTime | None, field: str = "snap") -> Snap:
    """A snap as given in a claim or a query: a date, an instant with offset, or a named snap.

    A date takes the series' snap time; an instant must then fall on that snap time, because a value of
    another moment has other semantics. ``2026-01-05 NYSE close`` is looked up in the exchange calendar.

    Raises:
        InvalidInput: rules ``iso-8601``, ``aware-time``, ``snap-time``, ``dst-gap``, ``dst-fold``,
            ``calendar``.
    """
    if not isinstance(text, str):
        return parse_instant(text, field)
    return _parsed_snap(text, snap_time, field)


@lru_cache(maxsize=4096)  # the values of a day share their snaps
def _parsed_snap(text: str, snap_time: SnapTime | None, field: str) -> Snap:
    if _DATE.fullmatch(text):
        if snap_time is None:
            raise refuse(field, text, "snap-time", "is a date, and the series has no daily snap time")
        try:
            return snap_time.on(_date(text, field))
        except InvalidInput as error:
            (broken,) = error.violations
            raise refuse(field, text, broken.rule, broken.message) from error
    if named := _NAMED.fullmatch(text):
        snap = _named_snap(text, _date(named[1], field), named[2], named[3], field)
    else:
        snap = parse_instant(text, field)
    if snap_time is not None and not snap_time.is_at(snap):
        rule = f"is not at the series' snap time {snap_time.at:%H:%M} {snap_time.zone}"
        raise refuse(field, text, "snap-time", f"{rule} but at {snap_time.wall(snap):%H:%M:%S}")
    return snap


def _date(text: str, field: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise refuse(field, text, "iso-8601", f"is not a real date ({error})") from error


def _named_snap(text: str, day: date, exchange: str, which: str, field: str) -> Snap:
    from qis.domain.calendars import CalendarError, calendar  # read only where a named snap is used

    try:
        venue = calendar(exchange)
        return Snap.of(venue.close(day) if which == "close" else venue.open(day))
    except CalendarError as error:
        raise refuse(field, text, "calendar", str(error)) from error
