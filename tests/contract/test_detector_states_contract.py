"""What ``DetectorStates`` promises, of the fake and on PostgreSQL."""

from __future__ import annotations

import pytest

from qis.adapters.postgres.arrival_states import PostgresArrivalStates
from qis.adapters.postgres.detector_states import PostgresDetectorStates
from qis.adapters.postgres.quality_facts import PostgresFacts
from qis.application.arrivals import Arrived
from qis.application.detectors import DetectorStates, Kept, Past
from qis.application.quality import Facts
from qis.domain.events import Position
from qis.domain.findings import Fact
from tests.support.builders import EUR, snap
from tests.support.databases import FreshDatabase
from tests.support.fakes import MemoryDetectorStates, MemoryFacts

VOLUMES = {"a": "12.5"}


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.integration)])
def parts(request: pytest.FixtureRequest) -> tuple[Facts, DetectorStates]:
    """Facts of ten snaps of one series and one of another, and no state."""
    facts: Facts
    states: DetectorStates
    if request.param == "memory":
        facts = MemoryFacts()
        states = MemoryDetectorStates(facts)
    else:
        fresh: FreshDatabase = request.getfixturevalue("database")
        database = fresh.app
        facts, states = PostgresFacts(database), PostgresDetectorStates(database)
    facts.keep([(EUR, Fact(snap(n), "official", {"a": str(n)}, VOLUMES), Position(1, n)) for n in range(10)])
    facts.keep([("OTHER", Fact(snap(3), "official", {"a": "1"}), Position(1, 99))])
    return facts, states


def kept(n: int, *, mark: bool = False, state: str = "{}") -> Kept:
    return Kept(snap(n), state, mark)


def since(states: DetectorStates, before: int, id_: str = EUR) -> Past:
    return states.since({id_: snap(before)}).get(id_, Past(None, ()))


def test_without_a_state_all_facts_of_the_series_are_given(parts: tuple[Facts, DetectorStates]) -> None:
    state, facts = since(parts[1], 5)
    assert state is None
    assert [f.snap for f in facts] == [snap(n) for n in range(10)]
    assert (facts[2].claims, facts[2].volumes) == ({"a": "2"}, VOLUMES)
    assert since(parts[1], 9, "OTHER").facts[0].volumes == {}
    around = parts[0].around({EUR: (snap(2), snap(2)), "OTHER": (snap(3), snap(3))}, {EUR: 0, "OTHER": 0})
    assert (around[EUR][0].volumes, around["OTHER"][0].volumes) == (VOLUMES, {})
    assert parts[0].last()[EUR].volumes == VOLUMES


def test_the_last_state_before_a_snap_and_what_follows_it(parts: tuple[Facts, DetectorStates]) -> None:
    states = parts[1]
    states.keep({EUR: (None, [kept(2, mark=True), kept(6, state='{"x": 1}')])})
    state, facts = since(states, 7)
    assert state == kept(6, state='{"x": 1}')
    assert [f.snap for f in facts] == [snap(7), snap(8), snap(9)]
    state, facts = since(states, 6)
    assert state == kept(2, mark=True)
    assert len(facts) == 7
    assert since(states, 2).kept is None
    assert since(states, 9, "OTHER").kept is None


def test_new_states_replace_what_they_follow_but_not_marks(parts: tuple[Facts, DetectorStates]) -> None:
    states = parts[1]
    states.keep({EUR: (None, [kept(2, mark=True), kept(3)])})
    states.keep({EUR: (snap(3), [kept(4)])})
    assert since(states, 4).kept == kept(2, mark=True)
    assert since(states, 5).kept == kept(4)
    states.keep({EUR: (snap(2), [kept(5), kept(4, state="again")])})
    assert since(states, 3).kept == kept(2, mark=True)
    assert since(states, 5).kept == kept(4, state="again")
    states.keep({EUR: (None, [kept(9)])})
    assert since(states, 9).kept is None


def test_series_are_asked_for_and_kept_together_and_apart(parts: tuple[Facts, DetectorStates]) -> None:
    states = parts[1]
    states.keep({EUR: (None, [kept(2), kept(6)]), "OTHER": (None, [kept(3)])})
    found = states.since({EUR: snap(5), "OTHER": snap(9), "NEVER": snap(9)})
    assert found.keys() == {EUR, "OTHER"}
    assert found[EUR].kept == kept(2)
    assert [f.snap for f in found[EUR].facts] == [snap(n) for n in range(3, 10)]
    assert found["OTHER"] == Past(kept(3), found["OTHER"].facts)
    assert not found["OTHER"].facts
    states.keep({"OTHER": (None, [kept(1)])})
    assert since(states, 9).kept == kept(6)


@pytest.mark.integration
def test_the_order_of_arrival_is_kept_by_series(database: FreshDatabase) -> None:
    states = PostgresArrivalStates(database.app)
    assert states.load([EUR]) == {}
    states.keep({EUR: Arrived(Position(1, 2), {"a": [1, "x", None]}), "OTHER": Arrived(Position(1, 3), {})})
    states.keep({EUR: Arrived(Position(2, 1), {"a": [2, "y", None]})})
    assert states.load([EUR, "NEVER"]) == {EUR: Arrived(Position(2, 1), {"a": [2, "y", None]})}
