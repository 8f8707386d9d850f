"""The operations of the API, read from the OpenAPI document that is also served: one source for routes,
scopes, parameters and the function that answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

_METHODS = ("get", "put", "post", "delete", "patch")


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path."""

    operation_id: str
    method: str
    path: str
    function: str
    """The function that answers it: ``query`` or ``ingest``."""
    scope: str | None
    """Scope that the caller's token must carry; ``None``: open to all."""
    query: frozenset[str]
    """Query parameters that it takes; any other is refused."""
    required: frozenset[str]
    """Those of them that must be given."""
    media: tuple[str, ...]
    """Media types of its answer, the default first."""
    has_body: bool


@dataclass(frozen=True, slots=True)
class Contract:
    """Every operation, found by what API Gateway matched or by the path itself."""

    operations: Mapping[tuple[str, str], Operation]
    """By method and path template."""
    _templates: tuple[tuple[re.Pattern[str], str], ...]

    def match(self, path: str) -> tuple[str, dict[str, str]] | None:
        """The template that fits ``path``, with its variables."""
        for pattern, template in self._templates:
            if found := pattern.fullmatch(path):
                return template, found.groupdict()
        return None

    def methods(self, template: str) -> list[str]:
        """Methods that a path has."""
        return sorted(method for method, path in self.operations if path == template)


@cache
def document_bytes() -> bytes:
    """The OpenAPI document as served."""
    return resources.files("qis.api").joinpath("openapi.json").read_bytes()


@cache
def contract() -> Contract:
    """The operations of the document."""
    document = json.loads(document_bytes())
    found = {}
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                operation = _operation(document, method.upper(), path, item[method])
                found[operation.method, path] = operation
    # Fixed segments go before variables: `/data/ingest` is not an `{id}`.
    templates = sorted(document["paths"], key=lambda p: (p.count("{"), p))
    return Contract(found, tuple((_pattern(t), t) for t in templates))


def _operation(document: Mapping[str, Any], method: str, path: str, body: Mapping[str, Any]) -> Operation:
    parameters = [_resolved(document, p) for p in body.get("parameters", ())]
    query = [p for p in parameters if p["in"] == "query"]
    scopes = [scope for entry in body["security"] for scope in entry["bearer"]]
    ok = next(response for status, response in body["responses"].items() if status.startswith("2"))
    return Operation(
        operation_id=body["operationId"],
        method=method,
        path=path,
        function=body["x-qis-function"],
        scope=_only(scopes),
        query=frozenset(p["name"] for p in query),
        required=frozenset(p["name"] for p in query if p["required"]),
        media=tuple(ok["content"]),
        has_body="requestBody" in body,
    )


def _only(scopes: Iterable[str]) -> str | None:
    found = list(scopes)
    assert len(found) <= 1, "an operation needs one scope"
    return found[0] if found else None


def _resolved(document: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    if "$ref" not in given:
        return given
    node: Any = document
    for key in given["$ref"].removeprefix("#/").split("/"):
        node = node[key]
    return node


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(template)))
