"""Reconciliation of a file of claims, held by column: what ``fusing.fuse`` does, many times as fast.

Needs numpy. Verdicts, weights and what is learned are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qis.application.fusing import Plan, fuse
from qis.domain.claims import EARLIEST
from qis.domain.fusion.columns import Columns, Found, Sheet, Way
from qis.domain.fusion.items import Claimed, Item, Verdict, decimals
from qis.domain.fusion.memory import Chosen, Memory, Panel
from qis.domain.fusion.methods import VOTES, decide, sure_of
from qis.domain.fusion.semantics import Semantics

Ints = NDArray[np.int64]

FEW = 16
"""Items of a snap below which arrays do not pay."""
REASONS = ("used", "outvoted", "no-volume", "not-admitted")
_USED, _OUTVOTED, _NO_VOLUME, _NOT_ADMITTED = range(len(REASONS))


class Said(NamedTuple):
    """All claims of a file by snap, kind, series and source; one a source and item."""

    snaps: Sequence[int]
    """In nanoseconds, in order of time."""
    sources: Sequence[str]
    """In order of name, as are the kinds; series are in order of kind and name. Sources that the plan's
    weights know are among them."""
    kinds: Sequence[str]
    series: Sequence[str]
    kind_of: Ints
    """Of each series."""
    snap_of: Ints
    """Of each item, as is its series."""
    series_of: Ints
    first: Ints
    """Of each item its first claim; and at the end the number of claims."""
    told: Ints
    """The items in the order in which they are told of, snap by snap."""
    told_of: Sequence[tuple[str, ...]]
    """Of each series what ``Series.told`` has."""
    source: Ints
    """Of each claim, as what follows."""
    number: Ints
    """Its value, among the numbers."""
    volume: Ints
    """Its volume, among the volumes."""
    numbers: Sequence[Decimal]
    volumes: Sequence[Decimal | None]

    def item(self, item: int, admitted: NDArray[np.bool_]) -> Item:
        """One item for the code that decides it by itself, with the claims that are admitted."""
        rows = range(self.first[item], self.first[item + 1])
        series = self.series_of[item]
        return Item(
            self.series[series],
            self.kinds[self.kind_of[series]],
            [
                Claimed(
                    self.sources[self.source[r]], self.numbers[self.number[r]], self.volumes[self.volume[r]]
                )
                for r in rows
                if admitted[r]
            ],
        )


class Series(NamedTuple):
    """A series of a file."""

    kind: str
    name: str
    """As it is learned."""
    told: tuple[str, ...]
    """Identifier, attribute, currency and unit, as it is told of."""


class Rows(NamedTuple):
    """Readable claims in the order in which they came; each column has a number for each claim."""

    snap: Ints
    series: Ints
    source: Ints
    number: Ints
    volume: Ints
    received: Ints
    """In nanoseconds; 0 where it is not known."""


def arranged(
    rows: Rows,
    snaps: Sequence[int],
    series: Sequence[Series],
    sources: Sequence[str],
    numbers: Sequence[Decimal],
    volumes: Sequence[Decimal | None],
    plan: Plan,
) -> Said:
    """The claims in order. Of several of a source on one item that received last counts; where reception does
    not tell, that which came last.

    Args:
        snaps: in nanoseconds, in order of time.
    """
    known = {s for way in (plan, *plan.attributes.values()) for s, _ in way.learned.sources}
    names = sorted({*sources, *known})
    place_of = {name: i for i, name in enumerate(names)}
    source = np.array([place_of[s] for s in sources], np.int64)[rows.source]
    by_name = sorted(range(len(series)), key=lambda i: series[i][:2])
    one = _places(by_name)[rows.series]
    kinds = sorted({s.kind for s in series})
    kind_of = {kind: i for i, kind in enumerate(kinds)}
    item = rows.snap * len(series) + one
    claim = item * len(names) + source
    order = np.argsort(claim, kind="stable")
    claim = claim[order]
    again = np.flatnonzero(claim[1:] == claim[:-1]) + 1
    if len(again):
        order = np.delete(order, _outdated(again, order, rows.received))
    item, number, volume = item[order], rows.number[order], rows.volume[order]
    items, first = np.unique(item, return_index=True)
    series_of = items % max(len(series), 1)
    snap_of = items // max(len(series), 1)
    by_text = sorted(range(len(series)), key=lambda i: series[by_name[i]].told)
    return Said(
        snaps=snaps,
        sources=names,
        kinds=kinds,
        series=[series[i].name for i in by_name],
        kind_of=np.array([kind_of[series[i].kind] for i in by_name], np.int64),
        snap_of=snap_of,
        series_of=series_of,
        first=np.append(first, len(order)),
        told=np.lexsort((_places(by_text)[series_of], snap_of)),
        told_of=[series[i].told for i in by_name],
        source=source[order],
        number=number,
        volume=volume,
        numbers=numbers,
        volumes=volumes,
    )


def _places(order: Sequence[int]) -> Ints:
    """Of each its place in the order."""
    places = np.empty(len(order), np.int64)
    places[np.array(order, np.int64)] = np.arange(len(order))
    return places


def _outdated(again: Ints, order: Ints, received_at: Ints) -> Sequence[int]:
    """Places in the order of claims whose source said something later on the same item.

    A claim without a time of reception is as late as the latest before it, as in ``claims.chronological``.

    Args:
        again: places of claims whose source and item are those of the place before.
        received_at: of each row; 0 where it is not known.
    """
    outdated = []
    last, last_moment, latest, previous = 0, EARLIEST, EARLIEST, -1
    for place in again.tolist():
        if place - 1 != previous:
            last = place - 1
            last_moment = latest = int(received_at[order[last]]) or EARLIEST
        previous = place
        moment = int(received_at[order[place]]) or latest
        latest = max(latest, moment)
        if moment >= last_moment:
            outdated.append(last)
            last, last_moment = place, moment
        else:
            outdated.append(place)
    return outdated


class Verdicts(NamedTuple):
    """The decisions on a file."""

    value: list[Decimal | None]
    """Of each item, as what follows."""
    official: list[bool]
    confidence: list[Decimal]
    reason: Ints
    """Of each claim its place in ``REASONS``, and its weight in the vote."""
    weight: Ints
    memory: Callable[[], Memory]
    """What was learned."""


def fuse_columns(said: Said, plan: Plan, semantics: Semantics | None = None) -> Verdicts:
    """Decide every item on what was learned from the snaps before; ``semantics`` counts what sources mean.

    Where arrays would cost more than they save, item by item.
    """
    ways = [plan.of(kind) for kind in said.kinds]
    few = len(said.snap_of) < FEW * len(said.snaps)
    if few or plan.identities or not any(w.method in VOTES for w in ways):
        return item_by_item(said, plan, semantics)
    return snap_by_snap(said, plan, semantics)


def item_by_item(said: Said, plan: Plan, semantics: Semantics | None = None) -> Verdicts:
    """As ``fuse_columns``, without arrays."""
    memory, everybody = Memory(), np.ones(len(said.source), bool)
    verdicts: list[Verdict | None] = [None] * len(said.snap_of)
    reason, weight = np.zeros(len(said.source), np.int64), np.zeros(len(said.source), np.int64)
    code = {name: i for i, name in enumerate(REASONS)}
    bounds = np.searchsorted(said.snap_of, np.arange(len(said.snaps) + 1)).tolist()
    of_snaps = [said.told[begin:end].tolist() for begin, end in pairwise(bounds)]
    snaps = (
        (at, [said.item(i, everybody) for i in items]) for at, items in zip(said.snaps, of_snaps, strict=True)
    )
    for items, decided in zip(of_snaps, fuse(snaps, plan, memory, semantics), strict=True):
        for i, (_, verdict) in zip(items, decided, strict=True):
            verdicts[i] = verdict
            claims = slice(said.first[i], said.first[i + 1])
            reason[claims] = [code[v.reason] for v in verdict.voices]
            weight[claims] = [v.weight for v in verdict.voices]
    found = [v for v in verdicts if v is not None]
    return Verdicts(
        [v.value for v in found],
        [v.official for v in found],
        [v.confidence for v in found],
        reason,
        weight,
        lambda: memory,
    )


def snap_by_snap(said: Said, plan: Plan, semantics: Semantics | None = None) -> Verdicts:
    """As ``fuse_columns``, with arrays for whole snaps."""
    work = _Work(said, plan)
    for snap, at in enumerate(said.snaps):
        begin, end = work.bounds[snap : snap + 2]
        if begin < end:
            found, taken = work.decide(begin, end)
            if semantics is not None:
                for lesson in work.lessons(begin, end, found, taken):
                    semantics.note(*lesson)
            if plan.train_until is None or at <= plan.train_until:
                work.columns.learn(begin, end, found, taken)
    return work.verdicts


Taken = Mapping[int, tuple[Panel, Chosen]]
"""Of items that were decided by themselves, by place in their snap."""


class _Work:
    """The decisions so far."""

    def __init__(self, said: Said, plan: Plan) -> None:
        self._said = said
        self._ways = [plan.of(kind) for kind in said.kinds]
        items = len(said.snap_of)
        reason, weight = _heard(said, self._ways), np.zeros(len(said.source), np.int64)
        self._admitted = reason != _NOT_ADMITTED
        self._rows = np.flatnonzero(reason == _USED)
        """The claims that count; ``_items``: the items that have any."""
        item_of = np.repeat(np.arange(items), np.diff(said.first))[self._rows]
        self._items, first = np.unique(item_of, return_index=True)
        self._sheet = _sheet(said, self._rows, self._items, np.append(first, len(self._rows)))
        self.bounds = np.searchsorted(said.snap_of[self._items], np.arange(len(said.snaps) + 1)).tolist()
        self._told = np.empty(items, np.int64)
        self._told[said.told] = np.arange(items)
        self._sure: dict[float, Decimal] = {}
        self.columns = Columns(self._sheet, [Way(w.method, w.settings) for w in self._ways])
        claimed = set(said.kind_of[said.series_of].tolist())
        for kind, way in enumerate(self._ways):
            if way.learned.sources and kind in claimed:
                self.columns.begin(kind, way.learned.record())
        self.verdicts = Verdicts(
            [None] * items, [False] * items, [Decimal(0)] * items, reason, weight, self.columns.memory
        )

    def decide(self, begin: int, end: int) -> tuple[Found, Taken]:
        """Decide the items of a snap and put down the verdicts."""
        items = self._items[begin:end].tolist()
        alone: dict[int, Verdict] = {}

        def decided(i: int, memory: Memory) -> tuple[Panel, Chosen, Sequence[int]]:
            item = self._said.item(items[i], self._admitted)
            way = self._ways[kinds[i]]
            verdict, panel, chosen = decide(way.method, item, memory, way.settings)
            alone[i] = verdict
            return panel, chosen, [v.weight for v in verdict.voices if v.reason != REASONS[_NO_VOLUME]]

        kinds = self._said.kind_of[self._said.series_of[items]].tolist()
        found, taken = self.columns.decide(begin, end, decided)
        claims = self._rows[self._sheet.first[begin] : self._sheet.first[end]]
        value, official, confidence, reason, weight, _ = self.verdicts
        reason[claims[~found.agreeing]] = _OUTVOTED
        weight[claims] = found.weights
        numbers = self._said.number[self._rows[found.winner]].tolist()
        of_items = zip(items, kinds, numbers, found.confidence, found.voices.tolist(), strict=True)
        for i, (item, kind, number, sure, voices) in enumerate(of_items):
            if i in alone:
                value[item], official[item] = alone[i].value, alone[i].official
                confidence[item] = alone[i].confidence
            else:
                settings, exact = self._ways[kind].settings, self._exact(sure)
                value[item], confidence[item] = self._said.numbers[number], exact
                official[item] = voices >= settings.min_voices and exact >= settings.publish_at
        return found, taken

    def _exact(self, sure: float) -> Decimal:
        exact = self._sure.get(sure)
        if exact is None:
            exact = self._sure[sure] = sure_of(sure)
        return exact

    def lessons(self, begin: int, end: int, found: Found, taken: Taken) -> Iterator[tuple[Panel, Chosen]]:
        """The items of a snap as semantics looks at them, in the order in which they are told of."""
        for i in np.argsort(self._told[self._items[begin:end]]).tolist():
            yield taken[i] if i in taken else _lesson(self._sheet, begin, i, found)


def _heard(said: Said, ways: Sequence[Plan]) -> Ints:
    """Of each claim ``used`` where it is to be heard, or why not."""
    items = np.repeat(np.arange(len(said.snap_of)), np.diff(said.first))
    kinds = said.kind_of[said.series_of][items]
    admitted = np.array([[not w.sources or s in w.sources for s in said.sources] for w in ways], bool)
    heard = admitted.reshape(len(ways), len(said.sources))[kinds, said.source]
    reason = np.where(heard, _USED, _NOT_ADMITTED)
    traded = np.array([bool(v) for v in said.volumes], bool)[said.volume] & heard
    nothing = np.array([v == 0 for v in said.volumes], bool)[said.volume]
    trading = np.zeros(len(said.snap_of), bool)
    trading[items[traded]] = True
    reason[heard & nothing & trading[items]] = _NO_VOLUME
    return reason


def _sheet(said: Said, rows: Ints, items: Ints, first: Ints) -> Sheet:
    """The claims that count, with numbers as the statistics want them."""
    number = said.number[rows]
    return Sheet(
        sources=said.sources,
        kinds=said.kinds,
        series=said.series,
        kind_of=said.kind_of,
        series_of=said.series_of[items],
        first=first,
        source=said.source[rows],
        value=np.array([float(n) for n in said.numbers])[number],
        places=np.array([decimals(n) for n in said.numbers], np.int64)[number],
    )


def _lesson(sheet: Sheet, begin: int, i: int, found: Found) -> tuple[Panel, Chosen]:
    """An item as semantics looks at it, which copy groups are nothing to."""
    series = sheet.series_of[begin + i]
    claims = slice(sheet.first[begin + i], sheet.first[begin + i + 1])
    own = slice(claims.start - sheet.first[begin], claims.stop - sheet.first[begin])
    panel = Panel(
        sheet.series[series],
        sheet.kinds[sheet.kind_of[series]],
        [sheet.sources[s] for s in sheet.source[claims].tolist()],
        sheet.value[claims].tolist(),
        sheet.places[claims].tolist(),
    )
    return panel, Chosen(float(found.value[i]), found.agreeing[own].tolist(), bool(found.exact[i]), ())
