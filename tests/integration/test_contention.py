"""Writers that keep deciding on one series at once: each comes to its end."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from qis.adapters.postgres.event_store import PostgresEventStore
from qis.adapters.postgres.rebuild import check
from qis.application import reconcile
from qis.application.reconcile import Reconciler, Trigger
from tests.support.builders import EUR, catalogue, claim, ingested, rules, snap, value_append
from tests.support.databases import FreshDatabase
from tests.support.fakes import FixedCatalogue

WRITERS, ROUNDS = 6, 15


def test_whoever_has_lost_once_to_writers_of_the_series_wins(
    database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each decision may change those of the snaps after it, so that each writer disturbs all others."""
    monkeypatch.setattr(reconcile, "ATTEMPTS", 2)
    book = FixedCatalogue(catalogue(rule_sets=[rules(max_move="0.05")]))
    store = PostgresEventStore(database.app)
    start = Barrier(WRITERS)

    def writing(number: int) -> Callable[[], int]:
        own = PostgresEventStore(database.another())
        reconciler = Reconciler(own, book)

        def work() -> int:
            start.wait(30)
            for n in range(ROUNDS):
                at = snap(n * WRITERS + number)
                one = claim(value=f"1.{1000 + (n * 37 + number * 11) % 90}", at=at)
                assert not own.append([value_append(0, ingested(one))])
                reconciler.run([Trigger(EUR, at, "load", None)])
            return ROUNDS

        return work

    works = [writing(number) for number in range(WRITERS)]
    with ThreadPoolExecutor(WRITERS) as pool:
        assert sum(pool.map(lambda work: work(), works)) == WRITERS * ROUNDS
    decided = store.decided(EUR, snap(0), snap(WRITERS * ROUNDS), WRITERS * ROUNDS)
    assert len(decided) == WRITERS * ROUNDS
    with database.connect() as owner:
        assert check(owner, "decisions").equal
