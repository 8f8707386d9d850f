"""Writers that race and followers that read beside them, on real PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import psycopg
import pytest

from qis.adapters.postgres import followers
from qis.adapters.postgres.event_store import PostgresEventStore
from qis.adapters.postgres.followers import PostgresFollower
from qis.application.ports import Append
from qis.domain.events import START, NewEvent, Position
from tests.support.builders import append
from tests.support.databases import FreshDatabase

RACES = 1_000
WRITERS = 8
COMMITS = 30_000


def note(writer: str, number: int = 0) -> NewEvent:
    return NewEvent("QualityMetricsCalculated", {"writer": writer, "number": number})


def race(
    database: FreshDatabase, rounds: int, batch_of: Callable[[int, str], list[Append]]
) -> list[dict[str, frozenset[str]]]:
    """Two writers with connections of their own append in each round at the same moment. What each lost."""
    barrier = threading.Barrier(2, timeout=60)
    stores = {name: PostgresEventStore(database.another()) for name in ("ann", "bob")}

    def write(name: str) -> list[frozenset[str]]:
        lost = []
        for number in range(rounds):
            barrier.wait()
            lost.append(stores[name].append(batch_of(number, name)))
        return lost

    with ThreadPoolExecutor(2) as pool:
        ann, bob = pool.map(write, stores)
    return [{"ann": a, "bob": b} for a, b in zip(ann, bob, strict=True)]


def test_of_two_writers_on_one_stream_exactly_one_wins_a_thousand_times(database: FreshDatabase) -> None:
    """Every other round is on a new stream, the rest move the head of one that exists."""

    def batch_of(number: int, writer: str) -> list[Append]:
        stream, version = ("s", number // 2) if number % 2 else (f"s{number}", 0)
        return [append(stream, version, note(writer, number))]

    results = race(database, RACES, batch_of)
    winners = {}
    for number, lost in enumerate(results):
        assert sum(not x for x in lost.values()) == 1, f"race {number}: {lost}"
        winners[number] = next(name for name, x in lost.items() if not x)
    assert set(winners.values()) == {"ann", "bob"}, "there was no race"
    with database.connect() as connection:
        rows = connection.execute("SELECT data, stream, version FROM events").fetchall()
    assert {d["number"]: d["writer"] for d, _, _ in rows} == winners
    assert len({(s, v) for _, s, v in rows}) == len(rows) == RACES


def test_batches_over_the_same_streams_in_opposite_order_share_them_out_without_deadlock(
    database: FreshDatabase,
) -> None:
    def batch_of(number: int, writer: str) -> list[Append]:
        streams = [f"s{n}" for n in range(20)] + [f"new{number}-{n}" for n in range(5)]
        if writer == "bob":
            streams.reverse()
        return [append(s, number if s[0] == "s" else 0, note(writer)) for s in streams]

    for lost in race(database, 100, batch_of):
        assert not lost["ann"] & lost["bob"]
        assert len(lost["ann"] | lost["bob"]) == 25
    with database.connect() as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (100 * 25,)


# followers ---------------------------------------------------------------------------------------

# Every commit is a transaction of its own; some are held open for a moment between taking their
# sequence and committing, as a slow writer does.
_WRITER = """
CREATE PROCEDURE write_events(writer integer, commits integer) LANGUAGE plpgsql AS $$
BEGIN
    FOR n IN 1..commits LOOP
        INSERT INTO events (recorded_at, event_id, stream, version, type, type_version, actor,
            correlation_id, data)
        VALUES (clock_timestamp(), gen_random_uuid(), 'w' || writer, n, 'DataIngested', 1, 'a', 'c', '{}');
        IF random() < 0.02 THEN PERFORM pg_sleep(random() * 0.004); END IF;
        COMMIT;
    END LOOP;
