"""The event store: Aurora PostgreSQL Serverless v2, reached by IAM tokens over TLS only."""

from __future__ import annotations

import typing

from aws_cdk import Duration, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_rds as rds
from aws_cdk import custom_resources as resources
from constructs import Construct

from cdk.constructs.house import House, acknowledge
from cdk.constructs.network import Network
from cdk.environments.settings import Database as DatabaseSettings

NAME = "qis"
FUNCTION_USER = "qis_app"
MIGRATE_USER = "qis_migrate"


def roles_sql(database: str = NAME) -> str:
    """Make the two roles that sign in with IAM tokens. Safe to run again.

    Only the administrator, whose password RDS keeps and rotates, can do this; everything else is a
    migration.
    """
    # The names are the constants above, nothing from outside.
    return f"""
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{MIGRATE_USER}') THEN
    CREATE ROLE {MIGRATE_USER} LOGIN;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{FUNCTION_USER}') THEN
    CREATE ROLE {FUNCTION_USER} LOGIN;
  END IF;
  GRANT rds_iam TO {FUNCTION_USER};
  GRANT rds_iam TO {MIGRATE_USER} WITH ADMIN OPTION;  -- a migration grants it, too
  GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {database} TO {MIGRATE_USER};
  GRANT USAGE, CREATE ON SCHEMA public TO {MIGRATE_USER};
  GRANT CONNECT ON DATABASE {database} TO {FUNCTION_USER};
END
$$
""".strip()  # noqa: S608


_VERSIONS = {
    "17.7": rds.AuroraPostgresEngineVersion.VER_17_7,
    "17.9": rds.AuroraPostgresEngineVersion.VER_17_9,
    "18.6": rds.AuroraPostgresEngineVersion.VER_18_6,
}

_ROLES_FUNCTION = "AWS679f53fac002430cb0da5b7982bd2287"
"""The function behind custom resources that are one call; the CDK fixes its name."""


