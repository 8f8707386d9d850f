"""Claims read from a file by column, and decisions as columns of a file, for ``fuse``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute
from pyarrow import csv as pacsv

from qis.application.fusing import Plan, kinds_of
from qis.application.fusing_columns import REASONS, Rows, Said, Series, Verdicts, arranged
from qis.cli.claims_file import ClaimsFile, Mapped, instant
from qis.cli.failures import cause, failure
from qis.domain.claims import parse_volume
from qis.domain.errors import InvalidInput, refuse
from qis.domain.numbers import decimal_text, parse_decimal

T = TypeVar("T")
U = TypeVar("U")
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
NEEDED = ("snap", "reference_data_id", "source", "value")
TAKEN = (*NEEDED, "volume", "received_at", "attribute")
EXAMPLES = 5
BETWEEN = "|"
"""Between the sources of a cell; a rejected one is followed by a colon and the reason."""


class Claims(NamedTuple):
    """What was read."""

    said: Said
    snaps: Sequence[str]
    """Each snap as the file has it."""
    rows: int
    unreadable: int
    examples: Sequence[tuple[int, str]]
    """Numbers of some rows that cannot be used, and why."""


class _Unusable:
    """Rows that cannot be used: how many, and the first of them."""

    def __init__(self) -> None:
        self.count = 0
        self.examples: list[tuple[int, str]] = []

    def add(self, number: int, why: str) -> None:
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append((number, why))


class _Coded(NamedTuple):
    """A column as numbers of its different texts; -1 where there is none, or an empty one."""

    codes: Ints
    texts: Sequence[str]

    def text(self, row: int) -> str:
        return self.texts[self.codes[row]] if self.codes[row] >= 0 else ""

    def parsed(self, parse: Callable[[str], T], instead: U) -> tuple[list[T | U], Flags]:
        """Of each text what it says, and of each row whether it cannot be read."""
        found: list[T | U] = []
        bad = []
        for text in self.texts:
            try:
                found.append(parse(text))
                bad.append(False)
            except InvalidInput:
                found.append(instead)
                bad.append(True)
        return found, np.array([*bad, False], bool)[self.codes]


def read_claims(file: Path, plan: Plan) -> Claims:
    """All claims of a file.

    Raises:
        InvalidInput: the plan is for an attribute that the file lacks.
        Failure: it cannot be read, or lacks a column.
    """
    unusable = _Unusable()
    table = _csv(file, unusable) if _is_csv(file) else _other(file, unusable)
    missing = [n for n in NEEDED if n not in table.column_names]
    if missing:
        raise failure("invalid-input", "The file lacks columns", f"{file}: {', '.join(missing)}")
    rows = table.num_rows
    nothing = _Coded(np.full(rows, -1), [])
    columns = {n: _coded(table[n]) if n in table.column_names else nothing for n in TAKEN}
    del table
    moments, no_snap = columns["snap"].parsed(instant, None)
    kinds = kinds_of(columns["reference_data_id"].texts)
    plan.check_attributes({*columns["attribute"].texts, *kinds.values()} - {""})
    numbers, no_number = columns["value"].parsed(_value, Decimal(0))
    volumes, no_volume = columns["volume"].parsed(parse_volume, Decimal(0))
    received, no_instant = columns["received_at"].parsed(instant, 0)
    bad = no_snap | no_number | no_volume | no_instant
    for name in NEEDED:
        bad |= columns[name].codes < 0
    for row in np.flatnonzero(bad).tolist():
        unusable.add(row + 1, _why({n: c.text(row) for n, c in columns.items()}))
    good = np.flatnonzero(~bad)
    snaps = sorted({at for at in moments if at is not None})
    place = {at: i for i, at in enumerate(snaps)}
    series, of_series = _series(columns, good, kinds)
    read = Rows(
        np.array([-1 if at is None else place[at] for at in moments], np.int64)[columns["snap"].codes[good]],
        of_series,
        columns["source"].codes[good],
        columns["value"].codes[good],
        columns["volume"].codes[good] + 1,
        np.array([*received, 0], np.int64)[columns["received_at"].codes[good]],
    )
    said = arranged(read, snaps, series, columns["source"].texts, numbers, [None, *volumes], plan)
    dated = zip(moments, columns["snap"].texts, strict=True)
    texts = dict(sorted(((at, text) for at, text in dated if at is not None), reverse=True))
    return Claims(said, [texts[at] for at in snaps], rows, unusable.count, unusable.examples)


def _coded(column: pa.ChunkedArray) -> _Coded:
    """An empty text is none."""
    encoded = column.dictionary_encode().unify_dictionaries().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # of no chunks
        return _Coded(np.empty(0, np.int64), [])
    codes = encoded.indices.fill_null(-1).to_numpy().astype(np.int64)
    texts = encoded.dictionary.to_pylist()
    if "" in texts:
        empty = texts.index("")
        codes = np.where(codes == empty, -1, codes - (codes > empty))
        del texts[empty]
    return _Coded(codes, texts)


def _value(text: str) -> Decimal:
    return parse_decimal(text, "value")


def _why(row: Mapping[str, str]) -> str:
    """Why a row cannot be used."""
    try:
        for name in NEEDED:
            if not row[name]:
                raise refuse(name, "", "required", "is required")
        instant(row["snap"])
        _value(row["value"])
        if row["volume"]:
            parse_volume(row["volume"])
        instant(row["received_at"], "received_at")
    except InvalidInput as refusal:
        return str(refusal)
    raise AssertionError(f"can be used: {row}")


def _series(columns: Mapping[str, _Coded], good: Ints, kinds: Mapping[str, str]) -> tuple[list[Series], Ints]:
    """The series that there are, and that of each good row."""
    identifiers, attributes = columns["reference_data_id"], columns["attribute"]
    width = len(attributes.texts) + 1
    pairs = pa.array(identifiers.codes[good] * width + attributes.codes[good] + 1).dictionary_encode()
    series = []
    for pair in pairs.dictionary.to_pylist():
        one, other = divmod(pair, width)
        identifier, attribute = identifiers.texts[one], attributes.texts[other - 1] if other else ""
        name = f"{identifier}\n{attribute}" if attribute else identifier
        series.append(Series(attribute or kinds[identifier], name, (identifier, attribute)))
    return series, pairs.indices.to_numpy().astype(np.int64)


def _is_csv(file: Path) -> bool:
    return file.name.lower().removesuffix(".gz").endswith(".csv")


def _csv(file: Path, unusable: _Unusable) -> pa.Table:
    def skip(row: Any) -> str:
        unusable.add(row.number or 0, f"has {row.actual_columns} cells")
        return "skip"

    convert = pacsv.ConvertOptions(
        column_types=dict.fromkeys(TAKEN, pa.string()),
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )
    parse = pacsv.ParseOptions(invalid_row_handler=skip)
    try:
        return pacsv.read_csv(file, pacsv.ReadOptions(use_threads=False), parse, convert)
    except (pa.ArrowException, OSError) as error:
        raise failure("unreadable", "The file cannot be read", f"{file}: {cause(error)}") from error


def _other(file: Path, unusable: _Unusable) -> pa.Table:
    rows = []
    for row in ClaimsFile(file, Mapped(), "fuse").rows():
        if row.broken is not None:
            unusable.add(row.number, row.broken.message)
            continue
        rows.append({n: None if row.record.get(n) is None else str(row.record[n]) for n in TAKEN})
    return pa.Table.from_pylist(rows, pa.schema([(n, pa.string()) for n in TAKEN]))


def told(claims: Claims, verdicts: Verdicts, plan: Plan) -> Mapping[str, Sequence[str]]:
    """The decisions as columns, by snap, series and attribute."""
    said = claims.said
    items = said.told.tolist()
    snaps, series = said.snap_of[said.told].tolist(), said.series_of[said.told].tolist()
    methods = [plan.of(kind).method for kind in said.kinds]
    kinds = said.kind_of[series].tolist() if items else []
    values = (verdicts.value[i] for i in items)
    used = verdicts.reason == REASONS.index("used")
    names = [*said.sources]
    rejected = [f"{source}:{reason}" for reason in REASONS for source in said.sources]
    return {
        "snap": [claims.snaps[s] for s in snaps],
        "reference_data_id": [said.told_of[s][0] for s in series],
        "value": ["" if v is None else decimal_text(v) for v in values],
        "status": ["official" if verdicts.official[i] else "suspect" for i in items],
        "confidence": [decimal_text(verdicts.confidence[i]) for i in items],
        "method": [methods[k] for k in kinds],
        "sources_used": _cells(said, used, said.source, names),
        "sources_rejected": _cells(said, ~used, verdicts.reason * len(said.sources) + said.source, rejected),
        "attribute": [said.told_of[s][1] for s in series],
    }


def _cells(said: Said, chosen: Flags, codes: Ints, names: Sequence[str]) -> list[str]:
    """Of each item, in the order in which they are told of, the names of the chosen claims."""
    before = np.concatenate([[0], np.cumsum(chosen)])[said.first]
    texts = pa.array(names, pa.string()).take(pa.array(codes[chosen]))
    lists = pa.ListArray.from_arrays(pa.array(before, pa.int32()), texts)
    cells: list[str] = compute.binary_join(lists, BETWEEN).take(pa.array(said.told)).to_pylist()
    return cells
