"""The vote: independent, learned voices, then the most precise value among those who agree.

1. **What is the same value.** Where sources of the kind agree exactly, values that are equal at the series'
   precision; elsewhere values within ``REACH`` usual dispersions of each other, or a tolerance that is given.
2. **Votes** by the scheme (``schemes``), learned per source and kind. Sources that copy each other have one
   vote per value, that of the heaviest, so one copy more changes nothing. A claim that repeats the source's
   last value, where the series seldom stands still, loses ``ln(1 / 2u)`` (u: the share of snaps on which it
   does). A value more than ``LEAP`` usual moves away from the last decided one has ``LEAP_ODDS`` against it.
3. **The value.** The heaviest set of same values wins. Where they are equal, that is it. Elsewhere it is the
   mean of the two claims at the weighted quantiles of 37 % and 63 %, weights being the inverse squares of the
   learned deviations: as robust as a median nearly, and closer to the truth where errors are not extreme
   (Mosteller, On Some Useful "Inefficient" Statistics, Annals of Mathematical Statistics 17(4), 1946).
4. **Confidence** from the votes for it and for its strongest rival; see ``calibration``. Sources against the
   value count each alone there, also where they were found to be copies, since the finding may be wrong:
   if copies of a bad source have the majority, it is the good ones who are off together.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from qis.domain.fusion.calibration import confidence
from qis.domain.fusion.memory import (
    BILLION,
    MILLI,
    Chosen,
    Memory,
    Panel,
    SeriesRecord,
    commonest,
    independent,
)
from qis.domain.fusion.schemes import Scheme

REACH = 6.0
"""Usual dispersions within which two values are the same, where sources do not agree exactly."""
STRESS = 8.0
"""An item may be so many times more dispersed than usual before its claims count as different."""
UNKNOWN_REACH = 0.01
"""Relative distance within which values are the same while nothing is known of a series."""
LEAP = 12.0
"""Usual moves beyond which a claim that stands alone is not believed."""
LEAP_ODDS = 9 * MILLI
"""Odds against a true move beyond that, in thousandths of a nat: about one in eight thousand."""
LEAP_EVIDENCE = 10
CENTRAL = 37
"""Percentile of the lower of the two claims whose mean is the value. Near neither a third nor two fifths,
where noise in the weights of three or of five equal sources would say which claims are meant."""
EXACT_FROM = 0.25
"""Share of claims equal to the commonest value from which sources of a kind agree exactly."""
EDGE = 1 + 1e-12
"""A value at the very edge of a reach is within it, however floats round in its unit."""
_NO_SERIES = SeriesRecord()


class Ballot(NamedTuple):
    """A decided panel with what decided it."""

    winner: Sequence[int]
    """Claim with the value, or the two whose mean is the value."""
    agreeing: Sequence[bool]
    weights: Sequence[int]
    """Of each claim in the vote, in thousandths of a nat; 0: not believed."""
    groups: Sequence[str]
    """Copy group of each claim; the source itself where it is in none."""
    exact: bool
    """Whether sources of the kind usually agree exactly."""
    reach: float
    """Relative distance within which claims were the same; 0 where they had to be equal."""
    support: int
    rival: int
    """Votes for the value, and for the strongest other one."""
    voices: int
    """Independent voices for the value."""
    rival_voices: int
    confidence: float

    def chosen(self, panel: Panel) -> Chosen:
        """What memory learns of it."""
        return Chosen(value_of(panel.values, self.winner), self.agreeing, self.exact, self.groups)


class Evidence(NamedTuple):
    """What else is known of an item, in thousandths of a nat; see ``coherence``."""

    favoured: Mapping[float, int] = MappingProxyType({})
    """Votes for a value beside those of its sources."""
    doubted: Mapping[str, int] = MappingProxyType({})
    """The most that the vote of a source may weigh."""


NO_EVIDENCE = Evidence()


class Terms(NamedTuple):
    """What is settled beforehand, and not learned of sources."""

    tolerance: float | None = None
    """Relative distance within which values are the same; ``None``: learned."""
    copies: Mapping[str, str] = MappingProxyType({})
    """Copy groups that are known: of each source the first name of its group."""
    evidence: Evidence = NO_EVIDENCE


NO_TERMS = Terms()


def vote(panel: Panel, memory: Memory, scheme: Scheme, terms: Terms = NO_TERMS) -> Ballot:
    """Decide a panel of at least one claim."""
    table = _table(panel, memory, scheme, terms)
    support = table.heaviest(range(len(panel.values)), table.reach, table.last)
    members = support.members
    winner = (
        _written(panel, members, table.weights, table.places)
        if table.exact
        else _middle(panel, members, table.precisions, table.groups)
    )
    if table.usual_reach < table.reach:
        # Where claims are unusually far apart, only those near the value speak for it.
        value = value_of(panel.values, winner)
        support = table.tally([i for i in members if _same(panel.values[i], value, table.usual_reach)])
    return _ballot(panel, memory, table, terms, winner, members, support)


def around(
    panel: Panel, memory: Memory, scheme: Scheme, terms: Terms, shares: Sequence[int] | None = None
) -> Ballot:
    """Decide a panel by its weighted median, with the votes near it as evidence.

    Args:
        shares: weight of each claim in the median; ``None``: the learned precision.
    """
    table = _table(panel, memory, scheme, terms)
    middle = weighted_middle(panel.values, table.precisions if shares is None else shares)
    winner = (middle[0],) if panel.values[middle[0]] == panel.values[middle[1]] else middle
    value = value_of(panel.values, winner)
    key = round(value * 10.0**table.places) if table.exact else value
    members = [i for i, k in enumerate(table.keys) if _same(k, key, table.reach)]
    return _ballot(panel, memory, table, terms, winner, members, table.tally(members))


def value_of(values: Sequence[float], winner: Sequence[int]) -> float:
    """The value of one claim, or the mean of two."""
    return sum(values[i] for i in winner) / len(winner)


def _ballot(
    panel: Panel,
    memory: Memory,
    table: _Table,
    terms: Terms,
    winner: Sequence[int],
    members: Sequence[int],
    support: _Count,
) -> Ballot:
    rest = set(range(len(panel.values))).difference(support.members)
    rival = table.heaviest(sorted(rest), table.usual_reach, None) if rest else _Count((), 0, 0)
    agreeing = [False] * len(panel.values)
    for i in members:
        agreeing[i] = True
    # That sources copy was only learned: who contradicts counts as independent, unless it was declared.
    apart = [terms.copies.get(s, s) for s in panel.sources]
    doubt = table._replace(groups=apart).tally(rival.members)
    sure = confidence(support.votes, doubt.votes, doubt.voices, known=panel.kind in memory.kinds)
    return Ballot(
        winner=winner,
        agreeing=agreeing,
        weights=table.weights,
        groups=table.groups,
        exact=table.alike,
        reach=table.reach,
        support=support.votes,
        rival=rival.votes,
        voices=support.voices,
        rival_voices=rival.voices,
        confidence=sure,
    )


class _Count(NamedTuple):
    """Claims that say the same, by index: their votes together, and the independent voices among them."""

    members: Sequence[int]
    votes: int
    voices: int


class _Table(NamedTuple):
    """The claims of a panel, by index, ready to be counted."""

    keys: Sequence[float]
    """What is compared: the values, or whole numbers of the series' precision."""
    groups: Sequence[str]
    weights: Sequence[int]
    precisions: Sequence[int]
    burden: Sequence[int]
    exact: bool
    """Whether keys are equal or not, rather than near."""
    alike: bool
    """Whether sources of the kind usually agree exactly, whatever tolerance they are given."""
    places: int
    reach: float
    usual_reach: float
    last: float | None
    """The last decided value, as a key."""

    def tally(self, members: Sequence[int]) -> _Count:
        """Claims that say the same, counted."""
        groups, weights = self.groups, self.weights
        heaviest: dict[str, int] = {}
        for i in members:
            if weights[i] > heaviest.get(groups[i], -1):
                heaviest[groups[i]] = weights[i]
        votes = sum(heaviest.values()) - self.burden[members[0]] if members else 0
        return _Count(members, max(0, votes), len(heaviest))

    def heaviest(self, among: Sequence[int], reach: float, last: float | None) -> _Count:
        """The set of same values with most votes among claims, of which there is at least one."""
        keys = self.keys
        sets = _near(among, keys, reach) if reach else _equal(among, keys)
        ranked = ((self.tally(members), key) for key, members in sets)
        found, _ = max(
            ranked,
            key=lambda r: (r[0].votes, r[0].voices, 0.0 if last is None else -abs(r[1] - last), -r[1]),
        )
        return found


