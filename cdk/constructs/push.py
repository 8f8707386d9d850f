"""The WebSocket API: official values, pushed as they are published."""

from __future__ import annotations

from aws_cdk import Aws, CfnOutput
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_apigatewayv2 as apigatewayv2
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from constructs import Construct

from cdk.constructs.function import HouseFunction
from cdk.constructs.house import House, acknowledge, certificate_arn, finding
from qis.api.push import ACTIONS

STAGE = "live"
ROUTES = ("$connect", "$disconnect", "$default", *ACTIONS)


class PushApi(Construct):
    """One stage, throttled, with access logs; every route is answered by ``realtime``.

    No firewall of AWS attaches to a WebSocket API, so throttling, the token and the limits of a message are
    what guards it. The token is checked in the function, as everywhere: an authoriser of API Gateway would
    look for it in one fixed place, and browsers can only send it in another one than programs do.
    """

    def __init__(self, scope: Construct, id_: str, *, house: House) -> None:
        super().__init__(scope, id_)
        self._house = house
        self.api = apigatewayv2.CfnApi(
            self,
            "Api",
            name=house.name("push"),
            description="Official values as they are published",
            protocol_type="WEBSOCKET",
            route_selection_expression="$request.body.action",
        )

    @property
    def endpoint(self) -> str:
        """Where connections are managed."""
        host = f"{self.api.ref}.execute-api.{Aws.REGION}.{Aws.URL_SUFFIX}"
        return f"https://{host}/{STAGE}"

    def connect(self, function: HouseFunction, *, rest: apigateway.SpecRestApi) -> None:
        """Let ``function`` answer every route and send to the connections of this API.

        Args:
            rest: the API that brings the account's role for logs, which this one needs as well.
        """
        house, settings = self._house, self._house.settings.push
        service = f"arn:{Aws.PARTITION}:apigateway:{Aws.REGION}:lambda:path/2015-03-31"
        integration = apigatewayv2.CfnIntegration(
            self,
            "Integration",
            api_id=self.api.ref,
            integration_type="AWS_PROXY",
            integration_uri=f"{service}/functions/{function.live.function_arn}/invocations",
        )
        routes = [
            apigatewayv2.CfnRoute(
                self,
                f"Route{key.removeprefix('$').capitalize()}",
                api_id=self.api.ref,
                route_key=key,
                authorization_type="NONE",
                target=f"integrations/{integration.ref}",
            )
            for key in ROUTES
        ]
        access_logs = house.log_group(self, "AccessLogs", name=f"/aws/apigateway/{house.name('push')}")
        stage = apigatewayv2.CfnStage(
            self,
            "Stage",
            api_id=self.api.ref,
            stage_name=STAGE,
            auto_deploy=True,
            default_route_settings=apigatewayv2.CfnStage.RouteSettingsProperty(
                throttling_rate_limit=settings.rate_per_second,
                throttling_burst_limit=settings.burst,
                detailed_metrics_enabled=True,
                logging_level="ERROR",
                data_trace_enabled=False,  # messages and tokens stay out of the logs
            ),
            access_log_settings=apigatewayv2.CfnStage.AccessLogSettingsProperty(
                destination_arn=access_logs.log_group_arn, format=_ACCESS_LOG
            ),
        )
        for route in routes:
            stage.add_resource_dependency(route)  # an API without routes cannot be deployed
        account = rest.node.try_find_child("Account")
        if account is not None:
            stage.node.add_dependency(account)
        function.live.add_permission(
            "Push",
            principal=iam.ServicePrincipal("apigateway.amazonaws.com"),
            source_arn=house.arn("execute-api", f"{self.api.ref}/{STAGE}/*"),
        )
        self._grant(function)
        if settings.domain:
            self._domain(settings.domain, stage)
        reason = (
            "The function checks the token when a connection is opened; no other route works without one."
        )
        for route in routes:
            acknowledge(route, {"AwsSolutions-APIG4": reason})

    def _grant(self, function: HouseFunction) -> None:
        for method in ("POST", "DELETE"):
            connections = self._house.arn("execute-api", f"{self.api.ref}/{STAGE}/{method}/@connections/*")
            function.allow(["execute-api:ManageConnections"], connections)
            named = finding(connections).replace(self.api.ref, f"<{self._logical_id()}>")
            acknowledge(
                function.policy,
                {f"AwsSolutions-IAM5[Resource::{named}]": "Connections of this API only; ids are not known."},
            )

    def _logical_id(self) -> str:
        return str(self.api.stack.get_logical_id(self.api))

    def _domain(self, name: str, stage: apigatewayv2.CfnStage) -> None:
        certificate = certificate_arn(self, "Certificate", "PushCertificate", f"of {name}, in this region")
        domain = apigatewayv2.CfnDomainName(
            self,
            "Domain",
            domain_name=name,
            domain_name_configurations=[
                apigatewayv2.CfnDomainName.DomainNameConfigurationProperty(
                    certificate_arn=certificate,
                    endpoint_type="REGIONAL",
                    security_policy="TLS_1_2",
                )
            ],
        )
        mapping = apigatewayv2.CfnApiMapping(
            self, "Mapping", api_id=self.api.ref, domain_name=domain.ref, stage=stage.ref
        )
        mapping.add_resource_dependency(stage)
        CfnOutput(
            self,
            "DomainTarget",
            value=domain.attr_regional_domain_name,
            description=f"What {name} must be an alias of in DNS",
        )

    def metric(self, name: str, **props: object) -> cloudwatch.Metric:
        """What API Gateway reports of this API."""
        return cloudwatch.Metric(
            namespace="AWS/ApiGateway",
            metric_name=name,
            dimensions_map={"ApiId": self.api.ref, "Stage": STAGE},
            **props,  # type: ignore[arg-type]  # passed through
        )


_ACCESS_LOG = (
    '{"requestId":"$context.requestId","ip":"$context.identity.sourceIp","time":"$context.requestTime",'
    '"event":"$context.eventType","route":"$context.routeKey","connection":"$context.connectionId",'
    '"status":"$context.status","integrationMs":"$context.integrationLatency",'
    '"error":"$context.error.message"}'
)
