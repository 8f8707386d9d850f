"""The API Gateway REST proxy event as a typed request, and the answer that it expects back."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import blake2b
from typing import Any
from urllib.parse import unquote

from qis.api.contract import Operation
from qis.application.access import Principal
from qis.application.answers import MAX_PAYLOAD, escaped_bytes
from qis.domain.errors import InvalidInput, QisError, Violation, refuse, shown

JSON, CSV, PROBLEM = "application/json", "text/csv", "application/problem+json"
MAX_BODY = 10 * 1024 * 1024
MAX_DEPTH = 16
_BESIDE_BODY = 2_000
"""Bytes of what every answer has around its body, at most."""

_CORRELATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:\-]{0,127}", re.ASCII)
_LOST_PLUS = re.compile(r"T[0-9:.]+ [0-9]{2}:?[0-9]{2}$", re.ASCII)
"""A time whose offset was written with a bare plus, which a query string reads as a space."""
_SECURITY = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "Vary": "Accept, Authorization",
    "X-Content-Type-Options": "nosniff",
}


class TooLarge(QisError):
    """The body is larger than ``MAX_BODY``."""

    slug = "too-large"


class AnswerTooLarge(QisError):
    """The answer is larger than a function may give."""

    slug = "answer-too-large"


class UnsupportedMediaType(QisError):
    """The body is not JSON."""

    slug = "unsupported-media-type"


class NotAcceptable(QisError):
    """None of the accepted media types can be given."""

    slug = "not-acceptable"


class NoRoute(QisError):
    """The path is not one of the API's."""

    slug = "no-such-route"


class MethodNotAllowed(QisError):
    """The path has other methods."""

    slug = "method-not-allowed"

    def __init__(self, methods: list[str]) -> None:
        super().__init__(f"this path has {', '.join(methods)}")
        self.methods = methods


@dataclass(frozen=True, slots=True)
class Request:
    """A request that matched an operation."""

    operation: Operation
    variables: Mapping[str, str]
    """Variables of the path, percent-decoded."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """By name in lower case."""
    body: str | bytes | None
    correlation_id: str
    url_path: str
    """Path as the caller sees it, for links."""
    principal: Principal | None = None
    media: str = JSON
    """Media type to answer with."""

    @property
    def actor(self) -> str:
        """Subject of the caller's token."""
        assert self.principal is not None, "the operation is open and has no actor"
        return self.principal.subject


@dataclass(frozen=True, slots=True)
class Response:
    """An answer before it is encoded for API Gateway."""

    status: int
    media: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def headers_of(event: Mapping[str, Any]) -> dict[str, str]:
    """Headers by name in lower case; of a repeated one the values are joined."""
    many = event.get("multiValueHeaders")
    if many:
        return {k.lower(): ", ".join(v) for k, v in many.items()}
    return {k.lower(): v for k, v in (event.get("headers") or {}).items()}


def correlation_of(headers: Mapping[str, str]) -> str | None:
    """The caller's correlation id, if it gives one.

    Raises:
        InvalidInput: it is not a short plain word.
    """
    given = headers.get("x-correlation-id")
    if given is not None and not _CORRELATION.fullmatch(given):
        raise refuse("X-Correlation-Id", given, "identifier", "is not 1 to 128 of A-Z a-z 0-9 . _ : -")
    return given


def query_of(event: Mapping[str, Any], operation: Operation) -> dict[str, str]:
    """Query parameters, each known and given once, the required ones present.

    Raises:
        InvalidInput: naming every parameter that breaks a rule.
    """
    many: Mapping[str, list[str]] | None = event.get("multiValueQueryStringParameters")
    if not many:
        many = {k: [v] for k, v in (event.get("queryStringParameters") or {}).items()}
    broken = [
        Violation(
            shown(k), shown(v[0] if v else ""), "known-parameter", "is not a parameter of this operation"
        )
        for k, v in many.items()
        if k not in operation.query
    ]
    broken += [
        Violation(k, shown(", ".join(v)), "single", "is given more than once")
        for k, v in many.items()
        if k in operation.query and len(v) != 1
    ]
    broken += [
        Violation(k, shown(v[0]), "offset", "has a space before its offset; in an address + is written %2B")
        for k, v in many.items()
        if k in operation.query and len(v) == 1 and _LOST_PLUS.search(v[0])
    ]
    broken += [
        Violation(k, "", "required", "is required")
        for k in sorted(operation.required)
        if not many.get(k, [""])[0]
    ]
    if broken:
        raise InvalidInput(*broken)
    return {k: v[0] for k, v in many.items()}


def variables_of(event: Mapping[str, Any]) -> dict[str, str]:
    """Variables of the path as API Gateway matched them, percent-decoded."""
    return {k: unquote(v) for k, v in (event.get("pathParameters") or {}).items()}


def body_of(event: Mapping[str, Any]) -> str | bytes | None:
    """The raw body.

    Raises:
        TooLarge: more than ``MAX_BODY`` bytes.
        InvalidInput: it is said to be base64 and is not.
    """
    body = event.get("body")
    if body is None:
        return None
    if len(body) > MAX_BODY * 4 // 3 + 4:
        raise TooLarge(f"the body is larger than {MAX_BODY} bytes")
    raw: str | bytes = body
    if event.get("isBase64Encoded"):
        try:
            raw = base64.b64decode(body, validate=True)
        except (ValueError, binascii.Error) as error:
            raise refuse("body", body, "base64", "is not base64") from error
    if len(raw) > MAX_BODY:
        raise TooLarge(f"the body is larger than {MAX_BODY} bytes")
    return raw


