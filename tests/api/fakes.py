"""Routers with nothing behind them but what a test puts there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from qis.adapters.tokens import JwtAuthenticator
from qis.api.commands import WriteOperations
from qis.api.contract import contract
from qis.api.issues import IssueReadOperations, IssueWriteOperations
from qis.api.reads import ReadOperations
from qis.api.router import Router
from qis.api.rules import RuleReadOperations, RuleWriteOperations
from qis.api.scores import ScoreOperations
from qis.api.trials import TrialOperations
from qis.application.issues import IssueEntry, IssueItem
from qis.application.learning import LearnWeights
from qis.application.queries import Queries
from qis.application.reading import AnswerCache, Entry, Knowledge, Moment, NoCache, OfficialRow
from qis.application.rules import RuleQueries, WhatIf
from qis.domain.errors import NotFound
from qis.domain.events import Position
from qis.domain.series import parse_series
from qis.domain.snap import Snap
from tests.api.schemas import check_answer
from tests.api.tokens import AUDIENCE, ISSUER, NOW, Jwks, jwk
from tests.support.builders import catalogue
from tests.support.fakes import FixedCatalogue, MemoryEventStore

ID = "PX.ACME"
DEFINITION: dict[str, Any] = {
    "reference_data_id": ID,
    "name": "ACME",
    "kind": "price",
    "rules": "fx",
    "semantics": {"price_type": "traded", "currency": "USD", "timing": "point_in_time"},
}
CLOCK = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
DETAILS: dict[str, Any] = {
    "quality": {
        "accuracy": "1.0000",
        "completeness": "0.5000",
        "timeliness": None,
        "consistency": "1",
        "composite": "0.8333",
    },
    "method": "precedence",
    "confidence": "0.5000",
    "sources": ["ecb"],
    "rules": "fx",
    "rules_version": 1,
    "official_version": 1,
}


def row(value: Decimal, **details: Any) -> OfficialRow:
    """A stored version."""
    assert parse_series(DEFINITION).reference_data_id == ID
    return OfficialRow(ID, Snap(0), value, 1, CLOCK, Position(7, 1), {**DETAILS, **details})


@dataclass
class FakeReads:
    """``Reads`` of one series with one value."""

    value: OfficialRow | None = None
    horizon: Position = field(default_factory=lambda: Position(100, 0))
    points: list[Knowledge] = field(default_factory=list)
    error: Exception | None = None

    def entry(self, kind: str, name: str) -> Entry | None:
        if self.error is not None:
            raise self.error
        return Entry(name, 1, DEFINITION, CLOCK) if (kind, name) == ("series", ID) else None

    def point(self, reference_data_id: str, snap: Snap, at: Knowledge) -> tuple[Moment, OfficialRow | None]:
        self.points.append(at)
        return Moment(self.horizon, CLOCK), self.value

    def settle(self) -> Moment:
        return Moment(self.horizon, CLOCK)

    def events(self, streams: Any, at: Knowledge) -> list[Any]:
        return []


@dataclass
class FakeIssues:
    """``IssueReads`` of nothing."""

    def issues(self, *_: Any) -> list[IssueEntry]:
        return []

    def issue(self, issue: UUID) -> IssueEntry | None:
        return None

    def items(self, *_: Any) -> list[IssueItem]:
        return []


class FakeScores:
    """``ScoreQueries`` that know nothing."""

    def scores(self, scope: str, name: str, *_: Any) -> dict[str, Any]:
        raise NotFound(f"{scope} {name} is not registered")

    def scorecard(self, source: str, *_: Any) -> Any:
        raise NotFound(f"source {source} is not registered")


@dataclass
class FakeCache:
    """A cache in memory."""

    kept: dict[str, bytes] = field(default_factory=dict)

    def get(self, key: str) -> bytes | None:
        return self.kept.get(key)

    def put(self, key: str, answer: bytes) -> None:
        self.kept[key] = answer


@dataclass
class Called:
    """Stands for every writing use case; keeps what it was called with."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)
    outcome: str = "accepted"
    error: Exception | None = None

    def submit(self, *given: Any) -> dict[str, Any]:
        self._note("submit", *given)
        claims = [
            {
                "index": i,
                "outcome": self.outcome,
                "claim_id": None,
                "violations": [
                    {"field": "value", "value": "NaN", "rule": "finite", "message": "is not a finite number"}
                ]
                if self.outcome == "rejected"
                else [],
            }
            for i in range(len(given[0]))
        ]
        counts = {"accepted": 0, "duplicates": 0, "rejected": 0}
        return {"receipt": str(UUID(int=1)), "status": "stored", **counts, "claims": claims}

    def restate(self, *given: Any) -> dict[str, Any]:
        return self._correction("restate", *given)

    def approve(self, *given: Any) -> dict[str, Any]:
        return self._correction("approve", *given)

    def reject(self, *given: Any) -> dict[str, Any]:
        return self._correction("reject", *given)

    def series(self, body: Any, *given: Any) -> dict[str, Any]:
        return self._registered("series", body, *given)

    def source(self, body: Any, *given: Any) -> dict[str, Any]:
        return self._registered("source", body, *given)

    def check(self, body: Any, *given: Any) -> dict[str, Any]:
        return self._registered("check", body, *given)

    def run(self, body: Any, *given: Any) -> dict[str, Any]:
        return self._registered("try", body, *given)

    def rules(self, body: Any, *given: Any) -> dict[str, Any]:
        return {**self._registered("rules", body, *given), "version": 1}

    def _correction(self, *call: Any) -> dict[str, Any]:
        self._note(*call)
        return {"reference_data_id": ID, "snap": "2026-01-05T00:00:00Z", "events": []}

    def _registered(self, name: str, body: Any, *given: Any) -> dict[str, Any]:
        self._note(name, body, *given)
        return dict(body)

    def _note(self, *call: Any) -> None:
        if self.error is not None:
            raise self.error
        self.calls.append(call)


