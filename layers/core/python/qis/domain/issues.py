"""Issues: exceptions that have one cause, as one piece of work for people.

An exception is about one value of one series. A vendor file in the wrong scale makes thousands of them and
is one issue. Exceptions of one group (the same kind of fault, of the same source or in the same place) join
the group's open issue; each group has one stream, whose version is the lock that keeps two issues of one
group from being opened at once.

Life: *detected* → *triaged* (a person took it, with an assessment) → *closed*, as ``approved`` (the data
were right), ``corrected`` (a person refused the data) or ``recovered`` (every exception of it was closed:
by data that came, by a correction that was checked again, or one by one).

Told to people, each once: the alert when it is detected, the escalation when nobody triaged it within
``ESCALATE_AFTER``, the alert when a snooze ends, and the end. An issue without open exceptions waits for
``RECOVER_AFTER`` before it is recovered, so that a fault that comes and goes is one issue and not many.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid5

from qis.domain import events as ev
from qis.domain.errors import Conflict, FourEyes, refuse

ESCALATE_AFTER = timedelta(minutes=5)
RECOVER_AFTER = timedelta(minutes=2)
LONGEST_SNOOZE = timedelta(days=7)
WIDESPREAD = 10
"""Series from which on an issue is one severity worse than its worst exception."""
SNAPSHOT_FORMAT = 1
SNAPSHOT_EVERY = 50
"""Events since the last snapshot from which reading a group leaves a new one."""

_NAMES = UUID("0c6ad70b-6f0c-5ef5-8a51-6f6f8e2a9b03")


class Severity(StrEnum):
    """How bad, from the least."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        return tuple(Severity).index(self)

    def worse(self) -> Severity:
        """The next one up."""
        return tuple(Severity)[min(self.rank + 1, len(Severity) - 1)]


class Resolution(StrEnum):
    """How an issue ended."""

    APPROVED = "approved"
    CORRECTED = "corrected"
    RECOVERED = "recovered"


@dataclass(frozen=True, slots=True)
class Item:
    """An exception as an issue knows it."""

    item: str
    """Identifier of the exception."""
    reference_data_id: str
    snap: str
    severity: Severity
    submitters: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "item": self.item,
            "reference_data_id": self.reference_data_id,
            "snap": self.snap,
            "severity": self.severity.value,
            "submitters": list(self.submitters),
        }

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Item:
        """The item in a stored event."""
        return cls(
            body["item"],
            body["reference_data_id"],
            body["snap"],
            Severity(body["severity"]),
            tuple(body["submitters"]),
        )


def item_of(detected: Mapping[str, Any]) -> Item:
    """The item that the data of a ``QualityIssueDetected`` event speaks of. An exception that holds a value
    back is high unless it says otherwise, a finding medium."""
    severity = detected.get("severity") or ("high" if detected["gate"] else "medium")
    return Item(
        detected["issue_id"],
        detected["reference_data_id"],
        detected["snap"],
        Severity(severity),
        tuple(detected["submitters"]),
    )


def group_of(detected: Mapping[str, Any]) -> str:
    """The group of an exception: ``kind|scope``.

    The scope is what the finding says, else the one source that it is about, else its series: two series
    of one vendor that spike together are one issue, two series on which sources disagree are two.
    """
    kind = detected["kind"]
    if kind == "suspect":
        failed = sorted(c["check"] for c in detected["checks"] if not c["passed"])
        kind = "+".join(failed) or "disagreement"
    scope = detected.get("scope")
    sources = detected.get("sources") or ([detected["source"]] if detected.get("source") else [])
    if scope is None and len(sources) == 1:
        scope = f"source/{sources[0]}"
    return f"{kind}|{scope or 'series/' + detected['reference_data_id']}"


def issue_stream(group: str) -> str:
    """Name of the stream of a group."""
    return f"issue:{group}"


@dataclass(slots=True)
class Live:
    """The open issue of a group."""

    issue: UUID
    opened_at: datetime
    severity: Severity
    open_items: dict[str, Item] = field(default_factory=dict)
    seen: int = 0
    """Exceptions that ever belonged to it."""
    series: set[str] = field(default_factory=set)
    submitters: set[str] = field(default_factory=set)
    triaged_by: str | None = None
    escalate_at: datetime | None = None
    escalated: bool = False
    snoozed_until: datetime | None = None
    empty_since: datetime | None = None

    @property
    def status(self) -> str:
        """``detected``, ``triaged`` or ``snoozed``."""
        if self.snoozed_until is not None:
            return "snoozed"
        return "detected" if self.triaged_by is None else "triaged"

    @property
    def due_at(self) -> datetime | None:
        """When the scheduler has to look at it again."""
        if self.empty_since is not None:
            return self.empty_since + RECOVER_AFTER
        return self.snoozed_until or self.escalate_at

    def take(self, items: Iterable[Item]) -> None:
        for item in items:
            self.open_items[item.item] = item
            self.seen += 1
            self.series.add(item.reference_data_id)
            self.submitters |= set(item.submitters)
        self.severity = max(self.severity, self._severity(), key=lambda s: s.rank)
        self.empty_since = None

    def drop(self, items: Iterable[str], at: datetime) -> None:
        for item in items:
            self.open_items.pop(item, None)
        if not self.open_items and self.empty_since is None:
            self.empty_since = at

    def _severity(self) -> Severity:
        worst = max((i.severity for i in self.open_items.values()), key=lambda s: s.rank)
        return worst.worse() if len(self.series) >= WIDESPREAD else worst

    def copy(self) -> Live:
        return replace(
            self,
            open_items=dict(self.open_items),
            series=set(self.series),
            submitters=set(self.submitters),
        )


