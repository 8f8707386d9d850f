"""The order in which claims come, watched on the backbone: repeated snaps, snaps out of order or in the
future, and schemas that drift. It is the order of the log: claims that arrive in the order of the rows of a
file give what ``qis detect`` finds in the file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

from qis.application.detection import found_of
from qis.application.detectors import finding_of
from qis.application.ports import CatalogueReader
from qis.application.quality import Quality
from qis.domain import events as ev
from qis.domain.detection import DetectionRules, Observation
from qis.domain.detection.arrival import Arrivals
from qis.domain.detection.kept import keep, restore
from qis.domain.findings import Finding
from qis.domain.series import Series
from qis.domain.snap import Snap, parse_instant

FOLLOWED = frozenset({ev.DATA_INGESTED})
"""Types of events that the watch follows; the function's event filter lets them through."""


class Arrived(NamedTuple):
    """The order of a series' claims up to one of them."""

    at: ev.Position
    sources: Mapping[str, Sequence[Any]]
    """Kept states by source."""


class _Ingested(NamedTuple):
    """A claim that the backbone brought."""

    position: ev.Position
    recorded_at: Snap
    data: Mapping[str, Any]


class ArrivalStates(Protocol):
    """Where the order of arrival is kept."""

    def load(self, ids: Collection[str]) -> Mapping[str, Arrived]:
        """Of series of which anything arrived."""
        ...

    def keep(self, arrived: Mapping[str, Arrived]) -> None:
        """Keep in place of what was kept."""
        ...


class ArrivalWatch:
    """The use case. The backbone brings the claims of a series in the order of the log, some of them again:
    those up to the last one judged are passed over. What was found is told before the state is kept, so that
    a crash in between tells again what is told already."""

    def __init__(self, states: ArrivalStates, catalogue: CatalogueReader, quality: Quality) -> None:
        self._states = states
        self._catalogue = catalogue
        self._quality = quality
        self._rules = DetectionRules()

    def follow(self, events: Sequence[Mapping[str, Any]]) -> int:
        """Take backbone events; returns how many findings were opened."""
        by_series: dict[str, list[_Ingested]] = {}
        for event in events:
            if event["type"] in FOLLOWED:
                data = event["data"]
                position = ev.Position.parse(event["position"])
                recorded_at = parse_instant(event["recorded_at"], "recorded_at")
                claim = _Ingested(position, recorded_at, data)
                by_series.setdefault(data["reference_data_id"], []).append(claim)
        series = self._series(by_series.keys())
        by_series = {id_: claims for id_, claims in by_series.items() if series[id_].structure is None}
        if not by_series:
            return 0
        known = self._states.load(by_series.keys())
        found: list[Finding] = []
        fresh: dict[str, Arrived] = {}
        for id_, claims in by_series.items():
            before = known.get(id_, Arrived(ev.START, {}))
            new = sorted((c for c in claims if c.position > before.at), key=lambda c: c.position)
            if new:
                found += self._judge(id_, before, new, fresh)
        opened = self._quality.tell(found) if found else 0
        if fresh:
            self._states.keep(fresh)
        return opened

    def _series(self, ids: Collection[str]) -> Mapping[str, Series]:
        """Series by id, read again where a claim names one that was registered a moment ago."""
        series = self._catalogue.current().series
        return series if all(id_ in series for id_ in ids) else self._catalogue.newest().series

    def _judge(
        self,
        id_: str,
        before: Arrived,
        claims: Sequence[_Ingested],
        fresh: dict[str, Arrived],
    ) -> list[Finding]:
        sources = {source: _restored(state) for source, state in before.sources.items()}
        found = []
        for _, recorded_at, data in claims:
            source, snap = data["source"], parse_instant(data["snap"], "snap")
            received = data.get("received_at")
            observation = Observation(
                source,
                Decimal(data["value"]),
                None,
                None if received is None else parse_instant(received, "received_at").ns,
                data.get("currency"),
                data.get("unit"),
                recorded_at.ns,
            )
            for suspicion in sources.setdefault(source, Arrivals()).judge(snap.ns, observation):
                found.append(finding_of(found_of(snap.ns, id_, source, suspicion, self._rules)))
        fresh[id_] = Arrived(claims[-1].position, {source: keep(a) for source, a in sources.items()})
        return found


def _restored(state: Sequence[Any]) -> Arrivals:
    """The order so far; anew where it was kept by other code."""
    arrivals = Arrivals()
    try:
        restore(arrivals, state)
    except ValueError:
        return Arrivals()
    return arrivals
