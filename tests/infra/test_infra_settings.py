"""Settings are refused before any construct exists, with the field and the reason."""

from __future__ import annotations

import subprocess
import sys
from math import ceil, log2
from typing import Any

import pytest
from pydantic import ValidationError

import app
from cdk.environments import ENVIRONMENTS, UnknownEnvironmentError, load
from cdk.environments.settings import Settings
from qis.adapters.postgres.connection import STREAM_PATIENCE


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
        ("prod", "database.writer", ..., "database.writer\n  Field required"),
        ("staging", "database.serverless.min_acu", 0.0, "0 lets the cluster pause, .* never does with proxy"),
        ("dr", "database.serverless.min_acu", 0.0, "never does with global_database"),
        ("staging", "database.serverless", None, "serverless: say what"),
        ("prod", "database.serverless", {"min_acu": 0.5, "max_acu": 1.0}, "and there is none"),
        ("prod", "copies_to", None, "database.global_database: copies_to or copy_of says"),
        ("prod", "copies_to.region", "us-east-1", "in the same region is lost with it"),
        ("dr", "database.global_database", False, "a copy follows the other region's database"),
        ("dev", "active", False, "active: only the copy of another region may wait"),
        ("dev", "network.endpoints", ("sqs", "sqs"), "endpoints: one is named twice"),
        ("dev", "functions.query.snap_start", True, "functions.query: warm starts are of versions"),
        ("prod", "functions.query.provisioned_concurrency", 5, "does not combine it with snap_start"),
        ("prod", "functions.relay.provisioned_concurrency", 3, "above reserved_concurrency"),
        ("prod", "account_concurrency", 1000, "functions: reserve a concurrency of 1443 together"),
        (
            "prod",
            "event_sources.publish.parallelization",
            4,
            "80 batches at once, more than functions.publish",
        ),
        ("staging", "api.plans.standard.burst", 501, "plans.standard: asks for more than the API"),
        ("prod", "caches.hot", ..., "caches: the one that reading goes through is `hot`"),
        ("staging", "lake", None, "identity.sign_in_urls: people read the lake"),
        ("dev", "lake.glacier_after_days", 59, "greater than or equal to 60"),
        ("dev", "lake.infrequent_after_days", 61, "Standard-IA is billed for 30 days"),
        ("prod", "lake.deep_archive_after_days", 2600, "before the lock ends, or it saves nothing"),
        ("prod-reference", "documents.engine_version", "4.0.0", "Input should be '5.0.0'"),
        ("prod-reference", "kafka.version", "2.8.1", "Input should be '3.9.x.kraft' or '4.0.x.kraft'"),
        ("prod-reference", "kafka.brokers", 4, "kafka.brokers: must be a multiple of the 3 zones"),
        ("prod-reference", "search.nodes", 4, "search.nodes: must be one, or a multiple"),
        ("prod-reference", "search.engine_version", "1.3", "Input should be '2.19' or '3.1'"),
        ("prod-reference", "cluster.version", "1.28", "Input should be '1.35' or '1.36'"),
        (
            "prod-reference",
            "time_series",
            {"store": "liveanalytics", "account_has_it": False, "memory_hours": 24}
            | {"official_values_days": 365, "quality_metrics_days": 1},
            r"account_has_it\n  Input should be True(.|\n)*official_values_days\n  .*or equal to 2555",
        ),
    ],
)
def test_a_wrong_setting_is_refused_by_name(name: str, path: str, value: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Settings.model_validate(changed(name, path, value))


@pytest.mark.parametrize("name", sorted(ENVIRONMENTS))
@pytest.mark.parametrize("function", ["ingest", "reconcile", "quality"])
def test_a_database_may_be_away_for_ten_minutes_before_a_record_is_given_up(name: str, function: str) -> None:
    """A batch that fails is halved down to one record, which is then tried so often; each attempt waits."""
    settings = load(name)
    source, size = settings.event_sources[function], settings.functions[function]
    attempts = ceil(log2(source.batch_size)) + 1 + source.retry_attempts
    assert attempts * STREAM_PATIENCE >= 600
    assert size.timeout_seconds >= STREAM_PATIENCE + 10, "the wait ends before the function does"


@pytest.mark.parametrize("name", ["prod", "prod-reference", "dr"])
@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("retain_data", False, "never deleted"),
        ("termination_protection", False, "termination_protection: required in production"),
        ("database.deletion_protection", False, "database.deletion_protection: required in production"),
        ("database.backup_retention_days", 34, "production can go back 35 days"),
        ("objectives.rpo_minutes", 6, "critical tier"),
        ("objectives", None, "required outside the local twin"),
        ("lake.lock_days", 2554, "audit records are kept 2555 days"),
        ("network.availability_zones", 2, "production needs 3|more gateways than"),
        ("caches.hot.nodes", 1, "takes over in production"),
    ],
)
def test_production_cannot_give_up_its_data(name: str, path: str, value: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Settings.model_validate(changed(name, path, value))


def test_documents_of_production_are_protected_too() -> None:
    with pytest.raises(ValidationError, match=r"documents\.deletion_protection: required in production"):
        Settings.model_validate(changed("prod-reference", "documents.deletion_protection", False))


def test_a_changed_copy_is_checked_again() -> None:
    settings = load("dev")
    wrong = settings.functions["query"].model_copy(update={"memory_mb": 1})
    with pytest.raises(ValidationError, match="memory_mb"):
        Settings.model_validate(dict(settings) | {"functions": settings.functions | {"query": wrong}})


def test_settings_are_read_without_the_infrastructure_packages() -> None:
    code = "import sys, cdk.environments as e; e.load('dev'); assert 'aws_cdk' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
