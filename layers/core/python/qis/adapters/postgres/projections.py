"""Read models written in the transaction of their events, and the same statements for a rebuild.

A read model is a function of the log: the rows of an event follow from the event alone, so a rebuilt table
is equal to the live one, byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from qis.application.ports import Append
from qis.domain import events as ev
from qis.domain.snap import parse_instant

if TYPE_CHECKING:
    from psycopg import Connection

OFFICIAL = frozenset({ev.DATA_PUBLISHED, ev.DATA_RESTATED})
_ISSUES = frozenset(
    {ev.QUALITY_ISSUE_DETECTED, ev.QUALITY_ISSUE_RESOLVED, ev.QUALITY_APPROVED, ev.QUALITY_REJECTED}
)
_CATALOGUE = {
    ev.SERIES_REGISTERED: ("series", "reference_data_id"),
    ev.SCHEMA_EVOLVED: ("series", "reference_data_id"),
    ev.SOURCE_ADDED: ("source", "source"),
    ev.SOURCE_CHANGED: ("source", "source"),
    ev.RULES_CHANGED: ("rules", "rules"),
}

_OFFICIAL_ROW = """
json_to_recordset(%(rows)s) AS x(event_id uuid, reference_data_id text, snap_ns bigint, snap timestamptz,
    value numeric, version integer, details jsonb, recorded_from timestamptz, tx xid8, position bigint)
"""

_SUPERSEDE = """
UPDATE {table} o SET superseded_at = x.recorded_from, superseded_tx = x.tx,
    superseded_position = x.position
FROM {rows}
WHERE x.version > 1 AND o.reference_data_id = x.reference_data_id AND o.snap_ns = x.snap_ns
  AND o.superseded_at = 'infinity'
"""

_PUBLISH = """
INSERT INTO {table} (reference_data_id, snap_ns, recorded_from, snap, value, version, event_id, tx,
    position, details)
SELECT reference_data_id, snap_ns, recorded_from, snap, value, version, event_id, tx, position, details
FROM {rows}
"""

_DECIDE = """
INSERT INTO decisions AS d (reference_data_id, snap_ns, status, value)
SELECT id, ns, status, value FROM json_to_recordset(%s) AS x(id text, ns bigint, status text, value numeric)
ORDER BY id, ns
ON CONFLICT (reference_data_id, snap_ns) DO UPDATE SET status = excluded.status, value = excluded.value
"""

_OPEN_ISSUE = """
INSERT INTO exceptions (issue_id, reference_data_id, snap_ns, status, opened_at, details)
SELECT issue_id, reference_data_id, snap_ns, 'open', %s, details
FROM json_to_recordset(%s) AS x(issue_id uuid, reference_data_id text, snap_ns bigint, details jsonb)
"""

_CLOSE_ISSUE = """
UPDATE exceptions e SET status = x.status, closed_at = %s, closed_by = x.closed_by
FROM json_to_recordset(%s) AS x(issue_id uuid, status text, closed_by text)
WHERE e.issue_id = x.issue_id AND e.status = 'open'
"""

_CLOSED = {
    ev.QUALITY_ISSUE_RESOLVED: "resolved",
    ev.QUALITY_APPROVED: "approved",
    ev.QUALITY_REJECTED: "rejected",
}

_DEFINE = """
INSERT INTO catalogue (kind, name, version, definition, changed_at)
SELECT kind, name, version, definition, %s
FROM json_to_recordset(%s) AS x(kind text, name text, version integer, definition jsonb)
ORDER BY kind, name
ON CONFLICT (kind, name) DO UPDATE SET version = excluded.version, definition = excluded.definition,
    changed_at = excluded.changed_at
