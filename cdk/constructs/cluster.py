"""EKS for what must run long: feeds (providers' streams), relay, batch.

The control plane has a private address only; people reach it through the network. Pods get their rights by
pod identity, one role per workload, and nothing from their node. What runs is in ``cdk/manifests``.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence

from aws_cdk import RemovalPolicy
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_eks as eks
from aws_cdk import aws_iam as iam
from constructs import Construct

from cdk.constructs.cluster_names import BATCH_NAMESPACE, NAMESPACE
from cdk.constructs.house import House, acknowledge, id_of
from cdk.environments.operations import Cluster as ClusterSettings
from cdk.environments.operations import NodeGroup

WORKLOADS = ("feeds", "relay", "batch")
ADDONS = (
    "vpc-cni",
    "coredns",
    "kube-proxy",
    "eks-pod-identity-agent",
    "metrics-server",  # what the autoscaler of pods reads
    "amazon-cloudwatch-observability",
)
_LOGS = ("api", "audit", "authenticator", "controllerManager", "scheduler")
NODE_DISK_GB = 20
_GRAVITON = ("m7g", "r7g", "t4g")
_PUBLISHED = "The policy that AWS publishes for this one purpose."
_NODE_POLICIES = ("AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly")


class Cluster(Construct):
    """Control plane, nodes, Fargate profile for batch, add-ons, image repositories, a role per workload."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        house: House,
        settings: ClusterSettings,
        vpc: ec2.IVpc,
        grants: Mapping[str, Sequence[iam.PolicyStatement]],
    ) -> None:
        super().__init__(scope, id_)
        self._house = house
        self.name = house.name("cluster")
        self.policies: dict[str, iam.ManagedPolicy] = {}
        """What the pods of each workload may do."""
        subnets = vpc.select_subnets(subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS).subnet_ids
        logs = house.log_group(self, "Logs", name=f"/aws/eks/{self.name}/cluster")
        self._cluster = eks.CfnCluster(
            self,
            "Cluster",
            name=self.name,
            version=settings.version,
            role_arn=self._role("Role", "eks.amazonaws.com", ["AmazonEKSClusterPolicy"]).role_arn,
            resources_vpc_config=eks.CfnCluster.ResourcesVpcConfigProperty(
                subnet_ids=subnets, endpoint_private_access=True, endpoint_public_access=False
            ),
            encryption_config=(
                [
                    eks.CfnCluster.EncryptionConfigProperty(
                        provider=eks.CfnCluster.ProviderProperty(key_arn=house.data_key.key_arn),
                        resources=["secrets"],
                    )
                ]
                if house.data_key
                else None
            ),
            access_config=eks.CfnCluster.AccessConfigProperty(
                authentication_mode="API", bootstrap_cluster_creator_admin_permissions=False
            ),
            logging=eks.CfnCluster.LoggingProperty(
                cluster_logging=eks.CfnCluster.ClusterLoggingProperty(
                    enabled_types=[eks.CfnCluster.LoggingTypeConfigProperty(type=type_) for type_ in _LOGS]
                )
            ),
            # Without it AWS moves an old version to extended support, at six times the price.
            upgrade_policy=eks.CfnCluster.UpgradePolicyProperty(support_type="STANDARD"),
            deletion_protection=house.settings.production,
        )
        self._cluster.node.add_dependency(logs)
        self._nodes(settings, subnets)
        self._fargate(subnets)
        self._addons()
        for name in WORKLOADS:
            self._workload(name, grants[name])

    def _nodes(self, settings: ClusterSettings, subnets: list[str]) -> None:
        role = self._role("NodeRole", "ec2.amazonaws.com", _NODE_POLICIES)
        machine = self._machine()
        for name, group in settings.nodes.items():
            eks.CfnNodegroup(
                self,
                f"Nodes{name.capitalize()}",
                cluster_name=self._cluster.ref,
                nodegroup_name=self._house.name(name),
                node_role=role.role_arn,
                subnets=subnets,
                ami_type=_image(group),
                capacity_type="SPOT" if group.spot else "ON_DEMAND",
                instance_types=[group.instance],
                launch_template=eks.CfnNodegroup.LaunchTemplateSpecificationProperty(
                    id=machine.ref, version=machine.attr_latest_version_number
                ),
                scaling_config=eks.CfnNodegroup.ScalingConfigProperty(
                    min_size=group.smallest, desired_size=group.desired, max_size=group.largest
                ),
                update_config=eks.CfnNodegroup.UpdateConfigProperty(max_unavailable=1),
                labels={"qis/nodes": name},
                # As in the deployment document: only what asks for much memory runs there.
                taints=(
                    [
                        eks.CfnNodegroup.TaintProperty(
                            key="workload-type", value="memory-intensive", effect="NO_SCHEDULE"
                        )
                    ]
                    if name == "memory"
                    else None
                ),
            )

    def _machine(self) -> ec2.CfnLaunchTemplate:
        """Encrypted disks, and the node's own rights out of reach of its pods. The key is that of EBS: a
        customer key would have to trust the account's autoscaling role, which no stack makes."""
        return ec2.CfnLaunchTemplate(
            self,
            "Machine",
            launch_template_name=self._house.name("nodes"),
            launch_template_data=ec2.CfnLaunchTemplate.LaunchTemplateDataProperty(
                block_device_mappings=[
                    ec2.CfnLaunchTemplate.BlockDeviceMappingProperty(
                        device_name="/dev/xvda",
                        ebs=ec2.CfnLaunchTemplate.EbsProperty(
                            encrypted=True, volume_type="gp3", volume_size=NODE_DISK_GB
                        ),
                    )
                ],
                metadata_options=ec2.CfnLaunchTemplate.MetadataOptionsProperty(
                    http_tokens="required", http_put_response_hop_limit=1
                ),
            ),
        )

    def _fargate(self, subnets: list[str]) -> None:
        role = self._role(
            "FargateRole", "eks-fargate-pods.amazonaws.com", ["AmazonEKSFargatePodExecutionRolePolicy"]
        )
        eks.CfnFargateProfile(
            self,
            "Batch",
            cluster_name=self._cluster.ref,
            fargate_profile_name=self._house.name("batch"),
            pod_execution_role_arn=role.role_arn,
            subnets=subnets,
            selectors=[
                eks.CfnFargateProfile.SelectorProperty(
                    namespace=BATCH_NAMESPACE,
                    labels=[eks.CfnFargateProfile.LabelProperty(key="workload-type", value="batch")],
                )
            ],
        )

    def _addons(self) -> None:
        network = self._role("NetworkRole", "pods.eks.amazonaws.com", ["AmazonEKS_CNI_Policy"])
        for name in ADDONS:
            eks.CfnAddon(
                self,
                id_of(name),
                addon_name=name,
                cluster_name=self._cluster.ref,
                resolve_conflicts="OVERWRITE",
                # Without this the network ignores every NetworkPolicy.
                configuration_values='{"enableNetworkPolicy":"true"}' if name == "vpc-cni" else None,
                pod_identity_associations=(
                    [
                        eks.CfnAddon.PodIdentityAssociationProperty(
                            role_arn=network.role_arn, service_account="aws-node"
                        )
                    ]
                    if name == "vpc-cni"
                    else None
                ),
            )

    def _workload(self, name: str, statements: Sequence[iam.PolicyStatement]) -> None:
        """Where its image is kept, and what its pods may do."""
        repository = ecr.Repository(
            self,
            f"Images{name.capitalize()}",
            repository_name=f"{self._house.settings.stem}/{name}",
            image_tag_mutability=ecr.TagMutability.IMMUTABLE,
            image_scan_on_push=True,
            encryption=ecr.RepositoryEncryption.KMS,
            encryption_key=self._house.data_key,
            removal_policy=RemovalPolicy.RETAIN,
        )
        repository.add_lifecycle_rule(max_image_count=30)
        role = self._role(f"{name.capitalize()}Role", "pods.eks.amazonaws.com", [])
        policy = iam.ManagedPolicy(self, f"{name.capitalize()}Policy", roles=[role])
        policy.add_statements(*statements)
        self.policies[name] = policy
        eks.CfnPodIdentityAssociation(
            self,
            f"{name.capitalize()}Identity",
            cluster_name=self._cluster.ref,
            namespace=BATCH_NAMESPACE if name == "batch" else NAMESPACE,
            service_account=name,
            role_arn=role.role_arn,
        )

    def _role(self, id_: str, service: str, policies: Sequence[str]) -> iam.Role:
        principal = iam.ServicePrincipal(service)
        role = iam.Role(
            self,
            id_,
            assumed_by=typing.cast(
                iam.IPrincipal,
                # Pod identity tags its sessions with cluster, namespace and service account.
                principal.with_session_tags() if service == "pods.eks.amazonaws.com" else principal,
            ),
            managed_policies=[iam.ManagedPolicy.from_aws_managed_policy_name(name) for name in policies],
        )
        acknowledge(
            role,
            {
                f"AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/{name}]": _PUBLISHED
                for name in policies
            },
        )
        return role


def _image(group: NodeGroup) -> str:
    architecture = "ARM_64" if group.instance.startswith(_GRAVITON) else "x86_64"
    return f"AL2023_{architecture}_STANDARD"
