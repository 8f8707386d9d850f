"""Partitions of the log: made ahead, and what happens where they were not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from qis.adapters.postgres.event_store import PostgresEventStore
from qis.adapters.postgres.partitions import make_months
from tests.support.builders import claim, ingested, published, value_append
from tests.support.databases import FreshDatabase


def partitions(database: FreshDatabase) -> list[tuple[str, datetime, datetime]]:
    with database.connect() as owner:
        return owner.execute("SELECT * FROM event_partitions() ORDER BY since").fetchall()


def without_months(database: FreshDatabase) -> None:
    """Drop all months, so that the default partition catches every event."""
    with database.connect() as owner:
        for name, _, _ in partitions(database):
            owner.execute(f"DROP TABLE {name}")


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
    moment = "2031-11-30T23:59:59Z"
    connection = database.app.connect()  # the role of the functions, which may not create tables itself
    names = ["events_2031_11", "events_2031_12", "events_2032_01", "events_2032_02"]
    assert make_months(connection, 2, moment) == names[:3]
    assert make_months(connection, 2, moment) == []
    assert make_months(connection, 3, moment) == names[3:]
    found = [name for name, _, _ in partitions(database) if name > "events_2031"]
    assert found == names


def test_months_begin_at_midnight_utc_whatever_the_session_zone(database: FreshDatabase) -> None:
    with database.connect() as connection:
        connection.execute("SET timezone = 'Asia/Tokyo'")
        make_months(connection, 0, "2031-05-15T00:00:00Z")
        connection.execute("SET timezone = 'UTC'")
        row = connection.execute(
            "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'events_2031_05'"
        ).fetchone()
    assert row == ("FOR VALUES FROM ('2031-05-01 00:00:00+00') TO ('2031-06-01 00:00:00+00')",)


def test_without_its_partition_an_event_is_kept_in_the_default_one_and_counted(
    database: FreshDatabase,
) -> None:
    without_months(database)
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
        make_months(database.app.connect(), ahead)


BOUNDED, CHECKED = "default partition bounded", "default partition checked"


class Caught:
    """A log whose months were not made in time: its events are in the default partition."""

    def __init__(self, database: FreshDatabase) -> None:
        self.database = database
        self.store = PostgresEventStore(database.app)
        without_months(database)
        self._version = 0
        self.write()

    def write(self) -> None:
        """Append an event, as a function does while a month is being made."""
        value = published(f"1.{self._version}", version=self._version + 1)
        self.database.app.connect().execute("SET lock_timeout = '2s'")
        assert not self.store.append([value_append(self._version, value)])
        self._version += 1

    def rows(self) -> list[str]:
        with self.database.connect() as owner:
            return [r[0] for r in owner.execute("SELECT e::text FROM events e ORDER BY tx, position")]


def months(count: int, first: int = 0) -> list[str]:
    """Names of the partitions of this month and those after it."""
    now = datetime.now(UTC)
    places = [divmod(now.month - 1 + n, 12) for n in range(first, first + count)]
    return [f"events_{now.year + years}_{month + 1:02}" for years, month in places]


def test_events_that_the_default_partition_caught_get_their_months_without_being_moved(
    database: FreshDatabase,
) -> None:
    log = Caught(database)
    before = log.rows()
    with database.connect() as owner:
        file = owner.execute("SELECT pg_relation_filenode('events_default')").fetchone()
        two_months = f"{months(1)[0]}_to_{months(1, 1)[0].removeprefix('events_')}"
        assert make_months(database.app.connect()) == [BOUNDED, CHECKED, two_months, *months(2, 2)]
        assert owner.execute("SELECT pg_relation_filenode(%s)", (two_months,)).fetchone() == file
        assert owner.execute("SELECT count(*) FROM events_default").fetchone() == (0,)
        assert partition_of_newest(owner) == two_months
    assert log.rows() == before
    assert make_months(database.app.connect()) == []
    log.write()
    assert log.rows()[:-1] == before
    stream = value_append(0, published("1")).stream
    assert log.store.load([stream])[stream].version == 2
    assert check_is_gone(database)


def check_is_gone(database: FreshDatabase) -> bool:
    with database.connect() as owner:
        found = owner.execute("SELECT count(*) FROM pg_constraint WHERE conname = 'events_default_months'")
        return found.fetchone() == (0,)


def test_writers_go_on_between_the_steps_and_through_the_long_one(database: FreshDatabase) -> None:
    log = Caught(database)
    step = "SELECT next_event_partition(clock_timestamp(), 3)"
    with database.connect() as owner:
        assert owner.execute(step).fetchone() == (BOUNDED,)
        log.write()
        with owner.transaction():
            assert owner.execute(step).fetchone() == (CHECKED,)
            log.write()  # beside the step that reads all that there is
        log.write()
        while owner.execute(step).fetchone() != (None,):
            log.write()
        assert owner.execute("SELECT count(*) FROM events_default").fetchone() == (0,)
    versions = [int(row.split(",")[5]) for row in log.rows()]
    assert versions == list(range(1, len(versions) + 1))


def test_the_change_of_places_reads_neither_table(database: FreshDatabase) -> None:
    """Otherwise everybody would wait for as long as the default partition is large."""
    log = Caught(database)
    with database.connect() as owner:
        for _ in range(2):
            owner.execute("SELECT next_event_partition(clock_timestamp(), 3)")
        owner.execute("SET client_min_messages = debug1")
        notes: list[str] = []
        owner.add_notice_handler(lambda note: notes.append(note.message_primary or ""))
        assert owner.execute("SELECT next_event_partition(clock_timestamp(), 3)").fetchone() != (None,)
    implied = [note for note in notes if "implied by existing constraints" in note]
    assert implied, notes
    assert log.rows()


def test_a_month_that_is_there_ends_the_range_of_those_caught_before_it(database: FreshDatabase) -> None:
    log = Caught(database)
    with database.connect() as owner:
        now = datetime.now(UTC)
        following = (now.replace(day=1) + timedelta(days=32)).replace(day=1)
        make_month(owner, following)
        assert make_months(database.app.connect(), 1) == [BOUNDED, CHECKED, months(1)[0]]
    assert log.rows()


def test_events_on_both_sides_of_a_month_are_told_and_left_to_people(database: FreshDatabase) -> None:
    log = Caught(database)
    with database.connect() as owner:
        earlier = datetime.now(UTC) - timedelta(days=100)
        made = (datetime.now(UTC) - timedelta(days=60)).replace(day=1)
        make_month(owner, made)
        owner.execute(
            "INSERT INTO events (recorded_at, event_id, stream, version, type, type_version, actor,"
            " correlation_id, data)"
            " SELECT %s, gen_random_uuid(), 'old', 1, type, 1, 'a', 'c', data FROM events",
            (earlier,),
        )
        with pytest.raises(psycopg.errors.RaiseException, match="on both sides of the month"):
            make_months(database.app.connect())
    log.write()


def test_functions_of_the_version_before_still_make_months(database: FreshDatabase) -> None:
    """They run beside those of this one while it is deployed."""
    without_months(database)
    connection = database.app.connect()
    step = "SELECT ensure_event_partitions(clock_timestamp(), 1)"
    assert [connection.execute(step).fetchone() for _ in range(3)] == [(1,), (1,), (0,)]
    assert [name for name, _, _ in partitions(database)] == months(2)


def test_two_who_make_months_at_once_do_not_wait_for_each_other(database: FreshDatabase) -> None:
    Caught(database)
    with database.connect() as owner, owner.transaction():
        owner.execute("SELECT next_event_partition(clock_timestamp(), 3)")
        assert make_months(database.app.connect()) == []


def make_month(owner: psycopg.Connection, since: datetime) -> None:
    first = since.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    until = (first + timedelta(days=32)).replace(day=1)
    owner.execute(
        f"CREATE TABLE events_{first:%Y_%m} PARTITION OF events"
        f" FOR VALUES FROM ('{first.isoformat()}') TO ('{until.isoformat()}')"
    )
