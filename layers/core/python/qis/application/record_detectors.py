"""The watcher of records: what speaks against each source's options chains and corporate actions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from qis.application.claimed_records import ClaimedRecords
from qis.application.detectors import finding_of
from qis.application.quality import Seen, Verdict
from qis.domain.series import Kind
from qis.domain.snap import Snap

if TYPE_CHECKING:
    from qis.domain.detection import Found
    from qis.domain.detection.records import Said

KINDS = frozenset({Kind.OPTIONS_CHAIN, Kind.CORPORATE_ACTION})
CHAINS_AT_A_TIME = 8
"""Snaps whose chains are held at once: a chain may have 64 kB, a hundred times what an action has."""


class RecordDetectors:
    """See ``Watcher``."""

    name = "records"

    def __init__(self, records: ClaimedRecords) -> None:
        self._records = records

    def judge(self, batch: Sequence[Seen]) -> Mapping[str, Verdict]:
        """See ``Watcher.judge``. The log is read once for all corporate actions of the batch."""
        of_kind: dict[Kind, list[Seen]] = {}
        for seen in batch:
            of_kind.setdefault(seen.catalogue.series[seen.reference_data_id].kind, []).append(seen)
        verdicts = {s.reference_data_id: self._chains(s) for s in of_kind.get(Kind.OPTIONS_CHAIN, ())}
        if actions := of_kind.get(Kind.CORPORATE_ACTION):
            snaps = {s.reference_data_id: [f.snap for f in s.facts] for s in actions}
            said = self._records.said(batch[0].catalogue, snaps)
            verdicts |= {s.reference_data_id: _actions(s, said[s.reference_data_id]) for s in actions}
        return verdicts

    def _chains(self, seen: Seen) -> Verdict:
        """Findings about the snaps that are new and the one after each: a chain is judged beside that of the
        snap before."""
        from qis.domain.detection.records import FOUND, judge_records

        id_ = seen.reference_data_id
        series = seen.catalogue.series[id_]
        found: list[Found] = []
        judged: list[Snap] = []
        for first, end in _runs(seen):
            snaps = [f.snap for f in seen.facts[max(first - 1, 0) : end]]
            said = self._records.said(seen.catalogue, {id_: snaps})[id_]
            found += [f for f in judge_records(series, said) if f.snap_ns >= seen.facts[first].snap.ns]
            judged += [f.snap for f in seen.facts[first:end]]
        settled = [(kind.value, snap, snap) for kind in sorted(FOUND) for snap in judged]
        return Verdict([finding_of(f) for f in found], settled)


def _runs(seen: Seen) -> Iterator[tuple[int, int]]:
    """The facts to judge, as ranges of indexes (the end is not in it) of at most ``CHAINS_AT_A_TIME``."""
    new = [i for i, fact in enumerate(seen.facts) if fact.snap in seen.arrived]
    wanted = sorted({i for n in new for i in (n, n + 1) if i < len(seen.facts)})
    run: list[int] = []
    for i in wanted:
        if run and (i > run[-1] + 1 or len(run) == CHAINS_AT_A_TIME):
            yield run[0], run[-1] + 1
            run = []
        run.append(i)
    if run:
        yield run[0], run[-1] + 1


def _actions(seen: Seen, said: Sequence[Said]) -> Verdict:
    """Findings about those snaps of which all was judged that may speak for or against them: an action is
    judged beside those of the days before, so it decides on snaps on either side."""
    from qis.domain.detection.records import FOUND, NEAR_NS, judge_records

    series = seen.catalogue.series[seen.reference_data_id]
    first, last = Snap(seen.low.ns - NEAR_NS), Snap(seen.high.ns + NEAR_NS)
    found = [f for f in judge_records(series, said) if first.ns <= f.since_ns <= last.ns]
    return Verdict([finding_of(f) for f in found], [(kind.value, first, last) for kind in sorted(FOUND)])
