"""What a source says last counts: statements, corrections and take-backs in any interleaving of loads,
requests and redeliveries, against an oracle."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qis.application.explanation import explain
from qis.application.ingest import Delivery
from qis.application.reconcile import Reconciler, Trigger
from qis.domain.events import value_stream
from qis.domain.snap import NANOS, Snap
from tests.support.builders import EUR, FIRST, catalogue, claim_body, rules, series
from tests.support.fakes import FixedCatalogue, MemoryEventStore, Ticking, ingest_into
from tests.support.people import NOW

SOURCES = ("alpha", "beta", "gamma")
VALUES = ("100", "100.5", "101")


class Statement(NamedTuple):
    """A source says a value, with or without when it was received."""

    source: str
    value: str
    received: int | None
    volume: str | None

    def body(self) -> dict[str, str]:
        received = None if self.received is None else Snap(FIRST.ns + self.received * NANOS).text
        return claim_body(source=self.source, value=self.value, received_at=received, volume=self.volume)


statements = st.builds(
    Statement,
    st.sampled_from(SOURCES),
    st.sampled_from(VALUES),
    st.sampled_from([None, None, 60, 120, 180]),
    st.sampled_from([None, None, "5"]),
)
ways = st.sampled_from(["load", "request"])


def last_words(said: list[Statement]) -> dict[str, Statement]:
    """The oracle: of each source the statement received last; where that does not tell, made last. The same
    statement with the same time of reception says nothing new."""
    last: dict[str, Statement] = {}
    for source in {s.source for s in said}:
        latest, place = -1, 0
        own = [
            s for n, s in enumerate(said) if s.source == source and (s.received is None or s not in said[:n])
        ]
        for n, statement in enumerate(own):
            if statement.received is None or statement.received >= latest:
                place = n
            latest = max(latest, -1 if statement.received is None else statement.received)
        last[source] = own[place]
    return last


class System:
    """Ingest and reconcile on one store; each source alone decides a run, so that its last word is seen."""

    def __init__(self) -> None:
        self.store = MemoryEventStore(Ticking(NOW))
        reader = FixedCatalogue(catalogue(rule_sets=[rules(precedence=["alpha", "beta", "gamma"])]))
        self._ingest = ingest_into(self.store, reader)
        self._reconciler = Reconciler(self.store, reader)
        self._records: list[Delivery] = []

    def say(self, statement: Statement, way: str) -> None:
        if way == "request":
            self._ingest.submit([statement.body()], "ann", "request", None)
        else:
            record = json.dumps(statement.body()).encode()
            self._records.append(Delivery(f"r{len(self._records)}", "load", record))
            self._ingest.deliveries([self._records[-1]])

    def redeliver(self, first: int) -> None:
        if self._records:
            first %= len(self._records)
            self._ingest.deliveries(self._records[first:])

    def decide(self) -> None:
        self._reconciler.run([Trigger(EUR, FIRST, "load", None)])

    def used(self) -> dict[str, str]:
        """What counts of each source, by the explanation of the value."""
        events = self.store.streams[value_stream(EUR, FIRST.text)]
        claims = explain(series(), FIRST, events)["claims"]
        return {c["source"]: c["value"] for c in claims if c["outcome"] in ("used", "outside-tolerance")}


@settings(max_examples=200)
@given(st.lists(st.tuples(statements, ways, st.none() | st.integers(0, 20)), min_size=1, max_size=14))
def test_the_last_word_of_each_source_counts(said: list[tuple[Statement, str, int | None]]) -> None:
    system = System()
    for statement, way, again in said:
        system.say(statement, way)
        if again is not None:
            system.redeliver(again)
        if again and again % 3 == 0:
            system.decide()
    system.decide()
    last = last_words([statement for statement, _, _ in said])
    assert {s: Decimal(v) for s, v in system.used().items()} == {s: Decimal(w.value) for s, w in last.items()}
    lead = next(last[s] for s in SOURCES if s in last)
    if all(abs(Decimal(w.value) / Decimal(lead.value) - 1) < Decimal("0.001") for w in last.values()):
        official = system.store.official[EUR, FIRST][-1].data
        assert Decimal(official["value"]) == Decimal(lead.value)


def test_a_correction_that_is_taken_back_is_a_statement_of_its_own() -> None:
    system = System()
    for value in ("100", "101", "100", "100", "101"):
        system.say(Statement("alpha", value, None, None), "load")
    assert system.store.ledger.loads["load"] == {"accepted": 4, "duplicate": 1, "rejected": 0}
    system.decide()
    assert system.used() == {"alpha": "101"}


@pytest.mark.parametrize("received", [None, 60])
def test_another_volume_is_another_claim(received: int | None) -> None:
    system = System()
    for volume in ("5", "6", "6"):
        system.say(Statement("alpha", "100", received, volume), "load")
    assert system.store.ledger.loads["load"] == {"accepted": 2, "duplicate": 1, "rejected": 0}
    system.decide()
    (decided, *_) = [e for e in system.store.log if e.type == "DataReconciled"]
    assert decided.data["sources_used"][0]["volume"] == "6"
