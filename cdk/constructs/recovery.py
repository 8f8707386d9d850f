"""Backups that no mistake in the account can delete, copies in the second region, proof that they restore.

Stores back themselves up continuously, for weeks. This is the second line: daily recovery points of
everything that bears the environment's tag, in a vault of their own that nobody can empty early.
"""

from __future__ import annotations

import json
import typing

from aws_cdk import Aws, Duration
from aws_cdk import aws_backup as backup
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from constructs import Construct

from cdk.constructs.alarms import Alarms
from cdk.constructs.database import Database
from cdk.constructs.house import House, acknowledge
from cdk.constructs.spending import TAG
from cdk.environments.operations import Recovery as RecoverySettings

VAULT = "backups"
_BY_BACKUP = "Published by AWS for this one purpose; it names the services that AWS Backup copies."


class Recovery(Construct):
    """Vault with a lock, a daily plan, copies in the second region, restore tests each week."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        house: House,
        settings: RecoverySettings,
        alarms: Alarms,
        vpc: ec2.IVpc,
        database: Database,
    ) -> None:
        super().__init__(scope, id_)
        self._house = house
        self._settings = settings
        self.vault = backup.BackupVault(
            self,
            "Vault",
            backup_vault_name=house.name(VAULT),
            encryption_key=house.data_key,
            # In governance mode: whoever may change the lock can still, which needs a right nobody has here.
            lock_configuration=backup.LockConfiguration(
                min_retention=Duration.days(settings.vault_lock_days)
            ),
            removal_policy=house.removal,
        )
        self._plan()
        if settings.restore_tests:
            self._restore_tests(vpc, database)
        for what, metric in (
            ("backup", "NumberOfBackupJobsFailed"),
            ("restore", "NumberOfRestoreJobsFailed"),
        ):
            alarms.alarm(
                f"{what}-failed",
                cloudwatch.Metric(
                    namespace="AWS/Backup", metric_name=metric, statistic="Sum", period=Duration.hours(1)
                ),
                above=0,
                what=f"A {what} job of AWS Backup failed",
                runbook="backup",
            )

    def _plan(self) -> None:
        peer = self._house.settings.copies_to
        keep = Duration.days(self._settings.daily_days)
        copies = (
            [
                backup.BackupPlanCopyActionProps(
                    destination_backup_vault=backup.BackupVault.from_backup_vault_arn(
                        self,
                        "Copies",
                        f"arn:{Aws.PARTITION}:backup:{peer.region}:{Aws.ACCOUNT_ID}"
                        f":backup-vault:qis-{peer.environment.replace('-', '')}-{VAULT}",
                    ),
                    delete_after=keep,
                )
            ]
            if peer
            else None
        )
        plan = backup.BackupPlan(
            self, "Plan", backup_plan_name=self._house.name("daily"), backup_vault=self.vault
        )
        plan.add_rule(
            backup.BackupPlanRule(
                rule_name="daily",
                schedule_expression=events.Schedule.cron(hour="2", minute="0"),
                start_window=Duration.hours(1),
                completion_window=Duration.hours(6),
                delete_after=keep,
                copy_actions=copies,
            )
        )
        plan.add_selection(
            "Tagged",
            backup_selection_name="tagged",
            role=self._role("Role", "Backup"),
            resources=[backup.BackupResource.from_tag(TAG, self._house.settings.name)],
        )

    def _restore_tests(self, vpc: ec2.IVpc, database: Database) -> None:
        """Each week the newest recovery point of the event store becomes a cluster, and is removed."""
        plan = backup.CfnRestoreTestingPlan(
            self,
            "RestoreTests",
            # AWS allows no hyphen here.
            restore_testing_plan_name=self._house.name("weekly").replace("-", "_"),
            schedule_expression="cron(0 5 ? * SUN *)",
            start_window_hours=1,
            recovery_point_selection=backup.CfnRestoreTestingPlan.RestoreTestingRecoveryPointSelectionProperty(
                algorithm="LATEST_WITHIN_WINDOW",
                include_vaults=[self.vault.backup_vault_arn],
                recovery_point_types=["SNAPSHOT"],
                selection_window_days=7,
            ),
        )
        nobody = ec2.SecurityGroup(
            self,
            "Nobody",
            vpc=vpc,
            description="Restored copies: reached by nothing, reach nothing",
            allow_all_outbound=False,
        )
        backup.CfnRestoreTestingSelection(
            self,
            "RestoreStore",
            restore_testing_plan_name=plan.ref,
            restore_testing_selection_name="event_store",
            protected_resource_type="Aurora",
            iam_role_arn=self._role("RestoreRole", "Restores").role_arn,
            validation_window_hours=4,
            # Left out, they would be those of the account's default network, which it need not have. Source:
            # https://docs.aws.amazon.com/aws-backup/latest/devguide/restore-testing-inferred-metadata.html
            restore_metadata_overrides={
                "dbSubnetGroupName": database.subnet_group,
                "vpcSecurityGroupIds": json.dumps([nobody.security_group_id]),
                "enableIamDatabaseAuthentication": "true",
                **({"kmsKeyId": self._house.data_key.key_arn} if self._house.data_key else {}),
            },
            protected_resource_conditions=(
                backup.CfnRestoreTestingSelection.ProtectedResourceConditionsProperty(
                    string_equals=[
                        backup.CfnRestoreTestingSelection.KeyValueProperty(
                            key=f"aws:ResourceTag/{TAG}", value=self._house.settings.name
                        )
                    ]
                )
            ),
        )

    def _role(self, id_: str, what: str) -> iam.Role:
        name = f"service-role/AWSBackupServiceRolePolicyFor{what}"
        role = iam.Role(
            self,
            id_,
            assumed_by=typing.cast(iam.IPrincipal, iam.ServicePrincipal("backup.amazonaws.com")),
            managed_policies=[iam.ManagedPolicy.from_aws_managed_policy_name(name)],
        )
        acknowledge(
            role, {f"AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/{name}]": _BY_BACKUP}
        )
        return role