END $$
"""
_NAIVE = "SELECT event_id, position FROM events WHERE position > %s ORDER BY position LIMIT 1000"
_LATE = (
    "INSERT INTO events (recorded_at, event_id, stream, version, type, type_version, actor, correlation_id,"
    " data) VALUES (clock_timestamp(), %s, 'late', 1, 'DataIngested', 1, 'a', 'c', '{}') RETURNING position"
)


class Reading(threading.Thread):
    """A reader that goes on until it is told that all is written, and then to the end."""

    def __init__(self, read: Callable[[], int]) -> None:
        super().__init__(daemon=True)
        self._read = read
        self.written = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while True:
                all_written = self.written.is_set()
                if not self._read() and all_written:
                    return
        except BaseException as error:  # noqa: BLE001 - shown by `finish`, in the thread of the test
            self.error = error

    def finish(self) -> None:
        self.written.set()
        self.join(60)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error


@pytest.fixture
def connections(database: FreshDatabase) -> Iterator[Callable[[], psycopg.Connection]]:
    """Makes connections of the owner that end with the test."""
    opened: list[psycopg.Connection] = []

    def connect() -> psycopg.Connection:
        opened.append(database.connect())
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


@pytest.mark.slow
def test_a_follower_skips_no_commit_of_eight_writers_and_the_naive_cursor_does(
    database: FreshDatabase, connections: Callable[[], psycopg.Connection]
) -> None:
    follower = PostgresFollower(database.another().connect(), "test")
    followed: list[tuple[UUID, Position]] = []
    naive_connection = connections()
    naive: dict[UUID, int] = {}

    def follow() -> int:
        events = follower.read(followed[-1][1] if followed else START, 1_000)
        followed.extend((e.event_id, e.position) for e in events)
        return len(events)

    def follow_naively() -> int:
        last = max(naive.values(), default=0)
        rows = naive_connection.execute(_NAIVE, (last,)).fetchall()
        naive.update(rows)
        return len(rows)

    setup = connections()
    setup.execute(_WRITER)
    readers = [Reading(follow), Reading(follow_naively)]
    for reader in readers:
        reader.start()

    late = connections()
    late.autocommit = False
    late_id = UUID(int=1)
    (late_position,) = late.execute(_LATE, (late_id,)).fetchone() or (0,)

    def write(writer: int) -> None:
        store = PostgresEventStore(database.another())
        for number in range(100):
            store.append([append(f"{writer}-{number}", 0, note(str(writer)))])
        own = psycopg.connect(
            host="127.0.0.1",
            port=database.server.port,
            dbname=database.name,
            user=database.owner.user,
            autocommit=True,
            options="-c synchronous_commit=off",  # the order of commits is the same, the disk is spared
        )
        with own:
            own.execute("CALL write_events(%s, %s)", (writer, (COMMITS - 1) // WRITERS + 1))

    with ThreadPoolExecutor(WRITERS) as pool:
        writing = [pool.submit(write, n) for n in range(WRITERS)]
        # One transaction commits for certain only after the naive cursor went past it.
        passed = threading.Event()
        while not passed.wait(0.005):
            if max(naive.values(), default=0) > late_position:
                passed.set()
        assert late_id not in {i for i, _ in followed}
        late.commit()
        for one in writing:
            one.result()
    for reader in readers:
        reader.finish()

    stored = {row[0] for row in setup.execute("SELECT event_id FROM events")}
    assert len(stored) >= COMMITS
    positions = [p for _, p in followed]
    assert len(positions) == len(set(positions))
    assert positions == sorted(positions)
    assert {i for i, _ in followed} == stored
    missed = stored - naive.keys()
    assert late_id in missed, "the control must fail: the naive cursor went past a late commit"


def test_a_transaction_held_open_holds_a_follower_back_and_its_events_come_in_order(
    database: FreshDatabase, connections: Callable[[], psycopg.Connection]
) -> None:
    slow, fast = connections(), connections()
    slow.autocommit = False
    follower = PostgresFollower(database.app.connect(), "test")
    slow.execute(_LATE, (UUID(int=1),))
    fast.execute(_LATE, (UUID(int=2),))
    assert follower.read(START, 10) == []
    assert follower.behind()
    assert follower.lag_seconds() > 0
    slow.execute(_LATE, (UUID(int=3),))
    slow.commit()
    # In order of transactions, then of sequence in the log: 3 was written after 2 by an older transaction.
    assert [e.event_id.int for e in follower.read(START, 10)] == [1, 3, 2]


def test_a_rolled_back_append_leaves_no_trace_and_no_gap_to_wait_for(
    database: FreshDatabase, connections: Callable[[], psycopg.Connection]
) -> None:
    slow = connections()
    slow.autocommit = False
    slow.execute(_LATE, (UUID(int=1),))
    slow.rollback()
    connections().execute(_LATE, (UUID(int=2),))
    follower = PostgresFollower(database.app.connect(), "test")
    assert [e.event_id.int for e in follower.read(START, 10)] == [2]


def test_pages_types_and_the_checkpoint_of_a_follower(database: FreshDatabase) -> None:
    store = PostgresEventStore(database.app)
    for number in range(5):
        kind = "DataReconciled" if number % 2 else "QualityMetricsCalculated"
        data = {
            "number": number,
            "reference_data_id": "X",
            "snap": "2026-01-05T00:00:00Z",
            "status": "suspect",
            "value": "1",
        }
        store.append([append(f"s{number}", 0, NewEvent(kind, data))])
    follower = PostgresFollower(database.app.connect(), "test")
    assert follower.checkpoint() == START

    def numbers(after: Position, limit: int, types: tuple[str, ...] = ()) -> list[int]:
        return [e.data["number"] for e in follower.read(after, limit, types)]

    assert numbers(START, 3) == [0, 1, 2]
    third = follower.read(START, 3)[-1]
    assert numbers(third.position, 10) == [3, 4]
    assert numbers(START, 10, ("DataReconciled",)) == [1, 3]
    follower.move(third.position, third.recorded_at)
    assert follower.checkpoint() == third.position
    assert PostgresFollower(database.another().connect(), "test").checkpoint() == third.position
    assert PostgresFollower(database.another().connect(), "other").checkpoint() == START


def test_a_page_of_a_follower_is_bounded_by_bytes_too(database: FreshDatabase) -> None:
    """One event is read whatever its size: else nothing would ever be read again."""
    store = PostgresEventStore(database.app)
    for number, size in enumerate((10, 60_000, 60_000, 10, 10)):
        data = {"number": number, "reference_data_id": "X", "text": "x" * size}
        assert not store.append([append(f"s{number}", 0, NewEvent("QualityMetricsCalculated", data))])
    follower = PostgresFollower(database.app.connect(), "test")
    pages, after = [], START
    while events := follower.read(after, 4, most_bytes=1_000):
        pages.append([e.data["number"] for e in events])
        after = events[-1].position
    assert pages == [[0], [1], [2], [3, 4]]
    both = follower.read(START, 4, ("QualityMetricsCalculated",), 130_000)
    assert [e.data["number"] for e in both] == [0, 1, 2, 3]


_INCOMPRESSIBLE = """
INSERT INTO events (recorded_at, event_id, stream, version, type, type_version, actor, correlation_id, data)
SELECT now(), gen_random_uuid(), 's' || n, 1, 'QualityMetricsCalculated', 1, 'test', 'test',
    jsonb_build_object('text', (SELECT string_agg(md5(n || ' ' || part), '')
        FROM generate_series(1, 2000) part))
