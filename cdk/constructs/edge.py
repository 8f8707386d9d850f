"""The front door: CloudFront and WAF before the API, health checks, and the load balancer of the cluster.

Callers come in through CloudFront only: it adds a header that only it knows, and a second WAF on the API
refuses whatever comes without. The load balancer is internal and reached through a VPC origin.
"""

from __future__ import annotations

import typing

from aws_cdk import Aws, CfnOutput, CfnParameter, Duration
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_certificatemanager as acm
from aws_cdk import aws_cloudfront as cloudfront
from aws_cdk import aws_cloudfront_origins as origins
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_elasticloadbalancingv2 as elb
from aws_cdk import aws_route53 as route53
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_shield as shield
from aws_cdk import aws_wafv2 as wafv2
from constructs import Construct

from cdk.constructs.alarms import Alarms, shortfall
from cdk.constructs.buckets import passing_bucket
from cdk.constructs.cluster_names import CLUSTER_PORT
from cdk.constructs.house import House, acknowledge, certificate_arn
from cdk.environments.operations import Edge as EdgeSettings

HEADER = "x-qis-edge"
CLUSTER_PATH = "/cluster/*"
MANAGED = (
    ("AWSManagedRulesAmazonIpReputationList", ()),
    ("AWSManagedRulesKnownBadInputsRuleSet", ()),
    # Bulk ingestion posts bodies of megabytes; the handlers bound and validate them.
    ("AWSManagedRulesCommonRuleSet", ("SizeRestrictions_BODY",)),
    ("AWSManagedRulesSQLiRuleSet", ()),
)
"""Rule groups of AWS, each with its rules that only count here."""


