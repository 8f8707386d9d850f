"""What every construct of an environment shares: names, keys, what happens to data, acknowledgements."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from aws_cdk import Acknowledgment, Aws, CfnParameter, RemovalPolicy, Validations
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct

from cdk.environments.settings import Settings

ACKNOWLEDGE = "qis:acknowledge"
"""Context switch of the tests: ``False`` leaves all acknowledgements out, to see which are needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """The defaults of one environment, handed to each construct."""

    settings: Settings
    data_key: kms.IKey | None
    """Encrypts data at rest; none in the local twin."""
    logs_key: kms.IKey | None
    """Encrypts log groups; none in the local twin."""

    @property
    def removal(self) -> RemovalPolicy:
        """For whatever holds data."""
        return RemovalPolicy.RETAIN if self.settings.retain_data else RemovalPolicy.DESTROY

    def name(self, logical: str) -> str:
        """The physical name of ``logical`` in this environment."""
        return f"{self.settings.stem}-{logical}"

    def arn(self, service: str, resource: str) -> str:
        """The name of a resource of this account and region that is not made here."""
        return f"arn:{Aws.PARTITION}:{service}:{Aws.REGION}:{Aws.ACCOUNT_ID}:{resource}"

    def key_use(self, *actions: str, via: Sequence[str] = ()) -> list[iam.PolicyStatement]:
        """What lets a role use the data key; nothing in the local twin, which has none.

        Args:
            via: only by way of these services; where none is named, directly.
        """
        if self.data_key is None:
            return []
        services = [f"{service}.{Aws.REGION}.amazonaws.com" for service in via]
        return [
            iam.PolicyStatement(
                actions=list(actions),
                resources=[self.data_key.key_arn],
                conditions={"StringEquals": {"kms:ViaService": services}} if services else None,
            )
        ]

    def log_group(self, scope: Construct, id_: str, *, name: str) -> logs.LogGroup:
        """A log group with the house's retention and key. Logs are copies of what the event log and the
        metrics hold, so they go with their stack."""
        group = logs.LogGroup(
            scope,
            id_,
            log_group_name=name,
            retention=_DAYS[self.settings.log_retention_days],
            encryption_key=self.logs_key,
            removal_policy=RemovalPolicy.DESTROY,
        )
        if self.logs_key is None:
            acknowledge(
                group,
                {"NIST.800.53.R5-CloudWatchLogGroupEncrypted": "The local twin logs to files."},
            )
        return group


def id_of(name: str) -> str:
    """The id of the construct of ``name``."""
    return "".join(word.capitalize() for word in re.split("[-_]", name))


def certificate_arn(scope: Construct, id_: str, logical_id: str, what: str) -> str:
    """A parameter: the certificate is made by hand, as it needs the owner of the domain."""
    parameter = CfnParameter(
        scope,
        id_,
        type="String",
        description=f"ARN of the certificate {what}",
        allowed_pattern=r"arn:[a-z-]+:acm:[a-z0-9-]+:\d{12}:certificate/[0-9a-f-]+",
    )
    parameter.override_logical_id(logical_id)
    return parameter.value_as_string


def acknowledge(construct: Construct, reasons: dict[str, str]) -> None:
    """Accept findings of cdk-nag on one construct, each with the reason why it is right there.

    A test fails when a finding acknowledged here is not (or no longer) found.
    """
    if construct.node.try_get_context(ACKNOWLEDGE) is False:
        return
    Validations.of(construct).acknowledge(
        *(Acknowledgment(id=rule, reason=reason) for rule, reason in reasons.items())
    )


def finding(arn: str) -> str:
    """``arn`` as cdk-nag writes it in the id of a finding."""
    for value, name in ((Aws.PARTITION, "Partition"), (Aws.REGION, "Region"), (Aws.ACCOUNT_ID, "AccountId")):
        arn = arn.replace(value, f"<AWS::{name}>")
    return arn


_DAYS: dict[int, logs.RetentionDays] = {
    1: logs.RetentionDays.ONE_DAY,
    3: logs.RetentionDays.THREE_DAYS,
    5: logs.RetentionDays.FIVE_DAYS,
    7: logs.RetentionDays.ONE_WEEK,
    14: logs.RetentionDays.TWO_WEEKS,
    30: logs.RetentionDays.ONE_MONTH,
    60: logs.RetentionDays.TWO_MONTHS,
    90: logs.RetentionDays.THREE_MONTHS,
    120: logs.RetentionDays.FOUR_MONTHS,
    150: logs.RetentionDays.FIVE_MONTHS,
    180: logs.RetentionDays.SIX_MONTHS,
    365: logs.RetentionDays.ONE_YEAR,
    400: logs.RetentionDays.THIRTEEN_MONTHS,
    545: logs.RetentionDays.EIGHTEEN_MONTHS,
    731: logs.RetentionDays.TWO_YEARS,
    1827: logs.RetentionDays.FIVE_YEARS,
    2557: logs.RetentionDays.SEVEN_YEARS,
    3653: logs.RetentionDays.TEN_YEARS,
}
