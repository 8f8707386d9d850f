"""Ports in memory and on the real parts: what holds for one has to hold for the other."""

from __future__ import annotations

import pytest

from qis.adapters.postgres.event_store import PostgresEventStore
from qis.application.ports import EventStore
from tests.support.fakes import MemoryEventStore


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.integration)])
def store(request: pytest.FixtureRequest) -> EventStore:
    """An empty event store, of each kind."""
    if request.param == "memory":
        return MemoryEventStore()
    return PostgresEventStore(request.getfixturevalue("database").app)
