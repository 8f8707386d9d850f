"""Options chains: every contract on an underlying at one snap, and what arbitrage allows of them.

Contracts are named as the Options Clearing Corporation names them (the OCC symbology initiative of 2010):
21 characters, the root padded to 6, the expiry as yymmdd, ``C`` or ``P``, the strike times 1000 in 8 digits.

The bounds are those that a trader could take money from by hitting bids and lifting offers, so they hold
without a model: Merton, "Theory of Rational Option Pricing" (1973), and Hull, "Options, Futures, and Other
Derivatives", chapter on properties of stock options. Prices move by at most ``slack`` between quotes that
are not of exactly the same moment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Context, Decimal
from itertools import pairwise
from typing import Any, NamedTuple

from qis.domain.errors import InvalidInput, Violation, refuse
from qis.domain.kinds.record import Gathered, Leaf, Path, Record, document_of, make_record
from qis.domain.numbers import decimal_text, parse_decimal
from qis.domain.reconciliation import Check
from qis.domain.series import check_choice, check_fields, check_text
from qis.domain.snap import Snap, zone_of

MAX_CONTRACTS = 2_000
_EXACT = Context(prec=80)
_SYMBOL = re.compile(r"([A-Z][A-Z0-9]{0,5}) {0,5}(\d{6})([CP])(\d{8})", re.ASCII)
_ROOT = re.compile(r"[A-Z][A-Z0-9]{0,5}", re.ASCII)
_THOUSAND = Decimal(1000)
_YEAR = Decimal(365)

PRICES = ("bid", "ask", "last")
COUNTS = ("volume", "open_interest")
GREEKS = ("implied_volatility", "delta", "gamma", "theta", "vega")
QUOTED = (*PRICES, *COUNTS, *GREEKS)


class OptionSymbol(NamedTuple):
    """An OCC option symbol taken apart. ``right`` is ``C`` (call) or ``P`` (put)."""

    root: str
    expiry: date
    right: str
    strike: Decimal

    @property
    def text(self) -> str:
        """The 21 characters."""
        strike = int(_EXACT.multiply(self.strike, _THOUSAND))
        return f"{self.root:<6}{self.expiry:%y%m%d}{self.right}{strike:08d}"

    @property
    def order(self) -> tuple[str, date, Decimal, str]:
        """Root, expiry, strike, right: the order of a chain."""
        return self.root, self.expiry, self.strike, self.right


def parse_symbol(text: object, name: str = "symbol") -> OptionSymbol:
    """An OCC symbol; the padding of the root may be left out, as in OPRA feeds.

    Raises:
        InvalidInput: rules ``occ-symbol``, ``occ-expiry``, ``occ-strike``.
    """
    found = _SYMBOL.fullmatch(text) if isinstance(text, str) else None
    if found is None or (" " in found[0] and len(found[0]) != 21):
        said = "is not an OCC symbol: root padded to 6, yymmdd, C or P, strike x 1000 in 8 digits"
        raise refuse(name, text, "occ-symbol", said)
    root, day, right, digits = found.groups()
    try:
        expiry = date(2000 + int(day[:2]), int(day[2:4]), int(day[4:]))
    except ValueError as error:
        raise refuse(name, text, "occ-expiry", f"has no calendar day {day}") from error
    if int(digits) == 0:
        raise refuse(name, text, "occ-strike", "has a strike of zero")
    return OptionSymbol(root, expiry, right, Decimal(int(digits)).scaleb(-3).normalize(_EXACT))


class Quote(NamedTuple):
    """One contract with its two-sided market; ``None`` where a side is not quoted."""

    symbol: OptionSymbol
    bid: Decimal | None
    ask: Decimal | None


class Breach(NamedTuple):
    """One broken bound: by how much, in the currency of the chain, and between which contracts."""

    by: Decimal
    detail: str


@dataclass(frozen=True, slots=True)
class OptionsChain:
    """``Structure`` of chains on one underlying."""

    underlying: str
    roots: tuple[str, ...]
    """OCC roots that belong to the underlying, such as SPX and SPXW."""
    exercise: str
    """``american`` or ``european``."""
    zone: str
    """Zone whose calendar day the expiries are in."""
    slack: Decimal
    """By how much quotes may break a bound before it counts, in the currency of the series."""
    rate: Decimal | None
    """Riskless rate, continuously compounded, for put-call parity; ``None``: parity is not checked."""
    dividend_yield: Decimal | None
    """Of the underlying, continuously compounded; goes with ``rate``."""

    @property
    def elements(self) -> frozenset[str]:
        return frozenset({"contracts"})

    def as_json(self) -> dict[str, Any]:
        return {
            "underlying": self.underlying,
            "roots": list(self.roots),
            "exercise": self.exercise,
            "zone": self.zone,
            "slack": decimal_text(self.slack),
            "rate": None if self.rate is None else decimal_text(self.rate),
            "dividend_yield": None if self.dividend_yield is None else decimal_text(self.dividend_yield),
        }

    def parse(self, given: object, snap: Snap, name: str = "value") -> Record:
        """See ``Structure.parse``. Contracts come out in the order of root, expiry, strike and right."""
        body = check_fields(document_of(given, name), name, {"contracts"}, {"spot"})
        listed = body["contracts"]
        if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_CONTRACTS:
            raise refuse(f"{name}.contracts", "", "count", f"is not a list of 1 to {MAX_CONTRACTS} contracts")
        gathered = Gathered()
        today = snap.local_date(self.zone)
        contracts: dict[OptionSymbol, dict[str, Any]] = {}
        for index, one in enumerate(listed):
            where = f"{name}.contracts[{index}]"
            try:
                symbol, contract = self._contract(one, today, where)
            except InvalidInput as refusal:
                gathered.add(refusal)
                continue
            if symbol in contracts:
                gathered.add(refuse(f"{where}.symbol", symbol.text, "distinct", "is listed more than once"))
            contracts[symbol] = contract
        document: dict[str, Any] = {"contracts": [contracts[s] for s in sorted(contracts, key=_order)]}
        spot = body.get("spot")
        if spot is not None:
            document["spot"] = gathered.take(lambda: _positive(spot, f"{name}.spot"))
        gathered.raise_any()
        return make_record(document)

    def _contract(self, given: object, today: date, where: str) -> tuple[OptionSymbol, dict[str, Any]]:
        body = check_fields(given, where, {"symbol"}, frozenset(QUOTED))
        symbol = parse_symbol(body["symbol"], f"{where}.symbol")
        if symbol.root not in self.roots:
            said = f"is not a root of {self.underlying}: {', '.join(self.roots)}"
            raise refuse(f"{where}.symbol", symbol.text, "chain-root", said)
        if symbol.expiry < today:
            said = f"expired on {symbol.expiry}, before the snap on {today}"
            raise refuse(f"{where}.symbol", symbol.text, "expiry-after-snap", said)
        contract: dict[str, Any] = {"symbol": symbol.text}
        broken: list[Violation] = []
        for key in QUOTED:
            value = body.get(key)
            if value is None:
                continue
            try:
                contract[key] = _quoted(key, value, symbol.right, f"{where}.{key}")
            except InvalidInput as refusal:
                broken += refusal.violations
        bid, ask = contract.get("bid"), contract.get("ask")
        if bid is not None and ask is not None and bid > ask:
            said = f"is above the ask {decimal_text(ask)}"
            broken.append(Violation(f"{where}.bid", decimal_text(bid), "bid-not-above-ask", said))
        if broken:
            raise InvalidInput(*broken)
        return symbol, contract

    def parts(self, record: Record) -> dict[Path, Leaf]:
        """See ``Structure.parts``."""
        found: dict[Path, Leaf] = {}
        if "spot" in record.document:
            found["spot",] = Decimal(record.document["spot"])
        for contract in record.document["contracts"]:
            symbol = contract["symbol"]
            found["contracts", symbol] = symbol
            found |= {("contracts", symbol, k): Decimal(v) for k, v in contract.items() if k != "symbol"}
        return found

    def join(self, parts: Mapping[Path, Leaf]) -> Any:
        """See ``Structure.join``."""
        contracts: dict[str, dict[str, Any]] = {}
        document: dict[str, Any] = {}
        for path, leaf in parts.items():
            if path == ("spot",):
                document["spot"] = leaf
            elif len(path) == 2:
                contracts.setdefault(path[1], {})["symbol"] = leaf
            else:
                contracts.setdefault(path[1], {})[path[2]] = leaf
        return {**document, "contracts": list(contracts.values())}

    def check(self, record: Record, snap: Snap) -> list[Check]:
        """See ``Structure.check``: no bound of the module's description is broken by more than the slack."""
        quotes = [_quote(c) for c in record.document["contracts"]]
        spot = Decimal(record.document["spot"]) if "spot" in record.document else None
        crossed = [
            Breach(_EXACT.subtract(q.bid, q.ask), f"{q.symbol.text} is bid above its ask")
            for q in quotes
            if q.bid is not None and q.ask is not None and q.bid > q.ask
        ]
        found = [_verdict("bid-not-above-ask", crossed, Decimal(0))]
        ladders = list(_ladders(quotes))
        today = snap.local_date(self.zone)

        def spread(ladder: Sequence[Quote]) -> Iterator[Breach]:
            return _spread(ladder, self._most(ladder[0].symbol.expiry, today))

        for name, bound in (
            ("strike-monotone", _monotone),
            ("strike-spread", spread),
            ("butterfly", _butterfly),
        ):
            found.append(_verdict(name, [b for ladder in ladders for b in bound(ladder)], self.slack))
        if self.exercise == "american":
            found.append(_verdict("calendar", list(_calendar(quotes)), self.slack))
        if spot is not None:
            found.append(_verdict("price-bounds", list(self._bounds(quotes, spot, today)), self.slack))
            if self.rate is not None:
                found.append(_verdict("put-call-parity", list(self._parity(quotes, spot, today)), self.slack))
        return found

    def _most(self, expiry: date, today: date) -> Decimal:
        """What a unit paid at the end may be worth now: more than itself where rates are negative."""
        if self.rate is None or self.rate >= 0:
            return Decimal(1)
        return _discount(self.rate, _EXACT.divide(Decimal((expiry - today).days), _YEAR))

    def _bounds(self, quotes: Sequence[Quote], spot: Decimal, today: date) -> Iterator[Breach]:
        """No call is worth more than the underlying and no put more than its strike, paid at the end; and an
        option that can be exercised now is worth no less than exercising it."""
        for symbol, bid, ask in quotes:
            call = symbol.right == "C"
            most = spot if call else _EXACT.multiply(symbol.strike, self._most(symbol.expiry, today))
            if bid is not None and bid > most:
                yield Breach(_EXACT.subtract(bid, most), f"{symbol.text} is bid above {_cents(most)}")
            gain = _EXACT.subtract(spot, symbol.strike)
            intrinsic = gain if call else -gain
            if self.exercise == "american" and ask is not None and ask < intrinsic:
                yield Breach(
                    _EXACT.subtract(intrinsic, ask),
                    f"{symbol.text} is offered below its exercise value {decimal_text(intrinsic)}",
                )

    def _parity(self, quotes: Sequence[Quote], spot: Decimal, today: date) -> Iterator[Breach]:
        """``S e^-qT - K e^-rT`` is what call less put is worth; an early exercise widens it on both sides."""
        assert self.rate is not None
        assert self.dividend_yield is not None
        puts = {(q.symbol.root, q.symbol.expiry, q.symbol.strike): q for q in quotes if q.symbol.right == "P"}
        for call in quotes:
            symbol = call.symbol
            put = puts.get((symbol.root, symbol.expiry, symbol.strike))
            if symbol.right != "C" or put is None:
                continue
            years = _EXACT.divide(Decimal((symbol.expiry - today).days), _YEAR)
            held = _EXACT.multiply(spot, _discount(self.dividend_yield, years))
            owed = _EXACT.multiply(symbol.strike, _discount(self.rate, years))
            low = high = _EXACT.subtract(held, owed)
            if self.exercise == "american":
                low = min(low, _EXACT.subtract(held, symbol.strike))
                high = max(high, _EXACT.subtract(spot, owed))
            pair = f"{symbol.text} less {put.symbol.text}"
            if call.bid is not None and put.ask is not None:
                gained = _EXACT.subtract(call.bid, put.ask)
                if gained > high:
                    yield Breach(_EXACT.subtract(gained, high), f"{pair} is bid above {_cents(high)}")
            if call.ask is not None and put.bid is not None:
                paid = _EXACT.subtract(call.ask, put.bid)
                if paid < low:
                    yield Breach(_EXACT.subtract(low, paid), f"{pair} is offered below {_cents(low)}")


