"""Claims entering the event log.

One transaction takes a batch. First, piece by piece, the streams are taken: the server locks them and finds
what they hold while the caller checks the next piece. Then what is new is copied in, the server storing one
run of rows while the next is rendered. Whoever has taken a stream has it, so nothing is lost to other
writers, and nothing repeated.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from qis.adapters.postgres.connection import Database
from qis.adapters.postgres.log import COPY, WAKE_CHANNEL, copy_row, json_text
from qis.application.admission import Known, fates
from qis.application.ports import Admission, Candidate, Fate, Outcome
from qis.domain.events import DATA_INGESTED

if TYPE_CHECKING:
    from psycopg import Connection, Cursor

_TAKE = "SELECT stream, version, recorded_at, claim_id, record_id FROM take_streams(%s)"

_RUN = 100
"""Events whose rows are rendered together."""

_GIVE_BACK = """
UPDATE stream_heads h SET version = x.version
FROM json_to_recordset(%s) AS x(stream text, version integer) WHERE h.stream = x.stream
"""


class PostgresAdmissions:
    """``Admissions`` on PostgreSQL. Not for concurrent use by threads: one per process or worker."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def open(self) -> Iterator[Admission]:
        """See ``Admissions.open``."""
        with self._database.transaction() as connection, ExitStack() as asking:
            yield _Admission(connection, asking)


class _Held(NamedTuple):
    """What the streams of an admission hold. One that is in none of the mappings but the last was made."""

    claims: Known
    versions: dict[str, int]
    moments: dict[str, str]
    """When that is recorded which enters now: the moment of the stream's head."""


class _Admission:
    """``Admission`` in a transaction. ``asking`` holds the pipeline in which streams are taken."""

    def __init__(self, connection: Connection, asking: ExitStack) -> None:
        self._connection = connection
        self._asking = asking
        self._asked: list[tuple[Mapping[str, int], Cursor[Any]]] = []
        self._candidates: list[Candidate] = []

    def take(self, candidates: Sequence[Candidate]) -> None:
        """See ``Admission.take``."""
        if not candidates:
            return
        if not self._asked:
            self._asking.enter_context(self._connection.pipeline())
        wanted: dict[str, int] = {}
        for candidate in candidates:
            wanted[candidate.stream] = wanted.get(candidate.stream, 0) + 1
        given = [{"stream": s, "claims": wanted[s]} for s in sorted(wanted)]
        self._asked.append((wanted, self._connection.execute(_TAKE, (json_text(given),))))
        self._candidates += candidates

    def store(self) -> Sequence[Fate]:
        """See ``Admission.store``."""
        if not self._asked:
            return ()
        self._asking.close()
        held = self._held()
        become = fates(self._candidates, held.claims)
        entering = [c for c, fate in zip(self._candidates, become, strict=True) if fate == "accepted"]
        if entering:
            with self._connection.cursor().copy(COPY) as copy:
                for run in range(0, len(entering), _RUN):
                    copy.write("".join(_rows(entering[run : run + _RUN], held)))
            self._connection.execute(f"NOTIFY {WAKE_CHANNEL}")
        if len(entering) < len(become):
            known = {c.stream for c, f in zip(self._candidates, become, strict=True) if f != "accepted"}
            self._give_back(known, held.versions)
        return become

    def _held(self) -> _Held:
        held = _Held({}, {}, {})
        for wanted, asked in self._asked:
            rows = asked.fetchall()
            held.moments.update(dict.fromkeys(wanted, rows[0][2].isoformat()))
            for stream, version, recorded_at, claim_id, record_id in rows[1:]:
                if stream not in held.claims:
                    held.claims[stream] = {}
                    held.versions[stream] = version - wanted[stream]
                    held.moments[stream] = recorded_at.isoformat()
                if claim_id is not None:
                    held.claims[stream][claim_id] = record_id
        return held

    def _give_back(self, streams: Collection[str], versions: Mapping[str, int]) -> None:
        """Set heads that were moved on too far, by claims that are known."""
        rows = [{"stream": s, "version": versions[s]} for s in sorted(streams)]
        self._connection.execute(_GIVE_BACK, (json_text(rows),))

    def count(self, outcomes: Sequence[Outcome]) -> None:
        """See ``Admission.count``."""
        if outcomes:
            with self._connection.pipeline():
                _count(self._connection, outcomes)


