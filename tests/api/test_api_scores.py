"""Scores of a window on a real database: kept by a follower, each event counted once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from qis.adapters.postgres.followers import Misplaced, PostgresFollower
from qis.adapters.postgres.scoreboard import FOLLOWER, PostgresScoreStore, PostgresSequences
from qis.application.ports import BUDGET
from qis.domain.events import Position
from qis.domain.scoreboard import FOLLOWED
from qis.domain.snap import Snap
from qis.domain.windows import Windows
from tests.api.events import proxy_event
from tests.api.tokens import token
from tests.api.world import INTRADAY, SERIES, World
from tests.support.databases import FreshDatabase

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
    nobody = scores(world, "series", INTRADAY)
    assert (nobody["reason"], nobody["followed"]["complete"]) == ("not-followed-yet", False)
    assert nobody["followed"]["waiting"] > 9
    assert scores(world, "series", SERIES)["reason"] == "empty-window", "what waits is of another series"
    world.reads.settle()
    later = now + timedelta(minutes=5)
    done = world.scoreboard.advance(later)
    assert sum(w.claims for _, w in done.closed) == 9
    assert world.scoreboard.advance(later).events == 0
    mine = scores(world, "series", INTRADAY)
    assert (mine["values"], mine["reason"]) == (3, None)
    last = [e for e in world.log() if e.type in FOLLOWED][-1]
    assert mine["followed"] == {
        "position": last.position.token,
        "recorded_at": Snap.of(last.recorded_at).text,
        "waiting": 0,
        "complete": True,
    }
    assert mine["scores"] == scores(world, "asset_class", "price")["scores"]
    outlier_scores = scores(world, "source", "vendor-b")
    assert (outlier_scores["scores"]["accuracy"], outlier_scores["claims"]) == ("0.6667", 3)
    assert outlier_scores["scores"]["timeliness"] is None
    ecb = scores(world, "source", "ecb")
    assert (ecb["scores"]["accuracy"], ecb["scores"]["timeliness"]) == ("1.0000", "1.0000")
    assert ecb["lateness"] == {"p50": 300, "p95": 300}


def test_the_gaps_of_a_source_against_the_calendar(world: World) -> None:
    for day in (5, 8, 9, 12):
        world.claim(f"2026-01-{day:02}T13:15:00Z", "1.1", "vendor-a")
    for day in (5, 6, 7, 8, 9, 12):
        world.claim(f"2026-01-{day:02}T13:15:00Z", "1.1")
    world.reads.settle()
    world.scoreboard.advance(datetime.now(UTC))

    def gaps(source: str, first: str, until: str) -> dict[str, Any]:
        window = {"from": f"2026-01-{first}", "to": f"2026-01-{until}"}
        reply = world.call(
            proxy_event("GET", SCORES, {"scope": "source", "name": source}, window, token=token())
        )
        assert reply.status == 200, reply.text
        found: dict[str, Any] = reply.json["gaps"]
        return found

    (series,) = gaps("vendor-a", "01", "31")["series"]
    assert series == {
        "reference_data_id": SERIES,
        "expected": 6,
        "missed": 2,
        "longest": 2,
        "dates": ["2026-01-06", "2026-01-07"],
    }
    assert gaps("ecb", "01", "31") == {"expected": 6, "missed": 0, "series": []}
    assert gaps("vendor-a", "06", "08")["missed"] == 2, "it spoke before and speaks after"
    assert gaps("vendor-a", "06", "07")["series"][0]["longest"] == 1
    assert gaps("vendor-a", "13", "31")["expected"] == 0, "silence that has not ended"
    assert scores(world, "series", SERIES)["gaps"] is None


def test_what_is_unknown_or_misshapen_is_refused(world: World) -> None:
    for scope, name, status in (("series", "NO", 404), ("source", "no", 404), ("desk", "x", 400)):
        assert world.send("GET", SCORES, None, scope=scope, name=name).status == status


def test_the_scorecard_of_a_source_by_time_and_by_series(world: World) -> None:
    now = datetime.now(UTC).replace(microsecond=0, minute=30)
    for n in range(3):
        at = (now - timedelta(days=3 - n)).isoformat()
        received = (now - timedelta(days=3 - n) + timedelta(seconds=20)).isoformat()
        world.claim(at, "100", "ecb", INTRADAY)
        world.claim(at, "100.02" if n < 2 else "103", "vendor-a", INTRADAY, received_at=received)
    world.reads.settle()
    world.scoreboard.advance(now)
    where = "/api/v1/sources/{source}/scorecard"
    card = world.get(where, "vendor-a", by="day", limit="2").json
    assert [g["group"] for g in card["groups"]] == [
        (now - timedelta(days=3 - n)).date().isoformat() for n in range(2)
    ]
    assert card["next"] is not None
    total = card["total"]
    assert (total["values"], total["accuracy"], total["disagreement"]) == (3, "0.6667", "0.3333")
    assert (total["latency"], total["coverage"]) == ({"p50": 30, "p95": 30}, "1.0000")
    assert abs(float(total["bp"]["bias"]) - 2) < 0.03
    assert abs(float(total["bp"]["worst"]) - 300) < 4
    second = world.call(following(card["next"])).json
    assert [g["accuracy"] for g in second["groups"]] == ["0.0000"]
    (series,) = world.get(where, "vendor-a", by="series").json["groups"]
    assert (series["group"], series["bp"]["compared"]) == (INTRADAY, 3)
    for by, name in (("kind", "price"), ("rules", "fx")):
        (group,) = world.get(where, "vendor-a", by=by).json["groups"]
        assert group == {**series, "group": name}
    assert world.get(where, "vendor-a", by="year").status == 400
    assert world.get(where, "nobody").status == 404


def following(link: str) -> dict[str, Any]:
    """The event of a request for the next page."""
    asked = urlsplit(link)
    path = {"source": asked.path.split("/")[-2]}
    query = dict(parse_qsl(asked.query))
    return proxy_event("GET", "/api/v1/sources/{source}/scorecard", path, query, token=token())


def test_who_follows_at_the_same_time_waits_a_moment_and_then_leaves_it_to_the_other(
    database: FreshDatabase,
) -> None:
    one, other = PostgresScoreStore(database.app), PostgresScoreStore(database.another())
    with one.session() as first:
        assert first is not None
        with other.session() as second:
            assert second is None
    with other.session() as second:
        assert second is not None
        second.keep({}, {}, Windows(), None, datetime.now(UTC), {})


def test_a_checkpoint_of_another_server_is_told(world: World, database: FreshDatabase) -> None:
    world.claim("2026-01-05T13:15:00Z", "1.1", "vendor-a")
    follower = PostgresFollower(database.another().connect(), FOLLOWER)
    follower.move(Position(10**9, 5), datetime.now(UTC))
    with pytest.raises(Misplaced, match="follower scoreboard is at transaction 1000000000"):
        world.scoreboard.advance(datetime.now(UTC))


def test_numbers_that_did_not_come_are_in_the_scores_of_their_source(
    world: World, database: FreshDatabase
) -> None:
    for day, number in ((5, 7), (6, 8), (8, 12)):
        world.claim(f"2026-01-{day:02}T13:15:00Z", "1.1", "vendor-a", sequence=number, channel="fx")
    world.reads.settle()
    world.scoreboard.advance(datetime.now(UTC))
    (channel,) = scores(world, "source", "vendor-a")["sequences"]
    assert channel == {
        "channel": "fx",
        "last": 12,
        "received": 3,
        "missing": 3,
        "resets": 0,
        "repeated": 0,
        "gaps": [{"from": 9, "to": 11}],
    }
    assert scores(world, "source", "ecb")["sequences"] == []
    assert scores(world, "series", SERIES)["sequences"] is None
    kept = PostgresSequences(database.app)
    later = datetime.now(UTC) + timedelta(minutes=2)
    assert world.quality.sequences(kept, later - timedelta(minutes=2)) == 0, "it may be on its way"
    assert kept.untold().keys() == {("vendor-a", "fx")}
    assert world.quality.sequences(kept, later) == 1
    assert kept.untold() == {}
    for day, number in ((13, 9), (14, 10), (15, 11)):
        world.claim(f"2026-01-{day:02}T13:15:00Z", "1.1", "vendor-a", sequence=number, channel="fx")
    world.reads.settle()
    world.scoreboard.advance(datetime.now(UTC))
    assert world.quality.sequences(kept, later) == 1
    told = [e.type for e in world.log() if e.data.get("kind") == "sequence_gap" or "Resolved" in e.type]
    assert told == ["QualityIssueDetected", "QualityIssueResolved"]


_LARGE = """
INSERT INTO events (recorded_at, event_id, stream, version, type, type_version, actor, correlation_id, data)
SELECT now(), gen_random_uuid(), 'value:X@' || n, 1, 'DataIngested', 1, 'test', 'test', jsonb_build_object(
    'reference_data_id', %s::text, 'snap', '2026-01-05T00:00:00Z', 'source', 'ecb', 'claim_id', n::text,
    'value', repeat('x', 63000)) FROM generate_series(1, 300) n
"""


def test_a_batch_of_the_scoreboard_is_bounded_by_bytes(world: World, database: FreshDatabase) -> None:
    with database.connect() as owner:
        owner.execute(_LARGE, (INTRADAY,))
    world.reads.settle()
    with PostgresScoreStore(database.another()).session() as session:
        assert session is not None
        held = session.read(FOLLOWED, 5_000)
    assert 0 < sum(len(str(e.data)) for e in held) <= BUDGET
    assert world.scoreboard.advance(datetime.now(UTC)).events == 300