def parse_chain(given: object, where: str) -> OptionsChain:
    """The settings of a series of chains.

    Raises:
        InvalidInput: naming field, value and rule.
    """
    body = check_fields(
        given, where, {"underlying", "exercise"}, {"roots", "zone", "slack", "rate", "dividend_yield"}
    )
    underlying = check_text(body["underlying"], f"{where}.underlying", 64)
    roots = body.get("roots") or [underlying]
    if not isinstance(roots, list) or len({str(r) for r in roots}) != len(roots):
        raise refuse(f"{where}.roots", roots, "distinct-list", "is not a list of distinct roots")
    for root in roots:
        if not isinstance(root, str) or not _ROOT.fullmatch(root):
            raise refuse(f"{where}.roots", root, "occ-root", "is not a letter and up to 5 letters or digits")
    zone = body.get("zone") or "America/New_York"
    if not isinstance(zone, str):
        raise refuse(f"{where}.zone", zone, "iana-zone", "is not an IANA time zone")
    zone_of(zone)
    slack = parse_decimal(body.get("slack") or "0", f"{where}.slack")
    if slack < 0:
        raise refuse(f"{where}.slack", str(slack), "not-negative", "is negative")
    rate, dividends = body.get("rate"), body.get("dividend_yield")
    if rate is None and dividends is not None:
        raise refuse(f"{where}.rate", "", "required", "is required with dividend_yield")
    return OptionsChain(
        underlying,
        tuple(roots),
        check_choice(body["exercise"], f"{where}.exercise", ("american", "european")),
        zone,
        slack,
        None if rate is None else _annual(rate, f"{where}.rate"),
        None if rate is None else _annual(dividends or "0", f"{where}.dividend_yield"),
    )


