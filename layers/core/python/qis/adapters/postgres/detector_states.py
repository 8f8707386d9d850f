"""States of detectors, on PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Sequence

from qis.adapters.postgres.connection import Database
from qis.application.detectors import Kept
from qis.domain.findings import Fact
from qis.domain.snap import Snap

_SINCE = """
WITH kept AS MATERIALIZED (
    SELECT snap_ns, state, mark FROM detector_states
    WHERE reference_data_id = %(id)s AND snap_ns < %(before)s ORDER BY snap_ns DESC LIMIT 1
)
SELECT snap_ns, state, mark, NULL AS status, NULL AS claims FROM kept
UNION ALL
SELECT snap_ns, NULL, NULL, status, claims FROM quality_facts
WHERE reference_data_id = %(id)s AND snap_ns > coalesce((SELECT snap_ns FROM kept), %(ever)s)
ORDER BY snap_ns
"""

_KEEP = """
WITH forgotten AS (
    DELETE FROM detector_states WHERE reference_data_id = %(id)s AND NOT snap_ns = ANY (%(snaps)s)
        AND (snap_ns > %(after)s OR (snap_ns = %(after)s AND NOT mark))
)
INSERT INTO detector_states (reference_data_id, snap_ns, state, mark)
SELECT %(id)s, snap_ns, state, mark
FROM json_to_recordset(%(states)s) AS x(snap_ns bigint, state text, mark boolean)
ON CONFLICT (reference_data_id, snap_ns) DO UPDATE SET state = excluded.state, mark = excluded.mark
"""

_EVER = -(2**63)


class PostgresDetectorStates:
    """``DetectorStates`` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def since(self, reference_data_id: str, before: Snap) -> tuple[Kept | None, Sequence[Fact]]:
        """See ``DetectorStates.since``."""
        given = {"id": reference_data_id, "before": before.ns, "ever": _EVER}
        kept, facts = None, []
        for ns, state, mark, status, claims in self._database.connect().execute(_SINCE, given):
            if state is not None:
                kept = Kept(Snap(ns), state, mark)
            else:
                facts.append(Fact(Snap(ns), status, claims))
        return kept, facts

    def keep(self, reference_data_id: str, after: Snap | None, states: Sequence[Kept]) -> None:
        """See ``DetectorStates.keep``."""
        given = {
            "id": reference_data_id,
            "after": _EVER if after is None else after.ns,
            "snaps": [k.snap.ns for k in states],
            "states": json.dumps([{"snap_ns": k.snap.ns, "state": k.state, "mark": k.mark} for k in states]),
        }
        self._database.connect().execute(_KEEP, given)
