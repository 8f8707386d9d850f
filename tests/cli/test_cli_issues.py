"""Issues from the command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from cli_system import RunCli, System

STATE = {
    "status": "detected",
    "resolution": None,
    "severity": "high",
    "open": 2,
    "items": 3,
    "series": 2,
    "opened_at": "2026-01-05T09:00:00+00:00",
    "triaged_by": None,
    "escalated": False,
    "snoozed_until": None,
}
ISSUE = {
    "issue": "i-1",
    "kind": "spike",
    "scope": "source/acme",
    **STATE,
    "changed_at": "2026-01-05T09:00:00Z",
}
ITEM = {
    "item": "e-1",
    "reference_data_id": "PX.ACME",
    "snap": "2026-01-05T00:00:00Z",
    "status": "open",
    "kind": "suspect",
    "source": None,
    "reason": "moves 9 from 1.1",
    "checks": [],
}


@pytest.fixture
def desk(system: System) -> System:
    system.on("GET", "/api/v1/issues", {"items": [ISSUE], "next": None})
    system.on("GET", "/api/v1/issues/i-1", ISSUE)
    system.on("GET", "/api/v1/issues/i-1/items", {"items": [ITEM] * 25, "next": None})
    done = {"issue": "i-1", "events": [{"type": "IssueTriaged", **STATE, "status": "triaged"}]}
    left = [{"item": "e-1", "why": "no value is proposed"}]
    for what in ("triage", "snooze"):
        system.on("POST", f"/api/v1/issues/i-1/{what}", done)
    for what in ("approve", "correct"):
        system.on("POST", f"/api/v1/issues/i-1/{what}", {**done, "decided": 2, "left": left})
    return system


def test_listed_and_shown_with_the_evidence(desk: System, run_cli: RunCli) -> None:
    said = run_cli("issues", "list", "--status", "closed").out
    assert "spike in source/acme: 2 of 3 open" in said
    assert desk.asked[-1].query == {"status": "closed"}
    said = run_cli("issues", "show", "i-1").out
    assert "moves 9 from 1.1" in said
    assert "and 5 more" in said
    document = run_cli("issues", "show", "i-1", "--json").document
    assert len(document["exceptions"]) == 25
    assert document["severity"] == "high"


def test_a_person_decides_with_a_reason(desk: System, run_cli: RunCli) -> None:
    for what in ("triage", "approve", "correct"):
        done = run_cli("issues", what, "i-1", "--reason", "seen")
        assert done.status == 0
        assert desk.asked[-1].path == f"/api/v1/issues/i-1/{what}"
        assert desk.asked[-1].body == {"reason": "seen"}
    assert "2 exceptions decided, 1 left" in done.out
    assert "no value is proposed" in done.out
    assert run_cli("issues", "approve", "i-1").status == 2


def test_a_snooze_is_a_duration_from_now(desk: System, run_cli: RunCli) -> None:
    assert run_cli("issues", "snooze", "i-1", "--for", "PT2H", "--reason", "noon").status == 0
    until = datetime.fromisoformat(desk.asked[-1].body["until"])
    assert abs(until - datetime.now(UTC) - timedelta(hours=2)) < timedelta(minutes=1)
    assert run_cli("issues", "snooze", "i-1", "--for", "soon", "--reason", "noon").status == 2


def test_scores_of_a_window_and_of_an_empty_one(system: System, run_cli: RunCli) -> None:
    window = {"from": "2026-01-05T00:00:00Z", "to": "2026-01-06T00:00:00Z"}
    found = {
        "scope": "source",
        "name": "ecb",
        "window": window,
        "scores": {"accuracy": "0.9", "composite": "0.9"},
        "sequences": [
            {
                "channel": "eod",
                "last": 1064,
                "received": 60,
                "missing": 4,
                "resets": 0,
                "repeated": 0,
                "gaps": [{"from": 1021, "to": 1023}, {"from": 1060, "to": 1060}],
            }
        ],
        "gaps": {
            "expected": 250,
            "missed": 11,
            "series": [
                {
                    "reference_data_id": "X",
                    "expected": 250,
                    "missed": 11,
                    "longest": 3,
                    "dates": [f"2026-01-{day:02}" for day in range(1, 11)],
                }
            ],
        },
        "followed": {
            "position": "7.1",
            "recorded_at": "2026-01-06T00:00:00Z",
            "waiting": 0,
            "complete": True,
        },
        "reason": None,
    }
    system.on("GET", "/api/v1/quality/source/ecb", found)
    assert run_cli("scores", "source", "ecb", "--window", "P7D", "--json").document == found
    assert system.asked[-1].query == {"timeWindow": "P7D"}
    shown = run_cli("scores", "source", "ecb", "--from", "2026-01-05", "--to", "2026-01-06").out
    assert system.asked[-1].query == {"from": "2026-01-05", "to": "2026-01-06"}
    assert "accuracy: 0.9" in shown
    assert "gaps: 11 of 250 days between first and last claim" in shown
    assert re.search(r"eod +60 +4 +0 +0 +1021-1023 1060", shown)
    assert "followed to 2026-01-06T00:00:00Z, position 7.1" in shown
    assert run_cli("scores", "source", "ecb", "--from", "2026-01-05").status != 0
    empty = {**found, "gaps": None, "sequences": None, "reason": "empty-window"}
    empty["scores"] = {"accuracy": None, "composite": None}
    system.on("GET", "/api/v1/quality/series/X", empty)
    assert "nothing to score" in run_cli("scores", "series", "X").out
    waits = {"position": None, "recorded_at": None, "waiting": 3, "complete": False}
    system.on("GET", "/api/v1/quality/series/X", {**empty, "followed": waits, "reason": "not-followed-yet"})
    shown = run_cli("scores", "series", "X").out
    assert "not complete (not-followed-yet): followed to nothing yet, 3 events wait" in shown


def test_a_business_rule_is_tried_on_history(system: System, run_cli: RunCli) -> None:
    row = {"reference_data_id": "PX", "snap": "2026-01-05T00:00:00Z", "measured": {"value": "9", "low": None}}
    told = {"series": 1, "values": 4, "kept": 2, "unknown": 1, "broken": 1, "items": [row]}
    system.on("POST", "/api/v1/trials", told)
    done = run_cli("checks", "try", "--set", "check=m", "--set", "expression=value > 0", "--window", "P7D")
    assert (system.asked[-1].query, system.asked[-1].body["expression"]) == (
        {"timeWindow": "P7D"},
        "value > 0",
    )
    assert "1 broken" in done.out
    assert "PX at 2026-01-05T00:00:00Z  value 9" in done.out
    assert run_cli("checks", "try").status == 2
