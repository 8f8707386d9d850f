"""The Lambda service of the twin: functions in processes of their own behind a Runtime API.

Each process has a Runtime API on a port of its own, spoken to by AWS's own runtime client. An invocation
that outlives its timeout kills the process, a process that dies fails its invocation, and the next
invocation finds a new process, as in AWS.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
import uuid
from asyncio import FIRST_COMPLETED
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.processes import spawn, stop

MAX_PROCESSES = 2
PREFIX = "/2018-06-01/runtime"
START_PATIENCE = 30.0
MAX_PAYLOAD = 6 * 1024 * 1024
MAX_HEAD = 2 * 1024 * 1024
"""Bytes of request headers: the runtime client puts its trace of an error, up to 1 MB, into one."""
TIMED_OUT, TOO_LARGE = "Task timed out", "Payload too large"
"""How the errors of these two kinds begin."""


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """A function as the template describes it."""

    name: str
    handler: str
    environment: Mapping[str, str]
    timeout: float
    memory: int
    concurrency: int
    json_logs: bool = False
    async_retries: int = 2
    async_max_age: float = 21_600.0
    async_on_failure_url: str | None = None
    """Queue that is told of asynchronous invocations given up."""
    async_at_once: bool = False
    """The function itself is invoked again after one given up, instead of a queue being told."""

    @property
    def arn(self) -> str:
        return f"arn:aws:lambda:us-east-1:000000000000:function:{self.name}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What an invocation came to: the payload, or the error that Lambda would report."""

    payload: bytes
    error: str | None = None


@dataclass(slots=True)
class _Invocation:
    request_id: str
    payload: bytes
    fetched: asyncio.Future[None]
    """Done when the function has it: from then on its time counts."""
    answer: asyncio.Future[Answer]


