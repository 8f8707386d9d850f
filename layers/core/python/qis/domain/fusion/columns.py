"""The vote of ``consensus`` and the learning of ``memory``, for all items of a snap at once, on arrays.

For files of many claims. Nothing is defined here: each step does for whole columns what the function of the
same name there does for one item, in whole numbers and in the same operations on floats, so that both give
the same bits (``tests/property/test_fusion_columns.py``). What has no array form is left to the code for one
item, with a memory made for it: items whose sources do not agree exactly, and methods that are no vote.

Needs numpy, which no function loads: so the code for one item stays, and is not this code given one item.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qis.domain.fusion.calibration import confidence
from qis.domain.fusion.consensus import EXACT_FROM, LEAP, LEAP_EVIDENCE, LEAP_ODDS
from qis.domain.fusion.memory import (
    BILLION,
    HORIZON,
    MILLI,
    SWING,
    Average,
    Chosen,
    KindRecord,
    Memory,
    Panel,
    SeriesRecord,
    SourceRecord,
    are_copies,
    components,
)
from qis.domain.fusion.methods import MIDDLE, VOTES, Settings

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_ROW_BITS, _WEIGHT_BITS, _PLACES_BITS = 30, 24, 7
"""How the claim that is written is packed into one number, so that the least is the one wanted."""


class Sheet(NamedTuple):
    """Claims that count, by snap, kind, series and source; one a source and item."""

    sources: Sequence[str]
    """In order of name, as are the kinds; the series in order of kind and name."""
    kinds: Sequence[str]
    series: Sequence[str]
    kind_of: Ints
    """Of each series."""
    series_of: Ints
    """Of each item."""
    first: Ints
    """Of each item its first claim; and at the end the number of claims."""
    source: Ints
    """Of each claim, as what follows."""
    value: Floats
    places: Ints


class Way(NamedTuple):
    """How items of a kind are decided."""

    method: str
    settings: Settings


class Found(NamedTuple):
    """The items of one snap, decided."""

    winner: Ints
    """Of each item, as what follows, the claim that has the value; -1 where the code for one item decided."""
    value: Floats
    exact: Flags
    confidence: Sequence[float]
    voices: Ints
    agreeing: Flags
    """Of claims, as is what follows: whether it counts as the value."""
    weights: Ints
    groups: Ints
    single: Flags
    """Whether it repeats nothing that another of its copy group says."""
    commonest: Ints
    """Of items, how often the commonest value occurs."""


Alone = Callable[[int, Memory], tuple[Panel, Chosen, Sequence[int]]]
"""Decides one item, by its number, and gives the weights of its claims."""


class Columns:
    """The past, column by column. Decide all items of a snap before learning any of them."""

    def __init__(self, sheet: Sheet, ways: Sequence[Way]) -> None:
        """Args: ways: of each kind."""
        kinds, sources, series = len(sheet.kinds), len(sheet.sources), len(sheet.series)
        self._sheet = sheet
        self._ways = ways
        self._schemes = [VOTES.get(w.method, MIDDLE) for w in ways]
        voting = [w.method in VOTES and w.settings.terms.tolerance in (None, 0) for w in ways]
        self._by_arrays = np.array(voting, bool)
        self._equal_only = np.array([w.settings.terms.tolerance == 0 for w in ways], bool)
        self._continuity = np.array([s.continuity for s in self._schemes], bool)
        self._known = np.zeros(kinds, bool)
        self._beside = [Average() for _ in range(kinds)]
        self._dispersion = [Average() for _ in range(kinds)]
        self._met = np.zeros(kinds * sources, bool)
        self._judged, self._right = _zeros(kinds * sources), _zeros(kinds * sources)
        self._distances, self._distance = _zeros(kinds * sources), _zeros(kinds * sources)
        self._decided = np.full(series, np.nan)
        self._seen = np.zeros(series, bool)
        self._moves = _zeros(series), _zeros(series)
        self._still = _zeros(series)
        self._spread = _zeros(series), _zeros(series)
        finest = int(sheet.places.max(initial=0)) + 1
        self._places = np.zeros((series, finest), np.int64)
        self._scale = np.array([10.0**p for p in range(finest)])
        by_source = np.repeat(sheet.series_of, np.diff(sheet.first)) * sources + sheet.source
        places_of, self._slot = _numbered(by_source, series * sources)
        self._slot_source = places_of % max(sources, 1)
        self._slots = np.searchsorted(places_of, np.arange(series + 1) * sources)
        """Of each series, where the last values of its sources begin."""
        self._claimed = np.full(len(places_of), np.nan)
        self._pairs: dict[int, int] = {}
        """By number of the pair, where its counts are."""
        self._same, self._occasions = _zeros(0), _zeros(0)
        self._linked: set[tuple[str, str]] = set()
        self._sure: dict[tuple[int, int, int, bool], float] = {}
        self._tables: _Voters | None = None

    def begin(self, kind: int, record: KindRecord) -> None:
        """Begin a kind with what was learned of it elsewhere, unless something was learned here.

        Raises:
            KeyError: a source of the record is not among those of the sheet.
        """
        if self._known[kind]:
            return
        self._known[kind] = True
        self._beside[kind], self._dispersion[kind] = record.beside, record.dispersion
        at = {s: kind * len(self._sheet.sources) + i for i, s in enumerate(self._sheet.sources)}
        for source, r in record.sources.items():
            i = at[source]
            self._met[i] = True
            self._judged[i], self._right[i] = r.judged, r.right
            self._distances[i], self._distance[i] = r.distances, r.distance
        self._tables = None

    # deciding ----------------------------------------------------------------------------------------

    def decide(self, begin: int, end: int, alone: Alone) -> tuple[Found, Mapping[int, tuple[Panel, Chosen]]]:
        """Decide the items from ``begin`` to before ``end``, which are of one snap.

        Returns:
            What was found, and by item what was decided by ``alone``.
        """
        claims = self._claims(begin, end)
        voters = self._voters()
        at = claims.kind[claims.item] * len(self._sheet.sources) + claims.source
        weights, group = self._discount_repeats(claims, voters.votes[at]), voters.groups[at]
        single = _independent(claims, group) if voters.copied else np.ones(len(at), bool)
        common = _commonest(claims, single)
        exact = self._exact(claims, single, common)
        by_itself = ~(exact & self._by_arrays[claims.kind])
        count = end - begin
        winner, value = np.full(count, -1), np.zeros(count)
        voices, support, rival, rival_voices = (_zeros(count) for _ in range(4))
        agreeing = np.zeros(len(at), bool)
        if not by_itself.all():
            there = np.flatnonzero(~by_itself)
            rows = np.flatnonzero(~by_itself[claims.item])
            some = claims.of(there, rows)
            said = _Voters(weights[rows], group[rows], voters.apart[at[rows]], voters.copied)
            won = self._vote(some, said, single[rows])
            winner[there] = claims.begin + rows[won.winner]
            value[there] = self._sheet.value[winner[there]] + 0.0  # as a sum, which has no negative zero
            agreeing[rows] = won.agreeing
            for column, part in zip(
                (voices, support, rival, rival_voices),
                (won.voices, won.support, won.rival, won.rival_voices),
                strict=True,
            ):
                column[there] = part
        taken = self._alone(claims, by_itself, alone, exact, value, agreeing, weights)
        sure = [
            self._confidence(counts)
            for counts in zip(
                support.tolist(), rival.tolist(), rival_voices.tolist(), self._known[claims.kind].tolist(),
                strict=True,
            )
        ]  # fmt: skip
        found = Found(winner, value, exact, sure, voices, agreeing, weights, group, single, common)
        return found, taken

    def _confidence(self, counts: tuple[int, int, int, bool]) -> float:
        sure = self._sure.get(counts)
        if sure is None:
            sure = self._sure[counts] = confidence(*counts)
        return sure

    def _claims(self, begin: int, end: int) -> _Claims:
        sheet = self._sheet
        first, last = int(sheet.first[begin]), int(sheet.first[end])
        series = sheet.series_of[begin:end]
        starts = sheet.first[begin:end] - first
        counts = np.diff(sheet.first[begin : end + 1])
        return _Claims(
            first,
            series,
            sheet.kind_of[series],
            starts,
            counts,
            np.repeat(np.arange(end - begin), counts),
            sheet.source[first:last],
            sheet.value[first:last],
            sheet.places[first:last],
            self._slot[first:last],
        )

    def _voters(self) -> _Voters:
        """By kind and source."""
        if self._tables is None:
            sources, learned = self._sheet.sources, components(self._linked)
            own = {s: i for i, s in enumerate(sources)}
            votes, groups, apart = [], [], []
            for kind, (way, scheme) in enumerate(zip(self._ways, self._schemes, strict=True)):
                weights = scheme.weigh(self._records(kind)) if self._known[kind] else {}
                votes += [weights.get(s, scheme.newcomer).vote for s in sources]
                given = way.settings.terms.copies
                copies = {**learned, **given} if scheme.copies else given
                groups += [own.setdefault(copies.get(s, s), len(own)) for s in sources]
                apart += [own.setdefault(given.get(s, s), len(own)) for s in sources]
            alone = list(range(len(sources))) * len(self._ways)
            self._tables = _Voters(np.array(votes), np.array(groups), np.array(apart), groups != alone)
        return self._tables

    def _discount_repeats(self, claims: _Claims, weights: Ints) -> Ints:
        still, moves = self._still[claims.series], self._moves[0][claims.series]
        moving = ((still + 1) / (moves + 2) < 0.5) & self._continuity[claims.kind]
        if not moving.any():
            return weights
        # Few series differ in these counts; the logarithm is that of the code for one item.
        both, where = np.unique(still * (2 * HORIZON) + moves, return_inverse=True)
        shares = [(s + 1) / (m + 2) for s, m in (divmod(b, 2 * HORIZON) for b in both.tolist())]
        costs = np.array([round(MILLI * math.log(2 * s)) if s < 0.5 else 0 for s in shares], np.int64)
        repeated = (self._claimed[claims.slot] == claims.value) & moving[claims.item]
        lowered = np.maximum(0, weights + costs[where][claims.item])
        return np.where(repeated, lowered, weights)

    def _exact(self, claims: _Claims, single: Flags, common: Ints) -> Flags:
        """Whether values must be equal to be the same."""
        others = _sums(claims, single) - 1
        own = np.where(others > 0, MILLI * (common - 1) // np.maximum(others, 1), 0)
        total = np.array([a.total for a in self._beside])[claims.kind] + own
        count = np.array([a.count for a in self._beside])[claims.kind] + (others > 0)
        exact: Flags = self._equal_only[claims.kind] | (count == 0) | (total >= EXACT_FROM * MILLI * count)
        return exact

    def _vote(self, claims: _Claims, voters: _Voters, single: Flags) -> _Won:
        """Each item's heaviest set of equal values, the claim that is written, and the strongest rival."""
        places = np.maximum(_most(self._counted_places(claims, single)), _most(self._places[claims.series]))
        scale = self._scale[places]
        keys = np.rint(claims.value * scale[claims.item])
        goes_on = self._continuity[claims.kind]
        before = np.where(goes_on, self._decided[claims.series], np.nan)
        sets = _sets(claims, keys, voters, self._burden(claims, before))
        last = np.rint(before * scale)[sets.item]
        near = np.where(np.isnan(last), 0.0, -np.abs(sets.key - last))
        ranked = np.lexsort((-sets.key, near, sets.voices, sets.votes, sets.item))
        winner = ranked[_ends(sets.item)]
        count = len(claims.starts)
        rival, rival_voices = _zeros(count), _zeros(count)
        rest = np.ones(len(sets.item), bool)
        rest[winner] = False
        others = np.flatnonzero(rest)
        if len(others):
            ranked = others[
                np.lexsort((-sets.key[others], sets.voices[others], sets.votes[others], sets.item[others]))
            ]
            best = ranked[_ends(sets.item[ranked])]
            at = sets.item[best]
            rival[at], rival_voices[at] = _doubt(sets, best, voters)
        agreeing = sets.of_claim == winner[claims.item]
        return _Won(
            _written(claims, agreeing, voters.votes, places),
            agreeing,
            sets.votes[winner],
            sets.voices[winner],
            rival,
            rival_voices,
        )

    def _burden(self, claims: _Claims, before: Floats) -> Ints:
        moves, size = (column[claims.series] for column in self._moves)
        usual = size / np.maximum(moves, 1)
        farthest = np.where(moves < LEAP_EVIDENCE, np.nan, LEAP * np.maximum(usual, 1.0) / BILLION)
        last = before[claims.item]
        reach = farthest[claims.item] * np.maximum(np.abs(claims.value), np.abs(last))
        # What is not known compares as false.
        return np.where(np.abs(claims.value - last) > reach, LEAP_ODDS, 0)

    def _counted_places(self, claims: _Claims, single: Flags) -> Ints:
        """Of each item, how many claims have so many decimals."""
        width = self._places.shape[1]
        at = (claims.item * width + claims.places)[single]
        return np.bincount(at, minlength=len(claims.starts) * width).reshape(-1, width)

    def _alone(
        self,
        claims: _Claims,
        by_itself: Flags,
        alone: Alone,
        exact: Flags,
        value: Floats,
        agreeing: Flags,
        weights: Ints,
    ) -> Mapping[int, tuple[Panel, Chosen]]:
        """Decide what has no array form, and fill it in."""
        taken: dict[int, tuple[Panel, Chosen]] = {}
        items = np.flatnonzero(by_itself).tolist()
        if not items:
            return taken
        memory = self.memory(claims.series[by_itself].tolist())
        for i in items:
            panel, chosen, weighed = alone(i, memory)
            taken[i] = panel, chosen
            rows = slice(claims.starts[i], claims.starts[i] + claims.counts[i])
            exact[i], value[i] = chosen.exact, chosen.value
            agreeing[rows], weights[rows] = chosen.agreeing, weighed
        return taken

    # learning ----------------------------------------------------------------------------------------

    def learn(self, begin: int, end: int, found: Found, taken: Mapping[int, tuple[Panel, Chosen]]) -> None:
        """Learn what ``decide`` found of the same items."""
        claims = self._claims(begin, end)
        self._tables = None
        voices = _sums(claims, found.single)
        unanimous = _sums(claims, found.agreeing) == claims.counts
        judged = (voices > 2) | ((voices == 2) & unanimous)
        rows = judged[claims.item]
        distances = self._far(claims, judged, taken)
        self._judge(claims, rows, found.agreeing, distances)
        self._pair(claims, rows, found)
        off = _deviation(claims.value, found.value[claims.item])
        typical = _typical(claims, off, found.single, voices)
        _add(self._spread, claims.series[judged], typical[judged])
        alike = MILLI * (found.commonest - 1) // np.maximum(voices - 1, 1)
        of_items = zip(
            claims.kind[judged].tolist(), typical[judged].tolist(), alike[judged].tolist(), strict=True
        )
        for kind, spread, same in of_items:
            self._dispersion[kind].add(spread)
            self._beside[kind].add(same)
        moved = self._seen[claims.series]
        series, now = claims.series[moved], found.value[moved]
        _add(self._moves, series, _deviation(now, self._decided[series]))
        self._still[series] += now == self._decided[series]
        self._seen[claims.series] = True
        self._known[claims.kind] = True
        self._decided[claims.series] = found.value
        self._places[claims.series] += self._counted_places(claims, found.single)
        self._claimed[claims.slot] = claims.value

    def _far(
        self, claims: _Claims, judged: Flags, taken: Mapping[int, tuple[Panel, Chosen]]
    ) -> Mapping[int, Sequence[int]]:
        """By item, distances of its claims where they are counted."""
        counted = {i: t for i, t in taken.items() if judged[i] and not t[1].exact}
        memory = self.memory([int(claims.series[i]) for i in counted])
        distances = {i: memory.distances(*t) for i, t in counted.items()}
        return {i: d for i, d in distances.items() if d is not None}

    def _judge(
        self, claims: _Claims, rows: Flags, agreeing: Flags, distances: Mapping[int, Sequence[int]]
    ) -> None:
        at = claims.kind[claims.item] * len(self._sheet.sources) + claims.source
        self._met[at[rows]] = True
        _count(at[rows], agreeing[rows], self._judged, self._right)
        if distances:
            where = np.concatenate(
                [np.arange(claims.starts[i], claims.starts[i] + claims.counts[i]) for i in distances]
            )
            far = np.array([d for of_item in distances.values() for d in of_item], np.int64)
            _count(at[where], far, self._distances, self._distance)

    def _pair(self, claims: _Claims, rows: Flags, found: Found) -> None:
        """Count common deviations: each claim that is off, or any where values are never equal, beside every
        other of its item; two such claims beside each other once."""
        looked = ~(found.agreeing & found.exact[claims.item])
        seeds = np.flatnonzero(rows & looked)
        if not len(seeds):
            return
        many = claims.counts[claims.item[seeds]]
        one = np.repeat(seeds, many)
        steps = np.arange(len(one)) - np.repeat(np.cumsum(many) - many, many)
        other = claims.starts[claims.item[one]] + steps
        once = (other != one) & ~(looked[other] & (other < one))
        one, other = one[once], other[once]
        s, t = claims.source[one], claims.source[other]
        width = len(self._sheet.sources)
        pairs, where = np.unique(np.minimum(s, t) * width + np.maximum(s, t), return_inverse=True)
        slots = np.array([self._pairs.setdefault(p, len(self._pairs)) for p in pairs.tolist()], np.int64)
        if len(self._pairs) > len(self._same):
            more = _zeros(len(self._pairs))
            self._same = np.concatenate([self._same, more])
            self._occasions = np.concatenate([self._occasions, more])
        _count(slots[where], claims.value[one] == claims.value[other], self._occasions, self._same)
        counted = zip(
            pairs.tolist(), self._same[slots].tolist(), self._occasions[slots].tolist(), strict=True
        )
        for pair, same, occasions in counted:
            names = self._names(pair)
            (self._linked.add if are_copies(same, occasions) else self._linked.discard)(names)

    def _names(self, pair: int) -> tuple[str, str]:
        s, t = divmod(pair, len(self._sheet.sources))
        return self._sheet.sources[s], self._sheet.sources[t]

    # state -------------------------------------------------------------------------------------------

    def copies(self) -> Mapping[str, str]:
        """Copy group of each source that is in one: the first name of the group."""
        return components(self._linked)

    def memory(self, series: Sequence[int] | None = None) -> Memory:
        """As the memory of the code for one item: of these series, or of all that were learned."""
        memory = Memory()
        sheet = self._sheet
        for kind in np.flatnonzero(self._known).tolist():
            memory.kinds[sheet.kinds[kind]] = KindRecord(
                Average(self._beside[kind].count, self._beside[kind].total),
                Average(self._dispersion[kind].count, self._dispersion[kind].total),
                self._records(kind),
            )
        for one in np.flatnonzero(self._seen).tolist() if series is None else series:
            if self._seen[one]:
                counts = enumerate(self._places[one].tolist())
                slots = slice(self._slots[one], self._slots[one + 1])
                said = zip(self._slot_source[slots].tolist(), self._claimed[slots].tolist(), strict=True)
                memory.series[sheet.series[one]] = SeriesRecord(
                    float(self._decided[one]),
                    Average(*(int(c[one]) for c in self._moves)),
                    int(self._still[one]),
                    Average(*(int(c[one]) for c in self._spread)),
                    {p: n for p, n in counts if n},
                    {sheet.sources[source]: v for source, v in said if not math.isnan(v)},
                )
        pairs = self._pairs if series is None else {
            p: slot for p, slot in self._pairs.items() if self._names(p) in self._linked
        }  # fmt: skip
        memory.pairs = {
            self._names(p): [int(self._same[slot]), int(self._occasions[slot])] for p, slot in pairs.items()
        }
        return memory

    def _records(self, kind: int) -> dict[str, SourceRecord]:
        """Of the sources that were judged for a kind."""
        width = len(self._sheet.sources)
        at = kind * width + np.flatnonzero(self._met[kind * width : (kind + 1) * width])
        counts = zip(
            (at % width).tolist(),
            self._judged[at].tolist(),
            self._right[at].tolist(),
            self._distances[at].tolist(),
            self._distance[at].tolist(),
            strict=True,
        )
        return {self._sheet.sources[s]: SourceRecord(*record) for s, *record in counts}


