"""Every method by name, behind one interface: an item and what was learned before, in; a verdict, out.

A method is pure: the same item, memory and settings give the same verdict, whatever the order of the claims.
None is a plain mean, which one bad claim moves without bound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from types import MappingProxyType

from qis.domain.fusion.calibration import PLACES
from qis.domain.fusion.consensus import NO_TERMS, Ballot, Terms, around, vote
from qis.domain.fusion.items import Claimed, Item, Verdict, Voice, decimals
from qis.domain.fusion.learned import PUBLISH_AT
from qis.domain.fusion.memory import Chosen, Memory, Panel
from qis.domain.fusion.schemes import ACCU, CONSENSUS, CRH, TRUTHFINDER, VOTE, Scheme
from qis.domain.numbers import MAX_DIGITS, decimal_text

DEFAULT_METHOD = "consensus"
MIDDLE = ACCU
"""How the evidence for a median is weighed."""
_EXACT = Context(prec=2 * MAX_DIGITS + 4)
_TWO = Decimal(2)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a rule says of a method."""

    publish_at: Decimal = PUBLISH_AT
    """Precision target: values with less confidence are proposed and not published."""
    min_voices: int = 1
    """Independent voices for the value that it takes to publish it."""
    terms: Terms = NO_TERMS


DEFAULTS = Settings()
Decided = tuple[Verdict, Panel, Chosen]
"""A verdict, and what memory learns of it."""
Method = Callable[[Item, Memory, Settings], Decided]


def decide(name: str, item: Item, memory: Memory, settings: Settings = DEFAULTS) -> Decided:
    """Decide ``item`` by the method ``name``, one of ``METHODS``."""
    return METHODS[name](item, memory, settings)


def spoken(item: Item) -> tuple[list[Claimed], list[Claimed]]:
    """The claims that count, by source; and those of no volume, where others have some."""
    claims = sorted(item.claims)
    if not any(c.volume for c in claims):
        return claims, []
    return [c for c in claims if c.volume != 0], [c for c in claims if c.volume == 0]


def _voting(name: str, scheme: Scheme) -> Method:
    def method(item: Item, memory: Memory, settings: Settings) -> Decided:
        claims, silent = spoken(item)
        panel = Item(item.series, item.kind, claims).panel()
        ballot = vote(panel, memory, scheme, settings.terms)
        return _verdict(name, claims, silent, ballot, settings), panel, ballot.chosen(panel)

    return method


def _verdict(
    name: str,
    claims: Sequence[Claimed],
    silent: Sequence[Claimed],
    ballot: Ballot,
    settings: Settings,
) -> Verdict:
    voices = [
        Voice(c.source, c.value, weight, group, "used" if said else "outvoted")
        for c, weight, group, said in zip(claims, ballot.weights, ballot.groups, ballot.agreeing, strict=True)
    ]
    voices += [Voice(c.source, c.value, 0, c.source, "no-volume") for c in silent]
    sure = sure_of(ballot.confidence)
    enough = ballot.voices >= settings.min_voices
    reason = (
        f"{ballot.voices} independent voices of {len(claims)} sources say so,"
        f" {ballot.rival_voices} the next best"
    )
    if not enough:
        reason += f"; {settings.min_voices} are needed"
    elif sure < settings.publish_at:
        reason += f"; {decimal_text(settings.publish_at)} is needed to publish"
    return Verdict(
        official=enough and sure >= settings.publish_at,
        value=middle_value([claims[i].value for i in ballot.winner]),
        confidence=sure,
        method=name,
        reason=reason,
        voices=tuple(sorted(voices)),
        tolerance=Decimal(f"{ballot.reach:.3g}"),
    )


def sure_of(confidence: float) -> Decimal:
    """A confidence as decisions have it."""
    return Decimal(repr(confidence)).quantize(PLACES)


def _middling(name: str, shares: Callable[[Sequence[Claimed]], Sequence[int] | None]) -> Method:
    def method(item: Item, memory: Memory, settings: Settings) -> Decided:
        claims, silent = spoken(item)
        panel = Item(item.series, item.kind, claims).panel()
        ballot = around(panel, memory, MIDDLE, settings.terms, shares(claims))
        return _verdict(name, claims, silent, ballot, settings), panel, ballot.chosen(panel)

    return method


def _volumes(claims: Sequence[Claimed]) -> Sequence[int]:
    """Volumes as whole numbers of their smallest unit; equal where a volume is not known."""
    volumes = [c.volume for c in claims]
    if any(v is None for v in volumes):
        return [1] * len(claims)
    finest = max(decimals(v) for v in volumes if v is not None)
    return [int(v.scaleb(finest, _EXACT)) for v in volumes if v is not None]


def middle_value(values: Sequence[Decimal]) -> Decimal:
    """One value, or the exact mean of two."""
    if len(values) == 1:
        return values[0]
    return _EXACT.divide(_EXACT.add(*values), _TWO)


VOTES: Mapping[str, Scheme] = MappingProxyType(
    {"consensus": CONSENSUS, "vote": VOTE, "accu": ACCU, "truth-finder": TRUTHFINDER, "crh": CRH}
)
"""The methods that take the value with most votes."""
METHODS: Mapping[str, Method] = MappingProxyType(
    {
        **{name: _voting(name, scheme) for name, scheme in VOTES.items()},
        "median": _middling("median", lambda claims: [1] * len(claims)),
        "weighted-median": _middling("weighted-median", lambda _: None),
        "volume-weighted-median": _middling("volume-weighted-median", _volumes),
    }
)
"""Precedence, which learns nothing, is in ``qis.domain.reconciliation``; the partitioned median is one of
trades and not of claims (``qis.domain.fusion.trades``)."""
