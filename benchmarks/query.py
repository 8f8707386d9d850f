"""Reads through the real `query` handler in this process, warm, beside a bare SELECT of the same rows.

The handler checks the token, reads, renders and writes its metrics. A pair is one request and one SELECT,
the order changing from pair to pair.
"""

from __future__ import annotations

import contextlib
import gc
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import feed, parts, published
from benchmarks.common import Document, Options, Result, document, main, percentiles
from local import identity
from local.valkey import ValkeyServer
from qis.adapters.postgres.connection import Database
from qis.adapters.postgres.event_store import PostgresEventStore

if TYPE_CHECKING:
    from psycopg import Connection

DAYS = 250
VERSIONS = 3
ISSUER_VARIABLE, AUDIENCE_VARIABLE = "QIS_TOKEN_ISSUER", "QIS_TOKEN_AUDIENCE"
BARE = "bare psycopg SELECT of the same rows"
_COLUMNS = "value, version, recorded_from, tx::text, position, details"
_LATEST = (
    f"SELECT {_COLUMNS} FROM official_values"
    " WHERE reference_data_id = %(id)s AND snap_ns = %(ns)s AND superseded_at IS NULL"
)
_AS_OF = (
    f"SELECT {_COLUMNS} FROM official_values WHERE reference_data_id = %(id)s AND snap_ns = %(ns)s"
    " AND recorded_from <= %(at)s ORDER BY recorded_from DESC LIMIT 1"
)
_RANGE = (
    f"SELECT {_COLUMNS} FROM official_values"
    " WHERE reference_data_id = %(id)s AND superseded_at IS NULL ORDER BY snap_ns LIMIT 250"
)
Pair = tuple[dict[str, Any], str, dict[str, Any]]
"""An event for the handler, and the SELECT with its parameters."""


