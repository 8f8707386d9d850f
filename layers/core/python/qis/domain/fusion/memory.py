"""What was learned from earlier decisions: the state of every learning method, and nothing else.

All counts are whole numbers and the items of a snap are learned in an order of their own, so a memory does
not depend on the order of arrival, survives JSON unchanged, and gives the same weights wherever it is read.

- Reliability of a source for a kind: how often it agreed with the decided value. Laplace's rule with a prior
  of four in five; never above ``BEST``, since agreement with decisions proves no more than that.
- Distance of a source: its mean deviation from the decided value, in units of the series' usual dispersion.
- Copying (after Dong, Berti-Equille, Srivastava, Integrating Conflicting Data, PVLDB 2(1), 2009): sources
  that share what nobody else says. Where sources agree exactly, the evidence is the items on which one of the
  two is off the decided value; where they do not, every item is, since equal values are a coincidence there.
- Of a series: dispersion between sources, size of its moves, how often it stands still, last values.

Sums are halved when their count reaches ``HORIZON``, so that what was long ago fades.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple, Self

HORIZON = 2000
BEST = 0.99
"""Reliability that no source is believed to exceed."""
MILLI = 1000
BILLION = 10**9
"""Relative distances are kept in whole billionths."""
COPIES_FROM = 0.6
"""Share of common deviations, taken one standard error low, from which two sources are copies."""
COPIES_EVIDENCE = 4
"""Occasions needed before two sources can be copies."""
FARTHEST = 6 * MILLI
"""A single deviation counts as at most this many usual dispersions (in thousandths)."""
SWING = 2
"""A single move or dispersion counts as at most this many times the usual one."""


class Panel(NamedTuple):
    """The claims of one item, column by column, for the statistics."""

    series: str
    kind: str
    sources: Sequence[str]
    values: Sequence[float]
    places: Sequence[int]
    """Decimals that each value was given with."""


class Chosen(NamedTuple):
    """A decided panel, as far as learning needs it."""

    value: float
    agreeing: Sequence[bool]
    """By claim, whether it counts as the decided value."""
    exact: bool
    """Whether sources of this kind agree exactly, so that a common deviation is evidence."""
    groups: Sequence[str]
    """Copy group of each claim."""


class SourceRecord:
    """Of one source and kind."""

    __slots__ = ("distance", "distances", "judged", "right")

    def __init__(self, judged: int = 0, right: int = 0, distances: int = 0, distance: int = 0) -> None:
        self.judged = judged
        self.right = right
        self.distances = distances
        self.distance = distance
        """Sum of deviations, in thousandths of the usual dispersion."""

    @property
    def accuracy(self) -> float:
        """Estimated probability that a claim is right."""
        return min(BEST, (self.right + 4) / (self.judged + 5))

    @property
    def precision(self) -> int:
        """Weight in a weighted median: inverse square of the mean deviation, as a whole number."""
        mean = (self.distance + 3 * MILLI) / (self.distances + 3) / MILLI
        return max(1, round(MILLI / max(mean, 0.1) ** 2))

    def judge(self, right: bool, distance: int | None) -> None:
        if self.judged >= HORIZON:
            self.judged //= 2
            self.right //= 2
        self.judged += 1
        self.right += right
        if distance is not None:
            if self.distances >= HORIZON:
                self.distances //= 2
                self.distance //= 2
            self.distances += 1
            self.distance += distance


NEW_PRECISION = SourceRecord().precision


class Weights(NamedTuple):
    """Of a source: in a vote, and in a median."""

    vote: int
    precision: int


Weigher = Callable[[Mapping[str, SourceRecord]], Mapping[str, Weights]]
"""How records become weights."""


class Average:
    """A mean of whole numbers in which no single one weighs too much, and the old ones fade."""

    __slots__ = ("count", "total")

    def __init__(self, count: int = 0, total: int = 0) -> None:
        self.count = count
        self.total = total

    @property
    def mean(self) -> float | None:
        return self.total / self.count if self.count else None

    def add(self, value: int) -> None:
        if self.count >= HORIZON:
            self.count //= 2
            self.total //= 2
        usual = -(-self.total // self.count) if self.count else value
        self.total += min(value, SWING * usual) if usual else value
        self.count += 1


@dataclass(slots=True)
class KindRecord:
    """Of one kind of series."""

    beside: Average = field(default_factory=Average)
    """Share, in thousandths, of the claims of an item beside the first that equal the commonest value."""
    dispersion: Average = field(default_factory=Average)
    sources: dict[str, SourceRecord] = field(default_factory=dict)


@dataclass(slots=True)
class SeriesRecord:
    """Of one series."""

    decided: float | None = None
    moves: Average = field(default_factory=Average)
    """Absolute relative moves between decided values, in billionths."""
    still: int = 0
    """Decided values equal to the one before."""
    dispersion: Average = field(default_factory=Average)
    """Median relative deviation of the claims of an item, in billionths."""
    places: dict[int, int] = field(default_factory=dict)
    """How often claims had so many decimals."""
    claimed: dict[str, float] = field(default_factory=dict)
    """Last value of each source."""


class Memory:
    """The past, as far as methods use it. Decide all items of a snap before learning any of them."""

    def __init__(self) -> None:
        self.kinds: dict[str, KindRecord] = {}
        self.series: dict[str, SeriesRecord] = {}
        self.pairs: dict[tuple[str, str], list[int]] = {}
        """Of two sources, in order of name: common deviations, and occasions for one."""
        self._weights: dict[tuple[str, Weigher], Mapping[str, Weights]] = {}
        self._copies: dict[str, str] | None = None

    def weights(self, kind: str, weigh: Weigher) -> Mapping[str, Weights]:
        """The weights of the sources that were judged for a kind."""
        found = self._weights.get((kind, weigh))
        if found is None:
            record = self.kinds.get(kind)
            found = self._weights[kind, weigh] = {} if record is None else weigh(record.sources)
        return found

    def copies(self) -> dict[str, str]:
        """Copy group of each source that is in one: the first name of the group."""
        if self._copies is None:
            self._copies = components(p for p, (same, all_) in self.pairs.items() if are_copies(same, all_))
        return self._copies

    def learn(self, decided: Iterable[tuple[Panel, Chosen]]) -> None:
        """Learn the items of one snap, in an order of their own, so that the given order has no effect."""
        ordered = sorted(decided, key=lambda d: (d[0].kind, d[0].series))
        distances = [self.distances(panel, chosen) for panel, chosen in ordered]
        for (panel, chosen), far in zip(ordered, distances, strict=True):
            self._learn(panel, chosen, far)
        self._weights = {}
        self._copies = None

    def _learn(self, panel: Panel, chosen: Chosen, distances: Sequence[int] | None) -> None:
        series = self.series.setdefault(panel.series, SeriesRecord())
        kind = self.kinds.setdefault(panel.kind, KindRecord())
        single = independent(chosen.groups, panel.values)
        values = [panel.values[i] for i in single]
        count = len(values)
        if count > 2 or (count == 2 and all(chosen.agreeing)):
            _judge(kind, panel, chosen, distances)
            _pair(self.pairs, panel, chosen)
            typical = sorted(_deviation(v, chosen.value) for v in values)[(count - 1) // 2]
            series.dispersion.add(typical)
            kind.dispersion.add(typical)
            kind.beside.add(MILLI * (commonest(values) - 1) // (count - 1))
        if series.decided is not None:
            series.moves.add(_deviation(chosen.value, series.decided))
            series.still += chosen.value == series.decided
        series.decided = chosen.value
        for places in (panel.places[i] for i in single):
            series.places[places] = series.places.get(places, 0) + 1
        series.claimed.update(zip(panel.sources, panel.values, strict=True))

    def distances(self, panel: Panel, chosen: Chosen) -> list[int] | None:
        """How far each claim is from what the others come to, in thousandths of the usual dispersion.

        From the others: a source would otherwise grow ever heavier by being near to itself. ``None`` where
        sources agree exactly, and where no dispersion is known.
        """
        kind = self.kinds.get(panel.kind)
        if chosen.exact or kind is None:
            return None
        series = self.series.get(panel.series)
        usual = (series and series.dispersion.mean) or kind.dispersion.mean
        if not usual:
            return None
        records = kind.sources
        voters = sorted(
            (
                panel.values[i],
                records[panel.sources[i]].precision if panel.sources[i] in records else NEW_PRECISION,
                chosen.groups[i],
            )
            for i in independent(chosen.groups, panel.values)
            if chosen.agreeing[i]
        )
        found = []
        for group, value in zip(chosen.groups, panel.values, strict=True):
            others = _median_without(voters, group)
            reference = chosen.value if others is None else others
            found.append(min(FARTHEST, round(MILLI * _deviation(value, reference) / usual)))
        return found

    # state -----------------------------------------------------------------------------------

    def as_json(self) -> dict[str, Any]:
        """Everything, in an order of its own, so that equal memories are equal text."""
        return {
            "kinds": {
                name: {
                    "beside": _pair_of(kind.beside),
                    "dispersion": _pair_of(kind.dispersion),
                    "sources": {
                        s: [r.judged, r.right, r.distances, r.distance]
                        for s, r in sorted(kind.sources.items())
                    },
                }
                for name, kind in sorted(self.kinds.items())
            },
            "series": {
                name: {
                    "decided": None if s.decided is None else repr(s.decided),
                    "moves": _pair_of(s.moves),
                    "still": s.still,
                    "dispersion": _pair_of(s.dispersion),
                    "places": {str(p): n for p, n in sorted(s.places.items())},
                    "claimed": {k: repr(v) for k, v in sorted(s.claimed.items())},
                }
                for name, s in sorted(self.series.items())
            },
            "pairs": [[s, t, *counts] for (s, t), counts in sorted(self.pairs.items())],
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """The memory that ``as_json`` wrote."""
        memory = cls()
        for name, kind in body["kinds"].items():
            memory.kinds[name] = KindRecord(
                Average(*kind["beside"]),
                Average(*kind["dispersion"]),
                {s: SourceRecord(*counts) for s, counts in kind["sources"].items()},
            )
        for name, series in body["series"].items():
            memory.series[name] = SeriesRecord(
                None if series["decided"] is None else float(series["decided"]),
                Average(*series["moves"]),
                series["still"],
                Average(*series["dispersion"]),
                {int(p): n for p, n in series["places"].items()},
                {s: float(v) for s, v in series["claimed"].items()},
            )
        memory.pairs = {(s, t): [same, all_] for s, t, same, all_ in body["pairs"]}
        return memory


def are_copies(same: int, occasions: int) -> bool:
    """Whether two sources deviate in common too often: Laplace's estimate, one standard error low."""
    if occasions < COPIES_EVIDENCE:
        return False
    share = (same + 0.5) / (occasions + 1)
    return share - math.sqrt(share * (1 - share) / (occasions + 1)) > COPIES_FROM


