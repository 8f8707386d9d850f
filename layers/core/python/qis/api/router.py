"""From an API Gateway event to an answer: find the operation, check the caller, run it, map its errors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import cache
from typing import Any
from uuid import UUID

from qis.api import http
from qis.api.contract import Contract, Operation
from qis.api.problems import is_expected, problem
from qis.application.access import Authenticator, Forbidden, Principal, Unauthenticated
from qis.domain.errors import refuse, shown

Handler = Callable[[http.Request], http.Response]


def deferred(operations: Collection[str], make: Callable[[], Mapping[str, Handler]]) -> dict[str, Handler]:
    """Handlers of operations that few ask for. ``make``, which has to give these and no others, imports and
    makes them when the first of them is asked for, so that they slow no cold start."""

    @cache
    def made() -> Mapping[str, Handler]:
        handlers = make()
        if handlers.keys() != set(operations):
            raise ValueError(f"operations and handlers differ: {sorted(handlers.keys() ^ set(operations))}")
        return handlers

    def handler(name: str) -> Handler:
        return lambda request: made()[name](request)

    return {name: handler(name) for name in operations}


class Router:
    """Answers the operations of one function. ``handlers`` are by operation id, all of the function's.

    ``on_fault`` is told of every error that is not a refusal, inside its ``except`` block. ``refusal_of``
    says which errors of the parts outside are refusals.
    """

    def __init__(
        self,
        function: str,
        contract: Contract,
        handlers: Mapping[str, Handler],
        authenticator: Authenticator,
        new_id: Callable[[], UUID],
        on_fault: Callable[[str, Exception], None],
        refusal_of: Callable[[Exception], Exception] = lambda error: error,
    ) -> None:
        own = {o.operation_id for o in contract.operations.values() if o.function == function}
        if own != handlers.keys():
            raise ValueError(f"operations and handlers differ: {sorted(own ^ handlers.keys())}")
        self._function = function
        self._contract = contract
        self._handlers = handlers
        self._authenticator = authenticator
        self._new_id = new_id
        self._on_fault = on_fault
        self._refusal_of = refusal_of

    def respond(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to an API Gateway REST proxy event. Raises nothing."""
        correlation_id = str(self._new_id())
        try:
            headers = http.headers_of(event)
            correlation_id = http.correlation_of(headers) or correlation_id
            response = http.within_payload(self._run(event, headers, correlation_id))
        except Exception as raised:  # noqa: BLE001 - the edge: every error becomes an answer
            error = self._refusal_of(raised)
            if not is_expected(error):
                self._on_fault(correlation_id, error)
            response = problem(error, correlation_id)
        return http.proxy_answer(response, correlation_id)

    def _run(
        self, event: Mapping[str, Any], headers: Mapping[str, str], correlation_id: str
    ) -> http.Response:
        operation, variables = self._find(event)
        principal = self._admit(operation, headers)
        request = http.Request(
            operation=operation,
            variables=variables,
            query=http.query_of(event, operation),
            headers=headers,
            body=http.body_of(event) if operation.has_body else None,
            correlation_id=correlation_id,
            url_path=str((event.get("requestContext") or {}).get("path") or event.get("path") or ""),
            principal=principal,
        )
        # Refused before any work: an answer that nobody can read is not looked up.
        media = http.negotiate(request, operation.media)
        response = self._handlers[operation.operation_id](replace(request, media=media))
        return _conditional(request, response)

    def _find(self, event: Mapping[str, Any]) -> tuple[Operation, Mapping[str, str]]:
        """By the resource that API Gateway matched; by the path where it matched only a proxy."""
        method = str(event.get("httpMethod", "")).upper()
        found = self._contract.operations.get((method, str(event.get("resource"))))
        variables = http.variables_of(event)
        if found is None:
            path = str(event.get("path") or "")
            matched = self._contract.match(path)
            if matched is None:
                raise http.NoRoute(f"{shown(path)} is not a path of this API")
            template, variables = matched
            found = self._contract.operations.get((method, template))
            if found is None:
                raise http.MethodNotAllowed(self._contract.methods(template))
        if found.function != self._function:
            raise http.NoRoute(f"{found.operation_id} is answered by another function")
        return found, variables

    def _admit(self, operation: Operation, headers: Mapping[str, str]) -> Principal | None:
        if operation.scope is None:
            return None
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated("this operation needs a bearer token", None)
        principal = self._authenticator.verify(token.strip())
        if operation.scope not in principal.scopes:
            raise Forbidden(operation.scope)
        return principal


def _conditional(request: http.Request, response: http.Response) -> http.Response:
    etag = response.headers.get("ETag")
    if etag is not None and http.unchanged(request, etag):
        return replace(response, status=304, body=b"")
    return response


def header_token(request: http.Request, name: str, longest: int) -> str | None:
    """A header of visible ASCII characters.

    Raises:
        InvalidInput: it holds others, or is too long.
    """
    value = request.headers.get(name.lower())
    if value is None:
        return None
    if not (1 <= len(value) <= longest and value.isascii() and value.isprintable() and " " not in value):
        raise refuse(name, value, "token", f"is not 1 to {longest} visible ASCII characters")
    return value
