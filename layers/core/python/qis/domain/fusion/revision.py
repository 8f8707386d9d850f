"""Whether newly learned weights differ enough from those in force to be worth a new version of the rules.

They are compared with what is in force and not with what was learned last time: small changes add up until
they count, and then the new version is what the next ones are measured from. So versions follow a lasting
change and do not flicker with every week's luck.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from qis.domain.fusion.learned import KIND, Learned, memory_of
from qis.domain.fusion.memory import MILLI, Weights
from qis.domain.fusion.methods import MIDDLE, VOTES

MOVED = MILLI // 2
"""Change of a vote that counts, in thousandths of a nat: the odds by a factor of 1.65."""
PRECISE = 1.5
"""Factor of a weight in the median that counts."""
ENOUGH = 20
"""Items below which nothing is proposed."""


class SourceChange(NamedTuple):
    """A source's weights before and after; ``None`` where nothing was known of it."""

    source: str
    before: Weights | None
    after: Weights
    judged: int
    right: int
    moved: bool

    def as_json(self) -> dict[str, Any]:
        def told(weights: Weights | None) -> dict[str, int] | None:
            return None if weights is None else weights._asdict()

        return {
            "source": self.source,
            "before": told(self.before),
            "after": told(self.after),
            "judged": self.judged,
            "right": self.right,
            "moved": self.moved,
        }


class Revision(NamedTuple):
    """What was learned, beside what is in force."""

    items: int
    sources: tuple[SourceChange, ...]
    copies_before: tuple[tuple[str, ...], ...]
    copies_after: tuple[tuple[str, ...], ...]

    @property
    def proposed(self) -> bool:
        moved = self.copies_before != self.copies_after or any(s.moved for s in self.sources)
        return self.items >= ENOUGH and moved

    @property
    def reason(self) -> str:
        if self.items < ENOUGH:
            return f"{self.items} values were decided; {ENOUGH} are needed"
        moved = [s.source for s in self.sources if s.moved]
        if moved:
            return f"the weights of {', '.join(moved)} have changed"
        if self.copies_before != self.copies_after:
            return "the sources that copy each other have changed"
        return "nothing has changed enough"

    def as_json(self) -> dict[str, Any]:
        return {
            "items": self.items,
            "proposed": self.proposed,
            "reason": self.reason,
            "sources": [s.as_json() for s in self.sources],
            "copies": {
                "before": [list(g) for g in self.copies_before],
                "after": [list(g) for g in self.copies_after],
            },
        }


def revision(method: str, in_force: Learned, learned: Learned, items: int) -> Revision:
    """What ``learned`` would change for a learning method."""
    before, after = _weights(method, in_force), _weights(method, learned)
    counts = dict(learned.sources)
    newcomer = VOTES.get(method, MIDDLE).newcomer
    sources = tuple(
        SourceChange(s, before.get(s), now, counts[s][0], counts[s][1], _moved(before.get(s, newcomer), now))
        for s, now in sorted(after.items())
    )
    return Revision(items, sources, in_force.copies, learned.copies)


def _weights(method: str, learned: Learned) -> Mapping[str, Weights]:
    return memory_of(learned).weights(KIND, VOTES.get(method, MIDDLE).weigh)


def _moved(before: Weights, after: Weights) -> bool:
    ratio = after.precision / before.precision
    return abs(after.vote - before.vote) >= MOVED or not 1 / PRECISE < ratio < PRECISE