FROM generate_series(1, 200) n
"""


def test_a_page_of_large_events_does_not_read_those_after_it(database: FreshDatabase) -> None:
    """Else a log of large events would cost each page its limit of them, up to the statement's time limit."""
    with database.connect() as owner:
        owner.execute(_INCOMPRESSIBLE)
        explained = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + followers._READ
        (row,) = owner.execute(explained.encode(), ("0", 0, 1_000, 200_000, 200_000)).fetchall()
        blocks = row[0][0]["Plan"]["Shared Hit Blocks"] + row[0][0]["Plan"]["Shared Read Blocks"]
    assert len(PostgresFollower(database.app.connect(), "test").read(START, 1_000, most_bytes=200_000)) == 3
    assert blocks < 400, "each of the 200 events takes 8"


def test_one_process_at_a_time_follows_under_a_name_and_the_next_takes_over(database: FreshDatabase) -> None:
    first, second = database.another(), database.another()
    assert PostgresFollower(first.connect(), "relay").acquire(1)
    waiting = PostgresFollower(second.connect(), "relay")
    assert not waiting.acquire(0.05)
    assert PostgresFollower(second.connect(), "other").acquire(0.05)
    first.close()
    assert waiting.acquire(10)


def test_an_append_wakes_a_listening_follower(database: FreshDatabase) -> None:
    follower = PostgresFollower(database.another().connect(), "test")
    follower.listen()
    assert not follower.wait(0.01)
    PostgresEventStore(database.app).append([append("s", 0, note("ann"))])
    assert follower.wait(10)
