"""The WebSocket API of every environment: what answers, what guards it, who may send to its connections."""

from __future__ import annotations

from typing import Any

from cdk.constructs.push import ROUTES
from cdk.environments import load
from tests.infra.synthesis import Environment
from tests.infra.walk import as_list, flat, statements


def one(environment: Environment, type_: str) -> tuple[str, dict[str, Any]]:
    ((logical_id, resource),) = environment.of_type(f"AWS::ApiGatewayV2::{type_}")
    return logical_id, resource


def test_every_route_is_answered_by_the_function(environment: Environment) -> None:
    routes = [r["Properties"] for _, r in environment.of_type("AWS::ApiGatewayV2::Route")]
    assert sorted(r["RouteKey"] for r in routes) == sorted(ROUTES)
    integration, made = one(environment, "Integration")
    assert {flat(r["Target"]) for r in routes} == {f"integrations/${{{integration}}}"}
    assert "Realtime" in flat(made["Properties"]["IntegrationUri"])


def test_the_stage_is_throttled_and_logged_and_keeps_messages_out_of_logs(environment: Environment) -> None:
    _, stage = one(environment, "Stage")
    settings, push = stage["Properties"]["DefaultRouteSettings"], load(environment.name).push
    assert (settings["ThrottlingRateLimit"], settings["ThrottlingBurstLimit"]) == (
        push.rate_per_second,
        push.burst,
    )
    assert settings["DataTraceEnabled"] is False
    log = stage["Properties"]["AccessLogSettings"]
    assert "AccessLogs" in flat(log["DestinationArn"])
    assert not any(word in log["Format"].lower() for word in ("header", "authorization", "protocol", "body"))


def test_the_stage_is_made_after_its_routes(environment: Environment) -> None:
    """Without a route API Gateway refuses to deploy."""
    _, stage = one(environment, "Stage")
    routes = {logical_id for logical_id, _ in environment.of_type("AWS::ApiGatewayV2::Route")}
    assert routes <= set(stage["DependsOn"])


def test_only_the_function_may_send_and_only_to_connections_of_this_api(environment: Environment) -> None:
    api, _ = one(environment, "Api")
    found = [
        (s.resource, flat(resource))
        for template in environment.templates.values()
        for s in statements(template)
        if "execute-api:ManageConnections" in s.actions
        for resource in s.resources
    ]
    assert len(found) == 2
    assert {holder for holder, _ in found} == {holder for holder, _ in found if "Realtime" in holder}
    ends = sorted(resource.partition(":${AWS::AccountId}:")[2] for _, resource in found)
    assert ends == [f"${{{api}}}/live/{method}/@connections/*" for method in ("DELETE", "POST")]


def test_api_gateway_may_invoke_the_function_for_this_api_only(environment: Environment) -> None:
    api, _ = one(environment, "Api")
    (source,) = [
        flat(r["Properties"]["SourceArn"])
        for i, r in environment.of_type("AWS::Lambda::Permission")
        if "Realtime" in i and r["Properties"]["Principal"] == "apigateway.amazonaws.com"
    ]
    assert source.endswith(f":${{{api}}}/live/*")


def test_the_function_sends_to_its_own_api(environment: Environment) -> None:
    api, _ = one(environment, "Api")
    endpoint = flat(environment.handlers()["realtime"]["Environment"]["Variables"]["QIS_PUSH_ENDPOINT"])
    if environment.name == "local":
        assert endpoint == "${PushEndpoint}"
    else:
        assert endpoint.startswith(f"https://${{{api}}}.execute-api.")
        assert endpoint.endswith("/live")


def test_no_network_catches_calls_to_the_connections(in_aws: Environment) -> None:
    """An endpoint for private APIs would take over the public name and refuse them."""
    for _, endpoint in in_aws.of_type("AWS::EC2::VPCEndpoint"):
        assert "execute-api" not in flat(endpoint["Properties"]["ServiceName"])


def test_a_custom_domain_leads_to_the_stage_where_there_is_one(environment: Environment) -> None:
    domains = [r["Properties"] for _, r in environment.of_type("AWS::ApiGatewayV2::DomainName")]
    assert [d["DomainName"] for d in domains] == as_list(load(environment.name).push.domain)
    for domain in domains:
        assert [c["SecurityPolicy"] for c in domain["DomainNameConfigurations"]] == ["TLS_1_2"]
        stage, _ = one(environment, "Stage")
        _, mapping = one(environment, "ApiMapping")
        assert flat(mapping["Properties"]["Stage"]) == f"${{{stage}}}"
