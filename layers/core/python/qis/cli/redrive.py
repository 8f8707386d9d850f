"""Putting dead-lettered records back where they came from.

Four shapes lie in the queues: a rejected record with its reason (ours), the place in a stream of records
that a function failed on (Lambda's on-failure record), an event that a target of the bus did not take, and a
tick of a schedule that a function failed on, which needs no putting back: the next one does its work.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qis.cli.failures import failure
from qis.cli.feed import StreamSender

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

REDRIVE = "redrive:"
"""Partition keys that start with this name the record that was put back, so it keeps its identity."""
HELD = 120
"""Seconds for which a message is ours once received."""
INGEST_DLQ = "ingest-dlq"
SCHEDULED = "Scheduled Event"


class Unplaceable(Exception):
    """A message cannot be put back; it stays in the queue."""


@dataclass(slots=True)
class Redriven:
    """What a run did."""

    messages: int = 0
    records: int = 0
    left: int = 0
    """Messages that stay in the queue because they cannot be put back."""
    reasons: dict[str, int] = field(default_factory=dict)

    def count(self, reason: str) -> None:
        self.reasons[reason] = self.reasons.get(reason, 0) + 1


class Redrive:
    """One dead-letter queue."""

    def __init__(
        self,
        sqs: SQSClient,
        kinesis: KinesisClient,
        queue_url: str,
        ingest_stream: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sqs = sqs
        self._kinesis = kinesis
        self._url = queue_url
        self._stream = ingest_stream
        self._clock = clock

    def run(self, *, dry_run: bool, done: Callable[[Redriven], None]) -> Redriven:
        """Put back what is in the queue now; what is dead-lettered again meanwhile is left alone.

        Args:
            dry_run: only look.
            done: called after each message.

        Raises:
            Failure: the stream does not take records; what was not put back stays in the queue.
        """
        found = Redriven()
        kept: list[str] = []
        try:
            for message in self._messages(kept):
                found.messages += 1
                found.count(_reason(message))
                if dry_run:
                    kept.append(message["ReceiptHandle"])
                else:
                    self._settle(message, found, kept)
                done(found)
        finally:
            for handle in kept:
                self._sqs.change_message_visibility(
                    QueueUrl=self._url, ReceiptHandle=handle, VisibilityTimeout=0
                )
        return found

    def _settle(self, message: MessageTypeDef, found: Redriven, kept: list[str]) -> None:
        try:
            found.records += self._put_back(message)
        except Unplaceable as why:
            found.left += 1
            found.count(f"cannot be put back: {why}")
            kept.append(message["ReceiptHandle"])
        else:
            self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])

    def waiting(self) -> int:
        """About how many messages are in the queue."""
        answer = self._sqs.get_queue_attributes(
            QueueUrl=self._url, AttributeNames=["ApproximateNumberOfMessages"]
        )
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])

    def _messages(self, kept: list[str]) -> Iterator[MessageTypeDef]:
        """Messages that were in the queue when this began, each once; receipts of others go to ``kept``.

        Those others stay invisible until the end, so that they are not received again and again.
        """
        started_ms = self._clock() * 1000
        seen: set[str] = set()
        while True:
            answer = self._sqs.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=10,
                VisibilityTimeout=HELD,
                WaitTimeSeconds=1,
                MessageSystemAttributeNames=["SentTimestamp"],
                MessageAttributeNames=["All"],
            )
            due = []
            for message in answer.get("Messages", []):
                newer = int(message["Attributes"]["SentTimestamp"]) > started_ms
                if newer or message["MessageId"] in seen:
                    kept.append(message["ReceiptHandle"])
                else:
                    due.append(message)
                    seen.add(message["MessageId"])
            if not due:
                return
            yield from due

    def _put_back(self, message: MessageTypeDef) -> int:
        body = _body(message)
        if "KinesisBatchInfo" in body:
            return self._again(body["KinesisBatchInfo"])
        if "payload" in body and "record_id" in body:
            payload = _payload(body["payload"])
            StreamSender(self._kinesis, self._stream).put([(REDRIVE + str(body["record_id"]), payload)])
            return 1
        if body.get("requestPayload", {}).get("detail-type") == SCHEDULED:
            return 0
        target = _attribute(message, "TARGET_ARN")
        if target.startswith("arn:") and target.split(":")[2] == "sqs":
            url = self._sqs.get_queue_url(QueueName=target.rpartition(":")[2])["QueueUrl"]
            self._sqs.send_message(QueueUrl=url, MessageBody=message["Body"])
            return 1
        raise Unplaceable("the message has none of the known forms")

    def _again(self, batch: Mapping[str, Any]) -> int:
        """Read the records that a function failed on from their stream, and put them there again."""
        stream = str(batch["streamArn"]).rpartition("/")[2]
        records = list(self._range(stream, batch))
        if len(records) < int(batch["batchSize"]):
            raise Unplaceable(f"only {len(records)} of {batch['batchSize']} records are still in the stream")
        StreamSender(self._kinesis, stream).put(records)
        return len(records)

    def _range(self, stream: str, batch: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
        last = int(batch["endSequenceNumber"])
        iterator = self._kinesis.get_shard_iterator(
            StreamName=stream,
            ShardId=batch["shardId"],
            ShardIteratorType="AT_SEQUENCE_NUMBER",
            StartingSequenceNumber=batch["startSequenceNumber"],
        )["ShardIterator"]
        while iterator:
            answer = self._kinesis.get_records(ShardIterator=iterator)
            for record in answer["Records"]:
                if int(record["SequenceNumber"]) > last:
                    return
                yield record["PartitionKey"], record["Data"]
            if not answer["Records"] and not answer.get("MillisBehindLatest"):
                return
            iterator = answer.get("NextShardIterator", "")


def ingest_stream_of(queue: str) -> str:
    """The ingest stream beside a dead-letter queue, by the naming of deployed resources.

    Raises:
        Failure: the name has no environment in it.
    """
    parts = queue.split("-")
    if len(parts) < 4 or parts[0] != "qis" or parts[-1] != "dlq":
        raise failure(
            "invalid-input",
            "The name is not that of a dead-letter queue",
            f"{queue!r} is not of the form qis-<environment>-{INGEST_DLQ}",
        )
    return f"qis-{parts[1]}-ingest"


def _body(message: MessageTypeDef) -> dict[str, Any]:
    try:
        body = json.loads(message["Body"])
    except ValueError as error:
        raise Unplaceable("the message is not JSON") from error
    if not isinstance(body, dict):
        raise Unplaceable("the message is not a JSON object")
    return body


def _payload(text: object) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except binascii.Error as error:
        raise Unplaceable("the payload is not base64") from error


def _reason(message: MessageTypeDef) -> str:
    """Why the message lies here, short enough to be counted."""
    try:
        body = _body(message)
    except Unplaceable as why:
        return str(why)
    if "requestContext" in body:
        context = body["requestContext"]
        said = body.get("responsePayload") or {}
        error = f": {said['errorMessage']}" if "errorMessage" in said else ""
        return f"{context.get('condition', 'failed')} in {_function(context)}{error}"
    rules = [f"{v.get('field')}: {v.get('rule')}" for v in body.get("violations") or []]
    if rules:
        return ", ".join(rules)
    return _attribute(message, "ERROR_CODE") or str(body.get("reason") or "no reason given")


def _function(context: Mapping[str, Any]) -> str:
    """Name of the function that failed; its ARN may end in a version or an alias."""
    parts = str(context.get("functionArn", "")).split(":")
    return parts[6] if len(parts) > 6 else "a function"


def _attribute(message: MessageTypeDef, name: str) -> str:
    attributes = message.get("MessageAttributes")
    return attributes[name].get("StringValue", "") if attributes and name in attributes else ""
