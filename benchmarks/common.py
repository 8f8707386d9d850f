"""What the benchmarks share: options, the machine, statistics, and the document that they give."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

from qis.domain.errors import refuse

PACKAGES = ("psycopg", "boto3", "aws-lambda-powertools", "pydantic", "eventsourcing", "ministack", "river")
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Options:
    """``quick``: few repetitions, to see that it works; its figures mean nothing. ``data``: a directory."""

    quick: bool = False
    data: Path | None = None

    @classmethod
    def of(cls, given: Mapping[str, object]) -> Self:
        """Options by name, as a command line gives them.

        Raises:
            InvalidInput: an option is not known, or ``quick`` is not yes or no.
        """
        for name in given.keys() - {"quick", "data"}:
            raise refuse(name, str(given[name]), "known-option", "is not an option; there are quick, data")
        quick = str(given.get("quick", False)).lower()
        if quick not in ("true", "false", "1", "0"):
            raise refuse("quick", quick, "choice", "is not true or false")
        data = given.get("data")
        return cls(quick in ("true", "1"), None if data is None else Path(str(data)))


@dataclass(frozen=True, slots=True)
class Result:
    """One figure beside its baseline. Of a rate, the percentiles are milliseconds a batch; of a time they
    are in its own unit."""

    metric: str
    value: float
    unit: str
    baseline: str | None = None
    baseline_value: float | None = None
    ratio: float | None = None
    """``value`` to ``baseline_value``: the median of the ratios of paired rounds, where there are rounds."""
    n: int = 0
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


def percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    """p50, p95 and p99 by nearest rank."""
    ordered = sorted(values)
    p50, p95, p99 = (ordered[max(0, -(-p * len(ordered) // 100) - 1)] for p in (50, 95, 99))
    return p50, p95, p99


def paired_ratio(values: Sequence[float], baseline: Sequence[float]) -> float:
    """Median of the ratios round by round: what both rounds of a pair suffered from cancels out."""
    return statistics.median(v / b for v, b in zip(values, baseline, strict=True))


@dataclass(slots=True)
class Rounds:
    """Seconds of each round and milliseconds of each call of one contender."""

    seconds: list[float]
    calls: list[float]

    def run(self, calls: Sequence[Callable[[], object]]) -> None:
        """One more round."""
        begun = time.perf_counter()
        for call in calls:
            started = time.perf_counter()
            call()
            self.calls.append((time.perf_counter() - started) * 1000)
        self.seconds.append(time.perf_counter() - begun)


def against(
    metric: str, unit: str, n: int, mine: Rounds, baseline: str | None = None, other: Rounds | None = None
) -> Result:
    """The rate of rounds of ``n`` things each, beside that of the paired rounds of a baseline."""
    value = n / statistics.median(mine.seconds)
    found = percentiles(mine.calls)
    total = n * len(mine.seconds)
    if other is None:
        return Result(metric, value, unit, n=total, p50=found[0], p95=found[1], p99=found[2])
    ratio = paired_ratio(other.seconds, mine.seconds)
    return Result(metric, value, unit, baseline, n / statistics.median(other.seconds), ratio, total, *found)


def document(name: str, results: Sequence[Result], **more: object) -> Document:
    """The document of a benchmark; of ``more``, ``fsync`` joins the machine and ``postgres`` the versions."""
    return {
        "name": name,
        "machine": {**machine(), "fsync": more.pop("fsync", None)},
        "versions": {**versions(), "postgres": more.pop("postgres", None)},
        **more,
        "results": [_rounded(asdict(r)) for r in results],
    }


def _rounded(result: dict[str, Any]) -> dict[str, Any]:
    return {k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in result.items()}


def machine() -> dict[str, Any]:
    """The processor, memory and kernel that the figures were taken on, and how busy they were."""
    return {
        "cpu": _line(Path("/proc/cpuinfo"), "model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_mb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20),
        "kernel": f"{platform.system()} {platform.release()}",
        "load_1m": round(os.getloadavg()[0], 2),
    }


def _line(file: Path, name: str) -> str | None:
    if not file.exists():
        return None
    for line in file.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


def versions() -> dict[str, Any]:
    """Python and the packages that take part."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {"python": platform.python_version(), "packages": found}


def fsync_ms(folder: Path) -> float:
    """Median milliseconds of writing 8 KiB durably in ``folder``: what no commit can be faster than."""
    taken = []
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        for _ in range(50):
            file.seek(0)
            started = time.perf_counter()
            file.write(b"\0" * 8192)
            file.flush()
            os.fdatasync(file.fileno())
            taken.append((time.perf_counter() - started) * 1000)
    return round(statistics.median(taken), 3)


def main(run: Callable[[Mapping[str, object]], Document]) -> None:
    """Run one benchmark as a program: ``--quick``, ``--data DIR``; the document goes to stdout."""
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="few repetitions: the figures mean nothing")
    parser.add_argument("--data", metavar="DIR", help="where its data lies, or that of the running twin")
    given = vars(parser.parse_args())
    json.dump(run({k: v for k, v in given.items() if v is not None}), sys.stdout, indent=2)
    print()
