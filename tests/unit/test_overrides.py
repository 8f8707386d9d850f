"""People who correct the same value without having seen each other: nobody's value is lost in silence."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from qis.adapters import resolvers
from qis.domain import events as ev
from qis.domain.conflicts.resolvers import keep_siblings
from qis.domain.errors import Conflict, FourEyes, InvalidInput
from qis.domain.value_history import ValueHistory
from tests.support.builders import EUR, append, rules, snap
from tests.support.fakes import racing
from tests.support.refusals import broken
from tests.unit.test_reconciler import World


def published(world: World | None = None) -> World:
    world = world or World()
    world.tell("alpha", (0, "1.1000"))
    return world


def correct(world: World, value: str, by: str, seen: int | None = None) -> list[str]:
    done = world.corrections.restate(EUR, snap().text, value, f"{by} says so", by, "request", seen)
    return types_of(done)


def types_of(done: dict[str, Any]) -> list[str]:
    return [e["type"] for e in done["events"]]


def history(world: World) -> ValueHistory:
    stream = ev.value_stream(EUR, snap().text)
    return ValueHistory(EUR, snap()).fold(world.store.streams[stream])


def test_a_second_correction_from_the_same_basis_waits_with_both_values() -> None:
    world = published()
    assert correct(world, "1.1001", "ann", seen=1) == [ev.DATA_RESTATED]
    assert correct(world, "1.1002", "bob", seen=1) == [ev.QUALITY_ISSUE_DETECTED]
    state = history(world)
    assert state.issue is not None
    assert (state.issue.kind, state.issue.submitters) == ("conflict", ("ann", "bob"))
    assert [(str(o.value), o.by) for o in state.issue.siblings] == [("1.1001", "ann"), ("1.1002", "bob")]
    assert state.official is not None
    assert str(state.official.value) == "1.1001", "what is official stays until somebody decides"


def test_a_correction_by_who_has_seen_the_other_one_is_no_conflict() -> None:
    world = published()
    correct(world, "1.1001", "ann", seen=1)
    assert correct(world, "1.1002", "bob", seen=2) == [ev.DATA_RESTATED]
    assert correct(world, "1.1003", "bob", seen=2) == [ev.DATA_RESTATED], "one's own is seen"


@pytest.mark.parametrize(("decide", "value"), [("approve", "1.1002"), ("reject", "1.1001")])
def test_a_third_person_decides_and_no_author_may(decide: str, value: str) -> None:
    world = published()
    correct(world, "1.1001", "ann", seen=1)
    correct(world, "1.1002", "bob", seen=1)
    issue = history(world).issue
    assert issue is not None
    for author in ("ann", "bob"):
        with pytest.raises(FourEyes):
            world.corrections.approve(issue.issue_id, author, "request")
    if decide == "approve":
        world.corrections.approve(issue.issue_id, "cid", "request")
    else:
        world.corrections.reject(issue.issue_id, "keep it", "cid", "request")
    state = history(world)
    assert state.official is not None
    assert (str(state.official.value), state.issue) == (value, None)
    assert correct(world, "1.1009", "dan", seen=state.official.version) == [ev.DATA_RESTATED]


@pytest.mark.parametrize(
    ("chosen", "official", "restated"),
    [
        ("1.1001", "1.1001", False),
        ("1.1002", "1.1002", True),
        ("1.10020", "1.1002", True),
        ("1.1003", "1.1003", True),
    ],
)
def test_who_decides_chooses_among_the_siblings(chosen: str, official: str, restated: bool) -> None:
    world = published()
    for value, by in (("1.1001", "ann"), ("1.1002", "bob"), ("1.1003", "cid")):
        correct(world, value, by, seen=1)
    issue = history(world).issue
    assert issue is not None
    done = world.corrections.approve(issue.issue_id, "dan", "request", chosen)
    assert types_of(done) == [ev.QUALITY_APPROVED] + [ev.DATA_RESTATED] * restated
    approved = next(e for e in reversed(world.store.log) if e.type == ev.QUALITY_APPROVED)
    assert (approved.data["value"], approved.data["approved_by"]) == (official, "dan")
    state = history(world)
    assert state.official is not None
    assert (str(state.official.value), state.issue, state.pinned) == (official, None, Decimal(official))
    if restated:
        version = world.store.log[-1].data
        assert (version["before"]["value"], version["after"]["value"]) == ("1.1001", official)
        assert all(by in version["reason"] for by in ("ann", "bob", "cid")), "those passed over are named"
        assert all(state.clock.includes(o.clock) for o in issue.siblings), "all of them have been seen"


@pytest.mark.parametrize("value", ["1.1000", "1.1004"])
def test_a_value_that_nobody_proposed_cannot_be_chosen(value: str) -> None:
    world = published()
    correct(world, "1.1001", "ann", seen=1)
    correct(world, "1.1002", "bob", seen=1)
    before = history(world)
    assert before.issue is not None
    item = before.issue.issue_id
    approve = world.corrections.approve
    assert broken(lambda: approve(item, "cid", "request", value)) == [("value", "waiting-value")]
    assert history(world) == before
    with pytest.raises(FourEyes):
        approve(item, "ann", "request", "1.1002")


def test_where_one_value_waits_no_other_can_be_chosen() -> None:
    world = published(World(range=["1", "2"]))
    correct(world, "2.2", "ann", seen=1)
    issue = history(world).issue
    assert issue is not None
    assert issue.kind == "restatement"
    approve = world.corrections.approve
    assert broken(lambda: approve(issue.issue_id, "cid", "request", "1.3")) == [("value", "waiting-value")]
    assert types_of(approve(issue.issue_id, "cid", "request", "2.2")) == [
        ev.QUALITY_APPROVED,
        ev.DATA_RESTATED,
    ]


def test_a_third_one_joins_the_conflict() -> None:
    world = published()
    for value, by in (("1.1001", "ann"), ("1.1002", "bob"), ("1.1003", "cid")):
        correct(world, value, by, seen=1)
    issue = history(world).issue
    assert issue is not None
    assert [o.by for o in issue.siblings] == ["ann", "bob", "cid"]
    assert str(issue.proposed) == "1.1003"


def test_a_correction_that_a_machine_overtook_is_a_conflict_with_it() -> None:
    world = published()
    world.claim("alpha", "1.1005", received=600)
    world.reconcile(0)
    assert correct(world, "1.1002", "bob", seen=1) == [ev.QUALITY_ISSUE_DETECTED]
    issue = history(world).issue
    assert issue is not None
    assert [o.by for o in issue.siblings] == ["qis:reconcile", "bob"]


def test_two_requests_at_the_same_moment_conflict_without_saying_what_they_saw() -> None:
    world = published()
    stream = ev.value_stream(EUR, snap().text)
    mine = history(world).restate(Decimal("1.1001"), "ann says so", "ann", rules(), ())
    racing(world.store, [append(stream, 0, *mine, actor="ann")])
    assert correct(world, "1.1002", "bob") == [ev.QUALITY_ISSUE_DETECTED]


def test_the_last_writer_wins_where_the_rules_say_so_and_the_loser_is_named() -> None:
    world = published(World(conflict="last-writer-wins"))
    correct(world, "1.1001", "ann", seen=1)
    assert correct(world, "1.1002", "bob", seen=1) == [ev.DATA_RESTATED]
    restated = next(e.data for e in reversed(world.store.log) if e.type == ev.DATA_RESTATED)
    assert restated["conflict"]["resolver"] == "last-writer-wins"
    assert [o["by"] for o in restated["conflict"]["overruled"]] == ["ann"]


def test_a_resolver_that_finds_for_what_stands_refuses_aloud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(resolvers.BUILT_IN, "first", lambda all_: all_[:1])  # type: ignore[arg-type]
    resolvers.resolver.cache_clear()
    world = published(World(conflict="first"))
    correct(world, "1.1001", "ann", seen=1)
    with pytest.raises(Conflict, match=r"first finds for 1\.1001 by ann"):
        correct(world, "1.1002", "bob", seen=1)


def test_a_resolver_is_found_by_its_entry_point_and_an_absent_one_asks_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "house.py").write_text("def highest(all_):\n    return [max(all_, key=lambda o: o.value)]\n")
    metadata = tmp_path / "house-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: house\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[qis.conflict_resolvers]\nhighest = house:highest\nlost = house:lost\ngone = gone:away\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    resolvers.resolver.cache_clear()
    world = published(World(conflict="highest"))
    correct(world, "1.1003", "ann", seen=1)
    with pytest.raises(Conflict):
        correct(world, "1.1002", "bob", seen=1)
    assert correct(world, "1.1004", "cid", seen=1) == [ev.DATA_RESTATED]
    known = {n: resolvers.installed(n) for n in ("siblings", "highest", "lost", "gone", "nobody-has-this")}
    assert known == {
        "siblings": True,
        "highest": True,
        "lost": False,
        "gone": False,
        "nobody-has-this": False,
    }
    assert resolvers.resolver("nobody-has-this") is keep_siblings
    resolvers.resolver.cache_clear()
    sys.modules.pop("house", None)


@pytest.mark.parametrize("seen", [0, 7, "1", True])
def test_a_version_that_is_none_is_refused(seen: object) -> None:
    world = published()
    with pytest.raises((Conflict, InvalidInput)):
        correct(world, "1.1001", "ann", seen)  # type: ignore[arg-type]


def test_conflicts_survive_a_snapshot() -> None:
    world = published()
    correct(world, "1.1001", "ann", seen=1)
    correct(world, "1.1002", "bob", seen=1)
    state = history(world)
    again = ValueHistory.restore(EUR, snap(), state.version, state.snapshot())
    assert again == state
