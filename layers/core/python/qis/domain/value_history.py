"""The aggregate of one series at one snap: its claims, decisions, official versions and exceptions.

Folding the stream gives the state; the methods decide which events follow and change nothing themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from qis.domain import events as ev
from qis.domain.claims import Claim, chronological
from qis.domain.conflicts.clocks import ORIGIN, UNSTAMPED, HybridTime, VectorClock, tick
from qis.domain.conflicts.registers import Override, siblings
from qis.domain.conflicts.resolvers import Resolver, keep_siblings
from qis.domain.durations import duration_text
from qis.domain.errors import Conflict, FourEyes, refuse
from qis.domain.kinds.record import Structure, Value, stored_value, value_json, value_text
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
from qis.domain.snap import NANOS, Snap, parse_instant

SNAPSHOT_FORMAT = 4
"""Version of the snapshot's form; one of another form is not read, and the whole stream is folded."""

_ISSUES = UUID("9b0f5d0e-6e0c-5c0a-9d55-2b1f0a1e5a01")
"""Namespace of issue identifiers, which follow from stream and version and so are stable on replay."""

RECONCILER = "qis:reconcile"
"""Who makes a value official that no person set."""
_LONGEST_REASON = 2_000
REASON_CORRECTION = "correction"
REASON_LATE = "late-claim"
REASON_APPROVAL = "approval"
REASON_RULES = "rules"
"""A person applied rules to a stated range: no restatement policy stands in the way."""


@dataclass(frozen=True, slots=True)
class Official:
    """The current official value."""

    value: Value
    version: int
    quality: dict[str, Any]


@dataclass(frozen=True, slots=True)
class OpenIssue:
    """A value waiting in the exception queue."""

    issue_id: UUID
    proposed: Value | None
    claim_ids: tuple[str, ...]
    submitters: tuple[str, ...]
    kind: str
    """``suspect``: reconciliation came to it; ``restatement``: a person proposed it; ``conflict``: people
    proposed several, and none of them had seen the others."""
    reason: str
    siblings: tuple[Override, ...] = ()
    """The proposals of a conflict, what stands among them."""
    official_version: int = 0
    """Of the official value beside which it was proposed; 0 where there was none."""


