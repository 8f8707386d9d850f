"""One source's own past: its level, its scale, and whether the next number is plausible.

The model is a random walk of logarithms whose robust scale adapts (the larger of a slow exponential mean of
absolute steps and the mean of the slow and a fast one), with heavy tails allowed for by the thresholds. A
step beyond ``jump`` scales is a fault at once; one beyond ``reversal`` is doubted, and is one if the next
takes it back. What is doubted or faulty is held: it does not enter the level or the scale until what follows
confirms it, after a bounded number of observations.
"""

from __future__ import annotations

from decimal import Decimal
from math import exp, log, sqrt
from typing import NamedTuple

from qis.domain.detection.judgement import Action, Fault
from qis.domain.detection.rules import DetectionRules
from qis.domain.detection.shapes import LN10, one_key_off, slip

FIRST_SCALE = 0.02
"""Scale of a series of which nothing is known, and how many observations that is worth."""
FIRST_WEIGHT = 4
MATERIAL = 1e-4
"""Smallest scale: a series that hardly moves is not faulty for moving a basis point."""
FAST, SLOW = 1 / 10, 1 / 60
_TO_SIGMA = 1.2533
"""From the mean absolute step to the standard deviation, for normal steps."""
_REPEAT_PRIOR = 0.01
_REPEAT_WEIGHT = 50
_NO_TRADE = log(1e3)
"""Evidence that a repeated value is no news where the source itself says that nothing was traded."""
_MOST_SURPRISE = 40.0
_LONG_WEEKEND_NS = 4 * 86_400 * 10**9
_MOST_PATIENCE = 3.0


class Suspicion(NamedTuple):
    """A fault as the parts of the detector tell it to each other."""

    kind: Fault
    score: float
    action: Action
    since_ns: int
    value: str
    expected: str
    measured: str
    threshold: str
    peers: tuple[str, ...] = ()
    repair: str | None = None


