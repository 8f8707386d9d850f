"""Every refusal as an RFC 9457 problem document: the one place that maps errors to statuses."""

from __future__ import annotations

from typing import Any

from qis.api.http import PROBLEM, MethodNotAllowed, Response, encode_json
from qis.application.access import Forbidden, Unauthenticated
from qis.application.reading import NoOfficialValue
from qis.domain.errors import InvalidInput, NotFound, QisError

PREFIX = "urn:qis:problem:"

STATUS: dict[str, tuple[int, str]] = {
    "invalid-input": (400, "The request breaks a rule"),
    "answer-too-large": (400, "The answer is larger than one answer may be"),
    "unauthenticated": (401, "A valid bearer token is needed"),
    "forbidden": (403, "The token does not allow this"),
    "four-eyes": (403, "A second person has to decide"),
    "not-found": (404, "There is nothing to answer with"),
    "no-such-route": (404, "There is no such path"),
    "method-not-allowed": (405, "The path does not have this method"),
    "not-acceptable": (406, "The answer cannot be given in this form"),
    "conflict": (409, "The request contradicts the present state"),
    "contended": (409, "Other writers kept winning"),
    "not-settled": (409, "The answer is not settled yet"),
    "too-large": (413, "The body is too large"),
    "unsupported-media-type": (415, "The body is not JSON"),
    "unavailable": (503, "A part outside did not answer"),
}
"""Status and title by the slug of the error."""

UNEXPECTED = (500, "Something went wrong here")
_RETRY = {"contended", "not-settled", "unavailable"}


def is_expected(error: Exception) -> bool:
    """Whether the error is a refusal with a meaning, and not a fault of the service."""
    return isinstance(error, QisError) and error.slug in STATUS


def problem(error: Exception, correlation_id: str) -> Response:
    """The answer to ``error``. A fault of the service gives nothing of itself away."""
    if not isinstance(error, QisError) or error.slug not in STATUS:
        return _response(*UNEXPECTED, "unexpected", "see the logs under this correlation id", correlation_id)
    status, title = STATUS[error.slug]
    extra: dict[str, Any] = {}
    if isinstance(error, InvalidInput):
        extra["violations"] = [v.as_json() for v in error.violations]
    if isinstance(error, NotFound):
        extra["reason"] = error.reason
    if isinstance(error, NoOfficialValue) and error.item is not None:
        extra["item"] = str(error.item)
    return _response(status, title, error.slug, str(error), correlation_id, extra, _headers(error))


def _headers(error: QisError) -> dict[str, str]:
    if isinstance(error, Unauthenticated):
        said = "" if error.rule is None else f' error="invalid_token", error_description="{error.rule}"'
        return {"WWW-Authenticate": "Bearer" + said}
    if isinstance(error, Forbidden):
        return {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{error.scope}"'}
    if isinstance(error, MethodNotAllowed):
        return {"Allow": ", ".join(error.methods)}
    return {"Retry-After": "1"} if error.slug in _RETRY else {}


def _response(
    status: int,
    title: str,
    slug: str,
    detail: str,
    correlation_id: str,
    extra: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    body = {
        "type": PREFIX + slug,
        "title": title,
        "status": status,
        "detail": detail,
        "correlation_id": correlation_id,
        **(extra or {}),
    }
    return Response(status, PROBLEM, encode_json(body), {"Cache-Control": "no-store", **(headers or {})})