def _table(panel: Panel, memory: Memory, scheme: Scheme, terms: Terms) -> _Table:
    series = memory.series.get(panel.series, _NO_SERIES) if scheme.continuity else _NO_SERIES
    learned = memory.weights(panel.kind, scheme.weigh)
    known = [learned.get(s, scheme.newcomer) for s in panel.sources]
    weights, precisions = [k.vote for k in known], [k.precision for k in known]
    _discount_repeats(panel, series, weights, precisions)
    favoured, doubted = terms.evidence
    if doubted:
        weights = [min(w, doubted.get(s, w)) for s, w in zip(panel.sources, weights, strict=True)]
    burden = _burden(panel, series)
    if favoured:
        burden = [b - favoured.get(v, 0) for b, v in zip(burden, panel.values, strict=True)]
    copies = {**memory.copies(), **terms.copies} if scheme.copies else terms.copies
    groups = [copies.get(s, s) for s in panel.sources]
    single = independent(groups, panel.values)
    exact, alike, usual = _regime(panel, single, memory, terms)
    keys: Sequence[float] = panel.values
    places, last, reach, usual_reach = 0, series.decided, 0.0, 0.0
    if exact:
        places = _places(panel, single, memory)
        scale = 10.0**places
        keys = [round(v * scale) for v in panel.values]
        last = None if last is None else float(round(last * scale))
    else:
        reach, usual_reach = _reach(panel, single, usual, precisions, terms)
    return _Table(
        keys=keys,
        groups=groups,
        weights=weights,
        precisions=precisions,
        burden=burden,
        exact=exact,
        alike=alike,
        places=places,
        reach=reach,
        usual_reach=usual_reach,
        last=last,
    )


