"""Every alarm watches something that exists, leads to a page, and reaches someone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from qis.application.ingest import Ingest
from qis.application.ports import Stored
from qis.settings import FUNCTIONS
from tests.infra.emitted import VALUES, emitted
from tests.infra.synthesis import Environment, Resource
from tests.infra.walk import alarm_metrics, as_list, flat, shown_metrics, text

RUNBOOKS = Path(__file__).resolve().parents[2] / "docs" / "runbooks"
OURS = "QIS"

AWS_METRICS: dict[str, frozenset[str]] = {
    "AWS/ApiGateway": frozenset({"5XXError", "Count", "IntegrationError"}),
    "AWS/Backup": frozenset({"NumberOfBackupJobsFailed", "NumberOfRestoreJobsFailed"}),
    "AWS/Firehose": frozenset(
        {"DeliveryToS3.DataFreshness", "DeliveryToS3.Success", "FailedConversion.Records"}
    ),
    "AWS/DocDB": frozenset({"CPUUtilization", "DBClusterReplicaLagMaximum", "FreeableMemory"}),
    "AWS/EFS": frozenset({"PercentIOLimit"}),
    "AWS/ElastiCache": frozenset({"DatabaseMemoryUsagePercentage", "EngineCPUUtilization", "Evictions"}),
    "AWS/ES": frozenset(
        {
            "CPUUtilization",
            "ClusterIndexWritesBlocked",
            "ClusterStatus.red",
            "FreeStorageSpace",
            "JVMMemoryPressure",
        }
    ),
    "AWS/Kafka": frozenset(
        {"CpuUser", "KafkaDataLogsDiskUsed", "OfflinePartitionsCount", "UnderReplicatedPartitions"}
    ),
    "AWS/Kinesis": frozenset(
        {
            "GetRecords.IteratorAgeMilliseconds",
            "ReadProvisionedThroughputExceeded",
            "WriteProvisionedThroughputExceeded",
        }
    ),
    "AWS/Lambda": frozenset({"Errors", "Invocations", "IteratorAge", "Throttles"}),
    "AWS/RDS": frozenset(
        {
            "ACUUtilization",
            "AuroraGlobalDBReplicationLag",
            "AuroraReplicaLagMaximum",
            "CPUUtilization",
            "DatabaseConnections",
            "DatabaseConnectionsBorrowLatency",
            "Deadlocks",
            "FreeableMemory",
        }
    ),
    "AWS/Route53": frozenset({"HealthCheckStatus"}),
    "AWS/SQS": frozenset({"ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesVisible"}),
    "CloudWatchSynthetics": frozenset({"SuccessPercent"}),
}
"""What AWS itself reports, of what our alarms watch: as its documentation spells it."""

NOT_WATCHED: dict[str, str] = {
    "CacheFailure": "a cache that is away only slows; shown to who looks for the reason",
    "CacheHit": "for the hit rate",
    "CacheMiss": "for the hit rate",
    "Answers2xx": "for rates",
    "Answers3xx": "for rates",
    "Answers4xx": "the caller's mistakes",
    "Answers5xx": "API Gateway counts the same",
    "ClaimsReconciled": "how much was done",
    "ConnectionsDropped": "consumers come and go; who does not keep up comes back with its cursor",
    "EventsPublished": "how much was done",
    "EventsRefused": "tried again by its batch; what stays refused is a dead letter, which has an alarm",
    "EventsRelayed": "how much was done",
    "MessagesPushed": "how much was done",
    "QualityAnomalies": "the score beside it raises the alarm",
    "QualityFindings": "findings are work for people in the exception queue, not for operations",
    "EventsScored": "how much was done",
    "IngestionRate": "for rates; a silent feed is a finding of the series",
    "IssueEvents": "how much was done; people are told of issues by the events themselves",
    "RecordsAccepted": "how much was done",
    "RecordsDuplicate": "how much was done",
    "RecordsRedelivered": "how much was done",
    "RecordsRejected": "each is a dead letter, which has an alarm",
    "ValuesDecided": "how much was done",
    "ValuesPushed": "how much was done",
}
"""Metrics of ours that raise no alarm, and why."""


def alarms(environment: Environment) -> Iterator[tuple[str, Resource]]:
    """Properties of every alarm by logical id."""
    for logical_id, alarm in environment.of_type("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm"):
        yield logical_id, alarm["Properties"]


def watched(environment: Environment) -> set[tuple[str, str, str]]:
    """Namespace, name and dimensions of every metric that an alarm watches."""
    return {metric for _, properties in alarms(environment) for metric in alarm_metrics(properties)}


def test_what_alarms_watch_of_ours_is_emitted_by_the_function_they_name(environment: Environment) -> None:
    ours = [(name, dimensions) for space, name, dimensions in watched(environment) if space == OURS]
    assert ours
    for name, dimensions in ours:
        (service,) = re.findall(r'"qis-(\w+)"', dimensions)
        assert name in emitted(service), (service, name)


def test_what_alarms_watch_of_aws_exists(environments: dict[str, Environment]) -> None:
    found: dict[str, set[str]] = {}
    for environment in environments.values():
        for space, name, _ in watched(environment):
            if space != OURS:
                found.setdefault(space, set()).add(name)
    assert found == {space: set(names) for space, names in AWS_METRICS.items()}


def test_every_metric_of_ours_is_watched_or_left_out_with_a_reason(
    environments: dict[str, Environment],
) -> None:
    alarmed = {name for e in environments.values() for space, name, _ in watched(e) if space == OURS}
    ours = set().union(*(emitted(function) for function in FUNCTIONS))
    assert alarmed | set(NOT_WATCHED) == ours
    assert alarmed & set(NOT_WATCHED) == set(), "watched, and said not to be"


def test_names_put_together_in_the_code_are_all_known() -> None:
    admissions, *others = [MagicMock() for _ in range(5)]
    admissions.open().__enter__().store.return_value = Stored({}, [])
    counted = Ingest(admissions, *others).deliveries([])
    assert {f"Records{kind.title()}" for kind in counted} == set(VALUES["RecordsN"])


def test_every_alarm_leads_to_a_page_and_every_page_to_an_alarm(environments: dict[str, Environment]) -> None:
    pages = set()
    for environment in environments.values():
        for logical_id, properties in alarms(environment):
            found = re.search(r"Runbook: docs/runbooks/([a-z-]+)\.md$", properties["AlarmDescription"])
            assert found, logical_id
            pages.add(found[1])
    assert pages == {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"}


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("*.md")), ids=lambda page: str(page.stem))
def test_a_page_says_what_it_means_and_what_to_do(page: Path) -> None:
    said = page.read_text(encoding="utf-8")
    if page.stem != "README":
        assert all(f"**{word}" in said for word in ("Meaning.", "Look.", "Do.", "Over"))
    for link in re.findall(r"\]\(([^)]+)\)", said):
        assert (RUNBOOKS / link).is_file(), link


def test_a_silent_relay_alarms_wherever_one_runs_and_someone_is_told(
    environments: dict[str, Environment],
) -> None:
    found = {}
    for name, environment in environments.items():
        for _, alarm in environment.of_type("AWS::CloudWatch::Alarm"):
            if alarm["Properties"]["AlarmName"].endswith("-follower-lag"):
                found[name] = alarm["Properties"]["TreatMissingData"]
    assert found.pop("local") == found.pop("dr") == "notBreaching"
    assert set(found.values()) == {"breaching"}


def test_every_queue_has_an_alarm(environment: Environment) -> None:
    """One on failed messages for a queue where they end, one on the age of messages for any other."""
    by_queue: dict[str, list[Resource]] = {}
    for _, properties in alarms(environment):
        if properties.get("Namespace") == "AWS/SQS":
            by_queue.setdefault(text(properties["Dimensions"]), []).append(properties)
    for logical_id, queue in environment.of_type("AWS::SQS::Queue"):
        own = [p for dimensions, found in by_queue.items() if logical_id in dimensions for p in found]
        if flat(queue["Properties"]["QueueName"]).endswith("-dlq"):
            assert any(p["MetricName"] == "ApproximateNumberOfMessagesVisible" for p in own), logical_id
            assert all(p["Threshold"] == 0 for p in own), logical_id
        else:
            assert any(p["MetricName"] == "ApproximateAgeOfOldestMessage" for p in own), logical_id


def test_every_alarm_in_aws_reaches_someone(environment: Environment) -> None:
    """Itself, or the composite alarm that it is a part of. The local twin calls nobody."""
    wanted = environment.name != "local"
    composite = "".join(flat(p["AlarmRule"]) for _, p in alarms(environment) if "AlarmRule" in p)
    for logical_id, properties in alarms(environment):
        reached = as_list(properties.get("AlarmActions")) or f"{logical_id}.Arn" in composite
        assert bool(reached) is wanted, logical_id


def test_dashboards_show_what_exists(environment: Environment) -> None:
    ours = set().union(*(emitted(function) for function in FUNCTIONS))
    for template in environment.templates.values():
        for space, name in shown_metrics(template):
            assert space != OURS or name in ours, name


def test_no_two_alarms_have_one_name(environment: Environment) -> None:
    """AWS would let the second replace the first."""
    names = [flat(p["AlarmName"]) for _, p in alarms(environment)]
    assert len(names) == len(set(names))
