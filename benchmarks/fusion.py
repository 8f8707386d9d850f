"""Fusion against gold data, beside the methods of the literature in the same run.

    qis bench fusion --set data=DIR

``DIR`` holds ``fusion_stock`` and ``multisource``. Everything is causal: weights come from earlier snaps
only, and where a threshold is learned from gold, only from the gold of earlier snaps.

- **B1** stock claims: share of values equal to the gold to the cent. The gold's own sources are left out of
  the claims. ``change_pct`` is compared without its sign, which one gold does not have.
- **B2** coverage at a precision: every day the lowest confidence is taken at which the values of the days
  before were right often enough, and the values of the day at or above it are published. A few hundred
  values a day cannot show that no more than one in 10,000 is wrong, so there is a second one, *bounded*: the
  lowest at which the risk that the confidences themselves state, times the factor by which the past had
  more errors than they stated (by the upper 95 % bound of a Poisson count), is within the target.
- **B3** faults of ten kinds injected into central-bank rates that five vendors pass on; published: what the
  method calls official. The bound is the lower Clopper-Pearson bound of its precision at 95 %.
- **B4** exchange closes against the reference rate, in basis points, on the days on which all quote; with
  faults in 5 % of the claims, the median over seeds.
- **B5** expected calibration error of confidence: mean distance between confidence and share of right values
  in twenty bins of equal count.
- **B6** speed on one core, in processor time: claims a second from file to file, start of the program
  included, beside a vectorised vote on the same file in the same way; the same for deciding alone, of claims
  that were read, and for claims of sources that never agree exactly; and one decision between fifty sources,
  with what it learns. Medians of three runs, ours and the vote's by turns.
"""

from __future__ import annotations

import math
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

from benchmarks.common import Document, Options, Result, document, main, percentiles
from benchmarks.fusion_data import EXCHANGES, Gold, Table, bitcoin, rates, stock, vendors, with_faults
from benchmarks.fusion_heldout import held_out
from benchmarks.fusion_judge import Decided, items_of, judged, quantile, share, to_the_cent
from qis.application.fusing import Plan, fuse
from qis.domain.errors import refuse
from qis.domain.fusion.items import Claimed, Item
from qis.domain.fusion.memory import Memory
from qis.domain.fusion.methods import DEFAULT_METHOD, METHODS, decide
from qis.domain.fusion.semantics import Semantics

SEEDS = (11, 12, 13, 14, 15)
NOISE = 0.0002
"""Standard deviation of a vendor's own price in B3, where it has one; a value within six of it is right."""
LITERATURE = ("vote", "median", "accu", "truth-finder", "crh")


def run(given: Mapping[str, object]) -> Document:
    """All six. ``data`` is needed."""
    options = Options.of(given)
    if options.data is None:
        raise refuse("data", "", "required", "names no directory: --set data=DIR")
    results = [
        *_speed(quick=options.quick),  # first: a child's memory counts from that of its parent
        *_stock(options.data),
        *_injected(options.data, quick=options.quick),
        *_bitcoin(options.data, quick=options.quick),
        *held_out(options.data, quick=options.quick),
    ]
    return document("fusion", results, method=DEFAULT_METHOD, seeds=list(SEEDS))


# B1, B2, B5: stock claims ------------------------------------------------------------------------


