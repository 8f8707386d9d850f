"""The watcher of records: what speaks against each source's options chains and corporate actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from qis.application.claimed_records import ClaimedRecords
from qis.application.detectors import finding_of
from qis.application.quality import Seen, Verdict
from qis.domain.series import Kind
from qis.domain.snap import Snap

if TYPE_CHECKING:
    from qis.domain.detection.records import Said

KINDS = frozenset({Kind.OPTIONS_CHAIN, Kind.CORPORATE_ACTION})


class RecordDetectors:
    """See ``Watcher``."""

    name = "records"

    def __init__(self, records: ClaimedRecords) -> None:
        self._records = records

    def judge(self, batch: Sequence[Seen]) -> Mapping[str, Verdict]:
        """See ``Watcher.judge``. The log is read once for the whole batch."""
        seen = {s.reference_data_id: s for s in batch}
        of_kind = {i: s for i, s in seen.items() if s.catalogue.series[i].kind in KINDS}
        if not of_kind:
            return {}
        said = self._records.said(
            batch[0].catalogue, {i: [f.snap for f in s.facts] for i, s in of_kind.items()}
        )
        return {i: _verdict(s, said[i]) for i, s in of_kind.items()}


def _verdict(seen: Seen, said: Sequence[Said]) -> Verdict:
    """Findings about those snaps of which all was judged that may speak for or against them.

    A chain is judged beside that of the snap before, so what is new decides on its own snap and the next one.
    An action is judged beside those of the days before, so it decides on snaps on either side.
    """
    from qis.domain.detection.records import FOUND, NEAR_NS, judge_records

    series = seen.catalogue.series[seen.reference_data_id]
    first, last = seen.low, seen.facts[-1].snap
    if series.kind is Kind.CORPORATE_ACTION:
        first, last = Snap(seen.low.ns - NEAR_NS), Snap(seen.high.ns + NEAR_NS)
    found = [f for f in judge_records(series, said) if first.ns <= f.since_ns <= last.ns]
    return Verdict([finding_of(f) for f in found], [(kind.value, first, last) for kind in sorted(FOUND)])
