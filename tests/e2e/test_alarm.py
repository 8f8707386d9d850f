"""A source that goes wrong in a running twin raises the alarm on quality, and its recovery clears it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count

import pytest

from local.alarms import ALARM, OK
from tests.e2e.twin import Twin
from tests.support.builders import EUR, rules_body, series_body, source_body
from tests.support.waiting import until

SOURCES = ("alpha", "beta", "gamma")
ALARM_NAME = "qis-local-low-quality"
PATIENCE = 90.0


@pytest.fixture
def quick() -> Iterator[Twin]:
    """A twin of its own, in which a second stands for a minute: the alarm wants ten bad ones of twelve."""
    twin = Twin(minute=1)
    try:
        twin.start()
        yield twin
    finally:
        twin.close()


class Feed:
    """Three sources that say something new whenever they are asked to."""

    def __init__(self, twin: Twin) -> None:
        self._twin, self._numbers, self.factor = twin, count(), 1

    def speak(self) -> None:
        """A claim of each; ``factor`` is by how much the last one is wrong."""
        now = datetime.now(UTC).isoformat()
        price = 1 + next(self._numbers) % 7 / 1000
        wrong = {SOURCES[-1]: self.factor}
        self._twin.put_claims(
            [
                {
                    "snap": now,
                    "reference_data_id": EUR,
                    "source": source,
                    "value": f"{price * wrong.get(source, 1):.4f}",
                }
                for source in SOURCES
            ],
            "feed",
        )

    def alarm_is(self, state: str) -> bool:
        """Whether the alarm is in this state, here and in CloudWatch; meanwhile the sources speak."""
        self.speak()
        if self._twin.http.get("/_local/alarms").json()[ALARM_NAME] != state:
            return False
        cloudwatch = self._twin.client("cloudwatch")
        (known,) = cloudwatch.describe_alarms(AlarmNames=[ALARM_NAME])["MetricAlarms"]
        return bool(known["StateValue"] == state)


def test_a_fault_raises_the_alarm_and_recovery_clears_it(quick: Twin) -> None:
    rules = rules_body(max_move=None, min_sources=2)
    quick.register([rules], [source_body(s) for s in SOURCES], [series_body(EUR)])
    feed = Feed(quick)
    until(lambda: feed.alarm_is(OK), "good values to be known as good", PATIENCE, every=0.25)
    feed.factor = 10
    until(lambda: feed.alarm_is(ALARM), "the fault to raise the alarm", PATIENCE, every=0.25)
    feed.factor = 1
    until(lambda: feed.alarm_is(OK), "recovery to clear it", PATIENCE, every=0.25)
