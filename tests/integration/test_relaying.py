"""Following the log in an unlucky world: months that cannot be made, a log of another server."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count

import psycopg
import pytest

from qis.adapters import relaying
from qis.adapters.postgres.admission import PostgresAdmissions
from qis.adapters.postgres.connection import Database
from qis.adapters.postgres.event_store import PostgresEventStore
from qis.adapters.postgres.followers import Misplaced, PostgresFollower
from qis.adapters.postgres.partitions import make_months
from qis.adapters.postgres.raw import PostgresRawOutbox
from qis.adapters.raw_moving import RawMoving
from qis.adapters.relaying import Relaying, Report
from qis.application.ports import Unavailable
from qis.application.raw import RawBatch, pack
from qis.domain.events import Position
from tests.support.builders import published, value_append
from tests.support.databases import FreshDatabase
from tests.support.fakes import MemoryBackbone, MemoryRawStore
from tests.support.waiting import until


def relay(
    database: FreshDatabase, backbone: MemoryBackbone, wanted: int, raw: RawMoving | None = None
) -> int:
    """Follow until so many events are on the backbone. Whatever interrupts it is the test's failure."""

    def interrupted(error: Exception) -> None:
        raise error

    return Relaying(
        database=database.another(),
        backbone=backbone,
        audit=None,
        raw=raw or RawMoving(database.another, MemoryRawStore(), interrupted),
        seconds_left=lambda: 60.0 if len(backbone.records) < wanted else 0.0,
        report=lambda _: None,
        interrupted=interrupted,
    ).run()


def without_the_newest_month(connection: psycopg.Connection) -> str:
    (name,) = connection.execute(
        "SELECT max(inhrelid::regclass::text) FROM pg_inherits"
        " WHERE inhparent = 'events'::regclass AND inhrelid::regclass::text <> 'events_default'"
    ).fetchone() or ("",)
    connection.execute(f"DROP TABLE {name}")
    return str(name)


def test_a_month_that_a_long_reader_keeps_from_being_made_stops_nobody(database: FreshDatabase) -> None:
    """A rebuild reads the log for minutes. Events flow meanwhile, and the month is made after it."""
    store, backbone = PostgresEventStore(database.app), MemoryBackbone()
    with database.connect() as owner, database.connect() as reader:
        month = without_the_newest_month(owner)
        with reader.transaction():
            reader.execute("SELECT count(*) FROM events")
            store.append([value_append(0, published("1.10"))])
            assert relay(database, backbone, 1) == 1
        store.append([value_append(1, published("1.11", version=2))])
        assert relay(database, backbone, 2) == 1
        assert owner.execute("SELECT to_regclass(%s)::text", (month,)).fetchone() == (month,)
    assert [json.loads(data)["version"] for _, data in backbone.records] == [1, 2]


def test_a_month_being_made_and_a_reader_do_not_wait_for_each_other(database: FreshDatabase) -> None:
    with database.connect() as owner, database.connect() as reader, ThreadPoolExecutor(1) as pool:
        month = without_the_newest_month(owner)
        maker = database.another().connect()
        with reader.transaction():
            reader.execute("LOCK TABLE ONLY events IN ACCESS SHARE MODE")  # as planning a query begins
            made = pool.submit(make_months, maker)
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = %s"
            pid = maker.info.backend_pid
            until(lambda: owner.execute(waits, (pid,)).fetchone() == (1,) or made.done(), "it to wait")
            # ... and goes on: what would be a deadlock ends one of the two.
            assert reader.execute("SELECT count(*) FROM events_default").fetchone() == (0,)
        try:
            made.result(10)
        except psycopg.errors.LockNotAvailable:
            make_months(maker)
        assert owner.execute("SELECT to_regclass(%s)::text", (month,)).fetchone() == (month,)


def test_months_are_made_for_as_long_as_the_relay_follows(database: FreshDatabase) -> None:
    """A container follows for months; a month that is missing now is made within the hour."""
    hours, reports = iter([1e6 - n * relaying.MONTHS_EVERY for n in range(8)] + [0.0] * 9), list[Report]()
    with database.connect() as owner:
        dropped = []

        def report(given: Report) -> None:
            reports.append(given)
            if not dropped:
                dropped.append(without_the_newest_month(owner))

        Relaying(
            database=database.another(),
            backbone=MemoryBackbone(),
            audit=None,
            raw=RawMoving(database.another, MemoryRawStore(), lambda _: None),
            seconds_left=lambda: next(hours),
            report=report,
            interrupted=lambda _: None,
        ).run()
        assert owner.execute("SELECT to_regclass(%s)::text", dropped).fetchone() == (dropped[0],)
    assert all(r.months_trouble is None for r in reports)


