"""A remote system in memory, and the command line run in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_system import Run, RunCli, System

from qis.cli import main


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> System:
    """The system that QIS_URL and QIS_TOKEN name."""
    made = System()
    monkeypatch.setattr("qis.cli.rest.send", made.send)
    monkeypatch.setenv("QIS_URL", "https://qis.example/live")
    monkeypatch.setenv("QIS_TOKEN", "a-token")
    monkeypatch.setenv("QIS_DATA_DIR", str(tmp_path / "twin"))
    return made


@pytest.fixture
def run_cli(capsys: pytest.CaptureFixture[str]) -> RunCli:
    """Run a command line; its status and what it wrote."""

    def run(*arguments: str) -> Run:
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        said = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return Run(end.value.code, said.out, said.err)

    return run
