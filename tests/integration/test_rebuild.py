"""Read models follow from the log alone: rebuilt ones are equal, tampering is seen, a swap loses nothing."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest

from qis.adapters.postgres import rebuild as rebuild_module
from qis.adapters.postgres.event_store import PostgresEventStore
from qis.adapters.postgres.followers import PostgresFollower
from qis.adapters.postgres.projections import MODELS
from qis.adapters.postgres.rebuild import check, rebuild
from qis.application.ports import Append
from qis.domain import events as ev
from qis.domain.errors import Conflict, NotFound
from qis.domain.issues import Group, Item, Severity
from tests.support.builders import (
    append,
    detected,
    published,
    reconciled,
    rules_body,
    snap,
    source_body,
    value_append,
)
from tests.support.databases import FreshDatabase
from tests.support.fakes import EPOCH
from tests.support.waiting import until

Values = dict[tuple[str, int], tuple[int, int]]


def closed(kind: str, issue: UUID, day: int, id_: str) -> ev.NewEvent:
    data = {"reference_data_id": id_, "snap": snap(day).text, "issue_id": str(issue)}
    return ev.NewEvent(kind, data)


class History:
    """A random history of values, decisions, exceptions and definitions, through the real store."""

    def __init__(self, store: PostgresEventStore, seed: int) -> None:
        self._store = store
        self._random = random.Random(seed)
        self._streams: Values = {}
        self._issues: dict[tuple[str, int], UUID] = {}
        self._definitions = {"rules:fx": 0, "source:alpha": 0}
        self._group = Group("spike|source/alpha")
        self._now = EPOCH

    def run(self, batches: int) -> None:
        for _ in range(batches):
            keys = {self._key() for _ in range(self._random.randint(1, 6))}
            appends = [self._change(*key) for key in sorted(keys)]
            if self._random.random() < 0.3:
                appends.append(self._definition())
            if events := self._watched():
                appends.append(append("issue:alpha", self._group.version, *events))
                for event in events:
                    self._group.apply(event.type, event.data)
                self._group.version += len(events)
            assert not self._store.append(appends)

    def _watched(self) -> list[ev.NewEvent]:
        """What the watch of issues makes of a new exception, of one that is gone, and of time."""
        self._now += timedelta(minutes=1)
        chance, live = self._random.random(), self._group.live
        if chance < 0.4:
            item = str(UUID(int=self._random.getrandbits(128)))
            return self._group.observe([Item(item, "A", snap(0).text, Severity.LOW, ())], [], self._now)
        if chance < 0.7 and live is not None and live.open_items:
            return self._group.observe([], list(live.open_items), self._now)
        return self._group.tick(self._now)

    def _key(self) -> tuple[str, int]:
        return self._random.choice("ABC"), self._random.randint(0, 9)

    def _change(self, id_: str, day: int) -> Append:
        version, official = self._streams.get((id_, day), (0, 0))
        value = f"{self._random.randint(1, 10**6)}.{self._random.randint(0, 99):02}0"
        status = self._random.choice(["official", "suspect", "insufficient"])
        events = [reconciled(status, None if status == "insufficient" else value, snap(day), id_)]
        open_ = self._issues.pop((id_, day), None)
        if open_ is not None:
            kind = self._random.choice([ev.QUALITY_ISSUE_RESOLVED, ev.QUALITY_APPROVED, ev.QUALITY_REJECTED])
            events.append(closed(kind, open_, day, id_))
        if status == "official":
            official += 1
            events.append(published(value, snap(day), official, id_))
        elif status == "suspect":
            self._issues[id_, day] = issue = UUID(int=self._random.getrandbits(128))
            events.append(detected(issue, snap(day), reference_data_id=id_))
        self._streams[id_, day] = version + len(events), official
        return value_append(version, *events)

    def _definition(self) -> Append:
        stream = self._random.choice(list(self._definitions))
        version = self._definitions[stream]
        self._definitions[stream] += 1
        if stream == "rules:fx":
            body = rules_body(min_sources=self._random.randint(1, 5), version=version + 1)
            return append(stream, version, ev.NewEvent(ev.RULES_CHANGED, body))
        kind = ev.SOURCE_CHANGED if version else ev.SOURCE_ADDED
        body = source_body(active=self._random.random() < 0.5)
        return append(stream, version, ev.NewEvent(kind, body))


def rows_of(owner: psycopg.Connection, table: str) -> list[str]:
    return [r[0] for r in owner.execute(f"SELECT t::text FROM {table} t ORDER BY 1")]


@pytest.mark.parametrize("seed", [1, 2])
def test_every_read_model_rebuilt_from_a_random_history_equals_the_live_one(
    database: FreshDatabase, owner: psycopg.Connection, seed: int
) -> None:
    History(PostgresEventStore(database.app), seed).run(40)
    for name in MODELS:
        live = rows_of(owner, name)
        found = check(owner, name)
        assert found.equal, found
        assert found.rows == len(live) > 0
        assert not found.swapped
        swapped = rebuild(owner, name)
        assert (swapped.equal, swapped.swapped) == (True, True)
        assert rows_of(owner, name) == live
    History(PostgresEventStore(database.another()), seed)  # the role keeps its rights on the new tables
    assert not PostgresEventStore(database.app).append([value_append(0, published("1.1", snap(50), 1, "Z"))])
    assert all(check(owner, name).equal for name in MODELS)


ONE_ROW = "ctid = (SELECT ctid FROM {} LIMIT 1)"
TAMPERING = {
    "official_values": "UPDATE official_values SET value = value + 0.01 WHERE " + ONE_ROW,
    "decisions": "UPDATE decisions SET status = 'stale' WHERE " + ONE_ROW,
    "exceptions": "UPDATE exceptions SET closed_by = 'mallory' WHERE " + ONE_ROW,
    "issues": "UPDATE issues SET severity = 'none' WHERE " + ONE_ROW,
    "issue_items": "UPDATE issue_items SET snap_ns = 7 WHERE " + ONE_ROW,
    "catalogue": "UPDATE catalogue SET definition = '{{}}' WHERE " + ONE_ROW,
    "rule_versions": "UPDATE rule_versions SET definition = '{{}}' WHERE " + ONE_ROW,
}


def test_a_tampered_row_is_found_and_a_rebuild_puts_it_right(
    database: FreshDatabase, owner: psycopg.Connection
) -> None:
    History(PostgresEventStore(database.app), 3).run(40)
    assert TAMPERING.keys() == MODELS.keys()
    for name, tampering in TAMPERING.items():
        live = rows_of(owner, name)
        assert owner.execute(tampering.format(name)).rowcount == 1
        found = check(owner, name)
        assert not found.equal
        assert (found.missing, found.unexpected) == (1, 1)
        assert not rebuild(owner, name).equal, "what was found wrong is told"
        assert rows_of(owner, name) == live


def test_a_lost_and_an_invented_row_are_told_apart(
    database: FreshDatabase, owner: psycopg.Connection
) -> None:
    store = PostgresEventStore(database.app)
    store.append([value_append(0, published("1.1")), value_append(0, published("1.2", snap(1)))])
    owner.execute("DELETE FROM official_values WHERE value = 1.1")
    assert (check(owner, "official_values").missing, check(owner, "official_values").unexpected) == (1, 0)
    rebuild(owner, "official_values")
    owner.execute(
        "INSERT INTO decisions SELECT 'invented', snap_ns, status, value FROM decisions WHERE value = 1.1"
    )
    assert (check(owner, "decisions").missing, check(owner, "decisions").unexpected) == (0, 1)


def test_equal_numbers_of_other_digits_are_not_equal(
    database: FreshDatabase, owner: psycopg.Connection
) -> None:
    """1.10 and 1.1 are the same number; a rebuilt row keeps every digit."""
    PostgresEventStore(database.app).append([value_append(0, published("1.10"))])
    assert check(owner, "official_values").equal
    owner.execute("UPDATE official_values SET value = 1.1")
    assert not check(owner, "official_values").equal


def test_an_unknown_model_is_refused(owner: psycopg.Connection) -> None:
    for act in (check, rebuild):
        with pytest.raises(NotFound, match="official_values"):
            act(owner, "events")


def test_a_model_is_rebuilt_by_one_at_a_time(
    database: FreshDatabase, owner: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second would take away the table that the first fills."""
    assert not PostgresEventStore(database.app).append([value_append(0, published("1.1"))])
    catch_up, refused = rebuild_module._Shadow.catch_up, []

    def another(shadow: Any) -> Any:
        with monkeypatch.context() as once, database.connect() as second:
            once.setattr(rebuild_module._Shadow, "catch_up", catch_up)
            with pytest.raises(Conflict, match="official_values is being rebuilt already") as refusal:
                rebuild(second, "official_values")
            refused.append(refusal)
            assert rebuild(second, "decisions").equal, "another model may be"
        return catch_up(shadow)

    monkeypatch.setattr(rebuild_module._Shadow, "catch_up", another)
    assert rebuild(owner, "official_values").equal
    monkeypatch.undo()
    assert refused
    assert rebuild(owner, "official_values").equal, "the next one may again"


