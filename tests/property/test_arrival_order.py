"""Claims with times of reception that differ: the result does not depend on order and batches of arrival."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qis.application.ingest import Delivery
from qis.application.reconcile import Reconciler, Trigger
from qis.application.rules import Scope, WhatIf
from qis.domain.events import DATA_INGESTED
from qis.domain.rules import RuleSet
from qis.domain.snap import Snap, parse_instant
from tests.support.builders import EUR, SOURCES, catalogue, rules, snap
from tests.support.fakes import (
    FixedCatalogue,
    MemoryEventStore,
    Ticking,
    ingest_into,
)

NOW = datetime(2026, 12, 1, tzinfo=UTC)
"""When all claims have been received."""

SNAPS = [snap(d) for d in range(6)]
# Values that agree, that differ slightly, and that lie a move (5 %) or several away from each other.
LEVELS = ["100.00", "100.05", "101", "104", "107", "111", "160", "161", "0.01"]

RULE_SETS = {
    "precedence": rules(),
    "precedence or hold": rules(fallback="hold"),
    "two sources needed": rules(min_sources=2),
    "median": rules(method="median"),
    "no check of moves": rules(max_move=None),
    "plausible range": rules(range=["1", "150"]),
    "some may speak": rules(sources=["beta", "gamma"]),
    "one vote for two": rules(copy_groups=[["alpha", "beta"]]),
    "sources lose their vote": rules(max_move=None, exclusion={"after": 1, "readmit_after": 2}),
    "sources lose their vote, moves are checked": rules(exclusion={"after": 2, "readmit_after": 2}),
    "tolerance by the spread": rules(tolerance={"sigma": "3", "floor_bp": "5"}),
    "learned weights": rules(
        method={
            "name": "consensus",
            "publish_at": "0.9",
            "weights": {
                "sources": {"alpha": [90, 80, 0, 0], "beta": [90, 50, 0, 0]},
                "copies": [["beta", "gamma"]],
                "dispersion": [9, 900_000],
                "beside": [90, 81_000],
            },
        }
    ),
}

Row = tuple[int, str, str, int]
rows = st.tuples(
    st.integers(0, len(SNAPS) - 1),
    st.sampled_from(SOURCES[:3]),
    st.sampled_from(LEVELS),
    st.sampled_from([60, 120, 180]),
)


def record(row: Row) -> bytes:
    at, source, value, received = row
    received_at = Snap(SNAPS[at].ns + received * 1_000_000_000).text
    body = {"snap": SNAPS[at].text, "reference_data_id": EUR, "source": source, "value": value}
    return json.dumps({**body, "received_at": received_at}).encode()


class Pipeline:
    """Ingest and reconcile on one store, a batch at a time, as the stream brings them."""

    def __init__(self, rule_set: RuleSet) -> None:
        self.store = MemoryEventStore(Ticking(NOW))
        self.reader = FixedCatalogue(catalogue(rule_sets=[rule_set]))
        self.ingest = ingest_into(self.store, self.reader)
        self.reconciler = Reconciler(self.store, self.reader)
        self.seen = 0
        self.delivered = 0

    def take(self, batch: list[Row]) -> None:
        deliveries = []
        for row in batch:
            self.delivered += 1
            deliveries.append(Delivery(f"r{self.delivered}", "load", record(row)))
        self.ingest.deliveries(deliveries)

    def reconcile(self) -> None:
        new, self.seen = self.store.log[self.seen :], len(self.store.log)
        self.reconciler.run(
            Trigger(EUR, parse_instant(e.data["snap"], "snap"), e.correlation_id, e.event_id)
            for e in new
            if e.type == DATA_INGESTED
        )

    def run(self, batches: list[list[Row]]) -> None:
        for batch in batches:
            self.take(batch)
            self.reconcile()

    def result(self) -> dict[Snap, tuple[str, Decimal | None, Decimal | None]]:
        """Of each snap the status, the value, and the official value where the decision is official."""
        found = {}
        for (_, at), (status, value) in self.store.decisions.items():
            versions = self.store.official.get((EUR, at))
            official = Decimal(versions[-1].data["value"]) if status == "official" and versions else None
            found[at] = status, value, official
        return found


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[list[Row], list[list[Row]]]:
    """Claims, and the same claims in another order, some twice, cut into batches."""
    given_rows = draw(st.lists(rows, min_size=1, max_size=14, unique_by=lambda r: (r[0], r[1], r[3])))
    again = draw(st.lists(st.sampled_from(given_rows), max_size=3))
    order = draw(st.permutations(given_rows + again))
    cuts = sorted(draw(st.sets(st.integers(1, len(order)), max_size=6)))
    batches = [order[a:b] for a, b in zip([0, *cuts], [*cuts, len(order)], strict=True)]
    return given_rows, [b for b in batches if b]


@pytest.mark.parametrize("rule_set", RULE_SETS.values(), ids=RULE_SETS.keys())
@settings(max_examples=100)
@given(arrivals())
def test_any_order_and_any_batches_give_the_same_decisions_and_official_values(
    rule_set: RuleSet, arrival: tuple[list[Row], list[list[Row]]]
) -> None:
    claims, batches = arrival
    at_once, other = Pipeline(rule_set), Pipeline(rule_set)
    at_once.run([claims])
    other.run(batches)
    assert other.result() == at_once.result()
    tried = WhatIf(other.store, other.reader, bool)
    answer = tried.run(Scope("fx", SNAPS[0], snap(99)), None, None, 1_000)
    assert not answer["changes"], "what is tried is what is done"
    assert answer["report"]["values"] == len(other.store.decisions)
