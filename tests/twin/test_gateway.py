"""The gateway speaks the REST proxy form of API Gateway, and answers as it does when a function does not."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.types import Message

from local.gateway import MAX_BODY, Gateway, application
from local.runtime import Answer
from local.template import Route

ROUTES = [
    Route("GET", "/api/v1/series/{id}", "query"),
    Route("GET", "/api/v1/series/special", "special"),
    Route("PUT", "/api/v1/series/{id}", "ingest"),
    Route("POST", "/api/v1/data/ingest", "ingest"),
    Route("X-AMAZON-APIGATEWAY-ANY-METHOD", "/files/{path+}", "files"),
]
OK = {"statusCode": 200, "body": "fine"}


class Functions:
    """Answers as told and keeps what it was given."""

    def __init__(self, answer: Any = OK) -> None:
        self.answer = answer if isinstance(answer, Answer) else Answer(json.dumps(answer).encode())
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.responses: dict[str, Any] = {}
        self.hangs = False

    async def __call__(self, function: str, payload: bytes) -> Answer:
        self.calls.append((function, json.loads(payload)))
        if self.hangs:
            await asyncio.Event().wait()
        return self.answer

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One request to the web application, without a socket."""

        async def go() -> httpx.Response:
            app = application(
                Gateway(ROUTES, self, self.responses, 0.05 if self.hangs else 29.0),
                {"keys": [{"kid": "one"}]},
            )
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://twin") as client:
                return await client.request(method, path, **more)

        return asyncio.run(go())

    @property
    def event(self) -> dict[str, Any]:
        ((_, event),) = self.calls
        return event


def test_the_event_has_the_form_of_api_gateway() -> None:
    functions = Functions()
    functions.request(
        "PUT",
        "/api/v1/series/FX.EURUSD?a=1&b=x%20y&a=2&empty=",
        content='{"name": "grün"}'.encode(),
        headers=[("X-Two", "1"), ("X-Two", "2"), ("Authorization", "Bearer t")],
    )
    event = functions.event
    assert event["httpMethod"] == "PUT"
    assert event["resource"] == "/api/v1/series/{id}"
    assert event["path"] == "/api/v1/series/FX.EURUSD"
    assert event["pathParameters"] == {"id": "FX.EURUSD"}
    assert event["queryStringParameters"] == {"a": "2", "b": "x y", "empty": ""}
    assert event["multiValueQueryStringParameters"] == {"a": ["1", "2"], "b": ["x y"], "empty": [""]}
    headers = {k.lower(): v for k, v in event["multiValueHeaders"].items()}
    assert headers["x-two"] == ["1", "2"]
    assert headers["authorization"] == ["Bearer t"]
    assert event["body"] == '{"name": "grün"}'
    assert event["isBase64Encoded"] is False
    assert event["requestContext"]["resourcePath"] == "/api/v1/series/{id}"
    assert event["requestContext"]["identity"]["sourceIp"] == "127.0.0.1"


def test_what_is_not_there_is_null() -> None:
    functions = Functions()
    functions.request("GET", "/api/v1/series/x")
    assert functions.event["queryStringParameters"] is None
    assert functions.event["multiValueQueryStringParameters"] is None
    assert functions.event["body"] is None


def test_a_body_that_is_no_text_is_base64() -> None:
    functions = Functions()
    functions.request("POST", "/api/v1/data/ingest", content=b"\xff\x00")
    assert functions.event["isBase64Encoded"] is True
    assert base64.b64decode(functions.event["body"]) == b"\xff\x00"


@pytest.mark.parametrize(
    ("method", "path", "function", "variables"),
    [
        ("GET", "/api/v1/series/special", "special", None),
        ("GET", "/api/v1/series/other", "query", {"id": "other"}),
        ("GET", "/api/v1/series/a%20b", "query", {"id": "a%20b"}),
        ("GET", "/api/v1/series/a%2Fb", "query", {"id": "a%2Fb"}),
        ("GET", "/api/v1/series/%E2%82%AC", "query", {"id": "%E2%82%AC"}),
        ("GET", "/files/a/b/c", "files", {"path": "a/b/c"}),
        ("DELETE", "/files/a", "files", {"path": "a"}),
    ],
)
def test_routes(method: str, path: str, function: str, variables: dict[str, str] | None) -> None:
    functions = Functions()
    assert functions.request(method, path).status_code == 200
    ((called, event),) = functions.calls
    assert called == function
    assert event["pathParameters"] == variables
    assert event["path"] == path
    assert event["requestContext"]["path"] == path


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nowhere"),
        ("GET", "/api/v1/series"),
        ("GET", "/api/v1/series/a/b"),
        ("GET", "/api/v1/series/"),
        ("DELETE", "/api/v1/series/x"),
        ("GET", "/api/v1/data/ingest"),
    ],
)
def test_what_has_no_route_is_refused_before_any_function(method: str, path: str) -> None:
    functions = Functions()
    answer = functions.request(method, path)
    assert answer.status_code == 403
    assert answer.json() == {"message": "Missing Authentication Token"}
    assert not functions.calls


