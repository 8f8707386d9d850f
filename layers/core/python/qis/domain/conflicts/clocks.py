"""Clocks for writers that do not wait for each other.

A hybrid logical clock (Kulkarni, Demirbas, Madappa, Avva, Leone: OPODIS 2014) orders all writes, near to
physical time and never against cause: who has seen a write stamps a later one. A vector clock (Fidge 1988,
Mattern 1989) tells more: whether one write had seen the other at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from qis.domain.errors import refuse

_TEXT = re.compile(r"(\d{1,15})\.(\d{1,9})@([A-Za-z0-9._:\-]{1,64})", re.ASCII)
MAX_COUNTER = 999_999_999


class HybridTime(NamedTuple):
    """A stamp: milliseconds since the epoch, a counter within them, and the origin, which breaks ties.
    Two writes never have the same stamp as long as each origin has its own name."""

    ms: int
    counter: int
    origin: str

    @property
    def text(self) -> str:
        return f"{self.ms}.{self.counter}@{self.origin}"

    @classmethod
    def parse(cls, text: str) -> HybridTime:
        """The stamp in its text.

        Raises:
            InvalidInput: rule ``hybrid-time``.
        """
        found = _TEXT.fullmatch(text)
        if found is None:
            raise refuse("stamp", text, "hybrid-time", "is not a stamp such as 1767621600000.0@eu-central-1")
        return cls(int(found[1]), int(found[2]), found[3])


UNSTAMPED = HybridTime(0, 0, "unstamped")
"""Of what was written without a clock: before all others."""


def tick(now_ms: int, seen: HybridTime | None, origin: str) -> HybridTime:
    """The stamp of a write at ``origin``, later than every stamp that it has seen, also where the clock of
    whoever made that one is ahead."""
    if seen is None or now_ms > seen.ms:
        return HybridTime(now_ms, 0, origin)
    if seen.counter == MAX_COUNTER:
        return HybridTime(seen.ms + 1, 0, origin)
    return HybridTime(seen.ms, seen.counter + 1, origin)


@dataclass(frozen=True, slots=True)
class VectorClock(Mapping[str, int]):
    """How many writes of each author something rests on. An author that is not named has none."""

    counts: Mapping[str, int]

    def __getitem__(self, author: str) -> int:
        return self.counts[author]

    def __iter__(self) -> Iterator[str]:
        return iter(self.counts)

    def __len__(self) -> int:
        return len(self.counts)

    def __hash__(self) -> int:
        return hash(frozenset(self.counts.items()))

    def next(self, author: str) -> VectorClock:
        """The clock of the next write of ``author`` on top of this."""
        return VectorClock({**self.counts, author: self.counts.get(author, 0) + 1})

    def includes(self, other: VectorClock) -> bool:
        """Whether all that ``other`` rests on is in this too; every clock includes itself."""
        return all(self.counts.get(author, 0) >= n for author, n in other.counts.items())

    def join(self, other: VectorClock) -> VectorClock:
        """The least clock that includes both."""
        authors = self.counts.keys() | other.counts.keys()
        return VectorClock({a: max(self.counts.get(a, 0), other.counts.get(a, 0)) for a in sorted(authors)})


ORIGIN = VectorClock({})
"""The clock of what nobody has written yet."""
