"""Who holds up the followers of the log.

A follower reads below the oldest running transaction that has a number, so that it never skips one that
commits late. Numbers are the server's: a transaction of any database and any role stalls every follower. Our
own sessions are cut off by their time limits; this finds the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from psycopg import Connection

_HOLDER = """
SELECT transaction_id, pid, database, role, application, client, state, coalesce(seconds, 0)
FROM horizon_holder()
"""

Ending: TypeAlias = Literal["ended", "over", "not permitted"]
"""What became of an attempt to end a transaction; ``over``: it did not hold followers up any more."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A transaction beyond which no follower reads."""

    transaction_id: str
    pid: int | None
    """``None``: it is prepared, and no session's."""
    database: str | None
    role: str | None
    application: str | None
    """Or the name of a prepared transaction."""
    client: str | None
    state: str | None
    seconds: float
    """Since it began."""

    @property
    def text(self) -> str:
        """In words, for a log: who, from where, since when; nothing of what it does."""
        session = "a prepared transaction" if self.pid is None else f"process {self.pid}"
        where = f" from {self.client}" if self.client else ""
        return (
            f"{session} of {self.role} in database {self.database}{where} ({self.application or 'no name'}, "
            f"{self.state}) has held a transaction open for {self.seconds:.0f} s"
        )


def horizon_holder(connection: Connection) -> Holder | None:
    """The transaction that holds followers up; ``None`` where none is running."""
    row: tuple[Any, ...] | None = connection.execute(_HOLDER).fetchone()
    return None if row is None else Holder(*row)


def end_holder(connection: Connection, holder: Holder, at_least_seconds: int) -> Ending:
    """End the session of a transaction that has held followers up for so long."""
    from psycopg.errors import InsufficientPrivilege

    if holder.pid is None:
        return "not permitted"
    try:
        row = connection.execute(
            "SELECT end_horizon_holder(%s, %s)", (holder.transaction_id, at_least_seconds)
        ).fetchone()
    except InsufficientPrivilege:
        return "not permitted"
    return "ended" if row is not None and row[0] else "over"
