"""A local twin in a process of its own, and the ways to it: REST, SQL, streams, queues, the command line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import psycopg

from local.aws import client
from local.identity import token
from local.processes import spawn
from tests.support.waiting import gone, until

ROOT = Path(__file__).resolve().parents[2]
RUN = """
import sys
from pathlib import Path
from local.supervisor import run
run(Path(sys.argv[1]), interval=float(sys.argv[2]), minute=int(sys.argv[3]))
"""
INTERVAL = 0.1
START_PATIENCE = 60.0
STOP_PATIENCE = 60.0
KINESIS_BATCH = 500
SETTLED = 3
"""Looks in a row at which nothing moves, before the pipeline counts as drained."""


class Twin:
    """One twin in one directory, which is removed with it."""

    def __init__(self, minute: int = 60) -> None:
        """``minute``: seconds that stand for one, where periods must pass."""
        self._minute = minute
        self.dir = Path(tempfile.mkdtemp(prefix="qis-twin-"))
        self.dir.chmod(0o755)  # PostgreSQL runs as nobody where the tests run as root
        self._process: subprocess.Popen[bytes] | None = None
        self.state: dict[str, Any] = {}
        self._clients: dict[str, Any] = {}

    # its life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start, and wait until it is ready."""
        self._disconnect()
        command = [sys.executable, "-c", RUN, str(self.dir), str(INTERVAL), str(self._minute)]
        self._process = spawn(command, self.dir / "supervisor.log", cwd=ROOT)
        until(self._ready, "the twin to be ready", START_PATIENCE, every=0.05)

    def _ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"the twin ended at start:\n{self.log()[-3000:]}")
        path = self.dir / "twin.json"
        if not path.exists():
            return False
        try:
            self.state = json.loads(path.read_text())
            return bool(self.state["pid"] == self._process.pid)
        except (ValueError, KeyError, TypeError):
            return False  # what a test left there

    def _disconnect(self) -> None:
        """Forget what is connected to the twin that ran before."""
        for name in ("http", "connection"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()
        self._clients.clear()

    def log(self) -> str:
        """What the supervisor said."""
        return (self.dir / "supervisor.log").read_text(errors="replace")

    def refresh(self) -> dict[str, Any]:
        """The description as it is now: processes come and go."""
        self.state = json.loads((self.dir / "twin.json").read_text())
        return self.state

    def pids(self) -> list[int]:
        """All processes, the supervisor first."""
        known = self.refresh()["processes"]
        parts = [known["postgres"], known["valkey"], known["aws"]]
        return [self.state["pid"], *parts, *(p for pids in known["functions"].values() for p in pids)]

    def interrupt(self) -> int:
        """Ctrl-C; the exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(STOP_PATIENCE)

    def kill(self) -> None:
        """``kill -9`` of the supervisor."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(STOP_PATIENCE)

    def close(self) -> None:
        """End it, whatever state it is in, and remove its data once nobody writes there any more."""
        self._disconnect()
        running = self._process is not None and self._process.poll() is None
        pids = self.pids() if (self.dir / "twin.json").exists() else []
        try:
            if running:
                self.interrupt()
        finally:
            if self._process is not None and self._process.poll() is None:
                self.kill()
            until(lambda: all(gone(p) for p in pids), "the processes to end", STOP_PATIENCE)
            shutil.rmtree(self.dir)

    # REST ----------------------------------------------------------------------------------------

    @cached_property
    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.state["api"], timeout=60, trust_env=False)

    def token(self, role: str = "admin", subject: str = "alice") -> str:
        """A bearer token."""
        return token(self.state, role, subject)

    def call(
        self, method: str, path: str, body: object = None, *, role: str = "admin", subject: str = "alice"
    ) -> httpx.Response:
        """One request with a token."""
        headers = {"Authorization": f"Bearer {self.token(role, subject)}"}
        if body is None:
            return self.http.request(method, path, headers=headers)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers["Content-Type"] = "application/json"
        return self.http.request(method, path, headers=headers, content=content)

    def get(self, path: str, **parameters: str) -> httpx.Response:
        """One reading request."""
        headers = {"Authorization": f"Bearer {self.token()}"}
        return self.http.get(path, headers=headers, params=parameters)

    def official(self, reference_data_id: str, snap: str, **parameters: str) -> httpx.Response:
        return self.get(f"/api/v1/data/reference/{reference_data_id}/official", snap=snap, **parameters)

    def register(
        self,
        rules: Iterable[Mapping[str, Any]] = (),
        sources: Iterable[Mapping[str, Any]] = (),
        series: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        """Register, in the order in which they need each other."""
        for kind, key, entries in (
            ("rules", "rules", rules),
            ("sources", "source", sources),
            ("series", "reference_data_id", series),
        ):
            for entry in entries:
                answer = self.call("PUT", f"/api/v1/{kind}/{entry[key]}", entry)
                assert answer.status_code == 200, answer.text

    # SQL -----------------------------------------------------------------------------------------

    @cached_property
    def connection(self) -> psycopg.Connection:
        return psycopg.connect(self.state["postgres"], autocommit=True)

    def sql(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Rows; connects again where the server went away."""
        try:
            return self.connection.execute(query, parameters).fetchall()
        except psycopg.OperationalError:
            self.connection.close()
            del self.__dict__["connection"]
            return self.connection.execute(query, parameters).fetchall()

    def one(self, query: str, *parameters: object) -> Any:
        """The only value of the only row."""
        ((value,),) = self.sql(query, *parameters)
        return value

    def load(self, load_id: str) -> dict[str, int]:
        """What became of the records of a load."""
        rows = self.sql("SELECT accepted, duplicates, rejected FROM loads WHERE load_id = %s", load_id)
        return dict(zip(("accepted", "duplicates", "rejected"), rows[0] if rows else (0, 0, 0), strict=True))

    def events(self, type_: str) -> int:
        """How many events of a type the log holds."""
        return int(self.one("SELECT count(*) FROM events WHERE type = %s", type_))

    # streams and queues --------------------------------------------------------------------------

    def client(self, service: str) -> Any:
        """A boto3 client."""
        if service not in self._clients:
            self._clients[service] = client(self.state["aws"], service)
        return self._clients[service]

    def put(self, records: Sequence[tuple[str, bytes]], stream: str = "ingest") -> None:
        """Put ``(partition key, data)`` on a stream, in order."""
        for start in range(0, len(records), KINESIS_BATCH):
            entries = [{"PartitionKey": k, "Data": d} for k, d in records[start : start + KINESIS_BATCH]]
            answer = self.client("kinesis").put_records(
                StreamName=self.state["streams"][stream], Records=entries
            )
            assert not answer["FailedRecordCount"], answer

    def put_claims(self, claims: Iterable[Mapping[str, Any]], load: str) -> None:
        """Put claims on the ingest stream as one load, each with an identity in it."""
        self.put(
            [
                (
                    str(claim.get("reference_data_id", load)),
                    json.dumps({"correlation_id": load, "record_id": f"{load}:{i}", **claim}).encode(),
                )
                for i, claim in enumerate(claims)
            ]
        )

    def take(self, queue: str) -> list[dict[str, Any]]:
        """All messages of a queue, which is empty then."""
        sqs, url = self.client("sqs"), self.state["queues"][queue]
        taken: list[dict[str, Any]] = []
        while found := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            taken += [json.loads(m["Body"]) for m in found]
            sqs.delete_message_batch(
                QueueUrl=url,
                Entries=[{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(found)],
            )
        return taken

    def waiting(self, queue: str) -> int:
        """How many messages are in a queue."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        url = self.state["queues"][queue]
        found = self.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)

    # waiting -------------------------------------------------------------------------------------

    def accounted(self, load: str, records: int, seconds: float = 60.0) -> dict[str, int]:
        """Wait until each record of a load is accounted for."""
        until(lambda: sum(self.load(load).values()) >= records, f"load {load}", seconds)
        return self.load(load)

    def drain(self, seconds: float = 120.0) -> None:
        """Wait until nothing is read, relayed or delivered any more."""
        deadline = time.monotonic() + seconds
        before: object = None
        quiet = 0
        while quiet < SETTLED:
            assert time.monotonic() < deadline, f"not drained after {seconds:.0f} s: {before}"
            now = self._standing()
            quiet = quiet + 1 if now == before and now is not None else 0
            before = now
            time.sleep(4 * INTERVAL)

    def _standing(self) -> object:
        """What changes while anything moves; ``None`` while something is known to."""
        sources = self.http.get("/_local/pipeline").json()["sources"]
        if any((s["idle_seconds"] or 0) < 4 * INTERVAL for s in sources):
            return None
        behind = self.one(
            "SELECT EXISTS (SELECT FROM events e WHERE (e.tx, e.position) > coalesce("
            "(SELECT (f.tx, f.position) FROM followers f WHERE name = 'backbone'), ('0'::xid8, 0::bigint)))"
        )
        if behind:
            return None
        return [
            self.one("SELECT coalesce(max(position), 0) FROM events"),
            sorted((s["function"], s["processed"], s["failed"]) for s in sources),
            [self.waiting(queue) for queue in sorted(self.state["queues"])],
        ]

    # the command line ----------------------------------------------------------------------------

    def qis(self, *arguments: str, status: int = 0) -> Any:
        """Run a command with ``--json``; what it printed."""
        ran = subprocess.run(
            [sys.executable, "-m", "qis", *arguments, "--json", "--data-dir", str(self.dir)],
            cwd=ROOT,
            env={**{k: v for k, v in os.environ.items() if not k.startswith("QIS_")}, "COLUMNS": "120"},
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert ran.returncode == status, ran.stderr.decode()[-3000:]
        return json.loads(ran.stdout)
