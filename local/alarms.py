"""CloudWatch alarms of the twin: metrics from what the functions print, judged as CloudWatch judges.

The functions print their metrics in the embedded metric format; in AWS the log service takes them out, here
their log files are followed. ``Errors`` and ``Invocations`` of functions are counted where they are invoked.
The AWS APIs of the twin keep alarms and their states, but judge them without dimensions, periods and missing
data (ministack 1.5.33), so that is done here, and the state is set there for everybody to see.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

from local.kinesis import AwsCalls

OK, ALARM, UNKNOWN = "OK", "ALARM", "INSUFFICIENT_DATA"
KEPT = 2 * 3600.0
"""Seconds for which datapoints are kept; longer than any alarm looks back."""
MINUTE = 60.0

Metric = tuple[str, str, frozenset[tuple[str, str]]]
"""Namespace, name and dimensions."""
Point = tuple[float, float]
"""Seconds since 1970, and the value."""

_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
_RATIO = re.compile(r"(\w+) / MAX\(\[(\w+), (\d+)\]\)")


class UnknownExpression(ValueError):
    """An alarm uses metric math that the twin does not know."""


def embedded(line: str) -> Iterator[tuple[Metric, Point]]:
    """Datapoints of a line in the embedded metric format; none where it is another line."""
    if '"CloudWatchMetrics"' not in line:
        return
    try:
        body = json.loads(line)
        meta = body["_aws"]
        for directive in meta["CloudWatchMetrics"]:
            for names in directive["Dimensions"]:
                dimensions = frozenset((name, str(body[name])) for name in names)
                for metric in directive["Metrics"]:
                    values = body[metric["Name"]]
                    for value in values if isinstance(values, list) else [values]:
                        key = directive["Namespace"], metric["Name"], dimensions
                        yield key, (meta["Timestamp"] / 1000, float(value))
    except (ValueError, KeyError, TypeError):
        return  # cut off where the process ended


class LogFollower:
    """Complete lines that were added to log files since the last look, from where they ended at first."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._at = {file: file.stat().st_size if file.exists() else 0 for file in files}

    def lines(self) -> Iterator[str]:
        """What is new."""
        for file, at in self._at.items():
            if not file.exists() or file.stat().st_size <= at:
                continue
            with file.open("rb") as log:
                log.seek(at)
                new = log.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._at[file] = at + len(whole)
            yield from whole.decode("utf-8", "replace").splitlines()


@dataclass(slots=True)
class Metrics:
    """Datapoints by metric."""

    points: dict[Metric, list[Point]] = field(default_factory=dict)

    def add(self, metric: Metric, point: Point) -> None:
        self.points.setdefault(metric, []).append(point)

    def forget(self, before: float) -> None:
        """Drop what is older."""
        for metric, points in self.points.items():
            self.points[metric] = [p for p in points if p[0] >= before]

    def statistic(self, metric: Metric, name: str, start: float, end: float) -> float | None:
        """A statistic of one period; ``None`` of an empty one."""
        values = sorted(v for at, v in self.points.get(metric, ()) if start <= at < end)
        if not values:
            return None
        if name.startswith("p"):
            # Nearest rank. CloudWatch interpolates; a limit is met or not in all but hair's breadth cases.
            return values[max(0, ceil(float(name[1:]) / 100 * len(values)) - 1)]
        return {
            "Average": sum(values) / len(values),
            "Sum": sum(values),
            "Minimum": values[0],
            "Maximum": values[-1],
            "SampleCount": float(len(values)),
        }[name]


