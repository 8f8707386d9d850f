"""``quality``: findings and issues from the backbone; what is due, each minute."""

from __future__ import annotations

import gc
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit

from qis.adapters.backbone import backbone_events, failures
from qis.adapters.postgres.arrival_states import PostgresArrivalStates
from qis.adapters.postgres.catalogue import PostgresCatalogue
from qis.adapters.postgres.checked_values import PostgresCheckedValues
from qis.adapters.postgres.connection import STREAM_PATIENCE, Database, Target
from qis.adapters.postgres.detector_states import PostgresDetectorStates
from qis.adapters.postgres.event_store import PostgresEventStore
from qis.adapters.postgres.issues import PostgresIssues
from qis.adapters.postgres.quality_facts import PostgresFacts
from qis.adapters.postgres.scoreboard import PostgresScoreStore, PostgresSequences
from qis.application.arrivals import ArrivalWatch
from qis.application.checks import BusinessRules
from qis.application.claimed_records import ClaimedRecords
from qis.application.detectors import Detectors
from qis.application.issues import IssueWatch
from qis.application.quality import WATCHERS, Quality, Sequences
from qis.application.record_detectors import RecordDetectors
from qis.application.scoreboard import Advance, Scoreboard
from qis.settings import QualityEnvironment

logger = Logger()
tracer = Tracer()
metrics = Metrics()


@dataclass(frozen=True, slots=True)
class App:
    """The use cases of the function."""

    quality: Quality
    watch: IssueWatch
    scoreboard: Scoreboard
    sequences: Sequences
    arrivals: ArrivalWatch


@cache
def bootstrap() -> App:
    """The use cases with their adapters, once per process."""
    env = QualityEnvironment.read(os.environ)
    database = Database(Target.of(env, os.environ["AWS_REGION"]), "qis-quality", STREAM_PATIENCE)
    store, catalogue = PostgresEventStore(database), PostgresCatalogue(database, time.monotonic)
    gc.freeze()  # what is loaded stays; collecting it over and over costs milliseconds a batch
    facts = PostgresFacts(database)
    records = ClaimedRecords(facts)
    watchers = (
        *WATCHERS,
        BusinessRules(PostgresCheckedValues(database)),
        Detectors(PostgresDetectorStates(database), records),
        RecordDetectors(records),
    )
    quality = Quality(store, catalogue, facts, watchers)
    return App(
        quality,
        IssueWatch(store, PostgresIssues(database)),
        Scoreboard(
            PostgresScoreStore(database), catalogue, time.monotonic, timedelta(seconds=env.window_seconds)
        ),
        PostgresSequences(database),
        ArrivalWatch(PostgresArrivalStates(database), catalogue, quality),
    )


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
@metrics.log_metrics
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """A batch of backbone records, or the schedule of each minute. Scores follow with either: they are as old
    as the last batch, and a tick catches up what many batches left."""
    app, now = bootstrap(), datetime.now(UTC)
    if "Records" in event:
        events = backbone_events(event["Records"])
        issues = app.watch.follow(events, now)
        findings = app.quality.follow(events) + app.arrivals.follow(events)
        _report(app.scoreboard.advance(now, seconds=0))
    else:
        issues = app.watch.tick(now)
        findings = app.quality.scheduled(now)
        _report(app.scoreboard.advance(now))
        findings += app.quality.sequences(app.sequences, now)
    metrics.add_metric("QualityFindings", MetricUnit.Count, findings)
    metrics.add_metric("IssueEvents", MetricUnit.Count, issues)
    return failures([])


def _report(done: Advance) -> None:
    """What the closed minutes hold. A minute without a value has no score."""
    metrics.add_metric("EventsScored", MetricUnit.Count, done.events)
    for _, window in done.closed:
        metrics.add_metric("IngestionRate", MetricUnit.Count, window.claims)
        metrics.add_metric("QualityAnomalies", MetricUnit.Count, window.poor)
        if window.score is not None:
            metrics.add_metric("QualityScore", MetricUnit.NoUnit, float(window.score))
