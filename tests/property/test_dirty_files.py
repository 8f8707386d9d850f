"""Two thousand dirty files: each row is taken, or refused by number, field, value and rule; none crashes.

Ingestion, `fuse` and `detect` read them; the same rows are the same claims in three formats.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from qis.application.fusing import Plan
from qis.application.ingest import Delivery, decode
from qis.cli.claims_file import ClaimsFile
from qis.cli.detection import Reading
from qis.cli.failures import Failure
from qis.cli.fusing_file import read_claims
from qis.cli.mapping import FIELDS, Mapped, parse_mapping
from qis.domain.claims import STATED, Statement, parse_claim, parse_statement
from qis.domain.errors import InvalidInput, Violation
from qis.domain.series import Series, parse_series
from tests.support.builders import series_body

FILES = 2_000
BATCHES = 20
"""Files are spread over so many tests, that workers share them."""
NAMES = ("snap", "reference_data_id", "source", "value")
OTHERS = (
    "volume",
    "received_at",
    "currency",
    "unit",
    "attribute",
    "sequence",
    "channel",
    "record_id",
    "colour",
    "",
)
CELLS: Mapping[str, Sequence[str]] = {
    "snap": (
        *("2026-01-05T10:00:00Z", "2026-01-06T10:00:00.123456789+01:00", "2026-01-05", "05.01.2026"),
        *("2026-01-05 10:00:00", "1767607200000", "", "2026-13-01", "1850-01-01T00:00:00Z", "snap", "\ud83d"),
    ),
    "reference_data_id": ("A", "NA", "NULL", "nan", "TRUE", "A ", " A", "A|B", "^GSPC", "", "\x00", "é"),
    "source": ("va", "vb", "va ", "Va", "null", "", "v\ta", "V" * 80, "\ud83d\ude00"),
    "value": (
        *("1", "1.5", "-0", "1,5", "1.234,56", "1,234.56", "1e5", "6.134969325153375e-05", "NaN", "inf"),
        *(
            "5.5" + "0" * 30,
            "9" * 50,
            "0." + "0" * 20 + "1",
            "",
            "#N/A",
            "true",
            "0x10",
            "\uff11",
            "1 ",
            '"1"',
        ),
    ),
    "volume": ("", "", "10", "-1", "n/a"),
    "received_at": ("", "", "2026-01-05T10:00:01Z", "2026-01-05", "now"),
    "currency": ("", "USD", "EUR", "usd", "$"),
    "unit": ("", "", "kg", "\n", "k" * 40),
    "attribute": ("", "open", "close", "\x07"),
    "sequence": ("", "1", "1.5", "-1", str(2**63)),
    "channel": ("", "", "c"),
    "record_id": ("", "7"),
    "colour": ("", "red"),
    "": ("", "7"),
}
GOOD = 3
"""In how many of four cells the first, good text is."""
SETTINGS: Sequence[Mapping[str, Any]] = (
    {},
    {"decimal": ","},
    {"decimal": ",", "grouping": ".", "nulls": ["#N/A", "n/a"]},
    {"round": 18, "scale": -2},
    {"times": {"snap": {"format": "%d.%m.%Y"}}},
    {"times": {"snap": {"epoch": "ms"}, "received_at": {"zone": "Europe/Berlin"}}},
    {"names": {"reference_data_id": {"^GSPC": "SPX"}, "source": {"Va": "va"}}},
    {"constants": {"currency": "USD", "source": "vc"}},
)
ENCODINGS = ("utf-8", "utf-8", "utf-8-sig", "utf-16", "cp1252", "latin-1")
BY_ITSELF = {"series-unit": "text", "series-attribute": "text"}
"""What a text that no series can have is called where no series is known."""
Refused = tuple[int, str, str, str]


@dataclass(frozen=True)
class Dirty:
    """A file as it was written, and what reads it."""

    file: Path
    mapped: Mapped


def table(rng: random.Random) -> tuple[list[str], list[dict[str, str]]]:
    """A header and rows; two columns may have one name."""
    names = [*NAMES, *rng.sample(OTHERS, rng.choice((0, 0, 1, 3)))]
    if rng.random() < 0.05:
        names.append(rng.choice(names))
    if rng.random() < 0.05:
        names.remove(rng.choice(NAMES))
    rng.shuffle(names)
    good = rng.random() < 0.3
    rows = [{name: _cell(rng, name, good) for name in names} for _ in range(rng.randrange(12))]
    return names, rows


def _cell(rng: random.Random, name: str, good: bool) -> str:
    return CELLS[name][0] if good or rng.randrange(4) < GOOD else rng.choice(CELLS[name])


def dirty(rng: random.Random, directory: Path) -> Dirty:
    """A file of any of the formats, harmed in some way."""
    names, rows = table(rng)
    settings: dict[str, Any] = {**rng.choice(SETTINGS)}
    if rng.random() < 0.2:
        settings["columns"] = {name: name for name in names if name in FIELDS}
    form = rng.choice(("csv", "csv", "jsonl", "parquet"))
    if form == "parquet":
        body = _parquet(rng, names, rows)
    else:
        encoding, delimiter = rng.choice(ENCODINGS), rng.choice((",", ",", ";", "\t"))
        text = _csv(rng, names, rows, delimiter) if form == "csv" else _json_lines(rng, rows)
        body = text.encode(encoding, "surrogatepass" if encoding.startswith("utf") else "replace")
        if rng.random() < 0.8:  # else it is read by another convention than it was written by
            settings |= {"delimiter": delimiter, "encoding": encoding}
        if form == "csv" and rng.random() < 0.1:
            body, settings["preamble"] = b"export\n" + body, rng.choice((0, 1, 2))
    body = _harmed(rng, body)
    if form != "parquet" and rng.random() < 0.2:
        body = _harmed(rng, gzip.compress(body, mtime=0))
    file = directory / f"claims.{form}"
    file.write_bytes(body)
    return Dirty(file, parse_mapping(settings) if settings else Mapped())


def _csv(rng: random.Random, names: Sequence[str], rows: Sequence[Mapping[str, str]], delimiter: str) -> str:
    out = io.StringIO()
    end = rng.choice(("\n", "\n", "\r\n", "\r"))
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=rng.choice((0, 0, 1)))
    writer.writerow(names)
    for row in rows:
        cells = [row[name] for name in names]
        match rng.randrange(20):
            case 0:
                cells = cells[:-1]
            case 1:
                cells.append("more")
            case 2:
                out.write(f'broken"quote{end}')
                continue
            case 3:
                writer.writerow(names)
            case 4:
                out.write(end)
        writer.writerow(cells)
    return out.getvalue()


def _json_lines(rng: random.Random, rows: Sequence[Mapping[str, str]]) -> str:
    lines = []
    for row in rows:
        body: dict[str, Any] = {k: v for k, v in row.items() if v or rng.random() < 0.5}
        if rng.random() < 0.1:
            body[rng.choice(NAMES)] = rng.choice((None, 1, 1.5, True, [1], {"a": "\ud83d"}, 10**40))
        line = json.dumps(body, ensure_ascii=rng.random() < 0.5)
        lines.append(
            rng.choice((line, line, line, line, line[:-1], f"[{line}]", "NaN", '{"a":1,"a":2}', " "))
        )
    return "\n".join(lines)


def _parquet(rng: random.Random, names: Sequence[str], rows: Sequence[Mapping[str, str]]) -> bytes:
    arrays = []
    for name in names:
        cells = [row[name].encode("utf-8", "surrogatepass") for row in rows]
        array: pa.Array = pa.array(cells, pa.binary())
        match rng.randrange(8):
            case 0:
                array = pa.array([cell or None for cell in cells], pa.large_binary())
            case 1:
                array = pa.Array.from_buffers(pa.string(), len(array), array.buffers())
            case 2 if name == "value":
                array = pa.array(
                    [rng.choice((1.5, 1 / 16300, float("nan"), None)) for _ in rows], pa.float64()
                )
            case 3 if name == "snap":
                array = pa.array([rng.choice((0, 86_400, 1_767_607_200)) for _ in rows], pa.timestamp("s"))
            case 4:
                array = pa.array([rng.choice(([1], [], None)) for _ in rows], pa.list_(pa.int64()))
        arrays.append(array)
    out = io.BytesIO()
    parquet.write_table(
        pa.Table.from_arrays(arrays, names=[*names]), out, row_group_size=rng.choice((2, 100))
    )
    return out.getvalue()


def _harmed(rng: random.Random, body: bytes) -> bytes:
    at = rng.randrange(len(body) + 1)
    match rng.randrange(24):
        case 0:
            return body[:at]
        case 1:
            return body + bytes(rng.randrange(256) for _ in range(20))
        case 2:
            return body[:at] + bytes([rng.randrange(256)]) + body[at + 1 :]
        case 3:
            return body[:at] + b"\0" + body[at:]
    return body


# what becomes of the rows -------------------------------------------------------------------------


def ingested(dirty: Dirty) -> tuple[int, list[Statement], list[Refused]]:
    """Rows as the stream takes them, by the rules of a claim, with each series and source registered."""
    rows, taken, refused = 0, list[Statement](), list[Refused]()
    for row in ClaimsFile(dirty.file, dirty.mapped, "L").rows():
        rows += 1
        body = decode(Delivery("r", "l", json.dumps(row.record, default=str).encode()).payload)
        try:
            if row.broken is not None:
                raise InvalidInput(row.broken)
            parse_claim(body, _registered(body), dict.fromkeys(_valid(body, "source"), True))
            taken.append(parse_statement(row.record))
        except InvalidInput as refusal:
            refused.append(_refused(row.number, refusal.violations[0]))
    return rows, taken, refused


def _registered(body: Mapping[str, Any]) -> Mapping[str, Series]:
    """The series that a claim names, in whatever it names, with a snap time where it names a date."""
    dated = len(str(body.get("snap"))) == len("2026-01-05")
    clock = {"snap_time": "00:00", "snap_zone": "UTC"} if dated else {"snap_time": None, "snap_zone": None}
    named: dict[str, Any] = dict.fromkeys(("unit", "attribute", "calendar", "cadence")) | {"currency": "USD"}
    named |= {name: value for name in ("currency", "unit", "attribute") for value in _valid(body, name)}
    semantics = {**series_body()["semantics"], **clock, **named}
    return {
        name: parse_series(
            {**series_body(), "kind": "price", "reference_data_id": name, "semantics": semantics}
        )
        for name in _valid(body, "reference_data_id")
    }


def _valid(body: Mapping[str, Any], name: str) -> list[Any]:
    """What a claim says in a field, if that breaks no rule."""
    given = body.get(name)
    try:
        return [] if given is None else [STATED[name](given)]
    except InvalidInput:
        return []


def _refused(number: int, violation: Violation) -> Refused:
    assert violation.field
    assert violation.rule
    assert violation.message
    value = violation.value.replace("'", '"')  # a document is shown as Python or as JSON writes it
    return number, violation.field, value, BY_ITSELF.get(violation.rule, violation.rule)


def judged(dirty: Dirty) -> tuple[int, int, list[Refused]]:
    """Rows as ``detect`` takes them."""
    refused: list[Refused] = []
    reading = Reading({})
    rows = ClaimsFile(dirty.file, dirty.mapped, "L").rows()
    taken = [*reading.claims(rows, lambda number, violation: refused.append(_refused(number, violation)))]
    return reading.rows, len(taken), refused


def outcomes(dirty: Dirty) -> Iterator[tuple[str, object]]:
    """What each reader makes of a file: counts and refusals, or why it is refused whole."""
    try:
        rows, taken, refused = ingested(dirty)
        assert len(taken) + len(refused) == rows
        yield "ingest", (rows, refused)
    except (Failure, InvalidInput) as whole:
        yield "ingest", type(whole)
    try:
        rows, count, refused = judged(dirty)
        assert count + len(refused) == rows
        yield "detect", (rows, refused)
    except (Failure, InvalidInput) as whole:
        yield "detect", type(whole)
    try:
        claims = read_claims(ClaimsFile(dirty.file, dirty.mapped, "L"), Plan())
        ambiguous = [r for r in claims.refused if r[1].rule in ("series-currency", "series-unit")]
        others = [_refused(*r) for r in claims.refused if r not in ambiguous]
        assert len(claims.said.source) <= claims.rows - len(claims.refused)
        yield "fuse", (claims.rows, others)
    except (Failure, InvalidInput) as whole:
        yield "fuse", type(whole)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_each_row_is_taken_or_refused_and_all_readers_agree(batch: int, tmp_path: Path) -> None:
    whole = taken = 0
    for seed in range(batch, FILES, BATCHES):
        one = dirty(random.Random(seed), tmp_path)
        found = dict(outcomes(one))
        assert found["ingest"] == found["detect"] == found["fuse"], f"seed {seed}"
        if isinstance(found["ingest"], tuple):
            taken += 1
            rows, refused = found["ingest"]
            assert [number for number, *_ in refused] == sorted({number for number, *_ in refused})
            assert all(1 <= number <= rows for number, *_ in refused)
        else:
            whole += 1
        one.file.unlink()
    assert taken > whole > 0, "most files are read, and some are refused whole"


@pytest.mark.parametrize("seed", range(200))
def test_the_same_rows_in_three_formats_are_the_same_claims(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    mapped = parse_mapping({"round": 18, **rng.choice(SETTINGS)})
    names = [*NAMES, *(n for n in OTHERS if n and rng.random() < 0.3)]
    cells: Mapping[str, list[str]] = {n: [c for c in CELLS[n] if c.isprintable()] for n in names}
    rows = [{n: rng.choice([cells[n][0], cells[n][0], *cells[n]]) for n in names} for _ in range(9)]
    csv_file, lines, parquet_file = (tmp_path / f"c.{form}" for form in ("csv", "jsonl", "parquet"))
    with csv_file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, names)
        writer.writeheader()
        writer.writerows(rows)
    lines.write_text("\n".join(map(json.dumps, rows)))
    columns = {n: pa.array([row.get(n) for row in rows], pa.string()) for n in names}
    parquet.write_table(pa.table(columns), parquet_file)
    first, *others = (ingested(Dirty(file, mapped)) for file in (csv_file, lines, parquet_file))
    assert first[1] or first[2]
    for other in others:
        assert other == first
