"""One JSON document and nothing else, the exit statuses, and problems told with field, value and rule."""

from __future__ import annotations

import json

import pytest
from cli_system import RESTATED, Refusal, RunCli, System, official

COMMANDS = (
    *(
        "up",
        "down",
        "status",
        "ingest",
        "loads",
        "receipts",
        "detect",
        "official",
        "history",
        "explain",
        "quality",
    ),
    *(
        "restate",
        "exceptions",
        "approve",
        "reject",
        "rebuild",
        "redrive",
        "recover",
        "drill",
        "token",
        "migrate",
        "bench",
    ),
)
HISTORY = "/api/v1/data/reference/FX.EUR.USD/historical"
OFFICIAL = "/api/v1/data/reference/FX.EUR.USD/official"


def refuse(status: int, **more: object):
    def answer(_: object) -> None:
        raise Refusal(status, **more)

    return answer


class TestJson:
    def test_is_the_answer_of_the_api(self, system: System, run_cli: RunCli) -> None:
        value = official("2026-01-05T13:15:00Z", "1.10")
        system.on("GET", OFFICIAL, value)
        done = run_cli("official", "FX.EUR.USD", "--snap", "2026-01-05", "--json")
        assert (done.status, done.document, done.err) == (0, value, "")
        assert system.asked[0].query == {"snap": "2026-01-05"}
        assert system.asked[0].headers["Authorization"] == "Bearer a-token"

    def test_a_refusal_is_its_problem_document(self, system: System, run_cli: RunCli) -> None:
        done = run_cli("official", "NOPE", "--snap", "2026-01-05", "--json")
        assert done.status == 1
        assert done.document["status"] == 404
        assert "✗ Refused (404)" in done.err

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            (("official", "X"), ("--snap",)),
            (("official", "X", "--snap", "s", "--unknown", "1"), ("--unknown",)),
            (("nonsense",), ("nonsense",)),
            (
                ("history", "X", "--from", "a", "--to", "b", "--out", "x.xlsx"),
                ("--out", "x.xlsx", ".parquet"),
            ),
            (("series", "add"), ("--file",)),
            (("rules", "change", "fx", "--set", "tolerance"), ("--set", "tolerance", "FIELD=VALUE")),
            (("token", "--role", "emperor"), ("--role", "emperor", "reader")),
            (("bench", "everything"), ("NAME", "everything", "asof")),
            (("token", "--role", "reader", "--ttl", "1h"), ("--ttl", "1h", "PT90M")),
            (("issues", "snooze", "i", "--for", "1h", "--reason", "r"), ("--for", "1h", "PT90M")),
            (("series", "list", "--as", "bob"), ("--as", "the token says who")),
        ],
    )
    def test_bad_usage_is_status_2_and_still_one_document(
        self, system: System, run_cli: RunCli, arguments: tuple[str, ...], named: tuple[str, ...]
    ) -> None:
        done = run_cli(*arguments, "--json")
        assert done.status == 2
        assert done.document["type"] == "urn:qis:problem:usage"
        for part in named:
            assert part in done.document["detail"]
        assert done.err
        assert system.asked == []

    def test_text_that_is_not_ascii_stays_readable(self, system: System, run_cli: RunCli) -> None:
        system.on("GET", OFFICIAL, official("2026-01-05T13:15:00Z", "1", rules="größe"))
        assert "größe" in run_cli("official", "FX.EUR.USD", "--snap", "2026-01-05", "--json").out


