"""Invariants of the decision over random claims and rules."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from qis.domain.claims import Claim
from qis.domain.reconciliation import Reference, Status, agrees, reconcile
from qis.domain.rules import RuleSet, median
from tests.support.builders import SOURCES, claim, rules, snap

LEVELS = ["0", "-100", "100", "100.05", "100.1", "101", "103", "106", "160", "0.000000000000000001", "9" * 38]
numbers = st.sampled_from(LEVELS).map(Decimal) | st.decimals(
    min_value=-(10**19), max_value=10**19, places=18, allow_nan=False
)
claims = st.lists(
    st.builds(
        claim,
        st.sampled_from(SOURCES),
        st.sampled_from(LEVELS),
        received=st.sampled_from([None, -90_000, 60, 120]),
    ),
    max_size=9,
    unique_by=lambda c: c.claim_id,
)
rule_sets = st.builds(
    lambda **changes: rules(**changes),
    method=st.sampled_from(["precedence", "median"]),
    precedence=st.permutations(SOURCES).map(lambda p: list(p)[:3]),
    tolerance=st.sampled_from(["0", "0.001", "0.05", "1"]),
    min_sources=st.integers(1, 4),
    fallback=st.sampled_from(["median", "hold"]),
    max_staleness=st.sampled_from([None, "P1D"]),
    max_move=st.sampled_from([None, "0", "0.05"]),
    range=st.sampled_from([None, ["1", "150"], [None, "150"], ["0", None]]),
)
references = st.lists(
    st.builds(Reference, st.integers(-5, -1).map(snap), st.sampled_from(LEVELS).map(Decimal)),
    max_size=2,
    unique_by=lambda r: r.snap,
)


@given(numbers, numbers, st.sampled_from(["0", "0.001", "0.5", "1"]).map(Decimal))
def test_agreement_is_symmetric_and_reflexive(a: Decimal, b: Decimal, tolerance: Decimal) -> None:
    assert agrees(a, b, tolerance) == agrees(b, a, tolerance)
    assert agrees(a, a, tolerance)


@given(numbers, numbers)
def test_without_tolerance_only_the_same_number_agrees(a: Decimal, b: Decimal) -> None:
    assert agrees(a, b, Decimal(0)) == (a == b)


def test_agreement_is_exact_in_the_last_of_38_digits() -> None:
    a = Decimal("10000000000000000000.000000000000000000")
    inside, outside = (
        Decimal("9990000000000000000.000000000000000000"),
        Decimal("9989999999999999999.999999999999999999"),
    )
    assert agrees(a, inside, Decimal("0.001"))
    assert not agrees(a, outside, Decimal("0.001"))


@given(st.lists(numbers, min_size=1, max_size=9))
def test_the_median_has_as_many_values_above_as_below(values: list[Decimal]) -> None:
    middle = median(values)
    assert sum(v < middle for v in values) <= len(values) / 2
    assert sum(v > middle for v in values) <= len(values) / 2
    assert median(values[::-1]) == middle


@given(claims, rule_sets, references, st.data())
@settings(max_examples=300)
def test_the_decision_is_a_function_of_what_each_source_claims_in_turn(
    given_claims: list[Claim], rule_set: RuleSet, around: list[Reference], data: st.DataObject
) -> None:
    withdrawn = set(data.draw(st.lists(st.sampled_from([c.claim_id for c in given_claims] or ["x"]))))
    decision = reconcile(given_claims, rule_set, around, withdrawn)
    order = data.draw(st.permutations(SOURCES))
    shuffled = sorted(given_claims, key=lambda c: order.index(c.source))
    assert reconcile(shuffled, rule_set, around[::-1], withdrawn) == decision

    used = {c.claim_id for c in decision.used}
    rejected = [r.claim.claim_id for r in decision.rejected]
    assert not used & withdrawn
    assert not used & set(rejected)
    assert len(rejected) == len(set(rejected))
    assert len({c.source for c in decision.used}) == len(decision.used), "one claim of a source counts"

    assert used | set(rejected) == {c.claim_id for c in given_claims}, "every claim is accounted for"
    if decision.status is Status.INSUFFICIENT:
        assert decision.value is None
        return
    out = {"withdrawn-by-operator", "superseded", "stale", "out-of-range"}
    usable = [
        c
        for c in given_claims
        if c.claim_id not in {r.claim.claim_id for r in decision.rejected if r.rule in out}
    ]
    assert len(usable) >= rule_set.min_sources
    assert decision.value is not None
    if decision.method == "precedence":
        assert decision.value in {c.value for c in decision.used}
    else:
        candidates = {median([c.value for c in usable]), usable[0].value}
        assert decision.value in candidates | {c.value for c in usable}
    assert all(agrees(c.value, decision.value, rule_set.tolerance.amount) for c in decision.used)
    if decision.status is Status.OFFICIAL:
        assert all(c.passed for c in decision.checks)
        if rule_set.method.name == "precedence" and decision.method == "precedence":
            assert 2 * (len(decision.used) - 1) >= len(usable) - 1
    assert decision.confidence is not None
    assert 0 <= decision.confidence < 1


@given(claims, rule_sets)
def test_deciding_again_on_the_used_claims_alone_chooses_an_agreeing_value(
    given_claims: list[Claim], rule_set: RuleSet
) -> None:
    decision = reconcile(given_claims, rule_set, [])
    if decision.status is not Status.OFFICIAL or len(decision.used) < rule_set.min_sources:
        return
    again = reconcile(decision.used, rule_set, [])
    assert again.value is not None
    assert decision.value is not None
    if decision.method == "precedence":
        assert agrees(again.value, decision.value, rule_set.tolerance.amount)
