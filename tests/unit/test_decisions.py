"""Reconciliation by example: which value, from whom, and what waits for a person."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from qis.domain.reconciliation import Decision, Reference, Status, check_proposal, reconcile
from tests.support.builders import claim, rules, snap

Rows = list[tuple[str, str]]


def decide(rows: Rows, references: list[tuple[float, str]] = (), **changes: Any) -> Decision:  # type: ignore[assignment]
    around = [Reference(snap(days), Decimal(value)) for days, value in references]
    return reconcile([claim(s, v) for s, v in rows], rules(**changes), around)


def used(decision: Decision) -> set[str]:
    return {c.source for c in decision.used}


def refused(decision: Decision) -> dict[str, str]:
    return {r.claim.source: r.rule for r in decision.rejected}


CASES: dict[str, tuple[Rows, dict[str, Any], tuple[str, str | None, str, set[str]]]] = {
    "the best source is taken where the others agree": (
        [("gamma", "1.1001"), ("beta", "1.1002"), ("alpha", "1.1000")],
        {},
        ("official", "1.1000", "precedence", {"alpha", "beta", "gamma"}),
    ),
    "the best source is passed over where most others contradict it": (
        [("alpha", "2"), ("beta", "1.1000"), ("gamma", "1.1001")],
        {},
        ("official", "1.1000", "precedence", {"beta", "gamma"}),
    ),
    "half of the others is enough": (
        [("alpha", "2"), ("beta", "1.1"), ("gamma", "2.0001")],
        {},
        ("official", "2", "precedence", {"alpha", "gamma"}),
    ),
    "a single source is taken at its word": (
        [("gamma", "1.1")],
        {},
        ("official", "1.1", "precedence", {"gamma"}),
    ),
    "two sources that contradict each other wait": (
        [("alpha", "1.1"), ("beta", "2")],
        {},
        ("suspect", "1.1", "precedence", {"alpha"}),
    ),
    "three sources that all contradict each other give their median": (
        [("alpha", "1"), ("beta", "2"), ("gamma", "3")],
        {},
        ("official", "2", "median", {"beta"}),
    ),
    "four sources in disagreement give the mean of the middle two": (
        [("alpha", "1"), ("beta", "2"), ("gamma", "3"), ("delta", "4")],
        {},
        ("official", "2.5", "median", set()),
    ),
    "with the fallback hold disagreement waits": (
        [("alpha", "1"), ("beta", "2"), ("gamma", "3")],
        {"fallback": "hold"},
        ("suspect", "1", "precedence", {"alpha"}),
    ),
    "sources without a place in the order follow in alphabetical order": (
        [("gamma", "1.1000"), ("delta", "1.1001")],
        {"precedence": []},
        ("official", "1.1001", "precedence", {"delta", "gamma"}),
    ),
    "too few sources give nothing": (
        [("alpha", "1.1")],
        {"min_sources": 2},
        ("insufficient", None, "precedence", set()),
    ),
    "no claim gives nothing": ([], {}, ("insufficient", None, "precedence", set())),
    "enough sources give a value": (
        [("alpha", "1.1"), ("beta", "1.1")],
        {"min_sources": 2},
        ("official", "1.1", "precedence", {"alpha", "beta"}),
    ),
    "the tolerance counts from the larger value, its edge included": (
        [("alpha", "1.000"), ("beta", "0.999")],
        {"tolerance": "0.001"},
        ("official", "1.000", "precedence", {"alpha", "beta"}),
    ),
    "beyond the edge of the tolerance": (
        [("alpha", "1.000"), ("beta", "0.998999")],
        {"tolerance": "0.001"},
        ("suspect", "1.000", "precedence", {"alpha"}),
    ),
    "the median of an odd number is a claim": (
        [("alpha", "1.1000"), ("beta", "1.1001"), ("gamma", "1.1002")],
        {"method": "median"},
        ("official", "1.1001", "median", {"alpha", "beta", "gamma"}),
    ),
    "the median of two is their exact mean": (
        [("alpha", "1.1000"), ("beta", "1.1001")],
        {"method": "median"},
        ("official", "1.10005", "median", {"alpha", "beta"}),
    ),
    "a median that half of the sources contradict waits": (
        [("alpha", "1"), ("beta", "2"), ("gamma", "3")],
        {"method": "median"},
        ("suspect", "1", "median", {"alpha"}),
    ),
    "a value out of the plausible range is not used": (
        [("alpha", "9"), ("beta", "1.1")],
        {"range": ["1", "2"]},
        ("official", "1.1", "precedence", {"beta"}),
    ),
    "the bounds of the range are plausible": (
        [("alpha", "2"), ("beta", "2.0000001")],
        {"range": ["1", "2"]},
        ("official", "2", "precedence", {"alpha"}),
    ),
    "a single source out of range leaves nothing": (
        [("alpha", "9")],
        {"range": [None, "2"]},
        ("insufficient", None, "precedence", set()),
    ),
    "zero agrees with zero": (
        [("alpha", "0"), ("beta", "0.0")],
        {},
        ("official", "0", "precedence", {"alpha", "beta"}),
    ),
    "zero disagrees with anything else": (
        [("alpha", "0"), ("beta", "0.0001")],
        {},
        ("suspect", "0", "precedence", {"alpha"}),
    ),
    "negative values agree by their size": (
        [("alpha", "-1.0000"), ("beta", "-1.0005")],
        {},
        ("official", "-1.0000", "precedence", {"alpha", "beta"}),
    ),
}


@pytest.mark.parametrize(("rows", "changes", "expected"), CASES.values(), ids=CASES.keys())
def test_the_decision(
    rows: Rows, changes: dict[str, Any], expected: tuple[str, str | None, str, set[str]]
) -> None:
    status, value, method, sources = expected
    decision = decide(rows, **changes)
    assert (decision.status.value, decision.method, used(decision)) == (status, method, sources)
    assert decision.value == (None if value is None else Decimal(value))
    assert value is None or str(decision.value) == value, "every digit is kept"


def test_those_who_do_not_carry_the_value_are_named_with_the_rule() -> None:
    rows = [("alpha", "1.1"), ("beta", "1.2"), ("gamma", "9"), ("delta", "1.1001")]
    decision = decide(rows, range=["1", "2"])
    assert refused(decision) == {"beta": "outside-tolerance", "gamma": "out-of-range"}
    details = {r.claim.source: r.detail for r in decision.rejected}
    assert details == {"beta": "differs from 1.1 by 0.090909", "gamma": "outside [1, 2]"}


@pytest.mark.parametrize(
    ("others", "confidence"),
    [([], "0.5000"), (["1.1"], "0.6667"), (["1.1", "1.1"], "0.7500"), (["1.1", "2"], "0.5000")],
)
def test_confidence_is_the_rule_of_succession_over_the_other_sources(
    others: list[str], confidence: str
) -> None:
    rows = [("alpha", "1.1"), *zip(("beta", "gamma"), others, strict=False)]
    assert str(decide(rows).confidence) == confidence


# revisions, staleness, withdrawal ----------------------------------------------------------------


def test_the_last_claim_counts_for_its_source() -> None:
    claims = [claim(value="1.1"), claim(value="1.3"), claim(value="1.2")]
    decision = reconcile(claims, rules(), [])
    assert decision.value == Decimal("1.2")
    assert {str(r.claim.value): r.rule for r in decision.rejected} == {
        "1.1": "superseded",
        "1.3": "superseded",
    }


def test_a_revision_that_breaks_a_rule_leaves_the_claim_before_it_standing() -> None:
    claims = [claim(value="1.1", received=60), claim(value="9", received=120)]
    decision = reconcile(claims, rules(range=["1", "2"]), [])
    assert decision.value == Decimal("1.1")
    assert {str(r.claim.value): r.rule for r in decision.rejected} == {"9": "out-of-range"}


@pytest.mark.parametrize(
    ("received", "status"), [(-3_600, "official"), (-3_601, "insufficient"), (None, "official")]
)
def test_a_claim_received_too_long_before_its_snap_is_stale(received: int | None, status: str) -> None:
    decision = reconcile([claim(received=received)], rules(max_staleness="PT1H"), [])
    assert decision.status.value == status
    assert [r.rule for r in decision.rejected] == (["stale"] if status == "insufficient" else [])


def test_a_withdrawn_claim_does_not_count_and_the_next_source_leads() -> None:
    alpha, beta = claim("alpha", "9"), claim("beta", "1.1")
    decision = reconcile([alpha, beta], rules(), [], {alpha.claim_id})
    assert decision.value == Decimal("1.1")
    assert refused(decision) == {"alpha": "withdrawn-by-operator"}


# moves -------------------------------------------------------------------------------------------


MOVES: dict[str, tuple[Rows, list[tuple[float, str]], str]] = {
    "a move within the largest believable one": ([("alpha", "1.05")], [(-1, "1")], "official"),
    "a spike": ([("alpha", "1.06")], [(-1, "1")], "suspect"),
    "a spike downwards": ([("alpha", "0.94")], [(-1, "1")], "suspect"),
    "a spike that two sources report": ([("alpha", "2"), ("beta", "2.0001")], [(-1, "1")], "official"),
    "a spike that the second source contradicts": (
        [("alpha", "2"), ("beta", "1")],
        [(-1, "1")],
        "suspect",
    ),
    "nothing to measure against": ([("alpha", "9")], [], "official"),
    "a reference of zero measures nothing": ([("alpha", "9")], [(-1, "0")], "official"),
}


@pytest.mark.parametrize(("rows", "references", "status"), MOVES.values(), ids=MOVES.keys())
def test_a_move_is_believed_or_waits(rows: Rows, references: list[tuple[float, str]], status: str) -> None:
    assert decide(rows, references).status.value == status


def test_without_the_rule_any_move_is_believed() -> None:
    assert decide([("alpha", "9")], [(-1, "1")], max_move=None).status is Status.OFFICIAL


def test_a_spike_says_what_was_measured_against_which_threshold() -> None:
    decision = decide([("alpha", "1.2")], [(-1, "1")])
    (check,) = decision.checks
    assert (check.check, check.passed, check.measured, check.threshold) == (
        "spike",
        False,
        "0.200000",
        "0.05",
    )
    assert decision.reason == check.detail == f"moves 0.200000 from 1 at {snap(-1).text}"


@pytest.mark.parametrize(
    ("value", "failed"),
    [("1.04", []), ("1.2", ["spike"]), ("3", ["out-of-range", "spike"]), ("0.5", ["out-of-range", "spike"])],
)
def test_a_value_that_a_person_proposes_passes_the_same_checks(value: str, failed: list[str]) -> None:
    checks = check_proposal(Decimal(value), rules(range=["0.9", "2"]), [Reference(snap(-1), Decimal(1))])
    assert [c.check for c in checks if not c.passed] == failed


def test_the_decision_as_json_names_claims_rules_and_version() -> None:
    body = decide([("alpha", "1.10"), ("beta", "2")], version=4)
    data = body.as_json()
    assert data["value"] == "1.10"
    assert data["sources_used"] == [
        {"source": "alpha", "claim_id": claim("alpha", "1.10").claim_id, "value": "1.10"}
    ]
    assert data["sources_rejected"][0]["rule"] == "outside-tolerance"
    assert (data["rules"], data["rules_version"], data["status"]) == ("fx", 4, "suspect")
