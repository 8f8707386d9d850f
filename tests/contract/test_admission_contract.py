"""How claims enter the log: one suite, run against the admissions in memory and those on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from qis.adapters.postgres.admission import PostgresAdmissions
from qis.adapters.postgres.event_store import PostgresEventStore
from qis.application.ports import Admissions, Candidate, EventStore, Fate, Outcome
from qis.domain import events as ev
from qis.domain.claims import Claim
from tests.support.builders import claim, ingested, published, reconciled, snap, value_append
from tests.support.fakes import MemoryAdmissions, MemoryEventStore

Counts = dict[str, int]


@dataclass(frozen=True, slots=True)
class World:
    """Admissions, the log that they lead to, and what is counted per load."""

    admissions: Admissions
    store: EventStore
    counts: Callable[[str], Counts]

    def take(self, *candidates: Candidate) -> Sequence[Fate]:
        with self.admissions.open() as admission:
            admission.take(candidates)
            return admission.store()

    def count(self, *outcomes: Outcome) -> None:
        with self.admissions.open() as admission:
            admission.count(outcomes)

    def stream(self, name: str) -> list[tuple[int, str, str]]:
        """Version, type and record of each event."""
        loaded = self.store.load([name])
        return (
            [(e.version, e.type, e.data.get("record_id", "")) for e in loaded[name].events] if loaded else []
        )


def in_memory() -> World:
    store = MemoryEventStore()
    none = {"accepted": 0, "duplicate": 0, "rejected": 0}
    return World(MemoryAdmissions(store), store, lambda load: store.loads.get(load, none))


def on_postgres(request: pytest.FixtureRequest) -> World:
    database = request.getfixturevalue("database")

    def counts(load: str) -> Counts:
        row = database.app.connect().execute(
            "SELECT accepted, duplicates, rejected FROM loads WHERE load_id = %s", (load,)
        )
        found = row.fetchone() or (0, 0, 0)
        return dict(zip(("accepted", "duplicate", "rejected"), found, strict=True))

    return World(PostgresAdmissions(database.app), PostgresEventStore(database.app), counts)


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.integration)])
def world(request: pytest.FixtureRequest) -> World:
    return in_memory() if request.param == "memory" else on_postgres(request)


def candidate(record: str, of: Claim | None = None, place: int = 0, load: str = "load") -> Candidate:
    of = of or claim()
    stream = ev.value_stream(of.reference_data_id, of.snap.text)
    return Candidate(of, stream, record, load, f"feed:{of.source}", "s3://raw/1", place)


STREAM = candidate("any").stream
LATER = candidate("any", claim(at=snap(1)))
INGESTED = ev.DATA_INGESTED


# taking ------------------------------------------------------------------------------------------


def test_a_new_claim_is_an_event_that_names_its_record_load_feed_and_raw_payload(world: World) -> None:
    assert world.take(candidate("r1", place=7, load="file-3")) == ["accepted"]
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
        "raw": {"uri": "s3://raw/1", "index": 7},
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


def test_pieces_are_one_transaction(world: World) -> None:
    other = candidate("r2", claim(at=snap(1)))
    with world.admissions.open() as admission:
        for piece in ([candidate("r1")], [], [other]):
            admission.take(piece)
        assert admission.store() == ["accepted", "accepted"]
        admission.count([Outcome("r1", "load", "accepted"), Outcome("r2", "load", "accepted")])
    assert world.stream(STREAM) == [(1, INGESTED, "r1")]
    assert world.stream(other.stream) == [(1, INGESTED, "r2")]
    assert world.counts("load")["accepted"] == 2


@pytest.mark.parametrize("stored", [False, True])
def test_an_admission_that_ends_with_an_error_leaves_nothing(world: World, stored: bool) -> None:
    def fail() -> None:
        with world.admissions.open() as admission:
            admission.take([candidate("r1")])
            admission.take([LATER])
            if stored:
                admission.store()
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert world.store.versions([STREAM, LATER.stream]) == {}
    assert world.take(candidate("r1")) == ["accepted"], "and the next one is not disturbed"


def test_nothing_to_take_is_nothing(world: World) -> None:
    assert list(world.take()) == []
    world.count()


@pytest.mark.parametrize("text", ["tab\there", "line\nbreak", "back\\slash", 'quo"te', "Ünïcode"])
def test_names_come_back_as_they_were(world: World, text: str) -> None:
    world.take(candidate("r1", load=text)._replace(actor=text, record_id=text))
    (event,) = world.store.load([STREAM])[STREAM].events
    assert (event.actor, event.correlation_id, event.data["record_id"]) == (text, text, text)


# counting ----------------------------------------------------------------------------------------


def accepted(record: str, load: str = "load", **more: bool) -> Outcome:
    return Outcome(record, load, "accepted", STREAM, claim().claim_id, **more)


def duplicate(record: str, load: str = "load") -> Outcome:
    return Outcome(record, load, "duplicate", STREAM, claim().claim_id)


def rejected(record: str, load: str = "load", **more: bool) -> Outcome:
    violation = {"field": "value", "value": "x", "rule": "decimal", "message": "is not"}
    return Outcome(record, load, "rejected", violations=[violation], payload=b"\x00\xff{", **more)


def test_each_outcome_is_counted_under_its_load(world: World) -> None:
    world.count(accepted("1"), accepted("2", "other"), duplicate("3"), rejected("4"), rejected("5"))
    assert world.counts("load") == {"accepted": 1, "duplicate": 1, "rejected": 2}
    assert world.counts("other") == {"accepted": 1, "duplicate": 0, "rejected": 0}


def test_a_redelivered_duplicate_or_rejection_is_counted_once(world: World) -> None:
    for _ in range(3):
        world.count(duplicate("1"), rejected("2"), rejected("2"))
    assert world.counts("load") == {"accepted": 0, "duplicate": 1, "rejected": 1}


def test_a_redriven_record_moves_from_rejected_to_accepted(world: World) -> None:
    world.count(rejected("1", "load"), rejected("2", "load"))
    world.count(accepted("1", redriven=True))
    assert world.counts("load") == {"accepted": 1, "duplicate": 0, "rejected": 1}


def test_a_redelivered_record_that_is_accepted_now_moves_from_rejected_to_accepted(world: World) -> None:
    """What it lacked was registered in between, and the batch was delivered again."""
    world.count(rejected("1"), rejected("2"))
    world.count(accepted("1"))
    assert world.counts("load") == {"accepted": 1, "duplicate": 0, "rejected": 1}


def test_a_redriven_record_that_is_rejected_again_counts_once(world: World) -> None:
    world.count(rejected("1"))
    for _ in range(2):
        world.count(rejected("1", redriven=True))
    assert world.counts("load") == {"accepted": 0, "duplicate": 0, "rejected": 1}
