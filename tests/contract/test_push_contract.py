"""What ``Connections`` promises, of the fake and on PostgreSQL."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from qis.adapters.postgres.catalogue import PostgresCatalogue
from qis.adapters.postgres.event_store import PostgresEventStore
from qis.adapters.postgres.push import PostgresConnections
from qis.adapters.resolvers import installed
from qis.application.ports import EventStore, Unavailable
from qis.application.push import Connections
from qis.application.register import Register
from qis.domain.events import START, Position
from tests.support.builders import (
    EUR,
    FIXING,
    claim,
    daily_body,
    ingested,
    published,
    rules_body,
    series_body,
    snap,
    value_append,
)
from tests.support.databases import FreshDatabase
from tests.support.fakes import MemoryEventStore
from tests.support.push import MemoryConnections, keys_of

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=2)
Parts = tuple[EventStore, Connections]


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.integration)])
def parts(request: pytest.FixtureRequest) -> Parts:
    """A log of two registered series, and no connection."""
    if request.param == "memory":
        store = MemoryEventStore()
        return store, MemoryConnections(store, {EUR: "fx", FIXING: "fx"})
    fresh: FreshDatabase = request.getfixturevalue("database")
    log = PostgresEventStore(fresh.app)
    register = Register(log, PostgresCatalogue(fresh.app, time.monotonic), installed)
    register.rules(rules_body(), "setup", "setup")
    register.series(series_body(), "setup", "setup")
    register.series(daily_body(), "setup", "setup")
    return log, PostgresConnections(fresh.another())


_SNAPS = itertools.count(1)


def publish(store: EventStore, series: str = EUR, value: str = "1.1") -> None:
    event = published(value, snap(next(_SNAPS)), reference_data_id=series)
    assert not store.append([value_append(0, event)])


def everything(connections: Connections, id_: str, after: Position, limit: int = 1000) -> list[str]:
    """Values after a place, read in steps of ``limit``."""
    found = []
    while page := connections.read(id_, after, limit):
        found += [e.data["value"] for e in page.events]
        assert page.reached > after
        after = page.reached
    return found


def test_a_connection_is_what_was_opened(parts: Parts) -> None:
    _, connections = parts
    connections.open("c1", "alice", NOW, LATER)
    connections.open("c1", "alice", LATER, LATER)
    with connections.hold("c1", NOW) as listener:
        assert listener is not None
        assert (listener.cursor, listener.told_at, listener.keys) == (None, NOW, frozenset())
    connections.forget("c1")
    connections.forget("c1")
    with connections.hold("c1", NOW) as listener:
        assert listener is None


def test_listening_is_replaced_as_a_whole(parts: Parts) -> None:
    _, connections = parts
    connections.open("c1", "alice", NOW, LATER)
    connections.listen("c1", frozenset({f"series:{EUR}", "pattern:*"}), Position(1, 2))
    connections.listen("c1", frozenset({"group:fx", "pattern:*"}), Position(3, 4))
    with connections.hold("c1", NOW) as listener:
        assert listener is not None
        assert listener.keys == {"group:fx", "pattern:*"}
        assert listener.cursor == Position(3, 4)


def test_what_is_read_is_what_was_asked_for_however_large_the_steps(parts: Parts) -> None:
    store, connections = parts
    connections.open("c1", "alice", NOW, LATER)
    connections.listen("c1", frozenset({f"series:{EUR}"}), START)
    for n in range(7):
        publish(store, value=f"1.{n}")
        publish(store, FIXING)
        store.append([value_append(0, ingested(claim(at=snap(next(_SNAPS)))))])
    for limit in (1, 2, 5, 1000):
        assert everything(connections, "c1", START, limit) == [f"1.{n}" for n in range(7)]
    page = connections.read("c1", START, 3)
    assert page is not None
    assert page.more


def test_nothing_is_read_behind_the_end(parts: Parts) -> None:
    store, connections = parts
    connections.open("c1", "alice", NOW, LATER)
    connections.listen("c1", frozenset({"pattern:*"}), START)
    publish(store)
    end = connections.newest()
    assert connections.read("c1", end, 10) is None
    publish(store, value="2")
    assert everything(connections, "c1", end) == ["2"]


@pytest.mark.parametrize(
    ("key", "heard"),
    [
        (f"series:{EUR}", EUR),
        ("group:fx", EUR),
        ("pattern:*", EUR),
        ("pattern:FX.*", EUR),
        ("pattern:F.*", ""),
    ],
)
def test_who_listens_is_found_by_each_kind_of_key(parts: Parts, key: str, heard: str) -> None:
    _, connections = parts
    connections.open("c1", "alice", NOW, LATER)
    connections.open("c2", "bob", NOW, LATER)
    connections.listen("c1", frozenset({key, f"series:{FIXING}"}), START)
    assert connections.listening([EUR], NOW) == (["c1"] if heard else [])
    assert connections.listening([EUR, FIXING], NOW) == ["c1"]
    assert connections.listening([EUR, FIXING], LATER) == []


def test_who_is_over_is_told_from_who_lives(parts: Parts) -> None:
    _, connections = parts
    connections.open("c1", "alice", NOW, NOW + timedelta(minutes=1))
    connections.open("c2", "bob", NOW, LATER)
    at = NOW + timedelta(minutes=1)
    assert (connections.living(at), connections.over(at)) == (["c2"], ["c1"])
    with connections.hold("c1", at) as listener:
        assert listener is None


def test_moving_changes_only_what_it_names(parts: Parts) -> None:
    _, connections = parts
    connections.open("c1", "alice", NOW, LATER)
    connections.listen("c1", frozenset({"pattern:*"}), Position(1, 1))
    connections.move("c1", Position(2, 2), None)
    connections.move("c1", None, NOW + timedelta(seconds=5))
    with connections.hold("c1", NOW) as listener:
        assert listener is not None
        assert (listener.cursor, listener.told_at) == (Position(2, 2), NOW + timedelta(seconds=5))


def test_what_is_not_registered_is_named(parts: Parts) -> None:
    _, connections = parts
    given = frozenset({EUR, "B", "A"}), frozenset({"fx", "rates"})
    assert connections.unknown(*given) == (["A", "B"], ["rates"])


def test_the_keys_of_a_series_are_those_of_the_domain(database: FreshDatabase) -> None:
    connection = database.connect()
    for series in (EUR, "A", "A.B.C", "A..B", "A.", "9-x:y.z_1"):
        (found,) = connection.execute("SELECT push_keys(%s)", (series,)).fetchone() or ([],)
        assert sorted(found) == sorted(keys_of(series, None))
    connection.close()


def test_a_connection_is_held_by_one_at_a_time_and_let_go_by_who_dies(
    database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qis.adapters.postgres.push.HOLD_SECONDS", 0.05)
    dying = database.another()
    one, two = PostgresConnections(dying), PostgresConnections(database.another())
    one.open("c1", "alice", NOW, LATER)
    one.open("c2", "alice", NOW, LATER)
    holding = one.hold("c1", NOW)
    holding.__enter__()
    with pytest.raises(Unavailable), two.hold("c1", NOW):
        pass
    with two.hold("c2", NOW) as listener:
        assert listener is not None
    dying.close()  # as where its process is killed
    with two.hold("c1", NOW) as listener:
        assert listener is not None


def test_holding_a_connection_stalls_no_follower(database: FreshDatabase) -> None:
    """A transaction held open while messages are sent would."""
    connections = PostgresConnections(database.another())
    connections.open("c1", "alice", NOW, LATER)
    connections.listen("c1", frozenset({"pattern:*"}), START)
    with connections.hold("c1", NOW):
        publish(PostgresEventStore(database.app))
        assert everything(connections, "c1", START) == ["1.1"]


def test_with_eight_writers_no_value_is_skipped_or_out_of_order(database: FreshDatabase) -> None:
    """Positions are handed out before commit: a reader that trusts them skips."""
    connections = PostgresConnections(database.another())
    connections.open("c1", "alice", NOW, LATER)
    connections.listen("c1", frozenset({"pattern:*"}), START)
    each = 60

    def write(number: int, store: EventStore) -> None:
        for n in range(each):
            event = published(f"{number}.{n}", snap(1000 + number * each + n))
            assert not store.append([value_append(0, event)])

    def writer(number: int) -> Callable[[], None]:
        store = PostgresEventStore(database.another())
        return lambda: write(number, store)

    threads = [threading.Thread(target=writer(n)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    at, found = START, []
    while any(thread.is_alive() for thread in threads) or connections.read("c1", at, 1):
        page = connections.read("c1", at, 50)
        if page is not None:
            found += [e.data["value"] for e in page.events]
            at = page.reached
    assert sorted(found) == sorted(f"{w}.{n}" for w in range(1, 9) for n in range(each))
    for w in range(1, 9):
        assert [v for v in found if v.startswith(f"{w}.")] == [f"{w}.{n}" for n in range(each)]
