"""As-of and by-position reads against a naive oracle, on random histories, at every boundary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qis.adapters.postgres.reads import PostgresReads
from qis.application.reading import LATEST, Knowledge, OfficialRow
from qis.domain.events import Position
from qis.domain.snap import Snap
from tests.support.databases import FreshDatabase

ID = "PX"
START = datetime(2026, 1, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class Recorded:
    """One version as an oracle keeps it."""

    snap: Snap
    value: Decimal
    at: datetime
    position: Position


# Which snap, how long after the event before, and whether in the same transaction.
STEPS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3), st.booleans()), min_size=1, max_size=10)


def history(steps: Sequence[tuple[int, int, bool]]) -> list[Recorded]:
    found: list[Recorded] = []
    moment, tx, seen = START, 100, set[int]()
    for n, (snap, gap, same) in enumerate(steps):
        # A transaction has one moment of recording, and at most one version of a value.
        if not same or snap in seen or not found:
            moment, tx, seen = moment + gap * TICK, tx + gap, set()
        seen.add(snap)
        found.append(Recorded(Snap(snap * 10**9), Decimal(n), moment, Position(tx, n + 1)))
    return found


def store(database: FreshDatabase, events: Sequence[Recorded]) -> None:
    """The rows that the projection keeps of these events."""
    with database.connect() as owner:
        owner.execute("TRUNCATE official_values")
        for event in events:
            at, tx, sequence = event.at, str(event.position.tx), event.position.sequence
            owner.execute(
                "UPDATE official_values SET superseded_at = %s, superseded_tx = %s, superseded_position = %s"
                " WHERE snap_ns = %s AND superseded_at IS NULL",
                (at, tx, sequence, event.snap.ns),
            )
            owner.execute(
                "INSERT INTO official_values (reference_data_id, snap_ns, recorded_from, snap, value,"
                " version, event_id, tx, position, details)"
                " VALUES (%s, %s, %s, %s, %s, %s, gen_random_uuid(), %s, %s, '{}')",
                (ID, event.snap.ns, at, event.snap.moment, event.value, sequence, tx, sequence),
            )


def oracle(events: Sequence[Recorded], at: Knowledge) -> dict[Snap, Decimal]:
    """Replays what was known; the last word on each snap counts."""
    found: dict[Snap, Decimal] = {}
    for event in events:
        if at.as_of is not None and event.at > at.as_of:
            continue
        if at.basis is not None and event.position > at.basis:
            continue
        found[event.snap] = event.value
    return dict(sorted(found.items()))


def values(rows: Sequence[OfficialRow | None]) -> dict[Snap, Decimal]:
    return {r.snap: r.value for r in rows if r is not None}


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_reads_equal_the_oracle_at_every_boundary(
    database: FreshDatabase, steps: list[tuple[int, int, bool]]
) -> None:
    events = history(steps)
    store(database, events)
    reads = PostgresReads(database.app)
    asked = [LATEST, Knowledge(as_of=START), Knowledge(basis=Position(0, 0))]
    for event in events:
        asked += [Knowledge(as_of=event.at + d) for d in (-TICK, timedelta(0), TICK)]
        tx, sequence = event.position.tx, event.position.sequence
        asked += [Knowledge(basis=Position(tx, sequence + d)) for d in (-1, 0, 1)]
        asked += [Knowledge(basis=Position(tx, 0)), Knowledge(basis=Position(tx + 1, 0))]
    snaps = [Snap(n * 10**9) for n in range(4)]
    for at in set(asked):
        expected = oracle(events, at)
        assert values([reads.point(ID, s, at)[1] for s in snaps]) == expected, at
        assert values(reads.several([(ID, s) for s in snaps], at)) == expected, at
        page = reads.page(ID, Snap(0), Snap(10**12), at, None, 100)
        assert [(r.snap, r.value) for r in page] == list(expected.items()), at
        days = reads.page(ID, Snap(0), Snap(10**12), at, "day", 100)
        assert [(r.snap, r.value) for r in days] == list(expected.items())[-1:], at