class _Claims(NamedTuple):
    """The claims of some items of one snap."""

    begin: int
    """The number of the first in the sheet."""
    series: Ints
    """Of each item, as are its kind, its first claim and how many it has."""
    kind: Ints
    starts: Ints
    counts: Ints
    item: Ints
    """Of each claim, as what follows."""
    source: Ints
    value: Floats
    places: Ints
    slot: Ints

    def of(self, items: Ints, rows: Ints) -> _Claims:
        """These items, of which these are all the claims."""
        if len(items) == len(self.starts):
            return self
        counts = self.counts[items]
        return _Claims(
            self.begin,
            self.series[items],
            self.kind[items],
            np.cumsum(counts) - counts,
            counts,
            np.repeat(np.arange(len(items)), counts),
            self.source[rows],
            self.value[rows],
            self.places[rows],
            self.slot[rows],
        )


class _Voters(NamedTuple):
    """Of sources or of claims."""

    votes: Ints
    """Weight in the vote."""
    groups: Ints
    """Copy group."""
    apart: Ints
    """Copy group, of those that were declared and not learned."""
    copied: bool
    """Whether anybody is in a copy group."""


class _Sets(NamedTuple):
    """Claims that say the same; in order of item."""

    item: Ints
    key: Floats
    votes: Ints
    voices: Ints
    burden: Ints
    of_claim: Ints
    """Of each claim, its set."""


