"""SQS queues: encrypted, TLS only, long retention."""

from __future__ import annotations

from aws_cdk import Duration
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from cdk.constructs.house import House, acknowledge


def queue(scope: Construct, id_: str, *, house: House, logical: str, from_eventbridge: bool) -> sqs.Queue:
    """A queue at the end of the road: what consumers read, or what could not be processed.

    Args:
        from_eventbridge: EventBridge sends to it. A customer key would have to trust all of EventBridge,
            so such a queue is encrypted with the key of SQS itself.
    """
    key = None if from_eventbridge else house.data_key
    made = sqs.Queue(
        scope,
        id_,
        queue_name=house.name(logical),
        encryption=sqs.QueueEncryption.KMS if key else sqs.QueueEncryption.SQS_MANAGED,
        encryption_master_key=key,
        enforce_ssl=True,
        retention_period=Duration.days(house.settings.queues.retention_days),
        visibility_timeout=Duration.seconds(house.settings.queues.visibility_seconds),
        removal_policy=house.removal,
    )
    end = (
        "It is itself where failed messages end: its alarm calls a person and `qis redrive` sends them back."
        if logical.endswith("-dlq")
        else "The consuming domain decides what happens to a message that it cannot process; the age of the "
        "oldest message raises an alarm."
    )
    acknowledge(made, {"AwsSolutions-SQS3": end, "Serverless-SQSRedrivePolicy": end})
    return made
