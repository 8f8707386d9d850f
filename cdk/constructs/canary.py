"""A call from outside each few minutes: whether a consumer would get an answer."""

from __future__ import annotations

from pathlib import Path

from aws_cdk import Aws, Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_synthetics as synthetics
from constructs import Construct

from cdk.constructs.alarms import Alarms, shortfall
from cdk.constructs.buckets import bucket_name, passing_bucket
from cdk.constructs.house import House, acknowledge, finding

RUNTIME = "syn-nodejs-puppeteer-10.0"
SCRIPT = Path(__file__).with_name("canary.js")
_SHORT_LIVED = "Results of a probe, gone after a month; the metrics are what is kept."


class Canary(Construct):
    """Asks ``/ready`` every five minutes, through the front door."""

    def __init__(self, scope: Construct, id_: str, *, house: House, url: str, alarms: Alarms) -> None:
        super().__init__(scope, id_)
        # Synthetics refuses longer names.
        name = house.name("ready")[:21]
        results = bucket_name(house, "canary")
        passing_bucket(
            self,
            "Results",
            house=house,
            logical="canary",
            days=31,
            reasons={
                "AwsSolutions-S1": _SHORT_LIVED,
                "NIST.800.53.R5-S3BucketLoggingEnabled": _SHORT_LIVED,
                "NIST.800.53.R5-S3BucketReplicationEnabled": _SHORT_LIVED,
                "NIST.800.53.R5-S3DefaultEncryptionKMS": _SHORT_LIVED,
            },
        )
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        policy = iam.ManagedPolicy(self, "Policy", roles=[role])
        policy.add_statements(
            iam.PolicyStatement(
                actions=["s3:GetBucketLocation"], resources=[f"arn:{Aws.PARTITION}:s3:::{results}"]
            ),
            iam.PolicyStatement(
                actions=["s3:PutObject"], resources=[f"arn:{Aws.PARTITION}:s3:::{results}/*"]
            ),
            iam.PolicyStatement(
                actions=["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"],
                resources=[house.arn("logs", f"log-group:/aws/lambda/cwsyn-{name}-*")],
            ),
            iam.PolicyStatement(
                actions=["cloudwatch:PutMetricData"],
                resources=["*"],
                conditions={"StringEquals": {"cloudwatch:namespace": "CloudWatchSynthetics"}},
            ),
        )
        canary = synthetics.CfnCanary(
            self,
            "Canary",
            name=name,
            runtime_version=RUNTIME,
            artifact_s3_location=f"s3://{results}/ready",
            execution_role_arn=role.role_arn,
            schedule=synthetics.CfnCanary.ScheduleProperty(expression="rate(5 minutes)"),
            code=synthetics.CfnCanary.CodeProperty(
                handler="index.handler", script=SCRIPT.read_text(encoding="utf-8").replace("${URL}", url)
            ),
            run_config=synthetics.CfnCanary.RunConfigProperty(timeout_in_seconds=30, active_tracing=True),
            start_canary_after_creation=True,
            success_retention_period=31,
            failure_retention_period=31,
        )
        canary.node.add_dependency(policy)
        alarms.alarm(
            "canary",
            shortfall(
                cloudwatch.Metric(
                    namespace="CloudWatchSynthetics",
                    metric_name="SuccessPercent",
                    dimensions_map={"CanaryName": name},
                    statistic="Average",
                    period=Duration.minutes(5),
                ),
                of=100,
                label="failed calls, percent",
            ),
            above=10,
            what="Calls from outside fail",
            runbook="canary",
            periods=2,
            missing=cloudwatch.TreatMissingData.BREACHING,
        )
        self._acknowledge(house, policy, name, results)

    def _acknowledge(self, house: House, policy: iam.ManagedPolicy, name: str, results: str) -> None:
        logs = finding(house.arn("logs", f"log-group:/aws/lambda/cwsyn-{name}-*"))
        objects = finding(f"arn:{Aws.PARTITION}:s3:::{results}/*")
        acknowledge(
            policy,
            {
                f"AwsSolutions-IAM5[Resource::{objects}]": "Synthetics names the objects of each run.",
                f"AwsSolutions-IAM5[Resource::{logs}]": "Synthetics adds an id to the name of its log group.",
                "AwsSolutions-IAM5[Resource::*]": (
                    "CloudWatch has no resource for putting metrics; the namespace is fixed by a condition."
                ),
            },
        )
