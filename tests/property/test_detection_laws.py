"""Laws of the detectors: states restore, units play no part, clean series are quiet, baselines stay clean."""

from __future__ import annotations

import random
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from qis.application.detection import Arrived, detect
from qis.domain.detection import DetectionRules, Found, Judgement, Observation, SeriesDetector

DAY = 86_400 * 10**9
FIRST = 15_000
RULES = DetectionRules()
SEEDS = st.integers(0, 2**32)


def walk(seed: int, days: int, volatility: float, drift: float = 0.0) -> list[Decimal]:
    numbers = random.Random(seed)
    value, out = 100.0, []
    for _ in range(days):
        value *= 1 + drift + volatility * numbers.uniform(-1.7, 1.7)
        out.append(Decimal(f"{value:.4f}"))
    return out


def panel(seed: int, days: int) -> list[list[Observation]]:
    """Three sources, with gaps, repeats and faults, in every mixture."""
    numbers = random.Random(seed)
    out = []
    for value in walk(seed, days, 0.01):
        day = []
        for source in "abc":
            if numbers.random() < 0.05:
                continue
            said = value + Decimal(numbers.randrange(-20, 21)) / 1000
            wrong = numbers.random()
            if wrong < 0.03:
                said = numbers.choice((said * 10, -said, Decimal(0), said * Decimal("1.3"), Decimal("99.5")))
            volume = None if numbers.random() < 0.5 else Decimal(numbers.randrange(3))
            day.append(Observation(source, said, volume))
        if day:
            out.append(day)
    return out


def run(
    days: list[list[Observation]], detector: SeriesDetector | None = None, start: int = 0
) -> list[list[Judgement]]:
    detector = detector or SeriesDetector("X", RULES)
    return [detector.observe((FIRST + start + i) * DAY, day) for i, day in enumerate(days)]


def found(values: list[Decimal]) -> list[Found]:
    judged = run([[Observation("a", v)] for v in values])
    return [f for day in judged for j in day for f in j.found]


@given(SEEDS, st.integers(1, 119))
@settings(max_examples=25, deadline=None)
def test_a_restored_detector_goes_on_as_if_it_had_never_stopped(seed: int, cut: int) -> None:
    days = panel(seed, 120)
    cut = min(cut, len(days) - 1)
    detector = SeriesDetector("X", RULES)
    run(days[:cut], detector)
    again = SeriesDetector.restore("X", RULES, detector.checkpoint())
    assert run(days[cut:], again, cut) == run(days[cut:], detector, cut)
    assert again.checkpoint() == detector.checkpoint()


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_what_is_said_of_a_snap_rests_on_nothing_after_it(seed: int) -> None:
    days = panel(seed, 100)
    assert run(days)[:60] == run(days[:60])


@given(SEEDS, st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_a_file_says_the_same_in_every_order_of_sources_and_of_its_beginning(
    seed: int, shuffle: random.Random
) -> None:
    rows = [[Arrived("X", (FIRST + i) * DAY, one) for one in day] for i, day in enumerate(panel(seed, 90))]
    said = detect([a for day in rows for a in day], RULES)
    for day in rows:
        shuffle.shuffle(day)
    assert detect([a for day in rows for a in day], RULES) == said
    begun = detect([a for day in rows[:50] for a in day], RULES)
    assert begun == [f for f in said if f.snap_ns < (FIRST + 50) * DAY]
    by_source = sorted((a for day in rows for a in day), key=lambda a: a.observation.source)
    assert detect(by_source, RULES) == said
    assert detect(by_source[::-1], RULES) == said


@given(SEEDS, st.integers(-3, 6))
@settings(max_examples=25, deadline=None)
def test_another_unit_of_ten_changes_nothing_that_is_found(seed: int, power: int) -> None:
    """The name may change: which numbers are each other's inverse depends on the unit."""
    numbers = random.Random(seed)
    values = walk(seed, 150, 0.01)
    for at in (60, 90, 120):
        values[at] *= Decimal(str(round(numbers.choice((1.2, 0.8, 2, 10, 0.01)), 2)))

    assert [f.snap_ns for f in found([v.scaleb(power) for v in values])] == [f.snap_ns for f in found(values)]


@given(SEEDS, st.floats(1e-3, 0.05), st.floats(-0.002, 0.002))
@settings(max_examples=40, deadline=None)
def test_a_clean_series_with_a_constant_drift_is_quiet(seed: int, volatility: float, drift: float) -> None:
    """With steps well above its ticks: below, rounding repeats values, and a run of them can be stale."""
    assert found(walk(seed, 300, volatility, drift)) == []


@given(SEEDS, st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_faults_do_not_enter_the_baseline(seed: int, which: int) -> None:
    """After faults, each found and held, a series is judged as if they had not been there."""
    values = walk(seed, 200, 0.01)
    factor = (Decimal(10), Decimal("0.01"), Decimal(-1), Decimal(2), Decimal("0.5"), Decimal(1000))[which]
    faulty = [v * factor if i % 10 == 5 and i > 50 else v for i, v in enumerate(values)]
    bad = {FIRST + i for i in range(51, 200) if i % 10 == 5}
    assert {f.snap_ns // DAY for f in found(faulty)} == bad


@given(SEEDS, st.sampled_from(["1.5", "0.4", "3", "100", "-1"]))
@settings(max_examples=25, deadline=None)
def test_a_new_level_is_believed_after_a_bounded_time(seed: int, factor: str) -> None:
    values = walk(seed, 200, 0.01)
    moved = values[:100] + [v * Decimal(factor) for v in values[100:]]
    late = [f for f in found(moved) if f.snap_ns // DAY > FIRST + 100 + RULES.confirm_impossible]
    assert late == []
