"""The network: who can reach what.

Three kinds of subnet in each zone: public ones for gateways, private ones for functions and containers, and
isolated ones, without any way out, for data. S3 has a gateway endpoint, which is free. Which other services
have an endpoint of their own is a setting: each costs about $7 a month and zone, and spares the NAT gateway
$0.045 a gigabyte; the key set of Cognito is public, so that a NAT gateway is needed in any case.
"""

from __future__ import annotations

import typing

from aws_cdk import Fn
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from constructs import Construct

from cdk.constructs.function import Segment
from cdk.constructs.house import House, acknowledge
from cdk.environments.traffic import Network as NetworkSettings

_SUBNET_BITS = 20
_ENDPOINTS = {
    "kinesis": ec2.InterfaceVpcEndpointAwsService.KINESIS_STREAMS,
    "sqs": ec2.InterfaceVpcEndpointAwsService.SQS,
    "events": ec2.InterfaceVpcEndpointAwsService.EVENTBRIDGE,
    "kms": ec2.InterfaceVpcEndpointAwsService.KMS,
    "secretsmanager": ec2.InterfaceVpcEndpointAwsService.SECRETS_MANAGER,
    "sts": ec2.InterfaceVpcEndpointAwsService.STS,
    "xray": ec2.InterfaceVpcEndpointAwsService.XRAY,
    "logs": ec2.InterfaceVpcEndpointAwsService.CLOUDWATCH_LOGS,
}
ISOLATED = ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED)
PRIVATE = ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS)


class Network(Construct):
    """VPC, its subnets, endpoints and flow logs, the group of the functions and those of each store."""

    def __init__(self, scope: Construct, id_: str, *, house: House, settings: NetworkSettings) -> None:
        super().__init__(scope, id_)
        self.vpc = ec2.Vpc(
            self,
            "Vpc",
            vpc_name=house.name("vpc"),
            ip_addresses=ec2.IpAddresses.cidr(settings.cidr),
            # By position, not by name: names need an account, and differ between accounts.
            availability_zones=[Fn.select(n, Fn.get_azs()) for n in range(settings.availability_zones)],
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
        self.functions_group = self._group("Functions", "Functions: out only")
        self.functions_group.add_egress_rule(
            ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "AWS APIs and the key set"
        )
        self._endpoints(settings)
        self._acknowledge()

    @property
    def segment(self) -> Segment:
        """Where functions run."""
        return Segment(vpc=self.vpc, subnets=PRIVATE, security_group=self.functions_group)

    def store_group(self, id_: str, *, port: int, what: str) -> ec2.SecurityGroup:
        """The group of a store that functions reach at ``port``, and that reaches nothing."""
        group = self._group(id_, f"{what}: from functions only")
        self.connect(self.functions_group, group, port=port, what=what)
        return group

    def connect(self, source: ec2.SecurityGroup, target: ec2.SecurityGroup, *, port: int, what: str) -> None:
        """Let ``source`` reach ``target`` at ``port``, and nothing else."""
        source.add_egress_rule(target, ec2.Port.tcp(port), what)
        target.add_ingress_rule(source, ec2.Port.tcp(port), what)

    def store_client(self, id_: str, description: str) -> ec2.SecurityGroup:
        """The group of what is not a function of ours and reaches AWS and a store that lets it in."""
        group = self._group(id_, description)
        group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "AWS APIs")
        return group

    def _group(self, id_: str, description: str) -> ec2.SecurityGroup:
        return ec2.SecurityGroup(self, id_, vpc=self.vpc, description=description, allow_all_outbound=False)

    def _endpoints(self, settings: NetworkSettings) -> None:
        if not settings.endpoints:
            return
        group = self._group("Endpoints", "AWS services: from functions only")
        group.add_ingress_rule(self.functions_group, ec2.Port.tcp(443), "functions")
        for name in settings.endpoints:
            self.vpc.add_interface_endpoint(
                f"Endpoint{name.capitalize()}",
                service=_ENDPOINTS[name],
                subnets=ISOLATED,
                security_groups=[group],
                open=False,
                private_dns_enabled=True,
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
                        "Holds gateways and nothing else; no address is assigned on launch."
                    )
                },
            )
