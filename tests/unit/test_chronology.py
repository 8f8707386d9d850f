"""Which of a source's claims is its last word."""

from __future__ import annotations

import pytest

from qis.domain.claims import CLOCK_SKEW_NS, chronological, claim_identity, parse_claim
from qis.domain.snap import NANOS, Snap
from tests.support.builders import FIRST, catalogue, claim, claim_body

HOUR = 3600
BOOK = catalogue()
Said = tuple[str, int | None, int]
"""A value, when it was received and when it was recorded, in seconds after the snap."""


def order(*claims: Said, source: str = "alpha") -> list[str]:
    """The values in the order in which the source claims them."""
    recorded = [
        (claim(source, value, received=received), Snap(FIRST.ns + recorded * NANOS))
        for value, received, recorded in claims
    ]
    return [str(c.value) for c in chronological(recorded)]


def test_the_claim_received_last_is_the_last_word_in_whatever_order_they_are_recorded() -> None:
    first, second, third = ("1", 60, HOUR), ("2", 90, HOUR), ("3", 120, HOUR)
    assert order(first, second, third) == ["1", "2", "3"]
    assert order(third, first, second) == ["1", "2", "3"]


def test_without_times_of_reception_the_claim_recorded_last_is_the_last_word() -> None:
    assert order(("1", None, 60), ("2", None, 70), ("1", None, 80)) == ["1", "2", "1"]


def test_of_claims_received_at_once_the_one_recorded_last_is_the_last_word() -> None:
    assert order(("1", 60, HOUR), ("2", 60, HOUR)) == ["1", "2"]
    assert order(("2", 60, HOUR), ("1", 60, HOUR)) == ["2", "1"]


@pytest.mark.parametrize("received", [60, None])
def test_a_claim_without_a_time_is_later_than_those_recorded_before_it(received: int | None) -> None:
    assert order(("1", received, HOUR), ("2", None, 2 * HOUR)) == ["1", "2"]
    assert order(("1", None, HOUR), ("2", received, 2 * HOUR)) == ["1", "2"]


def test_a_claim_that_comes_late_is_no_last_word_though_one_without_a_time_is_between() -> None:
    assert order(("3", 120, HOUR), ("4", None, 2 * HOUR), ("2", 90, 3 * HOUR)) == ["2", "3", "4"]


def test_a_reception_in_the_future_does_not_outrank_what_is_recorded_later() -> None:
    nine_hours_ahead = ("100", 10 * HOUR, HOUR)
    assert order(nine_hours_ahead, ("101", HOUR - 60, HOUR + 60)) == ["100", "101"]
    assert order(nine_hours_ahead, ("101", None, HOUR + 60)) == ["100", "101"]


def test_a_clock_that_is_a_little_ahead_ranks_no_later_than_the_recording() -> None:
    ahead = HOUR + CLOCK_SKEW_NS // NANOS
    assert order(("100", ahead, HOUR), ("101", HOUR + 1, HOUR + 2)) == ["100", "101"]


def test_the_order_of_one_source_does_not_depend_on_another() -> None:
    alpha, beta = claim("alpha", "1", received=None), claim("beta", "9", received=10**6)
    late = Snap(FIRST.ns + 10**7 * NANOS)
    other = claim("alpha", "2", received=60)
    assert chronological([(alpha, late), (beta, late), (other, late)])[0:2] == [alpha, other]


@pytest.mark.parametrize(
    "more", [{"volume": "5"}, {"currency": "USD"}, {"received_at": "2026-01-05T15:00:00Z"}, {"sequence": 7}]
)
def test_all_that_a_claim_carries_is_part_of_its_identity(more: dict[str, str]) -> None:
    def identity(**fields: str) -> str:
        return parse_claim(claim_body(**fields), BOOK.series, BOOK.active).claim_id

    assert identity(**more) != identity()
    assert identity(**more) == identity(**more)


def test_digits_that_say_nothing_are_no_part_of_the_identity() -> None:
    one, other = (
        parse_claim(claim_body(value=v, volume=w), BOOK.series, BOOK.active).claim_id
        for v, w in (("1.10", "1000"), ("1.1", "1000.00"))
    )
    assert one == other


def test_the_identity_of_claims_that_are_stored_stays() -> None:
    plain = claim(received=60)
    assert plain.claim_id == claim_identity(
        plain.reference_data_id, FIRST, "alpha", plain.value, plain.received_at
    )
    assert plain.claim_id == "152130c54dbdc9c5a3ec9aee2a17ba15"
