"""What guards, watches, restores and pays, held against the settings of each environment."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cdk.environments import ENVIRONMENTS, load
from tests.infra.synthesis import Environment
from tests.infra.walk import flat, text

WITH = {
    part: sorted(name for name in ENVIRONMENTS if getattr(load(name), part))
    for part in ("cluster", "edge", "recovery", "observability", "cost")
}


def only(environment: Environment, type_: str) -> dict[str, Any]:
    """Properties of the one resource of ``type_``."""
    ((_, resource),) = environment.of_type(type_)
    properties: dict[str, Any] = resource["Properties"]
    return properties


@pytest.mark.parametrize("name", WITH["cluster"])
def test_the_cluster_is_private_encrypted_logged_and_not_left_to_age(
    name: str, environments: dict[str, Environment]
) -> None:
    cluster = only(environments[name], "AWS::EKS::Cluster")
    settings = load(name).cluster
    assert settings is not None
    assert cluster["Version"] == settings.version
    assert cluster["ResourcesVpcConfig"]["EndpointPrivateAccess"] is True
    assert cluster["UpgradePolicy"] == {"SupportType": "STANDARD"}
    assert cluster["EncryptionConfig"][0]["Resources"] == ["secrets"]
    assert len(cluster["Logging"]["ClusterLogging"]["EnabledTypes"]) == 5
    machine = only(environments[name], "AWS::EC2::LaunchTemplate")["LaunchTemplateData"]
    assert machine["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True
    assert machine["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
    groups = {
        p["Properties"]["NodegroupName"].rpartition("-")[2]: p["Properties"]
        for _, p in environments[name].of_type("AWS::EKS::Nodegroup")
    }
    assert set(groups) == set(settings.nodes)
    for of, group in settings.nodes.items():
        scaling = groups[of]["ScalingConfig"]
        assert (scaling["MinSize"], scaling["DesiredSize"]) == (group.smallest, group.desired)
        assert (groups[of]["CapacityType"] == "SPOT") == group.spot
        assert "LaunchTemplate" in groups[of]


@pytest.mark.parametrize("name", WITH["cluster"])
def test_network_policies_are_enforced_and_pods_have_no_rights_of_their_node(
    name: str, environments: dict[str, Environment]
) -> None:
    addons = {
        p["Properties"]["AddonName"]: p["Properties"]
        for _, p in environments[name].of_type("AWS::EKS::Addon")
    }
    assert json.loads(addons["vpc-cni"]["ConfigurationValues"]) == {"enableNetworkPolicy": "true"}
    assert {"eks-pod-identity-agent", "metrics-server"} <= set(addons)
    for _, association in environments[name].of_type("AWS::EKS::PodIdentityAssociation"):
        assert "Role" in text(association["Properties"]["RoleArn"])


@pytest.mark.parametrize("name", WITH["edge"])
def test_the_front_door_counts_by_address_and_buys_what_was_asked_for(
    name: str, environments: dict[str, Environment]
) -> None:
    edge = load(name).edge
    assert edge is not None
    acls = {
        r["Properties"]["Scope"]: r["Properties"] for _, r in environments[name].of_type("AWS::WAFv2::WebACL")
    }
    rate, *managed = sorted(acls["CLOUDFRONT"]["Rules"], key=lambda rule: rule["Priority"])
    assert rate["Statement"]["RateBasedStatement"]["Limit"] == edge.requests_per_address
    blocked = rate["Action"]["Block"]["CustomResponse"]
    assert blocked["ResponseCode"] == 429
    assert blocked["ResponseHeaders"][0]["Name"] == "Retry-After"
    assert len(managed) == 4
    assert bool(list(environments[name].of_type("AWS::Shield::Protection"))) == edge.shield
    balancers = list(environments[name].of_type("AWS::ElasticLoadBalancingV2::LoadBalancer"))
    assert bool(balancers) == edge.load_balancer
    for _, listener in environments[name].of_type("AWS::ElasticLoadBalancingV2::Listener"):
        assert listener["Properties"]["Protocol"] == "HTTPS"
        assert "TLS13-1-3" in listener["Properties"]["SslPolicy"]


@pytest.mark.parametrize("name", WITH["recovery"])
def test_backups_are_locked_kept_copied_and_tried(name: str, environments: dict[str, Environment]) -> None:
    settings = load(name)
    recovery = settings.recovery
    assert recovery is not None
    vault = only(environments[name], "AWS::Backup::BackupVault")
    assert vault["LockConfiguration"] == {"MinRetentionDays": recovery.vault_lock_days}
    (rule,) = only(environments[name], "AWS::Backup::BackupPlan")["BackupPlan"]["BackupPlanRule"]
    assert rule["Lifecycle"] == {"DeleteAfterDays": recovery.daily_days}
    assert recovery.daily_days >= recovery.vault_lock_days, "AWS Backup would refuse every recovery point"
    copies = rule.get("CopyActions", [])
    assert bool(copies) == bool(settings.copies_to)
    for copy in copies:
        assert settings.copies_to is not None
        peer = load(settings.copies_to.environment)
        theirs = only(environments[peer.name], "AWS::Backup::BackupVault")["BackupVaultName"]
        assert flat(copy["DestinationBackupVaultArn"]).endswith(f":backup-vault:{theirs}")
        assert f":{peer.region}:" in flat(copy["DestinationBackupVaultArn"])
    tests = list(environments[name].of_type("AWS::Backup::RestoreTestingSelection"))
    assert bool(tests) == recovery.restore_tests
    for _, test in tests:
        given = test["Properties"]["RestoreMetadataOverrides"]
        # What AWS Backup would take otherwise is the account's default network and key.
        assert given.keys() == {
            "dbSubnetGroupName",
            "vpcSecurityGroupIds",
            "enableIamDatabaseAuthentication",
            "kmsKeyId",
        }
        subnets = [i for i, _ in environments[name].of_type("AWS::RDS::DBSubnetGroup")]
        assert any(i in text(given["dbSubnetGroupName"]) for i in subnets)
        (group,) = (
            group["Properties"]
            for i, group in environments[name].of_type("AWS::EC2::SecurityGroup")
            if i in text(given["vpcSecurityGroupIds"])
        )
        assert "SecurityGroupIngress" not in group
        assert [rule["CidrIp"] for rule in group["SecurityGroupEgress"]] == ["255.255.255.255/32"]


@pytest.mark.parametrize("name", WITH["cost"])
def test_the_budget_and_its_alerts_are_those_of_the_settings(
    name: str, environments: dict[str, Environment]
) -> None:
    cost = load(name).cost
    assert cost is not None
    budget = only(environments[name], "AWS::Budgets::Budget")
    assert budget["Budget"]["BudgetLimit"] == {"Amount": cost.monthly_usd, "Unit": "USD"}
    assert budget["Budget"]["CostFilters"] == {"TagKeyValue": [f"user:qis:environment${name}"]}
    told = {
        (n["Notification"]["NotificationType"], n["Notification"]["Threshold"])
        for n in budget["NotificationsWithSubscribers"]
    }
    assert told == {("ACTUAL", 80), ("FORECASTED", 100)}
    threshold = json.loads(only(environments[name], "AWS::CE::AnomalySubscription")["ThresholdExpression"])
    assert threshold["Dimensions"]["Values"] == [str(cost.anomaly_usd)]


@pytest.mark.parametrize("name", WITH["observability"])
def test_the_error_budget_calls_only_when_both_windows_burn(
    name: str, environments: dict[str, Environment]
) -> None:
    alarms = {
        r["Properties"]["AlarmName"].partition("burn-")[2]: (i, r["Properties"])
        for i, r in environments[name].of_type("AWS::CloudWatch::Alarm")
        if "burn-" in str(r["Properties"]["AlarmName"])
    }
    assert {n: p["Threshold"] for n, (_, p) in alarms.items()} == {
        "fast-long": pytest.approx(0.0144),
        "fast-short": pytest.approx(0.0144),
        "slow-long": pytest.approx(0.006),
        "slow-short": pytest.approx(0.006),
    }
    assert all("AlarmActions" not in p for _, p in alarms.values())
    for _, composite in environments[name].of_type("AWS::CloudWatch::CompositeAlarm"):
        rule = flat(composite["Properties"]["AlarmRule"])
        assert rule.count("ALARM(") == 2
        assert " AND " in rule
        assert composite["Properties"]["AlarmActions"]


@pytest.mark.parametrize("name", WITH["observability"])
def test_traces_are_sampled_as_asked_for(name: str, environments: dict[str, Environment]) -> None:
    observability = load(name).observability
    assert observability is not None
    rates = {
        flat(r["Properties"]["SamplingRule"]["RuleName"]).rpartition("-")[2]: r["Properties"]["SamplingRule"][
            "FixedRate"
        ]
        for _, r in environments[name].of_type("AWS::XRay::SamplingRule")
    }
    assert rates == {"ingest": observability.trace_share, "query": observability.trace_share / 2}
