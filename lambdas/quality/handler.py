"""``quality``: stale sources and missing values from the backbone, and the hourly metrics."""

from __future__ import annotations

import gc
import os
import time
from datetime import UTC, datetime
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit

from qis.adapters.backbone import backbone_events, failures
from qis.adapters.postgres.catalogue import PostgresCatalogue
from qis.adapters.postgres.connection import Database, Target
from qis.adapters.postgres.event_store import PostgresEventStore
from qis.adapters.postgres.quality_facts import PostgresFacts
from qis.application.quality import Quality
from qis.settings import QualityEnvironment

logger = Logger()
tracer = Tracer()
metrics = Metrics()


@cache
def bootstrap() -> Quality:
    """The use case with its adapters, once per process."""
    env = QualityEnvironment.read(os.environ)
    database = Database(Target.of(env, os.environ["AWS_REGION"]), "qis-quality")
    catalogue = PostgresCatalogue(database, time.monotonic)
    gc.freeze()  # what is loaded stays; collecting it over and over costs milliseconds a batch
    return Quality(PostgresEventStore(database), catalogue, PostgresFacts(database))


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
@metrics.log_metrics
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """A batch of backbone records, or the hourly schedule."""
    if "Records" in event:
        changed = bootstrap().follow(backbone_events(event["Records"]))
    else:
        changed = bootstrap().scheduled(datetime.now(UTC))
    metrics.add_metric("QualityFindings", MetricUnit.Count, changed)
    return failures([])
