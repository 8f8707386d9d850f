"""Issues: exceptions become issues as they are found, the scheduler tells people, people decide."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from qis.application.ports import EMPTY, Append, Contended, EventStore
from qis.domain import events as ev
from qis.domain.errors import Conflict, FourEyes, NotFound
from qis.domain.issues import (
    SNAPSHOT_EVERY,
    SNAPSHOT_FORMAT,
    Group,
    Item,
    Resolution,
    group_of,
    issue_stream,
    item_of,
)
from qis.domain.series import check_text
from qis.domain.snap import Snap, parse_instant

ACTOR = "qis:quality"
ATTEMPTS = 8
MOST_DECIDED = 500
"""Exceptions that one request decides on; the next request decides on the rest."""
CLOSING = frozenset({ev.QUALITY_ISSUE_RESOLVED, ev.QUALITY_APPROVED, ev.QUALITY_REJECTED})
FOLLOWED = CLOSING | {ev.QUALITY_ISSUE_DETECTED}

Clock = Callable[[], datetime]
Decide = Callable[[Group], list[ev.NewEvent]]


class IssueBook(Protocol):
    """What is known of issues, written with their events."""

    def groups_of(self, items: Collection[str]) -> Mapping[str, str]:
        """The group of each exception that belongs, or belonged, to an issue."""
        ...

    def due(self, now: datetime) -> Sequence[str]:
        """Groups whose issue the scheduler has to look at."""
        ...

    def group_of_issue(self, issue: UUID) -> str | None:
        """The group that an issue is of."""
        ...

    def still_open(self, items: Collection[str]) -> frozenset[str]:
        """Those of the exceptions that nobody has decided on."""
        ...


@dataclass(frozen=True, slots=True)
class IssueEntry:
    """An issue as its last event left it."""

    issue: UUID
    group: str
    changed_at: datetime
    state: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        kind, _, scope = self.group.partition("|")
        state = {k: v for k, v in self.state.items() if k != "due_at"}
        moments = {
            name: Snap.of(datetime.fromisoformat(state[name])).text
            for name in ("opened_at", "snoozed_until")
            if state.get(name) is not None
        }
        changed = Snap.of(self.changed_at).text
        return {
            "issue": str(self.issue),
            "kind": kind,
            "scope": scope,
            **state,
            **moments,
            "changed_at": changed,
        }


@dataclass(frozen=True, slots=True)
class IssueItem:
    """An exception of an issue."""

    item: UUID
    reference_data_id: str
    snap: Snap
    status: str
    kind: str
    source: str | None
    reason: str
    checks: Sequence[Mapping[str, Any]]

    def as_json(self) -> dict[str, Any]:
        return {
            "item": str(self.item),
            "reference_data_id": self.reference_data_id,
            "snap": self.snap.text,
            "status": self.status,
            "kind": self.kind,
            "source": self.source,
            "reason": self.reason,
            "checks": list(self.checks),
        }


class IssueReads(Protocol):
    """Issues as people see them."""

    def issues(
        self, statuses: Collection[str], after: tuple[datetime, UUID] | None, limit: int
    ) -> list[IssueEntry]:
        """Issues of these statuses, oldest first, after a place."""
        ...

    def issue(self, issue: UUID) -> IssueEntry | None:
        """One of them."""
        ...

    def items(self, issue: UUID, after: UUID | None, limit: int) -> list[IssueItem]:
        """Its exceptions in order of their identifiers."""
        ...


class Corrections(Protocol):
    """Decisions on single exceptions."""

    def approve(self, issue_id: UUID, actor: str, correlation_id: str) -> dict[str, Any]: ...

    def reject(self, issue_id: UUID, reason: object, actor: str, correlation_id: str) -> dict[str, Any]: ...


class _Groups:
    """Reading groups and appending what was decided on them."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    def decide(
        self, decisions: Mapping[str, Decide], actor: str, correlation_id: str
    ) -> tuple[int, set[str]]:
        """Load, decide, append. Returns how many events were stored, and the groups that lost to others."""
        streams = {issue_stream(g): g for g in decisions}
        loaded = self._store.load_recent(streams.keys(), SNAPSHOT_FORMAT)
        appends = []
        for stream, name in streams.items():
            found = loaded.get(stream, EMPTY)
            at, state = found.snapshot or (0, None)
            group = Group.restore(name, at, state).fold(found.events)
            if len(found.events) >= SNAPSHOT_EVERY:
                self._store.keep_snapshot(stream, found.version, group.snapshot())
            if events := decisions[name](group):
                appends.append(Append(stream, found.version, events, actor, correlation_id))
        lost = self._store.append(appends) if appends else frozenset()
        stored = sum(len(a.events) for a in appends if a.stream not in lost)
        return stored, {streams[s] for s in lost}


class IssueWatch:
    """Groups exceptions and keeps the time."""

    def __init__(self, store: EventStore, book: IssueBook) -> None:
        self._groups = _Groups(store)
        self._book = book

    def follow(self, events: Iterable[Mapping[str, Any]], now: datetime) -> int:
        """Take backbone events; returns how many events of issues were stored. Repeating changes nothing.

        A restatement that waits for a second person is work and no fault: it makes no issue.

        Raises:
            Contended: others kept changing the same group.
        """
        mine = [e for e in events if e["type"] in FOLLOWED]
        stored = 0
        for _ in range(ATTEMPTS):
            known = self._book.groups_of({e["data"]["issue_id"] for e in mine})
            found, closed = _by_group(mine, known)
            work = {g: _observation(found.get(g, ()), closed.get(g, ()), now) for g in found | closed}
            more, lost = self._groups.decide(work, ACTOR, ACTOR) if work else (0, set())
            stored += more
            if not lost:
                return stored
        raise Contended(f"issues were changed by others {ATTEMPTS} times")

    def tick(self, now: datetime) -> int:
        """Alert, escalate and close what is due; returns how many events were stored. What loses to another
        writer is looked at again by the next tick."""
        due = self._book.due(now)
        stored, _ = self._groups.decide(dict.fromkeys(due, lambda g: g.tick(now)), ACTOR, ACTOR)
        return stored


