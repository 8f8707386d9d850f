"""Detectors: what each fault looks like, what a market may do, and that a state can be kept."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

import pytest

from qis.domain.detection import Action, DetectionRules, Fault, Found, Observation, SeriesDetector
from qis.domain.detection import parse_detection_rules as parse
from qis.domain.detection.arrival import Arrivals
from qis.domain.detection.peers import Peer
from qis.domain.errors import InvalidInput

DAY = 86_400 * 10**9
START = 16_437 * DAY


def walk(days: int, seed: int, *, volatility: float = 0.01, first: float = 237.41) -> list[Decimal]:
    """A random walk in cents."""
    numbers = random.Random(seed)
    value, out = first, []
    for _ in range(days):
        value *= 1 + numbers.gauss(0, volatility)
        out.append(Decimal(f"{value:.2f}"))
    return out


def judge(values: Iterable[Decimal], source: str = "a") -> list[Found]:
    """Findings in one source's values, one a day."""
    detector = SeriesDetector("X", DetectionRules())
    found: list[Found] = []
    for i, value in enumerate(values):
        for judgement in detector.observe(START + i * DAY, [Observation(source, value)]):
            found += judgement.found
    return found


def beside(days: Sequence[Sequence[tuple[str, Decimal]]]) -> list[Found]:
    """Findings in what several sources say, day by day."""
    detector = SeriesDetector("X", DetectionRules())
    found: list[Found] = []
    for i, day in enumerate(days):
        for judgement in detector.observe(START + i * DAY, [Observation(s, v) for s, v in day]):
            found += judgement.found
    return found


def panel(days: int, seed: int) -> list[list[tuple[str, Decimal]]]:
    """Five sources around one walk, each with its own premium and noise of a tenth of a percent."""
    numbers = random.Random(seed)
    truth = walk(days, seed, volatility=0.02)
    return [
        [
            (s, (v * Decimal(1 + i * 0.002 + numbers.gauss(0, 0.001))).quantize(Decimal("0.01")))
            for i, s in enumerate("abcde")
        ]
        for v in truth
    ]


def day_of(found: Found) -> int:
    return (found.snap_ns - START) // DAY


FAULTS: list[tuple[Fault, Callable[[Decimal], Decimal]]] = [
    (Fault.DECIMAL_SHIFT, lambda v: v * 10),
    (Fault.DECIMAL_SHIFT, lambda v: v / 10),
    (Fault.SCALE, lambda v: v * 1000),
    (Fault.SIGN, lambda v: -v),
    (Fault.ZERO, lambda _: Decimal(0)),
    (Fault.UNIT, lambda v: v * Decimal("31.1034768")),
    (Fault.CURRENCY, lambda v: (1 / v).quantize(Decimal("0.0000001"))),
]


@pytest.mark.parametrize(("kind", "change"), FAULTS)
def test_a_slip_is_named_at_once_and_does_not_enter_the_baseline(
    kind: Fault, change: Callable[[Decimal], Decimal]
) -> None:
    values = walk(120, seed=1)
    values[80] = change(values[80])
    found = judge(values)
    assert [(day_of(f), f.kind) for f in found] == [(80, kind)]
    assert found[0].action in (Action.QUARANTINE, Action.REPAIR)


def test_a_repair_is_proposed_where_the_slip_is_known() -> None:
    values = walk(120, seed=1)
    meant = values[80]
    values[80] = meant * 100
    (found,) = judge(values)
    assert found.action is Action.REPAIR
    assert found.evidence.repair is not None
    assert Decimal(found.evidence.repair) == meant


def test_exchanged_digits_are_found_and_put_right() -> None:
    values = [Decimal("237.41") + Decimal(i % 7) / 100 for i in range(100)]
    values[80] = Decimal("273.41")
    (found,) = judge(values)
    assert found.kind is Fault.TRANSPOSITION
    assert found.evidence.repair == "237.41"


def test_a_step_that_is_taken_back_is_a_spike_though_it_was_small() -> None:
    values = walk(120, seed=1)
    values[80] = (values[79] * Decimal("1.05")).quantize(Decimal("0.01"))
    values[81] = values[79] + Decimal("0.01")
    found = judge(values)
    assert [(day_of(f), f.since_ns) for f in found] == [(81, START + 80 * DAY)]


def test_a_new_level_is_doubted_once_and_then_believed() -> None:
    values = walk(120, seed=1)
    values = values[:80] + [(v * Decimal("1.4")).quantize(Decimal("0.01")) for v in values[80:]]
    found = judge(values)
    assert [day_of(f) for f in found] == [80]


