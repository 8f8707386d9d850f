"""Detection: T1 one series, T2 one venue of several, T3 natural faults, T4 the hard kinds, T5 speed.

With ``data`` (a directory with ``multisource/``) all five; without, T1 on the bundled rates and T5.
Thresholds of the product and of the baselines come from before ``SPLIT`` and ``SPLIT_VENUES``; what is scored
lies after.
Definitions are in ``docs/quality.md``.
"""

from __future__ import annotations

import csv
import gzip
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from math import log
from pathlib import Path

from benchmarks.common import Document, Options, Result, document, main
from benchmarks.faults import DAY_NS, GRACE, ONE_OF_PEERS, ONE_SERIES, Bar, Span, inject
from qis.application.detection import Arrived, detect
from qis.domain.detection import DetectionRules, Fault, Observation, SeriesDetector
from qis.domain.errors import refuse

SEEDS = (11, 12, 13)
SEEDS_VENUES = tuple(range(21, 33))
"""More for T2 and T4: with three, a choice among thresholds is one among accidents."""
RESAMPLES = 500
POINTS = 60_000
NATURAL_GRACE_NS = round(GRACE * 1.45) * DAY_NS
"""Bars are days, or working days: five of them are a week at most."""
STABLECOIN = ("Bitfinex", "Poloniex")
"""Venues whose dollars were a stablecoin, or could not be withdrawn, in 2017: what such a dollar was worth is
in their quotes. T3 looks for that; T2 counts it as false alarms."""
BUNDLE = Path(__file__).resolve().parent.parent / "data" / "bundle"
Series = Mapping[str, Sequence[Bar]]


def _day(text: str) -> int:
    return round(datetime.fromisoformat(text[:10]).replace(tzinfo=UTC).timestamp()) * 10**9


SPLIT = _day("2016-01-01")
SPLIT_VENUES = _day("2016-07-01")


@dataclass(frozen=True, slots=True)
class Alarm:
    """What a detector says, its own or a baseline's."""

    ns: int
    source: str
    kind: str
    since: int


Detector = Callable[[Mapping[str, Sequence[Bar]]], list[Alarm]]
"""From each source's bars, in the order in which they came, to alarms."""


# data


