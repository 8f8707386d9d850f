"""Claims read from a file by column, and decisions as columns of a file, for ``fuse``.

Each different text of a column is checked once, by the rules that a row is checked by.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from heapq import merge
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute

from qis.application.fusing import Plan, kinds_of
from qis.application.fusing_columns import REASONS, Rows, Said, Series, Verdicts, arranged
from qis.cli.claims_file import ClaimsFile, converted
from qis.cli.mapping import Convert
from qis.domain.claims import REQUIRED, STATED, parse_statement
from qis.domain.errors import InvalidInput, Violation, refuse
from qis.domain.numbers import decimal_text
from qis.domain.series import NO_FIELD
from qis.domain.snap import Snap

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
USED = ("snap", "reference_data_id", "source", "value", "volume", "received_at", "attribute")
SPLIT = ("currency", "unit")
"""What claims must agree on to be about one value."""
BETWEEN = "|"
"""Between the sources of a cell; a rejected one is followed by a colon and the reason."""
_NONE, _BAD = -1, -2


class Claims(NamedTuple):
    """What was read."""

    said: Said
    snaps: Sequence[str]
    """Each snap as the file has it."""
    rows: int
    refused: Sequence[tuple[int, Violation]]
    """Numbers of the rows that cannot be used, in order, and why."""
    mixed: Mapping[str, Sequence[str]]
    """Series that the file has in more than one currency or unit, each of which is decided by itself."""


class _Column(NamedTuple):
    """A field of all readable rows."""

    codes: Ints
    """Of each row its text, among ``texts``; -1 where it says nothing, -2 where it breaks a rule."""
    texts: Sequence[str]
    parsed: Sequence[Any]
    """What each text says."""

    def at(self, rows: Ints) -> _Column:
        """The column of some rows."""
        return self._replace(codes=self.codes[rows])


class _Cells:
    """A field's cells, as the file has them."""

    def __init__(self, arrays: Sequence[pa.Array], convert: Convert | None) -> None:
        coded = pa.chunked_array(arrays, pa.dictionary(pa.int32(), pa.string())).unify_dictionaries()
        codes = [chunk.indices.fill_null(_NONE).to_numpy() for chunk in coded.chunks]
        self._codes = np.concatenate(codes)
        self._texts: list[str] = coded.chunk(0).dictionary.to_pylist()
        self.convert = convert

    def cell(self, row: int) -> str | None:
        """One row's cell."""
        code = self._codes[row]
        return None if code < 0 else self._texts[code]

    def column(self, name: str, constant: str | None) -> _Column:
        """The cells by the rule of the field; where one is empty the constant is in its place."""
        texts: dict[str, int] = {}
        parsed: list[Any] = []

        def code_of(cell: str) -> int:
            try:
                text = converted(cell, self.convert) or constant
                if not text:
                    return _NONE
                if text not in texts:
                    parsed.append(_parsed(name, text))
                    texts[text] = len(texts)
                return texts[text]
            except InvalidInput:
                return _BAD

        of_cells = np.array([*map(code_of, self._texts), code_of("")], np.int64)  # -1: the last
        return _Column(of_cells[self._codes], [*texts], parsed)


def _parsed(name: str, text: str) -> Any:
    if name not in STATED:
        raise refuse(name, text, "known-field", NO_FIELD)
    return STATED[name](text)


def read_claims(file: ClaimsFile, plan: Plan) -> Claims:
    """All claims of a file.

    Raises:
        InvalidInput: the file lacks a column, or an attribute that the plan is for.
        Failure: it cannot be read.
    """
    rows, unread, numbers, cells = _read(file)
    absent = _Cells([pa.nulls(len(numbers), pa.string()).dictionary_encode()], None)
    names = [*STATED, *(name for name in cells if name not in STATED)]
    columns = {n: cells.get(n, absent).column(n, file.constants.get(n)) for n in names}
    bad = _broken(columns, len(numbers))
    series = _Series(columns, np.flatnonzero(~bad))
    bad[series.undeclared] = True
    reasons = _reasons(file, numbers, cells, series, np.flatnonzero(bad))
    refused = [*merge(unread, reasons, key=lambda reason: reason[0])]
    del cells, absent
    good = np.flatnonzero(~bad)
    used = {n: columns[n].at(good) for n in USED}
    moments = used["snap"].parsed
    snaps = sorted({moments[code].ns for code in _present(used["snap"].codes)})
    place = {at: i for i, at in enumerate(snaps)}
    identifiers = used["reference_data_id"]
    kinds = kinds_of([identifiers.texts[code] for code in _present(identifiers.codes)])
    attributes = used["attribute"]
    named = {attributes.texts[code] for code in _present(attributes.codes)}
    plan.check_attributes({*named, *kinds.values()} - {""})
    told, of_series = series.of(good, kinds)
    read = Rows(
        np.array([place.get(at.ns, 0) for at in moments], np.int64)[used["snap"].codes],
        of_series,
        used["source"].codes,
        used["value"].codes,
        used["volume"].codes + 1,
        np.array([*(at.ns for at in used["received_at"].parsed), 0], np.int64)[used["received_at"].codes],
    )
    volumes = [None, *used["volume"].parsed]
    said = arranged(read, snaps, told, used["source"].texts, used["value"].parsed, volumes, plan)
    texts = _texts(moments, used["snap"].texts)
    return Claims(said, [texts[at] for at in snaps], rows, refused, series.mixed)