def _regime(
    panel: Panel, single: Sequence[int], memory: Memory, terms: Terms
) -> tuple[bool, bool, float | None]:
    """Whether values must be equal to be the same, whether those of this kind usually are, and the usual
    dispersion as a share of the value."""
    kind, series = memory.kinds.get(panel.kind), memory.series.get(panel.series, _NO_SERIES)
    beside, count = (0, 0) if kind is None else (kind.beside.total, kind.beside.count)
    others = len(single) - 1
    if others:
        beside += MILLI * (commonest([panel.values[i] for i in single]) - 1) // others
        count += 1
    alike = count == 0 or beside >= EXACT_FROM * MILLI * count
    if terms.tolerance is not None:
        return terms.tolerance == 0, alike or terms.tolerance == 0, None
    usual = None
    if kind is not None and kind.dispersion.count:
        # Five items of the kind stand in for what is not known of the series.
        own, general = series.dispersion, kind.dispersion
        usual = (own.total + 5 * general.total / general.count) / (own.count + 5) / BILLION
    return alike, alike, usual


def _discount_repeats(panel: Panel, series: SeriesRecord, weights: list[int], precisions: list[int]) -> None:
    """Take from claims that repeat the source's last value what that is evidence of."""
    share = (series.still + 1) / (series.moves.count + 2)
    if share >= 0.5 or not series.claimed:
        return
    cost = round(MILLI * math.log(2 * share))
    before = series.claimed
    for i, (source, value) in enumerate(zip(panel.sources, panel.values, strict=True)):
        if before.get(source) == value:
            weights[i] = max(0, weights[i] + cost)
            precisions[i] = 1


def _burden(panel: Panel, series: SeriesRecord) -> Sequence[int]:
    """Of each value, the odds against a leap from the last decided value, in thousandths of a nat."""
    usual, last = series.moves.mean, series.decided
    if usual is None or last is None or series.moves.count < LEAP_EVIDENCE:
        return [0] * len(panel.values)
    farthest = LEAP * max(usual, 1.0) / BILLION
    return [LEAP_ODDS if abs(v - last) > farthest * max(abs(v), abs(last)) else 0 for v in panel.values]


def _same(x: float, y: float, reach: float) -> bool:
    return x == y or abs(x - y) <= reach * EDGE * max(abs(x), abs(y))