def test_a_level_that_was_believed_wrongly_is_left_at_once() -> None:
    values = walk(120, seed=1)
    wrong = [(v * Decimal("1.4")).quantize(Decimal("0.01")) for v in values]
    found = judge(values[:80] + wrong[80:88] + values[88:])
    assert {day_of(f) for f in found} <= {80, 88}


def test_a_stuck_source_is_stale_after_few_repeats() -> None:
    values = walk(120, seed=1)
    values[80:90] = [values[79]] * 10
    found = judge(values)
    assert found[0].kind is Fault.STALE
    assert day_of(found[0]) <= 82


def test_a_pegged_series_is_not_stale() -> None:
    numbers = random.Random(3)
    value, values = Decimal("6.8392"), []
    for _ in range(600):
        if numbers.random() < 0.4:
            value += Decimal(numbers.choice((-1, 1))) / 10_000
        values.append(value)
    late = [f for f in judge(values) if day_of(f) > 100]
    assert len(late) <= 6


def test_no_volume_and_no_move_is_stale_at_once() -> None:
    detector = SeriesDetector("X", DetectionRules())
    values = walk(60, seed=2)
    for i, value in enumerate(values):
        detector.observe(START + i * DAY, [Observation("a", value, Decimal(100 + i % 7))])
    (judgement,) = detector.observe(START + 60 * DAY, [Observation("a", values[-1], Decimal(0))])
    assert [f.kind for f in judgement.found] == [Fault.STALE]
    assert judgement.credibility < 0.5


def test_a_market_that_moves_is_spared_where_all_sources_move() -> None:
    days = panel(150, seed=4)
    crash = [[(s, (v * Decimal("0.7")).quantize(Decimal("0.01"))) for s, v in day] for day in days[100:]]
    assert beside(days[:100] + crash) == []


def test_a_source_that_stays_behind_when_the_market_moves_is_stale_at_once() -> None:
    days = panel(150, seed=4)
    stuck = dict(days[99])["c"]
    for day in range(100, 110):
        days[day] = [(s, stuck if s == "c" else v) for s, v in days[day]]
    found = beside(days)
    assert {f.source for f in found} == {"c"}
    assert found[0].kind is Fault.STALE
    assert day_of(found[0]) <= 102


def test_a_small_bias_is_found_by_the_peers() -> None:
    days = panel(150, seed=4)
    for day in range(100, 112):
        days[day] = [(s, v * Decimal("1.01") if s == "c" else v) for s, v in days[day]]
    found = beside(days)
    assert {f.source for f in found} == {"c"}
    assert day_of(found[0]) <= 103


def test_a_source_that_was_biased_needs_more_evidence_until_that_is_forgotten() -> None:
    def needed(peer: Peer) -> int:
        peer.high = peer.low = 0.0
        for n in range(1, 100):
            peer.accumulate(2.5, complete=True)
            if peer.biased:
                return n
        raise AssertionError("never biased")

    peer = Peer(DetectionRules())
    first = needed(peer)
    peer.spend()
    second = needed(peer)
    peer.spend()
    assert first < second < needed(peer)
    for _ in range(1000):
        peer.relax()
    assert needed(peer) == first


def wandering(days: int, seed: int) -> list[list[tuple[str, Decimal]]]:
    """The panel, with ``c`` in a dollar of its own from day 100 on, that wanders by a percent a day."""
    numbers = random.Random(seed)
    premium, out = 0.0, panel(days, seed)
    for day in range(100, days):
        premium += numbers.gauss(0, 0.01) - 0.03 * premium
        factor = Decimal(1 + premium)
        out[day] = [(s, (v * factor).quantize(Decimal("0.01")) if s == "c" else v) for s, v in out[day]]
    return out


def test_a_source_whose_premium_wanders_is_an_incident_and_not_one_for_each_day() -> None:
    for seed in range(4):
        found = [f for f in beside(wandering(500, seed)) if f.kind is not Fault.STALE]
        assert found[0].source == "c"
        assert len([f for f in found if day_of(f) >= 160]) <= 5


def test_a_jump_of_a_source_that_wanders_is_measured_by_how_it_wanders() -> None:
    days = wandering(400, 1)
    days[350] = [(s, v * Decimal("1.25") if s == "c" else v) for s, v in days[350]]
    assert [(f.source, f.kind) for f in beside(days) if day_of(f) == 350] == [("c", Fault.SPIKE)]


