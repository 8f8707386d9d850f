"""What a wrong number looks like: the slips that turn the expected value into the one that came.

A slip is only looked for once a value is implausible; it then names the fault and proposes the repair.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from math import exp, log
from typing import NamedTuple

from qis.domain.detection.judgement import Fault

LN10 = log(10.0)
_MOST_POWERS = 12
_ROUNDED = 0.02
"""What a number may lose when its last digits fall off."""
_UNITS = (
    ("troy ounces and grams", log(31.1034768)),
    ("kilograms and pounds", log(2.20462262)),
    ("barrels and gallons", log(42.0)),
    ("bushels and tonnes of wheat", log(36.7437)),
)


class Slip(NamedTuple):
    """A slip, and the value it was made from."""

    kind: Fault
    repair: Decimal


def slip(value: Decimal, expected: float, tolerance: float) -> Slip | None:
    """The slip that explains ``value`` where ``exp(expected)`` was expected.

    Args:
        value: what came.
        expected: natural logarithm of what was expected, above zero in the series' unit.
        tolerance: distance of logarithms within which a repaired value is as expected.
    """
    if not value:
        return None
    x = float(abs(value))
    distance = log(x) - expected if x else 0.0
    if value < 0:
        return Slip(Fault.SIGN, -value) if abs(distance) <= tolerance else None
    power = round(distance / LN10)
    if 0 < abs(power) <= _MOST_POWERS and abs(distance - power * LN10) <= min(
        max(tolerance, _ROUNDED), LN10 / 6
    ):
        return Slip(Fault.DECIMAL_SHIFT if abs(power) == 1 else Fault.SCALE, value.scaleb(-power))
    transposed = transposition(value, expected, tolerance / 2)
    if transposed is not None:
        return Slip(Fault.TRANSPOSITION, transposed)
    return _conversion(value, expected, distance, tolerance)


def _conversion(value: Decimal, expected: float, distance: float, tolerance: float) -> Slip | None:
    """An inverted quote, or a unit of measure taken for another."""
    near = min(tolerance, 0.05)
    if abs(distance + 2 * expected) <= near and abs(2 * expected) > 2 * near:
        return Slip(Fault.CURRENCY, _rounded(1 / value))
    for _, factor in _UNITS:
        if abs(abs(distance) - factor) <= near / 2:
            return Slip(Fault.UNIT, _rounded(value * Decimal(exp(-factor if distance > 0 else factor))))
    return None


def transposition(value: Decimal, expected: float, tolerance: float) -> Decimal | None:
    """``value`` with the two neighbouring digits exchanged that bring it nearest to the expected value, where
    that is within the tolerance."""
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    best: tuple[float, Decimal] | None = None
    for i, (a, b) in enumerate(pairwise(digits)):
        if a == b or (i == 0 and b == 0):
            continue
        candidate = Decimal((sign, (*digits[:i], b, a, *digits[i + 2 :]), exponent))
        distance = abs(log(float(abs(candidate))) - expected)
        if distance <= tolerance and (best is None or distance < best[0]):
            best = distance, candidate
    return None if best is None else best[1]


def one_key_off(value: Decimal, expected: float, tolerance: float) -> Decimal | None:
    """``value`` with one of its digits replaced, left out or doubled so that it is as expected: a fat finger.

    Only the first three digits are looked at: what a slip in a later one does is within the tolerance.
    """
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    for i in range(min(3, len(digits))):
        edits = [(*digits[:i], d, *digits[i + 1 :]) for d in range(10) if d != digits[i]]
        edits.append((*digits[:i], *digits[i + 1 :]))
        edits.append((*digits[:i], digits[i], *digits[i:]))
        for edit in edits:
            if any(edit):
                candidate = Decimal((sign, edit, exponent))
                if abs(log(float(abs(candidate))) - expected) <= tolerance:
                    return candidate
    return None


def _rounded(value: Decimal) -> Decimal:
    return Decimal(f"{value:.6g}")
