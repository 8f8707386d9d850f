"""One value with very many claims: what reading and deciding cost grows with them, not with their square."""

from __future__ import annotations

import json
import tracemalloc
from itertools import count
from uuid import uuid4

from qis.adapters.postgres.admission import PostgresAdmissions
from qis.adapters.postgres.event_store import PostgresEventStore
from qis.adapters.postgres.followers import PostgresFollower
from qis.application.ingest import Delivery, Ingest
from qis.application.reconcile import Reconciler, Trigger
from qis.application.relay import RECORD_BYTES, backbone_record
from qis.domain import events as ev
from qis.domain.snap import NANOS, Snap
from tests.support.builders import EUR, SOURCES, catalogue, claim_record, snap
from tests.support.databases import FreshDatabase
from tests.support.fakes import FixedCatalogue, MemoryDeadLetters

MEGABYTE = 1024 * 1024


class Value:
    """A value that its sources correct again and again."""

    def __init__(self, database: FreshDatabase) -> None:
        self.store = PostgresEventStore(database.app)
        book = FixedCatalogue(catalogue())
        admissions = PostgresAdmissions(database.app)
        self._ingest = Ingest(admissions, book, "memory://raw", MemoryDeadLetters(), uuid4)
        self._reconciler = Reconciler(self.store, book)
        self._numbers = count(1)

    def claim(self, claims: int) -> None:
        """More claims, each a correction."""
        numbers = [next(self._numbers) for _ in range(claims)]
        self._ingest.deliveries([Delivery(f"r{n}", "load", self._record(n)) for n in numbers])

    def _record(self, number: int) -> bytes:
        received = Snap(snap().ns + number * NANOS).text
        source = SOURCES[number % 3]
        return claim_record(source=source, value=f"1.{1000 + number % 7}", received_at=received)

    def decide(self) -> None:
        self._reconciler.run([Trigger(EUR, snap(), "load", None)])


def test_a_snapshot_is_read_once_however_many_events_are_newer(database: FreshDatabase) -> None:
    value = Value(database)
    value.claim(1_000)
    value.decide()
    value.claim(1_000)
    value.decide()
    value.claim(1_000)
    tracemalloc.start()
    try:
        value.decide()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 60 * MEGABYTE, f"{peak / MEGABYTE:.0f} MB; the snapshot holds 1 MB"


def test_decisions_on_very_many_claims_fit_the_records_of_the_backbone(database: FreshDatabase) -> None:
    value = Value(database)
    value.claim(8_000)
    value.decide()
    value.claim(10)
    value.decide()
    events = PostgresFollower(database.another().connect(), "test").read(ev.START, 20_000)
    decisions = [e for e in events if e.type == ev.DATA_RECONCILED]
    assert len(decisions) == 2
    for decision in decisions:
        assert len(backbone_record(decision)[1]) < RECORD_BYTES / 10
        listed = len(decision.data["sources_rejected"]) + len(decision.data["sources_used"])
        claimed = sum(e.type == ev.DATA_INGESTED for e in events if e.version < decision.version)
        assert listed + sum(decision.data["unlisted"].values()) == claimed, "each claim is accounted for"
    assert json.dumps(decisions[0].data) != json.dumps(decisions[1].data)
