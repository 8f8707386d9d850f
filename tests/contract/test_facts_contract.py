"""What ``Facts`` promises of claims in the log, of the fake and on PostgreSQL."""

from __future__ import annotations

import pytest

from qis.adapters.postgres.event_store import PostgresEventStore
from qis.adapters.postgres.quality_facts import PostgresFacts
from qis.application.ports import EventStore
from qis.application.quality import Facts
from qis.domain.snap import NANOS, Snap
from tests.support.builders import EUR, claim, ingested, reconciled, snap, value_append
from tests.support.databases import FreshDatabase
from tests.support.fakes import MemoryEventStore, MemoryFacts


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.integration)])
def parts(request: pytest.FixtureRequest) -> tuple[EventStore, Facts]:
    """A log without events, and the facts over it."""
    if request.param == "memory":
        memory = MemoryEventStore()
        return memory, MemoryFacts(memory)
    fresh: FreshDatabase = request.getfixturevalue("database")
    return PostgresEventStore(fresh.app), PostgresFacts(fresh.app)


def test_claims_at_snaps_in_the_order_of_the_log_and_what_they_say(parts: tuple[EventStore, Facts]) -> None:
    store, facts = parts
    first, again = claim("alpha", "1.1", received=None), claim("beta", "1.2", received=7)
    assert not store.append(
        [
            value_append(0, ingested(first), reconciled("official", "1.1"), ingested(again)),
            value_append(0, ingested(claim("alpha", "1.3", snap(1)))),
            value_append(0, ingested(claim("alpha", "1.4", snap(2)))),
        ]
    )
    found = facts.claims({EUR: [snap(0), snap(1), snap(9)], "OTHER": [snap(2)]})
    received = Snap(snap(0).ns + 7 * NANOS)
    assert [(e.reference_data_id, e.snap, e.version, e.source, e.received_at) for e in found[:2]] == [
        (EUR, snap(0), 1, "alpha", None),
        (EUR, snap(0), 3, "beta", received),
    ]
    assert [(e.snap, e.version) for e in found[2:]] == [(snap(1), 1)]
    assert all(e.recorded_at.tzinfo is not None for e in found)
    said = facts.claimed([found[1], found[2]])
    assert sorted(data["value"] for data in said) == ["1.2", "1.3"]
    assert sorted(data["claim_id"] for data in facts.claimed(found)) == sorted(
        c.claim_id for c in (first, again, claim("alpha", "1.3", snap(1)))
    )


def test_of_nothing_there_are_no_claims(parts: tuple[EventStore, Facts]) -> None:
    _, facts = parts
    assert list(facts.claims({})) == []
    assert list(facts.claimed([])) == []
