"""The event store: Aurora PostgreSQL Serverless v2, reached by IAM tokens over TLS only."""

from __future__ import annotations

from aws_cdk import CfnDeletionPolicy, Duration
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

ROLES_SQL = f"""
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{MIGRATE_USER}') THEN
    CREATE ROLE {MIGRATE_USER} LOGIN;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{FUNCTION_USER}') THEN
    CREATE ROLE {FUNCTION_USER} LOGIN;
  END IF;
  GRANT rds_iam TO {MIGRATE_USER}, {FUNCTION_USER};
  GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {NAME} TO {MIGRATE_USER};
  GRANT USAGE, CREATE ON SCHEMA public TO {MIGRATE_USER};
  GRANT CONNECT ON DATABASE {NAME} TO {FUNCTION_USER};
END
$$
""".strip()
"""The two roles that sign in with IAM tokens. Safe to run again. Only the administrator, whose password
RDS keeps and rotates, can make them; everything else is a migration."""


class Database(Construct):
    """Cluster, its parameters and logs, and the roles that sign in."""

    def __init__(
        self, scope: Construct, id_: str, *, house: House, settings: DatabaseSettings, network: Network
    ) -> None:
        super().__init__(scope, id_)
        identifier = house.name("store")
        engine = rds.DatabaseClusterEngine.aurora_postgres(version=_VERSIONS[settings.engine_version])
        logs = house.log_group(self, "Logs", name=f"/aws/rds/cluster/{identifier}/postgresql")
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
            writer=rds.ClusterInstance.serverless_v2("Writer", **_INSTANCE),
            readers=[
                # The first reader scales with the writer, so that it can take over at once.
                rds.ClusterInstance.serverless_v2(f"Reader{n}", scale_with_writer=n == 1, **_INSTANCE)
                for n in range(1, settings.readers + 1)
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
            performance_insight_encryption_key=house.data_key,
            backup=rds.BackupProps(retention=Duration.days(settings.backup_retention_days)),
            copy_tags_to_snapshot=True,
            deletion_protection=settings.deletion_protection,
            cloudwatch_logs_exports=["postgresql"],
            removal_policy=house.removal,
        )
        self.cluster.node.add_dependency(logs)  # or RDS makes the group, without key and retention
        self._roles(house)
        self._acknowledge(settings)

    def user_arn(self, house: House, user: str) -> str:
        """What ``rds-db:connect`` must be allowed on to sign in as ``user``."""
        return house.arn("rds-db", f"dbuser:{self.cluster.cluster_resource_identifier}/{user}")

    def _roles(self, house: House) -> None:
        assert self.cluster.secret is not None
        call = resources.AwsSdkCall(
            service="rds-data",
            action="ExecuteStatement",
            parameters={
                "resourceArn": self.cluster.cluster_arn,
                "secretArn": self.cluster.secret.secret_arn,
                "database": NAME,
                "sql": ROLES_SQL,
            },
            physical_resource_id=resources.PhysicalResourceId.of("roles"),
        )
        statements = [
            iam.PolicyStatement(actions=["rds-data:ExecuteStatement"], resources=[self.cluster.cluster_arn]),
            iam.PolicyStatement(
                actions=["secretsmanager:GetSecretValue"], resources=[self.cluster.secret.secret_arn]
            ),
        ]
        if house.data_key:
            statements.append(
                iam.PolicyStatement(actions=["kms:Decrypt"], resources=[house.data_key.key_arn])
            )
        self.roles = resources.AwsCustomResource(
            self,
            "Roles",
            on_create=call,
            on_update=call,
            policy=resources.AwsCustomResourcePolicy.from_statements(statements),
            install_latest_aws_sdk=False,
            log_group=house.log_group(self, "RolesLogs", name=f"/aws/lambda/{house.name('roles')}"),
            function_name=house.name("roles"),
        )
        self.roles.node.add_dependency(self.cluster)  # the writer too, not only the cluster

    def _acknowledge(self, settings: DatabaseSettings) -> None:
        acknowledge(self.cluster, {})
