"""How far apart two values may lie and still say the same: relative, in basis points, ticks, absolute, or by
the spread of the claims themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from enum import StrEnum
from typing import Any, NamedTuple

from qis.domain.errors import refuse
from qis.domain.numbers import MAX_DIGITS, decimal_text, parse_decimal
from qis.domain.series import check_fields

EXACT = Context(prec=2 * MAX_DIGITS + 4)
"""Sums and products of two values keep every digit."""
_BP = Decimal(10_000)
_NORMAL = Decimal("1.4826")
"""Median absolute deviation of a normal distribution to its standard deviation (Rousseeuw and Croux,
JASA 88 (1993), 1273)."""
SIGMA_NEEDS = 3
"""Values from which a spread says something."""


class Unit(StrEnum):
    """What the amount of a tolerance is counted in."""

    RELATIVE = "relative"
    """Share of the larger value."""
    BP = "bp"
    """Hundredths of a per cent of the larger value."""
    TICKS = "ticks"
    """Multiples of ``tick``."""
    ABSOLUTE = "absolute"
    """The value's own unit."""
    SIGMA = "sigma"
    """Robust standard deviations of the usable values of the same snap; never less than ``floor_bp``."""


class Band(NamedTuple):
    """A tolerance as it applies to one snap: either bound suffices."""

    relative: Decimal
    absolute: Decimal

    def holds(self, a: Decimal, b: Decimal) -> bool:
        """Whether two values agree. Symmetric and exact to the last of 38 digits."""
        # copy_abs: the operator abs() would round to the 28 digits of the default context.
        apart = EXACT.subtract(a, b).copy_abs()
        if apart <= self.absolute:
            return True
        return apart <= EXACT.multiply(self.relative, max(a.copy_abs(), b.copy_abs()))


_NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """An amount of a unit. ``tick`` goes with ticks, ``floor_bp`` with sigma."""

    unit: Unit
    amount: Decimal
    tick: Decimal | None = None
    floor_bp: Decimal | None = None

    def at(self, values: Sequence[Decimal]) -> Band:
        """The band at a snap with these usable values; only sigma looks at them."""
        if self.unit is Unit.RELATIVE:
            return Band(self.amount, _NOTHING)
        if self.unit is Unit.BP:
            return Band(EXACT.divide(self.amount, _BP), _NOTHING)
        if self.unit is Unit.TICKS:
            assert self.tick is not None
            return Band(_NOTHING, EXACT.multiply(self.amount, self.tick))
        if self.unit is Unit.ABSOLUTE:
            return Band(_NOTHING, self.amount)
        assert self.floor_bp is not None
        floor = EXACT.divide(self.floor_bp, _BP)
        if len(values) < SIGMA_NEEDS:
            return Band(floor, _NOTHING)
        return Band(floor, EXACT.multiply(self.amount, robust_sigma(values)))

    def as_json(self) -> Any:
        """As a rule document has it: a plain decimal for the relative one."""
        if self.unit is Unit.RELATIVE:
            return decimal_text(self.amount)
        body = {self.unit.value: decimal_text(self.amount)}
        if self.tick is not None:
            body["tick"] = decimal_text(self.tick)
        if self.floor_bp is not None:
            body["floor_bp"] = decimal_text(self.floor_bp)
        return body


def median(values: Sequence[Decimal]) -> Decimal:
    """The middle value, or the exact mean of the two middle ones. ``values`` is not empty."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return EXACT.divide(EXACT.add(ordered[middle - 1], ordered[middle]), Decimal(2))


def robust_sigma(values: Sequence[Decimal]) -> Decimal:
    """The standard deviation that the median absolute deviation stands for: half of the values may be
    arbitrarily wrong without effect."""
    middle = median(values)
    return EXACT.multiply(_NORMAL, median([EXACT.subtract(v, middle).copy_abs() for v in values]))


def parse_tolerance(value: object, field: str) -> Tolerance:
    """A tolerance: a decimal (relative), or an object that names its unit, such as ``{"bp": "5"}``,
    ``{"ticks": 2, "tick": "0.01"}``, ``{"absolute": "0.05"}``, ``{"sigma": "4", "floor_bp": "1"}``.

    Raises:
        InvalidInput: no unit or more than one, a negative amount, a tick or floor that is missing, not
            positive, or does not belong to the unit.
    """
    if not isinstance(value, dict):
        return Tolerance(Unit.RELATIVE, not_negative(value, field))
    units = [u for u in Unit if u.value in value]
    if len(units) != 1:
        raise refuse(field, value, "one-unit", f"does not name one of {', '.join(Unit)}")
    unit = units[0]
    beside = {Unit.TICKS: {"tick"}, Unit.SIGMA: {"floor_bp"}}.get(unit, set())
    body = check_fields(value, field, {unit.value} | beside, set())
    amount = not_negative(body[unit.value], f"{field}.{unit.value}")
    tick = parse_decimal(body["tick"], f"{field}.tick") if "tick" in beside else None
    if tick is not None and tick <= 0:
        raise refuse(f"{field}.tick", str(tick), "positive", "is not greater than zero")
    floor = not_negative(body["floor_bp"], f"{field}.floor_bp") if "floor_bp" in beside else None
    return Tolerance(unit, amount, tick, floor)


def not_negative(value: object, field: str) -> Decimal:
    """A decimal of zero or more."""
    number = parse_decimal(value, field)
    if number < 0:
        raise refuse(field, value, "not-negative", "is negative")
    return number
