"""Redriving on real queues and streams: put back once, under the right key, only what was there before."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from local.aws import AwsServer
from local.processes import wait_until
from qis.cli.failures import Failure
from qis.cli.redrive import Redrive, Redriven, ingest_stream_of

TARGET = "TARGET_ARN"


@dataclass(frozen=True)
class Parts:
    """A dead-letter queue, a stream and a consumer's queue."""

    sqs: Any
    kinesis: Any
    queue: str
    stream: str
    consumer: str

    def letter(self, body: object, **attributes: str) -> None:
        said = {k: {"StringValue": v, "DataType": "String"} for k, v in attributes.items()}
        text = body if isinstance(body, str) else json.dumps(body)
        self.sqs.send_message(QueueUrl=self.queue, MessageBody=text, MessageAttributes=said)

    def run(self, *, dry_run: bool = False) -> Redriven:
        # Later than the messages, also where a server's clock is cut to milliseconds.
        redrive = Redrive(self.sqs, self.kinesis, self.queue, self.stream, lambda: time.time() + 1)
        return redrive.run(dry_run=dry_run, done=lambda _: None)

    def records(self) -> list[tuple[str, bytes]]:
        found = []
        for shard in self.kinesis.list_shards(StreamName=self.stream)["Shards"]:
            iterator = self.kinesis.get_shard_iterator(
                StreamName=self.stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )["ShardIterator"]
            found += self.kinesis.get_records(ShardIterator=iterator)["Records"]
        return [(r["PartitionKey"], r["Data"]) for r in found]

    def waiting(self) -> int:
        return Redrive(self.sqs, self.kinesis, self.queue, self.stream).waiting()


@pytest.fixture
def parts(aws: AwsServer) -> Iterator[Parts]:
    sqs, kinesis = aws.client("sqs"), aws.client("kinesis")
    name = f"redrive-{uuid.uuid4().hex[:8]}"
    queue = sqs.create_queue(QueueName=f"{name}-dlq")["QueueUrl"]
    consumer = sqs.create_queue(QueueName=f"{name}-consumer")["QueueUrl"]
    kinesis.create_stream(StreamName=name, ShardCount=1)

    def active() -> bool:
        summary = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
        return bool(summary["StreamStatus"] == "ACTIVE")

    wait_until(active, "the stream is not active", 10)
    yield Parts(sqs, kinesis, queue, name, consumer)
    for url in (queue, consumer):
        sqs.delete_queue(QueueUrl=url)
    kinesis.delete_stream(StreamName=name)


def rejected(record: str, payload: bytes, rule: str = "decimal") -> dict[str, Any]:
    return {
        "record_id": record,
        "load_id": "L",
        "reason": "value: is not a decimal",
        "violations": [{"field": "value", "value": "x", "rule": rule, "message": "is not a decimal"}],
        "payload": base64.b64encode(payload).decode(),
    }


def test_rejected_records_go_back_under_their_identity(parts: Parts) -> None:
    for i in range(25):
        parts.letter(rejected(f"L:{i:010d}", b"\xff%d" % i))
    found = parts.run()
    assert (found.messages, found.records, found.left) == (25, 25, 0)
    assert found.reasons == {"value: decimal": 25}
    assert sorted(parts.records()) == [(f"redrive:L:{i:010d}", b"\xff%d" % i) for i in range(25)]
    assert parts.waiting() == 0


def test_a_dry_run_only_counts_reasons(parts: Parts) -> None:
    parts.letter(rejected("L:1", b"1"))
    parts.letter(rejected("L:2", b"2", "known-series"))
    for _ in range(2):  # the messages are to be seen again at once
        found = parts.run(dry_run=True)
        assert found.reasons == {"value: decimal": 1, "value: known-series": 1}
    assert parts.records() == []
    assert parts.waiting() == 2


