"""The AsyncAPI document says what the handler does: what it describes is taken, what it does not is refused,
and every message that is sent is one of those that it describes."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import cache
from importlib import resources
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from qis.api.push import ACTIONS
from qis.application.push import FRAME, HEARTBEAT_AFTER, PUSHED, Push
from qis.domain.events import VERSIONS, cloud_event_type
from tests.api.test_push_routes import World
from tests.api.tokens import NOW, token
from tests.support.builders import published, snap, value_append


@cache
def document() -> dict[str, Any]:
    text = resources.files("qis.api").joinpath("asyncapi.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def fits(message: Any, name: str) -> bool:
    """Whether a message is what the document calls ``name``."""
    schema = {**document()["components"]["messages"][name]["payload"], "components": document()["components"]}
    return bool(Draft202012Validator(schema).is_valid(message))


def operation(name: str) -> list[str]:
    return [m["$ref"].rpartition("/")[2] for m in document()["operations"][name]["messages"]]


def references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [r for item in node for r in references(item)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"]] if "$ref" in node else []
    return own + [r for item in node.values() for r in references(item)]


def test_the_document_is_whole() -> None:
    assert document()["asyncapi"] == "3.0.0"
    for reference in references(document()):
        found: Any = document()
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
    for message in document()["components"]["messages"].values():
        Draft202012Validator.check_schema(message["payload"])


def test_it_knows_the_actions_and_the_events_of_the_code() -> None:
    assert operation("ask") == list(ACTIONS)
    types = document()["components"]["schemas"]["event"]["properties"]["type"]["enum"]
    assert types == [cloud_event_type(t, VERSIONS[t]) for t in PUSHED]


@pytest.fixture
def world() -> World:
    made = World()
    made.connect(Authorization=f"Bearer {token()}")
    made.push.subscribe("c1", {"series": ["FX.EUR.USD"]})
    made.sockets.sent.clear()
    return made


GOOD: list[dict[str, Any]] = [
    {"action": "subscribe", "series": ["FX.EUR.USD"], "id": "a.b-c:1"},
    {"action": "subscribe", "groups": ["fx"], "patterns": ["*", "FX.EUR.*"]},
    {"action": "unsubscribe", "series": ["FX.EUR.USD"], "groups": []},
    {"action": "resume", "patterns": ["*"], "cursor": "0.0"},
]
BAD: list[dict[str, Any]] = [
    {"action": "subscribe"},
    {"action": "subscribe", "series": []},
    {"action": "subscribe", "series": "FX.EUR.USD"},
    {"action": "subscribe", "series": [1]},
    {"action": "subscribe", "series": ["a b"]},
    {"action": "subscribe", "patterns": ["FX.EUR*"]},
    {"action": "subscribe", "groups": ["FX"]},
    {"action": "subscribe", "series": ["FX.EUR.USD"], "cursor": "0.0"},
    {"action": "subscribe", "series": ["FX.EUR.USD"], "since": 1},
    {"action": "subscribe", "series": ["FX.EUR.USD"], "id": ""},
    {"action": "resume", "series": ["FX.EUR.USD"]},
    {"action": "resume", "series": ["FX.EUR.USD"], "cursor": "0"},
]


@pytest.mark.parametrize("message", GOOD, ids=str)
def test_what_it_describes_is_taken(world: World, message: dict[str, Any]) -> None:
    assert fits(message, message["action"])
    assert world.send(message)["statusCode"] == 200


@pytest.mark.parametrize("message", BAD, ids=str)
def test_what_it_does_not_describe_is_refused(world: World, message: dict[str, Any]) -> None:
    assert not fits(message, message["action"])
    assert world.send(message)["statusCode"] == 400


def test_every_message_that_is_sent_is_described(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qis.application.push.TURN", 1)
    world.push = Push(world.connections, world.sockets, lambda: NOW + HEARTBEAT_AFTER, page=2)
    for n, more in enumerate(({}, {"padding": "x" * FRAME}, {}, {})):
        event = published("1.1", snap(n), 1 + n % 2, "FX.EUR.USD", **more)
        world.connections._store.append([value_append(0, event)])
    for act, body in (
        (world.push.subscribe, {"patterns": ["*"], "id": "1"}),
        (world.push.unsubscribe, {"patterns": ["*"]}),
        (world.push.resume, {"patterns": ["*"], "cursor": "0.0"}),
    ):
        act("c1", body)
    world.push.tick(lambda: True)
    world.push.tick(lambda: True)
    world.push = Push(world.connections, world.sockets, lambda: NOW + timedelta(minutes=5))
    world.push.tick(lambda: True)
    world.send({"action": "sell", "id": "2"})
    sent = world.sockets.messages("c1")
    assert {m["kind"] for m in sent} == set(operation("tell"))
    assert [m for m in sent if not fits(m, m["kind"])] == []
