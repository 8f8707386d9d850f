"""API Gateway REST proxy events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

PREFIX = "/live"


def proxy_event(
    method: str,
    resource: str,
    path: Mapping[str, str] | None = None,
    query: Mapping[str, str | list[str]] | None = None,
    body: object = None,
    headers: Mapping[str, str] | None = None,
    token: str | None = None,
) -> dict[str, Any]:
    """The event of a request that matched ``resource``."""
    url = resource.format(**(path or {}))
    many = {k: v if isinstance(v, list) else [v] for k, v in (query or {}).items()}
    given = dict(headers or {})
    if token is not None:
        given["Authorization"] = f"Bearer {token}"
    if body is not None and not isinstance(body, str):
        body = json.dumps(body)
        given.setdefault("Content-Type", "application/json")
    return {
        "resource": resource,
        "path": url,
        "httpMethod": method,
        "headers": given or None,
        "multiValueHeaders": {k: [v] for k, v in given.items()} or None,
        "queryStringParameters": {k: v[-1] for k, v in many.items()} or None,
        "multiValueQueryStringParameters": many or None,
        "pathParameters": dict(path) if path else None,
        "stageVariables": None,
        "requestContext": {"resourcePath": resource, "httpMethod": method, "path": PREFIX + url},
        "body": body,
        "isBase64Encoded": False,
    }


def followed(event: Mapping[str, Any], link: str) -> dict[str, Any]:
    """The event of the page that ``link`` leads to."""
    parts = urlsplit(link)
    assert parts.path == event["requestContext"]["path"]
    query = dict(parse_qsl(parts.query))
    assert urlencode(query) == parts.query
    many = {k: [v] for k, v in query.items()}
    return {**event, "queryStringParameters": query, "multiValueQueryStringParameters": many}
