"""Who asks, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from qis.domain.errors import QisError


class Unauthenticated(QisError):
    """No bearer token, or one that is not valid. ``rule`` says which check it failed; ``None``: none was
    given."""

    slug = "unauthenticated"

    def __init__(self, message: str, rule: str | None) -> None:
        super().__init__(message)
        self.rule = rule


class Forbidden(QisError):
    """The token is valid and does not carry the scope."""

    slug = "forbidden"

    def __init__(self, scope: str) -> None:
        super().__init__(f"the scope {scope} is needed")
        self.scope = scope


@dataclass(frozen=True, slots=True)
class Principal:
    """The subject of a verified token."""

    subject: str
    scopes: frozenset[str]
    expires_at: datetime
    """When the token ends, and with it whatever was opened with it."""


class Authenticator(Protocol):
    """Checks bearer tokens."""

    def verify(self, token: str) -> Principal:
        """The principal of a valid token.

        Raises:
            Unauthenticated: the token is not valid.
            Unavailable: the keys that it is checked against cannot be read.
        """
        ...
