"""What a store knows of the claims of its streams, and which records brought them."""

from __future__ import annotations

import pytest

from qis.adapters.postgres.event_store import PostgresEventStore
from qis.application.ports import EventStore, KnownClaims
from qis.domain import events as ev
from tests.support.builders import (
    append,
    claim,
    ingested,
    known_claims,
    published,
    reconciled,
    snap,
    source_body,
    value_append,
)
from tests.support.fakes import MemoryEventStore


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.integration)])
def store(request: pytest.FixtureRequest) -> EventStore:
    if request.param == "memory":
        return MemoryEventStore()
    return PostgresEventStore(request.getfixturevalue("database").app)


def test_claims_come_with_their_records_and_the_version_of_the_whole_stream(store: EventStore) -> None:
    alpha, beta = claim("alpha"), claim("beta")
    first = value_append(0, ingested(alpha, "r1"), reconciled("official", "1.1"), published("1.1"))
    store.append([first, value_append(0, ingested(claim(at=snap(1)), "r9"))])
    store.append([value_append(3, ingested(beta, "r2"))])
    assert known_claims(store, first.stream) == {
        first.stream: KnownClaims(4, {alpha.claim_id: "r1", beta.claim_id: "r2"})
    }


def test_a_stream_without_claims_has_a_version_all_the_same(store: EventStore) -> None:
    """Otherwise a claim for it would be decided on version 0 for ever, and lose."""
    store.append([value_append(0, reconciled("insufficient", None), reconciled("insufficient", None))])
    store.append([append("source:alpha", 0, ev.NewEvent(ev.SOURCE_ADDED, source_body()))])
    stream = value_append(0, reconciled("insufficient", None)).stream
    assert known_claims(store, stream, "source:alpha") == {
        stream: KnownClaims(2, {}),
        "source:alpha": KnownClaims(1, {}),
    }


def test_streams_that_do_not_exist_are_left_out(store: EventStore) -> None:
    assert known_claims(store, "value:none") == {}
    assert known_claims(store) == {}
