"""From claims of records to one official record: field by field, and then as a whole.

Who votes is decided as for numbers: the last admissible claim of each source, copies and stale ones left
out. A number within the record is decided by the rule set's own method among those who give it; of any other
field the value that most give, ties to the better source. Who does not give a field has no vote on it, except
on elements (a contract, a node): one is in the record where at least half of the voters list it.

Fields that are each right need not fit together: a bid of one source and an ask of another may cross. So the
mixed record must pass its kind's checks. Where it does not, the record of a single source that passes them
stands in, the one that agrees with the mix in most fields. Where there is none, or where no method settles a
field, the mix waits in the exception queue with the evidence.

Confidence is that of the weakest field: ``(agreeing + 1) / (others + 2)`` of those who give it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Context, Decimal
from typing import Any, NamedTuple

from qis.domain.claims import Claim
from qis.domain.errors import InvalidInput
from qis.domain.kinds.record import Leaf, Path, Record, Structure, leaf_text, path_text
from qis.domain.reconciliation import (
    NO_STANDINGS,
    Check,
    Decision,
    Rejected,
    Standings,
    Status,
    decision_of,
    reconcile,
    voters_of,
)
from qis.domain.rules import RuleSet
from qis.domain.snap import Snap

MOST_TOLD = 500
"""Fields on which sources differ that a decision tells one by one; the rest is counted."""
FIELD_WISE, SINGLE_SOURCE = "field-wise", "single-source"
_RATIO = Context(prec=12)

Votes = Sequence[tuple[Claim[Record], Leaf]]
"""Who gives a field and what, best source first."""


class Field(NamedTuple):
    """What was decided on one field."""

    path: Path
    value: Leaf
    settled: bool
    reason: str
    agreeing: tuple[str, ...]
    """Sources, best first."""
    differing: tuple[tuple[str, str], ...]
    """Source and what it said."""

    def as_json(self) -> dict[str, Any]:
        return {
            "field": path_text(self.path),
            "value": leaf_text(self.value),
            "settled": self.settled,
            "reason": self.reason,
            "sources": list(self.agreeing),
            "others": dict(self.differing),
        }


def reconcile_records(
    claims: Iterable[Claim[Record]],
    structure: Structure,
    rules: RuleSet,
    withdrawn: Collection[str] = (),
    standings: Standings = NO_STANDINGS,
) -> Decision[Record]:
    """Decide on one snap of a series of records; see ``qis.domain.reconciliation.reconcile``.

    Range and largest move are of numbers and say nothing here; sources are not excluded by standing, for a
    record is rarely right or wrong as a whole.
    """
    plain = replace(rules, range=(None, None), max_move=None, exclusion=None)
    voters, silent = voters_of(claims, plain, withdrawn, standings)
    if len(voters) < rules.min_sources:
        reason = f"{len(voters)} usable of {rules.min_sources} sources needed"
        silent += [Rejected(c, "below-quorum", reason) for c in voters]
        return decision_of(rules, Status.INSUFFICIENT, None, FIELD_WISE, None, reason, (), silent, ())
    snap = voters[0].snap
    given = {c.source: structure.parts(c.value) for c in voters}
    fields = _fields(voters, given, structure, plain)
    mix = _joined(fields, structure, snap)
    checks = _checks(mix, structure, snap)
    open_ = [f for f in fields if not f.settled]
    if open_:
        told = ", ".join(path_text(f.path) for f in open_[:3])
        more = f" and {len(open_) - 3} more" if len(open_) > 3 else ""
        reason = f"the sources disagree on {told}{more}: {open_[0].reason}"
        return _told(rules, Status.SUSPECT, mix, FIELD_WISE, reason, voters, given, fields, silent, checks)
    if all(c.passed for c in checks):
        differ = sum(bool(f.differing) for f in fields)
        reason = f"{len(fields)} fields of {len(voters)} sources, {differ} of them not unanimous"
        return _told(rules, Status.OFFICIAL, mix, FIELD_WISE, reason, voters, given, fields, silent, checks)
    failed = "; ".join(f"{c.check}: {c.detail}" for c in checks if not c.passed)
    return _stand_in(rules, mix, failed, checks, voters, given, fields, silent, structure)


def _stand_in(
    rules: RuleSet,
    mix: Record | None,
    failed: str,
    checks: Sequence[Check],
    voters: Sequence[Claim[Record]],
    given: Mapping[str, Mapping[Path, Leaf]],
    fields: Sequence[Field],
    silent: Sequence[Rejected[Record]],
    structure: Structure,
) -> Decision[Record]:
    """The coherent record of one source, in place of a mix that is not."""
    snap = voters[0].snap
    agreed = {c.source: sum(c.source in f.agreeing for f in fields) for c in voters}
    ranked = sorted(enumerate(voters), key=lambda v: (-agreed[v[1].source], v[0]))
    for _, claim in ranked:
        own = structure.check(claim.value, snap)
        if not all(c.passed for c in own):
            continue
        taken = _as_given(claim, fields, given)
        reason = (
            f"the fields as voted do not fit together ({failed}); {claim.source} has a record that does and"
            f" agrees with them in {agreed[claim.source]} of {len(fields)} fields"
        )
        return _told(
            rules, Status.OFFICIAL, claim.value, SINGLE_SOURCE, reason, voters, given, taken, silent, own
        )
    reason = f"no record holds together ({failed})"
    proposed = mix if mix is not None else ranked[0][1].value
    method = FIELD_WISE if mix is not None else SINGLE_SOURCE
    return _told(rules, Status.SUSPECT, proposed, method, reason, voters, given, fields, silent, checks)


def _fields(
    voters: Sequence[Claim[Record]],
    given: Mapping[str, Mapping[Path, Leaf]],
    structure: Structure,
    rules: RuleSet,
) -> list[Field]:
    """Every field that is in the record, in the order in which the best sources give them."""
    paths: dict[Path, None] = {}
    for claim in voters:
        paths |= dict.fromkeys(given[claim.source])
    absent: set[Path] = set()
    found = []
    for path in paths:
        if any(path[:n] in absent for n in range(1, len(path))):
            continue
        votes = [(c, given[c.source][path]) for c in voters if path in given[c.source]]
        if len(path) == 2 and path[0] in structure.elements and 2 * len(votes) < len(voters):
            absent.add(path)
            continue
        found.append(_field(path, votes, rules))
    # A cell of a matrix stands in a row and a column; without either it is nowhere.
    dropped = {(p[0], p[1]) for p in absent}
    return [f for f in found if not _in_dropped(f.path, dropped)]


def _in_dropped(path: Path, dropped: Collection[tuple[str, str]]) -> bool:
    return path[0] == "values" and (("rows", path[1]) in dropped or ("columns", path[-1]) in dropped)


def _field(path: Path, votes: Votes, rules: RuleSet) -> Field:
    first = votes[0][1]
    if all(_same(leaf, first) for _, leaf in votes):
        reason = f"{votes[0][0].source} alone gives it" if len(votes) == 1 else "unanimous"
        return Field(path, first, True, reason, tuple(c.source for c, _ in votes), ())
    numbers = [(c, leaf) for c, leaf in votes if isinstance(leaf, Decimal)]
    if len(numbers) == len(votes):
        return _number(path, numbers, rules)
    return _plurality(path, votes)


def _number(path: Path, votes: Sequence[tuple[Claim[Record], Decimal]], rules: RuleSet) -> Field:
    """A number, decided as a series of its own would be."""
    scalars = [
        Claim(c.claim_id, c.reference_data_id, c.snap, c.source, number, None, c.received_at)
        for c, number in votes
    ]
    # Who may vote is settled for the record; one voice is a quorum where only one has the field.
    decision = reconcile(scalars, replace(rules, min_sources=1, max_staleness=None, copy_groups=()), ())
    assert decision.value is not None
    agreeing = {c.source for c in decision.used}
    return Field(
        path,
        decision.value,
        decision.status is Status.OFFICIAL,
        decision.reason,
        tuple(c.source for c, _ in votes if c.source in agreeing),
        tuple((c.source, leaf_text(leaf)) for c, leaf in votes if c.source not in agreeing),
    )


def _plurality(path: Path, votes: Votes) -> Field:
    """What most say; of equally many the better source's. It needs half of the voices."""
    tallies: list[tuple[Leaf, list[str]]] = []
    for claim, leaf in votes:
        tally = next((t for t in tallies if _same(t[0], leaf)), None)
        if tally is None:
            tallies.append((leaf, [claim.source]))
        else:
            tally[1].append(claim.source)
    leaf, sources = max(tallies, key=lambda t: len(t[1]))  # of equals the first, which is the better source's
    settled = len(sources) > 1 and 2 * len(sources) >= len(votes)
    reason = f"{len(sources)} of {len(votes)} sources say so"
    others = tuple((c.source, leaf_text(said)) for c, said in votes if c.source not in sources)
    return Field(path, leaf, settled, reason, tuple(sources), others)


