"""The real parts that benchmarks run on: PostgreSQL with fsync, AWS APIs, the functions' environment."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from benchmarks.common import Document, Options, fsync_ms
from local import template
from local.aws import REGION, AwsServer
from local.postgres import OWNER, PostgresServer
from qis.adapters.postgres import migrate
from qis.adapters.postgres.connection import Database, Target

if TYPE_CHECKING:
    from psycopg import Connection

HOST, APP = "127.0.0.1", "qis_app"
NO_AWS = {"AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}


@contextlib.contextmanager
def folder(options: Options) -> Iterator[Path]:
    """A directory for the servers, gone at the end. PostgreSQL runs as ``nobody`` for root, so that its
    default lies where that user may go."""
    parent = options.data or Path("/var/tmp")
    parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix="qis-bench-", dir=parent))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made)


@dataclass(frozen=True, slots=True)
class Postgres:
    """A server with databases of our schema."""

    server: PostgresServer
    quick: bool = False

    def database(self, name: str, *, migrated: bool = True) -> Target:
        """A new database, seen as the functions' role sees it."""
        if migrated and not self._has("bench_template"):
            self.server.create_database("bench_template")
            migrate.apply(Target(HOST, self.server.port, "bench_template", OWNER))
        self.server.create_database(name, "bench_template" if migrated else None)
        return Target(HOST, self.server.port, name, APP)

    def _has(self, name: str) -> bool:
        with self.connect("postgres") as connection:
            found = connection.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone()
        return found is not None

    def connect(self, name: str) -> Connection:
        """A connection of the owner, closed by the caller."""
        import psycopg

        return psycopg.connect(self.server.dsn_of(name), autocommit=True)

    def about(self) -> dict[str, Any]:
        """What the documents say of the server."""
        with self.connect("postgres") as connection:
            return {
                name: str(connection.execute(f"SHOW {name}").fetchone()[0])  # type: ignore[index]
                for name in ("server_version", "fsync", "synchronous_commit")
            }

    def settle(self) -> None:
        """Bring statistics and checkpoints up to date, so that neither starts in the middle of a round."""
        if self.quick:
            return
        with self.connect("postgres") as connection:
            names = [
                r[0] for r in connection.execute("SELECT datname FROM pg_database WHERE datname ~ '^bench'")
            ]
            connection.execute("CHECKPOINT")
        for name in names:
            with self.connect(name) as connection:
                connection.execute("VACUUM ANALYZE")


@contextlib.contextmanager
def postgres(home: Path, options: Options) -> Iterator[Postgres]:
    """PostgreSQL as in the twin, ended at the end; without fsync where the figures mean nothing anyway."""
    with PostgresServer(home / "db", {"fsync": "off"} if options.quick else None) as server:
        yield Postgres(server, options.quick)


def about(home: Path, server: Postgres) -> Document:
    """Arguments of ``common.document`` that tell of the server and the disk."""
    found = server.about()
    durable = found["fsync"] == found["synchronous_commit"] == "on"
    return {"postgres": found["server_version"], "fsync": {"on": durable, "write_8k_ms": fsync_ms(home)}}


def aws(home: Path) -> AwsServer:
    """The AWS APIs as in the twin, to be entered."""
    return AwsServer(home / "aws")


def wiring(target: Target, aws_url: str, jwks_url: str, cache_url: str) -> template.Wiring:
    """The template of the twin, for these parts."""
    parameters = {
        "DatabaseHost": target.host,
        "DatabasePort": str(target.port),
        "CacheUrl": cache_url,
        "JwksUrl": jwks_url,
        "PushEndpoint": f"{aws_url}/live",  # nobody is connected
    }
    return template.load(parameters, aws_url)


def function_environment(wired: template.Wiring, name: str, target: Target) -> dict[str, str]:
    """Variables of a function as the twin sets them, its database being ``target``."""
    spec = wired.functions[f"qis-local-{name}"]
    named = {"QIS_DATABASE_NAME": target.database} if "QIS_DATABASE_NAME" in spec.environment else {}
    return {
        **spec.environment,
        **named,
        "AWS_LAMBDA_FUNCTION_NAME": spec.name,
        "POWERTOOLS_TRACE_DISABLED": "true",
    }


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Variables of this process, without any others of ours or of AWS, put back at the end."""
    before = dict(os.environ)
    for name in [n for n in before if n.startswith(("QIS_", "AWS_", "POWERTOOLS_"))]:
        del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def handler(name: str) -> Callable[[dict[str, Any]], Any]:
    """The real handler of a function; the environment must be that of the function already."""
    module = import_module(f"lambdas.{name}.handler")
    given = context(os.environ["AWS_LAMBDA_FUNCTION_NAME"])
    return lambda event: module.handler(event, given)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Logs and metrics of handlers, written as in production but to nowhere: stdout is for the document."""
    with Path(os.devnull).open("w", encoding="utf-8") as sink, contextlib.redirect_stdout(sink):
        yield


def context(name: str) -> object:
    """What a handler is given of its invocation."""
    return SimpleNamespace(
        function_name=name,
        function_version="$LATEST",
        memory_limit_in_mb=512,
        invoked_function_arn=f"arn:aws:lambda:us-east-1:000000000000:function:{name}",
        aws_request_id="00000000-0000-4000-8000-000000000000",
    )


def open_database(target: Target) -> Database:
    """A connection as a function has it."""
    return Database(target, "qis-bench")
