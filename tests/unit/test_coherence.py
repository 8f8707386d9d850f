"""Identities between attributes as evidence: what they hold on, what they change, and what they never do."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qis.application.fusing import Plan, fuse, parse_plan
from qis.domain.errors import InvalidInput
from qis.domain.fusion.coherence import Identity, Span, around, object_of, parse_identities
from qis.domain.fusion.items import Claimed, Item, Verdict
from qis.domain.fusion.memory import Chosen, Memory, Panel
from qis.domain.fusion.methods import Settings
from qis.domain.fusion.semantics import Semantics

CHANGE = Identity("change", "percent-change", ("last", "previous"))
CARRIED = Identity("previous", "previous", ("last",))
Said = Mapping[str, Mapping[str, str]]
"""By kind and source."""


def decided(snaps: Sequence[Said], *identities: Identity, needed: int = 1) -> list[dict[str, Verdict]]:
    """Verdicts of one object by kind, snap by snap."""
    plan = Plan(identities=identities, settings=Settings(min_voices=needed))
    found = (
        (
            at,
            [
                Item(f"x.{kind}", kind, [Claimed(s, Decimal(v)) for s, v in said.items()])
                for kind, said in snap.items()
            ],
        )
        for at, snap in enumerate(snaps)
    )
    return [{item.kind: verdict for item, verdict in of} for of in fuse(found, plan, Memory())]


def told(price: str, before: str, change: str, sources: str = "abc") -> dict[str, dict[str, str]]:
    return {
        "last": dict.fromkeys(sources, price),
        "previous": dict.fromkeys(sources, before),
        "change": dict.fromkeys(sources, change),
    }


PRICES = ("10.00", "10.10", "10.20", "10.05", "10.31", "10.17", "10.40", "10.22", "10.60", "10.44")


def change(now: str, before: str) -> str:
    return f"{100 * (Decimal(now) / Decimal(before) - 1):.2f}"


def past(sources: str = "abc") -> list[dict[str, dict[str, str]]]:
    return [told(now, before, change(now, before), sources) for before, now in pairwise(PRICES)]


@pytest.mark.parametrize(
    ("form", "value", "of", "holds"),
    [
        ("difference", around(0.5, 1), [around(10.5, 1), around(10.0, 1)], True),
        ("difference", around(0.7, 1), [around(10.5, 1), around(10.0, 1)], False),
        ("percent-change", around(0.98, 2), [around(80.78, 2), around(80.00, 2)], True),
        ("percent-change", around(0.95, 2), [around(80.78, 2), around(80.00, 2)], False),
        ("percent-change", around(0.95, 2), [around(80.78, 2), around(0.00, 2)], None),
        ("product", around(200.0, 0), [around(10.0, 1), around(20.0, 0)], True),
        ("product", around(230.0, 0), [around(10.0, 1), around(20.0, 0)], False),
        ("previous", around(10.0, 2), [around(10.0, 2)], True),
        ("at-most", around(9.0, 2), [around(10.0, 2)], True),
        ("at-most", around(10.02, 2), [around(10.0, 2)], False),
    ],
)
def test_an_identity_holds_as_far_as_rounding_lets_it(
    form: str, value: Span, of: list[Span], holds: bool | None
) -> None:
    assert Identity("a", form, ("b", "c")[: len(of)]).holds(value, of) is holds


def test_the_object_is_the_name_without_the_kind() -> None:
    assert object_of("aapl.open", "open") == object_of("open|aapl", "open") == "aapl"
    assert object_of("aapl\nopen", "open") == "aapl"


def test_of_two_values_the_one_that_fits_the_other_attributes_wins() -> None:
    snap = told("10.55", "10.44", "1.05", "abcd")
    snap["change"] = {"a": "1.37", "b": "1.05"}
    without = decided([*past("abcd"), snap])[-1]["change"]
    coherent = decided([*past("abcd"), snap], CHANGE)[-1]["change"]
    assert coherent.value == Decimal("1.05")
    assert coherent.confidence > without.confidence


def test_the_value_of_the_day_before_is_evidence() -> None:
    snap = told("10.55", "10.44", "1.05", "ab")
    snap["previous"] = {"a": "10.40", "b": "10.44"}
    found = decided([*past("ab"), snap], CARRIED)[-1]["previous"]
    assert found.value == Decimal("10.44")


def test_what_all_say_is_left_alone() -> None:
    snap = told("10.55", "10.44", "3.00")  # which is not the change, but nobody says otherwise
    without, coherent = (decided([*past(), snap], *ids)[-1]["change"] for ids in ((), (CHANGE,)))
    assert coherent == without


def test_attributes_that_are_not_sure_do_not_testify() -> None:
    snap = told("10.55", "10.44", "1.05", "ab")
    snap["last"] = {"a": "10.55", "b": "10.56"}
    snap["change"] = {"a": "1.37", "b": "1.05"}
    alone = decided([*past("ab"), snap], Identity("change", "difference", ("last", "previous")))[-1]
    assert alone["last"].confidence < Decimal("0.99")
    assert alone["change"].confidence < Decimal("0.9")


def test_a_claim_against_its_own_record_counts_as_such_claims_did() -> None:
    """Source c's change is often not that of its own prices, and then wrong; where they fit, it is right."""
    spoiled = []
    for i, snap in enumerate(past("abcd")):
        if i % 2:
            snap["change"] = {**snap["change"], "c": "9.99"}
        spoiled.append(snap)
    last = told("10.55", "10.44", "1.05", "abcd")
    last["change"] = {"a": "1.05", "b": "1.05", "c": "7.77", "d": "1.05"}
    without, coherent = (decided([*spoiled, last], *ids)[-1]["change"] for ids in ((), (CHANGE,)))
    weight = {
        name: {v.source: v.weight for v in verdict.voices}
        for name, verdict in (("without", without), ("coherent", coherent))
    }
    assert weight["coherent"]["c"] < weight["without"]["c"]
    assert weight["coherent"]["a"] == weight["without"]["a"]