def test_a_month_that_cannot_be_made_is_told_and_tried_again(database: FreshDatabase) -> None:
    left, reports = (
        iter([1e6 - n * relaying.REPORT_EVERY * 1.01 for n in range(30)] + [0.0] * 9),
        list[Report](),
    )
    with database.connect() as owner, database.connect() as reader:
        month = without_the_newest_month(owner)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM events")

        def report(given: Report) -> None:
            reports.append(given)
            if given.months_trouble is not None:
                reader.execute("ROLLBACK")

        Relaying(
            database=database.another(),
            backbone=MemoryBackbone(),
            audit=None,
            raw=RawMoving(database.another, MemoryRawStore(), lambda _: None),
            seconds_left=lambda: next(left),
            report=report,
            interrupted=lambda _: None,
        ).run()
        assert owner.execute("SELECT to_regclass(%s)::text", (month,)).fetchone() == (month,)
    assert "lock timeout" in (reports[0].months_trouble or "")
    assert reports[-1].months_trouble is None


def test_a_stream_that_refuses_does_not_keep_the_lag_from_being_told(
    database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The alarm on the lag watches what is told here: a relay that is stuck must not be silent, too."""
    monkeypatch.setattr(relaying, "REPORT_EVERY", 0.0)
    PostgresEventStore(database.app).append([value_append(0, published("1.10"))])
    backbone, reports, interruptions = MemoryBackbone(), list[Report](), list[Exception]()
    backbone.refuse = True
    left = count(60.0, -0.01)
    Relaying(
        database=database.another(),
        backbone=backbone,
        audit=None,
        raw=RawMoving(database.another, MemoryRawStore(), interruptions.append),
        seconds_left=lambda: next(left) if len(interruptions) < 5 else 0.0,
        report=reports.append,
        interrupted=interruptions.append,
    ).run()
    assert [str(error) for error in interruptions] == ["the backbone is away"] * 5
    lags = [report.lag_seconds for report in reports]
    assert lags == sorted(lags)
    assert lags[-1] > lags[0] > 0


def test_a_checkpoint_of_another_server_is_told_and_nothing_is_passed_over(database: FreshDatabase) -> None:
    """A dump that is put on a new server brings numbers of transactions that this one has yet to give."""
    PostgresFollower(database.another().connect(), "backbone").move(Position(10**9, 5), datetime.now(UTC))
    PostgresEventStore(database.app).append([value_append(0, published("1.10"))])
    with pytest.raises(Misplaced, match=r"follower backbone is at transaction 1000000000 .* `qis recover`"):
        relay(database, MemoryBackbone(), 1)


# raw payloads ------------------------------------------------------------------------------------


class Raw(MemoryRawStore):
    """A raw store that is away for some calls, and tells when it has something."""

    def __init__(self, away: int) -> None:
        super().__init__()
        self.away = away
        self.has_some = threading.Event()

    def put(self, batches: Sequence[RawBatch]) -> None:
        self.away -= 1
        if self.away >= 0:
            raise Unavailable("the raw store is away")
        super().put(batches)
        self.has_some.set()


def keep(database: FreshDatabase, *batches: RawBatch) -> None:
    for batch in batches:
        with PostgresAdmissions(database.app).open() as admission:
            admission.keep(batch)


def test_raw_payloads_move_beside_the_relay(database: FreshDatabase) -> None:
    batches = [pack([b"%d" % n], "s3://raw") for n in range(120)]
    keep(database, *batches)
    raw, troubles = Raw(away=2), []
    with RawMoving(database.another, raw, troubles.append).running():
        assert raw.has_some.wait(30)
        until(lambda: not PostgresRawOutbox(database.app).waiting(1), "the last batch")
    assert raw.bodies == dict(batches)
    assert [str(e) for e in troubles] == ["the raw store is away"] * 2


class Faulty(Raw):
    """A raw store with a fault of its own."""

    def put(self, batches: Sequence[RawBatch]) -> None:
        self.away -= 1
        if self.away >= 0:
            raise KeyError("a mistake in the code")
        super().put(batches)


def test_no_error_ends_the_moving_unseen(database: FreshDatabase) -> None:
    batch = pack([b"{}"], "s3://raw")
    keep(database, batch)
    raw, troubles = Faulty(away=2), list[Exception]()
    unreachable = iter([True, False])

    def another() -> Database:
        if next(unreachable, False):
            raise OSError("the database's address is not known")
        return database.another()

    with RawMoving(another, raw, troubles.append).running():
        assert raw.has_some.wait(30)
    assert raw.bodies == dict([batch])
    assert [type(e) for e in troubles] == [OSError, KeyError, KeyError]


def test_a_raw_store_that_is_away_holds_up_no_event(database: FreshDatabase) -> None:
    keep(database, pack([b"{}"], "s3://raw"))
    PostgresEventStore(database.app).append([value_append(0, published("1.10"))])
    troubles: list[Exception] = []
    moving = RawMoving(database.another, Raw(away=1_000_000), troubles.append)
    assert relay(database, MemoryBackbone(), 1, moving) == 1
    assert {str(e) for e in troubles} <= {"the raw store is away"}
    assert PostgresRawOutbox(database.app).waiting(10) == 1, "it is still there"
