"""The supervisor of the twin: starts parts, functions and event sources, watches them, ends cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import shutil
import signal
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from local import identity, resources, template
from local.alarms import MINUTE, AlarmWatch, announce
from local.aws import ACCOUNT, REGION, AwsServer
from local.gateway import STAGE, Gateway, application
from local.kinesis import AwsCalls, AwsRefusal
from local.poller import Checkpoints, ShardPoller
from local.postgres import OWNER, PostgresServer
from local.processes import listener
from local.runtime import Answer, Function
from local.scheduler import Scheduler
from local.sockets import MAX_MESSAGE, WebSocketApi
from local.state import LOCK_FILE, STATE_FILE
from local.template import TEMPLATE, Wiring
from local.valkey import ValkeyServer

log = logging.getLogger(__name__)

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_DATA_DIR = ROOT / ".twin"
PREFERRED_PORT = 8480
POLL_INTERVAL = 0.1
DRAIN_SECONDS = 10.0
DISK_FLOOR = 300_000_000
"""Bytes of disk without which it does not start: the bundled data takes about as much, and PostgreSQL stops
where it can write no more."""
WATCH_EVERY = 0.1
KEEP_ALIVE = 310
"""Seconds for which an idle connection is kept, as API Gateway does: who pauses for a moment and asks again
must not find it ended."""
PREFIX = "qis-local-"
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")


class AlreadyRunning(RuntimeError):
    """A twin runs on this data directory."""


@contextlib.contextmanager
def _only_one(data_dir: Path) -> Iterator[None]:
    with (data_dir / LOCK_FILE).open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(f"a twin already runs on {data_dir}; `qis down` stops it") from None
        yield


def run(
    data_dir: Path = DEFAULT_DATA_DIR,
    *,
    port: int | None = None,
    interval: float = POLL_INTERVAL,
    minute: int = int(MINUTE),
    on_ready: Callable[[dict[str, Any]], None] | None = None,
    template_file: Path = TEMPLATE,
    code: Path = ROOT,
) -> None:
    """Run the twin until SIGINT or SIGTERM.

    Args:
        data_dir: where everything it keeps lies; a second run continues with it.
        port: port of the API; by default the one used before, or a free one.
        interval: seconds between two polls of an idle shard.
        minute: seconds that stand for a minute in the windows over the log and the periods of alarms.
        on_ready: called in a thread with the state once requests are answered; if it raises, the twin ends
            and the error goes on.
        template_file: what is created and run.
        code: where the packages of the handlers are.

    Raises:
        AlreadyRunning: a twin runs on this directory.
        OSError: the given port is taken.
        RuntimeError, TimeoutError: a part does not start, or the disk is nearly full.
        local.template.TemplateError: the template asks for what is not emulated.
    """
    data_dir = data_dir.resolve()
    data_dir.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(data_dir).free
    if free < DISK_FLOOR:
        left, least = free // 1_000_000, DISK_FLOOR // 1_000_000
        raise RuntimeError(f"{data_dir} has {left} MB of disk left, less than {least} MB")
    with _only_one(data_dir), _logging(data_dir / "logs" / "supervisor.log"):
        (data_dir / STATE_FILE).unlink(missing_ok=True)
        asyncio.run(_Twin(data_dir, port, interval, minute, template_file, code).run(on_ready))


@contextlib.contextmanager
def _logging(file: Path) -> Iterator[None]:
    file.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(file)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logger = logging.getLogger("local")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


class _Server(uvicorn.Server):
    """A server that leaves signals to the supervisor."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Twin:
    """The running parts."""

    def __init__(
        self, data_dir: Path, port: int | None, interval: float, minute: int, file: Path, code: Path
    ) -> None:
        self._dir = data_dir
        self._remembered = data_dir / "port.json"
        before = json.loads(self._remembered.read_text()) if self._remembered.exists() else PREFERRED_PORT
        # Held from here on: addresses are handed out before the gateway answers.
        self._listener = listener(port or before)
        self._port = int(self._listener.getsockname()[1])
        if port is not None and self._port != port:
            self._listener.close()
            raise OSError(f"port {port} is taken")
        self._interval = interval
        self._minute = minute
        self._template = json.loads(file.read_text(encoding="utf-8"))
        self._code = code
        self._postgres = PostgresServer(data_dir)
        self._valkey = ValkeyServer(data_dir / "valkey")
        self._aws = AwsServer(data_dir / "aws")
        self._functions: dict[str, Function] = {}
        self._pollers: list[tuple[str, str, ShardPoller]] = []
        self._polling: list[asyncio.Task[None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._server: _Server | None = None
        self._stopping = asyncio.Event()
        # The kernel ends a child when the thread that started it ends, so these live as long as the twin.
        self._threads = ThreadPoolExecutor(3, "parts")
        self._state: dict[str, Any] = {}
        self._api: AwsCalls | None = None
        self._alarms: AlarmWatch | None = None

    async def run(self, on_ready: Callable[[dict[str, Any]], None] | None) -> None:
        """Start, wait for the end, stop. Whatever was started is stopped, also after a failed start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopping.set)
        work = asyncio.ensure_future(self._work(on_ready))
        stopped = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            stopped.cancel()
            await self._stop(work)
            self._threads.shutdown()

    async def _work(self, on_ready: Callable[[dict[str, Any]], None] | None) -> None:
        started = time.monotonic()
        await self._start()
        log.info("ready after %.2f s", time.monotonic() - started)
        if on_ready is not None:
            await asyncio.to_thread(on_ready, dict(self._state))
        await asyncio.gather(*self._tasks, *self._polling)

    # start ---------------------------------------------------------------------------------------

    async def _start(self) -> None:
        await asyncio.gather(
            *(self._in_thread(part.start) for part in (self._postgres, self._valkey, self._aws)),
            self._in_thread(lambda: identity.ensure_key(self._dir)),
        )
        wiring = self._read_template()
        self._api = api = AwsCalls(self._aws.url)
        self._remembered.write_text(json.dumps(self._port))
        # The handlers' imports take longest; they need nothing of what is made beside them.
        await self._start_functions(wiring)
        self._background(self._watch(wiring, api))
        await asyncio.gather(
            self._in_thread(lambda: self._prepare_database(wiring)),
            resources.create(api, wiring),
            self._start_gateway(wiring),
        )
        await asyncio.gather(*(f.ready() for f in self._functions.values()))
        await self._start_sources(wiring, api)
        self._start_schedules(wiring, api)
        self._background(self._watch_alarms(wiring, api))
        self._state = self._describe(wiring)
        self._write_state()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _read_template(self) -> Wiring:
        parameters = {
            "DatabaseHost": "127.0.0.1",
            "DatabasePort": str(self._postgres.port),
            "CacheUrl": self._valkey.url,
            "JwksUrl": f"http://127.0.0.1:{self._port}/.well-known/jwks.json",
            "PushEndpoint": f"http://127.0.0.1:{self._port}/{STAGE}",
        }
        return template.read(self._template, parameters, self._aws.url)

    def _prepare_database(self, wiring: Wiring) -> None:
        """The database of the functions, with the migrations of this version applied."""
        from qis.adapters.postgres.connection import Target
        from qis.adapters.postgres.migrate import apply

        for name in _databases(wiring):
            self._postgres.create_database(name)
            applied = apply(Target("127.0.0.1", self._postgres.port, name, OWNER))
            log.info("database %s: %d migrations applied", name, len(applied))

    async def _start_functions(self, wiring: Wiring) -> None:
        env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        # Nothing takes traces here; the tracer would only cost start-up time.
        env |= {**self._aws.environment(), "POWERTOOLS_TRACE_DISABLED": "true", "PYTHONPATH": str(self._code)}
        windows = {"QIS_WINDOW_SECONDS": str(self._minute)}
        for name in sorted(_invoked(wiring)):
            spec = wiring.functions[name]
            if name.endswith("-quality"):
                spec = replace(spec, environment={**spec.environment, **windows})
            self._functions[name] = Function(spec, env, self._dir / "logs", self._code)
        await asyncio.gather(*(f.start() for f in self._functions.values()))

    async def _invoke(self, function: str, payload: bytes) -> Answer:
        answer = await self._functions[function].invoke(payload)
        if self._alarms is not None:
            self._alarms.invoked(function, time.time(), failed=answer.error is not None)
        return answer

    async def _start_gateway(self, wiring: Wiring) -> None:
        keys = identity.key_set(self._dir)
        shown: list[BaseRoute] = [
            Route("/_local/pipeline", self._pipeline, methods=["GET"]),
            Route("/_local/alarms", self._alarm_states, methods=["GET"]),
        ]
        if wiring.push_stage is not None:
            push = WebSocketApi(wiring.push_stage, wiring.push_routes, self._invoke)
            managed = f"/{wiring.push_stage}/@connections/{{connection_id:path}}"
            shown.append(WebSocketRoute(f"/{wiring.push_stage}", push.session))
            shown.append(Route(managed, push.manage, methods=["DELETE", "GET", "POST"]))
        gateway = Gateway(wiring.routes, self._invoke, wiring.gateway_responses)
        app = application(gateway, keys, shown)
        config = uvicorn.Config(
            app,
            log_level="warning",
            lifespan="off",
            access_log=False,
            timeout_graceful_shutdown=int(DRAIN_SECONDS),
            timeout_keep_alive=KEEP_ALIVE,
            ws="websockets-sansio",
            ws_max_size=MAX_MESSAGE,
            ws_ping_interval=None,  # nor does API Gateway
        )
        self._server = _Server(config)
        serving = self._background(self._server.serve([self._listener]))
        while not self._server.started:
            if serving.done():
                raise OSError(f"the gateway does not start on port {self._port}")
            await asyncio.sleep(0.005)

    async def _start_sources(self, wiring: Wiring, api: AwsCalls) -> None:
        checkpoints = Checkpoints(self._dir / "checkpoints")
        since = time.time()
        for source in wiring.sources:
            for shard in await api.shards(source.stream):
                poller = ShardPoller(
                    source, shard, api, self._invoke, api.send, checkpoints, self._interval, since=since
                )
                self._pollers.append((source.function, shard, poller))
                self._polling.append(asyncio.ensure_future(poller.run()))

    def _start_schedules(self, wiring: Wiring, api: AwsCalls) -> None:
        scheduler = Scheduler(self._invoke, api.send, time.time)
        for schedule in wiring.schedules:
            self._background(scheduler.run(schedule, wiring.functions[schedule.function]))

    def _background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.append(task)
        return task

    # run -----------------------------------------------------------------------------------------

    async def _watch(self, wiring: Wiring, api: AwsCalls) -> None:
        """Start again what crashed, and keep the written process ids true."""
        missing = False
        while True:
            for part in (self._postgres, self._valkey, self._aws):
                if not part.alive():
                    log.error("%s has ended; starting it again", type(part).__name__)
                    await self._in_thread(part.start)
                    # What the APIs had not written to disk is gone, streams included.
                    missing |= part is self._aws
            if missing:
                try:
                    await resources.create(api, wiring)
                    missing = False
                except ConnectionError as reason:
                    log.warning("streams and queues are not made again yet: %s", reason)
            if self._state and self._state["processes"] != self._processes():
                self._write_state()
            await asyncio.sleep(WATCH_EVERY)

    async def _watch_alarms(self, wiring: Wiring, api: AwsCalls) -> None:
        """Judge the alarms shortly after each minute."""
        logs = [self._dir / "logs" / f"{name}.log" for name in self._functions]
        self._alarms = watch = AlarmWatch(wiring.alarms, logs, self._minute)
        changed = watch.alarms
        while True:
            try:
                await announce(api, changed)
                changed = []
            except (ConnectionError, AwsRefusal) as reason:
                log.warning("the states of alarms are not told: %s", reason)
            now = time.time()
            await asyncio.sleep(self._minute - now % self._minute + self._minute / MINUTE)
            for alarm in watch.look(time.time()):
                level = logging.WARNING if alarm.state == "ALARM" else logging.INFO
                log.log(level, "alarm %s is now %s", alarm.name, alarm.state)
                changed = [*changed, alarm]

    async def _alarm_states(self, _: Request) -> Response:
        return JSONResponse({} if self._alarms is None else self._alarms.states())

    async def _pipeline(self, _: Request) -> Response:
        """How far the event sources are: what a loader of files and tests wait for."""
        now = time.time()
        sources = [
            {
                "function": function,
                "shard": shard,
                "processed": poller.lag.processed,
                "failed": poller.lag.failed,
                "idle_seconds": None if (idle := poller.lag.idle_since) is None else now - idle,
            }
            for function, shard, poller in self._pollers
        ]
        return JSONResponse({"interval": self._interval, "sources": sources})

    def _describe(self, wiring: Wiring) -> dict[str, Any]:
        tokens = _token_settings(wiring)
        return {
            "pid": os.getpid(),
            "port": self._port,
            "data_dir": str(self._dir),
            "api": f"http://127.0.0.1:{self._port}",
            "push": f"ws://127.0.0.1:{self._port}/{wiring.push_stage}" if wiring.push_stage else None,
            "aws": self._aws.url,
            "region": REGION,
            "postgres": self._postgres.dsn_of(next(iter(_databases(wiring)), "postgres")),
            "valkey": self._valkey.url,
            "kafka": None,
            "streams": _by_short_name(wiring.streams),
            "bus": next(iter(wiring.buses), None),
            "queues": {
                short: f"{self._aws.url}/{ACCOUNT}/{name}"
                for short, name in _by_short_name(wiring.queues).items()
            },
            "dlqs": sorted(n for n in _by_short_name(wiring.queues) if n.endswith("-dlq")),
            "buckets": _by_short_name(wiring.buckets),
            "issuer": tokens.get("QIS_TOKEN_ISSUER"),
            "audience": tokens.get("QIS_TOKEN_AUDIENCE"),
            "poll_interval_seconds": self._interval,
            "logs": str(self._dir / "logs"),
        }

    def _processes(self) -> dict[str, Any]:
        parts = {"postgres": self._postgres.pid, "valkey": self._valkey.pid, "aws": self._aws.pid}
        return {
            **parts,
            "functions": {name.removeprefix(PREFIX): f.pids() for name, f in self._functions.items()},
        }

    def _write_state(self) -> None:
        self._state["processes"] = self._processes()
        fresh = self._dir / f"{STATE_FILE}.new"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as out:
            json.dump(self._state, out, indent=2)
        fresh.replace(self._dir / STATE_FILE)

    # stop ----------------------------------------------------------------------------------------

    async def _stop(self, work: asyncio.Task[None]) -> None:
        """No new work; a while for what runs; then functions, and at last what they stand on."""
        for _, _, poller in self._pollers:
            poller.stop()
        if self._server is not None:
            self._server.should_exit = True
        if self._polling:
            await asyncio.wait(self._polling, timeout=DRAIN_SECONDS)
        for task in (work, *self._tasks, *self._polling):
            task.cancel()
        await asyncio.gather(work, *self._tasks, *self._polling, return_exceptions=True)
        await asyncio.gather(*(f.stop() for f in self._functions.values()))
        await asyncio.gather(
            *(self._in_thread(part.stop) for part in (self._aws, self._valkey, self._postgres))
        )
        if self._api is not None:
            await self._api.close()
        (self._dir / STATE_FILE).unlink(missing_ok=True)


def _invoked(wiring: Wiring) -> set[str]:
    """Functions that something calls here: ``migrate`` is a step of deployments, done by the supervisor."""
    sources = {s.function for s in wiring.sources} | {s.function for s in wiring.schedules}
    return sources | {r.function for r in wiring.routes} | set(wiring.push_routes.values())


def _by_short_name(names: Iterable[str]) -> dict[str, str]:
    """Physical names by what is left without the prefix that all share."""
    return {name.removeprefix(PREFIX): name for name in names}


def _databases(wiring: Wiring) -> set[str]:
    settings = (f.environment.get("QIS_DATABASE_NAME") for f in wiring.functions.values())
    return {name for name in settings if name is not None}


def _token_settings(wiring: Wiring) -> Mapping[str, str]:
    """The variables of a function that checks tokens."""
    return next((f.environment for f in wiring.functions.values() if "QIS_TOKEN_ISSUER" in f.environment), {})
