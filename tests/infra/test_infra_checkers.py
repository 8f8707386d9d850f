"""cdk-nag and cfn-lint find nothing that is not acknowledged, and nothing is acknowledged in vain."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cdk.environments import ENVIRONMENTS
from tests.infra.synthesis import Environment, synthesise

if TYPE_CHECKING:
    from aws_cdk import App

LINT_ACCEPTED = {
    "W3005": "the CDK writes dependencies down that a reference implies already",
}


def findings(app: App) -> set[tuple[str, str]]:
    """Rule and construct path of all findings of the packs."""
    from cdk.build import PACKS

    return {
        (violation.rule_name, resource.construct_path)
        for pack in PACKS
        for violation in pack(app).validate_scope(app).violations
        for resource in violation.violating_resources
    }


def acknowledged(app: App) -> dict[tuple[str, str], str]:
    """Reason of every acknowledgement of ours, by rule and construct path."""
    from aws_cdk import Validations

    key = Validations.ACKNOWLEDGED_RULES_METADATA_KEY
    found: dict[tuple[str, str], str] = {}
    for construct in app.node.find_all():
        for entry in construct.node.metadata:
            if entry.type == key:
                for rule, reason in dict(entry.data).items():
                    # The CDK acknowledges findings of its own validator on its own constructs, too.
                    if not rule.startswith("CloudFormation-Validate::"):
                        found[rule.removeprefix("Annotation::"), construct.node.path] = reason
    return found


@pytest.fixture(scope="session")
def unacknowledged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[tuple[str, str]]]:
    """Findings of each environment without its acknowledgements."""
    from cdk.constructs.house import ACKNOWLEDGE

    context: dict[str, Any] = {ACKNOWLEDGE: False}
    return {
        name: findings(synthesise(name, tmp_path_factory.mktemp(name), **context).app)
        for name in ENVIRONMENTS
    }


def test_nag_finds_nothing(environment: Environment) -> None:
    assert findings(environment.app) == set()


def test_nag_would_find_something(unacknowledged: dict[str, set[tuple[str, str]]]) -> None:
    assert all(unacknowledged.values())


def test_every_acknowledgement_is_needed_and_says_why(
    environment: Environment, unacknowledged: dict[str, set[tuple[str, str]]]
) -> None:
    accepted = acknowledged(environment.app)
    assert accepted
    found = unacknowledged[environment.name]
    unused = [
        (rule, path)
        for rule, path in accepted
        if not any(r == rule and (p == path or p.startswith(f"{path}/")) for r, p in found)
    ]
    assert unused == []
    assert all(len(reason) > 20 for reason in accepted.values())


def test_no_acknowledgement_covers_a_whole_stack(environment: Environment) -> None:
    tops = {*environment.templates, ""}
    assert {path for _, path in acknowledged(environment.app)} & tops == set()


@pytest.fixture(scope="session")
def linted(
    environments: dict[str, Environment], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, set[str]]:
    """Rules broken by each template, and by one that asks for a database engine of the past."""
    properties = {"Engine": "aurora-postgresql", "EngineVersion": "15.4", "StorageEncrypted": True}
    policies = {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}
    cluster = {"Type": "AWS::RDS::DBCluster", "Properties": properties} | policies
    control = tmp_path_factory.mktemp("lint") / "control.template.json"
    control.write_text(json.dumps({"Resources": {"Dead": cluster}}), encoding="utf-8")
    paths = [control, *(p for e in environments.values() for p in sorted(e.outdir.glob("*.template.json")))]
    command = [str(Path(sys.executable).parent / "cfn-lint"), "--format", "json", "--", *map(str, paths)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    broken: dict[str, set[str]] = {path.name: set() for path in paths}
    for match in json.loads(run.stdout):
        broken[Path(match["Filename"]).name].add(match["Rule"]["Id"])
    return broken


def test_lint_finds_nothing(linted: dict[str, set[str]]) -> None:
    found = {name: rules for name, rules in linted.items() if not name.startswith("control")}
    assert {f"{s}.template.json" for s in ("qis-local", "qis-dev-data", "qis-prod-data")} <= set(found)
    broken = set().union(*found.values())
    assert broken - set(LINT_ACCEPTED) == set()
    assert set(LINT_ACCEPTED) - broken == set(), "accepted and not found"


def test_lint_would_find_a_dead_engine(linted: dict[str, set[str]]) -> None:
    assert "W3690" in linted["control.template.json"]


@pytest.mark.slow
def test_the_app_passes_every_check_of_the_cdk_itself(
    tmp_path: Path, environments: dict[str, Environment]
) -> None:
    """The command of `make synth`, with the CDK's own validator on."""
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run(
        [sys.executable, "app.py", "--env", "dev", "--code", "stub"],
        cwd=root,
        env={"PATH": "", "HOME": str(tmp_path), "CDK_OUTDIR": str(tmp_path / "out")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == str(tmp_path / "out")
    other = environments["dev"].outdir
    written = {p.name for p in (tmp_path / "out").glob("*.json")} - {"manifest.json"}
    assert {"qis-dev-service.template.json", "qis-dev-data.metadata.json"} <= written
    for name in written & {p.name for p in other.iterdir()}:  # by another process: still the same bytes
        assert (tmp_path / "out" / name).read_bytes() == (other / name).read_bytes(), name
