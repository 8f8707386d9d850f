"""Exact decimals: from the wire to the database and back, never through a float."""

from __future__ import annotations

import re
from decimal import Context, Decimal

from qis.domain.errors import refuse

MAX_DIGITS = 38
"""Significant digits that a value may have; what a 128-bit decimal column in a lake can hold."""
MAX_SCALE = 18
"""Digits after the point that a value may have."""

_PLAIN = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
_FORM = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)


def parse_decimal(value: object, field: str) -> Decimal:
    """The exact decimal in ``value``: text, an int, or a ``Decimal`` from a JSON number.

    Raises:
        InvalidInput: not a decimal, not finite (NaN, infinity), a float or boolean, or more than
            ``MAX_DIGITS`` digits or ``MAX_SCALE`` decimals. Zeros at the end of decimals break no limit: they
            say nothing, and are left out as far as needed.
    """
    if isinstance(value, str) and len(value) <= MAX_SCALE and _PLAIN.fullmatch(value):
        return Decimal(value)  # short and plain: within every limit
    number = _number(value, field)
    if not number.is_finite():
        raise refuse(field, value, "finite", "is not a finite number")
    number = _without_excess(number)
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    if max(len(digits), len(digits) + exponent) > MAX_DIGITS:
        raise refuse(field, value, "max-digits", f"has more than {MAX_DIGITS} significant digits")
    if -exponent > MAX_SCALE:
        raise refuse(field, value, "max-scale", f"has more than {MAX_SCALE} decimals; round it")
    return number


def _without_excess(number: Decimal) -> Decimal:
    """The number without those zeros at the end of its decimals that break a limit."""
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    excess = min(max(-exponent - MAX_SCALE, len(digits) - MAX_DIGITS), -exponent)
    if excess <= 0 or any(digits[-excess:]):
        return number
    return Decimal((sign, digits[:-excess], exponent + excess))


def _number(value: object, field: str) -> Decimal:
    if isinstance(value, str):
        if len(value) > 2 * MAX_DIGITS + 8:
            raise refuse(field, value, "max-digits", f"has more than {MAX_DIGITS} significant digits")
        if not _FORM.fullmatch(value):
            if value.strip().lower().lstrip("+-") in {"nan", "snan", "inf", "infinity"}:
                raise refuse(field, value, "finite", "is not a finite number")
            raise refuse(field, value, "decimal", "is not a decimal number in plain text")
        return Decimal(value)
    if isinstance(value, Decimal):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) >= 10**MAX_DIGITS:
            raise refuse(field, "(a large integer)", "max-digits", f"has more than {MAX_DIGITS} digits")
        return Decimal(value)
    raise refuse(field, value, "decimal", "is not a decimal number in plain text")


def decimal_text(number: Decimal) -> str:
    """``number`` in plain notation, every digit kept (``1.10`` stays ``1.10``)."""
    return format(number, "f")


_BP = Context(prec=16)


def basis_points(value: Decimal, reference: Decimal) -> Decimal | None:
    """How far ``value`` lies from ``reference``, signed, to six decimals; ``None`` from zero."""
    if reference == 0:
        return None
    ratio = _BP.divide(_BP.subtract(value, reference), reference.copy_abs())
    moved = _BP.multiply(ratio, Decimal(10_000))
    return Decimal(round(moved, 6)) if abs(moved) < Decimal("1e9") else _BP.plus(moved)
