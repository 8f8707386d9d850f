"""The scoreboard on PostgreSQL: its follower's transaction, and the sums as the queries see them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from qis.adapters.postgres.connection import Database
from qis.adapters.postgres.followers import PostgresFollower
from qis.application.scoreboard import MOST_WAITING, Followed, Key, Place
from qis.domain.events import START, Event, Position
from qis.domain.gaps import Spoken
from qis.domain.scoreboard import FOLLOWED, Cell, Tally, ValueState, change
from qis.domain.sequences import Channel
from qis.domain.sequences import Key as ChannelKey
from qis.domain.snap import Snap
from qis.domain.windows import Windows

if TYPE_CHECKING:
    from psycopg import Connection

FOLLOWER = "scoreboard"
PATIENCE_MS = 1_000
"""How long to wait for who follows at the moment: longer than a usual batch takes, so that what a batch of
the backbone brought is followed with it."""

_STATES = """
SELECT k.id, k.ns, v.state::text FROM json_to_recordset(%s) AS k(id text, ns bigint)
JOIN quality_values v ON v.reference_data_id = k.id AND v.snap_ns = k.ns
"""

_KEEP_STATES = """
INSERT INTO quality_values (reference_data_id, snap_ns, state)
SELECT id, ns, state FROM json_to_recordset(%s) AS x(id text, ns bigint, state jsonb)
ON CONFLICT (reference_data_id, snap_ns) DO UPDATE SET state = excluded.state
"""

_TALLIES = """
SELECT k.id, k.source, k.hour, t.tally::text
FROM json_to_recordset(%s) AS k(id text, source text, hour bigint)
JOIN quality_tallies t ON t.reference_data_id = k.id AND t.source = k.source AND t.hour_ns = k.hour
"""

_KEEP_TALLIES = """
INSERT INTO quality_tallies (reference_data_id, source, hour_ns, tally)
SELECT id, source, hour, tally
FROM json_to_recordset(%s) AS x(id text, source text, hour bigint, tally jsonb)
ON CONFLICT (reference_data_id, source, hour_ns) DO UPDATE SET tally = excluded.tally
"""

_CHANNELS = """
SELECT k.source, k.channel, s.state::text FROM json_to_recordset(%s) AS k(source text, channel text)
JOIN sequence_states s ON s.source = k.source AND s.channel = k.channel
"""

_KEEP_CHANNELS = """
INSERT INTO sequence_states (source, channel, state)
SELECT source, channel, state FROM json_to_recordset(%s) AS x(source text, channel text, state jsonb)
ON CONFLICT (source, channel) DO UPDATE SET state = excluded.state, told = false
"""

_TOLD = """
UPDATE sequence_states s SET told = true
FROM json_to_recordset(%s) AS x(source text, channel text, state jsonb)
WHERE s.source = x.source AND s.channel = x.channel AND s.state = x.state
"""

_TOTAL = """
SELECT n.key, sum(n.value::numeric) FROM quality_tallies t CROSS JOIN LATERAL jsonb_each_text(t.tally) n
WHERE t.source = %s AND t.hour_ns >= %s AND t.hour_ns < %s
"""

_WAITING = """
SELECT (SELECT recorded_at FROM events WHERE tx = %(tx)s::xid8 AND position = %(at)s), count(*),
    coalesce(bool_or(touching) FILTER (WHERE number <= %(most)s), false)
FROM (
    SELECT row_number() OVER (ORDER BY tx, position) AS number,
        (data->>'snap')::timestamptz >= %(first)s AND (data->>'snap')::timestamptz < %(until)s
            AND (%(ids)s::text[] IS NULL OR data->>'reference_data_id' = ANY(%(ids)s)) AS touching
    FROM events WHERE (tx, position) > (%(tx)s::xid8, %(at)s) AND type = ANY(%(types)s)
    ORDER BY tx, position LIMIT %(most)s + 1
) waiting
"""

# A cell without claims holds values at which the source was expected.
_SPOKEN = """
SELECT id,
    ARRAY(SELECT hour_ns FROM quality_tallies WHERE reference_data_id = id AND source = %(source)s
        AND hour_ns >= %(first)s AND hour_ns < %(until)s AND tally ? 'claims' ORDER BY hour_ns),
    EXISTS(SELECT FROM quality_tallies WHERE reference_data_id = id AND source = %(source)s
        AND hour_ns < %(first)s AND tally ? 'claims'),
    EXISTS(SELECT FROM quality_tallies WHERE reference_data_id = id AND source = %(source)s
        AND hour_ns >= %(until)s AND tally ? 'claims')