class Worker:
    """One process of a function and the Runtime API that it asks for work."""

    def __init__(self, spec: FunctionSpec, service_env: Mapping[str, str], log: Path, root: Path) -> None:
        self._spec = spec
        self._env = service_env
        self._log = log
        self._root = root
        self._server: asyncio.Server | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._next: asyncio.Queue[_Invocation | None] = asyncio.Queue()
        self._current: _Invocation | None = None
        self._watch: asyncio.Task[None] | None = None
        self.busy = False
        self.asked = asyncio.Event()
        """Set when the process asks for work the first time: its module is imported."""

    @property
    def pid(self) -> int | None:
        return None if self._child is None else self._child.pid

    async def start(self) -> None:
        """Open the Runtime API and start the process."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=MAX_HEAD)
        self._start_process()

    def _start_process(self) -> None:
        assert self._server is not None
        # What is left of a process that died must neither take nor fail what is meant for its successor.
        if self._watch is not None:
            self._watch.cancel()
        self._next.put_nowait(None)
        self._next = asyncio.Queue()
        self.asked.clear()
        port = self._server.sockets[0].getsockname()[1]
        env = {
            **self._env,
            **self._spec.environment,
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}",
            "AWS_LAMBDA_FUNCTION_NAME": self._spec.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self._spec.memory),
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{self._spec.name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": "local",
            "AWS_LAMBDA_LOG_FORMAT": "JSON" if self._spec.json_logs else "Text",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "TZ": ":UTC",
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info[0]}.{sys.version_info[1]}",
            "LAMBDA_TASK_ROOT": str(self._root),
            "_HANDLER": self._spec.handler,
        }
        command = [sys.executable, "-m", "awslambdaric", self._spec.handler]
        self._child = spawn(command, self._log, env=env, cwd=self._root, death_signal=signal.SIGKILL)
        self._watch = asyncio.get_running_loop().create_task(self._watch_process(self._child))

    async def _watch_process(self, child: subprocess.Popen[bytes]) -> None:
        while child.poll() is None:
            await asyncio.sleep(0.05)
        was_ready = self.asked.is_set()
        self._fail(f"Runtime exited with {child.returncode}")
        if was_ready and not self.busy:
            self._start_process()  # a crash at rest should not cost the next caller a cold start

    def _fail(self, error: str) -> None:
        current, self._current = self._current, None
        if current is not None and not current.answer.done():
            current.answer.set_result(Answer(b"", error))

    async def invoke(self, payload: bytes) -> Answer:
        """Run one invocation; never raises for what the function does."""
        if self._child is None or self._child.poll() is not None:
            self._start_process()
        loop = asyncio.get_running_loop()
        call = _Invocation(str(uuid.uuid4()), payload, loop.create_future(), loop.create_future())
        self._current = call
        self._next.put_nowait(call)
        try:
            first: set[asyncio.Future[Any]] = {call.fetched, call.answer}
            await asyncio.wait(first, timeout=START_PATIENCE, return_when=FIRST_COMPLETED)
            await asyncio.wait({call.answer}, timeout=self._spec.timeout if call.fetched.done() else 0)
            if call.answer.done():
                return call.answer.result()
            await self._kill()
            return Answer(b"", f"{TIMED_OUT} after {self._spec.timeout:.2f} seconds")
        finally:
            self._current = None

    async def _kill(self) -> None:
        """End the process; over when it is gone, so that the next invocation starts another."""
        assert self._child is not None
        await asyncio.to_thread(stop, self._child, signal.SIGKILL, 5.0)

    async def stop(self) -> None:
        """End the process and its Runtime API."""
        if self._watch is not None:
            self._watch.cancel()
        self._fail("the twin stops")
        if self._child is not None:
            # The runtime client has no clean-up to do; its handlers commit before they answer.
            await self._kill()
        if self._server is not None:
            self._server.close()

    # the Runtime API -----------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        work = self._next
        try:
            while True:
                request = await _read_request(reader)
                if request is None:
                    return
                path, headers, body = request
                if path == f"{PREFIX}/invocation/next":
                    self.asked.set()
                    call = await work.get()
                    if call is None:
                        return
                    writer.write(_next_answer(call, self._spec))
                    call.fetched.set_result(None)
                else:
                    self._take(path, headers, body)
                    writer.write(_http(202, b'{"status":"OK"}'))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return  # the process died, which its watcher reports, or the twin stops
        finally:
            writer.close()

    def _take(self, path: str, headers: Mapping[str, str], body: bytes) -> None:
        current = self._current
        of_current = current is not None and current.request_id in path
        if path.endswith("/error") and (of_current or path.endswith("/init/error")):
            error = headers.get("lambda-runtime-function-error-type", "Unhandled")
            self._fail(f"{error}: {_message(body)}")
        elif current is not None and of_current and not current.answer.done():
            size = len(body)
            too_large = f"{TOO_LARGE}: an answer of {size} bytes" if size > MAX_PAYLOAD else None
            current.answer.set_result(Answer(b"" if too_large else body, too_large))


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes] | None:
    head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
    if not head:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}
    if headers.get("transfer-encoding") == "chunked":
        return first.split(" ")[1], headers, await _read_chunks(reader)
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return first.split(" ")[1], headers, body


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int((await reader.readline()).strip() or b"0", 16):
        parts.append(await reader.readexactly(size))
        await reader.readline()
    await reader.readline()
    return b"".join(parts)


def _http(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} OK", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    # One write for head and body: two would meet Nagle's algorithm and a delayed acknowledgement.
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _next_answer(call: _Invocation, spec: FunctionSpec) -> bytes:
    trace = call.request_id.replace("-", "")
    deadline = time.time() + spec.timeout
    return _http(
        200,
        call.payload,
        {
            "Lambda-Runtime-Aws-Request-Id": call.request_id,
            "Lambda-Runtime-Deadline-Ms": str(int(deadline * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": spec.arn,
            "Lambda-Runtime-Trace-Id": f"Root=1-{trace[:8]}-{trace[8:32]};Sampled=0",
        },
    )


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body).get("errorMessage", ""))[:500]
    except (ValueError, AttributeError):
        return body[:200].decode("utf-8", "replace")


class Function:
    """A function: a pool of processes, grown on demand up to its reserved concurrency."""

    def __init__(self, spec: FunctionSpec, service_env: Mapping[str, str], log_dir: Path, root: Path) -> None:
        self.spec = spec
        self._env = service_env
        self._log = log_dir / f"{spec.name}.log"
        self._root = root
        self._workers: list[Worker] = []
        self._free: asyncio.Semaphore = asyncio.Semaphore(min(spec.concurrency, MAX_PROCESSES))

    async def start(self) -> None:
        """Start the first process."""
        await self._add()

    async def _add(self) -> Worker:
        worker = Worker(self.spec, self._env, self._log, self._root)
        self._workers.append(worker)
        await worker.start()
        return worker

    async def ready(self) -> None:
        """Wait until a process has its module imported.

        Raises:
            TimeoutError: none has in ``START_PATIENCE``; the log says why.
        """
        try:
            await asyncio.wait_for(self._workers[0].asked.wait(), START_PATIENCE)
        except TimeoutError:
            raise TimeoutError(f"{self.spec.name} does not start, see {self._log}") from None

    def pids(self) -> list[int]:
        """Process ids now."""
        return [w.pid for w in self._workers if w.pid is not None]

    async def invoke(self, payload: bytes) -> Answer:
        """Run one invocation, waiting for a free process."""
        if len(payload) > MAX_PAYLOAD:
            return Answer(b"", f"{TOO_LARGE}: an event of {len(payload)} bytes")
        async with self._free:
            worker = next((w for w in self._workers if not w.busy), None) or await self._add()
            worker.busy = True
            try:
                return await worker.invoke(payload)
            finally:
                worker.busy = False

    async def stop(self) -> None:
        """End all processes."""
        await asyncio.gather(*(w.stop() for w in self._workers))
