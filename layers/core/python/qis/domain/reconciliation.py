"""From many claims about one series and snap to one official value, with the reasons.

The decision is a pure function of the claims in the order in which their sources made them, the rule set, the
references of the neighbouring snaps and the standing of the sources before this snap.

Who votes: of each source the last claim that the rules admit; no source that is excluded for having
contradicted the official value too often; of sources that copy from one another the best-ranked one.

Precedence with tolerance: sources are tried best first; the first whose claim agrees, within the tolerance,
with at least half of the other usable claims becomes official. With one usable claim there is nobody to
disagree. Where none agrees, the rule's fallback applies: the median of three or more claims, or a hold.

Confidence is Laplace's rule of succession over the other sources: ``(agreeing + 1) / (others + 2)``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Generic, NamedTuple

from qis.domain.claims import Claim, V
from qis.domain.fusion.consensus import Terms
from qis.domain.fusion.items import Claimed, Item, Verdict
from qis.domain.fusion.learned import KIND, Learned, memory_of
from qis.domain.fusion.memory import Chosen, Memory, Panel
from qis.domain.fusion.methods import Settings, decide
from qis.domain.kinds.record import Value, value_json, value_text
from qis.domain.numbers import decimal_text
from qis.domain.rules import Band, Exclusion, Fallback, LayerRef, RuleSet, median
from qis.domain.rules.methods import LEARNING, MEDIAN, PRECEDENCE
from qis.domain.rules.tolerance import EXACT, Unit
from qis.domain.snap import NANOS, Snap

_RATIO = Context(prec=12)
MOST_LISTED = 50
"""Rejected claims of one source that a stored decision names."""


class Status(StrEnum):
    """Outcome of reconciling one snap."""

    OFFICIAL = "official"
    SUSPECT = "suspect"
    INSUFFICIENT = "insufficient"


@dataclass(frozen=True, slots=True)
class Rejected(Generic[V]):
    """A claim that does not carry the decision, and why."""

    claim: Claim[V]
    rule: str
    """``withdrawn-by-operator``, ``not-admitted``, ``superseded``, ``stale``, ``out-of-range``,
    ``excluded-source``, ``copy``, ``below-quorum``, ``outside-tolerance``; of learning methods ``outvoted``,
    ``no-volume``."""
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
    """An official value before the snap, which a move is measured against."""

    snap: Snap
    value: Decimal


class Standing(NamedTuple):
    """Whether a source votes, and how many snaps in a row speak for changing that."""

    excluded: bool
    run: int


Standings = Mapping[str, Standing]
"""By source; one that is not named votes and has nothing against it."""
NO_STANDINGS: Standings = MappingProxyType({})
_CLEAR = Standing(False, 0)


def standings_of(body: Mapping[str, Any]) -> Standings:
    """The standings in a stored decision."""
    return {source: Standing(*found) for source, found in body.get("standings", {}).items()}


@dataclass(frozen=True, slots=True)
class Decision(Generic[V]):
    """What reconciliation came to."""

    status: Status
    value: V | None
    method: str
    confidence: Decimal | None
    reason: str
    used: tuple[Claim[V], ...]
    rejected: tuple[Rejected[V], ...]
    checks: tuple[Check, ...]
    chain: tuple[LayerRef, ...]
    """The versions of the rule documents that decided, in order of resolution."""
    standings: Standings | None = None
    """Of the sources after this snap; ``None`` where the rules exclude nobody."""
    weights: Mapping[str, int] | None = None
    """Of the claims in the vote of a learning method, by source, in thousandths of a nat."""
    fields: Mapping[str, Any] | None = None
    """Of a record: which sources gave which field and why; see ``qis.domain.kinds.fusing``."""

    def as_json(self) -> dict[str, Any]:
        """The decision's part of a ``DataReconciled`` event.

        Of each source it lists the last ``MOST_LISTED`` rejected claims; ``unlisted`` counts those before.
        """
        listed, unlisted = _listed(self.rejected)
        body: dict[str, Any] = {
            "status": self.status.value,
            "value": None if self.value is None else value_json(self.value),
            "method": self.method,
            "confidence": None if self.confidence is None else decimal_text(self.confidence),
            "reason": self.reason,
            "sources_used": [_claim_ref(c) for c in self.used],
            "sources_rejected": [{**_claim_ref(r.claim), "rule": r.rule, "detail": r.detail} for r in listed],
            "checks": [c.as_json() for c in self.checks],
            "rules": self.chain[0].rules,
            "rules_version": self.chain[0].version,
        }
        if len(self.chain) > 1:
            body["rules_chain"] = [ref._asdict() for ref in self.chain]
        if self.weights is not None:
            body["weights"] = {s: self.weights[s] for s in sorted(self.weights)}
        if self.standings is not None:
            body["standings"] = {s: list(self.standings[s]) for s in sorted(self.standings)}
        if self.fields is not None:
            body["fields"] = self.fields
        if unlisted:
            body["unlisted"] = unlisted
        return body


def _listed(rejected: Sequence[Rejected[V]]) -> tuple[list[Rejected[V]], dict[str, int]]:
    """The last rejected claims of each source, and how many earlier ones there are. A source that corrects
    itself ten thousand times would otherwise make each decision larger than any stream can carry."""
    counts = Counter(r.claim.source for r in rejected)
    unlisted = {source: n - MOST_LISTED for source, n in sorted(counts.items()) if n > MOST_LISTED}
    if not unlisted:
        return list(rejected), {}
    left = dict(unlisted)
    listed = []
    for one in rejected:
        if left.get(one.claim.source, 0):
            left[one.claim.source] -= 1
        else:
            listed.append(one)
    return listed, unlisted


def chain_of(body: Mapping[str, Any]) -> tuple[LayerRef, ...]:
    """The rule documents that a stored decision names."""
    refs = body.get("rules_chain") or [{"rules": body["rules"], "version": body["rules_version"]}]
    return tuple(LayerRef(ref["rules"], ref["version"]) for ref in refs)


def _claim_ref(claim: Claim[Value]) -> dict[str, str]:
    body = {"source": claim.source, "claim_id": claim.claim_id, "value": value_text(claim.value)}
    if claim.volume is not None:
        body["volume"] = decimal_text(claim.volume)
    return body


def agrees(a: Decimal, b: Decimal, tolerance: Decimal) -> bool:
    """Whether two values lie within the relative tolerance of the larger; symmetric and exact."""
    return Band(tolerance, Decimal(0)).holds(a, b)


def reconcile(
    claims: Iterable[Claim],
    rules: RuleSet,
    references: Sequence[Reference],
    withdrawn: Collection[str] = (),
    standings: Standings = NO_STANDINGS,
) -> Decision:
    """Decide on one snap.

    Args:
        claims: every claim on the snap, of all sources, revisions included; those of each source in the
            order in which it made them (see ``chronological``).
        rules: the rule set in force.
        references: official values of the snaps before, for the move check; one that explains it suffices.
        withdrawn: claims that an operator rejected.
        standings: of the sources, after the decided snap before this one.
    """
    newest, rejected = _newest(claims, rules, withdrawn)
    usable, silent = _voters(newest, rules, standings)
    rejected += silent
    if len(usable) < rules.min_sources:
        reason = f"{len(usable)} usable of {rules.min_sources} sources needed"
        rejected += [Rejected(c, "below-quorum", reason) for c in usable]
        kept = None if rules.exclusion is None else standings
        method = rules.method.name
        return decision_of(rules, Status.INSUFFICIENT, None, method, None, reason, (), rejected, (), kept)
    band = rules.tolerance.at([c.value for c in usable])
    choice = CHOOSERS[rules.method.name](usable, rules, band)
    value, reason = choice.value, choice.reason
    basis = value if value is not None else usable[0].value
    agreeing = tuple(c for c in usable if _agrees(c, basis, band, choice.verdict))
    apart = f"differs from {decimal_text(basis)} by "
    outside = [
        Rejected(c, _why_not(c, choice.verdict), f"{apart}{distance(c.value, basis)}")
        for c in usable
        if c not in agreeing
    ]
    checks = [*_sure(choice.verdict, rules), *_checks(basis, agreeing, rules, references)]
    held = value is None or not all(c.passed for c in checks)
    if held and value is not None:
        reason = "; ".join(c.detail for c in checks if not c.passed)
    status = Status.SUSPECT if held else Status.OFFICIAL
    after = None
    if rules.exclusion is not None:
        after = standings if held else _judged(newest, len(usable), basis, band, rules.exclusion, standings)
    confidence = _RATIO.divide(Decimal(len(agreeing)), Decimal(len(usable) + 1)).quantize(Decimal("0.0001"))
    weights: Mapping[str, int] | None = None
    if choice.verdict is not None:
        confidence = choice.verdict.confidence
        weights = {v.source: v.weight for v in choice.verdict.voices}
    rejected += outside
    return decision_of(
        rules, status, basis, choice.method, confidence, reason, agreeing, rejected, checks, after, weights
    )


def _agrees(claim: Claim, value: Decimal, band: Band, verdict: Verdict | None) -> bool:
    """Whether a claim counts for the value: by the verdict of a learning method, else by the tolerance."""
    if verdict is None:
        return band.holds(claim.value, value)
    return any(v.source == claim.source for v in verdict.used)


def _why_not(claim: Claim, verdict: Verdict | None) -> str:
    said = () if verdict is None else verdict.rejected
    return next((v.reason for v in said if v.source == claim.source), "outside-tolerance")


def _sure(verdict: Verdict | None, rules: RuleSet) -> list[Check]:
    """The check that a learning method is as sure as the rule asks."""
    if verdict is None:
        return []
    wanted = decimal_text(_parameters(rules).publish_at)
    return [Check("confidence", verdict.official, decimal_text(verdict.confidence), wanted, verdict.reason)]


def decision_of(
    rules: RuleSet,
    status: Status,
    value: V | None,
    method: str,
    confidence: Decimal | None,
    reason: str,
    used: Sequence[Claim[V]],
    rejected: Sequence[Rejected[V]],
    checks: Sequence[Check],
    standings: Standings | None = None,
    weights: Mapping[str, int] | None = None,
    fields: Mapping[str, Any] | None = None,
) -> Decision[V]:
    """A decision under ``rules``, its claims by source."""
    return Decision(
        status=status,
        value=value,
        method=method,
        confidence=confidence,
        reason=reason,
        used=tuple(sorted(used, key=lambda c: c.source)),
        rejected=tuple(sorted(rejected, key=lambda r: r.claim.source)),
        checks=tuple(checks),
        chain=rules.chain,
        standings=standings,
        weights=weights,
        fields=fields,
    )


def voters_of(
    claims: Iterable[Claim[V]], rules: RuleSet, withdrawn: Collection[str], standings: Standings
) -> tuple[list[Claim[V]], list[Rejected[V]]]:
    """The claims that vote, best source first; and those that do not, with reasons."""
    newest, rejected = _newest(claims, rules, withdrawn)
    usable, silent = _voters(newest, rules, standings)
    return usable, rejected + silent


def _newest(
    claims: Iterable[Claim[V]], rules: RuleSet, withdrawn: Collection[str]
) -> tuple[list[Claim[V]], list[Rejected[V]]]:
    """The last claim of each source that passes the rules, best source first; and the rest with reasons."""
    rejected: list[Rejected[V]] = []
    newest: dict[str, Claim[V]] = {}
    for claim in claims:
        refusal = _refusal(claim, rules, withdrawn)
        if refusal is not None:
            rejected.append(refusal)
        else:
            earlier = newest.get(claim.source)
            if earlier is not None:
                later = f"{claim.source} said {value_text(claim.value)} later"
                rejected.append(Rejected(earlier, "superseded", later))
            newest[claim.source] = claim
    rank = {source: i for i, source in enumerate(rules.precedence)}
    return sorted(newest.values(), key=lambda c: (rank.get(c.source, len(rank)), c.source)), rejected


def _voters(
    newest: Sequence[Claim[V]], rules: RuleSet, standings: Standings
) -> tuple[list[Claim[V]], list[Rejected[V]]]:
    """Of claims in order of rank, those that vote; and those that do not, with reasons."""
    if rules.exclusion is None and not rules.copy_groups:
        return list(newest), []
    group_of = {source: group for group in rules.copy_groups for source in group}
    speaker: dict[tuple[str, ...], str] = {}
    voters: list[Claim[V]] = []
    silent: list[Rejected[V]] = []
    for claim in newest:
        group = group_of.get(claim.source)
        if rules.exclusion is not None and standings.get(claim.source, _CLEAR).excluded:
            needed = f"until it agrees {rules.exclusion.readmit_after} times in a row"
            silent.append(
                Rejected(claim, "excluded-source", f"contradicted the official value too often; {needed}")
            )
        elif group is not None and group in speaker:
            silent.append(
                Rejected(claim, "copy", f"one vote with {speaker[group]}, which it copies or feeds")
            )
        else:
            voters.append(claim)
            if group is not None:
                speaker[group] = claim.source
    return voters, silent


def _judged(
    newest: Sequence[Claim],
    votes: int,
    official: Decimal,
    band: Band,
    exclusion: Exclusion,
    before: Standings,
) -> Standings:
    """Standings after an official value: every source that spoke is measured against it, also those that had
    no vote, for that is how they come back. A value that rests on one vote says nothing about its source."""
    after = dict(before)
    for claim in newest:
        excluded, run = before.get(claim.source, _CLEAR)
        if not excluded and votes < 2:
            continue
        speaks_for_change = band.holds(claim.value, official) is excluded
        run = run + 1 if speaks_for_change else 0
        if run >= (exclusion.readmit_after if excluded else exclusion.after):
            excluded, run = not excluded, 0
        after[claim.source] = Standing(excluded, run)
    return {source: found for source, found in after.items() if found != _CLEAR}


def _refusal(claim: Claim[V], rules: RuleSet, withdrawn: Collection[str]) -> Rejected[V] | None:
    if claim.claim_id in withdrawn:
        return Rejected(claim, "withdrawn-by-operator", "rejected in the exception queue")
    if rules.sources and claim.source not in rules.sources:
        return Rejected(claim, "not-admitted", f"only {', '.join(rules.sources)} may speak")
    if rules.max_staleness is not None and claim.received_at is not None:
        age = claim.snap.ns - claim.received_at.ns
        if age > rules.max_staleness.total_seconds() * NANOS:
            return Rejected(claim, "stale", f"received {age // NANOS} s before the snap")
    low, high = rules.range
    number: Any = claim.value  # a number: the rules of records have no range
    if (low is not None and number < low) or (high is not None and number > high):
        return Rejected(claim, "out-of-range", f"outside [{low}, {high}]")
    return None


class Choice(NamedTuple):
    """What a method comes to. Without a value it cannot decide, and the best claim is proposed."""

    method: str
    value: Decimal | None
    reason: str
    verdict: Verdict | None = None
    """Of a learning method, which says for itself who agrees and how sure it is."""


def _by_precedence(usable: Sequence[Claim], rules: RuleSet, band: Band) -> Choice:
    for claim in usable:
        others = [c for c in usable if c is not claim]
        support = sum(band.holds(c.value, claim.value) for c in others)
        if 2 * support >= len(others):
            said = f"agrees with {support} of {len(others)} others" if others else "is the only source"
            return Choice(PRECEDENCE, claim.value, f"{claim.source} is first in precedence and {said}")
    if rules.fallback is Fallback.HOLD or len(usable) < 3:
        return Choice(PRECEDENCE, None, f"no source agrees with half of the {len(usable) - 1} others")
    middle, reason, _ = _middle(usable, band)
    return Choice(MEDIAN, middle, reason)


def _by_median(usable: Sequence[Claim], rules: RuleSet, band: Band) -> Choice:  # noqa: ARG001 - as every method
    middle, reason, support = _middle(usable, band)
    if 2 * support >= len(usable):
        return Choice(MEDIAN, middle, reason)
    only = f"only {support} of {len(usable)} sources lie within tolerance of the median"
    return Choice(MEDIAN, None, only)


def _middle(usable: Sequence[Claim], band: Band) -> tuple[Decimal, str, int]:
    middle = median([c.value for c in usable])
    support = sum(band.holds(c.value, middle) for c in usable)
    return middle, f"median of {len(usable)} sources, {support} within tolerance", support


def _by_learned(usable: Sequence[Claim], rules: RuleSet, band: Band) -> Choice:
    """By a method of ``qis.domain.fusion``, with the weights that its parameters hold."""
    given = _parameters(rules)
    settings = Settings(given.publish_at, terms=Terms(_reach(usable, rules, band), given.groups))
    verdict, _, _ = decide(rules.method.name, _item("", usable), memory_of(given), settings)
    return Choice(rules.method.name, verdict.value, verdict.reason, verdict)


def _reach(usable: Sequence[Claim], rules: RuleSet, band: Band) -> float | None:
    """Relative distance within which values are the same; ``None``: left to the learned spread."""
    if rules.tolerance.unit is Unit.SIGMA:
        return None
    middle = abs(median([c.value for c in usable]))
    return float(max(band.relative, _RATIO.divide(band.absolute, middle) if middle else 0))


def _item(series: str, usable: Sequence[Claim]) -> Item:
    return Item(series, KIND, [Claimed(c.source, c.value, c.volume) for c in usable])


def lesson_of(
    series: str, claims: Iterable[Claim], rules: RuleSet, withdrawn: Collection[str], memory: Memory
) -> tuple[Panel, Chosen] | None:
    """What memory learns of one snap; ``None`` below the quorum.

    The decision is that of the rules' method on the memory, in place of the weights that the rules have. Also
    sources speak that are excluded for now: whether they are right again has to be found out.
    """
    usable, _ = voters_of(claims, rules, withdrawn, NO_STANDINGS)
    if len(usable) < rules.min_sources:
        return None
    reach = _reach(usable, rules, rules.tolerance.at([c.value for c in usable]))
    _, panel, chosen = decide(rules.method.name, _item(series, usable), memory, Settings(terms=Terms(reach)))
    return panel, chosen


def _parameters(rules: RuleSet) -> Learned:
    given = rules.method.parameters
    assert isinstance(given, Learned)
    return given


CHOOSERS: dict[str, Callable[[Sequence[Claim], RuleSet, Band], Choice]] = {
    PRECEDENCE: _by_precedence,
    MEDIAN: _by_median,
    **dict.fromkeys(LEARNING, _by_learned),
}
"""How each method decides, by its name, among the claims that vote, best source first."""


def check_proposal(value: Decimal, rules: RuleSet, references: Sequence[Reference]) -> list[Check]:
    """The checks on a value that a person proposes: plausible range, and the move against references."""
    low, high = rules.range
    inside = (low is None or value >= low) and (high is None or value <= high)
    bounds = f"[{low}, {high}]"
    ranged = Check("out-of-range", inside, decimal_text(value), bounds, f"range is {bounds}")
    unbounded = low is None and high is None
    return [*([] if unbounded else [ranged]), *_checks(value, (), rules, references)]


def _checks(
    value: Decimal, agreeing: Sequence[Claim], rules: RuleSet, references: Sequence[Reference]
) -> list[Check]:
    """The move against the references; a move that two sources report is believed."""
    usable = [r for r in references if r.value != 0]
    if rules.max_move is None or not usable:
        return []
    moves = [(distance(value, r.value), r) for r in usable]
    move, nearest = min(moves, key=lambda m: (m[0], m[1].snap))
    corroborated = len(agreeing) >= 2
    passed = move <= rules.max_move or corroborated
    detail = (
        f"moves {move} from {decimal_text(nearest.value)} at {nearest.snap.text}"
        f"{', reported by ' + str(len(agreeing)) + ' sources' if corroborated else ''}"
    )
    return [Check("spike", passed, decimal_text(move), decimal_text(rules.max_move), detail)]


def distance(value: Decimal, reference: Decimal) -> Decimal:
    """Relative distance, to six decimals."""
    if reference == 0:
        return Decimal(0) if value == 0 else Decimal("Infinity")
    ratio = _RATIO.divide(EXACT.subtract(value, reference), reference)
    return abs(ratio).quantize(Decimal("0.000001"), context=EXACT)
