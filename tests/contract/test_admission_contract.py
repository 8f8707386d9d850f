"""How claims enter the log: one suite, run against the admissions in memory and those on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from qis.adapters.postgres.admission import PostgresAdmissions
from qis.adapters.postgres.event_store import PostgresEventStore
from qis.adapters.postgres.raw import PostgresRawOutbox
from qis.application.ports import Admissions, Candidate, EventStore, RawOutbox, RecordOutcome, Rejection
from qis.application.raw import RawBatch
from qis.domain import events as ev
from qis.domain.claims import Claim
from tests.support.builders import claim, ingested, published, reconciled, snap, value_append
from tests.support.fakes import MemoryAdmissions, MemoryEventStore, MemoryRawOutbox

Counts = dict[str, int]


@dataclass(frozen=True, slots=True)
class World:
    """Admissions, the log that they lead to, and what is counted per load."""

    admissions: Admissions
    store: EventStore
    counts: Callable[[str], Counts]
    raw: RawOutbox

    def take(self, *candidates: Candidate, rejected: Sequence[Rejection] = ()) -> list[str]:
        """What becomes of each candidate, in order; all is counted."""
        batch = [c._replace(place=place) for place, c in enumerate(candidates)]
        with self.admissions.open() as admission:
            admission.take([c.stream for c in batch])
            known: Mapping[int, str] = admission.store(batch).known
            admission.count(rejected)
        return [known.get(c.place, "accepted") for c in batch]

    def stream(self, name: str) -> list[tuple[int, str, str]]:
        """Version, type and record of each event."""
        loaded = self.store.load([name])
        return (
            [(e.version, e.type, e.data.get("record_id", "")) for e in loaded[name].events] if loaded else []
        )


def in_memory() -> World:
    store = MemoryEventStore()
    none = {"accepted": 0, "duplicate": 0, "rejected": 0}
    counts = lambda load: store.ledger.loads.get(load, none)  # noqa: E731
    return World(MemoryAdmissions(store), store, counts, MemoryRawOutbox(store))


def on_postgres(request: pytest.FixtureRequest) -> World:
    database = request.getfixturevalue("database")

    def counts(load: str) -> Counts:
        row = database.app.connect().execute(
            "SELECT accepted, duplicates, rejected FROM loads WHERE load_id = %s", (load,)
        )
        found = row.fetchone() or (0, 0, 0)
        return dict(zip(("accepted", "duplicate", "rejected"), found, strict=True))

    admissions, store = PostgresAdmissions(database.app), PostgresEventStore(database.app)
    return World(admissions, store, counts, PostgresRawOutbox(database.app))


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.integration)])
def world(request: pytest.FixtureRequest) -> World:
    return in_memory() if request.param == "memory" else on_postgres(request)


def candidate(
    record: str, of: Claim | None = None, load: str = "load", *, redriven: bool = False
) -> Candidate:
    of = of or claim()
    stream = ev.value_stream(of.reference_data_id, of.snap.text)
    return Candidate(of, stream, record, load, f"feed:{of.source}", "s3://raw/1", 0, redriven)


STREAM = candidate("any").stream
LATER = candidate("any", claim(at=snap(1)))
INGESTED = ev.DATA_INGESTED


# taking ------------------------------------------------------------------------------------------


def test_a_new_claim_is_an_event_that_names_its_record_load_feed_and_raw_payload(world: World) -> None:
    assert world.take(LATER, candidate("r1", load="file-3")) == ["accepted", "accepted"]
    (event,) = world.store.load([STREAM])[STREAM].events
    assert (event.type, event.version, event.actor, event.correlation_id) == (
        INGESTED,
        1,
        "feed:alpha",
        "file-3",
    )
    assert event.data == {
        **claim().as_json(),
        "record_id": "r1",
        "raw": {"uri": "s3://raw/1", "index": 1},
    }


def test_a_claim_that_its_stream_holds_is_a_duplicate_or_of_the_same_record_a_redelivery(
    world: World,
) -> None:
    world.take(candidate("r1"))
    assert world.take(candidate("r2"), candidate("r1"), candidate("r3", claim("beta"))) == [
        "duplicate",
        "redelivered",
        "accepted",
    ]
    assert world.stream(STREAM) == [(1, INGESTED, "r1"), (2, INGESTED, "r3")]
    assert world.store.versions([STREAM]) == {STREAM: 2}


def test_a_claim_twice_in_a_piece_enters_once(world: World) -> None:
    assert world.take(candidate("r1"), candidate("r2"), candidate("r1")) == [
        "accepted",
        "duplicate",
        "redelivered",
    ]
    assert world.store.versions([STREAM]) == {STREAM: 1}


def test_a_batch_of_known_claims_leaves_versions_where_they_are(world: World) -> None:
    world.take(candidate("r1"), candidate("r2", claim("beta")), LATER)
    before = dict(world.store.versions([STREAM, LATER.stream]))
    world.take(candidate("r1"), candidate("r2", claim("beta")), LATER)
    assert world.store.versions([STREAM, LATER.stream]) == before
    assert not world.store.append([value_append(2, reconciled("official", "1.1"))]), "nobody lost the stream"


def test_claims_join_a_stream_behind_its_other_events(world: World) -> None:
    alpha = claim("alpha")
    first = value_append(0, ingested(alpha, "r1"), reconciled("official", "1.1"), published("1.1"))
    assert not world.store.append([first])
    assert world.take(candidate("r9", alpha), candidate("r2", claim("beta"))) == ["duplicate", "accepted"]
    assert [v for v, *_ in world.stream(first.stream)] == [1, 2, 3, 4]
    assert world.stream(first.stream)[-1] == (4, INGESTED, "r2")


def test_a_stream_without_claims_has_a_version_all_the_same(world: World) -> None:
    world.store.append([value_append(0, reconciled("insufficient", None), reconciled("insufficient", None))])
    assert world.take(candidate("r1")) == ["accepted"]
    assert world.stream(STREAM)[-1] == (3, INGESTED, "r1")


def test_claims_on_one_snap_keep_their_order(world: World) -> None:
    mine = [candidate(f"r{n}", claim(value=f"1.{n}")) for n in range(1, 9)]
    assert set(world.take(*mine)) == {"accepted"}
    assert world.stream(STREAM) == [(n, INGESTED, f"r{n}") for n in range(1, 9)]


def test_a_claim_has_one_identity_and_its_event_the_same(world: World) -> None:
    world.take(candidate("r1"))
    (event,) = world.store.load([STREAM])[STREAM].events
    assert event.data["claim_id"] == claim().claim_id
    if isinstance(world.store, PostgresEventStore):
        assert event.event_id.hex == claim().claim_id


def test_streams_that_no_claim_enters_are_as_they_were(world: World) -> None:
    """They were taken for records that turned out to be no claims."""
    world.take(candidate("r1"))
    with world.admissions.open() as admission:
        admission.take([STREAM, STREAM, LATER.stream, LATER.stream, "value:NOTHING@x"])
        assert not admission.store([LATER]).known
        admission.count([])
    assert world.store.versions([STREAM, LATER.stream, "value:NOTHING@x"]) == {STREAM: 1, LATER.stream: 1}
    assert not world.store.append([value_append(1, reconciled("official", "1.1"))]), "nobody lost the stream"
    assert world.take(candidate("r2", claim("beta")), candidate("r3", claim("beta", at=snap(1)))) == [
        "accepted",
        "accepted",
    ]
    assert [v for v, *_ in world.stream(LATER.stream)] == [1, 2]


@pytest.mark.parametrize("stored", [False, True])
def test_an_admission_that_ends_with_an_error_leaves_nothing(world: World, stored: bool) -> None:
    def fail() -> None:
        with world.admissions.open() as admission:
            admission.take([STREAM, LATER.stream])
            admission.keep(RawBatch("s3://raw/1", b"payloads"))
            if stored:
                admission.store([candidate("r1"), LATER])
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert world.store.versions([STREAM, LATER.stream]) == {}
    assert not world.raw.waiting(10)
    assert world.take(candidate("r1")) == ["accepted"], "and the next one is not disturbed"


def test_nothing_to_take_is_nothing(world: World) -> None:
    assert world.take() == []


@pytest.mark.parametrize("text", ["tab\there", "line\nbreak", "back\\slash", 'quo"te', "Ünïcode"])
def test_names_come_back_as_they_were(world: World, text: str) -> None:
    world.take(candidate("r1", load=text)._replace(actor=text, record_id=text))
    (event,) = world.store.load([STREAM])[STREAM].events
    assert (event.actor, event.correlation_id, event.data["record_id"]) == (text, text, text)


# receipts ----------------------------------------------------------------------------------------


def keep_receipt(world: World, actor: str, key: str | None, request_hash: bytes, number: int) -> None:
    with world.admissions.open() as admission:
        if key is not None:
            assert admission.find_receipt(actor, key) is None
        admission.keep_receipt(uuid4(), actor, key, request_hash, {"n": number})


def found_receipt(world: World, actor: str, key: str) -> tuple[bytes, dict[str, Any]] | None:
    with world.admissions.open() as admission:
        return admission.find_receipt(actor, key)


def test_an_answer_is_found_under_its_key(world: World) -> None:
    assert found_receipt(world, "ann", "key") is None
    keep_receipt(world, "ann", "key", b"\x00one", 1)
    assert found_receipt(world, "ann", "key") == (b"\x00one", {"n": 1})


def test_keys_are_those_of_their_actor_and_may_be_left_out(world: World) -> None:
    keep_receipt(world, "ann", "key", b"one", 1)
    assert found_receipt(world, "bob", "key") is None
    keep_receipt(world, "bob", "key", b"two", 2)
    for number in (3, 4):
        keep_receipt(world, "ann", None, b"three", number)
    assert found_receipt(world, "ann", "key") == (b"one", {"n": 1})
    assert found_receipt(world, "bob", "key") == (b"two", {"n": 2})


def test_an_admission_that_ends_with_an_error_leaves_its_key(world: World) -> None:
    def fail() -> None:
        with world.admissions.open() as admission:
            admission.keep_receipt(uuid4(), "ann", "key", b"one", {"n": 1})
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert found_receipt(world, "ann", "key") is None


# raw payloads ------------------------------------------------------------------------------------


def test_raw_payloads_wait_with_their_claims_until_they_are_moved(world: World) -> None:
    first, second = RawBatch("s3://raw/1", b"one\x00"), RawBatch("s3://raw/2", b"two")
    for raw in (first, second, first):
        with world.admissions.open() as admission:
            admission.take([])
            admission.keep(raw)
            admission.store([])
            admission.count([])
    assert world.raw.waiting(10) == 2
    assert world.raw.waiting(1) == 1
    assert list(world.raw.oldest(10, 10**6)) == [first, second]
    assert list(world.raw.oldest(1, 10**6)) == [first]
    assert list(world.raw.oldest(10, len(first.body) + len(second.body) - 1)) == [first]
    assert list(world.raw.oldest(10, 1)) == [first], "one is never too many"
    world.raw.drop([first.address, "s3://raw/unknown"])
    assert list(world.raw.oldest(10, 10**6)) == [second]


# counting ----------------------------------------------------------------------------------------


def other(record: str, load: str = "load", **more: bool) -> Candidate:
    """A claim that no other record brings."""
    return candidate(record, claim(value=f"1.{sum(map(ord, record)):06d}"), load, **more)


def rejected(record: str, load: str = "load", **more: bool) -> Rejection:
    violation = {"field": "value", "value": "x", "rule": "decimal", "message": "is not"}
    return Rejection(record, load, [violation], b"\x00\xff{", **more)


def test_each_outcome_is_counted_under_its_load(world: World) -> None:
    again = other("3")._replace(claim=other("1").claim)
    world.take(other("1"), other("2", "other"), again, rejected=[rejected("4"), rejected("5")])
    assert world.counts("load") == {"accepted": 1, "duplicate": 1, "rejected": 2}
    assert world.counts("other") == {"accepted": 1, "duplicate": 0, "rejected": 0}


def test_a_redelivered_duplicate_or_rejection_is_counted_once(world: World) -> None:
    again = other("2")._replace(claim=other("1").claim)
    for _ in range(3):
        world.take(other("1"), again, rejected=[rejected("3"), rejected("3")])
    assert world.counts("load") == {"accepted": 1, "duplicate": 1, "rejected": 1}


def test_a_redriven_record_moves_from_rejected_to_accepted(world: World) -> None:
    world.take(rejected=[rejected("1", "load"), rejected("2", "load")])
    world.take(other("1", redriven=True))
    assert world.counts("load") == {"accepted": 1, "duplicate": 0, "rejected": 1}


def test_a_redriven_record_moves_from_the_load_that_it_was_rejected_in(world: World) -> None:
    world.take(rejected=[rejected("1", "yesterday")])
    world.take(other("1", "today", redriven=True))
    assert world.counts("yesterday")["rejected"] == 0
    assert world.counts("today")["accepted"] == 1


def test_a_redriven_record_that_is_a_duplicate_now_moves_there(world: World) -> None:
    world.take(other("1"), rejected=[rejected("2")])
    assert world.take(other("2", redriven=True)._replace(claim=other("1").claim)) == ["duplicate"]
    assert world.counts("load") == {"accepted": 1, "duplicate": 1, "rejected": 0}


def test_a_redelivered_record_that_is_accepted_now_moves_from_rejected_to_accepted(world: World) -> None:
    """What it lacked was registered in between, and the batch was delivered again."""
    world.take(rejected=[rejected("1"), rejected("2")])
    world.take(other("1"))
    assert world.counts("load") == {"accepted": 1, "duplicate": 0, "rejected": 1}


def test_a_redriven_record_that_is_rejected_again_counts_once(world: World) -> None:
    world.take(rejected=[rejected("1")])
    for _ in range(2):
        world.take(rejected=[rejected("1", redriven=True)])
    assert world.counts("load") == {"accepted": 0, "duplicate": 0, "rejected": 1}


# outcomes that stand -----------------------------------------------------------------------------


def standing(world: World, *candidates: Candidate, rejected: Sequence[Rejection]) -> dict[str, RecordOutcome]:
    """Outcomes on record of the rejected; their records are all for one stream."""
    with world.admissions.open() as admission:
        admission.take([STREAM, *(c.stream for c in candidates)])
        admission.store([c._replace(place=place) for place, c in enumerate(candidates)])
        return dict(admission.count(rejected))


@pytest.mark.parametrize("redriven", [False, True])
def test_an_accepted_record_that_would_be_rejected_now_stays_accepted(world: World, redriven: bool) -> None:
    world.take(candidate("1"))
    for _ in range(2):
        found = standing(world, rejected=[rejected("1", redriven=redriven), rejected("2")])
        assert found["1"] == RecordOutcome("accepted", claim().claim_id, STREAM)
        assert found["2"].outcome == "rejected"
    assert world.counts("load") == {"accepted": 1, "duplicate": 0, "rejected": 1}


@pytest.mark.parametrize("redriven", [False, True])
def test_a_duplicate_that_would_be_rejected_now_stays_a_duplicate(world: World, redriven: bool) -> None:
    world.take(candidate("1"), candidate("2"))
    for _ in range(2):
        found = standing(world, rejected=[rejected("2", redriven=redriven)])
        assert found == {"2": RecordOutcome("duplicate", claim().claim_id)}
    assert world.counts("load") == {"accepted": 1, "duplicate": 1, "rejected": 0}


def test_the_first_reason_of_a_rejection_stands_until_it_is_redriven(world: World) -> None:
    other_reason = [{"field": "source", "value": "a", "rule": "active-source", "message": "is paused"}]
    first, second = rejected("1"), rejected("1")._replace(violations=other_reason)
    for _ in range(2):
        assert standing(world, rejected=[first])["1"].violations == first.violations
        assert standing(world, rejected=[second])["1"].violations == first.violations
    assert standing(world, rejected=[second._replace(redriven=True)])["1"].violations == other_reason
    assert world.counts("load") == {"accepted": 0, "duplicate": 0, "rejected": 1}


def test_of_two_rejections_of_one_record_in_a_batch_the_first_stands(world: World) -> None:
    second = rejected("1")._replace(violations=[])
    assert standing(world, rejected=[rejected("1"), second])["1"].violations == rejected("1").violations
    assert world.counts("load") == {"accepted": 0, "duplicate": 0, "rejected": 1}


def test_a_record_that_is_accepted_and_rejected_in_one_batch_is_accepted(world: World) -> None:
    found = standing(world, candidate("1"), LATER, rejected=[rejected("1"), rejected(LATER.record_id)])
    assert [s.outcome for s in found.values()] == ["accepted", "accepted"]
    assert found[LATER.record_id].stream == LATER.stream
    assert world.counts("load") == {"accepted": 2, "duplicate": 0, "rejected": 0}


def test_a_record_that_is_a_duplicate_and_rejected_in_one_batch_is_a_duplicate(world: World) -> None:
    world.take(candidate("0"))
    assert standing(world, candidate("1"), rejected=[rejected("1")])["1"].outcome == "duplicate"
    assert world.counts("load") == {"accepted": 1, "duplicate": 1, "rejected": 0}


def test_a_record_with_a_claim_of_its_own_and_a_known_one_is_accepted_and_counted_once(world: World) -> None:
    world.take(candidate("0"))
    for outcomes in (["redelivered", "accepted"], ["redelivered", "redelivered"]):
        assert world.take(candidate("1"), candidate("1", claim(value="1.2"))) == outcomes
    assert world.counts("load") == {"accepted": 2, "duplicate": 0, "rejected": 0}


def untimed(record_id: str, value: str, source: str = "alpha") -> Candidate:
    """A claim without a time of reception."""
    return candidate(record_id, claim(source, value, received=None))


def test_a_claim_that_is_taken_back_and_made_once_more_enters_once_more(world: World) -> None:
    assert world.take(untimed("r1", "1.1")) == ["accepted"]
    assert world.take(untimed("r2", "1.1")) == ["duplicate"]
    assert world.take(untimed("r3", "1.2"), untimed("r4", "1.1", "beta")) == ["accepted", "accepted"]
    assert world.take(untimed("r5", "1.1"), untimed("r6", "1.1")) == ["accepted", "duplicate"]
    assert world.take(untimed("r5", "1.1"), untimed("r3", "1.2"), untimed("r1", "1.1")) == ["redelivered"] * 3
    assert world.take(untimed("r7", "1.2"), untimed("r8", "1.1"), untimed("r9", "1.2")) == ["accepted"] * 3
    stream = untimed("r", "1").stream
    claims = [e.data["claim_id"] for e in world.store.load([stream])[stream].events]
    assert len(claims) == len(set(claims)) == 7


def test_the_same_claim_with_its_time_of_reception_is_a_duplicate_whatever_came_between(world: World) -> None:
    first, other = claim(value="1.1", received=60), claim(value="1.2", received=90)
    assert world.take(candidate("r1", first), candidate("r2", other)) == ["accepted"] * 2
    assert world.take(candidate("r3", first)) == ["duplicate"]
