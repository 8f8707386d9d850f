"""Records that the Kinesis Producer Library packed together come out one by one, or stay as they are."""

from __future__ import annotations

import json
from collections import Counter
from hashlib import md5
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdas.ingest import handler as ingest
from qis.adapters.aggregates import user_records
from qis.application.ingest import Delivery, decode
from qis.domain.errors import InvalidInput
from tests.support.builders import aggregate, kinesis_event
from tests.support.lambdas import Context, set_powertools

MAGIC = b"\xf3\x89\x9a\xc2"


def sealed(message: bytes) -> bytes:
    """A message as an aggregate, whatever it says."""
    return MAGIC + message + md5(message, usedforsecurity=False).digest()


KEY = b"\x0a\x03key"
"""A partition key in the table of a message."""


@given(records=st.lists(st.binary(max_size=300), min_size=1, max_size=20))
def test_the_records_of_an_aggregate_come_out_in_order(records: list[bytes]) -> None:
    assert user_records(aggregate(records)) == records


@given(data=st.binary(max_size=100))
def test_any_other_record_stays_as_it_is(data: bytes) -> None:
    assert user_records(data) is None


@given(message=st.binary(max_size=60))
def test_a_message_of_any_form_is_taken_apart_or_left_whole(message: bytes) -> None:
    found = user_records(sealed(KEY + message))
    assert found is None or all(isinstance(record, bytes) for record in found)


@given(records=st.lists(st.binary(max_size=30), min_size=1, max_size=3), data=st.data())
def test_a_damaged_aggregate_is_left_whole(records: list[bytes], data: st.DataObject) -> None:
    whole = bytearray(aggregate(records))
    at = data.draw(st.integers(4, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    assert user_records(bytes(whole)) is None
    assert user_records(aggregate(records)[:at]) is None


@pytest.mark.parametrize(
    "message",
    [
        b"",
        KEY,
        b"\x1a\x05\x08\x00\x1a\x01x",  # a record without a table of keys
        KEY + b"\x1a\x05\x08\x01\x1a\x01x",  # its key is not in the table
        KEY + b"\x1a\x02\x08\x00",  # no data
        KEY + b"\x1a\x03\x1a\x01x",  # no key
        KEY + b"\x18\x05",  # a number where a record belongs
        KEY + b"\x1a\x06\x0a\x01k\x1a\x01x",  # bytes where the number of a key belongs
        KEY + b"\x1a\x7f\x08\x00",  # longer than the message
        KEY + b"\x1a\xff",  # a length without end
        KEY + b"\x1b",  # a group
        KEY + b"\x02\x00",  # field 0
        KEY + b"\x1a\x05\x08\x00\x1a\x01x" + b"\xff" * 11,
    ],
)
def test_a_message_of_another_form_is_left_whole(message: bytes) -> None:
    assert user_records(sealed(message)) is None


def test_fields_of_later_versions_are_skipped() -> None:
    record = b"\x08\x00\x22\x02\x0a\x00\x1a\x01x"  # with a tag
    message = KEY + b"\x12\x01h" + b"\x1a" + bytes([len(record)]) + record
    assert user_records(sealed(message + b"\x4d\x00\x00\x00\x00\x51" + b"\x00" * 8 + b"\x58\x07")) == [b"x"]


def test_a_damaged_aggregate_is_refused_as_one() -> None:
    with pytest.raises(InvalidInput) as refusal:
        decode(aggregate([b"{}"])[:-1])
    assert [v.rule for v in refusal.value.violations] == ["aggregate"]


class Taken:
    """Remembers the batches that it took; the second of a run fails where that is asked for."""

    def __init__(self) -> None:
        self.batches: list[list[Delivery]] = []
        self.fails_at = 0

    def deliveries(self, batch: list[Delivery]) -> dict[str, int]:
        self.batches.append(list(batch))
        if len(self.batches) == self.fails_at:
            raise ConnectionError("no database")
        return Counter(accepted=len(batch))


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Taken:
    set_powertools(monkeypatch, ingest)
    found = Taken()
    app = SimpleNamespace(ingest=found, database=SimpleNamespace())
    monkeypatch.setattr(ingest, "bootstrap", lambda: app)
    return found


def handle(event: dict[str, Any]) -> Any:
    return ingest.handler(event, Context())  # type: ignore[arg-type] # a stand-in of the context


class TestHandler:
    def test_each_record_of_an_aggregate_is_a_delivery_with_an_identity_of_its_own(
        self, taken: Taken, capsys: pytest.CaptureFixture[str]
    ) -> None:
        event = kinesis_event([b"a", aggregate([b"b", b"c"]), b"d"])
        assert handle(event) == {"batchItemFailures": []}
        (batch,) = taken.batches
        ids = [record["eventID"] for record in event["Records"]]
        assert [(d.record_id, d.payload) for d in batch] == [
            (ids[0], b"a"),
            (f"{ids[1]}/0", b"b"),
            (f"{ids[1]}/1", b"c"),
            (ids[2], b"d"),
        ]
        assert len({d.load_id for d in batch}) == 1
        (counted,) = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "Accepted" in line]
        assert counted["RecordsAccepted"] == [4.0]

    def test_a_redelivery_brings_the_same_identities(self, taken: Taken) -> None:
        event = kinesis_event([aggregate([b"b", b"c"])])
        handle(event)
        handle(event)
        assert taken.batches[0] == taken.batches[1]

    def test_an_aggregate_that_is_put_back_keeps_the_identities_of_its_records(self, taken: Taken) -> None:
        event = kinesis_event([aggregate([b"b"])])
        event["Records"][0]["kinesis"]["partitionKey"] = "redrive:old"
        handle(event)
        assert [(d.record_id, d.redriven) for d in taken.batches[0]] == [("old/0", True)]

    def test_more_records_than_a_transaction_takes_are_several_and_a_failure_is_of_all(
        self, taken: Taken, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ingest, "MAX_BATCH", 3)
        event = kinesis_event([aggregate([b"%d" % n for n in range(7)])])
        handle(event)
        assert [len(batch) for batch in taken.batches] == [3, 3, 1]
        taken.fails_at = 5
        with pytest.warns(UserWarning, match="No application metrics"), pytest.raises(ConnectionError):
            handle(event)
