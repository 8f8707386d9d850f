"""Raw payloads on their way: packed so that nobody can mistake them, and moved until they are there."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qis.application.ports import Unavailable
from qis.application.raw import BATCHES, RawBatch, move, pack
from tests.support.fakes import MemoryEventStore, MemoryRawOutbox, MemoryRawStore
from tests.support.raw import unpack

PAYLOADS = st.lists(st.binary(max_size=40), max_size=6)


@given(PAYLOADS)
def test_payloads_come_back_byte_for_byte(payloads: list[bytes]) -> None:
    assert unpack(pack(payloads, "s3://raw").body) == payloads


@given(PAYLOADS, PAYLOADS)
def test_two_batches_have_one_address_only_if_they_are_the_same(one: list[bytes], other: list[bytes]) -> None:
    assert (pack(one, "s3://raw") == pack(other, "s3://raw")) == (one == other)
    assert (pack(one, "s3://raw").address == pack(other, "s3://raw").address) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([b"ab", b"c"], [b"a", b"bc"]),
        ([b"a", b"b"], [b"b", b"a"]),
        ([b"a"], [b"a", b""]),
        ([b"a\nb"], [b"a", b"b"]),
    ],
)
def test_cuts_and_order_make_another_batch(one: list[bytes], other: list[bytes]) -> None:
    assert pack(one, "s3://raw").address != pack(other, "s3://raw").address


def test_whoever_opens_it_sees_what_came() -> None:
    body = gzip.decompress(pack([b'{"value":"1.10"}', b"poison"], "s3://raw").body)
    assert body.splitlines() == [b"[16,6]", b'{"value":"1.10"}', b"poison"]


def test_batches_move_the_oldest_first_some_at_a_time() -> None:
    store, raw = MemoryEventStore(), MemoryRawStore()
    batches = [RawBatch(f"s3://raw/{n}", b"") for n in range(BATCHES + 3)]
    store.raw = {b.address: b for b in batches}
    outbox = MemoryRawOutbox(store)
    assert [move(outbox, raw) for _ in range(3)] == [BATCHES, 3, 0]
    assert list(raw.bodies) == [b.address for b in batches]


def test_what_the_raw_store_does_not_take_waits() -> None:
    class Away(MemoryRawStore):
        def put(self, batches: object) -> None:
            raise Unavailable("away")

    store = MemoryEventStore()
    store.raw = {"s3://raw/1": RawBatch("s3://raw/1", b"")}
    with pytest.raises(Unavailable):
        move(MemoryRawOutbox(store), Away())
    assert list(store.raw) == ["s3://raw/1"]
