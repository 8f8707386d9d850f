"""The served OpenAPI 3.1 document, projected to what API Gateway imports (OpenAPI 3.0.1).

API Gateway routes; the handlers validate, and serve the full document at ``/openapi.json``. So only
paths, methods, path and query parameters, and who answers are taken over. Schemas, bodies and examples are
left out: API Gateway's model dialect refuses much of 3.1 (null types, numeric exclusive bounds, ``const``),
and a translation would be a second, weaker contract.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qis.settings import FUNCTIONS

FUNCTION = "x-qis-function"
"""Extension of an operation: the function that answers it."""
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_INTEGRATION_TIMEOUT_MS = 29_000
_TOKEN, _KEY = "users", "key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What API Gateway asks for before it invokes a function."""

    user_pool_arn: str
    scope_prefix: str
    """How Cognito writes the resource server before a scope."""
    keys: bool
    """Whether a client needs a key, by which its usage plan is found."""


class ContractError(ValueError):
    """The OpenAPI document cannot be deployed as it is."""


def operations(document: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """Function of each operation, by method (lower case) and path.

    Raises:
        ContractError: an operation does not name its function, or names one that does not exist.
    """
    found: dict[tuple[str, str], str] = {}
    for path, item in document["paths"].items():
        for method in METHODS:
            if method not in item:
                continue
            function = item[method].get(FUNCTION)
            if function not in FUNCTIONS:
                raise ContractError(
                    f"{method.upper()} {path}: {FUNCTION} is {function!r}, not a function of ours"
                )
            found[method, path] = function
    return found


def to_api_gateway(
    document: Mapping[str, Any], invocation_uris: Mapping[str, str], guard: Guard | None = None
) -> dict[str, Any]:
    """The import document of API Gateway.

    Args:
        document: OpenAPI 3.1.
        invocation_uris: for each function, the address at which API Gateway invokes it.
        guard: what is asked for on operations with a scope; the handlers alone ask, where there is none.

    Raises:
        ContractError: the document is not 3.1, or an operation has no function of ours.
    """
    if not str(document.get("openapi", "")).startswith("3.1"):
        raise ContractError(f"openapi: {document.get('openapi')!r} is not 3.1")
    paths: dict[str, dict[str, Any]] = {}
    for (method, path), function in sorted(operations(document).items(), key=lambda kv: kv[0][::-1]):
        item = document["paths"][path]
        paths.setdefault(path, {})[method] = _operation(
            document, item.get("parameters", []), item[method], invocation_uris[function]
        )
        if guard and (asked := _asked(item[method], guard)):
            paths[path][method]["security"] = [asked]
    return {
        "openapi": "3.0.1",
        "info": {key: document["info"][key] for key in ("title", "version")},
        "paths": paths,
        **({"components": {"securitySchemes": _schemes(guard)}} if guard else {}),
        "x-amazon-apigateway-gateway-responses": _gateway_responses(),
    }


def _asked(operation: Mapping[str, Any], guard: Guard) -> dict[str, list[str]]:
    """Scopes as the document names them; nothing for what is open to all."""
    scopes = [guard.scope_prefix + s for entry in operation.get("security", []) for s in entry["bearer"]]
    if not scopes:
        return {}
    return {_TOKEN: scopes} | ({_KEY: []} if guard.keys else {})


def _schemes(guard: Guard) -> dict[str, Any]:
    token = {
        "type": "apiKey",
        "name": "Authorization",
        "in": "header",
        "x-amazon-apigateway-authtype": "cognito_user_pools",
        "x-amazon-apigateway-authorizer": {
            "type": "cognito_user_pools",
            "providerARNs": [guard.user_pool_arn],
        },
    }
    key = {"type": "apiKey", "name": "x-api-key", "in": "header"}
    return {_TOKEN: token} | ({_KEY: key} if guard.keys else {})


def _operation(
    document: Mapping[str, Any], shared: list[Any], operation: Mapping[str, Any], uri: str
) -> dict[str, Any]:
    given = [_resolve(document, p) for p in [*shared, *operation.get("parameters", [])]]
    made: dict[str, Any] = {
        "responses": {"default": {"description": "As the function answers."}},
        "x-amazon-apigateway-integration": {
            "type": "aws_proxy",
            "httpMethod": "POST",
            "uri": uri,
            "passthroughBehavior": "when_no_match",
            "timeoutInMillis": _INTEGRATION_TIMEOUT_MS,
        },
    }
    if "operationId" in operation:
        made["operationId"] = operation["operationId"]
    parameters = {(p["in"], p["name"]): p for p in given if p["in"] in ("path", "query")}
    if parameters:
        made["parameters"] = [
            # On the wire each is text; the handler knows what it means.
            {"name": name, "in": place, "required": place == "path", "schema": {"type": "string"}}
            for place, name in parameters
        ]
    return made


def _resolve(document: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = node.get("$ref")
    if reference is None:
        return node
    found: Any = document
    for step in str(reference).removeprefix("#/").split("/"):
        found = found[step.replace("~1", "/").replace("~0", "~")]
    return _resolve(document, found)


def _gateway_responses() -> dict[str, Any]:
    """What API Gateway answers by itself, as the same problem documents that the handlers give."""
    return {
        "UNAUTHORIZED": _problem(
            "urn:qis:problem:unauthenticated", "Sign in first", 401, {"WWW-Authenticate": "Bearer"}
        ),
        "DEFAULT_4XX": _problem("about:blank", "Request refused"),
        "DEFAULT_5XX": _problem("urn:qis:problem:unavailable", "The service is not available"),
        # This is how API Gateway says that there is no such route.
        "MISSING_AUTHENTICATION_TOKEN": _problem("urn:qis:problem:not-found", "Not found", 404),
        "REQUEST_TOO_LARGE": _problem("urn:qis:problem:too-large", "Content too large", 413),
        "THROTTLED": _problem("urn:qis:problem:throttled", "Too many requests", 429, {"Retry-After": "1"}),
    }


def _problem(
    type_: str, title: str, status: int | None = None, headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    given = {"Content-Type": "application/problem+json"} | dict(headers or {})
    number = f'"status":{status},' if status else ""
    response: dict[str, Any] = {
        "responseParameters": {f"gatewayresponse.header.{k}": f"'{v}'" for k, v in given.items()},
        "responseTemplates": {
            "application/json": (
                f'{{"type":"{type_}","title":"{title}",{number}'
                '"detail":$context.error.messageString,"correlation_id":"$context.requestId"}'
            )
        },
    }
    return response | ({"statusCode": status} if status else {})