@dataclass(slots=True)
class ValueHistory:
    """State of one value stream. ``version`` is the number of events folded."""

    reference_data_id: str
    snap: Snap
    version: int = 0
    claims: dict[str, Claim[Any]] = field(default_factory=dict)
    """By identity, in the order of the log."""
    recorded_at: dict[str, Snap] = field(default_factory=dict)
    """When each claim was recorded, by its identity."""
    submitters: dict[str, str] = field(default_factory=dict)
    decision: ev.Data | None = None
    official: Official | None = None
    issue: OpenIssue | None = None
    withdrawn: set[str] = field(default_factory=set)
    approved: dict[Value, frozenset[str]] = field(default_factory=dict)
    """Values that were let out, each with the people who did."""
    pinned: Value | None = None
    """Value set by a restatement of a person; later claims are recorded and do not replace it."""
    clocks: dict[int, VectorClock] = field(default_factory=dict)
    """What each official version rests on, by its number."""
    override: Override | None = None
    """The last version that was set with a stamp, if it still is the official one."""
    structure: Structure | None = None
    """Of the series' records, where it has them and decisions are to be made on them."""

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
            "claims": [
                {**c.as_json(), "submitter": self.submitters[i], "recorded_at": self.recorded_at[i].text}
                for i, c in self.claims.items()
            ],
            "decision": self.decision,
            "official": None
            if official is None
            else [value_json(official.value), official.version, official.quality],
            "issue": None if issue is None else _issue_json(issue),
            "withdrawn": sorted(self.withdrawn),
            "approved": [
                [value_json(v), sorted(self.approved[v])] for v in sorted(self.approved, key=value_text)
            ],
            "pinned": None if self.pinned is None else value_json(self.pinned),
            "clocks": {str(v): dict(c) for v, c in self.clocks.items()},
            "override": None if self.override is None else self.override.as_json(),
        }

    @classmethod
    def restore(
        cls,
        reference_data_id: str,
        snap: Snap,
        version: int,
        state: ev.Data | None,
        structure: Structure | None = None,
    ) -> ValueHistory:
        """The state after ``version`` events; the empty one where there is no snapshot."""
        history = cls(reference_data_id, snap, version, structure=structure)
        if state is None:
            return history
        for body in state["claims"]:
            claim = Claim.from_json(body, structure)
            history.claims[claim.claim_id] = claim
            history.submitters[claim.claim_id] = body["submitter"]
            history.recorded_at[claim.claim_id] = parse_instant(body["recorded_at"], "recorded_at")
        history.decision = state["decision"]
        if state["official"] is not None:
            value, official_version, quality = state["official"]
            history.official = Official(history._value(value), official_version, quality)
        if state["issue"] is not None:
            history.issue = _issue_of(history, state["issue"])
        history.withdrawn = set(state["withdrawn"])
        history.approved = {history._value(v): frozenset(by) for v, by in state["approved"]}
        history.pinned = None if state["pinned"] is None else history._value(state["pinned"])
        history.clocks = {int(v): VectorClock(c) for v, c in state["clocks"].items()}
        override = state["override"]
        history.override = None if override is None else Override.of(override, history._value)
        return history

    def _value(self, body: Any) -> Value:
        return stored_value(body, self.structure, self.snap)

    def statements(self) -> list[Claim[Any]]:
        """The claims in the order in which their sources made them; each source's last word comes last."""
        return chronological((c, self.recorded_at[i]) for i, c in self.claims.items())

    # decisions -----------------------------------------------------------------------------------

    def decide(
        self,
        rules: RuleSet,
        references: Sequence[Reference],
        standings: Standings = NO_STANDINGS,
        *,
        by_policy: bool = True,
    ) -> Decision[Any]:
        """The decision on the claims as they are now, with what people decided on them.

        Args:
            by_policy: whether the rules' restatement policy says which changes of the official value wait
                for a person.
        """
        decision = self._decide(rules, references, standings)
        approved = self._is_approved(decision)
        if decision.status is Status.SUSPECT and approved:
            return replace(decision, status=Status.OFFICIAL, reason="approved in the exception queue")
        if by_policy and decision.status is Status.OFFICIAL and not approved:
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
    ) -> tuple[Decision[Any], list[ev.NewEvent]]:
        """Decide again on the claims as they are now.

        Returns:
            The decision, and the events it leads to; none where it says what is already known.
        """
        decision = self.decide(rules, references, standings, by_policy=cause != REASON_RULES)
        body = decision.as_json()
        out: list[ev.NewEvent] = []
        if self.decision is None or not _same(self.decision, body):
            if self.pinned is not None:
                body["pinned"] = value_json(self.pinned)
            elif self._waits_for(decision):
                body["exception"] = self._exception(decision)
            out.append(ev.NewEvent(ev.DATA_RECONCILED, {**self._subject(), **body}))
        published: list[ev.NewEvent] = []
        if self.pinned is None and decision.status is Status.OFFICIAL:
            published = self._publish(decision, rules, cause, decision.reason, RECONCILER)
        if self.issue is None or self.issue.kind == "suspect":
            out += self._queued(decision, len(out))
            return decision, out + published
        out += published
        return decision, out + self._overtaken(self.issue, published, len(out))

    def _queued(self, decision: Decision[Any], offset: int) -> list[ev.NewEvent]:
        """What changes in the exception queue by ``decision``: a value that it holds waits there, one that it
        does not hold any more waits no longer.

        Args:
            offset: how many new events come before.
        """
        if self.pinned is not None or decision.status is not Status.SUSPECT:
            return self._closing()
        if self._waits_for(decision):
            return []
        out = self._closing()
        issue_id = str(self._issue_id(offset + len(out)))
        proposed = None if decision.value is None else value_json(decision.value)
        named = {"issue_id": issue_id, "kind": "suspect", "gate": True, "proposed": proposed}
        out.append(self._event(ev.QUALITY_ISSUE_DETECTED, **named, **self._exception(decision)))
        return out

    def _waits_for(self, decision: Decision[Any]) -> bool:
        """Whether the value that ``decision`` holds is the one that waits already."""
        issue = self.issue
        return (
            issue is not None
            and issue.kind == "suspect"
            and decision.status is Status.SUSPECT
            and issue.proposed == decision.value
        )

    def _exception(self, decision: Decision[Any]) -> dict[str, Any]:
        """What the queue says of a held value: the claims it rests on, and who submitted them."""
        used = list(decision.used) or [c for c in self.claims.values() if c.value == decision.value]
        evidence = {c.claim_id for c in used} | _contradicting(decision)
        submitters = {self.submitters[i] for i in evidence}
        body: dict[str, Any] = {
            "claim_ids": [c.claim_id for c in used],
            "checks": [c.as_json() for c in decision.checks],
            "sources": sorted({c.source for c in used}),
            "submitters": sorted(submitters),
            "reason": decision.reason,
        }
        if self.issue is not None and self._waits_for(decision):
            body["submitters"] = sorted(submitters.union(self.issue.submitters))
            body["issue_id"] = str(self.issue.issue_id)
        return body

    def _is_approved(self, decision: Decision[Any]) -> bool:
        """Whether somebody let the value out who did not submit what it rests on now."""
        people = self.approved.get(decision.value) if decision.value is not None else None
        if people is None:
            return False
        return not people <= {self.submitters[c.claim_id] for c in decision.used}

    def _overtaken(
        self, issue: OpenIssue, published: Sequence[ev.NewEvent], offset: int
    ) -> list[ev.NewEvent]:
        """A proposal of people that waits beside an official value which they have not seen: both wait as a
        conflict. Where the two are one value, nothing waits."""
        if published:
            value = self._value(published[0].data["value"])
            standing = Override(value, RECONCILER, "reconciled", self.clock.next(RECONCILER), UNSTAMPED)
        elif self.official is not None and self.official.version != issue.official_version:
            standing = self._standing()
        else:
            return []
        all_ = siblings([*self._proposals(issue), standing])
        closing = self._closing()
        if {o.value for o in all_} == {standing.value}:
            return closing
        newest = next(o for o in reversed(all_) if o.by != RECONCILER)
        return [*closing, self._conflict(newest.value, all_, (), offset + len(closing))]

    def _proposals(self, issue: OpenIssue) -> list[Override]:
        """What people proposed: the siblings of a conflict, or the one value of a restatement."""
        if issue.siblings or issue.proposed is None:
            return list(issue.siblings)
        (by,) = issue.submitters
        clock = self.clocks.get(issue.official_version, ORIGIN).next(by)
        return [Override(issue.proposed, by, issue.reason, clock, UNSTAMPED)]

    def _decide(self, rules: RuleSet, references: Sequence[Reference], standings: Standings) -> Decision[Any]:
        claims = self.statements()
        if self.structure is None:
            return reconcile(claims, rules, references, self.withdrawn, standings)
        from qis.domain.kinds.fusing import reconcile_records  # read only where a series has records

        return reconcile_records(claims, self.structure, rules, self.withdrawn, standings)

    def _late(self, decision: Decision[Any], policy: RestatementPolicy | None) -> list[Check]:
        """Why a change of the official value is not made without a person; empty where it is."""
        if policy is None or self.official is None or self.pinned is not None:
            return []
        before, after = self.official.value, decision.value
        assert after is not None
        if after == before:
            return []
        failed = []
        if policy.window is not None and self.recorded_at:
            newest = max(at.ns for at in self.recorded_at.values())
            delay = timedelta(seconds=(newest - self.snap.ns) // NANOS)
            if delay > policy.window:
                detail = f"would change {value_text(before)}, {delay} after the snap"
                limit = duration_text(policy.window) or ""
                failed.append(Check("restatement-window", False, duration_text(delay) or "", limit, detail))
        if policy.materiality is None or not isinstance(before, Decimal):
            return failed  # of records no change is too small
        if policy.materiality.at(()).holds(before, after):
            moved = decimal_text(distance(after, before))
            detail = f"changes {decimal_text(before)} to {decimal_text(after)} only, by {moved}"
            failed.append(Check("materiality", False, moved, str(policy.materiality.as_json()), detail))
        return failed

    def _publish(
        self, decision: Decision[Any], rules: RuleSet, cause: str, reason: str, by: str
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
        value: Value,
        scores: Scores,
        details: dict[str, Any],
        cause: str,
        reason: str,
        by: str,
    ) -> ev.NewEvent:
        body = {"value": value_json(value), "quality": scores.as_json(), **details}
        before = self.official
        if before is None:
            return self._event(ev.DATA_PUBLISHED, official_version=1, **body)
        return self._event(
            ev.DATA_RESTATED,
            official_version=before.version + 1,
            before={"value": value_text(before.value), "official_version": before.version},
            after={"value": value_text(value), "official_version": before.version + 1},
            cause=cause,
            reason=reason,
            restated_by=by,
            **body,
        )

    @property
    def clock(self) -> VectorClock:
        """What the official value rests on."""
        return ORIGIN if self.official is None else self.clocks.get(self.official.version, ORIGIN)

    def restate(
        self,
        value: Value,
        reason: str,
        by: str,
        rules: RuleSet,
        checks: Sequence[Check],
        seen: int | None = None,
        stamp: HybridTime | None = None,
        resolver: Resolver = keep_siblings,
    ) -> list[ev.NewEvent]:
        """A person corrects the official value.

        A value that passes its checks is published at once; one that fails waits for a second person. So does
        one whose author had not seen what is official now, unless the resolver of the rules finds a winner.

        Args:
            seen: the official version that the person looked at; ``None``: the one that is official now.
            stamp: when it was asked for; ``None``: as early as can be.
            resolver: of concurrent overrides.

        Raises:
            Conflict: there is no official value to correct, or not the version that was seen, it is already
                that value, a restatement is waiting, or the resolver finds for what is official.
        """
        if self.official is None:
            raise Conflict("there is no official value to restate")
        if self.official.value == value:
            raise Conflict(f"the official value is already {value_text(value)}")
        if self.issue is not None and self.issue.kind == "restatement":
            raise Conflict(f"restatement {self.issue.issue_id} is waiting for approval")
        mine = self._override(value, reason, by, seen, stamp)
        proposed = self.issue.siblings if self.issue is not None else ()
        if not all(mine.clock.includes(c) for c in (self.clock, *(o.clock for o in proposed))):
            return self._contest(mine, rules, checks, resolver)
        out = self._closing()
        if all(c.passed for c in checks):
            return [*out, self._restated(value, reason, by, rules, checks, REASON_CORRECTION, mine)]
        out.append(
            self._event(
                ev.QUALITY_ISSUE_DETECTED,
                issue_id=str(self._issue_id(len(out))),
                kind="restatement",
                gate=True,
                proposed=value_json(value),
                claim_ids=[],
                checks=[c.as_json() for c in checks],
                submitters=[by],
                reason=reason,
            )
        )
        return out

    def _override(
        self, value: Value, reason: str, by: str, seen: int | None, stamp: HybridTime | None
    ) -> Override:
        assert self.official is not None
        version = self.official.version if seen is None else seen
        if not 1 <= version <= self.official.version:
            raise Conflict(f"there is no official version {version}; the last is {self.official.version}")
        clock = self.clocks.get(version, ORIGIN).next(by)
        return Override(value, by, reason, clock, stamp or UNSTAMPED)

    def _contest(
        self, mine: Override, rules: RuleSet, checks: Sequence[Check], resolver: Resolver
    ) -> list[ev.NewEvent]:
        """Of overrides that had not seen each other, the one that the resolver finds for; else all of them
        wait for a person, who is none of their authors."""
        all_ = siblings([*(self.issue.siblings if self.issue is not None else ()), self._standing(), mine])
        kept = resolver(all_)
        joined = ORIGIN
        for one in all_:
            joined = joined.join(one.clock)
        if tuple(kept) == (mine,) and all(c.passed for c in checks):
            won = replace(mine, clock=joined)
            restated = self._restated(mine.value, mine.reason, mine.by, rules, checks, REASON_CORRECTION, won)
            lost = [o.as_json() for o in all_ if o != mine]
            resolved = {"resolver": rules.conflict, "overruled": lost}
            return [*self._closing(), ev.NewEvent(restated.type, {**restated.data, "conflict": resolved})]
        if len(kept) == 1 and mine not in kept:
            raise Conflict(f"{rules.conflict} finds for {value_text(kept[0].value)} by {kept[0].by}")
        out = self._closing()
        return [*out, self._conflict(mine.value, all_, checks, len(out))]

    def _conflict(
        self, proposed: Value, all_: Sequence[Override], checks: Sequence[Check], offset: int
    ) -> ev.NewEvent:
        """The exception in which values wait whose authors had not seen each other.

        Args:
            offset: how many new events come before it.
        """
        named = "; ".join(f"{value_text(o.value)} by {o.by}: {o.reason}" for o in all_)
        authors = {o.by for o in all_}
        if RECONCILER in authors:
            # Who submitted what reconciliation made official would otherwise choose their own value.
            authors |= {self.submitters[c.claim_id] for c in self.claims.values() if c.value in _values(all_)}
        return self._event(
            ev.QUALITY_ISSUE_DETECTED,
            issue_id=str(self._issue_id(offset)),
            kind="conflict",
            gate=True,
            proposed=value_json(proposed),
            claim_ids=[],
            checks=[c.as_json() for c in checks],
            submitters=sorted(authors),
            reason=f"set without having seen each other: {named}"[:_LONGEST_REASON],
            siblings=[o.as_json() for o in all_],
        )

    def _standing(self) -> Override:
        """What is official, as one of the overrides."""
        if self.override is not None:
            return self.override
        assert self.official is not None
        return Override(self.official.value, RECONCILER, "reconciled", self.clock, UNSTAMPED)

    def _closing(self) -> list[ev.NewEvent]:
        if self.issue is None:
            return []
        return [self._event(ev.QUALITY_ISSUE_RESOLVED, issue_id=str(self.issue.issue_id))]

    def next_stamp(self, now_ms: int, origin: str) -> HybridTime:
        """The stamp of an override that is asked for now: later than all that this value has seen."""
        known = [o.stamp for o in (self.issue.siblings if self.issue is not None else ())]
        known += [] if self.override is None else [self.override.stamp]
        return tick(now_ms, max(known, default=None), origin)

    def approve(
        self, issue_id: UUID, by: str, rules: RuleSet, value: Value | None = None
    ) -> list[ev.NewEvent]:
        """A second person lets the waiting value out.

        Args:
            value: of a conflict, the sibling that is right; ``None``: the newest, which is proposed.

        Raises:
            Conflict: no such issue is open, or it proposes no value.
            FourEyes: ``by`` submitted what is to be approved.
            InvalidInput: ``value`` is none of those that wait.
        """
        issue = self._open(issue_id, by)
        if issue.proposed is None:
            raise Conflict("the sources disagree and no value is proposed; restate or reject")
        chosen = issue.proposed if value is None else _waiting(issue, issue.proposed, value)
        approved = self._event(
            ev.QUALITY_APPROVED, issue_id=str(issue_id), value=value_json(chosen), approved_by=by
        )
        if self.official is not None and self.official.value == chosen:
            return [approved]
        if issue.kind in ("restatement", "conflict"):
            clock = self.clock
            for one in issue.siblings:
                clock = clock.join(one.clock)
            stamp = max((o.stamp for o in issue.siblings), default=UNSTAMPED)
            mine = Override(chosen, by, issue.reason, clock.next(by), stamp)
            return [approved, self._restated(chosen, issue.reason, by, rules, (), REASON_APPROVAL, mine)]
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
            self._official_event(chosen, scores, details, REASON_APPROVAL, issue.reason, by),
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
                value=None if issue.proposed is None else value_json(issue.proposed),
                claim_ids=list(issue.claim_ids),
                reason=reason,
                rejected_by=by,
            )
        ]

    def _restated(
        self,
        value: Value,
        reason: str,
        by: str,
        rules: RuleSet,
        checks: Sequence[Check],
        cause: str,
        override: Override,
    ) -> ev.NewEvent:
        agreeing = {c.claim_id for c in self.claims.values() if c.value == value}
        scores = value_scores(self.claims.values(), agreeing, checks, rules)
        details = {
            "method": "restatement",
            "confidence": None,
            "sources": sorted({self.claims[c].source for c in agreeing}),
            **_rules_named(rules.chain),
            "pinned": True,
            "clock": dict(override.clock),
            "stamp": override.stamp.text,
        }
        return self._official_event(value, scores, details, cause, reason, by)

    def _open(self, issue_id: UUID, by: str) -> OpenIssue:
        if self.issue is None or self.issue.issue_id != issue_id:
            raise Conflict(f"exception {issue_id} is not open")
        if by in self.issue.submitters or by in self._deciding_submitters():
            raise FourEyes(f"{by} submitted the value and may not decide on it")
        return self.issue

    def _deciding_submitters(self) -> set[str]:
        """Who submitted the claims that the last decision rests on, of a value that it holds. In logs of
        before ``exception`` was part of decisions, an open exception does not name all of them."""
        if self.issue is None or self.issue.kind != "suspect" or self.decision is None:
            return set()
        return {self.submitters[ref["claim_id"]] for ref in self.decision["sources_used"]}

    def _issue_id(self, offset: int) -> UUID:
        return uuid5(_ISSUES, f"{self.stream}#{self.version + 1 + offset}")

    def _subject(self) -> dict[str, Any]:
        return {"reference_data_id": self.reference_data_id, "snap": self.snap.text}

    def _event(self, type_: str, **data: object) -> ev.NewEvent:
        return ev.NewEvent(type_, {**self._subject(), **data})