def test_the_gateway_says_it_in_the_words_of_the_template() -> None:
    functions = Functions()
    functions.responses = {
        "MISSING_AUTHENTICATION_TOKEN": {
            "statusCode": 404,
            "responseParameters": {
                "gatewayresponse.header.Content-Type": "'application/problem+json'",
                "gatewayresponse.header.Retry-After": "'1'",
            },
            "responseTemplates": {
                "application/json": '{"detail":$context.error.messageString,"id":"$context.requestId"}'
            },
        },
    }
    answer = functions.request("GET", "/nowhere")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "1"
    assert answer.json() == {
        "detail": "Missing Authentication Token",
        "id": answer.headers["x-amzn-requestid"],
    }


def test_the_words_for_a_class_of_answers_serve_where_there_are_none_of_their_own() -> None:
    functions = Functions(Answer(b"", "ValueError: broken"))
    functions.responses = {"DEFAULT_5XX": {"responseTemplates": {"application/json": '{"type":"away"}'}}}
    answer = functions.request("GET", "/api/v1/series/x")
    assert (answer.status_code, answer.json()) == (502, {"type": "away"})


def test_a_body_beyond_the_limit_is_refused() -> None:
    functions = Functions()
    assert functions.request("POST", "/api/v1/data/ingest", content=b" " * (MAX_BODY + 1)).status_code == 413
    assert not functions.calls
    assert functions.request("POST", "/api/v1/data/ingest", content=b" " * MAX_BODY).status_code == 200


def half_a_body(then: Message | None, timeout: float) -> tuple[int, bytes]:
    """The answer to a request of which a part came, ``then`` a message of the server, or nothing more."""
    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}])

    async def receive() -> Message:
        message = next(messages, then)
        if message is None:
            await asyncio.Event().wait()
            raise AssertionError
        return message

    path = "/api/v1/data/ingest"
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "headers": []}
    functions = Functions()
    answer = asyncio.run(Gateway(ROUTES, functions, {}, timeout)(Request(scope, receive)))
    assert not functions.calls
    return answer.status_code, bytes(answer.body)


def test_a_body_that_does_not_come_is_not_waited_for_without_end() -> None:
    assert half_a_body(None, 0.05) == (408, b'{"message":"The body did not come in time"}')


def test_a_caller_who_leaves_in_the_middle_is_no_fault_of_the_gateway() -> None:
    assert half_a_body({"type": "http.disconnect"}, 29.0) == (400, b"")


def test_the_answer_of_the_function_comes_through() -> None:
    functions = Functions(
        {
            "statusCode": 201,
            "headers": {"Content-Type": "text/csv", "X-One": "1"},
            "multiValueHeaders": {"Set-Thing": ["a", "b"]},
            "body": "a,b\n",
        }
    )
    answer = functions.request("GET", "/api/v1/series/x")
    assert answer.status_code == 201
    assert answer.headers["content-type"] == "text/csv"
    assert answer.headers["x-one"] == "1"
    assert answer.headers.get_list("set-thing") == ["a", "b"]
    assert answer.text == "a,b\n"


def test_a_base64_answer_is_decoded() -> None:
    body = base64.b64encode(b"\x00\xff").decode()
    functions = Functions({"statusCode": 200, "isBase64Encoded": True, "body": body})
    assert functions.request("GET", "/api/v1/series/x").content == b"\x00\xff"


def test_an_answer_without_a_body_is_empty() -> None:
    functions = Functions({"statusCode": 304, "body": None})
    answer = functions.request("GET", "/api/v1/series/x")
    assert (answer.status_code, answer.content) == (304, b"")


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"", "ValueError: broken"),
        Answer(b"", "Runtime exited with -9"),
        Answer(b"not json"),
        Answer(b"null"),
        Answer(b"[]"),
        {"body": "no status"},
        {"statusCode": "many", "body": ""},
        {"statusCode": 200, "body": {"not": "text"}},
        {"statusCode": 200, "body": "abc", "isBase64Encoded": True},
        {"statusCode": 200, "headers": ["a"]},
    ],
)
def test_a_function_that_fails_or_answers_nonsense_is_a_bad_gateway(answer: Any) -> None:
    response = Functions(answer).request("GET", "/api/v1/series/x")
    assert response.status_code == 502
    assert response.json() == {"message": "Internal server error"}


def test_a_function_out_of_time_is_a_gateway_timeout() -> None:
    response = Functions(Answer(b"", "Task timed out after 29.00 seconds")).request("GET", "/api/v1/series/x")
    assert response.status_code == 504


def test_a_function_that_does_not_answer_is_a_gateway_timeout() -> None:
    functions = Functions()
    functions.hangs = True
    answer = functions.request("GET", "/api/v1/series/x")
    assert (answer.status_code, answer.json()) == (504, {"message": "Endpoint request timed out"})


def test_an_event_too_large_for_a_function_is_too_large() -> None:
    response = Functions(Answer(b"", "Payload too large: an event of 7000000 bytes")).request(
        "POST", "/api/v1/data/ingest"
    )
    assert response.status_code == 413


def test_the_public_keys_are_beside_the_api() -> None:
    functions = Functions()
    assert functions.request("GET", "/.well-known/jwks.json").json() == {"keys": [{"kid": "one"}]}
    assert not functions.calls
