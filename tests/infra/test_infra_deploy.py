"""The real CDK command deploys environment ``local`` to AWS APIs on this machine, and what it deployed works.

The APIs check signatures and let policies decide, over TLS, and each function runs as its own role. What the
emulator cannot do, and what is done instead: it cannot load packages built for arm64, so functions run on the
packages of this environment; it has no alarms on an expression over metrics, so these are left out; it reads
streams for functions without asking their roles, so what Lambda does in a role's name (reading a stream,
telling a queue of a failure) is called by the tests as that role. It has no service for traces, and names log
groups otherwise than policies do: these two grants, the same for all functions, are seen in templates only.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cdk.environments import load
from cdk.node import command, use_packaged_node
from local.aws import ACCOUNT, REGION, AwsServer
from qis.adapters.postgres.catalogue import PostgresCatalogue
from qis.adapters.postgres.event_store import PostgresEventStore
from qis.adapters.resolvers import installed
from qis.application.register import Register
from qis.settings import FUNCTIONS
from tests.api.events import proxy_event
from tests.support.builders import claim_record, rules_body, series_body, snap, source_body
from tests.support.databases import FreshDatabase, Template

ROOT = Path(__file__).resolve().parents[2]
NAME = "qis"
"""The functions' own name for the database."""
REFUSED = frozenset({"AccessDenied", "AccessDeniedException"})
Client = Callable[[str], Any]
"""Makes a client of a service."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """An account with our stack in it."""

    aws: AwsServer
    assembly: Path
    home: Path

    def cdk(self, *arguments: str) -> str:
        """Run the CDK's command; what it said.

        Raises:
            subprocess.CalledProcessError: it failed.
        """
        run = subprocess.run(
            command(["--app", str(self.assembly), *arguments]),
            cwd=self.home,
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), **self.aws.environment()},
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert run.returncode == 0, (run.stdout + run.stderr)[-3000:]
        return run.stdout + run.stderr

    def queue(self, name: str) -> str:
        """Address of one of our queues."""
        return str(self.aws.client("sqs").get_queue_url(QueueName=f"qis-local-{name}")["QueueUrl"])

    def message(self, queue: str) -> dict[str, Any]:
        """The first message that comes to a queue."""
        until = time.monotonic() + 90
        messages: list[dict[str, Any]] = []
        while not messages and time.monotonic() < until:
            found = self.aws.client("sqs").receive_message(QueueUrl=self.queue(queue), WaitTimeSeconds=5)
            messages = found.get("Messages", [])
        body: dict[str, Any] = json.loads(messages[0]["Body"])
        return body

    def function(self, name: str) -> dict[str, Any]:
        """How a function is configured."""
        found: dict[str, Any] = self.aws.client("lambda").get_function_configuration(
            FunctionName=f"qis-local-{name}"
        )
        return found


def synthesise(to: Path) -> Path:
    """The assembly of environment ``local`` with our own code, as ``make package`` builds it."""
    use_packaged_node()
    from cdk.build import build, served_document
    from cdk.constructs.code import Code

    spec = importlib.util.spec_from_file_location("package_script", ROOT / "scripts" / "package.py")
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    package.build_core(to / "core")
    for name in FUNCTIONS:
        package.build_function(name, to / name)
    stub = Code.stub()
    code = Code(
        core=to / "core",
        dependencies=stub.dependencies,
        migrate=stub.migrate,
        functions={name: to / name for name in FUNCTIONS},
    )
    assembly = to / "assembly"
    build(load("local"), code=code, document=served_document(), outdir=assembly).synth()
    left_out = _without_metric_math(assembly / "qis-local.template.json")
    assert left_out == 1, "see what else the emulator lacks now"
    return assembly


def _without_metric_math(template: Path) -> int:
    """Leave out what the emulator refuses, and say how many."""
    body = json.loads(template.read_text(encoding="utf-8"))
    refused = [i for i, r in body["Resources"].items() if "Metrics" in r.get("Properties", {})]
    for logical_id in refused:
        del body["Resources"][logical_id]
    template.write_text(json.dumps(body), encoding="utf-8")
    return len(refused)


@pytest.fixture(scope="module")
def store(template: Template) -> Iterator[FreshDatabase]:
    """The event store that the functions find, with one series registered."""
    template.server.create_database(NAME, template.name)
    database = FreshDatabase(template.server, NAME)
    register = Register(
        PostgresEventStore(database.app), PostgresCatalogue(database.app, time.monotonic), installed
    )
    register.rules(rules_body(), "setup", "setup")
    register.source(source_body("alpha"), "setup", "setup")
    register.series(series_body(), "setup", "setup")
    yield database
    database.close()


@pytest.fixture(scope="module")
def deployment(
    store: FreshDatabase, parts_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """Bootstrapped and deployed; destroyed and looked at afterwards."""
    server = AwsServer(parts_dir / "deployed", services="", guarded=True)
    work = tmp_path_factory.mktemp("deployment")
    made = Deployment(server, synthesise(work), work)
    given = {"DatabaseHost": "127.0.0.1", "DatabasePort": store.server.port, "CacheUrl": "", "JwksUrl": "-"}
    given |= {"PushEndpoint": "http://127.0.0.1:1/live"}
    parameters = [f"--parameters={name}={value}" for name, value in given.items()]
    try:
        server.start()
        made.cdk("bootstrap", f"aws://{ACCOUNT}/{REGION}")
        made.cdk("deploy", "--all", "--require-approval=never", *parameters)
        yield made
        made.cdk("destroy", "--all", "--force")
        assert server.client("lambda").list_functions()["Functions"] == []
        kept = server.client("kinesis").list_streams()["StreamNames"]
        assert set(kept) == {f"qis-local-{stream}" for stream in load("local").streams}
    finally:
        # Asked to end, it would wait for the relay, which runs for as long as it may; a function that still
        # runs belongs to the server's group.
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.stop()


@pytest.mark.slow
def test_the_command_sees_no_difference_after_a_deployment(deployment: Deployment) -> None:
    assert "Number of stacks with differences: 0" in deployment.cdk("diff", "--fail")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a claim, and of a record that is none, put to the stream."""

    event: dict[str, Any]
    letter: dict[str, Any]


