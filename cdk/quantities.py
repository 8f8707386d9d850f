"""The bill of quantities of each environment, from its templates: what is paid for, used or not.

``python -m cdk.quantities`` writes ``qis/cli/cost/bills/<environment>.json`` anew; a test checks
that they are current. ``qis cost`` multiplies them with prices, on machines without the CDK.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cdk.constructs.code import ROOT
from cdk.node import use_packaged_node

BILLS = ROOT / "layers" / "core" / "python" / "qis" / "cli" / "cost" / "bills"
HOURS = 730
"""In a month, as AWS counts it."""

Properties = Mapping[str, Any]
Templates = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Item:
    """So much of one thing, each month."""

    service: str
    what: str
    price: str
    """Key in the table of prices."""
    quantity: float
    choice: str
    """The setting that causes it."""


def _hours(service: str, what: str, price: str, count: float, choice: str) -> Iterator[Item]:
    yield Item(service, what, price, round(count * HOURS, 4), choice)


def _aurora(p: Properties, clusters: Properties) -> Iterator[Item]:
    size = p["DBInstanceClass"].removeprefix("db.")
    if size == "serverless":
        acu = clusters["ServerlessV2ScalingConfiguration"]["MinCapacity"]
        yield from _hours(
            "Aurora", f"serverless, {acu} ACU at least", "aurora.acu-hour", acu, "database.serverless"
        )
    else:
        yield from _hours(
            "Aurora", f"instance {size}", f"aurora.{size}-hour", 1, "database.writer, database.readers"
        )


_VCPUS = {"r6g.large": 2, "r6g.xlarge": 4, "r6g.2xlarge": 8, "t4g.medium": 2}


def _proxy(instances: Iterable[Properties], cluster: Properties) -> Iterator[Item]:
    sizes = [p["DBInstanceClass"].removeprefix("db.") for p in instances]
    if "serverless" in sizes:
        # Billed by ACU, at least for eight.
        acu = max(8, cluster["ServerlessV2ScalingConfiguration"]["MinCapacity"] * len(sizes))
        yield from _hours("RDS Proxy", f"{acu} ACU", "rds-proxy.acu-hour", acu, "database.proxy")
        return
    vcpus = sum(_VCPUS[size] for size in sizes)
    yield from _hours("RDS Proxy", f"{vcpus} vCPU behind it", "rds-proxy.vcpu-hour", vcpus, "database.proxy")


def _stream(p: Properties) -> Iterator[Item]:
    shards = p["ShardCount"]
    name = p["Name"].rpartition("-")[2]
    choice = f"streams.{name}"
    yield from _hours("Kinesis", f"{name}: {shards} shards", "kinesis.shard-hour", shards, choice)
    if p["RetentionPeriodHours"] > 24:
        days = p["RetentionPeriodHours"] // 24
        yield from _hours(
            "Kinesis", f"{name}: kept {days} days", "kinesis.extended-shard-hour", shards, choice
        )


def _nodes(p: Properties) -> Iterator[Item]:
    (instance,) = p["InstanceTypes"]
    count = p["ScalingConfig"]["DesiredSize"]
    price = f"ec2.{instance}-hour" + ("-spot" if p["CapacityType"] == "SPOT" else "")
    yield from _hours("EKS nodes", f"{count} x {instance}", price, count, "cluster.nodes")
    yield Item(
        "EKS nodes", f"disks of {count} nodes, 20 GB each", "ebs.gp3-gb-month", 20 * count, "cluster.nodes"
    )


def _kafka(p: Properties) -> Iterator[Item]:
    count, group = p["NumberOfBrokerNodes"], p["BrokerNodeGroupInfo"]
    size = group["InstanceType"].removeprefix("kafka.")
    volume = group["StorageInfo"]["EBSStorageInfo"]["VolumeSize"]
    yield from _hours("MSK", f"{count} x {size}", f"msk.{size}-hour", count, "kafka.brokers")
    yield Item("MSK", f"{count} x {volume} GB", "msk.gb-month", count * volume, "kafka.storage_gib")


def _cache(p: Properties) -> Iterator[Item]:
    node, count = p["CacheNodeType"].removeprefix("cache."), p["NumCacheClusters"]
    yield from _hours("ElastiCache", f"{count} x {node}", f"valkey.{node}-hour", count, "caches")


def _search(p: Properties) -> Iterator[Item]:
    config = p["ClusterConfig"]
    count, size = config["InstanceCount"], config["InstanceType"].removesuffix(".search")
    yield from _hours("OpenSearch", f"{count} x {size}", f"opensearch.{size}-hour", count, "search.nodes")
    volume = p["EBSOptions"]["VolumeSize"]
    yield Item(
        "OpenSearch", f"{count} x {volume} GB", "opensearch.gb-month", count * volume, "search.storage_gib"
    )


def _influx(p: Properties) -> Iterator[Item]:
    count = 2 if p["DeploymentType"] == "WITH_MULTIAZ_STANDBY" else 1
    size = p["DbInstanceType"]
    yield from _hours("InfluxDB", f"{count} x {size}", f"influxdb.{size}-hour", count, "time_series")
    volume = p["AllocatedStorage"]
    yield Item("InfluxDB", f"{count} x {volume} GB", "influxdb.gb-month", count * volume, "time_series")


def _documents(p: Properties) -> Iterator[Item]:
    size = p["DBInstanceClass"].removeprefix("db.")
    yield from _hours("DocumentDB", f"instance {size}", f"docdb.{size}-hour", 1, "documents")


def _endpoint(p: Properties) -> Iterator[Item]:
    if p["VpcEndpointType"] == "Interface":
        zones = len(p["SubnetIds"])
        yield from _hours(
            "Network",
            f"interface endpoint in {zones} zones",
            "vpc.endpoint-zone-hour",
            zones,
            "network.endpoints",
        )


def _alarm(p: Properties) -> Iterator[Item]:
    metrics = sum("MetricStat" in query for query in p.get("Metrics", [])) or 1
    yield Item("CloudWatch", "alarms", "cloudwatch.alarm-metric-month", metrics, "alarms, observability")


def _acl(p: Properties) -> Iterator[Item]:
    yield Item("WAF", f"{p['Scope'].lower()}", "waf.acl-month", 1, "edge")
    yield Item("WAF", f"{p['Scope'].lower()}: rules", "waf.rule-month", len(p["Rules"]), "edge")


def _function(p: Properties) -> Iterator[Item]:
    name = str(p.get("FunctionName", "")).rpartition("-")[2]
    if name == "relay":
        # Two invocations overlap at all times: one follows the log, one waits to take over.
        gb_seconds = 2 * p["MemorySize"] / 1024 * HOURS * 3600
        yield Item(
            "Lambda", "relay, always two", "lambda.gb-second", round(gb_seconds), "functions.relay.memory_mb"
        )
        yield Item("Lambda", "relay, each minute", "lambda.request", HOURS * 60, "functions.relay")
    if name == "realtime":
        yield Item("Lambda", "realtime, each minute", "lambda.request", HOURS * 60, "functions.realtime")
    if p.get("SnapStart"):
        yield Item(
            "Lambda",
            f"snapshot of {name}",
            "lambda.snapstart-version-month",
            1,
            f"functions.{name}.snap_start",
        )


def _canary(_: Properties) -> Iterator[Item]:
    yield Item(
        "CloudWatch", "canary, each 5 minutes", "cloudwatch.canary-run", HOURS * 12, "observability.canary"
    )


def _each(
    service: str, what: str, price: str, choice: str, *, hourly: bool = False
) -> Callable[[Properties], Iterator[Item]]:
    def items(_: Properties) -> Iterator[Item]:
        yield Item(service, what, price, HOURS if hourly else 1, choice)

    return items


PRICED: dict[str, Callable[[Properties], Iterator[Item]]] = {
    "AWS::CloudWatch::Alarm": _alarm,
    "AWS::CloudWatch::CompositeAlarm": _each(
        "CloudWatch", "composite alarms", "cloudwatch.composite-alarm-month", "observability"
    ),
    "AWS::CloudWatch::Dashboard": _each(
        "CloudWatch", "dashboards", "cloudwatch.dashboard-month", "observability"
    ),
    "AWS::DocDB::DBInstance": _documents,
    "AWS::EC2::EIP": _each("Network", "public address", "vpc.ipv4-hour", "network.nat_gateways", hourly=True),
    "AWS::EC2::NatGateway": _each(
        "Network", "NAT gateway", "vpc.nat-hour", "network.nat_gateways", hourly=True
    ),
    "AWS::EC2::VPCEndpoint": _endpoint,
    "AWS::EKS::Cluster": _each("EKS", "control plane", "eks.cluster-hour", "cluster", hourly=True),
    "AWS::EKS::Nodegroup": _nodes,
    "AWS::ElastiCache::ReplicationGroup": _cache,
    "AWS::ElasticLoadBalancingV2::LoadBalancer": _each(
        "Load balancer", "ALB", "alb.hour", "edge.load_balancer", hourly=True
    ),
    "AWS::KMS::Key": _each("KMS", "keys", "kms.key-month", "encryption"),
    "AWS::KMS::ReplicaKey": _each("KMS", "keys", "kms.key-month", "encryption"),
    "AWS::Kinesis::Stream": _stream,
    "AWS::Lambda::Function": _function,
    "AWS::MSK::Cluster": _kafka,
    "AWS::OpenSearchService::Domain": _search,
    "AWS::Route53::HealthCheck": _each(
        "Route 53", "health check over HTTPS", "route53.https-check-month", "edge"
    ),
    "AWS::SecretsManager::Secret": _each("Secrets Manager", "secrets", "secrets.secret-month", "secrets"),
    "AWS::Shield::Protection": _each("Shield", "Shield Advanced", "shield.month", "edge.shield"),
    "AWS::Synthetics::Canary": _canary,
    "AWS::Timestream::InfluxDBInstance": _influx,
    "AWS::WAFv2::WebACL": _acl,
}
"""What is paid for by its being there. Instances of Aurora and its proxy need their cluster: see ``bill``."""

_OF_CLUSTER = frozenset({"AWS::RDS::DBCluster", "AWS::RDS::DBInstance", "AWS::RDS::DBProxy"})

BY_USE = frozenset(
    {
        "AWS::ApiGateway::RestApi",
        "AWS::ApiGatewayV2::Api",
        "AWS::Athena::WorkGroup",
        "AWS::Backup::BackupVault",
        "AWS::CloudFront::Distribution",
        "AWS::Cognito::UserPool",
        "AWS::DocDB::DBCluster",
        "AWS::ECR::Repository",
        "AWS::EFS::FileSystem",
        "AWS::EKS::FargateProfile",
        "AWS::Events::Archive",
        "AWS::Events::EventBus",
        "AWS::Glue::Database",
        "AWS::KinesisFirehose::DeliveryStream",
        "AWS::Logs::LogGroup",
        "AWS::S3::Bucket",
        "AWS::SNS::Topic",
        "AWS::SQS::Queue",
        "AWS::XRay::Group",
        "AWS::XRay::SamplingRule",
    }
)
"""What costs nothing until it is used: in the model of traffic, or named as unknown there."""

FREE_PREFIXES = (
    "AWS::ApiGateway::",
    "AWS::ApiGatewayV2::",
    "AWS::Athena::",
    "AWS::Backup::",
    "AWS::Budgets::Budget",  # the first two of an account
    "AWS::CE::",
    "AWS::CertificateManager::",
    "AWS::CloudFront::",
    "AWS::CodeDeploy::",
    "AWS::Cognito::",
    "AWS::DocDB::",
    "AWS::EC2::",
    "AWS::EFS::",
    "AWS::EKS::",
    "AWS::ElastiCache::",
    "AWS::ElasticLoadBalancingV2::",
    "AWS::EventSchemas::",
    "AWS::Events::",
    "AWS::Glue::",
    "AWS::IAM::",
    "AWS::KMS::Alias",
    "AWS::Lambda::",
    "AWS::Logs::",
    "AWS::MSK::",
    "AWS::RDS::",
    "AWS::Route53::",
    "AWS::S3::",
    "AWS::SNS::",
    "AWS::SQS::",
    "AWS::SecretsManager::",
    "AWS::WAFv2::",
    "Custom::",
)
"""What belongs to something that is paid for, or is free."""


class UnpricedTypeError(ValueError):
    """A template has a type that is neither priced, nor paid by use, nor known to be free."""


def bill(templates: Templates) -> list[Item]:
    """What the environment of ``templates`` is paid for, sorted, equal lines added up.

    Raises:
        UnpricedTypeError: a resource would be left out silently.
    """
    resources = [r for t in templates.values() for r in t["Resources"].values()]
    clusters = [r["Properties"] for r in resources if r["Type"] == "AWS::RDS::DBCluster"]
    instances = [r["Properties"] for r in resources if r["Type"] == "AWS::RDS::DBInstance"]
    items: list[Item] = []
    for resource in resources:
        type_, properties = resource["Type"], resource.get("Properties", {})
        if type_ in PRICED:
            items += PRICED[type_](properties)
        elif type_ not in _OF_CLUSTER | BY_USE and not type_.startswith(FREE_PREFIXES):
            raise UnpricedTypeError(f"{type_} is neither priced nor known to be free")
        if type_ == "AWS::RDS::DBProxy":
            items += _proxy(instances, clusters[0])
        if type_ == "AWS::RDS::DBCluster" and properties.get("ManageMasterUserPassword"):
            items.append(Item("Secrets Manager", "secrets", "secrets.secret-month", 1, "secrets"))
    for instance in instances:
        items += _aurora(instance, clusters[0])
    return _added_up(items)


def _added_up(items: Iterable[Item]) -> list[Item]:
    total: dict[tuple[str, str, str, str], float] = {}
    for item in items:
        key = item.service, item.what, item.price, item.choice
        total[key] = total.get(key, 0) + item.quantity
    return [Item(s, w, p, round(q, 4), c) for (s, w, p, c), q in sorted(total.items())]


def document(environment: str, region: str, budget: int | None, templates: Templates) -> str:
    """The bill as it is committed."""
    functions = {
        str(r["Properties"]["FunctionName"]).rpartition("-")[2]: r["Properties"]["MemorySize"]
        for t in templates.values()
        for r in t["Resources"].values()
        if r["Type"] == "AWS::Lambda::Function" and str(r["Properties"]["Handler"]).startswith("lambdas.")
    }
    body = {
        "environment": environment,
        "region": region,
        "budget_usd": budget,
        "memory_mb": functions,
        "items": [asdict(item) for item in bill(templates)],
    }
    return json.dumps(body, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main() -> int:
    """Write the bill of every environment in AWS."""
    use_packaged_node()
    from cdk.build import build, served_document
    from cdk.constructs.code import Code
    from cdk.environments import ENVIRONMENTS, load

    for name in sorted(set(ENVIRONMENTS) - {"local"}):
        settings = load(name)
        with tempfile.TemporaryDirectory() as outdir:
            app = build(settings, code=Code.stub(), document=served_document(), outdir=Path(outdir))
            templates = {stack.stack_name: stack.template for stack in app.synth().stacks}
        budget = settings.cost.monthly_usd if settings.cost else None
        path = BILLS / f"{name}.json"
        path.write_text(document(name, settings.region, budget, templates), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