class _Won(NamedTuple):
    """Of each item; ``agreeing`` of each claim."""

    winner: Ints
    agreeing: Flags
    support: Ints
    voices: Ints
    rival: Ints
    rival_voices: Ints


def _zeros(many: int) -> Ints:
    return np.zeros(many, np.int64)


def _numbered(keys: Ints, limit: int) -> tuple[Ints, Ints]:
    """The different keys in order, and of each key its place among them; keys are below ``limit``."""
    if limit > 8 * len(keys):
        return np.unique(keys, return_inverse=True)
    there = np.zeros(limit, bool)
    there[keys] = True
    return np.flatnonzero(there), (np.cumsum(there) - 1)[keys]


def _sums(claims: _Claims, flags: Flags) -> Ints:
    """How many claims of each item are flagged."""
    return np.add.reduceat(flags, claims.starts, dtype=np.int64)


def _news(*columns: NDArray[Any]) -> Flags:
    """Where any column differs from the row before; the first row does."""
    new = np.ones(len(columns[0]), bool)
    if len(new):
        new[1:] = False
        for column in columns:
            new[1:] |= column[1:] != column[:-1]
    return new


def _ends(items: Ints) -> Ints:
    """The last row of each of the items, which are in order."""
    return np.flatnonzero(np.append(items[1:] != items[:-1], True))


