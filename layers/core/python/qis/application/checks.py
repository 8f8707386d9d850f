"""Business rules at work: on values as they come and change, and tried on history before that."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from qis.application.ports import CatalogueReader
from qis.application.quality import Seen, Verdict
from qis.domain.checks import Check, Row, finding, holds, kind_of, parse_check
from qis.domain.errors import InvalidInput, refuse
from qis.domain.snap import Snap

MOST_SERIES, MOST_ROWS = 200, 100_000
SHOWN = 100
"""Failing rows of a trial that are given back; all are counted."""


class OfficialValues(Protocol):
    """Current official values with what checks may ask of them."""

    def at(self, wanted: Mapping[str, Collection[Snap]], others: Collection[str]) -> Sequence[Row]:
        """Those of each series at its snaps, and at the next snap after each: its previous value may have
        changed. ``others`` are series whose values at the same snaps are wanted, too."""
        ...

    def between(
        self, ids: Collection[str], first: Snap, until: Snap, others: Collection[str], limit: int
    ) -> Sequence[Row]:
        """Those with ``first`` <= snap < ``until``, by series and snap."""
        ...


class BusinessRules:
    """The watcher of business rules. A value that was corrected is checked again."""

    name = "rules"

    def __init__(self, values: OfficialValues) -> None:
        self._values = values

    def judge(self, batch: Sequence[Seen]) -> Mapping[str, Verdict]:
        """See ``Watcher.judge``. It asks once for the whole batch."""
        checks = {seen.reference_data_id: _checks(seen) for seen in batch}
        wanted = {seen.reference_data_id: seen.arrived for seen in batch if checks[seen.reference_data_id]}
        if not wanted:
            return {}
        others = {i for id_ in wanted for c in checks[id_] for i in c.expression.series}
        rows: dict[str, list[Row]] = {id_: [] for id_ in wanted}
        for row in self._values.at(wanted, others):
            rows[row.reference_data_id].append(row)
        return {id_: _verdict(checks[id_], rows[id_]) for id_ in wanted}


def _checks(seen: Seen) -> list[Check]:
    series = seen.catalogue.series[seen.reference_data_id]
    if series.kind.structured:
        return []
    return [c for c in seen.catalogue.checks.values() if c.applies(series)]


def _verdict(checks: Sequence[Check], rows: Sequence[Row]) -> Verdict:
    found = [finding(c, row) for c in checks if c.active for row in rows if holds(c, row) is False]
    return Verdict(found, [(kind_of(c.check), row.snap, row.snap) for c in checks for row in rows])


class Trial:
    """What-if: a candidate on the official values of the past, without any effect."""

    def __init__(self, values: OfficialValues, catalogue: CatalogueReader) -> None:
        self._values = values
        self._catalogue = catalogue

    def run(self, body: object, first: Snap, until: Snap) -> dict[str, Any]:
        """How many values the rule would have found, and the first of them.

        Raises:
            InvalidInput: the definition breaks a rule, or the trial is too large.
        """
        check = parse_check(body)
        catalogue = self._catalogue.current()
        ids = sorted(i for i, s in catalogue.series.items() if check.applies(s) and not s.kind.structured)
        if len(ids) > MOST_SERIES:
            raise refuse("series", f"({len(ids)})", "count", f"are more than {MOST_SERIES} for one trial")
        rows = self._values.between(ids, first, until, check.expression.series, MOST_ROWS + 1)
        if len(rows) > MOST_ROWS:
            raise _too_many()
        outcomes = [(row, holds(check, row)) for row in rows]
        failing = [row for row, kept in outcomes if kept is False]
        return {
            "check": check.as_json(),
            "window": {"from": first.text, "to": until.text},
            "series": len(ids),
            "values": len(rows),
            "kept": sum(kept is True for _, kept in outcomes),
            "unknown": sum(kept is None for _, kept in outcomes),
            "broken": len(failing),
            "items": [_shown(check, row) for row in failing[:SHOWN]],
        }


def _too_many() -> InvalidInput:
    return refuse("from", "", "window-size", f"the trial is of more than {MOST_ROWS} values; ask for less")


def _shown(check: Check, row: Row) -> dict[str, Any]:
    return {
        "reference_data_id": row.reference_data_id,
        "snap": row.snap.text,
        "measured": row.measured(),
        "threshold": check.expression.text,
    }
