"""Corporate actions: what explains a step of prices, what does not, and what speaks against an action itself;
the same in the running system, however things arrive, as in a file."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from qis.application.claimed_records import ClaimedRecords
from qis.application.detection import Arrived, detect
from qis.application.detectors import Detectors
from qis.application.quality import Quality
from qis.application.record_detectors import RecordDetectors
from qis.application.relay import backbone_record
from qis.domain import events as ev
from qis.domain.claims import Claim, parse_claim
from qis.domain.detection import DetectionRules, Fault, Found, Observation
from qis.domain.detection.actions import Declared, split_of
from qis.domain.detection.records import refused
from qis.domain.errors import InvalidInput
from qis.domain.kinds.record import Record, value_text
from qis.domain.series import Series, parse_series
from qis.domain.snap import Snap
from tests.support import records
from tests.support.builders import SOURCES, append, catalogue, ingested, reconciled
from tests.support.fakes import (
    FixedCatalogue,
    MemoryDetectorStates,
    MemoryEventStore,
    MemoryFacts,
    open_exceptions,
)
from tests.support.records import ACTION

PRICE = "EQ.XMPL"
FIRST = date(2026, 1, 5)
EX = 80
"""The day of the event, counted from the first."""


def day(n: int) -> date:
    return FIRST + timedelta(days=n)


def price_series() -> Series:
    return parse_series(
        {
            "reference_data_id": PRICE,
            "name": "A share",
            "kind": "price",
            "rules": "records",
            "semantics": {
                "price_type": "close",
                "timing": "point_in_time",
                "currency": "USD",
                "snap_time": "16:00",
                "snap_zone": "America/New_York",
            },
        }
    )


def action_series(**settings: Any) -> Series:
    return records.series(ACTION, prices=[PRICE], **settings)


SERIES = {s.reference_data_id: s for s in (price_series(), action_series())}


def split(ratio: str = "2-for-1", n: int = EX, **more: Any) -> dict[str, Any]:
    return {
        "type": "split",
        "ratio": ratio,
        "announced": day(n - 30).isoformat(),
        "ex_date": str(day(n)),
        **more,
    }


def action(source: str, document: Mapping[str, Any], n: int = EX, **more: Any) -> Claim[Record]:
    body = {
        "snap": f"{day(n)}T12:00:00Z",
        "reference_data_id": ACTION,
        "source": source,
        "value": document,
        **more,
    }
    return parse_claim(body, SERIES, dict.fromkeys(SOURCES, True))


def prices(
    factor: float = 1.0,
    *,
    sources: Sequence[str] = SOURCES[:3],
    unmoved: Sequence[str] = (),
    days: int = 110,
    seed: int = 1,
) -> list[Claim]:
    """A share that moves a per cent a day, and by ``factor`` on the day of the event."""
    numbers = random.Random(seed)
    value, found = 200.0, []
    for n in range(days):
        value *= 1 + numbers.gauss(0, 0.01)
        for source in sources:
            moved = factor if n >= EX and source not in unmoved else 1.0
            said = f"{value * moved * (1 + numbers.gauss(0, 0.0003)):.2f}"
            body = {"snap": day(n).isoformat(), "reference_data_id": PRICE, "source": source, "value": said}
            found.append(parse_claim(body, SERIES, dict.fromkeys(SOURCES, True)))
    return found


def offline(claims: Iterable[Claim[Any]]) -> list[Found]:
    """What ``qis detect`` finds."""
    given = list(claims)
    numbers = [
        Arrived(c.reference_data_id, c.snap.ns, Observation(c.source, c.value))
        for c in given
        if isinstance(c.value, Decimal)
    ]
    return detect(numbers, DetectionRules(), SERIES, [c for c in given if isinstance(c.value, Record)])


def told(found: Iterable[Found]) -> set[tuple[str, str, str]]:
    return {(f.kind.value, Snap(f.since_ns).text, f.source) for f in found}


def kinds(found: Iterable[Found]) -> dict[Fault, set[str]]:
    """Sources by what was found of them, since the day before the event."""
    by_kind: dict[Fault, set[str]] = {}
    for f in found:
        if Snap(f.snap_ns).moment.date() >= day(EX - 1):
            by_kind.setdefault(f.kind, set()).add(f.source)
    return by_kind


# What explains a step


def test_a_step_that_a_declared_split_explains_is_a_true_move() -> None:
    assert kinds(offline([*prices(0.5), *(action(s, split()) for s in SOURCES[:3])])) == {}
    assert kinds(offline([*prices(0.5, sources=["alpha"]), action("alpha", split())])) == {}


def test_without_the_event_the_step_is_a_finding_that_names_the_ratio() -> None:
    of_another_day = action("alpha", split(n=20), n=20)
    found = offline([*prices(0.5), of_another_day])
    assert kinds(found)[Fault.UNDECLARED_SPLIT] == set(SOURCES[:3])
    evidence = next(f.evidence for f in found if f.kind is Fault.UNDECLARED_SPLIT)
    assert "as of a 2-for-1 split" in evidence.measured
    alone = kinds(offline([*prices(0.5, sources=["alpha"]), of_another_day]))
    assert alone.keys() == {Fault.SPIKE, Fault.UNDECLARED_SPLIT}


def test_a_crash_is_no_split_and_one_source_that_steps_is_wrong() -> None:
    of_another_day = action("alpha", split(n=20), n=20)
    assert Fault.UNDECLARED_SPLIT not in kinds(offline([*prices(0.58), of_another_day]))
    found = kinds(offline([*prices(0.5, unmoved=SOURCES[1:3]), of_another_day]))
    assert Fault.UNDECLARED_SPLIT not in found
    assert found.keys() >= {Fault.SPIKE}
    assert set().union(*found.values()) == {"alpha"}


def test_a_series_without_events_has_no_undeclared_ones() -> None:
    assert Fault.UNDECLARED_SPLIT not in kinds(offline(prices(0.5)))


def test_a_source_that_does_not_apply_the_split_is_at_fault() -> None:
    found = offline([*prices(0.5, unmoved=[SOURCES[2]]), *(action(s, split()) for s in SOURCES[:3])])
    assert set().union(*kinds(found).values()) == {SOURCES[2]}


def test_another_ratio_than_that_of_the_step_explains_nothing() -> None:
    found = kinds(offline([*prices(0.5), action("alpha", split("10-for-1"))]))
    assert found[Fault.ACTION_NOT_APPLIED] == found[Fault.UNDECLARED_SPLIT] == set(SOURCES[:3])


def test_a_declared_split_that_is_not_in_the_price_is_a_finding() -> None:
    assert kinds(offline([*prices(), action("alpha", split())])) == {
        Fault.ACTION_NOT_APPLIED: set(SOURCES[:3])
    }


def test_a_cancelled_split_that_is_in_the_price_is_a_finding() -> None:
    found = kinds(offline([*prices(0.5), action("alpha", split(lifecycle="D"))]))
    assert found[Fault.CANCELLED_APPLIED] == set(SOURCES[:3])
    assert Fault.UNDECLARED_SPLIT not in found
    assert kinds(offline([*prices(), action("alpha", split(lifecycle="D"))])) == {}


@pytest.mark.parametrize(
    ("document", "factor"),
    [
        ({"type": "reverse_split", "ratio": "1-for-8", "ex_date": str(day(EX))}, 8.0),
        ({"type": "stock_dividend", "ratio": "1-for-1", "ex_date": str(day(EX))}, 0.5),
        (
            {"type": "cash_dividend", "amount": "60", "currency": "USD", "ex_date": str(day(EX))},
            1 - 60 / 228.11,
        ),
        (
            {
                "type": "rights",
                "amount": "40",
                "currency": "USD",
                "ratio": "1-for-1",
                "ex_date": str(day(EX)),
            },
            (228.11 + 40) / 2 / 228.11,
        ),
    ],
)
def test_events_of_every_type_with_a_factor_explain_it(document: dict[str, Any], factor: float) -> None:
    level = [c.value for c in prices() if c.source == "alpha"][EX - 1]
    assert abs(float(level) - 228.11) < 0.5, "the price that the factors above are of"
    claims = [*prices(factor, sources=["alpha"]), action("alpha", document)]
    assert kinds(offline(claims)) == {}
    assert kinds(offline([c for c in claims if isinstance(c.value, Decimal)])) != {}


def test_an_event_in_another_currency_or_without_terms_says_nothing_of_prices() -> None:
    dividend = {"type": "cash_dividend", "amount": "60", "currency": "EUR", "ex_date": str(day(EX))}
    assert Declared(dividend, day(EX), cancelled=False).factor(200.0, "USD") is None
    delisting = {"type": "delisting", "effective_date": str(day(EX))}
    assert Declared(delisting, day(EX), cancelled=False).factor(200.0, "USD") is None


def test_ratios_of_splits_are_told_from_steps() -> None:
    assert split_of(-0.6931, 0.02) == "2-for-1"
    assert split_of(2.3, 0.02) == "1-for-10"
    assert split_of(-0.4055, 0.02) == "3-for-2"
    assert split_of(-0.1, 0.02) is None


# What speaks against an action


def contradicted(*claims: Claim[Record]) -> list[tuple[str, str, str]]:
    """Kind, source and what was measured."""
    return [(f.kind.value, f.source, f.evidence.measured) for f in offline(claims)]


def test_the_source_with_another_ratio_or_day_than_most_is_found() -> None:
    others = [action(s, split()) for s in SOURCES[1:3]]
    assert contradicted(action("alpha", split("3-for-1")), *others) == [
        ("action_conflict", "alpha", "ratio 3-for-1, others 2-for-1")
    ]
    ((kind, source, said),) = contradicted(action("alpha", split(n=EX + 1)), *others)
    assert (kind, source) == ("action_conflict", "alpha")
    assert said == f"ex_date {day(EX + 1)}, others {day(EX)}"
    ((kind, source, said),) = contradicted(action("alpha", split("3-for-1", n=EX + 1)), *others)
    assert said == f"ratio 3-for-1, others 2-for-1; ex_date {day(EX + 1)}, others {day(EX)}"


def test_of_two_sources_that_contradict_each_other_both_are_found() -> None:
    found = contradicted(action("alpha", split()), action("beta", split(lifecycle="D")))
    assert [(k, s) for k, s, _ in found] == [("action_conflict", "alpha"), ("action_conflict", "beta")]


def test_the_same_terms_under_another_snap_are_another_day_for_the_same_event() -> None:
    found = contradicted(
        *(action(s, split()) for s in SOURCES[:2]), action(SOURCES[2], split(n=EX + 3), n=EX + 3)
    )
    assert found == [("action_conflict", SOURCES[2], f"takes effect on {day(EX + 3)}, others say {day(EX)}")]
    far = contradicted(action("alpha", split()), action(SOURCES[2], split(n=EX + 30), n=EX + 30))
    assert far == []


def test_an_event_that_a_source_gives_twice_is_found_unless_the_first_was_cancelled() -> None:
    again = action("alpha", split(n=EX + 3), n=EX + 3)
    ((kind, source, _),) = contradicted(action("alpha", split()), again)
    assert (kind, source) == ("action_repeated", "alpha")
    assert contradicted(action("alpha", split(lifecycle="D")), again) == []
    named = {"references": {"vendor": "77"}}
    moved = action("alpha", split("3-for-1", n=EX + 9, **named), n=EX + 9)
    assert [k for k, _, _ in contradicted(action("alpha", split(**named)), moved)] == ["action_repeated"]


def test_a_message_from_before_its_announcement_is_found() -> None:
    early = action("alpha", split(), received_at=f"{day(EX - 32)}T00:00:00Z")
    ((kind, _, _),) = contradicted(early)
    assert kind == "action_before_declared"
    assert contradicted(action("alpha", split(), received_at=f"{day(EX - 30)}T00:00:00Z")) == []
    with pytest.raises(InvalidInput) as refusal:
        action("alpha", split(announced=day(EX + 1).isoformat()))
    (found,) = refused(SERIES[ACTION], early.snap, "alpha", refusal.value) or ()
    assert found.kind is Fault.ACTION_UNDATED


# In the running system


class World:
    """Claims go in as the backbone brings their decisions; findings come out."""

    def __init__(self) -> None:
        self.store = MemoryEventStore()
        self.facts = MemoryFacts(self.store)
        kept = FixedCatalogue(catalogue(SERIES.values(), [records.rules()]))
        self.claims: dict[str, list[Claim[Any]]] = {}
        found = ClaimedRecords(self.facts)
        watchers = [Detectors(MemoryDetectorStates(self.facts), found), RecordDetectors(found)]
        self.quality = Quality(self.store, kept, self.facts, watchers)

    def take(self, claim: Claim[Any]) -> dict[str, Any]:
        """Store a claim and the decision on its snap; the decision as the backbone brings it."""
        stream = ev.value_stream(claim.reference_data_id, claim.snap.text)
        known = self.claims.setdefault(stream, [])
        known.append(claim)
        used = [{"source": c.source, "claim_id": c.claim_id, "value": value_text(c.value)} for c in known]
        decided = reconciled("official", "1", claim.snap, claim.reference_data_id, sources_used=used)
        for event in (ingested(claim), decided):
            version = self.store.versions([stream]).get(stream, 0)
            self.store.append([append(stream, version, event)])
        event_: dict[str, Any] = json.loads(backbone_record(self.store.log[-1])[1])
        return event_

    def open(self) -> set[tuple[str, str, str]]:
        return open_exceptions(self.store)


STORIES: dict[str, list[Claim[Any]]] = {
    "explained": [*prices(0.5), *(action(s, split()) for s in SOURCES[:3])],
    "not applied": [*prices(), action("alpha", split()), action("beta", split())],
    "contradicted": [
        *prices(0.5, unmoved=[SOURCES[2]]),
        *(action(s, split()) for s in SOURCES[:2]),
        action(SOURCES[2], split(n=EX + 3), n=EX + 3),
    ],
}


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("seed", [1, 2])
def test_findings_are_those_of_the_file_whatever_the_order_of_arrival(story: str, seed: int) -> None:
    numbers = random.Random(seed)
    # Prices up to four days late; actions whenever, also long after the prices that they explain.
    arriving = [
        (c.snap.ns + numbers.random() * (4 if isinstance(c.value, Decimal) else 40) * 86_400e9, n)
        for n, c in enumerate(STORIES[story])
    ]
    world = World()
    waiting = [STORIES[story][n] for _, n in sorted(arriving)]
    while waiting:
        size = numbers.randint(1, 12)
        world.quality.follow([world.take(c) for c in waiting[:size]])
        waiting = waiting[size:]
    wanted = told(offline(STORIES[story]))
    assert world.open() == wanted
    assert bool(wanted) == (story != "explained")


def test_an_event_that_comes_late_takes_the_findings_back() -> None:
    world = World()
    of_another_day = action("alpha", split("3-for-1", n=20), n=20)
    world.quality.follow([world.take(c) for c in [*prices(0.5, sources=["alpha"]), of_another_day]])
    kinds_ = {kind for kind, _, _ in world.open()}
    assert kinds_ == {"spike", "undeclared_split", "action_not_applied"}
    world.quality.follow([world.take(action("alpha", split()))])
    assert {kind for kind, _, _ in world.open()} == {"action_not_applied"}, "that of the other day stays"
