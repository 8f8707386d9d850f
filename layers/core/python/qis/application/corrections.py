"""Corrections by people: restate, approve, reject. Each is reconciled on in the same transaction."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from qis.application.ports import CatalogueReader, EventStore
from qis.application.reconcile import Reconciler, Seed, Trigger
from qis.domain.errors import NotFound
from qis.domain.events import NewEvent
from qis.domain.numbers import parse_decimal
from qis.domain.reconciliation import check_proposal
from qis.domain.series import check_text, check_value
from qis.domain.snap import parse_snap


class Corrections:
    """The use case. One instance per process."""

    def __init__(self, store: EventStore, catalogue: CatalogueReader, reconciler: Reconciler) -> None:
        self._store = store
        self._catalogue = catalogue
        self._reconciler = reconciler

    def restate(
        self,
        reference_data_id: str,
        snap: object,
        value: object,
        reason: object,
        actor: str,
        correlation_id: str,
    ) -> dict[str, Any]:
        """Correct an official value. What fails its checks waits for a second person.

        Raises:
            NotFound: the series is not registered.
            InvalidInput: snap, value or reason break a rule.
            Conflict: there is nothing to restate; see ``ValueHistory.restate``.
        """
        series = self._catalogue.current().series.get(reference_data_id)
        if series is None:
            raise NotFound(f"series {reference_data_id} is not registered", "unknown-series")
        at = parse_snap(snap, series.semantics.snap_time)
        number = parse_decimal(value, "value")
        check_value(series, number)
        why = check_text(reason, "reason", 500)
        trigger = Trigger(reference_data_id, at, correlation_id, None, actor)
        return self._run(
            trigger,
            lambda history, rules, references: history.restate(
                number, why, actor, rules, check_proposal(number, rules, references)
            ),
        )

    def approve(self, issue_id: UUID, actor: str, correlation_id: str) -> dict[str, Any]:
        """Let a waiting value out.

        Raises:
            NotFound: no such exception.
            Conflict, FourEyes: see ``ValueHistory.approve``.
        """
        return self._run(
            self._trigger(issue_id, actor, correlation_id),
            lambda history, rules, _: history.approve(issue_id, actor, rules),
        )

    def reject(self, issue_id: UUID, reason: object, actor: str, correlation_id: str) -> dict[str, Any]:
        """Refuse a waiting value; its claims no longer count.

        Raises:
            NotFound: no such exception.
            InvalidInput: no reason.
            Conflict, FourEyes: see ``ValueHistory.reject``.
        """
        why = check_text(reason, "reason", 500)
        return self._run(
            self._trigger(issue_id, actor, correlation_id),
            lambda history, _rules, _references: history.reject(issue_id, actor, why),
        )

    def _trigger(self, issue_id: UUID, actor: str, correlation_id: str) -> Trigger:
        key = self._store.issue(issue_id)
        if key is None:
            raise NotFound(f"there is no exception {issue_id}", "unknown-exception")
        return Trigger(*key, correlation_id, None, actor)

    def _run(self, trigger: Trigger, seed: Seed) -> dict[str, Any]:
        done = self._reconciler.run([trigger], {trigger.key: seed})
        events = done.get(trigger.key, [])
        return {
            "reference_data_id": trigger.reference_data_id,
            "snap": trigger.snap.text,
            "events": [_shown(e) for e in events],
        }


def _shown(event: NewEvent) -> dict[str, Any]:
    keys = ("value", "official_version", "before", "after", "reason", "issue_id", "status", "proposed")
    return {"type": event.type, **{k: event.data[k] for k in keys if k in event.data}}
