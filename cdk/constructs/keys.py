"""Customer keys: one for data, one for logs, rotated by the service."""

from __future__ import annotations

from aws_cdk import Aws, CfnParameter, Duration, RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from cdk.constructs.spending import COST_SERVICES
from cdk.environments.settings import Settings
from cdk.environments.traffic import Encryption


class Keys(Construct):
    """The keys of one environment. What other services may do with them is said here, up front, so that
    no later stack has to change a key's policy.

    Where a second region stands by, the data key is one key in both: what the product itself encrypted
    (restricted values) can be read there, too.
    """

    def __init__(self, scope: Construct, id_: str, *, settings: Settings, encryption: Encryption) -> None:
        super().__init__(scope, id_)
        self._stem = settings.stem
        description = f"{settings.stem}: streams, queues, buckets, databases"
        rotation = Duration.days(encryption.rotation_days)
        if settings.copy_of:
            arn = self._replica(description)
        else:
            arn = kms.Key(
                self,
                "Data",
                description=description,
                enable_key_rotation=True,
                rotation_period=rotation,
                multi_region=True if settings.copies_to else None,
                policy=self._data_policy(),
                # A key is kept whatever happens to the stack: without it retained data cannot be read.
                removal_policy=RemovalPolicy.RETAIN,
            ).key_arn
        # By name, so that no construct of the library widens the key's policy on the side.
        self.data = kms.Key.from_key_arn(self, "DataKey", arn)
        kms.Alias(self, "DataAlias", alias_name=f"alias/{settings.stem}-data", target_key=self.data)
        self.logs = kms.Key(
            self,
            "Logs",
            alias=f"alias/{settings.stem}-logs",
            description=f"{settings.stem}: log groups",
            enable_key_rotation=True,
            rotation_period=rotation,
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
                            f":log-group:*{settings.stem}-*"
                        )
                    }
                },
            )
        )

    def _replica(self, description: str) -> str:
        primary = CfnParameter(
            self,
            "PrimaryKey",
            type="String",
            description="ARN of the data key in the first region",
            allowed_pattern=r"arn:[a-z-]+:kms:[a-z0-9-]+:\d{12}:key/mrk-[0-9a-f]+",
        )
        primary.override_logical_id("PrimaryDataKey")
        replica = kms.CfnReplicaKey(
            self,
            "Data",
            primary_key_arn=primary.value_as_string,
            key_policy=self._data_policy(),
            description=description,
        )
        replica.apply_removal_policy(RemovalPolicy.RETAIN)
        return replica.attr_arn

    def _data_policy(self) -> iam.PolicyDocument:
        return iam.PolicyDocument(
            statements=[
                iam.PolicyStatement(
                    # Policies of roles decide; without this nobody could ever change the key again.
                    principals=[iam.AccountRootPrincipal()],
                    actions=["kms:*"],
                    resources=["*"],  # in a key's policy this means the key itself
                ),
                # Alarms publish to an encrypted topic, and so does the rule that tells people of issues.
                _sends("cloudwatch", f"alarm:{self._stem}-*"),
                _sends("events", f"rule/{self._stem}-bus/*"),
                iam.PolicyStatement(
                    # So do budgets and cost anomalies.
                    principals=[iam.ServicePrincipal(service) for service in COST_SERVICES],
                    actions=["kms:Decrypt", "kms:GenerateDataKey"],
                    resources=["*"],
                    conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}},
                ),
            ]
        )


def _sends(service: str, source: str) -> iam.PolicyStatement:
    """What a service needs that sends encrypted messages on behalf of ``source``, a resource of ours."""
    return iam.PolicyStatement(
        principals=[iam.ServicePrincipal(f"{service}.amazonaws.com")],
        actions=["kms:Decrypt", "kms:GenerateDataKey"],
        resources=["*"],
        conditions={
            "StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID},
            "ArnLike": {
                "aws:SourceArn": f"arn:{Aws.PARTITION}:{service}:{Aws.REGION}:{Aws.ACCOUNT_ID}:{source}"
            },
        },
    )
