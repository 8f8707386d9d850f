"""How a new version takes over: CodeDeploy gives it a share, then everything, unless an alarm goes off."""

from __future__ import annotations

from collections.abc import Iterable

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_codedeploy as codedeploy
from aws_cdk import aws_iam as iam
from constructs import Construct

from cdk.constructs.function import LIVE, HouseFunction
from cdk.constructs.house import House, acknowledge
from cdk.environments.traffic import Release

_CONFIGS = {
    5: codedeploy.LambdaDeploymentConfig.CANARY_10_PERCENT_5_MINUTES,
    10: codedeploy.LambdaDeploymentConfig.CANARY_10_PERCENT_10_MINUTES,
    15: codedeploy.LambdaDeploymentConfig.CANARY_10_PERCENT_15_MINUTES,
    30: codedeploy.LambdaDeploymentConfig.CANARY_10_PERCENT_30_MINUTES,
}


class Releases(Construct):
    """One deployment group per function; its alarms take the old version back."""

    def __init__(self, scope: Construct, id_: str, *, house: House, settings: Release) -> None:
        super().__init__(scope, id_)
        self._house = house
        self._config = _CONFIGS[settings.canary_minutes]
        self._application = codedeploy.LambdaApplication(
            self, "Application", application_name=house.name("functions")
        )
        self._role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("codedeploy.amazonaws.com"))
        self._policy = iam.ManagedPolicy(self, "Policy", roles=[self._role])
        # CloudWatch has no resource for describing alarms.
        self._policy.add_statements(
            iam.PolicyStatement(actions=["cloudwatch:DescribeAlarms"], resources=["*"])
        )
        acknowledge(
            self._policy,
            {"AwsSolutions-IAM5[Resource::*]": "CloudWatch has no resource for describing alarms."},
        )

    def watch(self, function: HouseFunction, alarms: Iterable[cloudwatch.Alarm]) -> None:
        """Release ``function`` by steps while ``alarms`` are quiet."""
        assert function.alias is not None, "made wherever there are releases"
        self._policy.add_statements(
            iam.PolicyStatement(
                actions=["lambda:GetAlias", "lambda:UpdateAlias", "lambda:GetProvisionedConcurrencyConfig"],
                resources=[
                    function.function.function_arn,
                    f"{function.function.function_arn}:{LIVE}",
                ],
            )
        )
        group = codedeploy.LambdaDeploymentGroup(
            self,
            function.name.capitalize(),
            application=self._application,
            deployment_group_name=self._house.name(function.name),
            alias=function.alias,
            deployment_config=self._config,
            alarms=list(alarms),
            role=self._role.without_policy_updates(),
            auto_rollback=codedeploy.AutoRollbackConfig(
                failed_deployment=True, stopped_deployment=True, deployment_in_alarm=True
            ),
        )
        group.node.add_dependency(self._policy)