@pytest.fixture(scope="module")
def outcome(deployment: Deployment) -> Outcome:
    """Taken from the consumer's queue and from the dead letters."""
    put = partial(
        deployment.aws.client("kinesis").put_record, StreamName="qis-local-ingest", PartitionKey="one"
    )
    put(Data=claim_record(source="alpha", value="1.0873", snap=snap().text))
    put(Data=b"not a claim")
    call = deployment.aws.client("lambda").invoke
    call(FunctionName="qis-local-relay", InvocationType="Event", Payload=b"{}")
    health = call(FunctionName="qis-local-query", Payload=json.dumps(proxy_event("GET", "/health")))
    assert json.load(health["Payload"])["statusCode"] == 200
    return Outcome(deployment.message("consumer-risk")["detail"], deployment.message("ingest-dlq"))


@pytest.mark.slow
def test_a_claim_put_to_the_stream_comes_out_of_the_consumers_queue(outcome: Outcome) -> None:
    assert outcome.event["type"] == "com.qis.data.published.v1"
    assert outcome.event["data"]["value"] == "1.0873"


@pytest.mark.slow
def test_a_record_that_is_no_claim_is_dead_lettered_by_the_function(outcome: Outcome) -> None:
    assert outcome.letter["violations"]


# What Lambda does in the name of a role, beside what the function's own code does.
READS = ("DescribeStream", "DescribeStreamSummary", "ListShards", "GetShardIterator", "GetRecords")
BY_LAMBDA: Mapping[str, set[tuple[str, str]]] = {
    "ingest": {(action, "ingest") for action in READS},
    **{
        name: {*((action, "events") for action in READS), ("SendMessage", "events-dlq")}
        for name in ("reconcile", "publish", "quality", "realtime")
    },
    "relay": {("Invoke", "relay")},
}
BY_SCHEDULE: Mapping[str, set[tuple[str, str]]] = {
    name: {("SendMessage", "bus-dlq")} for name in ("quality", "realtime")
}
BY_CODE: Mapping[str, set[tuple[str, str]]] = {
    "ingest": {("SendMessageBatch", "ingest-dlq")},
    "publish": {("PutEvents", "bus")},
    "relay": {("PutRecords", "events"), ("PutObject", "raw")},
}
SAME_RIGHT = {"SendMessage": "SendMessageBatch", "SendMessageBatch": "SendMessage"}
"""One action in a policy, two calls."""


def needs(name: str) -> set[tuple[str, str]]:
    """Every call that a function, or Lambda in its name, has to make."""
    needed = BY_LAMBDA.get(name, set()) | BY_SCHEDULE.get(name, set()) | BY_CODE.get(name, set())
    return needed | {(SAME_RIGHT[call], on) for call, on in needed if call in SAME_RIGHT}


