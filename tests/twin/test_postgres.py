"""The embedded PostgreSQL: durable, private, and there again after the worst."""

from __future__ import annotations

import os
import shutil
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from local.postgres import PostgresServer
from local.processes import accepts
from tests.support.waiting import gone, until

pytestmark = pytest.mark.integration


@pytest.fixture
def server(parts_dir: Path, request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    with PostgresServer(parts_dir / request.node.name) as server:
        yield server


def _setting(connection: psycopg.Connection, name: str) -> str:
    row = connection.execute(f"SHOW {name}").fetchone()
    assert row is not None
    return str(row[0])


def test_what_hinders_a_first_start_is_said(parts_dir: Path, request: pytest.FixtureRequest) -> None:
    server = PostgresServer(parts_dir / request.node.name)
    cluster = parts_dir / request.node.name / "postgres" / "cluster"
    cluster.mkdir()
    (cluster / "of-somebody-else").touch()
    with pytest.raises(RuntimeError, match=r"initdb failed: .*not empty"):
        server.start()


def test_it_writes_through_and_listens_on_loopback_only(server: PostgresServer) -> None:
    with psycopg.connect(server.dsn) as connection:
        assert _setting(connection, "fsync") == "on"
        assert _setting(connection, "synchronous_commit") == "on"
        assert _setting(connection, "full_page_writes") == "on"
        assert _setting(connection, "wal_level") == "logical"
        assert _setting(connection, "listen_addresses") == "127.0.0.1"


def test_killed_with_sessions_open_it_starts_again_on_its_port_with_all_that_was_committed(
    server: PostgresServer,
) -> None:
    port = server.port
    sessions = [psycopg.connect(server.dsn, autocommit=True) for _ in range(5)]
    sessions[0].execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    sessions[1].execute("BEGIN")
    sessions[1].execute("INSERT INTO kept VALUES (0)")
    os.kill(server.pid, signal.SIGKILL)
    server.start()
    assert server.port == port
    with psycopg.connect(server.dsn) as connection:
        assert connection.execute("SELECT count(*), min(n) FROM kept").fetchone() == (1000, 1)
    for session in sessions:
        session.close()


def test_stopped_it_leaves_no_process_and_no_port_and_goes_on_where_it_was(server: PostgresServer) -> None:
    server.create_database("once")
    server.create_database("once")
    pid, port = server.pid, server.port
    server.stop()
    assert gone(pid)
    assert not accepts(port)
    with PostgresServer(_data(server)) as again:
        assert again.port == port
        psycopg.connect(again.dsn_of("once")).close()


def _data(server: PostgresServer) -> Path:
    return server._log.parent


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
def test_as_root_in_a_private_directory_the_cluster_lies_where_nobody_can_go(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    server = PostgresServer(private / "data")
    home = server._home
    try:
        with server:
            assert not home.is_relative_to(private)
            assert stat.S_IMODE(home.stat().st_mode) == 0o700
            assert PostgresServer(private / "data")._home == home, "and is found again"
            psycopg.connect(server.dsn).close()
    finally:
        shutil.rmtree(home)


def test_destroyed_it_is_restored_to_the_last_archived_change_at_another_address(parts_dir: Path) -> None:
    home = parts_dir / "destroyed"
    server = PostgresServer(home)
    with server:
        server.archive(every=600)
    server.start()
    lost = server.port
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
        server.back_up(server.port)
        connection.execute("INSERT INTO kept VALUES (2)")
        row = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
        assert row is not None
        until((home / "postgres" / "archive" / row[0]).exists, "the archive")
        connection.execute("INSERT INTO kept VALUES (3)")
    server.destroy(server.pid)
    until(lambda: not server.alive(), "the end")
    with pytest.raises(RuntimeError, match="is gone"):
        server.start()
    server.restore()
    with PostgresServer(home) as restored:
        assert restored.port != lost
        assert not accepts(lost)
        with psycopg.connect(restored.dsn, autocommit=True) as connection:
            assert connection.execute("SELECT array_agg(n ORDER BY n) FROM kept").fetchone() == ([1, 2],)
            connection.execute("INSERT INTO kept VALUES (4)")
