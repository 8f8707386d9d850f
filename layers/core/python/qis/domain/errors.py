"""What the domain refuses, and how it says so: the field, the value and the rule."""

from __future__ import annotations

from dataclasses import dataclass

_SHOWN = 80
_FIELD = 200
_MESSAGE = 400
MOST_VIOLATIONS = 20
"""Violations that one refusal names: enough to see what is wrong, and a bound on what is stored."""


def shown(value: object) -> str:
    """``value`` as it may appear in a message: short and printable, so hostile input stays harmless."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: _SHOWN + 1])
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule. ``field`` is the name in the input, ``rule`` a stable slug."""

    field: str
    value: str
    rule: str
    message: str

    def __post_init__(self) -> None:
        for name, longest in (("field", _FIELD), ("value", _FIELD), ("message", _MESSAGE)):
            text: str = getattr(self, name)
            if len(text) > longest:
                object.__setattr__(self, name, text[: longest - 1] + "…")

    @property
    def text(self) -> str:
        """The rule, the field and the value in a sentence."""
        value = f" ({self.value})" if self.value else ""
        return f"{self.field}: {self.message} [{self.rule}]{value}"

    def as_json(self) -> dict[str, str]:
        return {"field": self.field, "value": self.value, "rule": self.rule, "message": self.message}


class QisError(Exception):
    """Base of every refusal. ``slug`` is stable and becomes the problem type."""

    slug = "error"


class InvalidInput(QisError):
    """The input breaks one or more rules; nothing was changed.

    Of more than ``MOST_VIOLATIONS`` the last one named says how many there are.
    """

    slug = "invalid-input"

    def __init__(self, *violations: Violation) -> None:
        if len(violations) > MOST_VIOLATIONS:
            count = len(violations) - MOST_VIOLATIONS + 1
            more = Violation("", f"({count})", "more", f"{count} more rules are broken")
            violations = (*violations[: MOST_VIOLATIONS - 1], more)
        super().__init__("; ".join(f"{v.field}: {v.message} [{v.rule}]" for v in violations))
        self.violations = violations


class NotFound(QisError):
    """What was asked for does not exist; ``reason`` says why there is no data."""

    slug = "not-found"

    def __init__(self, message: str, reason: str = "not-found") -> None:
        super().__init__(message)
        self.reason = reason


class Conflict(QisError):
    """The request contradicts the present state (say, an exception that is already closed)."""

    slug = "conflict"


class FourEyes(QisError):
    """The person who submitted may not approve."""

    slug = "four-eyes"


def refuse(field: str, value: object, rule: str, message: str) -> InvalidInput:
    """An ``InvalidInput`` with one violation, ready to raise."""
    return InvalidInput(Violation(field, shown(value), rule, message))
