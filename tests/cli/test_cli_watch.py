"""``qis watch``: what it asks, what it makes of messages, and how it comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from typing import Any

import pytest
from rich.console import Console

from qis.cli.failures import Failure
from qis.cli.session import Session
from qis.cli.watching import LONGEST_PAUSE, Channel, Lost, Watch, _line, follow
from qis.domain.events import Position

WISH = {"series": ["A"]}


def event(position: str, value: Any = "1.1", **more: Any) -> dict[str, Any]:
    data = {"value": value, "snap": "2026-01-05T14:00:00Z", "official_version": 1}
    return {
        "sequence": position,
        "subject": "A",
        "type": "com.qis.data.published.v1",
        "data": data,
        **more,
    }


def values(*positions: str) -> str:
    events = [event(p) for p in positions]
    return json.dumps({"kind": "values", "cursor": positions[-1], "events": events})


SUBSCRIBED = json.dumps({"kind": "subscribed", "cursor": "5.0", "subscriptions": 1})
RESUMED = json.dumps({"kind": "resumed", "cursor": "5.0", "subscriptions": 1})


class Script:
    """Connections that say what they are told to, and then are lost."""

    def __init__(self, *connections: Sequence[str]) -> None:
        self._connections = iter(connections)
        self.sent: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.slept: list[float] = []

    @contextmanager
    def open(self) -> Iterator[Channel]:
        says = next(self._connections, None)
        assert says is not None, "it came back more often than the script foresees"
        yield _Scripted(says, self.sent)

    def take(self, watch: Watch, count: int, jitter: float = 1.0) -> list[str]:
        """Positions of the first events."""
        found = follow(watch, self.open, self.notes.append, self.slept.append, lambda: jitter)
        with closing(found):
            return [e["sequence"] for e in islice(found, count)]


class _Scripted:
    def __init__(self, says: Sequence[str], sent: list[dict[str, Any]]) -> None:
        self._says = iter(says)
        self._sent = sent

    def send(self, message: str) -> None:
        self._sent.append(json.loads(message))

    def receive(self) -> str:
        for message in self._says:
            return message
        raise Lost("the connection is lost")


def test_it_subscribes_and_comes_back_with_its_cursor() -> None:
    script = Script([SUBSCRIBED, values("5.1", "5.2")], [RESUMED, values("6.1")])
    assert script.take(Watch(WISH), 3) == ["5.1", "5.2", "6.1"]
    assert script.sent == [
        {"action": "subscribe", "series": ["A"]},
        {"action": "resume", "series": ["A"], "cursor": "5.2"},
    ]
    assert script.notes == ["the connection is lost; again in 0.5 s, from 5.2"]


def test_a_connection_that_is_lost_before_the_first_value_resumes_at_where_it_began() -> None:
    script = Script([SUBSCRIBED], [RESUMED, values("5.1")])
    script.take(Watch(WISH), 1)
    assert script.sent[1]["cursor"] == "5.0"


def test_what_comes_again_is_dropped() -> None:
    script = Script([SUBSCRIBED, values("5.1", "5.2"), values("5.1", "5.2", "5.10"), values("5.9", "6.1")])
    assert script.take(Watch(WISH), 4) == ["5.1", "5.2", "5.10", "6.1"]


def test_a_heartbeat_moves_the_cursor() -> None:
    watch = Watch(WISH)
    assert list(watch.take('{"kind": "heartbeat", "cursor": "9.9"}')) == []
    assert list(watch.take('{"kind": "heartbeat"}')) == []
    assert watch.cursor == Position(9, 9)


def test_who_is_far_behind_asks_to_go_on() -> None:
    behind = json.dumps({"kind": "behind", "cursor": "7.0"})
    script = Script([RESUMED, values("6.1"), behind, RESUMED, values("8.1")])
    assert script.take(Watch(WISH, Position(5, 1)), 2) == ["6.1", "8.1"]
    assert [m["cursor"] for m in script.sent] == ["5.1", "7.0"]


def test_pauses_grow_to_a_bound_and_are_short_again_once_something_came() -> None:
    script = Script(*[[]] * 8, [SUBSCRIBED, values("5.1")], [RESUMED, values("5.2")])
    script.take(Watch(WISH), 2)
    assert script.slept == [0.5, 1, 2, 4, 8, 16, LONGEST_PAUSE, LONGEST_PAUSE, 0.5]
    script = Script([], [], [SUBSCRIBED, values("5.1")])
    script.take(Watch(WISH), 1, jitter=0.0)
    assert script.slept == [0.25, 0.5]


def test_a_refusal_ends_it_and_a_fault_that_passes_does_not() -> None:
    fault = json.dumps({"kind": "problem", "problem": {"status": 503, "detail": "the database is away"}})
    gateway = json.dumps({"message": "Internal server error"})
    script = Script([fault], [gateway], [SUBSCRIBED, values("5.1")])
    assert script.take(Watch(WISH), 1) == ["5.1"]
    assert len(script.notes) == 2
    refusal = {"status": 400, "violations": [{"field": "series", "rule": "known-series"}]}
    with pytest.raises(Failure) as refused:
        Script([json.dumps({"kind": "problem", "problem": refusal})]).take(Watch(WISH), 1)
    assert refused.value.problem == refusal


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (event("1.1"), "A  2026-01-05T14:00:00Z  1.1  v1\n"),
        (
            event("1.1", type="com.qis.data.restated.v1", subject="FX.EUR.USD.ECB1415.MID"),
            "FX.EUR.USD.ECB1415.MID  2026-01-05T14:00:00Z  1.1  v1  restated\n",
        ),
        (event("1.1", subject="L" * 70), "L" * 70 + "\n  2026-01-05T14:00:00Z  1.1  v1\n"),
        (event("1.1", {"a": 1}), "A  2026-01-05T14:00:00Z  a record, see `qis official`  v1\n"),
        (
            {"subject": "A", "type": "com.qis.data.published.v1", "dataref": "/api/v1/x"},
            "A  too large, read /api/v1/x\n",
        ),
    ],
)
def test_a_value_fits_eighty_columns(
    told: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _line(Console(width=80, highlight=False), told)
    shown = capsys.readouterr().out
    assert shown == said
    assert all(len(line) <= 80 for line in shown.splitlines())


@pytest.mark.parametrize(
    ("environment", "slug"),
    [
        ({"QIS_URL": "https://a"}, "no-push"),
        ({"QIS_URL": "https://a", "QIS_TOKEN": "t", "QIS_PUSH_URL": "ws://a/live"}, "bad-address"),
    ],
)
def test_a_token_goes_only_where_it_is_safe(environment: dict[str, str], slug: str) -> None:
    with pytest.raises(Failure) as failed:
        _ = Session(False, None, None, environment).push
    assert failed.value.problem["type"] == f"urn:qis:problem:{slug}"


def test_a_remote_system_is_named_by_the_environment() -> None:
    given = {"QIS_URL": "https://a", "QIS_TOKEN": "t", "QIS_PUSH_URL": "wss://push.a/live"}
    assert Session(False, None, None, given).push == ("wss://push.a/live", "t")
