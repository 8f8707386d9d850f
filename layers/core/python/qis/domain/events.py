"""Domain events: stable names and versions, an envelope, and upcasters for what older code wrote.

A stored event is named by ``(type, type_version)``, never by an import path. Reading always yields the
newest version of a type: upcasters are applied step by step, each a pure function of the data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from qis.domain.errors import QisError

Data = Mapping[str, Any]

DATA_INGESTED = "DataIngested"
DATA_RECONCILED = "DataReconciled"
DATA_PUBLISHED = "DataPublished"
DATA_RESTATED = "DataRestated"
QUALITY_ISSUE_DETECTED = "QualityIssueDetected"
QUALITY_ISSUE_RESOLVED = "QualityIssueResolved"
QUALITY_APPROVED = "QualityApproved"
QUALITY_REJECTED = "QualityRejected"
QUALITY_METRICS_CALCULATED = "QualityMetricsCalculated"
ISSUE_OPENED = "IssueOpened"
ISSUE_EXTENDED = "IssueExtended"
ISSUE_REDUCED = "IssueReduced"
ISSUE_ALERTED = "IssueAlerted"
ISSUE_ESCALATED = "IssueEscalated"
ISSUE_TRIAGED = "IssueTriaged"
ISSUE_SNOOZED = "IssueSnoozed"
ISSUE_CLOSED = "IssueClosed"
SERIES_REGISTERED = "SeriesRegistered"
SCHEMA_EVOLVED = "SchemaEvolved"
SOURCE_ADDED = "SourceAdded"
SOURCE_CHANGED = "SourceChanged"
RULES_CHANGED = "RulesChanged"
CHECK_CHANGED = "CheckChanged"
RULES_APPLIED = "RulesApplied"

VERSIONS: dict[str, int] = {
    DATA_INGESTED: 1,
    DATA_RECONCILED: 1,
    DATA_PUBLISHED: 1,
    DATA_RESTATED: 1,
    QUALITY_ISSUE_DETECTED: 1,
    QUALITY_ISSUE_RESOLVED: 1,
    QUALITY_APPROVED: 1,
    QUALITY_REJECTED: 1,
    QUALITY_METRICS_CALCULATED: 1,
    ISSUE_OPENED: 1,
    ISSUE_EXTENDED: 1,
    ISSUE_REDUCED: 1,
    ISSUE_ALERTED: 1,
    ISSUE_ESCALATED: 1,
    ISSUE_TRIAGED: 1,
    ISSUE_SNOOZED: 1,
    ISSUE_CLOSED: 1,
    SERIES_REGISTERED: 1,
    SCHEMA_EVOLVED: 1,
    SOURCE_ADDED: 1,
    SOURCE_CHANGED: 1,
    RULES_CHANGED: 1,
    CHECK_CHANGED: 1,
    RULES_APPLIED: 1,
}
"""Every event type with its newest version."""

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
UPCASTERS: dict[tuple[str, int], Upcaster] = {}
"""``(type, from_version)`` to the function that makes the data of the next version."""


class UnknownEvent(QisError):
    """The log holds a type or version that this code does not know: it is older than the writer."""

    slug = "unknown-event"


class NewEvent(NamedTuple):
    """An event that an aggregate decided on and that is not stored yet."""

    type: str
    data: Data


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Place in the global order: transaction, then sequence inside the log. Readable below the horizon
    of running transactions without gaps; see the event store."""

    tx: int
    sequence: int

    @property
    def token(self) -> str:
        """The position as an opaque token, as given to callers for ``basis``."""
        return f"{self.tx}.{self.sequence}"

    @classmethod
    def parse(cls, token: str) -> Position:
        """The position in a token.

        Raises:
            ValueError: malformed.
        """
        if not re.fullmatch(r"\d{1,19}\.\d{1,19}", token, re.ASCII):
            raise ValueError(f"{token[:40]!r} is not a position token")
        tx, sequence = token.split(".")
        return cls(int(tx), int(sequence))


START = Position(0, 0)


@dataclass(frozen=True, slots=True)
class Event:
    """A stored event: what happened, where in the log, when it was recorded, by whom and because of what."""

    event_id: UUID
    type: str
    type_version: int
    stream: str
    version: int
    recorded_at: datetime
    actor: str
    correlation_id: str
    causation_id: UUID | None
    data: Data
    position: Position = START

    @property
    def reference_data_id(self) -> str | None:
        """The series that the event speaks of, where it speaks of one."""
        value = self.data.get("reference_data_id")
        return None if value is None else str(value)


def upcast(type_: str, version: int, data: dict[str, Any]) -> dict[str, Any]:
    """``data`` in the newest version of its type.

    Raises:
        UnknownEvent: the type is unknown or its version newer than this code.
    """
    newest = VERSIONS.get(type_)
    if newest is None or version > newest:
        raise UnknownEvent(f"event {type_} v{version} is not known to this version of the code")
    for step in range(version, newest):
        data = UPCASTERS[type_, step](data)
    return data


_WORDS = re.compile(r"[A-Z][a-z]*")


def cloud_event_type(type_: str, version: int) -> str:
    """The public CloudEvents type: ``DataPublished`` v1 is ``com.qis.data.published.v1``."""
    words = [w.lower() for w in _WORDS.findall(type_)]
    if words[0] == "data":
        words = words[1:]
    return f"com.qis.data.{'.'.join(words)}.v{version}"


def value_stream(reference_data_id: str, snap_text: str) -> str:
    """Name of the stream of one series at one snap."""
    return f"value:{reference_data_id}@{snap_text}"


def value_stream_subject(stream: str) -> tuple[str, str]:
    """The series and the snap's text that a value stream is named for."""
    reference_data_id, _, snap_text = stream.removeprefix("value:").rpartition("@")
    return reference_data_id, snap_text


def series_stream(reference_data_id: str) -> str:
    """Name of the stream of a series' own facts."""
    return f"series:{reference_data_id}"


def source_stream(source: str) -> str:
    """Name of the stream of a source."""
    return f"source:{source}"


def check_stream(check: str) -> str:
    """Name of the stream of a business rule."""
    return f"check:{check}"


def rules_stream(rules: str) -> str:
    """Name of the stream of a rule set."""
    return f"rules:{rules}"


def rules_applied_stream(rules: str) -> str:
    """Name of the stream of the occasions on which a rule set was applied to what was decided before."""
    return f"rules-applied:{rules}"


def quality_stream(reference_data_id: str, snap_text: str) -> str:
    """Name of the stream of the findings about one snap that hold nothing back."""
    return f"quality:{reference_data_id}@{snap_text}"


def metrics_stream(reference_data_id: str) -> str:
    """Name of the stream of a series' quality metrics."""
    return f"metrics:{reference_data_id}"