def _mixed(claims: _Claims, values: Floats) -> Flags:
    """Which items have different values."""
    least, greatest = (f.reduceat(values, claims.starts) for f in (np.minimum, np.maximum))
    mixed: Flags = least != greatest
    return mixed


def _independent(claims: _Claims, group: Ints) -> Flags:
    order = np.lexsort((claims.value, group, claims.item))
    new = _news(claims.item[order], group[order], claims.value[order])
    single = np.zeros(len(order), bool)
    single[order[new]] = True
    return single


def _commonest(claims: _Claims, single: Flags) -> Ints:
    """How often the commonest value of each item occurs."""
    most = _sums(claims, single)
    rows = np.flatnonzero(single & _mixed(claims, claims.value)[claims.item])
    if len(rows):
        rows = rows[np.lexsort((claims.value[rows], claims.item[rows]))]
        item = claims.item[rows]
        begins = np.flatnonzero(_news(item, claims.value[rows]))
        item = item[begins]
        runs = np.diff(np.append(begins, len(rows)))
        firsts = np.flatnonzero(_news(item))
        most[item[firsts]] = np.maximum.reduceat(runs, firsts)
    return most


def _most(counts: Ints) -> Ints:
    """Of each row the column with most, of equals the last; 0 where there is none."""
    last = counts.shape[1] - 1
    return np.where(counts.any(axis=1), last - np.argmax(counts[:, ::-1], axis=1), 0)


