"""Event sources behave as those of AWS: order, retries, splitting, ages, destinations, checkpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.twin.streams import (
    QUEUE,
    SHARD,
    START,
    Function,
    Stream,
    World,
    failed,
    numbers_of,
    record,
    records,
)

Make = Callable[..., World]


@pytest.fixture
def world(tmp_path: Path) -> Make:
    def make(held: list[Any], function: Function, **changes: Any) -> World:
        return World(tmp_path, Stream(held), function, **changes)

    return make


def test_a_batch_that_succeeds_moves_the_checkpoint(world: Make) -> None:
    w = world(records(7), Function(), batch_size=3)
    w.drain()
    assert [len(c) for c in w.function.calls] == [3, 3, 1]
    assert w.checkpoint == record(6)["SequenceNumber"]
    assert not w.sent


def test_a_partial_failure_resumes_at_the_lowest_failed_record(world: Make) -> None:
    times = iter([{"batchItemFailures": [*failed(8)["batchItemFailures"], *failed(5)["batchItemFailures"]]}])
    w = world(records(10), Function(lambda _: next(times, None)))
    w.drain()
    assert [c[0] for c in w.function.calls] == [record(0)["SequenceNumber"], record(5)["SequenceNumber"]]
    assert w.function.done == [record(n)["SequenceNumber"] for n in range(5, 10)]
    assert not w.sent


@pytest.mark.parametrize("answer", [None, {}, {"batchItemFailures": []}, {"batchItemFailures": None}])
def test_an_answer_without_failures_is_a_success(world: Make, answer: object) -> None:
    w = world(records(3), Function(lambda _: b"null" if answer is None else answer))
    w.drain()
    assert len(w.function.calls) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"not json",
        b'"text"',
        b"[1]",
        {"batchItemFailures": [{"itemIdentifier": "unknown"}]},
        {"batchItemFailures": [{"itemIdentifier": ""}]},
        {"batchItemFailures": [{"itemIdentifier": None}]},
        {"batchItemFailures": [{"wrong": "key"}]},
        {"batchItemFailures": ["text"]},
        {"batchItemFailures": 7},
    ],
)
def test_a_malformed_answer_fails_the_whole_batch(world: Make, answer: object) -> None:
    first = iter([answer])
    w = world(records(4), Function(lambda _: next(first, None)), bisect=False)
    w.drain()
    assert [len(c) for c in w.function.calls] == [4, 4]
    assert len(w.function.done) == 4


def test_without_partial_failures_the_answer_is_not_looked_at(world: Make) -> None:
    w = world(records(4), Function(lambda _: failed(2)), partial_failures=False)
    w.drain()
    assert len(w.function.calls) == 1
    assert w.checkpoint == record(3)["SequenceNumber"]


def _poisoned(poison: int) -> Callable[[list[dict[str, Any]]], None]:
    def does(given: list[dict[str, Any]]) -> None:
        if poison in numbers_of(given):
            raise RuntimeError("poison")

    return does


@pytest.mark.parametrize("poison", [0, 1, 250, 498, 499])
def test_bisection_isolates_one_poison_of_500(world: Make, poison: int) -> None:
    w = world(records(500), Function(_poisoned(poison)))
    w.drain()
    others = [record(n)["SequenceNumber"] for n in range(500) if n != poison]
    assert w.function.done == others, "each other record is processed once, in order"
    assert len(w.sent) == 1
    assert w.checkpoint == record(499)["SequenceNumber"]
    assert w.poller.lag.failed == 1


def test_what_is_given_up_is_reported_as_aws_reports_it(world: Make) -> None:
    w = world(records(3), Function(_poisoned(1)))
    w.drain()
    (message,) = w.sent
    assert message["url"] == QUEUE
    sequence = record(1)["SequenceNumber"]
    assert message["requestContext"] == {
        "requestId": message["requestContext"]["requestId"],
        "functionArn": "arn:aws:lambda:us-east-1:000000000000:function:function",
        "condition": "RetryAttemptsExhausted",
        "approximateInvokeCount": 4,
    }
    assert message["responseContext"] == {
        "statusCode": 200,
        "executedVersion": "$LATEST",
        "functionError": "Unhandled",
    }
    assert message["version"] == "1.0"
    assert message["KinesisBatchInfo"] == {
        "shardId": SHARD,
        "startSequenceNumber": sequence,
        "endSequenceNumber": sequence,
        "approximateArrivalOfFirstRecord": "2023-11-14T22:13:20.000Z",
        "approximateArrivalOfLastRecord": "2023-11-14T22:13:20.000Z",
        "batchSize": 1,
        "streamArn": w.source.stream_arn,
    }


def test_retries_end_and_the_shard_goes_on(world: Make) -> None:
    w = world(records(4), Function(_poisoned(1)), bisect=False, batch_size=2)
    w.drain()
    assert [len(c) for c in w.function.calls] == [2, 2, 2, 2, 2], "once and three retries, then the next"
    (message,) = w.sent
    assert message["KinesisBatchInfo"]["batchSize"] == 2, "without bisection the whole batch is given up"
    assert w.function.done == [record(n)["SequenceNumber"] for n in (2, 3)]


def test_without_bisection_a_partial_failure_gives_up_the_rest_of_the_batch(world: Make) -> None:
    def does(given: list[dict[str, Any]]) -> Any:
        return failed(2) if 2 in numbers_of(given) else None

    w = world(records(6), Function(does), bisect=False)
    w.drain()
    (message,) = w.sent
    assert message["KinesisBatchInfo"]["startSequenceNumber"] == record(2)["SequenceNumber"]
    assert message["KinesisBatchInfo"]["batchSize"] == 4


def test_with_bisection_a_partial_failure_gives_up_one_record(world: Make) -> None:
    def does(given: list[dict[str, Any]]) -> Any:
        return failed(2) if 2 in numbers_of(given) else None

    w = world(records(6), Function(does))
    w.drain()
    (message,) = w.sent
    assert message["KinesisBatchInfo"]["batchSize"] == 1
    assert w.function.done[-3:] == [record(n)["SequenceNumber"] for n in (3, 4, 5)]


def test_retries_without_end_wait_longer_and_longer(world: Make) -> None:
    left = iter(range(10))

    def does(_: list[dict[str, Any]]) -> None:
        if next(left, None) is not None:
            raise RuntimeError("not yet")

    w = world(records(1), Function(does), max_retries=-1)
    w.drain()
    waits = w.clock.naps[:10]
    assert waits == sorted(waits)
    assert waits[0] < waits[-1] <= 2.0
    assert len(w.function.done) == 1
    assert not w.sent


def test_records_past_the_maximum_age_are_given_up_unseen(world: Make) -> None:
    held = [record(0, arrived=START - 100), record(1, arrived=START - 61), record(2, arrived=START - 59)]
    w = world(held, Function(), max_age=60.0)
    w.drain()
    assert w.function.done == [record(2)["SequenceNumber"]]
    (message,) = w.sent
    assert message["requestContext"]["condition"] == "RecordAgeExceeded"
    assert message["KinesisBatchInfo"]["batchSize"] == 2


def test_a_record_grows_too_old_while_it_is_retried(world: Make) -> None:
    held = [record(0), record(1, arrived=START + 60)]
    w = world(held, Function(_poisoned(0)), max_age=3.0, max_retries=-1)
    w.drain()
    assert w.function.done == [record(1)["SequenceNumber"]]
    (message,) = w.sent
    assert message["requestContext"]["condition"] == "RecordAgeExceeded"
    assert w.clock.now - START > 3.0


def test_the_time_in_which_the_twin_did_not_run_makes_no_record_too_old(world: Make) -> None:
    w = world([record(0, arrived=START - 100), record(1)], Function(), max_age=60.0)
    w.since = START - 10
    w.poller = w.make()
    w.drain()
    assert len(w.function.done) == 2
    assert not w.sent


def test_a_poller_that_is_to_stop_ends_after_the_batch_in_work(world: Make) -> None:
    w = world(records(4), Function(), batch_size=2)

    async def stop(_: list[dict[str, Any]]) -> None:
        w.poller.stop()

    w.function.hook = stop
    asyncio.run(w.poller.run())
    assert w.function.done == [record(n)["SequenceNumber"] for n in (0, 1)]
    assert w.checkpoint == record(1)["SequenceNumber"]


def test_nothing_is_lost_while_the_on_failure_queue_does_not_answer(world: Make) -> None:
    w = world(records(3), Function(_poisoned(1)))
    w.queue_away = 5
    w.drain()
    assert len(w.sent) == 1
    assert w.function.done == [record(n)["SequenceNumber"] for n in (0, 2)]


def test_a_new_start_continues_after_the_checkpoint(world: Make) -> None:
    w = world(records(4), Function(), batch_size=2)
    w.drain()
    w.stream.held += [record(4), record(5)]
    w.poller = w.make()
    w.drain()
    assert w.function.done == [record(n)["SequenceNumber"] for n in range(6)]


def test_a_batch_cut_off_by_a_crash_is_delivered_again(world: Make) -> None:
    w = world(records(4), Function(), batch_size=2)
    reached = asyncio.Event()

    async def hang(given: list[dict[str, Any]]) -> None:
        if 2 in numbers_of(given):
            reached.set()
            await asyncio.Event().wait()

    w.function.hook = hang

    async def crash() -> None:
        running = asyncio.create_task(w.poller.run())
        await reached.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(crash())
    assert w.checkpoint == record(1)["SequenceNumber"]
    w.function.hook = None
    w.poller = w.make()
    w.drain()
    assert w.function.done == [record(n)["SequenceNumber"] for n in range(4)]


def test_a_source_from_latest_sees_only_what_comes_later(world: Make) -> None:
    w = world(records(3), Function(), from_start=False)

    def arrive() -> None:
        if len(w.stream.held) == 3:
            w.stream.held.append(record(3))
            w.poller.lag.idle_since = None

    w.clock.on_nap = arrive
    w.drain()
    assert w.function.done == [record(3)["SequenceNumber"]]


def test_a_stream_that_does_not_answer_is_asked_again_from_the_checkpoint(world: Make) -> None:
    w = world(records(4), Function(), batch_size=2)

    async def cut(given: list[dict[str, Any]]) -> None:
        if 0 in numbers_of(given):
            w.stream.away = 3

    w.function.hook = cut
    w.drain()
    assert w.function.done == [record(n)["SequenceNumber"] for n in range(4)]


def test_an_operator_reads_of_each_outage_once_and_of_all_that_fails(
    world: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "local.poller")
    w = world(records(2), Function(_poisoned(1)), batch_size=1, max_retries=1)
    w.stream.away = 3
    w.drain()
    assert [record.getMessage() for record in caplog.records] == [
        "function: its stream does not answer: the stream is away",
        "function: its stream answers again",
        "function: a batch of 1 failed: RuntimeError: poison",
        "function: a batch of 1 failed: RuntimeError: poison",
        "function: 1 records are given up: RetryAttemptsExhausted",
    ]


def test_lanes_run_side_by_side_and_keep_the_order_of_a_key(world: Make) -> None:
    keys = [f"key{n % 5}" for n in range(100)]
    w = world([record(n, key=k) for n, k in enumerate(keys)], Function(), parallelization=4)
    running: list[set[str]] = []
    most = 0
    seen: dict[str, list[int]] = {}

    async def watch(given: list[dict[str, Any]]) -> None:
        nonlocal most
        mine = {r["kinesis"]["partitionKey"] for r in given}
        assert all(not mine & other for other in running), "a key is in two invocations at once"
        running.append(mine)
        most = max(most, len(running))
        await asyncio.sleep(0)
        for r, number in zip(given, numbers_of(given), strict=True):
            seen.setdefault(r["kinesis"]["partitionKey"], []).append(number)
        running.remove(mine)

    w.function.hook = watch
    w.drain()
    assert most > 1
    assert all(numbers == sorted(numbers) for numbers in seen.values())
    assert sorted(n for numbers in seen.values() for n in numbers) == list(range(100))


def test_a_failing_lane_holds_the_checkpoint_and_not_the_other_lanes(world: Make) -> None:
    held = [record(n, key=f"key{n % 5}") for n in range(20)]
    w = world(held, Function(_poisoned(0)), parallelization=4)
    w.drain()
    assert len(w.function.done) == 19
    assert len(w.sent) == 1
    assert w.checkpoint == record(19)["SequenceNumber"]


def test_filtered_records_are_passed_over(world: Make) -> None:
    held = [
        record(0, data={"type": "Wanted"}),
        record(1, data={"type": "Other"}),
        record(2, data=b"not json"),
        record(3, data=[1]),
        record(4, data={"type": "Wanted"}),
        record(5, data={"type": "Other"}),
    ]
    w = world(held, Function(), filters=({"data": {"type": ["Wanted"]}},))
    w.drain()
    assert w.function.done == [record(n)["SequenceNumber"] for n in (0, 4)]
    assert w.checkpoint == record(5)["SequenceNumber"]


def test_a_batch_of_which_nothing_passes_is_not_invoked_for(world: Make) -> None:
    w = world(records(3), Function(), filters=({"data": {"type": ["Wanted"]}},))
    w.drain()
    assert w.function.calls == []
    assert w.checkpoint == record(2)["SequenceNumber"]


def test_the_window_gathers_until_it_closes(world: Make) -> None:
    w = world(records(2), Function(), window=1.0)

    def arrive() -> None:
        if len(w.stream.held) < 5:
            w.stream.held.append(record(len(w.stream.held)))

    w.clock.on_nap = arrive
    w.drain()
    assert [len(c) for c in w.function.calls] == [5]
    assert 1.0 <= w.clock.now - START < 1.5


def test_the_window_ends_when_the_batch_is_full(world: Make) -> None:
    w = world(records(4), Function(), window=60.0, batch_size=4)
    w.drain()
    assert w.clock.now - START < 1.0


def test_idleness_is_told(world: Make) -> None:
    w = world(records(1), Function())
    assert w.poller.lag.idle_since is None
    w.drain()
    assert w.poller.lag.idle_since is not None
    assert w.poller.lag.processed == 1


def test_the_record_has_the_shape_of_a_lambda_event(world: Make) -> None:
    seen: list[dict[str, Any]] = []
    w = world([record(1, key="k", data={"a": 1})], Function(seen.extend))
    w.drain()
    sequence = record(1)["SequenceNumber"]
    assert seen == [
        {
            "kinesis": {
                "kinesisSchemaVersion": "1.0",
                "partitionKey": "k",
                "sequenceNumber": sequence,
                "data": "eyJhIjogMX0=",
                "approximateArrivalTimestamp": START,
            },
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": f"{SHARD}:{sequence}",
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": "arn:aws:iam::000000000000:role/local",
            "awsRegion": "us-east-1",
            "eventSourceARN": w.source.stream_arn,
        }
    ]


def test_a_batch_stays_below_the_largest_payload_of_an_invocation(world: Make) -> None:
    large = [record(n, data={"filler": "x" * 900_000}) for n in range(8)]
    sizes: list[int] = []
    w = world(large, Function(lambda given: sizes.append(sum(len(r["kinesis"]["data"]) for r in given))))
    w.drain()
    assert max(sizes) <= 6 * 1024 * 1024
    assert len(w.function.done) == 8