"""

Placed = tuple[str, int, ev.NewEvent, str]
"""Stream, version, event and actor."""


def project_inline(connection: Connection, appends: Sequence[Append], recorded_at: datetime) -> None:
    """Write the read models that follow from what was just appended in this transaction."""
    placed = [
        (a.stream, version, event, a.actor)
        for a in appends
        for version, event in enumerate(a.events, a.expected_version + 1)
        if event.type != ev.DATA_INGESTED
    ]
    if not placed:
        return
    official = [p for p in placed if p[2].type in OFFICIAL]
    if official:
        _project_official_inline(connection, official, recorded_at)
    _project_decisions(connection, placed)
    _project_issues(connection, placed, recorded_at)
    _project_catalogue(connection, placed, recorded_at)


def _project_official_inline(connection: Connection, placed: Sequence[Placed], recorded_at: datetime) -> None:
    places = {
        (stream, version): (event_id, tx, position)
        for event_id, tx, position, stream, version in connection.execute(
            "SELECT event_id, tx, position, stream, version FROM events"
            " WHERE tx = pg_current_xact_id() AND recorded_at = %s",
            (recorded_at,),
        )
    }
    rows = []
    for stream, version, event, _ in placed:
        event_id, tx, position = places[stream, version]
        rows.append(official_row(event.data, event_id, recorded_at, int(tx), position))
    write_official(connection, rows)


def official_row(
    data: ev.Data, event_id: object, recorded_at: datetime, tx: int, position: int
) -> dict[str, Any]:
    """The row of ``official_values`` that one DataPublished or DataRestated event stands for."""
    snap = parse_instant(data["snap"], "snap")
    return {
        "event_id": str(event_id),
        "reference_data_id": data["reference_data_id"],
        "snap_ns": snap.ns,
        "snap": snap.moment.isoformat(),
        "value": data["value"],
        "version": data["official_version"],
        "details": {k: v for k, v in data.items() if k not in ("reference_data_id", "snap", "value")},
        "recorded_from": recorded_at.isoformat(),
        "tx": str(tx),
        "position": position,
    }


def write_official(
    connection: Connection, rows: Sequence[dict[str, Any]], table: str = "official_values"
) -> None:
    """Supersede what the rows replace and insert them. At most one row per series and snap."""
    given = {"rows": json.dumps(rows)}
    if any(r["version"] > 1 for r in rows):
        connection.execute(_SUPERSEDE.format(table=table, rows=_OFFICIAL_ROW), given)
    connection.execute(_PUBLISH.format(table=table, rows=_OFFICIAL_ROW), given)


def _project_decisions(connection: Connection, placed: Iterable[Placed]) -> None:
    """The last word of each stream: what reconciliation said, unless a person approved or corrected."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for _, _, event, _ in placed:
        data = event.data
        if event.type == ev.DATA_RECONCILED:
            status, value = data["status"], data["value"]
        elif event.type in OFFICIAL:
            status, value = "official", data["value"]
        else:
            continue
        ns = parse_instant(data["snap"], "snap").ns
        rows[data["reference_data_id"], ns] = {
            "id": data["reference_data_id"],
            "ns": ns,
            "status": status,
            "value": value,
        }
    if rows:
        connection.execute(_DECIDE, (json.dumps(list(rows.values())),))


def _project_issues(connection: Connection, placed: Sequence[Placed], at: datetime) -> None:
    opened, closed = [], []
    for _, _, event, actor in placed:
        if event.type not in _ISSUES:
            continue
        data = event.data
        if event.type == ev.QUALITY_ISSUE_DETECTED:
            opened.append(
                {
                    "issue_id": data["issue_id"],
                    "reference_data_id": data["reference_data_id"],
                    "snap_ns": parse_instant(data["snap"], "snap").ns,
                    "details": data,
                }
            )
        else:
            closed.append({"issue_id": data["issue_id"], "status": _CLOSED[event.type], "closed_by": actor})
    if closed:
        connection.execute(_CLOSE_ISSUE, (at, json.dumps(closed)))
    if opened:
        connection.execute(_OPEN_ISSUE, (at, json.dumps(opened)))


def _project_catalogue(connection: Connection, placed: Iterable[Placed], at: datetime) -> None:
    rows = []
    for _, version, event, _ in placed:
        if event.type in _CATALOGUE:
            kind, key = _CATALOGUE[event.type]
            rows.append({"kind": kind, "name": event.data[key], "version": version, "definition": event.data})
    if rows:
        connection.execute(_DEFINE, (at, json.dumps(rows)))
        connection.execute("UPDATE catalogue_revision SET revision = revision + 1")
