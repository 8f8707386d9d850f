"""The network: who can reach what.

Functions run in private subnets behind one NAT gateway. They call Kinesis, SQS, EventBridge, and fetch the
key set of Cognito, which is public. Interface endpoints for the three services in two zones cost about
$44 a month and would still leave the key set unreachable; one gateway costs about $33 and serves all four.
S3 has a gateway endpoint, which is free. The database is in isolated subnets without any way out.
"""

from __future__ import annotations

import typing

from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from constructs import Construct

from cdk.constructs.function import Segment
from cdk.constructs.house import House, acknowledge
from cdk.environments.settings import Network as NetworkSettings

_SUBNET_BITS = 20


class Network(Construct):
    """VPC, its subnets, flow logs, and the security groups of functions and database."""

    def __init__(
        self, scope: Construct, id_: str, *, house: House, settings: NetworkSettings, database_port: int
    ) -> None:
        super().__init__(scope, id_)
        self.vpc = ec2.Vpc(
            self,
            "Vpc",
            vpc_name=house.name("vpc"),
            ip_addresses=ec2.IpAddresses.cidr(settings.cidr),
            max_azs=settings.availability_zones,
            nat_gateways=settings.nat_gateways,
            restrict_default_security_group=False,
            subnet_configuration=[
                ec2.SubnetConfiguration(
                    name="gateway",
                    subnet_type=ec2.SubnetType.PUBLIC,
                    cidr_mask=24,
                    map_public_ip_on_launch=False,
                ),
                ec2.SubnetConfiguration(
                    name="functions", subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS, cidr_mask=_SUBNET_BITS
                ),
                ec2.SubnetConfiguration(
                    name="data", subnet_type=ec2.SubnetType.PRIVATE_ISOLATED, cidr_mask=24
                ),
            ],
            gateway_endpoints={
                "S3": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.S3)
            },
        )
        self._flow_logs(house)
        self.functions_group = ec2.SecurityGroup(
            self, "Functions", vpc=self.vpc, description="Functions: out only", allow_all_outbound=False
        )
        self.database_group = ec2.SecurityGroup(
            self,
            "Database",
            vpc=self.vpc,
            description="Event store: from functions only",
            allow_all_outbound=False,
        )
        database = ec2.Port.tcp(database_port)
        self.functions_group.add_egress_rule(
            ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "AWS APIs and the key set"
        )
        self.functions_group.add_egress_rule(self.database_group, database, "event store")
        self.database_group.add_ingress_rule(self.functions_group, database, "functions")
        self._acknowledge()

    @property
    def segment(self) -> Segment:
        """Where functions run."""
        return Segment(
            vpc=self.vpc,
            subnets=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS),
            security_group=self.functions_group,
        )

    def _flow_logs(self, house: House) -> None:
        group = house.log_group(self, "FlowLogs", name=f"/aws/vpc/{house.name('flow')}")
        role = iam.Role(self, "FlowLogsRole", assumed_by=iam.ServicePrincipal("vpc-flow-logs.amazonaws.com"))
        policy = iam.ManagedPolicy(self, "FlowLogsPolicy", roles=[role])
        policy.add_statements(
            iam.PolicyStatement(
                actions=["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"],
                resources=[group.log_group_arn],
            )
        )
        ec2.CfnFlowLog(
            self,
            "FlowLog",
            resource_id=self.vpc.vpc_id,
            resource_type="VPC",
            traffic_type="ALL",
            log_group_name=group.log_group_name,
            deliver_logs_permission_arn=role.role_arn,
        )

    def _acknowledge(self) -> None:
        acknowledge(
            self.vpc,
            {
                "NIST.800.53.R5-VPCDefaultSecurityGroupClosed": (
                    "Nothing uses the default group; every resource names its own, which a test checks."
                ),
            },
        )
        for subnet in self.vpc.public_subnets:
            acknowledge(
                typing.cast(Construct, subnet),
                {
                    "NIST.800.53.R5-VPCNoUnrestrictedRouteToIGW": (
                        "Holds the NAT gateway and nothing else; no address is assigned on launch."
                    )
                },
            )
