"""Claims files: CSV, Parquet and JSON Lines, read in constant memory, as rows or by column.

A scalar is the text that a CSV file would hold, so that the same rows in three formats are the same claims. A
row that cannot be read (broken CSV, not JSON, not text of the file's encoding, too long) costs no neighbour.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from qis.application.ingest import MAX_BYTES, decode
from qis.cli.failures import Failure, cause, failure
from qis.cli.mapping import BLANKS, FIELDS, OWN, TIMES, Convert, Mapped
from qis.domain.claims import REQUIRED, parse_statement
from qis.domain.errors import InvalidInput, Violation, refuse, shown
from qis.domain.snap import parse_instant

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet

SHOWN = 1000
"""Characters kept of a row that cannot be read."""
MARGIN = 1024
"""Bytes of a record that are not the row's own."""
LONGEST = MAX_BYTES - MARGIN
"""Bytes of a row, at most."""
BLOCK = 1 << 20
"""Bytes of a text file that are read together."""
PARQUET_BATCH = 10_000
CSV, JSON_LINES, PARQUET = "csv", "jsonl", "parquet"
FORMATS: Mapping[str, str] = {".csv": CSV, ".jsonl": JSON_LINES, ".ndjson": JSON_LINES, ".parquet": PARQUET}
_GZIP = b"\x1f\x8b"
_UTF8_MARK = b"\xef\xbb\xbf"
_MARKS = (
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_UNDECODABLE = "qis-undecodable"
codecs.register_error(_UNDECODABLE, lambda error: ("\udcff", getattr(error, "end", 0)))
WAY_OUT = "--mapping names columns, delimiter, encoding and preamble"


def instant(text: str, field: str = "snap") -> int:
    """Nanoseconds of a time; a date is its first moment in UTC."""
    return parse_instant(f"{text}T00:00:00Z" if len(text) == 10 else text, field).ns


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file as a record of a load."""

    number: int
    """1 for the first row of data."""
    record: Mapping[str, Any]
    broken: Violation | None = None
    """Why the row could not be read; the record then only has it as it was."""


class Unread(NamedTuple):
    """A row that is not a record: its text, and why it is none."""

    text: str
    violation: Violation


Cell = tuple[Any, Convert | None]
"""A cell of a row, text or a document, and what makes a claim's text of it."""


class Column(NamedTuple):
    """A field's cells in the readable rows of a block."""

    cells: pa.Array
    """Texts; null where there is none."""
    convert: Convert | None
    """What makes a claim's text of a cell."""


class Block(NamedTuple):
    """Rows that follow each other, by column."""

    first: int
    """Number of the first row."""
    rows: int
    columns: Mapping[str, Column]
    """By field; where no mapping names columns also those that no claim has."""
    unread: Mapping[int, Unread]
    """By number of the row."""

    def numbers(self) -> Sequence[int]:
        """Numbers of the readable rows."""
        numbers = range(self.first, self.first + self.rows)
        return [n for n in numbers if n not in self.unread] if self.unread else numbers


def record_id(load: str, number: int) -> str:
    """Identity of a row in its load; in the order of rows also when sorted as text."""
    return f"{load}:{number:010d}"


def row_number(identity: str) -> int:
    """The row that ``record_id`` named."""
    return int(identity.rpartition(":")[2])


class ClaimsFile:
    """A file of claims. Iterate ``rows`` or ``blocks`` once."""

    def __init__(self, file: Path, mapped: Mapped, load: str) -> None:
        """Raises ``Failure`` where the name says no known format, or the file is not there or has no byte."""
        self._file = file
        self._mapped = mapped
        self._load = load
        suffix = Path(file.name.lower().removesuffix(".gz")).suffix
        if suffix not in FORMATS:
            known = ", ".join(FORMATS)
            raise failure(
                "unknown-format", "The name says no known format", f"{file.name}: known are {known}"
            )
        self._format = FORMATS[suffix]
        try:
            self.size = file.stat().st_size
        except OSError as error:
            raise self._unreadable(error) from error
        if not self.size:
            raise self._empty()
        self.unknown: Sequence[str] = ()
        """Columns that no claim has; known once the first row was read."""
        self._raw: IO[bytes] | None = None
        self._read = 0
        self._converts: dict[tuple[str, bool], Convert | None] = {}

    def position(self) -> int:
        """Bytes of the file that were read, of ``size``."""
        return 0 if self._raw is None else min(self._raw.tell(), self.size)

    def rows(self) -> Iterator[Row]:
        """Every row, in order.

        Raises:
            Failure: the file holds nothing, or cannot be read to its end; rows before that were given.
            InvalidInput: the header lacks what a claim or the mapping needs; no row was given then.
        """
        with self._opened() as raw:
            if self._format == JSON_LINES:
                for number, found in enumerate(self._objects(raw), start=1):
                    self._read = number
                    yield self._row(number, found)
            else:
                for block in self._blocks(raw):
                    yield from self._rows_of(block)

    def blocks(self) -> Iterator[Block]:
        """Every row, in order, by column. Raises as ``rows`` does."""
        with self._opened() as raw:
            yield from self._object_blocks(raw) if self._format == JSON_LINES else self._blocks(raw)

    def fields(self, cells: Mapping[str, Cell]) -> dict[str, Any]:
        """A claim's fields of a row's cells; what is empty or absent comes from the constants.

        Raises:
            InvalidInput: a cell breaks a convention that the mapping declares.
        """
        claim: dict[str, Any] = dict(self._mapped.constants)
        for name, (cell, convert) in cells.items():
            found = cell if isinstance(cell, dict | list) else converted(cell, convert)
            if found != "":
                claim[name] = found
        return claim

    def _conversion(self, name: str, *, typed: bool) -> Convert | None:
        key = name, typed
        if key not in self._converts:
            self._converts[key] = self._mapped.conversion(name, typed=typed)
        return self._converts[key]

    def _row(self, number: int, found: Mapping[str, Cell] | Unread) -> Row:
        own = {"correlation_id": self._load, "record_id": record_id(self._load, number)}
        if isinstance(found, Unread):
            return Row(number, {"line": found.text, **own}, found.violation)
        try:
            return Row(number, {**self.fields(found), **own})
        except InvalidInput as refusal:
            text = _as_json({name: cell for name, (cell, _) in found.items()})
            return Row(number, {"line": text[:SHOWN], **own}, refusal.violations[0])

    def _rows_of(self, block: Block) -> Iterator[Row]:
        columns = block.columns.items()
        rows = zip(*(column.cells.to_pylist() for _, column in columns), strict=True)
        for number in range(block.first, block.first + block.rows):
            unread = block.unread.get(number)
            if unread is None:
                cells = zip(columns, next(rows), strict=True)
                yield self._row(number, {name: (cell, column.convert) for (name, column), cell in cells})
            else:
                yield self._row(number, unread)

    @property
    def constants(self) -> Mapping[str, str]:
        """Texts of fields that rows do not have."""
        return self._mapped.constants

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        """The open file, once; what goes wrong while it is read is told with the last row read."""
        try:
            with self._file.open("rb") as raw:
                self._raw = raw
                yield raw
        except (OSError, EOFError, zlib.error) as error:
            raise self._unreadable(error, self._read) from error
        finally:
            self._raw = None

    def _unreadable(self, error: Exception, after: int = 0) -> Failure:
        where = f" after row {after}" if after else ""
        return failure("unreadable", "The file cannot be read", f"{self._file}{where}: {cause(error)}")

    def _empty(self) -> Failure:
        return failure("empty", "The file is empty", f"{self._file} holds no header and no row")

    def _blocks(self, raw: IO[bytes]) -> Iterator[Block]:
        for block in self._parquet(raw) if self._format == PARQUET else self._csv(raw):
            self._read = block.first + block.rows - 1
            yield block

    def _lines(self, raw: IO[bytes]) -> Iterator[bytes]:
        """Whole lines as UTF-8, many at a time.

        Raises:
            InvalidInput: the file has the mark of an encoding that no mapping names.
        """
        packed = raw.read(2) == _GZIP
        raw.seek(0)
        stream = cast(_Bytes, gzip.GzipFile(fileobj=raw) if packed else raw)
        if self._mapped.encoding != "utf-8":
            stream = _Transcoded(stream, self._mapped.encoding)
        first = True
        for lines in _whole_lines(stream):
            if first:
                for mark, encoding in _MARKS:
                    if lines.startswith(mark):
                        said = f'is {encoding}; a mapping with "encoding": "{encoding}" reads it (--mapping)'
                        raise refuse("file", self._file.name, "encoding", said)
            yield lines.removeprefix(_UTF8_MARK) if first else lines
            first = False

    # CSV -----------------------------------------------------------------------------------------

    def _csv(self, raw: IO[bytes]) -> Iterator[Block]:
        import pyarrow as pa

        header: _Header | None = None
        before, number = self._mapped.preamble, 1
        for lines in self._lines(raw):
            rest = lines
            while header is None and rest:
                line, _, rest = rest.partition(b"\n")
                if before:
                    before -= 1
                elif line.strip():
                    header = self._header(line)
            if header is None or not rest.strip():
                continue
            columns = _clean_columns(rest, header, self._mapped.delimiter)
            unread: dict[int, Unread] = {}
            if columns is None:
                rows: list[Sequence[str]] = []
                for place, cells in enumerate(_csv_rows(rest, header.width, self._mapped.delimiter)):
                    if isinstance(cells, Unread):
                        unread[number + place] = cells
                    else:
                        rows.append(cells)
                columns = [pa.array([row[i] for row in rows], pa.string()) for i in header.places]
            named = {
                name: Column(cells, self._conversion(name, typed=False))
                for name, cells in zip(header.fields, columns, strict=True)
            }
            count = len(columns[0]) + len(unread)
            yield Block(number, count, named, unread)
            number += count
        if header is None:
            raise self._empty()

    def _header(self, line: bytes) -> _Header:
        cells = _cells(line, self._mapped.delimiter)
        if isinstance(cells, Unread):
            raise InvalidInput(cells.violation)
        names = [cell.strip() for cell in cells]
        chosen = self._chosen(names)
        return _Header(len(names), [*chosen], [*chosen.values()])

    def _chosen(self, header: Sequence[str]) -> Mapping[int, str]:
        """Places of the columns that are read, with the field of each, in the file's order.

        Columns that the mapping asks for and those that a claim needs must be there. Without them every row
        would be refused, as where the header is missing or cells are separated by semicolons. What no claim
        has is only noted.
        """
        names = [name or f"(column {place})" for place, name in enumerate(header, start=1)]
        columns = self._mapped.columns
        if columns is None:
            columns = {n: n for n in names if n not in OWN}
            self.unknown = [n for n in columns if n not in FIELDS]
        absent = [n for n in columns if n not in names]
        if absent:
            there = f"is not a column of the file; the header is {shown(', '.join(names))}"
            raise InvalidInput(*(Violation("mapping", shown(n), "column", there) for n in absent))
        twice = [n for n in columns if names.count(n) > 1]
        if twice:
            said = "is the name of more than one column; rename one, or leave both out by a mapping"
            raise InvalidInput(*(Violation("header", shown(n), "distinct-columns", said) for n in twice))
        needed = sorted(REQUIRED - {*columns.values(), *self._mapped.constants})
        if needed:
            separator = self._mapped.delimiter if self._format == CSV else ", "
            said = "is no column of the file and nothing else says it; the header is"
            said = f"{said} {shown(separator.join(names))} ({WAY_OUT})"
            raise InvalidInput(*(Violation("header", n, "required-column", said) for n in needed))
        return {place: columns[name] for place, name in enumerate(names) if name in columns}

    # JSON Lines ----------------------------------------------------------------------------------

    def _objects(self, raw: IO[bytes]) -> Iterator[Mapping[str, Cell] | Unread]:
        """The cells of each row by field."""
        columns, some = self._mapped.columns, False
        for lines in self._lines(raw):
            for line in filter(bytes.strip, lines.split(b"\n")):
                some = True
                body = _object(line)
                if isinstance(body, Unread):
                    yield body
                elif columns is None:
                    yield {name: self._cell(name, cell) for name, cell in body.items() if name not in OWN}
                else:
                    named = ((columns[name], cell) for name, cell in body.items() if name in columns)
                    yield {name: self._cell(name, cell) for name, cell in named}
        if not some:
            raise self._empty()

    def _cell(self, name: str, cell: Any) -> Cell:
        """A cell of a JSON object: a scalar as text; only a value may be a document."""
        if cell is None or (name == "value" and isinstance(cell, dict | list)):
            return cell, None
        typed = not isinstance(cell, str)
        return _scalar(cell), self._conversion(name, typed=typed)

    def _object_blocks(self, raw: IO[bytes]) -> Iterator[Block]:
        number, rows, unread = 1, list[Mapping[str, Any]](), dict[int, Unread]()
        for found in self._objects(raw):
            at = number + len(rows) + len(unread)
            row = self._row(at, found)
            own = {k: _scalar(v) for k, v in row.record.items() if k not in OWN}
            if row.broken is not None:
                unread[at] = Unread(own["line"], row.broken)
            elif own.keys() <= FIELDS:
                rows.append(own)
            else:  # no columns are made of what may be another field in each row
                unread[at] = Unread(_as_json(own)[:SHOWN], _unknown_field(own))
            self._read = at
            if len(rows) + len(unread) == PARQUET_BATCH:
                yield _object_block(number, rows, unread)
                number, rows, unread = at + 1, [], {}
        if rows or unread:
            yield _object_block(number, rows, unread)

    # Parquet -------------------------------------------------------------------------------------

    def _parquet(self, raw: IO[bytes]) -> Iterator[Block]:
        import pyarrow as pa
        from pyarrow import parquet

        number = 1
        try:
            table = parquet.ParquetFile(raw)
            schema = table.schema_arrow
            chosen = {schema.field(place): field for place, field in self._chosen(schema.names).items()}
            dates = {c for c, field in chosen.items() if field in TIMES and _all_midnight(table, c)}
            converts = {f: self._parquet_conversion(f, c.type, c in dates) for c, f in chosen.items()}
            for batch in table.iter_batches(PARQUET_BATCH, columns=[column.name for column in chosen]):
                unread: dict[int, Unread] = {}
                texts = {}
                for column, field in chosen.items():
                    cells = batch.column(batch.schema.get_field_index(column.name))
                    days = cells.cast(pa.date32()) if column in dates else cells
                    texts[field] = _as_text(days, field, number, unread)
                if unread:
                    readable = pa.array([number + i not in unread for i in range(batch.num_rows)])
                    texts = {field: cells.filter(readable) for field, cells in texts.items()}
                columns = {field: Column(cells, converts[field]) for field, cells in texts.items()}
                yield Block(number, batch.num_rows, columns, unread)
                number += batch.num_rows
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise OSError(str(error)) from error

    def _parquet_conversion(self, field: str, kind: pa.DataType, dates: bool) -> Convert | None:
        import pyarrow as pa

        if dates or pa.types.is_date(kind):
            return None
        if pa.types.is_timestamp(kind):
            form = self._mapped.times.get(field)
            naive = kind.tz is None and form is not None and form.zone is not None and form.format is None
            return self._conversion(field, typed=True) if naive else None
        typed = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        return self._conversion(field, typed=typed)


class _Header(NamedTuple):
    """The columns of a CSV file."""

    width: int
    places: Sequence[int]
    """Of the columns that are read; ``fields`` has the field of each."""
    fields: Sequence[str]


class _Bytes(Protocol):
    """A stream of bytes."""

    def read1(self, size: int, /) -> bytes:
        """Some bytes; none at the end."""
        ...


class _Transcoded:
    """A stream of another encoding as UTF-8. A character that cannot be decoded is none of UTF-8 either."""

    def __init__(self, stream: _Bytes, encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)(_UNDECODABLE)
        self._ended = False

    def read1(self, size: int, /) -> bytes:
        """See ``_Bytes.read1``."""
        text = ""
        while not text and not self._ended:
            piece = self._stream.read1(size)
            self._ended = not piece
            try:
                text = self._decoder.decode(piece, final=self._ended)
            except UnicodeError as error:  # of the stream as a whole, as of UTF-16 without its mark
                raise OSError(str(error)) from error
        return text.encode("utf-8", "surrogatepass")


def _whole_lines(stream: _Bytes) -> Iterator[bytes]:
    """Lines in runs; of a line that no record can hold, the beginning."""
    rest, dropping = b"", False
    while piece := stream.read1(BLOCK):
        if dropping:
            end = piece.find(b"\n") + 1
            dropping = not end
            piece = piece[end:] if end else b""
        lines = rest + piece
        end = lines.rfind(b"\n") + 1
        rest = lines[end:]
        if len(rest) > LONGEST:
            yield lines[: end + LONGEST + 1]
            rest, dropping = b"", True
        elif end:
            yield lines[:end]
    if rest:
        yield rest


def _clean_columns(lines: bytes, header: _Header, delimiter: str) -> list[pa.Array] | None:
    """The chosen columns of rows without quotes and faults, at once; ``None``: read them one by one."""
    import pyarrow as pa
    from pyarrow import csv as pacsv

    if header.width < 2 or delimiter.isspace() or b'"' in lines or b"\0" in lines:
        return None
    if b"\r" in lines and lines.count(b"\r") != lines.count(b"\r\n"):
        return None
    half = LONGEST // 2  # which a line that is too long has somewhere without an end
    if any(lines.find(b"\n", at, at + half) < 0 for at in range(0, len(lines) - half, half)):
        return None
    if not lines.isascii():
        try:
            lines.decode("utf-8")
        except UnicodeDecodeError:
            return None
    names = [str(i) for i in range(header.width)]
    chosen = [names[i] for i in header.places]
    try:
        table = pacsv.read_csv(
            pa.BufferReader(lines),
            pacsv.ReadOptions(use_threads=False, block_size=len(lines) + 1, column_names=names),
            pacsv.ParseOptions(delimiter=delimiter, quote_char=False),
            pacsv.ConvertOptions(
                check_utf8=False, column_types=dict.fromkeys(chosen, pa.string()), include_columns=chosen
            ),
        )
    except pa.ArrowInvalid:  # a row with more or fewer cells
        return None
    return [column.combine_chunks() for column in table.columns]


def _csv_rows(lines: bytes, width: int, delimiter: str) -> Iterable[Sequence[str] | Unread]:
    """The cells of each row. A quoted cell ends on its line, so a stray quote costs one row, not the file."""
    each = [*filter(bytes.strip, lines.split(b"\n"))]
    rows: Sequence[Sequence[str] | Unread] = []
    try:
        texts = [_decoded(line) for line in each]
        rows = list(csv.reader(texts, delimiter=delimiter, strict=True))
    except (csv.Error, InvalidInput):
        pass
    if len(rows) != len(each):
        rows = [_cells(line, delimiter) for line in each]
    for line, cells in zip(each, rows, strict=True):
        if isinstance(cells, Unread) or len(cells) == width:
            yield cells
        else:
            said = f"has {len(cells)} cells, not {width}"
            yield Unread(_start(line), Violation("row", shown(_start(line)), "columns", said))


def _cells(line: bytes, delimiter: str) -> list[str] | Unread:
    try:
        return next(csv.reader([_decoded(line)], delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        lone = b"\r" in line.rstrip(b"\r\n")
        said = (
            f"is not a CSV row ({'lines end with line feeds, not carriage returns alone' if lone else error})"
        )
        return Unread(_start(line), Violation("row", shown(_start(line)), "csv", said))
    except InvalidInput as refusal:
        return Unread(_start(line), refusal.violations[0])


def _object(line: bytes) -> Mapping[str, Any] | Unread:
    try:
        body = decode(_decoded(line).encode())
        if not isinstance(body, dict):
            raise refuse("row", _start(line), "object", "is not a JSON object")
        if b"\\u" in line.lower():
            _check_whole(body)
    except InvalidInput as refusal:
        return Unread(_start(line), refusal.violations[0])
    return body


def _check_whole(body: Mapping[str, Any]) -> None:
    """Raises ``InvalidInput`` where a text has half of a character, which no encoding can hold."""
    for name, cell in body.items():
        try:
            _as_json({name: cell}).encode()
        except UnicodeEncodeError as error:
            text = cell if isinstance(cell, str) else _as_json(cell)
            said = "has half of a character (a lone surrogate)"
            raise refuse(shown(name), text, "unicode", said) from error


def _unknown_field(row: Mapping[str, Any]) -> Violation:
    try:
        parse_statement(row)
    except InvalidInput as refusal:
        return refusal.violations[0]
    raise AssertionError("a field that no claim has is refused")


def _object_block(first: int, rows: Sequence[Mapping[str, Any]], unread: Mapping[int, Unread]) -> Block:
    import pyarrow as pa

    names = sorted({name for row in rows for name in row})
    columns = {n: Column(pa.array([row.get(n) for row in rows], pa.string()), None) for n in names}
    return Block(first, len(rows) + len(unread), columns, unread)


def _decoded(line: bytes) -> str:
    if len(line) > LONGEST:
        raise refuse("row", _start(line), "max-bytes", f"is longer than {LONGEST} bytes")
    try:
        return line.rstrip(b"\r\n").decode("utf-8")
    except UnicodeDecodeError as error:
        raise refuse("row", _start(line), "utf-8", "is not text of the file's encoding") from error


def _start(line: bytes) -> str:
    return line.rstrip(b"\r\n")[:SHOWN].decode("utf-8", "backslashreplace")


def _scalar(cell: Any) -> str:
    """The text that a CSV file would hold."""
    if isinstance(cell, bool | dict | list):
        return _as_json(cell)
    return str(cell)


def _as_json(cell: Any) -> str:
    return json.dumps(cell, default=str, ensure_ascii=False)


def converted(cell: str | None, convert: Convert | None) -> str:
    """A cell of a block as a claim has it; empty where it says nothing.

    Raises:
        InvalidInput: it breaks a convention that the mapping declares.
    """
    text = (cell or "").strip(BLANKS)
    return convert(text) if text and convert is not None else text


def _all_midnight(table: parquet.ParquetFile, column: pa.Field) -> bool:
    """Whether a column has dates in the way of pandas: as times without a zone, all of them at midnight."""
    import pyarrow as pa
    from pyarrow import compute

    if not pa.types.is_timestamp(column.type) or column.type.tz is not None:
        return False
    days = (batch.column(0) for batch in table.iter_batches(PARQUET_BATCH, columns=[column.name]))
    return all(
        compute.all(compute.equal(compute.floor_temporal(cells, unit="day"), cells)).as_py() is not False
        for cells in days
    )


def _as_text(cells: pa.Array, field: str, first: int, unread: dict[int, Unread]) -> pa.Array:
    """Cells as the texts that a CSV file would hold: exact decimals, times with offset, documents as JSON.

    Rows whose cell is no text are put among ``unread``.
    """
    import pyarrow as pa

    if pa.types.is_timestamp(cells.type) and cells.type.tz is not None:
        cells = cells.cast(pa.timestamp(cells.type.unit, "UTC"))
    try:
        texts = cells.cast(pa.string())
        texts.validate(full=True)
    except pa.ArrowException:
        return pa.array(_one_by_one(cells, field, first, unread), pa.string())
    return texts


def _one_by_one(cells: pa.Array, field: str, first: int, unread: dict[int, Unread]) -> Iterator[str | None]:
    import pyarrow as pa

    if pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type):
        cells = cells.cast(pa.large_binary())
    for number, cell in enumerate(cells, start=first):
        value: Any = None
        try:
            value = cell.as_py()
            text = value.decode("utf-8") if isinstance(value, bytes) else value
            text = None if text is None else _scalar(text)
            if text is not None:
                text.encode()
            yield text
        except (ValueError, OverflowError, pa.ArrowException) as error:
            bytes_ = value if isinstance(value, bytes) else b""
            said = f"cannot be read as text ({type(error).__name__})"
            violation = Violation(field, shown(_start(bytes_)) or f"({cells.type})", "utf-8", said)
            unread.setdefault(number, Unread(_start(bytes_), violation))
            yield None
