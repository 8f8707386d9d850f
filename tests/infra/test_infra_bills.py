"""The bills that ``qis cost`` reads are those of the templates, and leave nothing out."""

from __future__ import annotations

import pytest

from cdk.environments import load
from cdk.quantities import BILLS, UnpricedTypeError, bill, document
from tests.infra.synthesis import Environment


def test_the_committed_bill_is_current(in_aws: Environment) -> None:
    settings = load(in_aws.name)
    budget = settings.cost.monthly_usd if settings.cost else None
    current = document(in_aws.name, settings.region, budget, in_aws.templates)
    committed = (BILLS / f"{in_aws.name}.json").read_text(encoding="utf-8")
    assert committed == current, "run python -m cdk.quantities"


def test_there_is_a_bill_for_each_environment_in_aws(environments: dict[str, Environment]) -> None:
    assert {path.stem for path in BILLS.glob("*.json")} == set(environments) - {"local"}


def test_a_type_that_nobody_priced_is_refused() -> None:
    template = {"Resources": {"New": {"Type": "AWS::Quantum::Computer", "Properties": {}}}}
    with pytest.raises(UnpricedTypeError, match="AWS::Quantum::Computer is neither priced"):
        bill({"stack": template})


@pytest.mark.parametrize(
    ("type_", "properties", "price", "quantity"),
    [
        ("AWS::EC2::NatGateway", {}, "vpc.nat-hour", 730),
        (
            "AWS::Kinesis::Stream",
            {"Name": "q-x", "ShardCount": 3, "RetentionPeriodHours": 24},
            "kinesis.shard-hour",
            2190,
        ),
        (
            "AWS::CloudWatch::Alarm",
            {"Metrics": [{"MetricStat": {}}, {"Expression": "a"}, {"MetricStat": {}}]},
            "cloudwatch.alarm-metric-month",
            2,
        ),
        (
            "AWS::ElastiCache::ReplicationGroup",
            {"CacheNodeType": "cache.t4g.small", "NumCacheClusters": 2},
            "valkey.t4g.small-hour",
            1460,
        ),
        (
            "AWS::EC2::VPCEndpoint",
            {"VpcEndpointType": "Interface", "SubnetIds": [1, 2, 3]},
            "vpc.endpoint-zone-hour",
            2190,
        ),
        (
            "AWS::Lambda::Function",
            {"FunctionName": "qis-x-query", "MemorySize": 512, "SnapStart": {}},
            None,
            0,
        ),
    ],
)
def test_quantities_by_hand(
    type_: str, properties: dict[str, object], price: str | None, quantity: float
) -> None:
    found = bill({"stack": {"Resources": {"One": {"Type": type_, "Properties": properties}}}})
    assert [(item.price, item.quantity) for item in found] == ([(price, quantity)] if price else [])
