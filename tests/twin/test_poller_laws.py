"""Whatever fails and however: good records are done in order, each bad one is reported once and alone."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.twin.streams import Function, Stream, World, numbers_of, record, records

NUMBERS = st.sets(st.integers(0, 39), max_size=12)


@settings(max_examples=150, deadline=None)
@example(9, {4}, {0, 1, 4, 7}, {1, 26, 28}, 3, 0, 0)  # bad luck right after a neighbour used up its retries
@given(
    count=st.integers(1, 40),
    raising=NUMBERS,
    named=NUMBERS,
    failing_calls=st.sets(st.integers(0, 30), max_size=3),
    batch_size=st.integers(1, 40),
    stream_away=st.integers(0, 3),
    queue_away=st.integers(0, 3),
)
def test_good_records_are_done_in_order_and_each_bad_one_is_reported_once_and_alone(
    count: int,
    raising: set[int],
    named: set[int],
    failing_calls: set[int],
    batch_size: int,
    stream_away: int,
    queue_away: int,
) -> None:
    """A bad record makes the function raise, or is named by its answer; some calls fail for no fault of
    theirs, fewer in a row than there are retries."""
    bad = {n for n in raising | named if n < count}
    done: list[int] = []
    calls = 0

    def does(given: list[dict[str, Any]]) -> Any:
        nonlocal calls
        calls += 1
        numbers = numbers_of(given)
        if calls in failing_calls or raising & set(numbers):
            raise RuntimeError("poison, or bad luck")
        failures = sorted(named & set(numbers), reverse=True)
        done.extend(n for n in numbers if not failures or n < failures[-1])
        sequences = [record(n)["SequenceNumber"] for n in failures]
        return {"batchItemFailures": [{"itemIdentifier": s} for s in sequences]}

    with tempfile.TemporaryDirectory() as folder:
        world = World(
            Path(folder), Stream(records(count)), Function(does), batch_size=batch_size, max_retries=4
        )
        world.stream.away, world.queue_away = stream_away, queue_away
        world.drain()
        assert world.checkpoint == record(count - 1)["SequenceNumber"]
    assert list(dict.fromkeys(done)) == [n for n in range(count) if n not in bad]
    reported = [m["KinesisBatchInfo"] for m in world.sent]
    assert [i["batchSize"] for i in reported] == [1] * len(bad)
    assert [i["startSequenceNumber"] for i in reported] == [record(n)["SequenceNumber"] for n in sorted(bad)]
    assert world.poller.lag.failed == len(bad)
