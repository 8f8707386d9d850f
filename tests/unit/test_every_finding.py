"""What ``qis detect`` finds in a file, the running system finds when its claims arrive, of every kind."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from qis.application.detection import Arrived, detect
from qis.domain.claims import parse_claim
from qis.domain.detection import DetectionRules, Fault, Observation
from qis.domain.kinds.record import Record
from qis.domain.series import Kind, Series, parse_series
from qis.domain.snap import NANOS, Snap
from tests.support import records
from tests.support.builders import FIRST, SOURCES, catalogue, series_body
from tests.support.options import (
    NEXT,
    TODAY,
    Chain,
    Market,
    calls_dearer,
    middle_dear,
    quotes,
    strikes_exchanged,
    volatility_of_nothing,
    worth_more_than_the_share,
)
from tests.support.records import ACTION, CHAIN
from tests.support.spine import NOW, Spine

SHARE = "EQ.XMPL"
DAYS, FAULTY = 130, 100
Body = dict[str, Any]
Table = list[dict[str, Decimal]]
"""Values by source, a row a day."""


class Story(NamedTuple):
    """Series, and claims on them in the order of their arrival."""

    series: Sequence[Series]
    claims: Sequence[Body]


def share() -> Series:
    """A share's price; any instant is a snap, so that a claim may come at an odd hour."""
    body = series_body(SHARE)
    semantics = {"price_type": "close", "timing": "point_in_time", "currency": "USD"}
    return parse_series({**body, "kind": Kind.PRICE.value, "semantics": semantics})


def walk(seed: int = 1) -> Table:
    """Four sources that follow a share of about 200, a cent or two apart."""
    numbers = random.Random(seed)
    value, rows = 200.0, []
    for _ in range(DAYS):
        value *= 1 + numbers.gauss(0, 0.006)
        spoken = {s: value * (1 + numbers.gauss(0, 0.00008)) for s in SOURCES}
        rows.append({s: Decimal(f"{v:.2f}") for s, v in spoken.items()})
    return rows


def at(day: float) -> Snap:
    return Snap(FIRST.ns + int(day * 86_400) * NANOS)


def body(day: float, source: str, value: Decimal | str, **more: Any) -> Body:
    snap = at(day)
    received = Snap(snap.ns + 300 * NANOS).text
    named = {"snap": snap.text, "reference_data_id": SHARE, "source": source, "value": str(value)}
    return {**named, "received_at": received, "volume": "1000", **more}


def bodies(table: Table) -> list[Body]:
    return [body(day, s, v) for day, row in enumerate(table) for s, v in row.items()]


def wrong(
    change: Callable[[Decimal], Decimal], days: int = 1, sources: Sequence[str] = SOURCES
) -> Callable[[], Story]:
    """The first of the sources is wrong from the faulty day on."""

    def story() -> Story:
        table = [{s: row[s] for s in sources} for row in walk()]
        for row in table[FAULTY : FAULTY + days]:
            row[sources[0]] = change(row[sources[0]])
        return Story([share()], bodies(table))

    return story


def times(factor: str) -> Callable[[Decimal], Decimal]:
    return lambda value: (value * Decimal(factor)).quantize(Decimal("0.0001"))


def fat_finger(value: Decimal) -> Decimal:
    """The second digit is another one: 203.10 becomes 263.10."""
    text = str(value)
    return Decimal(f"{text[0]}{(int(text[1]) + 6) % 10}{text[2:]}")


def transposed(value: Decimal) -> Decimal:
    """Two digits before the point change places, the pair whose exchange changes the value most."""
    digits = str(value)
    exchanged = [f"{digits[:i]}{digits[i + 1]}{digits[i]}{digits[i + 2 :]}" for i in range(2)]
    return max((Decimal(e) for e in exchanged if e[0] != "0"), key=lambda e: abs(e - value))


def stale() -> Story:
    table = walk()
    for row in table[FAULTY : FAULTY + 15]:
        row[SOURCES[0]] = table[FAULTY - 1][SOURCES[0]]
    return Story([share()], bodies(table))


def a_day_late() -> Story:
    table, source = walk(), SOURCES[0]
    values = [row[source] for row in table]
    for day in range(FAULTY, DAYS):
        table[day][source] = values[day - 1]
    return Story([share()], bodies(table))


def odd_hour() -> Story:
    table = walk()
    claims = bodies(table)
    moved = body(FAULTY + 0.25, SOURCES[0], table[FAULTY][SOURCES[0]])
    place = claims.index(body(FAULTY, SOURCES[0], table[FAULTY][SOURCES[0]]))
    return Story([share()], [*claims[:place], *claims[place + 1 : place + 4], moved, *claims[place + 4 :]])


def absent() -> Story:
    table = walk()
    del table[FAULTY][SOURCES[0]]
    return Story([share()], bodies(table))


