"""Refused rows of a file: a report with each of them, and on the screen the reasons and what mends them."""

from __future__ import annotations

import csv
import heapq
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from qis.cli.claims_file import row_number
from qis.cli.failures import cause, failure
from qis.domain.errors import Violation

if TYPE_CHECKING:
    from rich.console import Console

HEADER = ("row", "field", "value", "rule", "message")
Line = tuple[int, int, str, str, str, str]
"""Row, 0 where this program met the error and 1 where the system did, and the violation."""
FIRST = 5
"""Refused rows that the screen shows; the report has all."""
TOP = 5
"""Reasons that the screen shows."""
MOST_REASONS = 1000
"""Reasons that are counted apart: each row of a file may name another unknown field."""
ZONE = '--mapping with "times": {"snap": {"zone": "America/New_York"}} says where the clocks are'
TIMES = (
    '--mapping with "times": {"snap": {"format": "%d.%m.%Y"}}, or {"epoch": "ms"}, says how times are written'
)
REMEDIES: Mapping[str, str] = {
    "active-source": "`qis sources resume NAME`",
    "aware-time": ZONE,
    "columns": '--mapping with "delimiter": ";" says what separates cells',
    "csv": "quote a cell that holds a quote, and end it on its line",
    "decimal": '--mapping with "decimal", "grouping" and "nulls" says how numbers are written',
    "epoch": TIMES,
    "finite": "leave such rows out, or correct them",
    "identifier": '--mapping with "names": {"reference_data_id": {"AAPL US": "EQ.AAPL"}} renames',
    "iso-8601": TIMES,
    "known-field": '--mapping with "columns": {"Close": "value"} leaves out what it does not name',
    "known-series": "`qis series add --file FILE` registers it",
    "known-source": "`qis sources add --file FILE` registers it",
    "max-scale": '--mapping with "round": 18 rounds',
    "name": '--mapping with "names": {"source": {"Vendor A": "va"}} renames',
    "required": 'fill the cell, or --mapping with "constants": {"source": "va"} says it for all rows',
    "series-attribute": '--mapping with "columns" leaves the attribute out, or load it into its own series',
    "series-currency": "load it into a series of that currency: `qis series add --file FILE`",
    "series-unit": "load it into a series of that unit: `qis series add --file FILE`",
    "snap-time": "a bare date takes the snap time of its series; an intraday series takes times only",
    "time-format": TIMES,
    "utf-8": '--mapping with "encoding": "cp1252" says how the text is encoded',
}
"""By rule: what a user can do about it."""


@dataclass(slots=True)
class Reason:
    """Rows that break one rule in one field."""

    field: str
    rule: str
    message: str
    """Of the first of them, as is what follows."""
    row: int
    value: str
    rows: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "field": self.field,
            "rule": self.rule,
            "message": self.message,
            "first_row": self.row,
            "first_value": self.value,
            "remedy": REMEDIES.get(self.rule),
        }


class Refusals:
    """Collects what is wrong with the rows of a file, and counts the reasons."""

    def __init__(self, report: Path) -> None:
        self.file = report
        self.first: list[tuple[int, Violation]] = []
        """The first refused rows."""
        self._reasons: dict[tuple[str, str], Reason] = {}
        self._spool = tempfile.TemporaryFile("w+", encoding="utf-8", newline="")  # noqa: SIM115 - closed in __exit__
        self._local = csv.writer(self._spool)

    @classmethod
    def of(cls, file: Path) -> Self:
        """The refusals of rows of ``file``, reported beside it."""
        return cls(file.with_name(file.name + ".errors.csv"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()

    def add(self, row: int, violation: Violation) -> None:
        """A row that this program refuses; call in order of rows."""
        self._local.writerow((row, 0, violation.field, violation.value, violation.rule, violation.message))

    def write(self, rejected: Iterable[Mapping[str, Any]] = ()) -> Path | None:
        """Write the report and count its reasons.

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
            if not self._write(fresh, lines):
                fresh.unlink()
                self.file.unlink(missing_ok=True)
                return None
            os.replace(fresh, self.file)  # noqa: PTH105 - atomic also over an existing file
        except OSError as error:
            raise failure(
                "not-written", "The report cannot be written", f"{self.file}: {cause(error)}"
            ) from error
        return self.file

    @property
    def top(self) -> list[Reason]:
        """The reasons, that of most rows first."""
        return sorted(self._reasons.values(), key=lambda reason: (-reason.rows, reason.row))

    def show(self, out: Console) -> None:
        """Print the reasons of most rows, what mends them, and where every refused row is."""
        from qis.cli import render

        if not self._reasons:
            return
        render.table(
            out,
            ("rows", "field", "rule", "why", "what mends it"),
            ((r.rows, r.field, r.rule, r.message, REMEDIES.get(r.rule, "")) for r in self.top[:TOP]),
            numbers=("rows",),
        )
        if len(self.top) > TOP:
            render.line(out, (f"  and {len(self.top) - TOP} more reasons", "dim"))
        render.line(out, "  every refused row: ", (str(self.file), "bold"))

    def show_first(self, out: Console) -> None:
        """Print the first refused rows."""
        from qis.cli import render

        if self.first:
            rows = ((n, v.field, v.value, v.rule, v.message) for n, v in self.first)
            render.table(out, ("row", "field", "value", "rule", "why"), rows, numbers=("row",))

    def _spooled(self) -> Iterator[Line]:
        for row, origin, *violation in csv.reader(self._spool):
            field, value, rule, message = violation
            yield int(row), int(origin), field, value, rule, message

    def _write(self, file: Path, lines: Iterable[Line]) -> int:
        """Write what this program says of a row, or else what the system says of it."""
        count, known = 0, 0
        with file.open("w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(HEADER)
            for row, origin, *violation in lines:
                if origin == 0:
                    known = row
                if origin == 0 or row != known:
                    writer.writerow((row, *violation))
                    self._count(row, Violation(*violation))
                    count += 1
        return count

    def _count(self, row: int, violation: Violation) -> None:
        key = violation.field, violation.rule
        if len(self._reasons) >= MOST_REASONS and key not in self._reasons:
            key = "(others)", "(others)"
        reason = self._reasons.get(key)
        if reason is None:
            made = Reason(*key, violation.message, row, violation.value)
            reason = self._reasons[key] = made
        reason.rows += 1
        if len(self.first) < FIRST and (not self.first or self.first[-1][0] != row):
            self.first.append((row, violation))


def _refused(rejected: Iterable[Mapping[str, Any]]) -> Iterator[Line]:
    for item in rejected:
        for v in item["violations"]:
            yield row_number(item["record_id"]), 1, v["field"], v["value"], v["rule"], v["message"]
