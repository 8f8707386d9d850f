"""Registers that are merged, not locked: the same writes give the same state, in any order, grouping and
number of deliveries (Shapiro, Preguiça, Baquero, Zawirski: SSS 2011)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from qis.domain.conflicts.clocks import HybridTime, VectorClock
from qis.domain.kinds.record import Record, Value, value_json


@dataclass(frozen=True, slots=True)
class Override:
    """A value that somebody put in the place of another."""

    value: Value
    by: str
    reason: str
    clock: VectorClock
    """What it rests on, itself included."""
    stamp: HybridTime

    def as_json(self) -> dict[str, Any]:
        return {
            "value": value_json(self.value),
            "by": self.by,
            "reason": self.reason,
            "clock": dict(self.clock),
            "stamp": self.stamp.text,
        }

    @classmethod
    def of(cls, body: Mapping[str, Any], value: Callable[[Any], Value] = Decimal) -> Override:
        """The override in its JSON form, whose value ``value`` reads."""
        return cls(
            value(body["value"]),
            body["by"],
            body["reason"],
            VectorClock(body["clock"]),
            HybridTime.parse(body["stamp"]),
        )


def _rank(override: Override) -> tuple[HybridTime, str | Decimal, str, str, tuple[tuple[str, int], ...]]:
    """A total order. All behind the stamp only decides between writes that broke its rule."""
    counts = tuple(sorted(override.clock.items()))
    value = override.value.key if isinstance(override.value, Record) else override.value
    return override.stamp, value, override.by, override.reason, counts


def last_write(overrides: Iterable[Override]) -> Override:
    """Last writer wins: the one with the highest stamp. ``overrides`` is not empty."""
    return max(overrides, key=_rank)


def siblings(overrides: Iterable[Override]) -> tuple[Override, ...]:
    """Those that none of the others had seen, in the order of their stamps: each may be right."""
    kept = set(overrides)
    return tuple(sorted((o for o in kept if not _seen(o, kept)), key=_rank))


def _seen(override: Override, others: Collection[Override]) -> bool:
    return any(o.clock != override.clock and o.clock.includes(override.clock) for o in others)
