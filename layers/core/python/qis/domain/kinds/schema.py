"""A part of JSON Schema (draft 2020-12) for free documents, with exact decimals.

Taken are the keywords below; any other is refused at registration rather than ignored. Left out on purpose:
``pattern`` (a regular expression from outside can stall a worker), ``$ref`` (a schema that reads from
elsewhere, or never ends) and the combinators. ``number`` is a decimal of any size: it may be given as a JSON
number or as decimal text, and is kept as decimal text with its digits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from qis.domain.errors import InvalidInput, Violation, refuse, shown
from qis.domain.kinds.record import MAX_DEPTH, MAX_SAFE_INTEGER
from qis.domain.numbers import decimal_text, parse_decimal
from qis.domain.snap import parse_instant

Schema = Mapping[str, Any]

TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
FORMATS = ("date", "date-time")
MOST = 100
"""Violations told of one document."""
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def parse_schema(given: object, where: str, depth: int = 0) -> Schema:
    """A schema, checked: a keyword that is not taken is refused.

    Raises:
        InvalidInput: naming the keyword, its value and the rule.
    """
    if not isinstance(given, Mapping):
        raise refuse(where, given, "object", "is not a JSON Schema object")
    if depth > MAX_DEPTH:
        raise refuse(where, "", "max-depth", f"is nested deeper than {MAX_DEPTH}")
    unknown = sorted(map(str, given.keys() - _PARSERS.keys()))
    if unknown:
        said = f"is not one of {', '.join(sorted(_PARSERS))}"
        raise InvalidInput(*(Violation(f"{where}.{k}", shown(k), "schema-keyword", said) for k in unknown))
    return {key: _PARSERS[key](value, f"{where}.{key}", depth) for key, value in given.items()}


def _annotation(given: object, where: str, _: int) -> str:
    if not isinstance(given, str):
        raise refuse(where, given, "text", "is not text")
    return given


def _types(given: object, where: str, _: int) -> str | list[str]:
    listed = given if isinstance(given, list) else [given]
    if not listed or any(t not in TYPES for t in listed) or len(set(listed)) != len(listed):
        raise refuse(where, given, "choice", f"is not one of, or a list of, {', '.join(TYPES)}")
    if {"number", "string"} <= set(listed):
        raise refuse(where, given, "number-or-text", "cannot be both: a number is kept as decimal text")
    return given if isinstance(given, str) else [str(t) for t in listed]


def _count(given: object, where: str, _: int) -> int:
    number = parse_decimal(given, where)
    if number != number.to_integral_value() or not 0 <= number <= 10**6:
        raise refuse(where, given, "count", "is not a whole number from 0 to 1000000")
    return int(number)


def _limit(given: object, where: str, _: int) -> str:
    return decimal_text(parse_decimal(given, where))


def _format(given: object, where: str, _: int) -> str:
    if given not in FORMATS:
        raise refuse(where, given, "choice", f"is not one of {', '.join(FORMATS)}")
    return str(given)


def _scalar(given: object, where: str, _: int) -> Any:
    if isinstance(given, Mapping | list):
        raise refuse(where, given, "scalar", "is not text, a number, a boolean or null")
    return decimal_text(given) if isinstance(given, Decimal) else given


def _scalars(given: object, where: str, depth: int) -> list[Any]:
    if not isinstance(given, list) or not given:
        raise refuse(where, given, "list", "is not a list of values")
    return [_scalar(v, where, depth) for v in given]


def _names(given: object, where: str, _: int) -> list[str]:
    if not isinstance(given, list) or not all(isinstance(n, str) for n in given):
        raise refuse(where, given, "list", "is not a list of names")
    return list(given)


def _properties(given: object, where: str, depth: int) -> dict[str, Schema]:
    if not isinstance(given, Mapping):
        raise refuse(where, given, "object", "is not an object")
    return {name: parse_schema(s, f"{where}.{name}", depth + 1) for name, s in given.items()}


def _subschema(given: object, where: str, depth: int) -> Schema | bool:
    return given if isinstance(given, bool) else parse_schema(given, where, depth + 1)


_PARSERS: Mapping[str, Callable[[object, str, int], Any]] = {
    **dict.fromkeys(("title", "description", "$schema", "$comment"), _annotation),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), _count),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _limit),
    "type": _types,
    "format": _format,
    "enum": _scalars,
    "const": _scalar,
    "required": _names,
    "properties": _properties,
    "items": _subschema,
    "additionalProperties": _subschema,
}
"""How the value of each keyword is read."""


class _Checking:
    """One walk over a document."""

    def __init__(self) -> None:
        self.broken: list[Violation] = []

    def refuse(self, where: str, value: object, rule: str, message: str) -> None:
        if len(self.broken) < MOST:
            self.broken.append(Violation(where, shown(value), rule, message))

    def value(self, given: Any, schema: Schema | bool, where: str, depth: int) -> Any:
        """``given`` in its canonical form, numbers as ``Decimal``; what breaks a rule is noted."""
        if depth > MAX_DEPTH:
            self.refuse(where, "", "max-depth", f"is nested deeper than {MAX_DEPTH}")
            return None
        if schema is False:
            self.refuse(where, given, "known-field", "is not a field of this document")
            return None
        rules: Schema = {} if schema is True else schema
        types = rules.get("type")
        allowed = TYPES if types is None else (types,) if isinstance(types, str) else tuple(types)
        kind, value = _typed(given, allowed)
        if kind is None:
            said = f"is not {' or '.join(_A[t] for t in allowed)}"
            self.refuse(where, given, "type", said)
            return None
        if kind in ("integer", "number"):
            value = self._number(kind, value, rules, where)
            if value is None:
                return None
        self._known(value, rules, where)
        if kind == "object":
            return self._object(value, rules, where, depth)
        if kind == "array":
            self._length(len(value), rules, ("minItems", "maxItems"), "items", where)
            items = rules.get("items", True)
            return [self.value(v, items, f"{where}[{i}]", depth + 1) for i, v in enumerate(value)]
        if kind == "string":
            self._text(value, rules, where)
        return value

    def _text(self, value: str, rules: Schema, where: str) -> None:
        self._length(len(value), rules, ("minLength", "maxLength"), "characters", where)
        if "format" in rules and not _has_format(value, rules["format"]):
            self.refuse(where, value, rules["format"], f"is not a {rules['format']}")

    def _number(self, kind: str, given: Any, rules: Schema, where: str) -> int | Decimal | None:
        """A number with its digits: a whole one as such where the schema says integer or nothing."""
        try:
            number = parse_decimal(given, where)
        except InvalidInput as refusal:
            self.broken += refusal.violations[: MOST - len(self.broken)]
            return None
        self._limits(number, rules, where)
        if kind == "number":
            return number
        if number.copy_abs() <= MAX_SAFE_INTEGER:
            return int(number)
        if "type" in rules:
            self.refuse(where, given, "safe-integer", "is beyond 2^53; give the field the type number")
            return None
        return number

    def _known(self, value: Any, rules: Schema, where: str) -> None:
        if "enum" in rules and not any(_same(value, v) for v in rules["enum"]):
            told = ", ".join(map(str, rules["enum"]))
            self.refuse(where, value, "enum", f"is not one of {shown(told)}")
        if "const" in rules and not _same(value, rules["const"]):
            self.refuse(where, value, "const", f"is not {shown(rules['const'])}")

    def _object(self, given: Mapping[str, Any], rules: Schema, where: str, depth: int) -> dict[str, Any]:
        for name in rules.get("required", ()):
            if name not in given:
                self.refuse(f"{where}.{name}", "", "required", "is required")
        properties, others = rules.get("properties", {}), rules.get("additionalProperties", True)
        return {
            name: self.value(v, properties.get(name, others), f"{where}.{name}", depth + 1)
            for name, v in given.items()
        }

    def _length(self, size: int, rules: Schema, names: tuple[str, str], of: str, where: str) -> None:
        low, high = (rules.get(n) for n in names)
        if (low is not None and size < low) or (high is not None and size > high):
            said = f"has {size} {of}, not {low or 0} to {'any number' if high is None else high}"
            self.refuse(where, "", names[0] if low is not None and size < low else names[1], said)

    def _limits(self, number: Decimal, rules: Schema, where: str) -> None:
        for name, holds, word in _BOUNDS:
            if name in rules and not holds(number, Decimal(rules[name])):
                self.refuse(where, decimal_text(number), name, f"is not {word} {rules[name]}")


_BOUNDS: tuple[tuple[str, Callable[[Decimal, Decimal], bool], str], ...] = (
    ("minimum", lambda a, b: a >= b, "at least"),
    ("maximum", lambda a, b: a <= b, "at most"),
    ("exclusiveMinimum", lambda a, b: a > b, "above"),
    ("exclusiveMaximum", lambda a, b: a < b, "below"),
)


def _typed(given: Any, allowed: Sequence[str]) -> tuple[str | None, Any]:
    """The type that a value counts as, of those allowed, and the value. Text counts as a number only where
    it cannot count as text."""
    for kind, native in _NATIVE:
        if isinstance(given, native) and kind in allowed:
            return kind, given
    if isinstance(given, bool):
        return None, given
    if isinstance(given, int | Decimal) and "integer" in allowed and _is_whole(given):
        return "integer", given
    if "number" in allowed and (isinstance(given, int | Decimal) or _decimal_or_none(given) is not None):
        return "number", given
    return None, given


def _is_whole(number: int | Decimal) -> bool:
    return isinstance(number, int) or number == number.to_integral_value()


_NATIVE: tuple[tuple[str, Any], ...] = (
    ("boolean", bool),
    ("null", type(None)),
    ("object", Mapping),
    ("array", list),
    ("string", str),
)
_A = {t: f"an {t}" if t[0] in "aeiou" else "null" if t == "null" else f"a {t}" for t in TYPES}


def _same(value: Any, known: Any) -> bool:
    """JSON equality: numbers by value, ``true`` is not 1. A decimal of a schema is kept as text."""
    if isinstance(value, bool) or isinstance(known, bool):
        return value is known
    if isinstance(value, Decimal) and isinstance(known, str):
        return decimal_text(value) == known or value == _decimal_or_none(known)
    return bool(value == known)


def _decimal_or_none(text: object) -> Decimal | None:
    try:
        return parse_decimal(text, "")
    except InvalidInput:
        return None


def _has_format(text: str, format_: str) -> bool:
    try:
        if format_ == "date":
            return _DAY.fullmatch(text) is not None and date.fromisoformat(text) is not None
        parse_instant(text, "date-time")
    except (ValueError, InvalidInput):
        return False
    return True


def conform(given: Mapping[str, Any], schema: Schema, where: str) -> dict[str, Any]:
    """The document in its canonical form, numbers as ``Decimal``.

    Raises:
        InvalidInput: every rule of the schema that it breaks, up to ``MOST``.
    """
    checking = _Checking()
    document = checking.value(given, schema, where, 0)
    if checking.broken:
        raise InvalidInput(*checking.broken)
    found: dict[str, Any] = document
    return found
