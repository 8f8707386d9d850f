"""The laws of merging: the same writes give the same state in any order, grouping and number of deliveries;
and a write that another had not seen is never lost."""

from __future__ import annotations

from decimal import Decimal
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from qis.domain.conflicts.clocks import MAX_COUNTER, ORIGIN, HybridTime, VectorClock, tick
from qis.domain.conflicts.registers import Override, last_write, siblings
from qis.domain.conflicts.resolvers import BUILT_IN

AUTHORS = ("ann", "bob", "cid")
clocks = st.dictionaries(st.sampled_from(AUTHORS), st.integers(1, 3)).map(VectorClock)
stamps = st.builds(HybridTime, st.integers(0, 3), st.integers(0, 2), st.sampled_from(["eu", "us"]))
overrides = st.builds(
    Override,
    st.sampled_from(["1", "2", "3"]).map(Decimal),
    st.sampled_from(AUTHORS),
    st.sampled_from(["a", "b"]),
    clocks,
    stamps,
)
several = st.lists(overrides, min_size=1, max_size=8)


@given(clocks, clocks, clocks)
def test_joining_clocks_is_commutative_associative_and_idempotent(
    a: VectorClock, b: VectorClock, c: VectorClock
) -> None:
    assert a.join(b) == b.join(a)
    assert a.join(b).join(c) == a.join(b.join(c))
    assert a.join(a) == a == a.join(ORIGIN)
    assert a.join(b).includes(a)
    assert a.includes(b) == (a.join(b) == a)


@given(clocks, clocks, st.sampled_from(AUTHORS))
def test_a_write_includes_what_it_rests_on_and_nothing_that_rests_on_it_precedes_it(
    a: VectorClock, b: VectorClock, author: str
) -> None:
    after = a.next(author)
    assert after.includes(a)
    assert not a.includes(after)
    if after.includes(b) and b.includes(after):
        assert after == b


@given(several, several, several)
def test_the_last_write_is_a_join(a: list[Override], b: list[Override], c: list[Override]) -> None:
    def merged(*parts: Override) -> Override:
        return last_write(parts)

    x, y, z = last_write(a), last_write(b), last_write(c)
    assert merged(x, y) == merged(y, x)
    assert merged(merged(x, y), z) == merged(x, merged(y, z)) == last_write([*a, *b, *c])
    assert merged(x, x) == x


@given(several, several, several)
def test_siblings_are_a_join_and_lose_only_what_somebody_had_seen(
    a: list[Override], b: list[Override], c: list[Override]
) -> None:
    x, y, z = siblings(a), siblings(b), siblings(c)
    assert siblings([*x, *y]) == siblings([*y, *x])
    assert siblings([*siblings([*x, *y]), *z]) == siblings([*x, *siblings([*y, *z])])
    assert siblings([*x, *x]) == x
    whole = siblings([*a, *b, *c])
    assert whole == siblings([*x, *y, *z])
    assert whole
    for one in {*a, *b, *c} - {*whole}:
        assert any(kept.clock.includes(one.clock) and kept.clock != one.clock for kept in whole)


@given(several, st.sampled_from(sorted(BUILT_IN)), st.randoms())
def test_a_resolver_takes_its_siblings_in_any_order(
    given_: list[Override], name: str, random: Random
) -> None:
    shuffled = list(given_)
    random.shuffle(shuffled)
    assert BUILT_IN[name](given_) == BUILT_IN[name](shuffled)
    assert set(BUILT_IN[name](given_)) <= set(siblings(given_))


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["eu", "us"])), min_size=2))
def test_a_stamp_is_later_than_all_that_were_seen_whatever_the_clocks_say(
    writes: list[tuple[int, str]],
) -> None:
    seen: HybridTime | None = None
    for now, origin in writes:
        made = tick(now, seen, origin)
        assert made.ms >= now
        assert seen is None or made > seen
        assert HybridTime.parse(made.text) == made
        seen = made


def test_a_full_counter_goes_over_into_the_next_millisecond() -> None:
    assert tick(1, HybridTime(1, MAX_COUNTER, "eu"), "us") == HybridTime(2, 0, "us")


@given(overrides)
def test_an_override_survives_its_event(override: Override) -> None:
    assert Override.of(override.as_json()) == override