class Database(Construct):
    """Cluster, its parameters and logs, and the roles that sign in."""

    def __init__(
        self, scope: Construct, id_: str, *, house: House, settings: DatabaseSettings, network: Network
    ) -> None:
        super().__init__(scope, id_)
        identifier = house.name("store")
        engine = rds.DatabaseClusterEngine.aurora_postgres(version=_VERSIONS[settings.engine_version])
        logs = house.log_group(self, "Logs", name=f"/aws/rds/cluster/{identifier}/postgresql")
        monitoring = self._monitoring_role()
        self.cluster = rds.DatabaseCluster(
            self,
            "Cluster",
            cluster_identifier=identifier,
            engine=engine,
            parameter_group=rds.ParameterGroup(
                self,
                "Parameters",
                engine=engine,
                description=f"{identifier}: TLS only, slow statements logged",
                parameters={"rds.force_ssl": "1", "log_min_duration_statement": "1000"},
            ),
            writer=_instance("Writer"),
            # The first reader scales with the writer, so that it can take over at once.
            readers=[
                _instance(f"Reader{n}", scale_with_writer=n == 1) for n in range(1, settings.readers + 1)
            ],
            serverless_v2_min_capacity=settings.min_acu,
            serverless_v2_max_capacity=settings.max_acu,
            default_database_name=NAME,
            port=settings.port,
            credentials=rds.Credentials.from_username("qis_admin", encryption_key=house.data_key),
            manage_master_user_password=True,
            iam_authentication=True,
            enable_data_api=True,
            vpc=network.vpc,
            vpc_subnets=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED),
            security_groups=[network.database_group],
            storage_encrypted=True,
            storage_encryption_key=house.data_key,
            enable_performance_insights=True,
            performance_insight_encryption_key=house.data_key,
            monitoring_interval=Duration.minutes(1),
            monitoring_role=monitoring,
            backup=rds.BackupProps(retention=Duration.days(settings.backup_retention_days)),
            copy_tags_to_snapshot=True,
            deletion_protection=settings.deletion_protection,
            cloudwatch_logs_exports=["postgresql"],
            removal_policy=house.removal,
        )
        self.cluster.node.add_dependency(logs)  # or RDS makes the group, without key and retention
        self.roles = self._roles(house)
        self._acknowledge(settings)

    def user_arn(self, house: House, user: str) -> str:
        """What ``rds-db:connect`` must be allowed on to sign in as ``user``."""
        return house.arn("rds-db", f"dbuser:{self.cluster.cluster_resource_identifier}/{user}")

    def _monitoring_role(self) -> iam.Role:
        role = iam.Role(
            self,
            "Monitoring",
            assumed_by=iam.ServicePrincipal("monitoring.rds.amazonaws.com"),
            managed_policies=[
                iam.ManagedPolicy.from_aws_managed_policy_name("service-role/AmazonRDSEnhancedMonitoringRole")
            ],
        )
        policy = "arn:<AWS::Partition>:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole"
        acknowledge(
            role,
            {f"AwsSolutions-IAM4[Policy::{policy}]": "The policy that AWS publishes for this one purpose."},
        )
        return role

    def _roles(self, house: House) -> resources.AwsCustomResource:
        """Make the roles that sign in, over the Data API: no network, no password in our hands."""
        assert self.cluster.secret is not None, "RDS manages the administrator's password"
        log_group = house.log_group(self, "RolesLogs", name=f"/aws/lambda/{house.name('roles')}")
        role = iam.Role(self, "RolesRole", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        policy = iam.ManagedPolicy(self, "RolesPolicy", roles=[role])
        policy.add_statements(
            iam.PolicyStatement(actions=["rds-data:ExecuteStatement"], resources=[self.cluster.cluster_arn]),
            iam.PolicyStatement(
                actions=["secretsmanager:GetSecretValue"], resources=[self.cluster.secret.secret_arn]
            ),
            iam.PolicyStatement(
                actions=["logs:CreateLogStream", "logs:PutLogEvents"], resources=[log_group.log_group_arn]
            ),
        )
        if house.data_key:
            policy.add_statements(
                iam.PolicyStatement(actions=["kms:Decrypt"], resources=[house.data_key.key_arn])
            )
        call = resources.AwsSdkCall(
            service="rds-data",
            action="ExecuteStatement",
            parameters={
                "resourceArn": self.cluster.cluster_arn,
                "secretArn": self.cluster.secret.secret_arn,
                "database": NAME,
                "sql": roles_sql(),
            },
            physical_resource_id=resources.PhysicalResourceId.of("roles"),
        )
        made = resources.AwsCustomResource(
            self,
            "Roles",
            on_create=call,
            on_update=call,
            role=role.without_policy_updates(),
            install_latest_aws_sdk=False,
            memory_size=256,
            timeout=Duration.minutes(2),
            log_group=log_group,
            function_name=house.name("roles"),
        )
        made.node.add_dependency(policy, self.cluster)  # the writer too, not only the cluster
        once = "Runs once in a deployment, in the hands of CloudFormation, which reports its failure."
        acknowledge(
            typing.cast(Construct, Stack.of(self).node.find_child(_ROLES_FUNCTION)),
            {
                "NIST.800.53.R5-LambdaConcurrency": once,
                "NIST.800.53.R5-LambdaDLQ": once,
                "Serverless-LambdaDLQ": once,
                "Serverless-LambdaTracing": once,
                "NIST.800.53.R5-LambdaInsideVPC": "Calls one AWS API, nothing in the network.",
            },
        )
        return made

    def _acknowledge(self, settings: DatabaseSettings) -> None:
        acknowledge(
            self.cluster,
            {
                "NIST.800.53.R5-RDSInBackupPlan": (
                    f"Aurora backs up continuously, to any second of {settings.backup_retention_days} days; "
                    "an instance has no data of its own."
                )
            },
        )


def _instance(id_: str, *, scale_with_writer: bool | None = None) -> rds.IClusterInstance:
    return rds.ClusterInstance.serverless_v2(
        id_,
        scale_with_writer=scale_with_writer,
        auto_minor_version_upgrade=True,
        publicly_accessible=False,
    )
