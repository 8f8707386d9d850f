"""The whole write path with people at it, in memory and on PostgreSQL, in a process that may end between any
two of its steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from qis.adapters.postgres.admission import PostgresAdmissions
from qis.adapters.postgres.event_store import PostgresEventStore
from qis.adapters.postgres.followers import PostgresFollower
from qis.adapters.postgres.issues import PostgresIssues
from qis.adapters.postgres.projections import MODELS
from qis.adapters.postgres.quality_facts import PostgresFacts
from qis.adapters.postgres.rebuild import check
from qis.application.corrections import Corrections
from qis.application.ingest import Ingest
from qis.application.issues import IssueBook, IssueDesk, IssueWatch
from qis.application.ports import Admission, Admissions, Append, Basis, EventStore, RecordOutcome, Rejection
from qis.application.quality import Facts, Quality
from qis.application.reconcile import Reconciler
from qis.domain import events as ev
from qis.domain.snap import Snap
from tests.support.builders import OVERRIDES, catalogue, rules
from tests.support.databases import FreshDatabase
from tests.support.fakes import (
    FixedCatalogue,
    MemoryAdmissions,
    MemoryDeadLetters,
    MemoryEventStore,
    MemoryFacts,
    MemoryIssues,
    Ticking,
)

NOW = datetime(2026, 12, 1, tzinfo=UTC)


class Crash(Exception):
    """The process ended here."""


class Crashes:
    """When the process ends: at a numbered step from now, before or after the step took effect."""

    def __init__(self) -> None:
        self._steps: int | None = None
        self._before = False

    def after(self, steps: int, *, before: bool) -> None:
        """End the process at the step after ``steps`` others."""
        self._steps, self._before = steps, before

    def never(self) -> None:
        self._steps = None

    @contextmanager
    def step(self) -> Iterator[None]:
        """A step of the process whose effect is durable at the end of the context."""
        ends = self._steps == 0
        if self._steps is not None:
            self._steps -= 1
        if ends and self._before:
            self._steps = None
            raise Crash
        yield
        if ends:
            self._steps = None
            raise Crash


class CrashingStore:
    """An event store whose process may end around each write."""

    def __init__(self, store: EventStore, crashes: Crashes) -> None:
        self._store = store
        self._crashes = crashes

    def append(self, appends: Sequence[Append], bases: Sequence[Basis] = ()) -> frozenset[str]:
        with self._crashes.step():
            return self._store.append(appends, bases)

    def keep_snapshot(self, stream: str, version: int, state: Mapping[str, Any]) -> None:
        with self._crashes.step():
            self._store.keep_snapshot(stream, version, state)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class CrashingAdmissions:
    """Admissions whose process may end before and after each step, durable or not."""

    def __init__(self, admissions: Admissions, crashes: Crashes) -> None:
        self._admissions = admissions
        self._crashes = crashes

    @contextmanager
    def open(self) -> Iterator[Admission]:
        with self._crashes.step(), self._admissions.open() as admission:
            yield _CrashingAdmission(admission, self._crashes)
            with self._crashes.step():
                pass


class _CrashingAdmission:
    def __init__(self, admission: Admission, crashes: Crashes) -> None:
        self._admission = admission
        self._crashes = crashes

    def count(self, rejected: Sequence[Rejection]) -> Mapping[str, RecordOutcome]:
        with self._crashes.step():
            return self._admission.count(rejected)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._admission, name)


class Waiting(NamedTuple):
    """A row of the exception queue."""

    snap: Snap
    status: str
    gate: bool
    submitters: frozenset[str] | None
    """``None`` where the read model is one that does not say."""


class Reads(Protocol):
    """What the read models show."""

    def log(self) -> Sequence[ev.Event]: ...

    def officials(self) -> Mapping[Snap, tuple[Decimal, int]]: ...

    def decisions(self) -> Mapping[Snap, tuple[str, Decimal | None]]: ...

    def exceptions(self) -> Mapping[UUID, Waiting]: ...

    def accepted(self) -> int:
        """Records that are counted as accepted, over all loads."""
        ...

    def check_rebuilds(self) -> None:
        """Whether each read model is what the log gives."""
        ...


@dataclass
class Desk:
    """The use cases of one process, and what they leave behind."""

    crashes: Crashes
    catalogue: FixedCatalogue
    ingest: Ingest
    corrections: Corrections
    reconciler: Reconciler
    watch: IssueWatch
    issues: IssueDesk
    reads: Reads

    def pause(self, source: str, *, active: bool) -> None:
        """Take claims of a source no more, or again."""
        known = self.catalogue.catalogue
        self.catalogue.catalogue = replace(known, active={**known.active, source: active})


def _desk(
    store: EventStore, admissions: Admissions, facts: Facts, book: IssueBook, reads: Reads, **changes: Any
) -> Desk:
    crashes = Crashes()
    reader = FixedCatalogue(catalogue(rule_sets=[rules(**changes)]))
    crashing: Any = CrashingStore(store, crashes)
    ids = count(1)
    ingest = Ingest(
        CrashingAdmissions(admissions, crashes),
        reader,
        "memory://raw",
        MemoryDeadLetters(),
        lambda: UUID(int=next(ids)),
    )
    reconciler = Reconciler(crashing, reader)
    corrections = Corrections(crashing, reader, reconciler, Quality(crashing, reader, facts), OVERRIDES)
    clock = Ticking(NOW)
    issues = IssueDesk(crashing, book, corrections, clock)
    return Desk(crashes, reader, ingest, corrections, reconciler, IssueWatch(crashing, book), issues, reads)


def in_memory(**changes: Any) -> Desk:
    """Everything in memory."""
    store = MemoryEventStore(Ticking(NOW))
    reads = _MemoryReads(store)
    return _desk(store, MemoryAdmissions(store), MemoryFacts(store), MemoryIssues(store), reads, **changes)


def on_postgres(database: FreshDatabase, **changes: Any) -> Desk:
    """Everything on PostgreSQL."""
    app = database.app
    store, reads = PostgresEventStore(app), _PostgresReads(database)
    return _desk(store, PostgresAdmissions(app), PostgresFacts(app), PostgresIssues(app), reads, **changes)


class _MemoryReads:
    def __init__(self, store: MemoryEventStore) -> None:
        self._store = store

    def log(self) -> Sequence[ev.Event]:
        return list(self._store.log)

    def officials(self) -> Mapping[Snap, tuple[Decimal, int]]:
        last = {snap: versions[-1].data for (_, snap), versions in self._store.official.items()}
        return {snap: (Decimal(d["value"]), d["official_version"]) for snap, d in last.items()}

    def decisions(self) -> Mapping[Snap, tuple[str, Decimal | None]]:
        return {snap: decision for (_, snap), decision in self._store.decisions.items()}

    def exceptions(self) -> Mapping[UUID, Waiting]:
        status = self._store.issue_status
        return {i: Waiting(one.snap, status[i], one.gate, None) for i, one in self._store.issues.items()}

    def accepted(self) -> int:
        return sum(load["accepted"] for load in self._store.ledger.loads.values())

    def check_rebuilds(self) -> None:
        """In memory there is nothing to rebuild."""


class _PostgresReads:
    def __init__(self, database: FreshDatabase) -> None:
        self._database = database

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        return self._database.app.connect().execute(query.encode()).fetchall()

    def log(self) -> Sequence[ev.Event]:
        return PostgresFollower(self._database.app.connect(), "test").read(ev.START, 100_000)

    def officials(self) -> Mapping[Snap, tuple[Decimal, int]]:
        rows = self._rows("SELECT snap_ns, value, version FROM official_values WHERE superseded_at IS NULL")
        return {Snap(ns): (value, version) for ns, value, version in rows}

    def decisions(self) -> Mapping[Snap, tuple[str, Decimal | None]]:
        rows = self._rows("SELECT snap_ns, status, value FROM decisions")
        return {Snap(ns): (status, value) for ns, status, value in rows}

    def exceptions(self) -> Mapping[UUID, Waiting]:
        rows = self._rows("SELECT issue_id, snap_ns, status, details FROM exceptions")
        return {
            item: Waiting(Snap(ns), status, details["gate"], frozenset(details["submitters"]))
            for item, ns, status, details in rows
        }

    def accepted(self) -> int:
        ((accepted,),) = self._rows("SELECT coalesce(sum(accepted), 0) FROM loads")
        return int(accepted)

    def check_rebuilds(self) -> None:
        with self._database.connect() as owner:
            for model in MODELS:
                assert check(owner, model).equal, model
