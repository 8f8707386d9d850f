"""Read models written in the transaction of their events, and by the same statements in a rebuild.

A read model is a function of the log: its rows follow from the events alone, so a rebuilt table is equal to
the live one. Each statement names its table as ``{table}``; a rebuild writes to another.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from qis.domain import events as ev
from qis.domain.snap import parse_instant

if TYPE_CHECKING:
    from psycopg import Connection

OFFICIAL = frozenset({ev.DATA_PUBLISHED, ev.DATA_RESTATED})
_CLOSED = {
    ev.QUALITY_ISSUE_RESOLVED: "resolved",
    ev.QUALITY_APPROVED: "approved",
    ev.QUALITY_REJECTED: "rejected",
}
_CATALOGUE = {
    ev.SERIES_REGISTERED: ("series", "reference_data_id"),
    ev.SCHEMA_EVOLVED: ("series", "reference_data_id"),
    ev.SOURCE_ADDED: ("source", "source"),
    ev.SOURCE_CHANGED: ("source", "source"),
    ev.RULES_CHANGED: ("rules", "rules"),
    ev.CHECK_CHANGED: ("check", "check"),
}


_ISSUES = frozenset(
    {
        ev.ISSUE_OPENED,
        ev.ISSUE_EXTENDED,
        ev.ISSUE_REDUCED,
        ev.ISSUE_ALERTED,
        ev.ISSUE_ESCALATED,
        ev.ISSUE_TRIAGED,
        ev.ISSUE_SNOOZED,
        ev.ISSUE_CLOSED,
    }
)


@dataclass(frozen=True, slots=True)
class Placed:
    """An event in its place in the log, as a projection needs it."""

    event_id: UUID
    type: str
    version: int
    data: ev.Data
    actor: str
    recorded_at: datetime
    tx: int
    position: int


_OFFICIAL_ROWS = """
json_to_recordset(%(rows)s) AS x(event_id uuid, reference_data_id text, snap_ns bigint, snap timestamptz,
    value numeric, record jsonb, version integer, details jsonb, recorded_from timestamptz, tx xid8,
    position bigint)
"""

_SUPERSEDE = f"""
UPDATE {{table}} o SET superseded_at = x.recorded_from, superseded_tx = x.tx,
    superseded_position = x.position
FROM {_OFFICIAL_ROWS}
WHERE x.version > 1 AND o.reference_data_id = x.reference_data_id AND o.snap_ns = x.snap_ns
  AND o.superseded_at IS NULL
"""  # noqa: S608 - what is interpolated is a constant of this module

_PUBLISH = f"""
INSERT INTO {{table}} (reference_data_id, snap_ns, recorded_from, snap, value, record, version, event_id, tx,
    position, details)
SELECT reference_data_id, snap_ns, recorded_from, snap, value, record, version, event_id, tx, position,
    details
FROM {_OFFICIAL_ROWS}
"""  # noqa: S608 - what is interpolated is a constant of this module

_DECIDE = """
INSERT INTO {table} AS d (reference_data_id, snap_ns, status, value, standings)
SELECT id, ns, status, value, standings
FROM json_to_recordset(%s) AS x(id text, ns bigint, status text, value numeric, standings jsonb)
ORDER BY id, ns
ON CONFLICT (reference_data_id, snap_ns) DO UPDATE SET status = excluded.status, value = excluded.value,
    standings = CASE WHEN excluded.standings = 'true' THEN d.standings ELSE excluded.standings END
"""

_OPEN_ISSUE = """
INSERT INTO {table} (issue_id, reference_data_id, snap_ns, status, opened_at, details)
SELECT issue_id, reference_data_id, snap_ns, 'open', opened_at, details
FROM json_to_recordset(%s) AS x(issue_id uuid, reference_data_id text, snap_ns bigint,
                                opened_at timestamptz, details jsonb)
"""

_CLOSE_ISSUE = """
UPDATE {table} e SET status = x.status, closed_at = x.closed_at, closed_by = x.closed_by
FROM json_to_recordset(%s) AS x(issue_id uuid, status text, closed_at timestamptz, closed_by text)
WHERE e.issue_id = x.issue_id AND e.status = 'open'
"""

_UPDATE_ISSUE = """
UPDATE {table} e SET details = e.details || x.details
FROM json_to_recordset(%s) AS x(issue_id uuid, details jsonb)
WHERE e.issue_id = x.issue_id AND e.status = 'open'
"""

_DEFINE = """
INSERT INTO {table} (kind, name, version, definition, changed_at)
SELECT kind, name, version, definition, changed_at
FROM json_to_recordset(%s) AS x(kind text, name text, version integer, definition jsonb,
                                changed_at timestamptz)
