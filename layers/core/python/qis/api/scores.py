"""The operation on scores of a window."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from qis.api import parameters
from qis.api.http import JSON, Request, Response, encode_json, etag_of
from qis.api.router import Handler
from qis.application.reading import NextPage
from qis.application.scoreboard import ScoreQueries
from qis.domain.series import check_slug


class ScoreOperations:
    """Handlers by operation id."""

    def __init__(self, scores: ScoreQueries, clock: Callable[[], datetime]) -> None:
        self._scores = scores
        self._clock = clock

    def handlers(self) -> dict[str, Handler]:
        """Every operation on scores."""
        return {"getScores": self._get, "getScorecard": self._card}

    def _card(self, request: Request) -> Response:
        page = parameters.paging(request)
        first, until = parameters.window(page.given, self._clock())
        # A window back from now is the same for all pages.
        given = {k: v for k, v in page.given.items() if k not in ("timeWindow", "from", "to")}
        given |= {"from": first.text, "to": until.text}
        source = check_slug(request.variables["source"], "source")
        by, after = page.given.get("by", "month"), parameters.after_name(page.after)
        card, last = self._scores.scorecard(source, first, until, by, after, page.limit)
        more = None if last is None else NextPage((last,))
        link = parameters.next_link(request, parameters.Paging(given, page.after, page.limit), more)
        body = encode_json({**card, "next": link})
        return Response(200, JSON, body, {"ETag": etag_of(body), "Cache-Control": "private, no-cache"})

    def _get(self, request: Request) -> Response:
        first, until = parameters.window(request.query, self._clock())
        found = self._scores.scores(request.variables["scope"], request.variables["name"], first, until)
        body = encode_json(found)
        return Response(200, JSON, body, {"ETag": etag_of(body), "Cache-Control": "private, no-cache"})
