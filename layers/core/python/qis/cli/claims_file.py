"""Claims files: CSV, Parquet and JSON Lines, read row by row in constant memory.

A row that cannot be turned into a record (broken CSV, not JSON, not UTF-8, too long) is handed on as it is,
in a record that only says what was read, so that it is refused and counted where all others are.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from qis.application.ingest import MAX_BYTES, decode
from qis.cli.failures import Failure, cause, failure
from qis.domain.claims import OPTIONAL, REQUIRED
from qis.domain.errors import InvalidInput, Violation, refuse, shown
from qis.domain.snap import parse_instant

if TYPE_CHECKING:
    import pyarrow as pa

FIELDS = frozenset(REQUIRED | OPTIONAL) - {"correlation_id", "record_id"}
"""What a file may say of a claim; the other two say which row of which load it is."""
SHOWN = 1000
"""Characters kept of a row that cannot be read."""
MARGIN = 1024
"""Bytes of a record that are not the row's own."""
PARQUET_BATCH = 10_000
_GZIP = b"\x1f\x8b"


def instant(text: str, field: str = "snap") -> int:
    """Nanoseconds of a time; a date is its first moment in UTC."""
    return parse_instant(f"{text}T00:00:00Z" if len(text) == 10 else text, field).ns


@dataclass(frozen=True, slots=True)
class Mapped:
    """How the columns of a file become fields of claims."""

    columns: Mapping[str, str] | None = None
    """Column to field; columns not named are left out. ``None``: columns are fields."""
    constants: Mapping[str, Any] = field(default_factory=dict)
    """Values of fields that a row does not have."""

    def apply(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A claim's fields; what is empty or absent comes from the constants."""
        columns = self.columns
        if columns is not None:
            row = {columns[name]: value for name, value in row.items() if name in columns}
        return {**self.constants, **{k: v for k, v in row.items() if v is not None and v != ""}}

    def with_constants(self, **given: str | None) -> Mapped:
        """The same with further constants; those that are ``None`` are left out."""
        return Mapped(self.columns, {**self.constants, **{k: v for k, v in given.items() if v is not None}})


def read_mapping(file: Path) -> Mapped:
    """A mapping file: ``{"columns": {"Close": "value"}, "constants": {"source": "ecb"}}``, both optional.

    Raises:
        Failure: the file cannot be read.
        InvalidInput: it has an unknown part, or names what is not a field of a claim.
    """
    try:
        body = json.loads(file.read_text(encoding="utf-8"), parse_float=str)
    except (OSError, ValueError) as error:
        raise failure("invalid-input", "The mapping cannot be read", f"{file}: {cause(error)}") from error
    if not isinstance(body, dict) or not body or body.keys() - {"columns", "constants"}:
        raise refuse("mapping", body, "known-field", 'is not {"columns": {...}, "constants": {...}}')
    columns, constants = body.get("columns"), body.get("constants", {})
    for part, names in (("columns", columns), ("constants", constants)):
        if names is not None and not isinstance(names, dict):
            raise refuse(f"mapping.{part}", names, "object", "is not a JSON object")
    targets = [*(columns or {}).values()]
    broken = [
        Violation("mapping", shown(t), "known-field", f"is not one of {', '.join(sorted(FIELDS))}")
        for t in (*targets, *constants)
        if t not in FIELDS
    ]
    broken += [
        Violation("mapping", shown(t), "distinct", "is the target of more than one column")
        for t in sorted({str(t) for t in targets if targets.count(t) > 1})
    ]
    if broken:
        raise InvalidInput(*broken)
    return Mapped(columns, constants)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file as a record of a load."""

    number: int
    """1 for the first row of data."""
    record: Mapping[str, Any]
    broken: Violation | None = None
    """Why the row could not be read; it is then sent as it was."""


def record_id(load: str, number: int) -> str:
    """Identity of a row in its load; in the order of rows also when sorted as text."""
    return f"{load}:{number:010d}"


def row_number(identity: str) -> int:
    """The row that ``record_id`` named."""
    return int(identity.rpartition(":")[2])


class ClaimsFile:
    """A file of claims. Iterate ``rows`` once."""

    def __init__(self, file: Path, mapped: Mapped, load: str) -> None:
        """Raises ``Failure`` where the name says no known format or the file is not there."""
        self._file = file
        self._mapped = mapped
        self._load = load
        name = file.name.lower().removesuffix(".gz")
        suffix = Path(name).suffix
        readers: Mapping[str, Callable[[IO[bytes]], Iterator[Mapping[str, Any] | Unread]]] = {
            ".csv": self._csv,
            ".jsonl": self._json_lines,
            ".ndjson": self._json_lines,
            ".parquet": self._parquet,
        }
        if suffix not in readers:
            known = ", ".join(readers)
            raise failure(
                "unknown-format", "The name says no known format", f"{file.name}: known are {known}"
            )
        self._read = readers[suffix]
        try:
            self.size = file.stat().st_size
        except OSError as error:
            raise self._unreadable(error) from error
        self.unknown: Sequence[str] = ()
        """Columns that no claim has; known once the first row was read."""
        self._raw: IO[bytes] | None = None

    def position(self) -> int:
        """Bytes of the file that were read, of ``size``."""
        return 0 if self._raw is None else min(self._raw.tell(), self.size)

    def rows(self) -> Iterator[Row]:
        """Every row, in order.

        Raises:
            Failure: the file cannot be read to its end; rows before that were given.
            InvalidInput: the header lacks what a claim or the mapping needs; no row was given then.
        """
        number = 0
        try:
            with self._file.open("rb") as raw:
                self._raw = raw
                for number, found in enumerate(self._read(raw), start=1):
                    yield self._row(number, found)
        except (OSError, EOFError, zlib.error) as error:
            raise self._unreadable(error, number) from error
        finally:
            self._raw = None

    def _row(self, number: int, found: Mapping[str, Any] | Unread) -> Row:
        own = {"correlation_id": self._load, "record_id": record_id(self._load, number)}
        if isinstance(found, Unread):
            return Row(number, {"line": found.text, **own}, found.violation)
        return Row(number, {**self._mapped.apply(found), **own})

    def _unreadable(self, error: Exception, after: int = 0) -> Failure:
        where = f" after row {after}" if after else ""
        return failure("unreadable", "The file cannot be read", f"{self._file}{where}: {cause(error)}")

    # formats -------------------------------------------------------------------------------------

    def _csv(self, raw: IO[bytes]) -> Iterator[Mapping[str, Any] | Unread]:
        names: list[str] | None = None
        for line in filter(bytes.strip, _lines(raw)):
            cells = _cells(line)
            if names is None:
                names = self._header(cells)
                continue
            if isinstance(cells, list) and len(cells) != len(names):
                said = f"has {len(cells)} cells, not {len(names)}"
                cells = Unread(_text(line), Violation("row", shown(_text(line)), "columns", said))
            yield cells if isinstance(cells, Unread) else dict(zip(names, cells, strict=True))

    def _header(self, cells: list[str] | Unread) -> list[str]:
        if isinstance(cells, Unread):
            raise InvalidInput(cells.violation)
        names = [c.strip() for c in cells]
        if len(set(names)) != len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise refuse("header", twice, "distinct-columns", "is the name of more than one column")
        self._check_columns(names)
        return names

    def _json_lines(self, raw: IO[bytes]) -> Iterator[Mapping[str, Any] | Unread]:
        for line in filter(bytes.strip, _lines(raw)):
            yield _object(line)

    def _parquet(self, raw: IO[bytes]) -> Iterator[Mapping[str, Any]]:
        import pyarrow as pa
        from pyarrow import parquet

        try:
            table = parquet.ParquetFile(raw)
            self._check_columns(table.schema_arrow.names)
            for batch in table.iter_batches(PARQUET_BATCH):
                texts = [_as_text(column) for column in batch.columns]
                for cells in zip(*texts, strict=True):
                    yield dict(zip(batch.schema.names, cells, strict=True))
        except pa.ArrowException as error:
            raise OSError(str(error)) from error

    def _check_columns(self, names: Sequence[str]) -> None:
        """Columns that the mapping asks for and those that a claim needs must be there.

        Without them every row would be refused, as where the header is missing or cells are separated by
        semicolons. What no claim has is only noted.
        """
        columns = self._mapped.columns
        if columns is None:
            columns = {n: n for n in names}
            self.unknown = [n for n in names if n not in FIELDS]
        absent = [n for n in columns if n not in names]
        if absent:
            raise InvalidInput(
                *(Violation("mapping", shown(n), "column", "is not a column of the file") for n in absent)
            )
        needed = sorted(REQUIRED - {*columns.values(), *self._mapped.constants})
        if needed:
            said = (
                f"is no column of the file and nothing else says it; the header is {shown(', '.join(names))}"
            )
            raise InvalidInput(*(Violation("header", n, "required-column", said) for n in needed))


@dataclass(frozen=True, slots=True)
class Unread:
    """A row that is not a record: what it said, and why not."""

    text: str
    violation: Violation


def _lines(raw: IO[bytes]) -> Iterator[bytes]:
    """Lines of a file, unpacked where it is gzipped; of a line that no record can hold, the beginning."""
    packed = raw.read(2) == _GZIP
    raw.seek(0)
    stream = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if packed else raw
    longest = MAX_BYTES + 1
    first = True
    while line := stream.readline(longest):
        if len(line) == longest and not line.endswith(b"\n"):
            while (rest := stream.readline(longest)) and not rest.endswith(b"\n"):
                pass
        yield line.removeprefix(b"\xef\xbb\xbf") if first else line
        first = False


def _cells(line: bytes) -> list[str] | Unread:
    """The cells of a line. A quoted cell ends on its line, so a stray quote costs one row, not the file."""
    try:
        text = _decoded(line)
        return next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        return Unread(_text(line), Violation("row", shown(_text(line)), "csv", f"is not a CSV row ({error})"))
    except InvalidInput as refusal:
        return Unread(_text(line), refusal.violations[0])


def _object(line: bytes) -> Mapping[str, Any] | Unread:
    try:
        body = decode(_decoded(line).encode())
        if not isinstance(body, dict):
            raise refuse("row", _text(line), "object", "is not a JSON object")
    except InvalidInput as refusal:
        return Unread(_text(line), refusal.violations[0])
    return body


def _decoded(line: bytes) -> str:
    if len(line) > MAX_BYTES - MARGIN:
        raise refuse("row", _text(line), "max-bytes", f"is longer than {MAX_BYTES - MARGIN} bytes")
    try:
        return line.rstrip(b"\r\n").decode("utf-8")
    except UnicodeDecodeError as error:
        raise refuse("row", _text(line), "utf-8", "is not UTF-8 text") from error


def _text(line: bytes) -> str:
    return line.rstrip(b"\r\n")[:SHOWN].decode("utf-8", "backslashreplace")


def _as_text(column: pa.Array) -> list[str | None]:
    """Values as the text that a CSV file would hold: exact decimals, times with their offset."""
    import pyarrow as pa

    if pa.types.is_timestamp(column.type) and column.type.tz is not None:
        column = column.cast(pa.timestamp(column.type.unit, "UTC"))
    texts: list[str | None] = column.cast(pa.string()).to_pylist()
    return texts