class Stream:
    """State of one source. ``judge`` takes the next observation; times only go up."""

    __slots__ = (
        "alert",
        "count",
        "exponent",
        "fast",
        "former",
        "former_left",
        "held",
        "held_n",
        "held_since",
        "held_value",
        "last_ns",
        "level",
        "limit",
        "linear",
        "repeats",
        "rules",
        "run",
        "scale",
        "slow",
        "surprise",
        "volume_level",
        "volume_n",
        "volume_scale",
        "x",
    )

    def __init__(self, rules: DetectionRules) -> None:
        self.rules = rules
        self.count = 0
        self.level = 0.0
        """Last believed value (its logarithm unless ``linear``)."""
        self.x = 0.0
        """Last value of all."""
        self.last_ns = 0
        self.fast = self.slow = FIRST_SCALE / _TO_SIGMA
        self.scale = FIRST_SCALE
        self.limit = 0.0
        self.exponent = 0
        self.linear = False
        self.alert = 0
        """0: nothing is held; 1: the last value is doubted; 2: it is faulty, but a market may make such a
        step; 3: it is faulty, and no market makes such a step."""
        self.former = 0.0
        """The level before the last that was adopted, and for how many observations it may come back."""
        self.former_left = 0
        self.held = 0.0
        self.held_n = 0
        self.held_since = 0
        self.held_value = ""
        self.run = 1
        self.repeats = 0.0
        self.surprise = 0.0
        self.volume_n = 0
        self.volume_level = 0.0
        self.volume_scale = 1.0

    @property
    def stale(self) -> bool:
        """Whether the run that the last value belongs to is stale."""
        return self.surprise > -log(self.rules.stale)

    @property
    def tick(self) -> float:
        """The smallest step there is to be seen, on the stream's axis."""
        return 2.0 * self._floor()

    def step(self, value: Decimal) -> tuple[float, float]:
        """The value on the stream's axis, and its distance from the level in scales."""
        x = self._axis(float(value))
        return x, (x - self.level) / self.scale if self.count else 0.0

    def judge(
        self,
        ns: int,
        value: Decimal,
        volume: Decimal | None = None,
        peers_moved: float | None = None,
        vouched: bool = False,
    ) -> list[Suspicion] | None:
        """Judge and take the next value; ``None`` where nothing speaks against it.

        Args:
            peers_moved: how far the other sources moved since the last observation, in the spread between
                this source and them; ``None`` where there are none.
            vouched: whether other sources say the same, so that a step is a move of the market.
        """
        number = float(value)
        if number > 0.0 and not self.linear:
            x = log(number)
            step = x - self.level
            if -self.limit < step < self.limit and x != self.x and not self.alert and volume is None:
                self.last_ns = ns
                self._accept(x, step if step >= 0.0 else -step)
                return None
        else:
            x = self._axis(number)
        return self._examine(ns, value, number, x, volume, peers_moved, vouched) or None

    def set_aside(self, ns: int, value: Decimal) -> None:
        """Note a value that others found faulty: it does not touch the level or the scale."""
        x = self._axis(float(value))
        self.run = self.run + 1 if x == self.x else 1
        self.x, self.last_ns = x, ns

    def rebase(self, shift: float) -> None:
        """Move the level, and what is remembered beside it, by ``shift``."""
        self.level += shift
        self.x += shift
        self.held += shift
        self.former += shift
        self.volume_level -= shift

    def _axis(self, number: float) -> float:
        if self.linear:
            return number
        return log(number) if number > 0.0 else -1e9

    def _accept(self, x: float, size: float) -> None:
        """Believe ``x``, a step of ``size`` away from the level."""
        self.x = self.level = x
        self.run, self.surprise = 1, 0.0
        self._learn(size)

    def _learn(self, size: float) -> None:
        if self.former_left:
            self.former_left -= 1
        count = self.count = self.count + 1
        if count < 60:
            self.slow += (size - self.slow) / (count + FIRST_WEIGHT)
            self.fast += (size - self.fast) / min(count + FIRST_WEIGHT, 10)
        else:
            self.slow += (size - self.slow) * SLOW
            self.fast += (size - self.fast) * FAST
        self._rescale()

    def _rescale(self) -> None:
        slow, fast = self.slow, self.fast
        scale = _TO_SIGMA * (slow if slow > fast else 0.5 * (slow + fast))
        floor = self._floor()
        self.scale = scale if scale > floor else floor
        self.limit = self.rules.reversal * self.scale
        if self.count < self.rules.warm_up:
            self.limit += self.limit

    def _floor(self) -> float:
        """Half a tick, and what is not material."""
        if self.linear:
            return 0.5 * 10.0**self.exponent
        tick = 0.5 * exp(LN10 * self.exponent - self.level) if self.exponent * LN10 < self.level else 0.5
        return tick if tick > MATERIAL else MATERIAL

    def _examine(
        self,
        ns: int,
        value: Decimal,
        number: float,
        x: float,
        volume: Decimal | None,
        peers_moved: float | None,
        vouched: bool,
    ) -> list[Suspicion]:
        found: list[Suspicion] = []
        if volume is not None:
            self._judge_volume(ns, volume, found)
        if not number and not self.linear:
            found.append(self._zero(ns, value))
            return found
        gap_ns = ns - self.last_ns
        self.last_ns = ns
        exponent = value.as_tuple().exponent
        assert isinstance(exponent, int)
        self.exponent = exponent if not self.count else min(self.exponent, exponent)
        if not self.count:
            if number <= 0.0:
                self.linear = True
                x = number
            self.x = self.level = x
            self.fast = self.slow = self._first_scale(number)
            self._learn(self.slow)
        elif x == self.x:
            self._repeat(ns, value, volume, peers_moved, found)
        else:
            self._end_run()
            self.x = x
            self._move(ns, value, number, x, gap_ns, vouched, found)
        return found

    def _zero(self, ns: int, value: Decimal) -> Suspicion:
        """Zero is no price, however often it comes: it is never held, and says nothing of the source."""
        expected = self._expected() if self.count else ""
        return Suspicion(Fault.ZERO, 0.99, Action.QUARANTINE, ns, str(value), expected, "zero", "above zero")

    def _first_scale(self, number: float) -> float:
        relative = FIRST_SCALE / _TO_SIGMA
        return relative * max(abs(number), 10.0**self.exponent) if self.linear else relative

    # repeated values

    def _repeat(
        self,
        ns: int,
        value: Decimal,
        volume: Decimal | None,
        peers_moved: float | None,
        found: list[Suspicion],
    ) -> None:
        """The same number again: news where it is rare for this source, more so where its peers moved."""
        self.run += 1
        if self.alert:
            self._hold_on(ns, value, self.x, found)
            return
        usual = (self.repeats + _REPEAT_PRIOR * _REPEAT_WEIGHT) / (self.count + _REPEAT_WEIGHT)
        evidence = -log(usual)
        if peers_moved is not None:
            evidence += min(abs(peers_moved), 10.0) - 1.0
        if volume is not None and not volume:
            evidence += _NO_TRADE
        self.surprise = min(self.surprise + max(evidence, 0.0), _MOST_SURPRISE)
        threshold = -log(self.rules.stale)
        if self.surprise <= threshold:
            self.count += 1
            self.repeats += 1
            return
        found.append(
            Suspicion(
                Fault.STALE,
                1 - exp(-self.surprise / threshold * 2),
                Action.QUARANTINE,
                ns,
                str(value),
                "",
                f"{self.run} observations alike, evidence {self.surprise:.2f}",
                f"evidence {threshold:.2f}",
            )
        )

    def _end_run(self) -> None:
        """A run that ended is learned from, a stale one a little, so that a peg is not stale for ever."""
        if self.stale:
            self.count += 1
            self.repeats += min(self.run - 1, 3)
        self.run, self.surprise = 1, 0.0

    # moves

    def _move(
        self,
        ns: int,
        value: Decimal,
        number: float,
        x: float,
        gap_ns: int,
        vouched: bool,
        found: list[Suspicion],
    ) -> None:
        if vouched:
            self.alert = 0
            self._accept(x, min(abs(x - self.level), self.limit))
            return
        if self.alert and self._settle(ns, value, x, found):
            return
        wide = 2.0 if self.count < self.rules.warm_up else 1.0
        z = abs(x - self.level) / (self.scale * wide * self._patience(gap_ns))
        impossible = not self.linear and number <= 0.0
        if z < self.rules.reversal and not impossible:
            self._accept(x, abs(x - self.level))
            return
        self.held, self.held_n, self.held_since, self.held_value = x, 1, ns, str(value)
        self.alert = 0
        if z < self.rules.jump and not impossible:
            self.alert = 1
            return
        found.append(self._implausible(ns, value, z))
        if self._restored(x):
            self.alert, self.level, self.former_left = 0, x, 0

    def _patience(self, gap_ns: int) -> float:
        """After a silence of days a larger step is plausible: by the root of its length in long weekends."""
        return min(sqrt(max(1.0, gap_ns / _LONG_WEEKEND_NS)), _MOST_PATIENCE)

    def _implausible(self, ns: int, value: Decimal, z: float) -> Suspicion:
        """The finding about a step beyond ``jump``; the value is held."""
        why = None if self.linear else slip(value, self.level, self._near())
        kind, repair = (Fault.SPIKE, None) if why is None else (why.kind, why.repair)
        if value < 0 and not self.linear:
            kind = Fault.SIGN
        never = kind in (Fault.SIGN, Fault.DECIMAL_SHIFT, Fault.SCALE)
        self.alert = 3 if never else max(self.alert, 2)
        if kind is Fault.SPIKE and not self.linear and (key := one_key_off(value, self.level, self.scale)):
            kind, repair = Fault.FAT_FINGER, key
        return Suspicion(
            kind,
            sure(z / self.rules.jump),
            Action.QUARANTINE if repair is None or kind is Fault.FAT_FINGER else Action.REPAIR,
            ns,
            str(value),
            self._expected(),
            f"{min(z, 9999):.2f} scales",
            f"{self.rules.jump:g} scales",
            (),
            None if repair is None else str(repair),
        )

    def _near(self) -> float:
        return 3.0 * self.scale

    def _expected(self) -> str:
        return f"{self.level if self.linear else exp(self.level):.6g}"

    def _settle(self, ns: int, value: Decimal, x: float, found: list[Suspicion]) -> bool:
        """With a value held: what this one says of it. Whether that settled the matter."""
        size = abs(self.held - self.level)
        back, on = abs(x - self.level), abs(x - self.held)
        if self.alert == 1:
            if back <= self.rules.returned * size:
                found.append(self._taken_back(size / self.scale))
            else:
                self._learn(min(size, self.limit))
                self.level = self.held
            self.alert = 0
            return False
        if back <= on and back <= self.rules.jump * self.scale:
            self.alert = 0
            return False
        if on <= self.rules.reversal * self.scale * sqrt(self.held_n):
            self._hold_on(ns, value, x, found)
            return True
        return False

    def _hold_on(self, ns: int, value: Decimal, x: float, found: list[Suspicion]) -> None:
        """The value stays where the held one was: the level, once that has been confirmed."""
        self.held_n += 1
        if self.alert == 1:
            self._learn(min(abs(self.held - self.level), self.limit))
            self.level, self.alert = self.held, 0
            return
        needed = self.rules.confirm_impossible if self.alert == 3 else self.rules.confirm
        self.held = x
        if self.held_n >= needed:
            self._adopt(float(value))
        elif self.alert == 3:
            z = abs(x - self.level) / self.scale
            found.append(self._implausible(ns, value, z))

    def _adopt(self, number: float) -> None:
        """The held level is the level. A sign that stayed makes the axis linear, and the past useless."""
        if not self.linear and number <= 0.0:
            self.linear = True
            self.count = 0
            self.fast = self.slow = self._first_scale(number)
            self.x = self.held = number
        else:
            self.former, self.former_left = self.level, self.rules.confirm_impossible
        self.alert, self.level = 0, self.held
        self._learn(self.slow)

    def _restored(self, x: float) -> bool:
        """Whether the level before the last came back, so that what was adopted was the fault."""
        near = abs(x - self.former) <= self.rules.reversal * self.scale
        return self.former_left > 0 and near

    def _taken_back(self, z: float) -> Suspicion:
        why = None
        if not self.linear:
            why = slip(Decimal(self.held_value), self.level, self._near())
        return Suspicion(
            Fault.SPIKE if why is None else why.kind,
            sure(z / self.rules.reversal),
            Action.QUARANTINE,
            self.held_since,
            self.held_value,
            self._expected(),
            f"{z:.2f} scales, taken back",
            f"{self.rules.reversal:g} scales",
            (),
            None if why is None else str(why.repair),
        )

    # volume

    def _judge_volume(self, ns: int, volume: Decimal, found: list[Suspicion]) -> None:
        """Negative volume is impossible, volume far from the usual an anomaly; nothing traded is neither."""
        number = float(volume)
        if number <= 0.0:
            if number < 0.0:
                found.append(
                    Suspicion(Fault.VOLUME, 0.9, Action.FLAG, ns, str(volume), "", "negative", "not negative")
                )
            return
        x = log(number)
        distance = abs(x - self.volume_level)
        if self.volume_n >= self.rules.warm_up and distance > self.rules.volume * self.volume_scale:
            found.append(
                Suspicion(
                    Fault.VOLUME,
                    sure(distance / self.rules.volume / self.volume_scale) / 2,
                    Action.FLAG,
                    ns,
                    str(volume),
                    f"{exp(self.volume_level):.6g}",
                    f"{distance / self.volume_scale:.2f} scales",
                    f"{self.rules.volume:g} scales",
                )
            )
            distance = 3.0 * self.volume_scale
            x = self.volume_level + (distance if x > self.volume_level else -distance)
        self.volume_n += 1
        weight = max(1.0 / self.volume_n, 1 / 30)
        if self.volume_n == 1:
            self.volume_level = x
            return
        self.volume_scale += (_TO_SIGMA * distance - self.volume_scale) * min(weight, 0.2)
        self.volume_scale = max(self.volume_scale, 0.2)
        self.volume_level += (x - self.volume_level) * weight


def sure(ratio: float) -> float:
    """From one half at the threshold towards one."""
    return 1.0 - 0.5 / max(ratio, 1.0)
