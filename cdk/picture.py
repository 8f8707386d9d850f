"""The architecture of an environment as a picture, drawn from its templates.

``python -m cdk.pages`` writes it anew; a test checks that it is current. Boxes are the parts that a reader
knows by name; an arrow is drawn only where the templates have it: an event source, a rule and its target,
a route of the API, what a role may do, an origin of CloudFront.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

Templates = Mapping[str, Mapping[str, Any]]
End = Callable[[str, Mapping[str, Any]], Any]

GROUPS: dict[str, tuple[str, ...]] = {
    "Edge": (
        "AWS::CloudFront::Distribution",
        "AWS::WAFv2::WebACL",
        "AWS::Shield::Protection",
        "AWS::Route53::HealthCheck",
        "AWS::ElasticLoadBalancingV2::LoadBalancer",
    ),
    "API": ("AWS::ApiGateway::RestApi", "AWS::ApiGatewayV2::Api", "AWS::Cognito::UserPool"),
    "Functions": ("AWS::Lambda::Function",),
    "Cluster": ("AWS::EKS::Cluster", "AWS::EKS::Nodegroup", "AWS::EKS::FargateProfile"),
    "Streams and queues": (
        "AWS::Kinesis::Stream",
        "AWS::MSK::Cluster",
        "AWS::Events::EventBus",
        "AWS::SQS::Queue",
        "AWS::KinesisFirehose::DeliveryStream",
    ),
    "Data": (
        "AWS::RDS::DBCluster",
        "AWS::RDS::DBProxy",
        "AWS::RDS::GlobalCluster",
        "AWS::DocDB::DBCluster",
        "AWS::Timestream::InfluxDBInstance",
        "AWS::ElastiCache::ReplicationGroup",
        "AWS::OpenSearchService::Domain",
        "AWS::EFS::FileSystem",
        "AWS::S3::Bucket",
        "AWS::Athena::WorkGroup",
    ),
    "Watching and restoring": (
        "AWS::Backup::BackupVault",
        "AWS::Synthetics::Canary",
        "AWS::Budgets::Budget",
        "AWS::CloudWatch::Dashboard",
    ),
}
"""What is drawn, by where."""

_NAMES = (
    "FunctionName",
    "Name",
    "QueueName",
    "BucketName",
    "DBClusterIdentifier",
    "DBProxyName",
    "ReplicationGroupId",
    "NodegroupName",
    "BackupVaultName",
    "DashboardName",
    "DomainName",
    "ClusterName",
    "GlobalClusterIdentifier",
    "FargateProfileName",
    "UserPoolName",
    "DeliveryStreamName",
)
_USES = {
    "kinesis:PutRecords": "puts",
    "events:PutEvents": "publishes",
    "s3:PutObject": "writes",
    "rds-db:connect": "signs in",
    "execute-api:ManageConnections": "pushes",
}
"""Rights of functions that are arrows to what they name."""


def mermaid(templates: Templates, stem: str) -> str:
    """The picture as Mermaid text."""
    resources = {i: r for t in templates.values() for i, r in t["Resources"].items()}
    lines = ["flowchart LR"]
    known: set[str] = set()
    for group, types in GROUPS.items():
        members = sorted(
            (i, _label(i, r, stem)) for i, r in resources.items() if r["Type"] in types and _ours(r)
        )
        if members:
            lines.append(f'  subgraph {re.sub("[^A-Za-z]", "", group)}["{group}"]')
            lines += [f'    {i}["{label}"]' for i, label in members]
            lines.append("  end")
            known |= {i for i, _ in members}
    arrows = {(a, b, what) for a, b, what in _arrows(resources) if {a, b} <= known and a != b}
    lines += [f"  {a} -->|{what}| {b}" for a, b, what in sorted(arrows)]
    return "\n".join(lines) + "\n"


def _ours(resource: Mapping[str, Any]) -> bool:
    """Functions that the CDK adds for a deployment are not part of the architecture."""
    if resource["Type"] != "AWS::Lambda::Function":
        return True
    return str(resource["Properties"].get("Handler", "")).startswith("lambdas.")


def _label(logical_id: str, resource: Mapping[str, Any], stem: str) -> str:
    service = resource["Type"].split("::")[1:]
    properties = resource.get("Properties", {})
    name = next((_literal(properties[key]) for key in _NAMES if key in properties), "")
    name = name.removeprefix(f"{stem}-").removeprefix("aws-waf-logs-").strip("-")
    return f"{' '.join(service)}<br/>{name or logical_id[:24]}"


def _literal(value: Any) -> str:
    """The fixed part of a name."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and "Fn::Join" in value:
        return "".join(part for part in value["Fn::Join"][1] if isinstance(part, str))
    return ""


