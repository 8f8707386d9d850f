"""Decisions of a method beside gold data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import NamedTuple

from benchmarks.fusion_data import Gold, Row, Table
from qis.application.fusing import Plan, fuse
from qis.domain.fusion.coherence import Identity
from qis.domain.fusion.items import Claimed, Item, Verdict
from qis.domain.fusion.memory import Memory

CENT = Decimal("0.01")


class Decided(NamedTuple):
    """A verdict, and whether it is right; ``error`` in basis points."""

    snap: str
    series: str
    verdict: Verdict
    right: bool
    error: float


def judged(
    table: Table,
    gold: Gold,
    method: str,
    right: Callable[[str, Decimal, Decimal], bool],
    identities: tuple[Identity, ...] = (),
) -> list[Decided]:
    """Every verdict for which there is gold, in order of time."""
    snaps = ((at, items_of(rows)) for at, (_, rows) in enumerate(table))
    found = []
    for (snap, _), decided in zip(
        table, fuse(snaps, Plan(method, identities=identities), Memory()), strict=True
    ):
        for item, verdict in decided:
            truth = gold.get((snap, item.series))
            if truth is None or verdict.value is None:
                continue
            error = abs(float(verdict.value / truth) - 1) * 1e4 if truth else 0.0
            found.append(Decided(snap, item.series, verdict, right(item.kind, verdict.value, truth), error))
    return found


def items_of(rows: Sequence[Row]) -> list[Item]:
    """The claims of a snap by series."""
    by_series: dict[tuple[str, str], list[Claimed]] = {}
    for r in rows:
        volume = Decimal(r.volume) if r.volume else None
        by_series.setdefault((r.series, r.kind), []).append(Claimed(r.source, Decimal(r.value), volume))
    return [Item(series, kind, claims) for (series, kind), claims in by_series.items()]


def to_the_cent(kind: str, value: Decimal, truth: Decimal) -> bool:
    """Whether two values are the same number of cents; of changes the sign does not count."""
    if kind == "change_pct":
        value, truth = abs(value), abs(truth)
    return value.quantize(CENT, ROUND_HALF_EVEN) == truth.quantize(CENT, ROUND_HALF_EVEN)


def share(decided: Sequence[Decided]) -> float:
    """Of all verdicts, those that are right."""
    return sum(d.right for d in decided) / len(decided)


def quantile(ordered: Sequence[float], at: float) -> float:
    """The least of ordered numbers that a share of them does not exceed."""
    return ordered[max(0, -(-int(at * 10_000) * len(ordered) // 10_000) - 1)]