def _contradicting(decision: Decision[Any]) -> set[str]:
    """Claims that speak against the decision's value, which a decision on it passes over."""
    return {r.claim.claim_id for r in decision.rejected if r.rule in ("outside-tolerance", "outvoted")}


def _values(overrides: Iterable[Override]) -> set[Value]:
    return {o.value for o in overrides}


def _waiting(issue: OpenIssue, proposed: Value, value: Value) -> Value:
    """The one of the waiting values that equals ``value``, in its author's digits."""
    waiting = [o.value for o in issue.siblings] or [proposed]
    for one in waiting:
        if one == value:
            return one
    named = ", ".join(value_text(v) for v in waiting)
    raise refuse("value", value_text(value), "waiting-value", f"is not one of those that wait: {named}")


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
    "unlisted",
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
    claim = Claim.from_json(event.data, state.structure)
    state.claims[claim.claim_id] = claim
    state.submitters[claim.claim_id] = event.actor
    state.recorded_at[claim.claim_id] = Snap.of(event.recorded_at)


def _reconciled(state: ValueHistory, event: ev.Event) -> None:
    state.decision = event.data
    waiting = event.data.get("exception")
    if waiting is not None and state.issue is not None:
        state.issue = replace(
            state.issue,
            claim_ids=tuple(waiting["claim_ids"]),
            submitters=tuple(waiting["submitters"]),
            reason=waiting["reason"],
        )


