"""What the events say that leave the domain: the fields of ``data``, by type.

The one definition of the public events. What is published, what the lake's tables have as columns and what
the audit stream leaves out follow from it; a test holds the events that the aggregates make against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from qis.domain.events import (
    DATA_INGESTED,
    DATA_PUBLISHED,
    DATA_RECONCILED,
    DATA_RESTATED,
    ISSUE_ALERTED,
    ISSUE_CLOSED,
    ISSUE_ESCALATED,
    QUALITY_METRICS_CALCULATED,
)

Json = str | dict[str, Any]
"""A value: decimal text, or the document of a record."""


class Scores(TypedDict):
    """Each from 0 to 1 as decimal text, or none where it cannot be measured."""

    accuracy: str | None
    completeness: str | None
    timeliness: str | None
    consistency: str | None
    composite: str | None


class RulesRef(TypedDict):
    """One version of one rule document."""

    rules: str
    version: int


class VersionRef(TypedDict):
    """An official value by its number, in short: decimal text, or the digest of a record."""

    value: str
    official_version: int


class Overruled(TypedDict):
    """What a person had set without having seen what won."""

    value: Json
    by: str
    reason: str
    clock: dict[str, int]
    stamp: str


class ConflictResolved(TypedDict):
    """How concurrent corrections were decided."""

    resolver: str
    overruled: list[Overruled]


class Published(TypedDict):
    """An official value came to be."""

    reference_data_id: str
    snap: str
    official_version: int
    value: Json
    quality: Scores
    method: str
    confidence: str | None
    sources: list[str]
    rules: str
    rules_version: int
    rules_chain: NotRequired[list[RulesRef]]


class Restated(Published):
    """An official value was replaced, by whom and why."""

    before: VersionRef
    after: VersionRef
    cause: str
    reason: str
    restated_by: str
    pinned: NotRequired[bool]
    clock: NotRequired[dict[str, int]]
    stamp: NotRequired[str]
    conflict: NotRequired[ConflictResolved]


class IssueState(TypedDict):
    """The issue after the event."""

    status: str
    resolution: str | None
    severity: str
    open: int
    items: int
    series: int
    opened_at: str
    triaged_by: str | None
    escalated: bool
    snoozed_until: str | None
    due_at: str | None


class _AboutIssue(TypedDict):
    issue: str
    group: str
    at: str
    state: IssueState


class IssueTold(_AboutIssue):
    """People are told of an issue: it was detected, its snooze ended, or nobody has taken it."""

    why: str


class IssueEnded(_AboutIssue):
    """A second person decided on an issue, or it recovered by itself."""

    resolution: str
    by: str | None
    reason: str


VALUES: dict[str, type] = {DATA_PUBLISHED: Published, DATA_RESTATED: Restated}
"""Official values."""
TOLD: dict[str, type] = {ISSUE_ALERTED: IssueTold, ISSUE_ESCALATED: IssueTold, ISSUE_CLOSED: IssueEnded}
"""What people are told of issues."""
PUBLIC: dict[str, type] = VALUES | TOLD

SEVERAL = "Several"
"""The type of a record of the backbone that holds several events. A list of their types would be finer, but
the rules of Lambda's filters name no lists."""
MECHANICAL = frozenset({DATA_INGESTED, DATA_RECONCILED, DATA_PUBLISHED, QUALITY_METRICS_CALCULATED})
"""What follows from the arrival of claims without anybody's choice, in the mass: not for the audit. The event
log keeps it for ever, and what is official of it goes to the lake."""


class CloudEvent(TypedDict):
    """An event as the bus carries it: CloudEvents 1.0, structured."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: str
    datacontenttype: str
    correlationid: str
    sequence: str
    data: Mapping[str, Any]
    causationid: NotRequired[str]
    dataref: NotRequired[str]
    """Where the data is, on channels that cannot carry all of it."""


class BackboneEvent(TypedDict):
    """An event as the backbone and the audit carry it: whole, with who did it."""

    event_id: str
    type: str
    type_version: int
    stream: str
    version: int
    recorded_at: str
    actor: str
    correlation_id: str
    causation_id: str | None
    reference_data_id: str | None
    position: str
    data: Mapping[str, Any]
