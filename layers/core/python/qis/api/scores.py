"""The operation on scores of a window."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from qis.api import parameters
from qis.api.http import JSON, Request, Response, encode_json, etag_of
from qis.api.router import Handler
from qis.application.scoreboard import ScoreQueries


class ScoreOperations:
    """Handlers by operation id."""

    def __init__(self, scores: ScoreQueries, clock: Callable[[], datetime]) -> None:
        self._scores = scores
        self._clock = clock

    def handlers(self) -> dict[str, Handler]:
        """Every operation on scores."""
        return {"getScores": self._get}

    def _get(self, request: Request) -> Response:
        first, until = parameters.window(request.query, self._clock())
        found = self._scores.scores(request.variables["scope"], request.variables["name"], first, until)
        body = encode_json(found)
        return Response(200, JSON, body, {"ETag": etag_of(body), "Cache-Control": "private, no-cache"})
