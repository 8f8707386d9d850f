"""Nothing is built on a version or a service that AWS has ended."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.infra.synthesis import Environment
from tests.infra.versions import dead, unversioned

CLOSED_TO_NEW_ACCOUNTS = {
    "prod-reference": frozenset({"AWS::Timestream::Database", "AWS::Timestream::Table"}),
}
"""For accounts that had it before; the reference environment follows the deployment document's letter."""


def test_everything_can_still_be_made(environment: Environment) -> None:
    accepted = CLOSED_TO_NEW_ACCOUNTS.get(environment.name, frozenset())
    for name, template in environment.templates.items():
        assert list(dead(template, accepted=accepted)) == [], name


def test_versions_are_chosen_by_us(environment: Environment) -> None:
    for name, template in environment.templates.items():
        # A cluster that joins a global one has its version from there.
        assert [f for f in unversioned(template) if f[1] != "EngineVersion" or "Global" in f[0]] == [], name


@pytest.mark.parametrize(
    ("type_", "properties"),
    [
        ("AWS::EKS::Cluster", {"Version": "1.28"}),
        ("AWS::EKS::Nodegroup", {"AmiType": "AL2_x86_64"}),
        ("AWS::MSK::Cluster", {"KafkaVersion": "2.8.1"}),
        ("AWS::Lambda::Function", {"Runtime": "python3.9"}),
        ("AWS::Lambda::Function", {"Runtime": "nodejs20.x"}),
        ("AWS::RDS::DBCluster", {"EngineVersion": "15.4"}),
        ("AWS::DocDB::DBCluster", {"EngineVersion": "4.0.0"}),
        ("AWS::ElastiCache::ReplicationGroup", {"Engine": "redis", "EngineVersion": "8.0"}),
        ("AWS::KinesisAnalytics::Application", {}),
        ("AWS::KinesisAnalyticsV2::Application", {"RuntimeEnvironment": "SQL-1_0"}),
        ("AWS::Timestream::Database", {}),
        ("AWS::Synthetics::Canary", {"RuntimeVersion": "syn-python-selenium-1.0"}),
    ],
)
def test_what_has_ended_is_found(type_: str, properties: dict[str, Any]) -> None:
    assert [i for i, _ in dead({"Resources": {"Old": {"Type": type_, "Properties": properties}}})] == ["Old"]


def test_a_version_left_to_aws_is_found(dev: Environment) -> None:
    template = copy.deepcopy(dev.templates["qis-dev-service"])
    function = next(i for i, r in template["Resources"].items() if r["Type"] == "AWS::Lambda::Function")
    del template["Resources"][function]["Properties"]["Runtime"]
    assert list(unversioned(template)) == [(function, "Runtime")]
