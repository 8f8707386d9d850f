"""MSK in KRaft mode: TLS only, clients signed in by role, every broker watched."""

from __future__ import annotations

from aws_cdk import aws_msk as msk
from constructs import Construct

from cdk.constructs.house import House
from cdk.constructs.network import ISOLATED, Network
from cdk.environments.traffic import Kafka as KafkaSettings

PORT = 9098
"""TLS with IAM."""

_PROPERTIES = """
auto.create.topics.enable=false
default.replication.factor=3
min.insync.replicas=2
unclean.leader.election.enable=false
log.retention.hours=168
""".lstrip()
"""A record is acknowledged by two brokers, and no topic appears by a typing error."""


class Kafka(Construct):
    """Cluster, configuration and logs. Passwords (SCRAM) are left out: roles need no secret to rotate."""

    def __init__(
        self, scope: Construct, id_: str, *, house: House, settings: KafkaSettings, network: Network
    ) -> None:
        super().__init__(scope, id_)
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
                sasl=msk.CfnCluster.SaslProperty(iam=msk.CfnCluster.IamProperty(enabled=True)),
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
