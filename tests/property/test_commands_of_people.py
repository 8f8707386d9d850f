"""Several people and sources at one series, in any order, with a process that may end anywhere: nobody
approves what rests on their own word, and all that the system says of a value agrees."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from qis.application import reconcile
from qis.application.ingest import Delivery
from qis.application.reconcile import Trigger
from qis.domain import events as ev
from qis.domain.errors import QisError
from qis.domain.snap import Snap, parse_instant
from qis.domain.value_history import ValueHistory
from tests.support.builders import EUR, snap
from tests.support.databases import Template
from tests.support.people import NOW, Crash, Desk, in_memory, on_postgres

SNAPS = [snap(day) for day in range(2)]
SOURCES = ("alpha", "beta")
VALUES = ("100.00", "100.05", "104", "160", "161")
"""Some agree, some differ, some lie a move of more than 5 % away."""
RULE_SETS: dict[str, dict[str, Any]] = {
    "one source suffices": {},
    "disagreement holds": {"fallback": "hold"},
    "late changes wait": {"restatement": {"window": "PT1H"}},
    "the last writer wins": {"conflict": "last-writer-wins"},
}

snaps, sources, values = st.sampled_from(SNAPS), st.sampled_from(SOURCES), st.sampled_from(VALUES)
PEOPLE = ("ann", "bob", "cid")
people = st.sampled_from(PEOPLE)
mostly = st.sampled_from([True, True, True, False])
places = st.integers(0, 50)
"""Which of the things that there are; counted around."""


class People(RuleBasedStateMachine):
    """Commands, and what holds after each."""

    make: Callable[..., Desk]

    def __init__(self) -> None:
        super().__init__()
        self._relayed = 0
        self._delivered: list[Delivery] = []
        self._submitted: list[tuple[str, list[object], dict[str, Any] | None]] = []
        """Requests by idempotency key: by whom, what, and the answer."""
        self._stored: set[str] = set()
        """Claims that somebody was told are stored."""

    @initialize(rules=st.sampled_from(sorted(RULE_SETS)))
    def begin(self, rules: str) -> None:
        self.desk = self.make(**RULE_SETS[rules])
        self.a_feed_delivers("alpha", "100.00", SNAPS[0], 60, decided=True)

    @contextmanager
    def _command(self) -> Iterator[None]:
        """Run a command, which may be refused, or end with the process."""
        with suppress(QisError, Crash):
            yield

    # what happens ------------------------------------------------------------------------------------

    @rule(steps=st.integers(0, 4), before=st.booleans())
    def the_process_will_end(self, steps: int, before: bool) -> None:
        self.desk.crashes.after(steps, before=before)

    @rule(source=sources, value=values, at=snaps, received=st.sampled_from([None, 60, 120]), decided=mostly)
    def a_feed_delivers(self, source: str, value: str, at: Snap, received: int | None, decided: bool) -> None:
        body = _claim(source, value, at)
        if received is not None:
            body["received_at"] = Snap(at.ns + received * 10**9).text
        delivery = Delivery(f"r{len(self._delivered)}", "load", json.dumps(body).encode())
        self._delivered.append(delivery)
        self._deliver([delivery])
        if decided:
            self.the_backbone_delivers(0)

    @rule(first=places, many=st.integers(1, 3))
    def the_stream_redelivers(self, first: int, many: int) -> None:
        if self._delivered:
            first %= len(self._delivered)
            self._deliver(self._delivered[first : first + many])

    def _deliver(self, batch: list[Delivery]) -> None:
        with self._command():
            self.desk.ingest.deliveries(batch)

    @rule(who=people, source=sources, value=values, at=snaps, decided=mostly)
    def a_person_submits(self, who: str, source: str, value: str, at: Snap, decided: bool) -> None:
        self._submitted.append((who, [_claim(source, value, at)], None))
        self._submit(len(self._submitted) - 1)
        if decided:
            self.the_backbone_delivers(0)

    @rule(place=places)
    def a_person_repeats_a_request(self, place: int) -> None:
        if self._submitted:
            self._submit(place % len(self._submitted))

    def _submit(self, key: int) -> None:
        who, claims, before = self._submitted[key]
        with self._command():
            answer = self.desk.ingest.submit(claims, who, "request", f"key-{key}")
            assert before in (None, answer), "the first answer is given again"
            self._submitted[key] = who, claims, answer
            self._stored |= {c["claim_id"] for c in answer["claims"] if c["outcome"] == "accepted"}

    @rule(source=sources, active=st.booleans())
    def a_source_is_paused_or_resumed(self, source: str, active: bool) -> None:
        self.desk.pause(source, active=active)

    @rule(again=st.integers(0, 3))
    def the_backbone_delivers(self, again: int) -> None:
        log = self.desk.reads.log()
        fresh = log[max(0, self._relayed - again) :]
        with self._command():
            self.desk.reconciler.run(
                Trigger(EUR, parse_instant(e.data["snap"], "snap"), e.correlation_id, e.event_id)
                for e in fresh
                if e.type == ev.DATA_INGESTED
            )
            self.desk.watch.follow([_travelling(e) for e in fresh], NOW)
            self._relayed = len(log)

    @rule(who=people, at=snaps, value=values, unseen=st.integers(0, 2))
    def a_person_restates(self, who: str, at: Snap, value: str, unseen: int) -> None:
        official = self.desk.reads.officials().get(at)
        seen = None if official is None else max(1, official[1] - unseen)
        with self._command():
            self.desk.corrections.restate(EUR, at.text, value, "error", who, "request", seen)

    @rule(who=people, place=places, chosen=st.none() | values)
    def a_person_approves(self, who: str, place: int, chosen: str | None) -> None:
        if (item := self._item(place)) is not None:
            with self._command():
                self.desk.corrections.approve(item, who, "request", chosen)

    @rule(place=places)
    def everybody_tries_to_approve(self, place: int) -> None:
        """Whoever may not is refused."""
        if (item := self._item(place)) is not None:
            for who in PEOPLE:
                with self._command():
                    self.desk.corrections.approve(item, who, "request")

    @rule(who=people, place=places)
    def a_person_rejects(self, who: str, place: int) -> None:
        if (item := self._item(place)) is not None:
            with self._command():
                self.desk.corrections.reject(item, "wrong", who, "request")

    def _item(self, place: int) -> UUID | None:
        """An exception; mostly one that is open."""
        exceptions = self.desk.reads.exceptions()
        open_ = sorted(i for i, one in exceptions.items() if one.status == "open")
        items = [*open_, *open_, *sorted(exceptions)]
        return items[place % len(items)] if items else None

    @rule(who=people, place=places, does=st.sampled_from(["triage", "approve", "correct"]))
    def a_person_decides_on_an_issue(self, who: str, place: int, does: str) -> None:
        issues = sorted({e.data["issue"] for e in self.desk.reads.log() if e.type == ev.ISSUE_OPENED})
        if issues:
            act = getattr(self.desk.issues, does)
            with self._command():
                act(UUID(issues[place % len(issues)]), "looked at", who, "request")

    # what holds --------------------------------------------------------------------------------------

    @invariant()
    def nobody_approves_what_rests_on_their_own_word(self) -> None:
        for stream, events in self._streams().items():
            for place, event in enumerate(events):
                if event.type == ev.QUALITY_APPROVED:
                    authors = _authors(events[:place], event.data)
                    assert event.data["approved_by"] not in authors, (stream, event.data)

    @invariant()
    def nobody_lets_out_a_proposal_beside_another_value_than_it_was_made(self) -> None:
        for events in self._streams().values():
            version, beside = 0, {}
            for event in events:
                if event.type in (ev.DATA_PUBLISHED, ev.DATA_RESTATED):
                    version = event.data["official_version"]
                elif event.type == ev.QUALITY_ISSUE_DETECTED:
                    beside[event.data["issue_id"]] = event.data["kind"], version
                elif event.type == ev.QUALITY_APPROVED:
                    kind, known = beside[event.data["issue_id"]]
                    assert kind == "suspect" or known == version, event.data

    @invariant()
    def what_is_official_decided_and_waiting_agrees(self) -> None:
        officials, decisions = self.desk.reads.officials(), self.desk.reads.decisions()
        exceptions = self.desk.reads.exceptions()
        for events in self._streams().values():
            at = parse_instant(events[0].data["snap"], "snap")
            history = ValueHistory(EUR, at).fold(events)
            official = (
                None if history.official is None else (history.official.value, history.official.version)
            )
            assert officials.get(at) == official
            open_ = {
                i for i, one in exceptions.items() if one.snap == at and one.gate and one.status == "open"
            }
            assert open_ == ({history.issue.issue_id} if history.issue is not None else set())
            status, value = decisions.get(at, (None, None))
            if status == "official":
                assert official is not None
                assert value == official[0], "neighbours are judged by what is official"
                assert history.issue is None or history.issue.kind != "suspect"
            if status == "suspect":
                assert history.issue is not None, "what is held waits for somebody"
                if history.issue.kind == "suspect":
                    assert history.issue.proposed == value
            if history.pinned is not None:
                assert official is not None
                assert official[0] == history.pinned
            if history.issue is not None:
                shown = exceptions[history.issue.issue_id].submitters
                assert shown in (None, frozenset(history.issue.submitters))

    @invariant()
    def what_was_told_to_be_stored_is_stored_once(self) -> None:
        ingested = [e for e in self.desk.reads.log() if e.type == ev.DATA_INGESTED]
        claims = [e.data["claim_id"] for e in ingested]
        records = [e.data["record_id"] for e in ingested]
        assert len(claims) == len(set(claims))
        assert len(records) == len(set(records))
        assert self._stored <= set(claims)
        assert self.desk.reads.accepted() == len(claims)

    def _streams(self) -> dict[str, list[ev.Event]]:
        streams: dict[str, list[ev.Event]] = {}
        for event in self.desk.reads.log():
            if event.stream.startswith("value:"):
                streams.setdefault(event.stream, []).append(event)
        return streams

    def teardown(self) -> None:
        if hasattr(self, "desk"):
            self.desk.reads.check_rebuilds()


def _claim(source: str, value: str, at: Snap) -> dict[str, Any]:
    return {"snap": at.text, "reference_data_id": EUR, "source": source, "value": value}


def _travelling(event: ev.Event) -> dict[str, Any]:
    return {"type": event.type, "data": event.data}


def _authors(before: list[ev.Event], approved: ev.Data) -> set[str]:
    """Whose word an approved value rests on, from the log alone."""
    detected = next(
        e.data
        for e in reversed(before)
        if e.type == ev.QUALITY_ISSUE_DETECTED and e.data["issue_id"] == approved["issue_id"]
    )
    submitter = {e.data["claim_id"]: e.actor for e in before if e.type == ev.DATA_INGESTED}
    if detected["kind"] == "suspect":
        decision = next(e.data for e in reversed(before) if e.type == ev.DATA_RECONCILED)
        return {submitter[c["claim_id"]] for c in decision["sources_used"]}
    chosen = Decimal(approved["value"])
    proposals = detected.get("siblings") or [{"value": detected["proposed"], "by": detected["submitters"][0]}]
    authors = {p["by"] for p in proposals if Decimal(p["value"]) == chosen}
    if "qis:reconcile" in authors:
        claimed = (e for e in before if e.type == ev.DATA_INGESTED and Decimal(e.data["value"]) == chosen)
        authors |= {e.actor for e in claimed}
    return authors


@pytest.fixture(autouse=True)
def _snapshots_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams of a few events have snapshots, too."""
    monkeypatch.setattr(reconcile, "SNAPSHOT_EVERY", 4)


def test_commands_of_people_in_memory() -> None:
    class InMemory(People):
        make = staticmethod(in_memory)

    run_state_machine_as_test(InMemory, settings=settings(max_examples=150, stateful_step_count=40))


def test_commands_of_people_on_postgres(template: Template) -> None:
    databases = []

    def fresh(**changes: Any) -> Desk:
        databases.append(template.fresh())
        return on_postgres(databases[-1], **changes)

    class OnPostgres(People):
        make = staticmethod(fresh)

        def teardown(self) -> None:
            super().teardown()
            while databases:
                databases.pop().close()

    phases = (Phase.explicit, Phase.generate)  # to shrink is for the run in memory
    run_state_machine_as_test(
        OnPostgres, settings=settings(max_examples=8, stateful_step_count=40, phases=phases)
    )
