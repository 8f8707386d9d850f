"""The document is valid, and it is what the routers do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import validate

from qis.api.contract import Operation, contract, document_bytes
from qis.api.problems import PREFIX, STATUS
from qis.api.router import Router
from tests.api.events import proxy_event
from tests.api.fakes import Front
from tests.api.schemas import document
from tests.api.tokens import ALL_SCOPES, token

OPERATIONS = sorted(contract().operations.values(), key=lambda o: o.operation_id)
SECURED = [o for o in OPERATIONS if o.scope is not None]
VARIABLES = {
    "id": "PX.ACME",
    "receipt": "00000000-0000-0000-0000-000000000001",
    "item": "00000000-0000-0000-0000-000000000001",
    "check": "moves",
    "scope": "series",
    "name": "PX.ACME",
    "issue": "00000000-0000-0000-0000-000000000001",
    "source": "ecb",
    "rules": "fx",
    "load": "load-1",
}


def request(operation: Operation, bearer: str | None) -> dict[str, Any]:
    path = {k: VARIABLES[k] for k in re.findall(r"{(\w+)}", operation.path)}
    return proxy_event(operation.method, operation.path, path or None, token=bearer)


def test_the_document_is_valid_openapi() -> None:
    validate(document())


def test_the_document_is_served_as_it_is() -> None:
    answer = Front().checked(proxy_event("GET", "/openapi.json"))
    assert answer["body"].encode() == document_bytes()


def test_every_component_is_used() -> None:
    text = document_bytes().decode()
    unused = [
        f"{kind}/{name}"
        for kind in ("schemas", "parameters", "headers", "responses")
        for name in document()["components"][kind]
        if f'"#/components/{kind}/{name}"' not in text
    ]
    assert unused == []


def test_a_router_that_leaves_an_operation_out_is_refused() -> None:
    with pytest.raises(ValueError, match="getOfficial"):
        Router("query", contract(), {}, None, None, None)  # type: ignore[arg-type] # refused before use


def test_every_operation_names_one_function_and_only_the_service_is_open() -> None:
    assert {o.function for o in OPERATIONS} == {"query", "ingest"}
    assert {o.path for o in OPERATIONS if o.scope is None} == {"/health", "/ready", "/openapi.json"}
    assert {o.scope for o in SECURED} == set(ALL_SCOPES.split())
    assert all(o.function == "query" for o in OPERATIONS if o.method == "GET")
    assert all(o.scope == "read:data" for o in SECURED if o.function == "query")
    assert all(o.scope != "read:data" for o in SECURED if o.function == "ingest")


def test_every_problem_type_is_documented() -> None:
    text = json.dumps(document()["components"]["responses"])
    undocumented = {s for s in STATUS if PREFIX + s not in text}
    # These two answer requests that are no operation of the document.
    assert undocumented == {"no-such-route", "method-not-allowed"}


def _missing_scopes() -> Iterator[tuple[Operation, str | None]]:
    for operation in SECURED:
        others = set(ALL_SCOPES.split()) - {operation.scope}
        yield operation, " ".join(sorted(others))
        yield operation, ""
        yield operation, None
        yield operation, str(operation.scope).upper()
        yield operation, str(operation.scope) + "x"


@pytest.mark.parametrize(
    ("operation", "scope"), list(_missing_scopes()), ids=lambda v: getattr(v, "operation_id", None)
)
def test_without_its_scope_an_operation_does_nothing(operation: Operation, scope: str | None) -> None:
    front = Front()
    answer = front.checked(request(operation, token(scope=scope)))
    assert answer["statusCode"] == 403
    assert json.loads(answer["body"])["type"] == PREFIX + "forbidden"
    assert f'scope="{operation.scope}"' in answer["headers"]["WWW-Authenticate"]
    assert front.writes.calls == []


@pytest.mark.parametrize("operation", SECURED, ids=lambda o: o.operation_id)
def test_without_a_token_an_operation_does_nothing(operation: Operation) -> None:
    front = Front()
    for authorization in (None, "Bearer", "Bearer ", "Basic YTpi", token()):
        event = request(operation, None)
        event["multiValueHeaders"] = {"Authorization": [authorization]} if authorization else None
        answer = front.checked(event)
        assert answer["statusCode"] == 401
        assert answer["headers"]["WWW-Authenticate"] == "Bearer"
    assert front.writes.calls == []


@pytest.mark.parametrize("operation", SECURED, ids=lambda o: o.operation_id)
def test_with_its_scope_alone_an_operation_is_let_in(operation: Operation) -> None:
    for scope in (str(operation.scope), f"qis/{operation.scope}"):
        status = Front().respond(request(operation, token(scope=scope)))["statusCode"]
        assert status not in (401, 403)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.operation_id)
def test_an_unknown_parameter_is_refused(operation: Operation) -> None:
    front = Front()
    event = request(operation, token())
    event["multiValueQueryStringParameters"] = {"surprise": ["1"]}
    answer = front.checked(event)
    assert answer["statusCode"] == 400
    broken = {(v["field"], v["rule"]) for v in json.loads(answer["body"])["violations"]}
    assert ("surprise", "known-parameter") in broken
    assert front.writes.calls == []


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.operation_id)
def test_a_request_is_found_by_its_path_alone(operation: Operation) -> None:
    event = {**request(operation, None), "resource": "/{proxy+}", "pathParameters": {"proxy": "x"}}
    answer = Front().respond(event, operation.function)
    assert answer["statusCode"] != 404
    assert (answer["statusCode"] == 401) == (operation.scope is not None)
