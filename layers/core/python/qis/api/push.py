"""The routes of the WebSocket API: from API Gateway's events to the push use cases, and refusals back.

A browser cannot set headers of a WebSocket, and an address with a token in it would be in logs and histories.
So a token comes in the ``Authorization`` header, or, from a browser, as one of the offered subprotocols:
``new WebSocket(url, ["qis.v1", "qis.bearer." + token])``. The server chooses ``qis.v1`` and never repeats the
token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from qis.application.access import Authenticator, Forbidden, Unauthenticated
from qis.application.push import Gone, Push, Told
from qis.domain import exact_json
from qis.domain.errors import refuse, shown

SUBPROTOCOL = "qis.v1"
BEARER = "qis.bearer."
SCOPE = "read:data"
ACTIONS = ("subscribe", "unsubscribe", "resume")


class PushRoutes:
    """Answers the events of one WebSocket API.

    ``on_fault`` is told of every error that is not a refusal, inside its ``except`` block. ``refusal_of``
    says which errors of the parts outside are refusals.
    """

    def __init__(
        self,
        push: Push,
        authenticator: Authenticator,
        new_id: Callable[[], UUID],
        on_fault: Callable[[str, Exception], None],
        refusal_of: Callable[[Exception], Exception] = lambda error: error,
    ) -> None:
        self._push = push
        self._authenticator = authenticator
        self._new_id = new_id
        self._on_fault = on_fault
        self._refusal_of = refusal_of

    def respond(self, event: Mapping[str, Any]) -> tuple[dict[str, Any], Told]:
        """The answer to an event of API Gateway, and what was sent because of it. Raises nothing."""
        context = event["requestContext"]
        connection_id, kind = context["connectionId"], context["eventType"]
        try:
            if kind == "CONNECT":
                return self._connect(connection_id, _headers(event)), Told()
            if kind == "DISCONNECT":
                self._push.disconnect(connection_id)
                return {"statusCode": 200}, Told()
            return self._message(connection_id, context["routeKey"], event)
        except Exception as raised:  # noqa: BLE001 - the edge: every error becomes an answer
            return self._problem(raised), Told()

    def _connect(self, connection_id: str, headers: Mapping[str, str]) -> dict[str, Any]:
        offered = [p.strip() for p in headers.get("sec-websocket-protocol", "").split(",") if p.strip()]
        if offered and SUBPROTOCOL not in offered:
            given = ", ".join(p for p in offered if not p.startswith(BEARER))
            raise refuse("Sec-WebSocket-Protocol", given, "choice", f"does not offer {SUBPROTOCOL}")
        principal = self._authenticator.verify(_token(headers, offered))
        if SCOPE not in principal.scopes:
            raise Forbidden(SCOPE)
        self._push.connect(connection_id, principal)
        chosen = {"headers": {"Sec-WebSocket-Protocol": SUBPROTOCOL}} if offered else {}
        return {"statusCode": 200, **chosen}

    def _message(
        self, connection_id: str, route: str, event: Mapping[str, Any]
    ) -> tuple[dict[str, Any], Told]:
        """A message that breaks a rule is answered on the connection, which API Gateway's answer is not."""
        reference: str | None = None
        try:
            body = _body(event)
            if isinstance(body, dict) and isinstance(body.get("id"), str):
                reference = shown(body["id"])
            act = {
                "subscribe": self._push.subscribe,
                "unsubscribe": self._push.unsubscribe,
                "resume": self._push.resume,
            }.get(route)
            if act is None:
                action = body.get("action", "") if isinstance(body, dict) else ""
                raise refuse("action", shown(action), "choice", f"is not one of {', '.join(ACTIONS)}")
            return {"statusCode": 200}, act(connection_id, body)
        except Gone:
            self._push.end(connection_id)  # API Gateway knows it and we do not: it is to connect again
            return {"statusCode": 410}, Told(dropped=1)
        except Exception as raised:  # noqa: BLE001 - the edge: every error becomes an answer
            import json

            answer = self._problem(raised)
            self._push.refuse(connection_id, json.loads(answer["body"]), reference)
            return answer, Told(messages=1)

    def _problem(self, raised: Exception) -> dict[str, Any]:
        from qis.api.problems import is_expected, problem  # not needed by what goes well

        correlation_id = str(self._new_id())
        error = self._refusal_of(raised)
        if not is_expected(error):
            self._on_fault(correlation_id, error)
        response = problem(error, correlation_id)
        return {
            "statusCode": response.status,
            "headers": {"Content-Type": response.media, **response.headers},
            "body": response.body.decode(),
        }


def _headers(event: Mapping[str, Any]) -> dict[str, str]:
    """Headers by name in lower case; of a repeated one the values are joined."""
    return {name.lower(): ", ".join(v) for name, v in (event.get("multiValueHeaders") or {}).items()}


def _token(headers: Mapping[str, str], offered: list[str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    for protocol in offered:
        if protocol.startswith(BEARER):
            return protocol.removeprefix(BEARER)
    raise Unauthenticated("connecting needs a bearer token", None)


def _body(event: Mapping[str, Any]) -> Any:
    """The message as JSON.

    Raises:
        InvalidInput: rules ``text``, ``json``, ``finite``, ``distinct-keys``.
    """
    if event.get("isBase64Encoded"):
        raise refuse("body", "", "text", "is binary, and messages are text")
    text = event.get("body") or ""
    try:
        return exact_json.decode(text)
    except (ValueError, RecursionError, ArithmeticError) as error:
        raise refuse("body", shown(text), "json", "is not JSON") from error
