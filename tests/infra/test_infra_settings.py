"""Settings are refused before any construct exists, with the field and the reason."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

import app
from cdk.environments import ENVIRONMENTS, UnknownEnvironmentError, load
from cdk.environments.settings import Settings


def changed(name: str, path: str, value: Any) -> dict[str, Any]:
    """The settings of an environment as data, with one value changed (``...`` removes it)."""
    data = load(name).model_dump()
    *steps, last = path.split(".")
    at = data
    for step in steps:
        at = at[step]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return data


@pytest.mark.parametrize("name", sorted(ENVIRONMENTS))
def test_every_environment_is_valid_and_bears_its_own_name(name: str) -> None:
    assert load(name).name == name


@pytest.mark.parametrize("name", [None, "", "production", "Dev"])
def test_there_is_no_default_environment(name: str | None) -> None:
    with pytest.raises(UnknownEnvironmentError, match="dev, dr, local, prod, prod-reference, staging"):
        load(name)


@pytest.mark.parametrize("argv", [[], ["--env", "production"]])
def test_the_app_says_which_environments_exist(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(argv) == 2
    assert "choose one of: dev, dr, local, prod, prod-reference, staging" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "path", "value", "reason"),
    [
        ("dev", "colour", "blue", "colour\n  Extra inputs are not permitted"),
        ("dev", "database.size", 1, "database.size\n  Extra inputs are not permitted"),
        ("dev", "functions.ingest.memory", 1024, "functions.ingest.memory\n  Extra inputs are not permitted"),
        ("dev", "name", ..., "name\n  Field required"),
        ("dev", "name", "Dev-1", "name\n  String should match"),
        ("dev", "log_retention_days", 31, "log_retention_days\n  Input should be 1, 3"),
        ("dev", "retain_data", "yes", "retain_data\n  Input should be a valid boolean"),
        ("dev", "functions.audit", {}, "functions.audit.memory_mb\n  Field required"),
        ("dev", "functions.query", ..., r"functions: missing \['query'\]"),
        ("dev", "functions.query.timeout_seconds", 30, "API Gateway waits 29 s"),
        ("dev", "functions.relay.reserved_concurrency", 1, "functions.relay: .* concurrency of 2 or more"),
        ("dev", "event_sources.ingest.retry_attempts", -1, "greater than or equal to 0"),
        ("dev", "event_sources.ingest.max_record_age_seconds", -1, "greater than or equal to 60"),
        ("dev", "event_sources.publish.max_record_age_seconds", 90_000, "longer than the stream keeps"),
        ("dev", "event_sources.publish", ..., r"event_sources: missing \['publish'\]"),
        ("dev", "streams.events.retention_hours", 12, "greater than or equal to 24"),
        ("dev", "database.engine_version", "15.4", "Input should be '17.7', '17.9' or '18.6'"),
        ("dev", "database.serverless.min_acu", 8.0, "min_acu: is above max_acu"),
        ("dev", "network.nat_gateways", 3, "more gateways than availability_zones"),
        ("dev", "network", None, "network: is required outside the local twin"),
        ("dev", "alarms.notify", False, "must reach someone"),
        ("dev", "identity.machine_scopes", ("own:data",), "Input should be 'read:data'"),
        ("local", "embedded", False, "network: is required outside the local twin"),
        ("dev", "embedded", True, "the local twin brings it"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(name: str, path: str, value: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Settings.model_validate(changed(name, path, value))


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("retain_data", False, "never deleted"),
        ("database.deletion_protection", False, "required in production"),
    ],
)
def test_production_cannot_give_up_its_data(path: str, value: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Settings.model_validate(changed("dev", path, value) | {"name": "prod"})


def test_a_changed_copy_is_checked_again() -> None:
    settings = load("dev")
    wrong = settings.functions["query"].model_copy(update={"memory_mb": 1})
    with pytest.raises(ValidationError, match="memory_mb"):
        Settings.model_validate(dict(settings) | {"functions": settings.functions | {"query": wrong}})


def test_settings_are_read_without_the_infrastructure_packages() -> None:
    code = "import sys, cdk.environments as e; e.load('dev'); assert 'aws_cdk' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
