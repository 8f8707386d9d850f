"""The routes of the WebSocket API: who may connect, and how a message that breaks a rule is answered."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from qis.adapters.tokens import LEEWAY, JwtAuthenticator
from qis.api.push import PushRoutes
from qis.application.push import Push, Told
from tests.api.tokens import AUDIENCE, ISSUER, NOW, Jwks, jwk, token
from tests.support.fakes import MemoryEventStore
from tests.support.push import MemoryConnections, MemorySockets

NUMBER = UUID(int=1)


class World:
    """The routes on ports in memory."""

    def __init__(self) -> None:
        self.connections = MemoryConnections(MemoryEventStore(), {"FX.EUR.USD": "fx"})
        self.sockets = MemorySockets()
        self.faults: list[Exception] = []
        self.jwks = Jwks([jwk("k1")])
        self.push = Push(self.connections, self.sockets, lambda: NOW)
        authenticator = JwtAuthenticator(self.jwks.fetch, ISSUER, AUDIENCE, lambda: NOW)
        self.routes = PushRoutes(
            self.push, authenticator, lambda: NUMBER, lambda _, error: self.faults.append(error)
        )

    def connect(self, **headers: str) -> dict[str, Any]:
        many = {name.replace("_", "-"): [value] for name, value in headers.items()}
        return self.routes.respond(event("$connect", "CONNECT", multiValueHeaders=many))[0]

    def send(self, body: object, route: str = "") -> dict[str, Any]:
        """The answer to a message; its route is its action where API Gateway has one of this name."""
        action = body.get("action", "") if isinstance(body, dict) else ""
        known = action if action in ("subscribe", "unsubscribe", "resume") else "$default"
        text = body if isinstance(body, str) else json.dumps(body)
        return self.routes.respond(event(route or known, "MESSAGE", body=text))[0]

    @property
    def problem(self) -> dict[str, Any]:
        """The last thing that was sent, which is a problem."""
        last = json.loads(self.sockets.sent[-1][1])
        assert last["kind"] == "problem"
        return dict(last)


def event(route: str, kind: str, **more: Any) -> dict[str, Any]:
    context = {"routeKey": route, "eventType": kind, "connectionId": "c1"}
    return {"requestContext": context, "isBase64Encoded": False, **more}


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def connected(world: World) -> World:
    assert world.connect(Authorization=f"Bearer {token()}") == {"statusCode": 200}
    return world


def test_a_program_connects_with_a_header(connected: World) -> None:
    row = connected.connections.rows["c1"]
    assert row.subject == "alice"
    assert row.expires_at == NOW + timedelta(seconds=3600 + LEEWAY)


def test_a_browser_connects_with_a_subprotocol_and_the_token_is_not_repeated(world: World) -> None:
    answer = world.connect(Sec_WebSocket_Protocol=f"qis.v1, qis.bearer.{token()}")
    assert answer == {"statusCode": 200, "headers": {"Sec-WebSocket-Protocol": "qis.v1"}}
    assert set(world.connections.rows) == {"c1"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Basic abc"}, 401),
        ({"Authorization": "Bearer not-a-token"}, 401),
        ({"Authorization": f"Bearer {token(aud='someone-else')}"}, 401),
        ({"Authorization": f"Bearer {token(exp=int(NOW.timestamp()) - 3600)}"}, 401),
        ({"Authorization": f"Bearer {token(scope='write:data')}"}, 403),
        ({"Sec_WebSocket_Protocol": "qis.v1"}, 401),
        ({"Sec_WebSocket_Protocol": f"qis.bearer.{token()}"}, 400),
        ({"Sec_WebSocket_Protocol": "qis.v2"}, 400),
    ],
)
def test_who_may_not_connect_is_refused_with_the_status_of_the_rest_routes(
    world: World, headers: dict[str, str], status: int
) -> None:
    answer = world.connect(**headers)
    assert answer["statusCode"] == status
    assert world.connections.rows == {}
    assert world.sockets.sent == []
    if "bearer" in str(headers.values()):
        assert token()[:40] not in answer["body"]


def test_without_keys_to_check_against_nobody_is_let_in(world: World) -> None:
    from qis.application.ports import Unavailable

    world.jwks.error = Unavailable("no keys")
    assert world.connect(Authorization=f"Bearer {token()}")["statusCode"] == 503


def test_a_token_in_the_address_is_not_looked_at(world: World) -> None:
    asked = event("$connect", "CONNECT", queryStringParameters={"token": token(), "Authorization": token()})
    assert world.routes.respond(asked)[0]["statusCode"] == 401


def test_a_message_that_breaks_a_rule_is_answered_with_a_problem_naming_it(connected: World) -> None:
    connected.send({"action": "subscribe", "id": "mine", "series": ["FX.EUR.NOK"]})
    answer = connected.problem
    assert answer["id"] == "mine"
    assert answer["problem"] == {
        "type": "urn:qis:problem:invalid-input",
        "title": "The request breaks a rule",
        "status": 400,
        "detail": "series: is not registered [known-series]",
        "correlation_id": str(NUMBER),
        "violations": [
            {
                "field": "series",
                "value": "FX.EUR.NOK",
                "rule": "known-series",
                "message": "is not registered",
            }
        ],
    }
    assert connected.faults == []


@pytest.mark.parametrize(
    ("body", "field", "rule"),
    [
        ("no json", "body", "json"),
        ('{"action": NaN}', "value", "finite"),
        ("[" * 5000, "body", "json"),
        ("{}", "action", "choice"),
        ({"action": "buy"}, "action", "choice"),
        ({"action": "resume", "patterns": ["*"]}, "cursor", "required"),
        ({"action": "unsubscribe", "series": ["FX.EUR.USD"]}, "series", "subscribed"),
    ],
)
def test_every_mistake_has_a_field_and_a_rule(connected: World, body: Any, field: str, rule: str) -> None:
    assert connected.send(body)["statusCode"] == 400
    (violation,) = connected.problem["problem"]["violations"]
    assert (violation["field"], violation["rule"]) == (field, rule)


def test_a_binary_message_is_refused(connected: World) -> None:
    connected.routes.respond(event("$default", "MESSAGE", body="AAAA") | {"isBase64Encoded": True})
    assert connected.problem["problem"]["violations"][0]["rule"] == "text"


def test_subscribing_and_resuming_answer_with_where_it_goes_on(connected: World) -> None:
    assert connected.send({"action": "subscribe", "series": ["FX.EUR.USD"]}) == {"statusCode": 200}
    connected.send({"action": "resume", "groups": ["fx"], "cursor": "0.0"})
    kinds = [(m["kind"], m["subscriptions"]) for m in connected.sockets.messages("c1")]
    assert kinds == [("subscribed", 1), ("resumed", 1)]


def test_a_connection_that_we_do_not_know_is_ended(world: World) -> None:
    assert world.send({"action": "subscribe", "series": ["FX.EUR.USD"]})["statusCode"] == 410
    assert world.sockets.closed == ["c1"]


def test_the_end_of_a_connection_is_noted(connected: World) -> None:
    assert connected.routes.respond(event("$disconnect", "DISCONNECT")) == ({"statusCode": 200}, Told())
    assert connected.connections.rows == {}


def test_a_fault_gives_nothing_away(connected: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(connected.push, "subscribe", fault)
    assert connected.send({"action": "subscribe", "series": ["FX.EUR.USD"]})["statusCode"] == 500
    assert "secret" not in json.dumps(connected.problem)
    assert [str(e) for e in connected.faults] == ["secret"]
