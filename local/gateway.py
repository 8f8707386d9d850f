"""The API Gateway of the twin: routes of the template, events and answers in the REST proxy form."""

from __future__ import annotations

import base64
import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Path

from local.runtime import Answer
from local.template import Route

MAX_BODY = 10 * 1024 * 1024
TIMED_OUT = "Task timed out"
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]

Invoke = Callable[[str, bytes], Awaitable[Answer]]


class Gateway:
    """Answers requests through the functions."""

    def __init__(self, routes: Sequence[Route], invoke: Invoke) -> None:
        # Literal segments before variables, as API Gateway prefers them.
        ordered = sorted(routes, key=lambda r: (r.resource.count("{"), -len(r.resource)))
        self._routes = [(_pattern(r.resource), r) for r in ordered]
        self._invoke = invoke

    async def __call__(self, request: Request) -> Response:
        raw_path = request.scope.get("raw_path", request.url.path.encode()).decode("latin-1").split("?")[0]
        found = [(m, r) for p, r in self._routes if (m := p.fullmatch(raw_path))]
        if not found:
            return _gateway_error(404, "Not Found")
        match = next(
            ((m, r) for m, r in found if r.method in (request.method, "X-AMAZON-APIGATEWAY-ANY-METHOD")), None
        )
        if match is None:
            return _gateway_error(405, "Method Not Allowed")
        body = await _body(request)
        if body is None:
            return _gateway_error(413, "Request Too Long")
        event = proxy_event(request, match[1], raw_path, match[0].groupdict(), body)
        answer = await self._invoke(match[1].function, json.dumps(event).encode())
        if answer.error is not None:
            timed_out = answer.error.startswith(TIMED_OUT)
            return _gateway_error(
                504 if timed_out else 502,
                "Endpoint request timed out" if timed_out else "Internal server error",
            )
        return proxy_response(answer.payload)


async def _body(request: Request) -> bytes | None:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY:
            return None
        parts.append(part)
    return b"".join(parts)


def proxy_event(
    request: Request, route: Route, path: str, variables: Mapping[str, str], body: bytes
) -> dict[str, Any]:
    """The event that API Gateway gives a function, payload format 1.0."""
    headers = [(k.decode("latin-1").title(), v.decode("latin-1")) for k, v in request.headers.raw]
    query = parse_qsl(request.url.query, keep_blank_values=True)
    try:
        text, encoded = body.decode("utf-8"), False
    except UnicodeDecodeError:
        text, encoded = base64.b64encode(body).decode(), True
    return {
        "resource": route.resource,
        "path": path,
        "httpMethod": request.method,
        "headers": dict(headers),
        "multiValueHeaders": _multi(headers),
        "queryStringParameters": dict(query) or None,
        "multiValueQueryStringParameters": _multi(query) or None,
        "pathParameters": {k: unquote(v) for k, v in variables.items()} or None,
        "stageVariables": {"environment": "local"},
        "requestContext": {
            "requestId": str(uuid.uuid4()),
            "stage": "live",
            "resourcePath": route.resource,
            "httpMethod": request.method,
            "path": path,
            "protocol": "HTTP/1.1",
            "requestTimeEpoch": int(time.time() * 1000),
            "identity": {
                "sourceIp": request.client.host if request.client else "127.0.0.1",
                "userAgent": request.headers.get("user-agent", ""),
            },
        },
        "body": text if body else None,
        "isBase64Encoded": encoded,
    }


def proxy_response(payload: bytes) -> Response:
    """The answer of a function as an HTTP response; a malformed one is the gateway's error, as in AWS."""
    try:
        answer = json.loads(payload)
        body = answer.get("body") or ""
        content = base64.b64decode(body) if answer.get("isBase64Encoded") else body.encode()
        response = Response(content, int(answer["statusCode"]))
        for name, value in (answer.get("headers") or {}).items():
            response.headers[name] = str(value)
        for name, values in (answer.get("multiValueHeaders") or {}).items():
            if name.lower() in response.headers:
                del response.headers[name]
            for value in values:
                response.headers.append(name, str(value))
    except (ValueError, KeyError, TypeError, AttributeError):
        return _gateway_error(502, "Internal server error")
    return response


def _multi(pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for name, value in pairs:
        out.setdefault(name, []).append(value)
    return out


def _pattern(resource: str) -> re.Pattern[str]:
    parts = re.split(r"\{([A-Za-z_]+)(\+?)\}", resource)
    out = re.escape(parts[0])
    for name, greedy, rest in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        out += f"(?P<{name}>{'.+' if greedy else '[^/]+'})" + re.escape(rest)
    return re.compile(out)


def _gateway_error(status: int, message: str) -> Response:
    return JSONResponse({"message": message}, status)


def application(gateway: Gateway, keys: Mapping[str, Any]) -> Starlette:
    """The web application: the public keys beside the API."""

    async def jwks(_: Request) -> Response:
        return JSONResponse(dict(keys))

    return Starlette(
        routes=[
            Path("/.well-known/jwks.json", jwks, methods=["GET"]),
            Path("/{path:path}", gateway.__call__, methods=_METHODS),
        ]
    )
