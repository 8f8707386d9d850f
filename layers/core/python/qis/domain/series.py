"""A series and its typed value semantics: what a number under this identifier means.

Claims whose semantics differ (currency, unit, snap time, attribute) are never reconciled with each other:
they are refused at ingestion, because the series they name says something else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from qis.domain.durations import duration_text, parse_duration
from qis.domain.errors import InvalidInput, Violation, refuse, shown
from qis.domain.snap import SnapTime, zone_of

if TYPE_CHECKING:
    from qis.domain.kinds.record import Structure

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:\-]{0,127}", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}|[A-Z0-9]{2,10}", re.ASCII)
_SLUG = re.compile(r"[a-z0-9][a-z0-9._\-]{0,63}", re.ASCII)
_CLOCK = re.compile(r"\d\d:\d\d(:\d\d)?", re.ASCII)


class Kind(StrEnum):
    """What the value is: a number, or one of the records of ``qis.domain.kinds``."""

    PRICE = "price"
    FX_RATE = "fx_rate"
    INDEX_LEVEL = "index_level"
    RATE = "rate"
    VOLUME = "volume"
    OPTIONS_CHAIN = "options_chain"
    CORPORATE_ACTION = "corporate_action"
    CURVE = "curve"
    MATRIX = "matrix"
    JSON = "json"

    @property
    def structured(self) -> bool:
        """Whether a value is a record, not a number."""
        return self in _STRUCTURED


_STRUCTURED = frozenset({Kind.OPTIONS_CHAIN, Kind.CORPORATE_ACTION, Kind.CURVE, Kind.MATRIX, Kind.JSON})


class Timing(StrEnum):
    """Whether a snap is the moment of observation or the start of the interval that a value covers."""

    POINT_IN_TIME = "point_in_time"
    INTERVAL_START = "interval_start"


@dataclass(frozen=True, slots=True)
class Semantics:
    """What makes two numbers comparable."""

    price_type: str
    """``fixing``, ``mid``, ``bid``, ``ask``, ``close``, ``open``, ``vwap``, ``level``, ``traded`` …"""
    currency: str | None
    """Quote currency (ISO 4217 or a crypto code); ``None`` only where a value has none."""
    base_currency: str | None
    """Base currency of an FX rate: units of ``currency`` for one unit of it."""
    unit: str | None
    """Unit of a volume or rate, such as ``shares``, ``contracts``, ``percent``."""
    snap_time: SnapTime | None
    """Daily snap convention; ``None`` for an intraday series, where any instant is a snap."""
    timing: Timing
    calendar: str | None
    """Calendar of the days on which a value is expected; ``None``: no expectation."""
    attribute: str | None = None
    """Vendor attribute that this series stands for, where a vendor reports several per instrument."""
    cadence: timedelta | None = None
    """Of an intraday series: the time from one expected value to the next, from the opening of each session
    of its calendar to the close, or around the clock where it has none; ``None``: no expectation."""


@dataclass(frozen=True, slots=True)
class Series:
    """A registered series: the identity under which sources make claims."""

    reference_data_id: str
    name: str
    kind: Kind
    semantics: Semantics
    rules: str
    """Name of the rule set that reconciles it."""
    structure: Structure | None = None
    """Structure of its records; ``None``: its values are numbers."""

    def as_json(self) -> dict[str, Any]:
        s = self.semantics
        record = {} if self.structure is None else {"record": self.structure.as_json()}
        return {
            **record,
            "reference_data_id": self.reference_data_id,
            "name": self.name,
            "kind": self.kind.value,
            "rules": self.rules,
            "semantics": {
                "price_type": s.price_type,
                "currency": s.currency,
                "base_currency": s.base_currency,
                "unit": s.unit,
                "snap_time": None if s.snap_time is None else f"{s.snap_time.at:%H:%M:%S}",
                "snap_zone": None if s.snap_time is None else s.snap_time.zone,
                "timing": s.timing.value,
                "calendar": s.calendar,
                "attribute": s.attribute,
                **({} if s.cadence is None else {"cadence": duration_text(s.cadence)}),
            },
        }


@dataclass(frozen=True, slots=True)
class Source:
    """A registered provider of claims."""

    source: str
    name: str
    kind: str
    """``official``, ``exchange``, ``vendor``, ``broker``, ``internal`` or ``simulated``."""
    licence: str
    active: bool = True

    def as_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "name": self.name,
            "kind": self.kind,
            "licence": self.licence,
            "active": self.active,
        }


NO_FIELD = "is not a field of this document"
MOST_NAMED = 20
"""Unknown fields that a refusal names; a document can hold thousands."""

SOURCE_KINDS = ("official", "exchange", "vendor", "broker", "internal", "simulated")


def check_fields(
    given: object, where: str, required: frozenset[str] | set[str], optional: frozenset[str] | set[str]
) -> Mapping[str, Any]:
    """``given`` as a mapping with just these keys.

    Raises:
        InvalidInput: not an object, an unknown field, or a missing one; all broken rules at once.
    """
    if not isinstance(given, Mapping):
        raise refuse(where or "body", given, "object", "is not a JSON object")
    if required <= given.keys() <= required | optional and None not in map(given.get, required):
        return given
    prefix = f"{where}." if where else ""
    broken = [
        Violation(prefix + (shown(k) or '""'), shown(given[k]), "known-field", NO_FIELD)
        for k in sorted(given, key=str)
        if k not in required | optional
    ][:MOST_NAMED]
    broken += [
        Violation(prefix + k, "", "required", "is required") for k in sorted(required) if given.get(k) is None
    ]
    if broken:
        raise InvalidInput(*broken)
    return given


def check_id(value: object, field: str = "reference_data_id") -> str:
    """A well-formed series identifier."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise refuse(field, value, "identifier", "is not 1 to 128 of A-Z a-z 0-9 . _ : -")
    return value


