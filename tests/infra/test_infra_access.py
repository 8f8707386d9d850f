"""Who may do what, and what can be reached from outside: every statement and every opening is looked at."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.infra.synthesis import Environment
from tests.infra.walk import as_list, flat, open_to_the_world, statements

ANY_ACTION: dict[tuple[str, str], str] = {
    ("AWS::KMS::Key", "kms:*"): "without the account in its policy a key could never be managed again",
    ("AWS::KMS::ReplicaKey", "kms:*"): "without the account in its policy a key could never be managed again",
}
"""Allowed actions with a wildcard, by type of what holds the policy."""

ANY_RESOURCE: dict[str, str] = {
    "cloudwatch:DescribeAlarms": "CloudWatch has no resource for describing alarms",
    "cloudwatch:PutMetricData": "CloudWatch has no resource for it; the canary's namespace is a condition",
    "ec2:CreateNetworkInterface": "Lambda names the interfaces of a function itself",
    "ec2:DeleteNetworkInterface": "Lambda names the interfaces of a function itself",
    "ec2:DescribeNetworkInterfaces": "EC2 has no resource for describing",
    "ec2:DescribeSubnets": "EC2 has no resource for describing",
    "secretsmanager:GetRandomPassword": "it gives random bytes and has no resource",
    "xray:PutTelemetryRecords": "X-Ray has no resources",
    "xray:PutTraceSegments": "X-Ray has no resources",
}
"""Actions that roles may do on any resource."""

_COPIED = "S3 copies every object of one bucket to one other"
SOME_RESOURCES: dict[str, str] = {
    "es:ESHttpDelete": "paths inside one domain, for its administrator",
    "es:ESHttpGet": "paths inside one domain, for its administrator",
    "es:ESHttpPost": "paths inside one domain, for its administrator",
    "es:ESHttpPut": "paths inside one domain, for its administrator",
    "execute-api:ManageConnections": "connections of one API, opened after the policy was written",
    "kms:Encrypt": "the key of the second region, known by the alias that the condition asks for",
    "s3:AbortMultipartUpload": "an export, a delivery or an answer has no name before it is written",
    "s3:GetObject": "people read the lake, object by object; Firehose its own folder of it",
    "s3:GetObjectLegalHold": _COPIED,
    "s3:GetObjectRetention": _COPIED,
    "s3:GetObjectVersionAcl": _COPIED,
    "s3:GetObjectVersionForReplication": _COPIED,
    "s3:GetObjectVersionTagging": _COPIED,
    "s3:ListMultipartUploadParts": "Athena names the files of answers",
    "s3:ReplicateDelete": _COPIED,
    "s3:ReplicateObject": _COPIED,
    "s3:ReplicateTags": _COPIED,
    "lambda:InvokeFunction": "versions of one function, invoked by the deployment",
    "logs:CreateLogGroup": "Synthetics adds an id to the name of its log group",
    "logs:CreateLogStream": "Synthetics adds an id to the name of its log group",
    "logs:PutLogEvents": "Synthetics adds an id to the name of its log group",
    "s3:PutObject": "an object has no name before it is written",
}
"""Actions that roles may do on resources whose names are not known before, within one that is named."""

ITSELF = frozenset({"AWS::KMS::Key", "AWS::KMS::ReplicaKey"})
"""In the policy of such a resource ``*`` means the resource itself."""

ANY_ACCOUNT: dict[tuple[str, str], str] = {
    ("delivery.logs.amazonaws.com", "s3:GetBucketAcl"): "asked before logs are delivered; tells nothing",
}
"""What services may do here without a condition on the account that they act for."""

AWS_MANAGED: dict[str, str] = {
    "AWSBackupServiceRolePolicyForBackup": "published by AWS for this one purpose",
    "AWSBackupServiceRolePolicyForRestores": "published by AWS for this one purpose",
    "AWSLambdaBasicExecutionRole": "function of the CDK that runs the migration, writes its log",
    "AmazonAPIGatewayPushToCloudWatchLogs": "published by AWS for this one purpose",
    "AmazonEC2ContainerRegistryPullOnly": "published by AWS for this one purpose",
    "AmazonEKSClusterPolicy": "published by AWS for this one purpose",
    "AmazonEKSFargatePodExecutionRolePolicy": "published by AWS for this one purpose",
    "AmazonEKSWorkerNodePolicy": "published by AWS for this one purpose",
    "AmazonEKS_CNI_Policy": "published by AWS for this one purpose",
    "AmazonRDSEnhancedMonitoringRole": "published by AWS for this one purpose",
}

Templates = list[tuple[str, dict[str, Any]]]


@pytest.fixture(scope="session")
def templates(environments: dict[str, Environment]) -> Templates:
    """Every template of every environment with its name."""
    return [(name, t) for e in environments.values() for name, t in e.templates.items()]


def any_action(template: dict[str, Any]) -> set[tuple[str, str]]:
    """Allowed actions with a wildcard."""
    return {
        (s.type, action)
        for s in statements(template)
        if s.effect == "Allow"
        for action in s.actions
        if "*" in action
    }


def any_resource(template: dict[str, Any]) -> tuple[set[str], set[str]]:
    """Actions allowed on any resource, and on resources named in part."""
    whole: set[str] = set()
    partly: set[str] = set()
    for s in statements(template):
        if s.effect != "Allow" or s.kind == "trust" or s.type in ITSELF:
            continue
        names = [flat(resource) for resource in s.resources]
        if "*" in names:
            whole |= set(s.actions)
        elif any("*" in name for name in names):
            partly |= set(s.actions)
    return whole, partly


def test_no_policy_allows_any_action_but_the_listed(templates: Templates) -> None:
    found = set().union(*(any_action(t) for _, t in templates))
    assert found - set(ANY_ACTION) == set()
    assert set(ANY_ACTION) - found == set(), "listed and not used"


def test_no_policy_allows_any_resource_but_for_the_listed_actions(templates: Templates) -> None:
    whole = {action for _, t in templates for action in any_resource(t)[0]}
    partly = {action for _, t in templates for action in any_resource(t)[1]}
    assert whole - set(ANY_RESOURCE) == set()
    assert partly - set(SOME_RESOURCES) == set()
    assert set(ANY_RESOURCE) - whole == set(), "listed and not used"
    assert set(SOME_RESOURCES) - partly == set(), "listed and not used"


def test_policies_of_aws_are_the_listed_ones(templates: Templates) -> None:
    used = {
        flat(policy).rpartition("/")[2]
        for _, t in templates
        for r in t["Resources"].values()
        for policy in (r.get("Properties") or {}).get("ManagedPolicyArns", [])
        if ":aws:policy/" in flat(policy)
    }
    assert used == set(AWS_MANAGED)


def test_a_service_that_may_use_a_resource_is_held_to_our_account(templates: Templates) -> None:
    """Without a condition any account could make the service act here (the confused deputy)."""
    found = {
        (service, action)
        for _, template in templates
        for s in statements(template)
        if s.kind == "resource" and s.effect == "Allow" and not s.condition
        for service in as_list(
            s.principal["Service"] if isinstance(s.principal, dict) and "Service" in s.principal else None
        )
        for action in s.actions
    }
    assert found == set(ANY_ACCOUNT)


def test_nothing_is_public_but_the_entrances(templates: Templates) -> None:
    assert [(name, *found) for name, t in templates for found in open_to_the_world(t)] == []


def test_every_list_says_why() -> None:
    for reasons in (ANY_ACTION, ANY_RESOURCE, SOME_RESOURCES, AWS_MANAGED):
        assert all(len(reason) > 15 for reason in reasons.values())


CLOSED = {
    "BlockPublicAcls": True,
    "BlockPublicPolicy": True,
    "IgnorePublicAcls": True,
    "RestrictPublicBuckets": True,
}
PLANTED: list[tuple[str, dict[str, Any]]] = [
    (
        "AWS::EC2::SecurityGroup",
        {"SecurityGroupIngress": [{"CidrIp": "0.0.0.0/0", "IpProtocol": "tcp", "FromPort": 5432}]},
    ),
    ("AWS::EC2::SecurityGroupIngress", {"CidrIpv6": "::/0", "IpProtocol": "-1"}),
    ("AWS::S3::Bucket", {}),
    ("AWS::S3::Bucket", {"PublicAccessBlockConfiguration": CLOSED | {"BlockPublicAcls": False}}),
    ("AWS::S3::Bucket", {"PublicAccessBlockConfiguration": CLOSED, "WebsiteConfiguration": {}}),
    ("AWS::EC2::Subnet", {"MapPublicIpOnLaunch": True}),
    ("AWS::RDS::DBInstance", {"PubliclyAccessible": True}),
    ("AWS::Lambda::Url", {"AuthType": "NONE"}),
    ("AWS::Lambda::Permission", {"Principal": "*"}),
    ("AWS::ElasticLoadBalancingV2::LoadBalancer", {}),
    ("AWS::ElasticLoadBalancingV2::LoadBalancer", {"Scheme": "internet-facing"}),
    ("AWS::EKS::Cluster", {"ResourcesVpcConfig": {"EndpointPrivateAccess": True}}),
    ("AWS::OpenSearchService::Domain", {}),
    (
        "AWS::MSK::Cluster",
        {
            "BrokerNodeGroupInfo": {
                "ConnectivityInfo": {"PublicAccess": {"Type": "SERVICE_PROVIDED_EIPS"}},
            }
        },
    ),
    (
        "AWS::SQS::QueuePolicy",
        {"PolicyDocument": {"Statement": {"Effect": "Allow", "Action": "sqs:SendMessage", "Principal": "*"}}},
    ),
    (
        "AWS::IAM::Role",
        {
            "AssumeRolePolicyDocument": {
                "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": ["*"]}}]
            }
        },
    ),
]


@pytest.mark.parametrize(("type_", "properties"), PLANTED)
def test_the_walk_finds_what_is_planted(type_: str, properties: dict[str, Any]) -> None:
    template = {"Resources": {"Planted": {"Type": type_, "Properties": properties}}}
    assert [logical_id for logical_id, _ in open_to_the_world(template)] == ["Planted"]


@pytest.mark.parametrize("action", ["s3:*", "*", "kinesis:Get*"])
def test_the_walk_finds_a_planted_wildcard(dev: Environment, action: str) -> None:
    template = copy.deepcopy(dev.templates["qis-dev-service"])
    policy = next(r for r in template["Resources"].values() if r["Type"] == "AWS::IAM::ManagedPolicy")
    policy["Properties"]["PolicyDocument"]["Statement"].append(
        {"Effect": "Allow", "NotAction": action, "Resource": {"Fn::Join": ["", ["*"]]}}
    )
    assert ("AWS::IAM::ManagedPolicy", action) in any_action(template)
    assert action in any_resource(template)[0]
