"""``publish``: official values, restatements and alerts from the backbone to the bus of the domains."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit

from qis.adapters.aws.clients import client
from qis.adapters.aws.services import EventBridgeBus
from qis.adapters.backbone import failures, record_events
from qis.application.publish import publish
from qis.domain.public_events import PUBLIC
from qis.settings import PublishEnvironment

logger = Logger()
tracer = Tracer()
metrics = Metrics()

BUS_SOURCE = "qis.data-management"


@cache
def bootstrap() -> EventBridgeBus:
    """The bus, once per process."""
    env = PublishEnvironment.read(os.environ)
    return EventBridgeBus(client("events"), env.bus_name, BUS_SOURCE)


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
@metrics.log_metrics
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """A batch of backbone records; those that the bus did not take are delivered again."""
    public = [(r, e) for r in event["Records"] for e in record_events(r) if e["type"] in PUBLIC]
    refused = publish([e for _, e in public], bootstrap())
    metrics.add_metric("EventsPublished", MetricUnit.Count, len(public) - len(refused))
    metrics.add_metric("EventsRefused", MetricUnit.Count, len(refused))
    return failures(public[i][0] for i in sorted(refused))
