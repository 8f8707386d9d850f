"""Claims, rules and people in random order through the real use cases on real PostgreSQL."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest

from qis.adapters.postgres.admission import PostgresAdmissions
from qis.adapters.postgres.catalogue import PostgresCatalogue
from qis.adapters.postgres.event_store import PostgresEventStore
from qis.adapters.postgres.followers import PostgresFollower
from qis.adapters.postgres.projections import MODELS
from qis.adapters.postgres.quality_facts import PostgresFacts
from qis.adapters.postgres.rebuild import check
from qis.adapters.resolvers import installed
from qis.application.corrections import Corrections, Overtaken
from qis.application.ingest import Delivery, Ingest
from qis.application.quality import Quality
from qis.application.reconcile import Reconciler, Trigger
from qis.application.register import Register
from qis.domain import events as ev
from qis.domain.errors import Conflict, FourEyes
from qis.domain.snap import Snap, parse_instant
from tests.support.builders import (
    EUR,
    OVERRIDES,
    SOURCES,
    claim_record,
    rules_body,
    series_body,
    snap,
    source_body,
)
from tests.support.databases import FreshDatabase
from tests.support.fakes import MemoryDeadLetters


class Path:
    """Every use case of the core, on one database."""

    def __init__(self, database: FreshDatabase) -> None:
        self.database = database
        store = self.store = PostgresEventStore(database.app)
        ticks = iter(range(10**9))
        catalogue = PostgresCatalogue(database.app, lambda: float(next(ticks)))
        self.register = Register(store, catalogue, installed)
        self.register.rules(rules_body(), "setup", "setup")
        for name in SOURCES:
            self.register.source(source_body(name), "setup", "setup")
        self.register.series(series_body(), "setup", "setup")
        self.ingest = Ingest(
            PostgresAdmissions(database.app),
            catalogue,
            "memory://raw",
            MemoryDeadLetters(),
            lambda: UUID(int=1),
        )
        self.reconciler = Reconciler(store, catalogue)
        quality = Quality(store, catalogue, PostgresFacts(database.app))
        self.corrections = Corrections(store, catalogue, self.reconciler, quality, OVERRIDES)
        self._follower = PostgresFollower(database.another().connect(), "test")
        self._place = ev.START
        self._delivered = 0

    def claim(self, source: str, value: str, at: Snap) -> None:
        self._delivered += 1
        record = claim_record(source=source, value=value, snap=at.text)
        self.ingest.deliveries([Delivery(f"r{self._delivered}", "load", record)])

    def reconcile(self) -> None:
        events = self._follower.read(self._place, 10_000)
        if events:
            self._place = events[-1].position
        self.reconciler.run(
            Trigger(EUR, parse_instant(e.data["snap"], "snap"), e.correlation_id, e.event_id)
            for e in events
            if e.type == ev.DATA_INGESTED
        )

    def waiting(self) -> list[UUID]:
        rows = self.database.app.connect().execute(
            "SELECT issue_id FROM exceptions WHERE status = 'open' ORDER BY opened_at, issue_id"
        )
        return [r[0] for r in rows]

    def official(self, at: Snap) -> list[str]:
        rows = self.database.app.connect().execute(
            "SELECT value::text FROM official_values WHERE snap_ns = %s ORDER BY version", (at.ns,)
        )
        return [r[0] for r in rows]


@pytest.fixture
def path(database: FreshDatabase) -> Path:
    return Path(database)


class Chance:
    """What happens next."""

    def __init__(self, path: Path, seed: int) -> None:
        self._path = path
        self._random = random.Random(seed)

    def _snap(self) -> Snap:
        return snap(self._random.randint(0, 5))

    def _value(self) -> str:
        return self._random.choice(["100.00", "100.05", "101", "104", "107.10", "160", "161"])

    def step(self) -> None:
        acts = [self._claim] * 6 + [self._reconcile] * 3
        acts += [self._restate, self._approve, self._approve, self._reject, self._rules]
        # What people may not do now is refused; anything else that goes wrong fails the test.
        with suppress(Conflict, FourEyes):
            self._random.choice(acts)()

    def _claim(self) -> None:
        self._path.claim(self._random.choice(SOURCES), self._value(), self._snap())

    def _reconcile(self) -> None:
        self._path.reconcile()

    def _restate(self) -> None:
        who = self._random.choice(["ann", "bob"])
        self._path.corrections.restate(EUR, self._snap().text, self._value(), "error", who, "request")

    def _approve(self) -> None:
        for item in self._path.waiting()[:1]:
            self._path.corrections.approve(item, self._random.choice(["ann", "bob"]), "request")

    def _reject(self) -> None:
        for item in self._path.waiting()[-1:]:
            self._path.corrections.reject(item, "wrong", self._random.choice(["ann", "bob"]), "request")

    def _rules(self) -> None:
        precedence = self._random.sample(SOURCES, 3)
        changes: dict[str, Any] = {"max_move": self._random.choice(["0.02", "0.05", "0.5"])}
        self._path.register.rules(rules_body(precedence=precedence, **changes), "ops", "request")


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_the_read_models_follow_from_the_log(path: Path, seed: int) -> None:
    chance = Chance(path, seed)
    for _ in range(120):
        chance.step()
    path.reconcile()
    with path.database.connect() as owner:
        for name in MODELS:
            assert check(owner, name).equal
        rows = owner.execute(
            "SELECT snap_ns, array_agg(version ORDER BY recorded_from), count(*) FILTER"
            " (WHERE superseded_at IS NULL) FROM official_values GROUP BY snap_ns"
        ).fetchall()
        gaps = owner.execute(
            "SELECT count(*) FROM (SELECT recorded_from, lag(superseded_at) OVER"
            " (PARTITION BY snap_ns ORDER BY version) AS ended FROM official_values) v"
            " WHERE ended IS NOT NULL AND ended <> recorded_from"
        ).fetchone()
    assert rows, "something was published"
    assert all(
        versions == list(range(1, len(versions) + 1)) and current == 1 for _, versions, current in rows
    )
    assert gaps == (0,)


def test_a_value_that_new_rules_have_overtaken_is_not_approved_but_decided_anew(path: Path) -> None:
    path.claim("alpha", "100", snap(0))
    path.claim("alpha", "200", snap(1))
    path.claim("beta", "101", snap(1))
    path.reconcile()
    (item,) = path.waiting()
    path.register.rules(rules_body(precedence=["beta", "alpha"], tolerance="1"), "ops", "request")
    with pytest.raises(Overtaken):
        path.corrections.approve(item, "bob", "request")
    assert (path.waiting(), path.official(snap(1))) == ([], ["101"])


def test_a_value_that_a_claim_has_overtaken_is_not_approved_but_decided_anew(path: Path) -> None:
    path.claim("alpha", "100", snap(0))
    path.claim("alpha", "200", snap(1))
    path.reconcile()
    (item,) = path.waiting()
    path.claim("beta", "101", snap(1))
    path.claim("gamma", "101", snap(1))  # stored, and not reconciled yet
    with pytest.raises(Overtaken):
        path.corrections.approve(item, "bob", "request")
    assert (path.waiting(), path.official(snap(1))) == ([], ["101"])


def test_an_exception_of_a_value_that_changed_cannot_be_approved_any_more(path: Path) -> None:
    path.claim("alpha", "100", snap(0))
    path.claim("alpha", "200", snap(1))
    path.reconcile()
    (item,) = path.waiting()
    path.claim("beta", "200.01", snap(1))
    path.reconcile()
    with pytest.raises(Conflict):
        path.corrections.approve(item, "bob", "request")
    assert path.official(snap(1)) == ["200"]
