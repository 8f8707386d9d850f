"""Claims that enter the log at the same time: whoever takes a stream has it, and nobody waits for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from qis.adapters.postgres.admission import PostgresAdmissions
from qis.adapters.postgres.connection import Database
from qis.adapters.postgres.event_store import PostgresEventStore
from qis.application.ports import Candidate
from qis.domain.events import DATA_INGESTED, value_stream
from tests.support.builders import claim, reconciled, snap, value_append
from tests.support.databases import FreshDatabase

pytestmark = pytest.mark.integration


def candidate(day: int, value: str, record: str) -> Candidate:
    of = claim(value=value, at=snap(day))
    return Candidate(
        of, value_stream(of.reference_data_id, of.snap.text), record, "load", "feed", "s3://r", 0
    )


def take(database: Database, candidates: Sequence[Candidate]) -> list[str]:
    """What becomes of each candidate, in order."""
    batch = [c._replace(place=place) for place, c in enumerate(candidates)]
    with PostgresAdmissions(database).open() as admission:
        admission.take([c.stream for c in batch])
        known: Mapping[int, str] = admission.store(batch).known
    return [known.get(c.place, "accepted") for c in batch]


def waits_for_a_lock(database: FreshDatabase) -> Callable[[], bool]:
    watching = database.another().connect()
    return lambda: bool(
        watching.execute(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchone()
    )


def test_who_comes_second_waits_and_sees_what_the_first_stored(database: FreshDatabase) -> None:
    first, second = PostgresAdmissions(database.another()), database.another()
    waits = waits_for_a_lock(database)
    with ThreadPoolExecutor(1) as pool:
        with first.open() as admission:
            admission.take([candidate(0, "1.1", "r1").stream])
            admission.store([candidate(0, "1.1", "r1")])
            other = pool.submit(take, second, [candidate(0, "1.1", "r2"), candidate(0, "1.2", "r3")])
            while not waits():
                assert not other.done(), other.result()
        assert other.result() == ["duplicate", "accepted"]


def test_who_decides_on_a_stream_that_is_taken_loses_it(database: FreshDatabase) -> None:
    mine, store = database.another(), PostgresEventStore(database.another())
    waits = waits_for_a_lock(database)
    take(mine, [candidate(0, "1.1", "r1")])
    with ThreadPoolExecutor(1) as pool:
        with PostgresAdmissions(mine).open() as admission:
            admission.take([candidate(0, "1.2", "r2").stream])
            admission.store([candidate(0, "1.2", "r2")])
            decision = pool.submit(store.append, [value_append(1, reconciled("official", "1.1"))])
            while not waits():
                assert not decision.done(), decision.result()
        assert decision.result() == {candidate(0, "1.1", "r1").stream}


def test_batches_that_share_streams_never_wait_for_each_other(database: FreshDatabase) -> None:
    """Each of four writers brings every claim, in another order, beside one that decides on the same
    streams. A pair that waited for each other would be ended by the server, with an error."""
    writers, days = 4, 60
    start = threading.Barrier(writers + 1)
    fates: list[list[str]] = [[] for _ in range(writers)]

    def write(number: int) -> None:
        random, own = Random(number), database.another()
        start.wait()
        for turn in range(6):
            mine = [candidate(day, f"1.{turn}", f"{number}-{turn}-{day}") for day in range(days)]
            random.shuffle(mine)
            fates[number] += take(own, mine)

    def decide() -> None:
        store = PostgresEventStore(database.another())
        start.wait()
        for _ in range(6):
            now = store.versions([candidate(day, "1", "").stream for day in range(days)])
            store.append(
                [
                    value_append(now[s], reconciled("official", "1.1", snap(day)))
                    for day in range(days)
                    if (s := candidate(day, "1", "").stream) in now
                ]
            )

    with ThreadPoolExecutor(writers + 1) as pool:
        for job in [*(pool.submit(write, n) for n in range(writers)), pool.submit(decide)]:
            job.result()
    assert sum(f == "accepted" for each in fates for f in each) == 6 * days
    loaded = PostgresEventStore(database.app).load([candidate(day, "1", "").stream for day in range(days)])
    for stream in loaded.values():
        assert [e.version for e in stream.events] == list(range(1, stream.version + 1))
        brought = [e.data["claim_id"] for e in stream.events if e.type == DATA_INGESTED]
        assert len(brought) == len(set(brought)) == 6
