"""The limits of the AWS services, which the servers used locally do not enforce."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qis.adapters.aws.services import EventBridgeBus, KinesisBackbone, SqsDeadLetters
from qis.application.ports import DeadLetter, Unavailable

MESSAGE = 256 * 1024


class Queue:
    """SQS as it refuses: ten messages and 256 KiB a call."""

    def __init__(self, failing: int = 0) -> None:
        self.bodies: list[str] = []
        self._failing = failing

    def send_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, str]]) -> dict[str, Any]:  # noqa: N803
        assert 1 <= len(Entries) <= 10
        assert sum(len(e["MessageBody"].encode()) for e in Entries) <= MESSAGE
        assert len({e["Id"] for e in Entries}) == len(Entries)
        if self._failing:
            return {"Failed": [{"Id": Entries[0]["Id"], "Message": "throttled"}]}
        self.bodies += [e["MessageBody"] for e in Entries]
        return {"Successful": []}


def letter(number: int, size: int) -> DeadLetter:
    return DeadLetter(str(number), "load", "reason", [], b"x" * size)


def test_letters_are_cut_into_calls_that_the_queue_takes() -> None:
    queue = Queue()
    SqsDeadLetters(lambda: queue, "url").send([letter(n, 65_536) for n in range(25)])  # type: ignore[arg-type]
    assert [json.loads(b)["record_id"] for b in queue.bodies] == [str(n) for n in range(25)]


def test_a_record_larger_than_a_message_is_queued_without_its_payload_and_holds_nobody_up() -> None:
    queue = Queue()
    SqsDeadLetters(lambda: queue, "url").send([letter(1, 10), letter(2, 10_000_000), letter(3, 10)])  # type: ignore[arg-type]
    found = {body["record_id"]: "payload" in body for body in map(json.loads, queue.bodies)}
    assert found == {"1": True, "2": False, "3": True}


def test_a_letter_that_the_queue_refuses_is_told() -> None:
    with pytest.raises(Unavailable, match="throttled"):
        SqsDeadLetters(lambda: Queue(failing=1), "url").send([letter(1, 10)])  # type: ignore[arg-type]


class Stream:
    """Kinesis as it refuses: 500 records and 5 MiB a call, some throttled within a call."""

    def __init__(self, throttled: dict[int, set[int]] | None = None) -> None:
        self.taken: list[tuple[str, bytes]] = []
        self.calls = 0
        self._throttled = throttled or {}

    def put_records(self, *, StreamName: str, Records: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        assert 1 <= len(Records) <= 500
        assert sum(len(r["Data"]) + len(r["PartitionKey"]) for r in Records) <= 5 * 1024 * 1024
        refused = self._throttled.get(self.calls, set())
        self.calls += 1
        answers = []
        for number, record in enumerate(Records):
            if number in refused:
                answers.append({"ErrorCode": "ProvisionedThroughputExceededException"})
            else:
                self.taken.append((record["PartitionKey"], record["Data"]))
                answers.append({"SequenceNumber": "1"})
        return {"FailedRecordCount": len(refused), "Records": answers}


def of_key(records: Sequence[tuple[str, bytes]], key: str) -> list[bytes]:
    return [data for k, data in records if k == key]


def test_records_are_cut_into_calls_that_the_stream_takes() -> None:
    stream, pauses = Stream(), list[float]()
    sent = [(f"k{n}", bytes([n % 256]) * 100_000) for n in range(120)] + [
        (f"m{n}", b"x") for n in range(1_100)
    ]
    KinesisBackbone(stream, "events", pauses.append).put(sent)  # type: ignore[arg-type]
    assert stream.taken == sent
    assert stream.calls == 5
    assert pauses == []


def test_records_of_one_key_wait_for_each_other() -> None:
    stream = Stream()
    sent = [("ab"[n % 2], bytes([n])) for n in range(10)]
    KinesisBackbone(stream, "events", lambda _: None).put(sent)  # type: ignore[arg-type]
    assert stream.calls == 5
    assert [of_key(stream.taken, key) for key in "ab"] == [of_key(sent, key) for key in "ab"]


class Refusing(Stream):
    """Takes and refuses as it likes, and loses answers of what it has taken."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random

    def put_records(self, *, StreamName: str, Records: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        self.calls += 1
        answers = []
        for record in Records:
            taken, heard = self._random.random() < 0.7, self._random.random() < 0.9
            if taken:
                self.taken.append((record["PartitionKey"], record["Data"]))
            answers.append({"SequenceNumber": "1"} if taken and heard else {"ErrorCode": "InternalFailure"})
        return {"FailedRecordCount": sum("ErrorCode" in a for a in answers), "Records": answers}


@given(st.lists(st.sampled_from("abc"), max_size=30), st.randoms(use_true_random=False))
def test_whatever_a_stream_refuses_each_key_is_in_order_once_repeats_are_dropped(
    keys: list[str], random: Random
) -> None:
    stream = Refusing(random)
    sent = [(key, bytes([n])) for n, key in enumerate(keys)]
    left = sent
    while left:  # as the relay does, which sends all again that it has not moved past
        with suppress(Unavailable):
            KinesisBackbone(stream, "events", lambda _: None).put(left)  # type: ignore[arg-type]
            left = []
    for key in "abc":
        assert list(dict.fromkeys(of_key(stream.taken, key))) == of_key(sent, key)


def test_a_stream_that_stays_throttled_is_given_up() -> None:
    stream, pauses = Stream({n: {0} for n in range(100)}), list[float]()
    with pytest.raises(Unavailable):
        KinesisBackbone(stream, "events", pauses.append).put([("k", b"1")])  # type: ignore[arg-type]
    assert pauses == [0.1, 0.2, 0.4, 0.8]


class Events:
    """EventBridge as it refuses: ten entries and 1 MB a call, some failed."""

    def __init__(self, failing: set[str]) -> None:
        self._failing = failing

    def put_events(self, *, Entries: list[dict[str, str]]) -> dict[str, Any]:  # noqa: N803
        assert 1 <= len(Entries) <= 10
        assert sum(len(e["Source"] + e["DetailType"] + e["Detail"]) for e in Entries) <= 1024 * 1024
        bad = [json.loads(e["Detail"])["id"] in self._failing for e in Entries]
        return {"Entries": [{"ErrorCode": "InternalFailure"} if b else {"EventId": "1"} for b in bad]}


def test_the_bus_names_the_events_that_it_did_not_take_by_their_place_in_the_batch() -> None:
    bus = EventBridgeBus(Events({"3", "10", "24"}), "bus", "source")  # type: ignore[arg-type]
    events = [{"id": str(n), "type": "t"} for n in range(25)]
    assert bus.put(events) == {3, 10, 24}


def test_large_events_are_cut_into_calls_that_the_bus_takes() -> None:
    """An options chain is a hundred kilobytes: ten of them in a call would be refused together."""
    bus = EventBridgeBus(Events({"7"}), "bus", "source")  # type: ignore[arg-type]
    events = [{"id": str(n), "type": "t", "data": "x" * 300_000} for n in range(12)]
    assert bus.put(events) == {7}
