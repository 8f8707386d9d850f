"""From many claims about one series and snap to one official value, with the reasons.

The decision is a pure function of the set of claims, the rule set and the references of the neighbouring
snaps. It knows nothing of arrival order.

Precedence with tolerance: sources are tried best first; the first whose claim agrees, within the tolerance,
with at least half of the other usable claims becomes official. With one usable claim there is nobody to
disagree. Where none agrees, the rule's fallback applies: the median of three or more claims, or a hold.

Confidence is Laplace's rule of succession over the other sources: ``(agreeing + 1) / (others + 2)``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from enum import StrEnum
from typing import Any

from qis.domain.claims import Claim
from qis.domain.numbers import MAX_DIGITS, decimal_text
from qis.domain.rules import Fallback, Method, RuleSet
from qis.domain.snap import NANOS, Snap

_EXACT = Context(prec=2 * MAX_DIGITS + 4)
_RATIO = Context(prec=12)


class Status(StrEnum):
    """Outcome of reconciling one snap."""

    OFFICIAL = "official"
    SUSPECT = "suspect"
    INSUFFICIENT = "insufficient"


@dataclass(frozen=True, slots=True)
class Rejected:
    """A claim that does not carry the decision, and why."""

    claim: Claim
    rule: str
    """``withdrawn-by-operator``, ``superseded``, ``stale``, ``out-of-range``, ``outside-tolerance``."""
    detail: str


@dataclass(frozen=True, slots=True)
class Check:
    """One quality check on the chosen value: what was measured against which threshold."""

    check: str
    passed: bool
    measured: str
    threshold: str
    detail: str

    def as_json(self) -> dict[str, Any]:
        return {
            "check": self.check,
            "passed": self.passed,
            "measured": self.measured,
            "threshold": self.threshold,
            "detail": self.detail,
        }


@dataclass(frozen=True, slots=True)
class Reference:
    """A neighbouring value that a move is measured against."""

    snap: Snap
    value: Decimal
    official: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """What reconciliation came to."""

    status: Status
    value: Decimal | None
    method: str
    confidence: Decimal | None
    reason: str
    used: tuple[Claim, ...]
    rejected: tuple[Rejected, ...]
    checks: tuple[Check, ...]
    rules: str
    rules_version: int

    def as_json(self) -> dict[str, Any]:
        """The decision's part of a ``DataReconciled`` event."""
        return {
            "status": self.status.value,
            "value": None if self.value is None else decimal_text(self.value),
            "method": self.method,
            "confidence": None if self.confidence is None else decimal_text(self.confidence),
            "reason": self.reason,
            "sources_used": [_claim_ref(c) for c in self.used],
            "sources_rejected": [
                {**_claim_ref(r.claim), "rule": r.rule, "detail": r.detail} for r in self.rejected
            ],
            "checks": [c.as_json() for c in self.checks],
            "rules": self.rules,
            "rules_version": self.rules_version,
        }


def _claim_ref(claim: Claim) -> dict[str, str]:
    return {"source": claim.source, "claim_id": claim.claim_id, "value": decimal_text(claim.value)}


def agrees(a: Decimal, b: Decimal, tolerance: Decimal) -> bool:
    """Whether two values lie within the relative tolerance of the larger; symmetric and exact."""
    # copy_abs: the operator abs() would round to the 28 digits of the default context.
    return _EXACT.subtract(a, b).copy_abs() <= _EXACT.multiply(tolerance, max(a.copy_abs(), b.copy_abs()))


