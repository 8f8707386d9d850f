"""Nothing stands there unused: what carries messages is written to and read from."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.infra.synthesis import Environment
from tests.infra.walk import statements, text

PUTS = {
    "AWS::Kinesis::Stream": {"kinesis:PutRecord", "kinesis:PutRecords"},
    "AWS::Events::EventBus": {"events:PutEvents"},
    "AWS::KinesisFirehose::DeliveryStream": {"firehose:PutRecord", "firehose:PutRecordBatch"},
}
"""What a role that writes to it may do."""

FROM_OUTSIDE: dict[tuple[str, str], str] = {
    ("AWS::Kinesis::Stream", "Ingest"): "feeds outside of the cluster sign in with roles of their own",
    ("AWS::MSK::Cluster", "Kafka"): "nothing publishes to Kafka yet: only the document's sizes have it",
}
"""By type and a part of the logical id: what no template writes to, and who does."""

TO_OUTSIDE: dict[tuple[str, str], str] = {
    ("AWS::ElasticLoadBalancingV2::TargetGroup", "Edge"): (
        "nothing in the cluster serves requests yet: only the document's sizes have it"
    ),
    ("AWS::MSK::Cluster", "Kafka"): "nothing reads from Kafka yet: only the document's sizes have it",
    ("AWS::SNS::Topic", "Alarms"): "people subscribe with addresses that are in no template",
    ("AWS::SNS::Topic", "Spending"): "people subscribe with addresses that are in no template",
    ("AWS::SQS::Queue", "Consumer"): "the consuming domain reads it, with a role of its own account",
    ("AWS::SQS::Queue", "Dlq"): "an alarm calls a person, who sends back what failed: `qis redrive`",
}
"""What no template reads from, and who does."""

WORKERS = frozenset({"AWS::Lambda::Function", "AWS::EKS::PodIdentityAssociation"})
"""What has a role and runs our code."""

CARRIERS = frozenset(
    {
        *PUTS,
        "AWS::ElasticLoadBalancingV2::TargetGroup",
        "AWS::MSK::Cluster",
        "AWS::SNS::Topic",
        "AWS::SQS::Queue",
    }
)

Resources = Mapping[str, Mapping[str, Any]]


def resources(environment: Environment) -> dict[str, Any]:
    return {i: r for t in environment.templates.values() for i, r in t["Resources"].items()}


def written(found: Resources) -> set[str]:
    """Logical ids of the carriers that something in the templates writes to."""
    working = text([r["Properties"] for r in found.values() if r["Type"] in WORKERS])
    allowed = [
        (set(s.actions), text(s.resources))
        for s in statements({"Resources": found})
        if s.kind == "identity"
        and s.effect == "Allow"
        # A right that nothing which runs has writes nothing.
        and any(role["Ref"] in working for role in found[s.resource]["Properties"].get("Roles", []))
    ]
    sent = "".join(_sent(found))
    return {
        logical_id
        for logical_id, resource in found.items()
        if resource["Type"] in CARRIERS
        and (
            any(
                actions & PUTS.get(resource["Type"], set()) and logical_id in named
                for actions, named in allowed
            )
            or logical_id in sent
            or "KinesisStreamSourceConfiguration" in resource["Properties"]
        )
    }


def _sent(found: Resources) -> Iterator[str]:
    """Where services send to by themselves: rules, failed batches and runs, alarms, budgets."""
    for resource in found.values():
        given = resource.get("Properties", {})
        match resource["Type"]:
            case "AWS::Events::Rule":
                for target in given["Targets"]:
                    yield text([target["Arn"], target.get("DeadLetterConfig")])
            case "AWS::Lambda::EventSourceMapping" | "AWS::Lambda::EventInvokeConfig":
                yield text(given.get("DestinationConfig"))
            case "AWS::CloudWatch::Alarm" | "AWS::CloudWatch::CompositeAlarm":
                yield text(given.get("AlarmActions"))
            case "AWS::ElasticLoadBalancingV2::Listener":
                yield text(given["DefaultActions"])
            case "AWS::Budgets::Budget" | "AWS::CE::AnomalySubscription":
                yield text(given)
            case "AWS::Lambda::Function":  # what a handler puts on a queue by itself
                yield text(given.get("Environment"))


def read(found: Resources) -> set[str]:
    """Logical ids of the carriers that something in the templates reads from."""
    sources = "".join(_read(found))
    return {
        logical_id
        for logical_id, resource in found.items()
        if resource["Type"] in CARRIERS
        and (logical_id in sources or resource["Type"] == "AWS::KinesisFirehose::DeliveryStream")
    }


def _read(found: Resources) -> Iterator[str]:
    for resource in found.values():
        given = resource.get("Properties", {})
        match resource["Type"]:
            case "AWS::Lambda::EventSourceMapping":
                yield text(given["EventSourceArn"])
            case "AWS::KinesisFirehose::DeliveryStream":
                yield text(given.get("KinesisStreamSourceConfiguration"))
            case "AWS::Events::Rule":
                yield text(given.get("EventBusName"))


def unexplained(
    environment: Environment, done: set[str], accepted: Mapping[tuple[str, str], str]
) -> tuple[set[str], set[tuple[str, str]]]:
    """Carriers that neither the templates nor ``accepted`` account for, and what was needed of the latter."""
    left: set[str] = set()
    needed: set[tuple[str, str]] = set()
    for logical_id, resource in resources(environment).items():
        if resource["Type"] in CARRIERS and logical_id not in done:
            reasons = {(t, part) for t, part in accepted if t == resource["Type"] and part in logical_id}
            needed |= reasons
            if not reasons:
                left.add(logical_id)
    return left, needed


def test_everything_that_carries_messages_has_who_writes_and_who_reads(
    environments: dict[str, Environment],
) -> None:
    for accepted, walk in ((FROM_OUTSIDE, written), (TO_OUTSIDE, read)):
        needed: set[tuple[str, str]] = set()
        for environment in environments.values():
            left, of_this = unexplained(environment, walk(resources(environment)), accepted)
            assert left == set(), environment.name
            needed |= of_this
        assert needed == set(accepted), "explained and not needed"


@pytest.mark.parametrize(
    ("type_", "logical", "walk"),
    [
        ("AWS::Events::Rule", "LakeFeedToAlerts", written),
        ("AWS::KinesisFirehose::DeliveryStream", "LakeFeedAudit", read),
        ("AWS::Lambda::EventSourceMapping", "Ingest", read),
    ],
)
def test_a_missing_end_is_found(
    type_: str, logical: str, walk: Any, environments: dict[str, Environment]
) -> None:
    found = copy.deepcopy(resources(environments["prod"]))
    (gone,) = (i for i, r in found.items() if r["Type"] == type_ and logical in i)
    before = walk(found)
    del found[gone]
    assert before - walk(found)


def test_every_reason_says_who() -> None:
    assert all(len(reason) > 30 for reason in (*FROM_OUTSIDE.values(), *TO_OUTSIDE.values()))
