"""Corporate actions as sources claim them, and what those that hold do to prices.

Prices before an event are multiplied by its factor to compare with those after it: the inverse of the ratio
of a split; for a cash distribution one less its share of the price before; for rights the theoretical price
without the right (Brealey, Myers and Allen, "Principles of Corporate Finance", on privileged subscriptions).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from math import log
from typing import Any, NamedTuple

from qis.domain.detection.judgement import Action, Fault
from qis.domain.detection.stream import Suspicion
from qis.domain.kinds.actions import ActionType, price_factor
from qis.domain.snap import Snap

REFUSALS = {"date-order": Fault.ACTION_UNDATED}
"""Rules for which ingestion refuses an action that are findings about it."""
NEAR = timedelta(days=10)
"""Days within which two messages of the same terms are about one event."""
SPLITS = (
    *((n, 1) for n in (2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 100)),
    *((3, 2), (4, 3), (5, 4), (5, 2)),
)
"""New securities for old ones that splits give; reverse splits take as many."""
SPLIT_WITHIN = 0.02
"""How far a step may be from that of a split, for the market moves too on that day."""
_SURE, _ODD = 0.9, 0.5
_COMPARED = ("state", "ratio", "amount", "currency", "ex_date", "effective_date")


class Message(NamedTuple):
    """What a source says of an event at a snap of the series."""

    snap: Snap
    source: str
    action: Mapping[str, Any]
    digest: str
    received: Snap | None

    @property
    def day(self) -> str:
        """When the event takes effect."""
        return str(self.action.get("ex_date") or self.action.get("effective_date") or "")

    @property
    def live(self) -> bool:
        return str(self.action["state"]) == "live"

    @property
    def terms(self) -> tuple[str, ...]:
        """What stays the same whichever day it is said to fall on."""
        return (
            self.action["type"],
            self.action.get("subtype", ""),
            _text(self.action, "ratio"),
            _amount(self),
        )


class Declared(NamedTuple):
    """An event as most sources declare it."""

    action: Mapping[str, Any]
    day: date
    """On which prices no longer have it."""
    cancelled: bool

    @property
    def text(self) -> str:
        """The event in words."""
        ratio = self.action.get("ratio")
        size = f" {ratio['new']}-for-{ratio['old']}" if ratio else f" of {self.action.get('amount', '')}"
        state = "cancelled " if self.cancelled else ""
        return f"{state}{self.action['type']}{size} on {self.day.isoformat()}"

    def factor(self, price: float, currency: str | None) -> float | None:
        """What the price before is multiplied by; ``None`` where the event alone does not say."""
        exact = price_factor({**self.action, "state": "live"})
        if exact is not None:
            return float(exact)
        amount = self.action.get("amount")
        if amount is None or self.action.get("currency") != currency or price <= 0.0:
            return None
        paid, type_ = float(amount), ActionType(self.action["type"])
        if type_ in (ActionType.CASH_DIVIDEND, ActionType.RETURN_OF_CAPITAL):
            return 1.0 - paid / price if paid < price else None
        if type_ is ActionType.RIGHTS and paid < price:
            ratio = self.action["ratio"]
            share = int(ratio["new"]) / int(ratio["old"])
            return (price + share * paid) / (1.0 + share) / price
        return None


def judge_messages(now: Sequence[Message], earlier: Sequence[Message]) -> Iterator[tuple[str, Suspicion]]:
    """What speaks against the messages of one snap.

    Args:
        now: the last message of each source at the snap.
        earlier: those at the snaps before, as far back as ``NEAR``.

    Yields:
        Sources and what speaks against them; the snap that it is about may be an earlier one.
    """
    for message in now:
        if message.received is not None and _announced_later(message):
            said = f"announced on {message.action['announced']}, told at {message.received.text}"
            yield message.source, _said(Fault.ACTION_UNDATED, message, said, "told after it was announced")
    for field in _COMPARED:
        yield from _contradictions(now, field)
    for message in now:
        yield from _repeated(message, earlier)
    yield from _other_days(now, earlier)


def declared(messages: Sequence[Message]) -> Declared | None:
    """The event of one snap as most sources tell it; of equally many the first by their text. ``None``
    where nothing says when it takes effect."""
    votes = Counter((m.live, m.terms, m.day) for m in messages if m.day)
    if not votes:
        return None
    most = max(votes.values())
    chosen = min(v for v, n in votes.items() if n == most)
    message = next(m for m in messages if (m.live, m.terms, m.day) == chosen)
    return Declared(message.action, date.fromisoformat(message.day), cancelled=not message.live)


def split_of(step: float, apart: float) -> str | None:
    """The split that a step of the logarithm of a price looks like."""
    for new, old in SPLITS:
        size = log(new / old)
        if abs(step + size) <= apart:
            return f"{new}-for-{old}"
        if abs(step - size) <= apart:
            return f"{old}-for-{new}"
    return None


def _announced_later(message: Message) -> bool:
    """Whether it was told before the day of its announcement had begun anywhere on earth."""
    announced = message.action.get("announced")
    if announced is None or message.received is None:
        return False
    return (message.received.moment + timedelta(hours=14)).date() < date.fromisoformat(announced)


def _contradictions(now: Sequence[Message], field: str) -> Iterator[tuple[str, Suspicion]]:
    """Sources that say of a field what fewer say than something else; of two, both."""
    said = {m.source: _text(m.action, field) if field != "amount" else _amount(m) for m in now}
    votes = Counter(v for v in said.values() if v)
    if len(votes) < 2:
        return
    most = max(votes.values())
    alone = sum(n == most for n in votes.values()) == 1
    for message in now:
        mine = said[message.source]
        if not mine or (alone and votes[mine] == most):
            continue
        others = tuple(sorted(s for s, v in said.items() if v and v != mine))
        rest = ", ".join(sorted(v for v in votes if v != mine))
        one = _said(Fault.ACTION_CONFLICT, message, f"{field} {mine}, others {rest}", "sources agree")
        yield message.source, one._replace(peers=others, expected=rest)


def _repeated(message: Message, earlier: Sequence[Message]) -> Iterator[tuple[str, Suspicion]]:
    """The same event again under another day, by the same source, while the first still stands."""
    for known in earlier:
        if known.source != message.source or not (known.live and message.live):
            continue
        named = _references(known) & _references(message)
        if named or (known.terms == message.terms and _apart(known, message) <= NEAR):
            why = f"as {', '.join(sorted(named))}" if named else "on the same terms"
            said = f"{message.day} and, not cancelled, {known.day}, {why}"
            yield message.source, _said(Fault.ACTION_REPEATED, message, said, "once")
            return


def _other_days(now: Sequence[Message], earlier: Sequence[Message]) -> Iterator[tuple[str, Suspicion]]:
    """Sources that place an event on different days: those that are fewer, of equally many all."""
    here = {m.source for m in now}
    for snap in sorted({m.snap for m in earlier}):
        there = [m for m in earlier if m.snap == snap]
        first = [m for m in there if m.live and m.source not in here]
        second = [m for m in now if m.live and m.source not in {t.source for t in there}]
        same = [(a, b) for a in first for b in second if a.terms == b.terms and _apart(a, b) <= NEAR]
        sooner, later = {a.source: a for a, _ in same}, {b.source: b for _, b in same}
        for mine, other in ((sooner, later), (later, sooner)):
            if mine and len(mine) <= len(other):
                day = next(iter(other.values())).day
                for source, message in sorted(mine.items()):
                    said = f"takes effect on {message.day}, others say {day}"
                    one = _said(Fault.ACTION_CONFLICT, message, said, "sources agree")
                    yield source, one._replace(peers=tuple(sorted(other)), expected=day)


def _apart(one: Message, other: Message) -> timedelta:
    if not (one.day and other.day):
        return timedelta.max
    return abs(date.fromisoformat(one.day) - date.fromisoformat(other.day))


def _references(message: Message) -> set[str]:
    return {f"{scheme} {text}" for scheme, text in message.action.get("references", {}).items()}


def _text(action: Mapping[str, Any], field: str) -> str:
    value = action.get(field)
    return f"{value['new']}-for-{value['old']}" if isinstance(value, Mapping) else str(value or "")


def _amount(message: Message) -> str:
    amount = message.action.get("amount")
    return "" if amount is None else format(Decimal(amount).normalize(), "f")


def _said(kind: Fault, message: Message, measured: str, threshold: str) -> Suspicion:
    repeated = kind is Fault.ACTION_REPEATED
    score, action = (_ODD, Action.FLAG) if repeated else (_SURE, Action.QUARANTINE)
    return Suspicion(kind, score, action, message.snap.ns, message.digest, "", measured, threshold)