def arriving(fault: Fault) -> Callable[[], Story]:
    """One source, and an arrival of the kind."""

    def story() -> Story:
        source = SOURCES[0]
        claims = [body(day, source, row[source], currency="USD") for day, row in enumerate(walk())]
        faulty, later = claims[FAULTY], at(FAULTY + 1).text
        if fault is Fault.DUPLICATE:
            claims.insert(FAULTY + 1, {**faulty, "received_at": later})
        elif fault is Fault.OUT_OF_ORDER:
            claims.insert(FAULTY + 3, claims.pop(FAULTY))
            claims[FAULTY + 3] = {**faulty, "received_at": at(FAULTY + 3.5).text}
        elif fault is Fault.RECEPTION:
            claims[FAULTY] = {**faulty, "received_at": "2099-01-01T00:00:00Z"}
        elif fault is Fault.FUTURE:
            claims[FAULTY] = {**faulty, "received_at": at(FAULTY - 1).text}
        else:
            del faulty["currency"]
        return Story([share()], claims)

    return story


def volume() -> Story:
    claims = bodies(walk())
    numbers = random.Random(3)
    for claim in claims:
        claim["volume"] = f"{numbers.lognormvariate(9, 0.3):.0f}"
    claims[FAULTY * len(SOURCES)]["volume"] = "98765432100"
    return Story([share()], claims)


MARKET = Market(
    100.0, 0.3, 0.02, 0.01, (90, 95, 100, 105, 110), (NEXT + timedelta(days=40),), 0.05, "european"
)


def chain_body(day: date, chain: Chain, source: str = SOURCES[0]) -> Body:
    return {
        "snap": f"{day}T21:00:00Z",
        "reference_data_id": CHAIN,
        "source": source,
        "value": chain,
        "received_at": f"{day}T21:05:00Z",
    }


def chain_with(put_in: Callable[[Market, Chain], None], market: Market = MARKET) -> Callable[[], Story]:
    def story() -> Story:
        chain = market.chain()
        put_in(market, chain)
        return Story([market.series], [chain_body(TODAY, chain)])

    return story


def expiries_exchanged(market: Market, chain: Chain) -> None:
    """The quotes of the two expiries."""
    half = len(chain["contracts"]) // 2
    for near, far in zip(chain["contracts"][:half], chain["contracts"][half:], strict=True):
        for side in ("bid", "ask"):
            near[side], far[side] = far[side], near[side]


def crossed(market: Market, chain: Chain) -> None:
    first = chain["contracts"][0]
    first["bid"], first["ask"] = first["ask"], first["bid"]


TWO_EXPIRIES = MARKET._replace(
    expiries=(NEXT + timedelta(days=20), NEXT + timedelta(days=400)),
    rate=0.0,
    dividends=0.0,
    exercise="american",
)


def stale_contract() -> Story:
    before, now = MARKET.chain(TODAY), MARKET._replace(spot=125.0).chain(NEXT)
    calls = [s for s in quotes(now) if s[12] == "C"]
    still, known = quotes(now)[calls[2]], quotes(before)[calls[2]]
    still["bid"], still["ask"] = known["bid"], known["ask"]
    return Story([MARKET.series], [chain_body(TODAY, before), chain_body(NEXT, now)])


def missing_strike() -> Story:
    now = MARKET.chain(NEXT)
    now["contracts"].pop(4)
    return Story([MARKET.series], [chain_body(TODAY, MARKET.chain()), chain_body(NEXT, now)])


def split(ratio: str = "2-for-1", day: int = FAULTY, **more: Any) -> Body:
    on = at(day).text[:10]
    return {"type": "split", "ratio": ratio, "announced": at(day - 30).text[:10], "ex_date": on, **more}


def action_body(source: str, document: Body, day: int = FAULTY, received: int = 0) -> Body:
    return {
        "snap": at(day).text,
        "reference_data_id": ACTION,
        "source": source,
        "value": document,
        "received_at": at(day + received).text,
    }


def actions(*claims: Body) -> Callable[[], Story]:
    """Corporate actions alone."""
    return lambda: Story([records.series(ACTION)], claims)


def beside_prices(factor: str, *claims: Body) -> Callable[[], Story]:
    """Corporate actions, and prices that step on the faulty day."""

    def story() -> Story:
        table = walk()
        for row in table[FAULTY:]:
            for source in row:
                row[source] = (row[source] * Decimal(factor)).quantize(Decimal("0.01"))
        # The actions first: a declaration precedes what it explains.
        return Story([records.series(ACTION, prices=[SHARE]), share()], [*claims, *bodies(table)])

    return story


