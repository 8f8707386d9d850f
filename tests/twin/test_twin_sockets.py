"""The twin's WebSocket API over the wire: what functions are given, and what boto3 can do to connections."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import boto3
import pytest
import uvicorn
from botocore.exceptions import ClientError
from starlette.applications import Starlette
from starlette.routing import Route, WebSocketRoute
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from local.processes import listener
from local.runtime import Answer
from local.sockets import MAX_MESSAGE, WebSocketApi
from tests.support.waiting import until

pytestmark = pytest.mark.integration

KEYS = ("$connect", "$disconnect", "$default", "subscribe")
WAIT = 10.0


class Function:
    """Keeps what it was given, and answers as told."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.answers: dict[str, Any] = {}

    async def __call__(self, name: str, payload: bytes) -> Answer:
        assert name == "realtime"
        event = json.loads(payload)
        self.events.append(event)
        given = self.answers.get(event["requestContext"]["routeKey"], {"statusCode": 200})
        return given if isinstance(given, Answer) else Answer(json.dumps(given).encode())

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [e for e in self.events if e["requestContext"]["eventType"] == kind]


class Served:
    """The API on a port of its own."""

    def __init__(self) -> None:
        self.function = Function()
        self._open = ExitStack()
        api = WebSocketApi("live", dict.fromkeys(KEYS, "realtime"), self.function)
        managed = Route(
            "/live/@connections/{connection_id:path}", api.manage, methods=["DELETE", "GET", "POST"]
        )
        app = Starlette(routes=[WebSocketRoute("/live", api.session), managed])
        self._socket = listener()
        port = self._socket.getsockname()[1]
        self.url, self.endpoint = f"ws://127.0.0.1:{port}/live", f"http://127.0.0.1:{port}/live"
        config = uvicorn.Config(
            app, log_level="warning", lifespan="off", ws="websockets-sansio", ws_max_size=MAX_MESSAGE
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=asyncio.run, args=[self._server.serve([self._socket])])

    def start(self) -> None:
        self._thread.start()
        until(lambda: self._server.started, "the server", WAIT)

    def stop(self) -> None:
        self._open.close()
        self._server.should_exit = True
        self._thread.join()

    def client(self) -> Any:
        return boto3.client(
            "apigatewaymanagementapi",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )

    def connect(self, **more: Any) -> tuple[ClientConnection, str]:
        """A connection and its id."""
        before = len(self.function.of("CONNECT"))
        made = self._open.enter_context(connect(self.url, **more))
        return made, self.function.of("CONNECT")[before]["requestContext"]["connectionId"]


@pytest.fixture
def served() -> Iterator[Served]:
    one = Served()
    one.start()
    yield one
    one.stop()


def test_connecting_gives_the_function_the_headers_and_a_refusal_is_the_answer(served: Served) -> None:
    served.function.answers["$connect"] = {"statusCode": 401}
    with pytest.raises(InvalidStatus) as refused:
        served.connect(additional_headers={"Authorization": "Bearer bad"})
    assert refused.value.response.status_code == 401
    (event,) = served.function.events
    assert event["multiValueHeaders"]["Authorization"] == ["Bearer bad"]
    context = event["requestContext"]
    assert (context["routeKey"], context["eventType"], context["stage"]) == ("$connect", "CONNECT", "live")
    assert context["connectionId"].endswith("=")  # as in AWS: it has to be quoted in addresses


def test_the_function_chooses_the_subprotocol(served: Served) -> None:
    served.function.answers["$connect"] = {
        "statusCode": 200,
        "headers": {"Sec-WebSocket-Protocol": "qis.v1"},
    }
    connection, _ = served.connect(subprotocols=["qis.v1", "qis.bearer.abc"])
    assert connection.subprotocol == "qis.v1"
    connection.close()
    sent = served.function.of("CONNECT")[0]["multiValueHeaders"]["Sec-Websocket-Protocol"]
    assert sent == ["qis.v1, qis.bearer.abc"]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"action": "subscribe", "series": []}', "subscribe"),
        ('{"action": "other"}', "$default"),
        ('{"action": "$connect"}', "$default"),
        ('{"action": ["subscribe"]}', "$default"),
        ("[]", "$default"),
        ("no json", "$default"),
    ],
)
def test_a_message_goes_to_the_route_of_its_action(served: Served, text: str, key: str) -> None:
    connection, id_ = served.connect()
    connection.send(text)
    until(lambda: bool(served.function.of("MESSAGE")), "the message", WAIT)
    (event,) = served.function.of("MESSAGE")
    assert (event["body"], event["requestContext"]["routeKey"]) == (text, key)
    assert event["requestContext"]["connectionId"] == id_
    connection.close()


def test_a_function_that_fails_is_told_to_the_consumer_and_the_connection_stays(served: Served) -> None:
    connection, _ = served.connect()
    served.function.answers["subscribe"] = Answer(b"", "boom")
    connection.send('{"action": "subscribe"}')
    assert json.loads(connection.recv(WAIT))["message"] == "Internal server error"
    connection.send('{"action": "subscribe"}')
    assert json.loads(connection.recv(WAIT))["message"] == "Internal server error"
    connection.close()


def test_the_function_hears_of_the_end(served: Served) -> None:
    connection, id_ = served.connect()
    connection.close()
    until(lambda: bool(served.function.of("DISCONNECT")), "the end", WAIT)
    (event,) = served.function.of("DISCONNECT")
    assert event["requestContext"]["connectionId"] == id_
    assert event["requestContext"]["disconnectStatusCode"] == 1000


def test_boto3_sends_to_a_connection_and_ends_it(served: Served) -> None:
    connection, id_ = served.connect()
    client = served.client()
    client.post_to_connection(ConnectionId=id_, Data="grün".encode())
    assert connection.recv(WAIT) == "grün"
    assert "ConnectedAt" in client.get_connection(ConnectionId=id_)
    client.delete_connection(ConnectionId=id_)
    with pytest.raises(ConnectionClosed):
        connection.recv(WAIT)
    for act in (client.get_connection, client.delete_connection):
        with pytest.raises(client.exceptions.GoneException):
            act(ConnectionId=id_)
    with pytest.raises(client.exceptions.GoneException):
        client.post_to_connection(ConnectionId=id_, Data=b"late")


def test_a_message_that_is_too_large_is_refused_in_both_directions(served: Served) -> None:
    connection, id_ = served.connect()
    with pytest.raises(ClientError) as refused:
        served.client().post_to_connection(ConnectionId=id_, Data=b"x" * (MAX_MESSAGE + 1))
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413
    connection.send("x" * (MAX_MESSAGE + 1))
    with pytest.raises(ConnectionClosed) as closed:
        connection.recv(WAIT)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009