def _places(panel: Panel, single: Sequence[int], memory: Memory) -> int:
    """The commonest number of decimals of the past or of these claims, whichever is greater: text often comes
    without its trailing zeros."""
    counts = Counter(panel.places[i] for i in single)
    return max(_commonest(counts), _commonest(memory.series.get(panel.series, _NO_SERIES).places))


def _commonest(counts: Mapping[int, int]) -> int:
    """Of equals the greatest; 0 where there is none."""
    return max(counts.items(), key=lambda c: (c[1], c[0]))[0] if counts else 0


def _reach(
    panel: Panel, single: Sequence[int], usual: float | None, precisions: Sequence[int], terms: Terms
) -> tuple[float, float]:
    """How far apart values may be and still be the same: here, and usually."""
    if terms.tolerance is not None:
        return terms.tolerance, terms.tolerance
    values = [panel.values[i] for i in single]
    if len(values) < 3:
        reach = UNKNOWN_REACH if usual is None else REACH * usual
        return reach, reach
    low, high = weighted_middle(values, [precisions[i] for i in single])
    centre = (values[low] + values[high]) / 2
    spread = sorted(abs(v - centre) for v in values)[(len(values) - 1) // 2] / abs(centre) if centre else 0.0
    if usual is None:
        return REACH * spread, REACH * spread
    return REACH * max(usual, min(spread, STRESS * usual)), REACH * usual


def _equal(among: Sequence[int], keys: Sequence[float]) -> list[tuple[float, list[int]]]:
    """Of each value, the claims that say it."""
    sets: dict[float, list[int]] = {}
    for i in among:
        sets.setdefault(keys[i], []).append(i)
    return list(sets.items())


def _near(among: Sequence[int], keys: Sequence[float], reach: float) -> list[tuple[float, list[int]]]:
    """Of each value, the claims within reach of it."""
    order = sorted(among, key=keys.__getitem__)
    sets = []
    low = high = 0
    for i in order:
        key = keys[i]
        while not _same(keys[order[low]], key, reach):
            low += 1
        high = max(high, low)
        while high < len(order) and _same(keys[order[high]], key, reach):
            high += 1
        sets.append((key, order[low:high]))
    return sets


def _written(panel: Panel, members: Sequence[int], weights: Sequence[int], places: int) -> Sequence[int]:
    """Of equal values, the one written at the series' precision by the heaviest voice."""
    best = min(
        members, key=lambda i: (panel.places[i] > places, -panel.places[i], -weights[i], panel.sources[i])
    )
    return (best,)


def _middle(
    panel: Panel, members: Sequence[int], precisions: Sequence[int], groups: Sequence[str]
) -> Sequence[int]:
    """The two members about the weighted middle; equal values of one copy group count once."""
    heaviest: dict[tuple[str, float], tuple[int, str, int]] = {}
    for i in members:
        key = groups[i], panel.values[i]
        found = (-precisions[i], panel.sources[i], i)
        heaviest[key] = min(found, heaviest.get(key, found))
    kept = sorted(heaviest.values(), key=lambda f: (panel.values[f[2]], f[1]))
    low, high = weighted_between([panel.values[i] for _, _, i in kept], [-p for p, _, _ in kept])
    low, high = kept[low][2], kept[high][2]
    return (low,) if panel.values[low] == panel.values[high] else (low, high)


def weighted_between(values: Sequence[float], weights: Sequence[int]) -> tuple[int, int]:
    """Indices of the weighted quantiles at ``CENTRAL`` percent and as far from the top."""
    order = sorted(range(len(values)), key=values.__getitem__)
    total = sum(weights)
    below = 0
    low = high = None
    for i in order:
        below += weights[i]
        if low is None and 100 * below >= CENTRAL * total:
            low = i
        if high is None and 100 * below > (100 - CENTRAL) * total:
            high = i
    assert low is not None
    assert high is not None
    return low, high


def weighted_middle(values: Sequence[float], weights: Sequence[int]) -> tuple[int, int]:
    """Indices of the lower and upper weighted median: the same, unless the weights fall into exact halves."""
    order = sorted(range(len(values)), key=values.__getitem__)
    total = sum(weights)
    below = 0
    for position, i in enumerate(order):
        below += weights[i]
        if 2 * below > total:
            return i, i
        if 2 * below == total:
            return i, order[min(position + 1, len(order) - 1)]
    return order[-1], order[-1]
