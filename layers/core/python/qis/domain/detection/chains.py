"""What one source's options chain says against itself, and against its chain of the snap before.

The bounds of arbitrage are those of the kind (``qis.domain.kinds.options``: R. C. Merton, "Theory of Rational
Option Pricing", 1973), here held against every source's own claim and not against what became official.
Volatilities are held against their quotes by F. Black and M. Scholes, "The Pricing of Options and Corporate
Liabilities" (1973), with Merton's dividend yield.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from itertools import groupby
from math import erf, exp, log, sqrt
from typing import Any, NamedTuple

from qis.domain.detection.judgement import Action, Fault
from qis.domain.detection.stream import Suspicion
from qis.domain.kinds.options import OptionsChain, OptionSymbol, parse_symbol
from qis.domain.kinds.record import Record
from qis.domain.snap import Snap

BOUNDS = {
    "bid-not-above-ask": Fault.CROSSED,
    "strike-monotone": Fault.STRIKE_ORDER,
    "strike-spread": Fault.STRIKE_ORDER,
    "butterfly": Fault.BUTTERFLY,
    "calendar": Fault.CALENDAR_ORDER,
    "price-bounds": Fault.PRICE_BOUNDS,
    "put-call-parity": Fault.PARITY,
}
"""The checks of the kind, and what a source that fails one has done."""
REFUSALS = {
    "bid-not-above-ask": Fault.CROSSED,
    "delta-range": Fault.GREEKS,
    "not-negative": Fault.GREEKS,
}
"""Rules for which ingestion refuses a chain that are findings about its figures."""

HIGHEST_VOLATILITY = 5.0
"""A year's volatility of 500 %: more is another unit."""
VOLATILITY_APART = 0.02
"""Absolute and, of the volatility itself, relative distance from that of the quotes, which day counts and
rates of the day explain."""
VOLATILITY_SHARE = 0.1
DELTA_APART = 0.1
"""How far a call's delta less its put's may lie from what parity says: their volatilities may differ."""
SHORTEST_DAYS = 7
"""Life of a contract below which the hour of the day decides on its volatility."""
_FLOAT = 1e-9
"""What a price worked out in floats may be off, of the underlying."""
_SURE = 0.9
_ODD = 0.5
_SHOWN = 3


class _Contract(NamedTuple):
    """A contract with its figures as floats; ``None`` where one is not given."""

    symbol: OptionSymbol
    bid: float | None
    ask: float | None
    given: Mapping[str, Any]

    def figure(self, name: str) -> float | None:
        value = self.given.get(name)
        return None if value is None else float(value)


def judge_chain(
    structure: OptionsChain,
    snap: Snap,
    record: Record,
    before: Record | None,
    others: Collection[frozenset[str]],
) -> list[Suspicion]:
    """What speaks against a source's chain.

    Args:
        before: its chain of the snap before, if it gave one.
        others: symbols that each of the other sources lists at this snap.
    """
    found = _bounds(structure, snap, record)
    today = snap.local_date(structure.zone)
    contracts = _contracts(record)
    spot = record.document.get("spot")
    impossible = list(_impossible(structure, contracts, None if spot is None else float(spot), today))
    if impossible:
        found.append(_told(Fault.GREEKS, Action.QUARANTINE, _SURE, snap, record, impossible, "possible"))
    if before is None:
        return found
    earlier = _contracts(before)
    stale = list(_stale(contracts, {c.symbol: c for c in earlier}, float(structure.slack)))
    if stale:
        said = "a contract moves with those beside it"
        found.append(_told(Fault.STALE_CONTRACT, Action.FLAG, _ODD, snap, record, stale, said))
    missing = list(_missing([c.symbol for c in contracts], [c.symbol for c in earlier], others, today))
    if missing:
        said = "listed, as at the snap before"
        found.append(_told(Fault.MISSING_STRIKES, Action.FLAG, _ODD, snap, record, missing, said))
    return found


def symbols_of(record: Record) -> frozenset[str]:
    """The contracts that a chain lists."""
    return frozenset(c["symbol"] for c in record.document["contracts"])


