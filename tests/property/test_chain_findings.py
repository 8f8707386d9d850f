"""A chain of any Black-Scholes market is clean; whatever is put into it that no market allows is found."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qis.domain.detection import Fault
from qis.domain.detection.records import Said, judge_records, refused
from qis.domain.errors import InvalidInput
from qis.domain.kinds.options import OptionSymbol
from qis.domain.series import Series
from qis.domain.snap import Snap, parse_instant
from tests.support import records
from tests.support.options import (
    CENT,
    NEXT,
    TODAY,
    Chain,
    Market,
    calls_dearer,
    delta_of_another,
    middle_dear,
    quotes,
    strikes_exchanged,
    volatility_in_percent,
    volatility_of_nothing,
    worth_more_than_the_share,
)
from tests.support.records import CHAIN


def rounded(low: float, high: float, places: int) -> st.SearchStrategy[float]:
    """Numbers that their text gives back, so that the settings hold what prices were made of."""
    scale = 10**places
    return st.integers(round(low * scale), round(high * scale)).map(lambda n: n / scale)


@st.composite
def markets(draw: st.DrawFn, exercise: str | None = None) -> Market:
    american = draw(st.booleans()) if exercise is None else exercise == "american"
    days = draw(st.lists(st.integers(1, 700), min_size=1, max_size=2, unique=True))
    step = draw(st.integers(1, 10))
    middle = draw(st.integers(60, 140))
    return Market(
        spot=draw(rounded(60, 140, 2)),
        volatility=draw(rounded(0.03, 1.5, 4)),
        # Without rates and dividends nobody exercises early, so that the formula holds for both.
        rate=0.0 if american else draw(rounded(-0.03, 0.12, 4)),
        dividends=0.0 if american else draw(rounded(0, 0.08, 4)),
        strikes=tuple(middle + step * n for n in range(-2, 3)),
        expiries=tuple(NEXT + timedelta(days=d) for d in sorted(days)),
        width=draw(rounded(0, 0.3, 2)),
        exercise="american" if american else "european",
    )


def at(day: date) -> Snap:
    return parse_instant(f"{day.isoformat()}T21:00:00Z", "snap")


def found(series: Series, *chains: Chain, others: tuple[Chain, ...] = ()) -> set[Fault]:
    """Kinds of what is found in the chains of one source on successive days, beside others' on the last."""
    assert series.structure is not None
    days = (TODAY, NEXT)[-len(chains) :]
    said = [
        Said(at(day), "alpha", series.structure.parse(chain, at(day)), None)
        for day, chain in zip(days, chains, strict=True)
    ]
    last = at(days[-1])
    said += [Said(last, f"other-{n}", series.structure.parse(o, last), None) for n, o in enumerate(others)]
    return {f.kind for f in judge_records(series, said) if f.source == "alpha"}


@given(markets(), rounded(-0.2, 0.2, 3), rounded(0.5, 2, 2))
def test_two_days_of_any_market_are_clean(market: Market, jump: float, change: float) -> None:
    volatility = min(3.0, max(0.02, round(market.volatility * change, 4)))
    later = market._replace(spot=round(market.spot * (1 + jump), 2), volatility=volatility)
    assert found(market.series, market.chain(TODAY), later.chain(NEXT)) == set()


@pytest.mark.parametrize(
    ("put_in", "kind"),
    [
        (calls_dearer, Fault.PARITY),
        (middle_dear, Fault.BUTTERFLY),
        (volatility_in_percent, Fault.GREEKS),
        (volatility_of_nothing, Fault.GREEKS),
        (delta_of_another, Fault.GREEKS),
        (worth_more_than_the_share, Fault.PRICE_BOUNDS),
    ],
)
@given(market=markets("european"))
def test_what_no_market_allows_is_found(
    market: Market, put_in: Callable[[Market, Chain], None], kind: Fault
) -> None:
    chain = market.chain()
    put_in(market, chain)
    assert kind in found(market.series, chain)


@given(markets())
def test_strikes_whose_quotes_were_exchanged_are_found(market: Market) -> None:
    chain, whole = market.chain(), market.chain()
    strikes_exchanged(market, chain)
    calls = [c for c in whole["contracts"] if f"{market.expiries[0]:%y%m%d}C" in c["symbol"]]
    apart = Decimal(calls[0]["bid"]) > Decimal(calls[-1]["ask"])
    assert (Fault.STRIKE_ORDER in found(market.series, chain)) == apart


