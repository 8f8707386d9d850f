"""The event log on PostgreSQL.

One transaction appends a batch: stream heads are moved conditionally, events are copied in, and the read
models that must never lag are written from the same events. A stream whose head was moved by somebody else
loses and stores nothing; the others of the batch are not disturbed.

Order: an event's place is the pair (transaction id, sequence). Sequences are handed out before commit, so
a reader of sequences alone would skip what commits late; below the horizon of running transactions
(``pg_snapshot_xmin``) the pairs are final. The moment of recording is taken from the database clock after
the transaction id is assigned, so that whoever waits for the transactions in flight at a moment has seen
everything recorded up to it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from qis.adapters.postgres import projections
from qis.adapters.postgres.connection import Database
from qis.adapters.postgres.log import COLUMNS, COPY, WAKE_CHANNEL, copy_row, event_id, event_of, json_text
from qis.application.ports import Append, Basis, Issue, Key, Loaded, Neighbours
from qis.domain.events import Event
from qis.domain.reconciliation import standings_of
from qis.domain.snap import Snap

if TYPE_CHECKING:
    from psycopg import Connection

_LOAD = f"""
SELECT {COLUMNS} FROM (
    SELECT h.stream AS head, h.first_at
    FROM stream_heads h WHERE h.stream IN (SELECT json_array_elements_text(%s::json))
) heads
CROSS JOIN LATERAL (
    SELECT e.* FROM events e
    WHERE e.stream = heads.head AND e.recorded_at >= heads.first_at
) e
ORDER BY stream, version
"""  # noqa: S608 - the only thing interpolated is the constant list of columns

_SNAPSHOTS = """
SELECT s.stream, s.version, s.state FROM json_array_elements_text(%s::json) AS w (name)
JOIN stream_snapshots s ON s.stream = w.name AND (s.state ->> 'format')::integer = %s
"""

_LOAD_RECENT = f"""
SELECT {COLUMNS}, heads.after FROM (
    SELECT h.stream AS head, h.first_at, coalesce(s.version, 0) AS after
    FROM stream_heads h
    LEFT JOIN stream_snapshots s ON s.stream = h.stream AND (s.state ->> 'format')::integer = %s
    WHERE h.stream IN (SELECT json_array_elements_text(%s::json))
) heads
CROSS JOIN LATERAL (
    SELECT e.* FROM events e
    WHERE e.stream = heads.head AND e.recorded_at >= heads.first_at AND e.version > heads.after
) e
ORDER BY stream, version
"""  # noqa: S608 - the only thing interpolated is the constant list of columns

_KEEP_SNAPSHOT = """
INSERT INTO stream_snapshots AS s (stream, version, state, taken_at)
VALUES (%s, %s, %s, clock_timestamp())
ON CONFLICT (stream) DO UPDATE SET version = excluded.version, state = excluded.state,
    taken_at = excluded.taken_at
WHERE s.version < excluded.version OR s.state -> 'format' <> excluded.state -> 'format'
"""

_MOVE_HEADS = "SELECT stream, recorded_at FROM move_heads(%s)"

_NEIGHBOURS = """
WITH k AS (SELECT * FROM json_to_recordset(%s) AS k(id text, ns bigint, tracked boolean))
SELECT k.id, k.ns, official.snap_ns, official.value, held.snap_ns, held.value, following.snaps,
    previous.snap_ns, previous.standings, next.snap_ns
