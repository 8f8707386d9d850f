"""Claims of records: what speaks against what each source says at a snap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from qis.domain.claims import Claim
from qis.domain.detection.actions import NEAR, Declared, Message, declared, judge_messages
from qis.domain.detection.actions import REFUSALS as ACTION_REFUSALS
from qis.domain.detection.chains import REFUSALS as CHAIN_REFUSALS
from qis.domain.detection.chains import judge_chain, symbols_of
from qis.domain.detection.judgement import Action, Evidence, Fault, Found
from qis.domain.detection.stream import Suspicion
from qis.domain.errors import InvalidInput
from qis.domain.kinds.actions import CorporateActions
from qis.domain.kinds.options import OptionsChain
from qis.domain.kinds.record import Record
from qis.domain.series import Kind, Series
from qis.domain.snap import Snap

KINDS = frozenset({Kind.OPTIONS_CHAIN, Kind.CORPORATE_ACTION})
NEAR_NS = int(NEAR.total_seconds()) * 10**9
"""``NEAR`` between snaps; also how far from its snap an event may take effect to be looked for in prices."""
RULES = "records/1"
"""Name and version of what is judged here, as the evidence has it."""
REFUSALS: Mapping[str, Fault] = {**CHAIN_REFUSALS, **ACTION_REFUSALS}
FOUND: frozenset[Fault] = frozenset(
    {
        *CHAIN_REFUSALS.values(),
        Fault.PARITY,
        Fault.STRIKE_ORDER,
        Fault.BUTTERFLY,
        Fault.CALENDAR_ORDER,
        Fault.PRICE_BOUNDS,
        Fault.STALE_CONTRACT,
        Fault.MISSING_STRIKES,
        Fault.ACTION_CONFLICT,
        Fault.ACTION_REPEATED,
        Fault.ACTION_UNDATED,
    }
)
"""Kinds that are found here and nowhere else."""


class Said(NamedTuple):
    """The last claim of a source at a snap."""

    snap: Snap
    source: str
    record: Record
    received: Snap | None


def judge_records(series: Series, said: Sequence[Said]) -> list[Found]:
    """What speaks against claims of a series of records, by the snap at which it was found.

    Args:
        said: one claim a source and snap. A claim is judged beside those of its snap and those before: of
            a chain the snap before, of corporate actions as far back as ``NEAR``.
    """
    ordered = sorted(said, key=lambda s: (s.snap, s.source))
    snaps = [(snap, list(claims)) for snap, claims in groupby(ordered, key=lambda s: s.snap)]
    judge = _chains if isinstance(series.structure, OptionsChain) else _actions
    return judge(series, snaps)


def said_of(claims: Iterable[Claim[Record]]) -> list[Said]:
    """The last claim of each source at each snap, of claims in the order in which their sources made them."""
    last = {(claim.snap, claim.source): claim for claim in claims}
    return [Said(c.snap, c.source, c.value, c.received_at) for c in last.values()]


def events_of(said: Iterable[Said]) -> list[Declared]:
    """The corporate actions that claims declare, by the day on which they take effect."""
    ordered = sorted(said, key=lambda s: (s.snap, s.source))
    found = []
    for snap, claims in groupby(ordered, key=lambda s: s.snap):
        event = declared([_message(s) for s in claims])
        if event is not None and abs(snap.moment.date() - event.day) <= NEAR:
            found.append(event)
    return sorted(found, key=lambda event: (event.day, event.text))


def refused(series: Series, snap: Snap, source: str, refusal: InvalidInput) -> list[Found] | None:
    """A record that ingestion refuses, as findings; ``None`` where more is wrong than its figures."""
    by_kind: dict[Fault, list[str]] = {}
    for broken in refusal.violations:
        kind = REFUSALS.get(broken.rule)
        if kind is None or (kind is Fault.GREEKS and not broken.field.endswith(_GREEKS)):
            return None
        by_kind.setdefault(kind, []).append(f"{broken.field} {broken.value} {broken.message}".strip())
    return [
        _found(
            snap,
            series.reference_data_id,
            source,
            Suspicion(kind, 0.9, Action.QUARANTINE, snap.ns, "", "", "; ".join(said[:3]), "possible"),
        )
        for kind, said in by_kind.items()
    ]


_GREEKS = ("implied_volatility", "delta", "gamma", "vega")
Snaps = Sequence[tuple[Snap, Sequence[Said]]]


def _chains(series: Series, snaps: Snaps) -> list[Found]:
    structure = series.structure
    assert isinstance(structure, OptionsChain)
    found: list[Found] = []
    before: dict[str, Record] = {}
    for snap, claims in snaps:
        listed = {s.source: symbols_of(s.record) for s in claims}
        for one in claims:
            others = [symbols for source, symbols in listed.items() if source != one.source]
            judged = judge_chain(structure, snap, one.record, before.get(one.source), others)
            found += [_found(snap, series.reference_data_id, one.source, s) for s in judged]
        before = {s.source: s.record for s in claims}
    return found


def _actions(series: Series, snaps: Snaps) -> list[Found]:
    assert isinstance(series.structure, CorporateActions)
    found: list[Found] = []
    earlier: list[Message] = []
    for snap, claims in snaps:
        earlier = [m for m in earlier if snap.ns - m.snap.ns <= NEAR_NS]
        now = [_message(s) for s in claims]
        by_place: dict[tuple[str, Fault, int], Suspicion] = {}
        for source, one in judge_messages(now, earlier):
            place = (source, one.kind, one.since_ns)
            known = by_place.get(place)
            if known is not None:  # one source at one snap is one exception of a kind
                one = known._replace(measured=f"{known.measured}; {one.measured}")
            by_place[place] = one
        id_ = series.reference_data_id
        found += [_found(snap, id_, source, s) for (source, _, _), s in by_place.items()]
        earlier += now
    return found


def _message(said: Said) -> Message:
    return Message(said.snap, said.source, said.record.document, said.record.digest, said.received)


def _found(snap: Snap, id_: str, source: str, s: Suspicion) -> Found:
    evidence = Evidence(s.value, s.expected, s.measured, s.threshold, s.peers, RULES, s.repair)
    return Found(snap.ns, id_, source, s.kind, s.score, s.action, s.since_ns, evidence)