@given(markets("american"))
def test_expiries_whose_quotes_were_exchanged_are_found(market: Market) -> None:
    chain = market.chain()
    by_expiry = [
        [c for c in chain["contracts"] if f"{expiry:%y%m%d}" in c["symbol"]] for expiry in market.expiries
    ]
    near, far = by_expiry[0], by_expiry[-1]
    apart = any(Decimal(f["bid"]) > Decimal(n["ask"]) for n, f in zip(near, far, strict=True))
    for n, f in zip(near, far, strict=True):
        (n["bid"], n["ask"], f["bid"], f["ask"]) = (f["bid"], f["ask"], n["bid"], n["ask"])
    assert (Fault.CALENDAR_ORDER in found(market.series, chain)) == apart


@given(markets(), st.integers(1, 3), st.sampled_from("CP"))
def test_a_contract_that_stands_still_while_its_neighbours_move_is_found(
    market: Market, place: int, right: str
) -> None:
    before, now = market.chain(TODAY), market._replace(spot=round(market.spot * 1.3, 2)).chain(NEXT)
    ladder = [c["symbol"] for c in now["contracts"] if f"{market.expiries[0]:%y%m%d}{right}" in c["symbol"]]
    quoted, known = quotes(now), quotes(before)
    still = quoted[ladder[place]]
    still["bid"], still["ask"] = (known[ladder[place]][side] for side in ("bid", "ask"))
    sides = [ladder[place - 1], ladder[place + 1]]
    moves = [
        sum(Decimal(quoted[s][side]) - Decimal(known[s][side]) for side in ("bid", "ask")) / 2 for s in sides
    ]
    most = 2 * (Decimal(still["ask"]) - Decimal(still["bid"]))
    far = min(abs(m) for m in moves) > most + CENT and moves[0] * moves[1] > 0
    judged = found(market.series, before, now)
    assert Fault.STALE_CONTRACT in judged or not far


@given(markets(), st.integers(1, 3))
def test_a_strike_that_disappears_is_found_unless_it_was_delisted_for_all(market: Market, place: int) -> None:
    whole = market.chain(NEXT)
    gone = copy.deepcopy(whole)
    symbol = gone["contracts"].pop(2 * place)["symbol"]
    window = {**whole, "contracts": whole["contracts"][2:]}
    before = market.chain(TODAY)
    assert symbol not in quotes(gone)
    assert found(market.series, before, gone) == {Fault.MISSING_STRIKES}
    assert found(market.series, before, gone, others=(whole,)) == {Fault.MISSING_STRIKES}
    assert found(market.series, before, gone, others=(gone,)) == set()
    assert found(market.series, before, window) == set(), "a window of strikes moved on"


def test_contracts_that_expired_are_not_missing() -> None:
    market = Market(
        100.0, 0.2, 0.0, 0.0, (90, 100, 110), (TODAY, NEXT + timedelta(days=30)), 0.02, "european"
    )
    expired = market._replace(expiries=market.expiries[1:])
    before = {**expired.chain(TODAY)}
    before["contracts"] = [
        {"symbol": OptionSymbol("XMPL", TODAY, "C", Decimal(100)).text, "bid": "1.00", "ask": "1.10"},
        *before["contracts"],
    ]
    assert found(market.series, before, expired.chain(NEXT)) == set()


def test_figures_that_ingestion_refuses_are_findings_of_a_file() -> None:
    series = records.series(CHAIN)
    assert series.structure is not None
    for changes, kind in (
        ({"bid": "7.00"}, Fault.CROSSED),
        ({"delta": "1.2"}, Fault.GREEKS),
        ({"gamma": "-0.1"}, Fault.GREEKS),
    ):
        chain = records.chain()
        chain["contracts"][0] |= changes
        with pytest.raises(InvalidInput) as refusal:
            series.structure.parse(chain, at(TODAY))
        (told,) = refused(series, at(TODAY), "alpha", refusal.value) or ()
        assert told.kind is kind
    chain["contracts"][0] |= {"last": "-1"}
    with pytest.raises(InvalidInput) as refusal:
        series.structure.parse(chain, at(TODAY))
    assert refused(series, at(TODAY), "alpha", refusal.value) is None, "more than its figures is wrong"
