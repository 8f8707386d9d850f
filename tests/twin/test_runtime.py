"""Functions in processes of their own: answers, errors, deaths, timeouts, concurrency."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from local.runtime import Answer, Function, FunctionSpec
from tests.support.waiting import gone, until

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
Body = Callable[[Function], Awaitable[None]]
Run = Callable[..., None]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a body with a started function, which is ended with it."""

    def go(body: Body, handler: str = "obey", *, module: str = "functions", **changes: Any) -> None:
        described: dict[str, Any] = {"timeout": 20.0, "memory": 128, "concurrency": 1, "environment": {}}
        named = {"name": "tested", "handler": f"tests.twin.{module}.{handler}"}
        spec = FunctionSpec(**{**described, **named, **changes})
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}

        async def whole() -> None:
            function = Function(spec, environment, tmp_path / "logs", ROOT)
            try:
                await function.start()
                await body(function)
            finally:
                pids = function.pids()
                await function.stop()
            assert all(gone(pid) for pid in pids)

        asyncio.run(whole())

    return go


async def call(function: Function, **event: Any) -> Answer:
    return await function.invoke(json.dumps(event).encode())


def body_of(answer: Answer) -> dict[str, Any]:
    assert answer.error is None, answer.error
    body: dict[str, Any] = json.loads(answer.payload)
    return body


async def arrivals(folder: Path, count: int) -> list[int]:
    """Processes that work on an invocation, once there are ``count``."""
    await asyncio.to_thread(until, lambda: len(list(folder.iterdir())) >= count, f"{count} arrivals")
    return [int(p.name) for p in folder.iterdir()]


def test_a_function_answers_and_sees_its_context(run: Run) -> None:
    async def body(function: Function) -> None:
        answer = body_of(await call(function, greeting="grüße"))
        assert answer["event"] == {"greeting": "grüße"}
        assert answer["setting"] == "given"
        assert answer["home"] is None, "nothing of the machine's environment gets in"
        assert answer["arn"] == "arn:aws:lambda:us-east-1:000000000000:function:tested"
        assert 15_000 < answer["remaining_ms"] <= 20_000
        again = body_of(await call(function))
        assert again["pid"] == answer["pid"], "a warm process is used again"
        assert again["request_id"] != answer["request_id"]

    run(body, "echo", environment={"SETTING": "given"})


def test_a_large_event_and_answer_arrive_whole(run: Run) -> None:
    async def body(function: Function) -> None:
        assert body_of(await call(function, filler="x" * 5_000_000))["event"]["filler"] == "x" * 5_000_000

    run(body, "echo")


def test_what_a_function_prints_is_in_its_log(run: Run, tmp_path: Path) -> None:
    async def body(function: Function) -> None:
        await call(function, word="marker")

    run(body, "echo")
    assert "saw {'word': 'marker'}" in (tmp_path / "logs" / "tested.log").read_text()


def test_an_exception_fails_its_invocation_and_not_the_process(run: Run) -> None:
    async def body(function: Function) -> None:
        before = body_of(await call(function))["pid"]
        answer = await call(function, **{"raise": "no good"})
        assert answer.error is not None
        assert "no good" in answer.error
        assert body_of(await call(function))["pid"] == before

    run(body)


def test_a_process_killed_at_work_fails_its_invocation_and_the_next_one_works(
    run: Run, tmp_path: Path
) -> None:
    arrived = tmp_path / "arrived"
    arrived.mkdir()

    async def body(function: Function) -> None:
        working = asyncio.create_task(call(function, arrived=str(arrived), until=str(tmp_path / "never")))
        (pid,) = await arrivals(arrived, 1)
        os.kill(pid, signal.SIGKILL)
        answer = await asyncio.wait_for(working, 5)
        assert answer.error is not None
        assert "exited" in answer.error
        assert body_of(await asyncio.wait_for(call(function), 15))["pid"] != pid

    run(body)


@pytest.mark.parametrize("repeat", range(3))
def test_a_process_killed_at_rest_does_not_harm_the_next_invocation(run: Run, repeat: int) -> None:
    async def body(function: Function) -> None:
        pid = body_of(await call(function))["pid"]
        os.kill(pid, signal.SIGKILL)
        if repeat:
            await asyncio.to_thread(until, lambda: gone(pid), "the process to be gone")
            await asyncio.sleep(0.06 * (repeat - 1))  # before and after the supervisor noticed
        answer = await asyncio.wait_for(call(function), 15)
        if not repeat and answer.error is not None:
            return  # it died with the invocation already on its way
        assert body_of(answer)["pid"] != pid

    run(body)


def test_a_process_that_ends_itself_fails_its_invocation(run: Run) -> None:
    async def body(function: Function) -> None:
        answer = await asyncio.wait_for(call(function, exit=3), 10)
        assert answer.error == "Runtime exited with 3"
        body_of(await call(function))

    run(body)


def test_an_invocation_past_its_timeout_is_killed_and_the_next_one_works(run: Run, tmp_path: Path) -> None:
    arrived = tmp_path / "arrived"
    arrived.mkdir()

    async def body(function: Function) -> None:
        await call(function)  # warm
        started = asyncio.get_running_loop().time()
        answer = await call(function, arrived=str(arrived), until=str(tmp_path / "never"))
        assert answer.error == "Task timed out after 1.00 seconds"
        assert asyncio.get_running_loop().time() - started < 3
        (pid,) = await arrivals(arrived, 1)
        assert gone(pid)
        assert body_of(await call(function))["pid"] != pid

    run(body, timeout=1.0)


def test_a_module_that_cannot_be_imported_fails_each_invocation(run: Run) -> None:
    async def body(function: Function) -> None:
        for _ in range(2):
            answer = await asyncio.wait_for(call(function), 20)
            assert answer.error is not None

    run(body, module="unstartable", handler="handler")


def test_reserved_concurrency_limits_the_processes(run: Run, tmp_path: Path) -> None:
    arrived, go = tmp_path / "arrived", tmp_path / "go"
    arrived.mkdir()

    async def body(function: Function) -> None:
        event: Mapping[str, Any] = {"arrived": str(arrived), "until": str(go)}
        calls = [asyncio.create_task(call(function, **event)) for _ in range(3)]
        at_work = await arrivals(arrived, 2)
        assert sorted(at_work) == sorted(function.pids()), "two at work, the third waits"
        go.touch()
        pids = [body_of(a)["pid"] for a in await asyncio.gather(*calls)]
        assert set(pids) == set(at_work)

    run(body, concurrency=2)


def test_a_concurrency_of_one_is_one_after_the_other(run: Run, tmp_path: Path) -> None:
    arrived = tmp_path / "arrived"
    arrived.mkdir()

    async def body(function: Function) -> None:
        answers = await asyncio.gather(*(call(function, arrived=str(arrived)) for _ in range(4)))
        assert len({body_of(a)["pid"] for a in answers}) == 1

    run(body)
