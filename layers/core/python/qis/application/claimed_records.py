"""What sources claim of records: read from the log, where the documents are, at snaps that facts name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any

from qis.domain.claims import Claim, chronological
from qis.domain.series import Kind
from qis.domain.snap import Snap, zone_of

if TYPE_CHECKING:
    from qis.application.ports import Catalogue
    from qis.application.quality import ClaimEntry, Facts
    from qis.domain.detection.explained import Events
    from qis.domain.detection.records import Said
    from qis.domain.kinds.record import Record

Span = tuple[Snap, Snap]
ACTIONS_AT_A_TIME = 500
"""Corporate actions that are read at once; they are a kilobyte each."""


class ClaimedRecords:
    """Claims of records as the detectors want them. A document is read only where it is looked at: a snap may
    have many claims, each of the largest size."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def said(self, catalogue: Catalogue, wanted: Mapping[str, Collection[Snap]]) -> Mapping[str, list[Said]]:
        """The last claim of each source at snaps of series, with its document."""
        from qis.domain.detection.records import said_of

        by_key: dict[tuple[str, Snap], list[ClaimEntry]] = {}
        for entry in self._facts.claims(wanted):
            by_key.setdefault((entry.reference_data_id, entry.snap), []).append(entry)
        last: list[ClaimEntry] = []
        for entries in by_key.values():
            ordered = chronological((e, Snap.of(e.recorded_at)) for e in entries)
            last += {e.source: e for e in ordered}.values()
        found: dict[str, list[Claim[Record]]] = {id_: [] for id_ in wanted}
        for data in self._facts.claimed(last):
            id_ = data["reference_data_id"]
            found[id_].append(Claim.from_json(data, catalogue.series[id_].structure))
        return {id_: said_of(claims) for id_, claims in found.items()}

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

        days_of: dict[str, set[date]] = {}
        entries = self._facts.claims(wanted)
        for start in range(0, len(entries), ACTIONS_AT_A_TIME):
            for data in self._facts.claimed(entries[start : start + ACTIONS_AT_A_TIME]):
                days_of.setdefault(data["reference_data_id"], set()).update(_days(data["value"]))
        found: dict[str, set[Snap]] = {}
        for id_, days in days_of.items():
            for price in moved_by[id_]:
                if price in catalogue.series and days:
                    zone = day_zone(catalogue.series[price])
                    found.setdefault(price, set()).update(_start(day, zone) for day in days)
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


def _days(document: Mapping[str, Any]) -> Iterable[date]:
    named = (document.get("ex_date"), document.get("effective_date"))
    return [date.fromisoformat(day) for day in named if day]


def _start(day: date, zone: str) -> Snap:
    return Snap.of(datetime.combine(day, time(), zone_of(zone)).astimezone(UTC))
