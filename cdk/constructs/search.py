"""OpenSearch for logs, inside the network."""

from __future__ import annotations

from aws_cdk import Aws
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_opensearchservice as opensearch
from constructs import Construct

from cdk.constructs.house import House, acknowledge
from cdk.constructs.network import ISOLATED, Network
from cdk.environments.stores import Search as SearchSettings

_VERSIONS = {"2.19": opensearch.EngineVersion.OPENSEARCH_2_19, "3.1": opensearch.EngineVersion.OPENSEARCH_3_1}


class Search(Construct):
    """Domain, its logs, and the role that may administer it."""

    def __init__(
        self, scope: Construct, id_: str, *, house: House, settings: SearchSettings, network: Network
    ) -> None:
        super().__init__(scope, id_)
        name = house.name("logs")
        groups = {
            kind: house.log_group(self, f"Logs{kind.capitalize()}", name=f"/aws/opensearch/{name}/{kind}")
            for kind in ("index", "search", "app", "audit")
        }
        written = logs.ResourcePolicy(
            self,
            "LogsPolicy",
            resource_policy_name=name,
            policy_statements=[
                iam.PolicyStatement(
                    principals=[iam.ServicePrincipal("es.amazonaws.com")],
                    actions=["logs:CreateLogStream", "logs:PutLogEvents"],
                    resources=[group.log_group_arn for group in groups.values()],
                    conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}},
                )
            ],
        )
        self.admin = iam.Role(
            self,
            "Admin",
            role_name=house.name("logs-admin"),
            description="Administers the search domain",
            assumed_by=iam.AccountRootPrincipal(),
        )
        self.domain = opensearch.Domain(
            self,
            "Domain",
            domain_name=name,
            version=_VERSIONS[settings.engine_version],
            capacity=opensearch.CapacityConfig(
                data_nodes=settings.nodes,
                data_node_instance_type=settings.instance,
                multi_az_with_standby_enabled=False,
            ),
            zone_awareness=(
                opensearch.ZoneAwarenessConfig(
                    enabled=True, availability_zone_count=len(network.vpc.isolated_subnets)
                )
                if settings.nodes > 1
                else None
            ),
            ebs=opensearch.EbsOptions(
                volume_size=settings.storage_gib, volume_type=ec2.EbsDeviceVolumeType.GP3
            ),
            vpc=network.vpc,
            vpc_subnets=[ISOLATED],
            security_groups=[network.store_group("Search", port=443, what="log search")],
            encryption_at_rest=opensearch.EncryptionAtRestOptions(enabled=True, kms_key=house.data_key),
            node_to_node_encryption=True,
            enforce_https=True,
            tls_security_policy=opensearch.TLSSecurityPolicy.TLS_1_2_PFS,
            fine_grained_access_control=opensearch.AdvancedSecurityOptions(
                master_user_arn=self.admin.role_arn
            ),
            logging=opensearch.LoggingOptions(
                slow_index_log_enabled=True,
                slow_index_log_group=groups["index"],
                slow_search_log_enabled=True,
                slow_search_log_group=groups["search"],
                app_log_enabled=True,
                app_log_group=groups["app"],
                audit_log_enabled=True,
                audit_log_group=groups["audit"],
            ),
            suppress_logs_resource_policy=True,
            enable_auto_software_update=True,
            removal_policy=house.removal,
        )
        self.domain.node.add_dependency(written)
        resource = self.domain.node.default_child
        assert isinstance(resource, opensearch.CfnDomain)
        # On the resource itself: the library would set it by a function of its own, after the fact.
        resource.access_policies = iam.PolicyDocument(
            statements=[
                iam.PolicyStatement(
                    principals=[self.admin],
                    actions=["es:ESHttpGet", "es:ESHttpPost", "es:ESHttpPut", "es:ESHttpDelete"],
                    resources=[f"{house.arn('es', f'domain/{name}')}/*"],
                )
            ]
        )
        acknowledge(
            self.domain,
            {
                "AwsSolutions-OS3": "It has no public address: its security group lets functions in only.",
                "AwsSolutions-OS4": "Three data nodes vote among themselves; masters pay from ten on.",
            },
        )