def _annual(value: object, name: str) -> Decimal:
    number = parse_decimal(value, name)
    if not -1 <= number <= 1:
        raise refuse(name, str(number), "fraction", "is not a yearly rate from -1 to 1, such as 0.04")
    return number


def _quoted(key: str, value: object, right: str, name: str) -> Decimal:
    number = parse_decimal(value, name)
    if key == "delta":
        low, high = (Decimal(0), Decimal(1)) if right == "C" else (Decimal(-1), Decimal(0))
        if not low <= number <= high:
            kind = "call" if right == "C" else "put"
            raise refuse(name, str(number), "delta-range", f"the delta of a {kind} is from {low} to {high}")
    elif key != "theta" and number < 0:
        raise refuse(name, str(number), "not-negative", "is negative")
    if key in COUNTS and number != number.to_integral_value():
        raise refuse(name, str(number), "whole-number", "is not a whole number of contracts")
    return number


def _positive(value: object, name: str) -> Decimal:
    number = parse_decimal(value, name)
    if number <= 0:
        raise refuse(name, str(number), "positive", "is not greater than zero")
    return number


def _order(symbol: OptionSymbol) -> tuple[str, date, Decimal, str]:
    return symbol.order


def _quote(contract: Mapping[str, Any]) -> Quote:
    bid, ask = contract.get("bid"), contract.get("ask")
    return Quote(
        parse_symbol(contract["symbol"]),
        None if bid is None else Decimal(bid),
        None if ask is None else Decimal(ask),
    )