def test_coherence_is_no_voice_in_a_quorum() -> None:
    snap = told("10.55", "10.44", "1.05", "ab")
    snap["change"] = {"a": "1.37", "b": "1.05"}
    found = decided([*past("ab"), snap], CHANGE, needed=2)[-1]["change"]
    assert found.value == Decimal("1.05")
    assert not found.official


CENTS = st.integers(900, 1100).map(lambda c: str(Decimal(c).scaleb(-2)))
SNAP = st.fixed_dictionaries(
    {
        kind: st.dictionaries(st.sampled_from("abcd"), CENTS, min_size=1)
        for kind in ("last", "previous", "change")
    }
)


@settings(max_examples=25)
@given(snaps=st.lists(SNAP, min_size=1, max_size=5), data=st.data())
def test_the_order_of_items_and_claims_has_no_effect(snaps: list[Said], data: st.DataObject) -> None:
    shuffled = [
        {
            kind: dict(data.draw(st.permutations(list(snap[kind].items()))))
            for kind in data.draw(st.permutations(list(snap)))
        }
        for snap in snaps
    ]
    assert decided(shuffled, CHANGE, CARRIED) == decided(snaps, CHANGE, CARRIED)


@settings(max_examples=25)
@given(snaps=st.lists(SNAP, min_size=1, max_size=5))
def test_a_decision_does_not_depend_on_what_comes_after(snaps: list[Said]) -> None:
    assert decided(snaps, CHANGE, CARRIED)[:-1] == decided(snaps[:-1], CHANGE, CARRIED)


def test_identities_are_data_of_a_rule() -> None:
    one = {"kind": "change", "is": "percent-change", "of": ["last", "previous"]}
    plan = parse_plan({"rules": "shares", "identities": [one]}, None, None)
    assert plan.identities == (CHANGE,)
    plan.check_attributes({"change", "last", "previous"})
    with pytest.raises(InvalidInput, match="is not in the file"):
        plan.check_attributes({"change", "last"})


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({}, "list"),
        ([{"kind": "a", "is": "sum", "of": ["b"]}], "is none of|is not one of|difference"),
        ([{"kind": "a", "is": "difference", "of": ["b"]}], "2 kinds"),
        ([{"kind": "a", "is": "difference", "of": ["b", "b"]}], "twice"),
        ([{"kind": "a", "is": "previous", "of": [1]}], "1 kinds"),
        ([{"kind": "a", "is": "previous", "of": ["b"], "more": 1}], "more"),
    ],
)
def test_identities_that_are_none_are_refused(given_: object, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        parse_identities(given_, "identities")


def found(values: Sequence[Mapping[str, float]], objects: int = 3) -> dict[str, tuple[int, int]]:
    """Identities that are proposed for objects with given values, snap by snap."""
    semantics = Semantics()
    for at, snap in enumerate(values):
        kinds = {f"x{at % objects}.{kind}": (kind, value) for kind, value in snap.items()}
        for series, (kind, value) in kinds.items():
            panel = Panel(series, kind, ["a", "b"], [value, value], [2, 2])
            semantics.note(panel, Chosen(value, [True, True], True, ["a", "b"]))
    proposed = [p for p in semantics.proposals({}) if p.what == "identity"]
    assert all(p.sources == () for p in proposed)
    return {p.detail: (p.cases, p.occasions) for p in proposed}


def walks(rng: random.Random, many: int, objects: int = 3) -> list[dict[str, float]]:
    """High, low and their distance of several objects in turn."""
    level = [20.0, 50.0, 90.0]
    snaps = []
    for at in range(many):
        level[at % objects] *= 1 + rng.gauss(0, 0.02)
        low = round(level[at % objects], 2)
        high = round(low + rng.uniform(1, 5), 2)
        snaps.append({"high": high, "low": low, "range": round(high - low, 2)})
    return snaps


def test_attributes_that_hang_together_are_found() -> None:
    snaps = walks(random.Random(1), 60)
    assert found(snaps) == {"low = difference(high, range)": (60, 60)}


def test_attributes_that_do_not_are_not() -> None:
    rng = random.Random(2)
    snaps = [{**s, "range": round(rng.uniform(1, 5), 2)} for s in walks(rng, 60)]
    assert found(snaps) == {}


def test_what_holds_for_other_objects_as_well_is_chance() -> None:
    constant = [{"high": 30.0, "low": 20.0, "range": 10.0}] * 60
    assert found(constant) == {}


def test_few_cases_are_no_evidence_and_many_attributes_are_not_searched() -> None:
    assert found(walks(random.Random(1), 19)) == {}
    wide = [{**s, **{f"k{i}": float(i) for i in range(6)}} for s in walks(random.Random(1), 60)]
    assert found(wide) == {}
