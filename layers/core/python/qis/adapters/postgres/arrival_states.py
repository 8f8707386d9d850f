"""The order in which claims came, on PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from qis.adapters.postgres.connection import Database
from qis.application.arrivals import Arrived
from qis.domain.events import Position

_LOAD = """
SELECT s.reference_data_id, s.state FROM json_array_elements_text(%s::json) AS k(id)
JOIN arrival_states s ON s.reference_data_id = k.id
"""

_KEEP = """
INSERT INTO arrival_states (reference_data_id, state)
SELECT id, state FROM json_to_recordset(%s) AS x(id text, state jsonb)
ON CONFLICT (reference_data_id) DO UPDATE SET state = excluded.state
"""


class PostgresArrivalStates:
    """``ArrivalStates`` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self, ids: Collection[str]) -> Mapping[str, Arrived]:
        """See ``ArrivalStates.load``."""
        rows = self._database.connect().execute(_LOAD, (json.dumps(list(ids)),))
        return {id_: Arrived(Position.parse(state["at"]), state["sources"]) for id_, state in rows}

    def keep(self, arrived: Mapping[str, Arrived]) -> None:
        """See ``ArrivalStates.keep``."""
        rows = [{"id": id_, "state": {"at": a.at.token, "sources": a.sources}} for id_, a in arrived.items()]
        self._database.connect().execute(_KEEP, (json.dumps(rows),))
