"""The history of one value: what is published, held, corrected, approved and rejected, and by whom."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from qis.domain import events as ev
from qis.domain.claims import Claim
from qis.domain.errors import Conflict, FourEyes
from qis.domain.reconciliation import Check, Reference
from qis.domain.rules import LayerRef, RuleSet
from qis.domain.value_history import SNAPSHOT_FORMAT, ValueHistory
from tests.support.builders import EUR, FIRST, claim, ingested, rules, snap

PASSED = Check("spike", True, "0", "0.05", "fine")
FAILED = Check("spike", False, "1", "0.05", "moves 1")
BEFORE = [Reference(snap(-1), Decimal("1.1"))]


class Story:
    """A history that is told step by step; ``told`` are the types of all events so far."""

    def __init__(self, rule_set: RuleSet | None = None) -> None:
        self.rules = rule_set or rules()
        self.history = ValueHistory(EUR, FIRST)
        self.events: list[ev.Event] = []
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def take(self, new: Sequence[ev.NewEvent], actor: str = "feed:alpha") -> list[ev.NewEvent]:
        for event in new:
            stored = ev.Event(
                UUID(int=len(self.events)),
                event.type,
                1,
                self.history.stream,
                self.history.version + 1,
                self.now,
                actor,
                "load",
                None,
                event.data,
            )
            self.events.append(stored)
            self.history.fold([stored])
        return list(new)

    def claims(self, *claims: Claim, actor: str = "feed:alpha") -> Story:
        self.take([ingested(c) for c in claims], actor)
        return self

    def reconcile(self, references: Sequence[Reference] = ()) -> list[ev.NewEvent]:
        return self.take(self.history.reconcile(self.rules, references)[1], "qis:reconcile")

    def restate(self, value: str, by: str = "ann", *checks: Check) -> list[ev.NewEvent]:
        new = self.history.restate(Decimal(value), "vendor error", by, self.rules, checks or (PASSED,))
        return self.take(new, by)

    def approve(self, by: str) -> list[ev.NewEvent]:
        return self.take(self.history.approve(self.open_issue, by, self.rules), by)

    def reject(self, by: str) -> list[ev.NewEvent]:
        return self.take(self.history.reject(self.open_issue, by, "wrong"), by)

    @property
    def open_issue(self) -> UUID:
        assert self.history.issue is not None
        return self.history.issue.issue_id

    @property
    def official(self) -> tuple[str, int] | None:
        official = self.history.official
        return None if official is None else (str(official.value), official.version)


def types(events: Sequence[ev.NewEvent]) -> list[str]:
    return [e.type for e in events]


# reconciling -------------------------------------------------------------------------------------


def test_the_first_official_value_is_published_as_version_1() -> None:
    story = Story().claims(claim(value="1.10"), claim("beta", "1.1001"))
    decided, published = story.reconcile()
    assert (decided.type, published.type) == (ev.DATA_RECONCILED, ev.DATA_PUBLISHED)
    assert published.data["value"] == "1.10"
    assert published.data["official_version"] == 1
    assert published.data["sources"] == ["alpha", "beta"]
    assert (published.data["rules"], published.data["rules_version"]) == ("fx", 1)
    assert published.data["quality"]["accuracy"] == "1.0000"
    assert (published.data["reference_data_id"], published.data["snap"]) == (EUR, FIRST.text)


def test_deciding_again_on_the_same_says_nothing_new() -> None:
    story = Story().claims(claim())
    assert len(story.reconcile()) == 2
    assert story.reconcile() == []


def test_a_late_claim_that_changes_nothing_official_is_a_new_decision_and_no_restatement() -> None:
    story = Story().claims(claim(value="1.1"))
    story.reconcile()
    story.claims(claim("beta", "1.1001"))
    assert types(story.reconcile()) == [ev.DATA_RECONCILED]


def test_a_late_claim_of_a_better_source_restates_with_before_and_after() -> None:
    story = Story().claims(claim("beta", "1.1001"))
    story.reconcile()
    story.claims(claim("alpha", "1.1000"))
    restated = story.reconcile()[-1]
    assert restated.type == ev.DATA_RESTATED
    assert restated.data["before"] == {"value": "1.1001", "official_version": 1}
    assert restated.data["after"] == {"value": "1.1000", "official_version": 2}
    assert (restated.data["cause"], restated.data["restated_by"]) == ("late-claim", "qis:reconcile")
    assert restated.data["reason"].startswith("alpha is first in precedence")
    assert story.official == ("1.1000", 2)


def test_new_rules_are_a_new_decision_even_where_the_value_stays() -> None:
    story = Story().claims(claim())
    story.reconcile()
    story.rules = replace(story.rules, chain=(LayerRef("fx", 2),))
    assert types(story.reconcile()) == [ev.DATA_RECONCILED]


def test_a_suspect_value_waits_with_its_evidence_and_is_not_published() -> None:
    story = Story().claims(claim(value="2"), actor="feed:alpha")
    _, issue = story.reconcile(BEFORE)
    assert issue.type == ev.QUALITY_ISSUE_DETECTED
    assert (issue.data["kind"], issue.data["gate"], issue.data["proposed"]) == ("suspect", True, "2")
    assert issue.data["claim_ids"] == [claim(value="2").claim_id]
    assert issue.data["submitters"] == ["feed:alpha"]
    assert issue.data["checks"][0]["check"] == "spike"
    assert story.official is None


def test_a_value_that_becomes_believable_is_published_and_its_exception_resolved() -> None:
    story = Story().claims(claim(value="2"))
    story.reconcile(BEFORE)
    story.claims(claim("beta", "2"))
    assert types(story.reconcile(BEFORE)) == [
        ev.DATA_RECONCILED,
        ev.QUALITY_ISSUE_RESOLVED,
        ev.DATA_PUBLISHED,
    ]
    assert story.history.issue is None


def test_another_suspect_value_replaces_the_exception_of_the_first() -> None:
    story = Story().claims(claim(value="2", received=60))
    story.reconcile(BEFORE)
    first = story.open_issue
    story.claims(claim(value="3", received=90))
    assert types(story.reconcile(BEFORE)) == [
        ev.DATA_RECONCILED,
        ev.QUALITY_ISSUE_RESOLVED,
        ev.QUALITY_ISSUE_DETECTED,
    ]
    assert story.open_issue != first


def test_an_official_value_stands_while_a_later_suspect_one_waits() -> None:
    story = Story().claims(claim(value="1.1", received=60))
    story.reconcile(BEFORE)
    story.claims(claim(value="2", received=90))
    assert types(story.reconcile(BEFORE)) == [ev.DATA_RECONCILED, ev.QUALITY_ISSUE_DETECTED]
    assert story.official == ("1.1", 1)


# restatement -------------------------------------------------------------------------------------


def test_a_correction_that_passes_its_checks_is_official_at_once() -> None:
    story = Story().claims(claim(value="1.1"))
    story.reconcile()
    (restated,) = story.restate("1.1005")
    assert restated.type == ev.DATA_RESTATED
    assert (restated.data["cause"], restated.data["reason"]) == ("correction", "vendor error")
    assert (restated.data["restated_by"], restated.data["method"]) == ("ann", "restatement")
    assert story.official == ("1.1005", 2)


def test_a_corrected_value_is_not_replaced_by_later_claims() -> None:
    story = Story().claims(claim(value="1.1"))
    story.reconcile()
    story.restate("1.1005")
    story.claims(claim(value="1.2", received=90), claim("beta", "1.2"))
    assert types(story.reconcile()) == [ev.DATA_RECONCILED]
    assert story.official == ("1.1005", 2)


def test_a_corrected_value_is_not_questioned_by_a_later_suspect_claim() -> None:
    story = Story().claims(claim(value="1.1"))
    story.reconcile(BEFORE)
    story.restate("1.1005")
    story.claims(claim(value="9", received=90))
    assert types(story.reconcile(BEFORE)) == [ev.DATA_RECONCILED]


def test_a_correction_that_fails_its_checks_waits_for_a_second_person() -> None:
    story = Story().claims(claim(value="1.1"))
    story.reconcile()
    (issue,) = story.restate("2", "ann", FAILED)
    assert issue.type == ev.QUALITY_ISSUE_DETECTED
    assert (issue.data["kind"], issue.data["proposed"], issue.data["submitters"]) == (
        "restatement",
        "2",
        ["ann"],
    )
    assert story.official == ("1.1", 1)
    assert types(story.approve("bob")) == [ev.QUALITY_APPROVED, ev.DATA_RESTATED]
    assert story.official == ("2", 2)
    assert story.events[-1].data["cause"] == "approval"
    assert story.events[-1].data["reason"] == "vendor error"
    assert story.history.pinned == Decimal(2)


def test_a_waiting_correction_replaces_the_exception_of_a_suspect_value() -> None:
    story = Story().claims(claim(value="1.1", received=60))
    story.reconcile(BEFORE)
    story.claims(claim(value="2", received=90))
    story.reconcile(BEFORE)
    assert types(story.restate("3", "ann", FAILED)) == [ev.QUALITY_ISSUE_RESOLVED, ev.QUALITY_ISSUE_DETECTED]
    assert story.history.issue is not None
    assert story.history.issue.kind == "restatement"


def test_a_rejected_correction_leaves_the_official_value_and_its_claims_alone() -> None:
    story = Story().claims(claim(value="1.1"))
    story.reconcile()
    story.restate("2", "ann", FAILED)
    assert types(story.reject("bob")) == [ev.QUALITY_REJECTED]
    assert story.official == ("1.1", 1)
    assert story.history.withdrawn == set()
    assert story.reconcile() == []


@pytest.mark.parametrize(("value", "message"), [("1.1", "already 1.1"), ("1.10", "already 1.10")])
def test_a_correction_to_the_official_value_is_refused(value: str, message: str) -> None:
    story = Story().claims(claim(value="1.1"))
    story.reconcile()
    with pytest.raises(Conflict, match=message):
        story.restate(value)


def test_without_an_official_value_there_is_nothing_to_correct() -> None:
    with pytest.raises(Conflict, match="no official value"):
        Story().claims(claim()).restate("1")


def test_a_second_correction_waits_for_the_first() -> None:
    story = Story().claims(claim(value="1.1"))
    story.reconcile()
    story.restate("2", "ann", FAILED)
    with pytest.raises(Conflict, match="waiting"):
        story.restate("3", "cat", FAILED)


# four eyes ---------------------------------------------------------------------------------------


def held() -> Story:
    story = Story().claims(claim(value="2"), actor="ann")
    story.reconcile(BEFORE)
    return story


@pytest.mark.parametrize("act", ["approve", "reject"])
def test_who_submitted_the_claim_may_not_decide_on_it(act: str) -> None:
    with pytest.raises(FourEyes, match="ann"):
        getattr(held(), act)("ann")


@pytest.mark.parametrize("act", ["approve", "reject"])
def test_who_proposed_the_correction_may_not_decide_on_it(act: str) -> None:
    story = Story().claims(claim(value="1.1"))
    story.reconcile()
    story.restate("2", "ann", FAILED)
    with pytest.raises(FourEyes):
        getattr(story, act)("ann")


def test_an_approved_value_is_published_and_stays_approved() -> None:
    story = held()
    assert types(story.approve("bob")) == [ev.QUALITY_APPROVED, ev.DATA_PUBLISHED]
    assert story.official == ("2", 1)
    assert story.events[-1].data["sources"] == ["alpha"]
    assert types(story.reconcile(BEFORE)) == [ev.DATA_RECONCILED]
    assert story.history.decision is not None
    assert story.history.decision["status"] == "official"
    story.claims(claim("gamma", "7", received=5))
    story.reconcile(BEFORE)
    assert story.official == ("2", 1)


def test_a_rejected_value_leads_to_the_next_source() -> None:
    story = Story().claims(claim("alpha", "2"), claim("beta", "1.1"))
    story.reconcile(BEFORE)
    assert types(story.reject("bob")) == [ev.QUALITY_REJECTED]
    assert types(story.reconcile(BEFORE)) == [ev.DATA_RECONCILED, ev.DATA_PUBLISHED]
    assert story.official == ("1.1", 1)


def test_a_rejected_claim_stays_rejected_when_it_comes_again() -> None:
    story = held()
    story.reject("bob")
    story.claims(claim(value="2"))
    story.reconcile(BEFORE)
    assert story.official is None
    assert story.history.decision is not None
    assert story.history.decision["status"] == "insufficient"


@pytest.mark.parametrize("act", ["approve", "reject"])
def test_an_exception_is_decided_once(act: str) -> None:
    story = held()
    issue = story.open_issue
    story.approve("bob")
    # What an approval has in the place where a rejection has its reason are the rules.
    last = {"approve": story.rules, "reject": "wrong"}[act]
    with pytest.raises(Conflict, match="not open"):
        getattr(story.history, act)(issue, "cat", last)


def test_identifiers_of_exceptions_follow_from_stream_and_version() -> None:
    assert held().open_issue == held().open_issue
    first = held()
    first.claims(claim(value="3", received=99))
    first.reconcile(BEFORE)
    assert first.open_issue != held().open_issue


# the fold ----------------------------------------------------------------------------------------


def test_folding_the_stored_events_gives_the_state_that_decided_them() -> None:
    story = held()
    story.approve("bob")
    story.reconcile(BEFORE)
    story.restate("2.5", "cat")
    story.claims(claim("beta", "2"))
    story.reconcile(BEFORE)
    assert ValueHistory(EUR, FIRST).fold(story.events) == story.history
    assert story.history.version == len(story.events)


def told(steps: int) -> Story:
    """A history that has met everything: approval, correction, late claims, a waiting correction."""
    story = held()
    acts: list[Any] = [
        lambda: story.approve("bob"),
        lambda: story.reconcile(BEFORE),
        lambda: story.restate("2.50", "cat"),
        lambda: story.claims(claim("beta", "7.10", received=None)),
        lambda: story.reconcile(BEFORE),
        lambda: story.restate("9", "dan", FAILED),
        lambda: story.reject("bob"),
    ]
    for act in acts[:steps]:
        act()
    return story


@pytest.mark.parametrize("steps", range(8))
def test_a_snapshot_restores_the_state_whatever_happened_before(steps: int) -> None:
    history = told(steps).history
    stored = json.loads(json.dumps(history.snapshot()))
    assert stored["format"] == SNAPSHOT_FORMAT
    assert ValueHistory.restore(EUR, FIRST, history.version, stored) == history


def test_folding_on_from_a_snapshot_is_folding_from_the_beginning() -> None:
    story = told(7)
    for at in range(len(story.events) + 1):
        before = ValueHistory(EUR, FIRST).fold(story.events[:at])
        restored = ValueHistory.restore(EUR, FIRST, at, json.loads(json.dumps(before.snapshot())))
        assert restored.fold(story.events[at:]) == story.history


def test_without_a_snapshot_a_history_is_empty() -> None:
    assert ValueHistory.restore(EUR, FIRST, 0, None) == ValueHistory(EUR, FIRST)


def test_an_event_that_the_fold_does_not_know_moves_the_version_only() -> None:
    story = Story().claims(claim())
    before = story.history.claims.copy()
    story.take([ev.NewEvent(ev.QUALITY_METRICS_CALCULATED, {})])
    assert story.history.version == 2
    assert story.history.claims == before


def test_a_finding_that_holds_nothing_back_opens_no_exception_of_the_value() -> None:
    story = Story().claims(claim())
    data: dict[str, Any] = {"gate": False, "issue_id": str(UUID(int=1)), "proposed": None}
    story.take([ev.NewEvent(ev.QUALITY_ISSUE_DETECTED, data)])
    assert story.history.issue is None
