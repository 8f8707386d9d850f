"""Giving a restored log back its tail: what was committed after the last point that could be restored.

The relay has put every event on the backbone, milliseconds after its commit, and the backbone keeps records
for days. So the tail is read from there and appended as it was: same identity, place and moment. What
consumers hold then stays true, and a basis token of before the loss keeps its meaning.

Nothing else may write meanwhile: a command that ran on the restored log first would take the places of what
is given back. That is seen, and refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any
from uuid import UUID

from qis.adapters.postgres.log import WAKE_CHANNEL
from qis.adapters.postgres.projections import MODELS, Placed
from qis.domain.events import DATA_INGESTED, Position

if TYPE_CHECKING:
    from psycopg import Connection

Record = Mapping[str, Any]
"""An event as the relay writes it, see ``backbone_record``."""

SPARE = Position(10_000, 1_000_000)
"""Transactions and sequences that are never given again: those of commits that were lost before the relay saw
them, whose tokens a caller may hold. At 2,000 commits a second they are worth five seconds of the relay."""
CHUNK = 1000

_NEWEST = "SELECT max(recorded_at) FROM events"

_PRESENT = """
SELECT x.tx, x.position FROM json_to_recordset(%s)
    AS x(tx xid8, position bigint, recorded_at timestamptz)
JOIN events e ON e.tx = x.tx AND e.position = x.position AND e.recorded_at = x.recorded_at
"""

_HEADS = "SELECT stream, version FROM stream_heads WHERE stream = ANY(%s) FOR UPDATE"

_APPEND = """
INSERT INTO events (tx, position, recorded_at, event_id, stream, version, type, type_version, actor,
    correlation_id, causation_id, data) OVERRIDING SYSTEM VALUE
SELECT tx, position, recorded_at, event_id, stream, version, type, type_version, actor, correlation_id,
    causation_id, data
FROM json_to_recordset(%s) AS x(tx xid8, position bigint, recorded_at timestamptz, event_id uuid,
    stream text, version integer, type text, type_version smallint, actor text, correlation_id text,
    causation_id uuid, data jsonb)
"""

# The start of a stream only prunes partitions: an hour earlier, as where streams begin.
_MOVE_HEADS = """
INSERT INTO stream_heads AS h (stream, version, first_at, recorded_at)
SELECT stream, max(version), min(recorded_at) - interval '1 hour', max(recorded_at)
FROM json_to_recordset(%s) AS x(stream text, version integer, recorded_at timestamptz) GROUP BY stream
ON CONFLICT (stream) DO UPDATE SET version = excluded.version,
    recorded_at = greatest(h.recorded_at, excluded.recorded_at)
"""

_COUNT = """
INSERT INTO loads AS l (load_id, accepted, started_at, updated_at)
SELECT load_id, count(*), min(at), max(at)
FROM json_to_recordset(%s) AS x(load_id text, at timestamptz) GROUP BY load_id
ON CONFLICT (load_id) DO UPDATE SET accepted = l.accepted + excluded.accepted,
    updated_at = greatest(l.updated_at, excluded.updated_at)
"""

# A transaction each, without a round trip each: the only way to move on the numbers of transactions.
_SKIP_TRANSACTIONS = """
DO $$ BEGIN
    WHILE pg_current_xact_id()::text::bigint < {until} LOOP COMMIT; END LOOP;
END $$
"""

_SKIP_SEQUENCES = """
SELECT setval(pg_get_serial_sequence('events', 'position'), greatest(%s, max(position), 1)) FROM events
"""


class Diverged(ValueError):
    """The log has gone another way since: what is to be given back does not follow on what is there."""


@dataclass(frozen=True, slots=True)
class Lost:
    """An event that the log does not hold and that cannot be given back."""

    event_id: str
    type: str
    stream: str
    version: int
    position: str
    why: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Restored:
    """What became of the backbone's events."""

    known: int
    """Events that the log held."""
    given_back: int
    newest: datetime | None
    """When the newest event of the log was recorded, now."""
    lost: Sequence[Lost] = ()
    """In the order of the log."""


def newest(connection: Connection) -> datetime | None:
    """When the newest event of the log was recorded: how far a restored one goes."""
    row = connection.execute(_NEWEST).fetchone()
    return row[0] if row else None


