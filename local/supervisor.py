"""The supervisor of the twin: starts parts, functions and event sources, watches them, ends cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local import identity, template
from local.aws import AwsServer
from local.gateway import Gateway, application
from local.kinesis import AwsCalls
from local.poller import Checkpoints, ShardPoller
from local.postgres import PostgresServer
from local.processes import free_port
from local.runtime import Answer, Function
from local.template import Schedule, Wiring
from local.valkey import ValkeyServer

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_DATA_DIR = ROOT / ".twin"
PREFERRED_PORT = 8480
POLL_INTERVAL = 0.1
DATABASE = "qis"
STATE_FILE = "twin.json"
ASYNC_RETRIES = 2
ASYNC_BACKOFF = 1.0
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE")


class AlreadyRunning(RuntimeError):
    """A twin runs on this data directory."""


def twin_running(data_dir: Path = DEFAULT_DATA_DIR) -> dict[str, Any] | None:
    """What the running twin of a data directory wrote of itself; ``None`` where none runs."""
    try:
        state: dict[str, Any] = json.loads((data_dir / STATE_FILE).read_text())
        with _lock(data_dir):
            return None
    except FileNotFoundError:
        return None
    except AlreadyRunning:
        return state


@contextlib.contextmanager
def _lock(data_dir: Path) -> Iterator[IO[str]]:
    with (data_dir / "lock").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(f"a twin already runs on {data_dir}; `qis down` stops it") from None
        yield held


def run(
    data_dir: Path = DEFAULT_DATA_DIR,
    *,
    port: int | None = None,
    interval: float = POLL_INTERVAL,
    on_ready: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Run the twin until SIGINT or SIGTERM.

    Args:
        data_dir: where everything it keeps lies; a second run continues with it.
        port: port of the API; by default the one used before, or a free one.
        interval: seconds between two polls of an idle shard.
        on_ready: called in a thread with the state once requests are answered; if it raises, the twin ends
            and the error goes on.

    Raises:
        AlreadyRunning: a twin runs on this directory.
    """
    data_dir = data_dir.resolve()
    data_dir.mkdir(parents=True, exist_ok=True)
    with _lock(data_dir):
        asyncio.run(_Twin(data_dir, port, interval).run(on_ready))


