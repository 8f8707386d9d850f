"""Tables written to a file, as CSV or Parquet by its name: complete, or not at all."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from qis.cli.failures import cause, failure

FORMS = (".csv", ".parquet")


def check_form(file: Path) -> None:
    """Raises Failure: the name says no form that can be written."""
    if file.suffix.lower() not in FORMS:
        raise failure("unknown-format", "The name says no known format", f"{file.name}: .csv or .parquet")


def write_table(file: Path, columns: Mapping[str, Sequence[str]], numbers: Sequence[str] = ()) -> None:
    """Write columns of text; the file appears under its name when it is complete.

    Args:
        numbers: columns that are floats where a form has types.

    Raises:
        Failure: it cannot be written.
    """
    fresh = file.with_name(f".{file.name}.part")
    try:
        if file.suffix.lower() == ".parquet":
            _parquet(fresh, columns, numbers)
        else:
            with fresh.open("w", encoding="utf-8", newline="") as out:
                writer = csv.writer(out, lineterminator="\n")
                writer.writerow(columns)
                writer.writerows(zip(*columns.values(), strict=True))
        os.replace(fresh, file)  # noqa: PTH105 - atomic also over an existing file
    except OSError as error:
        raise failure("not-written", "The file cannot be written", f"{file}: {cause(error)}") from error
    finally:
        fresh.unlink(missing_ok=True)


def _parquet(file: Path, columns: Mapping[str, Sequence[str]], numbers: Sequence[str]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    for name in numbers:
        table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(pa.float64()))
    parquet.write_table(table, file, compression="zstd")
