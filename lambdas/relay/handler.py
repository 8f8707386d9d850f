"""``relay``: follows the log and feeds the backbone, for as long as the invocation may run.

Two invocations overlap by design: one holds the follower's lock and works, the other waits for the lock and
takes over at once when the first ends or dies.
"""

from __future__ import annotations

import os
import time
from functools import cache, partial
from typing import Any, Protocol

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit

from qis.adapters.aws.clients import client
from qis.adapters.aws.services import KinesisBackbone, S3RawStore
from qis.adapters.postgres.connection import Database, Target
from qis.adapters.raw_moving import RawMoving
from qis.adapters.relaying import AGAIN_AFTER, TOLD_AFTER, Relaying, Report
from qis.settings import RelayEnvironment

logger = Logger()
tracer = Tracer()
metrics = Metrics()

MARGIN_SECONDS = 5.0
"""Time left at which an invocation ends, so that it is never cut off in the middle of a batch."""


class Context(Protocol):
    """What is used of the Lambda context."""

    def get_remaining_time_in_millis(self) -> int: ...


@cache
def bootstrap() -> tuple[Database, KinesisBackbone, KinesisBackbone | None, RawMoving, int]:
    """The database, the backbone, the audit stream where there is one, what moves raw payloads, and after how
    many seconds a transaction that holds followers up is ended; once per process."""
    env = RelayEnvironment.read(os.environ)
    target = Target.of(env, os.environ["AWS_REGION"])
    kinesis = client("kinesis")
    backbone = KinesisBackbone(kinesis, env.events_stream, time.sleep)
    audit = KinesisBackbone(kinesis, env.audit_stream, time.sleep) if env.audit_stream else None
    raw = RawMoving(
        partial(Database, target, "qis-relay-raw"), S3RawStore(cache(partial(client, "s3"))), _interrupted
    )
    return Database(target, "qis-relay"), backbone, audit, raw, env.end_transactions_after


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: Context) -> dict[str, int]:
    """The schedule's event. Returns how many events were relayed."""
    database, backbone, audit, raw, end_after = bootstrap()
    relayed = Relaying(
        database=database,
        backbone=backbone,
        audit=audit,
        raw=raw,
        seconds_left=lambda: context.get_remaining_time_in_millis() / 1000 - MARGIN_SECONDS,
        report=_report,
        interrupted=_interrupted,
        end_after=end_after,
    ).run()
    metrics.add_metric("EventsRelayed", MetricUnit.Count, relayed)
    return {"relayed": relayed}


def _report(report: Report) -> None:
    metrics.add_metric("DefaultPartitionRows", MetricUnit.Count, report.default_partition_rows)
    metrics.add_metric("FollowerLagSeconds", MetricUnit.Seconds, report.lag_seconds)
    metrics.add_metric("RawBatchesWaiting", MetricUnit.Count, report.raw_waiting)
    held = 0.0 if report.holder is None else report.holder.seconds
    metrics.add_metric("HorizonHeldSeconds", MetricUnit.Seconds, held)
    metrics.flush_metrics()
    if report.months_trouble is not None:
        logger.warning("months of the log are missing", extra={"reason": report.months_trouble})
    if report.holder is not None and held >= TOLD_AFTER:
        logger.warning(
            "a transaction holds followers up", extra={"who": report.holder.text, "ending": report.ending}
        )


def _interrupted(error: Exception) -> None:
    logger.warning("the relay is interrupted", extra={"reason": f"{type(error).__name__}: {error}"})
    time.sleep(AGAIN_AFTER)
