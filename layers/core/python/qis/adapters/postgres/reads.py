# ruff: noqa: S608 - statements are put together from constants of this module; values are parameters
"""The read models and the log as the queries see them.

A point read is one seek in the primary key of ``official_values``, whether for now or as of a moment: the
key ends in ``recorded_from`` and is walked backwards from the asked moment. By log position it walks back
over the versions that came later, a handful.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from qis.adapters.postgres.log import COLUMNS, event_of
from qis.application.ports import Unavailable
from qis.application.reading import (
    Entry,
    ExceptionRow,
    Knowledge,
    Load,
    LoadOutcome,
    Moment,
    NotSettled,
    OfficialRow,
    ValueState,
)
from qis.domain.events import Event, Position, metrics_stream, quality_stream, series_stream, value_stream
from qis.domain.kinds.record import Record
from qis.domain.snap import Snap

if TYPE_CHECKING:
    from psycopg import Connection

    from qis.adapters.postgres.connection import Database

SETTLE_WITHIN = 2.0
_POLL = 0.005

_MOMENT = "pg_snapshot_xmin(pg_current_snapshot())::text AS horizon, clock_timestamp() AS clock"
_ROW = "o.value, o.record, o.version, o.recorded_from, o.tx::text, o.position, o.details"

# Which version of a value was known; `o` is official_values.
_LATEST = "o.superseded_at IS NULL"
_AS_OF = "o.recorded_from <= %(as_of)s AND (o.superseded_at IS NULL OR o.superseded_at > %(as_of)s)"
_BASIS = (
    "(o.tx, o.position) <= (%(tx)s::xid8, %(position)s) AND (o.superseded_tx IS NULL"
    " OR (o.superseded_tx, o.superseded_position) > (%(tx)s::xid8, %(position)s))"
)

# For one snap the versions follow each other, so the last that began in time is the one; its end need not
# be looked at, and the seek ends at the first row.
_POINT_LATEST = ""
_POINT_AS_OF = "AND o.recorded_from <= %(as_of)s"
_POINT_BASIS = "AND (o.tx, o.position) <= (%(tx)s::xid8, %(position)s)"

_POINT = f"""
SELECT {_MOMENT}, {_ROW} FROM (VALUES (1)) one LEFT JOIN LATERAL (
    SELECT * FROM official_values o
    WHERE o.reference_data_id = %(id)s AND o.snap_ns = %(ns)s {{known}}
    ORDER BY o.recorded_from DESC LIMIT 1
) o ON true
"""

_SEVERAL = f"""
SELECT k.n, {_ROW} FROM json_to_recordset(%(keys)s) AS k(n integer, id text, ns bigint)
JOIN LATERAL (
    SELECT * FROM official_values o
    WHERE o.reference_data_id = k.id AND o.snap_ns = k.ns {{known}}
    ORDER BY o.recorded_from DESC LIMIT 1
) o ON true
"""

_PAGE = f"""
SELECT o.snap_ns, {_ROW} FROM official_values o
WHERE o.reference_data_id = %(id)s AND o.snap_ns >= %(first)s AND o.snap_ns < %(until)s AND {{known}}
ORDER BY o.snap_ns LIMIT %(limit)s
"""

# From period to period: a seek to the first value after the last period gives the next one, a seek back from
# its end the last value in it. Days of a minute series cost two seeks each, not a walk over their minutes.
_PAGE_BY = f"""
WITH RECURSIVE period(ends, n) AS (
    SELECT %(first)s::bigint, 0
    UNION ALL
    SELECT (extract(epoch FROM (
        date_trunc(%(granularity)s, f.snap AT TIME ZONE 'UTC') + ('1 ' || %(granularity)s)::interval
    )) * 1000000000)::bigint, p.n + 1
    FROM period p CROSS JOIN LATERAL (
        SELECT o.snap FROM official_values o
        WHERE o.reference_data_id = %(id)s AND o.snap_ns >= p.ends AND o.snap_ns < %(until)s AND {{known}}
        ORDER BY o.snap_ns LIMIT 1
    ) f
    WHERE p.n < %(limit)s
)
SELECT o.snap_ns, {_ROW} FROM period p CROSS JOIN LATERAL (
    SELECT * FROM official_values o
    WHERE o.reference_data_id = %(id)s AND o.snap_ns < least(p.ends, %(until)s) AND {{known}}
    ORDER BY o.snap_ns DESC LIMIT 1
) o
WHERE p.n > 0 ORDER BY p.n
"""

_EVENT = ", ".join(f"e.{c.strip()}" for c in COLUMNS.split(","))
_EVENTS_LATEST = ""
_EVENTS_AS_OF = "AND e.recorded_at <= %(as_of)s"
_EVENTS_BASIS = "AND (e.tx, e.position) <= (%(tx)s::xid8, %(position)s)"

_EVENTS = f"""
SELECT {_EVENT} FROM stream_heads h JOIN LATERAL (
    SELECT * FROM events e WHERE e.stream = h.stream AND e.recorded_at >= h.first_at {{known}}
) e ON true
WHERE h.stream IN (SELECT json_array_elements_text(%(streams)s::json))
ORDER BY e.stream, e.version
"""

_AUDIT_RANGE = f"""
(SELECT {_EVENT} FROM events e
 WHERE e.stream >= %(low{{n}})s AND e.stream < %(high{{n}})s
   AND (e.stream, e.version) > (%(stream)s, %(version)s) {{known}}
 ORDER BY e.stream, e.version LIMIT %(limit)s)
