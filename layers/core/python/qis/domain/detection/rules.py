"""Thresholds of the detectors: data, versioned, with the same few numbers for every series.

Scores are in units of the series' own robust scale, so one set serves a currency and a coin. The defaults
were chosen on the training part of ``benchmarks/detection.py``, never on what it scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from qis.domain.errors import refuse
from qis.domain.series import check_fields, check_slug


@dataclass(frozen=True, slots=True)
class DetectionRules:
    """One version of the thresholds. Lengths are in observations."""

    rules: str = "default"
    version: int = 2
    jump: float = 7.0
    """A step of this many scales is a spike at once."""
    reversal: float = 4.0
    """A step of this many scales is a spike once the next takes it back."""
    returned: float = 0.3
    """What part of a step may remain for it to count as taken back."""
    confirm: int = 3
    """Observations on a new level that make it the level."""
    confirm_impossible: int = 20
    """The same where the step is one that no market makes: a sign, a power of ten."""
    stale: float = 1e-4
    """A run is stale when the source's own past makes it less likely than this."""
    peer_jump: float = 12.0
    """Distance from the peers, in scales of what it adds to the last, that is a fault at once."""
    peer_slip: float = 4.0
    """The same where exchanging two digits puts it right."""
    slip_odds: float = 25.0
    """How many times better that has to explain the value than a wide distance does."""
    bias: float = 0.01
    """Smallest relative distance from the peers worth finding, where it lasts."""
    drift: float = 4.0
    """Threshold of the sum behind ``bias``, in scales squared of distances that do not depend on another."""
    shift: float = 8.0
    """Evidence (sum of log-likelihood gains) that a source's days are those of its peers, one off."""
    volume: float = 9.0
    """Distance of the logarithm of volume from its level, in scales."""
    warm_up: int = 20
    """Observations before a scale is trusted; until then thresholds are double."""

    @property
    def name(self) -> str:
        """What evidence names."""
        return f"{self.rules}/{self.version}"


def parse_detection_rules(given: object) -> DetectionRules:
    """Thresholds as they come by file; what is not named keeps its default.

    Raises:
        InvalidInput: an unknown threshold, one that is not a finite number above zero, or a length that is
            not whole.
    """
    known = {f.name: f.type for f in fields(DetectionRules)}
    body = check_fields(given, "", {"rules", "version"}, set(known))
    values: dict[str, Any] = {"rules": check_slug(body["rules"], "rules")}
    for name in body.keys() - {"rules"}:
        value = body[name]
        number = float(value) if isinstance(value, (int, float, str)) and _numeric(value) else math.nan
        if not (math.isfinite(number) and number > 0):
            raise refuse(name, value, "positive", "is not a finite number above zero")
        if known[name] == "int" and number != int(number):
            raise refuse(name, value, "whole", "is not a whole number")
        values[name] = int(number) if known[name] == "int" else number
    return DetectionRules(**values)


def _numeric(value: float | str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return not isinstance(value, bool)
