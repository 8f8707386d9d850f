"""What is replaced in the AWS APIs does what it replaces, and no more than it should."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

STREAM, SHARD = "stream", "shardId-000000000000"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """What is replaced, for one test."""
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    from ministack.core import iam_actions  # type: ignore[import-untyped]  # ships no types
    from ministack.services import (  # type: ignore[import-untyped]  # ships no types
        eventbridge,
        kinesis,
    )

    from local.aws_server import install

    for module, name in (
        (kinesis, "_expire_records"),
        (kinesis, "_expire_iterators"),
        (kinesis, "_delete_stream"),
        (eventbridge, "_events_log_list"),
        (iam_actions, "extract_iam_action"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))  # put back at the end
    with closing(install()):
        yield


@pytest.fixture
def kinesis(installed: None) -> Iterator[Any]:
    from ministack.services import kinesis

    kinesis._create_stream({"StreamName": STREAM, "ShardCount": 1})
    try:
        yield kinesis
    finally:
        kinesis.reset()


def _put(kinesis: Any, count: int) -> None:
    for number in range(count):
        kinesis._put_record({"StreamName": STREAM, "PartitionKey": "k", "Data": f"{number:04d}"})


def _open(kinesis: Any) -> str:
    of = {"StreamName": STREAM, "ShardId": SHARD, "ShardIteratorType": "TRIM_HORIZON"}
    return str(json.loads(kinesis._get_shard_iterator(of)[2])["ShardIterator"])


def _read(kinesis: Any, iterator: str, limit: int = 100) -> tuple[int, str]:
    answer = json.loads(kinesis._get_records({"ShardIterator": iterator, "Limit": limit})[2])
    return len(answer["Records"]), answer["NextShardIterator"]


def _age(kinesis: Any, count: int) -> None:
    """Make the first ``count`` records older than the retention."""
    (stream,) = (s for s in kinesis._streams._data.values() if s["StreamName"] == STREAM)
    for record in stream["shards"][SHARD]["records"][:count]:
        record["ApproximateArrivalTimestamp"] = time.time() - 25 * 3600


def test_a_reader_keeps_its_place_when_records_before_it_expire(kinesis: Any) -> None:
    _put(kinesis, 10)
    count, iterator = _read(kinesis, _open(kinesis), 6)
    assert count == 6
    _age(kinesis, 5)
    assert _read(kinesis, iterator)[0] == 4


def test_a_reader_at_the_end_sees_what_comes_after_all_have_expired(kinesis: Any) -> None:
    _put(kinesis, 10)
    _, iterator = _read(kinesis, _open(kinesis))
    _age(kinesis, 10)
    count, iterator = _read(kinesis, iterator)
    assert count == 0
    _put(kinesis, 3)
    assert _read(kinesis, iterator)[0] == 3


def _killed(kinesis: Any, state: Any = None) -> None:
    """What is in memory is gone, and the next server begins with what was saved."""
    kinesis.reset()
    if state is not None:
        kinesis.load_persisted_state(state)
    else:
        kinesis._create_stream({"StreamName": STREAM, "ShardCount": 1})


def _sequences(kinesis: Any) -> list[str]:
    answer = json.loads(kinesis._get_records({"ShardIterator": _open(kinesis), "Limit": 100})[2])
    return [record["SequenceNumber"] for record in answer["Records"]]


def test_what_was_put_outlives_a_killed_server_in_its_place(kinesis: Any, tmp_path: Path) -> None:
    _put(kinesis, 3)
    before = _sequences(kinesis)
    (file,) = (tmp_path / "records").iterdir()
    with file.open("a") as torn:
        torn.write('{"SequenceNumber": "9')  # it was killed in the middle of the next, which was not answered
    _killed(kinesis)
    assert _sequences(kinesis) == before
    _put(kinesis, 1)
    _killed(kinesis)
    assert _sequences(kinesis)[:3] == before
    assert len(_sequences(kinesis)) == 4


def test_what_was_saved_and_what_came_after_it_are_put_together(kinesis: Any) -> None:
    _put(kinesis, 3)
    state = kinesis.get_state()
    _put(kinesis, 2)
    before = _sequences(kinesis)
    _killed(kinesis, state)
    assert _sequences(kinesis) == before


def test_what_expired_does_not_come_back(kinesis: Any) -> None:
    _put(kinesis, 3)
    _age(kinesis, 2)
    kept = _sequences(kinesis)
    _killed(kinesis, kinesis.get_state())
    assert _sequences(kinesis) == kept
    assert len(kept) == 1


def test_a_stream_of_the_same_name_begins_empty(kinesis: Any) -> None:
    _put(kinesis, 3)
    kinesis._delete_stream({"StreamName": STREAM})
    kinesis._create_stream({"StreamName": STREAM, "ShardCount": 1})
    assert _sequences(kinesis) == []


def test_old_iterators_are_forgotten_and_young_ones_kept(kinesis: Any) -> None:
    old, young = _open(kinesis), _open(kinesis)
    iterators = kinesis._shard_iterators._data
    next(iter(iterators.values()))["created_at"] -= kinesis.ITERATOR_EXPIRY_SECONDS + 1
    kinesis._expire_iterators()
    assert [key[-1] for key in iterators] == [young]
    assert old != young


def test_the_bus_keeps_no_event_after_it_was_dispatched(kinesis: Any) -> None:
    from ministack.services import eventbridge

    entry = {"Source": "test", "DetailType": "t", "Detail": "{}"}
    answer = json.loads(eventbridge._put_events({"Entries": [entry]})[2])
    assert answer["FailedEntryCount"] == 0
    assert "entries" not in eventbridge._events_log


@pytest.mark.parametrize(
    ("called", "asked"),
    [("SendMessageBatch", "sqs:SendMessage"), ("ReceiveMessage", "sqs:ReceiveMessage")],
)
@pytest.mark.usefixtures("installed")
def test_a_batch_of_messages_is_allowed_as_one_message_is(called: str, asked: str) -> None:
    from ministack.core.iam_actions import extract_iam_action

    headers = {"x-amz-target": f"AmazonSQS.{called}"}
    assert extract_iam_action("sqs", "POST", "/", headers, b"{}", {}) == asked
