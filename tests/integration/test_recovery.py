"""A restored log is given back its tail: what was committed after it, from what the relay had passed on."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from qis.adapters.postgres.event_store import PostgresEventStore
from qis.adapters.postgres.followers import PostgresFollower
from qis.adapters.postgres.projections import MODELS
from qis.adapters.postgres.rebuild import check
from qis.adapters.postgres.recovery import SPARE, Diverged, give_back
from qis.application.relay import backbone_record
from qis.domain.events import START, Position
from tests.integration.test_rebuild import History, rows_of
from tests.support.builders import published, value_append
from tests.support.databases import FreshDatabase, Template

TABLES = ("events", "stream_heads", "catalogue_revision", *MODELS)


@pytest.fixture
def restored(database: FreshDatabase, template: Template) -> Iterator[FreshDatabase]:
    """A copy of the database as it was in the middle of a history, which went on in the original. Ask for it
    before any connection to the original, which a copy does not allow."""
    history = History(PostgresEventStore(database.app), 5)
    history.run(30)
    database.app.close()
    with psycopg.connect(template.server.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE restored TEMPLATE {database.name}")
    copy = FreshDatabase(template.server, "restored")
    history.run(30)
    yield copy
    copy.close()


def backbone(connection: psycopg.Connection) -> list[dict[str, Any]]:
    """All events as the relay writes them."""
    events = PostgresFollower(connection, "test").read(START, 10_000)
    return [json.loads(backbone_record(event)[1]) for event in events]


def test_the_log_and_all_that_follows_from_it_are_as_they_were(
    restored: FreshDatabase, owner: psycopg.Connection
) -> None:
    wanted = {table: rows_of(owner, table) for table in TABLES}
    records = backbone(owner)
    shuffled = random.Random(1).sample(records + records[-20:], len(records) + 20)
    with restored.connect() as connection:
        before = len(rows_of(connection, "events"))
        assert 0 < before < len(records), "a test that restores nothing shows nothing"
        done = give_back(connection, shuffled)
        assert (done.known, done.given_back) == (before, len(records) - before)
        assert {table: rows_of(connection, table) for table in TABLES} == wanted
        again = give_back(connection, shuffled)
        assert (again.known, again.given_back) == (len(records), 0)
        assert {table: rows_of(connection, table) for table in TABLES} == wanted


def test_a_part_of_the_tail_that_was_given_back_already_is_no_obstacle(
    restored: FreshDatabase, owner: psycopg.Connection
) -> None:
    records = backbone(owner)
    with restored.connect() as connection:
        known = len(rows_of(connection, "events"))
        assert give_back(connection, records[: known + 10]).given_back == 10
        assert give_back(connection, records[known - 10 :]).given_back == len(records) - known - 10
        assert rows_of(connection, "events") == rows_of(owner, "events")


def test_accepted_claims_of_the_tail_are_counted_to_their_load(
    restored: FreshDatabase, owner: psycopg.Connection
) -> None:
    claims = [{**r, "type": "DataIngested", "correlation_id": "file-7"} for r in backbone(owner)]
    with restored.connect() as connection:
        done = give_back(connection, claims)
        row = connection.execute("SELECT accepted FROM loads WHERE load_id = 'file-7'").fetchone()
    assert row == (done.given_back,)


def test_no_place_that_the_lost_tail_had_is_given_again(
    database: FreshDatabase, owner: psycopg.Connection
) -> None:
    """The tail bears numbers of transactions that the restored server has not come to. Its followers see the
    tail at once, and what is written then comes after it."""
    store = PostgresEventStore(database.app)
    assert not store.append([value_append(0, published("1.1"))])
    (record,) = backbone(owner)
    far = Position.parse(record["position"])
    lost = Position(far.tx + 2_000, far.sequence + 2_000)
    later = {**record, "position": lost.token, "version": 2}
    started = time.monotonic()
    assert (
        give_back(owner, [{**later, "type": "DataIngested", "event_id": str(_other(record))}]).given_back == 1
    )
    assert time.monotonic() - started < 5.0, "ten thousand transactions take this long"
    assert len(backbone(owner)) == 2, "the follower waits for the number to come"
    assert not store.append([value_append(2, published("1.2", version=2))])
    after = Position.parse(backbone(owner)[-1]["position"])
    assert after.tx >= lost.tx + SPARE.tx
    assert after.sequence > lost.sequence + SPARE.sequence


def _other(record: dict[str, Any]) -> str:
    return f"{'0' if record['event_id'][0] != '0' else '1'}{record['event_id'][1:]}"


def test_a_log_that_was_written_to_before_its_tail_came_is_left_alone(
    restored: FreshDatabase, owner: psycopg.Connection
) -> None:
    records = backbone(owner)
    with restored.connect() as connection:
        known = len(rows_of(connection, "events"))
        stream, version = records[known]["stream"], records[known]["version"]
        PostgresEventStore(restored.app).append([value_append(0, published("9.9", reference_data_id="NEW"))])
        connection.execute(
            "INSERT INTO stream_heads SELECT %s, %s, now(), now()"
            " ON CONFLICT (stream) DO UPDATE SET version = %s",
            (stream, version, version),
        )
        before = {table: rows_of(connection, table) for table in TABLES}
        with pytest.raises(Diverged, match="does not follow"):
            give_back(connection, records)
        assert {table: rows_of(connection, table) for table in TABLES} == before


def test_a_gap_in_the_tail_is_refused(restored: FreshDatabase, owner: psycopg.Connection) -> None:
    records = backbone(owner)
    with restored.connect() as connection:
        known = len(rows_of(connection, "events"))
        of_stream: dict[str, list[int]] = {}
        for place, record in enumerate(records[known:], known):
            of_stream.setdefault(record["stream"], []).append(place)
        first = next(places[0] for places in of_stream.values() if len(places) > 1)
        with pytest.raises(Diverged):
            give_back(connection, records[:first] + records[first + 1 :])


def test_what_the_stream_could_not_hold_is_named_and_keeps_nothing_else_back(
    restored: FreshDatabase, owner: psycopg.Connection
) -> None:
    """Of its own stream what follows is lost, too, for it would follow on nothing."""
    records = backbone(owner)
    with restored.connect() as connection:
        known = len(rows_of(connection, "events"))
        tail = records[known:]
        too_large = next(r for r in tail if sum(later["stream"] == r["stream"] for later in tail) > 1)
        place = records.index(too_large)
        records[place] = {**too_large, "data": None, "left_out": 2_000_000}
        behind = [r for r in records[place + 1 :] if r["stream"] == too_large["stream"]]
        done = give_back(connection, records)
        assert [event.event_id for event in done.lost] == [r["event_id"] for r in (too_large, *behind)]
        assert "2000000 bytes were too large" in done.lost[0].why
        assert {event.why for event in done.lost[1:]} == {
            f"event {too_large['version']} of its stream is lost"
        }
        assert done.given_back == len(tail) - len(done.lost)
        again = give_back(connection, records)
        assert (again.given_back, again.lost) == (0, done.lost)
        if all(r["type"] not in MODELS["catalogue"].types for r in (too_large, *behind)):
            assert all(check(connection, model).equal for model in MODELS)


def test_an_event_that_the_log_holds_may_be_too_large_for_the_stream(
    restored: FreshDatabase, owner: psycopg.Connection
) -> None:
    records = backbone(owner)
    records[3] = {**records[3], "data": None, "left_out": 2_000_000}
    with restored.connect() as connection:
        assert not give_back(connection, records).lost
        assert rows_of(connection, "events") == rows_of(owner, "events")
