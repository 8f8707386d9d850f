"""``qis recover`` on a real store and a real stream."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import pytest
from cli_system import RunCli

from local.aws import AwsServer
from local.processes import wait_until
from qis.adapters.aws.services import KinesisBackbone
from qis.adapters.postgres.event_store import PostgresEventStore
from qis.adapters.postgres.followers import PostgresFollower
from qis.application.relay import backbone_record
from qis.domain.events import START
from tests.support.builders import published, snap, value_append
from tests.support.databases import FreshDatabase, Template


@pytest.fixture
def stream(database: FreshDatabase, aws_variables: AwsServer) -> Iterator[str]:
    """A stream of two shards with the events of ten values."""
    kinesis, name = aws_variables.client("kinesis"), f"recover-{uuid.uuid4().hex[:8]}"
    kinesis.create_stream(StreamName=name, ShardCount=2)

    def active() -> bool:
        summary = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
        return bool(summary["StreamStatus"] == "ACTIVE")

    wait_until(active, "the stream is not active", 10)
    store = PostgresEventStore(database.app)
    for n in range(10):
        assert not store.append([value_append(0, published(f"1.{n}", snap(n), reference_data_id=f"S{n}"))])
    with database.connect() as connection:
        events = PostgresFollower(connection, "test").read(START, 100)
    KinesisBackbone(kinesis, name, time.sleep).put([backbone_record(event) for event in events])
    yield name
    kinesis.delete_stream(StreamName=name)


def dsn(database: FreshDatabase) -> str:
    target = database.owner
    return f"host={target.host} port={target.port} dbname={target.database} user={target.user}"


def test_what_a_restored_store_lacks_comes_back_from_the_stream(
    database: FreshDatabase, stream: str, run_cli: RunCli
) -> None:
    with database.connect() as connection:
        for table in ("events", "stream_heads"):
            found = connection.execute(f"DELETE FROM {table} WHERE stream LIKE 'value:S7@%'")
            assert found.rowcount == 1
        for table in ("official_values", "decisions"):
            assert connection.execute(f"DELETE FROM {table} WHERE reference_data_id = 'S7'").rowcount == 1
    done = run_cli("recover", "--stream", stream, "--dsn", dsn(database), "--json")
    assert (done.status, done.document["known"], done.document["given_back"]) == (0, 9, 1), done.err
    with database.connect() as connection:
        query = "SELECT value::text FROM official_values WHERE reference_data_id = 'S7'"
        assert connection.execute(query).fetchall() == [("1.7",)]


def test_an_empty_store_was_not_restored(stream: str, template: Template, run_cli: RunCli) -> None:
    empty = template.fresh()
    try:
        done = run_cli("recover", "--stream", stream, "--dsn", dsn(empty), "--json")
    finally:
        empty.close()
    assert done.status == 1
    assert done.document["title"] == "Nothing was restored"


def test_a_store_that_does_not_answer_is_told(run_cli: RunCli) -> None:
    done = run_cli("recover", "--stream", "any", "--dsn", "host=127.0.0.1 port=1 dbname=qis", "--json")
    assert (done.status, done.document["title"]) == (1, "PostgreSQL does not answer")
