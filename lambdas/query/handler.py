"""``query``: every reading route of the API, and what tells whether the service is well."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any
from uuid import uuid4

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit

from qis.adapters.postgres.connection import Database, Target, lost
from qis.adapters.postgres.issues import PostgresIssues
from qis.adapters.postgres.reads import PostgresReads
from qis.adapters.tokens import JwtAuthenticator, fetch_jwks
from qis.adapters.valkey import ValkeyAnswers, role_sign_in
from qis.api.contract import contract
from qis.api.issues import IssueReadOperations
from qis.api.reads import ReadOperations
from qis.api.router import Handler, Router, deferred
from qis.application.queries import Queries
from qis.application.reading import NoCache
from qis.settings import QueryEnvironment

logger = Logger()
tracer = Tracer()
metrics = Metrics()

RULES_AND_SCORES = (
    "getEffectiveRules",
    "listRuleVersions",
    "diffRules",
    "tryRules",
    "learnRules",
    "getScores",
    "getScorecard",
)
"""Operations that need the rules themselves, which reading values does not."""


@cache
def bootstrap() -> Router:
    """The router with its use cases and adapters, once per process."""
    env = QueryEnvironment.read(os.environ)
    clock = partial(datetime.now, UTC)
    region = os.environ["AWS_REGION"]
    sign_in = partial(role_sign_in, env.cache_group, env.cache_user, region) if env.cache_group else None
    cache_ = ValkeyAnswers(env.cache_url, time.monotonic, _count, sign_in) if env.cache_url else NoCache()
    database = Database(Target.of(env, region), "qis-query")
    reads = PostgresReads(database)
    operations = ReadOperations(Queries(reads, clock), cache_, clock).handlers()
    operations |= IssueReadOperations(PostgresIssues(database)).handlers()
    operations |= deferred(RULES_AND_SCORES, partial(_rules_and_scores, database, reads, clock))
    keys = partial(fetch_jwks, env.jwks_url)
    authenticator = JwtAuthenticator(keys, env.token_issuer, env.token_audience, clock)
    gc.freeze()  # what is loaded stays; collecting it over and over costs milliseconds a batch
    return Router("query", contract(), operations, authenticator, uuid4, _fault, lost)


def _rules_and_scores(
    database: Database, reads: PostgresReads, clock: Callable[[], datetime]
) -> dict[str, Handler]:
    from qis.adapters.postgres.catalogue import PostgresCatalogue
    from qis.adapters.postgres.event_store import PostgresEventStore
    from qis.adapters.postgres.scoreboard import PostgresScores
    from qis.adapters.resolvers import installed
    from qis.api.rules import RuleReadOperations
    from qis.api.scores import ScoreOperations
    from qis.application.learning import LearnWeights
    from qis.application.rules import RuleQueries, WhatIf
    from qis.application.scoreboard import ScoreQueries

    catalogue = PostgresCatalogue(database, time.monotonic)
    what_if = WhatIf(PostgresEventStore(database), catalogue, installed)
    learning = LearnWeights(PostgresEventStore(database), reads, catalogue)
    rules = RuleReadOperations(RuleQueries(reads), what_if, learning).handlers()
    return rules | ScoreOperations(ScoreQueries(PostgresScores(database), catalogue), clock).handlers()


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
@metrics.log_metrics
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """An API Gateway REST proxy event."""
    answer = bootstrap().respond(event)
    metrics.add_metric(f"Answers{answer['statusCode'] // 100}xx", MetricUnit.Count, 1)
    return answer


def _count(name: str) -> None:
    metrics.add_metric(name, MetricUnit.Count, 1)


def _fault(correlation_id: str, error: Exception) -> None:
    logger.exception("a request failed", correlation_id=correlation_id, error=type(error).__name__)
