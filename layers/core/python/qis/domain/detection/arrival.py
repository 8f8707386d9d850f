"""The order in which claims come: duplicates, out of order, snaps or receptions in the future, drifting
schemas.

These are facts of the arrival, not of the value, so they are judged in the order in which claims came.
"""

from __future__ import annotations

from decimal import Decimal

from qis.domain.claims import CLOCK_SKEW_NS
from qis.domain.detection.judgement import Action, Fault, Observation
from qis.domain.detection.stream import Suspicion

CLOCKS_APART_NS = 15 * 60 * 10**9
"""How far a snap may lie after its reception before it lies in the future."""
KINDS = frozenset({Fault.DUPLICATE, Fault.OUT_OF_ORDER, Fault.FUTURE, Fault.RECEPTION, Fault.SCHEMA})
"""What only the order of arrival tells."""
_LEAP = 3
"""Usual steps forward that make a step a leap."""
_ENOUGH = 10


class Arrivals:
    """State of one source's arrivals."""

    __slots__ = (
        "before_leap",
        "behind",
        "count",
        "currency",
        "last",
        "last_value",
        "longest",
        "schema_n",
        "unit",
    )

    def __init__(self) -> None:
        self.count = 0
        self.last = 0
        self.last_value = ""
        self.longest = 0
        """The longest step forward that is usual."""
        self.before_leap = 0
        """The snap before a leap; 0 where the last step was none."""
        self.behind = False
        """Whether the last claims were out of order: of a load of old ones that is told once."""
        self.currency: str | None = None
        self.unit: str | None = None
        self.schema_n = 0

    def judge(self, ns: int, given: Observation) -> list[Suspicion]:
        """Judge and take the next claim to arrive."""
        found: list[Suspicion] = []
        self._schema(ns, given, found)
        given = self._received(ns, given, found)
        if given.received_ns is not None and ns - given.received_ns > CLOCKS_APART_NS:
            late = (ns - given.received_ns) / 1e9
            found.append(_arrival(Fault.FUTURE, ns, given, f"{late:.0f} s after it was received", "900 s"))
            return found
        if not self.count or ns > self.last:
            self._forward(ns)
        elif ns < self.last:
            self._backward(ns, given, found)
        elif str(given.value) == self.last_value:
            found.append(_arrival(Fault.DUPLICATE, ns, given, "the same claim again", "once"))
        elif given.received_ns is None:
            said = f"another value for the snap, after {self.last_value}"
            found.append(_arrival(Fault.DUPLICATE, ns, given, said, "once, or with the time of reception"))
        self.last_value = str(given.value)
        return found

    def _received(self, ns: int, given: Observation, found: list[Suspicion]) -> Observation:
        """The claim, without a time of reception that cannot be true."""
        if given.received_ns is None or given.recorded_ns is None:
            return given
        ahead = given.received_ns - given.recorded_ns
        if ahead <= CLOCK_SKEW_NS:
            return given
        early = f"recorded {ahead / 1e9:.0f} s before it was received"
        found.append(_arrival(Fault.RECEPTION, ns, given, early, f"{CLOCK_SKEW_NS // 10**9} s"))
        return given._replace(received_ns=None)

    def _forward(self, ns: int) -> None:
        step = ns - self.last
        self.before_leap = 0
        self.behind = False
        if self.count:
            if self.count > _ENOUGH and step > _LEAP * self.longest:
                self.before_leap = self.last
            elif step > self.longest:
                self.longest = step
            else:
                self.longest -= (self.longest - step) // 256
        self.last = ns
        self.count += 1

    def _backward(self, ns: int, given: Observation, found: list[Suspicion]) -> None:
        if self.before_leap and self.before_leap < ns:
            found.append(
                _arrival(Fault.FUTURE, ns, given, "what followed was before it", "in order")._replace(
                    since_ns=self.last, value=self.last_value
                )
            )
            self.last, self.before_leap = ns, 0
            return
        if self.behind:
            return
        self.behind = True
        late = (self.last - ns) / 1e9
        found.append(_arrival(Fault.OUT_OF_ORDER, ns, given, f"{late:.0f} s behind the last", "in order"))

    def _schema(self, ns: int, given: Observation, found: list[Suspicion]) -> None:
        if self.count:
            for kind, name, known, now in (
                (Fault.CURRENCY, "currency", self.currency, given.currency),
                (Fault.SCHEMA, "unit", self.unit, given.unit),
            ):
                if now != known:
                    fault = kind if now and known else Fault.SCHEMA
                    said = f"{name} {now or 'not given'}"
                    wanted = f"{name} {known or 'not given'}"
                    found.append(_arrival(fault, ns, given, said, wanted)._replace(action=Action.QUARANTINE))
            if found:
                self.schema_n += 1
                if self.schema_n < _ENOUGH:
                    return
        self.schema_n = 0
        self.currency, self.unit = given.currency, given.unit


def crossed(ns: int, bid: Decimal, ask: Decimal) -> Suspicion:
    """A bid above the ask."""
    return Suspicion(
        Fault.CROSSED, 0.9, Action.QUARANTINE, ns, str(bid), "", f"bid {bid} above ask {ask}", "bid <= ask"
    )


def _arrival(kind: Fault, ns: int, given: Observation, measured: str, threshold: str) -> Suspicion:
    action = Action.QUARANTINE if kind is Fault.FUTURE else Action.FLAG
    score = 0.9 if kind is Fault.FUTURE else 0.5
    return Suspicion(kind, score, action, ns, str(given.value), "", measured, threshold)
