"""A source beside the others of its series: its usual distance from them, and whether it left it.

The consensus for a source is the median of the others, each freed of its own usual distance (its basis). The
source's distance from that is measured in its own scale, widened on days on which the others disagree among
themselves. A distance beyond ``peer_jump`` is a fault at once; smaller ones that persist add up to a ``bias``
(two-sided CUSUM, Page 1954). Days that fit the consensus of the day before or after better than that of their
own add up to a ``date_shift``. While a source is suspected its basis and scale stand still; after
``confirm_impossible`` observations on a new distance that is its basis. A source that drifts away again and
again needs more evidence each time: the threshold of its sums rises by a factor with every bias found and
comes back slowly (a stochastic approximation of the threshold that keeps alarms rare; Robbins, Monro 1951).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from math import exp
from typing import NamedTuple

from qis.domain.detection.rules import DetectionRules

FIRST_SPREAD = 0.01
FIRST_WEIGHT = 4
MATERIAL = 2e-4
"""Smallest scale of a distance: two basis points."""
SLOW = 1 / 40
STEP = 1 / 20
_WINSOR = 3.0
_SHIFT_CLIP = 4.0
_FITS = 3.0
"""Scales within which a shifted day fits."""
_CALM = 1.5
"""Steps of the market, in its scales, up to which venues differ as they usually do."""
_CLIP = 2.0
_LEAST_SLACK, _MOST_SLACK = 1.0, 2.0
_RISE = exp(0.4)
"""What a bias found makes of the threshold of the next; ``_FALL``: each observation takes a part of it back,
all of it in 200."""
_FALL = _RISE ** (-1 / 200)


class Distance(NamedTuple):
    """How a source's value stands to its peers'."""

    excess: float
    """Distance from where the source should be, as a difference of logarithms."""
    scales: float
    expected: float
    """Logarithm of the value that the peers and the source's basis make expected."""
    agreeing: bool
    """Whether the peers agree among themselves, so that they can speak against the source."""