def _stock(folder: Path) -> list[Result]:
    results = []
    for gold_name in ("majority", "nasdaq"):
        table, gold = stock(folder, gold_name)
        found = {m: judged(table, gold, m, to_the_cent) for m in (DEFAULT_METHOD, *LITERATURE)}
        vote = share(found["vote"])
        for method, decided in found.items():
            label = f"B1 {gold_name} accuracy, {method}"
            results.append(_beside(label, share(decided), "share", "vote", vote, len(decided)))
        ours, first = found[DEFAULT_METHOD], table[0][0]
        later, voted = ([d for d in ds if d.snap > first] for ds in (ours, found["vote"]))
        results.append(
            _beside(
                f"B1 {gold_name} accuracy after day one, {DEFAULT_METHOD}",
                share(later),
                "share",
                "vote",
                share(voted),
                len(later),
            )
        )
        without, with_it = _with_convention(table, gold)
        results.append(
            _beside(
                f"B1 {gold_name} accuracy of the second half, conventions taken up",
                share(with_it),
                "share",
                DEFAULT_METHOD,
                share(without),
                len(with_it),
            )
        )
        _, best = _best_source(table, gold)
        results.append(
            _beside(
                f"B1 {gold_name} accuracy, best source in hindsight", best, "share", "vote", vote, len(gold)
            )
        )
        for precision in (0.999, 0.9999):
            mine, theirs = coverage(ours, precision), coverage(found["vote"], precision)
            results.append(
                _beside(
                    f"B2 {gold_name} coverage at {precision}", mine[0], "share", "vote", theirs[0], len(later)
                )
            )
            bounded = coverage(ours, precision, bounded_threshold)
            for what, figure in zip(("coverage", "precision reached"), bounded, strict=True):
                results.append(
                    _beside(
                        f"B2 {gold_name} {what} at {precision}, bounded",
                        figure,
                        "share",
                        None,
                        None,
                        len(later),
                    )
                )
            results.append(
                _beside(
                    f"B2 {gold_name} precision reached at {precision}",
                    mine[1],
                    "share",
                    "vote",
                    theirs[1],
                    len(later),
                )
            )
        results.append(
            _beside(
                f"B5 {gold_name} calibration error",
                calibration_error(ours),
                "share",
                "vote",
                calibration_error(found["vote"]),
                len(ours),
            )
        )
    return results


def _with_convention(table: Table, gold: Gold) -> tuple[list[Decided], list[Decided]]:
    """What taking up a proposal gains: verdicts of the second half of the snaps, without and with it.

    From the first half come the proposed conventions, and of each kind that one, if any, which has the gold's
    meaning more often than the house method. In the second half its sources alone speak for that kind.
    """
    half = len(table) // 2
    first = judged(table[:half], gold, DEFAULT_METHOD, to_the_cent)
    memory, semantics = Memory(), Semantics()
    snaps = ((at, items_of(rows)) for at, (_, rows) in enumerate(table[:half]))
    deque(fuse(snaps, Plan(DEFAULT_METHOD), memory, semantics), maxlen=0)
    chosen: dict[str, tuple[str, ...]] = {}
    for proposal in semantics.proposals(memory.copies()):
        series = {r.series for _, rows in table for r in rows if r.kind == proposal.kind}
        usual = share([d for d in first if d.series in series])
        narrowed = judged(
            _only(table[:half], {proposal.kind: proposal.sources}), gold, DEFAULT_METHOD, to_the_cent
        )
        if proposal.what == "convention" and share([d for d in narrowed if d.series in series]) > usual:
            chosen[proposal.kind] = proposal.sources
    later = {snap for snap, _ in table[half:]}
    without, with_it = (
        [d for d in judged(t, gold, DEFAULT_METHOD, to_the_cent) if d.snap in later]
        for t in (table, _only(table, chosen))
    )
    return without, with_it


def _only(table: Table, sources: Mapping[str, tuple[str, ...]]) -> Table:
    """A table in which only the given sources speak for a kind, where any of them does."""
    narrowed: Table = []
    for snap, rows in table:
        spoken = {r.series for r in rows if r.source in sources.get(r.kind, ())}
        narrowed.append((snap, [r for r in rows if r.series not in spoken or r.source in sources[r.kind]]))
    return narrowed


