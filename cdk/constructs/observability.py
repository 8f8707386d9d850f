"""Dashboards, the documents' alarms, error budgets, traces, and a canary that calls from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aws_cdk import Duration
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_kinesis as kinesis
from aws_cdk import aws_xray as xray
from constructs import Construct

from cdk.constructs.alarms import Alarms, described, our_metric
from cdk.constructs.function import HouseFunction
from cdk.constructs.house import House
from cdk.constructs.store_watch import watches
from cdk.environments.operations import Observability as ObservabilitySettings

_MINUTE = Duration.minutes(1)
_FIVE_MINUTES = Duration.minutes(5)

AVAILABILITY = 0.999
"""Share of requests that the service answers without a fault of its own, over 30 days."""
BURNS = (
    ("fast", 14.4, Duration.hours(1), _FIVE_MINUTES),
    ("slow", 6.0, Duration.hours(6), Duration.minutes(30)),
)
"""How many times faster than allowed the error budget burns, over a long window and a short one: 2 % of it in
an hour, 5 % in six. Both must hold, so that one that is over calls nobody (Google's SRE workbook, ch. 5)."""


class Observability(Construct):
    """What people look at, and what calls them."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        house: House,
        settings: ObservabilitySettings,
        alarms: Alarms,
        api: apigateway.SpecRestApi,
        functions: Mapping[str, HouseFunction],
        streams: Sequence[kinesis.Stream],
        file_system: str | None,
    ) -> None:
        super().__init__(scope, id_)
        self._house = house
        self._alarms = alarms
        self._api = api
        self._functions = functions
        self._streams = streams
        self._watches = list(watches(house, settings.stores, file_system=file_system))
        self._service_alarms()
        self._store_alarms()
        self._error_budget()
        self._traces(settings.trace_share)
        self._dashboards()

    def _service_alarms(self) -> None:
        """What is refused for want of room."""
        for name in ("ingest", "query"):
            self._alarms.alarm(
                f"{name}-throttled",
                self._functions[name].function.metric_throttles(period=_MINUTE, statistic="Sum"),
                above=0,
                what=f"{name} is refused invocations: its reserved concurrency is used up",
                runbook="throttled",
                periods=3,
            )

    def _store_alarms(self) -> None:
        for watch in self._watches:
            self._alarms.alarm(
                watch.logical,
                watch.metric,
                above=watch.above,
                below=watch.below,
                what=watch.what,
                runbook=watch.runbook,
                periods=3,
            )
        if self._house.settings.copies_to:
            self._alarms.alarm(
                "second-region-lag",
                cloudwatch.Metric(
                    namespace="AWS/RDS",
                    metric_name="AuroraGlobalDBReplicationLag",
                    dimensions_map={"DBClusterIdentifier": self._house.name("store")},
                    statistic="Maximum",
                    period=_MINUTE,
                ),
                above=5000,  # milliseconds; the documents promise 5 s
                what="The second region is more than five seconds behind",
                runbook="second-region",
                periods=5,
            )

    def _error_budget(self) -> None:
        """The share of requests that failed by our fault, against what the objective allows."""
        for name, factor, long, short in BURNS:
            parts = [
                self._alarms.alarm(
                    f"burn-{name}-{which}",
                    self._failed_share(window),
                    above=factor * (1 - AVAILABILITY),
                    what=f"The error budget burns {factor} times too fast over {which} windows",
                    runbook="error-budget",
                    tells=False,
                )
                for which, window in (("long", long), ("short", short))
            ]
            composite = cloudwatch.CompositeAlarm(
                self,
                f"Burn{name.capitalize()}",
                composite_alarm_name=self._house.name(f"burn-{name}"),
                alarm_description=described(
                    f"The error budget of a month burns {factor} times too fast", "error-budget"
                ),
                alarm_rule=cloudwatch.AlarmRule.all_of(*parts),
            )
            if self._alarms.topic:
                composite.add_alarm_action(actions.SnsAction(self._alarms.topic))

    def _failed_share(self, window: Duration) -> cloudwatch.MathExpression:
        return cloudwatch.MathExpression(
            expression="failed / MAX([requests, 1])",
            label="share of failed requests",
            using_metrics={
                "failed": self._api.metric_server_error(period=window, statistic="Sum"),
                "requests": self._api.metric_count(period=window, statistic="Sum"),
            },
            period=window,
        )

    def _traces(self, share: float) -> None:
        """The documents' shares: ``share`` of what comes in, half as much of what is read."""
        for priority, (name, path, rate) in enumerate(
            (("ingest", "*/ingest", share), ("query", "*", share / 2)), start=100
        ):
            xray.CfnSamplingRule(
                self,
                f"Sample{name.capitalize()}",
                sampling_rule=xray.CfnSamplingRule.SamplingRuleProperty(
                    rule_name=self._house.name(name),
                    priority=priority,
                    fixed_rate=rate,
                    reservoir_size=1,
                    service_name="*",
                    service_type="*",
                    host="*",
                    http_method="*",
                    url_path=path,
                    resource_arn=self._api.arn_for_execute_api("*", "/*", "live"),
                    version=1,
                ),
            )
        xray.CfnGroup(
            self,
            "Slow",
            group_name=self._house.name("slow"),
            filter_expression='responsetime > 0.2 AND service("query")',
            insights_configuration=xray.CfnGroup.InsightsConfigurationProperty(
                insights_enabled=True, notifications_enabled=False
            ),
        )

    def _dashboards(self) -> None:
        self._dashboard(
            "overview",
            [
                ("Requests", [self._api.metric_count(statistic="Sum"), _ours("query", "Answers5xx")]),
                (
                    "How long requests take",
                    [self._api.metric_latency(statistic=s) for s in ("p50", "p95", "p99")],
                ),
                ("Failed by our fault", [self._api.metric_server_error(statistic="Sum")]),
                (
                    "Claims",
                    [
                        _ours("ingest", f"Records{w}")
                        for w in ("Accepted", "Duplicate", "Rejected", "Redelivered")
                    ],
                ),
                (
                    "Decided and published",
                    [_ours("reconcile", "ValuesDecided"), _ours("publish", "EventsPublished")],
                ),
                ("Findings", [_ours("quality", "QualityFindings")]),
            ],
        )
        self._dashboard(
            "pipeline",
            [
                (
                    "Arrival to log, and the batch's part of it",
                    [
                        our_metric("ingest", name, statistic=s)
                        for name in ("IngestLatency", "IngestBatchTime")
                        for s in ("p50", "p95")
                    ],
                ),
                ("Claims reconciled", [_ours("reconcile", "ClaimsReconciled")]),
                (
                    "Log to backbone",
                    [our_metric("relay", "FollowerLagSeconds"), _ours("relay", "EventsRelayed")],
                ),
                ("Refused by the bus", [_ours("publish", "EventsRefused")]),
                ("Answers by kind", [_ours("query", f"Answers{n}xx") for n in (2, 3, 4)]),
                ("Cache", [_ours("query", f"Cache{w}") for w in ("Hit", "Miss", "Failure")]),
                ("Records in", [_stream_metric(s, "IncomingRecords") for s in self._streams]),
                (
                    "Functions at once",
                    [
                        f.function.metric("ConcurrentExecutions", statistic="Maximum")
                        for f in self._functions.values()
                    ],
                ),
            ],
        )

        stores: dict[str, list[cloudwatch.IMetric]] = {}
        for watch in self._watches:
            # One graph for each unit of a store: a share and a count do not go on one axis.
            stores.setdefault(f"{watch.store}: {watch.logical.rpartition('-')[2]}", []).append(watch.metric)
        self._dashboard("stores", list(stores.items()))

    def _dashboard(self, name: str, graphs: Sequence[tuple[str, Sequence[cloudwatch.IMetric]]]) -> None:
        dashboard = cloudwatch.Dashboard(
            self,
            name.capitalize(),
            dashboard_name=self._house.name(name),
            default_interval=Duration.hours(3),
        )
        for start in range(0, len(graphs), 3):
            dashboard.add_widgets(
                *(
                    cloudwatch.GraphWidget(title=title, left=list(metrics), width=8)
                    for title, metrics in graphs[start : start + 3]
                )
            )


def _ours(function: str, name: str) -> cloudwatch.Metric:
    return our_metric(function, name, statistic="Sum")


def _stream_metric(stream: kinesis.Stream, name: str) -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace="AWS/Kinesis",
        metric_name=name,
        dimensions_map={"StreamName": stream.stream_name},
        statistic="Sum",
        period=_MINUTE,
    )
