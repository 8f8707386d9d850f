"""Official values into files: CSV as the API gives it, Parquet and Arrow with exact decimals."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qis.api.tables import csv_bytes, value_cell
from qis.cli.failures import cause, failure
from qis.domain.numbers import MAX_DIGITS, MAX_SCALE
from qis.domain.snap import parse_instant

if TYPE_CHECKING:
    import pyarrow as pa

Value = Mapping[str, Any]
SCORES = ("accuracy", "completeness", "timeliness", "consistency", "composite")
TEXTS = (
    "reference_data_id",
    "kind",
    "currency",
    "base_currency",
    "unit",
    "status",
    "method",
    "rules",
    "basis",
)


def write(file: Path, pages: Iterable[Sequence[Value]]) -> int:
    """Write pages of official values to ``file``, in the format that its name says. It appears when complete.

    Returns:
        How many values were written.

    Raises:
        Failure: the file cannot be written, or a value does not fit a 128-bit decimal.
    """
    fresh = file.with_name(f".{file.name}.part")
    try:
        rows = (
            _csv(fresh, pages)
            if file.suffix.lower() == ".csv"
            else _columns(fresh, file.suffix.lower(), pages)
        )
        os.replace(fresh, file)  # noqa: PTH105 - atomic also over an existing file
    except OSError as error:
        raise failure("not-written", "The file cannot be written", f"{file}: {cause(error)}") from error
    finally:
        fresh.unlink(missing_ok=True)
    return rows


def _csv(file: Path, pages: Iterable[Sequence[Value]]) -> int:
    rows = 0
    with file.open("wb") as out:
        out.write(csv_bytes([]))
        heading = out.tell()
        for page in pages:
            out.write(csv_bytes(page)[heading:])
            rows += len(page)
    return rows


def _columns(file: Path, suffix: str, pages: Iterable[Sequence[Value]]) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    rows = 0
    schema = _schema()
    with (
        pa.OSFile(str(file), "wb") as sink,
        parquet.ParquetWriter(sink, schema, compression="zstd")
        if suffix == ".parquet"
        else pa.ipc.new_file(sink, schema) as writer,
    ):
        for page in pages:
            writer.write_batch(_batch(page, schema))
            rows += len(page)
    return rows


def _schema() -> pa.Schema:
    import pyarrow as pa

    number, small = pa.decimal128(MAX_DIGITS, MAX_SCALE), pa.decimal128(5, 4)
    return pa.schema(
        [
            ("reference_data_id", pa.string()),
            ("snap", pa.timestamp("ns", "UTC")),
            ("value", number),
            ("record", pa.string()),
            *((n, pa.string()) for n in TEXTS if n not in ("reference_data_id", "rules", "basis")),
            ("version", pa.int32()),
            ("recorded_from", pa.timestamp("us", "UTC")),
            ("confidence", small),
            *((n, small) for n in SCORES),
            ("sources", pa.list_(pa.string())),
            ("rules", pa.string()),
            ("rules_version", pa.int32()),
            ("restated", pa.bool_()),
            ("restatement_cause", pa.string()),
            ("restatement_reason", pa.string()),
            ("restated_by", pa.string()),
            ("value_before", number),
            ("basis", pa.string()),
        ]
    )


def _batch(page: Sequence[Value], schema: pa.Schema) -> pa.RecordBatch:
    import pyarrow as pa

    try:
        arrays = [pa.array([_cell(v, f.name) for v in page], f.type) for f in schema]
    except pa.ArrowInvalid as error:
        raise failure(
            "not-representable",
            "A value does not fit the column",
            f"a decimal of {MAX_DIGITS} digits with {MAX_SCALE} decimals is the most: {error}",
            "write a .csv file, which holds every digit",
        ) from error
    return pa.record_batch(arrays, schema=schema)


def _cell(value: Value, name: str) -> Any:
    if name == "snap":
        return parse_instant(value["snap"], "snap").ns
    if name == "recorded_from":
        return datetime.fromisoformat(value["recorded_from"])
    if name in SCORES:
        return _decimal(value["quality"][name])
    if name in ("value", "record"):
        return _said(value["value"], name)
    if name == "confidence":
        return _decimal(value[name])
    cause = value["restatement"]
    match name:
        case "restatement_cause" | "restatement_reason":
            return None if cause is None else cause[name.removeprefix("restatement_")]
        case "restated_by":
            return None if cause is None else cause["restated_by"]
        case "value_before":
            return None if cause is None else _said(cause["before"]["value"], "value")
        case _:
            return value[name]


def _said(value: object, column: str) -> Decimal | str | None:
    """A number goes into its own column, a record as compact JSON into another; its digest into neither."""
    if isinstance(value, str):
        is_number = column == "value" and not value.startswith("record:")
        return Decimal(value) if is_number else None
    return None if column == "value" else str(value_cell(value))


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
