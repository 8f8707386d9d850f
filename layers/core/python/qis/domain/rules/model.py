"""Reconciliation and quality rules: data, versioned by events, never code.

A *layer* is one version of a named rule document. It sets some fields and may extend another document that
sets the rest; what applies to a series at a snap is the *rule set* that its layers give together (``book``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple

from qis.domain.rules.methods import Method
from qis.domain.rules.tolerance import Tolerance
from qis.domain.snap import Snap


class Fallback(StrEnum):
    """What to do when no claim in precedence order agrees with the others."""

    MEDIAN = "median"
    HOLD = "hold"


class Level(StrEnum):
    """How much a rule document speaks for, narrow to broad. A document extends one of its own level or of
    a broader one."""

    SERIES = "series"
    GROUP = "group"
    ASSET_CLASS = "asset_class"
    HOUSE = "house"

    @property
    def breadth(self) -> int:
        return tuple(Level).index(self)


@dataclass(frozen=True, slots=True)
class Exclusion:
    """When a source that keeps contradicting the official value loses its vote, and when it has it back.

    The two lengths differ on purpose (hysteresis): a source on the edge does not flicker in and out.
    """

    after: int
    """Snaps in a row outside the tolerance after which its claims no longer count."""
    readmit_after: int
    """Snaps in a row within it, while excluded, after which they count again."""


@dataclass(frozen=True, slots=True)
class RestatementPolicy:
    """Which changes of a published value need no person. What does not fit waits in the exception queue."""

    window: timedelta | None
    """Time after the snap in which a claim may still change the published value by itself."""
    materiality: Tolerance | None
    """A change that lies within this of the published value is not worth a restatement by itself."""


class LayerRef(NamedTuple):
    """One version of one document: with these, the rule set that decided can be put together again."""

    rules: str
    version: int


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The rules that apply to a series at a snap: every field settled."""

    chain: tuple[LayerRef, ...]
    """The documents that it comes from, in order of resolution: the series' own first."""
    method: Method
    precedence: tuple[str, ...]
    """Sources, best first; sources not named follow in alphabetical order."""
    sources: tuple[str, ...]
    """The only sources that may speak, those who mean what the series means; empty: all."""
    tolerance: Tolerance
    """Distance within which two values agree."""
    min_sources: int
    """Quorum: votes needed before there is an official value. A copy group has one vote."""
    fallback: Fallback
    max_staleness: timedelta | None
    """A claim received longer than this before its snap is stale and not used."""
    max_move: Decimal | None
    """Largest believable relative move against the reference; a larger one is a spike."""
    range: tuple[Decimal | None, Decimal | None]
    """Plausible range of the value, inclusive."""
    stale_after: int | None
    """Consecutive snaps with an unchanged value from which a source counts as stale."""
    timely_within: timedelta | None
    """Delay after the snap within which a claim is timely."""
    copy_groups: tuple[tuple[str, ...], ...]
    """Sources known to copy from one another: of each group the best-ranked usable one votes for all."""
    exclusion: Exclusion | None
    restatement: RestatementPolicy | None
    conflict: str
    """Name of the resolver of concurrent overrides by people; see ``qis.domain.conflicts``."""

    @property
    def rules(self) -> str:
        """Name of the document that the series names."""
        return self.chain[0].rules

    @property
    def version(self) -> int:
        """Its version."""
        return self.chain[0].version


@dataclass(frozen=True, slots=True)
class Layer:
    """One version of a rule document."""

    rules: str
    version: int
    level: Level
    extends: str | None
    """The document that settles what this one leaves open."""
    valid_from: Snap | None
    valid_to: Snap | None
    """Snaps that this version applies to, the end excluded; ``None``: without bound."""
    fields: Mapping[str, Any]
    """The fields that it sets, parsed, by name."""

    @property
    def ref(self) -> LayerRef:
        return LayerRef(self.rules, self.version)

    @property
    def covers_all(self) -> bool:
        return self.valid_from is None and self.valid_to is None

    def covers(self, ns: int) -> bool:
        """Whether it applies to the snap at ``ns`` nanoseconds."""
        after = self.valid_from is None or self.valid_from.ns <= ns
        return after and (self.valid_to is None or ns < self.valid_to.ns)
