"""From claims to official values over several snaps, with what people correct, on the store in memory."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from qis.application.corrections import Corrections
from qis.application.ports import Contended
from qis.application.quality import Quality
from qis.application.reconcile import ATTEMPTS, Reconciler, Trigger
from qis.domain import events as ev
from qis.domain.claims import Claim
from qis.domain.errors import Conflict, FourEyes, InvalidInput, NotFound
from qis.domain.snap import Snap
from tests.support.builders import (
    EUR,
    FIRST,
    OVERRIDES,
    append,
    catalogue,
    claim,
    detected,
    ingested,
    rules,
    snap,
    value_append,
)
from tests.support.fakes import FixedCatalogue, MemoryEventStore, MemoryFacts, racing


class World:
    """Claims go in, decisions come out."""

    def __init__(self, **changes: Any) -> None:
        self.store = MemoryEventStore()
        self.reader = FixedCatalogue(catalogue(rule_sets=[rules(**changes)]))
        self.reconciler = Reconciler(self.store, self.reader)
        quality = Quality(self.store, self.reader, MemoryFacts())
        self.corrections = Corrections(self.store, self.reader, self.reconciler, quality, OVERRIDES)

    def claim(self, source: str, value: str, days: float = 0, received: int = 60) -> Claim:
        made = claim(source, value, snap(days), received)
        stream = ev.value_stream(EUR, made.snap.text)
        at = self.store.versions([stream]).get(stream, 0)
        assert not self.store.append(
            [append(stream, at, ingested(made), actor=f"feed:{source}", correlation_id="load")]
        )
        return made

    def reconcile(self, *days: float) -> list[str]:
        """Types of the events that follow, in the order of the log."""
        before = len(self.store.log)
        self.reconciler.run(Trigger(EUR, snap(d), "load", UUID(int=9)) for d in days)
        return [e.type for e in self.store.log[before:]]

    def tell(self, source: str, *values: tuple[float, str]) -> None:
        """Claims of one source that are reconciled one by one."""
        for days, value in values:
            self.claim(source, value, days)
            self.reconcile(days)

    def official(self, days: float = 0) -> str | None:
        versions = self.store.official.get((EUR, snap(days)))
        return versions[-1].data["value"] if versions else None

    def status(self, days: float = 0) -> str:
        return self.store.decisions[EUR, snap(days)][0]

    def waiting(self) -> list[UUID]:
        return [i for i, status in self.store.issue_status.items() if status == "open"]

    def restate(self, value: object, days: float = 0, by: str = "ann", reason: object = "error") -> Any:
        return self.corrections.restate(EUR, snap(days).text, value, reason, by, "request")

    def at(self, key: Snap) -> Sequence[ev.Event]:
        return self.store.streams[ev.value_stream(EUR, key.text)]


# reconciling -------------------------------------------------------------------------------------


def test_a_claim_becomes_official_on_behalf_of_whoever_brought_it() -> None:
    world = World()
    world.claim("alpha", "1.10")
    assert world.reconcile(0) == [ev.DATA_RECONCILED, ev.DATA_PUBLISHED]
    published = world.store.log[-1]
    assert (published.actor, published.correlation_id) == ("qis:reconcile", "load")
    assert published.causation_id == UUID(int=9)
    assert world.official() == "1.10"


def test_a_trigger_delivered_again_changes_nothing() -> None:
    world = World()
    world.claim("alpha", "1.1")
    world.reconcile(0)
    assert world.reconcile(0) == []
    assert world.reconcile(0, 0) == []


def test_a_snap_without_claims_is_insufficient() -> None:
    world = World()
    assert world.reconcile(3) == [ev.DATA_RECONCILED]
    assert world.status(3) == "insufficient"


def test_an_unknown_series_is_an_error_and_nothing_is_stored() -> None:
    world = World()
    with pytest.raises(NotFound, match="NO"):
        world.reconciler.run([Trigger("NO", FIRST, "load", None)])
    assert world.store.log == []


def test_what_agrees_only_with_a_held_value_is_held_with_it() -> None:
    world = World()
    world.tell("alpha", (0, "6.11"), (1, "611.2"), (2, "612.5"), (3, "610.9"), (4, "6.13"))
    assert [world.status(d) for d in range(5)] == ["official", *["suspect"] * 3, "official"]
    assert len(world.waiting()) == 3


def test_approval_of_the_first_value_of_a_level_shift_makes_the_next_ones_official() -> None:
    world = World()
    world.tell("alpha", (0, "1.0"), (1, "2.0"), (2, "2.01"), (3, "2.02"))
    first = next(e.data["issue_id"] for e in world.at(snap(1)) if e.type == ev.QUALITY_ISSUE_DETECTED)
    world.corrections.approve(UUID(first), "ann", "request")
    assert [world.official(d) for d in (1, 2, 3)] == ["2.0", "2.01", "2.02"]
    assert world.waiting() == []


def test_a_spike_that_returns_to_the_old_level_stays_suspect_alone() -> None:
    world = World()
    world.tell("alpha", (0, "1.0"), (1, "2.0"), (2, "1.01"))
    assert [world.status(d) for d in range(3)] == ["official", "suspect", "official"]


def test_a_spike_that_a_second_source_reports_later_is_official_and_no_longer_waits() -> None:
    world = World()
    world.tell("alpha", (0, "1.0"), (1, "2.0"))
    world.tell("beta", (1, "2.0"))
    assert (world.status(1), world.official(1), world.waiting()) == ("official", "2.0", [])


def test_a_value_that_arrives_late_before_others_has_them_decided_again() -> None:
    world = World()
    world.tell("alpha", (1, "2.0"), (2, "2.01"))
    assert [world.status(d) for d in (1, 2)] == ["official", "official"]
    world.tell("alpha", (0, "1.0"))
    assert [world.status(d) for d in (0, 1)] == ["official", "suspect"]
    assert world.official(1) == "2.0", "what was published stands until it is decided otherwise"


def test_a_change_reaches_a_snap_that_is_new_in_the_same_batch() -> None:
    """The one in between is stored, the one after it is not yet when the plan is made."""
    world = World()
    world.tell("alpha", (1, "107"))
    world.claim("alpha", "100", 0)
    world.claim("alpha", "100", 2)
    world.reconcile(0, 2)
    assert [world.status(d) for d in range(3)] == ["official", "suspect", "official"]


def test_followers_are_decided_on_behalf_of_what_reached_them() -> None:
    world = World()
    world.tell("alpha", (1, "2.0"))
    world.claim("alpha", "1.0", 0)
    world.reconciler.run([Trigger(EUR, FIRST, "late-load", UUID(int=5))])
    last = world.at(snap(1))[-1]
    assert (last.correlation_id, last.causation_id) == ("late-load", UUID(int=5))


def test_a_claim_that_gets_in_between_is_taken_into_the_decision() -> None:
    world = World()
    world.claim("beta", "1.1001")
    rival = value_append(0, ingested(claim("alpha", "1.1"), "rival"))
    racing(world.store, [rival])
    world.reconcile(0)
    assert world.official() == "1.1"
    assert len(world.store.official[EUR, FIRST]) == 1


def test_who_keeps_losing_gives_up_and_nothing_is_half_done() -> None:
    world = World()
    world.claim("alpha", "1.1")
    racing(
        world.store,
        [
            value_append(0, ingested(claim("beta", f"1.{n}", received=n), f"rival{n}"))
            for n in range(ATTEMPTS)
        ],
    )
    with pytest.raises(Contended):
        world.reconcile(0)
    assert world.official() is None
    assert world.reconcile(0) == [ev.DATA_RECONCILED, ev.DATA_PUBLISHED] or world.status(0) == "suspect"


# corrections -------------------------------------------------------------------------------------


def test_a_restatement_is_official_at_once_and_the_answer_shows_before_and_after() -> None:
    world = World()
    world.tell("alpha", (0, "1.1"))
    answer = world.restate("1.1005")
    assert answer["snap"] == FIRST.text
    shown = next(e for e in answer["events"] if e["type"] == ev.DATA_RESTATED)
    assert shown["before"] == {"value": "1.1", "official_version": 1}
    assert shown["after"] == {"value": "1.1005", "official_version": 2}
    restated = world.at(FIRST)[-1]
    assert (restated.actor, restated.correlation_id) == ("ann", "request")
    assert world.official() == "1.1005"


def test_a_restated_value_outlives_later_claims() -> None:
    world = World()
    world.tell("alpha", (0, "1.1"))
    world.restate("1.1005")
    world.tell("beta", (0, "1.1001"))
    assert world.official() == "1.1005"


def test_a_restated_value_is_what_later_moves_are_measured_against_also_after_a_late_claim() -> None:
    """Whether the late claim and the next snap are decided in one batch or in two has no effect."""
    statuses = []
    for together in (True, False):
        world = World()
        world.tell("alpha", (0, "100"))
        world.restate("104")
        world.claim("beta", "100", 0)
        world.claim("alpha", "108", 1)
        for batch in [(0, 1)] if together else [(0,), (1,)]:
            world.reconcile(*batch)
        statuses.append(world.status(1))
    assert statuses == ["official", "official"], "108 is 3.8 % from the restated 104, and 8 % from 100"


def test_a_restatement_that_fails_a_check_waits_for_a_second_person() -> None:
    world = World()
    world.tell("alpha", (0, "1.0"), (1, "1.01"))
    world.restate("2", 1)
    (item,) = world.waiting()
    assert world.official(1) == "1.01"
    with pytest.raises(FourEyes):
        world.corrections.approve(item, "ann", "request")
    assert world.waiting() == [item]
    world.corrections.approve(item, "bob", "request")
    assert (world.official(1), world.waiting()) == ("2", [])


def test_a_restatement_has_the_following_snaps_decided_again() -> None:
    world = World()
    world.tell("alpha", (0, "1.0"), (1, "1.04"))
    world.restate("1.08")
    assert world.status(1) == "official"
    world.restate("1.02")
    world.tell("alpha", (2, "1.06"))
    assert world.status(2) == "official"


def test_an_approved_value_is_published_and_what_followed_it_is_decided_again() -> None:
    world = World()
    world.tell("alpha", (0, "1.0"), (1, "2.0"), (2, "3.0"), (3, "2.02"))
    assert [world.status(d) for d in range(4)] == ["official", "suspect", "suspect", "suspect"]
    item = next(i for i in world.waiting() if world.store.issues[i].snap == snap(1))
    answer = world.corrections.approve(item, "bob", "request")
    assert [e["type"] for e in answer["events"]][:2] == [ev.QUALITY_APPROVED, ev.DATA_PUBLISHED]
    assert world.official(1) == "2.0"
    assert world.status(1) == "official"
    assert world.status(3) == "official", "2.02 is near the approved 2.0"
    assert world.status(2) == "suspect"


def test_a_rejected_value_leads_to_the_next_source_at_once() -> None:
    world = World()
    world.tell("alpha", (0, "1.0"))
    world.claim("alpha", "2.0", 1)
    world.claim("beta", "1.01", 1)
    world.reconcile(1)
    (item,) = world.waiting()
    world.corrections.reject(item, "wrong", "bob", "request")
    assert (world.official(1), world.status(1), world.waiting()) == ("1.01", "official", [])


def test_a_rejected_value_of_the_only_source_leaves_nothing() -> None:
    world = World()
    world.tell("alpha", (0, "1.0"), (1, "2.0"))
    (item,) = world.waiting()
    world.corrections.reject(item, "wrong", "bob", "request")
    assert (world.official(1), world.status(1)) == (None, "insufficient")


@pytest.mark.parametrize("item", [UUID(int=0)])
def test_an_exception_that_does_not_exist_is_not_found(item: UUID) -> None:
    world = World()
    with pytest.raises(NotFound):
        world.corrections.approve(item, "bob", "request")
    with pytest.raises(NotFound):
        world.corrections.reject(item, "wrong", "bob", "request")


def test_an_exception_is_decided_once() -> None:
    world = World()
    world.tell("alpha", (0, "1.0"), (1, "2.0"))
    (item,) = world.waiting()
    world.corrections.approve(item, "bob", "request")
    before = len(world.store.log)
    with pytest.raises(Conflict):
        world.corrections.approve(item, "cat", "request")
    with pytest.raises(Conflict):
        world.corrections.reject(item, "wrong", "cat", "request")
    assert len(world.store.log) == before


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"value": "NaN"}, "value"),
        ({"value": 1.5}, "value"),
        ({"value": "-1"}, "value"),
        ({"reason": " "}, "reason"),
        ({"reason": None}, "reason"),
        ({"reason": "x" * 501}, "reason"),
    ],
)
def test_a_malformed_restatement_is_refused_by_field(changes: dict[str, Any], field: str) -> None:
    world = World()
    world.tell("alpha", (0, "1.1"))
    with pytest.raises(InvalidInput) as refusal:
        world.restate(**{"value": "1.2", **changes})
    assert [v.field for v in refusal.value.violations] == [field]


def test_there_is_nothing_to_restate_before_the_first_publication() -> None:
    with pytest.raises(Conflict):
        World().restate("1.1")


def test_a_finding_is_acknowledged_without_touching_the_value() -> None:
    world = World()
    world.tell("alpha", (0, "1.0"))
    item = UUID(int=77)
    world.store.append(
        [append(ev.quality_stream(EUR, FIRST.text), 0, detected(item, gate=False, kind="stale"))]
    )
    with pytest.raises(InvalidInput, match="waiting-value"):
        world.corrections.approve(item, "ann", "request", "1.0")
    world.corrections.approve(item, "ann", "request")
    assert world.store.issue_status[item] == "approved"
    assert world.official() == "1.0"
    with pytest.raises(Conflict):
        world.corrections.reject(item, "again", "ann", "request")


def test_decimals_of_a_restatement_are_kept_exactly() -> None:
    world = World(max_move=None)
    world.tell("alpha", (0, "1.1"))
    world.restate("12345678901234567890.123456789012345678")
    assert Decimal(world.official() or 0) == Decimal("12345678901234567890.123456789012345678")
