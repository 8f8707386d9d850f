"""What the attributes of one object say about each other: identities as evidence on single values.

Of a share and day, the change in percent is that of the last price on the previous close, and the previous
close is the last price of the day before; of a bar, the low is at most the close. Such identities are data of
a rule. Where claims on a value differ, they say two things:

- **A witness.** The other attributes of the object, where their decisions are sure, leave some of the claimed
  values possible and others not. What is possible gains the log odds of how often the identity held before.
- **Doubt.** A claim that contradicts its own source's other attributes counts no more than such claims were
  worth before: which of them is wrong is not seen, and often it is this one.

Both are learned from earlier snaps alone, per kind, like the reliability of a source. Values are known to
half a unit of their series' precision, and an identity holds where the intervals meet. A value that nobody
claims is never made up; and what follows from decisions is no independent voice, so it counts in no quorum.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import product
from types import MappingProxyType
from typing import NamedTuple

from qis.domain.errors import refuse
from qis.domain.fusion.consensus import Evidence
from qis.domain.fusion.items import Item, Verdict, decimals
from qis.domain.fusion.memory import MILLI, Memory, SeriesRecord, SourceRecord
from qis.domain.fusion.schemes import log_odds
from qis.domain.series import check_choice, check_fields

SURE = Decimal("0.99")
"""Confidence from which a decision testifies about other attributes."""
PREVIOUS, AT_MOST = "previous", "at-most"


class Span(NamedTuple):
    """Where a number lies that was rounded."""

    low: float
    high: float

    def meets(self, other: Span) -> bool:
        slack = 1e-9 * max(abs(self.high), abs(other.high))
        return self.low <= other.high + slack and other.low <= self.high + slack


def around(value: float, places: int) -> Span:
    half = 0.5 * 10.0**-places
    return Span(value - half, value + half)


def _corners(function: Callable[..., float]) -> Callable[[Sequence[Span]], Span]:
    """Where a function lies that is monotone in each argument."""

    def spanned(of: Sequence[Span]) -> Span:
        found = [function(*values) for values in product(*of)]
        return Span(min(found), max(found))

    return spanned


FORMS: Mapping[str, tuple[int, Callable[[Sequence[Span]], Span]]] = MappingProxyType(
    {
        "difference": (2, _corners(lambda a, b: a - b)),
        "percent-change": (2, _corners(lambda a, b: 100 * (a - b) / b)),
        "product": (2, _corners(lambda a, b: a * b)),
        PREVIOUS: (1, lambda of: of[0]),
        AT_MOST: (1, lambda of: Span(-math.inf, of[0].high)),
    }
)
"""By name: of how many kinds, and where the first kind lies given those."""


class Identity(NamedTuple):
    """``kind`` is ``form`` of the kinds ``of``, of one object; for ``previous`` at the snap before."""

    kind: str
    form: str
    of: tuple[str, ...]

    @property
    def text(self) -> str:
        return f"{self.kind} = {self.form}({', '.join(self.of)})"

    def holds(self, value: Span, of: Sequence[Span]) -> bool | None:
        """Whether it does; ``None`` where it says nothing, as of a change on zero."""
        if self.form == "percent-change" and of[1].low <= 0 <= of[1].high:
            return None
        return FORMS[self.form][1](of).meets(value)


def parse_identities(given: object, field: str) -> tuple[Identity, ...]:
    """Identities as a rule document has them.

    Raises:
        InvalidInput: naming field, value and rule.
    """
    if not isinstance(given, list):
        raise refuse(field, given, "list", "is not a list of identities")
    found = []
    for i, one in enumerate(given):
        where = f"{field}[{i}]"
        body = check_fields(one, where, {"kind", "is", "of"}, set())
        form = check_choice(body["is"], f"{where}.is", tuple(FORMS))
        of = body["of"]
        kinds = [body["kind"], *of] if isinstance(of, list) else []
        if len(kinds) != FORMS[form][0] + 1 or not all(isinstance(k, str) and k for k in kinds):
            raise refuse(f"{where}.of", of, "kinds", f"are not the {FORMS[form][0]} kinds that {form} is of")
        if form != PREVIOUS and len(set(kinds)) < len(kinds):
            raise refuse(f"{where}.of", of, "distinct", "names a kind twice")
        found.append(Identity(body["kind"], form, tuple(of)))
    return tuple(found)


def object_of(series: str, kind: str) -> str:
    """What a series is an attribute of: its name without the kind."""
    return (
        series.removesuffix(kind).rstrip("\n.:/|#_- ")
        if series.endswith(kind)
        else series.removeprefix(kind).lstrip("\n.:/|#_- ")
    )


class _Known(NamedTuple):
    """An item of the snap with its decision."""

    verdict: Verdict
    said: Mapping[str, float]
    places: Mapping[int, int]


Sight = Callable[[str, bool], Span | None]
"""Where a kind of the object lies, now or at the snap before."""
_NOTHING = SeriesRecord()


class Coherence:
    """What identities were worth before, and what they say of a snap.

    Args:
        memory: of the methods, only read; it has learned of the snaps before the one that is seen.
    """

    def __init__(self, identities: Sequence[Identity], memory: Memory) -> None:
        self._memory = memory
        self._about: defaultdict[str, list[Identity]] = defaultdict(list)
        """By kind, the identities that say something of it."""
        for identity in identities:
            self._about[identity.kind].append(identity)
            if identity.form != PREVIOUS:
                for kind in identity.of:
                    self._about[kind].append(identity)
        self._witnesses: defaultdict[tuple[str, Identity], SourceRecord] = defaultdict(SourceRecord)
        self._doubted: defaultdict[str, SourceRecord] = defaultdict(SourceRecord)
        self._series: dict[tuple[str, str], str] = {}
        """Of an object and a kind."""
        self._snap: dict[str, _Known] = {}
        """By series."""

    def see(self, decided: Iterable[tuple[Item, Verdict]]) -> None:
        """Take up the decisions of a snap as they are without this evidence."""
        self._snap = {}
        for item, verdict in decided:
            self._series[object_of(item.series, item.kind), item.kind] = item.series
            said = {c.source: float(c.value) for c in item.claims}
            self._snap[item.series] = _Known(verdict, said, Counter(decimals(c.value) for c in item.claims))

    def evidence(self, item: Item) -> Evidence | None:
        """What the other attributes say of an item; ``None`` where nothing, or where claims do not differ."""
        values = {float(c.value) for c in item.claims}
        if item.kind not in self._about or len(values) < 2:
            return None
        favoured: Counter[float] = Counter()
        sight = self._decided(object_of(item.series, item.kind))
        for identity in self._about[item.kind]:
            possible = [v for v in values if self._says(identity, item, v, sight)]
            if 0 < len(possible) < len(values):
                accuracy = self._witnesses[item.kind, identity].accuracy
                gain = max(0, round(MILLI * math.log(accuracy / (1 - accuracy))))
                favoured.update(dict.fromkeys(possible, gain))
        most = log_odds(self._doubted[item.kind])
        doubted = {c.source: most for c in item.claims if self._contradicts(c.source, item)}
        return Evidence(favoured, doubted) if favoured or doubted else None

    def learn(self, decided: Iterable[tuple[Item, Verdict]]) -> None:
        """Learn from the final decisions of the snap, before the memory does."""
        for item, verdict in decided:
            if verdict.value is None or item.kind not in self._about:
                continue
            sight = self._decided(object_of(item.series, item.kind))
            for identity in self._about[item.kind]:
                said = self._says(identity, item, float(verdict.value), sight)
                if said is not None:
                    self._witnesses[item.kind, identity].judge(said, None)
            used = {v.source for v in verdict.used}
            for claim in item.claims:
                if self._contradicts(claim.source, item):
                    self._doubted[item.kind].judge(claim.source in used, None)

    def _says(self, identity: Identity, item: Item, value: float, sight: Sight) -> bool | None:
        """Whether the identity holds with a value of the item, and the other kinds as they are seen; ``None``
        where one of them is not."""
        before = identity.form == PREVIOUS
        mine = around(value, self._places(item.series, value))

        def seen(kind: str, then: bool) -> Span | None:
            return mine if kind == item.kind and not then else sight(kind, then)

        whole = seen(identity.kind, False)
        of = [s for s in (seen(kind, before) for kind in identity.of) if s is not None]
        return None if whole is None or len(of) < len(identity.of) else identity.holds(whole, of)

    def _decided(self, name: str) -> Sight:
        """The attributes of an object as they were decided."""

        def sight(kind: str, before: bool) -> Span | None:
            series = self._series.get((name, kind))
            if series is None:
                return None
            if before:
                last = self._last(series).decided
                return None if last is None else around(last, self._places(series, last))
            known = self._snap.get(series)
            if known is None or known.verdict.value is None or known.verdict.confidence < SURE:
                return None
            value = float(known.verdict.value)
            return around(value, self._places(series, value))

        return sight

    def _own(self, name: str, source: str) -> Sight:
        """The attributes of an object as a source has them."""

        def sight(kind: str, before: bool) -> Span | None:
            series = self._series.get((name, kind))
            if series is None:
                return None
            if before:
                value = self._last(series).claimed.get(source)
            else:
                value = self._snap[series].said.get(source) if series in self._snap else None
            return None if value is None else around(value, self._places(series, value))

        return sight

    def _contradicts(self, source: str, item: Item) -> bool:
        """Whether a source's claim does not fit its other attributes."""
        own = self._snap[item.series].said[source]
        sight = self._own(object_of(item.series, item.kind), source)
        return any(self._says(i, item, own, sight) is False for i in self._about[item.kind])

    def _last(self, series: str) -> SeriesRecord:
        return self._memory.series.get(series, _NOTHING)

    def _places(self, series: str, value: float) -> int:
        """Decimals that a value is known to: its own, or those that the series usually has."""
        counts = self._last(series).places or self._snap[series].places
        return max(max(counts, key=lambda p: (counts[p], p)), decimals(Decimal(repr(value))))
