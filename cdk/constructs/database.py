"""The event store: Aurora PostgreSQL, reached by IAM tokens over TLS only."""

from __future__ import annotations

import typing

from aws_cdk import CfnResource, Duration, Fn, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_rds as rds
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import custom_resources as resources
from constructs import Construct

from cdk.constructs.house import House, acknowledge
from cdk.constructs.network import ISOLATED, PRIVATE, Network
from cdk.constructs.storage import Lake
from cdk.environments.stores import Database as DatabaseSettings
from cdk.environments.stores import DatabaseSize
from qis.adapters.postgres.connection import SESSION_SETTINGS

NAME = "qis"
FUNCTION_USER = "qis_app"
MIGRATE_USER = "qis_migrate"


def roles_sql(database: str = NAME) -> str:
    """Make the two roles that sign in with IAM tokens, and set up their sessions. Safe to run again.

    Only the administrator, whose password RDS keeps and rotates, can do this; everything else is a
    migration.
    """
    # The names and settings are constants of the code, nothing from outside.
    settings = "\n".join(
        f"  ALTER ROLE {FUNCTION_USER} SET {name} TO '{value}';" for name, value in SESSION_SETTINGS.items()
    )
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
{settings}
  -- To name, and to end, what holds up the followers of the log. All else works without.
  BEGIN
    GRANT pg_read_all_stats, pg_signal_backend TO {MIGRATE_USER};
  EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'the administrator may not grant pg_read_all_stats and pg_signal_backend';
  END;
