"""Valkey: one replication group per purpose, over TLS, signed in to by role."""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import RemovalPolicy
from aws_cdk import aws_elasticache as elasticache
from constructs import Construct

from cdk.constructs.house import House, acknowledge
from cdk.constructs.network import ISOLATED, Network
from cdk.environments.stores import Cache as CacheSettings
from cdk.environments.stores import CachePurpose

PORT = 6380
"""Not the port that everybody tries."""
_EVICTION: dict[CachePurpose, str] = {
    "hot": "allkeys-lru",
    "session": "volatile-ttl",
    "compute": "allkeys-lfu",
}
"""What goes first when memory is full: the document's choice for each purpose."""


class Caches(Construct):
    """The groups, and the user that functions sign in as. It has no password: its tokens are signed by the
    caller's role and are good for 15 minutes."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        house: House,
        settings: Mapping[CachePurpose, CacheSettings],
        network: Network,
    ) -> None:
        super().__init__(scope, id_)
        self._house = house
        self.user = house.name("functions")
        group = network.store_group("Cache", port=PORT, what="caches")
        subnets = elasticache.CfnSubnetGroup(
            self,
            "Subnets",
            cache_subnet_group_name=house.name("cache"),
            description=f"{house.name('cache')}: isolated subnets",
            subnet_ids=network.vpc.select_subnets(subnet_type=ISOLATED.subnet_type).subnet_ids,
        )
        user = elasticache.CfnUser(
            self,
            "User",
            engine="valkey",
            user_id=self.user,
            user_name=self.user,
            # What a cache needs, and neither KEYS, FLUSHALL nor CONFIG.
            access_string="on ~* -@all +@read +@write +@connection +@transaction -@dangerous",
            authentication_mode={"Type": "iam"},
        )
        users = elasticache.CfnUserGroup(
            self, "Users", engine="valkey", user_group_id=house.name("users"), user_ids=[user.ref]
        )
        self.groups: dict[CachePurpose, elasticache.CfnReplicationGroup] = {}
        for purpose, size in settings.items():
            logs = house.log_group(
                self, f"Logs{purpose.capitalize()}", name=f"/aws/elasticache/{house.name(purpose)}"
            )
            parameters = elasticache.CfnParameterGroup(
                self,
                f"Parameters{purpose.capitalize()}",
                cache_parameter_group_family="valkey8",
                description=f"{house.name(purpose)}: {_EVICTION[purpose]}",
                properties={"maxmemory-policy": _EVICTION[purpose]},
            )
            made = elasticache.CfnReplicationGroup(
                self,
                purpose.capitalize(),
                replication_group_id=house.name(purpose),
                replication_group_description=f"{house.name(purpose)}: cached answers",
                engine="valkey",
                engine_version="8.0",
                cache_node_type=f"cache.{size.node}",
                num_cache_clusters=size.nodes,
                automatic_failover_enabled=size.nodes > 1,
                multi_az_enabled=size.nodes > 1,
                port=PORT,
                cache_parameter_group_name=parameters.ref,
                cache_subnet_group_name=subnets.ref,
                security_group_ids=[group.security_group_id],
                at_rest_encryption_enabled=True,
                kms_key_id=house.data_key.key_arn if house.data_key else None,
                transit_encryption_enabled=True,
                transit_encryption_mode="required",
                user_group_ids=[users.ref],
                snapshot_retention_limit=size.snapshot_days,
                snapshot_window="01:00-02:00",
                preferred_maintenance_window="sun:05:00-sun:06:00",
                auto_minor_version_upgrade=True,
                log_delivery_configurations=[
                    elasticache.CfnReplicationGroup.LogDeliveryConfigurationRequestProperty(
                        destination_type="cloudwatch-logs",
                        destination_details=elasticache.CfnReplicationGroup.DestinationDetailsProperty(
                            cloud_watch_logs_details=(
                                elasticache.CfnReplicationGroup.CloudWatchLogsDestinationDetailsProperty(
                                    log_group=logs.log_group_name
                                )
                            )
                        ),
                        log_format="json",
                        log_type="slow-log",
                    )
                ],
            )
            made.apply_removal_policy(RemovalPolicy.SNAPSHOT if size.snapshot_days else RemovalPolicy.DESTROY)
            acknowledge(
                made,
                {
                    "NIST.800.53.R5-ElastiCacheRedisClusterAutomaticBackup": (
                        "It holds answers that the event store gives again; days suffice, not the rule's 15."
                    ),
                    "AwsSolutions-AEC6": "Functions sign in with tokens of their role: no shared password.",
                },
            )
            self.groups[purpose] = made

    def url(self, purpose: CachePurpose) -> str:
        """Where functions reach the group; empty where there is none."""
        group = self.groups.get(purpose)
        return f"valkeys://{group.attr_primary_end_point_address}:{PORT}" if group else ""

    def connect_arns(self, purpose: CachePurpose) -> list[str]:
        """What ``elasticache:Connect`` must be allowed on to sign in."""
        return [
            self._house.arn("elasticache", f"replicationgroup:{self._house.name(purpose)}"),
            self._house.arn("elasticache", f"user:{self.user}"),
        ]
