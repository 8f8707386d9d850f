"""Claims files: every row becomes a record of its load, and a row that cannot be read is not lost."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from qis.application.ingest import MAX_BYTES, decode
from qis.cli.claims_file import BLOCK, ClaimsFile, Row, _whole_lines, record_id, row_number
from qis.cli.failures import Failure
from qis.cli.mapping import Mapped, TimeForm, read_mapping
from qis.domain.errors import InvalidInput

HEADER = "snap,reference_data_id,source,value"
GOOD = "2026-01-05,X,ecb,1.10"
FIELDS = {"snap": "2026-01-05", "reference_data_id": "X", "source": "ecb", "value": "1.10"}


LINES = (
    *(GOOD, "a,b", "a,b,c,d,e", 'a,"b, c",d,e', 'a,"b', '"a""b",c,d,e', "", " ", " a ,b\t,c,d", "é,b,c,d"),
    *("a\rb,c,d,e", "a,b,c,d\r", "a,b,c,\x00", ",,,", "\x0b", "a,b,c," + "1" * MAX_BYTES),
)


def rows(file: Path, mapped: Mapped | None = None) -> list[Row]:
    return list(ClaimsFile(file, mapped or Mapped(), "L").rows())


def text_file(tmp_path: Path, name: str, text: str | bytes) -> Path:
    file = tmp_path / name
    body = text if isinstance(text, bytes) else text.encode()
    file.write_bytes(gzip.compress(body) if name.endswith(".gz") else body)
    return file


def own(row: Row) -> dict[str, Any]:
    """What the file said, without the row's identity."""
    return {k: v for k, v in row.record.items() if k not in ("correlation_id", "record_id")}


@pytest.mark.parametrize("name", ["c.csv", "c.csv.gz", "C.CSV"])
def test_csv(tmp_path: Path, name: str) -> None:
    text = f"\ufeff{HEADER},volume\r\n{GOOD},\r\n\r\n{GOOD},7"
    first, second = rows(text_file(tmp_path, name, text))
    assert own(first) == FIELDS
    assert own(second) == {**FIELDS, "volume": "7"}
    assert first.record["correlation_id"] == "L"
    assert [r.record["record_id"] for r in (first, second)] == [record_id("L", 1), record_id("L", 2)]


def test_json_lines_give_numbers_as_their_exact_text(tmp_path: Path) -> None:
    text = '{"snap": "s", "value": 1.10000000000000000001}\n\n{"value": 12, "record_id": "mine"}\n'
    first, second = rows(text_file(tmp_path, "c.jsonl.gz", text))
    assert own(first) == {"snap": "s", "value": "1.10000000000000000001"}
    assert own(second) == {"value": "12"}
    assert second.record["record_id"] == record_id("L", 2)


def test_parquet_gives_the_text_that_a_csv_would_hold(tmp_path: Path) -> None:
    file = tmp_path / "c.parquet"
    table = pa.table(
        {
            "snap": pa.array(
                [datetime(2026, 1, 5, 9, tzinfo=UTC), None], pa.timestamp("ns", "America/New_York")
            ),
            "value": pa.array([Decimal("1.10"), Decimal("-12345678901234567890.5")], pa.decimal128(38, 18)),
            "volume": pa.array([0.1, 3.0], pa.float64()),
            "source": pa.array(["ecb", "ecb"]).dictionary_encode(),
        }
    )
    parquet.write_table(table, file)
    first, second = rows(file, Mapped(None, {"reference_data_id": "X"}))
    assert own(first) == {
        "reference_data_id": "X",
        "snap": "2026-01-05 09:00:00.000000000Z",
        "value": "1.100000000000000000",
        "volume": "0.1",
        "source": "ecb",
    }
    assert "snap" not in second.record
    assert Decimal(second.record["value"]) == Decimal("-12345678901234567890.5")