END
$$
""".strip()  # noqa: S608


_VERSIONS = {
    "17.7": rds.AuroraPostgresEngineVersion.VER_17_7,
    "17.9": rds.AuroraPostgresEngineVersion.VER_17_9,
    "18.6": rds.AuroraPostgresEngineVersion.VER_18_6,
}

_OF_THE_PRIMARY = (
    "MasterUsername",
    "ManageMasterUserPassword",
    "MasterUserSecret",
    "DatabaseName",
    "EnableHttpEndpoint",
)
"""Properties that AWS refuses on the second cluster of a global database."""

_ROLES_FUNCTION = "AWS679f53fac002430cb0da5b7982bd2287"
"""The function behind custom resources that are one call; the CDK fixes its name."""


class Database(Construct):
    """Cluster, its parameters and logs, the roles that sign in, the proxy, the second region."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        house: House,
        settings: DatabaseSettings,
        network: Network,
        lake: Lake | None,
    ) -> None:
        super().__init__(scope, id_)
        self._house = house
        self._settings = settings
        identifier = house.name("store")
        engine = rds.DatabaseClusterEngine.aurora_postgres(version=_VERSIONS[settings.engine_version])
        logs = house.log_group(self, "Logs", name=f"/aws/rds/cluster/{identifier}/postgresql")
        # RDS does not manage the administrator's password in a global database.
        managed = not settings.global_database or house.settings.copy_of is not None
        self._group = network.store_group("Database", port=settings.port, what="event store")
        capacity = settings.serverless
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
                parameters={
                    "rds.force_ssl": "1",
                    "log_min_duration_statement": "1000",
                    # An open transaction of any session stalls every follower of the log.
                    "idle_in_transaction_session_timeout": str(settings.idle_transaction_seconds * 1000),
                },
            ),
            writer=_instance("Writer", settings.writer),
            # The first reader scales with the writer, so that it can take over at once.
            readers=[
                _instance(f"Reader{n}", size, first=n == 1)
                for n, size in enumerate(settings.readers, start=1)
            ],
            serverless_v2_min_capacity=capacity.min_acu if capacity else None,
            serverless_v2_max_capacity=capacity.max_acu if capacity else None,
            default_database_name=NAME,
            port=settings.port,
            credentials=(
                rds.Credentials.from_username("qis_admin", encryption_key=house.data_key)
                if managed
                else rds.Credentials.from_generated_secret(
                    "qis_admin", secret_name=house.name("store-admin"), encryption_key=house.data_key
                )
            ),
            manage_master_user_password=managed,
            iam_authentication=True,
            enable_data_api=True,
            vpc=network.vpc,
            vpc_subnets=ISOLATED,
            security_groups=[self._group],
            storage_encrypted=True,
            storage_encryption_key=house.data_key,
            enable_performance_insights=True,
            performance_insight_encryption_key=house.data_key,
            # Query results go to the lake as files, straight from the database.
            s3_export_role=lake.exports_role(self) if lake and not house.settings.copy_of else None,
            monitoring_interval=Duration.minutes(1),
            monitoring_role=self._monitoring_role(),
            backup=rds.BackupProps(
                retention=Duration.days(settings.backup_retention_days), preferred_window="03:00-04:00"
            ),
            preferred_maintenance_window="sun:04:00-sun:05:00",
            copy_tags_to_snapshot=True,
            deletion_protection=settings.deletion_protection,
            cloudwatch_logs_exports=["postgresql"],
            removal_policy=house.removal,
        )
        self.cluster.node.add_dependency(logs)  # or RDS makes the group, without key and retention
        copy_of = house.settings.copy_of
        if settings.global_database:
            self._join_regions(network)
        if copy_of is None:
            self.roles = self._roles(house)
        self.proxy = self._proxy(network) if settings.proxy else None
        self._acknowledge()

    @property
    def host(self) -> str:
        """Where the writer is reached by who holds a session: the relay, migrations. A second region has no
        writer before a failover; what reads there reads the copy."""
        if not self._house.settings.active:
            return self.cluster.cluster_read_endpoint.hostname
        return self.cluster.cluster_endpoint.hostname

    @property
    def shared_host(self) -> str:
        """Where functions that run many at a time reach the writer."""
        return self.proxy.attr_endpoint if self.proxy else self.host

    @property
    def subnet_group(self) -> str:
        """Name of the isolated subnets' group, where restored copies live, too."""
        cluster = typing.cast(rds.CfnDBCluster, self._resource(self.cluster))
        return typing.cast(str, cluster.db_subnet_group_name)

    def user_arn(self, user: str) -> str:
        """What ``rds-db:connect`` must be allowed on to sign in at ``host`` as ``user``."""
        return self._house.arn("rds-db", f"dbuser:{self.cluster.cluster_resource_identifier}/{user}")

    def shared_user_arn(self, user: str) -> str:
        """The same for ``shared_host``."""
        if self.proxy is None:
            return self.user_arn(user)
        proxy = Fn.select(6, Fn.split(":", self.proxy.attr_db_proxy_arn))
        return self._house.arn("rds-db", f"dbuser:{proxy}/{user}")

    def _join_regions(self, network: Network) -> None:
        """Make the global database and join it as its writer, or join as the copy of another region's."""
        peer = self._house.settings.copy_of
        name = f"qis-{peer.environment.replace('-', '')}-global" if peer else self._house.name("global")
        cluster = self._resource(self.cluster)
        cluster.add_property_override("GlobalClusterIdentifier", name)
        if peer is None:
            database = rds.CfnGlobalCluster(
                self,
                "Global",
                global_cluster_identifier=name,
                engine="aurora-postgresql",
                engine_version=self._settings.engine_version,
                storage_encrypted=True,
                deletion_protection=self._settings.deletion_protection,
            )
            database.apply_removal_policy(self._house.removal)
            self.cluster.node.add_dependency(database)
            self._rotate(network)
            return
        # A copy has the users, the database and the administrator of what it copies.
        for given in _OF_THE_PRIMARY:
            cluster.add_property_deletion_override(given)

    def _rotate(self, network: Network) -> None:
        """Change the administrator's password as RDS would; nobody but deployments signs in with it."""
        secrets = self._house.settings.secrets
        assert secrets is not None, "settings refuse this"
        assert self.cluster.secret is not None, "made with the cluster"
        group = network.store_client("DatabaseRotation", "Changes the password of the administrator")
        network.connect(group, self._group, port=self._settings.port, what="event store")
        self.cluster.secret.add_rotation_schedule(
            "Rotation",
            automatically_after=Duration.days(secrets.rotation_days),
            hosted_rotation=secretsmanager.HostedRotation.postgre_sql_single_user(
                function_name=self._house.name("store-rotation"),
                vpc=network.vpc,
                vpc_subnets=PRIVATE,
                security_groups=[group],
            ),
        )

    def _proxy(self, network: Network) -> rds.CfnDBProxy:
        """Connections shared between functions; the caller's token signs in at the database, too."""
        house, port = self._house, self._settings.port
        role = iam.Role(self, "ProxyRole", assumed_by=iam.ServicePrincipal("rds.amazonaws.com"))
        policy = iam.ManagedPolicy(self, "ProxyPolicy", roles=[role])
        policy.add_statements(
            iam.PolicyStatement(actions=["rds-db:connect"], resources=[self.user_arn(FUNCTION_USER)])
        )
        group = network.store_group("Proxy", port=port, what="connections of the event store")
        network.connect(group, self._group, port=port, what="event store")
        proxy = rds.CfnDBProxy(
            self,
            "Proxy",
            db_proxy_name=house.name("store"),
            engine_family="POSTGRESQL",
            default_auth_scheme="IAM_AUTH",
            require_tls=True,
            role_arn=role.role_arn,
            vpc_subnet_ids=network.vpc.select_subnets(subnet_type=ISOLATED.subnet_type).subnet_ids,
            vpc_security_group_ids=[group.security_group_id],
        )
        proxy.node.add_dependency(policy)
        target = rds.CfnDBProxyTargetGroup(
            self,
            "ProxyTarget",
            db_proxy_name=proxy.ref,
            target_group_name="default",
            db_cluster_identifiers=[self.cluster.cluster_identifier],
        )
        target.node.add_dependency(self.cluster)  # its instances, too
        return proxy

    def _resource(self, of: Construct) -> CfnResource:
        return typing.cast(CfnResource, of.node.default_child)

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
            *house.key_use("kms:Decrypt"),
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

    def _acknowledge(self) -> None:
        acknowledge(
            self.cluster,
            {
                "NIST.800.53.R5-RDSInBackupPlan": (
                    f"Aurora backs up continuously, to any second of {self._settings.backup_retention_days} "
                    "days; an instance has no data of its own."
                )
            },
        )


def _instance(id_: str, size: DatabaseSize, *, first: bool = False) -> rds.IClusterInstance:
    if size == "serverless":
        return rds.ClusterInstance.serverless_v2(
            id_,
            scale_with_writer=True if first else None,
            auto_minor_version_upgrade=True,
            publicly_accessible=False,
        )
    return rds.ClusterInstance.provisioned(
        id_,
        instance_type=ec2.InstanceType(size),
        promotion_tier=1 if first else None,
        auto_minor_version_upgrade=True,
        publicly_accessible=False,
    )
