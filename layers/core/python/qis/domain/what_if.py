"""What-if: stored history decided again under other rules, beside what was published. It changes nothing.

The snaps of a series are gone through in order with the decision of the running system, on all claims known
by now. What a decision leaves behind for the next one (the reference of moves, the standing of the sources)
is carried along, so that memory does not grow with the range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal
from enum import StrEnum
from typing import Any

from qis.domain import sketch
from qis.domain.errors import refuse
from qis.domain.kinds.record import Value, value_text
from qis.domain.numbers import basis_points, decimal_text
from qis.domain.reconciliation import NO_STANDINGS, Decision, Reference, Standing, Standings, Status
from qis.domain.rules import RuleSet
from qis.domain.snap import Snap
from qis.domain.value_history import ValueHistory

_BP = Context(prec=16)


class Change(StrEnum):
    """What the other rules do to one value."""

    UNCHANGED = "unchanged"
    CHANGED = "changed"
    NEWLY_HELD = "newly-held"
    """Published, and under the other rules it would wait or lack a quorum."""
    NEWLY_PUBLISHED = "newly-published"
    UNDECIDED = "undecided"
    """Not published, and not under the other rules either."""
    PINNED = "pinned"
    """A person set it; no rules change that."""


@dataclass(slots=True)
class Course:
    """What the decisions of one series so far leave for the next one."""

    official: Reference | None = None
    standings: Standings = field(default_factory=dict)

    def decide(self, history: ValueHistory, rules: RuleSet) -> Decision[Any]:
        """The decision on the next snap, by the function that decides in the running system."""
        references = [] if self.official is None or rules.max_move is None else [self.official]
        decision = history.decide(rules, references, self.standings, by_policy=False)
        value, status = decision.value, decision.status
        if history.pinned is not None:
            value, status = history.pinned, Status.OFFICIAL
        if status is Status.OFFICIAL and isinstance(value, Decimal):  # no move is measured against a record
            self.official = Reference(history.snap, value)
        self.standings = decision.standings or NO_STANDINGS
        return decision

    def as_json(self) -> dict[str, Any]:
        return {
            "official": _reference_json(self.official),
            "standings": {s: list(found) for s, found in self.standings.items()},
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Course:
        return cls(
            _reference_of(body["official"]),
            {s: Standing(bool(found[0]), int(found[1])) for s, found in body["standings"].items()},
        )


def _reference_json(reference: Reference | None) -> list[str] | None:
    return None if reference is None else [str(reference.snap.ns), decimal_text(reference.value)]


def _reference_of(body: Any) -> Reference | None:
    return None if body is None else Reference(Snap(int(body[0])), Decimal(body[1]))


@dataclass(slots=True)
class Report:
    """What was found so far, in constant memory."""

    counts: dict[Change, int] = field(default_factory=lambda: dict.fromkeys(Change, 0))
    moves: dict[int, int] = field(default_factory=dict)
    """Changes of published values in basis points, counted by ``sketch``."""
    largest: Decimal = Decimal(0)
    """The largest of them, without its sign."""

    def add(self, history: ValueHistory, decision: Decision[Any]) -> dict[str, Any] | None:
        """Count one value. Returns what is to be told of it where the rules make a difference."""
        before = None if history.official is None else history.official.value
        after = decision.value if decision.status is Status.OFFICIAL else None
        change = _change(history, before, after)
        self.counts[change] += 1
        moved = None
        if change is Change.CHANGED and isinstance(before, Decimal):
            assert after is not None
            moved = basis_points(after, before)
            if moved is not None:
                bucket = sketch.bucket_of(float(moved))
                self.moves[bucket] = self.moves.get(bucket, 0) + 1
                self.largest = max(self.largest, abs(moved))
        if change in (Change.UNCHANGED, Change.UNDECIDED, Change.PINNED):
            return None
        return {
            "reference_data_id": history.reference_data_id,
            "snap": history.snap.text,
            "change": change.value,
            "published": None if before is None else value_text(before),
            "candidate": None if decision.value is None else value_text(decision.value),
            "status": decision.status.value,
            "bp": None if moved is None else decimal_text(moved),
            "reason": decision.reason,
        }

    def told(self) -> dict[str, Any]:
        """The report as answered."""
        values = sum(self.counts.values())
        published = sum(n for c, n in self.counts.items() if c in _PUBLISHED)
        after = sum(n for c, n in self.counts.items() if c in _PUBLISHED_AFTER)
        by_size = sketch.sizes(self.moves)
        return {
            "values": values,
            "counts": {c.value: n for c, n in self.counts.items()},
            "coverage": {"published": _share(published, values), "candidate": _share(after, values)},
            "bp": {
                "median": _shown(sketch.quantile(self.moves, 0.5)),
                "median_size": _shown(sketch.quantile(by_size, 0.5)),
                "p99_size": _shown(sketch.quantile(by_size, 0.99)),
                "largest": decimal_text(self.largest),
            },
        }

    def as_json(self) -> dict[str, Any]:
        """The report as kept between two parts of a range."""
        return {
            "counts": {c.value: n for c, n in self.counts.items()},
            "moves": {str(b): n for b, n in self.moves.items()},
            "largest": decimal_text(self.largest),
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Report:
        counts = {c: int(body["counts"][c.value]) for c in Change}
        moves = {int(b): int(n) for b, n in body["moves"].items()}
        return cls(counts, moves, Decimal(body["largest"]))


_PUBLISHED = {Change.UNCHANGED, Change.CHANGED, Change.NEWLY_HELD, Change.PINNED}
_PUBLISHED_AFTER = {Change.UNCHANGED, Change.CHANGED, Change.NEWLY_PUBLISHED, Change.PINNED}


def _change(history: ValueHistory, before: Value | None, after: Value | None) -> Change:
    if history.pinned is not None:
        return Change.PINNED
    if before is None:
        return Change.UNDECIDED if after is None else Change.NEWLY_PUBLISHED
    if after is None:
        # A published value that is in dispute already is no news.
        disputed = history.decision is not None and history.decision["status"] != Status.OFFICIAL
        return Change.UNCHANGED if disputed else Change.NEWLY_HELD
    return Change.UNCHANGED if after == before else Change.CHANGED


def _share(part: int, whole: int) -> str | None:
    return (
        None
        if whole == 0
        else decimal_text(_BP.divide(Decimal(part), Decimal(whole)).quantize(Decimal("0.0001")))
    )


def _shown(number: float | None) -> str | None:
    return None if number is None else f"{number:.6g}"


def check_candidate(candidate: Mapping[str, Any], name: str) -> None:
    """Whether the candidate is a version of the document that is asked about.

    Raises:
        InvalidInput: it names another.
    """
    if candidate.get("rules", name) != name:
        raise refuse("definition.rules", candidate["rules"], "path", f"is not {name}, which the path names")