class TestProblems:
    def test_each_violation_names_field_value_and_rule(self, system: System, run_cli: RunCli) -> None:
        violations = [
            {"field": "snap", "value": "yesterday", "rule": "iso-8601", "message": "is not a time"},
            {"field": "value", "value": "[bold]x", "rule": "decimal", "message": "is not a decimal"},
        ]
        system.on("GET", OFFICIAL, refuse(400, violations=violations))
        done = run_cli("official", "FX.EUR.USD", "--snap", "yesterday")
        assert done.status == 1
        assert done.out == ""
        assert "snap 'yesterday' is not a time [iso-8601]" in done.err
        assert "value '[bold]x' is not a decimal [decimal]" in done.err
        assert "c-1" in done.err

    def test_why_there_is_no_data_and_who_holds_it(self, system: System, run_cli: RunCli) -> None:
        system.on("GET", OFFICIAL, refuse(404, reason="held-for-review", item="i-1"))
        said = run_cli("official", "FX.EUR.USD", "--snap", "2026-01-05").err
        assert "reason: held-for-review" in said
        assert "i-1" in said

    def test_a_gateway_that_answers_for_itself(
        self, system: System, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from qis.cli.rest import Reply

        monkeypatch.setattr("qis.cli.rest.send", lambda _: Reply(502, b'{"message": "Bad gateway"}'))
        done = run_cli("official", "X", "--snap", "2026-01-05", "--json")
        assert (done.status, done.document["detail"]) == (1, "Bad gateway")
        monkeypatch.setattr("qis.cli.rest.send", lambda _: Reply(200, b"<html>"))
        assert "is this the address of the API?" in run_cli("official", "X", "--snap", "2026-01-05").err

    def test_a_system_that_does_not_answer(
        self, system: System, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(_: object) -> None:
            raise ConnectionRefusedError("refused")

        monkeypatch.setattr("qis.cli.rest.send", broken)
        done = run_cli("official", "X", "--snap", "2026-01-05")
        assert done.status == 1
        assert "does not answer" in done.err
        assert "qis up" in done.err

    def test_a_token_never_travels_in_the_clear(
        self, system: System, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("QIS_URL", "http://qis.example")
        assert run_cli("series", "list").status == 1
        assert system.asked == []

    def test_a_remote_system_needs_its_own_token(
        self, system: System, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("QIS_TOKEN")
        assert "QIS_TOKEN is not" in run_cli("series", "list").err

    def test_a_key_of_a_usage_plan_is_sent_along(
        self, system: System, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_cli("series", "list")
        monkeypatch.setenv("QIS_API_KEY", "plan-key")
        run_cli("series", "list")
        assert [a.headers.get("x-api-key") for a in system.asked] == [None, "plan-key"]

    def test_without_a_system_it_says_how_to_get_one(
        self, system: System, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("QIS_URL")
        done = run_cli("series", "list")
        assert done.status == 1
        assert "qis up" in done.err


class TestReading:
    def test_an_official_record_in_words(self, system: System, run_cli: RunCli) -> None:
        curve = {"nodes": [{"tenor": "3M", "value": "4.10"}, {"tenor": "1Y", "value": "4.00"}]}
        system.on("GET", OFFICIAL, {**official("2026-01-05T13:15:00Z", "1"), "value": curve})
        said = run_cli("official", "FX.EUR.USD", "--snap", "2026-01-05").out
        assert "2 nodes" in said
        assert '"value": "4.10"' in said

    def test_an_official_value_in_words(self, system: System, run_cli: RunCli) -> None:
        system.on("GET", OFFICIAL, official("2026-01-05T13:15:00Z", "1.20", **RESTATED))
        said = run_cli(
            "official", "FX.EUR.USD", "--snap", "2026-01-05", "--as-of", "2026-02-01T00:00:00Z"
        ).out
        assert "1.20 USD per EUR" in said
        assert "from 1.10 (version 1) by ann: typing error, [sic]" in said
        assert system.asked[0].query["asOf"] == "2026-02-01T00:00:00Z"

    def test_history_follows_every_page(self, system: System, run_cli: RunCli) -> None:
        def page(asked):
            if "cursor" in asked.query:
                assert asked.query == {"cursor": "c2"}
                return {"items": [official("2026-01-06T13:15:00Z", "1.3")], "next": None}
            assert asked.query["granularity"] == "day"
            return {"items": [official("2026-01-05T13:15:00Z", "1.2")], "next": f"/live{HISTORY}?cursor=c2"}

        system.on("GET", HISTORY, page)
        arguments = ("FX.EUR.USD", "--from", "2026-01-01", "--to", "2026-02-01", "--granularity", "day")
        done = run_cli("history", *arguments, "--json")
        assert [v["value"] for v in done.document["items"]] == ["1.2", "1.3"]
        assert "2 values" in run_cli("history", *arguments).out

    def test_a_story_tells_claims_checks_versions_and_exceptions(
        self, system: System, run_cli: RunCli
    ) -> None:
        told = {
            "reference_data_id": "FX.EUR.USD",
            "snap": "2026-01-05T13:15:00Z",
            "status": "held-for-review",
            "value": None,
            "explanation": "It is held because it jumped.",
            "claims": [
                {
                    "source": "ecb",
                    "value": "9.9",
                    "received_at": None,
                    "recorded_at": "2026-01-05T14:00:00.5Z",
                    "outcome": "used",
                    "detail": None,
                }
            ],
            "decision": {
                "status": "suspect",
                "method": "precedence",
                "confidence": None,
                "reason": "moves 8",
                "rules": "fx",
                "rules_version": 1,
                "decided_at": "2026-01-05T14:00:01Z",
                "checks": [
                    {
                        "check": "spike",
                        "passed": False,
                        "measured": "8",
                        "threshold": "0.1",
                        "detail": "moves 8 from 1.1",
                    }
                ],
            },
            "versions": [
                {
                    "version": 1,
                    "value": "1.1",
                    "recorded_from": "2026-01-05T14:00:01Z",
                    "cause": None,
                    "by": None,
                    "reason": None,
                }
            ],
            "exceptions": [
                {
                    "item": "i-1",
                    "status": "open",
                    "kind": "suspect",
                    "proposed": "9.9",
                    "reason": "moves 8",
                    "opened_at": "2026-01-05T14:00:01Z",
                    "closed_by": None,
                }
            ],
        }
        system.on("GET", "/api/v1/data/reference/FX.EUR.USD/explain", told)
        said = run_cli("explain", "FX.EUR.USD", "--snap", "2026-01-05").out
        for part in ("It is held because it jumped.", "held-for-review", "spike", "failed", "i-1", "9.9"):
            assert part in said
        assert run_cli("explain", "FX.EUR.USD", "--snap", "2026-01-05", "--json").document == told

    def test_an_empty_window_has_no_scores(self, system: System, run_cli: RunCli) -> None:
        scores = dict.fromkeys(("accuracy", "completeness", "timeliness", "consistency", "composite"))
        found = {
            "window": {"from": "a", "to": "b"},
            "scores": scores,
            "values": 0,
            "expected": 0,
            "reason": "empty-window",
        }
        system.on("GET", "/api/v1/data/reference/X/quality", found)
        assert "no scores: empty-window" in run_cli("quality", "X", "--window", "P1D").out
        assert system.asked[0].query == {"timeWindow": "P1D"}


class TestHelp:
    def test_every_command_explains_itself_with_an_example_and_takes_json(self, run_cli: RunCli) -> None:
        groups = ("series", "sources", "rules")
        for name in (*COMMANDS, *(f"{g} add" for g in groups), *(f"{g} change" for g in groups)):
            done = run_cli(*name.split(), "--help")
            assert done.status == 0
            assert "Example: " in done.out, name
            assert "--json" in done.out, name

    def test_completion_is_built_in(self, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("_QIS_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", "qis rest")
        monkeypatch.setenv("COMP_CWORD", "1")
        assert run_cli().out.split() == ["restate"]


def test_status_of_a_remote_system(system: System, run_cli: RunCli) -> None:
    system.on("GET", "/ready", {"status": "ready", "checks": {}})
    assert run_cli("status", "--json").document["ready"] is True
    del system.answers["GET", "/ready"]
    done = run_cli("status", "--json")
    assert (done.status, json.loads(done.out)["ready"]) == (1, False)
