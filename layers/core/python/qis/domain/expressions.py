"""Expressions of business rules: a small, typed, exact language with a safe evaluator.

``value > 0 and abs(value / previous - 1) <= 0.2``

It is the part of Python's own grammar that compares and computes, so there is nothing to learn and nothing to
parse by hand; everything else of Python is refused when the rule is stored. Numbers are exact decimals, which
is why no general rule language serves (CEL and its like compute in doubles). An expression is a truth value;
what cannot be known (no previous value, a division by zero) is unknown, and spreads as in SQL: a rule is
broken only where it is false.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Literal

from qis.domain.errors import refuse

LONGEST, DEEPEST = 500, 20
NAMES = frozenset({"value", "previous", "low", "high", "sources"})
"""The official value, the one before it, the least and the greatest claim, and how many sources spoke."""

Value = Decimal | bool | None
Kind = Literal["number", "truth"]

_EXACT = Context(prec=80)
_LITERAL = re.compile(r"\d+(\.\d+)?", re.ASCII)
_ARITHMETIC: Mapping[type[ast.operator], Callable[[Decimal, Decimal], Decimal]] = {
    ast.Add: _EXACT.add,
    ast.Sub: _EXACT.subtract,
    ast.Mult: _EXACT.multiply,
}
_COMPARE: Mapping[type[ast.cmpop], Callable[[Decimal, Decimal], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


def _decimals(number: Decimal) -> Decimal:
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int)
    return Decimal(max(0, -exponent))


_FUNCTIONS: Mapping[str, tuple[int, Callable[..., Decimal]]] = {
    "abs": (1, Decimal.copy_abs),
    "decimals": (1, _decimals),
    "max": (2, max),
    "min": (2, min),
}
"""Functions of numbers, each with how many it takes."""
OFFICIAL = "official"
"""``official("ID")``: the official value of another series at the same snap."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked expression."""

    text: str
    tree: ast.expr
    series: tuple[str, ...]
    """Other series that it speaks of."""

    def evaluate(self, names: Mapping[str, Decimal | None], official: Mapping[str, Decimal]) -> bool | None:
        """Whether it holds; ``None``: unknown."""
        found = _value(self.tree, names, official, self.text)
        assert found is None or isinstance(found, bool)
        return found


def parse_expression(text: object, field: str) -> Expression:
    """An expression as it comes by REST or file.

    Raises:
        InvalidInput: rule ``expression``: it is no expression of this language, or no truth value.
    """
    if not isinstance(text, str) or not 1 <= len(text) <= LONGEST or "\n" in text:
        raise refuse(field, text, "expression", f"is not a line of 1 to {LONGEST} characters")
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise refuse(field, text, "expression", f"cannot be read: {type(error).__name__}") from error
    checker = _Checker(field, text)
    if checker.kind(tree, 0) != "truth":
        raise checker.refusal("is a number and not true or false")
    return Expression(text, tree, tuple(sorted(checker.series)))


