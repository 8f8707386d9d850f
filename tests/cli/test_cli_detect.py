"""``qis detect``: a file of claims in, one row for each finding out, without a server."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest
from pyarrow import parquet

from tests.cli.cli_system import RunCli
from tests.support import records

HEADER = "snap,reference_data_id,source,value,volume"


def claims(tmp_path: Path, *more: str, header: str = HEADER) -> Path:
    """A hundred days of two sources; on day 80 one of them slips by a power of ten."""
    numbers = random.Random(1)
    value, lines = 100.0, [header]
    for n in range(100):
        value *= 1 + numbers.gauss(0, 0.01)
        day = f"2024-{1 + n // 28:02d}-{1 + n % 28:02d}"
        wrong = 10 if n == 80 else 1
        lines.append(f"{day},X,alpha,{value * wrong:.4f},{100 + n % 7}")
        lines.append(f"{day},X,beta,{value * 1.0003:.4f},")
    file = tmp_path / "claims.csv"
    file.write_text("\n".join([*lines, *more]) + "\n", encoding="utf-8")
    return file


def test_findings_are_rows_of_the_documented_columns(run_cli: RunCli, tmp_path: Path) -> None:
    out = tmp_path / "found.csv"
    run = run_cli("detect", str(claims(tmp_path)), "--out", str(out), "--json")
    assert run.status == 0
    with out.open(encoding="utf-8") as file:
        reader = csv.DictReader(file)
        assert reader.fieldnames is not None
        assert reader.fieldnames[:6] == ["snap", "reference_data_id", "source", "kind", "score", "action"]
        rows = [r for r in reader if r["kind"] != "missing"]
    assert [(r["snap"], r["source"], r["kind"], r["action"]) for r in rows] == [
        ("2024-03-25", "alpha", "decimal_shift", "repair-proposed")
    ]
    assert float(rows[0]["score"]) > 0.5
    assert rows[0]["since"] == "2024-03-25"
    assert run.document["kinds"]["decimal_shift"] == 1
    assert run.document["rows"] == 200


def test_parquet_has_the_same_rows(run_cli: RunCli, tmp_path: Path) -> None:
    file = claims(tmp_path)
    for name in ("f.csv", "f.parquet"):
        assert run_cli("detect", str(file), "--out", str(tmp_path / name)).status == 0
    table = parquet.read_table(tmp_path / "f.parquet").to_pylist()
    with (tmp_path / "f.csv").open(encoding="utf-8") as text:
        rows = [{**r, "score": float(r["score"])} for r in csv.DictReader(text)]
    assert table == rows


def test_rows_that_cannot_be_judged_are_told_and_the_rest_is_judged(run_cli: RunCli, tmp_path: Path) -> None:
    broken = [
        "2024-05-01,X,alpha,NaN,",
        "2024-05-01,X,,1,",
        "soon,X,alpha,1,",
        "2024-05-01T10:00:00,X,beta,1,",
    ]
    out = tmp_path / "found.csv"
    run = run_cli("detect", str(claims(tmp_path, *broken)), "--out", str(out), "--json")
    assert run.status == 1
    assert run.document["unreadable"] == 4
    assert run.document["kinds"]["decimal_shift"] == 1
    assert "row 201" in run.err


def test_thresholds_come_from_a_file(run_cli: RunCli, tmp_path: Path) -> None:
    thresholds = tmp_path / "rules.json"
    thresholds.write_text(json.dumps({"rules": "lax", "version": 2, "jump": 1e6, "peer_jump": 1e6}))
    arguments = ("detect", str(claims(tmp_path)), "--out", str(tmp_path / "f.csv"), "--json")
    run = run_cli(*arguments, "--rules", str(thresholds))
    assert run.document["rules"] == "lax/2"
    assert "decimal_shift" not in run.document["kinds"]


@pytest.mark.parametrize("body", ['{"rules": "r", "version": 1, "jmup": 1}', "[", "3"])
def test_thresholds_that_are_none_are_refused(run_cli: RunCli, tmp_path: Path, body: str) -> None:
    thresholds = tmp_path / "rules.json"
    thresholds.write_text(body)
    out = tmp_path / "f.csv"
    run = run_cli("detect", str(claims(tmp_path)), "--out", str(out), "--rules", str(thresholds))
    assert run.status == 1
    assert not out.exists()


def test_the_name_of_the_output_says_its_format(run_cli: RunCli, tmp_path: Path) -> None:
    assert run_cli("detect", str(claims(tmp_path)), "--out", str(tmp_path / "f.txt")).status == 1


def test_order_twice_and_crossed_quotes(run_cli: RunCli, tmp_path: Path) -> None:
    rows = ["snap,reference_data_id,source,value,attribute"]
    for n in range(1, 29):
        rows += [f"2024-01-{n:02d},Q,a,{100 + n % 3}.{n},bid", f"2024-01-{n:02d},Q,a,{103 + n % 3}.{n},ask"]
    rows += ["2024-01-29,Q,a,107,bid", "2024-01-29,Q,a,106,ask", "2024-01-29,Q,a,106,ask"]
    rows += ["2024-01-12,Q,a,100.5,bid"]
    file, out = tmp_path / "q.csv", tmp_path / "f.csv"
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert run_cli("detect", str(file), "--out", str(out)).status == 0
    with out.open(encoding="utf-8") as text:
        kinds = {(r["snap"], r["attribute"], r["kind"]) for r in csv.DictReader(text)}
    assert {
        ("2024-01-29", "bid", "crossed_quotes"),
        ("2024-01-29", "ask", "duplicate"),
        ("2024-01-12", "bid", "out_of_order"),
    } <= kinds


def test_chains_and_actions_are_judged_by_their_definitions(run_cli: RunCli, tmp_path: Path) -> None:
    """A split without an event, a chain whose calls are too dear, one that is crossed, one that is none."""
    definitions, chain = tmp_path / "series.json", records.chain()
    price = records.series_body(records.ACTION)
    price = {
        **price,
        "reference_data_id": "X",
        "kind": "price",
        "semantics": {**price["semantics"], "currency": "USD"},
    }
    del price["record"]
    given = [records.series_body(records.CHAIN), records.series_body(records.ACTION, prices=["X"]), price]
    definitions.write_text(json.dumps(given), encoding="utf-8")
    dear, crossed = json.loads(json.dumps(chain)), json.loads(json.dumps(chain))
    for contract in dear["contracts"][::2]:
        contract["bid"], contract["ask"] = (f"{float(contract[k]) + 3:.2f}" for k in ("bid", "ask"))
    crossed["contracts"][0]["bid"] = "9.00"
    file, out = tmp_path / "claims.jsonl", tmp_path / "found.csv"
    numbers = random.Random(1)
    rows = [
        {
            "snap": f"2025-{1 + n // 28:02d}-{1 + n % 28:02d}T21:00:00Z",
            "reference_data_id": "X",
            "source": "alpha",
            "value": f"{(100 if n < 90 else 50) * (1 + numbers.gauss(0, 0.005)):.2f}",
        }
        for n in range(100)
    ]
    rows += [records.record_body(records.CHAIN, s, c) for s, c in (("alpha", dear), ("beta", crossed))]
    rows += [
        records.record_body(records.CHAIN, "gamma", chain),
        records.record_body(records.CHAIN, "delta", {}),
    ]
    rows += [records.record_body(records.ACTION, "alpha", records.dividend())]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = run_cli("detect", str(file), "--out", str(out), "--series", str(definitions), "--json")
    assert run.status == 1, "a row is no chain at all"
    assert run.document["unreadable"] == 1
    with out.open(encoding="utf-8") as text:
        found = {
            (r["kind"], r["source"], r["action"]) for r in csv.DictReader(text) if r["kind"] != "missing"
        }
    assert found == {
        ("spike", "alpha", "quarantine"),
        ("undeclared_split", "alpha", "flag"),
        ("put_call_parity", "alpha", "quarantine"),
        ("crossed_quotes", "beta", "quarantine"),
    }


@pytest.mark.parametrize(
    ("declared", "peers"), [(False, {"beta", "delta", "epsilon", "gamma"}), (True, {"beta", "epsilon"})]
)
def test_sources_of_two_currencies_are_not_compared(
    run_cli: RunCli, tmp_path: Path, declared: bool, peers: set[str]
) -> None:
    numbers, rows = random.Random(1), ["snap,reference_data_id,source,value,currency"]
    value = 100.0
    for n in range(100):
        value *= 1 + numbers.gauss(0, 0.01)
        for source, rate, currency in (
            ("alpha", 1.5 if n == 80 else 1, "USD"),
            ("beta", 1.0001, "USD"),
            ("epsilon", 1.0002, "USD"),
            ("delta", 1.0002, "EUR"),
            ("gamma", 1.0003, "EUR"),
        ):
            named = currency if declared else ""
            rows.append(f"2024-{1 + n // 28:02d}-{1 + n % 28:02d},X,{source},{value * rate:.4f},{named}")
    file, out = tmp_path / "claims.csv", tmp_path / "out.csv"
    file.write_text("\n".join(rows) + "\n")
    assert run_cli("detect", str(file), "--out", str(out)).status == 0
    with out.open(encoding="utf-8") as text:
        found = [r for r in csv.DictReader(text) if r["source"] == "alpha" and r["peers"]]
    assert found
    assert {peer for r in found for peer in r["peers"].split()} == peers
