"""Kinesis, S3, SQS and EventBridge behind the ports of the application."""

from __future__ import annotations

import base64
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from qis.application.ports import DeadLetter, Unavailable

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_kinesis import KinesisClient
    from mypy_boto3_kinesis.type_defs import PutRecordsOutputTypeDef
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

    from qis.application.raw import RawBatch

T = TypeVar("T")

KINESIS_BATCH, KINESIS_BYTES = 500, 4 * 1024 * 1024
SQS_BATCH, SQS_BYTES = 10, 256 * 1024
LETTER_PAYLOAD = 96 * 1024
"""Largest payload that a dead letter carries; a larger one is found in the raw store and by its record id."""
BUS_BATCH, BUS_BYTES = 10, 1000 * 1000
RAW_AT_A_TIME = 10
"""Objects; a client keeps as many connections."""
RETRIES = 5
FIRST_PAUSE = 0.1
"""Seconds before the first retry of throttled records."""


def batches(
    items: Sequence[T], most: int, most_bytes: int, size_of: Callable[[T], int]
) -> Iterator[Sequence[T]]:
    """``items`` in runs of at most ``most``, together at most ``most_bytes`` where there is more than one."""
    run: list[T] = []
    total = 0
    for item in items:
        size = size_of(item)
        if run and (len(run) == most or total + size > most_bytes):
            yield run
            run, total = [], 0
        run.append(item)
        total += size
    if run:
        yield run


@contextmanager
def _answering(what: str) -> Iterator[None]:
    """A call of ``what``, which is unavailable if it fails."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise Unavailable(f"{what}: {error}") from error


class S3RawStore:
    """``RawStore``: an object per batch, of which several are written at a time."""

    def __init__(self, client: Callable[[], S3Client]) -> None:
        """Args:
        client: gives the one that is used, made when first needed.
        """
        self._client = client

    def put(self, batches: Sequence[RawBatch]) -> None:
        """See ``RawStore.put``."""
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(RAW_AT_A_TIME, thread_name_prefix="raw") as pool:
            for _ in pool.map(partial(self._put, self._client()), batches):
                pass

    def _put(self, client: S3Client, batch: RawBatch) -> None:
        bucket, _, key = batch.address.removeprefix("s3://").partition("/")
        with _answering(f"bucket {bucket}"):
            client.put_object(Bucket=bucket, Key=key, Body=batch.body)


class SqsDeadLetters:
    """``DeadLetters``: one message per record, its payload in base64 beside the reason."""

    def __init__(self, client: Callable[[], SQSClient], queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    def send(self, letters: Sequence[DeadLetter]) -> None:
        """See ``DeadLetters.send``."""
        bodies = [_letter_body(letter) for letter in letters]
        for batch in batches(bodies, SQS_BATCH, SQS_BYTES, len):
            entries: list[Any] = [{"Id": str(i), "MessageBody": body} for i, body in enumerate(batch)]
            answer = self._client().send_message_batch(QueueUrl=self._queue_url, Entries=entries)
            if failed := answer.get("Failed"):
                raise Unavailable(f"the dead-letter queue refused {len(failed)}: {failed[0].get('Message')}")


def _letter_body(letter: DeadLetter) -> str:
    body = {**asdict(letter), "violations": list(letter.violations)}
    if len(letter.payload) <= LETTER_PAYLOAD:
        body["payload"] = base64.b64encode(letter.payload).decode()
    else:  # one record larger than a message may be must not hold the others up
        del body["payload"]
    return json.dumps(body, separators=(",", ":"))


class KinesisBackbone:
    """``Backbone``: a Kinesis stream, ordered within a partition key."""

    def __init__(self, client: KinesisClient, stream: str, sleep: Callable[[float], None]) -> None:
        self._client = client
        self._stream = stream
        self._sleep = sleep

    def put(self, records: Sequence[tuple[str, bytes]]) -> None:
        """See ``Backbone.put``.

        A call that is taken in part may have stored a later record and refused an earlier one, so each call
        holds one record of a key at most: the next one is sent when it is acknowledged. What is refused is
        sent again, after a pause that doubles: a shard's limits are by the second. What the service stored
        without our hearing of it is stored again, before any later record of its key.
        """
        waiting: dict[str, deque[bytes]] = {}
        for key, data in records:
            waiting.setdefault(key, deque()).append(data)
        while waiting:
            heads = [(key, data[0]) for key, data in waiting.items()]
            for batch in batches(heads, KINESIS_BATCH, KINESIS_BYTES, _weight):
                self._put_all(batch)
            for key, _ in heads:
                waiting[key].popleft()
                if not waiting[key]:
                    del waiting[key]

    def _put_all(self, batch: Sequence[tuple[str, bytes]]) -> None:
        """Send records of different keys until all are taken."""
        refused = batch
        for attempt in range(RETRIES):
            if attempt:
                self._sleep(FIRST_PAUSE * 2 ** (attempt - 1))
            answer = self._put([{"PartitionKey": key, "Data": data} for key, data in refused])
            if not answer["FailedRecordCount"]:
                return
            outcomes = zip(refused, answer["Records"], strict=True)
            refused = [record for record, outcome in outcomes if outcome.get("ErrorCode")]
        raise Unavailable(f"stream {self._stream} refused records {RETRIES} times")

    def _put(self, entries: list[Any]) -> PutRecordsOutputTypeDef:
        with _answering(f"stream {self._stream}"):
            return self._client.put_records(StreamName=self._stream, Records=entries)


def _weight(record: tuple[str, bytes]) -> int:
    return len(record[0]) + len(record[1])


class EventBridgeBus:
    """``Bus``: the structured CloudEvent is the ``detail``, its type the ``detail-type``."""

    def __init__(self, client: EventBridgeClient, bus_name: str, source: str) -> None:
        self._client = client
        self._bus_name = bus_name
        self._source = source

    def put(self, events: Sequence[Mapping[str, Any]]) -> frozenset[int]:
        """See ``Bus.put``."""
        entries: list[Any] = [
            {
                "EventBusName": self._bus_name,
                "Source": self._source,
                "DetailType": event["type"],
                "Detail": json.dumps(event, separators=(",", ":")),
            }
            for event in events
        ]
        answered: list[Any] = []
        for batch in batches(entries, BUS_BATCH, BUS_BYTES, _entry_bytes):
            answered += self._client.put_events(Entries=batch)["Entries"]
        return frozenset(i for i, entry in enumerate(answered) if entry.get("ErrorCode"))


def _entry_bytes(entry: Mapping[str, str]) -> int:
    """As EventBridge counts; the bus's name does not. ``Detail`` is ASCII."""
    return len(entry["Source"]) + len(entry["DetailType"]) + len(entry["Detail"])
