"""The operations on issues: reading them, and what people decide on them."""

from __future__ import annotations

from typing import Any, Protocol
from uuid import UUID

from qis.api import parameters
from qis.api.http import JSON, Request, Response, encode_json, etag_of, json_body
from qis.api.router import Handler
from qis.application.answers import MAX_ANSWER, fitting
from qis.application.issues import IssueReads
from qis.application.reading import NextPage
from qis.domain.errors import NotFound, refuse
from qis.domain.series import check_fields

_OPEN = ("detected", "triaged", "snoozed")
_STATUSES = {"open": _OPEN, "closed": ("closed",)} | {s: (s,) for s in _OPEN}


class IssueReadOperations:
    """Handlers by operation id."""

    def __init__(self, reads: IssueReads) -> None:
        self._reads = reads

    def handlers(self) -> dict[str, Handler]:
        """Every reading operation on issues."""
        return {"listIssues": self._list, "getIssue": self._one, "listIssueItems": self._items}

    def _list(self, request: Request) -> Response:
        page = parameters.paging(request)
        status = page.given.get("status", "open")
        if status not in _STATUSES:
            raise refuse("status", status, "choice", f"is not one of {', '.join(_STATUSES)}")
        after = parameters.after_exception(page.after)
        found = self._reads.issues(_STATUSES[status], after, page.limit + 1)
        items = [e.as_json() for e in found[: page.limit]]
        items = items[: fitting(items, MAX_ANSWER)]
        more = None
        if len(found) > len(items):
            last = found[len(items) - 1]
            more = NextPage((last.state["opened_at"], str(last.issue)))
        return _page(request, page, items, more)

    def _one(self, request: Request) -> Response:
        issue = _issue(request)
        found = self._reads.issue(issue)
        if found is None:
            raise NotFound(f"there is no issue {issue}", "unknown-issue")
        return _answer(encode_json(found.as_json()))

    def _items(self, request: Request) -> Response:
        issue = _issue(request)
        page = parameters.paging(request)
        after = parameters.after_name(page.after)
        place = parameters.uuid(after, "cursor") if after else None
        found = self._reads.items(issue, place, page.limit + 1)
        if not found and place is None:
            raise NotFound(f"there is no issue {issue}", "unknown-issue")
        items = [i.as_json() for i in found[: page.limit]]
        items = items[: fitting(items, MAX_ANSWER)]
        more = NextPage((str(found[len(items) - 1].item),)) if len(found) > len(items) else None
        return _page(request, page, items, more)


class Desk(Protocol):
    """What people do with issues."""

    def triage(self, issue: UUID, reason: object, actor: str, correlation_id: str) -> dict[str, Any]: ...

    def snooze(
        self, issue: UUID, until: object, reason: object, actor: str, correlation_id: str
    ) -> dict[str, Any]: ...

    def approve(self, issue: UUID, reason: object, actor: str, correlation_id: str) -> dict[str, Any]: ...

    def correct(self, issue: UUID, reason: object, actor: str, correlation_id: str) -> dict[str, Any]: ...


class IssueWriteOperations:
    """Handlers by operation id."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def handlers(self) -> dict[str, Handler]:
        """Every deciding operation on issues."""
        return {
            "triageIssue": self._triage,
            "snoozeIssue": self._snooze,
            "approveIssue": self._approve,
            "correctIssue": self._correct,
        }

    def _triage(self, request: Request) -> Response:
        done = self._desk.triage(_issue(request), _reason(request), request.actor, request.correlation_id)
        return _done(done)

    def _snooze(self, request: Request) -> Response:
        body = check_fields(json_body(request), "", {"until", "reason"}, set())
        done = self._desk.snooze(
            _issue(request), body["until"], body["reason"], request.actor, request.correlation_id
        )
        return _done(done)

    def _approve(self, request: Request) -> Response:
        done = self._desk.approve(_issue(request), _reason(request), request.actor, request.correlation_id)
        return _done(done)

    def _correct(self, request: Request) -> Response:
        done = self._desk.correct(_issue(request), _reason(request), request.actor, request.correlation_id)
        return _done(done)


def _issue(request: Request) -> UUID:
    return parameters.uuid(request.variables["issue"], "issue")


def _reason(request: Request) -> object:
    return check_fields(json_body(request), "", {"reason"}, set())["reason"]


def _page(
    request: Request, page: parameters.Paging, items: list[dict[str, Any]], more: NextPage | None
) -> Response:
    link = parameters.next_link(request, page, more)
    return _answer(encode_json({"items": items, "next": link}), link)


def _answer(body: bytes, link: str | None = None) -> Response:
    headers = {"ETag": etag_of(body), "Cache-Control": "private, no-cache"}
    if link is not None:
        headers["Link"] = f'<{link}>; rel="next"'
    return Response(200, JSON, body, headers)


def _done(answer: dict[str, Any]) -> Response:
    return Response(200, JSON, encode_json(answer), {"Cache-Control": "no-store"})
