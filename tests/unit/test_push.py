"""The push channel on ports in memory: nothing missing, in order, dropped where it must be."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qis.application.access import Principal
from qis.application.ports import Unavailable
from qis.application.publish import cloud_event
from qis.application.push import FRAME, HEARTBEAT_AFTER, MAX_DURATION, Gone, Push, messages
from qis.application.relay import backbone_event
from qis.domain import subscriptions
from tests.support.builders import published, reconciled, snap, value_append
from tests.support.fakes import MemoryEventStore
from tests.support.push import MemoryConnections, MemorySockets, values, without_repeats
from tests.support.refusals import broken

GROUPS = {"FX.EUR.USD": "fx", "FX.EUR.CHF": "fx", "PX.ACME": "equity"}
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def always() -> bool:
    return True


class World:
    """A log, its connections, and a clock that a test moves."""

    def __init__(self, page: int = 2000) -> None:
        self.store = MemoryEventStore()
        self.connections = MemoryConnections(self.store, GROUPS)
        self.sockets = MemorySockets()
        self.now = NOW
        self.push = Push(self.connections, self.sockets, lambda: self.now, page)
        self.count = 0

    def connect(self, id_: str = "c1", until: datetime = NOW + timedelta(days=1)) -> None:
        self.push.connect(id_, Principal("alice", frozenset({"read:data"}), until))

    def publish(self, series: str = "FX.EUR.USD", **more: Any) -> str:
        """A value, of a snap of its own."""
        self.count += 1
        value = f"1.{self.count}"
        event = published(value, snap(self.count), reference_data_id=series, **more)
        assert not self.store.append([value_append(0, event)])
        return value

    def wake(self, *series: str) -> None:
        self.push.wake(series or tuple(GROUPS), always)

    def told(self, id_: str = "c1") -> list[str]:
        return values(self.sockets.events(id_))


@pytest.fixture
def world() -> World:
    made = World()
    made.connect()
    return made


def test_a_subscriber_is_told_of_what_comes_after_and_not_of_what_was_before(world: World) -> None:
    world.publish()
    world.push.subscribe("c1", {"series": ["FX.EUR.USD"], "id": "my-1"})
    after = world.publish()
    world.wake()
    assert world.told() == [after]
    (answer,) = world.sockets.messages("c1", "subscribed")
    assert (answer["id"], answer["subscriptions"]) == ("my-1", 1)


@pytest.mark.parametrize(
    ("wish", "heard"),
    [
        ({"series": ["PX.ACME"]}, ["PX.ACME"]),
        ({"groups": ["fx"]}, ["FX.EUR.USD", "FX.EUR.CHF"]),
        ({"patterns": ["FX.EUR.*"]}, ["FX.EUR.USD", "FX.EUR.CHF"]),
        ({"patterns": ["*"]}, ["FX.EUR.USD", "PX.ACME", "FX.EUR.CHF"]),
        ({"series": ["PX.ACME"], "patterns": ["PX.*"], "groups": ["equity"]}, ["PX.ACME"]),
    ],
)
def test_only_what_was_asked_for_is_told_and_once(
    world: World, wish: dict[str, Any], heard: list[str]
) -> None:
    world.push.subscribe("c1", wish)
    for series in ("FX.EUR.USD", "PX.ACME", "FX.EUR.CHF"):
        world.publish(series)
    world.wake()
    assert [e["subject"] for e in world.sockets.events("c1")] == heard


def test_an_event_is_pushed_exactly_as_it_is_on_the_bus(world: World) -> None:
    world.push.subscribe("c1", {"series": ["FX.EUR.USD"]})
    world.publish(quality={"score": "0.99"})
    world.wake()
    (stored,) = world.store.log
    assert world.sockets.events("c1") == [json.loads(json.dumps(cloud_event(backbone_event(stored))))]


def test_decisions_and_claims_are_not_pushed(world: World) -> None:
    world.push.subscribe("c1", {"patterns": ["*"]})
    decided = reconciled("official", "1.1", snap(77), reference_data_id="FX.EUR.USD")
    world.store.append([value_append(0, decided)])
    world.wake()
    assert world.told() == []


def test_a_second_subscription_takes_nothing_away_and_leaves_no_gap(world: World) -> None:
    world.push.subscribe("c1", {"series": ["FX.EUR.USD"]})
    first = world.publish()  # nobody was woken for it yet
    world.push.subscribe("c1", {"series": ["PX.ACME"]})
    second = world.publish("PX.ACME")
    world.wake()
    assert world.told() == [first, second]


def test_who_unsubscribes_is_told_no_more(world: World) -> None:
    world.push.subscribe("c1", {"series": ["FX.EUR.USD", "PX.ACME"]})
    world.push.unsubscribe("c1", {"series": ["FX.EUR.USD"]})
    world.publish()
    kept = world.publish("PX.ACME")
    world.wake()
    assert world.told() == [kept]


@pytest.mark.parametrize(
    ("act", "body", "said"),
    [
        ("subscribe", {"series": ["FX.EUR.NOK"]}, ("series", "known-series")),
        ("subscribe", {"groups": ["rates"]}, ("groups", "known-group")),
        ("unsubscribe", {"patterns": ["FX.*"]}, ("patterns", "subscribed")),
        ("resume", {"patterns": ["*"]}, ("cursor", "required")),
        ("resume", {"patterns": ["*"], "cursor": "99.1"}, ("cursor", "cursor-ahead")),
    ],
)
def test_what_cannot_be_done_is_refused_by_field_and_rule(
    world: World, act: str, body: dict[str, Any], said: tuple[str, str]
) -> None:
    assert broken(lambda: getattr(world.push, act)("c1", body)) == [said]
    assert world.sockets.sent == []


def test_a_connection_has_so_many_subscriptions_and_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qis.application.push.MAX_KEYS", 2)
    world.push.subscribe("c1", {"series": ["FX.EUR.USD", "PX.ACME"]})
    assert broken(lambda: world.push.subscribe("c1", {"groups": ["fx"]})) == [("series", "max-subscriptions")]
    assert subscriptions.MAX_KEYS == 1000


def test_who_resumes_is_told_everything_after_its_cursor_first_and_what_is_new_then(world: World) -> None:
    world.push.subscribe("c1", {"groups": ["fx"]})
    world.publish()
    world.wake()
    cursor = world.sockets.messages("c1", "values")[-1]["cursor"]
    world.push.disconnect("c1")
    missed = [world.publish("FX.EUR.CHF"), world.publish()]
    world.wake()
    world.connect("c2")
    world.push.resume("c2", {"groups": ["fx"], "cursor": cursor})
    live = world.publish()
    world.wake()
    assert world.told("c2") == [*missed, live]
    assert [m["kind"] for m in world.sockets.messages("c2")] == ["resumed", "values", "values"]


def test_the_basis_of_an_answer_is_a_cursor(world: World) -> None:
    """What is read by REST, and what is pushed from its basis on, fit each other without a gap."""
    world.publish()
    basis = world.connections.newest().token
    after = world.publish()
    world.push.resume("c1", {"patterns": ["*"], "cursor": basis})
    assert world.told() == [after]


def test_a_process_that_dies_between_sending_and_moving_repeats_and_loses_nothing() -> None:
    world = World(page=3)
    world.connect()
    world.push.subscribe("c1", {"patterns": ["*"]})
    made = [world.publish(padding="x" * 20_000) for _ in range(10)]  # each fills a message of its own
    world.sockets.fail_after = 5
    with pytest.raises(Unavailable):
        world.wake()
    world.sockets.fail_after = None
    world.wake()
    sent = world.sockets.events("c1")
    assert values(without_repeats(sent)) == made
    assert len(sent) == 12  # two of the step that was cut off came twice


@given(st.data())
def test_whatever_is_cut_off_every_value_arrives_once_in_order(data: st.DataObject) -> None:
    """Publications, wake-ups, deaths in the middle and reconnections in any order."""
    world = World(page=data.draw(st.integers(1, 4)))
    wish = {"patterns": ["FX.*"]}
    connection, got, expected = 0, [], []
    world.connect("c0")
    world.push.subscribe("c0", wish)
    cursor = world.sockets.messages("c0")[0]["cursor"]
    for step in data.draw(st.lists(st.sampled_from("pppowdr"), max_size=30)):
        if step == "p":
            expected.append(world.publish())
        elif step == "o":
            world.publish("PX.ACME")
        elif step == "w":
            world.wake()
        elif step == "d":
            world.sockets.fail_after = data.draw(st.integers(0, 3))
            with suppress(Unavailable):
                world.wake()
            world.sockets.fail_after = None
        else:
            kept = without_repeats([*got, *world.sockets.events(f"c{connection}")])
            got, cursor = kept, kept[-1]["sequence"] if kept else cursor
            world.push.disconnect(f"c{connection}")
            connection += 1
            world.connect(f"c{connection}")
            world.push.resume(f"c{connection}", {**wish, "cursor": cursor})
    for _ in range(len(world.store.log) + 1):  # each goes on by a page, if there is one
        world.wake()
    assert values(without_repeats([*got, *world.sockets.events(f"c{connection}")])) == expected


def test_no_message_is_larger_than_a_frame_and_none_holds_less_than_it_could(world: World) -> None:
    for n in range(200):
        world.publish(padding="ü" * (n * 7))
    made = list(messages(world.store.log))
    assert all(len(m) <= FRAME for m, _ in made)
    assert sum(count for _, count in made) == 200
    assert len(made) <= 2 + sum(len(m) for m, _ in made) // (FRAME - 3500)
    positions = [e["sequence"] for m, _ in made for e in json.loads(m)["events"]]
    assert positions == [e.position.token for e in world.store.log]
    assert [json.loads(m)["cursor"] for m, _ in made] == [
        json.loads(m)["events"][-1]["sequence"] for m, _ in made
    ]


def test_an_event_that_no_frame_holds_comes_with_the_place_where_it_is_read(world: World) -> None:
    world.push.subscribe("c1", {"series": ["FX.EUR.USD"]})
    world.publish(padding="x" * FRAME)
    world.wake()
    (event,) = world.sockets.events("c1")
    assert "data" not in event
    at = "snap=2026-01-06T14%3A00%3A00Z&basis=1.1"
    assert event["dataref"] == f"/api/v1/data/reference/FX.EUR.USD/official?{at}"


def test_a_connection_that_is_gone_is_forgotten_and_the_others_are_told(world: World) -> None:
    world.connect("c2")
    for id_ in ("c1", "c2"):
        world.push.subscribe(id_, {"patterns": ["*"]})
    world.sockets.gone = {"c1"}
    value = world.publish()
    told = world.push.wake(["FX.EUR.USD"], always)
    assert world.told("c2") == [value]
    assert set(world.connections.rows) == {"c2"}
    assert (told.dropped, told.values, world.sockets.closed) == (1, 1, ["c1"])


def test_a_connection_that_cannot_be_reached_now_is_tried_again_after_the_others(world: World) -> None:
    world.connect("c2")
    for id_ in ("c1", "c2"):
        world.push.subscribe(id_, {"patterns": ["*"]})
    value = world.publish()
    world.connections.held.add("c1")
    with pytest.raises(Unavailable):
        world.wake()
    assert (world.told("c1"), world.told("c2")) == ([], [value])
    world.connections.held.clear()
    world.wake()
    assert (world.told("c1"), world.told("c2")) == ([value], [value])


def test_without_time_left_the_rest_is_left_to_the_next_try(world: World) -> None:
    world.push.subscribe("c1", {"patterns": ["*"]})
    world.publish()
    with pytest.raises(Unavailable):
        world.push.wake(["FX.EUR.USD"], lambda: False)
    assert world.told() == []


def test_who_is_far_behind_gets_its_turn_and_is_told_to_go_on() -> None:
    world = World(page=1)
    made = [world.publish() for _ in range(25)]
    world.connect()
    cursor = "0.0"
    for _ in range(3):
        world.push.resume("c1", {"patterns": ["*"], "cursor": cursor})
        cursor = world.sockets.messages("c1")[-1].get("cursor", cursor)
    assert len(world.sockets.messages("c1", "behind")) == 2
    assert world.told() == made


def lifetimes() -> list[tuple[datetime, timedelta]]:
    return [(NOW + timedelta(minutes=20), timedelta(minutes=20)), (NOW + timedelta(days=1), MAX_DURATION)]


@pytest.mark.parametrize(("token_until", "lives"), lifetimes())
def test_a_connection_ends_with_its_token_and_after_two_hours_at_the_latest(
    token_until: datetime, lives: timedelta
) -> None:
    world = World()
    world.connect("c1", token_until)
    world.push.subscribe("c1", {"patterns": ["*"]})
    world.now = NOW + lives - timedelta(seconds=1)
    kept = world.publish()
    world.wake()
    world.now = NOW + lives
    world.publish()
    world.wake()
    assert world.told() == [kept]
    assert world.push.tick(always).dropped == 1
    assert (world.sockets.closed, world.connections.rows) == (["c1"], {})


def test_a_silent_connection_hears_a_heartbeat_and_one_that_is_told_values_does_not(world: World) -> None:
    world.push.subscribe("c1", {"series": ["FX.EUR.USD"]})
    world.connect("c2")
    world.now += HEARTBEAT_AFTER
    world.publish("PX.ACME")
    world.push.tick(always)
    world.push.tick(always)  # a second one at once is too early
    (beat,) = world.sockets.messages("c1", "heartbeat")
    assert beat["cursor"] == world.store.log[-1].position.token
    assert [m["kind"] for m in world.sockets.messages("c2")] == ["heartbeat"]
    world.now += HEARTBEAT_AFTER
    value = world.publish()
    world.push.tick(always)  # what a lost wake-up left behind
    assert world.told() == [value]
    assert len(world.sockets.messages("c1", "heartbeat")) == 1


@pytest.mark.parametrize("act", ["subscribe", "unsubscribe"])
def test_an_unknown_connection_is_gone(world: World, act: str) -> None:
    with pytest.raises(Gone):
        getattr(world.push, act)("nobody", {"patterns": ["*"]})
    assert world.connections.held == set()


def test_a_held_connection_is_let_go_whatever_happens(world: World) -> None:
    world.push.subscribe("c1", {"patterns": ["*"]})
    acts: list[Callable[[], object]] = [
        lambda: world.push.unsubscribe("c1", {"series": ["PX.ACME"]}),
        lambda: world.push.subscribe("c1", {"series": ["PX.ACME"]}),
        lambda: world.wake(),
    ]
    world.publish()
    world.sockets.fail_after = 0
    for act in acts:
        with pytest.raises(Exception):  # noqa: B017, PT011 - whichever it is
            act()
        assert world.connections.held == set()
