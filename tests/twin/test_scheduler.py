"""Schedules run at the start and every period; asynchronous invocations are repeated, and then reported."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from local.runtime import Answer, FunctionSpec
from local.scheduler import Scheduler, scheduled_event
from local.template import Schedule

START = 1_700_000_000.0
FUNCTION = FunctionSpec("f", "m.handler", {}, 10.0, 128, 1, async_on_failure_url="http://aws/queue")
HOURLY = Schedule("hourly", "f", 3600.0)


class Stop(Exception):
    """Enough time has passed."""


class World:
    """A function that fails ``failures`` times, time that passes only by sleeping, a queue."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.now = START
        self.calls: list[tuple[float, dict[str, Any]]] = []
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.scheduler = Scheduler(self._invoke, self._send, lambda: self.now, self._sleep)

    async def _invoke(self, function: str, payload: bytes) -> Answer:
        assert function == "f"
        self.calls.append((self.now - START, json.loads(payload)))
        if len(self.calls) <= self.failures:
            return Answer(b"", "ValueError: no good")
        return Answer(b"null")

    async def _send(self, url: str, message: dict[str, Any]) -> None:
        self.sent.append((url, message))

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.now += seconds
        if self.now > START + 4 * HOURLY.every:
            raise Stop

    def invoke(self, function: FunctionSpec) -> list[float]:
        """When it was called, in seconds after the start."""
        asyncio.run(self.scheduler.invoke_async(function, {"event": 1}))
        return [at for at, _ in self.calls]


def test_a_schedule_runs_at_the_start_and_every_period() -> None:
    world = World()

    with pytest.raises(ExceptionGroup, match="unhandled"):
        asyncio.run(world.scheduler.run(HOURLY, FUNCTION))
    assert [at for at, _ in world.calls][:4] == [0.0, 3600.0, 7200.0, 10800.0]


def test_the_event_has_the_shape_of_a_scheduled_event() -> None:
    event = scheduled_event(HOURLY, START)
    assert event == {
        "version": "0",
        "id": event["id"],
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "000000000000",
        "time": "2023-11-14T22:13:20Z",
        "region": "us-east-1",
        "resources": ["arn:aws:events:us-east-1:000000000000:rule/hourly"],
        "detail": {},
    }


def test_a_failure_is_tried_again_twice_after_one_and_two_minutes() -> None:
    world = World(failures=2)
    assert world.invoke(FUNCTION) == [0.0, 60.0, 180.0]
    assert not world.sent


def test_what_fails_for_good_is_reported_as_aws_reports_it() -> None:
    world = World(failures=9)
    world.invoke(FUNCTION)
    ((url, report),) = world.sent
    assert url == "http://aws/queue"
    assert report["requestContext"]["condition"] == "RetriesExhausted"
    assert report["requestContext"]["approximateInvokeCount"] == 3
    assert report["requestContext"]["functionArn"] == f"{FUNCTION.arn}:$LATEST"
    assert report["requestPayload"] == {"event": 1}
    assert report["responseContext"]["functionError"] == "Unhandled"
    assert report["responsePayload"] == {"errorMessage": "ValueError: no good"}


def test_retries_are_as_many_as_the_template_says() -> None:
    world = World(failures=9)
    assert world.invoke(replace(FUNCTION, async_retries=0)) == [0.0]
    assert len(world.sent) == 1


def test_an_event_too_old_is_not_tried_again() -> None:
    world = World(failures=9)
    assert world.invoke(replace(FUNCTION, async_max_age=100.0)) == [0.0, 60.0]
    ((_, report),) = world.sent
    assert report["requestContext"]["condition"] == "EventAgeExceeded"


def test_a_function_that_follows_its_own_failure_runs_again_at_once_and_nobody_is_told() -> None:
    world = World(failures=2)
    again = replace(FUNCTION, async_retries=0, async_on_failure_url=None, async_at_once=True)
    assert world.invoke(again) == [0.0, 0.0, 0.0]
    assert not world.sent
    assert world.calls[1][1]["requestPayload"] == {"event": 1}, "it is given the report of the failure"


def test_a_chain_of_failures_ends() -> None:
    world = World(failures=99)
    world.invoke(replace(FUNCTION, async_retries=0, async_on_failure_url=None, async_at_once=True))
    assert len(world.calls) == 16


def test_without_a_queue_nothing_is_reported() -> None:
    world = World(failures=9)
    world.invoke(replace(FUNCTION, async_on_failure_url=None))
    assert not world.sent
