"""Curves and matrices: numbers along tenors, and along two axes.

A tenor is a whole number of days, weeks, months or years (``1D``, ``2W``, ``18M``, ``10Y``), or ``ON``. Equal
lengths have one name: twelve months are ``1Y``, seven days ``1W``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from functools import partial
from itertools import pairwise
from typing import Any

from qis.domain.errors import refuse
from qis.domain.kinds.record import Gathered, Leaf, Path, Record, document_of, make_record
from qis.domain.numbers import decimal_text, parse_decimal
from qis.domain.reconciliation import Check
from qis.domain.series import check_choice, check_fields, check_text
from qis.domain.snap import Snap

MAX_NODES = 1_000
MAX_CELLS = 10_000
QUANTITIES = (
    "zero_rate",
    "par_rate",
    "forward_rate",
    "discount_factor",
    "spread",
    "implied_volatility",
    "other",
)
DAY_COUNTS = ("ACT/360", "ACT/365F", "ACT/ACT", "30/360", "30E/360", "BUS/252")
COMPOUNDING = ("simple", "continuous", "annual", "semiannual", "quarterly", "monthly")
_EXACT = Context(prec=80)
_TENOR = re.compile(r"(\d{1,4})([DWMY])", re.ASCII)
_MONTH = Decimal("30.436875")
"""Mean length of a Gregorian month in days."""


def parse_tenor(value: object, name: str) -> str:
    """The one name of a tenor.

    Raises:
        InvalidInput: rule ``tenor``.
    """
    text = value.upper() if isinstance(value, str) else ""
    if text == "ON":
        return "1D"
    found = _TENOR.fullmatch(text)
    if found is None or int(found[1]) == 0:
        raise refuse(name, value, "tenor", "is not a tenor such as 1D, 2W, 3M, 10Y or ON")
    count, unit = int(found[1]), found[2]
    if unit == "D" and count % 7 == 0:
        count, unit = count // 7, "W"
    if unit == "M" and count % 12 == 0:
        count, unit = count // 12, "Y"
    return f"{count}{unit}"


def tenor_days(tenor: str) -> Decimal:
    """Length of a tenor in days, months at their mean length: an order, not a day count."""
    count, unit = Decimal(tenor[:-1]), tenor[-1]
    return count * {"D": Decimal(1), "W": Decimal(7), "M": _MONTH, "Y": 12 * _MONTH}[unit]


def _label(value: object, name: str) -> str:
    return check_text(value, name, 64)


def _number_label(value: object, name: str) -> str:
    number = parse_decimal(value, name)
    return decimal_text(number.normalize(_EXACT)) if number else "0"


_AXES: Mapping[str, tuple[Callable[[object, str], str], Callable[[str], Decimal] | None]] = {
    "tenor": (parse_tenor, tenor_days),
    "number": (_number_label, Decimal),
    "label": (_label, None),
}
"""How labels of each kind of axis are read, and what orders them."""


def _ordered(labels: Sequence[object], axis: str, name: str) -> list[str]:
    """Labels of an axis in their one form, distinct and in rising order."""
    read, rank = _AXES[axis]
    found = [read(label, f"{name}[{i}]") for i, label in enumerate(labels)]
    if len(set(found)) != len(found):
        twice = next(x for x in found if found.count(x) > 1)
        raise refuse(name, twice, "distinct", "is there more than once")
    for earlier, later in pairwise(found):
        if rank is not None and rank(earlier) >= rank(later):
            raise refuse(name, later, "ordered", f"follows {earlier}, which is not shorter or smaller")
    return found


@dataclass(frozen=True, slots=True)
class Curve:
    """``Structure`` of curves."""

    quantity: str
    day_count: str | None
    compounding: str | None
    tenors: tuple[str, ...]
    """Tenors that a curve must have; further ones are taken."""
    max_step: Decimal | None
    """Largest believable difference of neighbouring nodes: a mix of two conventions has kinks."""
    direction: str | None
    """``rising`` or ``falling`` where the values must be, such as discount factors."""

    @property
    def elements(self) -> frozenset[str]:
        return frozenset({"nodes"})

    def as_json(self) -> dict[str, Any]:
        return {
            "quantity": self.quantity,
            "day_count": self.day_count,
            "compounding": self.compounding,
            "tenors": list(self.tenors),
            "max_step": None if self.max_step is None else decimal_text(self.max_step),
            "direction": self.direction,
        }

    def parse(self, given: object, snap: Snap, name: str = "value") -> Record:  # noqa: ARG002 - as every kind
        """See ``Structure.parse``. ``nodes`` are a list in order of tenor, or an object by tenor."""
        body = check_fields(document_of(given, name), name, {"nodes"}, set())
        listed, where = body["nodes"], f"{name}.nodes"
        if isinstance(listed, Mapping):
            tenors = {t: parse_tenor(t, where) for t in listed}
            ranked = sorted(listed, key=lambda t: tenor_days(tenors[t]))
            listed = [{"tenor": t, "value": listed[t]} for t in ranked]
        if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_NODES:
            raise refuse(where, "", "count", f"is not 1 to {MAX_NODES} nodes")
        nodes = [check_fields(n, f"{where}[{i}]", {"tenor", "value"}, set()) for i, n in enumerate(listed)]
        labels = _ordered([n["tenor"] for n in nodes], "tenor", where)
        gathered = Gathered()
        values = [
            gathered.take(partial(self._value, n["value"], f"{where}[{t}].value"))
            for n, t in zip(nodes, labels, strict=True)
        ]
        gathered.raise_any()
        pairs = zip(labels, values, strict=True)
        return make_record({"nodes": [{"tenor": t, "value": v} for t, v in pairs]})

    def _value(self, given: object, name: str) -> Decimal:
        number = parse_decimal(given, name)
        if self.quantity in ("discount_factor", "implied_volatility") and number <= 0:
            raise refuse(name, str(number), "positive", f"a {self.quantity} is greater than zero")
        return number

    def parts(self, record: Record) -> dict[Path, Leaf]:
        """See ``Structure.parts``."""
        found: dict[Path, Leaf] = {}
        for node in record.document["nodes"]:
            found["nodes", node["tenor"]] = node["tenor"]
            found["nodes", node["tenor"], "value"] = Decimal(node["value"])
        return found

    def join(self, parts: Mapping[Path, Leaf]) -> Any:
        """See ``Structure.join``."""
        return {"nodes": {path[1]: leaf for path, leaf in parts.items() if len(path) == 3}}

    def check(self, record: Record, snap: Snap) -> list[Check]:  # noqa: ARG002 - as every kind
        """See ``Structure.check``: tenors that must be there, the direction, no step too large."""
        nodes = [(n["tenor"], Decimal(n["value"])) for n in record.document["nodes"]]
        absent = [t for t in self.tenors if t not in {tenor for tenor, _ in nodes}]
        said = f"{', '.join(absent)} missing" if absent else "every tenor is there"
        found = [Check("complete", not absent, str(len(absent)), "0", said)]
        steps = [(a, b, _EXACT.subtract(y, x)) for (a, x), (b, y) in pairwise(nodes)]
        if self.direction is not None:
            sign = 1 if self.direction == "rising" else -1
            wrong = [f"{a} to {b}" for a, b, step in steps if sign * step < 0]
            told = f"not {self.direction} from {', '.join(wrong[:5])}" if wrong else self.direction
            found.append(Check("direction", not wrong, str(len(wrong)), "0", told))
        if self.max_step is not None:
            a, b, worst = max(steps, key=lambda s: s[2].copy_abs(), default=("", "", Decimal(0)))
            passed = worst.copy_abs() <= self.max_step
            said = f"{decimal_text(worst)} from {a} to {b}" if steps else "one node"
            found.append(
                Check("step", passed, decimal_text(worst.copy_abs()), decimal_text(self.max_step), said)
            )
        return found


@dataclass(frozen=True, slots=True)
class Matrix:
    """``Structure`` of matrices and surfaces. A cell may be empty (``null``)."""

    quantity: str
    rows: str
    columns: str
    """Kind of axis: ``tenor``, ``number`` or ``label``."""
    symmetric: bool

    @property
    def elements(self) -> frozenset[str]:
        return frozenset({"rows", "columns"})

    def as_json(self) -> dict[str, Any]:
        return {
            "quantity": self.quantity,
            "rows": self.rows,
            "columns": self.columns,
            "symmetric": self.symmetric,
        }

    def parse(self, given: object, snap: Snap, name: str = "value") -> Record:  # noqa: ARG002 - as every kind
        """See ``Structure.parse``."""
        body = check_fields(document_of(given, name), name, {"rows", "columns", "values"}, set())
        axes = {}
        for key, axis in (("rows", self.rows), ("columns", self.columns)):
            labels = body[key]
            if not isinstance(labels, list) or not 1 <= len(labels) <= MAX_NODES:
                raise refuse(f"{name}.{key}", "", "count", f"is not a list of 1 to {MAX_NODES} labels")
            axes[key] = _ordered(labels, axis, f"{name}.{key}")
        rows, columns, values = axes["rows"], axes["columns"], body["values"]
        shape = f"is not {len(rows)} rows of {len(columns)} values"
        if len(rows) * len(columns) > MAX_CELLS:
            raise refuse(f"{name}.values", "", "count", f"has more than {MAX_CELLS} cells")
        if not isinstance(values, list) or len(values) != len(rows):
            raise refuse(f"{name}.values", "", "shape", shape)
        gathered = Gathered()
        cells: list[list[Decimal | None]] = []
        for row, line in zip(rows, values, strict=True):
            if not isinstance(line, list) or len(line) != len(columns):
                raise refuse(f"{name}.values[{row}]", "", "shape", shape)
            cells.append(
                [
                    gathered.take(partial(self._cell, v, f"{name}.values[{row}][{c}]"))
                    for c, v in zip(columns, line, strict=True)
                ]
            )
        gathered.raise_any()
        return make_record({"rows": rows, "columns": columns, "values": cells})

    def _cell(self, given: object, name: str) -> Decimal | None:
        if given is None:
            return None
        number = parse_decimal(given, name)
        if self.quantity == "implied_volatility" and number <= 0:
            raise refuse(name, str(number), "positive", "an implied volatility is greater than zero")
        return number

    def parts(self, record: Record) -> dict[Path, Leaf]:
        """See ``Structure.parts``."""
        body = record.document
        found: dict[Path, Leaf] = {(key, label): label for key in ("rows", "columns") for label in body[key]}
        for row, line in zip(body["rows"], body["values"], strict=True):
            for column, cell in zip(body["columns"], line, strict=True):
                if cell is not None:
                    found["values", row, column] = Decimal(cell)
        return found

    def join(self, parts: Mapping[Path, Leaf]) -> Any:
        """See ``Structure.join``."""
        rows = _ranked([p[1] for p in parts if p[0] == "rows"], self.rows)
        columns = _ranked([p[1] for p in parts if p[0] == "columns"], self.columns)
        values = [[parts.get(("values", r, c)) for c in columns] for r in rows]
        return {"rows": rows, "columns": columns, "values": values}

    def check(self, record: Record, snap: Snap) -> list[Check]:  # noqa: ARG002 - as every kind
        """See ``Structure.check``: symmetry, and for volatilities a total variance that only rises."""
        body = record.document
        cells = {
            (r, c): Decimal(v)
            for r, line in zip(body["rows"], body["values"], strict=True)
            for c, v in zip(body["columns"], line, strict=True)
            if v is not None
        }
        found = [Check("filled", bool(cells), str(len(cells)), "1", f"{len(cells)} cells have a value")]
        if self.symmetric:
            wrong = sorted(f"{r}, {c}" for (r, c), v in cells.items() if cells.get((c, r)) != v)
            told = f"differs from its mirror at {'; '.join(wrong[:5])}" if wrong else "symmetric"
            found.append(Check("symmetric", not wrong, str(len(wrong)), "0", told))
        if self.quantity == "implied_volatility" and self.rows == "tenor":
            falling = [
                f"{a} to {b} at {c}"
                for c in body["columns"]
                for a, b in pairwise([r for r in body["rows"] if (r, c) in cells])
                if _variance(b, cells[b, c]) < _variance(a, cells[a, c])
            ]
            told = f"falls from {'; '.join(falling[:5])}" if falling else "rises with the tenor"
            found.append(Check("total-variance", not falling, str(len(falling)), "0", told))
        return found


def _variance(tenor: str, volatility: Decimal) -> Decimal:
    return _EXACT.multiply(_EXACT.multiply(volatility, volatility), tenor_days(tenor))


def _ranked(labels: Sequence[str], axis: str) -> list[str]:
    rank = _AXES[axis][1]
    return list(labels) if rank is None else sorted(labels, key=rank)


def parse_curve(given: object, where: str) -> Curve:
    """The settings of a series of curves.

    Raises:
        InvalidInput: naming field, value and rule.
    """
    body = check_fields(
        given, where, {"quantity"}, {"day_count", "compounding", "tenors", "max_step", "direction"}
    )
    quantity = check_choice(body["quantity"], f"{where}.quantity", QUANTITIES)
    day_count, compounding = body.get("day_count"), body.get("compounding")
    if quantity.endswith("_rate"):
        for key, value in (("day_count", day_count), ("compounding", compounding)):
            if value is None:
                raise refuse(f"{where}.{key}", "", "required", f"is required for a {quantity}")
    tenors = body.get("tenors") or []
    if not isinstance(tenors, list):
        raise refuse(f"{where}.tenors", tenors, "list", "is not a list of tenors")
    step = body.get("max_step")
    number = None if step is None else parse_decimal(step, f"{where}.max_step")
    if number is not None and number <= 0:
        raise refuse(f"{where}.max_step", str(number), "positive", "is not greater than zero")
    direction = body.get("direction")
    return Curve(
        quantity,
        None if day_count is None else check_choice(day_count, f"{where}.day_count", DAY_COUNTS),
        None if compounding is None else check_choice(compounding, f"{where}.compounding", COMPOUNDING),
        tuple(_ordered(tenors, "tenor", f"{where}.tenors")),
        number,
        None if direction is None else check_choice(direction, f"{where}.direction", ("rising", "falling")),
    )


def parse_matrix(given: object, where: str) -> Matrix:
    """The settings of a series of matrices.

    Raises:
        InvalidInput: naming field, value and rule.
    """
    body = check_fields(given, where, {"quantity", "rows", "columns"}, {"symmetric"})
    symmetric = body.get("symmetric") or False
    if not isinstance(symmetric, bool):
        raise refuse(f"{where}.symmetric", symmetric, "boolean", "is not true or false")
    rows, columns = (check_choice(body[k], f"{where}.{k}", tuple(_AXES)) for k in ("rows", "columns"))
    if symmetric and rows != columns:
        raise refuse(f"{where}.symmetric", "true", "same-axes", "needs axes of one kind")
    quantity = check_choice(body["quantity"], f"{where}.quantity", (*QUANTITIES, "correlation"))
    return Matrix(quantity, rows, columns, symmetric)
