"""Detection over many claims of many series, in the order in which they came."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from qis.domain.detection import DetectionRules, Evidence, Fault, Found, Observation, SeriesDetector
from qis.domain.detection.arrival import Arrivals, crossed
from qis.domain.detection.stream import Suspicion


class Arrived(NamedTuple):
    """A claim as it came."""

    reference_data_id: str
    ns: int
    observation: Observation
    attribute: str | None = None


def detect(claims: Iterable[Arrived], rules: DetectionRules) -> list[Found]:
    """All findings, by snap, series and source.

    Claims are taken as arriving in the order given, or by their time of reception where all of a source have
    one. Where that order mostly goes back in time it is a file's, not that of arrival, and says nothing.
    """
    series: dict[tuple[str, str | None], dict[str, list[Arrived]]] = {}
    for claim in claims:
        by_source = series.setdefault((claim.reference_data_id, claim.attribute), {})
        by_source.setdefault(claim.observation.source, []).append(claim)
    found: list[Found] = []
    for (id_, attribute), by_source in series.items():
        found += [f._replace(attribute=attribute) for f in _detect_series(id_, by_source, rules)]
        if attribute == "bid":
            found += _crossed(id_, by_source, series.get((id_, "ask"), {}), rules)
    found.sort(
        key=lambda f: (f.snap_ns, f.reference_data_id, f.attribute or "", f.source, f.since_ns, f.kind)
    )
    return found


def _detect_series(
    id_: str, by_source: Mapping[str, Sequence[Arrived]], rules: DetectionRules
) -> list[Found]:
    found: list[Found] = []
    snaps: dict[int, list[Observation]] = {}
    for source, claims in by_source.items():
        suspicions = [(c.ns, s) for c, s in _arrivals(claims)]
        found += [_found(ns, id_, source, s, rules) for ns, s in suspicions]
        ahead = {(s.since_ns, s.value) for _, s in suspicions if s.kind is Fault.FUTURE}
        for claim in claims:
            if (claim.ns, str(claim.observation.value)) not in ahead:
                snaps.setdefault(claim.ns, []).append(claim.observation)
    detector = SeriesDetector(id_, rules)
    for ns in sorted(snaps):
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
                found.append(_found(bid.ns, id_, source, evidence, rules)._replace(attribute="bid"))
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


def _found(ns: int, id_: str, source: str, s: Suspicion, rules: DetectionRules) -> Found:
    evidence = Evidence(s.value, s.expected, s.measured, s.threshold, s.peers, rules.name, s.repair)
    return Found(ns, id_, source, s.kind, s.score, s.action, s.since_ns, evidence)