def _same(a: Leaf, b: Leaf) -> bool:
    if isinstance(a, bool) is not isinstance(b, bool) or isinstance(a, Decimal) is not isinstance(b, Decimal):
        return False
    return a == b


def _as_given(
    claim: Claim[Record], fields: Sequence[Field], given: Mapping[str, Mapping[Path, Leaf]]
) -> list[Field]:
    """The fields of one source's record, with who agrees with each exactly or voted as it did."""
    voted = {f.path: f for f in fields}
    found = []
    for path, leaf in given[claim.source].items():
        as_voted = voted.get(path)
        if as_voted is not None and claim.source in as_voted.agreeing:
            agreeing = as_voted.agreeing
        else:
            agreeing = tuple(s for s, parts in given.items() if path in parts and _same(parts[path], leaf))
        others = tuple(
            (s, leaf_text(parts[path])) for s, parts in given.items() if path in parts and s not in agreeing
        )
        found.append(Field(path, leaf, True, f"as {claim.source} has it", agreeing, others))
    return found


def _joined(fields: Sequence[Field], structure: Structure, snap: Snap) -> Record | None:
    """The record of the fields as decided; ``None`` where no record can be made of them."""
    try:
        return structure.parse(structure.join({f.path: f.value for f in fields}), snap)
    except InvalidInput:
        return None


