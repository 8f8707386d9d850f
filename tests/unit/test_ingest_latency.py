"""What ``ingest`` tells of the time from the arrival of its oldest record to the commit."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from lambdas.ingest import handler as ingest
from tests.support.builders import kinesis_event
from tests.support.lambdas import Context, set_powertools

ARRIVED = 1_767_646_800.0


@dataclass
class Clock:
    """Seconds since 1970."""

    now: float = ARRIVED + 0.5

    def time(self) -> float:
        return self.now


@dataclass
class Slow:
    """Commits, which takes a while, or fails."""

    clock: Clock
    seconds: float = 0.25
    fails: bool = False
    taken: list[Any] = field(default_factory=list)

    def deliveries(self, deliveries: list[Any]) -> Counter[str]:
        self.clock.now += self.seconds
        if self.fails:
            raise ConnectionError("no database")
        self.taken += deliveries
        return Counter(accepted=len(deliveries))


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    set_powertools(monkeypatch, ingest)
    clock = Clock()
    found = Slow(clock)
    monkeypatch.setattr(
        ingest, "bootstrap", lambda: SimpleNamespace(ingest=found, database=SimpleNamespace())
    )
    monkeypatch.setattr(ingest, "time", SimpleNamespace(time=clock.time, monotonic=time.monotonic))
    return found


def batch(*arrived: float) -> dict[str, Any]:
    event = kinesis_event([b"{}"] * len(arrived))
    for record, at in zip(event["Records"], arrived, strict=True):
        record["kinesis"]["approximateArrivalTimestamp"] = at
    return event


def told(out: str) -> list[float]:
    """Latencies in milliseconds that were printed as metrics."""
    metrics = [json.loads(line) for line in out.splitlines() if "IngestLatency" in line]
    return [ms for m in metrics for ms in m["IngestLatency"]]


def test_latency_is_from_the_arrival_of_the_oldest_record_to_the_commit(
    slow: Slow, capsys: pytest.CaptureFixture[str]
) -> None:
    ingest.handler(batch(ARRIVED, ARRIVED + 0.3, ARRIVED + 0.4), Context())
    assert told(capsys.readouterr().out) == pytest.approx([750])
    assert len(slow.taken) == 3


@pytest.mark.filterwarnings("ignore:No application metrics to publish")
def test_what_is_not_committed_has_no_latency_and_a_clock_ahead_gives_none_below_zero(
    slow: Slow, capsys: pytest.CaptureFixture[str]
) -> None:
    slow.fails = True
    with pytest.raises(ConnectionError):
        ingest.handler(batch(ARRIVED), Context())
    assert told(capsys.readouterr().out) == []
    slow.fails = False
    ingest.handler(batch(slow.clock.now + 60), Context())
    assert told(capsys.readouterr().out) == [0]
