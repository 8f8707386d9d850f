"""A small registered world on a real database, and the API in front of it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from qis.adapters.postgres.admission import PostgresAdmissions
from qis.adapters.postgres.catalogue import PostgresCatalogue
from qis.adapters.postgres.checked_values import PostgresCheckedValues
from qis.adapters.postgres.connection import Database, lost
from qis.adapters.postgres.event_store import PostgresEventStore
from qis.adapters.postgres.followers import PostgresFollower
from qis.adapters.postgres.issues import PostgresIssues
from qis.adapters.postgres.quality_facts import PostgresFacts
from qis.adapters.postgres.reads import PostgresReads
from qis.adapters.postgres.scoreboard import PostgresScores, PostgresScoreStore
from qis.adapters.resolvers import installed
from qis.adapters.tokens import JwtAuthenticator
from qis.api.commands import WriteOperations
from qis.api.contract import contract
from qis.api.issues import IssueReadOperations, IssueWriteOperations
from qis.api.reads import ReadOperations
from qis.api.router import Router
from qis.api.rules import RuleReadOperations, RuleWriteOperations
from qis.api.scores import ScoreOperations
from qis.api.trials import TrialOperations
from qis.application.checks import BusinessRules, Trial
from qis.application.corrections import Corrections
from qis.application.ingest import Ingest
from qis.application.issues import IssueDesk, IssueWatch
from qis.application.learning import LearnWeights
from qis.application.quality import Quality
from qis.application.queries import Queries
from qis.application.reading import AnswerCache, NoCache
from qis.application.reconcile import Reconciler, Trigger
from qis.application.register import Register
from qis.application.rules import ApplyRules, RuleQueries, WhatIf
from qis.application.scoreboard import Scoreboard, ScoreQueries
from qis.domain.events import START, Event
from qis.domain.snap import parse_snap
from tests.api.events import proxy_event
from tests.api.schemas import check_answer
from tests.api.tokens import AUDIENCE, ISSUER, NOW, Jwks, jwk, token
from tests.support.builders import OVERRIDES
from tests.support.fakes import MemoryDeadLetters

SERIES, INTRADAY = "FX.EUR.USD.ECB1415", "PX.ACME"
BASE = "/api/v1/data/reference/{id}"

RULES: dict[str, Any] = {
    "rules": "fx",
    "precedence": ["ecb", "vendor-a", "vendor-b"],
    "method": "precedence",
    "tolerance": "0.001",
    "min_sources": 1,
    "fallback": "hold",
    "max_move": "0.05",
    "timely_within": "P1D",
}
SEMANTICS: dict[str, Any] = {
    "price_type": "fixing",
    "currency": "USD",
    "base_currency": "EUR",
    "snap_time": "14:15",
    "snap_zone": "Europe/Berlin",
    "timing": "point_in_time",
    "calendar": "ECB",
}


@dataclass
class Faults:
    """Errors that were no refusals."""

    seen: list[tuple[str, Exception]] = field(default_factory=list)

    def __call__(self, correlation_id: str, error: Exception) -> None:
        self.seen.append((correlation_id, error))


@dataclass
class Reply:
    """An answer as the caller sees it."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class World:
    """Registered series, the writing use cases, and both routers on one database."""

    def __init__(self, database: Database, cache: AnswerCache | None = None) -> None:
        self._database = database
        store = PostgresEventStore(database)
        self.catalogue = PostgresCatalogue(database, lambda: time.monotonic() * 1000)
        self.reconciler = Reconciler(store, self.catalogue)
        self.ingest = Ingest(
            PostgresAdmissions(database),
            self.catalogue,
            "memory://raw",
            MemoryDeadLetters(),
            uuid4,
        )
        quality = Quality(store, self.catalogue, PostgresFacts(database))
        self.corrections = Corrections(store, self.catalogue, self.reconciler, quality, OVERRIDES)
        self.register = Register(store, self.catalogue, installed)
        self.reads = PostgresReads(database)
        self.faults = Faults()
        authenticator = JwtAuthenticator(Jwks([jwk("k1")]).fetch, ISSUER, AUDIENCE, lambda: NOW)
        clock = lambda: datetime.now(UTC)  # noqa: E731
        self.queries = Queries(self.reads, clock)
        book = PostgresIssues(database)
        self.watch = IssueWatch(store, book)
        desk = IssueDesk(store, book, self.corrections, clock)
        reading = ReadOperations(self.queries, cache or NoCache(), clock).handlers()
        reading |= IssueReadOperations(book).handlers()
        self.scoreboard = Scoreboard(PostgresScoreStore(database), self.catalogue, time.monotonic)
        scores = ScoreQueries(PostgresScores(database), self.catalogue)
        reading |= ScoreOperations(scores, clock).handlers()
        learning = LearnWeights(store, self.reads, self.catalogue)
        tried = WhatIf(store, self.catalogue, installed)
        reading |= RuleReadOperations(RuleQueries(self.reads), tried, learning).handlers()
        writing = WriteOperations(self.ingest, self.corrections, self.register).handlers()
        writing |= IssueWriteOperations(desk).handlers()
        checked = PostgresCheckedValues(database)
        writing |= TrialOperations(Trial(checked, self.catalogue), clock).handlers()
        self.quality = Quality(store, self.catalogue, PostgresFacts(database), (BusinessRules(checked),))
        writing |= RuleWriteOperations(ApplyRules(store, self.catalogue, self.reconciler)).handlers()
        self._routers = {
            "query": Router("query", contract(), reading, authenticator, uuid4, self.faults, lost),
            "ingest": Router("ingest", contract(), writing, authenticator, uuid4, self.faults, lost),
        }

    def stored(self, tables: Sequence[str]) -> list[list[tuple[str]]]:
        """Every row of some tables, as text."""
        connection = self._database.connect()
        return [connection.execute(f"SELECT t::text FROM {t} t ORDER BY 1").fetchall() for t in tables]

    def log(self) -> Sequence[Event]:
        """Every event, as followers of the log read them."""
        self.reads.settle()
        return PostgresFollower(self._database.connect(), "test").read(START, 10_000)

    def populate(self) -> World:
        """Register what the tests speak of."""
        self.register.rules(RULES, "admin", "setup")
        for source in ("ecb", "vendor-a", "vendor-b"):
            body = {"source": source, "name": source.upper(), "kind": "simulated", "licence": "test"}
            self.register.source(body, "admin", "setup")
        daily = {"reference_data_id": SERIES, "name": "EUR/USD", "kind": "fx_rate", "rules": "fx"}
        self.register.series({**daily, "semantics": SEMANTICS}, "admin", "setup")
        spot = {"price_type": "traded", "currency": "USD", "timing": "point_in_time"}
        intraday = {"reference_data_id": INTRADAY, "name": "ACME", "kind": "price", "rules": "fx"}
        self.register.series({**intraday, "semantics": spot}, "admin", "setup")
        return self

    def claim(self, snap: str, value: str, source: str = "ecb", id_: str = SERIES, **more: Any) -> None:
        """A claim stored and reconciled."""
        self.claims([{"snap": snap, "value": value, "source": source, "reference_data_id": id_, **more}])

    def claims(self, claims: list[dict[str, str]], actor: str = "feed") -> dict[str, Any]:
        """Claims stored and reconciled together."""
        answer = self.ingest.submit(list(claims), actor, "load-1", None)
        assert answer["rejected"] == 0, answer
        triggers = []
        series = self.catalogue.current().series
        for claim in claims:
            id_ = claim["reference_data_id"]
            snap = parse_snap(claim["snap"], series[id_].semantics.snap_time)
            triggers.append(Trigger(id_, snap, "load-1", None))
        self.reconciler.run(triggers)
        return answer

    def call(self, event: dict[str, Any]) -> Reply:
        """What the API answers to an event."""
        found = contract().operations.get((str(event.get("httpMethod")), str(event.get("resource"))))
        answer = self._routers["query" if found is None else found.function].respond(event)
        check_answer(event, answer)
        return Reply(answer["statusCode"], answer["headers"], answer["body"])

    def get(self, resource: str, id_: str = SERIES, /, **query: str) -> Reply:
        """A reading request of somebody who may; ``{…}`` in the resource stands for ``id_``."""
        return self.call(reading(resource, id_, **query))

    def send(
        self,
        method: str,
        resource: str,
        body: object,
        subject: str = "alice",
        query: Mapping[str, str] | None = None,
        **path: str,
    ) -> Reply:
        """A writing request of ``subject``, who may."""
        bearer = token(sub=subject)
        return self.call(proxy_event(method, resource, path, query, body=body, token=bearer))


def reading(resource: str, id_: str = SERIES, /, **query: str) -> dict[str, Any]:
    """The event of a reading request of somebody who may."""
    name = resource.partition("{")[2].partition("}")[0]
    given = {k.rstrip("_"): v for k, v in query.items()}
    return proxy_event("GET", resource, {name: id_} if name else None, given, token=token())
