"""The real CDK command deploys environment ``local`` to AWS APIs on this machine, and what it deployed works.

What the emulator cannot do, and what is done instead: our policies refuse plain connections and it has no
other here, so it does not enforce policies, but is asked with ``SimulatePrincipalPolicy`` what the deployed
roles may do; it cannot load packages built for arm64, so functions run on the packages of this environment;
it has no alarms on an expression over metrics, so these are left out.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cdk.environments import load
from cdk.node import command, use_packaged_node
from local.aws import ACCOUNT, REGION, AwsServer
from qis.adapters.postgres.catalogue import PostgresCatalogue
from qis.adapters.postgres.event_store import PostgresEventStore
from qis.adapters.resolvers import installed
from qis.application.register import Register
from qis.settings import FUNCTIONS
from tests.support.builders import claim_record, rules_body, series_body, snap, source_body
from tests.support.databases import FreshDatabase, Template

ROOT = Path(__file__).resolve().parents[2]
NAME = "qis"
"""The functions' own name for the database."""


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
    server = AwsServer(parts_dir / "deployed", services="")
    work = tmp_path_factory.mktemp("deployment")
    made = Deployment(server, synthesise(work), work)
    given = {"DatabaseHost": "127.0.0.1", "DatabasePort": store.server.port, "CacheUrl": "", "JwksUrl": "-"}
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
        group = server.pid
        server.stop()
        # A function that still runs belongs to the server's group, and would outlive it.
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


@pytest.mark.slow
def test_the_command_sees_no_difference_after_a_deployment(deployment: Deployment) -> None:
    assert "Number of stacks with differences: 0" in deployment.cdk("diff", "--fail")


@pytest.mark.slow
def test_a_claim_put_to_the_stream_comes_out_of_the_consumers_queue(deployment: Deployment) -> None:
    aws = deployment.aws
    record = claim_record(source="alpha", value="1.0873", snap=snap().text)
    aws.client("kinesis").put_record(StreamName="qis-local-ingest", PartitionKey="one", Data=record)
    aws.client("lambda").invoke(FunctionName="qis-local-relay", InvocationType="Event", Payload=b"{}")
    queue = aws.client("sqs").get_queue_url(QueueName="qis-local-consumer-risk")["QueueUrl"]
    until = time.monotonic() + 90
    messages: list[dict[str, Any]] = []
    while not messages and time.monotonic() < until:
        messages = aws.client("sqs").receive_message(QueueUrl=queue, WaitTimeSeconds=5).get("Messages", [])
    event = json.loads(messages[0]["Body"])["detail"]
    assert event["type"] == "com.qis.data.published.v1"
    assert event["data"]["value"] == "1.0873"


def arn(service: str, resource: str) -> str:
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"


INGEST, EVENTS = arn("kinesis", "stream/qis-local-ingest"), arn("kinesis", "stream/qis-local-events")
BUS, RAW = arn("events", "event-bus/qis-local-bus"), "arn:aws:s3:::qis-local-raw/raw/object"
DLQ = {name: arn("sqs", f"qis-local-{name}-dlq") for name in ("ingest", "events", "bus")}

READ = ("kinesis:DescribeStream", "kinesis:GetRecords", "kinesis:GetShardIterator", "kinesis:ListShards")
NEEDS: dict[str, list[tuple[str, str]]] = {
    "ingest": [*((a, INGEST) for a in READ), ("s3:PutObject", RAW), ("sqs:SendMessage", DLQ["ingest"])],
    "reconcile": [*((a, EVENTS) for a in READ), ("sqs:SendMessage", DLQ["events"])],
    "publish": [*((a, EVENTS) for a in READ), ("events:PutEvents", BUS), ("sqs:SendMessage", DLQ["events"])],
    "quality": [
        *((a, EVENTS) for a in READ),
        ("sqs:SendMessage", DLQ["events"]),
        ("sqs:SendMessage", DLQ["bus"]),
    ],
    "query": [],
    "relay": [("kinesis:PutRecords", EVENTS), ("sqs:SendMessage", DLQ["bus"])],
    "migrate": [],
}
"""What each function does in AWS, apart from its logs and traces, which all have."""

ALL = [
    *((action, stream) for stream in (INGEST, EVENTS) for action in (*READ, "kinesis:PutRecords")),
    ("events:PutEvents", BUS),
    ("s3:PutObject", RAW),
    ("s3:GetObject", RAW),
    ("s3:DeleteObject", RAW),
    *(("sqs:SendMessage", queue) for queue in DLQ.values()),
    ("sqs:ReceiveMessage", arn("sqs", "qis-local-consumer-risk")),
    ("kinesis:DeleteStream", EVENTS),
    ("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/admin"),
    ("lambda:UpdateFunctionCode", arn("lambda", "function:qis-local-query")),
]
"""What some function needs, and what none does."""


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_function_may_do_what_it_needs_and_nothing_else(deployment: Deployment, name: str) -> None:
    """As the deployed role is evaluated; ``query`` cannot put events, ``publish`` cannot read claims."""
    role = deployment.aws.client("lambda").get_function_configuration(FunctionName=f"qis-local-{name}")[
        "Role"
    ]
    iam = deployment.aws.client("iam")

    def allowed(action: str, resource: str) -> bool:
        asked = {"PolicySourceArn": role, "ActionNames": [action], "ResourceArns": [resource]}
        (result,) = iam.simulate_principal_policy(**asked)["EvaluationResults"]
        return bool(result["EvalDecision"] == "allowed")

    own = [*NEEDS[name], ("xray:PutTraceSegments", "*")]
    assert [need for need in own if not allowed(*need)] == []
    assert [other for other in ALL if other not in own and allowed(*other)] == []
