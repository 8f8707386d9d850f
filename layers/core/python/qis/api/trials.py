"""The operation on trials of business rules."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from qis.api import parameters
from qis.api.http import JSON, Request, Response, encode_json, json_body
from qis.api.router import Handler
from qis.application.checks import Trial


class TrialOperations:
    """Handlers by operation id."""

    def __init__(self, trial: Trial, clock: Callable[[], datetime]) -> None:
        self._trial = trial
        self._clock = clock

    def handlers(self) -> dict[str, Handler]:
        """Every operation on trials."""
        return {"tryCheck": self._try}

    def _try(self, request: Request) -> Response:
        first, until = parameters.window(request.query, self._clock())
        body = encode_json(self._trial.run(json_body(request), first, until))
        return Response(200, JSON, body, {"Cache-Control": "no-store"})
