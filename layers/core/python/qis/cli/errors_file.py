"""The row-level report of a load: ``<file>.errors.csv``, in order of rows, in constant memory."""

from __future__ import annotations

import csv
import heapq
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from qis.cli.claims_file import row_number
from qis.cli.failures import cause, failure
from qis.domain.errors import Violation

HEADER = ("row", "field", "value", "rule", "message")
Line = tuple[int, int, str, str, str, str]
"""Row, 0 where this program met the error and 1 where the system did, and the violation."""


class ErrorsFile:
    """Collects what is wrong with the rows of a file."""

    def __init__(self, claims: Path) -> None:
        self.file = claims.with_name(claims.name + ".errors.csv")
        self._spool = tempfile.TemporaryFile("w+", encoding="utf-8", newline="")  # noqa: SIM115 - closed in __exit__
        self._local = csv.writer(self._spool)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()

    def unreadable(self, row: int, violation: Violation) -> None:
        """A row that could not be turned into a record; call in order of rows."""
        self._local.writerow((row, 0, violation.field, violation.value, violation.rule, violation.message))

    def write(self, rejected: Iterable[Mapping[str, Any]]) -> Path | None:
        """Write the report.

        Args:
            rejected: records that the system refused, in order of record id.

        Returns:
            The file; ``None`` where there is nothing to report, and then an older report is removed.

        Raises:
            Failure: it cannot be written.
        """
        self._spool.seek(0)
        lines = heapq.merge(self._spooled(), _refused(rejected), key=lambda line: line[:2])
        fresh = self.file.with_name(f".{self.file.name}.part")
        try:
            if not _write(fresh, lines):
                fresh.unlink()
                self.file.unlink(missing_ok=True)
                return None
            os.replace(fresh, self.file)  # noqa: PTH105 - atomic also over an existing file
        except OSError as error:
            raise failure(
                "not-written", "The report cannot be written", f"{self.file}: {cause(error)}"
            ) from error
        return self.file

    def _spooled(self) -> Iterator[Line]:
        for row, origin, *violation in csv.reader(self._spool):
            field, value, rule, message = violation
            yield int(row), int(origin), field, value, rule, message


def _refused(rejected: Iterable[Mapping[str, Any]]) -> Iterator[Line]:
    for item in rejected:
        for v in item["violations"]:
            yield row_number(item["record_id"]), 1, v["field"], v["value"], v["rule"], v["message"]


def _write(file: Path, lines: Iterable[Line]) -> int:
    """What this program says of a row is nearer the cause than what the system then says of the remains."""
    count, known = 0, 0
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(HEADER)
        for row, origin, *violation in lines:
            if origin == 0:
                known = row
            if origin == 0 or row != known:
                writer.writerow((row, *violation))
                count += 1
    return count
