"""Partitions of the log: made ahead, and what happens where they were not."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg
import pytest

from qis.adapters.postgres.event_store import PostgresEventStore
from tests.support.builders import claim, ingested, value_append
from tests.support.databases import FreshDatabase


def partition_of_newest(connection: psycopg.Connection) -> str:
    row = connection.execute(
        "SELECT tableoid::regclass::text FROM events ORDER BY tx DESC, position DESC LIMIT 1"
    ).fetchone()
    assert row is not None
    return str(row[0])


def test_an_event_of_now_lands_in_the_partition_of_its_month(database: FreshDatabase) -> None:
    PostgresEventStore(database.app).append([value_append(0, ingested(claim()))])
    with database.connect() as connection:
        row = connection.execute("SELECT recorded_at AT TIME ZONE 'UTC' FROM events").fetchone()
        assert row is not None
        assert partition_of_newest(connection) == f"events_{row[0]:%Y_%m}"
        assert connection.execute("SELECT count(*) FROM events_default").fetchone() == (0,)


def test_partitions_ahead_are_made_once_also_over_the_turn_of_the_year(database: FreshDatabase) -> None:
    moment = datetime(2031, 11, 30, 23, 59, 59, tzinfo=UTC)
    connection = database.app.connect()  # the role of the functions, which may not create tables itself
    assert connection.execute("SELECT ensure_event_partitions(%s, 2)", (moment,)).fetchone() == (3,)
    assert connection.execute("SELECT ensure_event_partitions(%s, 2)", (moment,)).fetchone() == (0,)
    assert connection.execute("SELECT ensure_event_partitions(%s, 3)", (moment,)).fetchone() == (1,)
    rows = connection.execute(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'events'::regclass AND c.relname >= 'events_2031' AND c.relname < 'events_d'"
        " ORDER BY 1"
    ).fetchall()
    assert [r[0] for r in rows] == ["events_2031_11", "events_2031_12", "events_2032_01", "events_2032_02"]


def test_months_begin_at_midnight_utc_whatever_the_session_zone(database: FreshDatabase) -> None:
    with database.connect() as connection:
        connection.execute("SET timezone = 'Asia/Tokyo'")
        connection.execute("SELECT ensure_event_partitions('2031-05-15T00:00:00Z', 0)")
        connection.execute("SET timezone = 'UTC'")
        row = connection.execute(
            "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'events_2031_05'"
        ).fetchone()
    assert row == ("FOR VALUES FROM ('2031-05-01 00:00:00+00') TO ('2031-06-01 00:00:00+00')",)


def test_without_its_partition_an_event_is_kept_in_the_default_one_and_counted(
    database: FreshDatabase,
) -> None:
    with database.connect() as connection:
        for (name,) in connection.execute(
            "SELECT c.oid::regclass::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = 'events'::regclass AND c.relname <> 'events_default'"
        ).fetchall():
            connection.execute(f"DROP TABLE {name}")
    store = PostgresEventStore(database.app)
    assert not store.append([value_append(0, ingested(claim()))])
    assert not store.append([value_append(1, ingested(claim("beta")))])
    with database.connect() as connection:
        assert partition_of_newest(connection) == "events_default"
    # What the relay's alarm metric counts, with the rights that it has.
    counted = database.app.connect().execute("SELECT count(*) FROM (SELECT FROM events_default LIMIT 1000) d")
    assert counted.fetchone() == (2,)
    stream = value_append(0, ingested(claim())).stream
    assert store.load([stream])[stream].version == 2


@pytest.mark.parametrize("ahead", [-1, 25])
def test_a_senseless_number_of_months_is_refused(database: FreshDatabase, ahead: int) -> None:
    with pytest.raises(psycopg.errors.RaiseException, match="0 to 24"):
        database.app.connect().execute("SELECT ensure_event_partitions(now(), %s)", (ahead,))


def test_events_caught_by_the_default_partition_move_to_their_month_once_it_is_made(
    database: FreshDatabase,
) -> None:
    """Otherwise the month could never be made, and the relay, which makes it, would never run again."""
    store = PostgresEventStore(database.app)
    store.append([value_append(0, ingested(claim()), ingested(claim("beta")))])
    with database.connect() as owner:
        before = owner.execute("SELECT e::text FROM events e ORDER BY position").fetchall()
        month = partition_of_newest(owner)
        owner.execute(f"CREATE TABLE kept AS SELECT * FROM {month}")
        owner.execute(f"DROP TABLE {month}")
        owner.execute("INSERT INTO events OVERRIDING SYSTEM VALUE SELECT * FROM kept")
        assert partition_of_newest(owner) == "events_default"
        moment = owner.execute("SELECT recorded_at FROM events LIMIT 1").fetchone()
        assert moment is not None
        made = database.app.connect().execute("SELECT ensure_event_partitions(%s, 0)", moment)
        assert made.fetchone() == (1,)
        assert partition_of_newest(owner) == month
        assert owner.execute("SELECT count(*) FROM events_default").fetchone() == (0,)
        assert owner.execute("SELECT e::text FROM events e ORDER BY position").fetchall() == before
    assert not store.append([value_append(2, ingested(claim("gamma")))])
