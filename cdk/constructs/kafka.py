"""MSK in KRaft mode: TLS only, clients signed in by role or, where that cannot be, by a rotated password."""

from __future__ import annotations

from pathlib import Path

from aws_cdk import Aws, Duration
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_msk as msk
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from cdk.constructs.house import House, acknowledge, id_of
from cdk.constructs.network import ISOLATED, Network
from cdk.environments.traffic import Kafka as KafkaSettings

PORT = 9098
"""TLS with IAM."""
SCRAM_PORT = 9096
ROTATION = Path(__file__).with_name("scram_rotation.py")

_PROPERTIES = """
auto.create.topics.enable=false
default.replication.factor=3
min.insync.replicas=2
unclean.leader.election.enable=false
log.retention.hours=168
""".lstrip()
"""A record is acknowledged by two brokers, and no topic appears by a typing error."""


class Kafka(Construct):
    """Cluster, configuration, logs, and a secret for each user who signs in with a password."""

    def __init__(
        self, scope: Construct, id_: str, *, house: House, settings: KafkaSettings, network: Network
    ) -> None:
        super().__init__(scope, id_)
        self._house = house
        name = house.name("kafka")
        logs = house.log_group(self, "Logs", name=f"/aws/msk/{name}")
        configuration = msk.CfnConfiguration(
            self,
            "Configuration",
            name=name,
            kafka_versions_list=[settings.version],
            server_properties=_PROPERTIES,
            latest_revision=msk.CfnConfiguration.LatestRevisionProperty(description="first"),
        )
        group = network.store_group("Kafka", port=PORT, what="kafka")
        self.cluster = msk.CfnCluster(
            self,
            "Cluster",
            cluster_name=name,
            kafka_version=settings.version,
            number_of_broker_nodes=settings.brokers,
            broker_node_group_info=msk.CfnCluster.BrokerNodeGroupInfoProperty(
                instance_type=settings.broker,
                client_subnets=network.vpc.select_subnets(subnet_type=ISOLATED.subnet_type).subnet_ids,
                security_groups=[group.security_group_id],
                storage_info=msk.CfnCluster.StorageInfoProperty(
                    ebs_storage_info=msk.CfnCluster.EBSStorageInfoProperty(volume_size=settings.storage_gib)
                ),
            ),
            client_authentication=msk.CfnCluster.ClientAuthenticationProperty(
                sasl=msk.CfnCluster.SaslProperty(
                    iam=msk.CfnCluster.IamProperty(enabled=True),
                    scram=msk.CfnCluster.ScramProperty(enabled=True) if settings.scram_users else None,
                ),
                unauthenticated=msk.CfnCluster.UnauthenticatedProperty(enabled=False),
            ),
            configuration_info=msk.CfnCluster.ConfigurationInfoProperty(
                arn=configuration.attr_arn, revision=1
            ),
            encryption_info=msk.CfnCluster.EncryptionInfoProperty(
                encryption_at_rest=msk.CfnCluster.EncryptionAtRestProperty(
                    data_volume_kms_key_id=house.data_key.key_arn if house.data_key else ""
                ),
                encryption_in_transit=msk.CfnCluster.EncryptionInTransitProperty(
                    client_broker="TLS", in_cluster=True
                ),
            ),
            enhanced_monitoring="PER_TOPIC_PER_PARTITION",
            logging_info=msk.CfnCluster.LoggingInfoProperty(
                broker_logs=msk.CfnCluster.BrokerLogsProperty(
                    cloud_watch_logs=msk.CfnCluster.CloudWatchLogsProperty(
                        enabled=True, log_group=logs.log_group_name
                    )
                )
            ),
        )
        self.cluster.apply_removal_policy(house.removal)
        if settings.scram_users:
            network.connect(network.functions_group, group, port=SCRAM_PORT, what="kafka by password")
            self._passwords(settings.scram_users)

    def _passwords(self, users: tuple[str, ...]) -> None:
        """MSK takes secrets of this prefix only, under a key that is ours."""
        secrets = self._house.settings.secrets
        assert secrets is not None, "settings refuse this"
        made = []
        for user in users:
            secret = secretsmanager.Secret(
                self,
                f"User{id_of(user)}",
                secret_name=f"AmazonMSK_{self._house.name(user)}",
                description=f"Password of {user} for Kafka",
                encryption_key=self._house.data_key,
                generate_secret_string=secretsmanager.SecretStringGenerator(
                    secret_string_template=f'{{"username":"{user}"}}',
                    generate_string_key="password",
                    exclude_punctuation=True,
                    password_length=40,
                ),
                removal_policy=self._house.removal,
            )
            secret.add_to_resource_policy(
                iam.PolicyStatement(
                    principals=[iam.ServicePrincipal("kafka.amazonaws.com")],
                    actions=["secretsmanager:GetSecretValue"],
                    resources=[secret.secret_arn],
                    conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}},
                )
            )
            made.append(secret)
        msk.CfnBatchScramSecret(
            self,
            "Passwords",
            cluster_arn=self.cluster.attr_arn,
            secret_arn_list=[secret.secret_arn for secret in made],
        )
        rotation, allowed = self._rotation([secret.secret_arn for secret in made])
        for secret in made:
            schedule = secretsmanager.CfnRotationSchedule(
                self,
                f"{secret.node.id}Rotation",
                secret_id=secret.secret_arn,
                rotation_lambda_arn=rotation.function_arn,
                rotate_immediately_on_update=False,
                rotation_rules=secretsmanager.CfnRotationSchedule.RotationRulesProperty(
                    schedule_expression=f"rate({secrets.rotation_days} days)"
                ),
            )
            schedule.node.add_dependency(allowed)

    def _rotation(self, secrets: list[str]) -> tuple[lambda_.Function, lambda_.CfnPermission]:
        """What makes the new passwords, and that Secrets Manager may start it."""
        house = self._house
        name = house.name("kafka-rotation")
        logs = house.log_group(self, "RotationLogs", name=f"/aws/lambda/{name}")
        role = iam.Role(self, "RotationRole", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        policy = iam.ManagedPolicy(self, "RotationPolicy", roles=[role])
        policy.add_statements(
            iam.PolicyStatement(
                actions=[
                    "secretsmanager:DescribeSecret",
                    "secretsmanager:GetSecretValue",
                    "secretsmanager:PutSecretValue",
                    "secretsmanager:UpdateSecretVersionStage",
                ],
                resources=secrets,
            ),
            # It has no resource: it gives bytes, no secret.
            iam.PolicyStatement(actions=["secretsmanager:GetRandomPassword"], resources=["*"]),
            iam.PolicyStatement(
                actions=["logs:CreateLogStream", "logs:PutLogEvents"], resources=[logs.log_group_arn]
            ),
            *house.key_use("kms:Decrypt", "kms:GenerateDataKey", via=["secretsmanager"]),
        )
        function = lambda_.Function(
            self,
            "Rotation",
            function_name=name,
            description="New passwords for users of Kafka",
            runtime=lambda_.Runtime.PYTHON_3_13,
            architecture=lambda_.Architecture.ARM_64,
            handler="index.handler",
            code=lambda_.Code.from_inline(ROTATION.read_text(encoding="utf-8")),
            role=role.without_policy_updates(),
            memory_size=256,
            timeout=Duration.seconds(30),
            reserved_concurrent_executions=1,
            log_group=logs,
        )
        function.node.add_dependency(policy)
        allowed = lambda_.CfnPermission(
            self,
            "RotationInvoked",
            action="lambda:InvokeFunction",
            function_name=function.function_arn,
            principal="secretsmanager.amazonaws.com",
            source_account=Aws.ACCOUNT_ID,
        )
        reported = "Secrets Manager runs it, tries again, and says in the secret when it failed."
        runtime = "What AWS supports until 2029; a newer one is taken on test."
        acknowledge(
            function,
            {
                "NIST.800.53.R5-LambdaDLQ": reported,
                "Serverless-LambdaDLQ": reported,
                "Serverless-LambdaTracing": reported,
                "NIST.800.53.R5-LambdaInsideVPC": "Calls one AWS API, nothing in the network.",
                "AwsSolutions-L1": runtime,
                "Serverless-LambdaLatestVersion": runtime,
            },
        )
        acknowledge(
            policy, {"AwsSolutions-IAM5[Resource::*]": "GetRandomPassword alone, which has no resource."}
        )
        return function, allowed
