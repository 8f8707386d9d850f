"""The push channel of a running twin: nothing missing when connections and processes die under load."""

from __future__ import annotations

import json
import os
import random
import signal
import socket as sockets
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import connect

from qis.adapters.postgres.followers import PostgresFollower
from qis.application.publish import cloud_event
from qis.application.push import PUSHED
from qis.application.relay import backbone_event
from qis.cli.watching import Channel, Lost, Watch, follow
from qis.domain.events import Position
from tests.e2e.twin import ROOT, Twin
from tests.support.builders import rules_body, series_body, source_body
from tests.support.waiting import until

SERIES = [f"PUSH.S{n}" for n in range(20)]
OTHER = "PUSHED.NOT"
SNAPS = 50
WISH = {"patterns": ["PUSH.*"]}
PATIENCE = 90.0


@pytest.fixture(scope="module")
def system(twin: Twin) -> Twin:
    """A twin with the series that are pushed, and one that nobody asks for."""
    twin.register(
        rules=[rules_body(rules="push", precedence=["push-feed"])],
        sources=[source_body("push-feed")],
        series=[{**series_body(id_), "rules": "push"} for id_ in (*SERIES, OTHER)],
    )
    return twin


class Consumer:
    """Follows as ``qis watch`` does, in a thread, over connections that a test can cut."""

    def __init__(self, twin: Twin) -> None:
        self._twin = twin
        self._socket: Any = None
        self._ending = False
        self.events: list[dict[str, Any]] = []
        self.connections = 0
        self.watch = Watch(WISH)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Consumer:
        self._thread.start()
        until(lambda: self.watch.cursor is not None, "the subscription", PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self._ending = True
        self.cut()
        self._thread.join()

    def cut(self) -> None:
        """Break the connection without a word, as a network does."""
        with suppress(OSError):
            self._socket.socket.shutdown(sockets.SHUT_RDWR)

    def _run(self) -> None:
        try:
            with closing(follow(self.watch, self._open, self._lost, lambda _: None, random.random)) as events:
                self.events.extend(events)
        except InterruptedError:
            return

    def _lost(self, _: str) -> None:
        if self._ending:
            raise InterruptedError

    @contextmanager
    def _open(self) -> Iterator[Channel]:
        headers = {"Authorization": f"Bearer {self._twin.token('reader')}"}
        try:
            with connect(self._twin.state["push"], additional_headers=headers, proxy=None) as self._socket:
                self.connections += 1
                yield _Channel(self._socket)
        except (OSError, WebSocketException) as error:
            raise Lost(str(error)) from error


class _Channel:
    def __init__(self, socket: Any) -> None:
        self._socket = socket

    def send(self, message: str) -> None:
        self._socket.send(message)

    def receive(self) -> str:
        return str(self._socket.recv(PATIENCE))


def claims(series: list[str], first: int, count: int) -> list[dict[str, str]]:
    return [
        {
            "snap": f"2026-02-{1 + n // 24:02}T{n % 24:02}:00:00Z",
            "reference_data_id": id_,
            "source": "push-feed",
            "value": f"1.{i:02}{n:04}",
        }
        for n in range(first, first + count)
        for i, id_ in enumerate(series)
    ]


def published(twin: Twin, since: Position) -> list[dict[str, Any]]:
    """What went to the bus of the watched series, in the order of the log."""
    events = PostgresFollower(twin.connection, "test").read(since, 10**6, PUSHED)
    told = [json.loads(json.dumps(cloud_event(backbone_event(e)))) for e in events]
    return [e for e in told if e["subject"].startswith("PUSH.")]


def kill_realtime(twin: Twin) -> None:
    for pid in twin.refresh()["processes"]["functions"]["realtime"]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_amid_a_thousand_values_connections_and_processes_die_and_nothing_is_missing(system: Twin) -> None:
    with Consumer(system) as consumer:
        begun, total = consumer.watch.cursor, 0
        assert begun is not None
        for part in range(5):
            before = len(consumer.events)
            system.put_claims(claims([*SERIES, OTHER], part * 10, 10), f"push-{part}")
            total += 10 * len(SERIES)
            # The first of the part have arrived, the others are on their way.
            until(lambda: len(consumer.events) > before, f"values of part {part}", PATIENCE)  # noqa: B023
            if part % 2 == 0:
                kill_realtime(system)
            if part in (1, 2, 3):
                consumer.cut()
        until(lambda: len(consumer.events) >= total, f"all of {total} values", PATIENCE)
        assert consumer.connections >= 4
    assert total == 1000
    assert consumer.events == published(system, begun)


def test_who_has_no_token_of_ours_does_not_get_in(system: Twin) -> None:
    for headers in ({}, {"Authorization": "Bearer nonsense"}):
        given: Any = {"additional_headers": headers, "proxy": None}
        with pytest.raises(InvalidStatus) as refused, connect(system.state["push"], **given):
            pass
        assert refused.value.response.status_code == 401


def test_a_browser_gets_in_with_a_subprotocol(system: Twin) -> None:
    offered: Any = ["qis.v1", f"qis.bearer.{system.token('reader')}"]
    with connect(system.state["push"], subprotocols=offered, proxy=None) as socket:
        assert socket.subprotocol == "qis.v1"
        socket.send(json.dumps({"action": "subscribe", "id": "b", "series": ["NO.SUCH"]}))
        answer = json.loads(socket.recv(PATIENCE))
        assert (answer["kind"], answer["id"]) == ("problem", "b")
        assert answer["problem"]["violations"][0]["rule"] == "known-series"


def test_the_command_prints_values_as_they_come_and_goes_on_where_it_ended(system: Twin) -> None:
    basis = system.get("/api/v1/data/snapshot", ids=SERIES[0], snap="2026-03-01T00:00:00Z").headers[
        "Qis-Basis"
    ]
    system.put_claims(claims(SERIES[:1], 300, 2), "push-cli")
    command = [
        sys.executable,
        "-m",
        "qis",
        "watch",
        SERIES[0],
        "--from",
        basis,
        "--data-dir",
        str(system.dir),
    ]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("QIS_")} | {"COLUMNS": "80"}
    first = subprocess.run(
        [*command, "--limit", "1", "--json"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    (event,) = [json.loads(line) for line in first.stdout.splitlines()]
    assert event["data"]["value"] == "1.000300"
    cursor = first.stderr.decode().split("--from ")[1].split()[0]
    command[command.index(basis)] = cursor
    second = subprocess.run(
        [*command, "--limit", "1"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    assert second.stdout.decode() == "PUSH.S0  2026-02-13T13:00:00Z  1.000301  v1\n"