STORIES: dict[Fault, Callable[[], Story]] = {
    Fault.SPIKE: wrong(times("1.37")),
    Fault.FAT_FINGER: wrong(fat_finger, sources=SOURCES[:1]),
    Fault.DECIMAL_SHIFT: wrong(times("10")),
    Fault.SCALE: wrong(times("1000")),
    Fault.SIGN: wrong(lambda v: -v),
    Fault.ZERO: wrong(lambda _: Decimal(0)),
    Fault.TRANSPOSITION: wrong(transposed, sources=SOURCES[:1]),
    Fault.CURRENCY: wrong(lambda v: (1 / v).quantize(Decimal("0.0000001"))),
    Fault.UNIT: wrong(times("31.1035")),
    Fault.STALE: stale,
    Fault.LEVEL_SHIFT: wrong(times("1.03"), days=20),
    Fault.BIAS: wrong(times("1.0015"), days=30),
    Fault.DATE_SHIFT: a_day_late,
    Fault.TIME_SHIFT: odd_hour,
    Fault.DUPLICATE: arriving(Fault.DUPLICATE),
    Fault.OUT_OF_ORDER: arriving(Fault.OUT_OF_ORDER),
    Fault.FUTURE: arriving(Fault.FUTURE),
    Fault.RECEPTION: arriving(Fault.RECEPTION),
    Fault.MISSING: absent,
    Fault.SCHEMA: arriving(Fault.SCHEMA),
    Fault.VOLUME: volume,
    Fault.PARITY: chain_with(calls_dearer),
    Fault.STRIKE_ORDER: chain_with(strikes_exchanged),
    Fault.BUTTERFLY: chain_with(middle_dear),
    Fault.CALENDAR_ORDER: chain_with(expiries_exchanged, TWO_EXPIRIES),
    Fault.PRICE_BOUNDS: chain_with(worth_more_than_the_share),
    Fault.GREEKS: chain_with(volatility_of_nothing),
    Fault.STALE_CONTRACT: stale_contract,
    Fault.MISSING_STRIKES: missing_strike,
    Fault.ACTION_CONFLICT: actions(
        *(action_body(s, split()) for s in SOURCES[:2]), action_body(SOURCES[2], split("3-for-1"))
    ),
    Fault.ACTION_REPEATED: actions(
        action_body(SOURCES[0], split()), action_body(SOURCES[0], split(day=FAULTY + 3), FAULTY + 3)
    ),
    Fault.ACTION_UNDATED: actions(action_body(SOURCES[0], split(), received=-40)),
    Fault.ACTION_NOT_APPLIED: beside_prices("1", action_body(SOURCES[0], split())),
    Fault.CANCELLED_APPLIED: beside_prices("0.5", action_body(SOURCES[0], split(lifecycle="D"))),
    Fault.UNDECLARED_SPLIT: beside_prices("0.5", action_body(SOURCES[0], split(day=20), 20)),
}

REFUSED = {Fault.CROSSED: (chain_with(crossed), "bid-not-above-ask")}
"""Kinds that ingestion refuses: a file may hold them, the log never does."""


def offline(story: Story) -> set[tuple[str, str, str]]:
    """What a file of the claims gives."""
    of = {s.reference_data_id: s for s in story.series}
    claims = [parse_claim(c, of, dict.fromkeys(SOURCES, True)) for c in story.claims]
    numbers = [
        Arrived(
            c.reference_data_id,
            c.snap.ns,
            Observation(
                c.source,
                c.value,
                c.volume,
                c.received_at and c.received_at.ns,
                c.currency,
                c.unit,
                Snap.of(NOW).ns,
            ),
        )
        for c in claims
        if isinstance(c.value, Decimal)
    ]
    found = detect(numbers, DetectionRules(), of, [c for c in claims if isinstance(c.value, Record)])
    return {(f.kind.value, Snap(f.since_ns).text, f.source) for f in found}


def running(story: Story) -> Spine:
    """The running system, after the claims have arrived."""
    rule_sets = [records.rules(rules="fx"), records.rules()]
    spine = Spine(catalogue(story.series, rule_sets))
    spine.deliver(story.claims)
    return spine


def kinds(findings: Iterable[tuple[str, str, str]], kind: Fault) -> set[tuple[str, str]]:
    return {(snap, source) for name, snap, source in findings if name == kind.value}


def test_every_kind_has_a_story() -> None:
    assert STORIES.keys() | REFUSED.keys() == set(Fault)


@pytest.mark.parametrize("kind", STORIES)
def test_a_finding_of_a_file_is_an_exception_of_the_running_system(kind: Fault) -> None:
    story = STORIES[kind]()
    in_the_file = kinds(offline(story), kind)
    assert in_the_file
    assert kinds(running(story).open(), kind) == in_the_file


@pytest.mark.parametrize("kind", REFUSED)
def test_what_ingestion_refuses_is_dead_lettered_with_the_rule(kind: Fault) -> None:
    make, rule = REFUSED[kind]
    (letter,) = running(make()).letters.letters
    assert rule in letter.reason
