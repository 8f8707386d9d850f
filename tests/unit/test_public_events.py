"""What leaves the domain has the fields that its definition names, and no others."""

from __future__ import annotations

import json
import types
from base64 import b64encode
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

import pytest

from qis.adapters.backbone import backbone_events
from qis.application.ports import Unavailable
from qis.application.publish import cloud_event
from qis.application.relay import backbone_record, relay_batch
from qis.domain import events as ev
from qis.domain.issues import ESCALATE_AFTER
from qis.domain.public_events import MECHANICAL, PUBLIC, VALUES, BackboneEvent, CloudEvent
from tests.support.builders import append
from tests.support.fakes import MemoryBackbone, MemoryEventStore, MemoryFollower
from tests.unit.test_issues import MINUTE, START
from tests.unit.test_issues import World as Watched
from tests.unit.test_overrides import correct, history, published
from tests.unit.test_reconciler import World


def faults(value: Any, of: Any, at: str = "data") -> Iterator[str]:
    """Where ``value`` is not what the annotation ``of`` says."""
    origin, arguments = get_origin(of), get_args(of)
    if is_typeddict(of):
        yield from _faults_of_fields(value, of, at)
    elif origin in (Union, types.UnionType):
        if all(any(faults(value, one, at)) for one in arguments):
            yield f"{at} is {value!r}, not {of}"
    elif origin is list:
        for item in value if isinstance(value, list) else [None]:
            yield from faults(item, arguments[0], f"{at}[]")
    elif origin in (dict, Mapping):
        for item in value.values() if isinstance(value, Mapping) else [None]:
            yield from faults(item, arguments[1], f"{at}{{}}")
    elif of is not Any and type(value) is not of:
        yield f"{at} is {value!r}, not {of}"


def _faults_of_fields(value: Mapping[str, Any], of: Any, at: str) -> Iterator[str]:
    full = get_type_hints(of, include_extras=True)  # annotations are text: the class itself cannot tell
    needed = {name for name, kind in full.items() if get_origin(kind) is not NotRequired}
    yield from (f"{at}.{name} is not defined" for name in value.keys() - full.keys())
    yield from (f"{at}.{name} is missing" for name in needed - value.keys())
    for name, kind in get_type_hints(of).items():
        if name in value:
            yield from faults(value[name], kind, f"{at}.{name}")


def of_people(store: MemoryEventStore) -> list[ev.Event]:
    return [e for e in store.log if e.type in PUBLIC]


def published_and_corrected() -> MemoryEventStore:
    world = published()
    correct(world, "1.1001", "ann")
    correct(world, "1.1002", "bob", seen=1)
    issue = history(world).issue
    assert issue is not None
    world.corrections.approve(issue.issue_id, "cid", "request")
    return world.store


def overtaken() -> MemoryEventStore:
    world = published(World(conflict="last-writer-wins"))
    correct(world, "1.1001", "ann", seen=1)
    correct(world, "1.1002", "bob", seen=1)
    return world.store


def late() -> MemoryEventStore:
    world = published()
    world.claim("alpha", "1.1005", received=600)
    world.reconcile(0)
    return world.store


def told() -> MemoryEventStore:
    world = Watched()
    world.found("a")
    world.at(ESCALATE_AFTER)
    world.desk.snooze(world.issue(), (START + 60 * MINUTE).isoformat(), "vendor was called", "ann", "c")
    world.at(60 * MINUTE)
    world.desk.triage(world.issue(), "known outage", "ann", "c")
    world.resolved("a")
    world.at(timedelta(hours=9))
    return world.store


SCENES = (published_and_corrected, overtaken, late, told)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: str(scene.__name__))
def test_what_is_published_is_what_is_defined(scene: Any) -> None:
    events = of_people(scene())
    assert events
    for event in events:
        body: dict[str, Any] = json.loads(backbone_record(event)[1])
        assert list(faults(body, BackboneEvent)) == []
        assert list(faults(body["data"], PUBLIC[event.type])) == []
        assert list(faults(cloud_event(body), CloudEvent)) == []


def test_the_scenes_have_every_public_event_and_every_field_of_values() -> None:
    seen: dict[str, set[str]] = {}
    for scene in SCENES:
        for event in of_people(scene()):
            seen.setdefault(event.type, set()).update(event.data)
    assert seen.keys() == PUBLIC.keys()
    fields = set().union(*(seen[t] for t in VALUES))
    assert fields - {"rules_chain"} == set(get_type_hints(PUBLIC[ev.DATA_RESTATED])) - {"rules_chain"}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"extra": 1}, "data.extra is not defined"),
        ({"official_version": "1"}, "data.official_version is '1', not <class 'int'>"),
        ({"pinned": None}, "data.pinned is None, not <class 'bool'>"),
        ({"sources": [1]}, "data.sources[] is 1, not <class 'str'>"),
    ],
)
def test_a_planted_difference_is_found(change: dict[str, Any], fault: str) -> None:
    event = next(e for e in of_people(published_and_corrected()) if e.type == ev.DATA_RESTATED)
    assert list(faults({**event.data, **change}, PUBLIC[event.type])) == [fault]
    assert list(faults({k: v for k, v in event.data.items() if k != "cause"}, PUBLIC[event.type])) == [
        "data.cause is missing"
    ]


def test_the_audit_gets_what_was_decided_and_the_backbone_everything() -> None:
    store = published_and_corrected()
    backbone, audit = MemoryBackbone(), MemoryBackbone()
    relay_batch(MemoryFollower(store), backbone, START, audit=audit)
    sent = [json.loads(body)["type"] for _, body in audit.records]
    assert len(backbone.records) == len(store.log)
    assert sent == [e.type for e in store.log if e.type not in MECHANICAL]
    assert {ev.DATA_RESTATED, ev.QUALITY_APPROVED} <= set(sent)
    assert {e.type for e in store.log} > set(sent), "the mass is left out"


def test_an_event_that_no_record_holds_keeps_nobody_back_and_tells_of_itself() -> None:
    """Rules of a megabyte, what fifty sources said of a large chain: the log holds it, a stream does not."""
    store = MemoryEventStore()
    for number, filler in enumerate(("", "x" * 1_100_000, "")):
        store.append(
            [append(f"s{number}", 0, ev.NewEvent(ev.RULES_CHANGED, {"n": number, "filler": filler}))]
        )
    backbone, follower = MemoryBackbone(), MemoryFollower(store)
    assert relay_batch(follower, backbone, START) == 3
    assert max(len(key) + len(data) for key, data in backbone.records) < 2**20
    first, large, last = (
        {"kinesis": {"data": b64encode(data), "sequenceNumber": str(n)}}
        for n, (_, data) in enumerate(backbone.records)
    )
    assert [e["data"]["n"] for e in backbone_events([first, last])] == [0, 2]
    event = store.log[1]
    said = rf"RulesChanged {event.event_id} of 1100\d+ bytes .* in the log at {event.position.token}"
    with pytest.raises(ValueError, match=said):
        backbone_events([first, large, last])


def test_what_the_audit_refused_is_sent_again() -> None:
    follower, backbone, audit = MemoryFollower(overtaken()), MemoryBackbone(), MemoryBackbone()
    audit.refuse = True
    with pytest.raises(Unavailable):
        relay_batch(follower, backbone, START, audit=audit)
    assert follower.checkpoint() == ev.START
