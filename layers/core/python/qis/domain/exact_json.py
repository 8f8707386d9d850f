"""JSON read without loss: numbers are exact decimals; NaN, infinities and repeated keys are refused."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from qis.domain.errors import refuse, shown


def decode(text: str) -> Any:
    """What ``text`` holds; whole numbers of fewer than 16 digits are ``int``, all others ``Decimal``.

    Raises:
        InvalidInput: rules ``finite``, ``distinct-keys``.
        ValueError, RecursionError, ArithmeticError: not JSON; the last of an exponent of twenty digits.
    """
    return _DECODER.decode(text)


def _whole(text: str) -> int | Decimal:
    return int(text) if len(text) < 16 else Decimal(text)


def _constant(name: str) -> Any:
    raise refuse("value", name, "finite", "is not a finite number")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [k for k, _ in pairs]
        twice = next(k for k in names if names.count(k) > 1)
        raise refuse(shown(twice), "", "distinct-keys", "is given more than once")
    return found


_DECODER = json.JSONDecoder(
    parse_float=Decimal, parse_int=_whole, parse_constant=_constant, object_pairs_hook=_distinct
)