def _read(
    file: ClaimsFile,
) -> tuple[int, list[tuple[int, Violation]], Ints, Mapping[str, _Cells]]:
    """How many rows there are, those that cannot be read, and of the others their numbers and cells."""
    rows, unread = 0, list[tuple[int, Violation]]()
    numbers: list[Ints] = [np.empty(0, np.int64)]
    arrays: dict[str, list[pa.Array]] = {}
    converts: dict[str, Convert | None] = {}
    for block in file.blocks():
        rows += block.rows
        unread += [(number, found.violation) for number, found in sorted(block.unread.items())]
        before = sum(map(len, numbers))
        numbers.append(np.array(block.numbers(), np.int64))
        for name, column in block.columns.items():
            if name not in arrays:
                arrays[name] = [pa.nulls(before, pa.string()).dictionary_encode()]
                converts[name] = column.convert
        for name, parts in arrays.items():
            here = block.columns.get(name)
            cells = pa.nulls(len(numbers[-1]), pa.string()) if here is None else here.cells
            parts.append(cells.dictionary_encode())
    cells = {name: _Cells(parts, converts[name]) for name, parts in arrays.items()}
    return rows, unread, np.concatenate(numbers), cells


def _broken(columns: Mapping[str, _Column], rows: int) -> Flags:
    """Rows that break a rule by themselves."""
    bad = np.zeros(rows, bool)
    for name, column in columns.items():
        bad |= column.codes < 0 if name in REQUIRED else column.codes == _BAD
    bad |= (columns["channel"].codes >= 0) & (columns["sequence"].codes < 0)
    return bad


def _reasons(
    file: ClaimsFile, numbers: Ints, cells: Mapping[str, _Cells], series: _Series, rows: Ints
) -> Iterator[tuple[int, Violation]]:
    """Why rows cannot be used, by the rules for one row."""
    for row in rows.tolist():
        number = int(numbers[row])
        try:
            parse_statement(file.fields({name: (c.cell(row), c.convert) for name, c in cells.items()}))
        except InvalidInput as refusal:
            yield number, refusal.violations[0]
        else:
            yield number, series.ambiguity(row)


def _texts(moments: Sequence[Snap], texts: Sequence[str]) -> Mapping[int, str]:
    """Of each moment the shortest text that the file has for it."""
    dated = sorted(zip((m.ns for m in moments), texts, strict=True), key=lambda d: (d[0], -len(d[1]), d[1]))
    return dict(dated)