@dataclass(slots=True)
class Group:
    """State of one group's stream: its open issue, if there is one."""

    group: str
    version: int = 0
    number: int = 0
    """Issues that the group has had."""
    live: Live | None = None

    def fold(self, events: Iterable[ev.Event]) -> Group:
        """Apply stored events in order of version."""
        for event in events:
            self.apply(event.type, event.data)
            self.version = event.version
        return self

    def apply(self, type_: str, data: Mapping[str, Any]) -> None:
        """Apply one event."""
        at = datetime.fromisoformat(data["at"])
        if type_ == ev.ISSUE_OPENED:
            self.number += 1
            self.live = Live(UUID(data["issue"]), at, Severity.LOW, escalate_at=at + ESCALATE_AFTER)
            self.live.take(Item.of(i) for i in data["items"])
            return
        live = self.live
        assert live is not None, "an issue is opened first"
        match type_:
            case ev.ISSUE_EXTENDED:
                live.take(Item.of(i) for i in data["items"])
            case ev.ISSUE_REDUCED:
                live.drop(data["items"], at)
            case ev.ISSUE_TRIAGED:
                live.triaged_by, live.escalate_at, live.snoozed_until = data["by"], None, None
            case ev.ISSUE_SNOOZED:
                live.snoozed_until = datetime.fromisoformat(data["until"])
                live.escalate_at = None
            case ev.ISSUE_ALERTED if data["why"] == "snooze-ended":
                live.snoozed_until, live.escalate_at = None, at + ESCALATE_AFTER
                live.triaged_by = None
            case ev.ISSUE_ESCALATED:
                live.escalate_at, live.escalated = None, True
            case ev.ISSUE_CLOSED:
                self.live = None

    # what the quality function saw ---------------------------------------------------------------

    def observe(self, found: Sequence[Item], closed: Sequence[str], now: datetime) -> list[ev.NewEvent]:
        """Exceptions were found and others closed. Those found are new: the caller knows what it knew."""
        closed_now = set(closed)
        new = [i for i in found if i.item not in closed_now]
        out = _Decision(self, now)
        if new and self.live is None:
            issue = uuid5(_NAMES, f"{self.group}#{self.number + 1}")
            out.add(ev.ISSUE_OPENED, issue=str(issue), items=[i.as_json() for i in new])
            out.add(ev.ISSUE_ALERTED, why="detected")
        elif new:
            out.add(ev.ISSUE_EXTENDED, items=[i.as_json() for i in new])
        if self.live is not None and (gone := [i for i in closed if i in self.live.open_items]):
            out.add(ev.ISSUE_REDUCED, items=gone)
        return out.events

    # what people do ------------------------------------------------------------------------------

    def triage(self, issue: UUID, by: str, reason: str, now: datetime) -> list[ev.NewEvent]:
        """A person takes the issue, with an assessment: it no longer escalates.

        Raises:
            Conflict: the issue is not open, or this person has it already.
        """
        live = self._open(issue)
        if live.triaged_by == by and live.snoozed_until is None:
            raise Conflict(f"{by} has triaged issue {issue} already")
        out = _Decision(self, now)
        out.add(ev.ISSUE_TRIAGED, by=by, reason=reason)
        return out.events

    def snooze(self, issue: UUID, by: str, reason: str, until: datetime, now: datetime) -> list[ev.NewEvent]:
        """Nobody is told of the issue before ``until``; then everybody is.

        Raises:
            Conflict: the issue is not open.
            InvalidInput: ``until`` is past, or further away than ``LONGEST_SNOOZE``.
        """
        self._open(issue)
        if not now < until <= now + LONGEST_SNOOZE:
            longest = f"{LONGEST_SNOOZE.days} days"
            raise refuse("until", until.isoformat(), "snooze", f"is not within the next {longest}")
        out = _Decision(self, now)
        out.add(ev.ISSUE_SNOOZED, by=by, reason=reason, until=until.astimezone(UTC).isoformat())
        return out.events

    def check_decider(self, issue: UUID, by: str) -> Live:
        """The open issue, if ``by`` may decide on it: it is triaged, by somebody else, and none of its
        values was submitted by ``by``.

        Raises:
            Conflict: not open, or nobody has triaged it.
            FourEyes: see above.
        """
        live = self._open(issue)
        if live.triaged_by is None:
            raise Conflict(f"issue {issue} has to be triaged before it is decided on")
        if by == live.triaged_by:
            raise FourEyes(f"{by} triaged the issue and may not decide on it")
        if by in live.submitters:
            raise FourEyes(f"{by} submitted a value of the issue and may not decide on it")
        return live

    def close(
        self, issue: UUID, resolution: Resolution, by: str, reason: str, now: datetime
    ) -> list[ev.NewEvent]:
        """A second person decides.

        Raises:
            Conflict, FourEyes: see ``check_decider``.
        """
        self.check_decider(issue, by)
        out = _Decision(self, now)
        out.add(ev.ISSUE_CLOSED, resolution=resolution.value, by=by, reason=reason)
        return out.events

    # what the clock does -------------------------------------------------------------------------

    def tick(self, now: datetime) -> list[ev.NewEvent]:
        """What is due by ``now``; nothing the second time."""
        live = self.live
        out = _Decision(self, now)
        if live is None or live.due_at is None or live.due_at > now:
            return []
        if live.empty_since is not None:
            reason = "no exception of it is open"
            out.add(ev.ISSUE_CLOSED, resolution=Resolution.RECOVERED.value, by=None, reason=reason)
        elif live.snoozed_until is not None:
            out.add(ev.ISSUE_ALERTED, why="snooze-ended")
        else:
            waited = int(ESCALATE_AFTER.total_seconds() // 60)
            out.add(ev.ISSUE_ESCALATED, why=f"nobody has triaged it within {waited} minutes")
        return out.events

    def _open(self, issue: UUID) -> Live:
        if self.live is None or self.live.issue != issue:
            raise Conflict(f"issue {issue} is not open")
        return self.live

    # snapshots -----------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """The state as JSON, from which ``restore`` makes an equal one."""
        live = self.live
        body = {"format": SNAPSHOT_FORMAT, "number": self.number, "live": None}
        if live is None:
            return body
        return body | {
            "live": {
                "issue": str(live.issue),
                "opened_at": live.opened_at.isoformat(),
                "severity": live.severity.value,
                "open_items": [i.as_json() for i in live.open_items.values()],
                "seen": live.seen,
                "series": sorted(live.series),
                "submitters": sorted(live.submitters),
                "triaged_by": live.triaged_by,
                "escalate_at": _text(live.escalate_at),
                "escalated": live.escalated,
                "snoozed_until": _text(live.snoozed_until),
                "empty_since": _text(live.empty_since),
            }
        }

    @classmethod
    def restore(cls, group: str, version: int, state: Mapping[str, Any] | None) -> Group:
        """The state after ``version`` events; the empty one where there is no snapshot."""
        if state is None:
            return cls(group)
        body = state["live"]
        live = None
        if body is not None:
            live = Live(
                issue=UUID(body["issue"]),
                opened_at=datetime.fromisoformat(body["opened_at"]),
                severity=Severity(body["severity"]),
                open_items={i["item"]: Item.of(i) for i in body["open_items"]},
                seen=body["seen"],
                series=set(body["series"]),
                submitters=set(body["submitters"]),
                triaged_by=body["triaged_by"],
                escalate_at=_moment(body["escalate_at"]),
                escalated=body["escalated"],
                snoozed_until=_moment(body["snoozed_until"]),
                empty_since=_moment(body["empty_since"]),
            )
        return cls(group, version, state["number"], live)


class _Decision:
    """Events of one decision, each with the state that it leads to: what the read model and whoever is
    told of the issue need."""

    def __init__(self, group: Group, now: datetime) -> None:
        live = None if group.live is None else group.live.copy()
        self._group = Group(group.group, group.version, group.number, live)
        self._now = now
        self.events: list[ev.NewEvent] = []

    def add(self, type_: str, **body: Any) -> None:
        before = self._group.live
        data: dict[str, Any] = {
            "issue": None if before is None else str(before.issue),
            "group": self._group.group,
            "at": self._now.astimezone(UTC).isoformat(),
            **body,
        }
        self._group.apply(type_, data)
        data["state"] = _state(self._group.live or before, closed=body.get("resolution"))
        self.events.append(ev.NewEvent(type_, data))


def _state(live: Live | None, closed: str | None) -> dict[str, Any]:
    assert live is not None
    return {
        "status": "closed" if closed else live.status,
        "resolution": closed,
        "severity": live.severity.value,
        "open": len(live.open_items),
        "items": live.seen,
        "series": len(live.series),
        "opened_at": live.opened_at.isoformat(),
        "triaged_by": live.triaged_by,
        "escalated": live.escalated,
        "snoozed_until": _text(live.snoozed_until),
        "due_at": None if closed else _text(live.due_at),
    }


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