def _best_source(table: Table, gold: Gold) -> tuple[str, float]:
    """The most accurate source among those that give nine in ten of all values."""
    right: dict[str, int] = {}
    given: dict[str, int] = {}
    for snap, rows in table:
        for r in rows:
            truth = gold.get((snap, r.series))
            if truth is not None:
                given[r.source] = given.get(r.source, 0) + 1
                right[r.source] = right.get(r.source, 0) + to_the_cent(r.kind, Decimal(r.value), truth)
    broad = [s for s in given if given[s] >= 0.9 * len(gold)]
    best = max(broad, key=lambda s: right[s] / given[s])
    return best, right[best] / given[best]


def coverage(
    decided: Sequence[Decided],
    precision: float,
    threshold_of: Callable[[Sequence[Decided], float], Decimal] | None = None,
) -> tuple[float, float]:
    """Share of the values after the first snap that are published, and how many of them are right."""
    published = right = total = 0
    snaps = sorted({d.snap for d in decided})
    for snap in snaps[1:]:
        threshold = (threshold_of or _threshold)([d for d in decided if d.snap < snap], precision)
        today = [d for d in decided if d.snap == snap]
        sure = [d for d in today if d.verdict.confidence >= threshold]
        total += len(today)
        published += len(sure)
        right += sum(d.right for d in sure)
    return published / total, right / published if published else 1.0


def _threshold(past: Sequence[Decided], precision: float) -> Decimal:
    """The lowest confidence at and above which enough of the past was right."""
    ordered = sorted(past, key=lambda d: -d.verdict.confidence)
    lowest, wrong = Decimal(2), 0
    for i, d in enumerate(ordered):
        wrong += not d.right
        last_of_equals = i + 1 == len(ordered) or ordered[i + 1].verdict.confidence < d.verdict.confidence
        if last_of_equals and wrong <= (1 - precision) * (i + 1):
            lowest = d.verdict.confidence
    return lowest


def bounded_threshold(past: Sequence[Decided], precision: float) -> Decimal:
    """The lowest confidence at and above which the stated risk, corrected upwards, is within the target."""
    ordered = sorted((d.verdict.confidence for d in past), reverse=True)
    stated = sum(1 - float(c) for c in ordered)
    factor = max(1.0, most_expected(sum(not d.right for d in past)) / stated) if stated else math.inf
    lowest, risk = Decimal(2), 0.0
    for i, confidence in enumerate(ordered):
        risk += factor * (1 - float(confidence))
        if risk <= (1 - precision) * (i + 1):
            lowest = confidence
    return lowest


LEVEL = 0.95
"""Of every bound here."""


def most_expected(seen: int) -> float:
    """One-sided upper bound of the mean of a Poisson count (Garwood, Biometrika 28 (1936), 437)."""
    low, high = 0.0, 10.0 + 3 * seen
    for _ in range(60):
        mean = (low + high) / 2
        term = total = math.exp(-mean)
        for k in range(1, seen + 1):
            term *= mean / k
            total += term
        low, high = (mean, high) if total > 1 - LEVEL else (low, mean)
    return low


