"""Alarms: on every queue, on every function, on what followers report."""

from __future__ import annotations

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from cdk.constructs.events import detail_types
from cdk.constructs.function import HouseFunction
from cdk.constructs.house import House, acknowledge, id_of
from cdk.constructs.lake_feed import Delivery
from cdk.constructs.push import PushApi
from qis.domain.public_events import TOLD

NAMESPACE = "QIS"
LOWEST_SCORE = 0.95
INGEST_P95_MS = 200
"""What is required of ingestion itself, from the receipt of a batch to its commit."""
ARRIVAL_P95_MS = INGEST_P95_MS + 1_000
"""The same from arrival: Lambda polls a shard once a second, so a record may have waited that long."""
RECONCILE_ERRORS = 0.01
PUSH_P95_MS = 5_000
"""The relay's hop, the second for which Lambda may leave a shard, and a few hundred connections to tell."""
LATE_SECONDS = 600
"""Beyond the time for which a file is gathered: Firehose tries again by itself for a while."""
RAW_WAITING = 500
"""Batches: of a busy stream some ten seconds. Those that wait are counted up to 1,000."""
_MINUTE = Duration.minutes(1)
_FIVE_MINUTES = Duration.minutes(5)


class Alarms(Construct):
    """Alarms of one environment and the topic that they tell."""

    def __init__(self, scope: Construct, id_: str, *, house: House, topic: sns.ITopic | None = None) -> None:
        """``topic``: tell this one, of another stack, instead of an own one."""
        super().__init__(scope, id_)
        self._house = house
        self.topic = topic
        if topic is None and house.settings.alarms.notify:
            self.topic = sns.Topic(
                self, "Topic", topic_name=house.name("alarms"), master_key=house.data_key, enforce_ssl=True
            )

    def failed_messages(self, logical: str, queue: sqs.Queue) -> None:
        """Anything on a dead-letter queue is work for a person."""
        metric = queue.metric_approximate_number_of_messages_visible(period=_MINUTE, statistic="Maximum")
        self.alarm(
            f"{logical}-not-empty",
            metric,
            above=0,
            what=f"Failed messages wait on {logical}",
            runbook="dead-letters",
        )

    def slow_consumer(self, logical: str, queue: sqs.Queue) -> None:
        """A consumer that does not read its queue would lose messages when their retention ends."""
        metric = queue.metric_approximate_age_of_oldest_message(period=_MINUTE, statistic="Maximum")
        above = self._house.settings.alarms.consumer_age_seconds
        self.alarm(
            f"{logical}-old",
            metric,
            above=above,
            what=f"Nobody reads {logical}",
            runbook="slow-consumer",
            periods=5,
        )

    def errors(self, house_function: HouseFunction) -> cloudwatch.Alarm:
        """A function failed as a whole; failed records of a batch are not counted here."""
        metric = house_function.function.metric_errors(period=_MINUTE, statistic="Sum")
        name = house_function.name
        return self.alarm(
            f"{name}-errors",
            metric,
            above=0,
            what=f"The function {name} fails",
            runbook="function-errors",
            periods=3,
        )

    def iterator_age(self, house_function: HouseFunction) -> None:
        """A stream-driven function is behind its stream."""
        name = house_function.name
        metric = cloudwatch.Metric(
            namespace="AWS/Lambda",
            metric_name="IteratorAge",
            dimensions_map={"FunctionName": house_function.function.function_name},
            period=_MINUTE,
            statistic="Maximum",
        )
        above = self._house.settings.alarms.iterator_age_seconds * 1000  # the metric is in milliseconds
        self.alarm(
            f"{name}-behind",
            metric,
            above=above,
            what=f"{name} is behind its stream",
            runbook="behind-the-stream",
            periods=3,
        )

    def delivery(self, delivery: Delivery) -> None:
        """Into the lake: files come late, cannot be written, or records do not fit the table."""

        def metric(name: str, statistic: str) -> cloudwatch.Metric:
            return cloudwatch.Metric(
                namespace="AWS/Firehose",
                metric_name=name,
                dimensions_map={"DeliveryStreamName": delivery.stream_name},
                period=_FIVE_MINUTES,
                statistic=statistic,
            )

        lake = self._house.settings.lake
        assert lake is not None, "deliveries are to the lake"
        logical = f"lake-{delivery.table.replace('_', '-')}"
        self.alarm(
            f"{logical}-late",
            metric("DeliveryToS3.DataFreshness", "Maximum"),
            above=lake.delivery_seconds + LATE_SECONDS,
            what=f"The oldest event that is not in the lake's table {delivery.table} yet is too old",
            runbook="lake",
            periods=2,
        )
        self.alarm(
            f"{logical}-refused",
            metric("DeliveryToS3.Success", "Average"),
            below=1,
            what=f"Files of the lake's table {delivery.table} cannot be written",
            runbook="lake",
            periods=3,
        )
        if delivery.converted:
            self.alarm(
                f"{logical}-unfit",
                metric("FailedConversion.Records", "Sum"),
                above=0,
                what=f"Events do not fit the lake's table {delivery.table}",
                runbook="lake",
            )

    def event_log(self) -> None:
        """What ``relay`` reports of the event log: rows in the default partition (a partition was not made
        in time), seconds between the newest event and the newest one passed on, how long a transaction has
        held followers up, and batches of raw payloads that are not in the raw store yet.

        It reports every ten seconds, so where someone is told, its silence is as bad as a lag; a region that
        waits has no relay. (The twin may count a second for a minute, which is no silence.)
        """
        heard = self.topic is not None and self._house.settings.active
        self.alarm(
            "default-partition-rows",
            our_metric("relay", "DefaultPartitionRows"),
            above=0,
            what="Events are in the default partition: the partition of their month is missing",
            runbook="default-partition",
        )
        self.alarm(
            "follower-lag",
            our_metric("relay", "FollowerLagSeconds"),
            above=self._house.settings.alarms.follower_lag_seconds,
            what="The backbone is behind the event log, or the relay is silent",
            runbook="follower-lag",
            periods=3,
            missing=(
                cloudwatch.TreatMissingData.BREACHING if heard else cloudwatch.TreatMissingData.NOT_BREACHING
            ),
        )
        self.alarm(
            "horizon-held",
            our_metric("relay", "HorizonHeldSeconds"),
            above=self._house.settings.alarms.horizon_held_seconds,
            what="An open transaction holds up every follower of the event log",
            runbook="horizon-held",
        )
        self.alarm(
            "raw-batches-waiting",
            our_metric("relay", "RawBatchesWaiting"),
            above=RAW_WAITING,
            what="Raw payloads do not reach the raw store",
            runbook="raw-batches-waiting",
            periods=3,
        )

    def push(self, api: PushApi) -> None:
        """Messages of consumers that API Gateway could not hand to the function; and how old values are when
        they are pushed, for two periods of five minutes."""
        self.alarm(
            "push-failing",
            api.metric("IntegrationError", period=_MINUTE, statistic="Sum"),
            above=0,
            what="Messages to the push channel are not answered",
            runbook="push",
            periods=3,
        )
        self.alarm(
            "push-slow",
            our_metric("realtime", "PushLatency", statistic="p95", period=_FIVE_MINUTES),
            above=PUSH_P95_MS,
            what=f"Values are pushed more than {PUSH_P95_MS} ms after they were published (p95)",
            runbook="push",
            periods=2,
        )

    def quality(self) -> None:
        """The mean score of the values of a minute, in ten of twelve minutes: two good minutes between bad
        ones do not take the alarm back, three do. A minute without values says nothing and changes nothing.
        """
        self.alarm(
            "low-quality",
            our_metric("quality", "QualityScore", statistic="Average"),
            below=LOWEST_SCORE,
            what=f"The quality score has been below {LOWEST_SCORE} for ten minutes",
            runbook="low-quality",
            periods=10,
            of=12,
            missing=cloudwatch.TreatMissingData.IGNORE,
        )

    def pipeline(self, reconcile: lambda_.Function) -> None:
        """How long ingestion takes, how long claims take from the stream into the log, and failed
        reconciling: for two periods of five minutes."""
        self.alarm(
            "ingest-slow",
            our_metric("ingest", "IngestBatchTime", statistic="p95", period=_FIVE_MINUTES),
            above=INGEST_P95_MS,
            what=f"Batches of claims take more than {INGEST_P95_MS} ms to store (p95)",
            runbook="ingest-slow",
            periods=2,
        )
        self.alarm(
            "ingest-late",
            our_metric("ingest", "IngestLatency", statistic="p95", period=_FIVE_MINUTES),
            above=ARRIVAL_P95_MS,
            what=f"Claims are stored more than {ARRIVAL_P95_MS} ms after their arrival (p95)",
            runbook="ingest-slow",
            periods=2,
        )
        self.alarm(
            "reconcile-error-rate",
            cloudwatch.MathExpression(
                expression="errors / MAX([invocations, 1])",
                label="share of failed batches",
                using_metrics={
                    "errors": reconcile.metric_errors(period=_FIVE_MINUTES, statistic="Sum"),
                    "invocations": reconcile.metric_invocations(period=_FIVE_MINUTES, statistic="Sum"),
                },
                period=_FIVE_MINUTES,
            ),
            above=RECONCILE_ERRORS,
            what="More than 1 % of the batches to reconcile fail",
            runbook="reconcile-errors",
            periods=2,
        )

    def tell_of_issues(self, bus: events.EventBus, failed: sqs.Queue) -> None:
        """Alerts, escalations and ends of issues go to the people that alarms go to."""
        if self.topic is None:
            return
        rule = events.Rule(
            self,
            "ToPeople",
            rule_name=self._house.name("to-people"),
            event_bus=bus,
            description="What people are told of issues",
            event_pattern=events.EventPattern(detail_type=detail_types(TOLD)),
            targets=[
                targets.SnsTopic(
                    # By name only: a method of the library must change neither the topic's and its key's
                    # policy, which it would open to all rules, nor the queue's, see Events.
                    sns.Topic.from_topic_arn(self, "ByName", self.topic.topic_arn),
                    dead_letter_queue=sqs.Queue.from_queue_arn(self, "Failed", failed.queue_arn),
                    retry_attempts=10,
                    max_event_age=Duration.hours(1),
                )
            ],
        )
        self.topic.add_to_resource_policy(
            iam.PolicyStatement(
                sid="TellPeople",
                principals=[iam.ServicePrincipal("events.amazonaws.com")],
                actions=["sns:Publish"],
                resources=[self.topic.topic_arn],
                conditions={"ArnEquals": {"aws:SourceArn": rule.rule_arn}},
            )
        )

    def alarm(
        self,
        logical: str,
        metric: cloudwatch.IMetric,
        *,
        above: float | None = None,
        below: float | None = None,
        what: str,
        runbook: str,
        periods: int = 1,
        of: int | None = None,
        missing: cloudwatch.TreatMissingData = cloudwatch.TreatMissingData.NOT_BREACHING,
        tells: bool = True,
    ) -> cloudwatch.Alarm:
        """Someone is told when ``metric`` was above or below a value in ``periods`` ``of`` the last ones.

        Args:
            runbook: the page in ``docs/runbooks`` that says what to do.
            tells: false for one that is only a part of a composite alarm.
        """
        limit, operator = (above, "GREATER_THAN") if below is None else (below, "LESS_THAN")
        assert limit is not None
        alarm = cloudwatch.Alarm(
            self,
            id_of(logical),
            alarm_name=self._house.name(logical),
            alarm_description=described(what, runbook),
            metric=metric,
            threshold=limit,
            comparison_operator=cloudwatch.ComparisonOperator[f"{operator}_THRESHOLD"],
            datapoints_to_alarm=periods,
            evaluation_periods=of or periods,
            treat_missing_data=missing,
        )
        if self.topic and tells:
            alarm.add_alarm_action(actions.SnsAction(self.topic))
        else:
            silent = (
                "Part of a composite alarm, which tells."
                if self.topic
                else "Nobody is called by the local twin."
            )
            acknowledge(alarm, {"NIST.800.53.R5-CloudWatchAlarmAction": silent})
        return alarm


def described(what: str, runbook: str) -> str:
    """The text of an alarm: what is wrong, and the page that says what to do."""
    return f"{what}. Runbook: docs/runbooks/{runbook}.md"


def our_metric(
    function: str, name: str, *, statistic: str = "Maximum", period: Duration = _MINUTE
) -> cloudwatch.Metric:
    """A metric that ``function`` emits. Powertools adds the service as the only dimension."""
    return cloudwatch.Metric(
        namespace=NAMESPACE,
        metric_name=name,
        dimensions_map={"service": f"qis-{function}"},
        period=period,
        statistic=statistic,
    )


def shortfall(metric: cloudwatch.Metric, *, of: int, label: str) -> cloudwatch.MathExpression:
    """What is missing in ``metric`` to ``of``, which means that all is well. An alarm on it is above its
    limit both when calls fail and, where missing data counts as bad, when none are made."""
    return cloudwatch.MathExpression(
        expression=f"{of} - good", label=label, using_metrics={"good": metric}, period=metric.period
    )
