"""Business rules: checks on official values, declared as data, versioned by events.

A check that is false for a value is a finding of the value with what was measured; it alerts and holds
nothing back (what holds back are the rules of reconciliation).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any

from qis.domain.errors import refuse
from qis.domain.expressions import Expression, parse_expression
from qis.domain.findings import Finding
from qis.domain.issues import Severity
from qis.domain.numbers import decimal_text
from qis.domain.series import Kind, Series, check_choice, check_fields, check_slug, check_text
from qis.domain.snap import Snap

MOST_PATTERNS = 100


@dataclass(frozen=True, slots=True)
class Check:
    """One version of a business rule."""

    check: str
    name: str
    expression: Expression
    severity: Severity
    series: tuple[str, ...]
    """Patterns of identifiers that it applies to, such as ``FX.*``."""
    kinds: frozenset[Kind]
    """Kinds that it applies to; all when empty."""
    active: bool

    def applies(self, series: Series) -> bool:
        """Whether it speaks of this series: of numbers, whatever else it names."""
        if series.structure is not None:
            return False
        if self.kinds and series.kind not in self.kinds:
            return False
        return any(fnmatchcase(series.reference_data_id, pattern) for pattern in self.series)

    def as_json(self) -> dict[str, Any]:
        return {
            "check": self.check,
            "name": self.name,
            "expression": self.expression.text,
            "severity": self.severity.value,
            "series": list(self.series),
            "kinds": sorted(k.value for k in self.kinds),
            "active": self.active,
        }


@dataclass(frozen=True, slots=True)
class Row:
    """An official value with what a check may ask of it."""

    reference_data_id: str
    snap: Snap
    value: Decimal
    previous: Decimal | None
    claims: Mapping[str, Decimal]
    """The last claim of each source."""
    official: Mapping[str, Decimal]
    """Official values of other series at the snap."""

    def names(self) -> dict[str, Decimal | None]:
        """What expressions call it."""
        said = self.claims.values()
        return {
            "value": self.value,
            "previous": self.previous,
            "low": min(said, default=None),
            "high": max(said, default=None),
            "sources": Decimal(len(said)) if said else None,
        }

    def measured(self) -> dict[str, str | None]:
        """The evidence, as text."""
        found = {n: None if v is None else decimal_text(v) for n, v in self.names().items()}
        return found | {f"official({i})": decimal_text(v) for i, v in self.official.items()}


def holds(check: Check, row: Row) -> bool | None:
    """Whether the value keeps the rule; ``None``: it cannot be told."""
    return check.expression.evaluate(row.names(), row.official)


def kind_of(check: str) -> str:
    """The kind of finding that a broken rule is."""
    return f"rule-{check}"


def finding(check: Check, row: Row) -> Finding:
    """The finding of a broken rule."""
    measured = ", ".join(f"{n} {v}" for n, v in row.measured().items() if v is not None)
    return Finding(
        kind=kind_of(check.check),
        reference_data_id=row.reference_data_id,
        snap=row.snap,
        source=None,
        measured=measured,
        threshold=check.expression.text,
        detail=f"{check.name}: {check.expression.text} is false for {measured}",
        scope=f"rule/{check.check}",
        severity=check.severity.value,
    )


def parse_check(given: object) -> Check:
    """A check as it comes by REST, file or event.

    Raises:
        InvalidInput: naming field, value and rule.
    """
    body = check_fields(given, "", {"check", "name", "expression", "severity", "series"}, {"kinds", "active"})
    patterns, kinds, active = body["series"], body.get("kinds", []), body.get("active", True)
    if not isinstance(patterns, list) or not 1 <= len(patterns) <= MOST_PATTERNS:
        raise refuse("series", patterns, "patterns", f"is not a list of 1 to {MOST_PATTERNS} patterns")
    if not isinstance(kinds, list):
        raise refuse("kinds", kinds, "list", "is not a list of kinds")
    if not isinstance(active, bool):
        raise refuse("active", active, "boolean", "is not true or false")
    return Check(
        check=check_slug(body["check"], "check"),
        name=check_text(body["name"], "name"),
        expression=parse_expression(body["expression"], "expression"),
        severity=Severity(check_choice(body["severity"], "severity", tuple(Severity))),
        series=tuple(check_text(p, "series", 128) for p in patterns),
        kinds=frozenset(Kind(check_choice(k, "kinds", tuple(Kind))) for k in kinds),
        active=active,
    )