def _arrows(resources: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    ids = sorted(resources, key=len, reverse=True)

    def named(value: Any) -> Iterator[str]:
        """Logical ids in ``value``, whichever stack they are of; for an alias its function."""
        text = str(value)
        for logical_id in ids:
            if logical_id in text:
                resource = resources[logical_id]
                if resource["Type"] == "AWS::Lambda::Alias":
                    yield from named(resource["Properties"]["FunctionName"])
                else:
                    yield logical_id
                text = text.replace(logical_id, "")

    for logical_id, resource in resources.items():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::IAM::ManagedPolicy":
            yield from _rights(resources, properties, named)
        for of, ends in _ENDS.get(resource["Type"], ()):
            source, target = (set(named(end(logical_id, properties))) for end in ends)
            yield from _product(source, target, of)


_ENDS: dict[str, tuple[tuple[str, tuple[End, End]], ...]] = {
    "AWS::Lambda::EventSourceMapping": (
        ("feeds", (lambda _, p: p["EventSourceArn"], lambda _, p: p["FunctionName"])),
        ("failed", (lambda _, p: p["FunctionName"], lambda _, p: p.get("DestinationConfig"))),
    ),
    "AWS::Events::Rule": (
        ("rule", (lambda _, p: p.get("EventBusName"), lambda _, p: [t["Arn"] for t in p["Targets"]])),
    ),
    "AWS::KinesisFirehose::DeliveryStream": (
        ("feeds", (lambda _, p: p.get("KinesisStreamSourceConfiguration"), lambda i, _: i)),
        ("writes", (lambda i, _: i, lambda _, p: p["ExtendedS3DestinationConfiguration"]["BucketARN"])),
    ),
    "AWS::Athena::WorkGroup": (
        ("answers", (lambda i, _: i, lambda _, p: p["WorkGroupConfiguration"]["ResultConfiguration"])),
    ),
    "AWS::ApiGateway::RestApi": (("routes", (lambda i, _: i, lambda _, p: p.get("Body"))),),
    "AWS::ApiGatewayV2::Integration": (
        ("routes", (lambda _, p: p["ApiId"], lambda _, p: p["IntegrationUri"])),
    ),
    "AWS::CloudFront::Distribution": (
        ("origin", (lambda i, _: i, lambda _, p: p["DistributionConfig"]["Origins"])),
        ("guards", (lambda _, p: p["DistributionConfig"].get("WebACLId"), lambda i, _: i)),
    ),
    "AWS::WAFv2::WebACLAssociation": (
        ("guards", (lambda _, p: p["WebACLArn"], lambda _, p: p["ResourceArn"])),
    ),
    "AWS::RDS::DBProxyTargetGroup": (
        ("shares", (lambda _, p: p["DBProxyName"], lambda _, p: p["DBClusterIdentifiers"])),
    ),
}
"""By type: what an arrow is called, and where it begins and ends, from the logical id and the properties."""


def _rights(
    resources: Mapping[str, Mapping[str, Any]], policy: Mapping[str, Any], named: Any
) -> Iterator[tuple[str, str, str]]:
    roles = set(named(policy.get("Roles")))
    functions = [
        i
        for i, r in resources.items()
        if r["Type"] == "AWS::Lambda::Function" and set(named(r["Properties"]["Role"])) & roles
    ]
    for statement in policy["PolicyDocument"]["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        for action in set(actions) & set(_USES):
            yield from _product(functions, named(statement["Resource"]), _USES[action])


def _product(sources: Iterable[str], targets: Iterable[str], what: str) -> Iterator[tuple[str, str, str]]:
    ends = list(targets)
    for source in sources:
        for target in ends:
            yield source, target, what
