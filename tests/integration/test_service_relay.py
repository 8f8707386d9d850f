"""The relay as a container: real log, real streams, probes over TLS, an end in peace when asked to stop."""

from __future__ import annotations

import json
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any
from uuid import uuid4

from qis.adapters.postgres.event_store import PostgresEventStore
from qis.domain import events as ev
from services.relay import main
from tests.support.builders import append, published, value_append
from tests.support.databases import FreshDatabase

_TRUSTING = ssl.create_default_context()
_TRUSTING.check_hostname = False
_TRUSTING.verify_mode = ssl.CERT_NONE
"""As the kubelet probes: encrypted, whoever answers."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def status(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(
            f"https://127.0.0.1:{port}{path}", context=_TRUSTING, timeout=2
        ) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def until(look: Callable[[], bool]) -> None:
    pause = Event()
    for _ in range(300):
        if look():
            return
        pause.wait(0.1)
    raise AssertionError("it did not come to that")


def test_the_container_relays_answers_probes_and_stops(database: FreshDatabase, aws_variables: Any) -> None:
    client = aws_variables.client("kinesis")
    streams = {kind: f"{kind}-{uuid4().hex[:8]}" for kind in ("events", "audit")}
    for name in streams.values():
        client.create_stream(StreamName=name, ShardCount=1)
        client.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 20})

    def types(kind: str) -> list[str]:
        name = streams[kind]
        (shard,) = client.list_shards(StreamName=name)["Shards"]
        start = client.get_shard_iterator(
            StreamName=name, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )
        records = client.get_records(ShardIterator=start["ShardIterator"])["Records"]
        return [json.loads(r["Data"])["type"] for r in records]

    store = PostgresEventStore(database.app)
    store.append([value_append(0, published("1.10"))])
    store.append([append("source:alpha", 0, ev.NewEvent(ev.SOURCE_ADDED, {"source": "alpha"}))])
    at = database.target
    env = {
        "AWS_REGION": "us-east-1",
        "QIS_ENVIRONMENT": "test",
        "QIS_DATABASE_HOST": at.host,
        "QIS_DATABASE_PORT": str(at.port),
        "QIS_DATABASE_NAME": database.name,
        "QIS_DATABASE_USER": at.user,
        "QIS_DATABASE_AUTH": "trust",
        "QIS_EVENTS_STREAM": streams["events"],
        "QIS_AUDIT_STREAM": streams["audit"],
        "HOME": "not ours",
    }
    stop, port = Event(), free_port()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(main, env, stop, address="127.0.0.1", port=port)
        try:
            until(lambda: running.done() or types("audit") == [ev.SOURCE_ADDED])
            assert types("events") == [ev.DATA_PUBLISHED, ev.SOURCE_ADDED]
            assert [status(port, path) for path in ("/health", "/ready", "/")] == [200, 200, 404]
            store.append([value_append(1, published("1.11", version=2))])
            until(lambda: types("audit") == [ev.SOURCE_ADDED, ev.DATA_RESTATED])
        finally:
            stop.set()
        assert running.result(timeout=30) == 3
    assert status(port, "/health") == 0, "nobody answers any more"
