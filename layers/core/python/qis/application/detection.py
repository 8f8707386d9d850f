"""Detection over many claims of many series, in the order in which they came."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from qis.domain.detection import DetectionRules, Evidence, Fault, Found, Observation, SeriesDetector
from qis.domain.detection.arrival import Arrivals, crossed
from qis.domain.detection.stream import Suspicion

if TYPE_CHECKING:
    from qis.domain.claims import Claim
    from qis.domain.detection.explained import Events
    from qis.domain.kinds.record import Record
    from qis.domain.series import Series


class Arrived(NamedTuple):
    """A claim as it came."""

    reference_data_id: str
    ns: int
    observation: Observation
    attribute: str | None = None


def detect(
    claims: Iterable[Arrived],
    rules: DetectionRules,
    series: Mapping[str, Series] | None = None,
    records: Iterable[Claim[Record]] = (),
) -> list[Found]:
    """All findings, by snap, series and source.

    Args:
        claims: of numbers.
        series: definitions by identifier: those of records, and of prices that corporate actions move.
        records: claims of records, of series that are defined.

    Claims are taken as arriving in the order given, or by their time of reception where all of a source have
    one. Where that order mostly goes back in time it is a file's, not that of arrival, and says nothing.
    """
    given: dict[tuple[str, str | None], dict[str, list[Arrived]]] = {}
    for claim in claims:
        by_source = given.setdefault((claim.reference_data_id, claim.attribute), {})
        by_source.setdefault(claim.observation.source, []).append(claim)
    found, events = _detect_records(series or {}, records)
    for (id_, attribute), by_source in given.items():
        for peers in _peers(by_source):
            judged = _detect_series(id_, peers, rules, events.get(id_))
            found += [f._replace(attribute=attribute) for f in judged]
        if attribute == "bid":
            found += _crossed(id_, by_source, given.get((id_, "ask"), {}), rules)
    found.sort(
        key=lambda f: (f.snap_ns, f.reference_data_id, f.attribute or "", f.source, f.since_ns, f.kind)
    )
    return found


def _detect_records(
    series: Mapping[str, Series], records: Iterable[Claim[Record]]
) -> tuple[list[Found], Mapping[str, Events]]:
    """Findings about records, and the corporate actions among them by the series of prices that they move."""
    by_series: dict[str, list[Claim[Record]]] = {}
    for claim in records:
        by_series.setdefault(claim.reference_data_id, []).append(claim)
    if not by_series:
        return [], {}
    from qis.domain.detection.explained import events_for
    from qis.domain.detection.records import judge_records, said_of

    said = {id_: said_of(claims) for id_, claims in by_series.items()}
    found = [f for id_, claims in said.items() for f in judge_records(series[id_], claims)]
    return found, events_for(series, said)


def _peers(by_source: Mapping[str, Sequence[Arrived]]) -> Iterable[Mapping[str, Sequence[Arrived]]]:
    """Sources whose numbers can be compared: apart by the currency and unit that each names most often.

    Where all that name any name the same, the others are taken to mean it too.
    """
    declared = {
        source: Counter((c.observation.currency, c.observation.unit) for c in claims).most_common(1)[0][0]
        for source, claims in by_source.items()
    }
    if len({d for d in declared.values() if d != (None, None)}) < 2:
        return [by_source]
    groups: dict[tuple[str | None, str | None], dict[str, Sequence[Arrived]]] = {}
    for source, claims in by_source.items():
        groups.setdefault(declared[source], {})[source] = claims
    return groups.values()


def _detect_series(
    id_: str, by_source: Mapping[str, Sequence[Arrived]], rules: DetectionRules, events: Events | None
) -> list[Found]:
    found: list[Found] = []
    snaps: dict[int, list[Observation]] = {}
    for source, claims in by_source.items():
        suspicions = [(c.ns, s) for c, s in _arrivals(claims)]
        found += [found_of(ns, id_, source, s, rules) for ns, s in suspicions]
        ahead = {(s.since_ns, s.value) for _, s in suspicions if s.kind is Fault.FUTURE}
        for claim in claims:
            if (claim.ns, str(claim.observation.value)) not in ahead:
                snaps.setdefault(claim.ns, []).append(claim.observation)
    detector = SeriesDetector(id_, rules)
    for ns in sorted(snaps):
        if events is not None:
            from qis.domain.detection.explained import explain

            found += explain(detector, events, ns, snaps[ns], rules)
        for judgement in detector.observe(ns, snaps[ns]):
            found += judgement.found
    return found


def _crossed(
    id_: str,
    bids: Mapping[str, Sequence[Arrived]],
    asks: Mapping[str, Sequence[Arrived]],
    rules: DetectionRules,
) -> list[Found]:
    """Bids above the ask of the same source and snap."""
    found = []
    for source in bids.keys() & asks.keys():
        asked = {a.ns: a.observation for a in asks[source]}
        for bid in bids[source]:
            ask = asked.get(bid.ns)
            if ask is not None and bid.observation.value > ask.value:
                evidence = crossed(bid.ns, bid.observation.value, ask.value)
                found.append(found_of(bid.ns, id_, source, evidence, rules)._replace(attribute="bid"))
    return found


def _arrivals(claims: Sequence[Arrived]) -> Iterable[tuple[Arrived, Suspicion]]:
    """What the order of a source's claims says against them."""
    ordered = claims
    if all(c.observation.received_ns is not None for c in claims):
        ordered = sorted(claims, key=lambda c: (c.observation.received_ns or 0, c.ns))
    back = sum(a.ns > b.ns for a, b in pairwise(ordered))
    if 2 * back > len(ordered):
        ordered = ordered[::-1]
    arrivals = Arrivals()
    for claim in ordered:
        for suspicion in arrivals.judge(claim.ns, claim.observation):
            yield claim, suspicion


def found_of(ns: int, id_: str, source: str, s: Suspicion, rules: DetectionRules) -> Found:
    """A suspicion as a finding about a claim of a series."""
    evidence = Evidence(s.value, s.expected, s.measured, s.threshold, s.peers, rules.name, s.repair)
    return Found(ns, id_, source, s.kind, s.score, s.action, s.since_ns, evidence)
