"""Two writers decide on neighbouring snaps at the same moment, each on what the other is about to change."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from uuid import uuid4

import pytest

from qis.adapters.postgres.event_store import PostgresEventStore
from qis.application.ports import Append, Basis
from qis.application.reconcile import Reconciler, Trigger
from qis.domain.snap import Snap
from tests.support.builders import EUR, catalogue, claim, ingested, rules, snap, value_append
from tests.support.databases import FreshDatabase
from tests.support.fakes import FixedCatalogue

CATALOGUE = FixedCatalogue(catalogue(rule_sets=[rules()]))
ROUNDS = 10
APART = 100
"""Days between the pairs of the rounds."""


class Abreast(PostgresEventStore):
    """A store whose first append waits until the other writer is about to append too, so that each has
    decided before either has stored anything."""

    def __init__(self, database: object, barrier: threading.Barrier, *, watched: bool) -> None:
        super().__init__(database)  # type: ignore[arg-type]
        self._barrier: threading.Barrier | None = barrier
        self._watched = watched

    def append(self, appends: Sequence[Append], bases: Sequence[Basis] = ()) -> frozenset[str]:
        if self._barrier is not None:
            self._barrier.wait()
            self._barrier = None
        return super().append(appends, bases if self._watched else ())


def reconcile(store: PostgresEventStore, *snaps: Snap) -> Collection[object]:
    done = Reconciler(store, CATALOGUE).run(Trigger(EUR, s, "test", uuid4()) for s in snaps)
    return [e for events in done.values() for e in events]


def race(database: FreshDatabase, first: Snap, *, watched: bool) -> tuple[str, Decimal]:
    """The decision on the second snap after a restatement of the first one by 20 % races it."""
    second = Snap(first.ns + 86_400_000_000_000)
    setup = PostgresEventStore(database.app)
    setup.append([value_append(0, ingested(claim("alpha", "100", first)))])
    reconcile(setup, first)
    late = claim("alpha", "120", first, received=600)
    version = setup.versions([f"value:{EUR}@{first.text}"])[f"value:{EUR}@{first.text}"]
    setup.append(
        [value_append(version, ingested(late)), value_append(0, ingested(claim("alpha", "121", second)))]
    )
    barrier = threading.Barrier(2, timeout=60)
    with ThreadPoolExecutor(2) as pool:
        stores = [Abreast(database.another(), barrier, watched=watched) for _ in range(2)]
        list(pool.map(reconcile, stores, (first, second)))
    with database.connect() as connection:
        row = connection.execute(
            "SELECT status, value FROM decisions WHERE snap_ns = %s", (second.ns,)
        ).fetchone()
    assert row is not None
    return row[0], row[1]


def test_a_decision_never_rests_on_a_neighbour_that_another_writer_changed(database: FreshDatabase) -> None:
    for number in range(ROUNDS):
        first = snap(number * APART)
        # The first pair has no snap before; the others are far from the one before, and so held.
        status, value = race(database, first, watched=True)
        if number == 0:
            assert (status, value) == ("official", Decimal(121))
        setup = PostgresEventStore(database.app)
        following = Snap(first.ns + 86_400_000_000_000)
        assert not reconcile(setup, first, following), "deciding again finds nothing stale"


def test_without_looking_again_it_does(database: FreshDatabase) -> None:
    """The control: the same race with a store that does not look again before it stores."""
    assert race(database, snap(), watched=False) == ("suspect", Decimal(121))


@pytest.mark.parametrize("stale", ["alone", "with another"])
def test_streams_of_one_basis_are_stored_together_or_not_at_all(database: FreshDatabase, stale: str) -> None:
    store = PostgresEventStore(database.app)
    days = [snap(0), snap(1)]
    appends = [value_append(0, ingested(claim(at=day))) for day in days]
    store.append(appends)
    reconcile(store, *days)
    streams = [a.stream for a in appends]
    versions = store.versions(streams)
    keys = [(EUR, day) for day in days]
    basis = Basis(EUR, frozenset(streams), store.neighbours(keys), frozenset())
    behind = 1 if stale == "alone" else 0
    again = [
        value_append(versions[s] - (behind if s == streams[0] else 0), ingested(claim("beta", at=day)))
        for s, day in zip(streams, days, strict=True)
    ]
    if stale == "with another":
        reconcile_on = value_append(0, ingested(claim(value="9", at=snap(0.5))))
        store.append([reconcile_on])
        reconcile(store, snap(0.5))
    assert store.append(again, [basis]) == frozenset(streams)
    assert store.versions(streams)[streams[1]] == versions[streams[1]]
    fresh = Basis(EUR, frozenset(streams[1:]), store.neighbours(keys[1:]), frozenset())
    assert not store.append(again[1:], [fresh])