def test_what_arrives_meanwhile_is_left_alone(parts: Parts) -> None:
    parts.letter(rejected("L:1", b"1"))
    redrive = Redrive(parts.sqs, parts.kinesis, parts.queue, parts.stream, lambda: time.time() - 3600)
    assert redrive.run(dry_run=False, done=lambda _: None).messages == 0
    assert parts.run().messages == 1


def test_a_batch_that_a_function_failed_on_is_read_from_its_stream_again(parts: Parts) -> None:
    placed = [
        parts.kinesis.put_record(StreamName=parts.stream, PartitionKey=f"X{i}", Data=b"%d" % i)
        for i in range(5)
    ]
    batch = {
        "shardId": placed[1]["ShardId"],
        "startSequenceNumber": placed[1]["SequenceNumber"],
        "endSequenceNumber": placed[3]["SequenceNumber"],
        "batchSize": 3,
        "streamArn": f"arn:aws:kinesis:us-east-1:000000000000:stream/{parts.stream}",
    }
    context = {
        "functionArn": "arn:aws:lambda:us-east-1:000000000000:function:qis-local-ingest:live",
        "condition": "RetryAttemptsExhausted",
    }
    parts.letter({"requestContext": context, "KinesisBatchInfo": batch})
    parts.letter({"requestContext": context, "KinesisBatchInfo": {**batch, "batchSize": 9}})
    found = parts.run()
    assert (found.messages, found.records, found.left) == (2, 3, 1)
    assert found.reasons["RetryAttemptsExhausted in qis-local-ingest"] == 2
    assert parts.records()[5:] == [("X1", b"1"), ("X2", b"2"), ("X3", b"3")]
    assert parts.waiting() == 1


def test_a_tick_that_a_function_failed_on_is_made_good_by_the_next_one(parts: Parts) -> None:
    context = {
        "functionArn": "arn:aws:lambda:us-east-1:000000000000:function:qis-local-relay:$LATEST",
        "condition": "RetriesExhausted",
    }
    body = {
        "requestContext": context,
        "requestPayload": {"detail-type": "Scheduled Event", "detail": {}},
        "responsePayload": {"errorMessage": "Task timed out after 120.00 seconds"},
    }
    parts.letter(body)
    parts.letter({**body, "requestPayload": {"detail-type": "of somebody else"}})
    found = parts.run()
    assert (found.messages, found.records, found.left) == (2, 0, 1)
    assert found.reasons["RetriesExhausted in qis-local-relay: Task timed out after 120.00 seconds"] == 2
    assert parts.records() == []
    assert parts.waiting() == 1


def test_an_event_that_a_target_did_not_take_is_sent_to_it(parts: Parts) -> None:
    name = parts.consumer.rpartition("/")[2]
    parts.letter(
        {"detail": {"id": "e-1"}},
        TARGET_ARN=f"arn:aws:sqs:us-east-1:000000000000:{name}",
        ERROR_CODE="NO_PERMISSIONS",
    )
    found = parts.run()
    assert (found.records, found.reasons) == (1, {"NO_PERMISSIONS": 1})
    (message,) = parts.sqs.receive_message(QueueUrl=parts.consumer)["Messages"]
    assert json.loads(message["Body"]) == {"detail": {"id": "e-1"}}


@pytest.mark.parametrize("body", ["{", "[1]", "{}", {**rejected("L:1", b""), "payload": "!"}])
def test_what_has_no_known_form_stays_in_the_queue(parts: Parts, body: object) -> None:
    parts.letter(body)
    found = parts.run()
    assert (found.records, found.left) == (0, 1)
    assert parts.waiting() == 1
    assert any(reason.startswith("cannot be put back") for reason in found.reasons)


def test_the_stream_beside_a_queue_in_aws() -> None:
    assert ingest_stream_of("qis-dev-ingest-dlq") == "qis-dev-ingest"
    for name in ("ingest-dlq", "qis-dev-ingest", "other-dev-ingest-dlq"):
        with pytest.raises(Failure, match="not of the form"):
            ingest_stream_of(name)
