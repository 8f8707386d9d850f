"""The aggregate of one series at one snap: its claims, decisions, official versions and exceptions.

Folding the stream gives the state; the methods decide which events follow and change nothing themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from qis.domain import events as ev
from qis.domain.claims import Claim
from qis.domain.durations import duration_text
from qis.domain.errors import Conflict, FourEyes
from qis.domain.numbers import decimal_text
from qis.domain.quality import Scores, value_scores
from qis.domain.reconciliation import (
    NO_STANDINGS,
    Check,
    Decision,
    Reference,
    Standings,
    Status,
    distance,
    reconcile,
)
from qis.domain.rules import LayerRef, RestatementPolicy, RuleSet
from qis.domain.snap import NANOS, Snap

SNAPSHOT_FORMAT = 2
"""Version of the snapshot's form; one of another form is not read, and the whole stream is folded."""

_ISSUES = UUID("9b0f5d0e-6e0c-5c0a-9d55-2b1f0a1e5a01")
"""Namespace of issue identifiers, which follow from stream and version and so are stable on replay."""

REASON_CORRECTION = "correction"
REASON_LATE = "late-claim"
REASON_APPROVAL = "approval"
REASON_RULES = "rules"
"""A person applied rules to a stated range: no restatement policy stands in the way."""


@dataclass(frozen=True, slots=True)
class Official:
    """The current official value."""

    value: Decimal
    version: int
    quality: dict[str, Any]


@dataclass(frozen=True, slots=True)
class OpenIssue:
    """A value waiting in the exception queue."""

    issue_id: UUID
    proposed: Decimal | None
    claim_ids: tuple[str, ...]
    submitters: tuple[str, ...]
    kind: str
    """``suspect``: reconciliation came to it; ``restatement``: a person proposed it."""
    reason: str


