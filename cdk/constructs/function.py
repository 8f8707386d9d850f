"""The house's Lambda function, and how it is fed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aws_cdk import ArnFormat, Duration, RemovalPolicy, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kinesis as kinesis
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_destinations as destinations
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from cdk.constructs.house import House, acknowledge
from cdk.environments.traffic import EventSource
from qis.settings import FUNCTIONS, PREFIX

_ARCHITECTURES = {"arm64": lambda_.Architecture.ARM_64, "x86_64": lambda_.Architecture.X86_64}


LIVE = "live"
"""Name of the alias that is invoked."""


class VariablesError(ValueError):
    """The variables given to a function are not those that its settings class reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Where functions run inside the network."""

    vpc: ec2.IVpc
    subnets: ec2.SubnetSelection
    security_group: ec2.ISecurityGroup


def variables(name: str, values: Mapping[str, str]) -> dict[str, str]:
    """``QIS_`` variables of the function ``name`` from its settings' field names.

    Raises:
        VariablesError: a field of the settings class is not given, or one is given that it does not have.
    """
    given = {PREFIX + field.upper(): value for field, value in values.items()}
    wanted = set(FUNCTIONS[name].variables())
    if set(given) != wanted:
        raise VariablesError(
            f"{name}: missing {sorted(wanted - set(given))}, unknown {sorted(set(given) - wanted)}"
        )
    return given


class HouseFunction(Construct):
    """One function with its own role, log group and the variables that its settings class names.

    The role can do nothing but what :meth:`allow` says: no managed policy of AWS, and no grant that a
    library method adds on the side.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        house: House,
        name: str,
        code: lambda_.Code,
        layers: Sequence[lambda_.ILayerVersion],
        values: Mapping[str, str],
        segment: Segment | None,
    ) -> None:
        super().__init__(scope, id_)
        self._house = house
        self.name = name
        size = house.settings.functions[name]
        log_group = house.log_group(self, "Logs", name=f"/aws/lambda/{house.name(name)}")
        self.role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            description=f"What the function {house.name(name)} may do",
        )
        self.policy = iam.ManagedPolicy(self, "Policy", roles=[self.role])
        self.function = lambda_.Function(
            self,
            "Function",
            function_name=house.name(name),
            runtime=lambda_.Runtime.PYTHON_3_13,
            architecture=_ARCHITECTURES[house.settings.architecture],
            handler=f"lambdas.{name}.handler.handler",
            code=code,
            layers=layers,
            role=self.role.without_policy_updates(),
            environment=variables(name, values)
            | {
                "POWERTOOLS_SERVICE_NAME": f"qis-{name}",
                "POWERTOOLS_METRICS_NAMESPACE": "QIS",
                "POWERTOOLS_LOG_LEVEL": house.settings.log_level,
            },
            memory_size=size.memory_mb,
            timeout=Duration.seconds(size.timeout_seconds),
            reserved_concurrent_executions=size.reserved_concurrency,
            snap_start=lambda_.SnapStartConf.ON_PUBLISHED_VERSIONS if size.snap_start else None,
            # An older version is what a release goes back to.
            current_version_options=lambda_.VersionOptions(removal_policy=RemovalPolicy.RETAIN),
            tracing=lambda_.Tracing.ACTIVE,
            logging_format=lambda_.LoggingFormat.JSON,
            log_group=log_group,
            vpc=segment.vpc if segment else None,
            vpc_subnets=segment.subnets if segment else None,
            security_groups=[segment.security_group] if segment else None,
        )
        # Lambda checks at creation that the role can make network interfaces.
        self.function.node.add_dependency(self.policy)
        self.alias = (
            lambda_.Alias(
                self,
                "Live",
                alias_name=LIVE,
                version=self.function.current_version,
                provisioned_concurrent_executions=size.provisioned_concurrency or None,
            )
            if house.settings.release
            else None
        )
        self.live: lambda_.IFunction = self.alias or self.function
        """What is invoked: the alias that releases move, or the function itself."""
        self.allow(["logs:CreateLogStream", "logs:PutLogEvents"], log_group.log_group_arn)
        # X-Ray has no resources to name.
        self.allow(["xray:PutTraceSegments", "xray:PutTelemetryRecords"], "*")
        if segment:
            # Interfaces are made by Lambda under names that are not known before; AWS offers no resource
            # for describing them, and its own managed policy says the same.
            self.allow(
                [
                    "ec2:CreateNetworkInterface",
                    "ec2:DeleteNetworkInterface",
                    "ec2:DescribeNetworkInterfaces",
                    "ec2:DescribeSubnets",
                ],
                "*",
            )
        self._acknowledge(in_network=segment is not None)

    def allow(self, actions: Sequence[str], *resources: str) -> None:
        """Let the function do ``actions``, spelled out, on ``resources``."""
        self.policy.add_statements(iam.PolicyStatement(actions=list(actions), resources=list(resources)))

    def allow_send(self, queue: sqs.IQueue) -> None:
        """Let the function, and Lambda in its name, put messages on ``queue``."""
        self.allow(["sqs:SendMessage"], queue.queue_arn)
        if queue.encryption_master_key:
            self.allow_key("kms:Decrypt", "kms:GenerateDataKey")

    def allow_put(self, stream: kinesis.Stream) -> None:
        """Let the function put records on ``stream``."""
        self.allow(["kinesis:PutRecords"], stream.stream_arn)
        self.allow_key("kms:GenerateDataKey")

    def allow_key(self, *actions: str) -> None:
        """Let the function use the data key, where there is one."""
        self.policy.add_statements(*self._house.key_use(*actions))

    def read_from(
        self,
        stream: kinesis.Stream,
        *,
        source: EventSource,
        on_failure: sqs.Queue,
        event_types: Sequence[str] = (),
    ) -> None:
        """Feed the function from ``stream``; what it cannot process in time goes to ``on_failure``.

        Args:
            event_types: only events of these types; all records when empty.
        """
        self.allow(
            [
                "kinesis:DescribeStream",
                "kinesis:DescribeStreamSummary",
                "kinesis:GetRecords",
                "kinesis:GetShardIterator",
                "kinesis:ListShards",
            ],
            stream.stream_arn,
        )
        self.allow_key("kms:Decrypt")
        self.allow_send(on_failure)
        filters = (
            lambda_.FilterCriteria.filter({"data": {"type": list(event_types)}}) if event_types else None
        )
        mapping = lambda_.CfnEventSourceMapping(
            self,
            "Source",
            function_name=self.alias.function_arn if self.alias else self.function.function_name,
            enabled=None if self._house.settings.active else False,
            event_source_arn=stream.stream_arn,
            starting_position="TRIM_HORIZON",
            batch_size=source.batch_size,
            maximum_batching_window_in_seconds=source.window_seconds,
            parallelization_factor=source.parallelization,
            # One bad record must not hold up its shard: the function reports it, Lambda narrows down to it.
            function_response_types=["ReportBatchItemFailures"],
            bisect_batch_on_function_error=True,
            maximum_retry_attempts=source.retry_attempts,
            maximum_record_age_in_seconds=source.max_record_age_seconds,
            destination_config=lambda_.CfnEventSourceMapping.DestinationConfigProperty(
                on_failure=lambda_.CfnEventSourceMapping.OnFailureProperty(destination=on_failure.queue_arn)
            ),
            filter_criteria=(
                lambda_.CfnEventSourceMapping.FilterCriteriaProperty(
                    filters=[lambda_.CfnEventSourceMapping.FilterProperty(pattern=filters["pattern"])]
                )
                if filters
                else None
            ),
        )
        # Lambda checks at creation that the role can read the stream.
        mapping.node.add_dependency(self.policy)

    def run_each(
        self, interval: Duration, *, description: str, failed: sqs.IQueue, at_once: bool = False
    ) -> None:
        """Start the function each ``interval``. A run that fails is not repeated, the next one follows soon;
        it is put on ``failed`` with its error.

        Args:
            at_once: a run that fails is followed by another at once, instead of being put on ``failed``, for
                a function without which everything stands still: Lambda's own retry waits a minute. Lambda
                ends such a chain after some 16 runs; the next interval begins another.
        """
        # By name only: a method of the library must not change the queue's policy, see Events.
        queue = sqs.Queue.from_queue_arn(self, "Failed", failed.queue_arn)
        on_failure: lambda_.IDestination = destinations.SqsDestination(queue)
        if at_once:
            own = self._own_arn()
            on_failure = destinations.LambdaDestination(
                lambda_.Function.from_function_arn(self, "Again", own)
            )
            self.allow(["lambda:InvokeFunction"], own)
        else:
            self.allow_send(failed)
        self.live.configure_async_invoke(
            retry_attempts=0, max_event_age=Duration.minutes(1), on_failure=on_failure
        )
        events.Rule(
            self,
            "Schedule",
            rule_name=self._house.name(self.name),
            description=description,
            schedule=events.Schedule.rate(interval),
            enabled=self._house.settings.active,
            targets=[
                targets.LambdaFunction(
                    self.live,
                    dead_letter_queue=queue,
                    retry_attempts=2,
                    max_event_age=Duration.minutes(1),
                )
            ],
        )

    def _own_arn(self) -> str:
        """What is invoked, by name: the function waits for its policy, which cannot wait for the function."""
        name = self._house.name(self.name)
        return Stack.of(self).format_arn(
            service="lambda",
            resource="function",
            resource_name=f"{name}:{LIVE}" if self.alias else name,
            arn_format=ArnFormat.COLON_RESOURCE_NAME,
        )

    def _acknowledge(self, *, in_network: bool) -> None:
        destination = (
            "Failed asynchronous runs go to the on-failure destination, with the error and the event; "
            "failed batches to that of the event source; REST callers see the error."
        )
        runtime = (
            "The layers are built for 3.13, which AWS supports until 2029; a newer one is taken on test."
        )
        acknowledge(
            self.function,
            {
                "NIST.800.53.R5-LambdaDLQ": destination,
                "Serverless-LambdaDLQ": destination,
                "AwsSolutions-L1": runtime,
                "Serverless-LambdaLatestVersion": runtime,
            },
        )
        acknowledge(
            self.policy,
            {
                "AwsSolutions-IAM5[Resource::*]": (
                    "Only X-Ray and Lambda's network interfaces, for which AWS offers no resource."
                )
            },
        )
        if not in_network:
            acknowledge(
                self.function,
                {"NIST.800.53.R5-LambdaInsideVPC": "The local twin has no network of its own."},
            )