def independent(groups: Sequence[str], values: Sequence[float]) -> Sequence[int]:
    """The claims, by index, of which none repeats what another of its copy group says."""
    if len(set(groups)) == len(groups):
        return range(len(groups))
    first: dict[tuple[str, float], int] = {}
    for i, said in enumerate(zip(groups, values, strict=True)):
        first.setdefault(said, i)
    return list(first.values())


def commonest(values: Sequence[float]) -> int:
    """How often the commonest value occurs."""
    if len(set(values)) == 1:
        return len(values)
    counts: dict[float, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return max(counts.values())


def _pair_of(average: Average) -> list[int]:
    return [average.count, average.total]


def _deviation(value: float, decided: float) -> int:
    """Relative distance in billionths, at most 1."""
    if value == decided:
        return 0
    return min(BILLION, round(BILLION * abs(value - decided) / max(abs(decided), abs(value))))


def _judge(kind: KindRecord, panel: Panel, chosen: Chosen, distances: Sequence[int] | None) -> None:
    for i, (source, right) in enumerate(zip(panel.sources, chosen.agreeing, strict=True)):
        record = kind.sources.get(source)
        if record is None:
            record = kind.sources[source] = SourceRecord()
        record.judge(right, None if distances is None else distances[i])


def _median_without(voters: Sequence[tuple[float, int, str]], group: str) -> float | None:
    """Weighted median, of exact halves the lower, of the ordered voters that are not of the group."""
    total = sum(weight for _, weight, own in voters if own != group)
    below = 0
    for value, weight, own in voters:
        if own != group:
            below += weight
            if 2 * below >= total:
                return value
    return None


def _pair(pairs: dict[tuple[str, str], list[int]], panel: Panel, chosen: Chosen) -> None:
    """Count common deviations, and the occasions for them."""
    said = list(zip(panel.sources, panel.values, chosen.agreeing, strict=True))
    if chosen.exact:
        off = [claim for claim in said if not claim[2]]
        among = [*combinations(off, 2), *((claim, other) for claim in off for other in said if other[2])]
    else:
        among = list(combinations(said, 2))
    for (s, x, _), (t, y, _) in among:
        key = (s, t) if s < t else (t, s)
        counts = pairs.get(key)
        if counts is None:
            counts = pairs[key] = [0, 0]
        if counts[1] >= HORIZON:
            counts[0] //= 2
            counts[1] //= 2
        counts[0] += x == y
        counts[1] += 1


def components(links: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The first name of the group of each linked name."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for s, t in links:
        parent.setdefault(s, s)
        parent.setdefault(t, t)
        first, second = sorted((root(s), root(t)))
        parent[second] = first
    return {name: root(name) for name in parent}
