"""OCC symbols, contracts, and the bounds that a chain must keep."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from qis.domain.errors import InvalidInput
from qis.domain.kinds.options import parse_symbol
from qis.domain.snap import parse_instant
from tests.support import records
from tests.support.records import AT, CHAIN, chain, contract


def failed(document: dict[str, Any], **settings: Any) -> dict[str, str]:
    """Checks that a chain fails, with the worst breach."""
    structure = records.series(CHAIN, **settings).structure
    assert structure is not None
    at = parse_instant(AT, "snap")
    return {c.check: c.measured for c in structure.check(structure.parse(document, at), at) if not c.passed}


@pytest.mark.parametrize(
    ("text", "root", "expiry", "right", "strike"),
    [
        ("AAPL  260116C00150000", "AAPL", date(2026, 1, 16), "C", "150"),
        ("SPXW  260130P06012500", "SPXW", date(2026, 1, 30), "P", "6012.5"),
        ("BRKB1 270115C00000500", "BRKB1", date(2027, 1, 15), "C", "0.5"),
        ("ABCDEF280121P99999999", "ABCDEF", date(2028, 1, 21), "P", "99999.999"),
    ],
)
def test_a_symbol_is_taken_apart_and_put_together_again(
    text: str, root: str, expiry: date, right: str, strike: str
) -> None:
    symbol = parse_symbol(text)
    assert symbol == (root, expiry, right, Decimal(strike))
    assert symbol.text == text
    assert parse_symbol(text.replace(" ", "")) == symbol


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("AAPL 260116C00150000", "occ-symbol"),  # padded to 5
        ("AAPL  260116X00150000", "occ-symbol"),
        ("aapl  260116C00150000", "occ-symbol"),
        ("TOOLONG260116C00150000", "occ-symbol"),
        ("AAPL  260230C00150000", "occ-expiry"),
        ("AAPL  260116C00000000", "occ-strike"),
        ("AAPL  26011\u0666C00150000", "occ-symbol"),  # a digit, and not one of ours
        (150, "occ-symbol"),
    ],
)
def test_what_is_no_symbol_is_refused(text: object, rule: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse_symbol(text)
    assert [v.rule for v in refusal.value.violations] == [rule]


def test_a_chain_that_keeps_every_bound_fails_none() -> None:
    assert failed(chain()) == {}


def test_a_call_dearer_than_one_at_a_lower_strike_is_found() -> None:
    broken = {"contracts": [contract("C", 95, "6.60", "6.80"), contract("C", 100, "7.00", "7.10")]}
    assert failed(broken) == {"strike-monotone": "0.2"}


def test_a_put_dearer_than_one_at_a_higher_strike_is_found() -> None:
    broken = {"contracts": [contract("P", 95, "7.00", "7.10"), contract("P", 105, "6.10", "6.30")]}
    assert failed(broken) == {"strike-monotone": "0.7"}


def test_strikes_that_differ_more_in_price_than_in_strike_are_found() -> None:
    broken = {"contracts": [contract("C", 95, "9.00", "9.10"), contract("C", 100, "3.60", "3.70")]}
    assert failed(broken) == {"strike-spread": "0.3"}


def test_a_butterfly_that_pays_to_hold_is_found() -> None:
    broken = {
        "contracts": [
            contract("C", 95, "6.60", "6.80"),
            contract("C", 100, "5.00", "5.10"),
            contract("C", 105, "1.70", "1.80"),
        ]
    }
    assert failed(broken) == {"butterfly": "0.7"}


def test_a_call_bid_above_its_underlying_is_found() -> None:
    broken = {"spot": "100", "contracts": [contract("C", 95, "100.50", "101")]}
    assert failed(broken, rate=None, dividend_yield=None) == {"price-bounds": "0.5"}


def test_an_american_option_offered_below_its_exercise_value_is_found() -> None:
    cheap = {"spot": "100", "contracts": [contract("C", 95, "4.00", "4.50")]}
    assert failed(cheap, exercise="american", rate=None, dividend_yield=None) == {"price-bounds": "0.5"}
    assert failed(cheap, rate=None, dividend_yield=None) == {}


def test_put_and_call_that_break_parity_are_found() -> None:
    """At 100, 46 days, 4 %: the call is worth 0.502841 more than the put."""
    broken = {
        "spot": "100",
        "contracts": [contract("C", 100, "3.60", "3.70"), contract("P", 100, "4.00", "4.20")],
    }
    assert failed(broken) == {"put-call-parity": "0.802841"}


def test_a_longer_american_option_bid_below_a_shorter_is_found() -> None:
    near = contract("C", 100, "3.60", "3.70")
    far = {**contract("C", 100, "3.00", "3.10"), "symbol": "XMPL  260320C00100000"}
    broken = {"contracts": [near, far]}
    assert failed(broken, exercise="american") == {"calendar": "0.5"}
    assert failed(broken) == {}, "a European option may lose by living longer"


def test_a_breach_within_the_slack_is_the_noise_of_quotes() -> None:
    nearly = {"contracts": [contract("C", 95, "6.60", "6.80"), contract("C", 100, "6.84", "6.90")]}
    assert failed(nearly) == {}
    assert failed(nearly, slack="0.01") == {"strike-monotone": "0.04"}


@pytest.mark.parametrize(
    ("change", "field", "rule"),
    [
        ({"bid": "7"}, "bid", "bid-not-above-ask"),
        ({"bid": "-1"}, "bid", "not-negative"),
        ({"volume": "1.5"}, "volume", "whole-number"),
        ({"delta": "-0.2"}, "delta", "delta-range"),
        ({"implied_volatility": "NaN"}, "implied_volatility", "finite"),
        ({"symbol": "OTHR  260220C00095000"}, "symbol", "chain-root"),
        ({"symbol": "XMPL  260102C00095000"}, "symbol", "expiry-after-snap"),
        ({"rho": "1"}, "rho", "known-field"),
    ],
)
def test_a_contract_that_breaks_a_rule_is_refused_with_its_field(
    change: dict[str, str], field: str, rule: str
) -> None:
    structure = records.series(CHAIN).structure
    assert structure is not None
    document = {"contracts": [{**contract("C", 95, "6.60", "6.80"), **change}]}
    with pytest.raises(InvalidInput) as refusal:
        structure.parse(document, parse_instant(AT, "snap"))
    assert [(v.field, v.rule) for v in refusal.value.violations] == [(f"value.contracts[0].{field}", rule)]


def test_a_contract_that_expires_on_the_day_of_the_snap_still_lives() -> None:
    """21:00 UTC on 5 January is still that day in New York."""
    structure = records.series(CHAIN).structure
    assert structure is not None
    today = {"symbol": "XMPL  260105C00095000", "bid": "5", "ask": "5.1"}
    assert structure.parse({"contracts": [today]}, parse_instant(AT, "snap"))


def test_a_contract_listed_twice_is_refused_also_in_two_spellings() -> None:
    structure = records.series(CHAIN).structure
    assert structure is not None
    twice = {"contracts": [{"symbol": "XMPL  260220C00095000"}, {"symbol": "XMPL260220C00095000"}]}
    with pytest.raises(InvalidInput, match="distinct"):
        structure.parse(twice, parse_instant(AT, "snap"))