class Edge(Construct):
    """Distribution, both WAFs, Shield where bought, health checks, the internal load balancer."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        house: House,
        settings: EdgeSettings,
        alarms: Alarms,
        api: apigateway.SpecRestApi,
        vpc: ec2.IVpc,
        domain: str | None,
    ) -> None:
        super().__init__(scope, id_)
        self._house = house
        log_bucket = self._log_bucket()
        secret = secretsmanager.Secret(
            self,
            "Secret",
            secret_name=house.name("edge"),
            description="What CloudFront tells the API to show that it is CloudFront",
            encryption_key=house.data_key,
            generate_secret_string=secretsmanager.SecretStringGenerator(
                exclude_punctuation=True, password_length=48
            ),
        )
        acknowledge(
            secret,
            {
                "AwsSolutions-SMG4": _ROTATED,
                "NIST.800.53.R5-SecretsManagerRotationEnabled": _ROTATED,
            },
        )
        shown = secret.secret_value.unsafe_unwrap()  # a reference that CloudFormation resolves, not the value
        self._guard_api(api, shown)
        firewall = self._firewall(settings)
        certificate = (
            certificate_arn(self, "EdgeCertificate", "EdgeCertificate", f"of {domain}, in us-east-1")
            if domain
            else None
        )
        self.distribution = cloudfront.Distribution(
            self,
            "Distribution",
            domain_names=[domain] if domain else None,
            certificate=(
                acm.Certificate.from_certificate_arn(self, "Domain", certificate) if certificate else None
            ),
            comment=house.name("edge"),
            default_behavior=cloudfront.BehaviorOptions(
                origin=origins.RestApiOrigin(
                    api,
                    custom_headers={HEADER: shown},
                ),
                **_NOT_CACHED,
            ),
            http_version=cloudfront.HttpVersion.HTTP2_AND_3,
            minimum_protocol_version=cloudfront.SecurityPolicyProtocol.TLS_V1_2_2021,
            price_class=cloudfront.PriceClass.PRICE_CLASS_100,
            web_acl_id=firewall.attr_arn,
            log_bucket=log_bucket,
            log_file_prefix="cloudfront/",
        )
        self.host = domain or self.distribution.distribution_domain_name
        if domain:
            CfnOutput(
                self,
                "Alias",
                value=self.distribution.distribution_domain_name,
                description=f"What {domain} must be an alias of in DNS",
            )
        self.balancer = self._balancer(vpc, log_bucket) if settings.load_balancer else None
        if settings.shield:
            self._shield()
        self._health(alarms)
        self._acknowledge(custom=domain is not None)

    def _firewall(self, settings: EdgeSettings) -> wafv2.CfnWebACL:
        """Before CloudFront: floods by address, known bad addresses and inputs."""
        rate = wafv2.CfnWebACL.RuleProperty(
            name="rate",
            priority=0,
            action=wafv2.CfnWebACL.RuleActionProperty(
                block=wafv2.CfnWebACL.BlockActionProperty(
                    custom_response=wafv2.CfnWebACL.CustomResponseProperty(
                        response_code=429,
                        response_headers=[
                            wafv2.CfnWebACL.CustomHTTPHeaderProperty(name="Retry-After", value="300")
                        ],
                    )
                )
            ),
            statement=wafv2.CfnWebACL.StatementProperty(
                rate_based_statement=wafv2.CfnWebACL.RateBasedStatementProperty(
                    limit=settings.requests_per_address,
                    aggregate_key_type="IP",
                    evaluation_window_sec=300,
                )
            ),
            visibility_config=_visible(self._house, "rate"),
        )
        managed = [
            wafv2.CfnWebACL.RuleProperty(
                name=name,
                priority=priority,
                override_action=wafv2.CfnWebACL.OverrideActionProperty(none={}),
                statement=wafv2.CfnWebACL.StatementProperty(
                    managed_rule_group_statement=wafv2.CfnWebACL.ManagedRuleGroupStatementProperty(
                        vendor_name="AWS",
                        name=name,
                        rule_action_overrides=[
                            wafv2.CfnWebACL.RuleActionOverrideProperty(
                                name=rule, action_to_use=wafv2.CfnWebACL.RuleActionProperty(count={})
                            )
                            for rule in counted
                        ],
                    )
                ),
                visibility_config=_visible(self._house, name),
            )
            for priority, (name, counted) in enumerate(MANAGED, start=1)
        ]
        return self._acl("Firewall", "CLOUDFRONT", "edge", rules=[rate, *managed], allow=True)

    def _guard_api(self, api: apigateway.SpecRestApi, shown: str) -> None:
        """Before the API's own address: only what CloudFront sends."""
        knows = wafv2.CfnWebACL.RuleProperty(
            name="from-cloudfront",
            priority=0,
            action=wafv2.CfnWebACL.RuleActionProperty(allow={}),
            statement=wafv2.CfnWebACL.StatementProperty(
                byte_match_statement=wafv2.CfnWebACL.ByteMatchStatementProperty(
                    field_to_match=wafv2.CfnWebACL.FieldToMatchProperty(single_header={"Name": HEADER}),
                    positional_constraint="EXACTLY",
                    search_string=shown,
                    text_transformations=[
                        wafv2.CfnWebACL.TextTransformationProperty(priority=0, type="NONE")
                    ],
                )
            ),
            visibility_config=_visible(self._house, "from-cloudfront"),
        )
        acl = self._acl("Guard", "REGIONAL", "api", rules=[knows], allow=False)
        wafv2.CfnWebACLAssociation(
            self,
            "GuardApi",
            resource_arn=api.deployment_stage.stage_arn,
            web_acl_arn=acl.attr_arn,
        )

    def _acl(
        self, id_: str, scope: str, logical: str, *, rules: list[wafv2.CfnWebACL.RuleProperty], allow: bool
    ) -> wafv2.CfnWebACL:
        acl = wafv2.CfnWebACL(
            self,
            id_,
            name=self._house.name(logical),
            scope=scope,
            default_action=(
                wafv2.CfnWebACL.DefaultActionProperty(allow={})
                if allow
                else wafv2.CfnWebACL.DefaultActionProperty(block={})
            ),
            rules=rules,
            visibility_config=_visible(self._house, logical),
        )
        # WAF writes only to groups of this prefix.
        logs = self._house.log_group(self, f"{id_}Logs", name=f"aws-waf-logs-{self._house.name(logical)}")
        wafv2.CfnLoggingConfiguration(
            self,
            f"{id_}Logging",
            resource_arn=acl.attr_arn,
            log_destination_configs=[
                self._house.arn("logs", f"log-group:aws-waf-logs-{self._house.name(logical)}")
            ],
            redacted_fields=[
                wafv2.CfnLoggingConfiguration.FieldToMatchProperty(single_header={"Name": name})
                for name in ("authorization", HEADER)
            ],
        ).node.add_dependency(logs)
        return acl

    def _balancer(self, vpc: ec2.IVpc, log_bucket: s3.Bucket) -> elb.ApplicationLoadBalancer:
        """For what runs in the cluster; the cluster's controller puts its pods into the target group."""
        certificate = certificate_arn(
            self, "BalancerCertificate", "BalancerCertificate", "of the internal load balancer"
        )
        group = ec2.SecurityGroup(
            self,
            "BalancerGroup",
            vpc=vpc,
            description="Load balancer: from CloudFront in, to the cluster out",
            allow_all_outbound=False,
        )
        # The prefix list of CloudFront differs by region: a parameter of the deployment.
        prefixes = CfnParameter(
            self,
            "Prefixes",
            type="String",
            description="Prefix list com.amazonaws.global.cloudfront.origin-facing of the region",
            allowed_pattern=r"pl-[0-9a-f]+",
        )
        prefixes.override_logical_id("CloudFrontPrefixList")
        group.add_ingress_rule(
            ec2.Peer.prefix_list(prefixes.value_as_string), ec2.Port.tcp(443), "CloudFront"
        )
        group.add_egress_rule(ec2.Peer.ipv4(vpc.vpc_cidr_block), ec2.Port.tcp(CLUSTER_PORT), "pods")
        balancer = elb.ApplicationLoadBalancer(
            self,
            "Balancer",
            load_balancer_name=self._house.name("cluster"),
            vpc=vpc,
            vpc_subnets=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS),
            internet_facing=False,
            security_group=group,
            drop_invalid_header_fields=True,
            deletion_protection=True,
        )
        balancer.log_access_logs(log_bucket, "balancer")
        acknowledge(
            balancer,
            {"NIST.800.53.R5-ALBWAFEnabled": "Only CloudFront reaches it, and CloudFront has the firewall."},
        )
        targets = elb.ApplicationTargetGroup(
            self,
            "Targets",
            target_group_name=self._house.name("pods"),
            vpc=vpc,
            port=CLUSTER_PORT,
            protocol=elb.ApplicationProtocol.HTTPS,
            target_type=elb.TargetType.IP,
            deregistration_delay=Duration.seconds(30),
            health_check=elb.HealthCheck(
                path="/ready", interval=Duration.seconds(10), healthy_threshold_count=2
            ),
        )
        balancer.add_listener(
            "Tls",
            port=443,
            protocol=elb.ApplicationProtocol.HTTPS,
            ssl_policy=elb.SslPolicy.TLS13_13,
            certificates=[elb.ListenerCertificate.from_arn(certificate)],
            default_target_groups=[targets],
            open=False,
        )
        self.distribution.add_behavior(
            CLUSTER_PATH,
            origins.VpcOrigin.with_application_load_balancer(
                balancer, vpc_origin_name=self._house.name("cluster"), https_port=443
            ),
            **_NOT_CACHED,
        )
        return balancer

    def _log_bucket(self) -> s3.Bucket:
        """CloudFront delivers its access logs with an access control list, so they have a bucket apart."""
        return passing_bucket(
            self,
            "Logs",
            house=self._house,
            logical="edge-logs",
            days=self._house.settings.log_retention_days,
            ownership=s3.ObjectOwnership.OBJECT_WRITER,
            reasons={
                "AwsSolutions-S1": _LOGS,
                "NIST.800.53.R5-S3BucketLoggingEnabled": _LOGS,
                "NIST.800.53.R5-S3BucketReplicationEnabled": "Access logs expire within months.",
                "NIST.800.53.R5-S3DefaultEncryptionKMS": "CloudFront delivers to SSE-S3 buckets only.",
            },
        )

    def _shield(self) -> None:
        shield.CfnProtection(
            self,
            "Shield",
            name=self._house.name("edge"),
            resource_arn=(
                f"arn:{Aws.PARTITION}:cloudfront::{Aws.ACCOUNT_ID}"
                f":distribution/{self.distribution.distribution_id}"
            ),
        )

    def _health(self, alarms: Alarms) -> None:
        """From several continents, each half minute. DNS fails over on it, and a person is told."""
        check = route53.CfnHealthCheck(
            self,
            "Health",
            health_check_config=route53.CfnHealthCheck.HealthCheckConfigProperty(
                type="HTTPS",
                fully_qualified_domain_name=self.host,
                port=443,
                resource_path="/ready",
                request_interval=30,
                failure_threshold=3,
                enable_sni=True,
            ),
        )
        alarms.alarm(
            "health-check",
            shortfall(
                cloudwatch.Metric(
                    namespace="AWS/Route53",
                    metric_name="HealthCheckStatus",
                    dimensions_map={"HealthCheckId": check.attr_health_check_id},
                    statistic="Minimum",
                    period=Duration.minutes(1),
                ),
                of=1,
                label="unhealthy",
            ),
            above=0,
            what="Health checks from outside fail",
            runbook="canary",
            periods=3,
        )

    def _acknowledge(self, *, custom: bool) -> None:
        acknowledge(
            self.distribution,
            {
                "AwsSolutions-CFR1": "Consumers are in several countries; tokens decide, not addresses.",
                **(
                    {}
                    if custom
                    else {"AwsSolutions-CFR4": "TLS 1.2 of 2021 is set; CloudFront's own domain ignores it."}
                ),
            },
        )


_LOGS = "It holds access logs itself."
_ROTATED = "CloudFront and WAF hold it; a deployment with a new secret changes all three at once."
_NOT_CACHED: dict[str, typing.Any] = {
    # Answers depend on the caller's token; what may be cached is cached behind the token check.
    "cache_policy": cloudfront.CachePolicy.CACHING_DISABLED,
    "origin_request_policy": cloudfront.OriginRequestPolicy.ALL_VIEWER_EXCEPT_HOST_HEADER,
    "viewer_protocol_policy": cloudfront.ViewerProtocolPolicy.HTTPS_ONLY,
    "allowed_methods": cloudfront.AllowedMethods.ALLOW_ALL,
    "response_headers_policy": cloudfront.ResponseHeadersPolicy.SECURITY_HEADERS,
}


def _visible(house: House, name: str) -> wafv2.CfnWebACL.VisibilityConfigProperty:
    return wafv2.CfnWebACL.VisibilityConfigProperty(
        cloud_watch_metrics_enabled=True,
        metric_name=house.name(name),
        sampled_requests_enabled=True,
    )
