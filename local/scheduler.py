"""Schedules, and the asynchronous invocations that they make."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from local.aws import ACCOUNT, REGION
from local.poller import Invoke, SendFailure
from local.runtime import FunctionSpec
from local.template import Schedule

log = logging.getLogger(__name__)

RETRY_AFTER = 60.0
"""Seconds before the first retry, as in AWS; the next one waits twice as long."""
CHAIN = 16
"""Runs of a function that each follow the failure of the one before: more are a loop, which Lambda ends."""


class Scheduler:
    """Invokes the functions of schedules: once at the start, then every period.

    Args:
        clock: seconds since 1970.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        invoke: Invoke,
        send_failure: SendFailure,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._invoke = invoke
        self._send_failure = send_failure
        self._clock = clock
        self._sleep = sleep

    async def run(self, schedule: Schedule, function: FunctionSpec) -> None:
        """Invoke until cancelled, and then end what is under way."""
        async with asyncio.TaskGroup() as under_way:
            while True:
                event = scheduled_event(schedule, self._clock())
                under_way.create_task(self.invoke_async(function, event))
                await self._sleep(schedule.every)

    async def invoke_async(self, function: FunctionSpec, event: dict[str, Any]) -> None:
        """An asynchronous invocation: repeated on failure, at last reported to the on-failure destination: a
        queue, or the function itself, which is invoked again."""
        for _ in range(CHAIN):
            report = await self._attempts(function, event)
            if report is None:
                return
            if not function.async_at_once:
                await self._tell(function, report)
                return
            event = report
        log.error(
            "%s: failed %d times in a row, until the schedule it is not run again", function.name, CHAIN
        )

    async def _attempts(self, function: FunctionSpec, event: dict[str, Any]) -> dict[str, Any] | None:
        """One invocation with its retries. Returns the report of an invocation given up."""
        payload = json.dumps(event).encode()
        gives_up_at = self._clock() + function.async_max_age
        attempts = 0
        while True:
            answer = await self._invoke(function.name, payload)
            if answer.error is None:
                return None
            attempts += 1
            log.warning("%s: attempt %d failed: %s", function.name, attempts, answer.error)
            if attempts > function.async_retries:
                return self._report(function, event, "RetriesExhausted", attempts, answer.error)
            await self._sleep(RETRY_AFTER * attempts)
            if self._clock() > gives_up_at:
                return self._report(function, event, "EventAgeExceeded", attempts, answer.error)

    def _report(
        self, function: FunctionSpec, event: dict[str, Any], condition: str, invocations: int, error: str
    ) -> dict[str, Any]:
        return {
            "version": "1.0",
            "timestamp": _iso(self._clock()),
            "requestContext": {
                "requestId": str(uuid4()),
                "functionArn": f"{function.arn}:$LATEST",
                "condition": condition,
                "approximateInvokeCount": invocations,
            },
            "requestPayload": event,
            "responseContext": {
                "statusCode": 200,
                "executedVersion": "$LATEST",
                "functionError": "Unhandled",
            },
            "responsePayload": {"errorMessage": error},
        }

    async def _tell(self, function: FunctionSpec, report: dict[str, Any]) -> None:
        if function.async_on_failure_url is None:
            return
        try:
            await self._send_failure(function.async_on_failure_url, report)
        except (OSError, ValueError) as reason:
            # The queue is of this machine as well; the log is what is left to tell.
            log.error("%s: given up, and the queue does not answer: %s", function.name, reason)  # noqa: TRY400


def scheduled_event(schedule: Schedule, now: float) -> dict[str, Any]:
    """The event of a schedule rule, as EventBridge gives it."""
    return {
        "version": "0",
        "id": str(uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": ACCOUNT,
        "time": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": REGION,
        "resources": [f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{schedule.name}"],
        "detail": {},
    }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
