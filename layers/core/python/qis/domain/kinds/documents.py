"""Free JSON documents, held to the JSON Schema of their series."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from qis.domain.errors import InvalidInput, refuse
from qis.domain.kinds.record import Leaf, Path, Record, document_of, make_record, whole
from qis.domain.kinds.schema import Schema, conform, parse_schema
from qis.domain.reconciliation import Check
from qis.domain.series import check_fields
from qis.domain.snap import Snap


@dataclass(frozen=True, slots=True)
class Document:
    """``Structure`` of free documents. A list is one field: sources are compared on all of it."""

    schema: Schema

    @property
    def elements(self) -> frozenset[str]:
        return frozenset()

    def as_json(self) -> dict[str, Any]:
        return {"schema": dict(self.schema)}

    def parse(self, given: object, snap: Snap, name: str = "value") -> Record:  # noqa: ARG002 - as every kind
        """See ``Structure.parse``."""
        return make_record(conform(document_of(given, name), self.schema, name))

    def parts(self, record: Record) -> dict[Path, Leaf]:
        """See ``Structure.parts``."""
        found: dict[Path, Leaf] = {}
        _flatten(conform(record.document, self.schema, "value"), (), found)
        return found

    def join(self, parts: Mapping[Path, Leaf]) -> Any:
        """See ``Structure.join``."""
        document: dict[str, Any] = {}
        for path, leaf in parts.items():
            place = document
            for step in path[:-1]:
                inner = place.get(step)
                if not isinstance(inner, dict):  # one source has a plain value where another has an object
                    inner = place[step] = {}
                place = inner
            place[path[-1]] = _unwrapped(leaf)
        return document

    def check(self, record: Record, snap: Snap) -> list[Check]:  # noqa: ARG002 - as every kind
        """See ``Structure.check``: what was put together still conforms."""
        try:
            conform(record.document, self.schema, "value")
        except InvalidInput as refusal:
            count = len(refusal.violations)
            return [Check("schema", False, str(count), "0", str(refusal)[:300])]
        return [Check("schema", True, "0", "0", "conforms to the schema")]


def _flatten(value: Any, path: Path, found: dict[Path, Leaf]) -> None:
    if isinstance(value, Mapping) and (value or not path):
        for name, inner in value.items():
            _flatten(inner, (*path, name), found)
    elif isinstance(value, Mapping):
        found[path] = whole([])._replace(text="{}", document={})  # an object without fields is one too
    elif isinstance(value, list):
        found[path] = whole(value)
    else:
        found[path] = value


def _unwrapped(leaf: Leaf) -> Any:
    return leaf if leaf is None or isinstance(leaf, str | int | Decimal) else leaf.document


def parse_document(given: object, where: str) -> Document:
    """The settings of a series of documents.

    Raises:
        InvalidInput: naming field, value and rule.
    """
    body = check_fields(given, where, {"schema"}, set())
    schema = parse_schema(body["schema"], f"{where}.schema")
    if schema.get("type", "object") != "object":
        raise refuse(f"{where}.schema.type", schema["type"], "object", "a document is an object")
    return Document(schema)