def json_body(request: Request) -> Any:
    """The body as JSON: numbers as exact decimals, keys given once, depth bounded, no NaN.

    Raises:
        UnsupportedMediaType: the content type is not JSON.
        InvalidInput: rules ``required``, ``json``, ``finite``, ``distinct-keys``, ``max-depth``.
    """
    media = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if media != JSON:
        raise UnsupportedMediaType(f"the body is {shown(media)}, not {JSON}")
    if not request.body:
        raise refuse("body", "", "required", "is required")
    try:
        found = json.loads(
            request.body,
            parse_float=_decimal,
            parse_int=_integer,
            parse_constant=_constant,
            object_pairs_hook=_distinct,
        )
    except RecursionError as error:
        raise refuse("body", "", "max-depth", f"is nested deeper than {MAX_DEPTH} levels") from error
    except ValueError as error:
        raise refuse("body", shown(_start(request.body)), "json", f"is not JSON: {error}") from error
    _check_depth(found)
    return found


def _start(body: str | bytes) -> str:
    return body[:80] if isinstance(body, str) else body[:80].decode("utf-8", "replace")


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except ArithmeticError as error:
        raise refuse("body", text, "decimal", "has an exponent out of range") from error


def _integer(text: str) -> int | Decimal:
    # A long one stays a decimal: making an int of it costs the square of its length.
    return int(text) if len(text) < 40 else Decimal(text)


def _constant(name: str) -> Any:
    raise refuse("body", name, "finite", "is not a finite number")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(k for k, _ in pairs if k in seen or seen.add(k))  # type: ignore[func-returns-value]
        raise refuse(shown(twice), "", "distinct-keys", "is given more than once")
    return found


def _check_depth(body: object) -> None:
    level: list[Any] = [body]
    for _ in range(MAX_DEPTH + 1):
        level = [node for node in level if isinstance(node, dict | list)]
        if not level:
            return
        level = [child for node in level for child in (node.values() if isinstance(node, dict) else node)]
    raise refuse("body", "", "max-depth", f"is nested deeper than {MAX_DEPTH} levels")


def encode_json(body: object) -> bytes:
    """Compact JSON with the keys in the order in which they were put."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def etag_of(body: bytes) -> str:
    """A strong validator of these bytes."""
    return f'"{blake2b(body, digest_size=16).hexdigest()}"'


def negotiate(request: Request, offered: tuple[str, ...]) -> str:
    """The media type to answer with: by ``format``, else by ``Accept``, else the first offered.

    Raises:
        InvalidInput: an unknown ``format``.
        NotAcceptable: nothing offered is accepted.
    """
    wanted = request.query.get("format")
    if wanted is not None:
        if wanted not in ("json", "csv"):
            raise refuse("format", wanted, "choice", "is not one of json, csv")
        return JSON if wanted == "json" else CSV
    accept = request.headers.get("accept")
    if not accept:
        return offered[0]
    weights = {media: _weight(accept, media) for media in offered}
    best = max(offered, key=lambda m: weights[m])
    if weights[best] <= 0:
        raise NotAcceptable(f"can be given as {', '.join(offered)}")
    return best


def _weight(accept: str, media: str) -> float:
    """The quality that ``Accept`` gives a media type; the most exact range counts."""
    ranges = {"*/*": 0, media.partition("/")[0] + "/*": 1, media: 2}
    best = (-1, 0.0)
    for part in accept[:1000].split(","):
        name, *parameters = (p.strip().lower() for p in part.split(";"))
        if name in ranges:
            best = max(best, (ranges[name], _quality(parameters)))
    return best[1]


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        if re.fullmatch(r"q=(0(\.\d{0,3})?|1(\.0{0,3})?)", parameter):
            return float(parameter[2:])
    return 1.0


def unchanged(request: Request, etag: str) -> bool:
    """Whether ``If-None-Match`` names what would be sent."""
    given = request.headers.get("if-none-match")
    if given is None:
        return False
    return given.strip() == "*" or etag in (t.strip().removeprefix("W/") for t in given.split(","))


def within_payload(response: Response) -> Response:
    """The response, which a function may give.

    Raises:
        AnswerTooLarge: it may not; Lambda would answer with an error that says nothing.
    """
    beside = sum(len(k) + len(v) for k, v in response.headers.items()) + _BESIDE_BODY
    if 2 * len(response.body) + beside <= MAX_PAYLOAD:
        return response
    size = escaped_bytes(response.body) + beside
    if size > MAX_PAYLOAD:
        raise AnswerTooLarge(f"the answer has {size} bytes, more than {MAX_PAYLOAD}; ask for less at a time")
    return response


def proxy_answer(response: Response, correlation_id: str) -> dict[str, Any]:
    """The answer in the form that API Gateway takes from a function."""
    headers = {**_SECURITY, **response.headers, "X-Correlation-Id": correlation_id}
    if response.body:
        charset = "" if response.media == PROBLEM else "; charset=utf-8"
        headers["Content-Type"] = response.media + charset
    return {
        "statusCode": response.status,
        "headers": headers,
        "body": response.body.decode(),
        "isBase64Encoded": False,
    }
