"""A source beside the others of its series: its usual distance from them, and whether it left it.

The consensus for a source is that of the others, each freed of its own usual distance (its basis): a mean
weighted by how little each wanders, in which who is far from the rest counts for little (one step of Huber's
M-estimator from the median). Distances follow a first-order autoregression, learned for each source. What a
distance adds to what the last one made expected is measured in its own scale, widened on days on which the
others disagree among themselves: beyond ``peer_jump`` it is a fault at once. Smaller distances that persist
add up to a ``bias`` (two-sided CUSUM, Page 1954), whose limit grows with their long-run variance. Days that
fit the consensus of the day before or after better than that of their own add up to a ``date_shift``
(log-likelihood ratio under Student's distribution with three degrees of freedom).

While a source is suspected its basis and scale stand still, and where it now is is learned beside them: the
place and how much it wanders there, so that what it does there is one incident. After ``confirm_impossible``
observations the new place is the basis, with the scale that it has there. A source that drifts away again and
again needs more evidence each time: findings without a shape (a bias, or a jump not far beyond the threshold)
raise the thresholds of both by a factor, which comes back slowly (a stochastic approximation of the threshold
that keeps alarms rare; Robbins, Monro 1951).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from math import exp, log, pow, sqrt
from typing import NamedTuple

from qis.domain.detection.rules import DetectionRules

FIRST_SPREAD = 0.01
FIRST_WEIGHT = 4
MATERIAL = 2e-4
"""Smallest scale of a distance: two basis points."""
SLOW = 1 / 40
STEP = 1 / 20
_WINSOR = 3.0
_LEAST_WEIGHTED = 0.6
"""Part of the median scale below which a smaller scale gives a source no more weight in the consensus."""
_NEAR, _FAR = 1.5, 6.0
"""Scales from the median up to which a source has its full weight in the consensus, and from which none."""
_NONE = 1e-6
"""Weight of a source that has none: not zero, as all others may be as far."""
_SHIFT_CLIP = 4.0
_FREEDOM = 3.0
"""Degrees of freedom of distances: venues' have heavy tails."""
_FITS = 3.0
"""Scales within which a shifted day fits."""
_TO_SIGMA = 1.2533
_CALM = 1.5
"""Steps of the market, in its scales, up to which venues differ as they usually do."""
_CLIP = 2.0
_LEAST_SLACK, _MOST_SLACK = 1.0, 2.0
_INERTIA = 0.4
"""What is left of a distance in the next one, until the source has shown its own."""
_MOST_INERTIA = 0.95
_INERTIA_WEIGHT = 1 / 50
_AGAIN = 0.1
"""Scale of a new place, as a part of the distance by which it was reached."""
_RISE = exp(0.5)
"""What a finding of the budget makes of the evidence that the next one needs; ``_FALL``: each observation
takes a part of it back, what one made in 500. In the long run there is one such finding in 500 at most,
whatever the source does."""
_FALL = _RISE ** (-1 / 500)
_BARELY = 2.0
"""Up to how many times the threshold a jump counts against the budget: one far beyond does not say that the
threshold is too low."""
_MOST_GUARD = 9.0


class Distance(NamedTuple):
    """How a source's value stands to its peers'."""

    excess: float
    """Distance from where the source should be, as a difference of logarithms."""
    scales: float
    expected: float
    """Logarithm of the value that the peers and the source's basis make expected."""
    jump: float
    """What the distance adds to what the last one made expected, in scales of that."""
    agreeing: bool
    """Whether the peers agree among themselves, so that they can speak against the source."""


