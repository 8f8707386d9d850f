"""Tumbling windows of a minute each over the event log: the ingestion rate, and the values of poor quality.

These are the two queries of the deployment document (``ingestion_rate_monitoring``: claims per minute;
``quality_anomalies``: values whose score is below 0.95), and the mean score that the alarm watches. Time is
the moment of recording. A window is closed when the watermark passes its end, once and in order; what comes
later than that (it cannot, below the horizon of running transactions and with ``LATENESS`` to spare) is
counted as late and changes no closed window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from qis.domain import events as ev

LENGTH = timedelta(minutes=1)
LATENESS = timedelta(seconds=20)
"""Longest transaction: the database ends those that take longer."""
POOR = Decimal("0.95")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Window:
    """What was recorded in one minute."""

    claims: int = 0
    scored: int = 0
    """Values published, and values held back."""
    score_sum: Decimal = Decimal(0)
    poor: int = 0

    @property
    def score(self) -> Decimal | None:
        """Mean score; ``None`` of an empty window."""
        return self.score_sum / self.scored if self.scored else None

    def take(self, type_: str, data: ev.Data) -> None:
        """Count one event. A value that is held back has no score to show: it counts as zero."""
        if type_ == ev.DATA_INGESTED:
            self.claims += 1
            return
        score = Decimal(0)
        if type_ != ev.QUALITY_ISSUE_DETECTED:
            composite = data["quality"].get("composite")
            if composite is None:
                return
            score = Decimal(composite)
        elif data["kind"] != "suspect":
            return
        self.scored += 1
        self.score_sum += score
        self.poor += score < POOR


COUNTED = (ev.DATA_INGESTED, ev.DATA_PUBLISHED, ev.DATA_RESTATED, ev.QUALITY_ISSUE_DETECTED)


@dataclass(slots=True)
class Windows:
    """Open windows by their start, and the watermark."""

    open: dict[datetime, Window] = field(default_factory=dict)
    watermark: datetime | None = None
    late: int = 0
    length: timedelta = LENGTH

    def take(self, recorded_at: datetime, type_: str, data: ev.Data) -> None:
        """Count one event of the log."""
        start = recorded_at - (recorded_at - _EPOCH) % self.length
        if self.watermark is not None and start + self.length <= self.watermark:
            self.late += 1
            return
        self.open.setdefault(start, Window()).take(type_, data)

    def advance(self, to: datetime) -> list[tuple[datetime, Window]]:
        """Move the watermark (never back) and close what it has passed, in order."""
        if self.watermark is None or to > self.watermark:
            self.watermark = to
        over = sorted(start for start in self.open if start + self.length <= self.watermark)
        return [(start, self.open.pop(start)) for start in over]

    def as_json(self) -> dict[str, Any]:
        return {
            "watermark": None if self.watermark is None else self.watermark.isoformat(),
            "late": self.late,
            "open": {
                start.isoformat(): [w.claims, w.scored, str(w.score_sum), w.poor]
                for start, w in self.open.items()
            },
        }

    @classmethod
    def of(cls, body: Mapping[str, Any] | None, length: timedelta = LENGTH) -> Windows:
        """The state in its JSON form; the empty one of nothing."""
        if body is None:
            return cls(length=length)
        mark = body["watermark"]
        return cls(
            {
                datetime.fromisoformat(start): Window(claims, scored, Decimal(total), poor)
                for start, (claims, scored, total, poor) in body["open"].items()
            },
            None if mark is None else datetime.fromisoformat(mark),
            body["late"],
            length,
        )