@dataclass
class Desk:
    """What people do with issues; an exception and an issue are both approved, and answered differently."""

    called: Called

    def triage(self, issue: UUID, *given: Any) -> dict[str, Any]:
        return self._issue("triage", issue, *given)

    def snooze(self, issue: UUID, *given: Any) -> dict[str, Any]:
        return self._issue("snooze", issue, *given)

    def approve(self, issue: UUID, *given: Any) -> dict[str, Any]:
        return self._issue("approve-issue", issue, *given)

    def correct(self, issue: UUID, *given: Any) -> dict[str, Any]:
        return self._issue("correct", issue, *given)

    def _issue(self, name: str, issue: UUID, *given: Any) -> dict[str, Any]:
        self.called._note(name, issue, *given)
        return {"issue": str(issue), "events": []}


@dataclass
class Front:
    """Both routers, over fakes."""

    reads: FakeReads = field(default_factory=FakeReads)
    writes: Called = field(default_factory=Called)
    cache: AnswerCache = field(default_factory=NoCache)
    jwks: Jwks = field(default_factory=lambda: Jwks([jwk("k1")]))
    faults: list[tuple[str, Exception]] = field(default_factory=list)
    _routers: dict[str, Router] = field(default_factory=dict)

    def __post_init__(self) -> None:
        authenticator = JwtAuthenticator(self.jwks.fetch, ISSUER, AUDIENCE, lambda: NOW)
        queries = Queries(self.reads, lambda: CLOCK)  # type: ignore[arg-type] # only what the tests reach
        reading = ReadOperations(queries, self.cache, lambda: CLOCK).handlers()
        reading |= IssueReadOperations(FakeIssues()).handlers()
        reading |= ScoreOperations(FakeScores(), lambda: CLOCK).handlers()  # type: ignore[arg-type] # as queries
        tried = WhatIf(MemoryEventStore(), FixedCatalogue(catalogue()), bool)
        learning = LearnWeights(MemoryEventStore(), self.reads, FixedCatalogue(catalogue()))  # type: ignore[arg-type]
        reading |= RuleReadOperations(RuleQueries(self.reads), tried, learning).handlers()  # type: ignore[arg-type]
        writing = WriteOperations(self.writes, self.writes, self.writes).handlers()
        writing |= IssueWriteOperations(Desk(self.writes)).handlers()
        writing |= TrialOperations(self.writes, lambda: CLOCK).handlers()  # type: ignore[arg-type] # as a trial
        writing |= RuleWriteOperations(self.writes).handlers()  # type: ignore[arg-type]
        for name, handlers in (("query", reading), ("ingest", writing)):
            self._routers[name] = Router(name, contract(), handlers, authenticator, uuid4, self._fault)

    def respond(self, event: Mapping[str, Any], function: str | None = None) -> dict[str, Any]:
        """The raw answer of the function that the event goes to."""
        found = contract().operations.get((str(event.get("httpMethod")), str(event.get("resource"))))
        name = function or ("query" if found is None else found.function)
        answer = self._routers[name].respond(event)
        json.dumps(answer)
        return answer

    def checked(self, event: dict[str, Any]) -> dict[str, Any]:
        """An answer that the document describes."""
        answer = self.respond(event)
        check_answer(event, answer)
        return answer

    def _fault(self, correlation_id: str, error: Exception) -> None:
        self.faults.append((correlation_id, error))
