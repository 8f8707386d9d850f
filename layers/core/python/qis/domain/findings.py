"""Findings about a series over time: stale sources and missing values. They alert and hold nothing back.

What is found is a function of the facts that are there, not of their order: a finding that later facts
disprove is found no longer, and whoever keeps findings closes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    volumes: Mapping[str, str] = field(default_factory=dict)
    """Of the sources that gave one."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that people should know of a snap of a series."""

    kind: str
    reference_data_id: str
    snap: Snap
    source: str | None
    measured: str
    threshold: str
    detail: str
    scope: str | None = None
    """Place of the cause where it is neither the source nor the series, such as ``calendar/ECB``: findings
    of one kind and scope are one issue."""
    severity: str | None = None
    """``low`` to ``critical``; medium where it is not said."""

    @property
    def identity(self) -> tuple[str, str, Snap, str | None]:
        """What was found, so that finding it again is not another exception."""
        return self.kind, self.reference_data_id, self.snap, self.source

    def issue_id(self, occurrence: int = 0) -> UUID:
        """Identity of the exception. A finding that was disproved and is found again is another
        ``occurrence``."""
        again = f"\n{occurrence}" if occurrence else ""
        return uuid5(
            _FINDINGS, f"{self.kind}\n{self.reference_data_id}\n{self.snap.text}\n{self.source}{again}"
        )

    def as_json(self, occurrence: int = 0) -> dict[str, Any]:
        """The data of the ``QualityIssueDetected`` event."""
        return {
            "reference_data_id": self.reference_data_id,
            "snap": self.snap.text,
            "issue_id": str(self.issue_id(occurrence)),
            "kind": self.kind,
            "gate": False,
            "source": self.source,
            "scope": self.scope,
            "severity": self.severity,
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
    """Sources that said the same for ``stale_after`` consecutive snaps of the series, while other sources
    moved or there is no other source at all. One finding per run, at the snap where it reaches the length. A
    snap at which a source says nothing ends its run.

    Args:
        facts: facts of the series in snap order, without gaps in what is stored.
        from_first: whether they begin with the first of the series. If not, a run at their beginning may
            have begun earlier and belongs to an earlier snap.
    """
    found: list[Finding] = []
    for last in range(stale_after - 1, len(facts)):
        first = last - stale_after + 1
        before = facts[first - 1].claims if first else None
        if before is None and not from_first:
            continue
        run = facts[first : last + 1]
        for source, value in facts[last].claims.items():
            began = before is None or before.get(source) != value
            if began and all(f.claims.get(source) == value for f in run) and not _all_still(run, source):
                found.append(
                    Finding(
                        "stale",
                        reference_data_id,
                        facts[last].snap,
                        source,
                        str(stale_after),
                        str(stale_after),
                        f"{source} has said {value} for {stale_after} snaps in a row",
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
                scope=f"calendar/{calendar.name}",
            )
            for day in expected
        ]
    return found


def window_of(moment: datetime, length: timedelta) -> tuple[Snap, Snap]:
    """The window of ``length`` that ends at ``moment``."""
    return Snap.of(moment - length), Snap.of(moment)
