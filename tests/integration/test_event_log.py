"""The log on PostgreSQL, beyond what every event store does: versions of events, the clock, hostile text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from qis.adapters.postgres.event_store import PostgresEventStore
from qis.adapters.postgres.followers import PostgresFollower
from qis.adapters.postgres.log import event_id
from qis.domain import events as ev
from tests.support.builders import append, claim, ingested, published, rules_body, value_append
from tests.support.databases import FreshDatabase


@pytest.fixture
def store(database: FreshDatabase) -> PostgresEventStore:
    return PostgresEventStore(database.app)


def note(**data: Any) -> ev.NewEvent:
    return ev.NewEvent(ev.QUALITY_METRICS_CALCULATED, data)


# versions of events ------------------------------------------------------------------------------


def test_an_old_version_is_read_in_the_newest_form_step_by_step(
    store: PostgresEventStore, database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append([append("s", 0, note(score="1"))])
    kind = ev.QUALITY_METRICS_CALCULATED
    monkeypatch.setitem(ev.VERSIONS, kind, 3)
    monkeypatch.setitem(ev.UPCASTERS, (kind, 1), lambda d: {"scores": [d["score"]]})
    monkeypatch.setitem(ev.UPCASTERS, (kind, 2), lambda d: {**d, "count": len(d["scores"])})
    store.append([append("s", 1, note(scores=["2", "3"], count=2))])
    old, new = store.load(["s"])["s"].events
    assert (old.data, old.type_version) == ({"scores": ["1"], "count": 1}, 3)
    assert (new.data, new.type_version) == ({"scores": ["2", "3"], "count": 2}, 3)
    followed = PostgresFollower(database.another().connect(), "test").read(ev.START, 10)
    assert [e.data for e in followed] == [old.data, new.data]


@pytest.mark.parametrize("change", ["type_version = 2", "type = 'DataMoved'"])
def test_an_event_of_newer_code_is_refused_and_not_guessed_at(
    store: PostgresEventStore, database: FreshDatabase, owner: psycopg.Connection, change: str
) -> None:
    store.append([append("s", 0, note())])
    owner.execute(f"UPDATE events SET {change}")
    with pytest.raises(ev.UnknownEvent):
        store.load(["s"])
    with pytest.raises(ev.UnknownEvent):
        PostgresFollower(database.another().connect(), "test").read(ev.START, 10)


def test_the_identity_of_an_event_follows_from_its_place(store: PostgresEventStore) -> None:
    store.append([append("s", 0, note(), note())])
    assert [e.event_id for e in store.load(["s"])["s"].events] == [
        UUID(event_id("s", 1)),
        UUID(event_id("s", 2)),
    ]


# the clock ---------------------------------------------------------------------------------------


def ahead(owner: psycopg.Connection, by: str) -> None:
    """As if the clock had been ahead when everything so far was recorded, and were set back now."""
    owner.execute(f"UPDATE events SET recorded_at = recorded_at + interval '{by}'")
    owner.execute(f"UPDATE stream_heads SET recorded_at = recorded_at + interval '{by}'")
    owner.execute(f"UPDATE official_values SET recorded_from = recorded_from + interval '{by}'")


def moments(store: PostgresEventStore, stream: str) -> list[datetime]:
    return [e.recorded_at for e in store.load([stream])[stream].events]


def test_a_clock_that_steps_back_puts_no_event_before_its_predecessor(
    store: PostgresEventStore, owner: psycopg.Connection
) -> None:
    store.append([append("s", 0, note()), append("t", 0, note())])
    ahead(owner, "1 hour")
    store.append([append("s", 1, note()), append("new", 0, note())])
    store.append([append("s", 2, note())])
    store.append([append("new", 1, note())])
    for stream, length in (("s", 3), ("new", 2)):
        recorded = moments(store, stream)
        assert len(recorded) == length
        assert recorded == sorted(set(recorded))
    first, second, _ = moments(store, "s")
    assert second - first < timedelta(seconds=5), "as near to its predecessor as its order allows"


def test_a_stream_born_in_a_batch_that_was_pushed_on_keeps_its_order_too(
    store: PostgresEventStore, owner: psycopg.Connection
) -> None:
    """Its first event got a moment ahead of the clock, which its head must know."""
    store.append([append("s", 0, note())])
    ahead(owner, "1 hour")
    store.append([append("s", 1, note()), append("new", 0, note())])
    store.append([append("new", 1, note())])
    first, second = moments(store, "new")
    assert first < second


def test_a_restatement_after_the_clock_stepped_back_still_follows_what_it_replaces(
    store: PostgresEventStore, owner: psycopg.Connection
) -> None:
    store.append([value_append(0, published("1.1"))])
    ahead(owner, "1 hour")
    store.append([value_append(1, published("1.2", version=2))])
    rows = owner.execute(
        "SELECT value::text, recorded_from, superseded_at FROM official_values ORDER BY version"
    ).fetchall()
    assert [r[0] for r in rows] == ["1.1", "1.2"]
    assert rows[0][1] < rows[0][2] == rows[1][1]
    assert rows[1][2] is None


def test_the_moment_of_recording_is_that_of_the_database_clock(store: PostgresEventStore) -> None:
    before = datetime.now(UTC)
    store.append([append("s", 0, note())])
    assert before - timedelta(seconds=1) < moments(store, "s")[0] < datetime.now(UTC) + timedelta(seconds=1)


# what is stored ----------------------------------------------------------------------------------


def test_a_nul_is_refused_and_nothing_of_the_batch_is_stored(store: PostgresEventStore) -> None:
    """PostgreSQL keeps no NUL in text or JSON."""
    for bad in (append("s", 0, note(text="a\x00b")), append("s", 0, note(), actor="a\x00b")):
        with pytest.raises(psycopg.DataError):
            store.append([append("t", 0, note()), bad])
    assert dict(store.load(["s", "t"])) == {}
    assert not store.append([append("s", 0, note()), append("t", 0, note())])


def test_a_failed_projection_takes_its_events_back(store: PostgresEventStore) -> None:
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        store.append([append("t", 0, note()), value_append(0, published("not a number"))])
    assert dict(store.versions(["t"])) == {}
    assert not store.append([append("t", 0, note())])


def test_the_catalogue_revision_moves_with_the_catalogue_only(
    store: PostgresEventStore, owner: psycopg.Connection
) -> None:
    def revision() -> int:
        row = owner.execute("SELECT revision FROM catalogue_revision").fetchone()
        assert row is not None
        return int(row[0])

    before = revision()
    store.append([value_append(0, ingested(claim()), published("1.1"))])
    assert revision() == before
    body = {**rules_body(), "version": 1}
    store.append([append("rules:fx", 0, ev.NewEvent(ev.RULES_CHANGED, body))])
    assert revision() == before + 1


def test_a_lost_connection_is_made_again_where_nothing_was_sent(
    store: PostgresEventStore, database: FreshDatabase, owner: psycopg.Connection
) -> None:
    store.append([append("s", 0, note())])
    owner.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'qis_app'")
    assert not store.append([append("s", 1, note())])
    assert store.versions(["s"]) == {"s": 2}
