"""Rules in use: where fields come from, differences, trying a candidate and applying in parts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from cli_system import RunCli, System

RANGE = ("--from", "2026-01-01", "--to", "2026-02-01")
COUNTS = {"unchanged": 2, "changed": 1, "newly-held": 0, "newly-published": 0, "undecided": 0, "pinned": 0}
CHANGE = {
    "reference_data_id": "X",
    "snap": "2026-01-05T13:15:00Z",
    "change": "changed",
    "published": "1.1",
    "candidate": "1.2",
    "status": "official",
    "bp": "909.090909",
    "reason": "test",
}


def part(changes: list[dict[str, Any]], resume: str | None) -> dict[str, Any]:
    report = {
        "values": 3,
        "counts": COUNTS,
        "coverage": {"published": "1.0000", "candidate": "1.0000"},
        "bp": {"median": "909", "median_size": "909", "p99_size": "909", "largest": "909.090909"},
    }
    return {"rules": "fx", "series": 1, "report": report, "changes": changes, "resume": resume}


def test_a_candidate_is_tried_a_part_at_a_time(system: System, run_cli: RunCli, tmp_path: Path) -> None:
    parts = [part([CHANGE], "more"), part([CHANGE], None)]
    system.on("POST", "/api/v1/rules/fx/what-if", lambda asked: parts[asked.body.get("resume") == "more"])
    file = tmp_path / "candidate.json"
    file.write_text(json.dumps({"rules": "fx", "tolerance": "0.1"}))
    done = run_cli("rules", "try", str(file), *RANGE, "--series", "X", "--json")
    assert done.status == 0
    assert len(json.loads(done.out)["changes"]) == 2
    first = system.asked[0].body
    assert (first["definition"]["tolerance"], first["series"]) == ("0.1", ["X"])
    shown = run_cli("rules", "try", str(file), *RANGE)
    assert "909.090909" in shown.out
    assert "coverage 1.0000 → 1.0000" in shown.out


def test_two_candidates_at_once_are_refused(system: System, run_cli: RunCli, tmp_path: Path) -> None:
    file = tmp_path / "candidates.json"
    file.write_text(json.dumps([{"rules": "fx"}, {"rules": "fy"}]))
    assert run_cli("rules", "try", str(file), *RANGE).status == 1
    assert system.asked == []


def test_rules_are_applied_until_the_end_and_a_dry_run_only_compares(system: System, run_cli: RunCli) -> None:
    place = {"series": "X", "snap": "2026-01-05T13:15:00Z"}
    counted = {"rules": "fx", "series": 1, "decided": 2, "restated": 1, "published": 0, "held": 0}
    system.on(
        "POST",
        "/api/v1/rules/fx/apply",
        lambda asked: {**counted, "next": None if "after" in asked.body else place},
    )
    system.on("POST", "/api/v1/rules/fx/what-if", part([], None))
    done = run_cli("rules", "apply", "fx", *RANGE, "--reason", "test", "--json")
    assert json.loads(done.out) == {**counted, "decided": 4, "restated": 2}
    assert [a.body.get("after") for a in system.asked] == [None, place]
    assert run_cli("rules", "apply", "fx", *RANGE, "--reason", "test", "--dry-run").status == 0
    assert system.asked[-1].path == "/api/v1/rules/fx/what-if"


def test_the_origin_of_each_field_and_differences_are_shown(system: System, run_cli: RunCli) -> None:
    field = {"field": "tolerance", "value": {"bp": "5"}, "rules": "house", "version": 2, "level": "house"}
    chain = [
        {"rules": "fx", "version": 1, "level": "group"},
        {"rules": "house", "version": 2, "level": "house"},
    ]
    told = {"reference_data_id": "X", "snap": "2026-01-05T13:15:00Z", "chain": chain, "fields": [field]}
    system.on("GET", "/api/v1/data/reference/X/rules", told)
    shown = run_cli("rules", "effective", "X", "--snap", "2026-01-05").out
    assert "fx v1 (group) → house v2 (house)" in shown
    assert "house v2" in shown
    changed = {"field": "max_move", "before": None, "after": None, "set_before": False, "set_after": True}
    system.on("GET", "/api/v1/rules/fx/diff", {"rules": "fx", "from": 1, "to": 2, "differences": [changed]})
    assert "max_move: left open → null" in run_cli("rules", "diff", "fx", "--from", "1", "--to", "2").out


def test_a_scorecard_is_charted(system: System, run_cli: RunCli) -> None:
    figures = {
        "values": 4,
        "claims": 4,
        "accuracy": "0.7500",
        "disagreement": "0.2500",
        "coverage": "1.0000",
        "timeliness": None,
        "latency": {"p50": 5, "p95": 30},
        "bp": {"compared": 4, "bias": "1.5", "dispersion": "2", "p95_size": "9", "worst": "300"},
    }
    card = {
        "source": "ecb",
        "window": {"from": "2025-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"},
        "by": "month",
        "total": figures,
        "groups": [{"group": "2025-12-01", **figures}],
        "gaps": {"expected": 4, "missed": 0, "series": []},
        "sequences": [],
        "followed": {
            "position": "7.1",
            "recorded_at": "2026-01-01T00:00:00Z",
            "waiting": 2,
            "complete": False,
        },
        "reason": "not-followed-yet",
        "next": None,
    }
    system.on("GET", "/api/v1/sources/ecb/scorecard", card)
    shown = run_cli("sources", "scorecard", "ecb", "--by", "month").out
    assert re.search(r"2025-12-01 +4 +0\.7500 +███ +1\.0000", shown)
    assert "not complete (not-followed-yet)" in shown
    assert json.loads(run_cli("sources", "scorecard", "ecb", "--json").out) == card


def test_weights_are_learned_a_part_at_a_time_and_the_candidate_is_written(
    system: System, run_cli: RunCli, tmp_path: Path
) -> None:
    weights = {"vote": 7000, "precision": 111}
    source = {"source": "a", "before": None, "after": weights, "judged": 30, "right": 29, "moved": True}
    revision = {
        "items": 30,
        "proposed": True,
        "reason": "the weights of a have changed",
        "sources": [source],
        "copies": {"before": [], "after": [["a", "b"]]},
    }
    candidate = {"rules": "fx", "method": {"name": "accu"}, "valid_from": "2026-02-01T00:00:00Z"}
    whole = {"rules": "fx", "series": 1, "basis": "7.1"}
    parts = [
        {**whole, "revision": None, "candidate": None, "resume": "more"},
        {**whole, "revision": revision, "candidate": candidate, "resume": None},
    ]
    system.on("POST", "/api/v1/rules/fx/learn", lambda asked: parts[asked.body.get("resume") == "more"])
    out = tmp_path / "candidate.json"
    ran = run_cli("rules", "learn", "fx", *RANGE, "--basis", "7.1", "--out", str(out))
    assert ran.status == 0
    assert "the weights of a have changed" in ran.out
    assert "copies: a, b" in ran.out
    assert json.loads(out.read_text()) == candidate
    assert [a.body.get("basis") for a in system.asked] == ["7.1", "7.1"]
    assert "resume" not in json.loads(run_cli("rules", "learn", "fx", *RANGE, "--json").out)