FROM k
LEFT JOIN LATERAL (
    SELECT snap_ns, value FROM decisions d
    WHERE d.reference_data_id = k.id AND d.snap_ns < k.ns AND d.status = 'official'
    ORDER BY snap_ns DESC LIMIT 1
) official ON true
LEFT JOIN LATERAL (
    SELECT snap_ns, value FROM decisions d
    WHERE d.reference_data_id = k.id AND d.snap_ns < k.ns AND d.status = 'suspect'
      AND d.snap_ns > coalesce(official.snap_ns, -9223372036854775807)
    ORDER BY snap_ns DESC LIMIT 1
) held ON true
LEFT JOIN LATERAL (
    SELECT array_agg(snap_ns ORDER BY snap_ns) AS snaps FROM decisions d
    WHERE d.reference_data_id = k.id AND d.snap_ns > k.ns AND d.snap_ns <= (
        SELECT min(snap_ns) FROM decisions n
        WHERE n.reference_data_id = k.id AND n.snap_ns > k.ns AND n.status = 'official'
        UNION ALL SELECT 9223372036854775807 ORDER BY 1 LIMIT 1
    )
) following ON true
LEFT JOIN LATERAL (
    SELECT snap_ns, standings FROM decisions d
    WHERE k.tracked AND d.reference_data_id = k.id AND d.snap_ns < k.ns ORDER BY snap_ns DESC LIMIT 1
) previous ON true
LEFT JOIN LATERAL (
    SELECT snap_ns FROM decisions d
    WHERE k.tracked AND d.reference_data_id = k.id AND d.snap_ns > k.ns ORDER BY snap_ns LIMIT 1
) next ON true
"""

# Whoever decides on a series by what is stored of it waits for the others who do, from looking to commit.
_LOCK_SERIES = """
SELECT pg_advisory_xact_lock(hashtextextended(id, 4711))
FROM (SELECT DISTINCT json_array_elements_text(%s::json) AS id ORDER BY id) s
"""

_MOVE_BACK = "SELECT give_back_streams(%s, %s)"

_RUN = 100
"""Appends whose rows are rendered together."""


class PostgresEventStore:
    """``EventStore`` on PostgreSQL. Not for concurrent use by threads: one per process or worker."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._alone: Connection | None = None

    def load(self, streams: Collection[str]) -> Mapping[str, Loaded]:
        """See ``EventStore.load``."""
        if not streams:
            return {}
        rows = self._database.connect().execute(_LOAD, (json.dumps(sorted(streams)),)).fetchall()
        grouped: dict[str, list[Event]] = {}
        for row in rows:
            grouped.setdefault(row[3], []).append(event_of(row))
        return {stream: Loaded(events[-1].version, events) for stream, events in grouped.items()}

    def load_recent(self, streams: Collection[str], snapshot_format: int) -> Mapping[str, Loaded]:
        """See ``EventStore.load_recent``."""
        if not streams:
            return {}
        names = json.dumps(sorted(streams))
        connection = self._database.connect()
        # Events first: a snapshot that somebody keeps in between is a later one, which holds some of them.
        with connection.pipeline():
            events = connection.execute(_LOAD_RECENT, (snapshot_format, names))
            snapshots = connection.execute(_SNAPSHOTS, (names, snapshot_format))
        kept = {stream: (version, state) for stream, version, state in snapshots}
        after: dict[str, int] = {}
        grouped: dict[str, list[Event]] = {stream: [] for stream in kept}
        for row in events:
            event = event_of(row)
            after[event.stream] = row[12]
            if event.version > kept.get(event.stream, (0, None))[0]:
                grouped.setdefault(event.stream, []).append(event)
        loaded = {}
        for stream, newer in grouped.items():
            snapshot = kept.get(stream)
            version = newer[-1].version if newer else snapshot[0] if snapshot else 0
            loaded[stream] = Loaded(version, newer, snapshot)
        # Of a snapshot that other code replaced in between, the events before it were not read.
        replaced = [stream for stream, version in after.items() if version > kept.get(stream, (0, None))[0]]
        return {**loaded, **self.load(replaced)}

    def keep_snapshot(self, stream: str, version: int, state: Mapping[str, Any]) -> None:
        """See ``EventStore.keep_snapshot``."""
        self._database.connect().execute(_KEEP_SNAPSHOT, (stream, version, json.dumps(state)))

    @contextmanager
    def alone_on(self, series: Collection[str]) -> Iterator[None]:
        """See ``EventStore.alone_on``."""
        with self._database.transaction() as connection:
            connection.execute(_LOCK_SERIES, (json.dumps(sorted(series)),))
            self._alone = connection
            try:
                yield
            finally:
                self._alone = None

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """The transaction of ``alone_on``, or one for this append."""
        if self._alone is not None:
            yield self._alone
        else:
            with self._database.transaction() as connection:
                yield connection

    def append(self, appends: Sequence[Append], bases: Sequence[Basis] = ()) -> frozenset[str]:
        """See ``EventStore.append``."""
        with self._writing() as connection:
            overtaken = _overtaken(connection, bases) if bases else frozenset()
            if overtaken:
                appends = [a for a in appends if a.stream not in overtaken]
            lost, recorded_at, bodies = _move_heads(connection, appends)
            beside = frozenset(s for b in bases if b.streams & lost for s in b.streams - lost - overtaken)
            if beside:
                _move_back(connection, [a for a in appends if a.stream in beside])
                lost |= beside
            won = [i for i, a in enumerate(appends) if a.stream not in lost]
            if won:
                moment = recorded_at.isoformat()
                with connection.cursor().copy(COPY) as copy:
                    # In runs: the server stores one while the next is rendered.
                    for run in range(0, len(won), _RUN):
                        some = won[run : run + _RUN]
                        copy.write("".join([_rows(appends[i], bodies[i], moment) for i in some]))
                types = frozenset(e.type for i in won for e in appends[i].events)
                projections.project_inline(connection, types, recorded_at)
                connection.execute(f"NOTIFY {WAKE_CHANNEL}")
        return lost | overtaken

    def neighbours(self, keys: Collection[Key], tracked: Collection[Key] = ()) -> Mapping[Key, Neighbours]:
        """See ``EventStore.neighbours``."""
        return _neighbours(self._database.connect(), keys, tracked)

    def decided(self, reference_data_id: str, first: Snap, until: Snap, limit: int) -> Sequence[Snap]:
        """See ``EventStore.decided``."""
        rows = self._database.connect().execute(
            "SELECT snap_ns FROM decisions WHERE reference_data_id = %s AND snap_ns >= %s AND snap_ns < %s"
            " ORDER BY snap_ns LIMIT %s",
            (reference_data_id, first.ns, until.ns, limit),
        )
        return [Snap(ns) for (ns,) in rows]

    def issue(self, issue_id: UUID) -> Issue | None:
        """See ``EventStore.issue``."""
        row = (
            self._database.connect()
            .execute(
                "SELECT reference_data_id, snap_ns, (details ->> 'gate')::boolean FROM exceptions"
                " WHERE issue_id = %s",
                (issue_id,),
            )
            .fetchone()
        )
        return None if row is None else Issue(row[0], Snap(row[1]), row[2])

    def versions(self, streams: Collection[str]) -> Mapping[str, int]:
        """See ``EventStore.versions``."""
        rows = self._database.connect().execute(
            "SELECT stream, version FROM stream_heads"
            " WHERE stream IN (SELECT json_array_elements_text(%s::json))",
            (json.dumps(sorted(streams)),),
        )
        return dict(rows.fetchall())