def _ladders(quotes: Iterable[Quote]) -> Iterator[list[Quote]]:
    """Quotes of one root, expiry and right, by strike."""
    found: dict[tuple[str, date, str], list[Quote]] = {}
    for quote in quotes:
        symbol = quote.symbol
        found.setdefault((symbol.root, symbol.expiry, symbol.right), []).append(quote)
    for ladder in found.values():
        yield sorted(ladder, key=lambda q: q.symbol.strike)


def _monotone(ladder: Sequence[Quote]) -> Iterator[Breach]:
    """Calls are worth no more at a higher strike, puts no less: none is bid above the cheapest offer of a
    better one."""
    better = ladder if ladder[0].symbol.right == "C" else list(reversed(ladder))
    cheapest: Quote | None = None
    for quote in better:
        if quote.bid is not None and cheapest is not None and cheapest.ask is not None:
            by = _EXACT.subtract(quote.bid, cheapest.ask)
            if by > 0:
                yield Breach(by, f"{quote.symbol.text} is bid above the ask of {cheapest.symbol.text}")
        if quote.ask is not None and (cheapest is None or cheapest.ask is None or quote.ask < cheapest.ask):
            cheapest = quote


def _spread(ladder: Sequence[Quote], unit: Decimal) -> Iterator[Breach]:
    """Two strikes differ in price by no more than the strikes do, of which ``unit`` is the worth of one."""
    for low, high in pairwise(ladder):
        dear, cheap = (low, high) if low.symbol.right == "C" else (high, low)
        if dear.bid is None or cheap.ask is None:
            continue
        width = _EXACT.multiply(_EXACT.subtract(high.symbol.strike, low.symbol.strike), unit)
        by = _EXACT.subtract(_EXACT.subtract(dear.bid, cheap.ask), width)
        if by > 0:
            pair = f"{dear.symbol.text} less {cheap.symbol.text}"
            yield Breach(by, f"{pair} is bid above the {_cents(width)} between their strikes")


