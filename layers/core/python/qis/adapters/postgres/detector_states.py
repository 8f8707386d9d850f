"""States of detectors, on PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from qis.adapters.postgres.connection import Database
from qis.application.detectors import Kept, Past
from qis.domain.findings import Fact
from qis.domain.snap import Snap

# Ordered inside, so that the facts of each series are read by their index and not all of them joined.
_SINCE = """
WITH kept AS MATERIALIZED (
    SELECT k.id, s.snap_ns, s.state, s.mark
    FROM json_to_recordset(%(before)s) AS k(id text, before bigint) LEFT JOIN LATERAL (
        SELECT snap_ns, state, mark FROM detector_states
        WHERE reference_data_id = k.id AND snap_ns < k.before ORDER BY snap_ns DESC LIMIT 1
    ) s ON true
)
SELECT id, snap_ns, state, mark, NULL AS status, NULL AS claims, NULL AS volumes
FROM kept WHERE snap_ns IS NOT NULL
UNION ALL
SELECT k.id, f.snap_ns, NULL, NULL, f.status, f.claims, f.volumes FROM kept k CROSS JOIN LATERAL (
    SELECT snap_ns, status, claims, volumes FROM quality_facts
    WHERE reference_data_id = k.id AND snap_ns > coalesce(k.snap_ns, %(ever)s) ORDER BY snap_ns
) f
ORDER BY id, snap_ns
"""

_KEEP = """
WITH given AS MATERIALIZED (
    SELECT id, snap_ns, state, mark
    FROM json_to_recordset(%(states)s) AS x(id text, snap_ns bigint, state text, mark boolean)
), forgotten AS (
    DELETE FROM detector_states d USING json_to_recordset(%(after)s) AS k(id text, after bigint)
    WHERE d.reference_data_id = k.id AND (d.snap_ns > k.after OR (d.snap_ns = k.after AND NOT d.mark))
        AND NOT EXISTS (SELECT FROM given g WHERE g.id = d.reference_data_id AND g.snap_ns = d.snap_ns)
)
INSERT INTO detector_states (reference_data_id, snap_ns, state, mark)
SELECT id, snap_ns, state, mark FROM given
ON CONFLICT (reference_data_id, snap_ns) DO UPDATE SET state = excluded.state, mark = excluded.mark
"""

_EVER = -(2**63)


class PostgresDetectorStates:
    """``DetectorStates`` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def since(self, before: Mapping[str, Snap]) -> Mapping[str, Past]:
        """See ``DetectorStates.since``."""
        wanted = json.dumps([{"id": id_, "before": snap.ns} for id_, snap in before.items()])
        kept: dict[str, Kept] = {}
        facts: dict[str, list[Fact]] = {}
        rows = self._database.connect().execute(_SINCE, {"before": wanted, "ever": _EVER})
        for id_, ns, state, mark, status, claims, volumes in rows:
            known = facts.setdefault(id_, [])
            if state is not None:
                kept[id_] = Kept(Snap(ns), state, mark)
            else:
                known.append(Fact(Snap(ns), status, claims, volumes or {}))
        return {id_: Past(kept.get(id_), known) for id_, known in facts.items()}

    def keep(self, states: Mapping[str, tuple[Snap | None, Sequence[Kept]]]) -> None:
        """See ``DetectorStates.keep``."""
        after = [{"id": i, "after": _EVER if snap is None else snap.ns} for i, (snap, _) in states.items()]
        rows = [
            {"id": id_, "snap_ns": k.snap.ns, "state": k.state, "mark": k.mark}
            for id_, (_, kept) in states.items()
            for k in kept
        ]
        self._database.connect().execute(_KEEP, {"after": json.dumps(after), "states": json.dumps(rows)})
