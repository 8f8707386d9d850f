"""A database that goes away in the middle of a request: 503 and repeat, never 500, and never half done."""

from __future__ import annotations

from typing import Any

import pytest

from qis.adapters.postgres import projections
from tests.api.world import BASE, INTRADAY, World
from tests.support.databases import FreshDatabase

SNAP = "2026-01-05T09:00:00Z"


def test_a_command_whose_database_went_away_is_answered_with_503_and_can_be_repeated(
    world: World, database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.claim(SNAP, "100", "ecb", INTRADAY)
    project = projections.project_inline

    def killed(connection: Any, *rest: Any) -> None:
        with database.connect() as owner:
            owner.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
        project(connection, *rest)

    body = {"snap": SNAP, "value": "101", "reason": "late correction"}
    with monkeypatch.context() as broken:
        broken.setattr(projections, "project_inline", killed)
        reply = world.send("POST", f"{BASE}/restate", body, id=INTRADAY)
    assert reply.status == 503, reply.text
    assert reply.json["type"] == "urn:qis:problem:unavailable"
    assert reply.headers["Retry-After"] == "1"
    assert world.faults.seen == []
    assert world.get(f"{BASE}/official", INTRADAY, snap=SNAP).json["value"] == "100"
    assert world.send("POST", f"{BASE}/restate", body, id=INTRADAY).status == 200
