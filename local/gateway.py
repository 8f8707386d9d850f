"""The API Gateway of the twin: routes of the template, events and answers in the form of a REST proxy."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute
from starlette.routing import Route as Path

from local.aws import ACCOUNT
from local.runtime import TIMED_OUT, TOO_LARGE, Answer
from local.template import Route

MAX_BODY = 10 * 1024 * 1024
TIMEOUT = 29.0
STAGE = "live"
ANY_METHOD = "X-AMAZON-APIGATEWAY-ANY-METHOD"

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
_CONTEXT = re.compile(r"\$context\.([A-Za-z.]+)")

# What the gateway itself answers, by its own names; the template may override status, headers and body.
_DEFAULTS: Mapping[str, tuple[int, str]] = {
    "MISSING_AUTHENTICATION_TOKEN": (403, "Missing Authentication Token"),
    "REQUEST_TOO_LARGE": (413, f"HTTP content length exceeded {MAX_BODY} bytes."),
    "REQUEST_TIMEOUT": (408, "The body did not come in time"),
    "DEFAULT_5XX": (502, "Internal server error"),
    "INTEGRATION_TIMEOUT": (504, "Endpoint request timed out"),
}

_FAILURES = {TIMED_OUT: "INTEGRATION_TIMEOUT", TOO_LARGE: "REQUEST_TOO_LARGE"}

Invoke = Callable[[str, bytes], Awaitable[Answer]]


class Gateway:
    """Answers requests through the functions.

    Args:
        responses: how the gateway words its own answers, by their names in API Gateway.
        timeout: seconds that it waits for the body of a request, and for a function.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        invoke: Invoke,
        responses: Mapping[str, Any] | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        # As API Gateway prefers: literal segments before variables, one segment before the rest of a path.
        ordered = sorted(routes, key=lambda r: ("+}" in r.resource, r.resource.count("{")))
        self._routes = [(_pattern(r.resource), r) for r in ordered]
        self._responses = responses or {}
        self._invoke = invoke
        self._timeout = timeout

    async def __call__(self, request: Request) -> Response:
        """One request."""
        request_id = str(uuid4())
        path = request.scope["raw_path"].decode("latin-1").partition("?")[0]
        methods = (request.method, ANY_METHOD)
        found = next(
            ((r, m) for p, r in self._routes if r.method in methods and (m := p.fullmatch(path))), None
        )
        if found is None:  # a known path with another method as well: API Gateway tells them not apart
            return self._own("MISSING_AUTHENTICATION_TOKEN", request_id)
        try:
            async with asyncio.timeout(self._timeout):
                body = await _body(request)
        except TimeoutError:
            return self._own("REQUEST_TIMEOUT", request_id)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        if body is None:
            return self._own("REQUEST_TOO_LARGE", request_id)
        route, match = found
        event = proxy_event(request, route, path, match.groupdict(), body, request_id)
        payload = json.dumps(event, separators=(",", ":")).encode()
        try:
            answer = await asyncio.wait_for(self._invoke(route.function, payload), self._timeout)
        except TimeoutError:
            return self._own("INTEGRATION_TIMEOUT", request_id)
        if answer.error is None:
            try:
                return proxy_response(answer.payload, request_id)
            except (ValueError, KeyError, TypeError, AttributeError):
                return self._own("DEFAULT_5XX", request_id)  # API Gateway: "malformed proxy response"
        kind = next((k for start, k in _FAILURES.items() if answer.error.startswith(start)), "DEFAULT_5XX")
        return self._own(kind, request_id)

    def _own(self, kind: str, request_id: str) -> Response:
        """An answer of the gateway itself, as the template words it."""
        status, message = _DEFAULTS[kind]
        wording = self._responses.get(kind) or self._responses.get(f"DEFAULT_{status // 100}XX", {})
        status = int(wording.get("statusCode", status))
        context = {
            "requestId": request_id,
            "error.message": message,
            "error.messageString": json.dumps(message),
            "error.responseType": kind,
        }
        template = wording.get("responseTemplates", {}).get("application/json")
        template = template or '{"message":$context.error.messageString}'
        body = _CONTEXT.sub(lambda found: context.get(found[1], found[0]), template)
        headers = {
            "content-type": "application/json",
            "x-amzn-requestid": request_id,
            "x-amzn-errortype": kind,
        }
        for name, value in wording.get("responseParameters", {}).items():
            headers[name.removeprefix("gatewayresponse.header.").lower()] = value.strip("'")
        return Response(body.encode(), status, headers)


