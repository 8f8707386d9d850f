"""The API in AWS is the API that the code serves."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV30SpecValidator

from cdk.constructs.contract import FUNCTION, METHODS, ContractError, operations, to_api_gateway
from cdk.environments import load
from qis.settings import FUNCTIONS
from tests.infra.synthesis import Environment

URIS = {name: f"arn:{name}" for name in FUNCTIONS}


def minimal(operation: dict[str, Any]) -> dict[str, Any]:
    return {
        "openapi": "3.1.0",
        "info": {"title": "t", "version": "1", "summary": "3.1 only"},
        "webhooks": {},
        "components": {
            "parameters": {"Id": {"name": "id", "in": "path", "required": True, "schema": {"const": "x"}}},
        },
        "paths": {
            "/x/{id}": {"parameters": [{"$ref": "#/components/parameters/Id"}], "get": operation},
        },
    }


def test_what_api_gateway_gets_is_valid_openapi_3_0(document: dict[str, Any]) -> None:
    OpenAPIV30SpecValidator(to_api_gateway(document, URIS)).validate()


def test_the_template_has_the_routes_of_the_document(
    environment: Environment, document: dict[str, Any]
) -> None:
    ((_, api),) = environment.of_type("AWS::ApiGateway::RestApi")
    imported = api["Properties"]["Body"]["paths"]
    assert {(m, p) for p, item in imported.items() for m in item} == set(operations(document))
    for (method, path), function in operations(document).items():
        integration = imported[path][method]["x-amazon-apigateway-integration"]
        assert integration["type"] == "aws_proxy"
        assert f"'Service{function.capitalize()}" in str(integration["uri"]), (method, path)


def test_reading_is_answered_by_query_and_writing_by_ingest(document: dict[str, Any]) -> None:
    for (method, path), function in operations(document).items():
        # A question too long for a query string is posted; whoever may read may ask it.
        asks = document["paths"][path][method]["security"] in ([], [{"bearer": ["read:data"]}])
        assert function == ("query" if asks else "ingest"), (method, path)


def test_api_gateway_may_invoke_just_what_answers(environment: Environment) -> None:
    allowed = [
        logical_id
        for logical_id, permission in environment.of_type("AWS::Lambda::Permission")
        if permission["Properties"]["Principal"] == "apigateway.amazonaws.com"
    ]
    assert sorted(re.findall("Service([A-Z][a-z]+)", " ".join(allowed))) == ["Ingest", "Query", "Realtime"]


def test_api_gateway_asks_for_the_scopes_of_the_document(
    environment: Environment, document: dict[str, Any]
) -> None:
    ((_, api),) = environment.of_type("AWS::ApiGateway::RestApi")
    body, plans = api["Properties"]["Body"], load(environment.name).api.plans
    asked = {(m, p): o.get("security") for p, item in body["paths"].items() for m, o in item.items()}
    if environment.name == "local":  # the twin's gateway checks nothing: the handlers do
        assert set(asked.values()) == {None}
        return
    for (method, path), security in asked.items():
        scopes = [s for entry in document["paths"][path][method]["security"] for s in entry["bearer"]]
        if not scopes:
            assert security is None, path
            continue
        (entry,) = security
        assert entry["users"] == [f"qis/{s}" for s in scopes], (method, path)
        assert ("key" in entry) == bool(plans), (method, path)
    assert sum(s is None for s in asked.values()) == 3  # health, readiness and the document itself
    guard = body["components"]["securitySchemes"]["users"]["x-amazon-apigateway-authorizer"]
    assert guard["type"] == "cognito_user_pools"
    assert "DataIdentityUsers" in str(guard["providerARNs"])


def test_references_are_followed_and_only_parameters_that_route_are_kept() -> None:
    operation = {
        FUNCTION: "query",
        "operationId": "getX",
        "parameters": [
            {"name": "at", "in": "query", "schema": {"type": ["string", "null"], "examples": ["now"]}},
            {"name": "If-None-Match", "in": "header", "schema": {"type": "string"}},
        ],
        "responses": {"default": {"description": "refused", "content": {"text/csv": {}}}},
    }
    made = to_api_gateway(minimal(operation), URIS)
    OpenAPIV30SpecValidator(made).validate()
    got = made["paths"]["/x/{id}"]["get"]
    assert [(p["in"], p["name"], p["required"]) for p in got["parameters"]] == [
        ("path", "id", True),
        ("query", "at", False),
    ]
    assert "content" not in got["responses"]["default"]
    assert "components" not in made


def test_refusals_of_api_gateway_are_problem_documents(document: dict[str, Any]) -> None:
    answers = to_api_gateway(document, URIS)["x-amazon-apigateway-gateway-responses"]
    for name, answer in answers.items():
        headers = answer["responseParameters"]
        assert headers["gatewayresponse.header.Content-Type"] == "'application/problem+json'", name
        assert '"type":' in answer["responseTemplates"]["application/json"], name
    assert answers["THROTTLED"]["responseParameters"]["gatewayresponse.header.Retry-After"] == "'1'"
    assert answers["MISSING_AUTHENTICATION_TOKEN"]["statusCode"] == 404


@pytest.mark.parametrize("function", [None, "audit"])
def test_an_operation_without_a_function_of_ours_is_refused(function: str | None) -> None:
    with pytest.raises(ContractError, match=r"GET /x/\{id\}"):
        operations(minimal({FUNCTION: function} if function else {}))


def test_a_document_of_another_version_is_refused(document: dict[str, Any]) -> None:
    old = copy.deepcopy(document) | {"openapi": "3.0.1"}
    with pytest.raises(ContractError, match=r"is not 3\.1"):
        to_api_gateway(old, URIS)


def test_methods_are_those_of_openapi() -> None:
    assert len(METHODS) == 8