def fx(folder: Path) -> dict[str, list[Bar]]:
    """ECB and H.10 rates: each a series of its own."""
    found: dict[str, list[Bar]] = defaultdict(list)
    with (folder / "ECB_eurofxref_hist_9ccy.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for currency, value in list(row.items())[1:]:
                if value:
                    found[f"ECB.{currency}"].append(Bar(_day(row["Date"]), Decimal(value)))
    for name in sorted(folder.glob("FED_H10_*.csv")):
        with name.open(encoding="utf-8") as file:
            rows = csv.reader(file)
            next(rows)
            found[f"FED.{name.stem[-7:]}"] = [Bar(_day(d), Decimal(v)) for d, v in rows if v.strip(". ")]
    return found


def bundled() -> dict[str, list[Bar]]:
    """The bundled rates."""
    found: dict[str, list[Bar]] = defaultdict(list)
    for name in ("ecb-reference-rates", "fed-h10"):
        with gzip.open(BUNDLE / f"{name}.csv.gz", "rt", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                found[row["reference_data_id"]].append(Bar(_day(row["snap"]), Decimal(row["value"])))
    return found


def venues(folder: Path) -> dict[str, list[Bar]]:
    """Daily closes and volumes of each venue; of two files of one venue, the longer."""
    found: dict[str, list[Bar]] = {}
    for name in sorted(folder.glob("20*_BTCUSD_d.csv")):
        lines = name.read_text(encoding="utf-8").splitlines()
        rows = csv.DictReader(lines[1:] if lines[0].startswith("Created") else lines)
        bars = []
        for row in rows:
            cells = {k.lower(): v for k, v in row.items() if k}
            bars.append(Bar(_day(cells["date"]), Decimal(cells["close"]), Decimal(cells["volume btc"])))
        venue = name.stem.split("_")[1]
        if len(bars) > len(found.get(venue, ())):
            found[venue] = sorted(bars, key=lambda b: b.ns)
    return found


def blockchain(folder: Path) -> list[Bar]:
    """The daily average of blockchain.info: its convention of dates changed, and it begins with zeros."""
    with (folder / "BCHAIN-MKPRU.csv").open(encoding="utf-8") as file:
        bars = [Bar(_day(r["Date"]), Decimal(r["Value"])) for r in csv.DictReader(file)]
    return sorted(bars, key=lambda b: b.ns)


# detectors


def ours(sources: Mapping[str, Sequence[Bar]]) -> list[Alarm]:
    """The product: what ``qis detect`` runs."""
    claims = (
        Arrived("X", b.ns, Observation(s, b.value, b.volume)) for s, bars in sources.items() for b in bars
    )
    return [Alarm(f.snap_ns, f.source, f.kind.value, f.since_ns) for f in detect(claims, DetectionRules())]


def zscore(sources: Mapping[str, Sequence[Bar]]) -> list[Alarm]:
    """Steps beyond three standard deviations of the 30 steps before; everything enters the window."""
    found = []
    for source, bars in sources.items():
        steps: list[float] = []
        for a, b in pairwise(bars):
            step = _step(a, b)
            window = steps[-30:]
            if len(window) == 30:
                mean, deviation = statistics.fmean(window), statistics.pstdev(window)
                if deviation and abs(step - mean) > 3 * deviation:
                    found.append(Alarm(b.ns, source, "zscore", b.ns))
            steps.append(step)
    return found


def rules_with(largest: float) -> Detector:
    """Simple rules: not positive, a step above ``largest``, three alike, order, twice, a gap of a week."""

    def run(sources: Mapping[str, Sequence[Bar]]) -> list[Alarm]:
        found = []
        for source, bars in sources.items():
            alike = 1
            for a, b in pairwise(bars):
                alike = alike + 1 if a.value == b.value and a.ns != b.ns else 1
                wrong = b.value <= 0 or abs(_step(a, b)) > largest or alike == 3
                if wrong or b.ns <= a.ns or b.ns - a.ns > 6 * DAY_NS:
                    found.append(Alarm(b.ns, source, "rule", b.ns))
        return found

    return run


def cross_check_with(farthest: float) -> Detector:
    """Farther from the median of all venues than ``farthest``, or three alike."""

    def run(sources: Mapping[str, Sequence[Bar]]) -> list[Alarm]:
        at: dict[int, dict[str, float]] = defaultdict(dict)
        found = []
        for source, bars in sources.items():
            alike = 1
            for a, b in pairwise(bars):
                alike = alike + 1 if a.value == b.value else 1
                if alike == 3:
                    found.append(Alarm(b.ns, source, "alike", b.ns))
            for b in bars:
                at[b.ns][source] = log(b.value) if b.value > 0 else -99.0
        for ns, logs in at.items():
            middle = statistics.median(logs.values())
            found += [Alarm(ns, s, "far", ns) for s, x in logs.items() if abs(x - middle) > farthest]
        return found

    return run


def _step(a: Bar, b: Bar) -> float:
    return log(b.value / a.value) if a.value > 0 and b.value > 0 else 9.0


def _quantile(values: Iterable[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


# scoring


@dataclass(slots=True)
class Score:
    """Faults found by kind, and alarms that no fault explains."""

    found: Counter[str] = field(default_factory=Counter)
    there: Counter[str] = field(default_factory=Counter)
    false: Counter[str] = field(default_factory=Counter)
    delays: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    runs: list[tuple[int, int, int]] = field(default_factory=list)
    """Of each run: faults found, faults there, false alarms."""

    def add(self, spans: Sequence[Span], alarms: Sequence[Alarm]) -> None:
        """A fault is found by an alarm from its first snap to ``GRACE`` bars after its last; an alarm outside
        all faults is false."""
        before = self.found.total(), self.false.total()
        for span in spans:
            self.there[span.kind] += 1
            times = [a.ns for a in alarms if _within([span], a.ns)]
            if times:
                self.found[span.kind] += 1
                self.delays[span.kind].append((min(times) - span.first) // DAY_NS)
        for a in alarms:
            if not _within(spans, a.ns):
                self.false[a.kind] += 1
        self.runs.append((self.found.total() - before[0], len(spans), self.false.total() - before[1]))

    def add_false(self, kind: str, count: int) -> None:
        """More false alarms of the last run."""
        self.false[kind] += count
        found, there, false = self.runs[-1]
        self.runs[-1] = found, there, false + count

    @property
    def f1_error(self) -> float:
        """Standard error of ``f1``: a bootstrap by runs, as what happens within one is not independent."""
        numbers = random.Random(SEEDS[0])
        drawn: list[float] = []
        for _ in range(RESAMPLES):
            found, there, false = (
                sum(c) for c in zip(*numbers.choices(self.runs, k=len(self.runs)), strict=True)
            )
            drawn.append(2 * found / (found + there + false))
        return float(statistics.stdev(drawn))

    @property
    def f1(self) -> float:
        """Of faults found and false alarms."""
        hits, misses = self.found.total(), self.there.total() - self.found.total()
        return 2 * hits / (2 * hits + misses + self.false.total())

    def recall(self, kind: str) -> float:
        """Share of the faults of a kind that were found."""
        return self.found[kind] / max(1, self.there[kind])


def _within(spans: Iterable[Span], ns: int) -> bool:
    return any(s.first <= ns <= s.last + NATURAL_GRACE_NS for s in spans)


def one_series(series: Series, begin: int, detector: Detector) -> tuple[Score, float, float, int]:
    """T1. Returns the score, false alarms per 10,000 clean bars with and without bars that say that nothing
    was traded, and the number of clean bars."""
    score, alarms, untraded, bars_scored = Score(), 0, 0, 0
    for name, bars in series.items():
        first = _first(bars, begin)
        if len(bars) - first < 250:
            continue
        clean = [a for a in detector({name: bars}) if a.ns >= bars[first].ns]
        natural = {b.ns for b in bars if b.volume is not None and not b.volume}
        alarms += len(clean)
        untraded += sum(a.since in natural for a in clean)
        bars_scored += len(bars) - first
        for seed in SEEDS:
            faulty, spans = inject(bars, ONE_SERIES, seed, first)
            score.add(spans, [a for a in detector({name: faulty}) if a.ns >= bars[first].ns])
    per = 10_000 / bars_scored
    return score, alarms * per, (alarms - untraded) * per, bars_scored


def one_of_peers(
    sources: Series, begin: int, detector: Detector, faulted: Sequence[str]
) -> tuple[Score, float, int]:
    """T2 and T4: faults in one venue of ``faulted`` after the other, the others as they were.

    Alarms about bars on which a venue itself says that nothing was traded are not counted. An alarm about
    another venue in the time of a fault is false, unless the untouched data raises it within ``GRACE`` bars
    too; at other times the clean rate counts it.
    """
    natural = {(s, b.ns) for s, bars in sources.items() for b in bars if not b.volume}
    clean = [a for a in detector(sources) if a.ns >= begin and (a.source, a.since) not in natural]
    here = [a for a in clean if a.source in faulted]
    known = {(a.source, a.ns + i * DAY_NS) for a in clean for i in range(-GRACE, GRACE + 1)}
    bars_scored = sum(b.ns >= begin for s in faulted for b in sources[s])
    score = Score()
    for source in faulted:
        bars = sources[source]
        first = _first(bars, begin)
        for seed in SEEDS_VENUES:
            faulty, spans = inject(bars, ONE_OF_PEERS, seed, first)
            alarms = [a for a in detector({**sources, source: faulty}) if a.ns >= begin]
            score.add(spans, [a for a in alarms if a.source == source and (source, a.since) not in natural])
            others = {(a.source, a.ns) for a in alarms if (a.source, a.since) not in natural} - known
            score.add_false("about another", sum(s != source and _within(spans, ns) for s, ns in others))
    return score, len(here) * 10_000 / bars_scored, bars_scored


def _first(bars: Sequence[Bar], begin: int) -> int:
    """The first bar to score: after ``begin``, with a hundred before it."""
    return max(100, next((i for i, b in enumerate(bars) if b.ns >= begin), len(bars)))


def natural_faults(sources: Series, average: Sequence[Bar]) -> list[Result]:
    """T3: what is known to be wrong in the real data, and the days on which the whole market moved."""
    alarms = ours({**sources, "blockchain": average})
    about = {(a.source, a.since) for a in alarms}
    dead = [(s, b.ns) for s, bars in sources.items() for a, b in pairwise(bars) if not b.volume]
    zero = [("blockchain", b.ns) for b in average if not b.value]
    shifted = [a for a in alarms if a.source == "blockchain" and a.kind == Fault.DATE_SHIFT]
    premium = {
        a.source
        for a in alarms
        if a.source in STABLECOIN and _day("2017-04-08") <= a.ns <= _day("2017-04-25")
    }
    kept, moved = _market_moves(sources, alarms)
    return [
        Result(
            "T3 bars without trades found",
            _share(sum(d in about for d in dead), len(dead)),
            "share",
            n=len(dead),
        ),
        Result(
            "T3 zero prices found", _share(sum(z in about for z in zero), len(zero)), "share", n=len(zero)
        ),
        Result("T3 findings of shifted dates in the daily average", len(shifted), "findings", n=len(average)),
        Result("T3 venues in stablecoin dollars found in April 2017", len(premium), "of 2 venues", n=2),
        Result("T3 claims kept on days when the market moved 10 %", _share(kept, moved), "share", n=moved),
    ]


def _market_moves(sources: Series, alarms: Sequence[Alarm]) -> tuple[int, int]:
    """Claims on days on which the median venue moved a tenth or more: those without a finding, and all. Bars
    without trades, and venues farther than a twentieth from the median, did not make the move."""
    about = {(a.source, a.since) for a in alarms}
    at: dict[int, dict[str, Bar]] = defaultdict(dict)
    for s, bars in sources.items():
        for b in bars:
            at[b.ns][s] = b
    kept = moved = 0
    for ns in sorted(at):
        before, now = at.get(ns - DAY_NS, {}), at[ns]
        steps = [log(now[s].value / before[s].value) for s in now.keys() & before.keys()]
        if len(steps) < 4 or abs(statistics.median(steps)) < 0.1:
            continue
        middle = log(statistics.median(b.value for b in now.values()))
        for s, b in now.items():
            if b.volume and abs(log(b.value) - middle) < 0.05:
                moved += 1
                kept += (s, ns) not in about
    return kept, moved


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


# speed


def speed(points: int) -> list[Result]:
    """T5: one series through the whole detector, and through the half-space trees of ``river`` where it is
    installed, by processor time, as rates are per core; and the state of a detector with seven sources."""
    numbers = random.Random(SEEDS[0])
    values = [Decimal("100")]
    for _ in range(points - 1):
        values.append((values[-1] * Decimal(str(1 + numbers.gauss(0, 0.01)))).quantize(Decimal("0.0001")))
    given = [(i * DAY_NS, (Observation("s", v),)) for i, v in enumerate(values)]
    detector = SeriesDetector("X", DetectionRules())
    begun = time.process_time()
    for ns, observations in given:
        detector.observe(ns, observations)
    rate = points / (time.process_time() - begun)
    trees = _half_space_trees(values[: points // 10])
    many = SeriesDetector("X", DetectionRules())
    for ns, ((_, value, *_),) in given[:500]:
        many.observe(ns, [Observation(f"venue-{i}", value + i) for i in range(7)])
    return [
        Result(
            "T5 one series",
            rate,
            "points/s",
            None if trees is None else "river HalfSpaceTrees",
            trees,
            None if trees is None else rate / trees,
            points,
        ),
        Result("T5 state of one series, one source", len(detector.checkpoint()), "bytes", n=1),
        Result("T5 state of one series, seven sources", len(many.checkpoint()), "bytes", n=7),
    ]


def _half_space_trees(values: Sequence[Decimal]) -> float | None:
    try:
        from river.anomaly import HalfSpaceTrees
    except ModuleNotFoundError:
        return None
    trees = HalfSpaceTrees(seed=SEEDS[0], limits={"x": (-0.1, 0.1)})
    points = [{"x": float(b / a - 1)} for a, b in pairwise(values)]
    begun = time.process_time()
    for point in points:
        trees.score_one(point)
        trees.learn_one(point)
    return len(points) / (time.process_time() - begun)


# the document


def run(given: Mapping[str, object]) -> Document:
    """Run the benchmark.

    Raises:
        InvalidInput: an unknown option, or ``data`` has no ``multisource/``.
    """
    options = Options.of(given)
    results: list[Result] = []
    kinds: dict[str, object] = {}
    if options.data is None:
        single = bundled()
        begin = _day("2017-01-01")
    else:
        folder = options.data / "multisource"
        if not folder.is_dir():
            raise refuse("data", str(options.data), "multisource", "has no directory multisource")
        panel = venues(folder / "btcusd_daily")
        single = {**fx(folder / "fx"), **{f"BTC.{k}": v for k, v in panel.items()}}
        begin = SPLIT
    if options.quick:
        single = dict(list(single.items())[:2])
    results += _t1(single, begin, kinds)
    if options.data is not None:
        results += _t2(panel, kinds)
        results += natural_faults(panel, blockchain(folder / "btcusd_daily"))
    results += speed(POINTS // 20 if options.quick else POINTS)
    return document(
        "detection",
        results,
        seeds=list(SEEDS),
        seeds_venues=list(SEEDS_VENUES),
        grace_bars=GRACE,
        kinds=kinds,
    )


def _t1(series: Series, begin: int, kinds: dict[str, object]) -> list[Result]:
    steps = [abs(_step(a, b)) for bars in series.values() for a, b in pairwise(bars) if b.ns < begin]
    contenders = {"rules": rules_with(_quantile(steps, 0.998)), "z-score": zscore}
    score, alarms, traded, bars = one_series(series, begin, ours)
    kinds["T1"] = {k: round(score.recall(k), 3) for k in score.there} | {"false": dict(score.false)}
    results = []
    for name, detector in contenders.items():
        other, other_alarms, _, _ = one_series(series, begin, detector)
        results += [
            Result("T1 F1", score.f1, "F1", name, other.f1, score.f1 / other.f1, score.there.total()),
            Result("T1 false alarms", alarms, "per 10,000 clean bars", name, other_alarms, None, bars),
        ]
    results.append(Result("T1 standard error of F1", score.f1_error, "F1", n=len(score.runs)))
    results.append(Result("T1 false alarms on bars with trades", traded, "per 10,000 clean bars", n=bars))
    return results


def _t2(panel: Series, kinds: dict[str, object]) -> list[Result]:
    before = _distances(panel, SPLIT_VENUES)
    cross_check = cross_check_with(_quantile(before, 0.99))
    score, alarms, bars = one_of_peers(panel, SPLIT_VENUES, ours, list(panel))
    other, other_alarms, _ = one_of_peers(panel, SPLIT_VENUES, cross_check, list(panel))
    dollars = [v for v in panel if v not in STABLECOIN]
    plain, plain_alarms, plain_bars = one_of_peers(panel, SPLIT_VENUES, ours, dollars)
    kinds["T2"] = {k: round(score.recall(k), 3) for k in score.there} | {"false": dict(score.false)}
    stale = score.delays["stale"]
    results = [
        Result("T2 F1", score.f1, "F1", "cross-check", other.f1, score.f1 / other.f1, score.there.total()),
        Result("T2 alarms", alarms, "per 10,000 clean bars", "cross-check", other_alarms, None, bars),
        Result("T2 standard error of F1", score.f1_error, "F1", n=len(score.runs)),
        Result("T2 F1, venues in bank dollars faulted", plain.f1, "F1", n=plain.there.total()),
        Result("T2 alarms, venues in bank dollars", plain_alarms, "per 10,000 clean bars", n=plain_bars),
        Result(
            "T2 delay of stale", statistics.fmean(stale), "bars", n=len(stale), p95=_quantile(stale, 0.95)
        ),
    ]
    for kind in ("bias", "digit_transposition"):
        mine, theirs, there = score.recall(kind), other.recall(kind), score.there[kind]
        results.append(Result(f"T4 recall of {kind}", mine, "share", "cross-check", theirs, None, there))
    return results


def _distances(panel: Series, until: int) -> list[float]:
    at: dict[int, list[float]] = defaultdict(list)
    for bars in panel.values():
        for b in bars:
            if b.ns < until and b.volume:
                at[b.ns].append(log(b.value))
    return [abs(x - statistics.median(logs)) for logs in at.values() if len(logs) > 2 for x in logs]


if __name__ == "__main__":
    main(run)