class _Server(uvicorn.Server):
    """A server that leaves signals to the supervisor."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Twin:
    """The running parts. Children are started from the main thread only; see ``local.processes.spawn``."""

    def __init__(self, data_dir: Path, port: int | None, interval: float) -> None:
        self._dir = data_dir
        self._port = free_port(port or self._port_before() or PREFERRED_PORT)
        if port is not None and self._port != port:
            raise OSError(f"port {port} is taken")
        self._interval = interval
        self._postgres = PostgresServer(data_dir)
        self._valkey = ValkeyServer(data_dir / "valkey")
        self._aws = AwsServer(data_dir / "aws")
        self._functions: dict[str, Function] = {}
        self._pollers: dict[tuple[str, str], ShardPoller] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._server: _Server | None = None
        self._stopping = asyncio.Event()

    def _port_before(self) -> int | None:
        try:
            return int(json.loads((self._dir / STATE_FILE).read_text())["port"])
        except (FileNotFoundError, ValueError, KeyError):
            return None

    async def run(self, on_ready: Callable[[dict[str, Any]], None] | None) -> None:
        """Start, wait for the end, stop. Whatever was started is stopped, also after a failed start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopping.set)
        calls: AwsCalls | None = None
        try:
            self._start_parts()
            calls = AwsCalls(self._aws.url)
            wiring = self._wire()
            await self._start_functions(wiring)
            await self._start_gateway(wiring)
            await self._start_sources(wiring, calls)
            self._start_schedules(wiring)
            self._background(self._watch())
            state = self._state(wiring)
            self._write_state(state)
            await self._until_stopped(on_ready, state)
        finally:
            await self._stop(calls)

    async def _until_stopped(
        self, on_ready: Callable[[dict[str, Any]], None] | None, state: dict[str, Any]
    ) -> None:
        stopped = asyncio.ensure_future(self._stopping.wait())
        if on_ready is not None:
            ready = asyncio.ensure_future(asyncio.to_thread(on_ready, state))
            await asyncio.wait({ready, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                ready.result()
        await stopped

    # start ---------------------------------------------------------------------------------------

    def _start_parts(self) -> None:
        from qis.adapters.postgres.connection import Target
        from qis.adapters.postgres.migrate import apply

        identity.ensure_key(self._dir)
        self._postgres.start()
        self._postgres.create_database(DATABASE)
        apply(Target("127.0.0.1", self._postgres.port, DATABASE, "qis"))
        self._valkey.start()
        self._aws.start()

    def _wire(self) -> Wiring:
        parameters = {
            "DatabaseHost": "127.0.0.1",
            "DatabasePort": str(self._postgres.port),
            "CacheUrl": self._valkey.url,
            "JwksUrl": f"http://127.0.0.1:{self._port}/.well-known/jwks.json",
        }
        wiring = template.load(parameters, self._aws.url)
        template.create(wiring, self._aws.client)
        return wiring

    async def _start_functions(self, wiring: Wiring) -> None:
        env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        # There is no X-Ray daemon here; without it the tracer would only cost start-up time.
        env |= {**self._aws.environment(), "POWERTOOLS_TRACE_DISABLED": "true", "PYTHONPATH": str(ROOT)}
        for spec in wiring.functions.values():
            if spec.name.endswith("-migrate"):
                continue  # a step of deployments; here the supervisor has applied the migrations
            self._functions[spec.name] = Function(spec, env, self._dir / "logs", ROOT)
        await asyncio.gather(*(f.start() for f in self._functions.values()))

    async def _invoke(self, function: str, payload: bytes) -> Answer:
        return await self._functions[function].invoke(payload)

    async def _start_gateway(self, wiring: Wiring) -> None:
        app = application(Gateway(wiring.routes, self._invoke), identity.key_set(self._dir))
        app.router.routes.insert(0, Route("/_local/pipeline", self._pipeline, methods=["GET"]))
        config = uvicorn.Config(
            app, host="127.0.0.1", port=self._port, log_level="warning", lifespan="off", access_log=False
        )
        self._server = _Server(config)
        self._background(self._server.serve())
        while not self._server.started:
            if self._tasks[-1].done():
                self._tasks[-1].result()
                raise OSError(f"the gateway did not start on port {self._port}")
            await asyncio.sleep(0.01)

    async def _start_sources(self, wiring: Wiring, calls: AwsCalls) -> None:
        checkpoints = Checkpoints(self._dir / "checkpoints")
        for source in wiring.sources:
            for shard in await calls.shards(source.stream):
                poller = ShardPoller(
                    source, shard, calls, self._invoke, calls.send, checkpoints, self._interval
                )
                self._pollers[source.function, shard] = poller
                self._background(poller.run())

    def _start_schedules(self, wiring: Wiring) -> None:
        for schedule in wiring.schedules:
            self._background(self._schedule(schedule))

    async def _schedule(self, schedule: Schedule) -> None:
        running: set[asyncio.Task[None]] = set()
        while True:
            task = asyncio.create_task(self._invoke_async(schedule))
            running.add(task)
            task.add_done_callback(running.discard)
            await asyncio.sleep(schedule.every)

    async def _invoke_async(self, schedule: Schedule) -> None:
        """An asynchronous invocation: tried again twice, as Lambda does."""
        event = {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": "Scheduled Event",
            "source": "aws.events",
            "account": "000000000000",
            "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": "us-east-1",
            "resources": [f"arn:aws:events:us-east-1:000000000000:rule/{schedule.name}"],
            "detail": {},
        }
        for attempt in range(1 + ASYNC_RETRIES):
            answer = await self._invoke(schedule.function, json.dumps(event).encode())
            if answer.error is None:
                return
            await asyncio.sleep(ASYNC_BACKOFF * 2**attempt)

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    # run -----------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Start again what crashed, and keep the written process ids true."""
        written: list[int] = []
        while True:
            for part in (self._postgres, self._valkey, self._aws):
                if not part.alive():
                    part.start()
            running = self._pids()
            if running != written and (self._dir / STATE_FILE).exists():
                self._write_state(json.loads((self._dir / STATE_FILE).read_text()))
                written = running
            for task in self._tasks:
                if task.done() and not task.cancelled() and task.exception() is not None:
                    task.result()
            await asyncio.sleep(0.1)

    async def _pipeline(self, _: Request) -> Response:
        """How far the event sources are: what the loader of files and tests wait for."""
        now = time.time()
        sources = [
            {
                "function": function,
                "shard": shard,
                "processed": poller.lag.processed,
                "failed": poller.lag.failed,
                "idle_seconds": None if poller.lag.idle_since is None else now - poller.lag.idle_since,
            }
            for (function, shard), poller in self._pollers.items()
        ]
        return JSONResponse({"interval": self._interval, "sources": sources})

    def _state(self, wiring: Wiring) -> dict[str, Any]:
        api = f"http://127.0.0.1:{self._port}"
        queues = {name.split("-", 2)[2]: f"{self._aws.url}/000000000000/{name}" for name in wiring.queues}
        settings = wiring.functions["qis-local-query"].environment
        return {
            "pid": os.getpid(),
            "port": self._port,
            "data_dir": str(self._dir),
            "api": api,
            "aws": self._aws.url,
            "postgres": self._postgres.dsn_of(DATABASE),
            "valkey": self._valkey.url,
            "kafka": None,
            "streams": {name.split("-", 2)[2]: name for name in wiring.streams},
            "bus": wiring.buses[0],
            "queues": queues,
            "buckets": {name.split("-", 2)[2]: name for name in wiring.buckets},
            "issuer": settings["QIS_TOKEN_ISSUER"],
            "audience": settings["QIS_TOKEN_AUDIENCE"],
            "poll_interval_seconds": self._interval,
        }

    def _pids(self) -> list[int]:
        parts = [self._postgres.pid, self._valkey.pid, self._aws.pid]
        return parts + [pid for f in self._functions.values() for pid in f.pids()]

    def _write_state(self, state: dict[str, Any]) -> None:
        parts = {"postgres": self._postgres.pid, "valkey": self._valkey.pid, "aws": self._aws.pid}
        functions = {name.split("-", 2)[2]: f.pids() for name, f in self._functions.items()}
        state = {**state, "processes": {**parts, "functions": functions}}
        path = self._dir / STATE_FILE
        fresh = path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as out:
            json.dump(state, out, indent=2)
        fresh.replace(path)

    # stop ----------------------------------------------------------------------------------------

    async def _stop(self, calls: AwsCalls | None) -> None:
        """Pollers first, so that nothing new begins; then functions; then what they stand on."""
        if self._server is not None:
            self._server.should_exit = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(f.stop() for f in self._functions.values()), return_exceptions=True)
        if calls is not None:
            await calls.close()
        for part in (self._aws, self._valkey, self._postgres):
            part.stop()