@dataclass(slots=True)
class Alarm:
    """An alarm as the template describes it, and its state."""

    properties: Mapping[str, Any]
    state: str = UNKNOWN
    minute: float = MINUTE
    """Seconds that stand for a minute."""

    @property
    def name(self) -> str:
        return str(self.properties["AlarmName"])

    def judge(self, metrics: Metrics, now: float) -> bool:
        """Look at the complete periods before ``now``. Whether the state changed.

        Alarm: as many datapoints breach as the alarm wants. OK: so many do not that it cannot be. Between
        the two, which is where datapoints are missing that are not to be counted, the state stays; that is
        what gives an alarm on ``M of N`` periods its hysteresis.
        """
        wanted, periods, missing = self._shape()
        values = [self._value(metrics, start, end) for start, end in self._periods(now, periods)]
        compare = _COMPARE[self.properties["ComparisonOperator"]]
        breaching = sum(compare(v, self.properties["Threshold"]) for v in values if v is not None)
        absent = values.count(None)
        if missing == "breaching":
            breaching, absent = breaching + absent, 0
        elif missing == "notBreaching":
            absent = 0
        before = self.state
        if breaching >= wanted:
            self.state = ALARM
        elif periods - absent - breaching > periods - wanted:
            self.state = OK
        elif absent == periods and missing == "missing":
            self.state = UNKNOWN
        return self.state != before

    def _shape(self) -> tuple[int, int, str]:
        periods = int(self.properties["EvaluationPeriods"])
        wanted = int(self.properties.get("DatapointsToAlarm", periods))
        return wanted, periods, self.properties.get("TreatMissingData", "missing")

    def _periods(self, now: float, count: int) -> list[tuple[float, float]]:
        length = self._length()
        end = now - now % length
        return [(end - (n + 1) * length, end - n * length) for n in range(count)]

    def _length(self) -> float:
        stats = [q["MetricStat"] for q in self.properties.get("Metrics", ()) if "MetricStat" in q]
        seconds = self.properties["Period"] if "Period" in self.properties else stats[0]["Period"]
        return float(seconds) * self.minute / MINUTE

    def _value(self, metrics: Metrics, start: float, end: float) -> float | None:
        if "Metrics" not in self.properties:
            statistic = self.properties.get("ExtendedStatistic") or self.properties["Statistic"]
            return metrics.statistic(_metric(self.properties), statistic, start, end)
        of: dict[str, float | None] = {}
        expression = ""
        for query in self.properties["Metrics"]:
            if stat := query.get("MetricStat"):
                of[query["Id"]] = metrics.statistic(_metric(stat["Metric"]), stat["Stat"], start, end)
            else:
                expression = query["Expression"]
        match = _RATIO.fullmatch(expression)
        if match is None:
            raise UnknownExpression(f"{self.name}: {expression}")
        part, whole = of[match[1]], of[match[2]]
        return None if part is None or whole is None else part / max(whole, float(match[3]))


def _metric(given: Mapping[str, Any]) -> Metric:
    dimensions = frozenset((d["Name"], d["Value"]) for d in given.get("Dimensions", ()))
    return given["Namespace"], given["MetricName"], dimensions


class AlarmWatch:
    """The alarms of the twin. Those on metrics that only AWS reports stay without data.

    Args:
        minute: seconds that stand for a minute, in every period.
    """

    def __init__(
        self, alarms: Sequence[Mapping[str, Any]], logs: Sequence[Path], minute: float = MINUTE
    ) -> None:
        self.alarms = [Alarm(properties, minute=minute) for properties in alarms]
        self._metrics = Metrics()
        self._follower = LogFollower(logs)

    def invoked(self, function: str, now: float, *, failed: bool) -> None:
        """Count an invocation, as the Lambda service does."""
        dimensions = frozenset({("FunctionName", function)})
        self._metrics.add(("AWS/Lambda", "Invocations", dimensions), (now, 1.0))
        self._metrics.add(("AWS/Lambda", "Errors", dimensions), (now, float(failed)))

    def look(self, now: float) -> list[Alarm]:
        """Take in what was printed and judge; the alarms whose state changed."""
        for line in self._follower.lines():
            for metric, point in embedded(line):
                self._metrics.add(metric, point)
        self._metrics.forget(now - KEPT)
        return [alarm for alarm in self.alarms if alarm.judge(self._metrics, now)]

    def states(self) -> dict[str, str]:
        """State of every alarm by name."""
        return {alarm.name: alarm.state for alarm in self.alarms}


async def announce(aws: AwsCalls, alarms: Sequence[Alarm]) -> None:
    """Let the CloudWatch of the twin know the alarms, each in its state.

    Raises:
        ConnectionError, AwsRefusal: it does not answer, or refuses.
    """
    for alarm in alarms:
        if alarm.state == UNKNOWN:
            await aws.call("cloudwatch", "PutMetricAlarm", **alarm.properties)
        await aws.call(
            "cloudwatch",
            "SetAlarmState",
            AlarmName=alarm.name,
            StateValue=alarm.state,
            StateReason="judged by the twin",
        )
