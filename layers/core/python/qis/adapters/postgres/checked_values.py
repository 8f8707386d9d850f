"""Official values with what business rules may ask of them, on PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from qis.adapters.postgres.connection import Database
from qis.domain.checks import Row
from qis.domain.snap import Snap

_ROW = """
SELECT o.reference_data_id, o.snap_ns, o.value, before.value, coalesce(f.claims, '{}'), others.found
FROM official_values o
LEFT JOIN LATERAL (
    SELECT p.value FROM official_values p
    WHERE p.reference_data_id = o.reference_data_id AND p.snap_ns < o.snap_ns AND p.superseded_at IS NULL
    ORDER BY p.snap_ns DESC LIMIT 1
) before ON true
LEFT JOIN quality_facts f ON f.reference_data_id = o.reference_data_id AND f.snap_ns = o.snap_ns
LEFT JOIN LATERAL (
    SELECT json_object_agg(x.reference_data_id, x.value::text) AS found FROM official_values x
    WHERE x.reference_data_id = ANY(%(others)s) AND x.snap_ns = o.snap_ns AND x.superseded_at IS NULL
      AND x.value IS NOT NULL
) others ON true
WHERE o.superseded_at IS NULL AND
"""

_AT = """
 (o.reference_data_id, o.snap_ns) IN (
    SELECT k.id, s.ns FROM json_to_recordset(%(wanted)s) AS k(id text, ns bigint), LATERAL (
        SELECT k.ns UNION ALL
        (SELECT n.snap_ns FROM official_values n
         WHERE n.reference_data_id = k.id AND n.snap_ns > k.ns AND n.superseded_at IS NULL
         ORDER BY n.snap_ns LIMIT 1)
    ) s(ns)
)
ORDER BY o.reference_data_id, o.snap_ns
"""

_BETWEEN = """
 o.reference_data_id = ANY(%(ids)s) AND o.snap_ns >= %(first)s AND o.snap_ns < %(until)s
ORDER BY o.reference_data_id, o.snap_ns LIMIT %(limit)s
"""


class PostgresCheckedValues:
    """``OfficialValues`` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def at(self, wanted: Mapping[str, Collection[Snap]], others: Collection[str]) -> Sequence[Row]:
        """See ``OfficialValues.at``."""
        keys = [{"id": id_, "ns": s.ns} for id_, snaps in wanted.items() for s in snaps]
        return self._rows(_AT, {"wanted": json.dumps(keys)}, others)

    def between(
        self, ids: Collection[str], first: Snap, until: Snap, others: Collection[str], limit: int
    ) -> Sequence[Row]:
        """See ``OfficialValues.between``."""
        given = {"ids": list(ids), "first": first.ns, "until": until.ns, "limit": limit}
        return self._rows(_BETWEEN, given, others)

    def _rows(self, where: str, given: dict[str, Any], others: Collection[str]) -> Sequence[Row]:
        rows: Iterable[Any] = self._database.connect().execute(
            (_ROW + where).encode(), {**given, "others": list(others)}
        )
        return [
            Row(
                id_,
                Snap(ns),
                value,
                previous,
                {source: Decimal(said) for source, said in claims.items()},
                {other: Decimal(said) for other, said in (found or {}).items()},
            )
            for id_, ns, value, previous, claims, found in rows
        ]
