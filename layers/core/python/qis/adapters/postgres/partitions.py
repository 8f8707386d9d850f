"""Partitions of the log: a month each, made ahead of time, in steps that hold nobody up for long."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg import Connection

MONTHS_AHEAD = 3
MOST_STEPS = 40
"""More than any state of the log takes; each step is a transaction of its own."""
STEP_TIMEOUT_S = 60
"""Longest step. All but one take an instant; that one reads what the default partition holds."""

_NEXT = "SELECT next_event_partition(coalesce(%s::timestamptz, clock_timestamp()), %s)"


def make_months(connection: Connection, ahead: int = MONTHS_AHEAD, moment: str | None = None) -> list[str]:
    """Make the partitions of this month and of those ahead that are missing.

    Args:
        connection: in autocommit mode.
        ahead: how many months beyond this one, 0 to 24.
        moment: in place of now.

    Returns:
        What was done, step by step; empty where nothing was missing.

    Raises:
        psycopg.Error: a step failed, most often for a lock that was not to be had at once. What was done
            before stays, and the next call goes on from there.
    """
    done: list[str] = []
    for _ in range(MOST_STEPS):
        with connection.transaction():
            connection.execute(f"SET LOCAL statement_timeout = '{STEP_TIMEOUT_S}s'")
            row = connection.execute(_NEXT, (moment, ahead)).fetchone()
        step = None if row is None else row[0]
        if step is None:
            break
        done.append(step)
    return done