def check_slug(value: object, field: str) -> str:
    """A well-formed name of a source or rule set: lower case."""
    if not isinstance(value, str) or not _SLUG.fullmatch(value):
        raise refuse(field, value, "name", "is not 1 to 64 of a-z 0-9 . _ -")
    return value


def check_text(value: object, field: str, longest: int = 200) -> str:
    """Non-empty printable text."""
    if not isinstance(value, str) or not value.strip() or len(value) > longest or not value.isprintable():
        raise refuse(field, value, "text", f"is not printable text of 1 to {longest} characters")
    return value


def check_currency(value: object, field: str) -> str:
    """A currency code in capitals."""
    if not isinstance(value, str) or not _CURRENCY.fullmatch(value):
        raise refuse(field, value, "currency-code", "is not a currency code such as USD")
    return value


def check_choice(value: object, field: str, choices: tuple[str, ...]) -> str:
    """One of ``choices``."""
    if value not in choices:
        raise refuse(field, value, "choice", f"is not one of {', '.join(choices)}")
    return str(value)


def parse_series(given: object) -> Series:
    """A series definition as it comes by REST or file.

    Raises:
        InvalidInput: naming each field and rule.
    """
    body = check_fields(given, "", {"reference_data_id", "name", "kind", "semantics", "rules"}, {"record"})
    kind = Kind(check_choice(body["kind"], "kind", tuple(Kind)))
    return Series(
        reference_data_id=check_id(body["reference_data_id"]),
        name=check_text(body["name"], "name"),
        kind=kind,
        semantics=_parse_semantics(body["semantics"], kind),
        rules=check_slug(body["rules"], "rules"),
        structure=_parse_record(body.get("record"), kind),
    )


def _parse_record(given: object, kind: Kind) -> Structure | None:
    if not kind.structured:
        if given is not None:
            raise refuse("record", given, "no-record", f"a {kind.value} is a number")
        return None
    if given is None:
        raise refuse("record", "", "required", f"is required for kind {kind.value}")
    from qis.domain.kinds.structures import parse_structure  # read only where a series has records

    return parse_structure(kind, given)