ORDER BY kind, name
ON CONFLICT (kind, name) DO UPDATE SET version = excluded.version, definition = excluded.definition,
    changed_at = excluded.changed_at
"""

_ISSUE = """
INSERT INTO {table} (issue, group_name, status, severity, opened_at, changed_at, due_at, state)
SELECT issue, group_name, status, severity, opened_at, changed_at, due_at, state
FROM json_to_recordset(%s) AS x(issue uuid, group_name text, status text, severity text,
                                opened_at timestamptz, changed_at timestamptz, due_at timestamptz,
                                state jsonb)
ORDER BY issue
ON CONFLICT (issue) DO UPDATE SET status = excluded.status, severity = excluded.severity,
    changed_at = excluded.changed_at, due_at = excluded.due_at, state = excluded.state
"""

_ISSUE_ITEMS = """
INSERT INTO {table} (item, issue, group_name, reference_data_id, snap_ns)
SELECT item, issue, group_name, id, ns
FROM json_to_recordset(%s) AS x(item uuid, issue uuid, group_name text, id text, ns bigint)
"""


def _number(value: Any) -> str | None:
    """The text of a number; a record has no place in a column of numbers."""
    return value if isinstance(value, str) else None


def _snap_ns(data: ev.Data) -> int:
    return parse_instant(data["snap"], "snap").ns


def _official(connection: Connection, placed: Sequence[Placed], table: str) -> None:
    """Bitemporal rows. A batch holds at most one event per value: see ``waves``."""
    rows = [_official_row(p) for p in placed]
    given = {"rows": json.dumps(rows)}
    if any(r["version"] > 1 for r in rows):
        connection.execute(_SUPERSEDE.format(table=table), given)
    connection.execute(_PUBLISH.format(table=table), given)


def _official_row(placed: Placed) -> dict[str, Any]:
    data = placed.data
    snap = parse_instant(data["snap"], "snap")
    return {
        "event_id": str(placed.event_id),
        "reference_data_id": data["reference_data_id"],
        "snap_ns": snap.ns,
        "snap": snap.moment.isoformat(),
        "value": _number(data["value"]),
        "record": data["value"] if isinstance(data["value"], dict) else None,
        "version": data["official_version"],
        "details": {k: v for k, v in data.items() if k not in ("reference_data_id", "snap", "value")},
        "recorded_from": placed.recorded_at.isoformat(),
        "tx": str(placed.tx),
        "position": placed.position,
    }


def _decisions(connection: Connection, placed: Sequence[Placed], table: str) -> None:
    """The last word on each value: what reconciliation said, or what was published over it. A value set by
    a person stands, whatever reconciliation says of it later. Standings are those of the last decision:
    ``true`` for a publication, which leaves them as they are."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for p in placed:
        standing = p.data["value"] if p.type in OFFICIAL else p.data.get("pinned")
        row = {
            "id": p.data["reference_data_id"],
            "ns": _snap_ns(p.data),
            "status": p.data["status"] if standing is None else "official",
            "value": _number(p.data["value"] if standing is None else standing),
            "standings": p.data.get("standings"),
        }
        if p.type in OFFICIAL:
            row["standings"] = rows.get((row["id"], row["ns"]), {"standings": True})["standings"]
        rows[row["id"], row["ns"]] = row
    connection.execute(_DECIDE.format(table=table), (json.dumps(list(rows.values())),))


def _exceptions(connection: Connection, placed: Sequence[Placed], table: str) -> None:
    """The exception queue. Decisions say what a value that waits already rests on now. An exception is closed
    after the batch that opened it is in."""
    opened = [
        {
            "issue_id": p.data["issue_id"],
            "reference_data_id": p.data["reference_data_id"],
            "snap_ns": _snap_ns(p.data),
            "opened_at": p.recorded_at.isoformat(),
            "details": p.data,
        }
        for p in placed
        if p.type == ev.QUALITY_ISSUE_DETECTED
    ]
    closed = [
        {
            "issue_id": p.data["issue_id"],
            "status": _CLOSED[p.type],
            "closed_at": p.recorded_at.isoformat(),
            "closed_by": p.actor,
        }
        for p in placed
        if p.type in _CLOSED
    ]
    waiting = [p.data["exception"] for p in placed if "exception" in p.data]
    details = {w["issue_id"]: {k: v for k, v in w.items() if k != "issue_id"} for w in waiting}
    if opened:
        connection.execute(_OPEN_ISSUE.format(table=table), (json.dumps(opened),))
    if details:
        changed = [{"issue_id": i, "details": d} for i, d in details.items()]
        connection.execute(_UPDATE_ISSUE.format(table=table), (json.dumps(changed),))
    if closed:
        connection.execute(_CLOSE_ISSUE.format(table=table), (json.dumps(closed),))


