"""``reconcile``: claims from the backbone to decisions and official values."""

from __future__ import annotations

import gc
import os
import time
from functools import cache
from typing import Any
from uuid import UUID

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit

from qis.adapters.backbone import backbone_events, failures
from qis.adapters.postgres.catalogue import PostgresCatalogue
from qis.adapters.postgres.connection import STREAM_PATIENCE, Database, Target
from qis.adapters.postgres.event_store import PostgresEventStore
from qis.application.reconcile import Reconciler, Trigger
from qis.domain.events import DATA_INGESTED
from qis.domain.snap import parse_instant
from qis.settings import ReconcileEnvironment

logger = Logger()
tracer = Tracer()
metrics = Metrics()


@cache
def bootstrap() -> Reconciler:
    """The use case with its adapters, once per process."""
    env = ReconcileEnvironment.read(os.environ)
    database = Database(Target.of(env, os.environ["AWS_REGION"]), "qis-reconcile", STREAM_PATIENCE)
    gc.freeze()  # what is loaded stays; collecting it over and over costs milliseconds a batch
    return Reconciler(PostgresEventStore(database), PostgresCatalogue(database, time.monotonic))


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
@metrics.log_metrics
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """A batch of backbone records. Raises on failure, so that Lambda retries and bisects."""
    ingested = [e for e in backbone_events(event["Records"]) if e["type"] == DATA_INGESTED]
    done = bootstrap().run(_trigger(e) for e in ingested)
    metrics.add_metric("ClaimsReconciled", MetricUnit.Count, len(ingested))
    metrics.add_metric("ValuesDecided", MetricUnit.Count, len(done))
    return failures([])


def _trigger(event: dict[str, Any]) -> Trigger:
    return Trigger(
        reference_data_id=event["reference_data_id"],
        snap=parse_instant(event["data"]["snap"], "snap"),
        correlation_id=event["correlation_id"],
        causation_id=UUID(event["event_id"]),
    )