class Peer:
    """State of one source beside the others."""

    __slots__ = (
        "ahead",
        "basis",
        "behind",
        "count",
        "guard",
        "high",
        "last",
        "low",
        "off",
        "off_n",
        "rules",
        "spread",
    )

    def __init__(self, rules: DetectionRules) -> None:
        self.rules = rules
        self.count = 0
        self.basis = 0.0
        self.spread = FIRST_SPREAD
        self.high = 0.0
        """The CUSUM upwards; ``low`` the one downwards."""
        self.guard = 1.0
        """How many times the usual evidence a bias needs."""
        self.low = 0.0
        self.off = 0.0
        """Distance while the source is off, and for how many observations it has been."""
        self.off_n = 0
        self.behind = 0.0
        """Evidence that the source says today what its peers said yesterday; ``ahead``: will say tomorrow."""
        self.ahead = 0.0
        self.last = 0.0
        """The source's last value."""

    @property
    def shifted(self) -> bool:
        """Whether the source's days are one off."""
        return max(self.behind, self.ahead) > self.rules.shift

    @property
    def biased(self) -> bool:
        """Whether the source's distance has drifted away."""
        return max(self.high, self.low) > 1.0

    def shift(self, x: float, consensus: float, before: float | None) -> None:
        """Take the evidence for days that are one off."""
        if before is not None and self.count:
            own = abs(x - consensus - self.basis)
            unit = max(self.spread, MATERIAL)
            moved = abs(consensus - before)
            if moved > unit:
                last = self.last - self.basis
                self.behind = self._more(self.behind, own, abs(x - before - self.basis), unit)
                self.ahead = self._more(self.ahead, abs(last - before), abs(last - consensus), unit)
        self.last = x

    def _more(self, evidence: float, own: float, shifted: float, unit: float) -> float:
        """The evidence with that of one more snap: how much better the shifted day fits, if it fits."""
        gain = (own - shifted) / unit
        if gain > 0.0 and shifted > _FITS * unit:
            return evidence
        return min(self.rules.shift + 4.0, max(0.0, evidence + max(-_SHIFT_CLIP, min(2.0, gain))))

    def is_new(self, excess: float, before: float | None) -> bool:
        """Whether most of the distance was not there one observation ago."""
        return before is None or abs(excess - (self.last - before - self.basis)) >= 0.7 * abs(excess)

    def fits_before(self, x: float, before: float) -> bool:
        """Whether the value is what the peers said one observation ago."""
        return abs(x - before - self.basis) < 2.0 * self.spread

    def accumulate(self, scales: float, *, complete: bool) -> None:
        """Add to the CUSUMs; a source that is back where it belongs is forgiven at once.

        The slack is half the bias sought, the optimum for a shift of that size; the threshold shrinks with it
        so that false alarms stay as rare, but never lets one observation alone be a bias. Where a peer is
        left out the consensus is not what the basis was learned against, and nothing is added.
        """
        slack = min(_MOST_SLACK, max(_LEAST_SLACK, 0.5 * self.rules.bias / self.spread))
        if self.biased and abs(scales) < slack:
            self.high = self.low = 0.0
            return
        if not complete and not self.biased:
            return
        limit = self.guard * max(1.1 * _CLIP, self.rules.drift / slack)
        z = max(-slack - _CLIP, min(slack + _CLIP, scales))
        self.high = min(2.0, max(0.0, self.high + (z - slack) / limit))
        self.low = min(2.0, max(0.0, self.low - (z + slack) / limit))

    def relax(self) -> None:
        """Forget a little of the biases found before."""
        if self.guard > 1.0:
            self.guard = max(1.0, self.guard * _FALL)

    def found_biased(self) -> None:
        """Ask more of the next bias."""
        self.guard *= _RISE

    def learn(self, excess: float) -> None:
        """Take a distance into the basis and the scale."""
        count = self.count = self.count + 1
        self.off_n = 0
        if count == 1:
            self.basis += excess
            return
        most = _WINSOR * self.spread
        bounded = max(-most, min(most, excess))
        self.basis += bounded * max(1.0 / (count + 1), SLOW)
        # The median of absolute distances, by stochastic approximation: what lies beyond counts as one.
        weight = max(1.0 / (count + FIRST_WEIGHT), STEP)
        self.spread *= exp(weight if abs(excess) > self.spread * 0.6745 else -weight)
        self.spread = max(self.spread, MATERIAL)

    def stay_off(self, excess: float) -> bool:
        """Count an observation off the basis; whether it now is the basis."""
        near = self.rules.peer_jump * self.spread
        self.off_n = self.off_n + 1 if self.off_n and abs(excess - self.off) <= near else 1
        self.off = excess
        if self.off_n < self.rules.confirm_impossible:
            return False
        self.basis += excess
        self.off_n = 0
        self.high = self.low = 0.0
        return True


def distances(values: Sequence[float], steps: Sequence[float], peers: Sequence[Peer]) -> list[Distance]:
    """The distance of each value from the median of the others.

    Args:
        values: logarithms, two at least, in the order of ``peers``.
        steps: each source's own step, in its scales: on days on which all move much, venues differ more.
    """
    freed = [x - p.basis for x, p in zip(values, peers, strict=True)]
    ordered = sorted(freed)
    centre = middle(ordered)
    stray = [abs(y - centre) / p.spread for y, p in zip(freed, peers, strict=True)]
    strays, moves = sorted(stray), sorted(steps)
    found = []
    for x, y, peer, off, step in zip(values, freed, peers, stray, steps, strict=True):
        consensus = _median_without(ordered, y)
        disagreement = _median_without(strays, off)
        unrest = max(1.0, disagreement, _median_without(moves, step) / _CALM)
        wide = 2.0 if peer.count < peer.rules.warm_up else 1.0
        excess = y - consensus
        scales = excess / (peer.spread * unrest * wide)
        found.append(Distance(excess, scales, consensus + (x - y), disagreement < peer.rules.peer_jump / 2))
    return found


def middle(ordered: Sequence[float]) -> float:
    """The median of a sorted sequence that is not empty."""
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else 0.5 * (ordered[half - 1] + ordered[half])


def _median_without(ordered: Sequence[float], one: float) -> float:
    """The median of a sorted sequence without one of its elements."""
    at, n = bisect_left(ordered, one), len(ordered) - 1

    def rest(i: int) -> float:
        return ordered[i if i < at else i + 1]

    return rest(n // 2) if n % 2 else 0.5 * (rest(n // 2 - 1) + rest(n // 2))
