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
- lateness: how long after the snap its claims were received, counted in the steps of ``LATENESS``;
- errors: how far its claim lies from the official value, signed, in basis points, counted in the buckets of
  a quantile sketch (``qis.domain.sketch``). The median is its bias; the spread of the middle half is its
  dispersion, which a few gross errors do not move, as they do a standard deviation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

from qis.domain import events as ev
from qis.domain.numbers import basis_points
from qis.domain.quality import Scores, quotient
from qis.domain.sketch import bucket_of, quantile, sizes
from qis.domain.snap import NANOS, Snap, parse_instant

HOUR = 3600 * NANOS
LATENESS = (1, 5, 30, 60, 300, 1_800, 3_600, 21_600, 86_400)
"""Upper ends in seconds; what is later than the last is counted beyond it."""
MEASURED = ("accuracy", "completeness", "timeliness", "consistency")
FOLLOWED = (ev.DATA_INGESTED, ev.DATA_RECONCILED, ev.DATA_PUBLISHED, ev.DATA_RESTATED)
_REFUSED = frozenset({"stale", "out-of-range", "withdrawn-by-operator"})
ERROR = "error_"
"""Before the number of a bucket of errors."""
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
    values: dict[str, str] = field(default_factory=dict)
    """Of the last decision: what each source said that was not refused."""
    official: str | None = None
    """The official value where it is a number: from a record nothing has a distance."""

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
            self.values = {
                c["source"]: c["value"]
                for c in (*data["sources_rejected"], *data["sources_used"])
                if self.said.get(c["source"], (None, False))[1] and c.get("rule") != "superseded"
            }
        else:
            self.quality, value = data["quality"], data["value"]
            self.official = value if isinstance(value, str) else None

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
        if self.official is not None:
            for source, value in self.values.items():
                apart = basis_points(Decimal(value), Decimal(self.official))
                if apart is not None:
                    _add(found.setdefault(source, {}), f"{ERROR}{bucket_of(float(apart))}", 1)
        return found

    def as_json(self) -> dict[str, Any]:
        return {
            "claims": {i: list(c) for i, c in self.claims.items()},
            "said": {s: list(v) for s, v in self.said.items()},
            "expected": list(self.expected),
            "decided": self.decided,
            "timely_ns": self.timely_ns,
            "quality": self.quality,
            "values": self.values,
            "official": self.official,
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
            body.get("values", {}),
            body.get("official"),
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


_NORMAL_QUARTILES = 1.349
"""Width of the middle half of a normal distribution in standard deviations."""


def errors_of(tally: Mapping[str, Decimal]) -> dict[str, Any]:
    """Bias, dispersion and size of the errors in a sum, in basis points, each to one per cent of itself."""
    counts = {int(n.removeprefix(ERROR)): int(v) for n, v in tally.items() if n.startswith(ERROR)}
    low, middle, high = (quantile(counts, q) for q in (0.25, 0.5, 0.75))
    size = sizes(counts)
    spread = None if low is None or high is None else (high - low) / _NORMAL_QUARTILES
    found = {
        "bias": middle,
        "dispersion": spread,
        "p95_size": quantile(size, 0.95),
        "worst": quantile(size, 1),
    }
    return {
        "compared": sum(counts.values()),
        **{name: None if x is None else f"{x:.4g}" for name, x in found.items()},
    }
