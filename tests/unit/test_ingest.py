"""Ingest on the ports in memory: every record accounted for once, whatever is delivered again or races."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from qis.application.ingest import MAX_REST_CLAIMS, Delivery
from qis.application.ports import Unavailable
from qis.domain.errors import Conflict, InvalidInput
from qis.domain.events import value_stream
from tests.support.builders import (
    EUR,
    FIRST,
    catalogue,
    claim,
    claim_body,
    claim_record,
    ingested,
    series,
    snap,
    source,
    value_append,
)
from tests.support.fakes import (
    FixedCatalogue,
    MemoryDeadLetters,
    MemoryEventStore,
    ingest_into,
)
from tests.support.raw import payload_of, unpack

STREAM = value_stream(EUR, FIRST.text)


@dataclass
class World:
    """Ingest and all that is behind its ports."""

    store: MemoryEventStore = field(default_factory=MemoryEventStore)
    letters: MemoryDeadLetters = field(default_factory=MemoryDeadLetters)
    reader: FixedCatalogue = field(default_factory=lambda: FixedCatalogue(catalogue()))

    def __post_init__(self) -> None:
        self.ingest = ingest_into(self.store, self.reader, letters=self.letters)

    def deliver(self, *records: tuple[str, bytes], redriven: bool = False) -> dict[str, int]:
        found = self.ingest.deliveries([Delivery(i, "load", p, redriven) for i, p in records])
        return {kind: count for kind, count in found.items() if count}

    def submit(self, *claims: object, key: str | None = None, actor: str = "ann") -> dict[str, Any]:
        return self.ingest.submit(list(claims), actor, "request", key)

    def load(self, name: str = "load") -> dict[str, int]:
        return {kind: count for kind, count in self.store.ledger.loads[name].items() if count}

    @property
    def values(self) -> list[tuple[str, str]]:
        return [(e.data["source"], e.data["value"]) for e in self.store.log]


def row(**changes: Any) -> bytes:
    return claim_record(**changes)


# from a stream -----------------------------------------------------------------------------------


def test_a_claim_becomes_an_event_that_names_record_load_feed_and_raw_payload() -> None:
    world = World()
    assert world.deliver(("r1", row()), ("r2", row(source="beta"))) == {"accepted": 2}
    first, second = world.store.log
    assert (first.type, first.stream, first.version) == ("DataIngested", STREAM, 1)
    assert (first.actor, first.correlation_id) == ("feed:alpha", "load")
    assert first.data["record_id"] == "r1"
    assert payload_of(second.data["raw"], world.store.raw.values()) == row(source="beta")


def test_a_record_that_names_itself_and_its_load_is_known_by_these() -> None:
    world = World()
    world.deliver(("stream-place", row(record_id="row-7", correlation_id="file-3")))
    assert world.store.log[0].data["record_id"] == "row-7"
    assert world.store.log[0].correlation_id == "file-3"
    assert world.load("file-3") == {"accepted": 1}


def test_a_batch_delivered_again_changes_nothing() -> None:
    world = World()
    batch = ("r1", row()), ("r2", row(source="beta")), ("r3", row()), ("r4", b"poison")
    assert world.deliver(*batch) == {"accepted": 2, "duplicate": 1, "rejected": 1}
    before = list(world.store.log), world.load()
    assert world.deliver(*batch) == {"duplicate": 1, "rejected": 1, "redelivered": 2}
    assert (world.store.log, world.load()) == before


def test_a_record_twice_in_one_batch_counts_once() -> None:
    world = World()
    assert world.deliver(("r1", row()), ("r1", row())) == {"accepted": 1, "redelivered": 1}
    assert world.load() == {"accepted": 1}


def test_the_same_claim_in_another_record_is_a_duplicate() -> None:
    world = World()
    world.deliver(("r1", row(value="1.10")))
    assert world.deliver(("r2", row(value="1.1000"))) == {"duplicate": 1}
    assert world.load() == {"accepted": 1, "duplicate": 1}
    assert len(world.store.log) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"value": "1.2"},
        {"source": "beta"},
        {"received_at": "2026-01-05T15:00:00Z"},
        {"snap": snap(1).text},
    ],
)
def test_a_claim_that_says_something_else_is_a_claim_of_its_own(changes: dict[str, Any]) -> None:
    world = World()
    assert world.deliver(("r1", row()), ("r2", row(**changes))) == {"accepted": 2}


def test_claims_on_one_snap_in_one_batch_keep_their_order() -> None:
    world = World()
    world.deliver(*((f"r{n}", row(value=f"1.{n}")) for n in range(1, 9)))
    assert [e.version for e in world.store.log] == list(range(1, 9))
    assert [v for _, v in world.values] == [f"1.{n}" for n in range(1, 9)]


def test_claims_join_a_stream_that_holds_other_events_already() -> None:
    world = World()
    world.store.append([value_append(0, ingested(claim("beta"), "old"))])
    assert world.deliver(
        ("r1", row()), ("r2", row(source="beta", received_at=claim("beta").as_json()["received_at"]))
    ) == {
        "accepted": 1,
        "duplicate": 1,
    }
    assert world.store.versions([STREAM]) == {STREAM: 2}


def test_a_batch_of_several_pieces_is_taken_as_one() -> None:
    """In any order of delivery, with a series that is longer than a piece; the fake refuses a wrong order."""
    world = World(reader=FixedCatalogue(catalogue([series(), series("FX.USD")])))
    records = [
        (f"r{n}", row(value=f"1.{n:04d}", reference_data_id="FX.USD" if n % 3 else EUR)) for n in range(300)
    ]
    records.insert(100, ("bad", b"poison"))
    assert world.deliver(*records) == {"accepted": 300, "rejected": 1}
    assert world.deliver(*reversed(records)) == {"rejected": 1, "redelivered": 300}


def test_an_empty_batch_is_nothing() -> None:
    assert World().deliver() == {}


# rejected and redriven ---------------------------------------------------------------------------


def test_a_redriven_record_is_taken_once_its_cause_is_gone() -> None:
    world = World(reader=FixedCatalogue(catalogue(sources=[source("beta")])))
    assert world.deliver(("r1", row())) == {"rejected": 1}
    (letter,) = world.letters.letters
    world.reader.catalogue = catalogue()
    assert world.deliver((letter.record_id, letter.payload), redriven=True) == {"accepted": 1}
    assert world.load() == {"accepted": 1}


def test_a_redriven_record_that_is_still_bad_is_dead_lettered_again_and_counts_once() -> None:
    world = World()
    world.deliver(("r1", b"poison"))
    assert world.deliver(("r1", b"poison"), redriven=True) == {"rejected": 1}
    assert world.load() == {"rejected": 1}
    assert len(world.letters.letters) == 2


def test_a_batch_is_not_acknowledged_while_its_poison_cannot_be_queued() -> None:
    world = World()
    world.letters.refuse = True
    with pytest.raises(Unavailable):
        world.deliver(("r1", row()), ("r2", b"poison"))
    world.letters.refuse = False
    assert world.deliver(("r1", row()), ("r2", b"poison")) == {"redelivered": 1, "rejected": 1}
    assert [x.record_id for x in world.letters.letters] == ["r2"]
    assert world.load() == {"accepted": 1, "rejected": 1}


def test_the_raw_payloads_of_a_batch_are_kept_with_it_whatever_becomes_of_them() -> None:
    world = World()
    records = [("r1", row()), ("r2", b"poison"), ("r3", b"\xff\n\x00"), ("r4", row())]
    assert world.deliver(*records) == {"accepted": 1, "duplicate": 1, "rejected": 2}
    (kept,) = world.store.raw.values()
    assert unpack(kept.body) == [payload for _, payload in records]
    world.deliver(*records)
    assert list(world.store.raw.values()) == [kept], "the same batch is kept once"


# by REST -----------------------------------------------------------------------------------------


def test_a_submission_is_answered_with_a_receipt_and_the_outcome_of_each_claim() -> None:
    world = World()
    answer = world.submit(claim_body(), claim_body(value="1.10"), claim_body(value="NaN"))
    assert (answer["accepted"], answer["duplicates"], answer["rejected"]) == (1, 1, 1)
    assert answer["receipt"] == str(UUID(int=1))
    assert [c["outcome"] for c in answer["claims"]] == ["accepted", "duplicate", "rejected"]
    assert [v["rule"] for v in answer["claims"][2]["violations"]] == ["finite"]
    assert world.store.log[0].actor == "ann"
    assert world.load(answer["receipt"]) == {"accepted": 1, "duplicate": 1, "rejected": 1}
    assert world.letters.letters == [], "the submitter has the answer"


def test_a_retry_under_the_same_key_gets_the_first_answer() -> None:
    world = World()
    first = world.submit(claim_body(), key="k")
    assert world.submit(claim_body(), key="k") == first
    assert len(world.store.log) == 1


def test_the_order_of_fields_makes_no_other_request() -> None:
    world = World()
    body = claim_body()
    first = world.submit(body, key="k")
    assert world.submit(dict(reversed(body.items())), key="k") == first


def test_a_key_used_for_another_request_is_a_conflict() -> None:
    world = World()
    world.submit(claim_body(), key="k")
    with pytest.raises(Conflict):
        world.submit(claim_body(value="1.2"), key="k")
    assert world.submit(claim_body(value="1.2"), key="k", actor="bob")["accepted"] == 1


def test_the_same_record_twice_in_one_submission_is_answered_for_twice_and_counted_once() -> None:
    world = World()
    body = claim_body(record_id="row-1")
    answer = world.submit(body, body)
    assert [c["outcome"] for c in answer["claims"]] == ["accepted", "duplicate"]
    assert world.load(answer["receipt"]) == {"accepted": 1}


def test_a_record_submitted_again_without_a_key_is_known() -> None:
    world = World()
    body = claim_body(record_id="row-1")
    world.submit(body)
    answer = world.submit(body)
    assert (answer["accepted"], answer["duplicates"]) == (0, 1)
    assert len(world.store.log) == 1


@pytest.mark.parametrize("count", [0, MAX_REST_CLAIMS + 1])
def test_too_few_or_too_many_claims_are_refused(count: int) -> None:
    with pytest.raises(InvalidInput, match="1 to 10000"):
        World().submit(*[claim_body()] * count)


def test_the_answer_is_json() -> None:
    answer = World().submit(claim_body(), "no claim")
    assert json.loads(json.dumps(answer)) == answer


# outcomes that stand -----------------------------------------------------------------------------


def paused() -> FixedCatalogue:
    return FixedCatalogue(catalogue(sources=[source("alpha", active=False), source("beta")]))


@pytest.mark.parametrize("redriven", [False, True])
def test_an_accepted_record_stays_accepted_when_its_source_is_paused_and_it_is_redelivered(
    redriven: bool,
) -> None:
    world = World()
    world.deliver(("r1", row()))
    world.reader.catalogue = paused().catalogue
    assert world.deliver(("r1", row()), redriven=redriven) == {"redelivered": 1}
    assert world.load() == {"accepted": 1}
    assert world.letters.letters == []
    assert world.store.ledger.outcomes == {}


def test_an_accepted_record_stays_accepted_when_its_series_takes_other_claims_now() -> None:
    world = World()
    world.deliver(("r1", row(currency="USD")))
    world.reader.catalogue = catalogue([series(currency="GBP")])
    assert world.deliver(("r1", row(currency="USD")), ("r2", row(currency="USD", value="1.2"))) == {
        "redelivered": 1,
        "rejected": 1,
    }
    assert world.load() == {"accepted": 1, "rejected": 1}
    assert [x.record_id for x in world.letters.letters] == ["r2"]


@pytest.mark.parametrize("redriven", [False, True])
def test_a_duplicate_stays_one_when_its_source_is_paused_and_it_is_redelivered(redriven: bool) -> None:
    world = World()
    world.deliver(("r1", row()), ("r2", row()))
    world.reader.catalogue = paused().catalogue
    assert world.deliver(("r1", row()), ("r2", row()), redriven=redriven) == {
        "redelivered": 1,
        "duplicate": 1,
    }
    assert world.load() == {"accepted": 1, "duplicate": 1}
    assert world.letters.letters == []


def test_a_record_rejected_twice_for_different_reasons_keeps_the_first() -> None:
    """It is dead-lettered again, since the first letter may not have been sent, with the reason on record."""
    world = World(reader=FixedCatalogue(catalogue(sources=[source("beta")])))
    world.deliver(("r1", row()))
    world.reader.catalogue = paused().catalogue
    assert world.deliver(("r1", row())) == {"rejected": 1}
    assert [[v["rule"] for v in x.violations] for x in world.letters.letters] == [["known-source"]] * 2
    assert world.letters.letters[0].reason == world.letters.letters[1].reason
    assert world.load() == {"rejected": 1}


def test_a_redriven_record_that_is_rejected_for_another_reason_has_the_new_one() -> None:
    world = World(reader=FixedCatalogue(catalogue(sources=[source("beta")])))
    world.deliver(("r1", row()))
    world.reader.catalogue = paused().catalogue
    assert world.deliver(("r1", row()), redriven=True) == {"rejected": 1}
    assert [[v["rule"] for v in x.violations] for x in world.letters.letters] == [
        ["known-source"],
        ["active-source"],
    ]
    assert world.load() == {"rejected": 1}


def test_one_record_accepted_and_rejected_in_one_batch_is_accepted() -> None:
    world = World()
    assert world.deliver(("r1", b"poison"), ("r1", row())) == {"accepted": 1, "redelivered": 1}
    assert world.load() == {"accepted": 1}
    assert world.letters.letters == []


def test_one_record_duplicate_and_rejected_in_one_batch_is_a_duplicate() -> None:
    world = World()
    world.deliver(("r0", row()))
    assert world.deliver(("r1", b"poison"), ("r1", row())) == {"duplicate": 2}
    assert world.load() == {"accepted": 1, "duplicate": 1}
    assert world.letters.letters == []


def test_one_record_with_a_new_claim_and_a_known_one_is_accepted() -> None:
    world = World()
    world.deliver(("r0", row()))
    batch = [("r1", row()), ("r1", row(value="1.2"))]
    assert world.deliver(*batch) == {"accepted": 1, "redelivered": 1}
    assert world.deliver(*batch) == {"redelivered": 2}
    assert world.load() == {"accepted": 2}


def test_a_claim_submitted_again_while_its_source_is_paused_is_answered_as_known() -> None:
    world = World()
    body = claim_body(record_id="row-1")
    first = world.submit(body)
    world.reader.catalogue = paused().catalogue
    answer = world.submit(body, claim_body(record_id="row-2"))
    assert (answer["accepted"], answer["duplicates"], answer["rejected"]) == (0, 1, 1)
    assert answer["claims"][0] == {**first["claims"][0], "outcome": "duplicate"}
    assert answer["claims"][1]["outcome"] == "rejected"
