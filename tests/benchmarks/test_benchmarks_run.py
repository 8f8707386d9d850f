"""Each benchmark runs and gives the document of the public interface. Its figures are not looked at."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from benchmarks import parts
from benchmarks.common import Options, paired_ratio, percentiles
from local.aws import AwsServer
from local.postgres import PostgresServer
from qis.adapters.postgres.connection import Database
from qis.domain.errors import InvalidInput, NotFound

COLUMNS = {"metric", "value", "unit", "baseline", "baseline_value", "ratio", "n", "p50", "p95", "p99"}


@pytest.fixture
def handlers_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Handlers keep their connections for the life of their process; here that is the test."""
    opened: list[Database] = []
    handler = parts.handler

    def made(*given: Any) -> Database:
        opened.append(Database(*given))
        return opened[-1]

    def ending(name: str) -> Any:
        found = handler(name)
        monkeypatch.setattr(sys.modules[f"lambdas.{name}.handler"], "Database", made)
        return found

    monkeypatch.setattr(parts, "handler", ending)
    yield
    for database in opened:
        database.close()


@pytest.mark.integration
@pytest.mark.usefixtures("handlers_end")
@pytest.mark.parametrize(
    "name",
    [
        "ingest",
        "events",
        "reconcile",
        "asof",
        "query",
        "history",
        "maintenance",
        "memory",
        "coldstart",
        "synth",
    ],
)
def test_a_quick_run_gives_the_document_of_the_interface(
    name: str, postgres: PostgresServer, aws: AwsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The servers of the tests, which are there already, in place of new ones.
    monkeypatch.setattr(parts, "postgres", lambda *_: nullcontext(parts.Postgres(postgres, quick=True)))
    monkeypatch.setattr(parts, "aws", lambda *_: nullcontext(aws))
    # A handler that another test imported was made with that test's variables.
    for module in [m for m in sys.modules if m.startswith("lambdas.")]:
        monkeypatch.delitem(sys.modules, module)
    document = import_module(f"benchmarks.{name}").run({"quick": "true"})
    assert document["name"] == name
    assert {"cpu", "cores", "memory_mb", "kernel", "fsync"} <= document["machine"].keys()
    assert {"python", "postgres", "packages"} <= document["versions"].keys()
    assert document["results"]
    for result in document["results"]:
        assert result.keys() == COLUMNS
        assert result["value"] > 0
        assert result["baseline"]
        assert result["baseline_value"] > 0
        assert result["ratio"] > 0
    assert json.loads(json.dumps(document)) == document


def test_detection_runs_on_the_bundled_data() -> None:
    document = import_module("benchmarks.detection").run({"quick": "true"})
    assert {r["metric"] for r in document["results"]} >= {"T1 F1", "T1 false alarms", "T5 one series"}
    assert all(result.keys() == COLUMNS for result in document["results"])
    assert document["seeds"]
    assert json.loads(json.dumps(document)) == document


def test_detection_needs_the_directory_it_is_given(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        import_module("benchmarks.detection").run({"quick": "true", "data": str(tmp_path)})


def test_latency_needs_a_running_twin(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        import_module("benchmarks.latency").run({"quick": "true", "data": str(tmp_path)})


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(InvalidInput, match="is not an option"):
        Options.of({"fast": "true"})


def test_quick_is_yes_or_no() -> None:
    assert Options.of({"quick": True}).quick
    assert not Options.of({"quick": "false"}).quick
    with pytest.raises(InvalidInput):
        Options.of({"quick": "perhaps"})


def test_percentiles_are_by_nearest_rank() -> None:
    assert percentiles([3.0, 1.0, 2.0]) == (2.0, 3.0, 3.0)
    assert percentiles([float(n) for n in range(1, 101)]) == (50.0, 95.0, 99.0)


def test_a_ratio_is_the_median_of_its_pairs() -> None:
    assert paired_ratio([1.0, 10.0, 3.0], [1.0, 20.0, 1.0]) == 1.0
