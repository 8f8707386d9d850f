"""The operations on rules in use: which apply, what a change would do, applying it to a range."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qis.api import parameters
from qis.api.http import JSON, Request, Response, encode_json, etag_of, json_body
from qis.api.router import Handler
from qis.application.reading import LATEST, Answer
from qis.application.rules import ApplyRules, RuleQueries, Scope, WhatIf, parse_series_list
from qis.domain.errors import refuse
from qis.domain.series import check_fields, check_id, check_slug
from qis.domain.snap import Snap, parse_instant

if TYPE_CHECKING:  # the writing function has no use for it
    from qis.application.learning import LearnWeights

MOST, USUAL = 2_000, 1_000
"""Values that one request goes through: what a function does well within its time."""


class RuleReadOperations:
    """Handlers by operation id."""

    def __init__(self, queries: RuleQueries, what_if: WhatIf, learning: LearnWeights) -> None:
        self._queries = queries
        self._what_if = what_if
        self._learning = learning

    def handlers(self) -> dict[str, Handler]:
        """Every reading operation on rules in use."""
        return {
            "getEffectiveRules": self._effective,
            "listRuleVersions": lambda r: _answer(self._queries.versions(_name(r))),
            "diffRules": self._diff,
            "tryRules": self._try,
            "learnRules": self._learn,
        }

    def _effective(self, request: Request) -> Response:
        at = parameters.knowledge(request.query)
        id_ = check_id(request.variables["id"], "id")
        return _answer(self._queries.effective(id_, request.query["snap"], at))

    def _diff(self, request: Request) -> Response:
        before, after = (_version(request.query[n], n) for n in ("from", "to"))
        return _answer(self._queries.difference(_name(request), before, after))

    def _try(self, request: Request) -> Response:
        optional = {"definition", "series", "limit", "resume"}
        body = check_fields(json_body(request), "", {"from", "to"}, optional)
        definition, resume = body.get("definition"), _resume(body)
        if definition is not None and not isinstance(definition, dict):
            raise refuse("definition", definition, "object", "is not a JSON object")
        return _done(self._what_if.run(_scope(request, body), definition, resume, _limit(body.get("limit"))))

    def _learn(self, request: Request) -> Response:
        body = check_fields(json_body(request), "", {"from", "to"}, {"basis", "series", "limit", "resume"})
        resume, limit = _resume(body), _limit(body.get("limit"))
        basis = body.get("basis")
        at = LATEST if basis is None else parameters.knowledge({"basis": _text(basis, "basis")})
        return _done(self._learning.run(_scope(request, body), at, resume, limit))


class RuleWriteOperations:
    """Handlers by operation id."""

    def __init__(self, apply: ApplyRules) -> None:
        self._apply = apply

    def handlers(self) -> dict[str, Handler]:
        """Every changing operation on rules in use."""
        return {"applyRules": self._run}

    def _run(self, request: Request) -> Response:
        body = check_fields(json_body(request), "", {"from", "to", "reason"}, {"series", "limit", "after"})
        after = body.get("after")
        place: tuple[str, Snap] | None = None
        if after is not None:
            named = check_fields(after, "after", {"series", "snap"}, set())
            place = check_id(named["series"], "after.series"), parse_instant(named["snap"], "after.snap")
        limit = _limit(body.get("limit"))
        who = request.actor, request.correlation_id
        return _done(self._apply.run(_scope(request, body), body["reason"], place, limit, *who))


def _name(request: Request) -> str:
    return check_slug(request.variables["rules"], "rules")


def _scope(request: Request, body: Any) -> Scope:
    first, until = (parameters.snap_or_day(_text(body[n], n), n) for n in ("from", "to"))
    if until <= first:
        raise refuse("to", body["to"], "ordered", "is not after from")
    return Scope(_name(request), first, until, parse_series_list(body.get("series")))


def _resume(body: Mapping[str, Any]) -> str | None:
    resume = body.get("resume")
    if resume is not None and not isinstance(resume, str):
        raise refuse("resume", resume, "resume", "is not of an answer to this request")
    return resume


def _text(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise refuse(field, value, "iso-8601", "is not an instant or a date in text")
    return value


def _version(text: str, field: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= len(text) <= 9):
        raise refuse(field, text, "count", "is not the number of a version")
    return int(text)


def _limit(value: object) -> int:
    if value is None:
        return USUAL
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST:
        raise refuse("limit", value, "count", f"is not a whole number from 1 to {MOST}")
    return value


def _answer(found: Answer) -> Response:
    body = encode_json(found.body)
    headers = {"ETag": etag_of(body), "Cache-Control": "private, no-cache"}
    return Response(200, JSON, body, headers)


def _done(answer: dict[str, Any]) -> Response:
    return Response(200, JSON, encode_json(answer), {"Cache-Control": "no-store"})
