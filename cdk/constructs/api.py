"""The REST API: API Gateway in front of ``query`` and ``ingest``, from the document that the code serves."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any

from aws_cdk import Aws, CfnOutput
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_iam as iam
from constructs import Construct

from cdk.constructs.contract import Guard, operations, to_api_gateway
from cdk.constructs.function import HouseFunction
from cdk.constructs.house import House, acknowledge, certificate_arn
from cdk.constructs.identity import RESOURCE_SERVER
from cdk.environments.traffic import Plan

STAGE = "live"
_PUSH_LOGS = "arn:<AWS::Partition>:iam::aws:policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs"


class Api(Construct):
    """One stage, traced, throttled, with access logs.

    In AWS a request without a token of the user pool, or without the scope that the document asks for, ends
    at API Gateway and costs no invocation. The handlers check again, issuer, audience, expiry and scope, in
    AWS as in the local twin: they trust no caller, whichever way it came.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        house: House,
        document: Mapping[str, Any],
        functions: Mapping[str, HouseFunction],
        user_pool_arn: str | None,
    ) -> None:
        super().__init__(scope, id_)
        access_logs = house.log_group(self, "AccessLogs", name=f"/aws/apigateway/{house.name('api')}")
        answering = {name: functions[name] for name in sorted(set(operations(document).values()))}
        uris = {name: _invocation_uri(f.live.function_arn) for name, f in answering.items()}
        settings = house.settings.api
        guard = (
            Guard(user_pool_arn=user_pool_arn, scope_prefix=f"{RESOURCE_SERVER}/", keys=bool(settings.plans))
            if user_pool_arn
            else None
        )
        self.rest = apigateway.SpecRestApi(
            self,
            "Rest",
            rest_api_name=house.name("api"),
            description="Official values and claims",
            api_definition=apigateway.ApiDefinition.from_inline(to_api_gateway(document, uris, guard)),
            endpoint_types=[apigateway.EndpointType.REGIONAL],
            fail_on_warnings=True,
            # The account's logging role; one per account and region, so it is not made by the twin.
            cloud_watch_role=not house.settings.embedded,
            deploy_options=apigateway.StageOptions(
                stage_name=STAGE,
                tracing_enabled=True,
                metrics_enabled=True,
                logging_level=apigateway.MethodLoggingLevel.ERROR,
                data_trace_enabled=False,  # bodies and tokens stay out of the logs
                throttling_rate_limit=house.settings.api.rate_per_second,
                throttling_burst_limit=house.settings.api.burst,
                access_log_destination=apigateway.LogGroupLogDestination(access_logs),
                access_log_format=apigateway.AccessLogFormat.custom(_ACCESS_LOG),
                variables={"environment": house.settings.name},
            ),
        )
        for house_function in answering.values():
            house_function.live.add_permission(
                "Api",
                principal=iam.ServicePrincipal("apigateway.amazonaws.com"),
                source_arn=self.rest.arn_for_execute_api("*", "/*", STAGE),
            )
        for name, plan in settings.plans.items():
            self._plan(name, plan, house=house)
        if settings.domain and house.settings.edge is None:
            self._domain(settings.domain)  # else it is the front door's
        self._acknowledge(embedded=house.settings.embedded, guarded=house.settings.edge is not None)

    def _plan(self, name: str, plan: Plan, *, house: House) -> None:
        """A plan without keys: a key is made for each client, and never in a template."""
        self.rest.add_usage_plan(
            f"Plan{name.capitalize()}",
            name=house.name(name),
            description=f"What a {name} client may ask for",
            throttle=apigateway.ThrottleSettings(rate_limit=plan.rate_per_second, burst_limit=plan.burst),
            quota=apigateway.QuotaSettings(limit=plan.requests_per_day, period=apigateway.Period.DAY),
            api_stages=[apigateway.UsagePlanPerApiStage(stage=self.rest.deployment_stage)],
        )

    def _domain(self, name: str) -> None:
        certificate = certificate_arn(self, "Certificate", "ApiCertificate", f"of {name}, in this region")
        domain = apigateway.CfnDomainName(
            self,
            "Domain",
            domain_name=name,
            regional_certificate_arn=certificate,
            endpoint_configuration=apigateway.CfnDomainName.EndpointConfigurationProperty(types=["REGIONAL"]),
            endpoint_access_mode="STRICT",
            security_policy="SecurityPolicy_TLS13_1_3_2025_09",
        )
        apigateway.CfnBasePathMapping(
            self,
            "Mapping",
            domain_name=domain.ref,
            rest_api_id=self.rest.rest_api_id,
            stage=self.rest.deployment_stage.stage_name,
        )
        CfnOutput(
            self,
            "DomainTarget",
            value=domain.attr_regional_domain_name,
            description=f"What {name} must be an alias of in DNS",
        )

    def _acknowledge(self, *, embedded: bool, guarded: bool) -> None:
        acknowledge(
            self.rest,
            {"AwsSolutions-APIG2": "The handlers validate each request and name the field and the rule."},
        )
        waf = (
            "Its firewall is associated by the stack of operations, which this check does not see."
            if guarded
            else "Throttled, every data route asks for a token; a firewall would cost more than it guards."
        )
        acknowledge(
            self.rest.deployment_stage,
            {
                "AwsSolutions-APIG3": waf,
                "NIST.800.53.R5-APIGWAssociatedWithWAF": waf,
                "NIST.800.53.R5-APIGWCacheEnabledAndEncrypted": (
                    "This cache knows neither tokens nor restatements; answers are cached by the code."
                ),
                "NIST.800.53.R5-APIGWSSLEnabled": (
                    "A client certificate proves API Gateway to an HTTP backend; ours are functions, invoked "
                    "under IAM."
                ),
            },
        )
        if not embedded:
            acknowledge(
                typing.cast(Construct, self.rest.node.find_child("CloudWatchRole")),
                {
                    f"AwsSolutions-IAM4[Policy::{_PUSH_LOGS}]": (
                        "The policy that AWS publishes for this one purpose; the role is the account's."
                    )
                },
            )


_ACCESS_LOG = (
    '{"requestId":"$context.requestId","ip":"$context.identity.sourceIp","time":"$context.requestTime",'
    '"method":"$context.httpMethod","resource":"$context.resourcePath","path":"$context.path",'
    '"status":"$context.status","length":"$context.responseLength","ms":"$context.responseLatency",'
    '"integrationMs":"$context.integrationLatency","error":"$context.error.message"}'
)


def _invocation_uri(function_arn: str) -> str:
    service = f"arn:{Aws.PARTITION}:apigateway:{Aws.REGION}:lambda:path/2015-03-31"
    return f"{service}/functions/{function_arn}/invocations"