def give_back(connection: Connection, records: Sequence[Record]) -> Restored:
    """Append the events that the log does not hold, in their old places, and write what follows from them.

    Repeating it, also after half of it, does no harm. In the end no transaction and no sequence that the lost
    tail may have used is ever given again.

    The backbone holds only the name of an event that was too large for it. Such an event is lost, and so are
    the later ones of its stream, which do not follow without it; those of other streams are given back.

    Args:
        connection: of the schema's owner, in autocommit mode; nobody else writes.
        records: of the backbone, from a moment before the end of the restored log on, in any order; an event
            may come repeatedly.

    Raises:
        Diverged: something else was written in the place of an event, or an event before it is missing.
    """
    ordered = sorted({(r["position"]): _row(r) for r in records}.values(), key=_place)
    given_back = 0
    lost: list[Lost] = []
    cut: dict[str, int] = {}
    if ordered:
        last = ordered[-1]
        # Before anything is appended: a follower waits for what bears the number of a transaction to come.
        _skip(connection, Position(last["tx"] + SPARE.tx, last["position"] + SPARE.sequence))
    for start in range(0, len(ordered), CHUNK):
        with connection.transaction():
            missing = _missing(connection, ordered[start : start + CHUNK])
            whole = [row for row in missing if not _is_lost(row, cut, lost)]
            _append(connection, whole)
            given_back += len(whole)
    if given_back:
        connection.execute(f"NOTIFY {WAKE_CHANNEL}")
    return Restored(len(ordered) - given_back - len(lost), given_back, newest(connection), lost)


def _row(record: Record) -> dict[str, Any]:
    """An event as a row of the log; numbers of its data stay as they are written."""
    place = Position.parse(record["position"])
    columns = {k: v for k, v in record.items() if k != "reference_data_id"}
    return {**columns, "tx": place.tx, "position": place.sequence}


def _place(row: Mapping[str, Any]) -> tuple[int, int]:
    return row["tx"], row["position"]


def _skip(connection: Connection, beyond: Position) -> None:
    connection.execute(_SKIP_TRANSACTIONS.format(until=int(beyond.tx)))
    connection.execute(_SKIP_SEQUENCES, (beyond.sequence,))


def _missing(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those that the log does not hold."""
    places = json.dumps([{k: r[k] for k in ("tx", "position", "recorded_at")} for r in rows], default=str)
    present = {(int(tx), position) for tx, position in connection.execute(_PRESENT, (places,))}
    return [r for r in rows if _place(r) not in present]


def _is_lost(row: Mapping[str, Any], cut: dict[str, int], lost: list[Lost]) -> bool:
    """Whether an event cannot be given back, which is noted.

    Args:
        cut: streams that lack an event, each with its version.
    """
    stream, version = row["stream"], row["version"]
    if stream in cut:
        why = f"event {cut[stream]} of its stream is lost"
    elif "left_out" in row:
        cut[stream] = version
        why = (
            f"its {row['left_out']} bytes were too large for the stream of events, which holds only its name"
        )
    else:
        return False
    position = Position(row["tx"], row["position"]).token
    lost.append(Lost(row["event_id"], row["type"], stream, version, position, why))
    return True


def _append(connection: Connection, missing: Sequence[Mapping[str, Any]]) -> None:
    """Append events in their old places, with what follows from them."""
    if not missing:
        return
    _follows(connection, missing)
    given = json.dumps(missing)
    connection.execute(_APPEND, (given,))
    connection.execute(_MOVE_HEADS, (given,))
    loads = [
        {"load_id": r["correlation_id"], "at": r["recorded_at"]}
        for r in missing
        if r["type"] == DATA_INGESTED
    ]
    if loads:
        connection.execute(_COUNT, (json.dumps(loads),))
    _project(connection, missing)


def _follows(connection: Connection, missing: Sequence[Mapping[str, Any]]) -> None:
    """Each stream goes on where it ends now, without a gap."""
    heads: dict[str, int] = dict(
        connection.execute(_HEADS, (sorted({r["stream"] for r in missing}),)).fetchall()
    )
    for row in missing:
        stream, version = row["stream"], row["version"]
        if version != heads.get(stream, 0) + 1:
            raise Diverged(
                f"{stream} is at version {heads.get(stream, 0)}, its event {version} of "
                f"{row['recorded_at']} does not follow on that"
            )
        heads[stream] = version


def _project(connection: Connection, missing: Sequence[Mapping[str, Any]]) -> None:
    """Transaction by transaction, as it was done the first time."""
    for _, transaction in groupby(missing, key=lambda r: r["tx"]):
        placed = [_placed(row) for row in transaction]
        for model in MODELS.values():
            mine = [p for p in placed if p.type in model.types]
            if mine:
                model.apply(connection, mine, model.table)
        if any(p.type in MODELS["catalogue"].types for p in placed):
            connection.execute("UPDATE catalogue_revision SET revision = revision + 1")


def _placed(row: Mapping[str, Any]) -> Placed:
    return Placed(
        UUID(row["event_id"]),
        row["type"],
        row["version"],
        row["data"],
        row["actor"],
        datetime.fromisoformat(row["recorded_at"]),
        row["tx"],
        row["position"],
    )
