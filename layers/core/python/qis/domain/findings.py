"""Findings about a series over time: stale sources and missing values. They alert and hold nothing back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid5

from qis.domain.calendars import TradingCalendar
from qis.domain.snap import Snap, SnapTime

_FINDINGS = UUID("5b6c7f0a-52d5-5f38-9a52-0d9a0f7c9e02")
MISSING_LOOKBACK = 10
"""Sessions after which a series without values counts as dormant, not as missing."""


@dataclass(frozen=True, slots=True)
class Fact:
    """What each source said for one snap, as text of exact decimals."""

    snap: Snap
    status: str
    claims: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Finding:
    """A stale source or a missing value."""

    kind: str
    reference_data_id: str
    snap: Snap
    source: str | None
    measured: str
    threshold: str
    detail: str

    @property
    def issue_id(self) -> UUID:
        """Identity by what was found, so that finding it again is not another issue."""
        return uuid5(_FINDINGS, f"{self.kind}\n{self.reference_data_id}\n{self.snap.text}\n{self.source}")

    def as_json(self) -> dict[str, Any]:
        """The data of the ``QualityIssueDetected`` event."""
        return {
            "reference_data_id": self.reference_data_id,
            "snap": self.snap.text,
            "issue_id": str(self.issue_id),
            "kind": self.kind,
            "gate": False,
            "source": self.source,
            "proposed": None,
            "claim_ids": [],
            "submitters": [],
            "checks": [
                {
                    "check": self.kind,
                    "passed": False,
                    "measured": self.measured,
                    "threshold": self.threshold,
                    "detail": self.detail,
                }
            ],
            "reason": self.detail,
        }


def stale_sources(
    reference_data_id: str, facts: Sequence[Fact], stale_after: int, *, from_first: bool
) -> list[Finding]:
    """Sources whose value stood still for ``stale_after`` consecutive snaps, while the series has others
    that moved or no other source at all. One finding per run, at the snap where it reaches the length.

    Args:
        facts: facts of the series in snap order, without gaps in what is stored.
        from_first: whether they begin with the first of the series. If not, a run that a source's first
            claim here belongs to may have begun earlier and was found then.
    """
    found: list[Finding] = []
    runs: dict[str, tuple[str, int]] = {}
    moved: set[str] = set()
    for i, fact in enumerate(facts):
        for source, value in fact.claims.items():
            before = runs.get(source)
            length = before[1] + 1 if before is not None and before[0] == value else 1
            runs[source] = (value, length)
            if before is not None and length == 1:
                moved.add(source)
            begun_here = from_first or source in moved
            if (
                begun_here
                and length == stale_after
                and not _all_still(facts[i - stale_after + 1 : i + 1], source)
            ):
                found.append(
                    Finding(
                        "stale",
                        reference_data_id,
                        fact.snap,
                        source,
                        str(length),
                        str(stale_after),
                        f"{source} has said {value} for {length} snaps in a row",
                    )
                )
    return found


def _all_still(window: Sequence[Fact], source: str) -> bool:
    """Whether other sources spoke in the window and none of them moved either."""
    others: dict[str, set[str]] = {}
    for fact in window:
        for name, value in fact.claims.items():
            if name != source:
                others.setdefault(name, set()).add(value)
    return bool(others) and all(len(values) == 1 for values in others.values())


def missing_values(
    reference_data_id: str,
    facts: Sequence[Fact],
    calendar: TradingCalendar,
    snap_time: SnapTime,
    until: Snap | None = None,
) -> list[Finding]:
    """Sessions without any claim between two snaps that have one, or after the last up to ``until``."""
    found: list[Finding] = []
    ends = [f.snap for f in facts] + ([until] if until is not None else [])
    for earlier, later in pairwise(ends):
        first = earlier.local_date(snap_time.zone) + timedelta(days=1)
        last = later.local_date(snap_time.zone) - timedelta(days=0 if later is until else 1)
        expected = [d for d in calendar.sessions(first, last) if first <= d <= last]
        expected = [d for d in expected if until is None or snap_time.on(d) <= until]
        if not expected or len(expected) > MISSING_LOOKBACK:
            continue
        found += [
            Finding(
                "missing",
                reference_data_id,
                snap_time.on(day),
                None,
                "0",
                "1",
                f"no claim for {day.isoformat()}, a session of {calendar.name}",
            )
            for day in expected
        ]
    return found


def window_of(moment: datetime, length: timedelta) -> tuple[Snap, Snap]:
    """The window of ``length`` that ends at ``moment``."""
    return Snap.of(moment - length), Snap.of(moment)