def _by_group(
    events: Iterable[Mapping[str, Any]], known: Mapping[str, str]
) -> tuple[dict[str, list[Item]], dict[str, list[str]]]:
    """New exceptions and closed ones, by group."""
    found: dict[str, list[Item]] = {}
    closed: dict[str, list[str]] = {}
    fresh: dict[str, str] = {}
    for event in events:
        data = event["data"]
        item = data["issue_id"]
        if event["type"] in CLOSING:
            group = known.get(item) or fresh.get(item)
            if group is not None:
                closed.setdefault(group, []).append(item)
        elif item not in known and item not in fresh and data["kind"] not in PROPOSED:
            fresh[item] = group = group_of(data)
            found.setdefault(group, []).append(item_of(data))
    return found, closed


def _observation(found: Sequence[Item], closed: Sequence[str], now: datetime) -> Decide:
    return lambda group: group.observe(found, closed, now)


PROPOSED = ("restatement", "conflict")
"""Kinds of exceptions that people made: each is decided by itself, never with others of one cause."""


class IssueDesk:
    """What people do with issues."""

    def __init__(self, store: EventStore, book: IssueBook, corrections: Corrections, clock: Clock) -> None:
        self._groups = _Groups(store)
        self._book = book
        self._corrections = corrections
        self._clock = clock

    def triage(self, issue: UUID, reason: object, actor: str, correlation_id: str) -> dict[str, Any]:
        """Take an issue, so that it does not escalate.

        Raises:
            NotFound: there is no such issue.
            InvalidInput: no reason.
            Conflict: see ``Group.triage``.
        """
        why = check_text(reason, "reason", 500)
        return self._do(issue, lambda g: g.triage(issue, actor, why, self._clock()), actor, correlation_id)

    def snooze(
        self, issue: UUID, until: object, reason: object, actor: str, correlation_id: str
    ) -> dict[str, Any]:
        """Tell nobody before ``until``.

        Raises:
            NotFound, Conflict: as in ``triage``.
            InvalidInput: no reason, or ``until`` is no moment of the next days.
        """
        why = check_text(reason, "reason", 500)
        moment = parse_instant(until, "until").moment
        return self._do(
            issue, lambda g: g.snooze(issue, actor, why, moment, self._clock()), actor, correlation_id
        )

    def approve(self, issue: UUID, reason: object, actor: str, correlation_id: str) -> dict[str, Any]:
        """The data were right: every held value is let out, every finding acknowledged.

        Returns:
            What was done; ``left`` names exceptions that could not be decided so, and why. The issue is
            closed when none is left.

        Raises:
            NotFound: there is no such issue.
            InvalidInput: no reason.
            Conflict, FourEyes: see ``Group.check_decider``.
        """
        return self._decide(issue, Resolution.APPROVED, reason, actor, correlation_id)

    def correct(self, issue: UUID, reason: object, actor: str, correlation_id: str) -> dict[str, Any]:
        """The data were wrong: claims of every held value no longer count, and the values are decided anew.

        Returns, raises: as ``approve``.
        """
        return self._decide(issue, Resolution.CORRECTED, reason, actor, correlation_id)

    def _decide(
        self, issue: UUID, resolution: Resolution, reason: object, actor: str, correlation_id: str
    ) -> dict[str, Any]:
        why = check_text(reason, "reason", 500)
        items: list[str] = []

        def check(group: Group) -> list[ev.NewEvent]:
            items[:] = group.check_decider(issue, actor).open_items
            return []

        name = self._group_of(issue)
        self._groups.decide({name: check}, actor, correlation_id)
        refused: dict[str, str] = {}
        waiting = self._book.still_open(items)
        for item in sorted(waiting)[:MOST_DECIDED]:
            try:
                if resolution is Resolution.APPROVED:
                    self._corrections.approve(UUID(item), actor, correlation_id)
                else:
                    self._corrections.reject(UUID(item), why, actor, correlation_id)
            except (Conflict, Contended, FourEyes) as refusal:
                refused[item] = str(refusal)
        left = self._book.still_open(waiting)
        answer: dict[str, Any] = {
            "issue": str(issue),
            "decided": len(waiting) - len(left),
            "left": [{"item": i, "why": refused.get(i, "not yet decided")} for i in sorted(left)],
        }
        if left:
            return answer | {"events": []}
        done = self._do(
            issue, lambda g: g.close(issue, resolution, actor, why, self._clock()), actor, correlation_id
        )
        return answer | {"events": done["events"]}

    def _do(self, issue: UUID, decide: Decide, actor: str, correlation_id: str) -> dict[str, Any]:
        name = self._group_of(issue)
        events: list[ev.NewEvent] = []

        def remembered(group: Group) -> list[ev.NewEvent]:
            events[:] = decide(group)
            return events

        for _ in range(ATTEMPTS):
            _, lost = self._groups.decide({name: remembered}, actor, correlation_id)
            if not lost:
                shown = [{"type": e.type, **e.data["state"]} for e in events]
                return {"issue": str(issue), "events": shown}
        raise Contended(f"issue {issue} was changed by others {ATTEMPTS} times")

    def _group_of(self, issue: UUID) -> str:
        group = self._book.group_of_issue(issue)
        if group is None:
            raise NotFound(f"there is no issue {issue}", "unknown-issue")
        return group
