"""Event patterns of Lambda filters and EventBridge rules: which events they match."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    "=": lambda a, b: a == b,
    ">=": lambda a, b: a >= b,
    ">": lambda a, b: a > b,
}


def matches(pattern: Mapping[str, Any], event: object) -> bool:
    """Whether ``event`` has, for each key of ``pattern``, a value that one of its conditions accepts.

    Raises:
        ValueError: a condition is not one that is known here.
    """
    if not isinstance(event, Mapping):
        return False
    return all(_key(wanted, key, event) for key, wanted in pattern.items())


def _key(wanted: Any, key: str, event: Mapping[str, Any]) -> bool:
    if key == "$or":
        return any(matches(p, event) for p in wanted)
    if isinstance(wanted, Mapping):
        inner = event.get(key)
        return matches(wanted, inner if isinstance(inner, Mapping) else {})
    values: Sequence[Any]
    value = event.get(key)
    values = value if isinstance(value, list) else [value]
    return any(_condition(c, v, key in event) for c in wanted for v in values)


def _condition(condition: Any, value: Any, present: bool) -> bool:
    if not isinstance(condition, Mapping):
        return present and type(condition) is type(value) and bool(condition == value)
    ((name, wanted),) = condition.items()
    if name == "exists":
        return present is wanted
    if name == "prefix":
        return isinstance(value, str) and value.startswith(wanted)
    if name == "suffix":
        return isinstance(value, str) and value.endswith(wanted)
    if name == "anything-but":
        return present and value not in (wanted if isinstance(wanted, list) else [wanted])
    if name == "numeric":
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        pairs = zip(wanted[::2], wanted[1::2], strict=True)
        return numeric and all(_OPERATORS[op](value, limit) for op, limit in pairs)
    raise ValueError(f"pattern condition {name!r} is not known")