class _Checker:
    """Finds the kind of every part, and refuses what is not of the language."""

    def __init__(self, field: str, text: str) -> None:
        self._field, self._text = field, text
        self.series: set[str] = set()

    def refusal(self, message: str) -> Exception:
        return refuse(self._field, self._text, "expression", message)

    def kind(self, node: ast.expr, depth: int) -> Kind:
        """Whether the part is a number or a truth value."""
        if depth > DEEPEST:
            raise self.refusal(f"is nested deeper than {DEEPEST}")

        match node:
            case ast.BoolOp(values=parts):
                return self._truths(parts, depth)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self._truths([operand], depth)
            case ast.Compare(left=left, ops=ops, comparators=rest) if all(type(o) in _COMPARE for o in ops):
                self._numbers([left, *rest], depth)
                return "truth"
            case ast.BinOp(left=left, op=op, right=right) if type(op) in (*_ARITHMETIC, ast.Div):
                self._numbers([left, right], depth)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                self._numbers([operand], depth)
            case ast.Call():
                self._call(node, depth)
            case _:
                self._leaf(node)
        return "number"

    def _leaf(self, node: ast.expr) -> None:
        named = isinstance(node, ast.Name) and node.id in NAMES
        literal = isinstance(node, ast.Constant) and _LITERAL.fullmatch(_source(node, self._text))
        if not (named or literal):
            raise self.refusal(f"has {ast.unparse(node)[:40]}, which the language does not have")

    def _numbers(self, parts: list[ast.expr], depth: int) -> None:
        for part in parts:
            if self.kind(part, depth + 1) != "number":
                raise self.refusal(f"computes with a truth value: {ast.unparse(part)}")

    def _truths(self, parts: list[ast.expr], depth: int) -> Kind:
        if any(self.kind(part, depth + 1) != "truth" for part in parts):
            raise self.refusal("joins what is not true or false")
        return "truth"

    def _call(self, node: ast.Call, depth: int) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name == OFFICIAL and len(node.args) == 1 and isinstance(node.args[0], ast.Constant):
            from qis.domain.series import check_id  # read only where another series is named

            self.series.add(check_id(node.args[0].value, self._field))
        elif name in _FUNCTIONS and len(node.args) == _FUNCTIONS[name][0] and not node.keywords:
            self._numbers(node.args, depth)
        else:
            raise self.refusal(f"calls {ast.unparse(node)[:40]}, which is not a function of the language")


def _source(node: ast.expr, text: str) -> str:
    return ast.get_source_segment(text, node) or ""


def _value(
    node: ast.expr, names: Mapping[str, Decimal | None], official: Mapping[str, Decimal], text: str
) -> Value:
    def of(part: ast.expr) -> Value:
        return _value(part, names, official, text)

    match node:
        case ast.Constant():
            # From the text: a literal is exact, the float that Python makes of it is not.
            return Decimal(_source(node, text))
        case ast.Name(id=name):
            return names.get(name)
        case ast.UnaryOp(op=op, operand=operand):
            return _turned(of(operand), negate=isinstance(op, ast.USub))
        case ast.BoolOp(op=op, values=parts):
            return _joined([of(p) for p in parts], isinstance(op, ast.And))
        case ast.Compare():
            return _compared(node, of)
        case ast.BinOp(left=left, op=op, right=right):
            return _computed(op, of(left), of(right))
        case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str() as other)]) if name == OFFICIAL:
            return official.get(other)
    assert isinstance(node, ast.Call)
    assert isinstance(node.func, ast.Name)
    given = [of(a) for a in node.args]
    return None if None in given else _FUNCTIONS[node.func.id][1](*given)


def _turned(given: Value, *, negate: bool) -> Value:
    """The negative of a number, or the opposite of a truth value."""
    if given is None:
        return None
    return Decimal(given).copy_negate() if negate else not given


def _joined(truths: list[Value], every: bool) -> bool | None:
    """Three-valued ``and`` (``every``) and ``or``."""
    if (not every) in truths:
        return not every
    return None if None in truths else every


def _compared(node: ast.Compare, of: Callable[[ast.expr], Value]) -> bool | None:
    sides = [of(node.left), *(of(c) for c in node.comparators)]
    found: list[Value] = []
    for op, left, right in zip(node.ops, sides, sides[1:], strict=False):
        if left is None or right is None:
            found.append(None)
        else:
            found.append(_COMPARE[type(op)](Decimal(left), Decimal(right)))
    return _joined(found, every=True)


def _computed(op: ast.operator, left: Value, right: Value) -> Decimal | None:
    if left is None or right is None:
        return None
    a, b = Decimal(left), Decimal(right)
    if isinstance(op, ast.Div):
        return _EXACT.divide(a, b) if b else None
    return _ARITHMETIC[type(op)](a, b)
