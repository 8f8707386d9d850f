"""Sources that mean something else: found by how they differ, and proposed with evidence, never repaired.

A source may be right in its own terms and off in those of the series: another scale or currency, no sign,
another day, prices adjusted for a dividend. Then it does not err at random. Against the decided values, for
each kind of series, this counts

- ``scale``, ``ratio``: the share of claims at one and the same ratio, a power of ten or another one;
- ``sign``: negative values given as positive ones;
- ``lag``, ``lead``: where the value turned, claims that moved as it had moved one snap before, or moves one
  snap after, rather than as it does;
- ``convention``: sources that are off together and say the same, but are no copies of each other otherwise;
- ``identity``: attributes of one object of which the decided values hang together (see ``coherence``), while
  those of different objects do not. Cases in which it would be trivial, as a change of nothing, do not count.

A person decides what it means. Nothing here changes a claim or a vote.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, permutations
from typing import Any, NamedTuple

from qis.domain.fusion.coherence import PREVIOUS, Identity, Span, around, object_of
from qis.domain.fusion.memory import Chosen, Panel, components

FAR = 0.05
"""Relative distance beyond which a ratio is looked at."""
CASES = 20
"""Cases from which something is proposed."""
SHARE = 0.6
"""Share of the occasions that must be such cases."""
ALWAYS = 0.9
"""Share where a convention leaves no choice, as with a sign that is never given."""


MOST_KINDS = 8
"""Attributes of one object beyond which identities are not looked for: it takes the cube of their number."""
BY_CHANCE = 0.1
"""Share of pairs of different objects on which an identity may hold."""


class Proposal(NamedTuple):
    """What a source seems to mean, and how often; an identity is of no source."""

    kind: str
    sources: tuple[str, ...]
    what: str
    detail: str
    cases: int
    occasions: int

    def as_json(self) -> dict[str, Any]:
        body = self._asdict()
        return body | {"sources": list(self.sources), "share": f"{self.cases / self.occasions:.4f}"}


class _Past(NamedTuple):
    """Of one series at its last snap; directions are 1, -1, or 0 where there was no move."""

    decided: float
    said: Mapping[str, float]
    move: int
    moves: Mapping[str, int]


def _sign(move: float) -> int:
    return (move > 0) - (move < 0)


class Identities:
    """How often attributes of one object hang together, for every identity that there could be."""

    def __init__(self) -> None:
        self._now: dict[str, dict[str, float]] = {}
        """Of each object the decided values by kind, as far as they have come in."""
        self._then: dict[str, dict[str, float]] = {}
        self._places: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self._stranger: dict[str, float] = {}
        """Values of the object before, as a test of chance."""
        self._counts: defaultdict[Identity, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        """Occasions and cases, of one object, and with the value of another."""

    def note(self, panel: Panel, value: float) -> None:
        """Take up a decided value. The same kind again is the next snap of an object."""
        name = object_of(panel.series, panel.kind)
        if panel.kind in self._now.get(name, ()):
            self._close(name)
        self._now.setdefault(name, {})[panel.kind] = value
        self._places[panel.kind].update(panel.places)

    def proposals(self) -> Iterator[Proposal]:
        """The identities that hold nearly always, and not by chance."""
        for name in sorted(self._now):
            self._close(name)
        for identity, (occasions, cases, trials, by_chance) in sorted(self._counts.items()):
            if cases >= CASES and cases >= ALWAYS * occasions and by_chance <= BY_CHANCE * trials:
                yield Proposal(identity.kind, (), "identity", identity.text, cases, occasions)

    def _close(self, name: str) -> None:
        """Count an object's snap."""
        now = self._now.pop(name)
        then, self._then[name] = self._then.get(name, {}), now
        if 1 < len(now) <= MOST_KINDS:
            for identity, of in _candidates(now, then):
                counts = self._counts[identity]
                spans = [self._span(kind, value) for kind, value in zip(identity.of, of, strict=True)]
                for at, values in ((0, now), (2, self._stranger)):
                    if identity.kind in values:
                        holds = identity.holds(self._span(identity.kind, values[identity.kind]), spans)
                        counts[at] += holds is not None
                        counts[at + 1] += holds is True
            self._stranger = now

    def _span(self, kind: str, value: float) -> Span:
        counts = self._places[kind]
        return around(value, max(counts, key=lambda p: (counts[p], p)))


def _candidates(
    now: Mapping[str, float], then: Mapping[str, float]
) -> Iterator[tuple[Identity, Sequence[float]]]:
    """The identities that there could be, with the values of what they are of, where they are not trivial."""
    for a, b in permutations(sorted(now), 2):
        moved = a in then and b in then and then[a] != now[a] and then[b] != now[b]
        if moved:
            yield Identity(a, PREVIOUS, (b,)), (then[b],)
    for a, b, c in permutations(sorted(now), 3):
        x, y, z = now[a], now[b], now[c]
        if x and y and z:
            yield Identity(a, "percent-change", (b, c)), (y, z)
            if a < c:  # else the same once more, from the other side
                yield Identity(a, "difference", (b, c)), (y, z)
            if b < c and abs(y) != 1 and abs(z) != 1:
                yield Identity(a, "product", (b, c)), (y, z)