@dataclass(slots=True)
class ValueHistory:
    """State of one value stream. ``version`` is the number of events folded."""

    reference_data_id: str
    snap: Snap
    version: int = 0
    claims: dict[str, Claim] = field(default_factory=dict)
    submitters: dict[str, str] = field(default_factory=dict)
    decision: ev.Data | None = None
    official: Official | None = None
    issue: OpenIssue | None = None
    withdrawn: set[str] = field(default_factory=set)
    approved: set[Decimal] = field(default_factory=set)
    pinned: Decimal | None = None
    """Value set by a restatement of a person; later claims are recorded and do not replace it."""
    learned_at: datetime | None = None
    """When the newest claim was recorded."""

    @property
    def stream(self) -> str:
        return ev.value_stream(self.reference_data_id, self.snap.text)

    def fold(self, events: Iterable[ev.Event]) -> ValueHistory:
        """Apply stored events in order of version."""
        for event in events:
            apply = _APPLY.get(event.type)
            if apply is not None:
                apply(self, event)
            self.version = event.version
        return self

    def snapshot(self) -> dict[str, Any]:
        """The state as JSON, from which ``restore`` makes an equal one."""
        official, issue = self.official, self.issue
        return {
            "format": SNAPSHOT_FORMAT,
            "claims": [{**c.as_json(), "submitter": self.submitters[i]} for i, c in self.claims.items()],
            "decision": self.decision,
            "official": None
            if official is None
            else [decimal_text(official.value), official.version, official.quality],
            "issue": None if issue is None else _issue_json(issue),
            "withdrawn": sorted(self.withdrawn),
            "approved": sorted(decimal_text(v) for v in self.approved),
            "pinned": None if self.pinned is None else decimal_text(self.pinned),
            "learned_at": None if self.learned_at is None else self.learned_at.isoformat(),
        }

    @classmethod
    def restore(cls, reference_data_id: str, snap: Snap, version: int, state: ev.Data | None) -> ValueHistory:
        """The state after ``version`` events; the empty one where there is no snapshot."""
        history = cls(reference_data_id, snap, version)
        if state is None:
            return history
        for body in state["claims"]:
            claim = Claim.from_json(body)
            history.claims[claim.claim_id] = claim
            history.submitters[claim.claim_id] = body["submitter"]
        history.decision = state["decision"]
        if state["official"] is not None:
            value, official_version, quality = state["official"]
            history.official = Official(Decimal(value), official_version, quality)
        if state["issue"] is not None:
            history.issue = _issue_of(state["issue"])
        history.withdrawn = set(state["withdrawn"])
        history.approved = {Decimal(v) for v in state["approved"]}
        history.pinned = None if state["pinned"] is None else Decimal(state["pinned"])
        learned_at = state["learned_at"]
        history.learned_at = None if learned_at is None else datetime.fromisoformat(learned_at)
        return history

    # decisions -----------------------------------------------------------------------------------

    def decide(
        self,
        rules: RuleSet,
        references: Sequence[Reference],
        standings: Standings = NO_STANDINGS,
        *,
        by_policy: bool = True,
    ) -> Decision:
        """The decision on the claims as they are now, with what people decided on them.

        Args:
            by_policy: whether the rules' restatement policy says which changes of the official value wait
                for a person.
        """
        decision = reconcile(self.claims.values(), rules, references, self.withdrawn, standings)
        if decision.status is Status.SUSPECT and decision.value in self.approved:
            return replace(decision, status=Status.OFFICIAL, reason="approved in the exception queue")
        if by_policy and decision.status is Status.OFFICIAL and decision.value not in self.approved:
            late = self._late(decision, rules.restatement)
            if late:
                # Nothing is judged by a value that is not official.
                return replace(
                    decision,
                    status=Status.SUSPECT,
                    reason="; ".join(c.detail for c in late),
                    checks=(*decision.checks, *late),
                    standings=None if decision.standings is None else standings,
                )
        return decision

    def reconcile(
        self,
        rules: RuleSet,
        references: Sequence[Reference],
        standings: Standings = NO_STANDINGS,
        cause: str = REASON_LATE,
    ) -> tuple[Decision, list[ev.NewEvent]]:
        """Decide again on the claims as they are now.

        Returns:
            The decision, and the events it leads to; none where it says what is already known.
        """
        decision = self.decide(rules, references, standings, by_policy=cause != REASON_RULES)
        body = decision.as_json()
        if self.decision is not None and _same(self.decision, body):
            return decision, []
        if self.pinned is not None:
            body["pinned"] = decimal_text(self.pinned)
        out = [ev.NewEvent(ev.DATA_RECONCILED, {**self._subject(), **body})]
        if decision.status is Status.OFFICIAL:
            if self.issue is not None and self.issue.kind == "suspect":
                out.append(self._event(ev.QUALITY_ISSUE_RESOLVED, issue_id=str(self.issue.issue_id)))
            if self.pinned is None:
                out += self._publish(decision, rules, cause, decision.reason, "qis:reconcile")
        elif decision.status is Status.SUSPECT and self.pinned is None:
            out += self._hold(decision)
        return decision, out

    def _late(self, decision: Decision, policy: RestatementPolicy | None) -> list[Check]:
        """Why a change of the official value is not made without a person; empty where it is."""
        if policy is None or self.official is None or self.pinned is not None:
            return []
        before, after = self.official.value, decision.value
        assert after is not None
        if after == before:
            return []
        failed = []
        if policy.window is not None and self.learned_at is not None:
            delay = timedelta(seconds=(Snap.of(self.learned_at).ns - self.snap.ns) // NANOS)
            if delay > policy.window:
                detail = f"would change {decimal_text(before)}, {delay} after the snap"
                limit = duration_text(policy.window) or ""
                failed.append(Check("restatement-window", False, duration_text(delay) or "", limit, detail))
        if policy.materiality is not None and policy.materiality.at(()).holds(before, after):
            moved = decimal_text(distance(after, before))
            detail = f"changes {decimal_text(before)} to {decimal_text(after)} only, by {moved}"
            failed.append(Check("materiality", False, moved, str(policy.materiality.as_json()), detail))
        return failed

    def _publish(
        self, decision: Decision, rules: RuleSet, cause: str, reason: str, by: str
    ) -> list[ev.NewEvent]:
        """The publication of ``decision``, or nothing where it is already the official value."""
        assert decision.value is not None
        if self.official is not None and self.official.value == decision.value:
            return []
        scores = value_scores(
            self.claims.values(), {c.claim_id for c in decision.used}, decision.checks, rules
        )
        details = {
            "method": decision.method,
            "confidence": None if decision.confidence is None else decimal_text(decision.confidence),
            "sources": [c.source for c in decision.used],
            **_rules_named(decision.chain),
        }
        return [self._official_event(decision.value, scores, details, cause, reason, by)]

    def _official_event(
        self,
        value: Decimal,
        scores: Scores,
        details: dict[str, Any],
        cause: str,
        reason: str,
        by: str,
    ) -> ev.NewEvent:
        body = {"value": decimal_text(value), "quality": scores.as_json(), **details}
        before = self.official
        if before is None:
            return self._event(ev.DATA_PUBLISHED, official_version=1, **body)
        return self._event(
            ev.DATA_RESTATED,
            official_version=before.version + 1,
            before={"value": decimal_text(before.value), "official_version": before.version},
            after={"value": decimal_text(value), "official_version": before.version + 1},
            cause=cause,
            reason=reason,
            restated_by=by,
            **body,
        )

    def _hold(self, decision: Decision) -> list[ev.NewEvent]:
        out: list[ev.NewEvent] = []
        if self.issue is not None:
            if self.issue.kind != "suspect" or self.issue.proposed == decision.value:
                return []
            out.append(self._event(ev.QUALITY_ISSUE_RESOLVED, issue_id=str(self.issue.issue_id)))
        evidence = [*decision.used, *(r.claim for r in decision.rejected if r.rule == "outside-tolerance")]
        submitters = sorted({self.submitters[c.claim_id] for c in evidence})
        out.append(
            self._event(
                ev.QUALITY_ISSUE_DETECTED,
                issue_id=str(self._issue_id(len(out) + 1)),
                kind="suspect",
                gate=True,
                proposed=None if decision.value is None else decimal_text(decision.value),
                claim_ids=[c.claim_id for c in decision.used],
                checks=[c.as_json() for c in decision.checks],
                sources=sorted({c.source for c in decision.used}),
                submitters=submitters,
                reason=decision.reason,
            )
        )
        return out

    def restate(
        self, value: Decimal, reason: str, by: str, rules: RuleSet, checks: Sequence[Check]
    ) -> list[ev.NewEvent]:
        """A person corrects the official value.

        A value that passes its checks is published at once; one that fails waits for a second person.

        Raises:
            Conflict: there is no official value to correct, it is already that value, or a restatement
                is waiting.
        """
        if self.official is None:
            raise Conflict("there is no official value to restate")
        if self.official.value == value:
            raise Conflict(f"the official value is already {decimal_text(value)}")
        if self.issue is not None and self.issue.kind == "restatement":
            raise Conflict(f"restatement {self.issue.issue_id} is waiting for approval")
        if all(c.passed for c in checks):
            return [self._restated(value, reason, by, rules, checks, REASON_CORRECTION)]
        out = []
        if self.issue is not None:
            out.append(self._event(ev.QUALITY_ISSUE_RESOLVED, issue_id=str(self.issue.issue_id)))
        out.append(
            self._event(
                ev.QUALITY_ISSUE_DETECTED,
                issue_id=str(self._issue_id(len(out))),
                kind="restatement",
                gate=True,
                proposed=decimal_text(value),
                claim_ids=[],
                checks=[c.as_json() for c in checks],
                submitters=[by],
                reason=reason,
            )
        )
        return out

    def approve(self, issue_id: UUID, by: str, rules: RuleSet) -> list[ev.NewEvent]:
        """A second person lets the waiting value out.

        Raises:
            Conflict: no such issue is open, or it proposes no value.
            FourEyes: ``by`` submitted what is to be approved.
        """
        issue = self._open(issue_id, by)
        if issue.proposed is None:
            raise Conflict("the sources disagree and no value is proposed; restate or reject")
        approved = self._event(
            ev.QUALITY_APPROVED, issue_id=str(issue_id), value=decimal_text(issue.proposed), approved_by=by
        )
        if self.official is not None and self.official.value == issue.proposed:
            return [approved]
        if issue.kind == "restatement":
            return [approved, self._restated(issue.proposed, issue.reason, by, rules, (), REASON_APPROVAL)]
        used = [self.claims[c] for c in issue.claim_ids if c in self.claims]
        scores = value_scores(self.claims.values(), set(issue.claim_ids), (), rules)
        details = {
            "method": "approval",
            "confidence": None,
            "sources": [c.source for c in used],
            **_rules_named(rules.chain),
        }
        return [
            approved,
            self._official_event(issue.proposed, scores, details, REASON_APPROVAL, issue.reason, by),
        ]

    def reject(self, issue_id: UUID, by: str, reason: str) -> list[ev.NewEvent]:
        """A second person refuses the waiting value; its claims no longer count.

        Raises:
            Conflict: no such issue is open.
            FourEyes: ``by`` submitted it.
        """
        issue = self._open(issue_id, by)
        return [
            self._event(
                ev.QUALITY_REJECTED,
                issue_id=str(issue_id),
                value=None if issue.proposed is None else decimal_text(issue.proposed),
                claim_ids=list(issue.claim_ids),
                reason=reason,
                rejected_by=by,
            )
        ]

    def _restated(
        self,
        value: Decimal,
        reason: str,
        by: str,
        rules: RuleSet,
        checks: Sequence[Check],
        cause: str,
    ) -> ev.NewEvent:
        agreeing = {c.claim_id for c in self.claims.values() if c.value == value}
        scores = value_scores(self.claims.values(), agreeing, checks, rules)
        details = {
            "method": "restatement",
            "confidence": None,
            "sources": sorted({self.claims[c].source for c in agreeing}),
            **_rules_named(rules.chain),
            "pinned": True,
        }
        return self._official_event(value, scores, details, cause, reason, by)

    def _open(self, issue_id: UUID, by: str) -> OpenIssue:
        if self.issue is None or self.issue.issue_id != issue_id:
            raise Conflict(f"exception {issue_id} is not open")
        if by in self.issue.submitters:
            raise FourEyes(f"{by} submitted the value and may not decide on it")
        return self.issue

    def _issue_id(self, offset: int) -> UUID:
        return uuid5(_ISSUES, f"{self.stream}#{self.version + 1 + offset}")

    def _subject(self) -> dict[str, Any]:
        return {"reference_data_id": self.reference_data_id, "snap": self.snap.text}

    def _event(self, type_: str, **data: object) -> ev.NewEvent:
        return ev.NewEvent(type_, {**self._subject(), **data})


def _rules_named(chain: Sequence[LayerRef]) -> dict[str, Any]:
    """The rules as a published value names them."""
    named: dict[str, Any] = {"rules": chain[0].rules, "rules_version": chain[0].version}
    if len(chain) > 1:
        named["rules_chain"] = [ref._asdict() for ref in chain]
    return named


_COMPARED = (
    "status",
    "value",
    "method",
    "sources_used",
    "sources_rejected",
    "rules",
    "rules_version",
    "rules_chain",
    "standings",
)


def _same(stored: ev.Data, body: ev.Data) -> bool:
    """Whether a decision says nothing new. The measured move is left out: it changes with neighbours."""
    return all(stored.get(k) == body.get(k) for k in _COMPARED)


# the fold ----------------------------------------------------------------------------------------


def _ingested(state: ValueHistory, event: ev.Event) -> None:
    claim = Claim.from_json(event.data)
    state.claims[claim.claim_id] = claim
    state.submitters[claim.claim_id] = event.actor
    state.learned_at = event.recorded_at


def _reconciled(state: ValueHistory, event: ev.Event) -> None:
    state.decision = event.data


def _officialised(state: ValueHistory, event: ev.Event) -> None:
    data = event.data
    state.official = Official(Decimal(data["value"]), data["official_version"], data["quality"])
    if data.get("pinned"):
        state.pinned = state.official.value


def _issue_detected(state: ValueHistory, event: ev.Event) -> None:
    if event.data["gate"]:
        state.issue = _issue_of(event.data)


def _issue_json(issue: OpenIssue) -> dict[str, Any]:
    return {
        "issue_id": str(issue.issue_id),
        "proposed": None if issue.proposed is None else decimal_text(issue.proposed),
        "claim_ids": list(issue.claim_ids),
        "submitters": list(issue.submitters),
        "kind": issue.kind,
        "reason": issue.reason,
    }


def _issue_of(data: ev.Data) -> OpenIssue:
    proposed = data["proposed"]
    return OpenIssue(
        issue_id=UUID(data["issue_id"]),
        proposed=None if proposed is None else Decimal(proposed),
        claim_ids=tuple(data["claim_ids"]),
        submitters=tuple(data["submitters"]),
        kind=data["kind"],
        reason=data["reason"],
    )


def _issue_closed(state: ValueHistory, event: ev.Event) -> None:
    state.issue = None
    if event.type == ev.QUALITY_APPROVED:
        state.approved.add(Decimal(event.data["value"]))
    if event.type == ev.QUALITY_REJECTED:
        state.withdrawn |= set(event.data["claim_ids"])


_APPLY = {
    ev.DATA_INGESTED: _ingested,
    ev.DATA_RECONCILED: _reconciled,
    ev.DATA_PUBLISHED: _officialised,
    ev.DATA_RESTATED: _officialised,
    ev.QUALITY_ISSUE_DETECTED: _issue_detected,
    ev.QUALITY_ISSUE_RESOLVED: _issue_closed,
    ev.QUALITY_APPROVED: _issue_closed,
    ev.QUALITY_REJECTED: _issue_closed,
}