def _sets(claims: _Claims, keys: Floats, voters: _Voters, burden: Ints) -> _Sets:
    order = np.arange(len(keys))
    if voters.copied:
        order = np.lexsort((voters.groups, keys, claims.item))
    elif len(rows := np.flatnonzero(_mixed(claims, keys)[claims.item])):
        order[rows] = rows[np.lexsort((keys[rows], claims.item[rows]))]
    item, key = claims.item[order], keys[order]
    new = _news(item, key)
    begins = np.flatnonzero(new)
    burden = burden[np.minimum.reduceat(order, begins)]
    votes, voices = _tally(new, voters.votes[order], voters.groups[order] if voters.copied else None)
    of_claim = np.empty(len(order), np.int64)
    of_claim[order] = np.cumsum(new) - 1
    return _Sets(item[begins], key[begins], np.maximum(0, votes - burden), voices, burden, of_claim)


def _tally(new: Flags, weights: Ints, groups: Ints | None) -> tuple[Ints, Ints]:
    """Votes and voices of sets, of which ``new`` has the first rows; one vote a group, that of the heaviest.

    Args:
        groups: in order within each set; ``None``: each row is a group.
    """
    begins = np.flatnonzero(new)
    heaviest, first = weights, begins
    if groups is not None:
        at = np.flatnonzero(new | _news(groups))
        heaviest = np.maximum.reduceat(weights, at)
        first = np.searchsorted(at, begins)
    return np.add.reduceat(heaviest, first), np.diff(np.append(first, len(heaviest)))


