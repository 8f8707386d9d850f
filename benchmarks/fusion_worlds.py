"""Made-up markets of many shapes, so that what was chosen on the data that there are is tried on others.

    qis bench fusion --set data=DIR

A world says how many sources there are and how they err: alone, as copies of a bad one, late, in episodes, as
a rounding, with another meaning, or worse from half-time on. Truth is a geometric random walk with a regime
of calm and of stress. A seed makes a world again. Worlds in which sources pass on one number are judged by
the share of values right at the series' precision; worlds with prices of their own by the distance from the
truth in basis points.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from decimal import Decimal

from benchmarks.fusion_data import FAULTS, Gold, Past, Row, Table


@dataclass(frozen=True, slots=True)
class World:
    """What a made-up market is like; shares and rates are of the claims of a source."""

    name: str
    sources: int
    series: int = 20
    snaps: int = 60
    decimals: int = 2
    move: float = 0.01
    """Standard deviation of a snap's relative move."""
    own: float = 0.0
    """Relative standard deviation of a source's own price; 0: all pass on the same number."""
    uneven: float = 0.0
    """Spread of that from source to source, as a standard deviation of its logarithm."""
    stress: float = 1.0
    """How many times farther apart sources are in one snap of twenty."""
    faults: tuple[float, float] = (0.02, 0.02)
    """Share of faulty claims of the best and of the worst source."""
    swap: bool = False
    """Whether the best become the worst at half-time."""
    missing: float = 0.05
    copies: int = 0
    """Sources that repeat the worst one."""
    stale: float = 0.0
    """Share of snaps at which an outage begins: a source repeats itself for five snaps."""
    coarse: int = 0
    """Sources that round to one decimal less."""
    meaning: int = 0
    """Sources that mean something else, alike, in one series of two."""
    biased: int = 0
    """Sources that are always 20 usual dispersions, or 0.1 %, too high."""


WORLDS = (
    World("three sources", 3),
    World("three sources, one bad", 3, faults=(0.01, 0.3)),
    World("five sources, cents", 5, faults=(0.01, 0.1)),
    World("twelve sources, whole numbers", 12, decimals=0, faults=(0.02, 0.3)),
    World("forty sources, four decimals", 40, decimals=4, faults=(0.05, 0.5), snaps=30),
    World("many bad sources", 15, faults=(0.1, 0.75)),
    World("short history", 10, series=60, snaps=5, faults=(0.02, 0.3)),
    World("copies of a bad source", 9, faults=(0.02, 0.25), copies=3),
    World("copies of a bad source, the majority", 9, faults=(0.02, 0.25), copies=4),
    World("sources swap places", 8, faults=(0.01, 0.3), swap=True),
    World("outages", 7, stale=0.02),
    World("coarse sources", 8, coarse=3, faults=(0.02, 0.1)),
    World("another meaning", 9, meaning=3, faults=(0.02, 0.1)),
    World("slow series", 6, move=0.00005, faults=(0.02, 0.1)),
    World("own prices, five", 5, own=0.0005, decimals=4),
    World("own prices, uneven", 7, own=0.0005, uneven=1.0, decimals=4),
    World("own prices, two", 2, own=0.0005, decimals=4, faults=(0.005, 0.005)),
    World("own prices, one biased", 5, own=0.0003, biased=1, decimals=4),
    World("own prices, outages", 7, own=0.001, stale=0.02, decimals=4),
    World("own prices, stress", 7, own=0.001, stress=10.0, move=0.04, uneven=0.7, decimals=4),
    World("own prices, swap places", 8, own=0.001, uneven=1.0, swap=True, faults=(0.0, 0.3), decimals=4),
    World("own prices, thirty", 30, own=0.002, uneven=0.7, faults=(0.01, 0.2), decimals=3, snaps=40),
    World("own prices, copies", 9, own=0.001, copies=2, faults=(0.02, 0.2), decimals=4),
)


def made(world: World, rng: random.Random) -> tuple[Table, Gold]:
    """The claims of a world, and the truth, rounded to its decimals."""
    market = _Market(world, rng)
    table: dict[str, list[Row]] = {}
    gold: Gold = {}
    for at in range(world.snaps):
        snap = f"{2020 + at // 336}-{1 + at // 28 % 12:02}-{1 + at % 28:02}"
        table[snap] = market.rows(at, snap, gold)
    return sorted(table.items()), gold


