"""The template is read as CloudFormation would; what is not understood is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from local import template
from local.template import TemplateError

ENDPOINT = "http://127.0.0.1:4566"
PARAMETERS = {
    "CacheUrl": "valkey://127.0.0.1:1",
    "DatabaseHost": "127.0.0.1",
    "DatabasePort": "5432",
    "JwksUrl": "http://127.0.0.1:2/keys",
    "PushEndpoint": "http://127.0.0.1:3/live",
}
FUNCTION = {
    "Type": "AWS::Lambda::Function",
    "Properties": {"FunctionName": "f", "Handler": "m.handler", "Environment": {"Variables": {}}},
}


def read(resources: dict[str, Any], parameters: dict[str, str] | None = None, **more: Any) -> template.Wiring:
    return template.read({"Resources": resources, **more}, parameters or {}, ENDPOINT)


def resolved(value: Any, **resources: Any) -> Any:
    """A value after resolution, seen through the variable of a function."""
    function = {"Type": FUNCTION["Type"], "Properties": {**FUNCTION["Properties"]}}
    function["Properties"]["Environment"] = {"Variables": {"V": value}}
    return read({"F": function, **resources}).functions["f"].environment["V"]


QUEUE = {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "q"}}
STREAM = {"Type": "AWS::Kinesis::Stream", "Properties": {"Name": "s", "ShardCount": 2}}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", "plain"),
        (5, "5"),
        ({"Ref": "AWS::Region"}, "us-east-1"),
        ({"Ref": "AWS::AccountId"}, "000000000000"),
        ({"Ref": "Q"}, f"{ENDPOINT}/000000000000/q"),
        ({"Ref": "S"}, "s"),
        ({"Fn::GetAtt": ["Q", "Arn"]}, "arn:aws:sqs:us-east-1:000000000000:q"),
        ({"Fn::GetAtt": "S.Arn"}, "arn:aws:kinesis:us-east-1:000000000000:stream/s"),
        ({"Fn::GetAtt": ["Q", "QueueName"]}, "q"),
        ({"Fn::Join": ["-", ["a", {"Ref": "S"}]]}, "a-s"),
        ({"Fn::Select": [1, ["a", "b"]]}, "b"),
        ({"Fn::Select": ["2", {"Fn::Split": [":", {"Fn::GetAtt": ["Q", "Arn"]}]}]}, "sqs"),
        (
            {"Fn::Sub": "x-${AWS::Region}-${S}-${S.Arn}"},
            "x-us-east-1-s-arn:aws:kinesis:us-east-1:000000000000:stream/s",
        ),
        ({"Fn::Sub": ["${A}/${S}", {"A": {"Ref": "S"}}]}, "s/s"),
    ],
)
def test_intrinsics_resolve(value: Any, expected: str) -> None:
    assert resolved(value, Q=QUEUE, S=STREAM) == expected


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({"Fn::ImportValue": "x"}, "Fn::ImportValue"),
        ({"Fn::FindInMap": ["a", "b", "c"]}, "Fn::FindInMap"),
        ({"Ref": "Nowhere"}, "Nowhere"),
        ({"Fn::GetAtt": ["Nowhere", "Arn"]}, "Nowhere"),
        ({"Fn::GetAtt": ["S", "StreamEncryption"]}, "StreamEncryption"),
        ({"Fn::Sub": "${Nowhere}"}, "Nowhere"),
    ],
)
def test_what_is_not_understood_is_refused(value: Any, named: str) -> None:
    with pytest.raises(TemplateError, match=named):
        resolved(value, S=STREAM)


def test_an_unknown_resource_type_is_refused() -> None:
    with pytest.raises(TemplateError, match="AWS::MSK::Cluster"):
        read({"X": {"Type": "AWS::MSK::Cluster", "Properties": {}}})


def test_a_parameter_without_a_value_is_refused() -> None:
    with pytest.raises(TemplateError, match="DatabasePort"):
        read({}, {}, Parameters={"DatabasePort": {"Type": "String"}})


def test_a_schedule_that_is_no_rate_is_refused() -> None:
    rule = {
        "Type": "AWS::Events::Rule",
        "Properties": {"Name": "r", "ScheduleExpression": "cron(0 * * * ? *)", "Targets": []},
    }
    with pytest.raises(TemplateError, match="cron"):
        read({"R": rule})


def test_a_function_without_settings_has_the_defaults_of_the_service() -> None:
    spec = read({"F": FUNCTION}).functions["f"]
    assert (spec.timeout, spec.memory) == (3.0, 128)


def committed() -> template.Wiring:
    return template.load(PARAMETERS, ENDPOINT)


def test_a_function_that_follows_its_own_failure_is_known_and_another_one_refused() -> None:
    def asynchronous(destination: str) -> dict[str, Any]:
        arn = f"arn:aws:lambda:us-east-1:000000000000:function:{destination}"
        settings = {"FunctionName": "f", "DestinationConfig": {"OnFailure": {"Destination": arn}}}
        return {"F": FUNCTION, "A": {"Type": "AWS::Lambda::EventInvokeConfig", "Properties": settings}}

    found = read(asynchronous("f")).functions["f"]
    assert (found.async_at_once, found.async_on_failure_url) == (True, None)
    with pytest.raises(TemplateError, match="f: on failure only itself"):
        read(asynchronous("g"))


def test_the_committed_template_is_understood() -> None:
    wiring = committed()
    functions = {name.removeprefix("qis-local-") for name in wiring.functions}
    assert functions == {"ingest", "reconcile", "publish", "quality", "query", "realtime", "relay", "migrate"}
    assert set(wiring.streams) == {"qis-local-ingest", "qis-local-events"}
    assert {q.removeprefix("qis-local-") for q in wiring.queues} == {
        "consumer-strategy",
        "consumer-risk",
        "consumer-analytics",
        "consumer-operations",
        "ingest-dlq",
        "events-dlq",
        "bus-dlq",
    }
    assert len(wiring.rules) == 4
    assert {s.function for s in wiring.schedules} == {
        "qis-local-relay",
        "qis-local-quality",
        "qis-local-realtime",
    }
    assert all(route.function in wiring.functions for route in wiring.routes)
    assert wiring.push_stage == "live"
    assert {"$connect", "$disconnect", "$default", "subscribe"} <= wiring.push_routes.keys()
    assert set(wiring.push_routes.values()) == {"qis-local-realtime"}


def test_each_event_source_of_the_committed_template_is_complete() -> None:
    sources = {s.function.removeprefix("qis-local-"): s for s in committed().sources}
    assert set(sources) == {"ingest", "reconcile", "publish", "quality", "realtime"}
    for one in sources.values():
        assert one.bisect
        assert one.partial_failures
        assert one.on_failure_url is not None
        assert one.max_retries > 0
        assert one.from_start
    assert sources["ingest"].stream == "qis-local-ingest"
    assert sources["reconcile"].filters == [{"data": {"type": ["DataIngested", "Several"]}}]
    assert sources["ingest"].on_failure_url == f"{ENDPOINT}/000000000000/qis-local-ingest-dlq"


def test_the_variables_of_the_committed_template_are_those_that_the_functions_read() -> None:
    from qis.settings import FUNCTIONS

    wiring = committed()
    for name, settings in FUNCTIONS.items():
        spec = wiring.functions[f"qis-local-{name}"]
        settings.read({k: v for k, v in spec.environment.items() if k.startswith("QIS_")})
        assert "${" not in json.dumps(dict(spec.environment))