def _officialised(state: ValueHistory, event: ev.Event) -> None:
    data = event.data
    clock = state.clock.next(RECONCILER) if "clock" not in data else VectorClock(data["clock"])
    state.official = Official(state._value(data["value"]), data["official_version"], data["quality"])
    state.clocks[state.official.version] = clock
    state.override = None
    if "stamp" in data:
        stamp = HybridTime.parse(data["stamp"])
        state.override = Override(state.official.value, data["restated_by"], data["reason"], clock, stamp)
    if data.get("pinned"):
        state.pinned = state.official.value


def _issue_detected(state: ValueHistory, event: ev.Event) -> None:
    if event.data["gate"]:
        state.issue = _issue_of(state, event.data)


def _issue_json(issue: OpenIssue) -> dict[str, Any]:
    return {
        "issue_id": str(issue.issue_id),
        "proposed": None if issue.proposed is None else value_json(issue.proposed),
        "claim_ids": list(issue.claim_ids),
        "submitters": list(issue.submitters),
        "kind": issue.kind,
        "reason": issue.reason,
        "siblings": [o.as_json() for o in issue.siblings],
        "official_version": issue.official_version,
    }


def _issue_of(state: ValueHistory, data: ev.Data) -> OpenIssue:
    proposed = data["proposed"]
    return OpenIssue(
        issue_id=UUID(data["issue_id"]),
        proposed=None if proposed is None else state._value(proposed),
        claim_ids=tuple(data["claim_ids"]),
        submitters=tuple(data["submitters"]),
        kind=data["kind"],
        reason=data["reason"],
        siblings=tuple(Override.of(o, state._value) for o in data.get("siblings", ())),
        official_version=data.get(
            "official_version", 0 if state.official is None else state.official.version
        ),
    )


def _issue_closed(state: ValueHistory, event: ev.Event) -> None:
    state.issue = None
    if event.type == ev.QUALITY_APPROVED:
        value = state._value(event.data["value"])
        state.approved[value] = state.approved.get(value, frozenset()) | {event.data["approved_by"]}
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
