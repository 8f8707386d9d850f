"""Quality scores of a value and of a window, each defined here once.

Per official value, with ``n`` claims of which ``a`` agree with it and ``t`` were timely:

- accuracy: ``a / n``, the share of the claims that agree with the official value;
- completeness: ``1`` where every source seen in the snap's rules made a claim: ``distinct / expected``;
- timeliness: ``t / n``, the share of claims received within the rule's delay (claims that carry no
  reception time are not counted; where none carries one there is no timeliness);
- consistency: share of the checks passed; ``1`` where no check applied.

Over a window a score is the mean of the values' scores; completeness is values present over values
expected. The composite is the mean of the scores that exist. An empty window has no score and says so:
nothing is divided by zero.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any

from qis.domain.claims import Claim
from qis.domain.numbers import decimal_text
from qis.domain.reconciliation import Check
from qis.domain.rules import RuleSet
from qis.domain.snap import NANOS

_CONTEXT = Context(prec=16)
_PLACES = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class Scores:
    """The four scores and their mean, each from 0 to 1 or ``None`` where it cannot be measured."""

    accuracy: Decimal | None
    completeness: Decimal | None
    timeliness: Decimal | None
    consistency: Decimal | None

    @property
    def composite(self) -> Decimal | None:
        """Mean of the scores that exist."""
        present = [
            s for s in (self.accuracy, self.completeness, self.timeliness, self.consistency) if s is not None
        ]
        return mean(present)

    def as_json(self) -> dict[str, str | None]:
        return {
            name: None if score is None else decimal_text(score)
            for name, score in (
                ("accuracy", self.accuracy),
                ("completeness", self.completeness),
                ("timeliness", self.timeliness),
                ("consistency", self.consistency),
                ("composite", self.composite),
            )
        }


def mean(scores: Sequence[Decimal]) -> Decimal | None:
    """Mean to four decimals; ``None`` of nothing."""
    if not scores:
        return None
    return _CONTEXT.divide(sum(scores, Decimal(0)), Decimal(len(scores))).quantize(_PLACES)


def share(part: int, whole: int) -> Decimal | None:
    """``part / whole`` to four decimals; ``None`` where ``whole`` is nothing."""
    return quotient(Decimal(part), Decimal(whole))


def quotient(total: Decimal, count: Decimal) -> Decimal | None:
    """``total / count`` to four decimals; ``None`` where ``count`` is nothing."""
    if not count:
        return None
    return _CONTEXT.divide(total, count).quantize(_PLACES)


def value_scores(
    claims: Collection[Claim], agreeing: Collection[str], checks: Collection[Check], rules: RuleSet
) -> Scores:
    """Scores of one official value, from the claims of its snap (revisions included) by sources that may
    speak: those who mean something else say nothing of it."""
    expected = set(rules.precedence)
    if rules.sources:
        claims = [c for c in claims if c.source in rules.sources]
        expected.intersection_update(rules.sources)
    expected.update(c.source for c in claims)
    timed = [c for c in claims if c.received_at is not None]
    return Scores(
        accuracy=share(sum(c.claim_id in agreeing for c in claims), len(claims)),
        completeness=share(len({c.source for c in claims}), len(expected)),
        timeliness=share(sum(_timely(c, rules) for c in timed), len(timed)),
        consistency=share(sum(c.passed for c in checks), len(checks)) if checks else share(1, 1),
    )


def _timely(claim: Claim, rules: RuleSet) -> bool:
    if rules.timely_within is None or claim.received_at is None:
        return True
    return claim.received_at.ns - claim.snap.ns <= rules.timely_within.total_seconds() * NANOS


def window_scores(values: Iterable[dict[str, Any]], present: int, expected: int | None) -> tuple[Scores, int]:
    """Scores of a window from its values' scores.

    Args:
        values: the ``quality`` objects of the window's official values.
        present: official values in the window.
        expected: values expected by the series' calendar, ``None`` where it has none.

    Returns:
        The scores, and how many values they rest on.
    """
    rows = list(values)

    def of(name: str) -> Decimal | None:
        return mean([Decimal(r[name]) for r in rows if r.get(name) is not None])

    completeness = of("completeness") if expected is None else share(min(present, expected), expected)
    if not rows and not expected:
        return Scores(None, None, None, None), 0
    return Scores(of("accuracy"), completeness, of("timeliness"), of("consistency")), len(rows)
