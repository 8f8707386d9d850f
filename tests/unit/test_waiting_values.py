"""A value that waits for a person: it follows the decision, nobody lets out what rests on their own
submission, and nothing waits unseen behind something else."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import pytest

from qis.application.corrections import Overtaken
from qis.domain import events as ev
from qis.domain.errors import Conflict, FourEyes
from qis.domain.reconciliation import Reference
from qis.domain.value_history import ValueHistory
from tests.support.builders import EUR, claim, rules, snap
from tests.unit.test_reconciler import World
from tests.unit.test_value_history import BEFORE, FAILED, Story, types

RESOLVED, DETECTED = ev.QUALITY_ISSUE_RESOLVED, ev.QUALITY_ISSUE_DETECTED


def held(value: str = "1.3", by: str = "ann") -> Story:
    """A value that moves too far and waits; ``by`` submitted it."""
    story = Story().claims(claim(value=value), actor=by)
    story.reconcile(BEFORE)
    return story


# four eyes ---------------------------------------------------------------------------------------


def test_who_repeats_a_held_value_may_not_approve_it() -> None:
    story = held(by="ann")
    story.claims(claim(value="1.3", received=600), actor="bob")
    story.reconcile(BEFORE)
    for submitter in ("ann", "bob"):
        with pytest.raises(FourEyes):
            story.approve(submitter)
        with pytest.raises(FourEyes):
            story.reject(submitter)
    story.approve("cid")
    assert story.official == ("1.3", 1)


def test_the_queue_names_who_joined_those_that_a_held_value_rests_on() -> None:
    story = held(by="ann")
    story.claims(claim(value="1.3", received=600), actor="bob")
    (decided,) = story.reconcile(BEFORE)
    issue = story.history.issue
    assert issue is not None
    assert issue.submitters == ("ann", "bob")
    newest = claim(value="1.3", received=600)
    assert issue.claim_ids == (newest.claim_id,)
    waiting = decided.data["exception"]
    assert waiting["issue_id"] == str(issue.issue_id)
    assert (waiting["submitters"], waiting["claim_ids"]) == (["ann", "bob"], [newest.claim_id])


def test_a_rejection_withdraws_the_claims_that_the_value_rests_on_now() -> None:
    story = held(by="ann")
    story.claims(claim(value="1.3", received=600), actor="bob")
    story.reconcile(BEFORE)
    story.reject("cid")
    story.reconcile(BEFORE)
    assert story.history.issue is not None
    assert story.history.issue.submitters == ("ann",), "of the claim before, which nobody has rejected"


def test_who_contradicts_a_held_value_by_a_claim_may_not_decide_on_it() -> None:
    story = Story(rules(fallback="hold")).claims(claim(value="1.1"), actor="ann")
    story.claims(claim("beta", "1.2"), actor="bob")
    story.reconcile()
    for submitter in ("ann", "bob"):
        with pytest.raises(FourEyes):
            story.approve(submitter)


@pytest.mark.parametrize("method", ["vote", "consensus"])
def test_whose_claim_a_learning_method_outvotes_may_not_decide_either(method: str) -> None:
    story = Story(rules(method=method, tolerance="0", max_move="0.05"))
    for source, value, by in (("alpha", "1.3", "ann"), ("beta", "1.3", "ben"), ("gamma", "1.2", "cid")):
        story.claims(claim(source, value), actor=by)
    story.reconcile([Reference(snap(-1), Decimal("1.1"))])
    if story.history.issue is not None:
        with pytest.raises(FourEyes):
            story.approve("cid")


def test_an_approval_does_not_hold_for_a_claim_that_the_approver_submits_later() -> None:
    story = held(by="ann")
    story.approve("bob")
    story.reconcile(BEFORE)
    story.claims(claim(value="1.4", received=600), actor="ann")
    story.reconcile(BEFORE)
    story.claims(claim(value="1.3", received=700), actor="bob")
    story.reconcile(BEFORE)
    issue = story.history.issue
    assert issue is not None, "the value rests on the word of who approved it"
    assert str(issue.proposed) == "1.3"
    with pytest.raises(FourEyes):
        story.approve("bob")


def test_an_approval_holds_for_claims_of_others() -> None:
    story = held(by="ann")
    story.approve("bob")
    story.reconcile(BEFORE)
    story.claims(claim(value="1.3", received=700), actor="cid")
    story.reconcile(BEFORE)
    assert story.history.issue is None
    assert story.official == ("1.3", 1)


def test_whose_claim_is_official_may_not_choose_it_against_a_correction() -> None:
    story = Story().claims(claim(value="1.1"), actor="bob")
    story.reconcile()
    story.claims(claim(value="1.1005", received=600), actor="bob")
    story.reconcile()
    history, rule_set = story.history, story.rules
    story.take(history.restate(Decimal("1.1002"), "error", "ann", rule_set, (), seen=1), "ann")
    assert history.issue is not None
    assert history.issue.kind == "conflict"
    with pytest.raises(FourEyes):
        history.approve(history.issue.issue_id, "bob", rule_set, Decimal("1.1005"))


# a restatement and what waits beside it ------------------------------------------------------------


def late_and_held() -> Story:
    """An official value of 1.1, and a later claim that waits."""
    story = Story().claims(claim(value="1.1"))
    story.reconcile(BEFORE)
    story.claims(claim(value="1.3", received=600))
    story.reconcile(BEFORE)
    return story


def test_a_restatement_closes_what_reconciliation_has_held() -> None:
    story = late_and_held()
    item = story.open_issue
    assert types(story.restate("1.15", "ann")) == [RESOLVED, ev.DATA_RESTATED]
    assert story.history.issue is None
    with pytest.raises(Conflict):
        story.history.approve(item, "bob", story.rules)
    story.reconcile(BEFORE)
    assert story.official == ("1.15", 2)
    assert (story.history.pinned, story.history.issue) == (Decimal("1.15"), None)


def test_an_exception_that_an_older_log_left_beside_a_restatement_is_closed() -> None:
    story = late_and_held()
    closing, restated = story.history.restate(Decimal("1.15"), "error", "ann", story.rules, ())
    assert closing.type == RESOLVED
    story.take([restated], "ann")  # as it was stored once: without closing anything
    assert story.history.issue is not None
    assert types(story.reconcile(BEFORE)) == [RESOLVED]
    assert story.history.issue is None


def test_a_value_whose_claims_no_longer_count_waits_no_longer() -> None:
    story = held()
    story.rules = rules(sources=["beta"])
    assert RESOLVED in types(story.reconcile(BEFORE))
    assert story.history.issue is None


def test_a_value_that_was_not_held_beside_a_restatement_is_held_after_it() -> None:
    story = Story().claims(claim(value="1.1"))
    story.reconcile(BEFORE)
    story.restate("1.9", "ann", FAILED)
    story.claims(claim(value="1.3", received=600))
    story.reconcile(BEFORE)
    story.reject("bob")
    story.reconcile(BEFORE)
    issue = story.history.issue
    assert issue is not None
    assert (issue.kind, str(issue.proposed)) == ("suspect", "1.3")


# a waiting restatement and what becomes official meanwhile -----------------------------------------


def proposed_then_overtaken() -> Story:
    """Ann's 1.9 waits; then reconciliation makes 1.1004 official."""
    story = Story().claims(claim(value="1.1"))
    story.reconcile(BEFORE)
    story.restate("1.9", "ann", FAILED)
    story.claims(claim(value="1.1004", received=600), actor="feed:alpha")
    story.reconcile(BEFORE)
    return story


