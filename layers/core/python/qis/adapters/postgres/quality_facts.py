"""What each source said per snap, on PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from qis.adapters.postgres.connection import Database
from qis.adapters.postgres.log import COLUMNS, claims_of, event_of
from qis.application.quality import ClaimEntry, OpenFinding, Progress
from qis.domain.events import Data, Position, value_stream
from qis.domain.findings import Fact
from qis.domain.snap import Snap

_KEEP = """
INSERT INTO quality_facts AS f (reference_data_id, snap_ns, tx, position, status, claims, volumes)
SELECT DISTINCT ON (id, ns) id, ns, tx, position, status, claims, volumes
FROM json_to_recordset(%s)
    AS x(id text, ns bigint, tx xid8, position bigint, status text, claims jsonb, volumes jsonb)
ORDER BY id, ns, tx DESC, position DESC
ON CONFLICT (reference_data_id, snap_ns) DO UPDATE
SET tx = excluded.tx, position = excluded.position, status = excluded.status, claims = excluded.claims,
    volumes = excluded.volumes
WHERE (f.tx, f.position) < (excluded.tx, excluded.position)
"""

_AROUND = """
SELECT k.id, f.snap_ns, f.status, f.claims, f.volumes
FROM json_to_recordset(%s) AS k(id text, low bigint, high bigint, reach integer)
CROSS JOIN LATERAL (
    (SELECT snap_ns, status, claims, volumes FROM quality_facts
     WHERE reference_data_id = k.id AND snap_ns < k.low ORDER BY snap_ns DESC LIMIT k.reach)
    UNION ALL
    (SELECT snap_ns, status, claims, volumes FROM quality_facts
     WHERE reference_data_id = k.id AND snap_ns BETWEEN k.low AND k.high)
    UNION ALL
    (SELECT snap_ns, status, claims, volumes FROM quality_facts
     WHERE reference_data_id = k.id AND snap_ns > k.high ORDER BY snap_ns LIMIT k.reach)
) f
ORDER BY k.id, f.snap_ns
"""

_CLAIMED = f"""
SELECT {COLUMNS} FROM json_to_recordset(%s) AS k(head text, number integer, moment timestamptz)
JOIN events e ON e.stream = k.head AND e.version = k.number AND e.recorded_at = k.moment
"""  # noqa: S608 - the only thing interpolated is the constant list of columns

_LAST = """
SELECT DISTINCT ON (reference_data_id) reference_data_id, snap_ns, status, claims, volumes
FROM quality_facts ORDER BY reference_data_id, snap_ns DESC
"""

_OPEN = """
SELECT e.issue_id, e.details ->> 'kind', e.reference_data_id, e.snap_ns, e.details ->> 'source'
FROM exceptions e
WHERE e.status = 'open' AND e.details -> 'gate' = 'false'
  AND e.reference_data_id IN (SELECT json_array_elements_text(%s::json))
"""

_SCORES = """
SELECT details -> 'quality' FROM official_values
WHERE reference_data_id = %s AND snap_ns BETWEEN %s AND %s AND superseded_at IS NULL ORDER BY snap_ns
"""


_ADVANCE = """
INSERT INTO quality_runs AS r (work, hour, reached) VALUES (%s, %s, %s)
ON CONFLICT (work) DO UPDATE SET hour = excluded.hour, reached = excluded.reached
WHERE r.hour < excluded.hour
    OR (r.hour = excluded.hour AND (excluded.reached IS NULL OR r.reached < excluded.reached))
"""


class PostgresFacts:
    """``Facts`` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, rows: Sequence[tuple[str, Fact, Position]]) -> None:
        """See ``Facts.keep``."""
        given = [
            {
                "id": id_,
                "ns": fact.snap.ns,
                "tx": str(at.tx),
                "position": at.sequence,
                "status": fact.status,
                "claims": dict(fact.claims),
                "volumes": dict(fact.volumes) or None,
            }
            for id_, fact, at in rows
        ]
        self._database.connect().execute(_KEEP, (json.dumps(given),))

    def around(
        self, spans: Mapping[str, tuple[Snap, Snap]], reach: Mapping[str, int]
    ) -> Mapping[str, list[Fact]]:
        """See ``Facts.around``."""
        wanted = [
            {"id": i, "low": low.ns, "high": high.ns, "reach": reach[i]} for i, (low, high) in spans.items()
        ]
        found: dict[str, list[Fact]] = {}
        rows = self._database.connect().execute(_AROUND, (json.dumps(wanted),))
        for id_, ns, status, claims, volumes in rows:
            found.setdefault(id_, []).append(Fact(Snap(ns), status, claims, volumes or {}))
        return found

    def claims(self, wanted: Mapping[str, Collection[Snap]]) -> Sequence[ClaimEntry]:
        """See ``Facts.claims``."""
        keys = {value_stream(i, s.text): (i, s) for i, snaps in wanted.items() for s in snaps}
        return [
            ClaimEntry(*keys[row.stream], row.version, row.source, row.received_at, row.recorded_at)
            for row in claims_of(self._database.connect(), keys)
        ]

    def claimed(self, entries: Collection[ClaimEntry]) -> Sequence[Data]:
        """See ``Facts.claimed``."""
        given = [
            {
                "head": value_stream(e.reference_data_id, e.snap.text),
                "number": e.version,
                "moment": e.recorded_at.isoformat(),
            }
            for e in entries
        ]
        rows = self._database.connect().execute(_CLAIMED, (json.dumps(given),))
        return [event_of(row).data for row in rows]

    def open_findings(self, ids: Collection[str]) -> Sequence[OpenFinding]:
        """See ``Facts.open_findings``."""
        rows = self._database.connect().execute(_OPEN, (json.dumps(list(ids)),))
        return [OpenFinding(item, (kind, id_, Snap(ns), source)) for item, kind, id_, ns, source in rows]

    def last(self) -> Mapping[str, Fact]:
        """See ``Facts.last``."""
        rows = self._database.connect().execute(_LAST)
        return {i: Fact(Snap(ns), status, claims, volumes or {}) for i, ns, status, claims, volumes in rows}

    def progress(self, work: str) -> Progress | None:
        """See ``Facts.progress``."""
        query = "SELECT hour, reached FROM quality_runs WHERE work = %s"
        row = self._database.connect().execute(query, (work,)).fetchone()
        return None if row is None else Progress(*row)

    def advance(self, work: str, progress: Progress) -> None:
        """See ``Facts.advance``."""
        self._database.connect().execute(_ADVANCE, (work, *progress))

    def official_scores(self, reference_data_id: str, since: Snap, until: Snap) -> list[dict[str, Any]]:
        """See ``Facts.official_scores``."""
        rows = self._database.connect().execute(_SCORES, (reference_data_id, since.ns, until.ns))
        return [row[0] for row in rows]
