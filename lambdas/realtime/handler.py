"""``realtime``: the WebSocket API, and official values to its connections.

Three kinds of events: what a connection does, a batch of the backbone that says for which series there is
something new, and the schedule of each minute. What is told is always read from the log, see
``qis.application.push``.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, Protocol
from uuid import uuid4

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit

from qis.adapters.aws.sockets import ApiGatewaySockets, management_client
from qis.adapters.backbone import backbone_events, failures
from qis.adapters.postgres.connection import Database, Target, lost
from qis.adapters.postgres.push import PostgresConnections
from qis.adapters.tokens import JwtAuthenticator, fetch_jwks
from qis.api.push import PushRoutes
from qis.application.push import PUSHED, Push, Told
from qis.settings import RealtimeEnvironment

logger = Logger()
tracer = Tracer()
metrics = Metrics()

MARGIN_MS = 8_000
"""Time left at which no further connection is begun: one may wait for its lock and for the network."""


class Context(Protocol):
    """What is used of the Lambda context."""

    def get_remaining_time_in_millis(self) -> int: ...


@dataclass(frozen=True, slots=True)
class App:
    """The use cases of the function."""

    push: Push
    routes: PushRoutes


@cache
def bootstrap() -> App:
    """The use cases with their adapters, once per process."""
    env = RealtimeEnvironment.read(os.environ)
    clock = partial(datetime.now, UTC)
    database = Database(Target.of(env, os.environ["AWS_REGION"]), "qis-realtime")
    sockets = ApiGatewaySockets(cache(partial(management_client, env.push_endpoint)))
    push = Push(PostgresConnections(database), sockets, clock)
    keys = partial(fetch_jwks, env.jwks_url)
    authenticator = JwtAuthenticator(keys, env.token_issuer, env.token_audience, clock)
    gc.freeze()  # what is loaded stays; collecting it over and over costs milliseconds a batch
    return App(push, PushRoutes(push, authenticator, uuid4, _fault, lost))


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
@metrics.log_metrics
def handler(event: dict[str, Any], context: Context) -> dict[str, Any]:
    """A route of the WebSocket API, a batch of backbone records, or the schedule of each minute."""
    app = bootstrap()
    if "requestContext" in event:
        answer, told = app.routes.respond(event)
        _report(told)
        return answer
    more_time = _more_time(context)
    if "Records" in event:
        published = [e for e in backbone_events(event["Records"]) if e["type"] in PUSHED]
        told = app.push.wake({e["reference_data_id"] for e in published}, more_time)
        if told.values:
            age = datetime.now(UTC) - min(datetime.fromisoformat(e["recorded_at"]) for e in published)
            metrics.add_metric("PushLatency", MetricUnit.Milliseconds, age.total_seconds() * 1000)
    else:
        told = app.push.tick(more_time)
    _report(told)
    return failures([])


def _more_time(context: Context) -> Callable[[], bool]:
    return lambda: context.get_remaining_time_in_millis() > MARGIN_MS


def _report(told: Told) -> None:
    metrics.add_metric("ValuesPushed", MetricUnit.Count, told.values)
    metrics.add_metric("MessagesPushed", MetricUnit.Count, told.messages)
    metrics.add_metric("ConnectionsDropped", MetricUnit.Count, told.dropped)


def _fault(correlation_id: str, error: Exception) -> None:
    logger.exception("a message failed", correlation_id=correlation_id, error=type(error).__name__)