def _checks(mix: Record | None, structure: Structure, snap: Snap) -> list[Check]:
    if mix is not None:
        return structure.check(mix, snap)
    said = "the fields of different sources do not make a valid record"
    return [Check("valid-record", False, "0", "1", said)]


def _told(
    rules: RuleSet,
    status: Status,
    record: Record | None,
    method: str,
    reason: str,
    voters: Sequence[Claim[Record]],
    given: Mapping[str, Mapping[Path, Leaf]],
    fields: Sequence[Field],
    silent: Sequence[Rejected[Record]],
    checks: Sequence[Check],
) -> Decision[Record]:
    """The decision with the evidence of its fields. A voter that no field agrees with is rejected."""
    carrying = {source for f in fields for source in f.agreeing}
    used = [c for c in voters if c.source in carrying]
    rejected = [
        *silent,
        *(
            Rejected(c, "outside-tolerance", f"none of its {len(given[c.source])} fields is as decided")
            for c in voters
            if c.source not in carrying
        ),
    ]
    weakest = min(
        (_RATIO.divide(len(f.agreeing), len(f.agreeing) + len(f.differing) + 1) for f in fields),
        default=Decimal(0),
    )
    told = [f for f in fields if len(f.agreeing) < len(voters)]
    evidence = {
        "count": len(fields),
        "unanimous": len(fields) - len(told),
        "told": [f.as_json() for f in sorted(told, key=lambda f: not f.differing)[:MOST_TOLD]],
        "untold": max(0, len(told) - MOST_TOLD),
    }
    confidence = weakest.quantize(Decimal("0.0001"))
    return decision_of(
        rules, status, record, method, confidence, reason, used, rejected, checks, fields=evidence
    )
