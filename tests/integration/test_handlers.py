"""The deployed functions on real parts: AWS event shapes in, partial failures out, the whole path once."""

from __future__ import annotations

import base64
import importlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest

from local.aws import AwsServer
from qis.adapters import relaying
from qis.adapters.backbone import unpacked
from qis.adapters.postgres.catalogue import PostgresCatalogue
from qis.adapters.postgres.connection import PATIENCE, STREAM_PATIENCE
from qis.adapters.postgres.event_store import PostgresEventStore
from qis.adapters.postgres.followers import PostgresFollower
from qis.adapters.postgres.push import PostgresConnections
from qis.adapters.resolvers import installed
from qis.application.ports import Unavailable
from qis.application.register import Register
from qis.domain import events as ev
from qis.domain.events import START
from qis.settings import FUNCTIONS, PREFIX, SettingsError
from tests.support.builders import (
    EUR,
    SOURCES,
    aggregate,
    append,
    claim_record,
    kinesis_event,
    rules_body,
    series_body,
    snap,
    source_body,
)
from tests.support.databases import FreshDatabase
from tests.support.lambdas import Context, set_powertools
from tests.support.push import MemorySockets, values

# Powertools warns of a function that fails before it has measured anything.
pytestmark = pytest.mark.filterwarnings("ignore:No application metrics to publish")
WITHIN = 30.0


def types_of(record: bytes) -> set[str]:
    """Types of the events in a record of the backbone."""
    return {event["type"] for event in unpacked(record)}