@pytest.mark.slow
@pytest.mark.usefixtures("outcome")
def test_functions_called_what_they_are_known_to_call_and_nothing_else(deployment: Deployment) -> None:
    """As the APIs recorded it: nothing that a refusal kept from happening is in the list."""
    recorded = deployment.aws.client("cloudtrail").get_paginator("lookup_events")
    called = {}
    for name in FUNCTIONS:
        key = {"AttributeKey": "AccessKeyId", "AttributeValue": _session_key(deployment.function(name))}
        events = [e for page in recorded.paginate(LookupAttributes=[key]) for e in page["Events"]]
        called[name] = {(event["EventName"], _used(event)) for event in events}
    assert called == {name: BY_CODE.get(name, set()) for name in FUNCTIONS}


def _session_key(function: Mapping[str, Any]) -> str:
    """The access key that the emulator gives to a function in the name of its role."""
    session = ":".join((function["FunctionArn"], function["Role"]))
    return f"ASIA{sha256(session.encode()).hexdigest()[:16].upper()}"


def _used(event: Mapping[str, Any]) -> str:
    """Which of our resources a recorded call was about, without the prefix that all share."""
    asked = json.loads(event["CloudTrailEvent"])["requestParameters"]
    entries = asked.get("Entries") or [{}]
    named = [resource["ResourceName"] for resource in event["Resources"]]
    found = [*named, asked.get("QueueUrl"), asked.get("StreamName"), entries[0].get("EventBusName")]
    first = next(str(name) for name in found if name)
    return first.rsplit("/", 1)[-1].removeprefix("qis-local-")


def matrix(deployment: Deployment) -> dict[tuple[str, str], Callable[[Client], object]]:
    """Calls by their name and what they are about: all that some function needs, and what none does."""
    calls: dict[tuple[str, str], Callable[[Client], object]] = {}
    owner = deployment.aws.client("kinesis")
    for stream in ("ingest", "events"):
        name = f"qis-local-{stream}"
        (shard, *_) = owner.list_shards(StreamName=name)["Shards"]
        of_shard = {"StreamName": name, "ShardId": shard["ShardId"], "ShardIteratorType": "LATEST"}
        place = {
            "ShardIterator": owner.get_shard_iterator(**of_shard)["ShardIterator"],
            "StreamARN": owner.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"][
                "StreamARN"
            ],
        }
        record = {"Data": b"{}", "PartitionKey": "matrix"}
        calls |= {
            ("DescribeStream", stream): _call("kinesis", "describe_stream", StreamName=name),
            ("DescribeStreamSummary", stream): _call("kinesis", "describe_stream_summary", StreamName=name),
            ("ListShards", stream): _call("kinesis", "list_shards", StreamName=name),
            ("GetShardIterator", stream): _call("kinesis", "get_shard_iterator", **of_shard),
            ("GetRecords", stream): _call("kinesis", "get_records", **place),
            ("PutRecord", stream): _call("kinesis", "put_record", StreamName=name, **record),
            ("PutRecords", stream): _call("kinesis", "put_records", StreamName=name, Records=[record]),
            ("AddTagsToStream", stream): _call(
                "kinesis", "add_tags_to_stream", StreamName=name, Tags={"matrix": "asked"}
            ),
        }
    for queue in ("ingest-dlq", "events-dlq", "bus-dlq", "consumer-risk"):
        at = {"QueueUrl": deployment.queue(queue)}
        batch = [{"Id": "matrix", "MessageBody": "{}"}]
        calls |= {
            ("SendMessage", queue): _call("sqs", "send_message", MessageBody="{}", **at),
            ("SendMessageBatch", queue): _call("sqs", "send_message_batch", Entries=batch, **at),
            ("ReceiveMessage", queue): _call("sqs", "receive_message", **at),
            ("GetQueueAttributes", queue): _call("sqs", "get_queue_attributes", **at),
        }
    event = {"Source": "matrix", "DetailType": "matrix", "Detail": "{}", "EventBusName": "qis-local-bus"}
    on_default = {**event, "EventBusName": "default"}
    at = {"Bucket": "qis-local-raw", "Key": "raw/matrix"}
    role = deployment.function("query")["Role"]
    return calls | {
        ("PutEvents", "bus"): _call("events", "put_events", Entries=[event]),
        ("PutEvents", "default"): _call("events", "put_events", Entries=[on_default]),
        ("ListRules", "bus"): _call("events", "list_rules", EventBusName="qis-local-bus"),
        ("PutObject", "raw"): _call("s3", "put_object", Body=b"", **at),
        ("GetObject", "raw"): _call("s3", "get_object", **at),
        ("DeleteObject", "raw"): _call("s3", "delete_object", **at),
        ("ListBucket", "raw"): _call("s3", "list_objects_v2", Bucket="qis-local-raw"),
        ("GetBucketPolicy", "raw"): _call("s3", "get_bucket_policy", Bucket="qis-local-raw"),
        ("Invoke", "query"): _call(
            "lambda",
            "invoke",
            FunctionName="qis-local-query",
            Payload=json.dumps(proxy_event("GET", "/health")),
        ),
        ("Invoke", "relay"): _call(
            "lambda", "invoke", FunctionName="qis-local-relay", InvocationType="DryRun"
        ),
        ("UpdateFunctionConfiguration", "query"): _call(
            "lambda", "update_function_configuration", FunctionName="qis-local-query", Description="matrix"
        ),
        ("TagRole", "query"): _call(
            "iam", "tag_role", RoleName=role.rsplit("/", 1)[1], Tags=[{"Key": "matrix", "Value": "asked"}]
        ),
        ("ListSecrets", "account"): _call("secretsmanager", "list_secrets"),
        ("DescribeStacks", "account"): _call("cloudformation", "describe_stacks"),
    }