def _catalogue(connection: Connection, placed: Sequence[Placed], table: str) -> None:
    """The newest version of each definition."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for p in placed:
        kind, key = _CATALOGUE[p.type]
        rows[kind, p.data[key]] = {
            "kind": kind,
            "name": p.data[key],
            "version": p.version,
            "definition": p.data,
            "changed_at": p.recorded_at.isoformat(),
        }
    connection.execute(_DEFINE.format(table=table), (json.dumps(list(rows.values())),))


def _issues(connection: Connection, placed: Sequence[Placed], table: str) -> None:
    """Each issue as its last event left it."""
    rows: dict[str, dict[str, Any]] = {}
    for p in placed:
        state = p.data["state"]
        rows[p.data["issue"]] = {
            "issue": p.data["issue"],
            "group_name": p.data["group"],
            "status": state["status"],
            "severity": state["severity"],
            "opened_at": state["opened_at"],
            "changed_at": p.recorded_at.isoformat(),
            "due_at": state["due_at"],
            "state": state,
        }
    connection.execute(_ISSUE.format(table=table), (json.dumps(list(rows.values())),))


def _issue_items(connection: Connection, placed: Sequence[Placed], table: str) -> None:
    """Which exceptions belong to which issue."""
    rows = [
        {
            "item": item["item"],
            "issue": p.data["issue"],
            "group_name": p.data["group"],
            "id": item["reference_data_id"],
            "ns": _snap_ns(item),
        }
        for p in placed
        for item in p.data["items"]
    ]
    connection.execute(_ISSUE_ITEMS.format(table=table), (json.dumps(rows),))


_DEFINE_VERSION = """
INSERT INTO {table} (name, version, definition)
SELECT name, version, definition FROM json_to_recordset(%s) AS x(name text, version integer, definition jsonb)
ORDER BY name, version
"""


def _rule_versions(connection: Connection, placed: Sequence[Placed], table: str) -> None:
    """Every version of every rule document: which one applies depends on the snap."""
    rows = [{"name": p.data["rules"], "version": p.version, "definition": p.data} for p in placed]
    connection.execute(_DEFINE_VERSION.format(table=table), (json.dumps(rows),))


@dataclass(frozen=True, slots=True)
class Model:
    """A read model: its table, the events it follows and how it takes them."""

    table: str
    types: frozenset[str]
    apply: Callable[[Connection, Sequence[Placed], str], None]


MODELS: Mapping[str, Model] = {
    m.table: m
    for m in (
        Model("official_values", OFFICIAL, _official),
        Model("decisions", OFFICIAL | {ev.DATA_RECONCILED}, _decisions),
        Model(
            "exceptions",
            frozenset({ev.QUALITY_ISSUE_DETECTED, ev.DATA_RECONCILED, *_CLOSED}),
            _exceptions,
        ),
        Model("catalogue", frozenset(_CATALOGUE), _catalogue),
        Model("issues", _ISSUES, _issues),
        Model("issue_items", frozenset({ev.ISSUE_OPENED, ev.ISSUE_EXTENDED}), _issue_items),
        Model("rule_versions", frozenset({ev.RULES_CHANGED}), _rule_versions),
    )
}

_PROJECTED = frozenset().union(*(m.types for m in MODELS.values()))

_PLACES = """
SELECT event_id, type, version, data, actor, recorded_at, tx, position FROM events
WHERE tx = pg_current_xact_id() AND recorded_at = %s ORDER BY position
"""


def project_inline(connection: Connection, types: frozenset[str], recorded_at: datetime) -> None:
    """Write the read models that follow from what this transaction appended.

    Args:
        types: types of the appended events; where none is projected, nothing is read.
    """
    if not types & _PROJECTED:
        return
    placed = [placed_of(row) for row in connection.execute(_PLACES, (recorded_at,))]
    for model in MODELS.values():
        mine = [p for p in placed if p.type in model.types]
        if mine:
            model.apply(connection, mine, model.table)
    if types & MODELS["catalogue"].types:
        connection.execute("UPDATE catalogue_revision SET revision = revision + 1")


def placed_of(row: Sequence[Any]) -> Placed:
    """An event from a row of event_id, type, version, data, actor, recorded_at, tx, position."""
    return Placed(row[0], row[1], row[2], row[3], row[4], row[5], int(row[6]), row[7])
