"""The lake is fed with what is published, in tables that hold it, and answers what it is asked.

Athena and Firehose are not here. DuckDB does their part: the columns of the templates read real events from
JSON, as Firehose's converter does, and the named queries run on Parquet of these columns, translated by
sqlglot.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlglot
from sqlglot import exp

from cdk.constructs.tables import ColumnError, columns, hive, merged
from cdk.environments import load
from qis.application.publish import cloud_event
from qis.application.relay import backbone_record
from qis.domain import events as ev
from qis.domain.public_events import MECHANICAL, TOLD, VALUES
from tests.infra.synthesis import Environment, Resource
from tests.infra.walk import flat, text
from tests.unit.test_issues import World as Watched
from tests.unit.test_overrides import correct, published
from tests.unit.test_reconciler import World

TODAY = "2026-01-20"
DAY = TODAY.replace("-", "/")


@pytest.fixture
def prod(environments: dict[str, Environment]) -> Environment:
    return environments["prod"]


def tables(environment: Environment) -> dict[str, Resource]:
    inputs = [r["Properties"]["TableInput"] for _, r in environment.of_type("AWS::Glue::Table")]
    return {given["Name"]: given for given in inputs}


def deliveries(environment: Environment) -> dict[str, Resource]:
    stem = load(environment.name).stem
    found = [r["Properties"] for _, r in environment.of_type("AWS::KinesisFirehose::DeliveryStream")]
    return {p["DeliveryStreamName"].removeprefix(f"{stem}-lake-").replace("-", "_"): p for p in found}


def queries(environment: Environment) -> dict[str, Resource]:
    return {
        r["Properties"]["Name"]: r["Properties"] for _, r in environment.of_type("AWS::Athena::NamedQuery")
    }


# How it gets there


def test_each_table_is_delivered_to_where_its_days_are_looked_for(in_aws: Environment) -> None:
    buckets = {i: r["Properties"]["BucketName"] for i, r in in_aws.of_type("AWS::S3::Bucket")}
    assert tables(in_aws).keys() == deliveries(in_aws).keys()
    for name, table in tables(in_aws).items():
        to = deliveries(in_aws)[name]["ExtendedS3DestinationConfiguration"]
        assert to["Prefix"] == f"{name}/!{{timestamp:yyyy/MM/dd/HH}}/"
        assert to["ErrorOutputPrefix"].startswith(f"failed/{name}/")
        given = table["Parameters"]
        bucket, _ = to["BucketARN"]["Fn::GetAtt"]
        assert flat(given["storage.location.template"]) == f"s3://{flat(buckets[bucket])}/{name}/${{day}}/"
        assert given["projection.enabled"] == "true"
        assert given["projection.day.format"] == "yyyy/MM/dd"
        assert [c["Name"] for c in table["PartitionKeys"]] == ["day"]
        assert to["CloudWatchLoggingOptions"]["Enabled"] is True
        assert "DataKeysData" in text(to["EncryptionConfiguration"])


def test_values_and_issues_are_parquet_in_the_columns_of_their_table(prod: Environment) -> None:
    ids = {r["Properties"]["TableInput"]["Name"]: i for i, r in prod.of_type("AWS::Glue::Table")}
    for name in ("official_values", "issues"):
        converted = deliveries(prod)[name]["ExtendedS3DestinationConfiguration"]
        conversion = converted["DataFormatConversionConfiguration"]
        assert conversion["Enabled"] is True
        assert conversion["SchemaConfiguration"]["TableName"] == {"Ref": ids[name]}
        assert converted["BufferingHints"]["SizeInMBs"] >= 64, "the least that Firehose converts"
        assert "Parquet" in tables(prod)[name]["StorageDescriptor"]["SerdeInfo"]["SerializationLibrary"]
    audit = deliveries(prod)["audit"]["ExtendedS3DestinationConfiguration"]
    assert "DataFormatConversionConfiguration" not in audit
    (processor,) = audit["ProcessingConfiguration"]["Processors"]
    assert processor["Type"] == "AppendDelimiterToRecord"
    assert audit["CompressionFormat"] == "GZIP"


def test_the_bus_sends_the_event_alone_and_an_issue_stays_in_order(prod: Environment) -> None:
    rules = {flat(r["Properties"].get("Name")): r["Properties"] for _, r in prod.of_type("AWS::Events::Rule")}
    for name, types in (("lake", VALUES), ("alerts", TOLD)):
        rule = rules[f"qis-prod-to-{name}"]
        (target,) = rule["Targets"]
        assert target["InputPath"] == "$.detail"
        wanted = [ev.cloud_event_type(t, ev.VERSIONS[t]) for t in types]
        assert rule["EventPattern"] == {"detail-type": wanted}
    assert rules["qis-prod-to-alerts"]["Targets"][0]["KinesisParameters"] == {
        "PartitionKeyPath": "$.detail.subject"
    }


def test_where_a_stream_is_off_its_table_is_too(dev: Environment, prod: Environment) -> None:
    assert tables(dev).keys() == {"official_values"}
    assert tables(prod).keys() == {"official_values", "issues", "audit"}
    assert "who_decided" in queries(prod)
    assert "who_decided" not in queries(dev)


def test_the_relay_puts_on_the_audit_stream_where_there_is_one(dev: Environment, prod: Environment) -> None:
    def audit(environment: Environment) -> Any:
        return environment.handlers()["relay"]["Environment"]["Variables"]["QIS_AUDIT_STREAM"]

    assert audit(dev) == ""
    assert "StreamsAudit" in text(audit(prod))


# What it can be asked


def test_no_client_can_read_more_or_write_answers_elsewhere_or_unencrypted(in_aws: Environment) -> None:
    lake = load(in_aws.name).lake
    assert lake is not None
    ((_, group),) = in_aws.of_type("AWS::Athena::WorkGroup")
    given = group["Properties"]["WorkGroupConfiguration"]
    assert given["EnforceWorkGroupConfiguration"] is True
    assert given["BytesScannedCutoffPerQuery"] == lake.query_scan_gib * 2**30
    result = given["ResultConfiguration"]
    assert result["EncryptionConfiguration"]["EncryptionOption"] == "SSE_KMS"
    assert "DataKeysData" in text(result["EncryptionConfiguration"]["KmsKey"])


def test_people_may_ask_in_the_workgroup_and_nowhere_else(prod: Environment) -> None:
    ((_, policy),) = ((i, r) for i, r in prod.of_type("AWS::IAM::ManagedPolicy") if "LakeQuestionsAsk" in i)
    statements = policy["Properties"]["PolicyDocument"]["Statement"]
    asked = next(s for s in statements if "athena:StartQueryExecution" in s["Action"])
    assert flat(asked["Resource"]).endswith("workgroup/qis-prod-lake")
    assert len(policy["Properties"]["Roles"]) == 4


class Lake:
    """Tables with the columns of a template, filled with events as they come in."""

    def __init__(self, environment: Environment, folder: Path) -> None:
        self._folder = folder
        self._tables = tables(environment)
        self._queries = queries(environment)
        self._db = duckdb.connect()

    def fill(self, name: str, events: Iterable[Any]) -> None:
        lines = self._folder / f"{name}.json"
        lines.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
        kinds = ", ".join(
            f"'{column['Name']}': '{exp.DataType.build(column['Type'], dialect='hive').sql('duckdb')}'"
            for column in self._tables[name]["StorageDescriptor"]["Columns"]
        )
        parquet = self._folder / f"{name}.parquet"
        read = f"read_json('{lines}', format = 'newline_delimited', columns = {{{kinds}}})"
        self._db.execute(f"COPY (SELECT * FROM {read}) TO '{parquet}'")
        self._db.execute(f"CREATE VIEW {name} AS SELECT *, '{DAY}' AS day FROM '{parquet}'")

    def ask(self, name: str, parameters: Sequence[str] = ()) -> list[dict[str, Any]]:
        asked = sqlglot.parse_one(self._queries[name]["QueryString"], dialect="athena")
        fixed = asked.transform(
            lambda node: (
                exp.cast(exp.Literal.string(TODAY), "date") if isinstance(node, exp.CurrentDate) else node
            )
        )
        answer = self._db.execute(fixed.sql("duckdb"), parameters)
        names = [column[0] for column in answer.description]
        return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]

    def whole(self, name: str) -> list[dict[str, Any]]:
        answer = self._db.execute(f"SELECT * FROM {name}")
        names = [column[0] for column in answer.description]
        return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]


def backbone(events: Iterable[ev.Event]) -> list[dict[str, Any]]:
    return [json.loads(backbone_record(event)[1]) for event in events]


@pytest.fixture
def corrected() -> list[ev.Event]:
    world = published(World(conflict="last-writer-wins"))
    correct(world, "1.1001", "ann")
    correct(world, "1.1003", "bob", seen=1)
    return list(world.store.log)


@pytest.fixture
def lake(prod: Environment, tmp_path: Path, corrected: list[ev.Event]) -> Lake:
    made = Lake(prod, tmp_path)
    values = [cloud_event(e) for e in backbone(e for e in corrected if e.type in VALUES)]
    made.fill("official_values", values + values[-1:])  # delivered again
    made.fill("audit", backbone(e for e in corrected if e.type not in MECHANICAL))
    return made


def test_an_event_survives_the_table_to_the_last_field(lake: Lake, corrected: list[ev.Event]) -> None:
    event = cloud_event(backbone(e for e in corrected if e.type in VALUES)[-1])
    assert event["data"]["conflict"]["overruled"], "the last correction has every field there is"
    restated = lake.whole("official_values")[-1]
    kept = {name: value for name, value in restated.items() if name in event}
    data = {name: value for name, value in restated["data"].items() if name in event["data"]}
    assert kept | {"data": data} == event


def test_corrections_are_counted_once_with_cause_and_size(lake: Lake) -> None:
    (found,) = lake.ask("corrections")
    assert (found["cause"], found["corrections"]) == ("correction", 2)
    assert str(found["largest_change"]) == "0.000200000000"


def test_what_was_known_at_a_moment_is_the_version_of_then(lake: Lake, corrected: list[ev.Event]) -> None:
    first, second, *_ = [e for e in corrected if e.type in VALUES]
    subject = [first.data["reference_data_id"], first.data["snap"]]
    before = (second.recorded_at - timedelta(microseconds=1)).isoformat()
    (known,) = lake.ask("as_known", [*subject, before])
    assert (known["value"], known["official_version"]) == (first.data["value"], 1)
    (known,) = lake.ask("as_known", [*subject, second.recorded_at.isoformat()])
    assert (known["value"], known["official_version"], known["cause"]) == ("1.1001", 2, "correction")


def test_sources_and_scores_of_the_week(lake: Lake, corrected: list[ev.Event]) -> None:
    used = lake.ask("sources_used")
    wanted = [e for e in corrected if e.type in VALUES and "alpha" in e.data["sources"]]
    assert [(u["source"], u["official_values"], u["day"]) for u in used] == [("alpha", len(wanted), DAY)]
    (scored,) = lake.ask("low_scores")
    composites = [float(e.data["quality"]["composite"]) for e in corrected if e.type in VALUES]
    assert float(scored["mean_quality"]) == pytest.approx(sum(composites) / len(composites))
    assert scored["official_values"] == len(composites)


def test_who_decided_what_leaves_out_the_product_itself(lake: Lake) -> None:
    assert [(r["actor"], r["type"], r["decisions"]) for r in lake.ask("who_decided")] == [
        ("ann", ev.DATA_RESTATED, 1),
        ("bob", ev.DATA_RESTATED, 1),
    ]


def test_how_long_issues_were_open(prod: Environment, tmp_path: Path) -> None:
    world = Watched()
    world.found("a")
    world.at(timedelta(minutes=5))
    world.desk.triage(world.issue(), "known outage", "ann", "c")
    world.resolved("a")
    world.at(timedelta(hours=9))
    events = [cloud_event(e) for e in backbone(e for e in world.store.log if e.type in TOLD)]
    made = Lake(prod, tmp_path)
    made.fill("issues", events + events)
    (found,) = made.ask("issue_times")
    assert (found["issues"], found["escalated"]) == (1, 1)
    assert found["mean_minutes"] == found["longest_minutes"] == 540


def test_a_document_as_value_is_its_text(
    prod: Environment, tmp_path: Path, corrected: list[ev.Event]
) -> None:
    event = cloud_event(backbone([e for e in corrected if e.type in VALUES][:1])[0])
    document = {"coupon": "5.250000000000000001", "legs": [{"at": "2026-01-05"}]}
    made = Lake(prod, tmp_path)
    made.fill("official_values", [event | {"data": {**event["data"], "value": document}}])
    (row,) = made.whole("official_values")
    assert json.loads(row["data"]["value"]) == document


def test_every_named_query_was_asked_here(prod: Environment) -> None:
    asked = {"corrections", "as_known", "sources_used", "low_scores", "who_decided", "issue_times"}
    assert queries(prod).keys() == asked
    assert all(len(q["Description"]) > 30 and "--" not in q["Description"] for q in queries(prod).values())


def test_a_definition_that_no_table_can_hold_is_refused() -> None:
    with pytest.raises(ColumnError, match="has no column type"):
        hive(float)
    with pytest.raises(ColumnError, match="has no column type"):
        hive(str | int)
    one = columns(VALUES[ev.DATA_PUBLISHED])
    assert merged(VALUES.values()).items() >= one.items()
