"""What holds up the followers of the log is found, named, and ended where a setting says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest

from qis.adapters.postgres.event_store import PostgresEventStore
from qis.adapters.postgres.followers import PostgresFollower
from qis.adapters.postgres.horizon import Holder, end_holder, horizon_holder
from qis.adapters.raw_moving import RawMoving
from qis.adapters.relaying import Relaying, Report
from qis.domain.events import START
from tests.support.builders import published, value_append
from tests.support.databases import FreshDatabase, Template
from tests.support.fakes import MemoryBackbone, MemoryRawStore
from tests.support.waiting import until

GONE = "SELECT FROM pg_stat_activity WHERE pid = %s"


@pytest.fixture
def elsewhere(template: Template) -> Iterator[FreshDatabase]:
    """Another database of the same server."""
    other = template.fresh()
    yield other
    other.close()


def hold(connection: psycopg.Connection) -> int:
    """Open a transaction that has a number, and leave it; the process that holds it."""
    connection.execute("BEGIN")
    connection.execute("SELECT pg_current_xact_id()")
    return connection.info.backend_pid


def stalled(database: FreshDatabase) -> bool:
    """Whether what is appended now is not followed."""
    store = PostgresEventStore(database.app)
    follower = PostgresFollower(database.app.connect(), "test")
    before = len(follower.read(START, 1_000))
    versions = store.versions(["value:FX.EURUSD@2026-01-05T14:00:00Z"])
    version = next(iter(versions.values()), 0)
    assert not store.append([value_append(version, published("1.1", version=version + 1))])
    return len(follower.read(START, 1_000)) == before


def holder(database: FreshDatabase) -> Holder | None:
    return horizon_holder(database.app.connect())


# what holds the horizon ----------------------------------------------------------------------------


def test_a_transaction_of_another_database_holds_followers_up_and_is_named(
    database: FreshDatabase, elsewhere: FreshDatabase
) -> None:
    assert not stalled(database)
    with as_app(elsewhere) as other:
        pid = hold(other)
        assert stalled(database)
        found = holder(database)
        assert found is not None
        assert (found.pid, found.database, found.role, found.application, found.state) == (
            pid,
            elsewhere.name,
            "qis_app",
            "a report",
            "idle in transaction",
        )
        assert found.seconds >= 0
        assert f"process {pid} of qis_app in database {elsewhere.name}" in found.text
    assert not stalled(database)


def test_a_transaction_that_only_reads_holds_nobody_up(database: FreshDatabase) -> None:
    with database.connect() as reader:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        reader.execute("SELECT count(*) FROM events")
        assert not stalled(database)
        assert holder(database) is None


def test_prepared_transactions_are_off(database: FreshDatabase) -> None:
    """They hold followers up without a session that could be ended."""
    with database.connect() as owner:
        assert owner.execute("SHOW max_prepared_transactions").fetchone() == ("0",)


def test_of_several_the_oldest_is_named(database: FreshDatabase, elsewhere: FreshDatabase) -> None:
    with elsewhere.connect() as first, elsewhere.connect() as second:
        oldest, next_ = hold(first), hold(second)
        found = holder(database)
        assert found is not None
        assert found.pid == oldest
        first.execute("COMMIT")
        found = holder(database)
        assert found is not None
        assert found.pid == next_


# the end of it -------------------------------------------------------------------------------------


@contextmanager
def as_app(database: FreshDatabase) -> Iterator[psycopg.Connection]:
    """A session of a role that is no superuser, which may be ended from outside."""
    at = database.target
    connection = psycopg.connect(
        host=at.host,
        port=at.port,
        dbname=at.database,
        user=at.user,
        application_name="a report",
        autocommit=True,
    )
    with closing(connection):
        yield connection


def test_it_is_ended_when_it_has_lasted_long_enough(
    database: FreshDatabase, elsewhere: FreshDatabase
) -> None:
    with as_app(elsewhere) as other, database.connect() as look:
        pid = hold(other)
        found = holder(database)
        assert found is not None
        connection = database.app.connect()
        assert end_holder(connection, found, at_least_seconds=3_600) == "over", "it is not old enough"
        assert look.execute(GONE, (pid,)).fetchone() is not None
        assert end_holder(connection, found, at_least_seconds=0) == "ended"
        until(lambda: look.execute(GONE, (pid,)).fetchone() is None, "the session to end")
        assert not stalled(database)


def test_a_session_that_goes_on_with_another_transaction_is_left_alone(
    database: FreshDatabase, elsewhere: FreshDatabase
) -> None:
    with as_app(elsewhere) as other, database.connect() as look:
        pid = hold(other)
        found = holder(database)
        assert found is not None
        other.execute("COMMIT")
        hold(other)
        assert end_holder(database.app.connect(), found, at_least_seconds=0) == "over"
        assert look.execute(GONE, (pid,)).fetchone() is not None


def test_the_functions_themselves_can_end_no_session_of_others(
    database: FreshDatabase, elsewhere: FreshDatabase
) -> None:
    with elsewhere.connect() as other, pytest.raises(psycopg.errors.InsufficientPrivilege):
        database.app.connect().execute("SELECT pg_terminate_backend(%s)", (other.info.backend_pid,))


# by the relay --------------------------------------------------------------------------------------


def relay(database: FreshDatabase, reports: list[Report], end_after: int) -> None:
    """Run until a report is made."""
    Relaying(
        database=database.another(),
        backbone=MemoryBackbone(),
        audit=None,
        raw=RawMoving(database.another, MemoryRawStore(), lambda _: None),
        seconds_left=lambda: 0.0 if reports else 100.0,
        report=reports.append,
        interrupted=lambda _: None,
        end_after=end_after,
    ).run()


def test_the_relay_tells_who_holds_it_up_and_how_long(
    database: FreshDatabase, elsewhere: FreshDatabase
) -> None:
    reports: list[Report] = []
    with as_app(elsewhere) as other:
        pid = hold(other)
        relay(database, reports, end_after=0)
        (report,) = reports
        assert report.holder is not None
        assert (report.holder.pid, report.ending) == (pid, None)
        assert other.execute("SELECT 1").fetchone() == (1,)


def test_the_relay_ends_it_where_the_setting_says_so(
    database: FreshDatabase, elsewhere: FreshDatabase
) -> None:
    reports: list[Report] = []
    with as_app(elsewhere) as other, database.connect() as look:
        pid = hold(other)
        until(lambda: (found := holder(database)) is not None and found.seconds >= 1, "it to last a second")
        relay(database, reports, end_after=1)
        (report,) = reports
        assert report.ending == "ended"
        until(lambda: look.execute(GONE, (pid,)).fetchone() is None, "the session to end")


def test_where_nobody_holds_it_up_nothing_is_told(database: FreshDatabase) -> None:
    reports: list[Report] = []
    relay(database, reports, end_after=1)
    assert [r.holder for r in reports] == [None]
