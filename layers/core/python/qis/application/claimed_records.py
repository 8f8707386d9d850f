"""What sources claim of records: read from the log, where the documents are, at snaps that facts name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING

from qis.domain import events as ev
from qis.domain.claims import Claim, chronological
from qis.domain.series import Kind
from qis.domain.snap import Snap, zone_of

if TYPE_CHECKING:
    from qis.application.ports import Catalogue, EventStore
    from qis.application.quality import Facts
    from qis.domain.detection.explained import Events
    from qis.domain.detection.records import Said
    from qis.domain.kinds.record import Record

Span = tuple[Snap, Snap]


class ClaimedRecords:
    """Claims of records as the detectors want them; the log is read once for all that are asked for."""

    def __init__(self, facts: Facts, store: EventStore) -> None:
        self._facts = facts
        self._store = store

    def said(self, catalogue: Catalogue, wanted: Mapping[str, Collection[Snap]]) -> Mapping[str, list[Said]]:
        """The last claim of each source at snaps of series, with its document."""
        from qis.domain.detection.records import said_of

        return {id_: said_of(claims) for id_, claims in self._claims(catalogue, wanted).items()}

    def events(self, catalogue: Catalogue, prices: Mapping[str, Span]) -> Mapping[str, Events]:
        """The corporate actions that may have moved series of prices between two snaps, of those that an
        actions series names."""
        actions = {i: set(named) & prices.keys() for i, named in _moved_by(catalogue).items()}
        actions = {i: moved for i, moved in actions.items() if moved}
        if not actions:
            return {}
        from qis.domain.detection.explained import events_for
        from qis.domain.detection.records import NEAR_NS

        spans = {}
        for id_, moved in actions.items():
            first, last = min(prices[p][0] for p in moved), max(prices[p][1] for p in moved)
            spans[id_] = Snap(first.ns - NEAR_NS), Snap(last.ns + NEAR_NS)
        around = self._facts.around(spans, dict.fromkeys(spans, 0))
        said = self.said(catalogue, {i: [f.snap for f in facts] for i, facts in around.items()})
        return {p: e for p, e in events_for(catalogue.series, said).items() if p in prices}

    def moved(self, catalogue: Catalogue, arrived: Mapping[str, Collection[Snap]]) -> dict[str, set[Snap]]:
        """Series of prices that have to be judged again, and from where, since corporate actions arrived."""
        moved_by = _moved_by(catalogue)
        wanted = {i: snaps for i, snaps in arrived.items() if moved_by.get(i)}
        if not wanted:
            return {}
        from qis.domain.detection.explained import day_zone

        found: dict[str, set[Snap]] = {}
        for id_, claims in self._claims(catalogue, wanted).items():
            days = {d for c in claims for d in _days(c)}
            for price in moved_by[id_]:
                if price in catalogue.series and days:
                    zone = day_zone(catalogue.series[price])
                    found.setdefault(price, set()).update(_start(day, zone) for day in days)
        return found

    def _claims(
        self, catalogue: Catalogue, wanted: Mapping[str, Collection[Snap]]
    ) -> Mapping[str, list[Claim[Record]]]:
        """Every claim at these snaps, in the order in which its source made it."""
        streams = {ev.value_stream(i, s.text): i for i, snaps in wanted.items() for s in snaps}
        found: dict[str, list[Claim[Record]]] = {id_: [] for id_ in wanted}
        for stream, loaded in self._store.load(streams.keys()).items():
            structure = catalogue.series[streams[stream]].structure
            found[streams[stream]] += chronological(
                (Claim.from_json(event.data, structure), Snap.of(event.recorded_at))
                for event in loaded.events
                if event.type == ev.DATA_INGESTED
            )
        return found


def _moved_by(catalogue: Catalogue) -> dict[str, tuple[str, ...]]:
    """Series of corporate actions, and the series of prices that each moves."""
    found = {}
    for id_, series in catalogue.series.items():
        if series.kind is Kind.CORPORATE_ACTION:
            from qis.domain.kinds.actions import CorporateActions

            assert isinstance(series.structure, CorporateActions)
            found[id_] = series.structure.prices
    return found


def _days(claim: Claim[Record]) -> Iterable[date]:
    document = claim.value.document
    named = (document.get("ex_date"), document.get("effective_date"))
    return [date.fromisoformat(day) for day in named if day]


def _start(day: date, zone: str) -> Snap:
    return Snap.of(datetime.combine(day, time(), zone_of(zone)).astimezone(UTC))