def test_a_finding_that_was_barely_one_raises_the_threshold_and_one_far_beyond_does_not() -> None:
    peer = Peer(DetectionRules())
    usual = peer.jump_limit
    peer.spend_on(3 * usual)
    assert peer.jump_limit == usual
    peer.spend_on(1.2 * usual)
    assert peer.jump_limit > usual


def test_what_most_say_is_the_consensus_though_they_came_to_it_one_by_one() -> None:
    numbers = random.Random(8)
    days = [
        [(s, Decimal(f"{v * Decimal(1 + numbers.gauss(0, 0.001)):.2f}")) for s in "abcdefg"]
        for v in walk(100, 8)
    ]
    for i, name in enumerate("abcd"):
        for day in days[70 + 3 * i :]:
            day[i] = (name, (day[i][1] * Decimal("1.1")).quantize(Decimal("0.01")))
    late = {f.source for f in beside(days[:85]) if day_of(f) > 79}
    assert late >= {"e", "f", "g"}


def test_a_source_a_day_late_is_found() -> None:
    days = panel(200, seed=4)
    late = [[(s, dict(days[i - 1])["c"] if s == "c" else v) for s, v in days[i]] for i in range(100, 130)]
    found = beside(days[:100] + late)
    assert Fault.DATE_SHIFT in {f.kind for f in found if f.source == "c"}
    assert {f.source for f in found} == {"c"}


def test_a_source_that_is_absent_is_missed() -> None:
    days = panel(150, seed=4)
    days[100] = [(s, v) for s, v in days[100] if s != "b"]
    (found,) = beside(days)
    assert (found.kind, found.source, found.since_ns) == (Fault.MISSING, "b", START + 100 * DAY)


def test_a_source_on_another_clock_is_found_and_the_others_are_not_missed() -> None:
    days = panel(150, seed=4)
    detector = SeriesDetector("X", DetectionRules())
    found: list[Found] = []
    for i, day in enumerate(days):
        late = 100 <= i < 105
        for ns, who in ((START + i * DAY, "abde" if late else "abcde"), (START + i * DAY + DAY // 4, "c")):
            claims = [Observation(s, v) for s, v in day if s in who]
            if who != "c" or late:
                found += [f for j in detector.observe(ns, claims) for f in j.found]
    assert {(f.source, f.kind) for f in found} == {("c", Fault.TIME_SHIFT), ("c", Fault.MISSING)}


def test_arrivals_out_of_order_twice_and_from_the_future() -> None:
    arrivals = Arrivals()
    kinds = []
    order = [*range(20), 19, 17, 20, 21, 400, 22, 23]
    for i, day in enumerate(order):
        value = Decimal(day)
        kinds += [(i, s.kind, s.since_ns // DAY) for s in arrivals.judge(day * DAY, Observation("a", value))]
    assert kinds == [(20, Fault.DUPLICATE, 19), (21, Fault.OUT_OF_ORDER, 17), (25, Fault.FUTURE, 400)]


def test_a_snap_after_its_reception_lies_in_the_future() -> None:
    given = Observation("a", Decimal(1), None, received_ns=START)
    assert [s.kind for s in Arrivals().judge(START + DAY, given)] == [Fault.FUTURE]
    assert Arrivals().judge(START, given) == []


def test_a_schema_that_drifts() -> None:
    arrivals = Arrivals()
    for day in range(20):
        assert arrivals.judge(day * DAY, Observation("a", Decimal(1 + day), currency="USD")) == []
    assert [s.kind for s in arrivals.judge(20 * DAY, Observation("a", Decimal(3), currency="EUR"))] == [
        Fault.CURRENCY
    ]
    assert [s.kind for s in arrivals.judge(21 * DAY, Observation("a", Decimal(4)))] == [Fault.SCHEMA]


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ({"rules": "r", "version": 1, "jmup": 7}, "known-field"),
        ({"rules": "r", "version": 1, "jump": 0}, "positive"),
        ({"rules": "r", "version": 1, "jump": "x"}, "positive"),
        ({"rules": "r", "version": 1, "jump": True}, "positive"),
        ({"rules": "r", "version": 1, "confirm": 2.5}, "whole"),
        ({"rules": "r"}, "required"),
    ],
)
def test_thresholds_that_make_no_sense_are_refused(body: dict[str, object], rule: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(body)
    assert {v.rule for v in refused.value.violations} == {rule}


def test_thresholds_keep_what_is_not_named() -> None:
    rules = parse({"rules": "mine", "version": 3, "jump": "9.5"})
    assert (rules.name, rules.jump, rules.confirm) == ("mine/3", 9.5, DetectionRules().confirm)
