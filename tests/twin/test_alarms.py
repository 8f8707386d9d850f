"""Alarms of the twin on a virtual clock: what the functions print raises them, recovery clears them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aws_lambda_powertools import Metrics as Powertools
from aws_lambda_powertools.metrics import MetricUnit

from local.alarms import (
    ALARM,
    OK,
    UNKNOWN,
    Alarm,
    AlarmWatch,
    LogFollower,
    Metrics,
    UnknownExpression,
    embedded,
)
from local.template import load

PARAMETERS = {"DatabaseHost": "h", "DatabasePort": "1", "CacheUrl": "c", "JwksUrl": "j", "PushEndpoint": "p"}
START = 1_800_000_000.0
MINUTE = 60.0


@pytest.fixture
def watch(tmp_path: Path) -> AlarmWatch:
    """The alarms of the committed template, on one log."""
    log = tmp_path / "quality.log"
    log.write_text("written before the twin started\n")
    return AlarmWatch(load(PARAMETERS, "http://127.0.0.1:1").alarms, [log])


def printed(service: str, at: float, monkeypatch: pytest.MonkeyPatch, **values: float) -> str:
    """What a handler prints of these metrics."""
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "QIS")
    metrics = Powertools(service=f"qis-{service}")
    for name, value in values.items():
        metrics.add_metric(name, MetricUnit.NoUnit, value)
    body: dict[str, Any] = metrics.serialize_metric_set()
    body["_aws"]["Timestamp"] = int(at * 1000)
    metrics.clear_metrics()
    return json.dumps(body) + "\n"


class Story:
    """Minutes that pass, with what is printed in each."""

    def __init__(self, watch: AlarmWatch, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.watch, self.log, self.monkeypatch = watch, log, monkeypatch
        self.now = START

    def minutes(self, count: int, service: str = "quality", **values: float) -> None:
        for _ in range(count):
            if values:
                with self.log.open("a") as out:
                    out.write(printed(service, self.now + 20, self.monkeypatch, **values))
            self.now += MINUTE
            self.watch.look(self.now + 1)

    def state(self, name: str) -> str:
        return self.watch.states()[f"qis-local-{name}"]


@pytest.fixture
def story(watch: AlarmWatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Story:
    return Story(watch, tmp_path / "quality.log", monkeypatch)


def test_a_low_score_for_ten_minutes_raises_the_alarm_and_three_good_ones_clear_it(story: Story) -> None:
    assert story.state("low-quality") == UNKNOWN
    story.minutes(12, QualityScore=0.99)
    assert story.state("low-quality") == OK
    story.minutes(9, QualityScore=0.5)
    assert story.state("low-quality") == OK
    story.minutes(1, QualityScore=0.5)
    assert story.state("low-quality") == ALARM
    story.minutes(2, QualityScore=1.0)
    assert story.state("low-quality") == ALARM, "two good minutes do not take it back"
    story.minutes(30)
    assert story.state("low-quality") == ALARM, "silence is no recovery"
    story.minutes(2, QualityScore=1.0)
    assert story.state("low-quality") == ALARM
    story.minutes(1, QualityScore=1.0)
    assert story.state("low-quality") == OK


def test_exactly_the_limit_is_good_enough(story: Story) -> None:
    story.minutes(20, QualityScore=0.95)
    assert story.state("low-quality") == OK


@pytest.mark.parametrize(
    ("alarm", "metric", "limit"),
    [("ingest-slow", "IngestBatchTime", 200), ("ingest-late", "IngestLatency", 1_200)],
)
def test_slow_batches_and_late_claims_raise_an_alarm_of_their_own_after_ten_minutes(
    story: Story, alarm: str, metric: str, limit: int
) -> None:
    story.minutes(10, "ingest", **{metric: limit})
    assert story.state(alarm) == OK
    story.minutes(5, "ingest", **{metric: limit + 1})
    assert story.state(alarm) == OK
    story.minutes(5, "ingest", **{metric: limit + 1})
    assert story.state(alarm) == ALARM
    assert [n for n, s in story.watch.states().items() if s == ALARM] == [f"qis-local-{alarm}"]
    story.minutes(5, "ingest", **{metric: limit - 50})
    assert story.state(alarm) == OK


def test_more_than_one_failed_batch_in_a_hundred_raises_an_alarm(story: Story) -> None:
    def invoked(good: int, failed: int) -> None:
        for _ in range(2):
            for n in range(good + failed):
                story.watch.invoked("qis-local-reconcile", story.now + 1, failed=n < failed)
            story.minutes(5)

    invoked(99, 1)
    assert story.state("reconcile-error-rate") == OK
    invoked(98, 2)
    assert story.state("reconcile-error-rate") == ALARM
    invoked(100, 0)
    assert story.state("reconcile-error-rate") == OK


def test_percentiles_and_sums_of_a_period() -> None:
    metrics, metric = Metrics(), ("N", "M", frozenset({("a", "b")}))
    for n in range(1, 101):
        metrics.add(metric, (n / 10, float(n)))
    assert metrics.statistic(metric, "p95", 0, 100) == 95
    assert metrics.statistic(metric, "Sum", 0, 1) == 45
    assert metrics.statistic(metric, "Average", 200, 300) is None
    metrics.forget(9.95)
    assert metrics.statistic(metric, "SampleCount", 0, 100) == 1


def test_other_lines_and_broken_ones_hold_no_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = printed("quality", START, monkeypatch, A=1)
    ((metric, point),) = embedded(whole)
    assert metric == ("QIS", "A", frozenset({("service", "qis-quality")}))
    assert point == (START, 1.0)
    assert list(embedded("{}")) == list(embedded(whole[:-20])) == []


def test_a_line_is_read_once_and_when_it_is_complete(tmp_path: Path) -> None:
    log = tmp_path / "f.log"
    follower = LogFollower([log, tmp_path / "none.log"])
    log.write_text("one\ntw")
    assert list(follower.lines()) == ["one"]
    with log.open("a") as out:
        out.write("o\n")
    assert list(follower.lines()) == ["two"]
    assert list(follower.lines()) == []


def _alarm(**changes: Any) -> Alarm:
    properties = {
        "AlarmName": "a",
        "Namespace": "N",
        "MetricName": "M",
        "Statistic": "Maximum",
        "Period": 60,
        "EvaluationPeriods": 2,
        "Threshold": 1,
        "ComparisonOperator": "GreaterThanThreshold",
    }
    return Alarm(properties | changes)


@pytest.mark.parametrize(
    ("missing", "state"),
    [("missing", UNKNOWN), ("ignore", ALARM), ("breaching", ALARM), ("notBreaching", OK)],
)
def test_what_missing_data_means_is_what_the_alarm_says(missing: str, state: str) -> None:
    alarm, metrics = _alarm(TreatMissingData=missing), Metrics()
    for at in (0.0, 60.0):
        metrics.add(("N", "M", frozenset()), (at, 5.0))
    assert alarm.judge(metrics, 120)
    assert alarm.state == ALARM
    alarm.judge(metrics, 600)
    assert alarm.state == state


def test_metric_math_that_is_not_known_is_refused() -> None:
    stat = {"Metric": {"Namespace": "N", "MetricName": "M"}, "Stat": "Sum", "Period": 60}
    alarm = _alarm(Metrics=[{"Id": "a", "MetricStat": stat}, {"Id": "e", "Expression": "a * 2"}])
    with pytest.raises(UnknownExpression):
        alarm.judge(Metrics(), 0)
