"""Scores kept up to date: per series, source and hour of snaps, each a sum that is added to and taken from.

Of every value (a series at a snap) what counts is its last state; when that changes, what it contributed is
taken from the sums and what it contributes now is added. So the sums are those of a recomputation from all
events, whatever the batches they came in, and a window is a sum of hours. Sums are exact decimals.

A value contributes the scores that it was published with (see ``qis.domain.quality``). A source contributes
to each value at which it was expected, by the rules in force for the snap or because it spoke:

- accuracy: 1 where its claim agrees with the chosen value, 0 where it lies outside the tolerance; nothing
  where no value was chosen or its claim had no vote;
- completeness: 1 where it spoke, 0 where it did not;
- timeliness: share of its claims that were received within the rules' delay; claims without a time of
  reception count for nothing;
- consistency: 0 where its claim was refused as stale, implausible or withdrawn, else 1;
- lateness: how long after the snap its claims were received, counted in the steps of ``LATENESS``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

from qis.domain import events as ev
from qis.domain.quality import Scores, quotient
from qis.domain.snap import NANOS, Snap, parse_instant

HOUR = 3600 * NANOS
LATENESS = (1, 5, 30, 60, 300, 1_800, 3_600, 21_600, 86_400)
"""Upper ends in seconds; what is later than the last is counted beyond it."""
MEASURED = ("accuracy", "completeness", "timeliness", "consistency")
FOLLOWED = (ev.DATA_INGESTED, ev.DATA_RECONCILED, ev.DATA_PUBLISHED, ev.DATA_RESTATED)
_REFUSED = frozenset({"stale", "out-of-range", "withdrawn-by-operator"})
ITSELF = ""
"""Stands in the place of a source for the value itself."""

Tally = dict[str, Decimal]
"""Sums and counts by name; a name that is not there is zero."""
Cell = tuple[str, str, int]
"""Series, source (or ``ITSELF``), and the hour of the snap, in nanoseconds."""


@dataclass(slots=True)
class ValueState:
    """What counts of one series at one snap."""

    claims: dict[str, tuple[str, int | None]] = field(default_factory=dict)
    """Source and lateness in nanoseconds, by claim."""
    said: dict[str, tuple[bool | None, bool]] = field(default_factory=dict)
    """Of the last decision: whether each source's claim agreed (``None``: not compared) and was not
    refused."""
    expected: tuple[str, ...] = ()
    decided: bool = False
    timely_ns: int | None = None
    """Delay within which a claim is timely, by the rules of the last event; ``None``: any."""
    quality: Mapping[str, str | None] | None = None

    def apply(
        self, type_: str, data: ev.Data, expected: Iterable[str], timely_within: timedelta | None
    ) -> None:
        """Take one event of this value, under the rules for it: the sources that they name, and the delay
        that they allow."""
        self.timely_ns = None if timely_within is None else int(timely_within.total_seconds() * NANOS)
        if type_ == ev.DATA_INGESTED:
            received = data.get("received_at")
            late = None if received is None else _ns(received) - _ns(data["snap"])
            self.claims[data["claim_id"]] = (data["source"], late)
        elif type_ == ev.DATA_RECONCILED:
            compared = data["status"] != "insufficient"
            self.said = {
                c["source"]: (False if compared and c["rule"] == "outside-tolerance" else None, True)
                for c in data["sources_rejected"]
                if c["rule"] not in _REFUSED and c["rule"] != "superseded"
            }
            self.said |= {
                c["source"]: (None, False) for c in data["sources_rejected"] if c["rule"] in _REFUSED
            }
            self.said |= {c["source"]: (True if compared else None, True) for c in data["sources_used"]}
            self.expected, self.decided = tuple(expected), True
        else:
            self.quality = data["quality"]

    def contribution(self) -> dict[str, Tally]:
        """What it adds to the sums, by source."""
        found: dict[str, Tally] = {}
        if self.quality is not None:
            found[ITSELF] = itself = {"values": Decimal(1)}
            for name in MEASURED:
                score = self.quality.get(name)
                if score is not None:
                    itself |= {name: Decimal(score), f"{name}_n": Decimal(1)}
        for source, late in self.claims.values():
            _count(found.setdefault(source, {}), late, self.timely_ns)
        if self.decided:
            for source in {*self.expected, *self.said}:
                _judge(found.setdefault(source, {}), self.said.get(source))
        return found

    def as_json(self) -> dict[str, Any]:
        return {
            "claims": {i: list(c) for i, c in self.claims.items()},
            "said": {s: list(v) for s, v in self.said.items()},
            "expected": list(self.expected),
            "decided": self.decided,
            "timely_ns": self.timely_ns,
            "quality": self.quality,
        }

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> ValueState:
        """The state in its JSON form."""
        return cls(
            {i: (s, late) for i, (s, late) in body["claims"].items()},
            {s: (agreed, fine) for s, (agreed, fine) in body["said"].items()},
            tuple(body["expected"]),
            body["decided"],
            body["timely_ns"],
            body["quality"],
        )


def _count(tally: Tally, late: int | None, limit: int | None) -> None:
    """One claim of a source."""
    _add(tally, "claims", 1)
    if late is None:
        return
    _add(tally, "timeliness", limit is None or late <= limit)
    _add(tally, "timeliness_n", 1)
    step = next((s for s in LATENESS if late <= s * NANOS), "later")
    _add(tally, f"late_{step}", 1)


def _judge(tally: Tally, said: tuple[bool | None, bool] | None) -> None:
    """One decision, as far as a source goes."""
    _add(tally, "completeness", said is not None)
    _add(tally, "completeness_n", 1)
    if said is None:
        return
    _add(tally, "values", 1)
    agreed, fine = said
    if agreed is not None:
        _add(tally, "accuracy", agreed)
        _add(tally, "accuracy_n", 1)
    _add(tally, "consistency", fine)
    _add(tally, "consistency_n", 1)


def _add(tally: Tally, name: str, number: int) -> None:
    tally[name] = tally.get(name, Decimal(0)) + number


def _ns(text: str) -> int:
    return parse_instant(text, "snap").ns


def cell(reference_data_id: str, source: str, snap: Snap) -> Cell:
    """Where a contribution is counted."""
    return reference_data_id, source, snap.ns - snap.ns % HOUR


def change(sums: dict[Cell, Tally], at: Cell, tally: Tally, sign: int) -> None:
    """Add ``tally`` to the sums of a cell, or take it away. What becomes zero is left out."""
    mine = sums.setdefault(at, {})
    for name, number in tally.items():
        total = mine.pop(name, Decimal(0)) + sign * number
        if total:
            mine[name] = total


def scores_of(tally: Mapping[str, Decimal]) -> Scores:
    """The scores of a sum; ``None`` for what was not measured."""
    return Scores(*(quotient(tally.get(n, Decimal(0)), tally.get(f"{n}_n", Decimal(0))) for n in MEASURED))


def lateness_of(tally: Mapping[str, Decimal], share: Decimal) -> int | None:
    """The least step in seconds within which at least ``share`` of the claims came; ``None`` where too many
    came later than the last step, or none has a time of reception."""
    known = tally.get("timeliness_n", Decimal(0))
    within = Decimal(0)
    for step in LATENESS:
        within += tally.get(f"late_{step}", Decimal(0))
        if known and within >= share * known:
            return step
    return None