def _bounds(structure: OptionsChain, snap: Snap, record: Record) -> list[Suspicion]:
    """One suspicion for each bound of the kind that is broken; of two for one fault, the first."""
    found: dict[Fault, Suspicion] = {}
    for check in structure.check(record, snap):
        if not check.passed:
            kind = BOUNDS[check.check]
            said = f"{check.measured}: {check.detail}"
            one = Suspicion(
                kind, _SURE, Action.QUARANTINE, snap.ns, record.digest, "", said, f"slack {check.threshold}"
            )
            found.setdefault(kind, one)
    return list(found.values())


def _told(
    kind: Fault,
    action: Action,
    score: float,
    snap: Snap,
    record: Record,
    said: Sequence[str],
    threshold: str,
) -> Suspicion:
    more = f"; and {len(said) - _SHOWN} more" if len(said) > _SHOWN else ""
    measured = f"{len(said)}: {'; '.join(said[:_SHOWN])}{more}"
    return Suspicion(kind, score, action, snap.ns, record.digest, "", measured, threshold)


def _contracts(record: Record) -> list[_Contract]:
    found = []
    for given in record.document["contracts"]:
        bid, ask = given.get("bid"), given.get("ask")
        found.append(
            _Contract(
                parse_symbol(given["symbol"]),
                None if bid is None else float(bid),
                None if ask is None else float(ask),
                given,
            )
        )
    return found


# Greeks and volatilities


def _impossible(
    structure: OptionsChain, contracts: Sequence[_Contract], spot: float | None, today: date
) -> Iterator[str]:
    for contract in contracts:
        volatility = contract.figure("implied_volatility")
        if volatility is None:
            continue
        if not 0.0 < volatility <= HIGHEST_VOLATILITY:
            limit = f"above 0 and up to {HIGHEST_VOLATILITY:g}"
            yield f"{contract.symbol.text} has a volatility of {volatility:g}, {limit} is possible"
        elif spot is not None:
            yield from _against_quotes(structure, contract, spot, volatility, today)
    if structure.exercise == "european" and structure.dividend_yield is not None:
        yield from _deltas(contracts, float(structure.dividend_yield), today)


def _against_quotes(
    structure: OptionsChain, contract: _Contract, spot: float, volatility: float, today: date
) -> Iterator[str]:
    """Whether the volatility, give or take, is that of the quotes. An option that can be exercised early is
    worth no less than one that cannot, so of it only a volatility that is too high is known."""
    days = (contract.symbol.expiry - today).days
    if structure.rate is None or structure.dividend_yield is None or days < SHORTEST_DAYS:
        return
    apart = VOLATILITY_APART + VOLATILITY_SHARE * volatility
    slack = float(structure.slack) + _FLOAT * spot
    carried = (spot, days / 365, float(structure.rate), float(structure.dividend_yield))
    least = black_scholes(contract.symbol, *carried, volatility - apart)
    most = black_scholes(contract.symbol, *carried, volatility + apart)
    if contract.ask is not None and least > contract.ask + slack:
        said = f"is worth {least:.4g} or more, offered at {contract.ask:g}"
    elif structure.exercise == "european" and contract.bid is not None and most < contract.bid - slack:
        said = f"is worth {most:.4g} or less, bid at {contract.bid:g}"
    else:
        return
    yield f"{contract.symbol.text} with a volatility of {volatility:g} {said}"


def _deltas(contracts: Sequence[_Contract], dividends: float, today: date) -> Iterator[str]:
    """A call less its put is a forward, whatever the model: their deltas differ by ``e^-qT``."""
    puts = {c.symbol._replace(right="C"): c.figure("delta") for c in contracts if c.symbol.right == "P"}
    for call in contracts:
        delta, put = call.figure("delta"), puts.get(call.symbol)
        if call.symbol.right != "C" or delta is None or put is None:
            continue
        wanted = exp(-dividends * (call.symbol.expiry - today).days / 365)
        if abs(delta - put - wanted) > DELTA_APART:
            said = f"a delta of {delta:g}, its put of {put:g}"
            yield f"{call.symbol.text} has {said}: they differ by {wanted:.3g} in theory"