"""

_STATES = f"""
SELECT k.n, d.status, {_ROW} FROM json_to_recordset(%(keys)s) AS k(n integer, id text, ns bigint)
LEFT JOIN decisions d ON d.reference_data_id = k.id AND d.snap_ns = k.ns
LEFT JOIN official_values o ON o.reference_data_id = k.id AND o.snap_ns = k.ns AND {_LATEST}
ORDER BY k.n
"""

_EXCEPTION = "issue_id, reference_data_id, snap_ns, status, opened_at, closed_at, closed_by, details"


class PostgresReads:
    """``Reads`` on PostgreSQL. Not for concurrent use by threads: one per process or worker."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ready(self) -> None:
        """See ``Reads.ready``."""
        import psycopg

        try:
            self._all("SELECT revision FROM catalogue_revision", {})
        except psycopg.ProgrammingError as error:
            raise Unavailable("the database schema is not there") from error

    def moment(self) -> Moment:
        """See ``Reads.moment``."""
        ((horizon, clock),) = self._all(f"SELECT {_MOMENT}", {})
        return _moment(horizon, clock)

    def settle(self) -> Moment:
        """See ``Reads.settle``.

        The snapshot alone does not name the newest transactions that are running (its xmax is one past the
        last *finished* one), so a transaction id is taken: whatever was running at the request has a lower
        one. It is given back at once, being a transaction of its own.
        """
        ((own,),) = self._all("SELECT pg_current_xact_id()::text", {})
        deadline = time.monotonic() + SETTLE_WITHIN
        while (moment := self.moment()).horizon.tx < int(own):
            if time.monotonic() > deadline:
                raise NotSettled("a transaction that may belong to the answer is still running")
            time.sleep(_POLL)
        return moment

    def point(self, reference_data_id: str, snap: Snap, at: Knowledge) -> tuple[Moment, OfficialRow | None]:
        """See ``Reads.point``."""
        known, given = _point_known(at)
        ((horizon, clock, *row),) = self._all(
            _POINT.format(known=known), {"id": reference_data_id, "ns": snap.ns, **given}
        )
        found = None if row[2] is None else _official(reference_data_id, snap, row)
        return _moment(horizon, clock), found

    def several(self, keys: Sequence[tuple[str, Snap]], at: Knowledge) -> list[OfficialRow | None]:
        """See ``Reads.several``."""
        known, given = _point_known(at)
        found: list[OfficialRow | None] = [None] * len(keys)
        for n, *row in self._all(_SEVERAL.format(known=known), {"keys": _keys(keys), **given}):
            id_, snap = keys[n]
            found[n] = _official(id_, snap, row)
        return found

    def page(
        self,
        reference_data_id: str,
        first: Snap,
        until: Snap,
        at: Knowledge,
        granularity: str | None,
        limit: int,
    ) -> list[OfficialRow]:
        """See ``Reads.page``."""
        known, given = _range_known(at)
        given |= {"id": reference_data_id, "first": first.ns, "until": until.ns, "limit": limit}
        given |= {"granularity": granularity}
        query = (_PAGE if granularity is None else _PAGE_BY).format(known=known)
        return [_official(reference_data_id, Snap(row[0]), row[1:]) for row in self._all(query, given)]

    def scores(self, reference_data_id: str, first: Snap, until: Snap, limit: int) -> list[dict[str, Any]]:
        """See ``Reads.scores``."""
        rows = self._all(
            "SELECT o.details -> 'quality' FROM official_values o WHERE o.reference_data_id = %(id)s"
            f" AND o.snap_ns >= %(first)s AND o.snap_ns < %(until)s AND {_LATEST}"
            " ORDER BY o.snap_ns LIMIT %(limit)s",
            {"id": reference_data_id, "first": first.ns, "until": until.ns, "limit": limit},
        )
        return [row[0] for row in rows]

    def events(self, streams: Sequence[str], at: Knowledge) -> list[Event]:
        """See ``Reads.events``."""
        known, given = _events_known(at)
        rows = self._all(_EVENTS.format(known=known), {"streams": json.dumps(list(streams)), **given})
        return [event_of(row) for row in rows]

    def audit(
        self, reference_data_id: str, snap: Snap | None, at: Knowledge, after: tuple[str, int], limit: int
    ) -> list[Event]:
        """See ``Reads.audit``."""
        known, given = _events_known(at)
        given |= {"stream": after[0], "version": after[1], "limit": limit}
        parts = []
        for n, (low, high) in enumerate(_audit_ranges(reference_data_id, snap)):
            parts.append(_AUDIT_RANGE.format(n=n, known=known))
            given |= {f"low{n}": low, f"high{n}": high}
        query = " UNION ALL ".join(parts) + " ORDER BY stream, version LIMIT %(limit)s"
        return [event_of(row) for row in self._all(query, given)]

    def entry(self, kind: str, name: str) -> Entry | None:
        """See ``Reads.entry``."""
        rows = self._all(
            "SELECT name, version, definition, changed_at FROM catalogue"
            " WHERE kind = %(kind)s AND name = %(name)s",
            {"kind": kind, "name": name},
        )
        return Entry(*rows[0]) if rows else None

    def entries(self, kind: str, after: str, limit: int) -> list[Entry]:
        """See ``Reads.entries``."""
        rows = self._all(
            "SELECT name, version, definition, changed_at FROM catalogue"
            " WHERE kind = %(kind)s AND name > %(after)s ORDER BY name LIMIT %(limit)s",
            {"kind": kind, "after": after, "limit": limit},
        )
        return [Entry(*row) for row in rows]

    def exceptions(self, status: str, after: tuple[datetime, UUID] | None, limit: int) -> list[ExceptionRow]:
        """See ``Reads.exceptions``."""
        beyond = "" if after is None else " AND (opened_at, issue_id) > (%(opened_at)s, %(item)s)"
        given: dict[str, Any] = {"status": status, "limit": limit}
        if after is not None:
            given |= {"opened_at": after[0], "item": after[1]}
        rows = self._all(
            f"SELECT {_EXCEPTION} FROM exceptions WHERE status = %(status)s{beyond}"
            " ORDER BY opened_at, issue_id LIMIT %(limit)s",
            given,
        )
        return [_exception(row) for row in rows]

    def exception(self, item: UUID) -> ExceptionRow | None:
        """See ``Reads.exception``."""
        rows = self._all(
            f"SELECT {_EXCEPTION} FROM exceptions WHERE issue_id = %(item)s",
            {"item": item},
        )
        return _exception(rows[0]) if rows else None

    def receipt(self, receipt: UUID) -> tuple[dict[str, Any], datetime] | None:
        """See ``Reads.receipt``."""
        rows = self._all(
            "SELECT answer, created_at FROM receipts WHERE receipt = %(receipt)s", {"receipt": receipt}
        )
        return (rows[0][0], rows[0][1]) if rows else None

    def violations(self, records: Sequence[str]) -> dict[str, Sequence[Mapping[str, str]]]:
        """See ``Reads.violations``."""
        rows = self._all(
            "SELECT record_id, violations FROM ingest_outcomes WHERE outcome = 'rejected'"
            " AND record_id IN (SELECT json_array_elements_text(%(records)s::json))",
            {"records": json.dumps(list(records))},
        )
        return dict(rows)

    def states(self, keys: Sequence[tuple[str, Snap]]) -> list[ValueState]:
        """See ``Reads.states``."""
        found = []
        for n, status, *row in self._all(_STATES, {"keys": _keys(keys)}):
            id_, snap = keys[n]
            official = None if row[2] is None else _official(id_, snap, row)
            found.append(ValueState(id_, snap, status, official))
        return found

    def load(self, load: str) -> Load | None:
        """See ``Reads.load``."""
        rows = self._all(
            "SELECT load_id, accepted, duplicates, rejected, started_at, updated_at FROM loads"
            " WHERE load_id = %(load)s",
            {"load": load},
        )
        return Load(*rows[0]) if rows else None

    def outcomes(self, load: str, after: str, limit: int) -> list[LoadOutcome]:
        """See ``Reads.outcomes``."""
        rows = self._all(
            "SELECT record_id, outcome, claim_id, violations, recorded_at FROM ingest_outcomes"
            " WHERE load_id = %(load)s AND record_id > %(after)s ORDER BY record_id LIMIT %(limit)s",
            {"load": load, "after": after, "limit": limit},
        )
        return [LoadOutcome(id_, kind, claim, found or (), at) for id_, kind, claim, found, at in rows]

    def _all(self, query: str, given: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Rows of a statement that changes nothing, so that it is repeated where the connection broke."""
        import psycopg

        try:
            return _run(self._database.connect(), query, given)
        except psycopg.OperationalError as error:
            if isinstance(error, psycopg.errors.QueryCanceled):
                raise Unavailable("the database took too long") from error
        self._database.close()
        try:
            return _run(self._database.connect(), query, given)
        except psycopg.OperationalError as error:
            self._database.close()
            raise Unavailable("the database does not answer") from error


def _run(connection: Connection, query: str, given: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return connection.execute(query.encode(), given).fetchall()


def _moment(horizon: str, clock: datetime) -> Moment:
    return Moment(Position(int(horizon), 0), clock)


def _official(reference_data_id: str, snap: Snap, row: Sequence[Any]) -> OfficialRow:
    number, record, version, recorded_from, tx, position, details = row
    value = number if record is None else Record("", record)  # compared by nobody, so it needs no key
    return OfficialRow(
        reference_data_id, snap, value, version, recorded_from, Position(int(tx), position), details
    )


def _exception(row: Sequence[Any]) -> ExceptionRow:
    item, id_, ns, status, opened_at, closed_at, closed_by, details = row
    return ExceptionRow(item, id_, Snap(ns), status, opened_at, closed_at, closed_by, details)


def _keys(keys: Sequence[tuple[str, Snap]]) -> str:
    return json.dumps([{"n": n, "id": id_, "ns": snap.ns} for n, (id_, snap) in enumerate(keys)])


def _given(at: Knowledge) -> dict[str, Any]:
    if at.as_of is not None:
        return {"as_of": at.as_of}
    if at.basis is not None:
        return {"tx": str(at.basis.tx), "position": at.basis.sequence}
    return {}


def _choose(at: Knowledge, latest: str, as_of: str, basis: str) -> tuple[str, dict[str, Any]]:
    if at.as_of is not None:
        return as_of, _given(at)
    return (latest if at.basis is None else basis), _given(at)


def _point_known(at: Knowledge) -> tuple[str, dict[str, Any]]:
    return _choose(at, _POINT_LATEST, _POINT_AS_OF, _POINT_BASIS)


def _range_known(at: Knowledge) -> tuple[str, dict[str, Any]]:
    return _choose(at, _LATEST, _AS_OF, _BASIS)


def _events_known(at: Knowledge) -> tuple[str, dict[str, Any]]:
    return _choose(at, _EVENTS_LATEST, _EVENTS_AS_OF, _EVENTS_BASIS)


def _audit_ranges(reference_data_id: str, snap: Snap | None) -> list[tuple[str, str]]:
    """Half-open ranges of stream names, in the byte order of the index (``A`` follows ``@``)."""
    if snap is not None:
        names = [f(reference_data_id, snap.text) for f in (quality_stream, value_stream)]
        return [(name, name + "\x01") for name in names]
    own = [
        (name, name + "\x01")
        for name in (metrics_stream(reference_data_id), series_stream(reference_data_id))
    ]
    values = [f(reference_data_id, "") for f in (quality_stream, value_stream)]
    return own + [(name, name[:-1] + "A") for name in values]
