"""The template of environment `local`, read: which resources to make, which functions to run, how they are
wired. Nothing about the product's wiring is written a second time here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.aws import ACCOUNT, REGION
from local.poller import EventSource
from local.runtime import FunctionSpec

TEMPLATE = Path(__file__).with_name("template.json")

KNOWN_BUT_NOT_MADE = frozenset(
    {
        "AWS::ApiGateway::Account",
        "AWS::ApiGateway::Deployment",
        "AWS::ApiGateway::Stage",
        "AWS::ApiGatewayV2::Api",
        "AWS::CDK::Metadata",
        "AWS::IAM::ManagedPolicy",
        "AWS::IAM::Policy",
        "AWS::IAM::Role",
        "AWS::Lambda::LayerVersion",
        "AWS::Lambda::Permission",
        "AWS::Logs::LogGroup",
        "AWS::S3::BucketPolicy",
        "AWS::SQS::QueuePolicy",
    }
)
"""Types that guard or watch the others; on one machine there is nobody to guard against."""

_QUEUE_ATTRIBUTES = (
    "ContentBasedDeduplication",
    "DelaySeconds",
    "FifoQueue",
    "MessageRetentionPeriod",
    "ReceiveMessageWaitTimeSeconds",
    "VisibilityTimeout",
)
_RATE = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
_UNIT = {"minute": 60.0, "hour": 3600.0, "day": 86_400.0}
_SUB = re.compile(r"\$\{([^}]+)\}")


class TemplateError(ValueError):
    """The template asks for something that the twin does not know."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A function to be invoked every so often."""

    name: str
    function: str
    every: float


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of the event bus and its queues."""

    name: str
    bus: str
    pattern: str
    targets: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Route:
    """One method on one resource of the API."""

    method: str
    resource: str
    function: str


@dataclass(frozen=True, slots=True)
class Wiring:
    """What the template says, resolved. Functions are named as in their ARNs."""

    streams: Mapping[str, int]
    queues: Mapping[str, Mapping[str, str]]
    buckets: Mapping[str, bool]
    """Names, each with whether it is versioned."""
    buses: Sequence[str]
    rules: Sequence[Rule]
    functions: Mapping[str, FunctionSpec]
    sources: Sequence[EventSource]
    schedules: Sequence[Schedule]
    routes: Sequence[Route]
    alarms: Sequence[Mapping[str, Any]]
    """Properties of the alarms."""
    gateway_responses: Mapping[str, Any]
    """How the gateway words its own answers, by their names in API Gateway."""
    push_stage: str | None
    """Stage of the WebSocket API, where there is one."""
    push_routes: Mapping[str, str]
    """Its routes, each with its function."""


class _Resolver:
    """Intrinsic functions, for one account and region and the physical names that the template gives."""

    def __init__(self, template: Mapping[str, Any], parameters: Mapping[str, str], endpoint: str) -> None:
        self._resources: Mapping[str, Any] = template["Resources"]
        wanted = template.get("Parameters", {})
        if missing := sorted(wanted.keys() - parameters.keys()):
            raise TemplateError(f"parameter {missing[0]} of the template has no value")
        self._parameters = parameters
        self._endpoint = endpoint

    def __call__(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self(v) for v in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((name, argument),) = value.items()
            function = self._functions().get(name)
            if function is not None:
                return function(argument)
            if name.startswith("Fn::"):
                raise TemplateError(f"intrinsic function {name} is not known to the twin")
        return {k: self(v) for k, v in value.items()}

    def _functions(self) -> Mapping[str, Callable[[Any], Any]]:
        return {
            "Ref": self._ref,
            "Fn::GetAtt": lambda a: self._attribute(*(a if isinstance(a, list) else a.split(".", 1))),
            "Fn::Join": lambda a: a[0].join(str(v) for v in self(a[1])),
            "Fn::Select": lambda a: self(a[1])[int(a[0])],
            "Fn::Split": lambda a: str(self(a[1])).split(a[0]),
            "Fn::Sub": self._sub,
        }

    def _ref(self, name: str) -> Any:
        pseudo = {
            "AWS::Region": REGION,
            "AWS::AccountId": ACCOUNT,
            "AWS::Partition": "aws",
            "AWS::URLSuffix": "amazonaws.com",
            "AWS::StackName": "qis-local",
            "AWS::NoValue": None,
        }
        if name in pseudo:
            return pseudo[name]
        if name in self._parameters:
            return self._parameters[name]
        kind, physical = self.physical(name)
        return f"{self._endpoint}/{ACCOUNT}/{physical}" if kind == "AWS::SQS::Queue" else physical

    def physical(self, name: str) -> tuple[str, str]:
        """Type and physical name of a resource."""
        if name not in self._resources:
            raise TemplateError(f"the template refers to {name}, which it does not have")
        resource = self._resources[name]
        properties = resource.get("Properties", {})
        for key in ("FunctionName", "QueueName", "BucketName", "LogGroupName", "Name"):
            if isinstance(properties.get(key), str):
                return resource["Type"], properties[key]
        return resource["Type"], name

    def _attribute(self, name: str, attribute: str) -> str:
        kind, physical = self.physical(name)
        if attribute in ("QueueName", "Name"):
            return physical
        if attribute == "QueueUrl":
            return f"{self._endpoint}/{ACCOUNT}/{physical}"
        arn = {
            "AWS::Kinesis::Stream": f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{physical}",
            "AWS::SQS::Queue": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{physical}",
            "AWS::S3::Bucket": f"arn:aws:s3:::{physical}",
            "AWS::Events::EventBus": f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/{physical}",
            "AWS::Events::Rule": f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{physical}",
            "AWS::Lambda::Function": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{physical}",
        }.get(kind)
        if attribute == "Arn" and arn is not None:
            return arn
        if kind not in KNOWN_BUT_NOT_MADE:
            raise TemplateError(f"attribute {attribute} of {name} ({kind}) is not known to the twin")
        return f"{name}.{attribute}"

    def _sub(self, argument: Any) -> str:
        text, given = (argument, {}) if isinstance(argument, str) else argument

        def value(match: re.Match[str]) -> str:
            name = match[1]
            if name in given:
                return str(self(given[name]))
            if "." in name:
                return self._attribute(*name.split(".", 1))
            return str(self._ref(name))

        return _SUB.sub(value, text)


def read(template: Mapping[str, Any], parameters: Mapping[str, str], endpoint: str) -> Wiring:
    """Resolve a template.

    Args:
        parameters: values of the template's parameters.
        endpoint: address of the AWS APIs, of which queue addresses are made.

    Raises:
        TemplateError: a resource type, an intrinsic function or a reference is not known.
    """
    resolve = _Resolver(template, parameters, endpoint)
    by_type: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for name, resource in template["Resources"].items():
        kind = resource["Type"]
        if kind not in KNOWN_BUT_NOT_MADE:
            by_type.setdefault(kind, []).append((name, resolve(resource.get("Properties", {}))))
    made = set(_MADE)
    if unknown := sorted(by_type.keys() - made):
        raise TemplateError(f"resource type {unknown[0]} is not known to the twin")

    def of(kind: str) -> list[tuple[str, Mapping[str, Any]]]:
        return by_type.get(kind, [])

    async_settings = {p["FunctionName"]: p for _, p in of("AWS::Lambda::EventInvokeConfig")}
    functions = {
        p["FunctionName"]: _function(p, async_settings.get(p["FunctionName"], {}), endpoint)
        for _, p in of("AWS::Lambda::Function")
    }
    rules = [p for _, p in of("AWS::Events::Rule") if p.get("State", "ENABLED") == "ENABLED"]
    integrations = {i: _name(_invoked(p["IntegrationUri"])) for i, p in of("AWS::ApiGatewayV2::Integration")}
    apis = [p["Body"] for _, p in of("AWS::ApiGateway::RestApi")]
    return Wiring(
        streams={p["Name"]: int(p.get("ShardCount", 1)) for _, p in of("AWS::Kinesis::Stream")},
        queues={p["QueueName"]: _queue(p) for _, p in of("AWS::SQS::Queue")},
        buckets={
            p["BucketName"]: p.get("VersioningConfiguration", {}).get("Status") == "Enabled"
            for _, p in of("AWS::S3::Bucket")
        },
        buses=[p["Name"] for _, p in of("AWS::Events::EventBus")],
        rules=[_rule(p) for p in rules if "EventPattern" in p],
        functions=functions,
        sources=[
            _source(name, p, endpoint)
            for name, p in of("AWS::Lambda::EventSourceMapping")
            if p.get("Enabled", True)
        ],
        schedules=[s for p in rules if "ScheduleExpression" in p for s in _schedules(p)],
        routes=[r for body in apis for r in _routes(body)],
        alarms=[p for _, p in of("AWS::CloudWatch::Alarm")],
        gateway_responses={k: v for body in apis for k, v in body.get(_GATEWAY_RESPONSES, {}).items()},
        push_stage=next((p["StageName"] for _, p in of("AWS::ApiGatewayV2::Stage")), None),
        push_routes={
            p["RouteKey"]: integrations[p["Target"].removeprefix("integrations/")]
            for _, p in of("AWS::ApiGatewayV2::Route")
        },
    )


_GATEWAY_RESPONSES = "x-amazon-apigateway-gateway-responses"
_MADE = (
    "AWS::ApiGateway::RestApi",
    "AWS::ApiGatewayV2::Integration",
    "AWS::ApiGatewayV2::Route",
    "AWS::ApiGatewayV2::Stage",
    "AWS::CloudWatch::Alarm",
    "AWS::Events::EventBus",
    "AWS::Events::Rule",
    "AWS::Kinesis::Stream",
    "AWS::Lambda::EventInvokeConfig",
    "AWS::Lambda::EventSourceMapping",
    "AWS::Lambda::Function",
    "AWS::S3::Bucket",
    "AWS::SQS::Queue",
)


def load(parameters: Mapping[str, str], endpoint: str, path: Path = TEMPLATE) -> Wiring:
    """Resolve the committed template; see ``read``."""
    return read(json.loads(path.read_text(encoding="utf-8")), parameters, endpoint)


def _name(arn: str) -> str:
    return arn.rsplit(":", 1)[-1].rsplit("/", 1)[-1]


def _queue_url(arn: str | None, endpoint: str) -> str | None:
    return None if arn is None else f"{endpoint}/{ACCOUNT}/{_name(arn)}"


def _on_failure(p: Mapping[str, Any]) -> str | None:
    arn: str | None = p.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
    return arn


def _function(p: Mapping[str, Any], asynchronous: Mapping[str, Any], endpoint: str) -> FunctionSpec:
    destination = _on_failure(asynchronous)
    at_once = destination is not None and ":function:" in destination
    if destination is not None and at_once and _name(destination) != p["FunctionName"]:
        raise TemplateError(f"{p['FunctionName']}: on failure only itself or a queue is known to the twin")
    return FunctionSpec(
        name=p["FunctionName"],
        handler=p["Handler"],
        environment={k: str(v) for k, v in p.get("Environment", {}).get("Variables", {}).items()},
        timeout=float(p.get("Timeout", 3)),
        memory=int(p.get("MemorySize", 128)),
        concurrency=int(p.get("ReservedConcurrentExecutions", 10)),
        json_logs=p.get("LoggingConfig", {}).get("LogFormat") == "JSON",
        async_retries=int(asynchronous.get("MaximumRetryAttempts", 2)),
        async_max_age=float(asynchronous.get("MaximumEventAgeInSeconds", 21_600)),
        async_on_failure_url=None if at_once else _queue_url(destination, endpoint),
        async_at_once=at_once,
    )


def _queue(p: Mapping[str, Any]) -> Mapping[str, str]:
    attributes = {
        name: str(p[name]).lower() if isinstance(p[name], bool) else str(p[name])
        for name in _QUEUE_ATTRIBUTES
        if name in p
    }
    if "RedrivePolicy" in p:
        attributes["RedrivePolicy"] = json.dumps(p["RedrivePolicy"])
    return attributes


def _rule(p: Mapping[str, Any]) -> Rule:
    targets = [
        {k: t[k] for k in ("Id", "Arn", "DeadLetterConfig", "InputPath") if k in t} for t in p["Targets"]
    ]
    return Rule(p["Name"], _name(p["EventBusName"]), json.dumps(p["EventPattern"]), targets)


def _schedules(p: Mapping[str, Any]) -> list[Schedule]:
    match = _RATE.fullmatch(p["ScheduleExpression"])
    if match is None:
        raise TemplateError(f"schedule {p['ScheduleExpression']} is not known to the twin")
    return [Schedule(p["Name"], _name(t["Arn"]), int(match[1]) * _UNIT[match[2]]) for t in p["Targets"]]


def _source(name: str, p: Mapping[str, Any], endpoint: str) -> EventSource:
    patterns = [json.loads(f["Pattern"]) for f in p.get("FilterCriteria", {}).get("Filters", [])]
    return EventSource(
        name=name,
        function=_name(p["FunctionName"]),
        stream=_name(p["EventSourceArn"]),
        stream_arn=p["EventSourceArn"],
        batch_size=int(p.get("BatchSize", 100)),
        window=float(p.get("MaximumBatchingWindowInSeconds", 0)),
        parallelization=int(p.get("ParallelizationFactor", 1)),
        max_retries=int(p.get("MaximumRetryAttempts", -1)),
        max_age=float(p.get("MaximumRecordAgeInSeconds", -1)),
        bisect=bool(p.get("BisectBatchOnFunctionError", False)),
        partial_failures="ReportBatchItemFailures" in p.get("FunctionResponseTypes", []),
        on_failure_url=_queue_url(_on_failure(p), endpoint),
        filters=patterns,
        from_start=p["StartingPosition"] == "TRIM_HORIZON",
    )


def _routes(body: Mapping[str, Any]) -> list[Route]:
    routes = []
    for resource, item in body["paths"].items():
        for method, operation in item.items():
            integration = (
                operation.get("x-amazon-apigateway-integration") if isinstance(operation, dict) else None
            )
            if integration is not None:
                routes.append(Route(method.upper(), resource, _name(_invoked(integration["uri"]))))
    return routes


def _invoked(uri: str) -> str:
    """The function that an integration invokes."""
    return uri.split("/functions/", 1)[1].removesuffix("/invocations")
