"""Steps of prices beside the corporate actions of their instrument: what a declared event explains is a true
move, and what looks like an event and is none, or is one and is not in the price, is a finding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import exp, log
from typing import NamedTuple

from qis.domain.detection.actions import SPLIT_WITHIN, Declared, split_of
from qis.domain.detection.judgement import Action, Evidence, Fault, Found, Observation
from qis.domain.detection.records import Said, events_of
from qis.domain.detection.rules import DetectionRules
from qis.domain.detection.series import SeriesDetector, Step
from qis.domain.kinds.actions import CorporateActions
from qis.domain.series import Series
from qis.domain.snap import Snap


class Events(NamedTuple):
    """The corporate actions that move a series of prices."""

    declared: Sequence[Declared]
    currency: str | None
    """Of the prices."""
    zone: str
    """In which the days of events begin."""


def events_for(series: Mapping[str, Series], said: Mapping[str, Sequence[Said]]) -> dict[str, Events]:
    """The events that claims of series of corporate actions declare, by the series of prices they move."""
    declared: dict[str, list[Declared]] = {}
    for id_, claims in said.items():
        structure = series[id_].structure
        if isinstance(structure, CorporateActions) and structure.prices:
            events = events_of(claims)
            for price in structure.prices:
                declared.setdefault(price, []).extend(events)
    return {price: Events(events, *_money_and_zone(series.get(price))) for price, events in declared.items()}


def _money_and_zone(series: Series | None) -> tuple[str | None, str]:
    if series is None:
        return None, "UTC"
    return series.semantics.currency, day_zone(series)


def day_zone(series: Series) -> str:
    """The zone in which the days of a series begin."""
    snap_time = series.semantics.snap_time
    return "UTC" if snap_time is None else snap_time.zone


def explain(
    detector: SeriesDetector, events: Events, ns: int, given: Iterable[Observation], rules: DetectionRules
) -> list[Found]:
    """Look at the claims of the next snap, before the detector does, and tell it of the events that moved
    them: its levels are moved by the factor of each event that took effect since the last snap.

    An event too small to be seen is taken at its word. One that would be seen and is not there has not
    moved the price, and the levels stay.
    """
    last = detector.last_ns
    claims = {c.source: c for c in given}
    if last is None or not detector.steps(claims.values()):
        return []
    look = _Look(detector, claims, ns, rules)
    since, today = (Snap(at).local_date(events.zone) for at in (last, ns))
    due = [event for event in events.declared if since < event.day <= today]
    seen = [look.explained(event, events.currency) for event in due]
    if not any(seen):
        look.undeclared()
    return look.found


class _Look:
    """A look at the claims of one snap."""

    def __init__(
        self, detector: SeriesDetector, claims: Mapping[str, Observation], ns: int, rules: DetectionRules
    ) -> None:
        self._detector, self._claims, self._ns, self._rules = detector, claims, ns, rules
        self._steps = detector.steps(claims.values())
        self.found: list[Found] = []

    def explained(self, event: Declared, currency: str | None) -> bool:
        """Whether the event explains a step that is seen."""
        levels = sorted(step.level for step in self._steps.values())
        factor = event.factor(exp(levels[len(levels) // 2]), currency)
        if factor is None:
            return False
        shift = log(factor)
        with_it = [s for s, step in self._steps.items() if abs(step.size - shift) < abs(step.size)]
        visible = all(abs(shift) > self._rules.jump * step.scale for step in self._steps.values())
        applied = 2 * len(with_it) >= len(self._steps)
        if event.cancelled:
            if visible and applied:
                self._say(Fault.CANCELLED_APPLIED, with_it, f"that of the {event.text}", "no step")
            return visible and applied
        if applied or not visible:
            self._detector.rebase(shift)
            self._steps = self._detector.steps(self._claims.values())
            return visible
        without = sorted(self._steps.keys() - set(with_it))
        self._say(Fault.ACTION_NOT_APPLIED, without, f"on the {event.text}", f"a step of {factor:.4g} times")
        return False

    def undeclared(self) -> None:
        """Steps of most sources that look like one split, which no event declares."""
        alike = {s: _undeclared(step, self._rules) for s, step in self._steps.items()}
        names = {name for name in alike.values() if name is not None}
        stepped = [s for s, name in alike.items() if name is not None]
        if len(names) == 1 and 2 * len(stepped) >= len(self._steps):
            self._say(
                Fault.UNDECLARED_SPLIT, stepped, f"as of a {names.pop()} split", "an event that says so"
            )

    def _say(self, kind: Fault, sources: Iterable[str], why: str, threshold: str) -> None:
        for source in sources:
            step, value = self._steps[source], str(self._claims[source].value)
            measured = f"a step of {exp(step.size):.4g} times to {value}, {why}"
            evidence = Evidence(value, f"{exp(step.level):.6g}", measured, threshold, (), self._rules.name)
            id_, ns = self._detector.reference_data_id, self._ns
            self.found.append(Found(ns, id_, source, kind, 0.5, Action.FLAG, ns, evidence))


def _undeclared(step: Step, rules: DetectionRules) -> str | None:
    """The split that a step looks like, from the level and from the value before: a value that returns to
    its level is none."""
    if abs(step.size) <= rules.jump * step.scale or abs(step.last) <= rules.jump * step.scale:
        return None
    apart = max(SPLIT_WITHIN, 2.0 * step.scale)
    name = split_of(step.size, apart)
    return name if name is not None and name == split_of(step.last, apart) else None