def _butterfly(ladder: Sequence[Quote]) -> Iterator[Breach]:
    """Prices are convex in the strike: the middle of three is worth no more than its share of the wings.

    Strikes that lack the side that is needed are passed over, so the three are the nearest that have it.
    """
    offered = [q for q in ladder if q.ask is not None]
    for middle in ladder:
        if middle.bid is None:
            continue
        strike = middle.symbol.strike
        lower = next((q for q in reversed(offered) if q.symbol.strike < strike), None)
        upper = next((q for q in offered if q.symbol.strike > strike), None)
        if lower is None or upper is None or lower.ask is None or upper.ask is None:
            continue
        width = _EXACT.subtract(upper.symbol.strike, lower.symbol.strike)
        left = _EXACT.multiply(lower.ask, _EXACT.subtract(upper.symbol.strike, strike))
        right = _EXACT.multiply(upper.ask, _EXACT.subtract(strike, lower.symbol.strike))
        by = _EXACT.subtract(middle.bid, _EXACT.divide(_EXACT.add(left, right), width))
        if by > 0:
            wings = f"{lower.symbol.text} and {upper.symbol.text}"
            yield Breach(by, f"{middle.symbol.text} is bid above its share of the asks of {wings}")


def _calendar(quotes: Iterable[Quote]) -> Iterator[Breach]:
    """An option that can be exercised at any time is worth no more than one that lives longer."""
    found: dict[tuple[str, Decimal, str], list[Quote]] = {}
    for quote in quotes:
        found.setdefault((quote.symbol.root, quote.symbol.strike, quote.symbol.right), []).append(quote)
    for lives in found.values():
        lives.sort(key=lambda q: q.symbol.expiry)
        for near, far in pairwise(lives):
            if near.bid is not None and far.ask is not None and near.bid > far.ask:
                by = _EXACT.subtract(near.bid, far.ask)
                yield Breach(by, f"{near.symbol.text} is bid above the ask of {far.symbol.text}")


def _verdict(name: str, breaches: Sequence[Breach], slack: Decimal) -> Check:
    """One check: the worst breach against the slack, with the first few that are worse than it."""
    counted = sorted((b for b in breaches if b.by > slack), key=lambda b: (-b.by, b.detail))
    worst = max((b.by for b in breaches), default=Decimal(0))
    told = "; ".join(f"{b.detail}, by {_cents(b.by)}" for b in counted[:3])
    more = f"; and {len(counted) - 3} more" if len(counted) > 3 else ""
    return Check(name, not counted, _cents(worst), decimal_text(slack), told + more or "no bound is broken")


def _discount(rate: Decimal, years: Decimal) -> Decimal:
    return Context(prec=34).exp(_EXACT.multiply(-rate, years))


def _cents(number: Decimal) -> str:
    """A measure of evidence, to six decimals at most."""
    return decimal_text(_EXACT.quantize(number, Decimal("0.000001")).normalize(_EXACT)) if number else "0"
