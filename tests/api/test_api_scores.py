"""Scores of a window on a real database: kept by a follower, each event counted once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.api.world import INTRADAY, World

SCORES = "/api/v1/quality/{scope}/{name}"


def scores(world: World, scope: str, name: str, **window: str) -> dict:
    reply = world.send("GET", SCORES, None, scope=scope, name=name)
    assert reply.status == 200, reply.text
    return reply.json


def test_scores_of_a_series_its_sources_and_its_class(world: World) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    for n, (value, outlier) in enumerate((("100", "100"), ("100.01", "150"), ("100.02", "100.02"))):
        at = (now - timedelta(minutes=3 - n)).isoformat()
        for source in ("ecb", "vendor-a"):
            world.claim(at, value, source, INTRADAY, received_at=now.isoformat())
        world.claim(at, outlier, "vendor-b", INTRADAY)
    assert scores(world, "series", INTRADAY)["reason"] == "empty-window", "nobody has followed yet"
    world.reads.settle()
    later = now + timedelta(minutes=5)
    done = world.scoreboard.advance(later)
    assert sum(w.claims for _, w in done.closed) == 9
    assert world.scoreboard.advance(later).events == 0
    mine = scores(world, "series", INTRADAY)
    assert mine["values"] == 3
    assert mine["scores"] == scores(world, "asset_class", "price")["scores"]
    outlier_scores = scores(world, "source", "vendor-b")
    assert (outlier_scores["scores"]["accuracy"], outlier_scores["claims"]) == ("0.6667", 3)
    assert outlier_scores["scores"]["timeliness"] is None
    ecb = scores(world, "source", "ecb")
    assert (ecb["scores"]["accuracy"], ecb["scores"]["timeliness"]) == ("1.0000", "1.0000")
    assert ecb["lateness"] == {"p50": 300, "p95": 300}


def test_what_is_unknown_or_misshapen_is_refused(world: World) -> None:
    for scope, name, status in (("series", "NO", 404), ("source", "no", 404), ("desk", "x", 400)):
        assert world.send("GET", SCORES, None, scope=scope, name=name).status == status