class _Market:
    """A world on its way."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world = world
        self._rng = rng
        self._sources = [f"source-{i:02}" for i in range(world.sources)]
        ranks = [i / max(1, world.sources - 1) for i in range(world.sources)]
        rng.shuffle(ranks)
        self._rank = dict(zip(self._sources, ranks, strict=True))
        """0: the best source, 1: the worst."""
        self._worst = max(self._sources, key=self._rank.__getitem__)
        self._copying = frozenset(rng.sample([s for s in self._sources if s != self._worst], world.copies))
        others = [s for s in self._sources if s != self._worst and s not in self._copying]
        self._meaning, self._coarse, self._biased = (
            frozenset(rng.sample(others, min(many, len(others))))
            for many in (world.meaning, world.coarse, world.biased)
        )
        self._spread = {s: world.own * math.exp(rng.gauss(0, world.uneven)) for s in self._sources}
        names = [f"s{i:02}" for i in range(world.series)]
        self._level = {n: math.exp(rng.uniform(math.log(5), math.log(500))) for n in names}
        self._twofold = frozenset(names[::2])
        """Series that have another meaning."""
        self._said: dict[tuple[str, str], Decimal] = {}
        self._last: dict[str, Decimal] = {}
        self._stuck = dict.fromkeys(self._sources, 0)

    def rows(self, at: int, snap: str, gold: Gold) -> list[Row]:
        """The claims of the next snap; its truth goes into ``gold``."""
        world, rng = self._world, self._rng
        tense = world.stress if rng.random() < 0.05 else 1.0
        for source, left in self._stuck.items():
            begins = not left and rng.random() < world.stale
            self._stuck[source] = 5 if begins else max(0, left - 1)
        found = []
        for name in self._level:
            self._level[name] *= math.exp(rng.gauss(0, world.move * math.sqrt(tense)))
            exact = self._level[name]
            gold[snap, name] = truth = _number(exact, world.decimals)
            foreign = _number(exact * (1 + 0.003 * (1 + rng.random())), world.decimals)
            last = self._last.get(name, truth)
            self._last[name] = truth
            said = {s: self._claim(s, name, tense, foreign, last, at) for s in self._sources}
            for source, value in said.items():
                if rng.random() >= world.missing:
                    copied = source in self._copying and rng.random() < 0.95
                    told = said[self._worst] if copied else value
                    found.append(Row(name, "price", source, format(told, "f")))
        return found

    def _claim(
        self, source: str, name: str, tense: float, foreign: Decimal, last: Decimal, at: int
    ) -> Decimal:
        world, rng = self._world, self._rng
        value = self._level[name]
        if world.own:
            value *= math.exp(rng.gauss(0, self._spread[source] * tense))
        if source in self._biased:
            value *= 1 + (20 * world.own or 0.001)
        said = _number(value, world.decimals - (source in self._coarse))
        if source in self._meaning and name in self._twofold:
            said = foreign
        if rng.random() < self._fault_rate(source, at):
            other = _number(self._level[rng.choice(sorted(self._level))], world.decimals)
            said = FAULTS[rng.choice(sorted(FAULTS))](Past(said, last, last, other, rng))
        if self._stuck[source]:
            said = self._said.get((name, source), said)
        self._said[name, source] = said
        return said

    def _fault_rate(self, source: str, at: int) -> float:
        (low, high), rank = self._world.faults, self._rank[source]
        if self._world.swap and at >= self._world.snaps // 2:
            rank = 1 - rank
        return low + (high - low) * rank**2


def _number(value: float, decimals: int) -> Decimal:
    return Decimal(f"{value:.{max(0, decimals)}f}")


QUOTES = ("last_price", "prev_close", "change_pct")


def quotes(sources: int, rng: random.Random, *, derived: bool) -> tuple[Table, Gold]:
    """Three attributes of ten shares that hang together, on sixty days, from a few sources, the later ones
    worse: a wrong digit in 3 % of the attributes of the first, 6 % of the second, and so on.

    Args:
        derived: whether sources compute the change from their own prices, so that one error makes two.
    """
    shares = {f"share{i}": rng.uniform(10, 200) for i in range(10)}
    before = {name: _number(price, 2) for name, price in shares.items()}
    table: Table = []
    gold: Gold = {}
    for day in range(60):
        snap, rows = f"2020-{1 + day // 28:02}-{1 + day % 28:02}", []
        for name in shares:
            shares[name] *= 1 + rng.gauss(0, 0.015)
            last, previous = _number(shares[name], 2), before[name]
            truth = dict(zip(QUOTES, (last, previous, _change(last, previous)), strict=True))
            gold |= {(snap, f"{name}.{kind}"): value for kind, value in truth.items()}
            for at in range(sources):
                slip = 0.03 * (1 + at)
                said = {kind: _slipped(value, rng, slip) for kind, value in truth.items()}
                if derived and said["prev_close"]:
                    own = _change(said["last_price"], said["prev_close"])
                    said["change_pct"] = _slipped(own, rng, slip)
                rows += [Row(f"{name}.{k}", k, f"source-{at}", format(v, "f")) for k, v in said.items()]
            before[name] = last
        table.append((snap, rows))
    return table, gold


def _change(last: Decimal, previous: Decimal) -> Decimal:
    return (100 * (last - previous) / previous).quantize(Decimal("0.01"))


def _slipped(value: Decimal, rng: random.Random, rate: float) -> Decimal:
    return value + Decimal(rng.randrange(-99, 100)).scaleb(-2) if rng.random() < rate else value
