"""What goes into a fusion method and what comes out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from qis.domain.fusion.memory import Panel
from qis.domain.numbers import decimal_text


class Claimed(NamedTuple):
    """What one source says."""

    source: str
    value: Decimal
    volume: Decimal | None = None
    """Amount traded at it, in a unit that is the same for all sources."""


@dataclass(frozen=True, slots=True)
class Item:
    """One value to decide: a series at a snap."""

    series: str
    kind: str
    """What the reliability of a source is learned for: an attribute, or a group of like series."""
    claims: Sequence[Claimed]
    """One a source, in any order; not empty."""

    def panel(self) -> Panel:
        """The claims for the statistics."""
        return Panel(
            self.series,
            self.kind,
            [c.source for c in self.claims],
            [float(c.value) for c in self.claims],
            [decimals(c.value) for c in self.claims],
        )


def decimals(value: Decimal) -> int:
    """Digits after the point that the value was given with."""
    exponent = value.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


class Voice(NamedTuple):
    """A claim's part in a decision."""

    source: str
    value: Decimal
    weight: int
    """Weight in the vote; of the learning methods in thousandths of a nat (natural logarithm of odds)."""
    copies: str
    """The copy group that it voted with, by its first name; the source itself where it is in none."""
    reason: str
    """``used``, or why not: ``outvoted``, ``no-volume``."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision. Where the value is not official it is a proposal."""

    official: bool
    value: Decimal | None
    confidence: Decimal
    """Probability that the value is right: equal to the truth at the series' precision where sources agree
    exactly, within the tolerance of it where they do not."""
    method: str
    reason: str
    voices: tuple[Voice, ...]
    """Every claim, by source."""
    tolerance: Decimal
    """Relative distance within which claims counted as the same value; 0: equal at the series' precision."""

    @property
    def used(self) -> tuple[Voice, ...]:
        return tuple(v for v in self.voices if v.reason == "used")

    @property
    def rejected(self) -> tuple[Voice, ...]:
        return tuple(v for v in self.voices if v.reason != "used")

    def as_json(self) -> dict[str, Any]:
        """With numbers as text."""
        return {
            "status": "official" if self.official else "suspect",
            "value": None if self.value is None else decimal_text(self.value),
            "confidence": decimal_text(self.confidence),
            "method": self.method,
            "reason": self.reason,
            "tolerance": decimal_text(self.tolerance),
            "voices": [
                {
                    "source": v.source,
                    "value": decimal_text(v.value),
                    "weight": v.weight,
                    "copies": v.copies,
                    "reason": v.reason,
                }
                for v in self.voices
            ],
        }