def black_scholes(
    symbol: OptionSymbol, spot: float, years: float, rate: float, dividends: float, volatility: float
) -> float:
    """Price of a European option; with a volatility of zero or less its bound."""
    held, owed = spot * exp(-dividends * years), float(symbol.strike) * exp(-rate * years)
    sign = 1.0 if symbol.right == "C" else -1.0
    spread = volatility * sqrt(years)
    if spread <= 0.0:
        return max(0.0, sign * (held - owed))
    d1 = log(held / owed) / spread + spread / 2
    return sign * (held * _normal(sign * d1) - owed * _normal(sign * (d1 - spread)))


def _normal(x: float) -> float:
    return 0.5 * (1.0 + erf(x / sqrt(2.0)))


# Beside the snap before


def _stale(
    contracts: Sequence[_Contract], before: Mapping[OptionSymbol, _Contract], slack: float
) -> Iterator[str]:
    """Contracts that are quoted as they were while both neighbours in strike moved the same way by more than
    the contract's own spread: its price lies between theirs, and so does its move."""
    for ladder in _ladders(contracts):
        moves = [_move(c, before.get(c.symbol)) for c in ladder]
        for i in range(1, len(ladder) - 1):
            below, above, quoted = moves[i - 1], moves[i + 1], ladder[i]
            if below is None or above is None or moves[i] is None:
                continue
            if not _same(quoted, before[quoted.symbol]):
                continue
            assert quoted.bid is not None
            assert quoted.ask is not None
            most = 2.0 * (quoted.ask - quoted.bid) + slack
            if below * above > 0 and min(abs(below), abs(above)) > most:
                moved = f"{below:+.4g} and {above:+.4g}"
                yield f"{quoted.symbol.text} stood still, those beside it moved {moved}"


def _same(one: _Contract, other: _Contract) -> bool:
    return all(one.given.get(name) == other.given.get(name) for name in ("bid", "ask", "last"))


def _move(now: _Contract, before: _Contract | None) -> float | None:
    """By how much the middle of the quotes moved; ``None`` where one of the four is not there."""
    if before is None or None in (now.bid, now.ask, before.bid, before.ask):
        return None
    assert now.bid is not None
    assert now.ask is not None
    assert before.bid is not None
    assert before.ask is not None
    return (now.bid + now.ask - before.bid - before.ask) / 2


def _missing(
    now: Sequence[OptionSymbol],
    before: Sequence[OptionSymbol],
    others: Collection[frozenset[str]],
    today: date,
) -> Iterator[str]:
    """Contracts that were listed, live, and are listed no longer: where others still list them, and where no
    other source is there, between strikes that stayed. A vendor's window of strikes that follows the
    underlying loses those at its ends, an exchange delists for all."""
    strikes: dict[tuple[str, date, str], list[Decimal]] = {}
    for symbol in now:
        strikes.setdefault((symbol.root, symbol.expiry, symbol.right), []).append(symbol.strike)
    listed = set(now)
    for symbol in before:
        if symbol in listed or symbol.expiry < today:
            continue
        if others:
            by = sum(symbol.text in one for one in others)
            if by:
                yield f"{symbol.text}, listed by {by} other{'s' if by > 1 else ''}"
            continue
        kept = strikes.get((symbol.root, symbol.expiry, symbol.right), ())
        if any(k < symbol.strike for k in kept) and any(k > symbol.strike for k in kept):
            yield f"{symbol.text}, between strikes that are listed"


def _ladders(contracts: Sequence[_Contract]) -> Iterator[list[_Contract]]:
    """Contracts of one root, expiry and right, by strike."""
    for _, ladder in groupby(sorted(contracts, key=lambda c: (*_ladder(c), c.symbol.strike)), key=_ladder):
        yield list(ladder)


def _ladder(contract: _Contract) -> tuple[str, date, str]:
    symbol = contract.symbol
    return symbol.root, symbol.expiry, symbol.right
