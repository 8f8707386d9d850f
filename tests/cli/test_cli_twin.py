"""The twin from the command line: found by its lock, started, used by two people, stopped."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_system import RunCli

from local.processes import wait_until
from local.state import twin_running
from qis.cli import twin
from qis.cli.bundle import Loaded, Standing
from qis.cli.rest import Reply
from qis.cli.session import Session, default_data_dir, login_name

STATE = {"pid": os.getpid(), "api": "http://127.0.0.1:9", "issuer": "i", "audience": "a"}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A data directory that the command line uses."""
    monkeypatch.delenv("QIS_URL", raising=False)
    monkeypatch.setenv("QIS_DATA_DIR", str(tmp_path))
    return tmp_path


class TestRunning:
    def test_only_a_locked_directory_has_a_running_twin(self, here: Path) -> None:
        assert twin_running(here) is None
        (here / "twin.json").write_text(json.dumps(STATE))
        assert twin_running(here) is None
        with (here / "lock").open("w") as held:
            assert twin_running(here) is None
            fcntl.flock(held, fcntl.LOCK_EX)
            assert twin_running(here) == STATE
        assert twin_running(here) is None

    def test_a_data_directory_that_is_a_file(self, here: Path, run_cli: RunCli) -> None:
        (file := here / "file").write_text("")
        assert run_cli("status", "--data-dir", str(file), "--json").document["running"] is False
        for how in ((), ("--detach",)):
            done = run_cli("up", "--data-dir", str(file), "--json", *how)
            assert (done.status, done.document["detail"]) == (1, f"{file}: File exists")

    def test_a_disk_that_is_nearly_full(
        self, here: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("local.supervisor.DISK_FLOOR", 10**18)
        done = run_cli("up", "--json")
        assert done.status == 1
        assert done.document["detail"].endswith("MB of disk left, less than 1000000000000 MB")
        assert run_cli("status", "--json").document["running"] is False

    def test_hints_name_the_directory_that_is_not_the_usual_one(self, tmp_path: Path) -> None:
        where = tmp_path / "a b"
        assert Session(False, None, where, {}).chosen_by_option == f" --data-dir '{where}'"
        assert Session(False, None, default_data_dir(), {}).chosen_by_option == ""

    def test_nothing_runs(self, here: Path, run_cli: RunCli) -> None:
        done = run_cli("status", "--json")
        assert (done.status, done.document["running"]) == (1, False)
        assert (run_cli("down", "--json").document) == {"stopped": False}
        assert run_cli("status").status == 1

    def test_a_second_start_is_refused(
        self, here: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("qis.cli.rest.send", lambda _: Reply(503, b"{}"))
        (here / "twin.json").write_text(json.dumps(STATE))
        with (here / "lock").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            done = run_cli("up", "--json")
            assert (done.status, done.document["type"]) == (1, "urn:qis:problem:already-running")
            assert run_cli("status", "--json").document["ready"] is False


def test_who_acts(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Session(False, "bob", None, {}).subject == "bob"
    monkeypatch.setenv("LOGNAME", "ann")
    assert Session(False, None, None, {}).subject == "operator:ann"

    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert login_name() == f"uid-{os.getuid()}"


def test_a_file_is_as_expected_only_if_every_row_is_accounted_for() -> None:
    expected = {"accepted": 8, "rejected": 1, "duplicate": 1}
    assert Loaded("f", "l", 10, 8, 1, 1, expected).as_expected
    assert not Loaded("f", "l", 11, 8, 1, 1, expected).as_expected
    assert not Loaded("f", "l", 10, 9, 1, 0, expected).as_expected


def test_a_summary_says_where_the_manifest_differs(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    expected = {"accepted": 2, "rejected": 0, "duplicate": 0}
    loaded = Loaded("f.csv", "l", 2, 1, 1, 0, expected)
    queues = {"consumer-strategy": 1, "consumer-risk": 1, "consumer-analytics": 1, "ingest-dlq": 1}
    standing = Standing(1, 1, 1, queues)
    summary: dict[str, Any] = {
        **{k: f"the {k}" for k in ("api", "aws", "postgres")},
        "files": [{"file": loaded.file, "rows": 2, "accepted": 1, "rejected": 1, "duplicates": 0}],
        "official_values": standing.official_values,
        "open_exceptions": standing.open_exceptions,
        "queues": standing.queues,
        "exception": {
            "reference_data_id": "X",
            "snap": "S",
            "reason": "moves [8]",
            "explain": "qis explain X --snap S --data-dir 'a b'",
        },
        "commands": ["qis official X --snap S"],
        "seconds_to_ready": 1.0,
        "seconds": 2.0,
    }
    summary["files"][0] |= {"as_expected": loaded.as_expected, "expected": expected}
    twin._show(Session(False, None, here, {}).out, summary)
    said = capsys.readouterr().out
    for part in (
        "✗ expected",
        "moves [8]",
        "qis explain X --snap S --data-dir 'a b'",
        "ingest-dlq 1",
        'psql "the postgres"',
    ):
        assert part in said


def test_the_value_next_to_a_value() -> None:
    assert str(twin._next_to("1.1234")) == "1.1235"
    assert str(twin._next_to("7")) == "8"


# the real twin -----------------------------------------------------------------------------------

SERIES = {
    "reference_data_id": "TEST.PRICE",
    "name": "A price for a test",
    "kind": "price",
    "rules": "simple",
    "semantics": {
        "price_type": "close",
        "currency": "USD",
        "snap_time": "16:00",
        "snap_zone": "America/New_York",
        "timing": "point_in_time",
    },
}
RULES = (
    *("rules=simple", "method=precedence", 'precedence=["acme"]'),
    *("tolerance=0.01", "min_sources=1", "fallback=hold"),
)
SOURCE = ("source=acme", "name=Acme", "kind=vendor", "licence=none")


Qis = Callable[..., Any]


@pytest.fixture
def qis(parts_dir: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> Iterator[Qis]:
    """The document of a command to a twin that this test started."""
    monkeypatch.delenv("QIS_URL", raising=False)
    monkeypatch.setenv("QIS_DATA_DIR", str(parts_dir / "cli-twin"))

    def run(*arguments: str, status: int = 0) -> Any:
        done = run_cli(*arguments, "--json")
        assert done.status == status, done.err
        return done.document

    try:
        run("up", "--empty", "--detach")
        yield run
    finally:
        run("down")


def assignments(pairs: tuple[str, ...]) -> list[str]:
    return [part for pair in pairs for part in ("--set", pair)]


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.xdist_group("twin")
def test_a_claim_s_way_by_commands_alone(qis: Qis, tmp_path: Path) -> None:
    series = tmp_path / "series.json"
    series.write_text(json.dumps(SERIES))
    qis("rules", "add", *assignments(RULES))
    qis("sources", "add", *assignments(SOURCE))
    qis("series", "add", "--file", str(series))

    claims = tmp_path / "claims.csv"
    claims.write_text("Date,Close\n2024-01-04,10.0\n2024-01-05,10.10\n2024-01-08,NaN\n")
    mapping = tmp_path / "m.json"
    mapping.write_text('{"columns": {"Date": "snap", "Close": "value"}, "constants": {"currency": "USD"}}')
    load = ("ingest", str(claims), "--mapping", str(mapping), "--source", "acme", "--series", "TEST.PRICE")
    first, second = qis(*load), qis(*load)
    assert (first["accepted"], first["rejected"], first["duplicates"]) == (2, 1, 0)
    assert (second["accepted"], second["rejected"], second["duplicates"]) == (0, 1, 2)
    assert "3,value,NaN,finite" in Path(first["errors"]).read_text()

    at = ("TEST.PRICE", "--snap", "2024-01-05")

    def published() -> bool:
        span = ("--from", "2024-01-01", "--to", "2024-02-01")
        return len(qis("history", "TEST.PRICE", *span)["items"]) == 2

    wait_until(published, "two official values", 30, every=0.2)
    before = qis("official", *at)
    assert before["value"] == "10.10"

    held = qis("restate", *at, "--value", "10.20", "--reason", "typing error", "--as", "ann")
    assert [e["type"] for e in held["events"]] == ["DataRestated"]
    assert qis("official", *at)["version"] == 2
    assert qis("official", *at, "--as-of", before["recorded_from"])["value"] == "10.10"
    assert [v["value"] for v in qis("explain", *at)["versions"]] == ["10.10", "10.20"]

    assert qis("rebuild", "official_values", "--check")["equal"] is True
    assert qis("rebuild", "nonsense", status=1)["type"] == "urn:qis:problem:not-found"
    letters = qis("redrive", "ingest-dlq", "--dry-run")
    assert letters["reasons"] == {"value: finite": 2}
    assert qis("migrate") == {"applied": []}
    status = qis("status")
    keys = ("api", "console", "aws", "region", "postgres", "valkey", "kafka", "streams", "bus", "buckets")
    assert status["ready"] is True
    assert set(keys) <= status.keys()
    assert qis("down")["stopped"] is True
    assert qis("status", status=1)["running"] is False
