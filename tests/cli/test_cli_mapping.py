"""Mappings: a vendor's conventions hold where they are declared, and a text that breaks one is refused."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from qis.cli.claims_file import ClaimsFile, Row
from qis.cli.failures import Failure
from qis.cli.mapping import Mapped, parse_mapping, read_mapping
from qis.domain.errors import InvalidInput

HEADER = "snap,reference_data_id,source,value"
CELLS = {"snap": "2026-01-05", "reference_data_id": "X", "source": "ecb", "value": "1.10"}


def rows(file: Path, settings: dict[str, Any]) -> list[Row]:
    return list(ClaimsFile(file, parse_mapping(settings), "L").rows())


def read(tmp_path: Path, settings: dict[str, Any], **cells: object) -> Row:
    """The one row of a CSV file whose cells differ so from those of a plain one."""
    file = tmp_path / "one.csv"
    delimiter = settings.get("delimiter", ",")
    row = {**CELLS, **{k: str(v) for k, v in cells.items()}}
    quoted = (f'"{cell}"' for cell in row.values())
    file.write_text(delimiter.join(row) + "\n" + delimiter.join(quoted) + "\n", encoding="utf-8")
    (found,) = rows(file, settings)
    return found


def broken(row: Row) -> tuple[str, str, str]:
    assert row.broken is not None
    return row.broken.field, row.broken.value, row.broken.rule


class TestNumbers:
    @pytest.mark.parametrize(
        ("settings", "text", "value"),
        [
            ({"decimal": ","}, "1,5", "1.5"),
            ({"decimal": ","}, "-1234,50", "-1234.50"),
            ({"decimal": ",", "grouping": "."}, "1.234,56", "1234.56"),
            ({"decimal": ",", "grouping": "."}, "1.234", "1234"),
            ({"decimal": ",", "grouping": "."}, "1234567", "1234567"),
            ({"grouping": ","}, "1,234.56", "1234.56"),
            ({"grouping": ","}, "+12,345,678", "+12345678"),
            ({"grouping": " "}, "1 234.5", "1234.5"),
            ({"grouping": " "}, "1\u202f234.5", "1234.5"),
            ({"grouping": "'"}, "1'234.5", "1234.5"),
            ({"decimal": ","}, "1,5e3", "1.5e3"),
            ({"scale": -2}, "350.5", "3.505"),
            ({"scale": 3}, "1.5", "1500"),
            ({"round": 18}, "6.134969325153375e-05", "0.000061349693251534"),
            ({"round": 2}, "1.125", "1.12"),
            ({"round": 2}, "1.135", "1.14"),
            ({"round": 2}, "1.1", "1.1"),
            ({"round": 0}, "0", "0"),
            ({"decimal": ",", "scale": -2, "round": 3}, "350,5555", "3.506"),
        ],
    )
    def test_a_declared_convention_gives_the_number(
        self, tmp_path: Path, settings: dict[str, Any], text: str, value: str
    ) -> None:
        row = read(tmp_path, settings, value=text)
        assert row.broken is None
        assert (row.record["value"], str(Decimal(row.record["value"]))) == (value, str(Decimal(value)))

    @pytest.mark.parametrize(
        ("settings", "text", "rule"),
        [
            ({"decimal": ","}, "1.5", "decimal"),
            ({"decimal": ","}, "1.234,56", "decimal"),
            ({"decimal": ",", "grouping": "."}, "1.23", "decimal"),
            ({"decimal": ",", "grouping": "."}, "1,234.56", "decimal"),
            ({"grouping": ","}, "1,5", "decimal"),
            ({"grouping": ","}, "12,34", "decimal"),
            ({"grouping": ","}, ",123", "decimal"),
            ({"grouping": ","}, "1234,567", "decimal"),
            ({"decimal": ","}, "n/a", "decimal"),
            ({"round": 18}, "1e-30", "round"),
            ({"round": 2}, "-0.004", "round"),
        ],
    )
    def test_a_text_that_breaks_the_convention_is_refused(
        self, tmp_path: Path, settings: dict[str, Any], text: str, rule: str
    ) -> None:
        assert broken(read(tmp_path, settings, value=text)) == ("value", text, rule)

    @given(
        whole=st.integers(-(10**12), 10**12),
        decimals=st.text("0123456789", max_size=6),
        convention=st.sampled_from([(".", ","), (",", "."), (",", " "), (".", "'"), (",", ""), (".", "")]),
    )
    def test_a_number_written_by_a_convention_is_read_by_it(
        self, whole: int, decimals: str, convention: tuple[str, str]
    ) -> None:
        point, grouping = convention
        written = f"{whole:,}".replace(",", grouping) + (point + decimals if decimals else "")
        expected = Decimal(f"{whole}.{decimals}" if decimals else whole)
        declared = {"decimal": point, **({"grouping": grouping} if grouping else {})}
        convert = parse_mapping({"scale": 0, **declared}).conversion("value")
        assert Decimal(convert(written) if convert else written) == expected

    def test_numbers_of_a_typed_file_have_no_convention(self, tmp_path: Path) -> None:
        settings = {"decimal": ",", "grouping": ".", "round": 3}
        file = tmp_path / "c.jsonl"
        file.write_text(json.dumps({**CELLS, "value": 1.2345}) + "\n" + json.dumps({**CELLS, "value": "1,5"}))
        assert [r.record["value"] for r in rows(file, settings)] == ["1.234", "1.5"]
        table = tmp_path / "c.parquet"
        parquet.write_table(pa.table({**{k: [v] for k, v in CELLS.items()}, "value": [1.2345]}), table)
        assert [r.record["value"] for r in rows(table, settings)] == ["1.234"]


class TestTimes:
    @pytest.mark.parametrize(
        ("form", "text", "snap"),
        [
            ({"format": "%d.%m.%Y"}, "05.01.2026", "2026-01-05"),
            ({"format": "%m/%d/%Y"}, "06/04/2024", "2024-06-04"),
            ({"format": "%d/%m/%Y"}, "06/04/2024", "2024-04-06"),
            ({"format": "%d-%b-%y"}, "4-Jun-24", "2024-06-04"),
            ({"format": "%Y%m%d"}, "20240604", "2024-06-04"),
            ({"format": "%Y-%m-%d 00:00:00"}, "2024-06-04 00:00:00", "2024-06-04"),
            (
                {"format": "%d.%m.%Y %H:%M", "zone": "Europe/Berlin"},
                "04.06.2024 16:00",
                "2024-06-04T14:00:00Z",
            ),
            ({"format": "%d/%m/%Y %I:%M %p %z"}, "04/06/2024 04:00 PM -0400", "2024-06-04T20:00:00Z"),
            ({"zone": "America/New_York"}, "2024-06-04 16:00:00", "2024-06-04T20:00:00Z"),
            ({"zone": "America/New_York"}, "2024-06-04T16:00:00.000000001", "2024-06-04T20:00:00.000000001Z"),
            ({"zone": "America/New_York"}, "2024-06-04T16:00", "2024-06-04T20:00:00Z"),
            ({"zone": "America/New_York"}, "2024-06-04", "2024-06-04"),
            ({"zone": "America/New_York"}, "2024-06-04T16:00:00Z", "2024-06-04T16:00:00Z"),
            ({"epoch": "s"}, "1717516800", "2024-06-04T16:00:00Z"),
            ({"epoch": "s"}, "1717516800.25", "2024-06-04T16:00:00.250Z"),
            ({"epoch": "ms"}, "1717516800000", "2024-06-04T16:00:00Z"),
            ({"epoch": "us"}, "1717516800000001", "2024-06-04T16:00:00.000001Z"),
            ({"epoch": "ns"}, "1722506400123456789", "2024-08-01T10:00:00.123456789Z"),
        ],
    )
    def test_a_declared_form_gives_the_time(
        self, tmp_path: Path, form: dict[str, str], text: str, snap: str
    ) -> None:
        row = read(tmp_path, {"times": {"snap": form, "received_at": {"epoch": "ms"}}}, snap=text)
        assert (row.broken, row.record.get("snap")) == (None, snap)

    @pytest.mark.parametrize(
        ("form", "text", "rule"),
        [
            ({"format": "%d.%m.%Y"}, "2026-01-05", "time-format"),
            ({"format": "%m/%d/%Y"}, "13/01/2024", "time-format"),
            ({"format": "%d/%m/%Y"}, "30/02/2024", "time-format"),
            ({"format": "%Y%m%d"}, "2024111", "time-format"),
            ({"format": "%d.%m.%Y %H:%M", "zone": "Europe/Berlin"}, "31.03.2024 02:30", "dst-gap"),
            ({"format": "%d.%m.%Y %H:%M", "zone": "Europe/Berlin"}, "27.10.2024 02:30", "dst-fold"),
            ({"zone": "America/New_York"}, "2024-11-03 01:30:00", "dst-fold"),
            ({"zone": "America/New_York"}, "2024-02-30 01:30:00", "time-format"),
            ({"epoch": "s"}, "1717516800000", "epoch"),
            ({"epoch": "ns"}, "1.5", "epoch"),
            ({"epoch": "ms"}, "2024-06-04", "epoch"),
            ({"epoch": "ms"}, "1e300", "epoch"),
        ],
    )
    def test_a_text_of_another_form_is_refused(
        self, tmp_path: Path, form: dict[str, str], text: str, rule: str
    ) -> None:
        found = broken(read(tmp_path, {"times": {"snap": form}}, snap=text))
        assert (found[0], found[2]) == ("snap", rule)

    def test_epochs_of_typed_files(self, tmp_path: Path) -> None:
        settings = {"times": {"snap": {"epoch": "ns"}}}
        file, table = tmp_path / "c.jsonl", tmp_path / "c.parquet"
        file.write_text(json.dumps({**CELLS, "snap": 1722506400123456789}))
        parquet.write_table(
            pa.table({**{k: [v] for k, v in CELLS.items()}, "snap": [1722506400123456789]}), table
        )
        for each in (file, table):
            assert [r.record["snap"] for r in rows(each, settings)] == ["2024-08-01T10:00:00.123456789Z"]


class TestTexts:
    def test_null_words_are_empty_cells_but_in_names(self, tmp_path: Path) -> None:
        settings = {"nulls": ["null", "N/A"]}
        row = read(tmp_path, settings, reference_data_id="null", source="N/A", volume="N/A", value="2")
        assert row.record["reference_data_id"] == "null"
        assert row.record["source"] == "N/A"
        assert "volume" not in row.record
        assert "value" not in read(tmp_path, settings, value="null").record

    def test_names_are_changed_to_those_of_the_catalogue(self, tmp_path: Path) -> None:
        settings = {"names": {"reference_data_id": {"AAPL US Equity": "EQ.AAPL"}, "source": {"Vendor": "va"}}}
        row = read(tmp_path, settings, reference_data_id="AAPL US Equity", source="Vendor")
        assert (row.record["reference_data_id"], row.record["source"]) == ("EQ.AAPL", "va")
        assert read(tmp_path, settings, reference_data_id="MSFT").record["reference_data_id"] == "MSFT"

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "cp1252", "latin-1", "utf-8-sig"])
    def test_encodings(self, tmp_path: Path, encoding: str) -> None:
        file = tmp_path / "c.csv"
        text = f"{HEADER},channel,sequence\r\n" + "2026-01-05,X,ecb,1.10,Börse,1\r\n" * 3
        file.write_bytes(text.encode(encoding))
        found = rows(file, {"encoding": encoding})
        assert [r.record["channel"] for r in found] == ["Börse"] * 3
        lines = tmp_path / "c.jsonl"
        lines.write_bytes(
            "\n".join([json.dumps({**CELLS, "channel": "Börse"}, ensure_ascii=False)] * 2).encode(encoding)
        )
        assert [r.record["channel"] for r in rows(lines, {"encoding": encoding})] == ["Börse"] * 2

    def test_what_an_encoding_cannot_decode_costs_its_row(self, tmp_path: Path) -> None:
        good, bad = f"{','.join(CELLS.values())}\n", "2026-01-05,X,e\udc81cb,1.10\n"
        file = tmp_path / "c.csv"
        file.write_bytes((f"{HEADER}\n{good}{bad}{good}").encode("cp1252", "surrogateescape"))
        found = rows(file, {"encoding": "cp1252"})
        assert [r.broken and r.broken.rule for r in found] == [None, "utf-8", None]

    @pytest.mark.parametrize("delimiter", [";", "\t", "|"])
    def test_delimiters_and_preambles(self, tmp_path: Path, delimiter: str) -> None:
        file = tmp_path / "c.csv"
        lines = ["Vendor export", "", HEADER.replace(",", delimiter), delimiter.join(CELLS.values())]
        file.write_text("\n".join(lines))
        (row,) = rows(file, {"delimiter": delimiter, "preamble": 2})
        assert {name: row.record[name] for name in CELLS} == CELLS


def test_a_vendors_export_is_read(tmp_path: Path) -> None:
    """Semicolons, decimal commas, a date format, null words, cp1252 and a line before the header at once."""
    file, mapping = tmp_path / "kurse.csv", tmp_path / "m.json"
    text = "Kurse der Börse\nDatum;Schluß;Stück\n05.01.2026;1.234,56;n.v.\n06.01.2026;1.240,00;1.000\n"
    file.write_bytes(text.encode("cp1252"))
    mapping.write_text(
        json.dumps(
            {
                "encoding": "cp1252",
                "delimiter": ";",
                "preamble": 1,
                "decimal": ",",
                "grouping": ".",
                "nulls": ["n.v."],
                "times": {"snap": {"format": "%d.%m.%Y"}},
                "columns": {"Datum": "snap", "Schluß": "value", "Stück": "volume"},
                "constants": {"source": "va", "reference_data_id": "X"},
            }
        ),
        encoding="utf-8-sig",
    )
    first, second = ClaimsFile(file, read_mapping(mapping), "L").rows()
    assert {k: first.record.get(k) for k in ("snap", "value", "volume", "source")} == {
        "snap": "2026-01-05",
        "value": "1234.56",
        "volume": None,
        "source": "va",
    }
    assert (second.record["value"], second.record["volume"]) == ("1240.00", "1000")


@pytest.mark.parametrize(
    ("settings", "field", "rule"),
    [
        ({"delimeter": ";"}, "mapping", "known-field"),
        ({"delimiter": ";;"}, "mapping.delimiter", "delimiter"),
        ({"delimiter": '"'}, "mapping.delimiter", "delimiter"),
        ({"encoding": "klingon"}, "mapping.encoding", "encoding"),
        ({"encoding": "base64"}, "mapping.encoding", "encoding"),
        ({"encoding": 8}, "mapping.encoding", "encoding"),
        ({"preamble": -1}, "mapping.preamble", "whole-number"),
        ({"preamble": True}, "mapping.preamble", "whole-number"),
        ({"decimal": ";"}, "mapping.decimal", "choice"),
        ({"grouping": "."}, "mapping.grouping", "distinct"),
        ({"grouping": "x"}, "mapping.grouping", "choice"),
        ({"nulls": "null"}, "mapping.nulls", "words"),
        ({"round": 19}, "mapping.round", "whole-number"),
        ({"scale": "2"}, "mapping.scale", "whole-number"),
        ({"times": {"value": {"epoch": "s"}}}, "mapping.times.value", "known-field"),
        ({"times": {"snap": {"epoch": "h"}}}, "mapping.times.snap.epoch", "choice"),
        ({"times": {"snap": {"epoch": "s", "format": "%Y-%m-%d"}}}, "mapping.times.snap", "time-format"),
        ({"times": {"snap": {"epoch": "s", "zone": "UTC"}}}, "mapping.times.snap.zone", "time-format"),
        ({"times": {"snap": {}}}, "mapping.times.snap", "time-format"),
        ({"times": {"snap": {"offset": "1"}}}, "mapping.times.snap", "known-field"),
        ({"times": {"snap": {"zone": "Mars/Olympus"}}}, "zone", "iana-zone"),
        ({"times": {"snap": {"format": "%d.%m"}}}, "mapping.times.snap.format", "time-format"),
        ({"times": {"snap": {"format": "%x"}}}, "mapping.times.snap.format", "time-format"),
        ({"times": {"snap": {"format": "%d.%m.%Y %H:%M"}}}, "mapping.times.snap.format", "aware-time"),
        ({"times": {"snap": {"format": "%d.%m.%Y %I:%M%z"}}}, "mapping.times.snap.format", "time-format"),
        (
            {"times": {"snap": {"format": "%d.%m.%Y", "zone": "UTC"}}},
            "mapping.times.snap.format",
            "time-format",
        ),
        ({"names": {"value": {}}}, "mapping.names", "known-field"),
        ({"names": {"source": {"a": 1}}}, "mapping.names.source", "text"),
        ({"columns": {}}, "mapping.columns", "object"),
        ({"constants": {"value": True}}, "mapping.constants.value", "text"),
        ([], "mapping", "known-field"),
    ],
)
def test_a_setting_that_is_wrong_is_named_with_its_rule(settings: object, field: str, rule: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse_mapping(settings)
    assert [(v.field, v.rule) for v in refusal.value.violations] == [(field, rule)]


def test_all_wrong_settings_are_told_at_once_and_an_unknown_one_names_those_that_are() -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse_mapping({"delim": ";", "round": -1, "decimal": "x"})
    assert len(refusal.value.violations) == 3
    assert "delimiter" in refusal.value.violations[0].message


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000])
def test_a_mapping_that_is_no_json_is_a_failure(tmp_path: Path, text: str) -> None:
    file = tmp_path / "m.json"
    file.write_text(text)
    with pytest.raises(Failure, match=r"m\.json"):
        read_mapping(file)


def test_no_mapping_changes_nothing(tmp_path: Path) -> None:
    assert Mapped() == parse_mapping({"scale": 0})
    row = read(tmp_path, {"scale": 0}, value="1,5")
    assert row.record["value"] == "1,5", "it is for the rules of claims to refuse"
