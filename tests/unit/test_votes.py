"""Who votes and what counts as agreement: tolerance in every unit, copy groups, sources that lose their vote,
and changes of a published value that wait for a person."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qis.domain import events as ev
from qis.domain.errors import InvalidInput
from qis.domain.reconciliation import Decision, Standing, Status, reconcile, standings_of
from qis.domain.rules import Band
from qis.domain.rules.tolerance import parse_tolerance, robust_sigma
from tests.support.builders import claim, rules
from tests.unit.test_value_history import Story, types


def decide(
    values: Mapping[str, str], standings: Mapping[str, Standing] | None = None, **changes: Any
) -> Decision:
    claims = [claim(source, value) for source, value in values.items()]
    return reconcile(claims, rules(max_move=None, **changes), [], (), standings or {})


def refused(decision: Decision) -> dict[str, str]:
    return {r.claim.source: r.rule for r in decision.rejected}


def test_only_the_sources_of_the_rules_speak() -> None:
    values = {"alpha": "1", "beta": "1", "gamma": "2"}
    found = decide(values, sources=["gamma", "delta"], tolerance="0")
    assert (found.status, str(found.value)) == (Status.OFFICIAL, "2")
    assert refused(found) == {"alpha": "not-admitted", "beta": "not-admitted"}
    nobody = decide(values, sources=["delta"])
    assert (nobody.status, nobody.value) == (Status.INSUFFICIENT, None)
    assert decide(values, sources=None) == decide(values)
    with pytest.raises(InvalidInput, match="not-empty"):
        rules(sources=[])


AGREE: list[tuple[Any, str, str, bool]] = [
    ("0.001", "1000", "1001", True),
    ("0.001", "1000", "1001.002", False),
    ({"bp": "10"}, "1000", "1001", True),
    ({"bp": "10"}, "1000", "1001.002", False),
    ({"ticks": 2, "tick": "0.25"}, "1000", "1000.5", True),
    ({"ticks": 2, "tick": "0.25"}, "1000", "1000.51", False),
    ({"absolute": "0.05"}, "0", "-0.05", True),
    ({"absolute": "0.05"}, "0", "0.0500000000000000001", False),
    ({"bp": "10"}, "0", "0.0001", False),
]


@pytest.mark.parametrize(("tolerance", "a", "b", "expected"), AGREE)
def test_two_values_agree_by_the_unit_of_the_tolerance(
    tolerance: Any, a: str, b: str, expected: bool
) -> None:
    band = parse_tolerance(tolerance, "tolerance").at(())
    assert band.holds(Decimal(a), Decimal(b)) is expected
    assert band.holds(Decimal(b), Decimal(a)) is expected


def test_sigma_is_the_spread_of_the_claims_which_a_wild_one_does_not_widen() -> None:
    values = [Decimal(v) for v in ("99", "100", "100.5", "101", "1000000")]
    assert robust_sigma(values) == Decimal("1.4826") * Decimal("0.5")
    band = parse_tolerance({"sigma": "3", "floor_bp": "1"}, "tolerance").at(values)
    assert band.holds(Decimal("100.5"), Decimal("102.7"))
    assert not band.holds(Decimal("100.5"), Decimal("102.8"))


def test_sigma_never_goes_below_its_floor_and_needs_three_values() -> None:
    tolerance = parse_tolerance({"sigma": "3", "floor_bp": "10"}, "tolerance")
    same = [Decimal(100)] * 3
    assert tolerance.at(same) == Band(Decimal("0.001"), Decimal(0))
    assert tolerance.at([Decimal(1), Decimal(100)]) == Band(Decimal("0.001"), Decimal(0))


def test_a_copy_group_has_one_vote() -> None:
    values = {"alpha": "2", "beta": "2", "gamma": "1", "delta": "1"}
    assert decide(values).method == "median", "two against two"
    found = decide(values, copy_groups=[["alpha", "beta"]])
    assert (found.value, refused(found)) == (1, {"beta": "copy", "alpha": "outside-tolerance"})
    assert decide({"alpha": "1", "beta": "1"}, copy_groups=[["alpha", "beta"]], min_sources=2).status == (
        Status.INSUFFICIENT
    )


def test_where_the_best_of_a_copy_group_is_unusable_the_next_one_votes() -> None:
    found = decide({"alpha": "9", "beta": "1"}, copy_groups=[["alpha", "beta"]], range=["0", "5"])
    assert (found.status, found.value, refused(found)) == (Status.OFFICIAL, 1, {"alpha": "out-of-range"})


@given(
    st.dictionaries(
        st.sampled_from(["alpha", "gamma", "delta"]), st.sampled_from(["1", "2", "3"]), min_size=1
    ),
    st.sampled_from(["1", "2", "3"]),
    st.sampled_from(["precedence", "median"]),
)
def test_a_copy_of_a_source_that_votes_changes_nothing(
    values: dict[str, str], said: str, method: str
) -> None:
    if "alpha" not in values:
        return
    grouped: dict[str, Any] = {"copy_groups": [["alpha", "copycat"]], "method": method}
    alone, beside = decide(values, **grouped), decide({**values, "copycat": said}, **grouped)
    assert (alone.status, alone.value, alone.confidence, alone.used) == (
        beside.status,
        beside.value,
        beside.confidence,
        beside.used,
    )


EXCLUSION = {"exclusion": {"after": 2, "readmit_after": 3}}
GOOD = {"alpha": "1", "beta": "1", "gamma": "1"}
BAD = {**GOOD, "alpha": "2"}


def test_a_source_loses_its_vote_and_has_it_back_later_than_it_lost_it() -> None:
    standings: Mapping[str, Standing] = {}
    votes = []
    for values in (BAD, GOOD, BAD, BAD, GOOD, GOOD, BAD, GOOD, GOOD, GOOD, GOOD):
        found = decide(values, standings, **EXCLUSION)
        assert found.value == 1
        votes.append(
            "alpha" in {c.source for c in found.used} or refused(found)["alpha"] != "excluded-source"
        )
        standings = standings_of(found.as_json())
    assert votes == [True] * 4 + [False] * 6 + [True]
    assert standings == {}, "who is clear is not named"


def test_a_value_that_rests_on_one_vote_or_is_held_says_nothing_about_its_sources() -> None:
    before = {"alpha": Standing(False, 1), "beta": Standing(True, 2)}
    assert decide({"alpha": "1"}, before, **EXCLUSION).standings == before
    held = decide({"alpha": "1", "gamma": "3"}, before, fallback="hold", **EXCLUSION)
    assert (held.status, held.standings) == (Status.SUSPECT, before)
    insufficient = decide({"alpha": "1"}, before, min_sources=2, **EXCLUSION)
    assert (insufficient.status, insufficient.standings) == (Status.INSUFFICIENT, before)


def test_too_few_votes_name_every_claim_that_could_have_been_used() -> None:
    found = decide({"alpha": "1", "beta": "2"}, min_sources=3)
    assert (found.status, refused(found)) == (
        Status.INSUFFICIENT,
        {"alpha": "below-quorum", "beta": "below-quorum"},
    )


# changes of a published value --------------------------------------------------------------------


def restated(story: Story, value: str, **policy: Any) -> list[str]:
    """What becomes of a later claim of the best source that says ``value``."""
    story.rules = rules(max_move=None, restatement=policy)
    story.claims(claim(value=value, received=120))
    return types(story.reconcile())


def published() -> Story:
    story = Story().claims(claim(value="1.1000"))
    story.reconcile()
    return story


HELD = [ev.DATA_RECONCILED, ev.QUALITY_ISSUE_DETECTED]
RESTATED = [ev.DATA_RECONCILED, ev.DATA_RESTATED]


def test_a_change_within_the_materiality_waits_and_a_larger_one_is_made() -> None:
    assert restated(published(), "1.1001", materiality={"bp": "1"}) == HELD
    assert restated(published(), "1.1002", materiality={"bp": "1"}) == RESTATED


def test_a_change_after_the_window_waits_with_its_measure() -> None:
    story = published()
    story.now = story.history.snap.moment + timedelta(days=6)
    assert restated(story, "1.2", window="P6D") == RESTATED
    story = published()
    story.now = story.history.snap.moment + timedelta(days=6)
    assert restated(story, "1.2", window="P5D") == HELD
    assert story.history.issue is not None
    (check,) = story.events[-1].data["checks"]
    assert (check["check"], check["measured"], check["threshold"]) == ("restatement-window", "P6D", "P5D")
    assert story.history.official is not None
    assert story.history.official.value == Decimal("1.1")


def test_what_waited_is_published_when_a_second_person_approves() -> None:
    story = published()
    restated(story, "1.1001", materiality={"bp": "1"})
    assert story.history.issue is not None
    approved = story.history.approve(story.history.issue.issue_id, "bob", story.rules)
    assert types(story.take(approved, "bob")) == [ev.QUALITY_APPROVED, ev.DATA_RESTATED]
    assert types(story.reconcile()) == [ev.DATA_RECONCILED]
    assert story.history.official is not None
    assert story.history.official.value == Decimal("1.1001")
    assert types(story.reconcile()) == []


def test_rules_that_a_person_applies_to_a_range_are_not_held_back() -> None:
    story = published()
    story.rules = rules(max_move=None, restatement={"materiality": {"bp": "1"}})
    story.claims(claim(value="1.1001", received=120))
    events = story.history.reconcile(story.rules, [], cause="rules")[1]
    assert types(events) == RESTATED
    assert events[-1].data["cause"] == "rules"