FROM unnest(%(ids)s::text[]) AS id
"""

_GROUPED = {"series": "t.reference_data_id"} | {
    unit: f"to_char(date_trunc('{unit}', to_timestamp(t.hour_ns / 1e9) AT TIME ZONE 'UTC'), 'YYYY-MM-DD')"
    for unit in ("day", "week", "month")
}

_NAMED = "JOIN jsonb_each_text(%s) AS g ON g.key = t.reference_data_id"
_GROUPS = """
WITH named AS (
    SELECT {group} COLLATE "C" AS name, t.tally FROM quality_tallies t {named}
    WHERE t.source = %s AND t.hour_ns >= %s AND t.hour_ns < %s
), page AS (SELECT DISTINCT name FROM named WHERE name > %s ORDER BY name LIMIT %s)
SELECT named.name, n.key, sum(n.value::numeric) FROM named JOIN page USING (name)
CROSS JOIN LATERAL jsonb_each_text(named.tally) n GROUP BY named.name, n.key
"""

_TALLY = msgspec.json.Decoder(Tally)


def _json(value: object) -> str:
    """``value`` as JSON; a decimal is a string in it."""
    return msgspec.json.encode(value).decode()


class PostgresScoreStore:
    """``ScoreStore`` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def session(self) -> Iterator[PostgresScoreSession | None]:
        """See ``ScoreStore.session``."""
        from psycopg.errors import LockNotAvailable

        with self._database.transaction() as connection:
            try:
                with connection.transaction():
                    connection.execute(f"SET LOCAL lock_timeout = '{PATIENCE_MS}ms'")
                    connection.execute(
                        "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"qis {FOLLOWER}",)
                    )
            except LockNotAvailable:
                yield None
            else:
                yield PostgresScoreSession(connection)


class PostgresScoreSession:
    """``ScoreSession`` in a transaction that holds the follower's lock."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._follower = PostgresFollower(connection, FOLLOWER)

    def read(self, types: Collection[str], limit: int) -> Sequence[Event]:
        """See ``ScoreSession.read``."""
        return self._follower.read(self._follower.checkpoint(), limit, types)

    def states(self, keys: Collection[Key]) -> Mapping[Key, ValueState]:
        """See ``ScoreSession.states``."""
        given = _json([{"id": id_, "ns": ns} for id_, ns in keys])
        rows = self._connection.execute(_STATES, (given,))
        return {(id_, ns): ValueState.of(msgspec.json.decode(state)) for id_, ns, state in rows}

    def windows(self, length: timedelta) -> Windows:
        """See ``ScoreSession.windows``."""
        row = self._connection.execute("SELECT state FROM quality_windows").fetchone()
        return Windows.of(None if row is None else row[0], length)

    def channels(self, keys: Collection[ChannelKey]) -> Mapping[ChannelKey, Channel]:
        """See ``ScoreSession.channels``."""
        given = _json([{"source": source, "channel": channel} for source, channel in keys])
        rows = self._connection.execute(_CHANNELS, (given,))
        return {(source, channel): _channel(state) for source, channel, state in rows}

    def keep(
        self,
        states: Mapping[Key, ValueState],
        changes: Mapping[Cell, Tally],
        windows: Windows,
        to: Position | None,
        at: datetime,
        channels: Mapping[ChannelKey, Channel],
    ) -> None:
        """See ``ScoreSession.keep``."""
        if channels:
            self._connection.execute(_KEEP_CHANNELS, (_channels_json(channels),))
        rows = [{"id": id_, "ns": ns, "state": s.as_json()} for (id_, ns), s in states.items()]
        if rows:
            self._connection.execute(_KEEP_STATES, (_json(rows),))
        self._add({c: t for c, t in changes.items() if t})
        self._connection.execute(
            "INSERT INTO quality_windows (state) VALUES (%s)"
            " ON CONFLICT (only_row) DO UPDATE SET state = excluded.state",
            (_json(windows.as_json()),),
        )
        if to is not None:
            self._follower.move(to, at)

    def _add(self, changes: Mapping[Cell, Tally]) -> None:
        if not changes:
            return
        wanted = [{"id": id_, "source": source, "hour": hour} for id_, source, hour in changes]
        sums: dict[Cell, Tally] = {}
        for id_, source, hour, tally in self._connection.execute(_TALLIES, (_json(wanted),)):
            sums[id_, source, hour] = _TALLY.decode(tally)
        for at, tally in changes.items():
            change(sums, at, tally, 1)
        rows = [
            {"id": id_, "source": source, "hour": hour, "tally": sums[id_, source, hour]}
            for id_, source, hour in changes
        ]
        self._connection.execute(_KEEP_TALLIES, (_json(rows),))


def _channels_json(channels: Mapping[ChannelKey, Channel]) -> str:
    return _json([{"source": s, "channel": c, "state": x.as_json()} for (s, c), x in channels.items()])


def _channel(state: str) -> Channel:
    return Channel.of(msgspec.json.decode(state))


class PostgresSequences:
    """``Sequences`` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def untold(self) -> Mapping[ChannelKey, Channel]:
        """See ``Sequences.untold``."""
        rows = self._database.connect().execute(
            "SELECT source, channel, state::text FROM sequence_states WHERE NOT told"
        )
        return {(source, channel): _channel(state) for source, channel, state in rows}

    def told(self, channels: Mapping[ChannelKey, Channel]) -> None:
        """See ``Sequences.told``."""
        self._database.connect().execute(_TOLD, (_channels_json(channels),))


