"""Corrections by people: restate, approve, reject. Each is reconciled on in the same transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from qis.application.ports import CatalogueReader, EventStore, Issue
from qis.application.quality import Quality
from qis.application.reconcile import ACTOR, Reconciler, Seed, Trigger
from qis.domain.conflicts.resolvers import Resolver
from qis.domain.errors import Conflict, NotFound, refuse
from qis.domain.events import (
    DATA_RECONCILED,
    QUALITY_APPROVED,
    QUALITY_REJECTED,
    NewEvent,
    value_stream,
)
from qis.domain.kinds.record import Value
from qis.domain.numbers import parse_decimal
from qis.domain.reconciliation import Check, Reference, Standings, check_proposal
from qis.domain.rules import RuleSet
from qis.domain.series import Series, check_text, check_value
from qis.domain.snap import Snap, parse_snap
from qis.domain.value_history import SNAPSHOT_FORMAT, ValueHistory

MAX_BYTES = 4 * 65_536
"""Largest record that a person may give: that of a claim, however its numbers are written."""


class Overtaken(Conflict):
    """Claims or rules that came since lead to another value than the one that was waiting."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """What corrections by people at the same time are ordered and resolved with."""

    now_ms: Callable[[], int]
    """Milliseconds since the epoch."""
    origin: str
    """Name of this place among those that write: the region."""
    resolver: Callable[[str], Resolver]


class Corrections:
    """The use case. One instance per process."""

    def __init__(
        self,
        store: EventStore,
        catalogue: CatalogueReader,
        reconciler: Reconciler,
        quality: Quality,
        overrides: Overrides,
    ) -> None:
        self._overrides = overrides
        self._store = store
        self._catalogue = catalogue
        self._reconciler = reconciler
        self._quality = quality

    def restate(
        self,
        reference_data_id: str,
        snap: object,
        value: object,
        reason: object,
        actor: str,
        correlation_id: str,
        official_version: object = None,
    ) -> dict[str, Any]:
        """Correct an official value. What fails its checks waits for a second person, and so does what
        another person corrected at the same time.

        Args:
            official_version: the version that the person looked at; the one that is official when the
                request comes, where nothing is said.

        Raises:
            NotFound: the series is not registered.
            InvalidInput: snap, value, reason or version break a rule.
            Conflict: there is nothing to restate; see ``ValueHistory.restate``.
        """
        series = self._catalogue.newest().series.get(reference_data_id)
        if series is None:
            raise NotFound(f"series {reference_data_id} is not registered", "unknown-series")
        at = parse_snap(snap, series.semantics.snap_time)
        right = _parse(series, value, at)
        if isinstance(right, Decimal):
            check_value(series, right)
        why = check_text(reason, "reason", 500)
        seen = self._official_version(reference_data_id, at, official_version)
        trigger = Trigger(reference_data_id, at, correlation_id, None, actor)

        def restatement(
            history: ValueHistory, rules: RuleSet, references: Sequence[Reference], _: Standings
        ) -> list[NewEvent]:
            stamp = history.next_stamp(self._overrides.now_ms(), self._overrides.origin)
            checks = _checks(series, right, at, rules, references)
            resolver = self._overrides.resolver(rules.conflict)
            return history.restate(right, why, actor, rules, checks, seen, stamp, resolver)

        return self._run(trigger, restatement)

    def _official_version(self, reference_data_id: str, at: Snap, given: object) -> int | None:
        if given is not None:
            if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given < 2**31:
                raise refuse("official_version", given, "count", "is not the number of a version")
            return given
        # What is official now is what the person sees: whoever gets in between has not been seen.
        stream = value_stream(reference_data_id, at.text)
        found = self._store.load_recent([stream], SNAPSHOT_FORMAT).get(stream)
        if found is None:
            return None
        history = ValueHistory.restore(reference_data_id, at, *(found.snapshot or (0, None)))
        official = history.fold(found.events).official
        return None if official is None else official.version

    def approve(
        self, issue_id: UUID, actor: str, correlation_id: str, value: object = None
    ) -> dict[str, Any]:
        """Let a waiting value out.

        Args:
            value: the one that is right, of several that wait; ``None``: the one that is proposed.

        Raises:
            NotFound: no such exception.
            InvalidInput: ``value`` is none of those that wait.
            Overtaken: the value is not what would be decided now; it has been decided anew.
            Conflict, FourEyes: see ``ValueHistory.approve``.
        """
        issue = self._issue(issue_id)
        if not issue.gate:
            if value is not None:
                raise refuse("value", value, "waiting-value", "is chosen, and this exception holds none back")
            return self._close(issue_id, issue, QUALITY_APPROVED, actor, correlation_id, "acknowledged")
        chosen = None if value is None else self._chosen(issue, value)

        def approval(
            history: ValueHistory,
            rules: RuleSet,
            references: Sequence[Reference],
            standings: Standings,
        ) -> list[NewEvent]:
            events = history.approve(issue_id, actor, rules, chosen)
            _, since = history.reconcile(rules, references, standings)
            held = history.issue is not None and history.issue.kind == "suspect"
            if since if held else any(e.type != DATA_RECONCILED for e in since):
                raise Overtaken("claims or rules that came since lead to another decision")
            return events

        try:
            return self._run(_trigger(issue, actor, correlation_id), approval)
        except Overtaken:
            self._reconciler.run([_trigger(issue, ACTOR, correlation_id)])
            raise

    def reject(self, issue_id: UUID, reason: object, actor: str, correlation_id: str) -> dict[str, Any]:
        """Refuse a waiting value; its claims no longer count.

        Raises:
            NotFound: no such exception.
            InvalidInput: no reason.
            Conflict, FourEyes: see ``ValueHistory.reject``.
        """
        why = check_text(reason, "reason", 500)
        issue = self._issue(issue_id)
        if not issue.gate:
            return self._close(issue_id, issue, QUALITY_REJECTED, actor, correlation_id, why)
        return self._run(
            _trigger(issue, actor, correlation_id),
            lambda history, _rules, _references, _standings: history.reject(issue_id, actor, why),
        )

    def _chosen(self, issue: Issue, value: object) -> Value:
        return _parse(self._catalogue.newest().series[issue.reference_data_id], value, issue.snap)

    def _issue(self, issue_id: UUID) -> Issue:
        issue = self._store.issue(issue_id)
        if issue is None:
            raise NotFound(f"there is no exception {issue_id}", "unknown-exception")
        return issue

    def _close(
        self, issue_id: UUID, issue: Issue, type_: str, actor: str, correlation_id: str, reason: str
    ) -> dict[str, Any]:
        event = self._quality.close(issue_id, issue, type_, actor, correlation_id, reason)
        return _answer(issue.reference_data_id, issue.snap, [event])

    def _run(self, trigger: Trigger, seed: Seed) -> dict[str, Any]:
        done = self._reconciler.run([trigger], {trigger.key: seed})
        return _answer(trigger.reference_data_id, trigger.snap, done.get(trigger.key, []))


def _parse(series: Series, value: object, snap: Snap) -> Value:
    if series.structure is None:
        return parse_decimal(value, "value")
    record = series.structure.parse(value, snap)
    size = len(json.dumps(record.document, separators=(",", ":")))
    if size > MAX_BYTES:
        raise refuse("value", f"({size} bytes)", "max-bytes", f"is larger than {MAX_BYTES} bytes")
    return record


def _checks(
    series: Series, right: Value, snap: Snap, rules: RuleSet, references: Sequence[Reference]
) -> list[Check]:
    if isinstance(right, Decimal):
        return check_proposal(right, rules, references)
    assert series.structure is not None
    return series.structure.check(right, snap)


def _trigger(issue: Issue, actor: str, correlation_id: str) -> Trigger:
    return Trigger(issue.reference_data_id, issue.snap, correlation_id, None, actor)


def _answer(reference_data_id: str, snap: Snap, events: Sequence[NewEvent]) -> dict[str, Any]:
    shown = [_shown(e) for e in events]
    return {"reference_data_id": reference_data_id, "snap": snap.text, "events": shown}


def _shown(event: NewEvent) -> dict[str, Any]:
    keys = (
        "value",
        "official_version",
        "before",
        "after",
        "reason",
        "issue_id",
        "status",
        "proposed",
        "checks",
    )
    return {"type": event.type, **{k: event.data[k] for k in keys if k in event.data}}