def _neighbours(
    connection: Connection, keys: Collection[Key], tracked: Collection[Key]
) -> dict[Key, Neighbours]:
    wanted = json.dumps([{"id": i, "ns": s.ns, "tracked": (i, s) in tracked} for i, s in sorted(keys)])
    found: dict[Key, Neighbours] = {}
    for id_, ns, o_ns, o_value, h_ns, h_value, after, p_ns, standings, n_ns in connection.execute(
        _NEIGHBOURS, (wanted,)
    ):
        before: list[tuple[Snap, Decimal, bool]] = []
        if o_ns is not None and o_value is not None:
            before.append((Snap(o_ns), o_value, True))
        if h_ns is not None and h_value is not None:
            before.append((Snap(h_ns), h_value, False))
        found[id_, Snap(ns)] = Neighbours(
            before,
            [Snap(n) for n in after or ()],
            standings_of({"standings": standings or {}}),
            None if p_ns is None else Snap(p_ns),
            None if n_ns is None else Snap(n_ns),
        )
    return found


def _overtaken(connection: Connection, bases: Sequence[Basis]) -> frozenset[str]:
    """Streams whose basis another writer changed; holds off further ones until this transaction ends."""
    connection.execute(_LOCK_SERIES, (json.dumps(sorted(b.reference_data_id for b in bases)),))
    keys = [key for b in bases for key in b.neighbours]
    now = _neighbours(connection, keys, frozenset().union(*(b.tracked for b in bases)))
    return frozenset(
        stream for b in bases if any(now[k] != n for k, n in b.neighbours.items()) for stream in b.streams
    )


def _move_back(connection: Connection, appends: Sequence[Append]) -> None:
    """Set back heads that this transaction moved; those that it made go."""
    expected: dict[str, int] = {}
    for append in appends:
        expected.setdefault(append.stream, append.expected_version)
    connection.execute(_MOVE_BACK, (json_text(list(expected)), json_text(list(expected.values()))))


def _move_heads(
    connection: Connection, appends: Sequence[Append]
) -> tuple[frozenset[str], datetime, list[list[str]]]:
    """Move the heads that are still where they were expected.

    Returns:
        The streams that lost, the moment of recording, and the data of each append's events as JSON, which
        is rendered while the server moves the heads.
    """
    expected: dict[str, int] = {}
    moves: dict[str, int] = {}
    for append in appends:
        expected.setdefault(append.stream, append.expected_version)
        moves[append.stream] = append.expected_version + len(append.events)
    given = [{"stream": s, "expected": expected[s], "moved": moves[s]} for s in sorted(moves)]
    with connection.pipeline():
        moving = connection.execute(_MOVE_HEADS, (json_text(given),))
        bodies = [[json_text(e.data) for e in a.events] for a in appends]
    moved: dict[str | None, datetime] = dict(moving.fetchall())
    clock = moved.pop(None)
    recorded_at = max(moved.values(), default=clock)
    # Heads keep the moment of their newest event or later, also where the clock had to be pushed on.
    if recorded_at != clock and moved:
        connection.execute(
            "UPDATE stream_heads SET recorded_at = greatest(recorded_at, %s) WHERE stream = ANY(%s)",
            (recorded_at, sorted(filter(None, moved))),
        )
    return frozenset(expected.keys() - moved.keys()), recorded_at, bodies


def _rows(append: Append, bodies: Sequence[str], recorded_at: str) -> str:
    """The append's rows in the text format of COPY."""
    given = enumerate(zip(append.events, bodies, strict=True), append.expected_version + 1)
    return "".join(
        [
            copy_row(
                event_id(append.stream, version),
                append.stream,
                version,
                event.type,
                body,
                recorded_at,
                append.actor,
                append.correlation_id,
                append.causation_id,
            )
            for version, (event, body) in given
        ]
    )