def _call(service: str, operation: str, **request: object) -> Callable[[Client], object]:
    return lambda client: getattr(client(service), operation)(**request)


@pytest.fixture(scope="module")
def calls(deployment: Deployment, outcome: Outcome) -> dict[tuple[str, str], Callable[[Client], object]]:
    """The calls of the matrix, each of which the account itself can make: none is refused for being wrong."""
    made = matrix(deployment)
    for call in made.values():
        call(deployment.aws.client)
    return made


def refused(call: Callable[[Client], object], client: Client) -> bool:
    """Whether policies refuse a call; any other failure is the test's."""
    try:
        call(client)
    except ClientError as error:
        if error.response["Error"]["Code"] in REFUSED:
            return True
        raise
    return False


def as_role(deployment: Deployment, name: str) -> dict[str, str]:
    """Credentials of a function's role, which STS gives to the account's own key: it stands for Lambda."""
    role = deployment.function(name)["Role"]
    answer = deployment.aws.client("sts").assume_role(RoleArn=role, RoleSessionName="matrix")
    credentials: dict[str, str] = answer["Credentials"]
    return credentials


@pytest.mark.slow
def test_not_even_an_administrator_may_take_the_role_of_a_function(deployment: Deployment) -> None:
    iam = deployment.aws.client("iam")
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [everything]})
    iam.create_user(UserName="administrator")
    iam.put_user_policy(UserName="administrator", PolicyName="everything", PolicyDocument=document)
    key = iam.create_access_key(UserName="administrator")["AccessKey"]
    client = partial(deployment.aws.client, credentials=key)
    client("iam").list_roles()
    for name in sorted(FUNCTIONS):
        role = deployment.function(name)["Role"]
        assert refused(_call("sts", "assume_role", RoleArn=role, RoleSessionName="administrator"), client)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_function_may_do_what_it_needs_and_nothing_else(
    deployment: Deployment, calls: dict[tuple[str, str], Callable[[Client], object]], name: str
) -> None:
    """Each call is made with credentials of the deployed role; ``query`` cannot put events, ``publish``
    cannot read claims."""
    client = partial(deployment.aws.client, credentials=as_role(deployment, name))
    allowed = {what for what, call in calls.items() if not refused(call, client)}
    assert allowed == needs(name)


@pytest.mark.slow
def test_a_plain_connection_is_refused_also_to_who_may_write(
    deployment: Deployment, calls: dict[tuple[str, str], Callable[[Client], object]]
) -> None:
    """As a proxy in front of the APIs would pass on a request that came without TLS."""
    client = partial(deployment.aws.client, credentials=as_role(deployment, "relay"))

    def plain(service: str) -> Any:
        made = client(service)
        made.meta.events.register(
            "before-send", lambda request, **_: request.headers.update({"x-forwarded-proto": "http"})
        )
        return made

    put = calls["PutObject", "raw"]
    assert not refused(put, client)
    assert refused(put, plain)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["SecretAccessKey", "SessionToken"])
def test_a_call_with_a_guessed_part_of_credentials_is_refused(
    deployment: Deployment, calls: dict[tuple[str, str], Callable[[Client], object]], part: str
) -> None:
    guessed = {**as_role(deployment, "ingest"), part: "guessed"}
    with pytest.raises(ClientError, match=r"SignatureDoesNotMatch|InvalidSignature|UnrecognizedClient"):
        calls["ListShards", "ingest"](partial(deployment.aws.client, credentials=guessed))