class PostgresScores:
    """``ScoreReads`` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def followed(self, ids: Collection[str] | None, first: int, until: int) -> Followed:
        """See ``ScoreReads.followed``."""
        connection = self._database.connect()
        at = PostgresFollower(connection, FOLLOWER).checkpoint()
        given = {
            "tx": str(at.tx),
            "at": at.sequence,
            "first": Snap(first).moment,
            "until": Snap(until).moment,
            "ids": None if ids is None else list(ids),
            "types": list(FOLLOWED),
            "most": MOST_WAITING,
        }
        row = connection.execute(_WAITING, given).fetchone()
        assert row is not None
        return Followed(None if at == START else at, *row)

    def spoken(self, source: str, ids: Collection[str], first: int, until: int) -> Mapping[str, Spoken]:
        """See ``ScoreReads.spoken``."""
        rows = self._database.connect().execute(
            _SPOKEN, {"source": source, "ids": list(ids), "first": first, "until": until}
        )
        return {
            id_: Spoken(hours, before, after)
            for id_, hours, before, after in rows
            if hours or before or after
        }

    def channels(self, source: str) -> Mapping[str, Channel]:
        """See ``ScoreReads.channels``."""
        rows = self._database.connect().execute(
            "SELECT channel, state::text FROM sequence_states WHERE source = %s ORDER BY channel", (source,)
        )
        return {channel: _channel(state) for channel, state in rows}

    def total(self, place: Place, first: int, until: int) -> Tally:
        """See ``ScoreReads.total``."""
        query, given = _TOTAL, [place.source, first, until]
        if place.ids is not None:
            query += " AND t.reference_data_id = ANY(%s)"
            given.append(list(place.ids))
        rows = self._database.connect().execute((query + " GROUP BY n.key").encode(), given)
        return dict(rows.fetchall())

    def groups(
        self, source: str, first: int, until: int, by: str | Mapping[str, str], after: str, limit: int
    ) -> Mapping[str, Tally]:
        """See ``ScoreReads.groups``."""
        given: tuple[object, ...] = (source, first, until, after, limit)
        if isinstance(by, str):
            query = _GROUPS.format(group=_GROUPED[by], named="")
        else:
            query = _GROUPS.format(group="g.value", named=_NAMED)
            given = (_json(by), *given)
        found: dict[str, Tally] = {}
        for name, key, total in self._database.connect().execute(query.encode(), given):
            found.setdefault(name, {})[key] = total
        return found