def test_a_waiting_restatement_becomes_a_conflict_with_what_becomes_official() -> None:
    story = proposed_then_overtaken()
    issue = story.history.issue
    assert issue is not None
    assert issue.kind == "conflict"
    assert {(o.by, str(o.value)) for o in issue.siblings} == {("ann", "1.9"), ("qis:reconcile", "1.1004")}
    assert str(issue.proposed) == "1.9"
    assert story.official == ("1.1004", 2)
    with pytest.raises(FourEyes):
        story.approve("ann")
    chosen = story.history.approve(issue.issue_id, "bob", story.rules, Decimal("1.1004"))
    assert types(chosen) == [ev.QUALITY_APPROVED]
    assert types(story.approve("bob")) == [ev.QUALITY_APPROVED, ev.DATA_RESTATED]
    assert story.official == ("1.9", 3)


def test_a_waiting_restatement_that_becomes_official_by_itself_is_closed() -> None:
    story = Story().claims(claim(value="1.1"))
    story.reconcile()
    story.restate("1.1004", "ann", FAILED)
    story.claims(claim(value="1.1004", received=600))
    story.reconcile()
    assert (story.official, story.history.issue) == (("1.1004", 2), None)


def test_a_waiting_restatement_is_not_touched_by_what_changes_nothing_official() -> None:
    story = Story().claims(claim(value="1.1"))
    story.reconcile()
    story.restate("1.9", "ann", FAILED)
    item = story.open_issue
    story.claims(claim("beta", "1.1001"))
    assert types(story.reconcile()) == [ev.DATA_RECONCILED]
    assert story.open_issue == item


def test_who_has_not_seen_the_proposals_of_a_conflict_joins_it() -> None:
    story = Story().claims(claim(value="1.1"))
    story.reconcile()
    restate = story.history.restate
    story.take(restate(Decimal("1.1001"), "error", "ann", story.rules, (), seen=1), "ann")
    story.take(restate(Decimal("1.1002"), "error", "bob", story.rules, (), seen=1), "bob")
    joined = story.take(restate(Decimal("1.1003"), "error", "dan", story.rules, (), seen=2), "dan")
    assert types(joined) == [RESOLVED, DETECTED]
    issue = story.history.issue
    assert issue is not None
    assert [o.by for o in issue.siblings] == ["bob", "dan"], "dan has seen ann's"


# by the use cases -----------------------------------------------------------------------------------


def waiting(world: World) -> UUID:
    issue = folded(world).issue
    assert issue is not None
    return issue.issue_id


def folded(world: World) -> ValueHistory:
    return ValueHistory(EUR, snap()).fold(world.store.streams[ev.value_stream(EUR, snap().text)])


def test_approving_a_restatement_that_a_claim_overtakes_unseen_is_refused() -> None:
    world = World(range=["1", "2"])
    world.tell("alpha", (0, "1.1000"))
    world.corrections.restate(EUR, snap().text, "2.2", "error", "ann", "request")
    item = waiting(world)
    world.claim("alpha", "1.1004", received=600)  # not reconciled yet
    with pytest.raises(Overtaken):
        world.corrections.approve(item, "bob", "request")
    history = folded(world)
    assert history.official is not None
    assert (str(history.official.value), history.official.version) == ("1.1004", 2)
    assert history.issue is not None
    assert history.issue.kind == "conflict"
    world.corrections.approve(waiting(world), "bob", "request")
    assert str(world.store.official[EUR, snap()][-1].data["value"]) == "2.2"