def _doubt(sets: _Sets, rivals: Ints, voters: _Voters) -> tuple[Ints, Ints]:
    """Votes and voices of the rivals without learned copy groups."""
    if not voters.copied:
        return sets.votes[rivals], sets.voices[rivals]
    is_rival = np.zeros(len(sets.item), bool)
    is_rival[rivals] = True
    rows = np.flatnonzero(is_rival[sets.of_claim])
    rows = rows[np.lexsort((voters.apart[rows], sets.of_claim[rows]))]
    votes, voices = _tally(_news(sets.of_claim[rows]), voters.votes[rows], voters.apart[rows])
    return np.maximum(0, votes - sets.burden[rivals]), voices


def _written(claims: _Claims, agreeing: Flags, weights: Ints, places: Ints) -> Ints:
    """Of each item the claim written at the series' precision by the heaviest voice, of those who agree."""
    rows = np.flatnonzero(agreeing)
    item, given = claims.item[rows], claims.places[rows]
    packed = (given > places[item]).astype(np.int64)
    packed = (packed << _PLACES_BITS) + (1 << _PLACES_BITS) - 1 - given
    packed = (packed << _WEIGHT_BITS) + (1 << _WEIGHT_BITS) - 1 - weights[rows]
    packed = (packed << _ROW_BITS) + rows
    return np.minimum.reduceat(packed, np.flatnonzero(_news(item))) & ((1 << _ROW_BITS) - 1)


