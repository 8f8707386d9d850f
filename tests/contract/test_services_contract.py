"""What the ports to raw storage, dead letters, backbone and bus promise: one suite, run against the fakes
and over the wire."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from local.aws import AwsServer
from qis.adapters.aws import clients
from qis.adapters.aws.services import EventBridgeBus, KinesisBackbone, S3RawStore, SqsDeadLetters
from qis.application.ports import Backbone, Bus, DeadLetter, DeadLetters, RawStore, Unavailable
from qis.application.raw import pack
from tests.support.fakes import MemoryBackbone, MemoryBus, MemoryDeadLetters, MemoryRawStore
from tests.support.raw import unpack

KINDS = ["memory", pytest.param("aws", marks=pytest.mark.integration)]
WITHIN = 20.0


def name_of(what: str) -> str:
    """A resource name that no other test uses."""
    return f"{what}-{uuid4().hex[:12]}"


def until(look: Callable[[], list[Any]], length: int) -> list[Any]:
    """What ``look`` brings in, until it is ``length`` things."""
    deadline = time.monotonic() + WITHIN
    found: list[Any] = []
    while len(found) < length:
        assert time.monotonic() < deadline, f"only {len(found)} of {length} came"
        found += look()
    return found


def received(aws: AwsServer, url: str, length: int) -> list[str]:
    """Bodies of messages of a queue, taken out of it."""
    client = aws.client("sqs")

    def look() -> list[str]:
        answer = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        for message in answer.get("Messages", ()):
            client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return [m["Body"] for m in answer.get("Messages", ())]

    return until(look, length)


# raw payloads ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Raw:
    """A raw store, where its batches are, and how to read from it."""

    store: RawStore
    place: str
    body: Callable[[str], bytes]
    objects: Callable[[], int]


@pytest.fixture(params=KINDS)
def raw(request: pytest.FixtureRequest) -> Raw:
    if request.param == "memory":
        memory = MemoryRawStore()
        return Raw(memory, "memory://raw", memory.bodies.__getitem__, lambda: len(memory.bodies))
    client = request.getfixturevalue("aws").client("s3")
    bucket = name_of("raw")
    client.create_bucket(Bucket=bucket)

    def body(uri: str) -> bytes:
        prefix = f"s3://{bucket}/"
        assert uri.startswith(prefix)
        return bytes(client.get_object(Bucket=bucket, Key=uri.removeprefix(prefix))["Body"].read())

    def objects() -> int:
        return int(client.list_objects_v2(Bucket=bucket)["KeyCount"])

    return Raw(S3RawStore(lambda: client), f"s3://{bucket}/raw", body, objects)


HOSTILE = [b"{}", b"", b"\x00\xff\n", "漢\n".encode(), b"{}", b"x" * 65_536]


def test_raw_payloads_are_read_back_byte_for_byte_in_order(raw: Raw) -> None:
    batch = pack(HOSTILE, raw.place)
    raw.store.put([batch])
    assert unpack(raw.body(batch.address)) == HOSTILE


def test_many_batches_are_kept_and_each_once(raw: Raw) -> None:
    batches = [pack([b"%d" % n, *HOSTILE], raw.place) for n in range(25)]
    raw.store.put(batches)
    raw.store.put(batches[:3])
    raw.store.put([])
    assert raw.objects() == len(batches)
    assert [raw.body(b.address) for b in batches] == [b.body for b in batches]


@pytest.mark.integration
def test_a_raw_store_that_refuses_is_unavailable(aws: AwsServer) -> None:
    with pytest.raises(Unavailable, match="no-such-bucket"):
        S3RawStore(lambda: aws.client("s3")).put([pack([b"{}"], "s3://no-such-bucket/raw")])


# dead letters ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dead:
    """A dead-letter queue, and how to take letters out."""

    queue: DeadLetters
    take: Callable[[int], list[dict[str, Any]]]


@pytest.fixture(params=KINDS)
def dead(request: pytest.FixtureRequest) -> Dead:
    if request.param == "memory":
        memory = MemoryDeadLetters()

        def taken(_: int) -> list[dict[str, Any]]:
            return [
                {
                    "record_id": x.record_id,
                    "load_id": x.load_id,
                    "reason": x.reason,
                    "violations": list(x.violations),
                    "payload": base64.b64encode(x.payload).decode(),
                }
                for x in memory.letters
            ]

        return Dead(memory, taken)
    aws: AwsServer = request.getfixturevalue("aws")
    client = aws.client("sqs")
    url = client.create_queue(QueueName=name_of("dlq"))["QueueUrl"]
    return Dead(
        SqsDeadLetters(lambda: client, url),
        lambda length: [json.loads(b) for b in received(aws, url, length)],
    )


def letter(number: int, payload: bytes = b"\x00not json") -> DeadLetter:
    violation = {"field": "value", "value": "\ufffd", "rule": "json", "message": "is not"}
    return DeadLetter(f"record-{number}", "load", "value: is not [json]", [violation], payload)


def test_a_dead_letter_says_why_and_carries_the_payload_byte_for_byte(dead: Dead) -> None:
    dead.queue.send([letter(1)])
    (found,) = dead.take(1)
    assert found["record_id"] == "record-1"
    assert found["load_id"] == "load"
    assert found["reason"] == "value: is not [json]"
    assert found["violations"] == [{"field": "value", "value": "\ufffd", "rule": "json", "message": "is not"}]
    assert base64.b64decode(found["payload"]) == b"\x00not json"


def test_more_letters_than_one_call_takes_all_arrive(dead: Dead) -> None:
    dead.queue.send([letter(n) for n in range(23)])
    assert sorted(x["record_id"] for x in dead.take(23)) == sorted(f"record-{n}" for n in range(23))


def test_letters_of_the_largest_record_all_arrive(dead: Dead) -> None:
    """Ten of them are more than one call of the queue service takes."""
    payload = bytes(range(256)) * 256  # 65,536 bytes: the largest claim record
    dead.queue.send([letter(n, payload) for n in range(12)])
    assert all(base64.b64decode(x["payload"]) == payload for x in dead.take(12))


def test_no_letters_are_no_call(dead: Dead) -> None:
    dead.queue.send([])
    dead.queue.send([letter(1)])
    assert len(dead.take(1)) == 1


# the backbone ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stream:
    """A backbone, and how to read what is in it."""

    backbone: Backbone
    read: Callable[[int], list[tuple[str, bytes]]]


@pytest.fixture(params=KINDS)
def stream(request: pytest.FixtureRequest) -> Stream:
    if request.param == "memory":
        memory = MemoryBackbone()
        return Stream(memory, lambda _: memory.records)
    client = request.getfixturevalue("aws").client("kinesis")
    name = name_of("events")
    client.create_stream(StreamName=name, ShardCount=2)
    client.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 20})

    def read(length: int) -> list[tuple[str, bytes]]:
        iterators = [
            client.get_shard_iterator(
                StreamName=name, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )["ShardIterator"]
            for shard in client.list_shards(StreamName=name)["Shards"]
        ]

        def look() -> list[tuple[str, bytes]]:
            found = []
            for i, iterator in enumerate(iterators):
                answer = client.get_records(ShardIterator=iterator, Limit=10_000)
                iterators[i] = answer["NextShardIterator"]
                found += [(r["PartitionKey"], r["Data"]) for r in answer["Records"]]
            return found

        return until(look, length)

    return Stream(KinesisBackbone(client, name, time.sleep), read)


@pytest.mark.integration
@pytest.mark.parametrize("listening", [True, False])
def test_a_stream_that_does_not_answer_is_unavailable_soon(
    listening: bool, aws_variables: AwsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        if not listening:
            silent.close()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        backbone = KinesisBackbone(clients.client("kinesis"), "events", time.sleep)
        with pytest.raises(Unavailable, match=r"stream events: .*127\.0\.0\.1"):
            backbone.put([("k", b"1")])


def by_key(records: list[tuple[str, bytes]]) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for key, data in records:
        found.setdefault(key, []).append(data)
    return found


def test_records_arrive_in_order_within_their_key_over_many_calls(stream: Stream) -> None:
    sent = [(f"series-{n % 7}", f"{n}".encode()) for n in range(1203)]
    stream.backbone.put(sent)
    assert by_key(stream.read(len(sent))) == by_key(sent)


def test_records_larger_together_than_one_call_takes_all_arrive_in_order(stream: Stream) -> None:
    sent = [("series", bytes([n]) * 900_000) for n in range(8)]
    stream.backbone.put(sent)
    assert by_key(stream.read(8)) == by_key(sent)


def test_no_records_are_no_call(stream: Stream) -> None:
    stream.backbone.put([])
    stream.backbone.put([("k", b"1")])
    assert stream.read(1) == [("k", b"1")]


# the bus -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wire:
    """A bus, and what consumers get."""

    bus: Bus
    take: Callable[[int], list[dict[str, Any]]]


@pytest.fixture(params=KINDS)
def wire(request: pytest.FixtureRequest) -> Wire:
    if request.param == "memory":
        memory = MemoryBus()
        return Wire(memory, lambda _: [dict(e) for e in memory.events])
    aws: AwsServer = request.getfixturevalue("aws")
    events, sqs = aws.client("events"), aws.client("sqs")
    bus, queue = name_of("bus"), name_of("consumer")
    events.create_event_bus(Name=bus)
    url = sqs.create_queue(QueueName=queue)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = {"source": ["qis.data-management"], "detail-type": [{"prefix": "com.qis.data."}]}
    events.put_rule(Name="all", EventBusName=bus, EventPattern=json.dumps(pattern))
    events.put_targets(Rule="all", EventBusName=bus, Targets=[{"Id": "queue", "Arn": arn}])

    def take(length: int) -> list[dict[str, Any]]:
        envelopes = [json.loads(b) for b in received(aws, url, length)]
        assert all(e["detail-type"] == e["detail"]["type"] for e in envelopes)
        return [e["detail"] for e in envelopes]

    return Wire(EventBridgeBus(events, bus, "qis.data-management"), take)


def cloud_event(number: int) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"event-{number}",
        "type": "com.qis.data.published.v1",
        "data": {"é": "1.10"},
    }


def test_every_event_reaches_the_consumer_whole(wire: Wire) -> None:
    sent = [cloud_event(n) for n in range(23)]
    assert wire.bus.put(sent) == frozenset()
    assert sorted(wire.take(23), key=lambda e: e["id"]) == sorted(sent, key=lambda e: e["id"])


def test_no_events_are_no_call(wire: Wire) -> None:
    assert wire.bus.put([]) == frozenset()