def run(given: Mapping[str, object] | None = None) -> Document:
    """The document. Options ``quick`` and ``data``."""
    options = Options.of(given or {})
    ids, n, pages = (feed.series_ids(4), 30, 5) if options.quick else (feed.series_ids(50), 5_000, 500)
    days = 5 if options.quick else DAYS
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(parts.folder(options))
        server = stack.enter_context(parts.postgres(home, options))
        keys = published.keys(ids, days)
        read = stack.enter_context(reader(home, server, "bench_query", ids, keys, n + max(10, n // 20) + 1))
        handle, owner = read.handle, read.owner
        requests = _Requests(read, keys)
        plan: dict[str, tuple[Callable[[], Pair], int]] = {
            "official value": (requests.latest, n),
            "official value, a token not seen before": (requests.new_token, n),
            "official value as of a moment": (requests.as_of, n),
            f"history, page of {days}": (requests.page, pages),
        }
        results = [r for name, (make, m) in plan.items() for r in _measure(name, handle, owner, make, m)]
        return document("query", results, **parts.about(home, server))


def _measure(
    name: str,
    handle: Callable[[dict[str, Any]], Any],
    owner: Connection,
    make: Callable[[], Pair],
    n: int,
) -> list[Result]:
    mine: list[float] = []
    bare: list[float] = []
    warm = max(10, n // 20)
    with parts.quiet():
        for number in range(n + warm):
            event, select, given = make()
            if number == warm:
                gc.collect()
                mine, bare = [], []
            for own in (True, False) if number % 2 else (False, True):
                started = time.perf_counter()
                if own:
                    status = handle(event)["statusCode"]
                    if status != 200:
                        raise RuntimeError(f"{name}: the handler answered {status}")
                else:
                    owner.execute(select.encode(), given).fetchall()
                (mine if own else bare).append((time.perf_counter() - started) * 1000)
    own_p, bare_p = percentiles(mine), percentiles(bare)
    return [
        Result(f"{name}, {which}", own_p[i], "ms", BARE, bare_p[i], own_p[i] / bare_p[i], n, *own_p)
        for i, which in ((0, "p50"), (2, "p99"))
    ]


@dataclass(frozen=True, slots=True)
class Reader:
    """The handler on a database with published values, and who may ask it."""

    handle: Callable[[dict[str, Any]], Any]
    database: Database
    owner: Connection
    """Of the same database, for the bare SELECTs."""
    tokens: Sequence[str]

    def event(
        self, what: str, reference_data_id: str, query: dict[str, str], media: str = "application/json"
    ) -> dict[str, Any]:
        """A request for one series as API Gateway passes it on."""
        resource = f"/api/v1/data/reference/{{id}}/{what}"
        path = resource.replace("{id}", reference_data_id)
        return {
            "resource": resource,
            "path": path,
            "httpMethod": "GET",
            "headers": {"Authorization": f"Bearer {self.tokens[0]}", "Accept": media},
            "queryStringParameters": query,
            "pathParameters": {"id": reference_data_id},
            "requestContext": {"path": path, "stage": "live", "requestId": "benchmark"},
            "body": None,
            "isBase64Encoded": False,
        }


@contextlib.contextmanager
def reader(
    home: Path,
    server: parts.Postgres,
    name: str,
    ids: Sequence[str],
    keys: Sequence[published.Key],
    tokens: int = 1,
) -> Iterator[Reader]:
    """The real handler, reading a new database ``name`` with ``VERSIONS`` versions of each of ``keys``."""
    with contextlib.ExitStack() as stack:
        cache = stack.enter_context(ValkeyServer(home / "valkey")).url
        target = server.database(name)
        database = stack.enter_context(contextlib.closing(parts.open_database(target)))
        feed.register(PostgresEventStore(database), ids)
        published.publish(database, keys, VERSIONS)
        wired = parts.wiring(target, "http://127.0.0.1:9", stack.enter_context(_jwks(home)), cache)
        variables = parts.function_environment(wired, "query", target)
        stack.enter_context(parts.environment({**parts.NO_AWS, **variables}))
        owner = stack.enter_context(contextlib.closing(server.connect(name)))
        server.settle()
        yield Reader(parts.handler("query"), database, owner, _tokens(home, variables, tokens))


class _Requests:
    """Requests for values chosen at random, each with the SELECT of the same rows."""

    def __init__(self, read: Reader, keys: list[published.Key]) -> None:
        self._read = read
        self._keys = keys
        self._fresh = iter(read.tokens[1:])
        self._numbers = random.Random(1)

    def latest(self) -> Pair:
        id_, snap = self._numbers.choice(self._keys)
        return self._official(id_, {"snap": snap.text}), _LATEST, {"id": id_, "ns": snap.ns}

    def new_token(self) -> Pair:
        event, select, given = self.latest()
        event["headers"]["Authorization"] = f"Bearer {next(self._fresh)}"
        return event, select, given

    def as_of(self) -> Pair:
        id_, snap = self._numbers.choice(self._keys)
        given = {"id": id_, "ns": snap.ns}
        rows = self._read.owner.execute(
            "SELECT recorded_from FROM official_values WHERE reference_data_id = %(id)s AND snap_ns = %(ns)s",
            given,
        ).fetchall()
        at = self._numbers.choice(rows)[0]
        query = {"snap": snap.text, "asOf": at.isoformat()}
        return self._official(id_, query), _AS_OF, {**given, "at": at}

    def page(self) -> Pair:
        id_, _ = self._numbers.choice(self._keys)
        query = {"from": "2023-01-01", "to": "2026-01-01", "limit": str(DAYS)}
        return self._read.event("historical", id_, query), _RANGE, {"id": id_}

    def _official(self, id_: str, query: dict[str, str]) -> dict[str, Any]:
        return self._read.event("official", id_, query)


def _tokens(home: Path, variables: Mapping[str, str], n: int) -> list[str]:
    """Valid tokens, all different."""
    now = int(time.time())
    return [
        identity.mint_token(
            home,
            role="reader",
            subject="benchmark",
            issuer=variables[ISSUER_VARIABLE],
            audience=variables[AUDIENCE_VARIABLE],
            now=now,
        )
        for _ in range(n)
    ]


@contextlib.contextmanager
def _jwks(home: Path) -> Iterator[str]:
    """The address of the key set that the tokens are signed with."""
    identity.ensure_key(home)
    body = json.dumps(identity.key_set(home)).encode()

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: stderr is for diagnostics."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Keys)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/jwks.json"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":
    main(run)
