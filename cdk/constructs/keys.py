"""Customer keys: one for data, one for logs, rotated each year."""

from __future__ import annotations

from aws_cdk import Aws, RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct


class Keys(Construct):
    """The keys of one environment. What other services may do with them is said here, up front, so that
    no later stack has to change a key's policy."""

    def __init__(self, scope: Construct, id_: str, *, environment: str) -> None:
        super().__init__(scope, id_)
        self.data = kms.Key(
            self,
            "Data",
            alias=f"alias/qis-{environment}-data",
            description=f"qis-{environment}: streams, queues, bucket, database",
            enable_key_rotation=True,
            # A key is kept whatever happens to the stack: without it retained data cannot be read.
            removal_policy=RemovalPolicy.RETAIN,
        )
        # Alarms publish to an encrypted topic.
        self.data.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["kms:Decrypt", "kms:GenerateDataKey"],
                resources=["*"],  # in a key's policy this means the key itself
                conditions={
                    "StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID},
                    "ArnLike": {
                        "aws:SourceArn": (
                            f"arn:{Aws.PARTITION}:cloudwatch:{Aws.REGION}:{Aws.ACCOUNT_ID}"
                            f":alarm:qis-{environment}-*"
                        )
                    },
                },
            )
        )
        self.logs = kms.Key(
            self,
            "Logs",
            alias=f"alias/qis-{environment}-logs",
            description=f"qis-{environment}: log groups",
            enable_key_rotation=True,
            removal_policy=RemovalPolicy.RETAIN,
        )
        self.logs.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal(f"logs.{Aws.REGION}.amazonaws.com")],
                actions=[
                    "kms:Encrypt",
                    "kms:Decrypt",
                    "kms:ReEncryptFrom",
                    "kms:ReEncryptTo",
                    "kms:GenerateDataKey",
                    "kms:DescribeKey",
                ],
                resources=["*"],  # in a key's policy this means the key itself
                conditions={
                    "ArnLike": {
                        "kms:EncryptionContext:aws:logs:arn": (
                            f"arn:{Aws.PARTITION}:logs:{Aws.REGION}:{Aws.ACCOUNT_ID}"
                            f":log-group:*qis-{environment}-*"
                        )
                    }
                },
            )
        )
