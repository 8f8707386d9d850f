"""What goes wrong, as a problem document: the same form as the answers of the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qis.domain.errors import InvalidInput, QisError

PREFIX = "urn:qis:problem:"


class Failure(Exception):
    """The command failed or was refused; ``problem`` says why (RFC 9457), ``hint`` what to do about it."""

    def __init__(self, problem: Mapping[str, Any], hint: str | None = None) -> None:
        super().__init__(str(problem.get("detail") or problem.get("title")))
        self.problem = problem
        self.hint = hint


def failure(slug: str, title: str, detail: str, hint: str | None = None) -> Failure:
    """A failure that this program itself found."""
    return Failure({"type": PREFIX + slug, "title": title, "detail": detail}, hint)


def cause(error: Exception) -> str:
    """What went wrong; of the operating system without number and path."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def told(error: OSError) -> str:
    """What cannot be used, and why."""
    return f"{error.filename}: {cause(error)}" if error.filename else str(error)


def refusal(error: QisError) -> Failure:
    """A refusal of the domain, met without the API between."""
    problem: dict[str, Any] = {"type": PREFIX + error.slug, "title": "The input breaks a rule"}
    if isinstance(error, InvalidInput):
        problem["violations"] = [v.as_json() for v in error.violations]
    else:
        problem["title"] = "Refused"
    return Failure({**problem, "detail": str(error)})
