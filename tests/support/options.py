"""Options chains of a Black-Scholes market, and what can be wrong with one."""

from __future__ import annotations

from datetime import date
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from math import erf, exp, log, sqrt
from typing import Any, NamedTuple

from qis.domain.kinds.options import OptionSymbol
from qis.domain.series import Series
from tests.support import records
from tests.support.records import CHAIN

TODAY, NEXT = date(2026, 1, 5), date(2026, 1, 6)
CENT = Decimal("0.01")
Chain = dict[str, Any]


class Market(NamedTuple):
    """What a Black-Scholes market consists of."""

    spot: float
    volatility: float
    rate: float
    dividends: float
    strikes: tuple[int, ...]
    expiries: tuple[date, ...]
    width: float
    exercise: str

    @property
    def series(self) -> Series:
        rate, dividends = f"{self.rate:.4f}", f"{self.dividends:.4f}"
        return records.series(CHAIN, exercise=self.exercise, rate=rate, dividend_yield=dividends, slack="0")

    def chain(self, today: date = TODAY) -> Chain:
        contracts = [
            self.contract(today, expiry, strike, right)
            for expiry in self.expiries
            for strike in self.strikes
            for right in "CP"
        ]
        return {"spot": f"{self.spot:.2f}", "contracts": contracts}

    def contract(self, today: date, expiry: date, strike: int, right: str) -> dict[str, Any]:
        """Worked out here, not by the code under test; quotes are the price in between, rounded outwards."""
        years = (expiry - today).days / 365
        sign = 1 if right == "C" else -1
        spread = self.volatility * sqrt(years)
        held, owed = self.spot * exp(-self.dividends * years), strike * exp(-self.rate * years)
        d1 = log(held / owed) / spread + spread / 2
        price = sign * (held * cumulative(sign * d1) - owed * cumulative(sign * (d1 - spread)))
        bid = max(Decimal(0), Decimal(price - self.width).quantize(CENT, ROUND_FLOOR))
        return {
            "symbol": OptionSymbol("XMPL", expiry, right, Decimal(strike)).text,
            "bid": str(bid),
            "ask": str(Decimal(price + self.width).quantize(CENT, ROUND_CEILING)),
            "implied_volatility": f"{self.volatility:.4f}",
            "delta": f"{sign * exp(-self.dividends * years) * cumulative(sign * d1):.4f}",
        }


def cumulative(x: float) -> float:
    return 0.5 * (1 + erf(x / sqrt(2)))


def quotes(chain: Chain) -> dict[str, dict[str, Any]]:
    return {c["symbol"]: c for c in chain["contracts"]}


def moved(contract: dict[str, Any], by: Decimal | str) -> None:
    for side in ("bid", "ask"):
        contract[side] = str(Decimal(contract[side]) + Decimal(by))


def calls_dearer(market: Market, chain: Chain) -> None:
    """All calls of an expiry by more than their spreads: only their puts can tell."""
    expiry = market.expiries[0]
    for contract in chain["contracts"]:
        if f"{expiry:%y%m%d}C" in contract["symbol"]:
            moved(contract, Decimal(str(market.width)) * 4 + 1)


def strikes_exchanged(market: Market, chain: Chain) -> None:
    """The quotes of the lowest and the highest strike."""
    calls = [c for c in chain["contracts"] if f"{market.expiries[0]:%y%m%d}C" in c["symbol"]]
    low, high = calls[0], calls[-1]
    (low["bid"], low["ask"], high["bid"], high["ask"]) = (high["bid"], high["ask"], low["bid"], low["ask"])


def middle_dear(market: Market, chain: Chain) -> None:
    """A contract bid above the mean of the offers on either side."""
    puts = [c for c in chain["contracts"] if f"{market.expiries[0]:%y%m%d}P" in c["symbol"]]
    share = (Decimal(puts[1]["ask"]) + Decimal(puts[3]["ask"])) / 2
    puts[2]["bid"], puts[2]["ask"] = str(share + 1), str(share + 2)


def volatility_in_percent(market: Market, chain: Chain) -> None:
    for contract in chain["contracts"]:
        contract["implied_volatility"] = str(Decimal(contract["implied_volatility"]) * 1000)


def volatility_of_nothing(market: Market, chain: Chain) -> None:
    chain["contracts"][0]["implied_volatility"] = "0"


def delta_of_another(market: Market, chain: Chain) -> None:
    call, put = chain["contracts"][:2]
    call["delta"], put["delta"] = "0.9", "-0.9"


def worth_more_than_the_share(market: Market, chain: Chain) -> None:
    chain["contracts"][0] |= {"bid": str(market.spot * 2), "ask": str(market.spot * 2 + 1)}
