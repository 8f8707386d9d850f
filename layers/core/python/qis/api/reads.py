"""The operations of the ``query`` function: parameters in, one use case, bytes out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from hashlib import blake2b
from typing import Any

from qis.api import http, parameters
from qis.api.contract import document_bytes
from qis.api.http import JSON, Request, Response, encode_json, etag_of
from qis.api.router import Handler
from qis.api.tables import csv_bytes
from qis.application.ports import Unavailable
from qis.application.queries import Queries
from qis.application.reading import LATEST, Answer, AnswerCache, Knowledge
from qis.domain.errors import refuse
from qis.domain.series import check_id, check_slug

_FOREVER = "private, max-age=31536000, immutable"
_ASK_AGAIN = "private, no-cache"
_FORM = "1"
"""Changed when the form of an answer changes, so that none of the old form comes out of the cache."""

Rows = Callable[[Mapping[str, Any]], list[Mapping[str, Any]]]


class ReadOperations:
    """Handlers by operation id."""

    def __init__(self, queries: Queries, cache: AnswerCache, clock: Callable[[], datetime]) -> None:
        self._queries = queries
        self._cache = cache
        self._clock = clock

    def handlers(self) -> dict[str, Handler]:
        """Every operation of the function."""
        return {
            "getOfficial": self._official,
            "getHistorical": self._historical,
            "getQuality": self._quality,
            "getSources": self._sources,
            "explainOfficial": self._explain,
            "getAudit": self._audit,
            "getLineage": self._lineage,
            "getSnapshot": self._snapshot,
            "getReceipt": self._receipt,
            "getLoad": self._load,
            "listSeries": lambda r: self._entries(r, "series"),
            "getSeries": lambda r: _json(self._queries.entry("series", _id(r))),
            "listSources": lambda r: self._entries(r, "source"),
            "getSource": lambda r: _json(self._queries.entry("source", _slug(r, "source"))),
            "listChecks": lambda r: self._entries(r, "check"),
            "getCheck": lambda r: _json(self._queries.entry("check", _slug(r, "check"))),
            "listRules": lambda r: self._entries(r, "rules"),
            "getRules": lambda r: _json(self._queries.entry("rules", _slug(r, "rules"))),
            "listExceptions": self._exceptions,
            "getException": self._exception,
            "getHealth": lambda _: _plain({"status": "ok"}),
            "getReady": self._ready,
            "getOpenapi": lambda _: Response(200, JSON, document_bytes(), {"Cache-Control": "no-cache"}),
        }

    def _official(self, request: Request) -> Response:
        at = parameters.knowledge(request.query)

        def answer() -> Response:
            found = self._queries.official(_id(request), request.query["snap"], at)
            return _values(request, found, lambda body: [body])

        return self._kept(request, at, answer)

    def _historical(self, request: Request) -> Response:
        page = parameters.paging(request)
        at = parameters.knowledge(page.given)
        span = parameters.span(page.given, page.after)
        granularity = parameters.granularity(page.given)

        def answer() -> Response:
            if span[0] >= span[1]:
                raise refuse("cursor", "", "cursor", "is not a cursor of this request")
            found = self._queries.historical(_id(request), span, granularity, at, page.limit)
            link = parameters.next_link(request, page, found.next)
            return _values(request, found, lambda body: body["items"], link=link, paged=True)

        return self._kept(request, at, answer)

    def _snapshot(self, request: Request) -> Response:
        at = parameters.knowledge(request.query)
        ids = parameters.ids(request.query)
        return self._kept(request, at, lambda: _json(self._queries.snapshot(ids, request.query["snap"], at)))

    def _quality(self, request: Request) -> Response:
        window = parameters.window(request.query, self._clock())
        return _json(self._queries.quality(_id(request), window))

    def _sources(self, request: Request) -> Response:
        return _json(self._queries.sources(_id(request), request.query.get("snap")))

    def _explain(self, request: Request) -> Response:
        at = parameters.knowledge(request.query)
        return _json(self._queries.explain(_id(request), request.query["snap"], at))

    def _lineage(self, request: Request) -> Response:
        return _json(self._queries.lineage(_id(request), request.query["snap"]))

    def _audit(self, request: Request) -> Response:
        page = parameters.paging(request)
        after = parameters.after_event(page.after)
        at = parameters.knowledge(page.given)
        found = self._queries.audit(_id(request), page.given.get("snap"), at, after, page.limit)
        return _page(request, page, found)

    def _receipt(self, request: Request) -> Response:
        page = parameters.paging(request, parameters.MAX_LIMIT)
        receipt = parameters.uuid(request.variables["receipt"], "receipt")
        found = self._queries.receipt(receipt, parameters.after_count(page.after), page.limit)
        return _page(request, page, found)

    def _load(self, request: Request) -> Response:
        page = parameters.paging(request)
        load = request.variables["load"]
        if not (len(load) <= 128 and load.isascii() and load.isprintable()):
            raise refuse("load", load, "identifier", "is not 1 to 128 printable ASCII characters")
        found = self._queries.load(load, parameters.after_name(page.after), page.limit)
        return _page(request, page, found)

    def _entries(self, request: Request, kind: str) -> Response:
        page = parameters.paging(request)
        return _page(
            request, page, self._queries.entries(kind, parameters.after_name(page.after), page.limit)
        )

    def _exceptions(self, request: Request) -> Response:
        page = parameters.paging(request)
        status = page.given.get("status", "open")
        if status not in ("open", "approved", "rejected", "resolved"):
            raise refuse("status", status, "choice", "is not one of open, approved, rejected, resolved")
        after = parameters.after_exception(page.after)
        return _page(request, page, self._queries.exceptions(status, after, page.limit))

    def _exception(self, request: Request) -> Response:
        return _json(self._queries.exception(parameters.uuid(request.variables["item"], "item")))

    def _ready(self, request: Request) -> Response:  # noqa: ARG002 - the signature of every handler
        try:
            self._queries.ready()
        except Unavailable:
            return _plain({"status": "unavailable", "checks": {"database": "unavailable"}}, 503)
        return _plain({"status": "ready", "checks": {"database": "ok"}})

    def _kept(self, request: Request, at: Knowledge, answer: Callable[[], Response]) -> Response:
        """An answer that can never change, from the cache where it is there."""
        if at == LATEST:
            return answer()
        key = _key(request)
        packed = self._cache.get(key)
        if packed is not None:
            head, _, body = packed.partition(b"\n")
            return Response(200, request.media, body, json.loads(head))
        response = answer()
        self._cache.put(key, encode_json(response.headers) + b"\n" + response.body)
        return response


def _key(request: Request) -> str:
    """Of the path as the caller sees it, because links in the body start with it."""
    asked = [request.url_path, sorted(request.query.items()), request.media, dict(request.variables)]
    digest = blake2b(encode_json([_FORM, request.operation.operation_id, *asked]), digest_size=20)
    return f"qis:answer:{digest.hexdigest()}"


def _id(request: Request) -> str:
    return check_id(request.variables["id"], "id")


def _slug(request: Request, name: str) -> str:
    return check_slug(request.variables[name], name)


def _values(
    request: Request, found: Answer, rows: Rows, link: str | None = None, paged: bool = False
) -> Response:
    """Official values in the form that was asked for."""
    if request.media == http.CSV:
        body = csv_bytes(rows(found.body))
    else:
        body = encode_json({**found.body, "next": link} if paged else found.body)
    return _response(found, request.media, body, link)


def _json(found: Answer) -> Response:
    return _response(found, JSON, encode_json(found.body), None)


def _page(request: Request, page: parameters.Paging, found: Answer) -> Response:
    link = parameters.next_link(request, page, found.next)
    return _response(found, JSON, encode_json({**found.body, "next": link}), link)


def _response(found: Answer, media: str, body: bytes, link: str | None) -> Response:
    headers = {"ETag": etag_of(body), "Cache-Control": _FOREVER if found.pinned else _ASK_AGAIN}
    if found.basis is not None:
        headers["Qis-Basis"] = found.basis.token
    if link is not None:
        headers["Link"] = f'<{link}>; rel="next"'
    return Response(200, media, body, headers)


def _plain(body: object, status: int = 200) -> Response:
    return Response(status, JSON, encode_json(body), {"Cache-Control": "no-store"})