def _parse_semantics(given: object, kind: Kind) -> Semantics:
    where = "semantics"
    body = check_fields(
        given,
        where,
        {"price_type", "timing"},
        {"currency", "base_currency", "unit", "snap_time", "snap_zone", "calendar", "attribute", "cadence"},
    )

    def currency(name: str, needed: bool) -> str | None:
        value = body.get(name)
        if value is None:
            if needed:
                raise refuse(f"{where}.{name}", "", "required", f"is required for a {kind.value}")
            return None
        return check_currency(value, f"{where}.{name}")

    unit = body.get("unit")
    if unit is None and kind in (Kind.VOLUME, Kind.RATE, Kind.CURVE, Kind.MATRIX):
        raise refuse(f"{where}.unit", "", "required", f"is required for a {kind.value}")
    calendar = body.get("calendar")
    snap_time = _parse_snap_time(body.get("snap_time"), body.get("snap_zone"))
    return Semantics(
        price_type=check_slug(body["price_type"], f"{where}.price_type"),
        currency=currency("currency", kind in (Kind.PRICE, Kind.FX_RATE, Kind.OPTIONS_CHAIN)),
        base_currency=currency("base_currency", kind is Kind.FX_RATE),
        unit=None if unit is None else check_text(unit, f"{where}.unit", 32),
        snap_time=snap_time,
        timing=Timing(check_choice(body["timing"], f"{where}.timing", tuple(Timing))),
        calendar=None if calendar is None else _known_calendar(calendar),
        attribute=_optional_text(body.get("attribute"), f"{where}.attribute"),
        cadence=_parse_cadence(body.get("cadence"), calendar, daily=snap_time is not None),
    )


def _optional_text(value: object, field: str) -> str | None:
    return None if value is None else check_text(value, field, 64)


def _parse_cadence(given: object, name: object, *, daily: bool) -> timedelta | None:
    field = "semantics.cadence"
    cadence = parse_duration(given, field)
    if cadence is None:
        return None
    if daily or not timedelta(0) < cadence <= timedelta(days=1):
        raise refuse(field, given, "cadence", "is of an intraday series, and at most a day")
    if name is not None:
        from qis.domain.calendars import calendar  # read only where a calendar is named

        if not calendar(str(name)).hours:
            raise refuse(field, given, "trading-hours", f"the calendar {name} has days but no trading hours")
    return cadence


def _known_calendar(name: object) -> str:
    from qis.domain.calendars import CalendarError, calendar  # read only where a calendar is named

    text = check_text(name, "semantics.calendar", 32)
    try:
        calendar(text)
    except CalendarError as error:
        raise refuse("semantics.calendar", text, "calendar", str(error)) from error
    return text


def _parse_snap_time(at: object, zone: object) -> SnapTime | None:
    if at is None and zone is None:
        return None
    if not isinstance(at, str) or not _CLOCK.fullmatch(at):
        raise refuse("semantics.snap_time", at, "clock-time", "is not a wall-clock time such as 14:15")
    if not isinstance(zone, str):
        raise refuse("semantics.snap_zone", zone, "iana-zone", "is required with snap_time")
    try:
        wall = time.fromisoformat(at)
    except ValueError as error:
        raise refuse("semantics.snap_time", at, "clock-time", str(error)) from error
    zone_of(zone)
    return SnapTime(wall, zone)


def parse_source(given: object) -> Source:
    """A source definition as it comes by REST or file.

    Raises:
        InvalidInput: naming each field and rule.
    """
    body = check_fields(given, "", {"source", "name", "kind", "licence"}, {"active"})
    active = body.get("active", True)
    if not isinstance(active, bool):
        raise refuse("active", active, "boolean", "is not true or false")
    return Source(
        source=check_slug(body["source"], "source"),
        name=check_text(body["name"], "name"),
        kind=check_choice(body["kind"], "kind", SOURCE_KINDS),
        licence=check_text(body["licence"], "licence"),
        active=active,
    )


def check_value(series: Series, value: Decimal) -> None:
    """The kind's own limits: an FX rate is positive, a volume is not negative.

    Raises:
        InvalidInput: rule ``positive`` or ``not-negative``.
    """
    if value > 0:
        return  # which no kind minds
    if series.kind in (Kind.FX_RATE, Kind.INDEX_LEVEL):
        raise refuse("value", str(value), "positive", f"a {series.kind.value} is greater than zero")
    if series.kind is Kind.VOLUME and value < 0:
        raise refuse("value", str(value), "not-negative", "a volume is not negative")
