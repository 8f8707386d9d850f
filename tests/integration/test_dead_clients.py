"""Clients that die, and servers that are away.

Whoever dies gives up its locks at once, also where it died waiting: the batch that it had is delivered again
in seconds, and must not wait for a dead one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psycopg
import pytest

from qis.adapters.postgres import connection as connecting
from qis.adapters.postgres.connection import PATIENCE, STREAM_PATIENCE, Database, Target
from tests.support.databases import FreshDatabase
from tests.support.waiting import until

pytestmark = pytest.mark.integration

WAITS = """
import sys
from qis.adapters.postgres.connection import Database, Target
target = Target("127.0.0.1", int(sys.argv[1]), sys.argv[2], sys.argv[3])
with Database(target, "qis-dying").transaction() as c:
    c.execute("SELECT pg_advisory_xact_lock(1)")
    c.execute("SELECT pg_advisory_xact_lock(2)")
"""


def test_a_writer_killed_while_it_waits_for_a_lock_lets_go_of_those_it_has(database: FreshDatabase) -> None:
    target = database.target
    with database.connect() as other, database.connect() as next_one:
        other.execute("SELECT pg_advisory_lock(2)")
        dying = subprocess.Popen(
            [sys.executable, "-c", WAITS, str(target.port), target.database, target.user]
        )
        waiting = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE application_name = 'qis-dying' AND wait_event_type = 'Lock'"
        )
        until(lambda: other.execute(waiting).fetchone() == (1,), "the writer to wait")
        os.kill(dying.pid, signal.SIGKILL)
        dying.wait(10)
        # Far below the statement's own time limit of 20 s, after which it would let go in any case.
        next_one.execute("SET lock_timeout = '8s'")
        try:
            next_one.execute("SELECT pg_advisory_lock(1)")
        except psycopg.errors.LockNotAvailable:
            pytest.fail("a dead writer holds its lock")


@pytest.mark.parametrize("patience", [PATIENCE, STREAM_PATIENCE])
def test_a_server_that_is_away_is_waited_for_as_long_as_there_is_patience(
    patience: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, pauses = [0.0], list[float]()

    def sleep(seconds: float) -> None:
        now[0] += seconds
        pauses.append(seconds)

    def refused(_: Database) -> psycopg.Connection:
        raise psycopg.OperationalError("connection refused")

    monkeypatch.setattr(connecting.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(connecting.time, "sleep", sleep)
    monkeypatch.setattr(Database, "_open", refused)
    with pytest.raises(psycopg.OperationalError, match="refused"):
        Database(Target("127.0.0.1", 1, "qis", "qis_app"), "qis-test", patience).connect()
    assert patience - 1 <= sum(pauses) <= patience
    assert max(pauses) <= 1.0
