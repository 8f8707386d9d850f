"""``relay``: follows the log and feeds the backbone, for as long as the invocation may run.

Two invocations overlap by design: one holds the follower's lock and works, the other waits for the lock and
takes over at once when the first ends or dies.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit

from qis.adapters.aws.services import KinesisBackbone
from qis.adapters.postgres.connection import PATIENCE, Database, Target
from qis.adapters.postgres.followers import PostgresFollower
from qis.application.ports import Unavailable
from qis.application.relay import relay_batch
from qis.settings import RelayEnvironment

if TYPE_CHECKING:
    from psycopg import Connection

logger = Logger()
tracer = Tracer()
metrics = Metrics()

FOLLOWER = "backbone"
MARGIN_MS = 5_000
"""Time left at which an invocation ends, so that it is never cut off in the middle of a batch."""
LOCK_WAIT = 10.0
AGAIN_AFTER = 0.5
IDLE_WAIT = 1.0
"""Seconds after which the log is read again without having been woken: a woken reader finds nothing while an
older transaction runs, and that transaction's own wake-up may have been merged with another's."""
STALLED_WAIT = 0.02
REPORT_EVERY = 10.0
PARTITIONS_AHEAD = 3


class Context(Protocol):
    """What is used of the Lambda context."""

    def get_remaining_time_in_millis(self) -> int: ...


@cache
def bootstrap() -> tuple[Database, KinesisBackbone]:
    """The database and the backbone, once per process."""
    import boto3

    env = RelayEnvironment.read(os.environ)
    database = Database(Target.of(env, os.environ["AWS_REGION"]), "qis-relay")
    return database, KinesisBackbone(boto3.client("kinesis"), env.events_stream, time.sleep)


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: Context) -> dict[str, int]:
    """The schedule's event. Returns how many events were relayed.

    A database that restarts and a stream that throttles are tried again here: a failed invocation is
    repeated by the service only after a minute, in which nothing would flow.
    """
    from psycopg import OperationalError

    relayed = 0
    while not _out_of_time(context, PATIENCE):
        try:
            for count in _follow(context):
                relayed += count
        except (OperationalError, Unavailable) as error:
            logger.warning("following is interrupted", extra={"reason": str(error)})
            time.sleep(AGAIN_AFTER)
    metrics.add_metric("EventsRelayed", MetricUnit.Count, relayed)
    return {"relayed": relayed}


def _follow(context: Context) -> Iterator[int]:
    """Follow the log until the time is over, as soon as nobody else does. Yields how many were sent."""
    database, backbone = bootstrap()
    try:
        connection = database.connect()
        follower = PostgresFollower(connection, FOLLOWER)
        while not follower.acquire(LOCK_WAIT):
            if _out_of_time(context, PATIENCE):
                return
        _make_partitions(connection)
        follower.listen()
        report_at = context.get_remaining_time_in_millis()
        while not _out_of_time(context, PATIENCE):
            count = relay_batch(follower, backbone, datetime.now(UTC))
            yield count
            if report_at - context.get_remaining_time_in_millis() > REPORT_EVERY * 1000:
                report_at = context.get_remaining_time_in_millis()
                _report(connection, follower)
            if not count:
                follower.wait(STALLED_WAIT if follower.behind() else IDLE_WAIT)
    finally:
        # Ends the lock and the subscription with the connection; the next one to follow connects anew.
        database.close()


def _out_of_time(context: Context, reserve: float) -> bool:
    return context.get_remaining_time_in_millis() < MARGIN_MS + reserve * 1000


def _make_partitions(connection: Connection) -> None:
    connection.execute("SELECT ensure_event_partitions(clock_timestamp(), %s)", (PARTITIONS_AHEAD,))


def _report(connection: Connection, follower: PostgresFollower) -> None:
    row = connection.execute("SELECT count(*) FROM (SELECT FROM events_default LIMIT 1000) d").fetchone()
    metrics.add_metric("DefaultPartitionRows", MetricUnit.Count, row[0] if row else 0)
    metrics.add_metric("FollowerLagSeconds", MetricUnit.Seconds, follower.lag_seconds())
    metrics.flush_metrics()
