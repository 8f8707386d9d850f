"""What a consumer of the push channel asks to be told of, as keys under which a value finds its listeners.

A key is the id of a series, the name of a group (the rule set that reconciles it), or a pattern: ``*``, or
the beginning of ids up to a dot, as in ``FX.EUR.*``. Patterns end at dots so that the keys of a series are
few and known beforehand: who listens to a value is found by looking these up, never by trying every pattern.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qis.domain.errors import InvalidInput, Violation, refuse, shown
from qis.domain.events import Position

MAX_KEYS = 1000
"""Most keys of one connection."""

SERIES, GROUP, PATTERN = "series:", "group:", "pattern:"
_FIELDS = {"series": SERIES, "groups": GROUP, "patterns": PATTERN}
_SHAPES: Mapping[str, tuple[re.Pattern[str], str, str]] = {
    "series": (
        re.compile(r"[A-Za-z0-9][A-Za-z0-9._:\-]{0,127}", re.ASCII),
        "identifier",
        "is not the id of a series",
    ),
    "groups": (re.compile(r"[a-z0-9][a-z0-9._\-]{0,63}", re.ASCII), "slug", "is not the name of a group"),
    "patterns": (
        re.compile(r"\*|[A-Za-z0-9][A-Za-z0-9._:\-]{0,125}\.\*", re.ASCII),
        "pattern",
        "is neither * nor the beginning of ids up to a dot, such as FX.EUR.*",
    ),
}
_REFERENCE = re.compile(r"[A-Za-z0-9._:\-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Wish:
    """A message of a consumer, checked."""

    keys: frozenset[str]
    cursor: Position | None
    """Position after which to go on."""
    reference: str | None
    """What the consumer calls this message; the answer repeats it."""


def parse_wish(body: object, *, with_cursor: bool) -> Wish:
    """A message that names series, groups or patterns.

    Args:
        with_cursor: the message says where to go on; any other may not.

    Raises:
        InvalidInput: naming each field with its rule: ``object``, ``known-field``, ``required``, ``list``,
            ``text``, ``identifier``, ``slug``, ``pattern``, ``max-subscriptions``, ``cursor``.
    """
    if not isinstance(body, dict):
        raise refuse("body", shown(body), "object", "is not a JSON object")
    known = {"action", "id", *_FIELDS, *(("cursor",) if with_cursor else ())}
    broken = [
        Violation(shown(name), shown(value), "known-field", "is not a field of this message")
        for name, value in body.items()
        if name not in known
    ]
    keys: set[str] = set()
    for name in _FIELDS:
        broken += _take(body.get(name, []), name, keys)
    if not broken and not keys:
        broken.append(Violation("series", "", "required", "names nothing: give series, groups or patterns"))
    if len(keys) > MAX_KEYS:
        broken.append(_too_many(len(keys)))
    reference = body.get("id")
    if reference is not None and not (isinstance(reference, str) and _REFERENCE.fullmatch(reference)):
        broken.append(
            Violation("id", shown(reference), "identifier", "is not 1 to 64 of A-Z a-z 0-9 . _ : -")
        )
    cursor = _cursor(body.get("cursor"), broken) if with_cursor else None
    if broken:
        raise InvalidInput(*broken)
    return Wish(frozenset(keys), cursor, reference)


def too_many(count: int) -> InvalidInput:
    """The refusal of a connection that would have ``count`` keys."""
    return InvalidInput(_too_many(count))


def _too_many(count: int) -> Violation:
    return Violation(
        "series", str(count), "max-subscriptions", f"a connection has at most {MAX_KEYS} series and patterns"
    )


def _take(given: Any, name: str, keys: set[str]) -> list[Violation]:
    """Add the keys of one field; what is wrong with it."""
    if not isinstance(given, list):
        return [Violation(name, shown(given), "list", "is not a list")]
    shape, rule, message = _SHAPES[name]
    broken = []
    for i, item in enumerate(given[: MAX_KEYS + 1]):
        if not isinstance(item, str):
            broken.append(Violation(f"{name}[{i}]", shown(item), "text", "is not text"))
        elif not shape.fullmatch(item):
            broken.append(Violation(f"{name}[{i}]", shown(item), rule, message))
        else:
            keys.add(_FIELDS[name] + item)
    return broken


def _cursor(given: Any, broken: list[Violation]) -> Position | None:
    if given is None:
        broken.append(Violation("cursor", "", "required", "is required: the last one that was received"))
        return None
    try:
        return Position.parse(given)
    except (TypeError, ValueError):
        broken.append(Violation("cursor", shown(given), "cursor", "is not a cursor that was given out"))
        return None


def series_of(keys: frozenset[str]) -> frozenset[str]:
    """Ids of the series that are named one by one."""
    return frozenset(key.removeprefix(SERIES) for key in keys if key.startswith(SERIES))


def groups_of(keys: frozenset[str]) -> frozenset[str]:
    """Names of the groups."""
    return frozenset(key.removeprefix(GROUP) for key in keys if key.startswith(GROUP))