def _deviation(values: Floats, decided: Floats) -> Ints:
    """Relative distance in billionths, at most 1."""
    size = np.maximum(np.abs(decided), np.abs(values))
    far = np.rint(BILLION * np.abs(values - decided) / np.where(size == 0, 1.0, size))
    return np.minimum(BILLION, far).astype(np.int64)


def _typical(claims: _Claims, off: Ints, single: Flags, voices: Ints) -> Ints:
    """The lower median of the deviations of each item's independent claims."""
    middle = (voices - 1) // 2
    found = _zeros(len(voices))
    spread = _sums(claims, single & (off == 0)) <= middle
    rows = np.flatnonzero(single & spread[claims.item])
    if len(rows):
        rows = rows[np.lexsort((off[rows], claims.item[rows]))]
        item = claims.item[rows]
        begins = np.flatnonzero(_news(item))
        there = item[begins]
        found[there] = off[rows[begins + middle[there]]]
    return found


def _add(average: tuple[Ints, Ints], at: Ints, values: Ints) -> None:
    """``Average.add``, for each of different averages."""
    counts, totals = average
    count, total = counts[at], totals[at]
    full = count >= HORIZON
    count, total = np.where(full, count // 2, count), np.where(full, total // 2, total)
    usual = np.where(count > 0, -(-total // np.maximum(count, 1)), values)
    totals[at] = total + np.where(usual > 0, np.minimum(values, SWING * usual), values)
    counts[at] = count + 1


def _count(keys: Ints, hits: NDArray[Any], counts: Ints, totals: Ints) -> None:
    """For one after another: halve both numbers of a key at the horizon, count one, and add its hit."""
    many = np.bincount(keys, minlength=len(counts))
    sums = np.bincount(keys, weights=hits, minlength=len(counts)).astype(np.int64)
    fade = (counts + many > HORIZON) & (many > 0)
    np.add(counts, many, out=counts, where=~fade)
    np.add(totals, sums, out=totals, where=~fade)
    if not fade.any():
        return
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    for key in np.flatnonzero(fade).tolist():
        begin, end = np.searchsorted(ordered, [key, key + 1]).tolist()
        of_key = hits[order[begin:end]]
        count, total = int(counts[key]), int(totals[key])
        at = 0
        while at < len(of_key):
            if count >= HORIZON:
                count, total = count // 2, total // 2
            step = min(max(1, HORIZON - count), len(of_key) - at)
            total += int(of_key[at : at + step].sum())
            count, at = count + step, at + step
        counts[key], totals[key] = count, total
