"""Claims entering the event log.

One transaction takes a batch. First its streams are taken: the server locks them and finds what they hold
while the caller checks the claims. Then what is new is copied in, the server storing one run of rows while
the next is rendered. Whoever has taken a stream has it, so nothing is lost to other writers, and nothing
repeated.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from qis.adapters.postgres import receipts
from qis.adapters.postgres.connection import Database
from qis.adapters.postgres.log import COPY, WAKE_CHANNEL, claims_of, copy_row, json_text
from qis.application.admission import Held, HeldClaim, accepted_records, sort_out
from qis.application.ports import Admission, Candidate, RecordOutcome, Rejection, Stored
from qis.application.raw import RawBatch
from qis.domain.events import DATA_INGESTED
from qis.domain.snap import Snap, parse_instant

if TYPE_CHECKING:
    from psycopg import Connection, Cursor

_TAKE = "SELECT stream, version, recorded_at, claim_id, record_id FROM take_streams(%s, %s)"

_KEEP_RAW = """
INSERT INTO raw_batches (address, body, kept_at) VALUES (%s, %s, clock_timestamp())
ON CONFLICT (address) DO NOTHING
"""

_RUN = 100
"""Events whose rows are rendered together."""

_DUPLICATES = """
SELECT record_id FROM ingest_outcomes
WHERE record_id IN (SELECT json_array_elements_text(%s::json)) AND outcome = 'duplicate'
"""

_GIVE_BACK = "SELECT give_back_streams(%s, %s)"


class PostgresAdmissions:
    """``Admissions`` on PostgreSQL. Not for concurrent use by threads: one per process or worker."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def open(self) -> Iterator[Admission]:
        """See ``Admissions.open``."""
        with self._database.transaction() as connection, ExitStack() as asking:
            yield _Admission(connection, asking)


class _Found(NamedTuple):
    """What the streams were found to be. One that is in ``claims`` not at all was made."""

    claims: Held
    versions: dict[str, int]
    """Before anything of this admission entered."""
    moments: dict[str, str]
    """When that is recorded which enters a stream that was there."""
    moment: str
    """When that is recorded which enters the others."""


class _Lookup:
    """``Lookup`` in the transaction of an admission."""

    def __init__(self, connection: Connection, found: _Found) -> None:
        self._connection = connection
        self._found = found

    def claims(self, streams: Collection[str]) -> Mapping[str, list[HeldClaim]]:
        """See ``Lookup.claims``."""
        claims: dict[str, list[HeldClaim]] = {}
        for row in claims_of(self._connection, streams):
            claim = HeldClaim(row.claim_id, row.source, row.received_at, Snap.of(row.recorded_at))
            claims.setdefault(row.stream, []).append(claim)
        return claims

    def duplicates(self, records: Collection[str]) -> frozenset[str]:
        """See ``Lookup.duplicates``."""
        rows = self._connection.execute(_DUPLICATES, (json_text(sorted(records)),))
        return frozenset(record_id for (record_id,) in rows)

    def recorded_at(self, stream: str) -> Snap:
        """See ``Lookup.recorded_at``."""
        return parse_instant(self._found.moments.get(stream, self._found.moment), "recorded_at")


