"""``python -m services.relay``: the relay as a container. The function of that name may run beside it: one
of them holds the follower's lock, the others wait.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache, partial
from threading import Event

from aws_lambda_powertools import Logger

from qis.adapters.aws.clients import client
from qis.adapters.aws.services import KinesisBackbone, S3RawStore
from qis.adapters.postgres.connection import Database, Target
from qis.adapters.raw_moving import RawMoving
from qis.adapters.relaying import AGAIN_AFTER, TOLD_AFTER, Relaying, Report
from qis.settings import RelayEnvironment
from services.health import serving

logger = Logger(service="qis-relay")

PORT = 8443
"""As the manifests probe it."""
RUNNING_SECONDS = 1e9
"""Time left while nobody has asked to stop."""


ADDRESS = "0.0.0.0"  # noqa: S104 -- a pod is reached at its own address; the network policy says by whom


def main(env: Mapping[str, str], stop: Event, *, address: str = ADDRESS, port: int = PORT) -> int:
    """Follow the log until ``stop`` is set. Returns how many events were sent."""
    settings = RelayEnvironment.read({k: v for k, v in env.items() if k.startswith("QIS_")})
    region = env["AWS_REGION"]
    streams = partial(KinesisBackbone, client("kinesis", region_name=region), sleep=time.sleep)
    store, target = S3RawStore(cache(partial(client, "s3", region_name=region))), Target.of(settings, region)
    started = time.monotonic()
    troubled = Event()

    def interrupted(error: Exception) -> None:
        troubled.set()
        logger.warning("the relay is interrupted", extra={"reason": f"{type(error).__name__}: {error}"})
        stop.wait(AGAIN_AFTER)
        troubled.clear()

    def left() -> float:
        return 0.0 if stop.is_set() else RUNNING_SECONDS - (time.monotonic() - started)

    with serving(address, port, lambda: not troubled.is_set() and not stop.is_set()):
        return Relaying(
            database=Database(target, "qis-relay"),
            backbone=streams(settings.events_stream),
            audit=streams(settings.audit_stream) if settings.audit_stream else None,
            raw=RawMoving(partial(Database, target, "qis-relay-raw"), store, interrupted),
            seconds_left=left,
            report=_report,
            interrupted=interrupted,
            end_after=settings.end_transactions_after,
        ).run()


def _report(report: Report) -> None:
    logger.info("the log", extra=asdict(report))
    if report.months_trouble is not None:
        logger.warning("months of the log are missing", extra={"reason": report.months_trouble})
    if report.holder is not None and report.holder.seconds >= TOLD_AFTER:
        extra = {"who": report.holder.text, "ending": report.ending}
        logger.warning("a transaction holds followers up", extra=extra)


if __name__ == "__main__":
    asked = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    logger.info("stopped", extra={"relayed": main(os.environ, asked)})
    sys.exit(0)
