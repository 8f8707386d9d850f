"""Official values into files and back, with every digit."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from cli_system import RESTATED, RunCli, System, official
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import ipc, parquet

from qis.cli import export
from qis.cli.failures import Failure
from qis.domain.numbers import decimal_text

PAGES = [
    [
        official("2026-01-05T13:15:00Z", "1.10"),
        official("2026-01-06T13:15:00.000000001Z", "-0.000000000000000001"),
    ],
    [],
    [official("2026-01-07T13:15:00Z", "12345678901234567890.123456789012345678", **RESTATED)],
]


def read(file: Path) -> pa.Table:
    return parquet.read_table(file) if file.suffix == ".parquet" else ipc.open_file(file).read_all()


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow"])
def test_columns_keep_exact_decimals_and_nanoseconds(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    assert export.write(file, PAGES) == 3
    table = read(file)
    values = [v for page in PAGES for v in page]
    assert [Decimal(v["value"]) for v in values] == table["value"].to_pylist()
    assert table["snap"].cast(pa.int64()).to_pylist()[1] % 1_000_000_000 == 1
    assert table["recorded_from"].to_pylist()[0] == datetime(2026, 1, 6, 9, 0, 0, 123456, tzinfo=UTC)
    assert table["sources"].to_pylist()[0] == ["ecb", "acme"]
    assert table["timeliness"].to_pylist() == [None] * 3
    assert table["value_before"].to_pylist() == [None, None, Decimal("1.10")]
    assert table["restatement_reason"].to_pylist()[2] == "typing error, [sic]"
    assert table["restated_by"].to_pylist()[2] == "ann"


def test_csv_has_one_heading_and_the_digits_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    assert export.write(file, PAGES) == 3
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [r["value"] for r in rows] == [v["value"] for page in PAGES for v in page]
    assert rows[0]["sources"] == "ecb;acme"


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "x.csv"])
def test_a_record_is_kept_as_json_beside_the_numbers(tmp_path: Path, name: str) -> None:
    document = {"nodes": [{"tenor": "3M", "value": "4.10"}]}
    before = {**RESTATED["restatement"], "before": {"value": "record:0f", "official_version": 1}}
    number = official("2026-01-05T13:15:00Z", "1.10")
    record = {**number, **RESTATED, "value": document, "restatement": before}
    file = tmp_path / name
    assert export.write(file, [[number, record]]) == 2
    if name == "x.csv":
        with file.open(newline="") as lines:
            assert json.loads(list(csv.DictReader(lines))[1]["value"]) == document
        return
    table = read(file)
    assert table["value"].to_pylist() == [Decimal("1.10"), None]
    assert table["record"].to_pylist()[0] is None
    assert json.loads(table["record"].to_pylist()[1]) == document
    assert table["value_before"].to_pylist() == [None, None]


@given(
    number=st.decimals(
        allow_nan=False, allow_infinity=False, places=18, min_value=-(10**20) + 1, max_value=10**20 - 1
    )
)
def test_any_value_that_a_claim_may_have_up_to_20_digits_before_the_point(number: Decimal) -> None:
    value = official("2026-01-05T13:15:00Z", decimal_text(number))
    batch = export._batch([value], export._schema())
    assert batch["value"].to_pylist() == [number]


def test_a_value_that_does_not_fit_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    with pytest.raises(Failure, match="38 digits"):
        export.write(file, [[official("2026-01-05T13:15:00Z", "1" * 38)]])
    assert list(tmp_path.iterdir()) == []
    assert export.write(tmp_path / "x.csv", [[official("2026-01-05T13:15:00Z", "1" * 38)]]) == 1


def test_a_failed_export_leaves_the_earlier_file(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("before")

    def broken():
        yield []
        raise RuntimeError("the system went away")

    with pytest.raises(RuntimeError):
        export.write(file, broken())
    assert [p.name for p in tmp_path.iterdir()] == ["x.csv"]
    assert file.read_text() == "before"


def test_a_file_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    file = tmp_path / "absent" / "x.csv"
    with pytest.raises(Failure) as refusal:
        export.write(file, PAGES)
    assert str(refusal.value) == f"{file}: No such file or directory"


def test_by_command(system: System, run_cli: RunCli, tmp_path: Path) -> None:
    system.on("GET", "/api/v1/data/reference/X/historical", {"items": PAGES[0], "next": None})
    file = tmp_path / "X.PARQUET"
    done = run_cli("history", "X", "--from", "a", "--to", "b", "--out", str(file), "--json")
    assert done.document == {"reference_data_id": "X", "rows": 2, "file": str(file)}
    assert parquet.read_table(file).num_rows == 2
