"""Laws of the fusion methods: what may not change a decision, and what must."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qis.domain.fusion.consensus import Terms
from qis.domain.fusion.items import Claimed, Item
from qis.domain.fusion.memory import Memory
from qis.domain.fusion.methods import METHODS, Settings, decide

SOURCES = tuple(f"source-{c}" for c in "abcdefg")
CENTS = st.integers(9_000, 11_000)
"""Prices in cents, so close to each other that sources agree, disagree a little, and are far off."""


def claims(cents: Sequence[int | None]) -> list[Claimed]:
    return [
        Claimed(source, Decimal(value).scaleb(-2))
        for source, value in zip(SOURCES, cents, strict=False)
        if value is not None
    ]


SNAP = st.lists(st.none() | CENTS, min_size=7, max_size=7).filter(lambda s: any(v is not None for v in s))
PAST = st.lists(SNAP, max_size=12)
AT_THE_EDGE: list[list[int | None]] = [
    [None, None, None, None, None, None, 9000],
    [None, None, None, None, None, None, 9000],
    [None, None, 9000, 9512, 10103, 9488, 9710],
    [None, None, None, None, 10035, 10126, 10153],
    [9365, 9364, 9268, None, 9000, None, 9000],
    [None, None, 10280, 10403, 9000, None, 9665],
]
"""Values just as far apart as is still the same."""


def item(found: Sequence[Claimed], series: str = "s") -> Item:
    return Item(series, "price", found)


def learned(past: Sequence[Sequence[int | None]], method: str = "consensus") -> Memory:
    memory = Memory()
    for snap in past:
        _, panel, chosen = decide(method, item(claims(snap)), memory)
        memory.learn([(panel, chosen)])
    return memory


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=40)
@given(past=PAST, snap=SNAP, data=st.data())
def test_the_order_of_claims_has_no_effect(
    method: str, past: list[list[int | None]], snap: list[int | None], data: st.DataObject
) -> None:
    memory = learned(past, method)
    found = claims(snap)
    shuffled = data.draw(st.permutations(found))
    assert decide(method, item(shuffled), memory) == decide(method, item(found), memory)


@given(snaps=st.lists(SNAP, min_size=2, max_size=6), data=st.data())
def test_the_order_in_which_items_of_a_snap_are_learned_has_no_effect(
    snaps: list[list[int | None]], data: st.DataObject
) -> None:
    memory, other = Memory(), Memory()
    decided = [decide("consensus", item(claims(s), f"s{i}"), memory)[1:] for i, s in enumerate(snaps)]
    memory.learn(decided)
    other.learn(data.draw(st.permutations(decided)))
    assert memory.as_json() == other.as_json()


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=40)
@given(past=PAST, snap=SNAP)
def test_a_decision_is_derived_again_from_stored_state(
    method: str, past: list[list[int | None]], snap: list[int | None]
) -> None:
    memory = learned(past, method)
    stored = json.loads(json.dumps(memory.as_json()))
    again = Memory.from_json(stored)
    assert again.as_json() == memory.as_json()
    assert decide(method, item(claims(snap)), again) == decide(method, item(claims(snap)), memory)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=40)
@given(past=PAST, snap=SNAP, power=st.integers(-6, 6))
@example(past=AT_THE_EDGE, snap=[None] * 6 + [9000], power=1)
def test_values_in_another_unit_give_the_value_in_that_unit(
    method: str, past: list[list[int | None]], snap: list[int | None], power: int
) -> None:
    def scaled(found: list[Claimed]) -> list[Claimed]:
        return [c._replace(value=c.value.scaleb(power)) for c in found]

    memory, other = Memory(), Memory()
    for values in [*past, snap]:
        first, *lesson = decide(method, item(claims(values)), memory)
        second, *other_lesson = decide(method, item(scaled(claims(values))), other)
        assert first.value is not None
        assert second.value is not None
        if first.value.scaleb(power) != second.value:
            # Only a choice between values that no vote tells apart may fall otherwise: floats round.
            assert first.confidence == pytest.approx(second.confidence, abs=1e-6)
            return
        memory.learn([tuple(lesson)])  # type: ignore[list-item]
        other.learn([tuple(other_lesson)])  # type: ignore[list-item]


@settings(max_examples=40)
@given(past=PAST, snap=SNAP)
def test_a_further_copy_changes_nothing(past: list[list[int | None]], snap: list[int | None]) -> None:
    """With a source that is known to copy another, every item is decided as without it."""
    memory, with_twin = Memory(), Memory()
    rule = Settings(terms=Terms(copies={"source-a": "source-a", "twin": "source-a"}))
    for values in [*past, snap]:
        found = claims(values)
        twins = found + [c._replace(source="twin") for c in found if c.source == "source-a"]
        single, panel, chosen = decide("consensus", item(found), memory, rule)
        double, twin_panel, twin_chosen = decide("consensus", item(twins), with_twin, rule)
        assert (double.value, double.confidence, double.official) == (
            single.value,
            single.confidence,
            single.official,
        )
        memory.learn([(panel, chosen)])
        with_twin.learn([(twin_panel, twin_chosen)])


@settings(max_examples=40)
@given(past=PAST, snap=SNAP)
def test_one_more_voice_for_the_value_never_speaks_against_it(
    past: list[list[int | None]], snap: list[int | None]
) -> None:
    memory = learned(past)
    found = claims(snap)
    before, _, _ = decide("accu", item(found), memory)
    assert before.value is not None
    more, _, _ = decide("accu", item([*found, Claimed("one-more", before.value)]), memory)
    if before.tolerance == more.tolerance == 0:
        assert more.value == before.value
        assert more.confidence >= before.confidence


@settings(max_examples=40)
@given(past=PAST, snap=SNAP)
def test_deciding_twice_gives_the_same(past: list[list[int | None]], snap: list[int | None]) -> None:
    memory = learned(past)
    state = json.dumps(memory.as_json())
    assert decide("consensus", item(claims(snap)), memory) == decide("consensus", item(claims(snap)), memory)
    assert json.dumps(memory.as_json()) == state