class _Admission:
    """``Admission`` in a transaction. ``asking`` holds the pipeline in which streams are taken."""

    def __init__(self, connection: Connection, asking: ExitStack) -> None:
        self._connection = connection
        self._asking = asking
        self._wanted: Counter[str] = Counter()
        self._asked: Cursor[Any] | None = None
        self._entered: list[Candidate] = []
        self._duplicates: list[Candidate] = []
        self._mixed: frozenset[str] = frozenset()
        self._held: Held = {}
        """What the streams hold, with what entered."""

    def find_receipt(self, actor: str, idempotency_key: str) -> tuple[bytes, dict[str, Any]] | None:
        """See ``Admission.find_receipt``."""
        return receipts.find(self._connection, actor, idempotency_key)

    def keep_receipt(
        self,
        receipt: UUID,
        actor: str,
        idempotency_key: str | None,
        request_hash: bytes,
        answer: dict[str, Any],
    ) -> None:
        """See ``Admission.keep_receipt``."""
        receipts.keep(self._connection, receipt, actor, idempotency_key, request_hash, answer)

    def take(self, streams: Sequence[str]) -> None:
        """See ``Admission.take``."""
        if not streams:
            return
        self._wanted = Counter(streams)
        self._asking.enter_context(self._connection.pipeline())
        names = sorted(self._wanted)
        given = json_text(names), json_text([self._wanted[n] for n in names])
        self._asked = self._connection.execute(_TAKE, given)

    def keep(self, raw: RawBatch) -> None:
        """See ``Admission.keep``."""
        self._connection.execute(_KEEP_RAW, (raw.address, raw.body))

    def store(self, candidates: Sequence[Candidate]) -> Stored:
        """See ``Admission.store``."""
        if self._asked is None:
            return Stored({}, ())
        loads = json_text(sorted({c.load_id for c in candidates}))
        mixed = self._connection.execute(_MIXED, (loads,))
        self._asking.close()
        self._mixed = frozenset(load_id for (load_id,) in mixed)
        found = self._found(self._asked)
        stored = sort_out(candidates, found.claims, _Lookup(self._connection, found))
        known, entering = stored
        self._held = found.claims
        if known:
            self._duplicates = [c for c in candidates if known.get(c.place) == "duplicate"]
        self._entered = candidates = list(entering)
        if candidates:
            with self._connection.cursor().copy(COPY) as copy:
                for run in range(0, len(candidates), _RUN):
                    copy.write("".join(_rows(candidates[run : run + _RUN], found)))
            self._connection.execute(f"NOTIFY {WAKE_CHANNEL}")
        if len(candidates) < self._wanted.total():
            self._give_back(found.versions)
        return stored

    def _found(self, asked: Cursor[Any]) -> _Found:
        rows = iter(asked)
        found = _Found({}, {}, {}, next(rows)[2].isoformat())
        for stream, version, recorded_at, claim_id, record_id in rows:
            if stream not in found.claims:
                found.claims[stream] = {}
                found.versions[stream] = version - self._wanted[stream]
                found.moments[stream] = recorded_at.isoformat()
            if claim_id is not None:
                found.claims[stream][claim_id] = record_id
        return found

    def _give_back(self, versions: Mapping[str, int]) -> None:
        """Put heads where they belong that were moved on too far; ``versions``: where they are now right."""
        entered = Counter([c.stream for c in self._entered])
        less = sorted(s for s, wanted in self._wanted.items() if entered[s] < wanted)
        given = json_text(less), json_text([versions.get(s, 0) for s in less])
        self._connection.execute(_GIVE_BACK, given)

    def count(self, rejected: Sequence[Rejection]) -> Mapping[str, RecordOutcome]:
        """See ``Admission.count``.

        A record that enters is counted by the transaction that stores its event, which happens once. Of the
        others the first outcome is kept under the record's id; a redelivery finds it and is not counted
        again. One that enters now, because what it lacked was registered in between, moves from rejected to
        accepted.
        """
        entered, duplicates = self._entered, self._duplicates
        standing = accepted_records([r.record_id for r in rejected], self._held) if rejected else {}
        rejected = [r for r in rejected if r.record_id not in standing]
        counts = Counter([(c.load_id, "accepted") for c in entered])
        earlier = [c.record_id for c in entered if c.redriven or c.load_id in self._mixed]
        earlier += [d.record_id for d in duplicates if d.redriven]
        earlier += [r.record_id for r in rejected if r.redriven]
        with self._connection.pipeline():
            if earlier:
                counts.subtract(self._forget(earlier))
            if duplicates or rejected:
                outcomes = _outcomes(duplicates, rejected)
                new = self._keep(list(outcomes.values()))
                counts.update([(load_id, outcome) for _, load_id, outcome in new])
                standing |= self._standing(rejected, {r: outcomes[r] for r, _, _ in new})
            if counts:
                self._add(counts)
        return standing

    def _forget(self, records: Sequence[str]) -> list[tuple[str, str]]:
        """Drop rejections of records that have another outcome now. Returns their loads and outcomes."""
        return self._connection.execute(_FORGET, (json_text(records),)).fetchall()

    def _keep(self, outcomes: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
        """Keep outcomes of records that have none. Returns the records, loads and outcomes that are new."""
        return self._connection.execute(_KEEP, (json.dumps(outcomes),)).fetchall()

    def _standing(
        self, rejected: Sequence[Rejection], new: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, RecordOutcome]:
        """Outcomes on record of the rejected; only those that are not new are looked up."""
        standing: dict[str, RecordOutcome] = {}
        for r in reversed(rejected):
            # One that is neither new nor on record was redriven at this moment, and forgotten by that.
            outcome = new.get(r.record_id, {"outcome": "rejected", "claim_id": None})
            violations = outcome.get("violations", r.violations) or ()
            standing[r.record_id] = RecordOutcome(outcome["outcome"], outcome["claim_id"], None, violations)
        if others := sorted(standing.keys() - new.keys()):
            for record_id, *stands in self._connection.execute(_STANDING, (json_text(others),)):
                kind, claim_id, violations = stands
                standing[record_id] = RecordOutcome(
                    kind, claim_id.hex if claim_id else None, None, violations or ()
                )
        return standing

    def _add(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Add to what is counted of loads."""
        rows: dict[str, dict[str, Any]] = {}
        for (load_id, kind), count in counts.items():
            none = {"load_id": load_id, "accepted": 0, "duplicate": 0, "rejected": 0}
            rows.setdefault(load_id, none)[kind] += count
        self._connection.execute(_COUNT, (json_text(list(rows.values())),))


def _outcomes(duplicates: Sequence[Candidate], rejected: Sequence[Rejection]) -> dict[str, dict[str, Any]]:
    """Rows of outcomes by record, the first of each."""
    outcomes: dict[str, dict[str, Any]] = {}
    row: dict[str, Any]
    for c in duplicates:
        row = {"record_id": c.record_id, "load_id": c.load_id, "outcome": "duplicate"}
        row |= {"claim_id": c.claim.claim_id, "violations": None, "payload": ""}
        outcomes.setdefault(c.record_id, row)
    for r in rejected:
        row = {"record_id": r.record_id, "load_id": r.load_id, "outcome": "rejected"}
        row |= {"claim_id": None, "violations": list(r.violations), "payload": r.payload.hex()}
        outcomes.setdefault(r.record_id, row)
    return outcomes


def _rows(entering: Sequence[Candidate], found: _Found) -> list[str]:
    """Rows of new claims, each at the next version of its stream; the versions move on."""
    rows: list[str] = []
    versions, moments, moment = found.versions, found.moments, found.moment
    for candidate in entering:
        claim, stream, _, load_id, actor, _, _, _ = candidate
        versions[stream] = version = versions.get(stream, 0) + 1
        # A claim enters once, so that its identity does for its event.
        event_id, at, data = claim.claim_id, moments.get(stream, moment), json_text(candidate.data())
        rows.append(copy_row(event_id, stream, version, DATA_INGESTED, data, at, actor, load_id))
    return rows


# Loads that have rejections, which most do not have: a record of theirs may have been rejected before.
_MIXED = """
SELECT load_id FROM loads WHERE load_id IN (SELECT json_array_elements_text(%s::json)) AND rejected > 0
"""

_COUNT = """
INSERT INTO loads AS l (load_id, accepted, duplicates, rejected, started_at, updated_at)
SELECT load_id, accepted, duplicate, rejected, clock_timestamp(), clock_timestamp()
FROM json_to_recordset(%s) AS x(load_id text, accepted bigint, duplicate bigint, rejected bigint)
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
ON CONFLICT (record_id) DO NOTHING RETURNING record_id, load_id, outcome
"""

# A statement of its own, so that it sees what another delivery committed while the one before waited for it.
_STANDING = """
SELECT record_id, outcome, claim_id, violations FROM ingest_outcomes
WHERE record_id IN (SELECT json_array_elements_text(%s::json))
"""

_FORGET = """
DELETE FROM ingest_outcomes
WHERE record_id IN (SELECT json_array_elements_text(%s::json)) AND outcome = 'rejected'
RETURNING load_id, outcome
"""