def test_a_swap_gives_way_to_who_has_read_and_is_about_to_write(
    database: FreshDatabase, owner: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As reconciling does in one transaction: to wait for each other would be a deadlock."""
    assert not PostgresEventStore(database.app).append([value_append(0, published("1.1"))])
    finish, writing = rebuild_module._Shadow.finish, list[Any]()
    waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = %s"
    with database.connect() as writer, database.connect() as look, ThreadPoolExecutor(1) as pool:

        def write() -> None:
            writer.execute("UPDATE official_values SET value = value")
            writer.execute("COMMIT")

        def meanwhile(shadow: Any) -> Any:
            """Writers wait for the swap now; the first time this one begins to."""
            if not writing:
                writing.append(pool.submit(write))
                pid = writer.info.backend_pid
                until(lambda: look.execute(waits, (pid,)).fetchone() == (1,), "the writer to wait")
            return finish(shadow)

        monkeypatch.setattr(rebuild_module._Shadow, "finish", meanwhile)
        writer.execute("BEGIN")
        writer.execute("SELECT count(*) FROM official_values")
        assert rebuild(owner, "official_values").equal
        writing[0].result(10)
    assert check(owner, "official_values").equal


def test_a_swap_beside_a_writer_loses_no_value(database: FreshDatabase, owner: psycopg.Connection) -> None:
    """Readers keep reading, too: they never see a table without the values that were there."""
    store = PostgresEventStore(database.app)
    stop, error = threading.Event(), []
    versions = dict.fromkeys(range(20), 0)
    written = threading.Event()

    def write() -> None:
        number = 0
        try:
            while not stop.is_set():
                day = number % 20
                version = versions[day]
                value = published(str(number), snap(day), version + 1)
                assert not store.append([value_append(version, value)])
                versions[day] = version + 1
                number += 1
                if number > 50:
                    written.set()
        except BaseException as failure:  # noqa: BLE001 - raised again in the thread of the test
            error.append(failure)
            written.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert written.wait(60)
        reader = database.another().connect()
        for _ in range(8):
            before = sum(versions.values())
            assert rebuild(owner, "official_values").equal
            row = reader.execute("SELECT count(*) FROM official_values").fetchone()
            assert row is not None
            assert row[0] >= before
            assert check(owner, "official_values").equal
    finally:
        stop.set()
        writer.join(60)
    assert not error, error
    rows = dict(owner.execute("SELECT snap_ns, count(*) FROM official_values GROUP BY snap_ns").fetchall())
    assert rows == {snap(day).ns: count for day, count in versions.items()}
    current = owner.execute("SELECT max(value) FROM official_values WHERE superseded_at IS NULL").fetchone()
    assert current == (Decimal(sum(versions.values()) - 1),)
    assert check(owner, "official_values").equal


@pytest.mark.parametrize("act", [check, rebuild])
def test_who_compares_holds_up_neither_writers_nor_followers(
    database: FreshDatabase, owner: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, act: Any
) -> None:
    """However large the tables are that are compared."""
    store = PostgresEventStore(database.app)
    assert not store.append([value_append(0, published("1.1"))])
    follower = PostgresFollower(database.another().connect(), "test")
    compare, seen = rebuild_module._compare, []

    def meanwhile(*given: Any, **more: Any) -> Any:
        database.app.connect().execute("SET lock_timeout = '1s'")
        assert not store.append([value_append(0, published("1.2", snap(1)))])
        seen.append([e.data["value"] for e in follower.read(ev.START, 10)])
        return compare(*given, **more)

    monkeypatch.setattr(rebuild_module, "_compare", meanwhile)
    found = act(owner, "official_values")
    assert (found.equal, found.rows) == (True, 1), "the two stand where the log stood"
    assert seen == [["1.1", "1.2"]]
    assert rows_of(owner, "official_values")[1:], "what was written meanwhile is in the live table"


def test_a_shadow_is_filled_in_transactions_of_bounded_size(
    database: FreshDatabase, owner: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long transaction would stall every follower, a large one would fill the memory."""
    store = PostgresEventStore(database.app)
    reason = "x" * 60_000
    for day in range(40):
        assert not store.append([value_append(0, published("1.1", snap(day), reason=reason))])
    monkeypatch.setattr(rebuild_module, "BATCH_BYTES", 200_000)
    batches, apply = [], MODELS["official_values"].apply

    def applied(connection: Any, placed: Any, table: str) -> None:
        batches.append((len(placed), connection.execute("SELECT pg_current_xact_id()::text").fetchone()))
        apply(connection, placed, table)

    model = replace(MODELS["official_values"], apply=applied)
    monkeypatch.setitem(rebuild_module.MODELS, "official_values", model)  # type: ignore[arg-type]
    assert check(owner, "official_values").rows == 40
    assert max(count for count, _ in batches) <= 3
    assert len({transaction for _, transaction in batches}) == len(batches)


def test_a_rebuild_that_cannot_have_the_table_leaves_it_as_it_was(
    database: FreshDatabase, owner: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not PostgresEventStore(database.app).append([value_append(0, published("1.1"))])
    monkeypatch.setattr(rebuild_module, "ATTEMPTS", 2)
    with database.connect() as writer, database.connect() as look:
        writer.execute("BEGIN")
        writer.execute("UPDATE official_values SET value = value")
        with pytest.raises(Conflict, match="did not end"):
            rebuild(owner, "official_values")
        writer.execute("ROLLBACK")
        tables = look.execute("SELECT tablename FROM pg_tables WHERE tablename LIKE 'official_values%'")
        assert tables.fetchall() == [("official_values",)]
    assert rebuild(owner, "official_values").equal
