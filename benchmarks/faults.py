"""Faults put into real series: thirteen kinds for one series, and those that only peers can tell.

Every fault has a span of bars. Sizes are drawn in units of those who make such errors (digits, powers of
ten, rates of exchange), and steps in the series' own volatility. All of it follows from the seed.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import pairwise
from math import log

DAY_NS = 86_400 * 10**9
_RATES = ("1.12", "1.31", "0.89", "0.76", "7.8", "110")
_UNITS = ("100", "0.01", "1000", "31.1034768", "2.20462")
GRACE = 5
"""Bars after a fault within which finding it counts, and being surprised by its end is no false alarm."""
APART = 40
"""Bars between faults."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One claim of a source."""

    ns: int
    value: Decimal
    volume: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """A fault: the first and last snap that it concerns."""

    kind: str
    first: int
    last: int


Change = Callable[[list[Bar], int, random.Random], tuple[list[Bar], int]]
"""Bars, the place of the fault, randomness; the bars from that place on, changed, and the fault's length."""


def _rounded(value: Decimal, like: Decimal) -> Decimal:
    exponent = like.as_tuple().exponent
    assert isinstance(exponent, int)
    return value.quantize(Decimal(1).scaleb(min(exponent, -2)))


def _scaled(bars: list[Bar], at: int, length: int, factor: Decimal) -> list[Bar]:
    return [
        replace(b, value=_rounded(b.value * factor, b.value)) if i < length else b
        for i, b in enumerate(bars[at:])
    ]


def _volatility(bars: Sequence[Bar], at: int) -> float:
    """Of the last 60 bars; a fault before may have left values without a logarithm there."""
    values = [float(b.value) for b in bars[max(0, at - 60) : at]]
    steps = [abs(log(b / a)) for a, b in pairwise(values) if a > 0 and b > 0]
    return max(1.4826 * statistics.median(steps), 1e-3)


def _step(low: float, high: float, shortest: int, longest: int) -> Change:
    """A step of so many times the volatility, up or down, for so many bars."""

    def change(bars: list[Bar], at: int, rng: random.Random) -> tuple[list[Bar], int]:
        size = rng.uniform(low, high) * _volatility(bars, at)
        factor = 1 + size if rng.random() < 0.5 else 1 / (1 + size)
        length = rng.randint(shortest, longest)
        return _scaled(bars, at, length, Decimal(str(round(factor, 6)))), length

    return change


def _times(factors: Sequence[str], shortest: int, longest: int) -> Change:
    def change(bars: list[Bar], at: int, rng: random.Random) -> tuple[list[Bar], int]:
        length = rng.randint(shortest, longest)
        return _scaled(bars, at, length, Decimal(rng.choice(factors))), length

    return change


def _fat_finger(bars: list[Bar], at: int, rng: random.Random) -> tuple[list[Bar], int]:
    """One of the first two digits is another."""
    bar = bars[at]
    sign, digits, exponent = bar.value.as_tuple()
    assert isinstance(exponent, int)
    i = rng.randrange(min(2, len(digits)))
    other = rng.choice([d for d in range(1, 10) if d != digits[i]])
    value = Decimal((sign, (*digits[:i], other, *digits[i + 1 :]), exponent))
    return [replace(bar, value=value), *bars[at + 1 :]], 1


def transposed(value: Decimal, rng: random.Random) -> Decimal | None:
    """Two neighbouring digits exchanged where that changes the value by a percent or more; ``None``: there
    are none."""
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    able = []
    for i in range(len(digits) - 1):
        changed = (*digits[:i], digits[i + 1], digits[i], *digits[i + 2 :])
        candidate = Decimal((sign, changed, exponent))
        if changed[0] and abs(candidate / value - 1) >= Decimal("0.01"):
            able.append(candidate)
    return rng.choice(able) if able else None


def _transposition(bars: list[Bar], at: int, rng: random.Random) -> tuple[list[Bar], int]:
    value = transposed(bars[at].value, rng)
    if value is None:
        return bars[at:], 0
    return [replace(bars[at], value=value), *bars[at + 1 :]], 1


def _stale(bars: list[Bar], at: int, rng: random.Random) -> tuple[list[Bar], int]:
    """The value before, again and again; the volume goes on."""
    length = rng.randint(4, 10)
    stuck = bars[at - 1].value
    return [replace(b, value=stuck) if i < length else b for i, b in enumerate(bars[at:])], length


def _duplicate(bars: list[Bar], at: int, _: random.Random) -> tuple[list[Bar], int]:
    return [bars[at], *bars[at:]], 1


def _out_of_order(bars: list[Bar], at: int, rng: random.Random) -> tuple[list[Bar], int]:
    """A bar that arrives some bars late."""
    late = rng.randint(1, 3)
    rest = bars[at:]
    return [*rest[1 : late + 1], rest[0], *rest[late + 1 :]], late + 1


def _missing(bars: list[Bar], at: int, rng: random.Random) -> tuple[list[Bar], int]:
    length = rng.randint(1, 3)
    return bars[at + length :], length


def _date_shift(bars: list[Bar], at: int, rng: random.Random) -> tuple[list[Bar], int]:
    """Each value a day late."""
    length = rng.randint(8, 15)
    return [
        replace(b, value=bars[at + i - 1].value) if i < length else b for i, b in enumerate(bars[at:])
    ], length


ONE_SERIES: Mapping[str, Change] = {
    "spike": _step(6, 20, 1, 1),
    "fat_finger": _fat_finger,
    "decimal_shift": _times(("10", "0.1"), 1, 3),
    "scale": _times(("100", "0.01", "1000", "0.001", "1000000"), 1, 5),
    "sign": _times(("-1",), 1, 3),
    "digit_transposition": _transposition,
    "currency_swap": _times(_RATES, 1, 5),
    "unit": _times(_UNITS, 1, 5),
    "stale": _stale,
    "level_shift": _step(8, 20, 10, 20),
    "duplicate": _duplicate,
    "out_of_order": _out_of_order,
    "missing": _missing,
}
ONE_OF_PEERS: Mapping[str, Change] = {
    **{k: v for k, v in ONE_SERIES.items() if k not in ("duplicate", "out_of_order")},
    "bias": _times(("1.01", "0.99"), 8, 15),
    "date_shift": _date_shift,
}


def inject(
    bars: Sequence[Bar], kinds: Mapping[str, Change], seed: int, begin: int
) -> tuple[list[Bar], list[Span]]:
    """Bars with faults of all kinds in turn, ``APART`` bars apart, from bar ``begin`` on."""
    rng = random.Random(seed)
    order = list(kinds)
    rng.shuffle(order)
    out: list[Bar] = list(bars)
    spans: list[Span] = []
    at, turn = begin + rng.randrange(APART), 0
    while at < len(out) - 30:
        kind = order[turn % len(order)]
        original = out[at:]
        changed, length = kinds[kind](out, at, rng)
        if length and changed != original:
            spans.append(Span(kind, original[0].ns, original[length - 1].ns))
            out[at:] = changed
        turn += 1
        at += length + APART
    return out, spans
