"""Walks through templates: statements of policies, what can be reached from outside, metrics.

Everything here works on a template as data, so that each walk can be tried on one with a planted fault.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Template = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of one policy."""

    resource: str
    """Logical id of what holds the policy."""
    type: str
    kind: Literal["identity", "trust", "resource"]
    """What its holder may do; who may become a role; who may use a resource."""
    effect: str
    actions: tuple[str, ...]
    resources: tuple[Any, ...]
    principal: Any
    condition: Any


def as_list(value: Any) -> list[Any]:
    """``value`` where a policy may hold one or many."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def text(value: Any) -> str:
    """``value`` as text to search in."""
    return json.dumps(value, sort_keys=True)


def flat(value: Any) -> str:
    """The text that an intrinsic function makes, with references as ``${Name}``."""
    if isinstance(value, list):
        return "".join(flat(part) for part in value)
    if not isinstance(value, dict):
        return str(value)
    ((function, argument),) = value.items()
    if function == "Ref":
        return f"${{{argument}}}"
    if function == "Fn::Join":
        return str(argument[0]).join(flat(part) for part in argument[1])
    if function == "Fn::GetAtt":
        return f"${{{'.'.join(argument) if isinstance(argument, list) else argument}}}"
    if function == "Fn::Sub":
        return str(argument if isinstance(argument, str) else argument[0])
    return f"${{{text(value)}}}"


def statements(template: Template) -> Iterator[Statement]:
    """Every statement of every policy in ``template``, whatever holds it."""
    for logical_id, resource in template["Resources"].items():
        for path, found in _statements(resource.get("Properties", {}), ()):
            if "AssumeRolePolicyDocument" in path:
                kind: Literal["identity", "trust", "resource"] = "trust"
            elif resource["Type"].startswith("AWS::IAM::"):
                kind = "identity"
            else:
                kind = "resource"
            yield Statement(
                logical_id,
                resource["Type"],
                kind,
                found["Effect"],
                tuple(as_list(found.get("Action"))) + tuple(as_list(found.get("NotAction"))),
                tuple(as_list(found.get("Resource"))) + tuple(as_list(found.get("NotResource"))),
                found.get("Principal"),
                found.get("Condition"),
            )


def _statements(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    if isinstance(value, list):
        for item in value:
            yield from _statements(item, path)
    elif isinstance(value, dict):
        if "Effect" in value and ("Action" in value or "NotAction" in value):
            yield path, value
            return
        for key, item in value.items():
            yield from _statements(item, (*path, key))


ANYWHERE = frozenset({"0.0.0.0/0", "::/0"})
_CLOSED = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
ENTRANCES = frozenset(
    {
        "AWS::ApiGateway::RestApi",
        "AWS::ApiGatewayV2::Api",
        "AWS::CloudFront::Distribution",
        "AWS::Cognito::UserPoolDomain",
    }
)
"""What is meant to be reached from outside: the API, CloudFront, and where callers get their tokens."""


def open_to_the_world(template: Template) -> Iterator[tuple[str, str]]:
    """What anybody can reach: logical id and why. The entrances are not reported."""
    for logical_id, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        for why in _open(resource["Type"], properties):
            yield logical_id, why
    for statement in statements(template):
        if (
            statement.kind != "identity"
            and statement.effect == "Allow"
            and _anybody(statement.principal)
            and not statement.condition
        ):
            yield statement.resource, "a policy allows anybody"


def _anybody(principal: Any) -> bool:
    return principal == "*" or (isinstance(principal, dict) and "*" in as_list(principal.get("AWS")))


_UNWANTED: dict[str, tuple[str, Any]] = {
    "AWS::DMS::ReplicationInstance": ("PubliclyAccessible", True),
    "AWS::EC2::Subnet": ("MapPublicIpOnLaunch", True),
    "AWS::Lambda::Permission": ("Principal", "*"),
    "AWS::Lambda::Url": ("AuthType", "NONE"),
    "AWS::S3::Bucket": ("WebsiteConfiguration", {}),
    "AWS::Timestream::InfluxDBInstance": ("PubliclyAccessible", True),
}
_WANTED: dict[str, tuple[tuple[str, ...], Any]] = {
    "AWS::EKS::Cluster": (("ResourcesVpcConfig", "EndpointPublicAccess"), False),
    "AWS::ElasticLoadBalancingV2::LoadBalancer": (("Scheme",), "internal"),
    "AWS::RDS::DBInstance": (("PubliclyAccessible",), False),
    "AWS::S3::Bucket": (("PublicAccessBlockConfiguration",), dict.fromkeys(_CLOSED, True)),
}
"""Without the property these are open: absence is a finding."""


def _open(type_: str, properties: Mapping[str, Any]) -> Iterator[str]:
    if type_ in _UNWANTED:
        name, value = _UNWANTED[type_]
        if properties.get(name) == value:
            yield f"{name} is {value}"
    if type_ in _WANTED:
        path, value = _WANTED[type_]
        found = _at(properties, path)
        if found != value:
            yield f"{'.'.join(path)} is {found}, not {value}"
    rules = {
        "AWS::EC2::SecurityGroup": properties.get("SecurityGroupIngress", []),
        "AWS::EC2::SecurityGroupIngress": [properties],
    }.get(type_, [])
    if any({rule.get("CidrIp"), rule.get("CidrIpv6")} & ANYWHERE for rule in rules):
        yield "a security group lets in anybody"
    if type_ == "AWS::OpenSearchService::Domain" and "VPCOptions" not in properties:
        yield "a search domain is outside the network"
    public = _at(properties, ("BrokerNodeGroupInfo", "ConnectivityInfo", "PublicAccess", "Type"))
    if type_ == "AWS::MSK::Cluster" and public not in (None, "DISABLED"):
        yield "brokers have public addresses"


def _at(properties: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        properties = properties.get(step) if isinstance(properties, Mapping) else None
    return properties


def alarm_metrics(properties: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Namespace, name and dimensions (as text) of the metrics that an alarm watches."""
    if "MetricName" in properties:
        yield properties["Namespace"], properties["MetricName"], text(properties.get("Dimensions", []))
    for query in properties.get("Metrics", []):
        if "MetricStat" in query:
            metric = query["MetricStat"]["Metric"]
            yield metric["Namespace"], metric["MetricName"], text(metric.get("Dimensions", []))


_SHOWN = re.compile(r'\["([A-Za-z][A-Za-z0-9/]*)","([A-Za-z][A-Za-z0-9_.]*)"')


def shown_metrics(template: Template) -> set[tuple[str, str]]:
    """Namespace and name of the metrics on the dashboards of ``template``."""
    return {
        (namespace, name)
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::CloudWatch::Dashboard"
        for namespace, name in _SHOWN.findall(flat(resource["Properties"]["DashboardBody"]))
    }