@dataclass
class System:
    """A database with a catalogue, the AWS resources of the functions, and the functions."""

    database: FreshDatabase
    aws: AwsServer
    monkeypatch: pytest.MonkeyPatch
    names: dict[str, str]
    loaded: list[ModuleType] = field(default_factory=list)

    def function(self, name: str, **changes: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
        """The handler of a function in a process of its own settings."""
        known = {**self.database.variables(), **self.names, **changes}
        for variable in [PREFIX + "BUS_NAME", *self.names, *self.database.variables()]:
            self.monkeypatch.delenv(variable, raising=False)
        for variable in FUNCTIONS[name].variables():
            if variable in known:
                self.monkeypatch.setenv(variable, known[variable])
        module = importlib.reload(importlib.import_module(f"lambdas.{name}.handler"))
        if hasattr(module, "Database"):
            self.monkeypatch.setattr(module, "Database", self.database.made)
        self.loaded.append(module)
        handler: Callable[[dict[str, Any], object], dict[str, Any]] = module.handler
        return lambda event: handler(event, Context())

    def backbone(self, *types: str) -> list[bytes]:
        """Records of the events stream so far."""
        client = self.aws.client("kinesis")
        name = self.names["QIS_EVENTS_STREAM"]
        found: list[bytes] = []
        for shard in client.list_shards(StreamName=name)["Shards"]:
            iterator = client.get_shard_iterator(
                StreamName=name, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )["ShardIterator"]
            found += [r["Data"] for r in client.get_records(ShardIterator=iterator)["Records"]]
        return [r for r in found if not types or types_of(r) & set(types)]

    def messages(self, url: str, count: int) -> list[dict[str, Any]]:
        client = self.aws.client("sqs")
        found: list[dict[str, Any]] = []
        deadline = time.monotonic() + WITHIN
        while len(found) < count:
            assert time.monotonic() < deadline, f"only {len(found)} of {count} messages came"
            answer = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            found += [json.loads(m["Body"]) for m in answer.get("Messages", ())]
        return found

    def one(self, query: str) -> Any:
        row = self.database.app.connect().execute(query).fetchone()
        return None if row is None else row[0] if len(row) == 1 else row


@pytest.fixture
def system(
    database: FreshDatabase, aws_variables: AwsServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[System]:
    mark = uuid4().hex[:10]
    aws = aws_variables
    sqs, events = aws.client("sqs"), aws.client("events")
    aws.client("s3").create_bucket(Bucket=f"raw-{mark}")
    dlq = sqs.create_queue(QueueName=f"ingest-dlq-{mark}")["QueueUrl"]
    consumer = sqs.create_queue(QueueName=f"consumer-{mark}")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=consumer, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.create_event_bus(Name=f"bus-{mark}")
    pattern = {"detail-type": [{"prefix": "com.qis.data."}]}
    events.put_rule(Name="all", EventBusName=f"bus-{mark}", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="all", EventBusName=f"bus-{mark}", Targets=[{"Id": "q", "Arn": arn}])
    kinesis = aws.client("kinesis")
    kinesis.create_stream(StreamName=f"events-{mark}", ShardCount=1)
    kinesis.get_waiter("stream_exists").wait(
        StreamName=f"events-{mark}", WaiterConfig={"Delay": 1, "MaxAttempts": 20}
    )
    set_powertools(monkeypatch)
    store = PostgresEventStore(database.app)
    ticks = iter(range(10**6))
    register = Register(store, PostgresCatalogue(database.app, lambda: float(next(ticks))), installed)
    register.rules(rules_body(), "setup", "setup")
    for source in SOURCES:
        register.source(source_body(source), "setup", "setup")
    register.series(series_body(), "setup", "setup")
    found = System(
        database,
        aws,
        monkeypatch,
        {
            "QIS_JWKS_URL": f"{aws.url}/none",
            "QIS_TOKEN_ISSUER": "test",
            "QIS_TOKEN_AUDIENCE": "test",
            "QIS_RAW_BUCKET": f"raw-{mark}",
            "QIS_INGEST_DLQ_URL": dlq,
            "QIS_EVENTS_STREAM": f"events-{mark}",
            "QIS_BUS_NAME": f"bus-{mark}",
            "QIS_PUSH_ENDPOINT": f"{aws.url}/live",
            "CONSUMER": consumer,
        },
    )
    yield found
    for module in found.loaded:
        module.bootstrap.cache_clear()


def relayed(system: System) -> int:
    """Run the relay until everything is on the backbone."""
    system.function("relay")
    module = system.loaded[-1]
    system.monkeypatch.setattr(relaying, "IDLE_WAIT", 0.05)
    return int(module.handler({}, Context(remaining=iter([60_000] * 12)))["relayed"])


def test_a_batch_of_the_stream_waits_longer_for_the_database_than_a_person(system: System) -> None:
    ingest = system.function("ingest")
    database = system.loaded[-1].bootstrap().database
    ingest(kinesis_event([claim_record()], "ingest"))
    assert database.patience == STREAM_PATIENCE
    assert ingest({"httpMethod": "POST", "resource": "/nothing"})["statusCode"] == 404
    assert database.patience == PATIENCE


def test_five_hundred_records_with_a_poison_one_are_499_events_and_one_dead_letter(system: System) -> None:
    poison = b'{"snap": "2026-01-05T14:00:00", "value": '
    payloads = [claim_record(value=f"1.{n:04}", source=SOURCES[n % 4], snap=snap(n).text) for n in range(499)]
    payloads.insert(250, poison)
    event = kinesis_event(payloads, "ingest")
    assert system.function("ingest")(event) == {"batchItemFailures": []}
    assert system.one("SELECT count(*) FROM events WHERE type = 'DataIngested'") == 499
    assert system.one("SELECT (accepted, duplicates, rejected)::text FROM loads") == "(499,0,1)"
    (letter,) = system.messages(system.names["QIS_INGEST_DLQ_URL"], 1)
    assert letter["record_id"] == event["Records"][250]["eventID"]
    assert base64.b64decode(letter["payload"]) == poison
    assert [(v["field"], v["rule"]) for v in letter["violations"]] == [("record", "json")]


def test_records_of_an_aggregate_are_taken_one_by_one_and_once(system: System) -> None:
    ingest = system.function("ingest")
    packed = aggregate([claim_record(), b"poison", claim_record(source="beta")])
    event = kinesis_event([claim_record(source="gamma"), packed, packed[:-1]], "ingest")
    for _ in range(2):
        assert ingest(event) == {"batchItemFailures": []}
        assert system.one("SELECT (accepted, duplicates, rejected)::text FROM loads") == "(3,0,2)"
    assert system.one("SELECT count(*) FROM events WHERE type = 'DataIngested'") == 3
    letters = system.messages(system.names["QIS_INGEST_DLQ_URL"], 2)
    whole, held = event["Records"][2]["eventID"], f"{event['Records'][1]['eventID']}/1"
    found = {letter["record_id"]: letter["violations"][0]["rule"] for letter in letters}
    assert found == {whole: "aggregate", held: "json"}
    put_back = kinesis_event([claim_record(source="delta")], "ingest")
    put_back["Records"][0]["kinesis"]["partitionKey"] = f"redrive:{held}"
    ingest(put_back)
    assert system.one("SELECT (accepted, duplicates, rejected)::text FROM loads") == "(4,0,1)"


def test_a_batch_that_is_delivered_again_changes_nothing(system: System) -> None:
    ingest = system.function("ingest")
    event = kinesis_event([claim_record(), b"poison", claim_record(source="beta")], "ingest")
    ingest(event)
    before = system.one("SELECT (accepted, duplicates, rejected)::text FROM loads")
    ingest(event)
    assert system.one("SELECT (accepted, duplicates, rejected)::text FROM loads") == before == "(2,0,1)"
    assert system.one("SELECT count(*) FROM events WHERE type = 'DataIngested'") == 2


def test_a_record_put_back_from_the_dead_letters_keeps_its_identity(system: System) -> None:
    ingest = system.function("ingest")
    unknown = claim_record(source="newcomer")
    ingest(kinesis_event([unknown], "ingest"))
    (letter,) = system.messages(system.names["QIS_INGEST_DLQ_URL"], 1)
    store = PostgresEventStore(system.database.app)
    added = ev.NewEvent(ev.SOURCE_ADDED, source_body("newcomer", active=True))
    store.append([append("source:newcomer", 0, added)])
    again = kinesis_event([base64.b64decode(letter["payload"])], "ingest")
    again["Records"][0]["kinesis"]["partitionKey"] = f"redrive:{letter['record_id']}"
    system.function("ingest")(again)
    assert system.one("SELECT (accepted, duplicates, rejected)::text FROM loads") == "(1,0,0)"
    assert (
        system.one("SELECT data ->> 'record_id' FROM events WHERE type = 'DataIngested'")
        == letter["record_id"]
    )


def test_a_claim_goes_all_the_way_to_the_consumer(system: System) -> None:
    system.function("ingest")(
        kinesis_event([claim_record(), claim_record(source="beta", value="1.1001")], "ingest")
    )
    assert relayed(system) == 8
    answer = system.function("reconcile")(kinesis_event(system.backbone(ev.DATA_INGESTED)))
    assert answer == {"batchItemFailures": []}
    assert system.one("SELECT value::text FROM official_values") == "1.1000"
    assert relayed(system) == 2
    public = system.backbone(ev.DATA_PUBLISHED, ev.DATA_RESTATED)
    assert types_of(public[0]) == {ev.DATA_RECONCILED, ev.DATA_PUBLISHED}, "of one series, so in one record"
    assert system.function("publish")(kinesis_event(public)) == {"batchItemFailures": []}
    (message,) = system.messages(system.names["CONSUMER"], 1)
    assert message["detail-type"] == message["detail"]["type"] == "com.qis.data.published.v1"
    assert message["detail"]["subject"] == EUR
    assert message["detail"]["data"]["value"] == "1.1000"
    assert system.function("quality")(kinesis_event(system.backbone(ev.DATA_RECONCILED))) == {
        "batchItemFailures": []
    }
    assert system.one("SELECT claims::text FROM quality_facts") == '{"beta": "1.1001", "alpha": "1.1000"}'


def test_reconcile_takes_only_claims_and_a_batch_again_changes_nothing(system: System) -> None:
    system.function("ingest")(kinesis_event([claim_record()], "ingest"))
    relayed(system)
    reconcile = system.function("reconcile")
    everything = kinesis_event(system.backbone())
    kinds = set[str]().union(*(types_of(record) for record in system.backbone()))
    assert kinds > {ev.DATA_INGESTED, ev.SERIES_REGISTERED}, "the catalogue's events are there, too"
    for _ in range(2):
        assert reconcile(everything) == {"batchItemFailures": []}
    assert system.one("SELECT count(*) FROM events WHERE type LIKE 'Data%' AND type <> 'DataIngested'") == 2


@pytest.mark.parametrize("name", ["reconcile", "publish", "quality"])
def test_a_record_that_is_no_event_fails_the_batch_so_that_lambda_cuts_it_out(
    system: System, name: str
) -> None:
    function = system.function(name)
    with pytest.raises(ValueError, match="Expecting"):
        function(kinesis_event([b"no event"]))
    assert function({"Records": []}) == {"batchItemFailures": []}


def test_publish_names_the_records_that_the_bus_refused(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {
        "type": ev.DATA_PUBLISHED,
        "type_version": 1,
        "reference_data_id": EUR,
        "recorded_at": "2026-01-05T15:00:00+00:00",
        "correlation_id": "load",
        "causation_id": None,
        "position": "1.1",
        "data": {"value": "1.1"},
    }
    events = [{**body, "event_id": str(n)} for n in range(3)]
    events.insert(1, {**events[0], "type": ev.DATA_RECONCILED, "event_id": "not public"})
    batch = kinesis_event(json.dumps(e).encode() for e in events)
    publish = system.function("publish")
    module = system.loaded[-1]

    class Refusing:
        def put(self, given: list[dict[str, Any]]) -> frozenset[int]:
            assert [e["id"] for e in given] == ["0", "1", "2"]
            return frozenset({1})

    monkeypatch.setattr(module, "bootstrap", Refusing)
    answer = publish(batch)
    refused = batch["Records"][2]["kinesis"]["sequenceNumber"]
    monkeypatch.undo()
    assert answer == {"batchItemFailures": [{"itemIdentifier": refused}]}


def test_quality_publishes_metrics_by_the_schedule(system: System) -> None:
    quality = system.function("quality")
    assert quality({"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}) == {
        "batchItemFailures": []
    }
    assert system.one("SELECT count(*) FROM events WHERE type = 'QualityMetricsCalculated'") == 0


def test_the_relay_makes_partitions_ahead_and_ends_in_time(system: System) -> None:
    owner = system.database.connect()
    months = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'events'::regclass"
    with owner:
        newest = owner.execute(
            "SELECT max(inhrelid::regclass::text) FROM pg_inherits"
            " WHERE inhparent = 'events'::regclass AND inhrelid::regclass::text <> 'events_default'"
        ).fetchone()
        assert newest is not None
        owner.execute(f"DROP TABLE {newest[0]}")
        before = owner.execute(months).fetchone()
        assert relayed(system) == 6
        after = owner.execute(months).fetchone()
    assert before is not None
    assert after == (before[0] + 1,)
    assert relayed(system) == 0, "the checkpoint is kept"


def test_a_second_relay_waits_for_the_first_and_gives_up_in_time(system: System) -> None:
    assert PostgresFollower(system.database.another().connect(), "backbone").acquire(1)
    system.function("relay")
    module = system.loaded[-1]
    system.monkeypatch.setattr(relaying, "LOCK_WAIT", 0.05)
    assert module.handler({}, Context(remaining=iter([60_000, 0]))) == {"relayed": 0}


def test_what_is_published_wakes_who_listens_and_the_schedule_ends_what_is_over(system: System) -> None:
    now, connections = datetime.now(UTC), PostgresConnections(system.database.another())
    for id_, until in (("c1", now + timedelta(hours=1)), ("c2", now)):
        connections.open(id_, "alice", now, until)
        connections.listen(id_, frozenset({"pattern:*"}), START)
    system.function("ingest")(kinesis_event([claim_record()], "ingest"))
    relayed(system)
    system.function("reconcile")(kinesis_event(system.backbone(ev.DATA_INGESTED)))
    relayed(system)
    batch = kinesis_event(system.backbone(ev.DATA_PUBLISHED))
    realtime, module, sockets = system.function("realtime"), system.loaded[-1], MemorySockets()
    system.monkeypatch.setattr(module, "ApiGatewaySockets", lambda _: sockets)
    with pytest.raises(Unavailable):
        realtime(batch)  # without time left: Lambda delivers the batch again
    time_left = Context(remaining=iter([60_000] * 4))
    assert module.handler(batch, time_left) == {"batchItemFailures": []}
    assert values(sockets.events("c1")) == ["1.1000"]
    assert sockets.events("c2") == []
    assert module.handler({"detail-type": "Scheduled Event"}, time_left) == {"batchItemFailures": []}
    assert sockets.closed == ["c2"]
    refused = module.handler({"requestContext": ROUTE}, time_left)
    assert refused["statusCode"] == 401


ROUTE = {"routeKey": "$connect", "eventType": "CONNECT", "connectionId": "c3"}


@pytest.mark.parametrize("name", ["ingest", "reconcile", "publish", "quality", "realtime", "relay"])
def test_a_function_without_a_setting_says_which(system: System, name: str) -> None:
    system.function(name)
    missing = next(
        v for v, required in FUNCTIONS[name].variables().items() if required and v != "QIS_ENVIRONMENT"
    )
    system.monkeypatch.delenv(missing)
    with pytest.raises(SettingsError, match=missing):
        system.loaded[-1].bootstrap()