def calibration_error(decided: Sequence[Decided]) -> float:
    """Mean distance between confidence and accuracy over bins of equal count."""
    bins = 20
    ordered = sorted(decided, key=lambda d: d.verdict.confidence)
    error = 0.0
    for i in range(bins):
        part = ordered[i * len(ordered) // bins : (i + 1) * len(ordered) // bins]
        if part:
            sure = statistics.fmean(float(d.verdict.confidence) for d in part)
            error += len(part) * abs(sure - share(part))
    return error / len(ordered)


# B3, B5: injected faults ---------------------------------------------------------------------------


def _injected(folder: Path, *, quick: bool) -> list[Result]:
    truth = rates(folder)
    if quick:
        truth = {s: dict(sorted(days.items())[-200:]) for s, days in truth.items()}
    results = []
    for label, noise in (("passed on", 0.0), ("own prices", NOISE)):
        table, gold = vendors(truth, random.Random(SEEDS[0]), noise=noise)

        def right(_: str, value: Decimal, truth: Decimal, reach: float = 6 * noise) -> bool:
            return abs(value - truth) <= abs(truth) * Decimal(str(reach))

        ours, vote = (judged(table, gold, m, right) for m in (DEFAULT_METHOD, "vote"))
        median = judged(table, gold, "median", right)
        published = [d for d in ours if d.verdict.official]
        results += [
            _beside(
                f"B3 {label}: precision of published, lower bound at 95 %",
                lower_bound(published),
                "share",
                "vote, all published",
                lower_bound(vote),
                len(published),
            ),
            _beside(
                f"B3 {label}: wrong values published",
                sum(not d.right for d in published),
                "values",
                "median, all published",
                sum(not d.right for d in median),
                len(published),
            ),
            _beside(f"B3 {label}: coverage", len(published) / len(ours), "share", None, None, len(ours)),
            _beside(
                f"B3 {label}: right among all proposals",
                share(ours),
                "share",
                "vote",
                share(vote),
                len(ours),
            ),
            _beside(
                f"B5 {label}: calibration error",
                calibration_error(ours),
                "share",
                "vote",
                calibration_error(vote),
                len(ours),
            ),
        ]
    return results


def lower_bound(decided: Sequence[Decided]) -> float:
    """One-sided lower bound of the share of right values (Clopper and Pearson, Biometrika 26 (1934), 404)."""
    n, wrong = len(decided), sum(not d.right for d in decided)
    if wrong == 0:
        return float((1 - LEVEL) ** (1 / n))
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        # Probability of so few wrong or fewer, were the precision ``middle``: falls as precision falls.
        term = total = middle**n
        for k in range(1, wrong + 1):
            term *= (n - k + 1) / k * (1 - middle) / middle
            total += term
        low, high = (middle, high) if total < 1 - LEVEL else (low, middle)
    return low


# B4: reference rate --------------------------------------------------------------------------------


def _bitcoin(folder: Path, *, quick: bool) -> list[Result]:
    table, gold = bitcoin(folder)
    complete = {snap for snap, rows in table if len(rows) == len(EXCHANGES)}
    results = []
    everything = [
        ("clean", [table]),
        ("5 % faults", [with_faults(table, random.Random(s), 0.05) for s in SEEDS[: 1 if quick else None]]),
    ]
    for label, tables in everything:
        found: dict[str, list[list[float]]] = {}
        for method in METHODS:
            for faulted in tables:
                decided = judged(faulted, gold, method, lambda *_: True)
                errors = sorted(d.error for d in decided if d.snap in complete)
                found.setdefault(method, []).append(errors)
        for name, at in (("median", 0.5), ("p99", 0.99), ("max", 1.0)):
            value = {m: statistics.median(quantile(e, at) for e in errors) for m, errors in found.items()}
            n = len(found[DEFAULT_METHOD][0])
            results += [
                _beside(f"B4 {label}: {name} error, {m}", v, "bp", "median", value["median"], n)
                for m, v in value.items()
                if m != "median"
            ]
    return results


# B6: speed -----------------------------------------------------------------------------------------


def _speed(*, quick: bool) -> list[Result]:
    claims, rounds = (20_000, 1) if quick else (1_000_000, 3)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "claims.csv"
        _write_claims(file, claims)
        ours = [sys.executable, "-m", "qis", "fuse", str(file), "--out", f"{folder}/a.csv"]
        theirs = [sys.executable, "-m", "benchmarks.fusion_vote", str(file), f"{folder}/b.csv"]
        runs = [(_timed(ours), _timed(theirs)) for _ in range(rounds)]
        mine, vote = (statistics.median(run[i][0] for run in runs) for i in (0, 1))
        memory = runs[0][0][1]
        label = "B6 claims a processor second, file to file"
        results.append(_beside(label, claims / mine, "1/s", "vectorised vote", claims / vote, claims))
        results.append(
            Result(
                "B6 processor seconds for the file", mine, "s", "vectorised vote", vote, mine / vote, claims
            )
        )
        results.append(Result("B6 peak memory", memory, "MB", n=claims))
        results += _deciding(file, claims, rounds)
        noisy = claims // 4
        _write_claims(file, noisy, agree=False)
        mine, vote = _timed(ours)[0], _timed(theirs)[0]
        label = "B6 claims a processor second, sources that never agree exactly"
        results.append(_beside(label, noisy / mine, "1/s", "vectorised vote", noisy / vote, noisy))
    times = _decisions(200 if quick else 3000)
    p50, p95, p99 = percentiles(times)
    results.append(
        Result("B6 one decision between 50 sources", p50, "ms", n=len(times), p50=p50, p95=p95, p99=p99)
    )
    return results


def _deciding(file: Path, claims: int, rounds: int) -> list[Result]:
    """Deciding alone, of claims in memory."""
    from benchmarks.fusion_vote import read, won
    from qis.application.fusing_columns import fuse_columns
    from qis.cli.claims_file import ClaimsFile
    from qis.cli.fusing_file import read_claims
    from qis.cli.mapping import Mapped

    said, table = read_claims(ClaimsFile(file, Mapped(), "fuse"), Plan()).said, read(str(file))
    mine, vote = [], []
    for _ in range(rounds):
        begun = time.process_time()
        fuse_columns(said, Plan())
        between = time.process_time()
        won(table)
        mine.append(between - begun)
        vote.append(time.process_time() - between)
    label = "B6 claims a processor second, deciding alone"
    rates = (claims / statistics.median(seconds) for seconds in (mine, vote))
    return [_beside(label, next(rates), "1/s", "vectorised vote", next(rates), claims)]


def _write_claims(file: Path, count: int, *, agree: bool = True) -> None:
    """Claims of 20 sources on 500 series, one in fifty wrong; unless they agree, two basis points apart."""
    rng = random.Random(SEEDS[0])
    prices = [rng.randrange(1_000, 100_000) for _ in range(500)]
    with file.open("w", encoding="utf-8") as text:
        text.write("snap,reference_data_id,source,value\n")
        for i in range(count):
            day, rest = divmod(i, 10_000)
            series, source = divmod(rest, 20)
            if source == 0:
                prices[series] += rng.randrange(-50, 51)
            cents = prices[series] + (rng.randrange(1, 500) if rng.random() < 0.02 else 0)
            date = f"{2020 + day // 300}-{1 + day // 25 % 12:02}-{1 + day % 25:02}"
            price = (
                f"{cents // 100}.{cents % 100:02}" if agree else f"{cents * rng.gauss(1, NOISE) / 100:.5f}"
            )
            text.write(f"{date},S{series:03},source-{source:02},{price}\n")


def _timed(command: list[str]) -> tuple[float, float]:
    """Processor seconds of a program on one core, and the most memory in MB that any of ours has taken."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=_one_core())
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return seconds, used.ru_maxrss / 1024


def _one_core() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _decisions(count: int) -> list[float]:
    """Milliseconds of deciding and learning one item of fifty sources that never agree exactly."""
    rng, memory, times = random.Random(SEEDS[0]), Memory(), []
    for _ in range(count):
        claims = [Claimed(f"source-{i:02}", Decimal(str(round(rng.gauss(100, 0.05), 4)))) for i in range(50)]
        item = Item("S", "price", claims)
        begun = time.process_time()
        _, panel, chosen = decide(DEFAULT_METHOD, item, memory)
        memory.learn([(panel, chosen)])
        times.append((time.process_time() - begun) * 1000)
    return times


def _beside(
    metric: str, value: float, unit: str, baseline: str | None, other: float | None, n: int
) -> Result:
    ratio = value / other if other else None
    return Result(metric, value, unit, baseline, other, ratio, n)


if __name__ == "__main__":
    main(run)
