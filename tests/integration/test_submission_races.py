"""Two requests with one idempotency key at the same time: one is taken, the other is told."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from qis.adapters.postgres import receipts
from qis.adapters.postgres.admission import PostgresAdmissions
from qis.application.ingest import Ingest
from qis.domain.errors import Conflict
from tests.support.builders import catalogue, claim_body
from tests.support.databases import FreshDatabase
from tests.support.fakes import FixedCatalogue, MemoryDeadLetters

pytestmark = pytest.mark.integration

TURNS = 20


def submit_at_once(database: FreshDatabase, values: tuple[str, str]) -> list[list[Any]]:
    """Of each turn, what two requests with one key and these values came to."""
    start = threading.Barrier(2)

    def run(value: str) -> list[Any]:
        own = database.another()
        known, letters = FixedCatalogue(catalogue()), MemoryDeadLetters()
        ingest = Ingest(PostgresAdmissions(own), known, "s3://raw", letters, uuid4)
        found: list[Any] = []
        for turn in range(TURNS):
            body = claim_body(value=value, received_at=f"2026-01-05T15:00:{turn:02}Z")
            start.wait()
            try:
                found.append(ingest.submit([body], "ann", "request", f"key-{turn}"))
            except Conflict as refused:
                found.append(refused)
        return found

    with ThreadPoolExecutor(2) as pool:
        return [list(pair) for pair in zip(*pool.map(run, values), strict=True)]


def stored(database: FreshDatabase) -> int:
    row = database.app.connect().execute("SELECT count(*) FROM events").fetchone()
    assert row is not None
    return int(row[0])


def test_the_same_request_twice_is_one_with_one_answer(database: FreshDatabase) -> None:
    for first, second in submit_at_once(database, ("1.10", "1.10")):
        assert first == second
    assert stored(database) == TURNS


def test_of_two_requests_with_one_key_one_is_refused_and_stores_nothing(database: FreshDatabase) -> None:
    for pair in submit_at_once(database, ("1.10", "1.11")):
        assert sorted(isinstance(answer, Conflict) for answer in pair) == [False, True]
    assert stored(database) == TURNS


def test_a_request_that_fails_leaves_its_key(
    database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, letters = FixedCatalogue(catalogue()), MemoryDeadLetters()
    ingest = Ingest(PostgresAdmissions(database.app), known, "s3://raw", letters, uuid4)
    with monkeypatch.context() as broken:
        broken.setattr(receipts, "keep", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ingest.submit([claim_body()], "ann", "request", "key")
    assert stored(database) == 0
    assert ingest.submit([claim_body(value="1.2")], "ann", "request", "key")["accepted"] == 1
