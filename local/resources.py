"""Makes the streams, queues, buckets, buses and rules of the template; what is there stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local.kinesis import AwsCalls, AwsRefusal
from local.template import Rule, TemplateError, Wiring

_VERSIONING = (
    '<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    "<Status>Enabled</Status></VersioningConfiguration>"
)
_THERE = frozenset({"ResourceInUseException", "ResourceAlreadyExistsException"})


async def create(aws: AwsCalls, wiring: Wiring) -> None:
    """Make what is missing, and bring the attributes of queues and the rules up to date.

    Raises:
        AwsRefusal: a call was refused.
        TemplateError: a rule's targets were refused.
    """
    for name, shards in wiring.streams.items():
        await _unless_there(aws, "kinesis", "CreateStream", StreamName=name, ShardCount=shards)
    for name, attributes in wiring.queues.items():
        await _queue(aws, name, dict(attributes))
    for name, versioned in wiring.buckets.items():
        try:
            await aws.put_bucket(name)
        except AwsRefusal as refusal:
            if "BucketAlreadyOwnedByYou" not in str(refusal):  # said of one whose objects outlived the server
                raise
        if versioned:
            await aws.put_bucket(name, "versioning", _VERSIONING)
    for name in wiring.buses:
        await _unless_there(aws, "events", "CreateEventBus", Name=name)
    for rule in wiring.rules:
        await _rule(aws, rule)


async def _unless_there(aws: AwsCalls, service: str, action: str, **request: Any) -> None:
    try:
        await aws.call(service, action, **request)
    except AwsRefusal as refusal:
        if refusal.code not in _THERE:
            raise


async def _queue(aws: AwsCalls, name: str, attributes: Mapping[str, str]) -> None:
    try:
        await aws.call("sqs", "CreateQueue", QueueName=name, Attributes=attributes)
    except AwsRefusal as refusal:
        if "QueueNameExists" not in refusal.code:
            raise
        url = (await aws.call("sqs", "GetQueueUrl", QueueName=name))["QueueUrl"]
        await aws.call("sqs", "SetQueueAttributes", QueueUrl=url, Attributes=attributes)


async def _rule(aws: AwsCalls, rule: Rule) -> None:
    await aws.call("events", "PutRule", Name=rule.name, EventBusName=rule.bus, EventPattern=rule.pattern)
    targets = [dict(target) for target in rule.targets]
    answer = await aws.call("events", "PutTargets", Rule=rule.name, EventBusName=rule.bus, Targets=targets)
    if answer.get("FailedEntryCount"):
        raise TemplateError(f"targets of rule {rule.name} were refused: {answer['FailedEntries']}")
