"""Series, sources and rules: added once, changed field by field, decimals never as floats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_system import RunCli, System

RULES = {"rules": "fx", "version": 3, "method": "precedence", "precedence": ["ecb"], "tolerance": "0.10"}
SOURCE = {"source": "acme", "name": "Acme", "kind": "vendor", "licence": "contract", "active": True}


def entry(name: str, definition: dict) -> dict:
    return {"name": name, "version": 3, "changed_at": "2026-01-05T00:00:00Z", "definition": definition}


@pytest.fixture
def catalogue(system: System) -> System:
    system.on("GET", "/api/v1/rules/fx", entry("fx", RULES))
    system.on("GET", "/api/v1/sources/acme", entry("acme", SOURCE))
    for where in ("rules/fx", "sources/acme", "series/X"):
        system.on("PUT", f"/api/v1/{where}", lambda asked: asked.body)
    return system


def test_a_change_keeps_the_other_fields_and_every_digit(catalogue: System, run_cli: RunCli) -> None:
    done = run_cli("rules", "change", "fx", "--set", "tolerance=0.10000000000000000001", "--json")
    assert done.status == 0
    sent = catalogue.asked[-1].body
    assert sent == {
        **{k: v for k, v in RULES.items() if k != "version"},
        "tolerance": "0.10000000000000000001",
    }


def test_values_are_json_where_they_can_be(catalogue: System, run_cli: RunCli) -> None:
    given = (
        "--set",
        "min_sources=2",
        "--set",
        "range=[0.5,null]",
        "--set",
        "method=median",
        "--set",
        "a.b=x=y",
    )
    run_cli("rules", "change", "fx", *given)
    sent = catalogue.asked[-1].body
    assert (sent["min_sources"], sent["range"], sent["method"]) == (2, ["0.5", None], "median")
    assert sent["a"] == {"b": "x=y"}


def test_a_dot_into_text_is_bad_usage(catalogue: System, run_cli: RunCli) -> None:
    assert run_cli("rules", "change", "fx", "--set", "method.deep=1").status == 2


def test_changing_what_is_not_there_is_refused(catalogue: System, run_cli: RunCli, tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"rules": "other"}))
    assert run_cli("rules", "change", "nope", "--file", str(file)).status == 1
    assert run_cli("rules", "change", "nope", "--set", "a=1").status == 1
    assert {a.method for a in catalogue.asked} == {"GET"}


def test_pause_and_resume(catalogue: System, run_cli: RunCli) -> None:
    assert run_cli("sources", "pause", "acme", "--json").document == {**SOURCE, "active": False}
    assert run_cli("sources", "resume", "acme", "--json").document == SOURCE


def test_adding_from_a_file_field_by_field_and_never_over_what_is_there(
    catalogue: System, run_cli: RunCli, tmp_path: Path
) -> None:
    file = tmp_path / "series.json"
    file.write_text('[{"reference_data_id": "X", "limit": 1.10}]')
    assert run_cli("series", "add", "--file", str(file), "--json").document["limit"] == "1.10"
    done = run_cli(
        "series", "add", "--set", "reference_data_id=X", "--set", "semantics.currency=USD", "--json"
    )
    assert done.document["semantics"] == {"currency": "USD"}
    done = run_cli("sources", "add", "--set", "source=acme")
    assert done.status == 1
    assert "exists" in done.err
    assert "qis sources change acme" in done.err


@pytest.mark.parametrize("text", ["", "[]", "[1]", "{", '"x"', '{"name": "no id"}'])
def test_a_file_without_a_definition_is_refused(
    catalogue: System, run_cli: RunCli, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "series.json"
    file.write_text(text)
    assert run_cli("series", "add", "--file", str(file)).status == 1
    assert catalogue.asked == []


def test_lists_follow_pages(catalogue: System, run_cli: RunCli) -> None:
    def page(asked):
        last = "cursor" in asked.query
        where = None if last else "/live/api/v1/sources?cursor=2"
        return {"items": [entry("b" if last else "a", SOURCE)], "next": where}

    catalogue.on("GET", "/api/v1/sources", page)
    assert [e["name"] for e in run_cli("sources", "list", "--json").document["items"]] == ["a", "b"]
    said = run_cli("sources", "list").out
    assert "contract" in said
    assert "vendor" in said
    assert "tolerance: 0.10" in run_cli("rules", "show", "fx").out


def test_corrections_say_what_happened(system: System, run_cli: RunCli) -> None:
    def restate(asked):
        assert asked.body == {"snap": "2026-01-05", "value": "1.20", "reason": "typing error"}
        events = [
            {
                "type": "DataRestated",
                "value": "1.20",
                "official_version": 2,
                "before": {"value": "1.1"},
                "after": {"value": "1.20"},
            },
            {
                "type": "QualityIssueDetected",
                "issue_id": "i-1",
                "reason": "typing error",
                "checks": [
                    {"check": "range", "passed": True, "detail": "within"},
                    {"check": "spike", "passed": False, "detail": "moves 0.1"},
                ],
            },
            {"type": "DataReconciled", "value": None, "reason": "0 usable"},
            {"type": "QualityApproved", "issue_id": "i-0"},
        ]
        return {"reference_data_id": "X", "snap": "2026-01-05T13:15:00Z", "events": events}

    system.on("POST", "/api/v1/data/reference/X/restate", restate)
    given = ("--snap", "2026-01-05", "--value", "1.20", "--reason", "typing error")
    said = run_cli("restate", "X", *given).out
    assert "restated 1.1 → 1.20, version 2" in said
    assert "held for a second person as exception i-1: moves 0.1" in said
    assert "QualityApproved: issue_id i-0" in said
    assert "DataReconciled: reason 0 usable" in said

    nothing = {"reference_data_id": "X", "snap": "s", "events": []}
    system.on("POST", "/api/v1/exceptions/i-1/approve", nothing)
    system.on("POST", "/api/v1/exceptions/i-1/reject", nothing)
    assert "nothing changed" in run_cli("approve", "i-1").out
    assert system.asked[-1].body is None
    run_cli("approve", "i-1", "--value", "1.10")
    assert system.asked[-1].body == {"value": "1.10"}
    run_cli("reject", "i-1", "--reason", "wrong")
    assert system.asked[-1].body == {"reason": "wrong"}


def test_the_exception_queue(system: System, run_cli: RunCli) -> None:
    item = {
        "item": "3fa85f64-5717-4562-b3fc-2c963f66afa6",
        "reference_data_id": "X",
        "snap": "2026-01-05T13:15:00Z",
        "kind": "suspect",
        "proposed": "9.9",
        "reason": "moves 8",
        "opened_at": "2026-01-05T14:00:00.123456Z",
    }
    system.on("GET", "/api/v1/exceptions", {"items": [item], "next": None})
    system.on("GET", f"/api/v1/exceptions/{item['item']}", item)
    said = run_cli("exceptions", "--status", "open").out
    for part in (item["item"], "proposes 9.9", "2026-01-05T14:00:00Z", "1 open"):
        assert part in said
    assert run_cli("exceptions", item["item"], "--json").document == item
