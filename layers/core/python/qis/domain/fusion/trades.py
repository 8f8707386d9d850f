"""The partitioned volume-weighted median of trades over a window, as crypto reference rates are made.

After the CME CF Bitcoin Reference Rate: the window is cut into equal parts, each part's price is the
volume-weighted median of the trades in it, and the rate is the mean of the parts' prices. A part without
trades is left out. One large trade moves one part only; a bad price moves it only with half of its volume.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Context, Decimal
from typing import NamedTuple

from qis.domain.errors import refuse
from qis.domain.numbers import MAX_DIGITS

_EXACT = Context(prec=2 * MAX_DIGITS + 4)


class Trade(NamedTuple):
    """One trade of one source."""

    at: int
    """Nanoseconds since 1970-01-01 UTC."""
    price: Decimal
    volume: Decimal
    source: str = ""


def partitioned_median(trades: Iterable[Trade], begin: int, end: int, parts: int) -> Decimal | None:
    """The rate of the window from ``begin`` to before ``end`` (nanoseconds); ``None`` without trades.

    Raises:
        InvalidInput: no parts, or a window that is no multiple of them.
    """
    if parts < 1 or end <= begin or (end - begin) % parts:
        raise refuse("parts", parts, "divides-window", f"does not divide a window of {end - begin} ns")
    width = (end - begin) // parts
    found: dict[int, list[Trade]] = {}
    for trade in trades:
        if begin <= trade.at < end and trade.volume > 0:
            found.setdefault((trade.at - begin) // width, []).append(trade)
    if not found:
        return None
    total = Decimal(0)
    for part in found.values():
        total = _EXACT.add(total, _median(part))
    return _EXACT.divide(total, Decimal(len(found)))


def _median(trades: list[Trade]) -> Decimal:
    """The price at which half of the volume was traded lower; of exact halves the mean of the two prices."""
    ordered = sorted(trades, key=lambda t: (t.price, t.volume, t.at, t.source))
    total = Decimal(0)
    for trade in ordered:
        total = _EXACT.add(total, trade.volume)
    below = Decimal(0)
    for i, trade in enumerate(ordered):
        below = _EXACT.add(below, trade.volume)
        if 2 * below > total:
            return trade.price
        if 2 * below == total:
            return _EXACT.divide(_EXACT.add(trade.price, ordered[i + 1].price), Decimal(2))
    raise AssertionError("positive volumes pass their half")
