"""The operations of the ``ingest`` function that come by REST: checked bodies to the writing use cases."""

from __future__ import annotations

from typing import Any, Protocol
from uuid import UUID

from qis.api import parameters
from qis.api.http import JSON, Request, Response, encode_json, json_body
from qis.api.router import Handler, header_token
from qis.domain.errors import InvalidInput, Violation, refuse, shown
from qis.domain.series import check_fields, check_id, check_slug


class Ingest(Protocol):
    """Claims in."""

    def submit(
        self, claims: list[object], actor: str, correlation_id: str, idempotency_key: str | None
    ) -> dict[str, Any]: ...


class Corrections(Protocol):
    """Restatements and the exception queue."""

    def restate(
        self,
        reference_data_id: str,
        snap: object,
        value: object,
        reason: object,
        actor: str,
        correlation_id: str,
        official_version: object = None,
    ) -> dict[str, Any]: ...

    def approve(
        self, issue_id: UUID, actor: str, correlation_id: str, value: object = None
    ) -> dict[str, Any]: ...

    def reject(self, issue_id: UUID, reason: object, actor: str, correlation_id: str) -> dict[str, Any]: ...


class Register(Protocol):
    """The catalogue."""

    def series(self, body: object, actor: str, correlation_id: str) -> dict[str, Any]: ...

    def source(self, body: object, actor: str, correlation_id: str) -> dict[str, Any]: ...

    def check(self, body: object, actor: str, correlation_id: str) -> dict[str, Any]: ...

    def rules(self, body: object, actor: str, correlation_id: str) -> dict[str, Any]: ...


class WriteOperations:
    """Handlers by operation id."""

    def __init__(self, ingest: Ingest, corrections: Corrections, register: Register) -> None:
        self._ingest = ingest
        self._corrections = corrections
        self._register = register

    def handlers(self) -> dict[str, Handler]:
        """Every operation of the function."""
        return {
            "ingestOne": self._ingest_one,
            "ingestMany": self._ingest_many,
            "restate": self._restate,
            "approveException": self._approve,
            "rejectException": self._reject,
            "putSeries": self._put_series,
            "putSource": self._put_source,
            "putRules": self._put_rules,
            "putCheck": self._put_check,
        }

    def _ingest_one(self, request: Request) -> Response:
        reference_data_id = check_id(request.variables["id"], "id")
        body = json_body(request)
        if not isinstance(body, dict):
            raise refuse("body", body, "object", "is not a JSON object")
        _check_path("reference_data_id", body.get("reference_data_id"), reference_data_id)
        answer = self._submit(request, [{**body, "reference_data_id": reference_data_id}])
        claim = answer["claims"][0]
        if claim["outcome"] == "rejected":
            raise InvalidInput(*(Violation(**v) for v in claim["violations"]))
        return _receipt(answer)

    def _ingest_many(self, request: Request) -> Response:
        body = check_fields(json_body(request), "", {"claims"}, set())
        if not isinstance(body["claims"], list):
            raise refuse("claims", body["claims"], "array", "is not a JSON array")
        return _receipt(self._submit(request, body["claims"]))

    def _submit(self, request: Request, claims: list[object]) -> dict[str, Any]:
        key = header_token(request, "Idempotency-Key", 128)
        return self._ingest.submit(claims, request.actor, request.correlation_id, key)

    def _restate(self, request: Request) -> Response:
        reference_data_id = check_id(request.variables["id"], "id")
        body = check_fields(json_body(request), "", {"snap", "value", "reason"}, {"official_version"})
        return _done(
            self._corrections.restate(
                reference_data_id,
                body["snap"],
                body["value"],
                body["reason"],
                request.actor,
                request.correlation_id,
                body.get("official_version"),
            )
        )

    def _approve(self, request: Request) -> Response:
        item = parameters.uuid(request.variables["item"], "item")
        value = None
        if request.body:
            value = check_fields(json_body(request), "", {"value"}, set())["value"]
        return _done(self._corrections.approve(item, request.actor, request.correlation_id, value))

    def _reject(self, request: Request) -> Response:
        item = parameters.uuid(request.variables["item"], "item")
        body = check_fields(json_body(request), "", {"reason"}, set())
        return _done(self._corrections.reject(item, body["reason"], request.actor, request.correlation_id))

    def _put_series(self, request: Request) -> Response:
        body = _named(request, "reference_data_id", check_id(request.variables["id"], "id"))
        return _done(self._register.series(body, request.actor, request.correlation_id))

    def _put_source(self, request: Request) -> Response:
        body = _named(request, "source", check_slug(request.variables["source"], "source"))
        return _done(self._register.source(body, request.actor, request.correlation_id))

    def _put_check(self, request: Request) -> Response:
        body = _named(request, "check", check_slug(request.variables["check"], "check"))
        return _done(self._register.check(body, request.actor, request.correlation_id))

    def _put_rules(self, request: Request) -> Response:
        body = _named(request, "rules", check_slug(request.variables["rules"], "rules"))
        return _done(self._register.rules(body, request.actor, request.correlation_id))


def _named(request: Request, field: str, name: str) -> dict[str, Any]:
    """The body, which speaks of what the path names."""
    body = json_body(request)
    if not isinstance(body, dict):
        raise refuse("body", body, "object", "is not a JSON object")
    _check_path(field, body.get(field), name)
    return {**body, field: name}


def _check_path(field: str, value: object, name: str) -> None:
    if value is not None and value != name:
        raise refuse(field, value, "path", f"is not {shown(name)}, which the path names")


def _receipt(answer: dict[str, Any]) -> Response:
    where = f"/api/v1/receipts/{answer['receipt']}"
    return Response(202, JSON, encode_json(answer), {"Cache-Control": "no-store", "Location": where})


def _done(answer: dict[str, Any]) -> Response:
    return Response(200, JSON, encode_json(answer), {"Cache-Control": "no-store"})
