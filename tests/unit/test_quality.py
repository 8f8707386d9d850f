"""Quality follows decisions: it keeps facts, opens findings once, and resolves what arrives."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qis.application import quality
from qis.application.quality import WATCHERS, Quality, Seen, StaleSources, Verdict, Watcher
from qis.application.relay import backbone_record
from qis.domain import events as ev
from qis.domain.errors import Conflict
from qis.domain.findings import Finding
from qis.domain.snap import Snap
from tests.support.builders import EUR, FIXING, append, catalogue, daily, reconciled, rules, series, snap
from tests.support.fakes import FixedCatalogue, MemoryEventStore, MemoryFacts


class World:
    """Decisions go in as the backbone brings them; findings come out."""

    def __init__(self, *watchers: Watcher, **changes: Any) -> None:
        self.store = MemoryEventStore()
        self.log = MemoryEventStore()
        self.facts = MemoryFacts(self.store)
        kept = catalogue([series(), daily()], [rules(stale_after=3, **changes)])
        self.quality = Quality(self.store, FixedCatalogue(kept), self.facts, watchers or WATCHERS)

    def decide(self, at: Snap, id_: str = EUR, **claims: str) -> dict[str, Any]:
        used = [{"source": s, "claim_id": "0", "value": v} for s, v in claims.items()]
        event = reconciled("official", "1", at, id_, sources_used=used)
        stream = ev.value_stream(id_, at.text)
        version = self.log.versions([stream]).get(stream, 0)
        self.log.append([append(stream, version, event)])
        found: dict[str, Any] = json.loads(backbone_record(self.log.log[-1])[1])
        return found

    def findings(self) -> list[tuple[str, str, str | None]]:
        return [
            (e.data["kind"], e.data["snap"], e.data["source"])
            for e in self.store.log
            if e.type == ev.QUALITY_ISSUE_DETECTED
        ]

    def open_findings(self) -> set[tuple[str, str, str | None]]:
        return {
            (e.data["kind"], e.data["snap"], e.data["source"])
            for e in self.store.log
            if e.type == ev.QUALITY_ISSUE_DETECTED
            and self.store.issue_status[UUID(e.data["issue_id"])] == "open"
        }

    def open(self) -> int:
        return sum(status == "open" for status in self.store.issue_status.values())


def fixing(day: int) -> Snap:
    snap_time = daily().semantics.snap_time
    assert snap_time is not None
    return snap_time.on(date(2026, 1, day))


def test_a_stale_source_is_found_once_however_the_decisions_are_batched() -> None:
    found = []
    for size in (1, 2, 6):
        world = World()
        events = [world.decide(snap(n), alpha="1.1", beta=f"1.{n}") for n in range(6)]
        for start in range(0, 6, size):
            world.quality.follow(events[start : start + size])
        found.append(world.findings())
    assert found == [[("stale", snap(2).text, "alpha")]] * 3


def test_decisions_delivered_again_or_late_find_nothing_new() -> None:
    world = World()
    events = [world.decide(snap(n), alpha="1.1", beta=f"1.{n}") for n in range(4)]
    world.quality.follow(events)
    before = len(world.store.log)
    assert world.quality.follow(events) == 0
    assert world.quality.follow(events[:2]) == 0
    assert len(world.store.log) == before


def test_claims_that_did_not_carry_the_value_count_for_their_source_too() -> None:
    world = World()
    for number in range(3):
        event = world.decide(snap(number), beta=f"1.{number}")
        event["data"]["sources_rejected"] = [
            {"source": "alpha", "value": "9", "rule": "outside-tolerance"},
            {"source": "beta", "value": "7", "rule": "superseded"},
        ]
        world.quality.follow([event])
    assert world.findings() == [("stale", snap(2).text, "alpha")]


def test_a_session_that_was_passed_over_is_missing_and_resolved_when_it_arrives() -> None:
    world = World()
    world.quality.follow(
        [world.decide(fixing(5), FIXING, alpha="1"), world.decide(fixing(7), FIXING, alpha="2")]
    )
    assert world.findings() == [("missing", fixing(6).text, None)]
    assert world.open() == 1
    world.quality.follow([world.decide(fixing(6), FIXING, alpha="3")])
    assert world.open() == 0
    assert world.store.log[-1].type == ev.QUALITY_ISSUE_RESOLVED


def test_other_events_of_the_backbone_are_passed_over() -> None:
    world = World()
    event = {**world.decide(snap(0), alpha="1"), "type": ev.DATA_PUBLISHED}
    assert world.quality.follow([event]) == 0
    assert world.facts.last() == {}


def test_the_schedule_misses_what_should_be_there_by_now_once() -> None:
    world = World(timely_within="PT1H")
    world.quality.follow([world.decide(fixing(5), FIXING, alpha="1")])
    due = fixing(6).moment + timedelta(hours=1)
    world.quality.scheduled(due - timedelta(seconds=1))
    assert world.findings() == []
    world.quality.scheduled(due)
    world.quality.scheduled(due + timedelta(hours=1))
    assert world.findings() == [("missing", fixing(6).text, None)]


class Cut(Exception):
    """The run ended here."""


def test_hourly_work_that_is_cut_short_is_taken_up_where_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "SERIES_AT_A_TIME", 1)
    world = World()
    world.quality.follow([world.decide(snap(0), EUR, alpha="1"), world.decide(fixing(5), FIXING, alpha="1")])
    append, measured = world.store.append, []

    def cut(appends: Any, bases: Any = ()) -> frozenset[str]:
        """Ends the run at the second measurement, once."""
        metrics = [a.stream for a in appends if a.stream.startswith("metrics:")]
        measured.extend(metrics)
        if metrics and len(measured) == 2:
            raise Cut
        return append(appends, bases)

    monkeypatch.setattr(world.store, "append", cut)
    at = datetime(2026, 1, 6, 12, tzinfo=UTC)
    with pytest.raises(Cut):
        world.quality.scheduled(at)
    world.quality.scheduled(at + timedelta(minutes=1))
    world.quality.scheduled(at + timedelta(minutes=2))
    first, second = (ev.metrics_stream(i) for i in (EUR, FIXING))
    assert measured == [first, second, second], "each of them in the end, the first one once"
    assert {s: len(world.store.streams[s]) for s in (first, second)} == {first: 1, second: 1}


def test_the_schedule_publishes_metrics_of_live_series_only() -> None:
    world = World()
    world.quality.follow([world.decide(snap(0), EUR, alpha="1")])
    world.facts.scores[EUR] = [(snap(0), {"accuracy": "0.5000", "completeness": "1.0000"})]
    world.quality.scheduled(datetime(2026, 1, 6, tzinfo=UTC))
    (event,) = world.store.streams[ev.metrics_stream(EUR)]
    assert event.type == ev.QUALITY_METRICS_CALCULATED
    assert event.data["values"] == 1
    assert event.data["scores"]["accuracy"] == "0.5000"
    assert event.data["scores"]["composite"] == "0.7500"
    world.quality.scheduled(datetime(2026, 3, 6, tzinfo=UTC))
    assert len(world.store.streams[ev.metrics_stream(EUR)]) == 1, "the series has been silent for a month"


def test_metrics_of_a_window_without_official_values_have_no_scores() -> None:
    world = World()
    world.quality.follow([world.decide(snap(0), EUR, alpha="1")])
    world.quality.scheduled(datetime(2026, 1, 6, tzinfo=UTC))
    (event,) = world.store.streams[ev.metrics_stream(EUR)]
    assert event.data["values"] == 0
    assert set(event.data["scores"].values()) == {None}


def test_a_finding_is_closed_by_a_person_once() -> None:
    world = World()
    world.quality.follow([world.decide(snap(n), alpha="1.1", beta=f"1.{n}") for n in range(3)])
    ((issue_id, issue),) = world.store.issues.items()
    world.quality.close(issue_id, issue, ev.QUALITY_REJECTED, "ann", "request", "known outage")
    assert world.store.issue_status[issue_id] == "rejected"
    with pytest.raises(Conflict):
        world.quality.close(issue_id, issue, ev.QUALITY_APPROVED, "ann", "request", "again")


def test_a_late_value_that_breaks_a_run_disproves_the_finding() -> None:
    world = World()
    others = {n: f"1.{n}" for n in range(5)}
    for n in (0, 1, 3, 4):
        world.quality.follow([world.decide(snap(n), alpha="1.1", beta=others[n])])
    assert world.open_findings() == {("stale", snap(3).text, "alpha")}
    world.quality.follow([world.decide(snap(2), alpha="1.2", beta=others[2])])
    assert world.open_findings() == set()
    world.quality.follow([world.decide(snap(2), alpha="1.1", beta=others[2])])
    assert world.open_findings() == {("stale", snap(2).text, "alpha")}


def test_what_data_closed_and_data_bring_back_is_open_again_and_what_a_person_closed_is_not() -> None:
    world = World()
    world.quality.follow([world.decide(snap(n), alpha="1.1", beta=f"1.{n}") for n in range(3)])
    for value in ("1.2", "1.1", "1.2", "1.1"):
        world.quality.follow([world.decide(snap(1), alpha=value, beta="1.1")])
    assert world.findings() == [("stale", snap(2).text, "alpha")] * 3
    assert world.open() == 1
    (issue_id,) = (i for i, status in world.store.issue_status.items() if status == "open")
    world.quality.close(issue_id, world.store.issues[issue_id], ev.QUALITY_APPROVED, "ann", "c", "known")
    world.quality.follow([world.decide(snap(1), alpha="1.1", beta="1.15")])
    assert world.open() == 0


ROWS = st.dictionaries(
    st.integers(0, 9), st.tuples(st.sampled_from("123"), st.sampled_from(["1", "2", None])), min_size=1
)


@settings(max_examples=200, deadline=None)
@given(ROWS, st.randoms(use_true_random=False), st.integers(1, 4))
def test_findings_are_the_same_for_every_order_of_arrival(
    rows: dict[int, tuple[str, str | None]], random: Any, size: int
) -> None:
    def events(world: World, order: list[int]) -> list[dict[str, Any]]:
        found = []
        for n in order:
            claims = {"alpha": rows[n][0]} | ({"beta": rows[n][1]} if rows[n][1] else {})
            found += [world.decide(snap(n), **claims), world.decide(fixing(5 + n), FIXING, **claims)]
        return found

    at_once, other = World(), World()
    at_once.quality.follow(events(at_once, sorted(rows)))
    order = list(rows)
    random.shuffle(order)
    arriving = events(other, order)
    for start in range(0, len(arriving), size):
        other.quality.follow(arriving[start : start + size])
    assert other.open_findings() == at_once.open_findings()


class Broken:
    """A watcher that fails at one series while it is told to."""

    name = "broken"
    fails = True

    def judge(self, batch: Sequence[Seen]) -> Mapping[str, Verdict]:
        if self.fails and any(seen.reference_data_id == EUR for seen in batch):
            raise ZeroDivisionError("of nothing")
        return {
            s.reference_data_id: Verdict([Finding("seen", s.reference_data_id, s.high, None, "", "", "")])
            for s in batch
        }


def test_a_watcher_that_fails_is_a_finding_and_loses_nothing() -> None:
    broken = Broken()
    world = World(broken, StaleSources())
    claims = [world.decide(snap(n), alpha="1.1", beta=f"1.{n}") for n in range(3)]
    world.quality.follow([*claims, world.decide(fixing(5), FIXING, alpha="1.1")])
    assert world.open_findings() == {
        ("watcher-broken-failed", snap(2).text, None),
        ("stale", snap(2).text, "alpha"),
        ("seen", fixing(5).text, None),
    }
    (failed,) = (e for e in world.store.log if e.data["kind"] == "watcher-broken-failed")
    assert (failed.data["reference_data_id"], failed.data["scope"], failed.data["severity"]) == (
        EUR,
        "watcher/broken",
        "high",
    )
    assert "ZeroDivisionError in judge" in failed.data["reason"]
    assert len(world.facts.rows[EUR]) == 3
    broken.fails = False
    world.quality.follow([world.decide(snap(3), alpha="1.1", beta="1.9")])
    assert ("watcher-broken-failed", snap(2).text, None) not in world.open_findings()
