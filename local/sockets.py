"""The WebSocket API of the twin: routes of the template, events and management API as API Gateway has them.

What differs: the size of a frame is not looked at, only that of a message.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from local.gateway import Invoke

MAX_MESSAGE = 128 * 1024
MAX_SECONDS = 7200.0
"""For which a connection may last."""
IDLE_SECONDS = 600.0
TIMEOUT = 29.0
SEND_SECONDS = 5.0
"""For which a consumer may not take a message before it counts as too slow."""
CLOSED, GOING_AWAY = 1000, 1001


@dataclass(slots=True)
class _Connection:
    """An open connection."""

    id: str
    socket: WebSocket
    opened: float
    headers: Mapping[str, list[str]]
    timer: asyncio.Timeout | None = None
    active: float = field(default_factory=time.time)

    def touch(self) -> None:
        """Something went over it: it may be idle anew, and still lasts no longer than it may."""
        self.active = time.time()
        if self.timer is not None:
            left = min(IDLE_SECONDS, self.opened + MAX_SECONDS - self.active)
            self.timer.reschedule(asyncio.get_running_loop().time() + left)


class WebSocketApi:
    """Connections, and the functions that their routes name."""

    def __init__(self, stage: str, routes: Mapping[str, str], invoke: Invoke) -> None:
        self._stage = stage
        self._routes = routes
        self._invoke = invoke
        self._open: dict[str, _Connection] = {}

    async def session(self, socket: WebSocket) -> None:
        """One connection, from the handshake to its end."""
        many: dict[str, list[str]] = {}
        for name, value in socket.headers.raw:
            many.setdefault(name.decode("latin-1").title(), []).append(value.decode("latin-1"))
        new_id = base64.urlsafe_b64encode(os.urandom(11)).decode()
        connection = _Connection(new_id, socket, time.time(), many)
        self._open[connection.id] = connection
        try:
            await self._connected(connection)
        finally:
            self._open.pop(connection.id, None)

    async def _connected(self, connection: _Connection) -> None:
        answer = await self._run(connection, "$connect", "CONNECT", {"multiValueHeaders": connection.headers})
        status = int(answer.get("statusCode", 500)) if answer else 500
        if status >= 300:
            message = {"message": HTTPStatus(status).phrase, "connectionId": connection.id}
            await connection.socket.send_denial_response(JSONResponse(message, status))
            return
        given = {k.lower(): v for k, v in ((answer or {}).get("headers") or {}).items()}
        await connection.socket.accept(subprotocol=given.get("sec-websocket-protocol"))
        code = GOING_AWAY
        try:
            async with asyncio.timeout(IDLE_SECONDS) as connection.timer:
                while True:
                    await self._message(connection)
        except WebSocketDisconnect as end:
            code = end.code
        except TimeoutError:
            await connection.socket.close(GOING_AWAY)
        finally:
            self._open.pop(connection.id, None)
            await self._run(connection, "$disconnect", "DISCONNECT", {}, disconnectStatusCode=code)

    async def _message(self, connection: _Connection) -> None:
        received = await connection.socket.receive()
        if received["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(received.get("code", GOING_AWAY))
        connection.touch()
        text: str | None = received.get("text")
        body = base64.b64encode(received["bytes"]).decode() if text is None else text
        key = self._key(body)
        content = {"body": body, "isBase64Encoded": text is None}
        request_id = str(uuid4())
        if await self._run(connection, key, "MESSAGE", content, messageId=request_id) is None:
            failed = {"message": "Internal server error", "connectionId": connection.id}
            await connection.socket.send_text(json.dumps({**failed, "requestId": request_id}))

    def _key(self, body: str) -> str:
        """The route, by ``$request.body.action``."""
        try:
            action = json.loads(body)["action"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return "$default"
        known = isinstance(action, str) and action in self._routes and not action.startswith("$")
        return action if known else "$default"

    async def _run(
        self, connection: _Connection, key: str, kind: str, content: Mapping[str, Any], **more: Any
    ) -> dict[str, Any] | None:
        """What the function of a route answers; ``None`` where it failed."""
        event = self._event(connection, key, kind, content, more)
        payload = json.dumps(event, separators=(",", ":")).encode()
        try:
            answer = await asyncio.wait_for(self._invoke(self._routes[key], payload), TIMEOUT)
        except TimeoutError:
            return None
        if answer.error is not None:
            return None
        decoded = json.loads(answer.payload)
        return decoded if isinstance(decoded, dict) else None

    def _event(
        self,
        connection: _Connection,
        key: str,
        kind: str,
        content: Mapping[str, Any],
        more: Mapping[str, Any],
    ) -> dict[str, Any]:
        now = datetime.now(UTC)
        request_id = str(uuid4())
        client = connection.socket.client
        headers = {name: values[-1] for name, values in content.get("multiValueHeaders", {}).items()}
        return {
            **({"headers": headers} if headers else {}),
            "isBase64Encoded": False,
            **content,
            "requestContext": {
                "routeKey": key,
                "eventType": kind,
                "messageDirection": "IN",
                "stage": self._stage,
                "connectionId": connection.id,
                "connectedAt": int(connection.opened * 1000),
                "requestId": request_id,
                "extendedRequestId": request_id,
                "requestTime": now.strftime("%d/%b/%Y:%H:%M:%S +0000"),
                "requestTimeEpoch": int(now.timestamp() * 1000),
                "domainName": connection.socket.headers.get("host", ""),
                "apiId": "local",
                "identity": {
                    "sourceIp": client.host if client else "127.0.0.1",
                    "userAgent": connection.socket.headers.get("user-agent"),
                },
                **more,
            },
        }

    # the management API --------------------------------------------------------------------------

    async def manage(self, request: Request) -> Response:
        """``/@connections/ID``: POST sends, GET tells, DELETE ends."""
        connection = self._open.get(request.path_params["connection_id"])
        if connection is None:
            return _refusal(410, "GoneException")
        if request.method == "GET":
            return JSONResponse(
                {
                    "connectedAt": _iso(connection.opened),
                    "lastActiveAt": _iso(connection.active),
                    "identity": {"sourceIp": "127.0.0.1", "userAgent": ""},
                }
            )
        if request.method == "DELETE":
            self._open.pop(connection.id, None)
            await connection.socket.close(CLOSED)
            return Response(status_code=204)
        body = await request.body()
        if len(body) > MAX_MESSAGE:
            return _refusal(413, "PayloadTooLargeException")
        try:
            await asyncio.wait_for(connection.socket.send_text(body.decode()), SEND_SECONDS)
        except TimeoutError:
            return _refusal(429, "LimitExceededException")
        except (RuntimeError, WebSocketDisconnect):  # it closes right now
            return _refusal(410, "GoneException")
        connection.touch()
        return Response(status_code=200)


def _refusal(status: int, code: str) -> Response:
    return JSONResponse({"message": code}, status, {"x-amzn-errortype": code})


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