def median(values: Sequence[Decimal]) -> Decimal:
    """The middle value, or the exact mean of the two middle ones. ``values`` is not empty."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return _EXACT.divide(_EXACT.add(ordered[middle - 1], ordered[middle]), Decimal(2))


def reconcile(
    claims: Iterable[Claim],
    rules: RuleSet,
    references: Sequence[Reference],
    withdrawn: Collection[str] = (),
) -> Decision:
    """Decide on one snap.

    Args:
        claims: every claim on the snap, of all sources, revisions included, in any order.
        rules: the rule set in force.
        references: values of the snaps before, for the move check; any that explains the move suffices.
        withdrawn: claims that an operator rejected.
    """
    usable, rejected = _usable(claims, rules, withdrawn)
    if len(usable) < rules.min_sources:
        reason = f"{len(usable)} usable of {rules.min_sources} sources needed"
        return _decision(rules, Status.INSUFFICIENT, None, rules.method.value, None, reason, (), rejected, ())
    method, value, reason = _choose(usable, rules)
    basis = value if value is not None else usable[0].value
    agreeing = tuple(c for c in usable if agrees(c.value, basis, rules.tolerance))
    outside = [
        Rejected(c, "outside-tolerance", f"differs from {decimal_text(basis)} by {_distance(c.value, basis)}")
        for c in usable
        if c not in agreeing
    ]
    checks = _checks(basis, agreeing, rules, references)
    held = value is None or not all(c.passed for c in checks)
    if held and value is not None:
        reason = "; ".join(c.detail for c in checks if not c.passed)
    status = Status.SUSPECT if held else Status.OFFICIAL
    confidence = _RATIO.divide(Decimal(len(agreeing)), Decimal(len(usable) + 1)).quantize(Decimal("0.0001"))
    return _decision(
        rules, status, basis, method, confidence, reason, agreeing, [*rejected, *outside], checks
    )


def _decision(
    rules: RuleSet,
    status: Status,
    value: Decimal | None,
    method: str,
    confidence: Decimal | None,
    reason: str,
    used: Sequence[Claim],
    rejected: Sequence[Rejected],
    checks: Sequence[Check],
) -> Decision:
    return Decision(
        status=status,
        value=value,
        method=method,
        confidence=confidence,
        reason=reason,
        used=tuple(sorted(used, key=lambda c: c.source)),
        rejected=tuple(sorted(rejected, key=lambda r: (r.claim.source, r.claim.order))),
        checks=tuple(checks),
        rules=rules.rules,
        rules_version=rules.version,
    )


def _usable(
    claims: Iterable[Claim], rules: RuleSet, withdrawn: Collection[str]
) -> tuple[list[Claim], list[Rejected]]:
    """The last claim of each source that passes the rules, best source first; and the rest with reasons."""
    rejected: list[Rejected] = []
    newest: dict[str, Claim] = {}
    for claim in sorted(claims, key=lambda c: c.order):
        refusal = _refusal(claim, rules, withdrawn)
        if refusal is not None:
            rejected.append(refusal)
        else:
            earlier = newest.get(claim.source)
            if earlier is not None:
                rejected.append(Rejected(earlier, "superseded", "a later claim of the same source counts"))
            newest[claim.source] = claim
    rank = {source: i for i, source in enumerate(rules.precedence)}
    usable = sorted(newest.values(), key=lambda c: (rank.get(c.source, len(rank)), c.source))
    return usable, rejected


def _refusal(claim: Claim, rules: RuleSet, withdrawn: Collection[str]) -> Rejected | None:
    if claim.claim_id in withdrawn:
        return Rejected(claim, "withdrawn-by-operator", "rejected in the exception queue")
    if rules.max_staleness is not None and claim.received_at is not None:
        age = claim.snap.ns - claim.received_at.ns
        if age > rules.max_staleness.total_seconds() * NANOS:
            return Rejected(claim, "stale", f"received {age // NANOS} s before the snap")
    low, high = rules.low, rules.high
    if (low is not None and claim.value < low) or (high is not None and claim.value > high):
        return Rejected(claim, "out-of-range", f"outside [{low}, {high}]")
    return None


def _choose(usable: Sequence[Claim], rules: RuleSet) -> tuple[str, Decimal | None, str]:
    """Method used, the value (``None``: no agreement, hold) and the reason."""
    if rules.method is Method.PRECEDENCE:
        for claim in usable:
            others = [c for c in usable if c is not claim]
            support = sum(agrees(c.value, claim.value, rules.tolerance) for c in others)
            if 2 * support >= len(others):
                said = f"agrees with {support} of {len(others)} others" if others else "is the only source"
                return "precedence", claim.value, f"{claim.source} is first in precedence and {said}"
        if rules.fallback is Fallback.HOLD or len(usable) < 3:
            return "precedence", None, f"no source agrees with half of the {len(usable) - 1} others"
    middle = median([c.value for c in usable])
    support = sum(agrees(c.value, middle, rules.tolerance) for c in usable)
    if 2 * support >= len(usable) or rules.method is Method.PRECEDENCE:
        return "median", middle, f"median of {len(usable)} sources, {support} within tolerance"
    return "median", None, f"only {support} of {len(usable)} sources lie within tolerance of the median"


def check_proposal(value: Decimal, rules: RuleSet, references: Sequence[Reference]) -> list[Check]:
    """The checks on a value that a person proposes: plausible range, and the move against references."""
    inside = (rules.low is None or value >= rules.low) and (rules.high is None or value <= rules.high)
    bounds = f"[{rules.low}, {rules.high}]"
    ranged = Check("out-of-range", inside, decimal_text(value), bounds, f"range is {bounds}")
    unbounded = rules.low is None and rules.high is None
    return [*([] if unbounded else [ranged]), *_checks(value, (), rules, references)]


def _checks(
    value: Decimal, agreeing: Sequence[Claim], rules: RuleSet, references: Sequence[Reference]
) -> list[Check]:
    """The move against the references; a move that two sources report is believed."""
    usable = [r for r in references if r.value != 0]
    if rules.max_move is None or not usable:
        return []
    moves = [(_distance(value, r.value), r) for r in usable]
    move, nearest = min(moves, key=lambda m: (m[0], m[1].snap))
    corroborated = len(agreeing) >= 2
    passed = move <= rules.max_move or corroborated
    detail = (
        f"moves {move} from {decimal_text(nearest.value)} at {nearest.snap.text}"
        f"{', reported by ' + str(len(agreeing)) + ' sources' if corroborated else ''}"
    )
    return [Check("spike", passed, decimal_text(move), decimal_text(rules.max_move), detail)]


def _distance(value: Decimal, reference: Decimal) -> Decimal:
    """Relative distance, to six decimals."""
    if reference == 0:
        return Decimal(0) if value == 0 else Decimal("Infinity")
    ratio = _RATIO.divide(_EXACT.subtract(value, reference), reference)
    return abs(ratio).quantize(Decimal("0.000001"), context=_EXACT)
