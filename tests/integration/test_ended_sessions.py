"""Sessions that the server ends: what was answered as stored is stored, and repeating is right.

Whatever belongs to a transaction, or rests on a lock of its session, runs on that session or fails.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from qis.adapters.postgres.admission import PostgresAdmissions
from qis.adapters.postgres.catalogue import PostgresCatalogue
from qis.adapters.postgres.connection import Database
from qis.adapters.postgres.event_store import PostgresEventStore
from qis.adapters.postgres.push import PostgresConnections
from qis.adapters.resolvers import installed
from qis.application.ingest import Delivery, Ingest
from qis.application.register import Register
from qis.domain.events import Position
from tests.support.builders import (
    claim_body,
    claim_record,
    reconciled,
    rules_body,
    series_body,
    source_body,
    value_append,
)
from tests.support.databases import FreshDatabase
from tests.support.fakes import MemoryDeadLetters
from tests.support.sessions import EndingDatabase, When, end_session

pytestmark = pytest.mark.integration

NOW = datetime(2026, 1, 5, tzinfo=UTC)
EVERY_WAY = pytest.mark.parametrize("when", ["before", "unanswered", "after"])


def ingest(database: Database) -> Ingest:
    """Ingest that reads the catalogue again for every batch."""
    ticks = iter(range(10**9))
    catalogue = PostgresCatalogue(database, lambda: float(next(ticks)))
    return Ingest(PostgresAdmissions(database), catalogue, "s3://raw", MemoryDeadLetters(), uuid4)


def populate(database: Database) -> None:
    register = Register(PostgresEventStore(database), PostgresCatalogue(database, lambda: 0.0), installed)
    register.rules(rules_body(), "setup", "setup")
    register.source(source_body("alpha"), "setup", "setup")
    register.series(series_body(), "setup", "setup")


def stored(database: FreshDatabase) -> dict[str, int]:
    """Claims and receipts, and what is counted of them."""
    row = database.app.connect().execute(
        "SELECT (SELECT count(*) FROM events WHERE type = 'DataIngested'), (SELECT count(*) FROM receipts),"
        " coalesce(sum(accepted), 0)::int, coalesce(sum(rejected), 0)::int FROM loads"
    )
    return dict(zip(("claims", "receipts", "accepted", "rejected"), row.fetchone() or (), strict=True))


def more(before: dict[str, int], **by: int) -> dict[str, int]:
    return {name: number + by.get(name, 0) for name, number in before.items()}


def end_at_every_statement(
    database: FreshDatabase, when: When, act: Callable[[EndingDatabase, int], None], at_least: int
) -> None:
    """Repeat ``act`` with the session ended around one statement after the other, until none is left."""
    at = 0
    while True:
        ending = EndingDatabase(database, at, when)
        try:
            act(ending, at)
        finally:
            ending.close()
        if not ending.ended:
            break
        at += 1
    assert at >= at_least, ending.statements


@EVERY_WAY
def test_a_submission_answered_as_stored_is_stored_wherever_its_session_ends(
    database: FreshDatabase, when: When
) -> None:
    populate(database.app)

    def act(ending: EndingDatabase, at: int) -> None:
        request = [claim_body(value=f"1.{at:03}"), {"unknown": "field"}]
        before, answer = stored(database), None
        once = more(before, claims=1, receipts=1, accepted=1, rejected=1)
        with suppress(psycopg.OperationalError):
            answer = ingest(ending).submit(request, "ann", "request", f"key-{at}")
            assert stored(database) == once, (at, ending.statements)
        repeated = ingest(database.app).submit(request, "ann", "request", f"key-{at}")
        assert answer in (None, repeated)
        assert (repeated["status"], repeated["accepted"], repeated["rejected"]) == ("stored", 1, 1)
        assert stored(database) == once, (at, ending.statements)

    end_at_every_statement(database, when, act, at_least=10)


@EVERY_WAY
def test_a_batch_is_stored_once_wherever_its_session_ends(database: FreshDatabase, when: When) -> None:
    populate(database.app)

    def act(ending: EndingDatabase, at: int) -> None:
        batch = [
            Delivery(f"r{at}", "load", claim_record(value=f"1.{at:03}")),
            Delivery(f"bad{at}", "load", b"{}"),
        ]
        once = more(stored(database), claims=1, accepted=1, rejected=1)
        with suppress(psycopg.OperationalError):
            ingest(ending).deliveries(batch)
            assert stored(database) == once, (at, ending.statements)
        ingest(database.app).deliveries(batch)
        assert stored(database) == once, (at, ending.statements)

    end_at_every_statement(database, when, act, at_least=9)


@EVERY_WAY
def test_a_decision_that_is_answered_is_stored_wherever_its_session_ends(
    database: FreshDatabase, when: When
) -> None:
    decision = value_append(0, reconciled("official", "1.1"))

    def act(ending: EndingDatabase, at: int) -> None:
        mine = decision._replace(stream=f"value:EUR@{at}")
        lost = None
        with suppress(psycopg.OperationalError):
            lost = PostgresEventStore(ending).append([mine])
        if lost is None:
            PostgresEventStore(database.app).append([mine])
        else:
            assert not lost
        assert PostgresEventStore(database.app).versions([mine.stream]) == {mine.stream: 1}

    end_at_every_statement(database, when, act, at_least=5)


# push channel ------------------------------------------------------------------------------------


def listening(database: FreshDatabase) -> tuple[list[Any], list[Any]]:
    """Where the connection of the push channel stands, and what it listens to."""
    connection = database.app.connect()
    places = connection.execute("SELECT tx::text, position FROM push_connections").fetchall()
    return places, connection.execute("SELECT key FROM push_subscriptions ORDER BY 1").fetchall()


@EVERY_WAY
def test_a_subscription_and_its_place_are_stored_together_wherever_the_session_ends(
    database: FreshDatabase, when: When
) -> None:
    def act(ending: EndingDatabase, at: int) -> None:
        connection_id, key = f"c{at}", f"series:S{at}"
        connections = PostgresConnections(ending)
        PostgresConnections(database.app).open(connection_id, "ann", NOW, NOW + timedelta(hours=1))
        with suppress(psycopg.OperationalError), connections.hold(connection_id, NOW):
            connections.listen(connection_id, frozenset([key]), Position(7, 1))
        row = database.app.connect().execute(
            "SELECT tx IS NOT NULL, EXISTS (SELECT FROM push_subscriptions s"
            " WHERE s.connection_id = c.connection_id) FROM push_connections c WHERE connection_id = %s",
            (connection_id,),
        )
        placed, subscribed = row.fetchone() or (None, None)
        assert placed == subscribed, (at, ending.statements)

    end_at_every_statement(database, when, act, at_least=9)


def test_a_held_connection_is_not_served_on_a_session_without_its_lock(database: FreshDatabase) -> None:
    """Its lock ended with the session, so another process may serve it already."""
    mine, connections = database.another(), PostgresConnections(database.another())
    mine_connections = PostgresConnections(mine)
    connections.open("c", "ann", NOW, NOW + timedelta(hours=1))

    def served_on() -> None:
        with mine_connections.hold("c", NOW):
            end_session(database, mine.connect())
            with connections.hold("c", NOW):
                mine_connections.move("c", Position(9, 9), NOW)

    with pytest.raises(psycopg.OperationalError):
        served_on()
    assert listening(database) == ([(None, None)], [])
    with mine_connections.hold("c", NOW) as listener:
        assert listener is not None, "the next one has a session again"


# the connection itself ---------------------------------------------------------------------------


def counted(database: FreshDatabase) -> int:
    row = database.another().connect().execute("SELECT count(*) FROM followers").fetchone()
    assert row is not None
    return int(row[0])


INSERT = "INSERT INTO followers (name, tx, position, updated_at) VALUES (%s, '1', 1, now())"


@pytest.mark.parametrize("context", [Database.transaction, Database.session])
def test_no_connection_takes_the_place_of_one_that_ended_in_use(
    database: FreshDatabase, context: Callable[[Database], Any]
) -> None:
    mine = database.another()

    def go_on() -> None:
        with context(mine) as connection:
            assert mine.connect() is connection
            end_session(database, connection)
            mine.close()
            mine.connect().execute(INSERT, ("lost",))

    with pytest.raises(psycopg.OperationalError, match="ended while it was in use"):
        go_on()
    assert counted(database) == 0
    mine.connect().execute(INSERT, ("next",))
    assert counted(database) == 1


def test_a_transaction_in_a_transaction_is_refused_and_undoes_it(database: FreshDatabase) -> None:
    mine = database.another()

    def nest() -> None:
        with mine.transaction() as connection:
            connection.execute(INSERT, ("outer",))
            with mine.transaction():
                pass

    with pytest.raises(RuntimeError, match="open already"):
        nest()
    assert counted(database) == 0
    with mine.transaction() as connection:
        connection.execute(INSERT, ("next",))
    assert counted(database) == 1


def test_a_transaction_in_which_a_statement_failed_does_not_pass_for_committed(
    database: FreshDatabase,
) -> None:
    """The server answers its commit with a rollback, which is no error."""
    mine = database.another()

    def fail_unnoticed() -> None:
        with mine.transaction() as connection:
            connection.execute(INSERT, ("lost",))
            with suppress(psycopg.errors.DivisionByZero):
                connection.execute("SELECT 1 / 0")

    with pytest.raises(psycopg.errors.InFailedSqlTransaction, match="ROLLBACK"):
        fail_unnoticed()
    assert counted(database) == 0


def test_an_error_in_a_transaction_is_told_even_where_it_cannot_be_rolled_back(
    database: FreshDatabase,
) -> None:
    mine = database.another()

    def fail() -> None:
        with mine.transaction() as connection:
            end_session(database, connection)
            raise LookupError("the reason")

    with pytest.raises(LookupError, match="the reason"):
        fail()
    mine.connect().execute(INSERT, ("next",))