class _Series:
    """The series of the rows that can be used: identifier and attribute, apart by currency and unit.

    A series that is claimed in one currency is in that one, also for rows that name none. Of one that is
    claimed in two, rows that name none could be about either.
    """

    def __init__(self, columns: Mapping[str, _Column], rows: Ints) -> None:
        self._columns = columns
        identifiers, attributes = columns["reference_data_id"], columns["attribute"]
        self._keys = identifiers.codes * (len(attributes.texts) + 1) + attributes.codes + 1
        """Of each row its series without currency and unit."""
        self._codes = {name: columns[name].codes.copy() for name in SPLIT}
        self._declared: dict[tuple[str, int], list[str]] = {}
        """By field and key what the file says of a series, where it says several."""
        self.undeclared = np.empty(0, np.int64)
        """Rows that name no currency or unit where the series has several."""
        self.mixed: dict[str, Sequence[str]] = {}
        """By series what the file says of it."""
        for name in SPLIT:
            self._split(name, rows)

    def _split(self, name: str, rows: Ints) -> None:
        codes, texts = self._codes[name], self._columns[name].texts
        declaring, silent = rows[codes[rows] >= 0], rows[codes[rows] < 0]
        by_key: dict[int, list[int]] = defaultdict(list)
        for row in _firsts(self._keys[declaring] * len(texts) + codes[declaring])[0].tolist():
            by_key[int(self._keys[declaring[row]])].append(int(codes[declaring[row]]))
        for key, several in by_key.items():
            if len(several) > 1:
                self._declared[name, key] = sorted(texts[code] for code in several)
        if len(silent):
            first, place = _firsts(self._keys[silent])
            keys = self._keys[silent[first]].tolist()
            only = [by_key[k][0] if len(by_key.get(k, ())) == 1 else _NONE for k in keys]
            codes[silent] = np.array(only, np.int64)[place]
            unclear = np.array([(name, k) in self._declared for k in keys], bool)[place]
            self.undeclared = np.union1d(self.undeclared, silent[unclear])
        for row in declaring[_firsts(self._keys[declaring])[0]].tolist():
            declared = self._declared.get((name, int(self._keys[row])))
            if declared is not None:
                series = " ".join(filter(None, self._named(row)))
                self.mixed[series] = [*self.mixed.get(series, ()), *declared]

    def ambiguity(self, row: int) -> Violation:
        """Why a row that breaks no rule by itself cannot be used."""
        for name in SPLIT:
            declared = self._declared.get((name, int(self._keys[row])))
            if declared is not None and self._columns[name].codes[row] < 0:
                said = f"is missing, and the file has this series in {', '.join(declared)}"
                return Violation(name, "", f"series-{name}", said)
        raise AssertionError(f"row {row} can be used")

    def _named(self, row: int) -> tuple[str, str]:
        identifier, attribute = (self._columns[name] for name in ("reference_data_id", "attribute"))
        has_attribute = attribute.codes[row] >= 0
        return (
            identifier.texts[identifier.codes[row]],
            attribute.texts[attribute.codes[row]] if has_attribute else "",
        )

    def of(self, rows: Ints, kinds: Mapping[str, str]) -> tuple[list[Series], Ints]:
        """The series of rows, and that of each row."""
        first, place = _firsts(self._keys[rows])
        for name in SPLIT:
            if self._columns[name].texts:
                width = len(self._columns[name].texts) + 1
                first, place = _firsts(place * width + self._codes[name][rows] + 1)
        series = []
        for row in rows[first].tolist():
            identifier, attribute = self._named(row)
            declared = {n: self._columns[n].texts[c] for n in SPLIT if (c := self._codes[n][row]) >= 0}
            split = [declared[n] for n in SPLIT if (n, int(self._keys[row])) in self._declared]
            learned = "\n".join([identifier, *([attribute] if attribute or split else []), *split])
            told = identifier, attribute, *(declared.get(name, "") for name in SPLIT)
            series.append(Series(attribute or kinds[identifier], learned, told))
        return series, place


def _present(codes: Ints) -> list[int]:
    """The different codes, without those of rows that say nothing."""
    present: list[int] = np.flatnonzero(np.bincount(codes[codes >= 0])).tolist()
    return present


def _firsts(keys: Ints) -> tuple[Ints, Ints]:
    """Where each different key is first, and of each key its place among the different ones."""
    coded = pa.array(keys).dictionary_encode()
    place = coded.indices.to_numpy().astype(np.int64)
    first = np.empty(len(coded.dictionary), np.int64)
    first[place[::-1]] = np.arange(len(keys))[::-1]
    return first, place


def told(claims: Claims, verdicts: Verdicts, plan: Plan) -> Mapping[str, Sequence[str]]:
    """The decisions as columns, by snap, series, attribute, currency and unit."""
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
        "currency": [said.told_of[s][2] for s in series],
        "unit": [said.told_of[s][3] for s in series],
    }


def _cells(said: Said, chosen: Flags, codes: Ints, names: Sequence[str]) -> list[str]:
    """Of each item, in the order in which they are told of, the names of the chosen claims."""
    before = np.concatenate([[0], np.cumsum(chosen)])[said.first]
    texts = pa.array(names, pa.string()).take(pa.array(codes[chosen]))
    lists = pa.ListArray.from_arrays(pa.array(before, pa.int32()), texts)
    cells: list[str] = compute.binary_join(lists, BETWEEN).take(pa.array(said.told)).to_pylist()
    return cells
