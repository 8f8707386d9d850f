"""The twin as a whole lives and dies cleanly: no orphan, no lost data, no second one on a directory."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.state import twin_running
from tests.e2e.twin import STOP_PATIENCE, Twin
from tests.support.builders import EUR, claim_body, rules_body, series_body, source_body
from tests.support.waiting import gone, until


@pytest.fixture(scope="module")
def twin() -> Iterator[Twin]:
    """A twin that tests stop and start; each leaves it running."""
    one = Twin()
    try:
        one.start()
        one.register([rules_body(max_move=None)], [source_body()], [series_body()])
        yield one
    finally:
        one.close()


def ports(twin: Twin) -> list[int]:
    """Every port that the twin's processes listen on."""
    inodes = set()
    for pid in twin.pids():
        for descriptor in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208 - links to sockets are no paths
            try:
                target = os.readlink(f"/proc/{pid}/fd/{descriptor}")  # noqa: PTH115
            except FileNotFoundError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[9] in inodes:
            address, port = fields[1].split(":")
            assert address == "0100007F", f"port {int(port, 16)} is open beyond loopback"
            found.append(int(port, 16))
    return found


def closed(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def assert_gone(pids: list[int], listening: list[int]) -> None:
    until(lambda: all(gone(p) for p in pids), "every process to end", STOP_PATIENCE)
    assert all(closed(port) for port in listening)


def test_everything_listens_on_loopback_only(twin: Twin) -> None:
    assert len(ports(twin)) >= 4 + 7 - 1  # gateway, PostgreSQL, Valkey, AWS, and a runtime per function


def test_nothing_has_ended_at_rest(twin: Twin) -> None:
    assert not any(gone(pid) for pid in twin.pids())
    assert twin.http.get("/health").status_code == 200
    assert twin.http.get("/ready").status_code == 200


def test_a_clean_stop_leaves_no_process_and_no_port_and_a_restart_has_all_data(twin: Twin) -> None:
    body = claim_body(value="1.2345", snap="2026-02-02T10:00:00Z")
    assert twin.call("POST", f"/api/v1/data/reference/{EUR}/ingest", body).status_code == 202
    twin.drain()
    before = twin.official(EUR, "2026-02-02T10:00:00Z")
    assert before.status_code == 200, before.text
    messages = {q: twin.waiting(q) for q in twin.state["queues"]}
    assert messages["consumer-risk"] >= 1
    events = twin.one("SELECT count(*) FROM events")
    pids, listening = twin.pids(), ports(twin)

    assert twin.interrupt() == 0
    assert_gone(pids, listening)
    assert "Traceback" not in twin.log()
    assert twin_running(twin.dir) is None

    twin.start()
    assert twin.state["port"] in listening, "the API keeps its address"
    twin.drain()
    assert twin.official(EUR, "2026-02-02T10:00:00Z").content == before.content
    assert {q: twin.waiting(q) for q in twin.state["queues"]} == messages, "nothing is delivered twice"
    assert twin.one("SELECT count(*) FROM events") == events


def test_records_put_while_functions_are_away_are_processed_after_a_restart(twin: Twin) -> None:
    twin.put_claims([claim_body(snap=f"2026-03-02T10:{m:02d}:00Z") for m in range(50)], "before-stop")
    assert twin.interrupt() == 0
    twin.start()
    assert twin.accounted("before-stop", 50) == {"accepted": 50, "duplicates": 0, "rejected": 0}


def test_kill_9_of_the_supervisor_leaves_no_orphan_and_its_stale_description_no_harm(twin: Twin) -> None:
    pids, listening = twin.pids(), ports(twin)
    twin.kill()
    assert_gone(pids, listening)
    assert (twin.dir / "twin.json").exists()
    assert twin_running(twin.dir) is None
    twin.start()
    assert twin.http.get("/ready").status_code == 200


def test_postgresql_killed_is_back_with_all_data(twin: Twin) -> None:
    body = claim_body(value="1.3", snap="2026-04-01T10:00:00Z")
    assert twin.call("POST", f"/api/v1/data/reference/{EUR}/ingest", body).status_code == 202
    events = twin.one("SELECT count(*) FROM events WHERE type = 'DataIngested'")
    killed = twin.refresh()["processes"]["postgres"]
    os.kill(killed, signal.SIGKILL)
    until(lambda: twin.refresh()["processes"]["postgres"] != killed, "another PostgreSQL")
    until(lambda: twin.http.get("/ready").status_code == 200, "the API to be ready again")
    assert twin.one("SELECT count(*) FROM events WHERE type = 'DataIngested'") == events
    after = claim_body(value="1.31", snap="2026-04-02T10:00:00Z")
    assert twin.call("POST", f"/api/v1/data/reference/{EUR}/ingest", after).status_code == 202
    twin.drain()
    assert json.loads(twin.official(EUR, "2026-04-02T10:00:00Z").content)["value"] == "1.31"