def _rows(entering: Sequence[Candidate], held: _Held) -> list[str]:
    """Rows of new claims, each at the next version of its stream."""
    rows: list[str] = []
    versions, moments = held.versions, held.moments
    for candidate in entering:
        stream = candidate.stream
        versions[stream] = version = versions.get(stream, 0) + 1
        data = json_text(candidate.data())
        actor, load_id = candidate.actor, candidate.load_id
        rows.append(copy_row(stream, version, DATA_INGESTED, data, moments[stream], actor, load_id))
    return rows


_COUNT = """
INSERT INTO loads AS l (load_id, accepted, duplicates, rejected, started_at, updated_at)
SELECT load_id, accepted, duplicates, rejected, clock_timestamp(), clock_timestamp()
FROM json_to_recordset(%s) AS x(load_id text, accepted bigint, duplicates bigint, rejected bigint)
ORDER BY load_id
ON CONFLICT (load_id) DO UPDATE SET accepted = l.accepted + excluded.accepted,
    duplicates = l.duplicates + excluded.duplicates, rejected = l.rejected + excluded.rejected,
    updated_at = excluded.updated_at
"""

_KEEP = """
INSERT INTO ingest_outcomes (record_id, load_id, outcome, claim_id, violations, payload, recorded_at)
SELECT record_id, load_id, outcome, claim_id, violations, decode(payload, 'hex'), clock_timestamp()
FROM json_to_recordset(%s) AS x(record_id text, load_id text, outcome text, claim_id uuid,
                                violations jsonb, payload text)
ORDER BY record_id
ON CONFLICT (record_id) DO NOTHING RETURNING load_id, outcome
"""

_FORGET = """
DELETE FROM ingest_outcomes WHERE record_id IN (SELECT json_array_elements_text(%s::json))
RETURNING load_id, outcome
"""

# Looks only where the load has rejections at all, which most have not.
_FORGET_REJECTED = """
DELETE FROM ingest_outcomes
WHERE EXISTS (
    SELECT FROM ingest_outcomes o JOIN json_array_elements_text(%s::json) AS l (id) ON o.load_id = l.id
    WHERE o.outcome = 'rejected'
) AND record_id IN (SELECT json_array_elements_text(%s::json))
RETURNING load_id, outcome
"""


def _forget(connection: Connection, outcomes: Sequence[Outcome]) -> list[tuple[str, str]]:
    """Drop earlier outcomes of records that have another now. Returns their loads and what they were."""
    found: list[tuple[str, str]] = []
    redriven = [o.record_id for o in outcomes if o.redriven]
    if redriven:
        found += connection.execute(_FORGET, (json_text(redriven),)).fetchall()
    accepted = [o for o in outcomes if o.kind == "accepted" and not o.redriven]
    if accepted:
        given = json_text(sorted({o.load_id for o in accepted})), json_text([o.record_id for o in accepted])
        found += connection.execute(_FORGET_REJECTED, given).fetchall()
    return found


def _count(connection: Connection, outcomes: Sequence[Outcome]) -> None:
    """Count each record once, however often it is delivered.

    An accepted record is counted by the transaction that stores its event, which happens once. Of the others
    the first outcome is kept under the record's id; a redelivery finds it and is not counted again. One that
    is accepted now, because what it lacked was registered in between, moves from rejected to accepted.
    """
    counts: dict[str, dict[str, int]] = {}

    def count(load_id: str, kind: str, by: int) -> None:
        load = counts.setdefault(load_id, {"accepted": 0, "duplicate": 0, "rejected": 0})
        load[kind] += by

    for load_id, kind in _forget(connection, outcomes):
        count(load_id, kind, -1)
    kept = [
        {
            "record_id": o.record_id,
            "load_id": o.load_id,
            "outcome": o.kind,
            "claim_id": o.claim_id,
            "violations": list(o.violations) or None,
            "payload": o.payload.hex(),
        }
        for o in outcomes
        if o.kind != "accepted"
    ]
    if kept:
        for load_id, kind in connection.execute(_KEEP, (json.dumps(kept),)):
            count(load_id, kind, 1)
    for outcome in outcomes:
        if outcome.kind == "accepted":
            count(outcome.load_id, "accepted", 1)
    rows = [
        {
            "load_id": load_id,
            "accepted": c["accepted"],
            "duplicates": c["duplicate"],
            "rejected": c["rejected"],
        }
        for load_id, c in counts.items()
    ]
    if rows:
        connection.execute(_COUNT, (json.dumps(rows),))
