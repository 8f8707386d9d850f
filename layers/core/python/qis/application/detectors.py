"""The detectors as a watcher of quality: what they think of each claim, as findings, from a kept state.

The state is kept as of some snaps of a series. When a claim comes for an earlier snap, or another for the
newest, the series is judged again from the last state before it, so that the findings do not depend on the
order of arrival: they are those of ``qis detect`` over the same claims.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple, Protocol

from qis.application.claimed_records import ClaimedRecords
from qis.application.quality import Seen, Verdict
from qis.application.reconcile import rules_for
from qis.domain.detection import Action, DetectionRules, Fault, Found, Observation, SeriesDetector
from qis.domain.detection.arrival import KINDS as ARRIVAL
from qis.domain.findings import Fact, Finding
from qis.domain.series import Kind, Series
from qis.domain.snap import Snap

if TYPE_CHECKING:
    from qis.domain.detection.explained import Events

KINDS = frozenset((Kind.PRICE, Kind.FX_RATE, Kind.INDEX_LEVEL))
"""What has a level to leave. A rate or a volume may be zero any day."""
OF_EVENTS = frozenset((Fault.ACTION_NOT_APPLIED, Fault.CANCELLED_APPLIED, Fault.UNDECLARED_SPLIT))
"""What is found of a step beside the events of an instrument."""
EVERY = 200
"""Snaps between states that stay: a late claim makes that many be judged again before it, at most."""


class Kept(NamedTuple):
    """The state of a series' detector after a snap."""

    snap: Snap
    state: str
    mark: bool
    """Whether it stays when later ones are kept."""


class Past(NamedTuple):
    """What a series is judged from."""

    kept: Kept | None
    facts: Sequence[Fact]


class DetectorStates(Protocol):
    """States of detectors, and the facts that they have not seen."""

    def since(self, before: Mapping[str, Snap]) -> Mapping[str, Past]:
        """Of each series the last state kept of a snap before the given one, and all facts after that snap,
        in snap order; of a series of which there is neither, nothing."""
        ...

    def keep(self, states: Mapping[str, tuple[Snap | None, Sequence[Kept]]]) -> None:
        """Keep states of each series in place of those of snaps later than the one given (``None``: of all),
        and in place of that of this one itself unless it is a mark."""
        ...


class Detectors:
    """The watcher. Where a series declares its calendar or a length of stale runs, those decide on what is
    missing or stale, and not what the detectors learned."""

    name = "detectors"

    def __init__(self, states: DetectorStates, records: ClaimedRecords) -> None:
        self._states = states
        self._records = records
        self._rules = DetectionRules()

    def judge(self, batch: Sequence[Seen]) -> Mapping[str, Verdict]:
        """See ``Watcher.judge``; what it needs beyond what is seen follows from the facts stored. It asks
        once and keeps once for the whole batch."""
        seen = {s.reference_data_id: s for s in batch if _series(s).kind in KINDS}
        if not seen:
            return {}
        pasts = self._states.since({id_: s.low for id_, s in seen.items()})
        detectors = {id_: self._restored(id_, past.kept) for id_, past in pasts.items()}
        unusable = [id_ for id_, detector in detectors.items() if detector is None]
        if unusable:
            pasts = {**pasts, **self._states.since(dict.fromkeys(unusable, _FIRST))}
        spans = {id_: (past.facts[0].snap, past.facts[-1].snap) for id_, past in pasts.items()}
        since = {i: spans[i][0] if past.kept is None else past.kept.snap for i, past in pasts.items()}
        events = self._records.events(batch[0].catalogue, {i: (since[i], spans[i][1]) for i in spans})
        verdicts: dict[str, Verdict] = {}
        kept: dict[str, tuple[Snap | None, Sequence[Kept]]] = {}
        for id_, past in pasts.items():
            detector = detectors[id_] or SeriesDetector(id_, self._rules)
            found, states = _run(detector, past.facts, self._rules, events.get(id_))
            if states:
                kept[id_] = (None if past.kept is None else past.kept.snap, states)
            kinds = _kinds(seen[id_])
            verdicts[id_] = Verdict(
                [finding_of(f) for f in found if f.kind in kinds],
                [(kind.value, *spans[id_]) for kind in kinds],
            )
        if kept:
            self._states.keep(kept)
        return verdicts

    def _restored(self, id_: str, kept: Kept | None) -> SeriesDetector | None:
        """The detector of a state; ``None`` where it is that of other thresholds or other code."""
        if kept is None:
            return SeriesDetector(id_, self._rules)
        body = json.loads(kept.state)
        if body["rules"] != self._rules.name:
            return None
        try:
            return SeriesDetector.restore(id_, self._rules, body["state"])
        except ValueError:
            return None


def _series(seen: Seen) -> Series:
    return seen.catalogue.series[seen.reference_data_id]


def _kinds(seen: Seen) -> set[Fault]:
    """What the detectors decide on: all but the order of arrival and what the series declares itself."""
    kinds = set(Fault) - ARRIVAL
    if _series(seen).semantics.calendar is not None:
        kinds.discard(Fault.MISSING)
    if rules_for(seen.catalogue, seen.reference_data_id, seen.high).stale_after is not None:
        kinds.discard(Fault.STALE)
    return kinds


_FIRST = Snap(-(2_208_988_800 * 10**9))


def _run(
    detector: SeriesDetector, facts: Sequence[Fact], rules: DetectionRules, events: Events | None
) -> tuple[list[Found], list[Kept]]:
    """Findings of the facts, beside the events that moved the prices, and the states to keep: of the last
    snap but one, as the last may get further claims, and every ``EVERY`` snaps."""
    found: list[Found] = []
    states: list[Kept] = []
    for i, fact in enumerate(facts):
        claims = _observations(fact)
        if events is not None:
            from qis.domain.detection.explained import explain  # read where prices have events

            found += explain(detector, events, fact.snap.ns, claims, rules)
        for judgement in detector.observe(fact.snap.ns, claims):
            found += judgement.found
        mark = detector.snaps % EVERY == 0
        if i == len(facts) - 2 or (mark and i < len(facts) - 1):
            body = {"rules": rules.name, "state": detector.checkpoint()}
            states.append(Kept(fact.snap, json.dumps(body, separators=(",", ":")), mark))
    return found, states


def _observations(fact: Fact) -> list[Observation]:
    volumes = fact.volumes
    return [
        Observation(source, Decimal(value), Decimal(volumes[source]) if source in volumes else None)
        for source, value in fact.claims.items()
    ]


def finding_of(found: Found) -> Finding:
    """As quality keeps it: about the snap of the claim, with the evidence in words. What is found of all
    sources at once, a step beside an event, is one issue of the series and not one a source."""
    e = found.evidence
    repair = f"; {e.repair} was probably meant" if e.repair else ""
    beside = f" beside {', '.join(e.peers)}" if e.peers else ""
    of_event = found.kind in OF_EVENTS
    if of_event or e.value.startswith("record:"):
        said = f"{found.source}{beside}: {e.measured}; wanted by {e.rules}: {e.threshold}"
    else:
        value = f"{e.value} where {e.expected} was expected" if e.expected else e.value or "no claim"
        said = f"{found.source} has said {value}{beside}: {e.measured}, {e.threshold} allowed by {e.rules}"
    return Finding(
        found.kind.value,
        found.reference_data_id,
        Snap(found.since_ns),
        found.source,
        e.measured,
        e.threshold,
        f"{said}{repair}; credibility {1 - found.score:.2f}",
        f"series/{found.reference_data_id}" if of_event else None,
        "low" if found.action is Action.FLAG else None,
    )
