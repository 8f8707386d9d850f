"""The schema: migrations from nothing, rights of the functions' role."""

from __future__ import annotations

from importlib import resources

import psycopg
import pytest

from qis.adapters.postgres import migrate
from qis.adapters.postgres.event_store import PostgresEventStore
from tests.support.builders import published, value_append
from tests.support.databases import FreshDatabase

FILES = resources.files("qis.adapters.postgres") / "migrations"
MIGRATIONS = sorted(
    f.name.removesuffix(".sql")
    for f in FILES.iterdir()
    if f.name.endswith(".sql") and not f.name.endswith(".rollback.sql")
)
OWN_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE '%yoyo%'"


def test_migrations_apply_from_nothing_and_a_second_time_change_nothing(
    empty_database: FreshDatabase,
) -> None:
    assert migrate.apply(empty_database.owner) == MIGRATIONS
    assert migrate.apply(empty_database.owner) == []
    assert not PostgresEventStore(empty_database.app).append([value_append(0, published("1.1"))])


def test_every_migration_can_be_taken_back_and_applied_again(empty_database: FreshDatabase) -> None:
    migrate.apply(empty_database.owner)
    with empty_database.connect() as connection:
        for name in reversed(MIGRATIONS):
            connection.execute((FILES / f"{name}.rollback.sql").read_text())
        assert connection.execute(OWN_TABLES).fetchall() == []
        functions = "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        assert connection.execute(functions).fetchall() == []
        for name in MIGRATIONS:
            connection.execute((FILES / f"{name}.sql").read_text())
    assert not PostgresEventStore(empty_database.app).append([value_append(0, published("1.1"))])


FORBIDDEN = (
    "UPDATE events SET actor = 'mallory'",
    "DELETE FROM events",
    "TRUNCATE events",
    "UPDATE events_default SET actor = 'mallory'",
    "INSERT INTO events_default OVERRIDING SYSTEM VALUE SELECT * FROM events",
    "DELETE FROM stream_heads",
    "DELETE FROM official_values",
    "DELETE FROM decisions",
    "DELETE FROM exceptions",
    "DELETE FROM catalogue",
    "DELETE FROM loads",
    "UPDATE receipts SET answer = '{}'",
    "DELETE FROM receipts",
    "CREATE TABLE mine (n integer)",
    "CREATE TABLE mine PARTITION OF events FOR VALUES FROM ('2099-01-01') TO ('2099-02-01')",
    "DROP TABLE events",
    "ALTER TABLE events ADD COLUMN mine text",
    "CREATE FUNCTION public.mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "CREATE SCHEMA mine",
    "SET ROLE qis",
)


def refused(connection: psycopg.Connection, statement: str) -> bool:
    try:
        connection.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        return True
    return False


def test_the_role_of_the_functions_cannot_change_history_nor_the_schema(database: FreshDatabase) -> None:
    PostgresEventStore(database.app).append([value_append(0, published("1.1"))])
    connection = database.app.connect()
    assert [s for s in FORBIDDEN if not refused(connection, s)] == []
    assert not refused(connection, "SELECT * FROM events")


def test_the_partitions_of_the_log_are_as_closed_as_the_log(database: FreshDatabase) -> None:
    PostgresEventStore(database.app).append([value_append(0, published("1.1"))])
    connection = database.app.connect()
    with database.connect() as owner:
        rows = owner.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'events'::regclass"
        ).fetchall()
    assert len(rows) > 1
    for (name,) in rows:
        assert refused(connection, f"UPDATE {name} SET actor = 'mallory'")
        assert refused(connection, f"DELETE FROM {name}")


def test_history_cannot_hold_two_current_values_or_a_value_that_ends_before_it_begins(
    database: FreshDatabase,
) -> None:
    PostgresEventStore(database.app).append([value_append(0, published("1.1"))])
    connection = database.app.connect()
    with pytest.raises(psycopg.errors.CheckViolation):
        connection.execute("UPDATE official_values SET superseded_at = recorded_from")
    copy = (
        "INSERT INTO official_values SELECT reference_data_id, snap_ns, recorded_from + interval '1 second',"
        " superseded_at, snap, value, version, event_id, tx, position, superseded_tx, superseded_position,"
        " details FROM official_values"
    )
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute(copy)
