"""Quantiles of many numbers in constant memory, with a bounded relative error.

DDSketch (Masson, Rim, Lee: PVLDB 12(12), 2019): a number is counted in the bucket of its logarithm, so that
every quantile is right to one per cent of itself. Sketches add up by adding their counts, in any order and
with the same result; that is why a figure kept up step by step equals the one computed anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil, log

ACCURACY = 0.01
_GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
_LOG_GAMMA = log(_GAMMA)
SMALLEST = 1e-6
"""Numbers nearer to zero are counted as zero."""
_LARGEST = 1e18


def bucket_of(number: float) -> int:
    """The bucket of a number: 0 for zero, negative for negative numbers, ordered as they are."""
    size = min(abs(number), _LARGEST)
    if size < SMALLEST:
        return 0
    index = max(1, ceil(log(size / SMALLEST) / _LOG_GAMMA) + 1)
    return index if number > 0 else -index


def value_of(bucket: int) -> float:
    """The number that stands for a bucket: within ``ACCURACY`` of each in it."""
    if bucket == 0:
        return 0.0
    size = SMALLEST * _GAMMA ** (abs(bucket) - 1) * 2 / (_GAMMA + 1)
    return size if bucket > 0 else -size


def quantile(counts: Mapping[int, int], q: float) -> float | None:
    """The ``q`` quantile of the numbers counted, ``None`` of none."""
    total = sum(counts.values())
    if not total:
        return None
    rank = q * (total - 1)
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen > rank:
            return value_of(bucket)
    raise AssertionError("the rank lies within the total")


def sizes(counts: Mapping[int, int]) -> dict[int, int]:
    """The same of the numbers without their signs."""
    found: dict[int, int] = {}
    for bucket, count in counts.items():
        found[abs(bucket)] = found.get(abs(bucket), 0) + count
    return found


def counted(numbers: Iterable[float]) -> dict[int, int]:
    """The counts of some numbers."""
    found: dict[int, int] = {}
    for number in numbers:
        bucket = bucket_of(number)
        found[bucket] = found.get(bucket, 0) + 1
    return found