class Semantics:
    """What was counted. Give it every decided panel, snap by snap in order of time."""

    def __init__(self) -> None:
        self._claims: Counter[tuple[str, str]] = Counter()
        self._ratios: defaultdict[tuple[str, str], Counter[tuple[int, int]]] = defaultdict(Counter)
        """By kind and source: sign and hundredths of the decimal logarithm of ratios far from 1."""
        self._negative: Counter[tuple[str, str]] = Counter()
        self._unsigned: Counter[tuple[str, str]] = Counter()
        self._time: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self._off: Counter[tuple[str, str]] = Counter()
        self._together: Counter[tuple[str, str, str]] = Counter()
        self._last: dict[str, _Past] = {}
        self._identities = Identities()

    def note(self, panel: Panel, chosen: Chosen) -> None:
        """Count one decided panel; one with a single voice says nothing."""
        said = dict(zip(panel.sources, panel.values, strict=True))
        if sum(chosen.agreeing) > 1:
            for source, value in said.items():
                self._note_ratio((panel.kind, source), value, chosen.value)
            if chosen.exact:
                self._note_off(panel, chosen)
        self._identities.note(panel, chosen.value)
        last = self._last.get(panel.series)
        now = chosen.value
        self._last[panel.series] = (
            _Past(now, said, 0, {}) if last is None else self._note_time(panel.kind, said, now, last)
        )

    def _note_ratio(self, key: tuple[str, str], value: float, decided: float) -> None:
        self._claims[key] += 1
        if decided < 0:
            self._negative[key] += 1
            self._unsigned[key] += value == -decided
        if value and decided and abs(value / decided - 1) > FAR:
            ratio = value / decided
            self._ratios[key][1 if ratio > 0 else -1, round(100 * math.log10(abs(ratio)))] += 1

    def _note_time(self, kind: str, said: Mapping[str, float], now: float, last: _Past) -> _Past:
        """Where the value turned, compare each source's moves with those before and after the turn."""
        move = _sign(now - last.decided)
        moves = {s: _sign(value - last.said[s]) for s, value in said.items() if s in last.said}
        if move and last.move and move != last.move:
            for source, own in moves.items():
                if own:
                    self._time[kind, source]["lag" if own == last.move else "no lag"] += 1
            for source, own in last.moves.items():
                if own:
                    self._time[kind, source]["lead" if own == move else "no lead"] += 1
        return _Past(now, said, move, moves)

    def _note_off(self, panel: Panel, chosen: Chosen) -> None:
        off = sorted(
            (s, v)
            for s, v, said in zip(panel.sources, panel.values, chosen.agreeing, strict=True)
            if not said
        )
        for source, _ in off:
            self._off[panel.kind, source] += 1
        for (s, x), (t, y) in combinations(off, 2):
            self._together[panel.kind, s, t] += x == y

    def proposals(self, copies: Mapping[str, str]) -> Iterator[Proposal]:
        """What there is to be decided, by kind and source.

        Args:
            copies: copy groups, whose members being off together is no news.
        """
        for (kind, source), claims in sorted(self._claims.items()):
            yield from self._of_ratio(kind, source, claims)
            yield from self._of_time(kind, source)
        yield from self._of_conventions(copies)
        yield from self._identities.proposals()

    def _of_conventions(self, copies: Mapping[str, str]) -> Iterator[Proposal]:
        """Sources linked by pairs are one convention; its evidence is that of its weakest link."""
        links: dict[str, dict[tuple[str, str], tuple[int, int]]] = {}
        for (kind, s, t), cases in sorted(self._together.items()):
            occasions = min(self._off[kind, s], self._off[kind, t])
            single = copies.get(s, s) == s and copies.get(t, t) == t
            if single and cases >= CASES and cases >= SHARE * occasions:
                links.setdefault(kind, {})[s, t] = cases, occasions
        for kind, found in links.items():
            group_of = components(found)
            for first in sorted(set(group_of.values())):
                members = tuple(sorted(s for s, group in group_of.items() if group == first))
                inside = [counts for (s, _), counts in found.items() if group_of[s] == first]
                cases, occasions = min(inside, key=lambda c: (c[0] / c[1], c))
                yield Proposal(kind, members, "convention", "off together, saying the same", cases, occasions)

    def _of_ratio(self, kind: str, source: str, claims: int) -> Iterator[Proposal]:
        negative, unsigned = self._negative[kind, source], self._unsigned[kind, source]
        if unsigned >= CASES and unsigned >= ALWAYS * negative:
            yield Proposal(kind, (source,), "sign", "negative values without their sign", unsigned, negative)
        for (sign, hundredths), cases in self._ratios[kind, source].most_common(1):
            if cases >= CASES and cases >= SHARE * claims:
                power = hundredths % 100 == 0
                ratio = f"10^{hundredths // 100}" if power else f"{10 ** (hundredths / 100):.3g}"
                told = f"values are {'-' if sign < 0 else ''}{ratio} times the decided ones"
                yield Proposal(kind, (source,), "scale" if power else "ratio", told, cases, claims)

    def _of_time(self, kind: str, source: str) -> Iterator[Proposal]:
        counts = self._time[kind, source]
        for what, neighbour in (("lag", "before"), ("lead", "after")):
            cases, own = counts[what], counts[f"no {what}"]
            if cases >= CASES and cases >= SHARE * (cases + own):
                told = f"values are those of the snap {neighbour}"
                yield Proposal(kind, (source,), what, told, cases, cases + own)