@given(
    table=st.lists(
        st.lists(
            st.text(st.characters(exclude_characters="\r\n", exclude_categories=("Cs",)), max_size=20),
            min_size=4,
            max_size=4,
        ),
        max_size=20,
    )
)
def test_whatever_a_csv_writer_writes_is_read_back_without_blanks_around_cells(
    table: list[list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerow(HEADER.split(","))
    writer.writerows(table)
    file = text_file(tmp_path_factory.mktemp("csv"), "c.csv", out.getvalue())
    names = HEADER.split(",")
    bare = ([cell.strip(" \t") for cell in cells] for cells in table)
    expected = [{n: c for n, c in zip(names, cells, strict=True) if c} for cells in bare]
    assert [own(r) for r in rows(file)] == expected


class TestBrokenRows:
    @pytest.mark.parametrize(
        ("line", "rule"),
        [
            (b"a,b", "columns"),
            (b"a,b,c,d,e", "columns"),
            (b'2026-01-05,X,"ecb,1.10', "csv"),
            (b'2026-01-05,X,"e"cb,1.10', "csv"),
            (b"2026-01-05,X,\xff,1.10", "utf-8"),
            (b"2026-01-05,X,ecb," + b"1" * MAX_BYTES, "max-bytes"),
            (b"2026-01-05,X,ecb," + b"1" * (3 * MAX_BYTES), "max-bytes"),
        ],
    )
    def test_of_csv_are_sent_as_they_are_and_cost_no_neighbour(
        self, tmp_path: Path, line: bytes, rule: str
    ) -> None:
        text = b"\n".join([HEADER.encode(), GOOD.encode(), line, GOOD.encode()])
        before, broken, after = rows(text_file(tmp_path, "c.csv", text))
        assert own(before) == own(after) == FIELDS
        assert broken.broken is not None
        assert (broken.number, broken.broken.rule) == (2, rule)
        assert broken.record["record_id"] == record_id("L", 2)
        said = line[:1000].decode("utf-8", "backslashreplace")
        assert own(broken) == {"line": said}

    @pytest.mark.parametrize(
        ("line", "rule"),
        [
            (b'{"value": 1', "json"),
            (b'{"value": NaN}', "finite"),
            (b'{"value": 1, "value": 2}', "distinct-keys"),
            (b"[1]", "object"),
            (b'{"value": "\xff"}', "utf-8"),
            (b'{"value": "' + b"1" * MAX_BYTES + b'"}', "max-bytes"),
        ],
    )
    def test_of_json_lines(self, tmp_path: Path, line: bytes, rule: str) -> None:
        broken, after = rows(text_file(tmp_path, "c.ndjson", line + b'\n{"value": "1"}\n'))
        assert broken.broken is not None
        assert (broken.broken.rule, own(after)) == (rule, {"value": "1"})

    def test_every_record_is_one_that_the_system_can_decode(self, tmp_path: Path) -> None:
        text = b'{"value": "\\ud800"}\n{"a": [1.5, {"b": 2.25}]}\n\xff\n'
        for row in rows(text_file(tmp_path, "c.jsonl", text)):
            assert isinstance(decode(json.dumps(row.record, default=str).encode()), dict)

    def test_a_cut_off_gzip_tells_how_far_it_was_read(self, tmp_path: Path) -> None:
        text = f"{HEADER}\n" + "".join(f"2026-01-05,X,ecb,{i}\n" for i in range(50_000))
        file = tmp_path / "c.csv.gz"
        file.write_bytes(gzip.compress(text.encode())[:-2000])
        with pytest.raises(Failure, match=r"after row \d{4,}: "):
            rows(file)

    def test_half_a_character_is_refused_with_its_field(self, tmp_path: Path) -> None:
        lines = ['{"source": "a\\ud83d"}', '{"v\\udc00": 1}', '{"value": {"a": ["\\uD83D"]}}']
        lines += ['{"source": "\\ud83d\\ude00"}']
        *broken, whole = rows(text_file(tmp_path, "c.jsonl", "\n".join(lines)))
        assert [(r.broken.field, r.broken.rule) for r in broken if r.broken] == [
            ("source", "unicode"),
            ("v\N{REPLACEMENT CHARACTER}", "unicode"),
            ("value", "unicode"),
        ]
        assert own(whole) == {"source": "\N{GRINNING FACE}"}

    @pytest.mark.parametrize("quoted", [False, True])
    def test_rows_are_numbered_right_after_broken_ones(self, tmp_path: Path, quoted: bool) -> None:
        good = GOOD.replace("ecb", '"ecb"') if quoted else GOOD
        lines = [good, "short", "", good, "   ", 'a,"b', good, "a,b,c,\x00", "", good]
        found = rows(text_file(tmp_path, "c.csv", "\n".join([HEADER, *lines])))
        assert [r.number for r in found] == [1, 2, 3, 4, 5, 6, 7]
        assert [r.number for r in found if r.broken] == [2, 4]
        assert [own(found[i]) for i in (0, 2, 4, 6)] == [FIELDS] * 4

    @given(
        lines=st.lists(
            st.sampled_from(LINES),
            max_size=12,
        ),
        clean=st.booleans(),
    )
    def test_reading_many_rows_at_once_gives_what_reading_one_by_one_gives(
        self, lines: list[str], clean: bool, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        if clean:
            lines = [line for line in lines if '"' not in line and "\0" not in line and line.count(",") == 3]
        directory = tmp_path_factory.mktemp("csv")
        at_once = rows(text_file(directory, "c.csv", "\n".join([HEADER, *lines])))
        one_by_one = []
        for line in lines:
            one_by_one += rows(text_file(directory, "one.csv", f"{HEADER}\n{line}\n"))
        assert [(own(r), r.broken) for r in at_once] == [(own(r), r.broken) for r in one_by_one]
        (*blocks,) = ClaimsFile(directory / "c.csv", Mapped(), "L").blocks()
        assert [n for block in blocks for n in block.numbers()] == [r.number for r in at_once if not r.broken]

    def test_a_line_of_many_blocks_costs_no_neighbour_and_is_not_held(self, tmp_path: Path) -> None:
        text = f"{HEADER}\n{GOOD}\n{'1' * 5_000_000}\n{GOOD}\n"
        before, long, after = rows(text_file(tmp_path, "c.csv.gz", text))
        assert long.broken is not None
        assert long.broken.rule == "max-bytes"
        assert own(before) == own(after) == FIELDS
        file = tmp_path / "c.csv.gz"
        with gzip.open(file) as stream:
            longest = max(map(len, _whole_lines(stream)))
        assert longest < 2 * BLOCK

    @pytest.mark.parametrize(
        "damage",
        [
            lambda b: b[:-10],
            lambda b: b + b"garbage",
            lambda b: b[:40] + bytes(20) + b[60:],
            lambda b: b[:12],
        ],
    )
    def test_a_damaged_gzip_file_is_a_failure(self, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
        file = tmp_path / "c.csv.gz"
        file.write_bytes(damage(gzip.compress(f"{HEADER}\n{GOOD}\n{GOOD}\n".encode())))
        with pytest.raises(Failure, match=r"c\.csv\.gz"):
            rows(file)

    def test_gzip_files_that_are_joined_or_padded_are_read_whole(self, tmp_path: Path) -> None:
        file = tmp_path / "c.csv.gz"
        parts = (f"{HEADER}\n{GOOD}\n".encode(), f"{GOOD}\n".encode())
        file.write_bytes(b"".join(map(gzip.compress, parts)) + bytes(512))
        assert [own(r) for r in rows(file)] == [FIELDS] * 2


class TestParquet:
    def table(self, tmp_path: Path, **columns: Any) -> Path:
        file = tmp_path / "c.parquet"
        length = len(next(iter(columns.values()))) if columns else 1
        cells = {**{k: pa.array([v] * length) for k, v in FIELDS.items()}, **columns}
        parquet.write_table(pa.table(cells), file)
        return file

    def test_a_file_that_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(Failure, match="Parquet"):
            rows(text_file(tmp_path, "c.parquet", "not parquet"))

    def test_two_columns_of_one_name_are_refused_unless_they_are_left_out(self, tmp_path: Path) -> None:
        file = tmp_path / "c.parquet"
        table = pa.table({k: [v] for k, v in FIELDS.items()})
        parquet.write_table(table.append_column("value", pa.array(["2"])), file)
        with pytest.raises(InvalidInput) as refusal:
            rows(file)
        assert [(v.field, v.value, v.rule) for v in refusal.value.violations] == [
            ("header", "value", "distinct-columns")
        ]
        parquet.write_table(table.append_column("n", pa.array([1])).append_column("n", pa.array([2])), file)
        (row,) = rows(file, Mapped({name: name for name in FIELDS}))
        assert own(row) == FIELDS

    def test_nested_columns(self, tmp_path: Path) -> None:
        nested = {"flags": pa.array([["R"], []]), "more": pa.array([{"a": Decimal("1.5")}, None])}
        file = self.table(tmp_path, **nested)
        assert [own(r) for r in rows(file, Mapped({name: name for name in FIELDS}))] == [FIELDS] * 2
        first, second = rows(file)
        assert own(first) == {**FIELDS, "flags": '["R"]', "more": '{"a": "1.5"}'}
        assert own(second) == {**FIELDS, "flags": "[]"}

    @pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
    def test_times_without_a_zone_that_are_all_midnight_are_dates(self, tmp_path: Path, unit: str) -> None:
        days = [datetime(2026, 1, 5), None, datetime(2026, 1, 6)]  # noqa: DTZ001 - as pandas writes dates
        file = self.table(tmp_path, snap=pa.array(days, pa.timestamp(unit)))
        assert [r.record.get("snap") for r in rows(file)] == ["2026-01-05", None, "2026-01-06"]

    def test_one_time_that_is_not_midnight_makes_all_of_them_times(self, tmp_path: Path) -> None:
        times = [datetime(2026, 1, 5), datetime(2026, 1, 6, 12)]  # noqa: DTZ001 - without a zone
        file = self.table(tmp_path, snap=pa.array(times, pa.timestamp("us")))
        assert [r.record["snap"][:19] for r in rows(file)] == ["2026-01-05 00:00:00", "2026-01-06 12:00:00"]
        zoned = Mapped(times={"snap": TimeForm(zone="America/New_York")})
        assert [r.record["snap"] for r in rows(file, zoned)] == [
            "2026-01-05T05:00:00Z",
            "2026-01-06T17:00:00Z",
        ]

    def test_bytes_are_text_or_cost_their_row(self, tmp_path: Path) -> None:
        cells = pa.array([b"ecb", b"\xed\xa0\xbd", b"ecb"])
        for source in (
            cells,
            cells.cast(pa.large_binary()),
            pa.Array.from_buffers(pa.string(), 3, cells.buffers()),
        ):
            found = rows(self.table(tmp_path, source=source))
            assert [r.broken and (r.broken.field, r.broken.rule) for r in found] == [
                None,
                ("source", "utf-8"),
                None,
            ]
            assert own(found[2]) == FIELDS

    def test_numbers_are_those_of_the_column(self, tmp_path: Path) -> None:
        values = {
            "1.1193": pa.array([1.1193], pa.float32()),
            "1.5": pa.array([1.5], pa.float16()),
            "9007199254740993": pa.array([2**53 + 1]),
            "5.50000000000000000000": pa.array([Decimal("5.5")], pa.decimal256(60, 20)),
            "true": pa.array([True]),
        }
        for text, value in values.items():
            (row,) = rows(self.table(tmp_path, value=value))
            assert row.record["value"] == text


class TestHeader:
    def test_a_name_given_twice_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput) as refusal:
            rows(text_file(tmp_path, "c.csv", "value, value\n1,2\n"))
        assert refusal.value.violations[0].rule == "distinct-columns"

    def test_columns_that_no_claim_has_are_noted(self, tmp_path: Path) -> None:
        claims = ClaimsFile(text_file(tmp_path, "c.csv", f"{HEADER},colour\n{GOOD},red\n"), Mapped(), "L")
        (row,) = claims.rows()
        assert row.record["colour"] == "red"
        assert claims.unknown == ["colour"]

    @pytest.mark.parametrize(
        ("text", "absent"),
        [
            (f"{GOOD}\n", ["reference_data_id", "snap", "source", "value"]),
            (f"{HEADER};{GOOD}\n".replace(",", ";"), ["reference_data_id", "snap", "source", "value"]),
            ("Snap,reference_data_id,source,value\n", ["snap"]),
            ("snap,value\n2026-01-05,1\n", ["reference_data_id"]),
        ],
    )
    def test_what_every_claim_needs_must_be_there(self, tmp_path: Path, text: str, absent: list[str]) -> None:
        mapped = Mapped(None, {"source": "ecb"}) if absent == ["reference_data_id"] else Mapped()
        with pytest.raises(InvalidInput) as refusal:
            rows(text_file(tmp_path, "c.csv", text), mapped)
        assert [(v.field, v.value, v.rule) for v in refusal.value.violations] == [
            ("header", name, "required-column") for name in absent
        ]
        assert text.splitlines()[0] in refusal.value.violations[0].message.replace(", ", ",")

    def test_a_mapping_that_leaves_out_what_a_claim_needs(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput) as refusal:
            rows(
                text_file(tmp_path, "c.csv", f"{HEADER}\n{GOOD}\n"), Mapped({"snap": "snap"}, {"value": "1"})
            )
        assert [v.value for v in refusal.value.violations] == ["reference_data_id", "source"]

    @pytest.mark.parametrize("name", ["c.csv", "c.jsonl", "c.parquet", "c.csv.gz"])
    @pytest.mark.parametrize("text", ["", "\n\n", "\ufeff"])
    def test_an_empty_file_is_a_failure(self, tmp_path: Path, name: str, text: str) -> None:
        with pytest.raises(Failure, match="c"):
            rows(text_file(tmp_path, name, text))

    def test_a_header_alone_is_a_file_without_rows(self, tmp_path: Path) -> None:
        assert rows(text_file(tmp_path, "c.csv", f"{HEADER}\n\n")) == []

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
    @pytest.mark.parametrize("name", ["c.csv", "c.jsonl", "c.csv.gz"])
    def test_the_mark_of_another_encoding_names_it(self, tmp_path: Path, name: str, encoding: str) -> None:
        with pytest.raises(InvalidInput) as refusal:
            rows(text_file(tmp_path, name, f"{HEADER}\n{GOOD}\n".encode(encoding)))
        (violation,) = refusal.value.violations
        assert (violation.rule, f'"encoding": "{encoding}"' in violation.message) == ("encoding", True)

    def test_a_column_without_a_name_is_one_that_no_claim_has(self, tmp_path: Path) -> None:
        claims = ClaimsFile(text_file(tmp_path, "c.csv", f",{HEADER},\n7,{GOOD},\n"), Mapped(), "L")
        (row,) = claims.rows()
        assert own(row) == {**FIELDS, "(column 1)": "7"}

    @pytest.mark.parametrize("name", ["c.xlsx", "c", "c.csv.zip", "c.parquet.gz.txt"])
    def test_a_name_that_says_no_format(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(Failure, match="known are"):
            ClaimsFile(text_file(tmp_path, name, ""), Mapped(), "L")


class TestMapping:
    def mapping(self, tmp_path: Path, body: object) -> Mapped:
        file = tmp_path / "m.json"
        file.write_text(json.dumps(body))
        return read_mapping(file)

    def test_columns_become_fields_and_constants_fill_in(self, tmp_path: Path) -> None:
        mapped = self.mapping(
            tmp_path,
            {
                "columns": {"Date": "snap", "Close": "value", "Feed": "source"},
                "constants": {"currency": "USD", "source": "acme"},
            },
        )
        file = text_file(
            tmp_path, "c.csv", "Date,Close,Open,Feed\n2026-01-05,1.10,9,\n2026-01-06,1.2,9,ecb\n"
        )
        first, second = rows(file, mapped.with_constants(reference_data_id="X", source=None))
        assert own(first) == {**FIELDS, "source": "acme", "currency": "USD"}
        assert own(second)["source"] == "ecb"

    def test_a_column_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        mapped = self.mapping(tmp_path, {"columns": {"Date": "snap"}})
        with pytest.raises(InvalidInput) as refusal:
            rows(text_file(tmp_path, "c.csv", "date\n2026-01-05\n"), mapped)
        assert refusal.value.violations[0].rule == "column"

    @pytest.mark.parametrize(
        ("body", "rule"),
        [
            ({"columns": {"a": "colour"}}, "known-field"),
            ({"constants": {"record_id": "1"}}, "known-field"),
            ({"columns": {"a": "value", "b": "value"}}, "distinct"),
            ({"columns": ["a"]}, "object"),
            ({"column": {}}, "known-field"),
            ([], "known-field"),
        ],
    )
    def test_a_mapping_that_is_wrong_names_the_rule(self, tmp_path: Path, body: object, rule: str) -> None:
        with pytest.raises(InvalidInput) as refusal:
            self.mapping(tmp_path, body)
        assert {v.rule for v in refusal.value.violations} == {rule}


def test_record_ids_sort_as_text_as_rows_do() -> None:
    identities = [record_id("L:x", n) for n in (1, 9, 10, 99_999, 123_456_789)]
    assert sorted(identities) == identities
    assert [row_number(i) for i in identities] == [1, 9, 10, 99_999, 123_456_789]
