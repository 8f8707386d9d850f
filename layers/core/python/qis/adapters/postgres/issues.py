"""Issues on PostgreSQL: what the groups are decided on, and what people see."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from qis.adapters.postgres.connection import Database
from qis.application.issues import IssueEntry, IssueItem
from qis.domain.snap import Snap

_GROUPS = """
SELECT item::text, group_name FROM issue_items
WHERE item IN (SELECT json_array_elements_text(%s::json)::uuid)
"""

_OPEN = """
SELECT issue_id::text FROM exceptions
WHERE status = 'open' AND issue_id IN (SELECT json_array_elements_text(%s::json)::uuid)
"""

_ENTRY = "issue, group_name, changed_at, state"


class PostgresIssues:
    """``IssueBook`` and ``IssueReads`` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def groups_of(self, items: Collection[str]) -> Mapping[str, str]:
        """See ``IssueBook.groups_of``."""
        return dict(self._all(_GROUPS, (json.dumps(list(items)),)))

    def due(self, now: datetime) -> Sequence[str]:
        """See ``IssueBook.due``."""
        return [r[0] for r in self._all("SELECT group_name FROM issues WHERE due_at <= %s", (now,))]

    def group_of_issue(self, issue: UUID) -> str | None:
        """See ``IssueBook.group_of_issue``."""
        rows = self._all("SELECT group_name FROM issues WHERE issue = %s", (issue,))
        return rows[0][0] if rows else None

    def still_open(self, items: Collection[str]) -> frozenset[str]:
        """See ``IssueBook.still_open``."""
        return frozenset(r[0] for r in self._all(_OPEN, (json.dumps(list(items)),)))

    def issues(
        self, statuses: Collection[str], after: tuple[datetime, UUID] | None, limit: int
    ) -> list[IssueEntry]:
        """See ``IssueReads.issues``."""
        beyond = "" if after is None else "AND (opened_at, issue) > (%s, %s) "
        rows = self._all(
            f"SELECT {_ENTRY} FROM issues WHERE status = ANY(%s) {beyond}ORDER BY opened_at, issue LIMIT %s",  # noqa: S608 - constants of this module
            (sorted(statuses), *(after or ()), limit),
        )
        return [IssueEntry(*row) for row in rows]

    def issue(self, issue: UUID) -> IssueEntry | None:
        """See ``IssueReads.issue``."""
        rows = self._all(f"SELECT {_ENTRY} FROM issues WHERE issue = %s", (issue,))  # noqa: S608 - a constant
        return IssueEntry(*rows[0]) if rows else None

    def items(self, issue: UUID, after: UUID | None, limit: int) -> list[IssueItem]:
        """See ``IssueReads.items``."""
        rows = self._all(
            "SELECT i.item, i.reference_data_id, i.snap_ns, e.status, e.details ->> 'kind',"
            " e.details ->> 'source', e.details ->> 'reason', e.details -> 'checks'"
            " FROM issue_items i JOIN exceptions e ON e.issue_id = i.item"
            " WHERE i.issue = %s AND i.item > %s ORDER BY i.item LIMIT %s",
            (issue, after or UUID(int=0), limit),
        )
        return [IssueItem(item, id_, Snap(ns), *rest) for item, id_, ns, *rest in rows]

    def _all(self, query: str, given: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        return self._database.connect().execute(query.encode(), given).fetchall()
