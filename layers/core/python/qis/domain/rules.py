"""Reconciliation and quality rules: data, versioned by events, never code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from qis.domain.errors import refuse
from qis.domain.numbers import decimal_text, parse_decimal
from qis.domain.series import check_choice, check_fields, check_slug

_DURATION = re.compile(r"P(?:(\d{1,4})D)?(?:T(?:(\d{1,4})H)?(?:(\d{1,4})M)?(?:(\d{1,5})S)?)?", re.ASCII)


class Method(StrEnum):
    """How the official value is chosen among usable claims."""

    PRECEDENCE = "precedence"
    MEDIAN = "median"


class Fallback(StrEnum):
    """What to do when no claim in precedence order agrees with the others."""

    MEDIAN = "median"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class RuleSet:
    """One version of a named rule set."""

    rules: str
    version: int
    method: Method
    precedence: tuple[str, ...]
    """Sources, best first; sources not named follow in alphabetical order."""
    tolerance: Decimal
    """Relative distance within which two values agree."""
    min_sources: int
    """Usable sources needed before there is an official value."""
    fallback: Fallback
    max_staleness: timedelta | None
    """A claim received longer than this before its snap is stale and not used."""
    max_move: Decimal | None
    """Largest believable relative move against the reference; a larger one is a spike."""
    low: Decimal | None
    high: Decimal | None
    """Plausible range of the value, inclusive."""
    stale_after: int | None
    """Consecutive snaps with an unchanged value from which a source counts as stale."""
    timely_within: timedelta | None
    """Delay after the snap within which a claim is timely."""

    def as_json(self) -> dict[str, Any]:
        return {
            "rules": self.rules,
            "version": self.version,
            "method": self.method.value,
            "precedence": list(self.precedence),
            "tolerance": decimal_text(self.tolerance),
            "min_sources": self.min_sources,
            "fallback": self.fallback.value,
            "max_staleness": duration_text(self.max_staleness),
            "max_move": None if self.max_move is None else decimal_text(self.max_move),
            "range": None
            if self.low is None and self.high is None
            else [None if x is None else decimal_text(x) for x in (self.low, self.high)],
            "stale_after": self.stale_after,
            "timely_within": duration_text(self.timely_within),
        }


REQUIRED = {"rules", "method", "precedence", "tolerance", "min_sources", "fallback"}
OPTIONAL = {"max_staleness", "max_move", "range", "stale_after", "timely_within", "version"}


def parse_rules(given: object, version: int) -> RuleSet:
    """A rule set as it comes by REST, file or event; its ``version`` is given by the log.

    Raises:
        InvalidInput: naming field, value and rule.
    """
    body = check_fields(given, "", REQUIRED, OPTIONAL)
    low, high = _parse_range(body.get("range"))
    move, stale_after = body.get("max_move"), body.get("stale_after")
    return RuleSet(
        rules=check_slug(body["rules"], "rules"),
        version=version,
        method=Method(check_choice(body["method"], "method", tuple(Method))),
        precedence=_parse_precedence(body["precedence"]),
        tolerance=_share(body["tolerance"], "tolerance"),
        min_sources=_count(body["min_sources"], "min_sources"),
        fallback=Fallback(check_choice(body["fallback"], "fallback", tuple(Fallback))),
        max_staleness=parse_duration(body.get("max_staleness"), "max_staleness"),
        max_move=None if move is None else _share(move, "max_move"),
        low=low,
        high=high,
        stale_after=None if stale_after is None else _count(stale_after, "stale_after"),
        timely_within=parse_duration(body.get("timely_within"), "timely_within"),
    )


def _parse_precedence(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(set(map(str, value))) != len(value):
        raise refuse("precedence", value, "distinct-list", "is not a list of distinct sources")
    return tuple(check_slug(s, "precedence") for s in value)


def _parse_range(value: object) -> tuple[Decimal | None, Decimal | None]:
    if value is None:
        return None, None
    if not isinstance(value, list) or len(value) != 2:
        raise refuse("range", value, "pair", "is not a pair [low, high]")
    low, high = (None if x is None else parse_decimal(x, "range") for x in value)
    if low is not None and high is not None and low > high:
        raise refuse("range", value, "ordered", "has its low above its high")
    return low, high


def _share(value: object, field: str) -> Decimal:
    number = parse_decimal(value, field)
    if number < 0:
        raise refuse(field, value, "not-negative", "is negative")
    return number


def _count(value: object, field: str) -> int:
    if isinstance(value, Decimal) and value == value.to_integral_value():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 10_000:
        raise refuse(field, value, "count", "is not a whole number from 1 to 10000")
    return value


def parse_duration(value: object, field: str) -> timedelta | None:
    """An ISO 8601 duration of days to seconds, or ``None``.

    Raises:
        InvalidInput: rule ``iso-8601-duration``.
    """
    if value is None:
        return None
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None or not any(match.groups()):
        raise refuse(field, value, "iso-8601-duration", "is not a duration such as P1D or PT90M")
    days, hours, minutes, seconds = (int(g or 0) for g in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def duration_text(value: timedelta | None) -> str | None:
    """``value`` as an ISO 8601 duration."""
    if value is None:
        return None
    minutes, seconds = divmod(value.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    clock = "".join(f"{n}{u}" for n, u in ((hours, "H"), (minutes, "M"), (seconds, "S")) if n)
    days = f"{value.days}D" if value.days or not clock else ""
    return f"P{days}" + (f"T{clock}" if clock else "")
