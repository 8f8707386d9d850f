"""Registering series, sources and rules, and what the functions then see; facts: one suite, run in
memory and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from qis.adapters.postgres.catalogue import CHECK_EVERY, PostgresCatalogue
from qis.adapters.postgres.event_store import PostgresEventStore
from qis.adapters.postgres.quality_facts import PostgresFacts
from qis.adapters.resolvers import installed
from qis.application.ports import CatalogueReader, EventStore
from qis.application.quality import Facts, Progress
from qis.application.register import Register
from qis.domain import events as ev
from qis.domain.events import Position
from qis.domain.findings import Fact
from qis.domain.rules import rule_set_json
from qis.domain.snap import Snap
from tests.support import records
from tests.support.builders import EUR, FIXING, daily_body, rules_body, series_body, snap, source_body
from tests.support.databases import FreshDatabase
from tests.support.fakes import LogCatalogue, MemoryEventStore, MemoryFacts
from tests.support.refusals import broken

KINDS = ["memory", pytest.param("postgres", marks=pytest.mark.integration)]
WHO = ("ann", "request")


@dataclass(slots=True)
class Registry:
    """A register, a reader of it, and the time that the reader sees."""

    store: EventStore
    reader: CatalogueReader
    register: Register
    now: float = 0.0


@pytest.fixture(params=KINDS)
def registry(request: pytest.FixtureRequest) -> Registry:
    if request.param == "memory":
        memory = MemoryEventStore()
        reader = LogCatalogue(memory)
        return Registry(memory, reader, Register(memory, reader, installed))
    database: FreshDatabase = request.getfixturevalue("database")
    store = PostgresEventStore(database.app)
    fresh = PostgresCatalogue(database.app, _always_later())
    found = Registry(store, fresh, Register(store, fresh, installed))
    found.reader = PostgresCatalogue(database.another(), lambda: found.now)
    return found


def _always_later() -> Callable[[], float]:
    ticks = iter(range(10**9))
    return lambda: float(next(ticks))


def current(registry: Registry) -> Any:
    registry.now += CHECK_EVERY
    return registry.reader.current()


def types(registry: Registry, stream: str) -> list[str]:
    return [e.type for e in registry.store.load([stream])[stream].events]


def test_a_new_catalogue_is_empty(registry: Registry) -> None:
    found = current(registry)
    assert (found.series, found.sources, found.rules.names, found.active) == ({}, {}, frozenset(), {})


def test_what_is_registered_is_in_force_and_survives_as_it_was(registry: Registry) -> None:
    registry.register.rules(rules_body(range=["0.5", "2.50"]), *WHO)
    registry.register.source(source_body(), *WHO)
    registry.register.series(daily_body(), *WHO)
    found = current(registry)
    assert found.series[FIXING].as_json() == registry.register.series(daily_body(), *WHO)
    assert rule_set_json(found.rules.rule_set("fx", snap()))["range"] == ["0.5", "2.50"]
    assert found.active == {"alpha": True}


def test_a_change_is_seen_and_the_revision_moves(registry: Registry) -> None:
    registry.register.source(source_body(), *WHO)
    before = current(registry)
    assert current(registry).revision == before.revision
    registry.register.source(source_body(active=False), *WHO)
    after = current(registry)
    assert after.revision > before.revision
    assert after.active == {"alpha": False}
    assert types(registry, "source:alpha") == [ev.SOURCE_ADDED, ev.SOURCE_CHANGED]


def test_registering_the_same_again_is_no_event(registry: Registry) -> None:
    for _ in range(2):
        registry.register.rules(rules_body(), *WHO)
        registry.register.source(source_body(), *WHO)
        registry.register.series(series_body(), *WHO)
    versions = registry.store.versions(["rules:fx", "source:alpha", f"series:{EUR}"])
    assert set(versions.values()) == {1}


def test_each_change_of_a_rule_set_is_a_version(registry: Registry) -> None:
    assert registry.register.rules(rules_body(), *WHO)["version"] == 1
    assert registry.register.rules(rules_body(tolerance="0.002"), *WHO)["version"] == 2
    assert registry.register.rules(rules_body(tolerance="0.002"), *WHO)["version"] == 2
    found = current(registry).rules.rule_set("fx", snap())
    assert (found.version, found.tolerance.as_json()) == (2, "0.002")
    events = registry.store.load(["rules:fx"])["rules:fx"].events
    assert [(e.actor, e.correlation_id) for e in events] == [WHO, WHO]


def test_a_series_may_change_its_name_and_rules_but_not_what_its_values_mean(registry: Registry) -> None:
    registry.register.rules(rules_body(), *WHO)
    registry.register.rules(rules_body(rules="strict"), *WHO)
    registry.register.series(series_body(), *WHO)
    registry.register.series({**series_body(), "name": "EUR/USD", "rules": "strict"}, *WHO)
    assert types(registry, f"series:{EUR}") == [ev.SERIES_REGISTERED, ev.SCHEMA_EVOLVED]
    registry.now += CHECK_EVERY

    def refused(body: dict[str, Any]) -> list[tuple[str, str]]:
        return broken(lambda: registry.register.series(body, *WHO))

    assert refused(series_body(currency="GBP")) == [("semantics", "semantics-fixed")]
    assert refused(series_body(snap_time="14:15", snap_zone="UTC")) == [("semantics", "semantics-fixed")]
    assert refused({**series_body(), "kind": "price"}) == [("kind", "semantics-fixed")]


def test_a_series_under_unknown_rules_is_refused(registry: Registry) -> None:
    assert broken(lambda: registry.register.series(series_body(), *WHO)) == [("rules", "known-rules")]


def test_a_series_of_records_and_rules_about_numbers_are_refused_together(registry: Registry) -> None:
    put = registry.register
    put.rules(rules_body(rules="records", max_move="0.1"), *WHO)
    curve = records.series_body(records.CURVE)
    assert broken(lambda: put.series(curve, *WHO)) == [("max_move", "numbers-only")]
    put.rules(rules_body(rules="records", max_move=None), *WHO)
    put.series(curve, *WHO)
    change = rules_body(rules="records", max_move=None, range=["0", None])
    assert broken(lambda: put.rules(change, *WHO)) == [("range", "numbers-only")]
    put.rules(rules_body(rules="records", max_move=None, tolerance="0.01"), *WHO)


def test_rules_with_a_resolver_that_nobody_installed_are_refused(registry: Registry) -> None:
    def put(name: str) -> list[tuple[str, str]]:
        return broken(lambda: registry.register.rules(rules_body(conflict=name), *WHO))

    assert put("last-writer-winz") == [("conflict", "known-resolver")]
    assert registry.store.versions(["rules:fx"]).get("rules:fx", 0) == 0
    assert registry.register.rules(rules_body(conflict="last-writer-wins"), *WHO)["version"] == 1
    assert put("last-writer-winz") == [("conflict", "known-resolver")]


@pytest.mark.integration
def test_the_reader_asks_again_only_after_a_moment(database: FreshDatabase) -> None:
    """So that a batch of records costs no query each; a change is seen that much later."""
    store, now = PostgresEventStore(database.app), 0.0
    reader = PostgresCatalogue(database.another(), lambda: now)
    register = Register(store, PostgresCatalogue(database.app, _always_later()), installed)
    before = reader.current()
    register.source(source_body(), *WHO)
    now = CHECK_EVERY * 0.9
    assert reader.current() is before
    now = CHECK_EVERY
    assert set(reader.current().sources) == {"alpha"}


# facts -------------------------------------------------------------------------------------------


@pytest.fixture(params=KINDS)
def facts(request: pytest.FixtureRequest) -> Facts:
    if request.param == "memory":
        return MemoryFacts()
    return PostgresFacts(request.getfixturevalue("database").app)


def fact(days: float, value: str = "1.10") -> Fact:
    return Fact(snap(days), "official", {"alpha": value})


def test_of_two_facts_for_one_snap_the_later_in_the_log_stays(facts: Facts) -> None:
    facts.keep([("A", fact(0, "2"), Position(5, 1)), ("A", fact(0, "1"), Position(4, 9))])
    facts.keep([("A", fact(0, "0"), Position(5, 0))])
    assert facts.last() == {"A": fact(0, "2")}
    facts.keep([("A", fact(0, "3"), Position(10, 0))])  # 10 is later than 5, though "10" sorts before "5"
    assert facts.last() == {"A": fact(0, "3")}


def test_facts_around_a_span_reach_as_far_as_asked(facts: Facts) -> None:
    facts.keep([("A", fact(d), Position(1, d)) for d in range(10)] + [("B", fact(3), Position(2, 0))])
    spans: dict[str, tuple[Snap, Snap]] = {
        "A": (snap(4), snap(5)),
        "B": (snap(0), snap(0)),
        "C": (snap(0), snap(0)),
    }
    found = facts.around(spans, {"A": 2, "B": 1, "C": 1})
    assert {i: [f.snap for f in rows] for i, rows in found.items()} == {
        "A": [snap(d) for d in range(2, 8)],
        "B": [snap(3)],
    }
    assert facts.last()["A"] == fact(9)


def test_no_facts(facts: Facts) -> None:
    assert facts.last() == {}
    assert facts.around({"A": (snap(0), snap(1))}, {"A": 3}) == {}
    assert facts.official_scores("A", snap(0), snap(9)) == []


def test_what_an_earlier_run_notes_does_not_undo_what_a_later_one_has_done(facts: Facts) -> None:
    noon = datetime(2026, 1, 6, 12, tzinfo=UTC)
    assert facts.progress("hourly") is None
    facts.advance("hourly", Progress(noon, "B"))
    facts.advance("hourly", Progress(noon, "A"))
    assert facts.progress("hourly") == (noon, "B")
    facts.advance("hourly", Progress(noon, None))
    facts.advance("hourly", Progress(noon, "C"))
    facts.advance("hourly", Progress(noon - timedelta(hours=1), None))
    assert facts.progress("hourly") == (noon, None)
    facts.advance("hourly", Progress(noon + timedelta(hours=1), "A"))
    assert facts.progress("hourly") == (noon + timedelta(hours=1), "A")


def test_an_id_of_an_exception_is_not_made_up() -> None:
    assert MemoryEventStore().issue(UUID(int=1)) is None
