"""``ingest``: claims from the ingest stream, and every writing route of the API."""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit

from qis.adapters.aggregates import user_records
from qis.adapters.aws.clients import client
from qis.adapters.aws.services import SqsDeadLetters
from qis.adapters.backbone import failures, payload
from qis.adapters.postgres.admission import PostgresAdmissions
from qis.adapters.postgres.catalogue import PostgresCatalogue
from qis.adapters.postgres.connection import PATIENCE, STREAM_PATIENCE, Database, Target, lost
from qis.adapters.postgres.event_store import PostgresEventStore
from qis.application.ingest import Delivery, Ingest
from qis.settings import IngestEnvironment

if TYPE_CHECKING:
    from qis.api.router import Router

logger = Logger()
tracer = Tracer()
metrics = Metrics()

MAX_BATCH = 10_000
"""Records that are taken in one transaction, at most; aggregates can bring more in one event."""
REDRIVE = "redrive:"
"""Partition keys of records put back from the dead-letter queue start with this, then the record's id."""


@dataclass(frozen=True, slots=True)
class App:
    """What both kinds of event need."""

    env: IngestEnvironment
    database: Database
    store: PostgresEventStore
    catalogue: PostgresCatalogue
    ingest: Ingest


@cache
def bootstrap() -> App:
    """The use case with its adapters, once per process."""
    import boto3  # noqa: F401 -- with the function: a snapshot has it, and a first rejection need not wait

    env = IngestEnvironment.read(os.environ)
    database = Database(Target.of(env, os.environ["AWS_REGION"]), "qis-ingest")
    store, catalogue = PostgresEventStore(database), PostgresCatalogue(database, time.monotonic)
    ingest = Ingest(
        PostgresAdmissions(database),
        catalogue,
        f"s3://{env.raw_bucket}/raw",
        # Made when first needed: it costs a tenth of a second of a cold start, and few batches need it.
        SqsDeadLetters(cache(partial(client, "sqs")), env.ingest_dlq_url),
        uuid4,
    )
    gc.freeze()  # what is loaded stays; collecting it over and over costs milliseconds a batch
    return App(env, database, store, catalogue, ingest)


@cache
def router() -> Router:
    """The writing routes, made when the first request comes: batches of the stream need none of it."""
    from qis.adapters.postgres.checked_values import PostgresCheckedValues
    from qis.adapters.postgres.issues import PostgresIssues
    from qis.adapters.postgres.quality_facts import PostgresFacts
    from qis.adapters.resolvers import installed, resolver
    from qis.adapters.tokens import JwtAuthenticator, fetch_jwks
    from qis.api.commands import WriteOperations
    from qis.api.contract import contract
    from qis.api.issues import IssueWriteOperations
    from qis.api.router import Router
    from qis.api.rules import RuleWriteOperations
    from qis.api.trials import TrialOperations
    from qis.application.checks import Trial
    from qis.application.corrections import Corrections, Overrides
    from qis.application.issues import IssueDesk
    from qis.application.quality import Quality
    from qis.application.reconcile import Reconciler
    from qis.application.register import Register
    from qis.application.rules import ApplyRules

    app, clock = bootstrap(), partial(datetime.now, UTC)
    store, catalogue, database = app.store, app.catalogue, app.database
    quality, reconciler = Quality(store, catalogue, PostgresFacts(database)), Reconciler(store, catalogue)
    overrides = Overrides(lambda: time.time_ns() // 1_000_000, os.environ["AWS_REGION"], resolver)
    corrections = Corrections(store, catalogue, reconciler, quality, overrides)
    register = Register(store, catalogue, installed)
    desk = IssueDesk(store, PostgresIssues(database), corrections, clock)
    operations = {
        **WriteOperations(app.ingest, corrections, register).handlers(),
        **IssueWriteOperations(desk).handlers(),
        **TrialOperations(Trial(PostgresCheckedValues(database), catalogue), clock).handlers(),
        **RuleWriteOperations(ApplyRules(store, catalogue, reconciler)).handlers(),
    }
    env = app.env
    keys = partial(fetch_jwks, env.jwks_url)
    authenticator = JwtAuthenticator(keys, env.token_issuer, env.token_audience, clock)
    return Router("ingest", contract(), operations, authenticator, uuid4, _fault, lost)


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
@metrics.log_metrics
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """A batch of the ingest stream (raises on failure, so that Lambda retries), or a REST proxy event."""
    app, by_stream = bootstrap(), "Records" in event
    app.database.patience = STREAM_PATIENCE if by_stream else PATIENCE
    if not by_stream:
        answer = router().respond(event)
        metrics.add_metric(f"Answers{answer['statusCode'] // 100}xx", MetricUnit.Count, 1)
        return answer
    started = time.monotonic()
    records = event["Records"]
    counts: Counter[str] = Counter()
    for batch in _batches([d for record in records for d in _deliveries(record)]):
        counts.update(app.ingest.deliveries(batch))
    for outcome, count in counts.items():
        metrics.add_metric(f"Records{outcome.title()}", MetricUnit.Count, count)
    metrics.add_metric("IngestBatchTime", MetricUnit.Milliseconds, (time.monotonic() - started) * 1000)
    # A batch is of one shard, in order: its first record has waited longest. The deliveries are committed.
    arrived = records[0]["kinesis"]["approximateArrivalTimestamp"]
    metrics.add_metric("IngestLatency", MetricUnit.Milliseconds, max(0.0, time.time() - arrived) * 1000)
    return failures([])


def _deliveries(record: Mapping[str, Any]) -> list[Delivery]:
    """The deliveries of a record: one, or of an aggregate one for each record that it holds.

    A record of an aggregate has the identity of the aggregate and its place in it, so a redelivery, which is
    always of the whole aggregate, brings the same ones.
    """
    key: str = record["kinesis"]["partitionKey"]
    redriven = key.startswith(REDRIVE)
    record_id = key.removeprefix(REDRIVE) if redriven else record["eventID"]
    load = _load_of_day(record["kinesis"]["approximateArrivalTimestamp"] // 86_400)
    data = payload(record)
    held = user_records(data)
    if held is None:
        return [Delivery(record_id, load, data, redriven)]
    return [Delivery(f"{record_id}/{place}", load, one, redriven) for place, one in enumerate(held)]


def _batches(deliveries: Sequence[Delivery]) -> Iterator[Sequence[Delivery]]:
    """Deliveries as many at a time as one transaction takes; where a later one fails, all are redelivered."""
    for first in range(0, len(deliveries), MAX_BATCH):
        yield deliveries[first : first + MAX_BATCH]


@lru_cache(maxsize=8)
def _load_of_day(day: float) -> str:
    """The load of records that name none: what arrived on a day, counted since 1970."""
    return f"feed-{datetime.fromtimestamp(day * 86_400, UTC):%Y-%m-%d}"


def _fault(correlation_id: str, error: Exception) -> None:
    logger.exception("a request failed", correlation_id=correlation_id, error=type(error).__name__)
