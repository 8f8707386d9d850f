"""What was chosen by hand, tried where it was not chosen: part of ``qis bench fusion``.

- **Halves.** The figures of the default by half: first days and last days, every second symbol; for the
  reference rate by year. Everything stays causal: what is learned of claims goes on, gold is never learned.
- **Constants.** Each constant of the method is halved and doubled (a share by its odds). On a development
  half the best of the three is chosen, and what that gains is told beside what it gains on the other half,
  both ways. A constant is fragile where a choice that gains on one half loses on the other, or where halving
  or doubling it moves the figure much; the figure is the mean of the Brier score (Brier, Monthly Weather
  Review 78(1), 1950) of confidence for the stock claims, the mean error beside that of the median for the
  reference rate.
- **Coherence.** Accuracy with the identities between attributes in the rules, beside the default without:
  on the stock claims, and on made-up quotes of few sources.
- **Worlds.** ``fusion_worlds``: the default beside the best of vote, median and accu on each, on seeds that
  nothing was chosen with.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from benchmarks.common import Result
from benchmarks.fusion_data import EXCHANGES, Gold, Table, bitcoin, stock
from benchmarks.fusion_judge import Decided, judged, quantile, share, to_the_cent
from benchmarks.fusion_worlds import WORLDS, World, made, quotes
from qis.domain.fusion import calibration, consensus, memory
from qis.domain.fusion.coherence import parse_identities
from qis.domain.fusion.methods import DEFAULT_METHOD

IDENTITIES = parse_identities(
    [
        {"kind": "change_pct", "is": "percent-change", "of": ["last_price", "prev_close"]},
        {"kind": "prev_close", "is": "previous", "of": ["last_price"]},
    ],
    "identities",
)
WORLD_SEEDS = (101, 102)
RIVALS = ("vote", "median", "accu")
FARTHEST = 1000.0
"""An error in basis points counts as at most this much in a mean."""


class Constant(NamedTuple):
    """A number in the code that was set by hand."""

    module: ModuleType
    name: str
    odds: bool = False
    """Whether it is a share, of which the odds are halved and doubled."""

    def times(self, factor: float) -> float:
        """The constant, or its odds, so many times as great; a whole number stays one."""
        now: float = getattr(self.module, self.name)
        if self.odds:
            top = 100 if isinstance(now, int) else 1
            odds = now / (top - now) * factor
            changed = top * odds / (1 + odds)
        else:
            changed = now * factor
        return max(1, round(changed)) if isinstance(now, int) else changed


CONSTANTS = (
    Constant(consensus, "REACH"),
    Constant(consensus, "STRESS"),
    Constant(consensus, "LEAP"),
    Constant(consensus, "LEAP_ODDS"),
    Constant(consensus, "CENTRAL", odds=True),
    Constant(consensus, "EXACT_FROM", odds=True),
    Constant(memory, "BEST", odds=True),
    Constant(memory, "COPIES_FROM", odds=True),
    Constant(memory, "COPIES_EVIDENCE"),
    Constant(memory, "HORIZON"),
    Constant(calibration, "DEPENDENT"),
    Constant(calibration, "CHANCE", odds=True),
    Constant(calibration, "CONVENTION_SLOPE"),
    Constant(calibration, "VOICE"),
)
FACTORS = (0.5, 1.0, 2.0)


@contextmanager
def set_to(constant: Constant, factor: float) -> Iterator[None]:
    """The constant at another value for a while."""
    now = getattr(constant.module, constant.name)
    setattr(constant.module, constant.name, constant.times(factor))
    try:
        yield
    finally:
        setattr(constant.module, constant.name, now)


Score = Callable[[Sequence[Decided]], float]
"""Less is better."""
Halves = Mapping[str, Callable[[Decided], bool]]


class Trial(NamedTuple):
    """Data that a constant is tried on: how to decide it, how to score, and pairs of halves of it."""

    name: str
    unit: str
    decide: Callable[[], list[Decided]]
    score: Score
    pairs: Sequence[tuple[tuple[str, Callable[[Decided], bool]], tuple[str, Callable[[Decided], bool]]]]


def brier(decided: Sequence[Decided]) -> float:
    """Mean squared distance of confidence from what came out."""
    return statistics.fmean((float(d.verdict.confidence) - d.right) ** 2 for d in decided)


def distance(decided: Sequence[Decided]) -> float:
    """Mean error in basis points."""
    return statistics.fmean(min(d.error, FARTHEST) for d in decided)


def held_out(folder: Path, *, quick: bool) -> list[Result]:
    """All of it."""
    trials = [_stock(folder), _bitcoin(folder)]
    results = []
    for trial in trials:
        as_it_is = trial.decide()
        results += _halves(trial, as_it_is)
        for constant in CONSTANTS[: 2 if quick else None]:
            results += _sensitivity(trial, constant, as_it_is)
    results += _coherent(folder, (2,) if quick else (2, 3, 5))
    return results + _worlds(WORLDS[: 2 if quick else None], WORLD_SEEDS[: 1 if quick else None])


def _coherent(folder: Path, sources: Sequence[int]) -> list[Result]:
    results = []
    for gold_name in ("majority", "nasdaq"):
        table, gold = stock(folder, gold_name)
        results += _with_identities(f"stock, {gold_name} gold", table, gold, to_the_cent)
    for many in sources:
        for derived in (False, True):
            table, gold = quotes(many, random.Random(many), derived=derived)
            told = f"{many} sources{', changes of their own' if derived else ''}"
            results += _with_identities(told, table, gold, lambda _, value, truth: value == truth)
    return results


def _with_identities(
    told: str, table: Table, gold: Gold, right: Callable[[str, Decimal, Decimal], bool]
) -> list[Result]:
    without, coherent = (judged(table, gold, DEFAULT_METHOD, right, i) for i in ((), IDENTITIES))
    results = []
    for what, score in (
        ("accuracy", share),
        ("official", lambda ds: sum(d.verdict.official for d in ds) / len(ds)),
        ("wrong of official", lambda ds: float(sum(d.verdict.official and not d.right for d in ds))),
    ):
        ours, theirs = score(coherent), score(without)
        ratio = ours / theirs if theirs else None
        unit = "values" if what.startswith("wrong") else "share"
        results.append(Result(f"coherence, {told}: {what}", ours, unit, "without", theirs, ratio, len(gold)))
    return results


def _stock(folder: Path) -> Trial:
    table, gold = stock(folder, "majority")
    middle = table[len(table) // 2][0]
    symbols = sorted({r.series.split(".")[0] for _, rows in table for r in rows})
    even = set(symbols[::2])
    by_day = (
        ("first days", lambda d: d.snap < middle),
        ("last days", lambda d: d.snap >= middle),
    )
    by_symbol = (
        ("even symbols", lambda d: d.series.split(".")[0] in even),
        ("odd symbols", lambda d: d.series.split(".")[0] not in even),
    )
    return Trial(
        "stock",
        "Brier score",
        lambda: judged(table, gold, DEFAULT_METHOD, to_the_cent),
        brier,
        (by_day, by_symbol),
    )


def _bitcoin(folder: Path) -> Trial:
    table, gold = bitcoin(folder)
    complete = {snap for snap, rows in table if len(rows) == len(EXCHANGES)}
    years = sorted({snap[:4] for snap in complete})

    def decide() -> list[Decided]:
        found = judged(table, gold, DEFAULT_METHOD, lambda *_: True)
        return [d for d in found if d.snap in complete]

    pairs = [
        (
            (f"all but {year}", lambda d, year=year: not d.snap.startswith(year)),
            (year, lambda d, year=year: d.snap.startswith(year)),
        )
        for year in (years if len(years) > 1 else ())
    ]
    return Trial("bitcoin", "bp", decide, distance, pairs)


def _halves(trial: Trial, decided: Sequence[Decided]) -> list[Result]:
    results = []
    for pair in trial.pairs:
        for label, holds in pair:
            part = [d for d in decided if holds(d)]
            name = f"held out, {trial.name}, {label}"
            if trial.unit == "bp":
                errors = sorted(d.error for d in part)
                results += [
                    Result(f"{name}: {what} error", quantile(errors, at), "bp", n=len(part))
                    for what, at in (("median", 0.5), ("p99", 0.99), ("max", 1.0))
                ]
            else:
                results.append(Result(f"{name}: accuracy", share(part), "share", n=len(part)))
                results.append(Result(f"{name}: Brier score", brier(part), "", n=len(part)))
    return results


def _sensitivity(trial: Trial, constant: Constant, as_it_is: Sequence[Decided]) -> list[Result]:
    found: dict[float, Sequence[Decided]] = {1.0: as_it_is}
    for factor in FACTORS:
        if factor != 1.0:
            with set_to(constant, factor):
                found[factor] = trial.decide()
    name = f"constant {constant.name}, {trial.name}"
    usual = trial.score(as_it_is)
    results = [
        _beside(f"{name}, {told}", trial.score(found[factor]), trial.unit, usual, len(as_it_is))
        for factor, told in ((0.5, "halved"), (2.0, "doubled"))
    ]
    for pair in trial.pairs:
        for (label, here), (other, there) in (pair, pair[::-1]):
            scores = {f: trial.score([d for d in ds if here(d)]) for f, ds in found.items()}
            best = min(FACTORS, key=lambda f: (scores[f], abs(f - 1)))
            if best == 1.0:
                continue
            gained = 1 - scores[best] / scores[1.0]
            held = trial.score([d for d in found[best] if there(d)])
            before = trial.score([d for d in as_it_is if there(d)])
            results.append(
                Result(
                    f"{name}, times {best:g} is best on {label}: gain on {other}",
                    1 - held / before,
                    "share",
                    f"gain on {label}",
                    gained,
                    None,
                    len(as_it_is),
                )
            )
    return results


def _beside(metric: str, value: float, unit: str, usual: float, n: int) -> Result:
    return Result(metric, value, unit, "as it is", usual, value / usual, n)


def _worlds(worlds: Sequence[World], seeds: Sequence[int]) -> list[Result]:
    results = []
    for world in worlds:
        scores: dict[str, list[float]] = {}
        wrong = official = 0
        for seed in seeds:
            table, gold = made(world, random.Random(seed))
            for method in (DEFAULT_METHOD, *RIVALS):
                decided = judged(table, gold, method, lambda _, value, truth: value == truth)
                score = distance(decided) if world.own else share(decided)
                scores.setdefault(method, []).append(score)
                if method == DEFAULT_METHOD:
                    published = [d for d in decided if d.verdict.official]
                    official += len(published)
                    wrong += sum(not d.right for d in published)
        means = {m: statistics.fmean(s) for m, s in scores.items()}
        rival = (min if world.own else max)(RIVALS, key=means.__getitem__)
        n = world.series * world.snaps * len(seeds)
        ours, theirs = means[DEFAULT_METHOD], means[rival]
        what, unit = ("mean error", "bp") if world.own else ("accuracy", "share")
        results.append(
            Result(f"world {world.name}: {what}", ours, unit, f"best: {rival}", theirs, ours / theirs, n)
        )
        if not world.own:
            results.append(
                Result(f"world {world.name}: wrong of official", float(wrong), "values", n=official)
            )
    return results
