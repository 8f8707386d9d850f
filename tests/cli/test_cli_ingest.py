"""Loading a file: every row sent once or more, each accounted for once, and told row by row."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cli_system import Loads, RunCli, System

from qis.cli.claims_file import Row
from qis.cli.failures import Failure
from qis.cli.feed import Account, StreamSender, follow, send_all
from qis.cli.refusals import Refusals
from qis.cli.rest import Api
from qis.domain.errors import Violation

HEADER = "snap,reference_data_id,source,value\n"


def claims_file(tmp_path: Path, lines: Sequence[str]) -> Path:
    file = tmp_path / "claims.csv"
    file.write_text(HEADER + "".join(f"{line}\n" for line in lines))
    return file


def report(file: Path) -> list[dict[str, str]]:
    with Path(f"{file}.errors.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


class TestCommand:
    def test_rows_are_accepted_refused_and_repeated(
        self, system: System, run_cli: RunCli, tmp_path: Path
    ) -> None:
        loads = Loads(system)
        lines = [f"2026-01-05,X,ecb,{i}" for i in range(1200)]
        lines[3], lines[7], lines[9] = "2026-01-05,X,ecb,bad", "2026-01-05,X", lines[0]
        file = claims_file(tmp_path, lines)
        done = run_cli("ingest", str(file), "--json")
        assert done.status == 0
        counts = {k: done.document[k] for k in ("rows", "accepted", "rejected", "duplicates")}
        assert counts == {"rows": 1200, "accepted": 1197, "rejected": 2, "duplicates": 1}
        assert len(loads.records) == 1200
        assert done.document["errors"] == f"{file}.errors.csv"
        assert [(e["row"], e["field"], e["value"], e["rule"]) for e in report(file)] == [
            ("4", "value", "bad", "decimal"),
            ("8", "row", "2026-01-05,X", "columns"),
        ]
        batches = [len(a.body["claims"]) for a in system.asked if a.method == "POST"]
        assert batches == [500, 500, 200]

    def test_the_same_file_twice_changes_nothing(
        self, system: System, run_cli: RunCli, tmp_path: Path
    ) -> None:
        Loads(system)
        file = claims_file(tmp_path, [f"2026-01-05,X,ecb,{i}" for i in range(10)])
        first = run_cli("ingest", str(file), "--json").document
        second = run_cli("ingest", str(file), "--json").document
        assert (first["accepted"], first["duplicates"]) == (10, 0)
        assert (second["accepted"], second["duplicates"]) == (0, 10)
        assert first["load"] != second["load"]

    def test_a_clean_run_takes_an_older_report_away(
        self, system: System, run_cli: RunCli, tmp_path: Path
    ) -> None:
        Loads(system)
        file = claims_file(tmp_path, ["2026-01-05,X,ecb,1"])
        old = Path(f"{file}.errors.csv")
        old.write_text("old")
        assert run_cli("ingest", str(file), "--json").document["errors"] is None
        assert not old.exists()

    def test_options_and_mapping_fill_in(self, system: System, run_cli: RunCli, tmp_path: Path) -> None:
        loads = Loads(system)
        file, mapping = tmp_path / "prices.csv", tmp_path / "m.json"
        file.write_text("Date,Close\n2026-01-05,1.10\n")
        mapping.write_text(json.dumps({"columns": {"Date": "snap", "Close": "value"}}))
        done = run_cli("ingest", str(file), "--source", "acme", "--series", "X", "--mapping", str(mapping))
        assert done.status == 0
        (record,) = loads.records.values()
        fields = {k: record[k] for k in ("snap", "reference_data_id", "source", "value")}
        assert fields == {"snap": "2026-01-05", "reference_data_id": "X", "source": "acme", "value": "1.10"}
        assert "accepted 1" in done.out

    def test_a_column_that_no_claim_has_is_said(
        self, system: System, run_cli: RunCli, tmp_path: Path
    ) -> None:
        Loads(system)
        file = tmp_path / "c.csv"
        file.write_text("snap,reference_data_id,source,value,colour\n2026-01-05,X,ecb,1,red\n")
        assert "not fields of a claim: colour" in run_cli("ingest", str(file)).err

    def test_a_file_without_the_columns_of_a_claim_is_refused_whole(
        self, system: System, run_cli: RunCli, tmp_path: Path
    ) -> None:
        file = tmp_path / "c.csv"
        file.write_text("snap;reference_data_id;source;value\n2026-01-05;X;ecb;1\n")
        done = run_cli("ingest", str(file), "--json")
        assert (done.status, done.document["violations"][0]["rule"]) == (1, "required-column")
        assert "cut off" not in done.err
        assert system.asked == []

    def test_a_load_that_is_cut_off_says_what_stays(
        self, system: System, run_cli: RunCli, tmp_path: Path
    ) -> None:
        loads = Loads(system)
        file = tmp_path / "c.csv.gz"
        packed = gzip.compress((HEADER + "2026-01-05,X,ecb,1\n" * 600).encode())
        file.write_bytes(packed[:-10])
        done = run_cli("ingest", str(file), "--json")
        assert (done.status, done.document["type"]) == (1, "urn:qis:problem:unreadable")
        (load,) = {record["correlation_id"] for record in loads.records.values()}
        assert f"what was sent stays, as load {load}" in done.err

    def test_a_header_alone_is_a_load_of_nothing(
        self, system: System, run_cli: RunCli, tmp_path: Path
    ) -> None:
        done = run_cli("ingest", str(claims_file(tmp_path, [])), "--json")
        assert (done.status, done.document["rows"], system.asked) == (0, 0, [])

    @pytest.mark.parametrize("name", ["c.csv", "c.jsonl", "c.parquet"])
    def test_a_file_without_a_byte_is_no_success(
        self, system: System, run_cli: RunCli, tmp_path: Path, name: str
    ) -> None:
        (tmp_path / name).touch()
        done = run_cli("ingest", str(tmp_path / name), "--json")
        assert (done.status, done.document["type"]) == (1, "urn:qis:problem:empty")
        assert "cut off" not in done.err
        assert system.asked == []

    def test_a_load_of_which_every_row_is_refused_says_why_and_what_mends_it(
        self, system: System, run_cli: RunCli, tmp_path: Path
    ) -> None:
        Loads(system)
        file = claims_file(tmp_path, ["2026-01-05,X,ecb,bad"] * 3 + ["2026-01-05,X"])
        done = run_cli("ingest", str(file))
        assert done.status == 1
        said = " ".join(done.out.split())
        assert "3 value decimal" in said
        assert '--mapping with "decimal"' in said
        assert "4 row 2026-01-05,X columns" in said
        document = run_cli("ingest", str(file), "--json").document
        assert [(r["field"], r["rule"], r["rows"], r["first_row"]) for r in document["reasons"]] == [
            ("value", "decimal", 3, 1),
            ("row", "columns", 1, 4),
        ]
        assert document["reasons"][0]["remedy"]

    def test_where_some_rows_are_taken_it_is_a_success_that_says_why_the_others_are_not(
        self, system: System, run_cli: RunCli, tmp_path: Path
    ) -> None:
        Loads(system)
        file = claims_file(tmp_path, ["2026-01-05,X,ecb,1", "2026-01-05,X,ecb,bad"])
        done = run_cli("ingest", str(file))
        assert done.status == 0
        assert "decimal" in done.out
        repeated = claims_file(tmp_path, ["2026-01-05,X,ecb,1"] * 2)
        assert run_cli("ingest", str(repeated)).status == 0, "duplicates are known, not refused"

    def test_what_was_cut_off_before_anything_was_sent_says_nothing_of_what_stays(
        self, system: System, run_cli: RunCli, tmp_path: Path
    ) -> None:
        damaged = tmp_path / "c.csv.gz"
        damaged.write_bytes(gzip.compress((HEADER + "2026-01-05,X,ecb,1\n").encode())[:25])
        broken = tmp_path / "c.parquet"
        broken.write_bytes(b"PAR1 not really")
        for file in (damaged, broken, claims_file(tmp_path, ["2026-01-05,X,ecb,1"])):
            done = run_cli("ingest", str(file), "--json")  # the last: the system takes nothing
            assert done.status == 1
            assert "cut off" not in done.err

    def test_half_a_character_is_one_refused_row(
        self, system: System, run_cli: RunCli, tmp_path: Path
    ) -> None:
        Loads(system)
        file = tmp_path / "c.jsonl"
        good = {"snap": "2026-01-05", "reference_data_id": "X", "source": "ecb", "value": "1"}
        file.write_text("\n".join(map(json.dumps, [{**good, "reference_data_id": "A\ud83d"}, good])))
        done = run_cli("ingest", str(file), "--json")
        assert (done.status, done.document["accepted"], done.document["rejected"]) == (0, 1, 1)
        assert [(e["row"], e["field"], e["rule"]) for e in report(file)] == [
            ("1", "reference_data_id", "unicode")
        ]

    def test_bad_files_and_mappings(self, system: System, run_cli: RunCli, tmp_path: Path) -> None:
        file = claims_file(tmp_path, ["2026-01-05,X,ecb,1"])
        assert run_cli("ingest", str(tmp_path / "absent.csv")).status == 2
        other = tmp_path / "c.xlsx"
        other.write_text("")
        assert run_cli("ingest", str(other)).status == 1
        mapping = tmp_path / "m.json"
        mapping.write_text('{"columns": {"Close": "colour"}}')
        done = run_cli("ingest", str(file), "--mapping", str(mapping), "--json")
        assert (done.status, done.document["violations"][0]["rule"]) == (1, "known-field")
        assert system.asked == []

    def test_loads_tell_what_was_refused(self, system: System, run_cli: RunCli, tmp_path: Path) -> None:
        Loads(system)
        file = claims_file(tmp_path, ["2026-01-05,X,ecb,bad"] * 7)
        load = run_cli("ingest", str(file), "--json").document["load"]
        done = run_cli("loads", load)
        assert "rejected 7" in done.out
        assert "and 2 more" in done.out
        assert len(run_cli("loads", load, "--json").document["items"]) == 7

    def test_receipts(self, system: System, run_cli: RunCli) -> None:
        violation = {"field": "value", "value": "x", "rule": "decimal", "message": "is no decimal"}
        receipt = {
            "receipt": "r-1",
            "status": "stored",
            "accepted": 1,
            "rejected": 1,
            "duplicates": 0,
            "claims": [{"index": 0, "outcome": "rejected", "violations": [violation]}],
            "values": [
                {"reference_data_id": "X", "snap": "s", "status": "official", "value": "1.1", "version": 1}
            ],
        }
        system.on("GET", "/api/v1/receipts/r-1", receipt)
        said = run_cli("receipts", "r-1").out
        assert "claim 0: value 'x' is no decimal [decimal]" in said
        assert "official" in said

    def test_a_receipt_of_several_pages(self, system: System, run_cli: RunCli) -> None:
        value = {"reference_data_id": "X", "snap": "s", "status": "official", "value": "1.1", "version": 1}
        counts = {"receipt": "r-2", "status": "stored", "accepted": 2, "rejected": 0, "duplicates": 0}
        for place, (where, more) in enumerate((("r-2", "/api/v1/receipts/r-2b"), ("r-2b", None))):
            page = counts | {"claims": [{"index": place, "outcome": "accepted"}], "values": [value]}
            system.on("GET", f"/api/v1/receipts/{where}", page | {"next": more})
        found = run_cli("receipts", "r-2", "--json").document
        assert [c["index"] for c in found["claims"]] == [0, 1]
        assert found["values"] == [value], "both claims are about it"


class Stream:
    """Takes records as told: for each call, the indexes that it refuses."""

    def __init__(self, *refused: set[int]) -> None:
        self._refused = list(refused)
        self.calls: list[list[bytes]] = []
        self.taken: list[tuple[str, bytes]] = []

    def put_records(self, *, StreamName: str, Records: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        refused = self._refused.pop(0) if self._refused else set()
        self.calls.append([r["Data"] for r in Records])
        self.taken += [(r["PartitionKey"], r["Data"]) for i, r in enumerate(Records) if i not in refused]
        answers = [{"ErrorCode": "Throttled"} if i in refused else {} for i in range(len(Records))]
        return {"FailedRecordCount": len(refused), "Records": answers}


def row(number: int, **fields: Any) -> Row:
    return Row(number, {**fields, "correlation_id": "L", "record_id": f"L:{number:010d}"})


class TestStream:
    def test_only_what_was_refused_is_sent_again(self) -> None:
        waits: list[float] = []
        stream = Stream({1, 3}, {0})
        sender = StreamSender(stream, "s", waits.append)  # type: ignore[arg-type] # a fake of what is used
        sender.put([("k", b"%d" % i) for i in range(4)])
        assert stream.calls == [[b"0", b"1", b"2", b"3"], [b"1", b"3"], [b"1"]]
        assert sorted(d for _, d in stream.taken) == [b"0", b"1", b"2", b"3"]
        assert waits == sorted(waits)
        assert len(waits) == 2

    def test_a_stream_that_never_takes_them_is_a_failure(self) -> None:
        stream = Stream(*[{0}] * 20)
        sender = StreamSender(stream, "s", lambda _: None)  # type: ignore[arg-type] # a fake of what is used
        with pytest.raises(Failure, match="refused 1 records"):
            sender.put([("k", b"x")])

    def test_records_are_partitioned_by_series_and_calls_keep_the_limits(self) -> None:
        stream = Stream()
        sender = StreamSender(stream, "s")  # type: ignore[arg-type] # a fake of what is used
        many = [row(i, reference_data_id="X", value="1" * 20_000) for i in range(1, 601)]
        assert send_all([*many, row(601), row(602, reference_data_id=7)], sender, lambda _: None) == 602
        assert all(len(c) <= 500 and sum(map(len, c)) <= 4 * 1024 * 1024 for c in stream.calls)
        assert [k for k, _ in stream.taken] == ["X"] * 600 + ["L", "L"]


class TestFollow:
    def test_it_waits_for_each_record_and_starts_with_a_load_that_is_not_there_yet(
        self, system: System
    ) -> None:
        answers = iter([(0, 0, 0), (2, 0, 0), (2, 1, 1)])

        def state(_: object) -> dict[str, int]:
            accepted, rejected, duplicates = next(answers)
            return {"accepted": accepted, "rejected": rejected, "duplicates": duplicates}

        slept: list[float] = []

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            system.on("GET", "/api/v1/loads/L", state)

        done = follow(Api("https://qis.example/live", "t"), "L", 4, lambda _: None, lambda: 0.0, sleep)
        assert done == Account(2, 1, 1)
        assert len(slept) == 3

    def test_it_gives_up_when_nothing_moves(self, system: System) -> None:
        system.on("GET", "/api/v1/loads/L", {"accepted": 1, "rejected": 0, "duplicates": 0})
        now = iter(range(0, 10_000, 10))
        api = Api("https://qis.example/live", "t")
        with pytest.raises(Failure, match="1 of 4"):
            follow(api, "L", 4, lambda _: None, lambda: float(next(now)), lambda _: None)


def test_the_report_is_in_order_of_rows_and_names_the_nearest_cause(tmp_path: Path) -> None:
    def refused(number: int, field: str) -> dict[str, Any]:
        violation = {"field": field, "value": "", "rule": "required", "message": "is required"}
        return {"record_id": f"L:{number:010d}", "violations": [violation, violation]}

    file = tmp_path / "c.csv"
    with Refusals.of(file) as refusals:
        refusals.add(3, Violation("row", 'a,"b\n', "csv", "is broken"))
        refusals.add(11, Violation("row", "x", "csv", "is broken"))
        refusals.write([refused(2, "snap"), refused(3, "line"), refused(10, "snap"), refused(11, "line")])
    told = [(e["row"], e["field"], e["value"]) for e in report(file)]
    assert told == [
        ("2", "snap", ""),
        ("2", "snap", ""),
        ("3", "row", 'a,"b\n'),
        ("10", "snap", ""),
        ("10", "snap", ""),
        ("11", "row", "x"),
    ]