class Peer:
    """State of one source beside the others."""

    __slots__ = (
        "after",
        "ahead",
        "basis",
        "behind",
        "count",
        "guard",
        "high",
        "inertia",
        "last",
        "low",
        "news",
        "off",
        "off_n",
        "off_spread",
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
        """How many times the usual evidence a bias needs; a jump the root of that."""
        self.low = 0.0
        self.off = 0.0
        """Where the source is while it is off, its scale there, and for how many observations it has been."""
        self.off_spread = 0.0
        self.off_n = 0
        self.behind = 0.0
        """Evidence that the source says today what its peers said yesterday; ``ahead``: will say tomorrow."""
        self.ahead = 0.0
        self.last = 0.0
        """The source's last value."""
        self.inertia = _INERTIA
        """What is left of a distance in the next one; ``after`` is the last distance learned."""
        self.after = 0.0
        self.news = FIRST_SPREAD
        """Scale of what a distance adds to what was expected; ``spread`` is that of all of it."""

    @property
    def shifted(self) -> bool:
        """Whether the source's days are one off."""
        return max(self.behind, self.ahead) > self.rules.shift

    @property
    def biased(self) -> bool:
        """Whether the source's distance has drifted away."""
        return max(self.high, self.low) > 1.0

    def shift(self, x: float, consensus: float, before: float | None) -> None:
        """Take the evidence for days that are one off, and not for a source that wanders by itself."""
        if before is not None and self.count:
            own = abs(x - consensus - self.basis - self.inertia * self.after)
            unit = max(self.spread, MATERIAL)
            moved = abs(consensus - before)
            if moved > unit:
                last = self.last - self.basis
                self.behind = self._more(self.behind, own, abs(x - before - self.basis), unit)
                self.ahead = self._more(self.ahead, abs(last - before), abs(last - consensus), unit)
        self.last = x

    def _more(self, evidence: float, own: float, shifted: float, unit: float) -> float:
        """The evidence with that of one more snap: how much better the shifted day fits, if it fits."""
        gain = log(tail(own / unit) / tail(shifted / unit))
        if gain > 0.0 and shifted > _FITS * unit:
            return evidence
        most = self.rules.shift + _SHIFT_CLIP
        return min(most, max(0.0, evidence + max(-_SHIFT_CLIP, min(_SHIFT_CLIP, gain))))

    def is_new(self, excess: float, before: float | None) -> bool:
        """Whether most of the distance was not there one observation ago."""
        return before is None or abs(excess - (self.last - before - self.basis)) >= 0.7 * abs(excess)

    def fits_before(self, x: float, before: float) -> bool:
        """Whether the value is what the peers said one observation ago."""
        return abs(x - before - self.basis) < 2.0 * self.spread

    def accumulate(self, scales: float, *, complete: bool) -> None:
        """Add to the CUSUMs; a source that is back where it belongs is forgiven at once.

        The slack is half the bias sought, the optimum for a shift of that size; the threshold shrinks with it
        so that false alarms stay as rare, and grows with the long-run variance of distances that depend on
        each other, but never lets one observation alone be a bias. Where a peer is left out the consensus is
        not what the basis was learned against, and nothing is added.
        """
        slack = min(_MOST_SLACK, max(_LEAST_SLACK, 0.5 * self.rules.bias / self.spread))
        if self.biased and abs(scales) < slack:
            self.high = self.low = 0.0
            return
        if not complete and not self.biased:
            return
        long_run = (1.0 + self.inertia) / (1.0 - self.inertia)
        limit = self.guard * max(1.1 * _CLIP, self.rules.drift * long_run / slack)
        z = max(-slack - _CLIP, min(slack + _CLIP, scales))
        self.high = min(2.0, max(0.0, self.high + (z - slack) / limit))
        self.low = min(2.0, max(0.0, self.low - (z + slack) / limit))

    def relax(self) -> None:
        """Forget a little of the findings before."""
        if self.guard > 1.0:
            self.guard = max(1.0, self.guard * _FALL)

    @property
    def jump_limit(self) -> float:
        """Scales from which a jump is a fault."""
        return self.rules.peer_jump * sqrt(self.guard)

    def spend(self) -> None:
        """Ask more of the next finding without a shape."""
        self.guard = min(_MOST_GUARD, self.guard * _RISE)

    def spend_on(self, jump: float) -> None:
        """The same, if a jump was barely one."""
        if jump < _BARELY * self.jump_limit:
            self.spend()

    def learn(self, excess: float) -> None:
        """Take a distance into the basis and the scale."""
        count = self.count = self.count + 1
        self.off_n = 0
        if count == 1:
            self.basis += excess
            return
        new = excess - self.inertia * self.after
        z, last = (max(-_CLIP, min(_CLIP, e / self.spread)) for e in (excess, self.after))
        self.inertia += _INERTIA_WEIGHT * last * (z - self.inertia * last)
        self.inertia = max(0.0, min(_MOST_INERTIA, self.inertia))
        self.after = excess
        most = _WINSOR * self.spread
        bounded = max(-most, min(most, excess))
        self.basis += bounded * max(1.0 / (count + 1), SLOW)
        # The median of absolute distances, by stochastic approximation: what lies beyond counts as one.
        weight = max(1.0 / (count + FIRST_WEIGHT), STEP)
        self.spread *= exp(weight if abs(excess) > self.spread * 0.6745 else -weight)
        self.spread = max(self.spread, MATERIAL)
        self.news *= exp(weight if abs(new) > self.news * 0.6745 else -weight)
        self.news = max(self.news, MATERIAL)

    def stay_off(self, excess: float) -> bool:
        """Count an observation off the basis; whether where it is now is the basis.

        The first distance is the scale of the new place until the source has shown its own. What is farther
        from there than ``peer_jump`` of its scales is another place.
        """
        step = abs(excess - self.off)
        self.after *= self.inertia
        if not self.off_n or step > self.rules.peer_jump * self.off_spread:
            reached = step if self.off_n else abs(excess)
            self.off_n, self.off, self.off_spread = 1, excess, max(self.spread, _AGAIN * reached)
            return False
        self.off_n += 1
        self.off += (excess - self.off) * max(1.0 / self.off_n, 4.0 * STEP)
        weight = max(1.0 / (self.off_n + 1), 2.0 * STEP)
        self.off_spread = max(self.spread, self.off_spread + (_TO_SIGMA * step - self.off_spread) * weight)
        if self.off_n < self.rules.confirm_impossible:
            return False
        self.basis += self.off
        self.spread = self.off_spread
        self.news = max(self.news, self.off_spread)
        self.after = 0.0
        self.off_n = 0
        self.high = self.low = 0.0
        return True


def tail(scales: float) -> float:
    """How many times less likely than none a distance is, under Student's distribution."""
    return pow(1.0 + scales * scales / _FREEDOM, 0.5 * (_FREEDOM + 1.0))


def distances(values: Sequence[float], steps: Sequence[float], peers: Sequence[Peer]) -> list[Distance]:
    """The distance of each value from the consensus of the others.

    Args:
        values: logarithms, two at least, in the order of ``peers``.
        steps: each source's own step, in its scales: on days on which all move much, venues differ more.
    """
    freed = [x - p.basis - p.inertia * p.after for x, p in zip(values, peers, strict=True)]
    ordered = sorted(freed)
    centre = middle(ordered)
    stray = [abs(y - centre) / p.news for y, p in zip(freed, peers, strict=True)]
    strays, moves = sorted(stray), sorted(steps)
    weights = _weights(stray, max(1.0, middle(strays)), [p.news for p in peers])
    total, mass = sum(weights), sum(w * (y - centre) for w, y in zip(weights, freed, strict=True))
    found = []
    for x, y, peer, off, step, weight in zip(values, freed, peers, stray, steps, weights, strict=True):
        consensus = centre + (mass - weight * (y - centre)) / (total - weight)
        disagreement = _median_without(strays, off)
        unrest = max(1.0, disagreement, _median_without(moves, step) / _CALM)
        wide = 2.0 if peer.count < peer.rules.warm_up else 1.0
        excess = x - peer.basis - consensus
        scales = excess / (peer.spread * unrest * wide)
        jump = (y - consensus) / (peer.news * unrest * wide)
        agreeing = disagreement < peer.rules.peer_jump / 2
        found.append(Distance(excess, scales, consensus + (x - y), jump, agreeing))
    return found


def _weights(stray: Sequence[float], calm: float, spreads: Sequence[float]) -> list[float]:
    """What each source counts in the consensus, given its distance from the median in scales."""
    least = _LEAST_WEIGHTED * middle(sorted(spreads))
    found = []
    for off, spread in zip(stray, spreads, strict=True):
        weight = 1.0 / max(spread, least) ** 2
        scales = off / calm
        if scales > _NEAR:
            weight *= _NEAR / scales if scales < _FAR else _NONE
        found.append(weight)
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
