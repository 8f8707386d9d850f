"""Issues on a virtual clock: one for many exceptions, everybody told once, two people to decide."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qis.application.issues import IssueDesk, IssueWatch
from qis.application.ports import Contended
from qis.application.relay import backbone_record
from qis.domain import events as ev
from qis.domain.errors import Conflict, FourEyes, InvalidInput, NotFound
from qis.domain.issues import ESCALATE_AFTER, RECOVER_AFTER, SNAPSHOT_FORMAT, Group, group_of
from tests.support.builders import append, detected, snap
from tests.support.fakes import MemoryEventStore, MemoryIssues, racing

START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
TOLD = (ev.ISSUE_ALERTED, ev.ISSUE_ESCALATED, ev.ISSUE_CLOSED)
_IDS = UUID(int=7)


class World:
    """Exceptions go in as the backbone brings them; the clock moves when the test says so."""

    def __init__(self) -> None:
        self.store = MemoryEventStore()
        self.book = MemoryIssues(self.store)
        self.watch = IssueWatch(self.store, self.book)
        self.desk = IssueDesk(self.store, self.book, self, lambda: self.now)
        self.now = START
        self.decided: list[tuple[str, UUID]] = []
        self.stuck: set[UUID] = set()

    def found(self, name: str, *, follow: bool = True, **more: Any) -> dict[str, Any]:
        """An exception is stored; by default the watch sees it at once."""
        item = uuid5(_IDS, name)
        given = {"kind": "stale", "gate": False, "source": "vendor", "submitters": [], **more}
        event = detected(item, snap(0), **given)
        return self._store(f"exception:{item}", event, follow)

    def resolved(self, name: str, type_: str = ev.QUALITY_ISSUE_RESOLVED) -> dict[str, Any]:
        """An exception is closed."""
        item = uuid5(_IDS, name)
        data = {"issue_id": str(item), "reference_data_id": "FX", "snap": snap(0).text}
        return self._store(f"exception:{item}", ev.NewEvent(type_, data), True)

    def _store(self, stream: str, event: ev.NewEvent, follow: bool) -> dict[str, Any]:
        self.store.append([append(stream, self.store.versions([stream]).get(stream, 0), event)])
        body: dict[str, Any] = json.loads(backbone_record(self.store.log[-1])[1])
        if follow:
            self.watch.follow([body], self.now)
        return body

    def approve(self, issue_id: UUID, actor: str, correlation_id: str) -> dict[str, Any]:
        return self._decide("approve", issue_id, ev.QUALITY_APPROVED)

    def reject(self, issue_id: UUID, reason: object, actor: str, correlation_id: str) -> dict[str, Any]:
        return self._decide("reject", issue_id, ev.QUALITY_REJECTED)

    def _decide(self, what: str, item: UUID, type_: str) -> dict[str, Any]:
        if item in self.stuck:
            raise Conflict("no value is proposed")
        self.decided.append((what, item))
        stream = f"exception:{item}"
        data = {"issue_id": str(item), "reference_data_id": "FX", "snap": snap(0).text}
        self.store.append([append(stream, 1, ev.NewEvent(type_, data))])
        return {}

    def at(self, later: timedelta) -> None:
        """The scheduler runs, twice, as it may."""
        self.now = START + later
        self.watch.tick(self.now)
        assert self.watch.tick(self.now) == 0, "the second tick of a moment does nothing"

    def told(self) -> list[str]:
        """What people were told, in order."""
        return [
            e.data.get("why", "") if e.type == ev.ISSUE_ALERTED else e.type.removeprefix("Issue").lower()
            for e in self.store.log
            if e.type in TOLD
        ]

    def issue(self) -> UUID:
        """The newest issue."""
        opened = [e for e in self.store.log if e.type == ev.ISSUE_OPENED]
        return UUID(opened[-1].data["issue"])

    def state(self) -> dict[str, Any]:
        events = [e for e in self.store.log if e.data.get("issue") == str(self.issue())]
        found: dict[str, Any] = events[-1].data["state"]
        return found


def test_alert_escalation_snooze_end_and_recovery_each_once() -> None:
    world = World()
    world.found("a")
    assert world.told() == ["detected"], "at once, without waiting for the scheduler"
    world.at(ESCALATE_AFTER - SECOND)
    assert world.told() == ["detected"]
    world.at(ESCALATE_AFTER)
    world.at(ESCALATE_AFTER + MINUTE)
    assert world.told() == ["detected", "escalated"]
    world.desk.snooze(world.issue(), (START + 60 * MINUTE).isoformat(), "vendor was called", "ann", "c")
    for minute in range(7, 60):
        world.at(minute * MINUTE)
    assert world.told() == ["detected", "escalated"]
    world.at(60 * MINUTE)
    world.at(61 * MINUTE)
    assert world.told() == ["detected", "escalated", "snooze-ended"]
    world.desk.triage(world.issue(), "known outage", "ann", "c")
    world.resolved("a")
    world.at(61 * MINUTE + RECOVER_AFTER - SECOND)
    assert world.told() == ["detected", "escalated", "snooze-ended"]
    for minute in range(63, 90):
        world.at(minute * MINUTE)
    assert world.told() == ["detected", "escalated", "snooze-ended", "closed"]
    assert world.state()["resolution"] == "recovered"


def test_a_triaged_issue_does_not_escalate() -> None:
    world = World()
    world.found("a")
    world.desk.triage(world.issue(), "looking", "ann", "c")
    world.at(timedelta(hours=9))
    assert world.told() == ["detected"]
    with pytest.raises(Conflict):
        world.desk.triage(world.issue(), "looking again", "ann", "c")


def test_a_scheduler_that_was_away_tells_the_last_word_only() -> None:
    world = World()
    world.found("a")
    world.desk.snooze(world.issue(), (START + 10 * MINUTE).isoformat(), "later", "ann", "c")
    world.resolved("a")
    world.at(timedelta(hours=3))
    assert world.told() == ["detected", "closed"]


def test_a_vendor_file_in_the_wrong_scale_is_one_issue() -> None:
    world = World()
    batch = [
        world.found(f"{n}", follow=False, kind="scale", reference_data_id=f"PX.{n % 40}") for n in range(2000)
    ]
    for start in range(0, len(batch), 300):
        world.watch.follow(batch[start : start + 300], world.now)
    assert Counter(e.type for e in world.store.log)[ev.ISSUE_OPENED] == 1
    assert world.told() == ["detected"]
    state = world.state()
    assert (state["items"], state["open"], state["series"]) == (2000, 2000, 40)
    assert state["severity"] == "high", "widespread findings are one worse than each"


def test_what_is_delivered_again_changes_nothing() -> None:
    world = World()
    first = world.found("a")
    second = world.found("b")
    gone = world.resolved("a")
    before = len(world.store.log)
    assert world.watch.follow([first, second, gone], world.now) == 0
    assert world.watch.follow([first], world.now) == 0
    assert len(world.store.log) == before


def test_a_fault_that_comes_and_goes_is_one_issue_and_one_alert() -> None:
    world = World()
    for n in range(10):
        world.now = START + n * MINUTE / 2
        world.found(f"flap-{n}")
        world.resolved(f"flap-{n}")
    assert world.told() == ["detected"]
    world.at(10 * MINUTE)
    world.found("later")
    assert world.told() == ["detected", "closed", "detected"]


def test_other_causes_are_other_issues() -> None:
    world = World()
    world.found("a")
    world.found("b", source="other")
    world.found("c", kind="missing", source=None, scope="calendar/ECB")
    world.found("d", kind="missing", source=None, scope="calendar/ECB", reference_data_id="OTHER")
    world.found("e", kind="restatement", gate=True)
    world.found("f", kind="conflict", gate=True)
    opened = [e.data["group"] for e in world.store.log if e.type == ev.ISSUE_OPENED]
    assert opened == ["stale|source/vendor", "stale|source/other", "missing|calendar/ECB"]


def test_held_values_are_grouped_by_the_check_and_the_source() -> None:
    failed = {"check": "spike", "passed": False}
    held = {"kind": "suspect", "checks": [failed, {"check": "other", "passed": True}], "sources": ["v"]}
    assert group_of({**held, "reference_data_id": "PX"}) == "spike|source/v"
    both = {**held, "checks": [], "sources": ["v", "w"], "reference_data_id": "PX"}
    assert group_of(both) == "disagreement|series/PX"


def test_an_exception_found_and_closed_in_one_batch_tells_nobody() -> None:
    world = World()
    found = world.found("a", follow=False)
    item = found["data"]["issue_id"]
    closed = {"type": ev.QUALITY_ISSUE_RESOLVED, "data": {"issue_id": item}}
    assert world.watch.follow([found, closed], world.now) == 0


def test_two_people_decide_and_every_exception_is_decided_on() -> None:
    world = World()
    for name in "abc":
        world.found(name, submitters=["bob"])
    issue = world.issue()
    with pytest.raises(Conflict, match="triaged"):
        world.desk.approve(issue, "true move", "cid", "c")
    world.desk.triage(issue, "a true move", "ann", "c")
    for who in ("ann", "bob"):
        with pytest.raises(FourEyes):
            world.desk.approve(issue, "true move", who, "c")
    with pytest.raises(InvalidInput):
        world.desk.approve(issue, "", "cid", "c")
    done = world.desk.approve(issue, "true move", "cid", "c")
    assert (done["decided"], done["left"]) == (3, [])
    assert [what for what, _ in world.decided] == ["approve"] * 3
    assert world.state()["resolution"] == "approved"
    with pytest.raises(Conflict):
        world.desk.correct(issue, "again", "cid", "c")
    assert world.told() == ["detected", "closed"]


def test_an_issue_stays_open_until_nothing_of_it_is_left() -> None:
    world = World()
    world.found("a")
    world.found("b")
    world.desk.triage(world.issue(), "wrong scale", "ann", "c")
    world.stuck = {uuid5(_IDS, "b")}
    done = world.desk.correct(world.issue(), "vendor confirmed", "cid", "c")
    assert done["decided"] == 1
    assert done["left"] == [{"item": str(uuid5(_IDS, "b")), "why": "no value is proposed"}]
    assert world.state()["status"] == "triaged"
    world.stuck = set()
    assert world.desk.correct(world.issue(), "vendor confirmed", "cid", "c")["left"] == []
    assert world.state()["resolution"] == "corrected"


def test_a_snooze_lies_within_the_next_days() -> None:
    world = World()
    world.found("a")
    for until in (START, START + timedelta(days=8)):
        with pytest.raises(InvalidInput, match="snooze"):
            world.desk.snooze(world.issue(), until.isoformat(), "later", "ann", "c")
    with pytest.raises(NotFound):
        world.desk.triage(UUID(int=1), "nothing", "ann", "c")


def test_of_two_that_see_the_same_exception_one_opens_the_issue() -> None:
    world = World()
    event = world.found("a", follow=False)
    rival = MemoryEventStore()
    IssueWatch(rival, MemoryIssues(rival)).follow([event], START)
    stream = next(iter(rival.streams))
    stored = [ev.NewEvent(e.type, e.data) for e in rival.streams[stream]]
    racing(world.store, [append(stream, 0, *stored)])
    assert world.watch.follow([event], world.now) == 0
    assert Counter(e.type for e in world.store.log)[ev.ISSUE_OPENED] == 1


def test_a_group_that_others_keep_changing_is_left_for_the_next_delivery() -> None:
    world = World()
    event = world.found("a", follow=False)
    world.store.append = lambda appends, *_: frozenset(a.stream for a in appends)  # type: ignore[method-assign]
    with pytest.raises(Contended):
        world.watch.follow([event], world.now)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("found"), st.integers(0, 5)),
        st.tuples(st.just("resolved"), st.integers(0, 5)),
        st.tuples(st.just("triage"), st.just(0)),
        st.tuples(st.just("snooze"), st.integers(1, 12)),
        st.tuples(st.just("wait"), st.integers(1, 9)),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_whatever_happens_each_is_told_once_and_a_snapshot_is_the_same_state(steps: list[Any]) -> None:
    world = World()
    numbers = dict.fromkeys(range(6), 0)
    for what, n in steps:
        if what == "found":
            numbers[n] += 1
            world.found(f"{n}-{numbers[n]}")
        elif what == "resolved" and numbers[n]:
            world.resolved(f"{n}-{numbers[n]}")
        elif what == "wait":
            world.now += n * MINUTE
            world.watch.tick(world.now)
        elif what in ("triage", "snooze") and any(numbers.values()):
            _act(world, what, n)
    for stream, events in world.store.streams.items():
        if not stream.startswith("issue:"):
            continue
        _check_told(events)
        name = stream.removeprefix("issue:")
        for cut in range(len(events)):
            head = Group(name).fold(events[:cut])
            state = json.loads(json.dumps(head.snapshot()))
            assert state["format"] == SNAPSHOT_FORMAT
            assert Group.restore(name, cut, state).fold(events[cut:]) == Group(name).fold(events)


def _act(world: World, what: str, n: int) -> None:
    """A person acts on the newest issue, which may be closed."""
    until = (world.now + n * MINUTE).isoformat()
    with suppress(Conflict):
        if what == "triage":
            world.desk.triage(world.issue(), "seen", "ann", "c")
        else:
            world.desk.snooze(world.issue(), until, "later", "ann", "c")


def _check_told(events: list[ev.Event]) -> None:
    """Of each issue: one alert when detected, one more per snooze that ended, at most one escalation per
    alert, one end; and issues of a group follow each other."""
    open_: str | None = None
    alerts = escalations = snoozes = 0
    for event in events:
        issue = event.data["issue"]
        if event.type == ev.ISSUE_OPENED:
            assert open_ is None
            open_, alerts, escalations, snoozes = issue, 0, 0, 0
        assert issue == open_
        if event.type == ev.ISSUE_ALERTED:
            alerts += 1
        snoozes += event.type == ev.ISSUE_SNOOZED
        escalations += event.type == ev.ISSUE_ESCALATED
        assert alerts <= 1 + snoozes
        assert escalations <= alerts
        if event.type == ev.ISSUE_CLOSED:
            open_ = None
