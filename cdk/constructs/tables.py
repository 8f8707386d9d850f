"""Columns of the lake's tables, from the definitions of the events: one source, no schema beside it.

Types are Hive's, as Glue keeps them. Numbers whose digits count are decimal text in the events, and stay text
here: a table of doubles would change them. A value that may be a document is its JSON text.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

from qis.domain.public_events import TOLD, VALUES, BackboneEvent, CloudEvent

Columns = dict[str, str]

_PLAIN = {str: "string", int: "bigint", bool: "boolean"}


class ColumnError(TypeError):
    """An event has a field that a table cannot hold as it is."""


def hive(of: Any) -> str:
    """The Hive type of an annotation.

    Raises:
        ColumnError: there is none.
    """
    if of in _PLAIN:
        return _PLAIN[of]
    if is_typeddict(of):
        return struct(columns(of))
    origin, arguments = get_origin(of), get_args(of)
    if origin in (Union, types.UnionType):
        kinds = [a for a in arguments if a is not type(None)]
        if len(kinds) == 1:
            return hive(kinds[0])
        if set(kinds) == {str, dict[str, Any]}:
            return "string"
    if origin is list:
        return f"array<{hive(arguments[0])}>"
    if origin in (dict, Mapping) and arguments[0] is str:
        return "string" if arguments[1] is Any else f"map<string,{hive(arguments[1])}>"
    raise ColumnError(f"{of} has no column type")


def columns(of: type) -> Columns:
    """Name and type of each field of a definition, in its order."""
    return {name: hive(kind) for name, kind in get_type_hints(of).items()}


def merged(definitions: Iterable[type]) -> Columns:
    """Columns that hold events of all ``definitions``.

    Raises:
        ColumnError: two of them mean different things by one name.
    """
    found: Columns = {}
    for definition in definitions:
        for name, kind in columns(definition).items():
            if found.setdefault(name, kind) != kind:
                raise ColumnError(f"{name} is {found[name]} and {kind}")
    return found


def struct(fields: Mapping[str, str]) -> str:
    """A column with ``fields`` in it."""
    return f"struct<{','.join(f'{name}:{kind}' for name, kind in fields.items())}>"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the lake: Parquet, or what came in, one JSON document a line."""

    name: str
    description: str
    columns: Columns
    parquet: bool


OFFICIAL_VALUES = Table(
    "official_values",
    "Official values and their corrections, as they went over the bus",
    columns(CloudEvent) | {"data": struct(merged(VALUES.values()))},
    parquet=True,
)
ISSUES = Table(
    "issues",
    "What people were told of issues",
    columns(CloudEvent) | {"data": struct(merged(TOLD.values()))},
    parquet=True,
)
AUDIT = Table(
    "audit", "What people and the system decided, with who and why", columns(BackboneEvent), parquet=False
)
TABLES = (OFFICIAL_VALUES, ISSUES, AUDIT)