async def _body(request: Request) -> bytes | None:
    """The body; ``None`` where it is too large."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY:
            return None
        parts.append(part)
    return b"".join(parts)


def proxy_event(
    request: Request, route: Route, path: str, variables: Mapping[str, str], body: bytes, request_id: str
) -> dict[str, Any]:
    """The event that API Gateway gives a function, format 1.0. Path variables stay percent-encoded."""
    headers = [(k.decode("latin-1").title(), v.decode("latin-1")) for k, v in request.headers.raw]
    query = parse_qsl(request.url.query, keep_blank_values=True)
    now = datetime.now(UTC)
    try:
        text, encoded = body.decode(), False
    except UnicodeDecodeError:
        text, encoded = base64.b64encode(body).decode(), True
    return {
        "resource": route.resource,
        "path": path,
        "httpMethod": request.method,
        "headers": dict(headers),
        "multiValueHeaders": _many(headers),
        "queryStringParameters": dict(query) or None,
        "multiValueQueryStringParameters": _many(query) or None,
        "pathParameters": dict(variables) or None,
        "stageVariables": None,
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": "local",
            "resourceId": "local",
            "resourcePath": route.resource,
            "httpMethod": request.method,
            "path": path,
            "stage": STAGE,
            "protocol": "HTTP/1.1",
            "domainName": request.headers.get("host", ""),
            "domainPrefix": "local",
            "requestId": request_id,
            "extendedRequestId": request_id,
            "requestTime": now.strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "requestTimeEpoch": int(now.timestamp() * 1000),
            "identity": {
                "sourceIp": request.client.host if request.client else "127.0.0.1",
                "userAgent": request.headers.get("user-agent"),
            },
        },
        "body": text if body else None,
        "isBase64Encoded": encoded,
    }


def proxy_response(payload: bytes, request_id: str) -> Response:
    """The answer of a function as an HTTP response.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is not in the form of a proxy response.
    """
    answer = json.loads(payload)
    body = answer.get("body") or ""
    content = base64.b64decode(body, validate=True) if answer.get("isBase64Encoded") else body.encode()
    response = Response(content, int(answer["statusCode"]), {"x-amzn-requestid": request_id})
    many = {name.lower(): values for name, values in (answer.get("multiValueHeaders") or {}).items()}
    for name, value in (answer.get("headers") or {}).items():
        many.setdefault(name.lower(), [value])
    for name, values in many.items():
        for value in values:
            response.headers.append(name, str(value))
    return response


def _many(pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for name, value in pairs:
        out.setdefault(name, []).append(value)
    return out


def _pattern(resource: str) -> re.Pattern[str]:
    parts = re.split(r"\{([A-Za-z_]\w*)(\+?)\}", resource)
    out = re.escape(parts[0])
    for name, greedy, rest in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        out += f"(?P<{name}>{'.+' if greedy else '[^/]+'})" + re.escape(rest)
    return re.compile(out)


def application(gateway: Gateway, keys: Mapping[str, Any], more: Sequence[BaseRoute] = ()) -> Starlette:
    """The web application: the API, beside it the public keys and what else the twin shows."""

    async def jwks(_: Request) -> Response:
        return JSONResponse(dict(keys))

    async def api(request: Request) -> Response:
        started = time.perf_counter()
        response = await gateway(request)
        response.headers["server-timing"] = f"total;dur={(time.perf_counter() - started) * 1000:.1f}"
        return response

    own = [Path("/.well-known/jwks.json", jwks, methods=["GET"]), *more]
    return Starlette(routes=[*own, Path("/{path:path}", api, methods=_METHODS)])
