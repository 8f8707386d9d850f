"""Heads of streams: moved in one order by everybody, and given back whole by whoever has lost."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import psycopg

from qis.adapters.postgres.event_store import PostgresEventStore
from qis.application.ports import Basis
from tests.support.builders import EUR, append, published, reconciled, snap, value_append
from tests.support.databases import FreshDatabase
from tests.support.waiting import until

WAITS = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = %s"
TAKE = "SELECT stream FROM take_streams(%s, %s)"
MOVE = "SELECT stream FROM move_heads(%s)"


def head(database: FreshDatabase, stream: str) -> int | None:
    row = database.app.connect().execute("SELECT version FROM stream_heads WHERE stream = %s", (stream,))
    found = row.fetchone()
    return None if found is None else found[0]


def test_a_stream_that_lost_with_its_series_can_be_made_afterwards(database: FreshDatabase) -> None:
    """Its head was moved from nothing, and has to be nothing again."""
    store = PostgresEventStore(database.app)
    first, second = snap(0), snap(1)
    assert not store.append([value_append(0, published("1.1", first))])
    new = value_append(0, reconciled("official", "1.2", second))
    stale = value_append(0, reconciled("official", "1.1", first))
    streams = frozenset({new.stream, stale.stream})
    basis = Basis(EUR, streams, {(EUR, second): store.neighbours([(EUR, second)])[EUR, second]}, frozenset())
    assert store.append([new, stale], [basis]) == streams, "one has lost, so both have"
    assert head(database, new.stream) is None
    assert store.versions([new.stream]) == {}
    assert not store.append([new])
    assert head(database, new.stream) == 1


def test_a_head_at_version_0_that_an_older_version_left_is_as_good_as_none(database: FreshDatabase) -> None:
    with database.connect() as owner:
        owner.execute("INSERT INTO stream_heads VALUES ('value:A@x', 0, now(), now())")
    store = PostgresEventStore(database.app)
    assert not store.append([append("value:A@x", 0, published("1.1"))])
    assert head(database, "value:A@x") == 1


def test_what_loses_leaves_its_head_where_it_was(database: FreshDatabase) -> None:
    store = PostgresEventStore(database.app)
    assert not store.append([value_append(0, published("1.1", snap(n))) for n in range(3)])
    known, absent = value_append(0, published("1.2")), value_append(2, published("1.2", snap(9)))
    ahead, right = value_append(7, published("1.2", snap(1))), value_append(1, published("1.2", snap(2), 2))
    lost = store.append([known, absent, ahead, right])
    assert lost == {known.stream, absent.stream, ahead.stream}
    versions = [head(database, a.stream) for a in (known, absent, ahead, right)]
    assert versions == [1, None, 1, 2]


def test_heads_are_moved_in_the_order_in_which_claims_take_them(database: FreshDatabase) -> None:
    """A new head before an old one of a lower name would be a circle: each waits for what the other has."""
    store = PostgresEventStore(database.app)
    assert not store.append(
        [append(s, 0, published("1", snap(n))) for n, s in enumerate(("value:m", "value:n"))]
    )
    moves = [
        {"stream": "value:m", "expected": 1, "moved": 2},
        {"stream": "value:z", "expected": 0, "moved": 1},
    ]

    def waiting(connection: psycopg.Connection) -> None:
        pid = connection.info.backend_pid
        until(lambda: look.execute(WAITS, (pid,)).fetchone() == (1,), "a session to wait")

    with (
        database.connect() as first,
        database.connect() as claims,
        database.connect() as decisions,
        database.connect() as look,
        ThreadPoolExecutor(2) as pool,
    ):
        for connection in (first, claims, decisions):
            connection.execute("BEGIN")
        first.execute(TAKE, (json.dumps(["value:n"]), json.dumps([1])))
        names = json.dumps(["value:m", "value:n", "value:z"]), json.dumps([1, 1, 1])
        taking = pool.submit(claims.execute, TAKE, names)
        waiting(claims)  # it has m, and waits for n
        moving = pool.submit(decisions.execute, MOVE, (json.dumps(moves),))
        waiting(decisions)  # for m
        first.execute("ROLLBACK")
        taking.result(10)
        claims.execute("COMMIT")
        assert [r[0] for r in moving.result(10).fetchall()] == [None], "both of its streams were taken"
        decisions.execute("ROLLBACK")
