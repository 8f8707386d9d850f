"""Runs of wrong days between right ones: the move gate holds the wrong days and only those."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qis.application.ingest import Delivery
from qis.application.rules import Scope, WhatIf
from qis.domain.snap import Snap
from tests.property.test_arrival_order import Pipeline
from tests.support.builders import EUR, SOURCES, rules, snap

LEVEL = Decimal(100)
FACTORS = ["100", "0.01", "4", "0.25", "1.2", "0.8"]

Day = tuple[bool, int, int]
"""Whether the day is wrong, the small move of its value, and how many sources report it."""
days = st.tuples(st.booleans(), st.integers(0, 2), st.sampled_from([1, 1, 1, 2]))


def expected(sequence: list[Day]) -> list[str]:
    """The naive oracle: a day waits where one source alone reports another level than the last official one.

    Two sources that report a level make it official, whichever level it is.
    """
    statuses, official_is_wrong = [], False
    for wrong, _, voices in sequence:
        if voices > 1:
            official_is_wrong = wrong
        statuses.append("official" if wrong is official_is_wrong else "suspect")
    return statuses


def delivery(day: int, source: str, value: Decimal) -> Delivery:
    received_at = Snap(snap(day).ns + 60 * 1_000_000_000).text
    body = {"snap": snap(day).text, "reference_data_id": EUR, "source": source, "value": str(value)}
    return Delivery(f"{day}/{source}", "load", json.dumps({**body, "received_at": received_at}).encode())


@pytest.mark.parametrize("method", ["precedence", "median"])
@settings(max_examples=60)
@given(st.lists(days, max_size=12), st.sampled_from(FACTORS).map(Decimal), st.data())
def test_a_run_of_wrong_days_waits_and_the_right_days_do_not(
    method: str, later: list[Day], factor: Decimal, data: st.DataObject
) -> None:
    sequence: list[Day] = [(False, 0, 1), *later]
    deliveries = [
        delivery(day, source, (LEVEL + move) * (factor if wrong else 1))
        for day, (wrong, move, voices) in enumerate(sequence)
        for source in SOURCES[:voices]
    ]
    pipeline = Pipeline(rules(method=method))
    rest = data.draw(st.permutations(deliveries), label="order of arrival")
    while rest:
        size = data.draw(st.integers(1, len(rest)), label="batch")
        pipeline.ingest.deliveries(rest[:size])
        pipeline.reconcile()
        rest = rest[size:]
    statuses = pipeline.result()
    assert [statuses[snap(day)][0] for day in range(len(sequence))] == expected(sequence)
    tried = WhatIf(pipeline.store, pipeline.reader, bool)
    assert not tried.run(Scope("fx", snap(0), snap(99)), None, None, 1_000)["changes"]
