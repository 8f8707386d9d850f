"""As of a moment or a log position, the reads give what a naive scan of the log gives, at every boundary."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from itertools import count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qis.adapters.postgres.event_store import PostgresEventStore
from qis.adapters.postgres.reads import PostgresReads
from qis.application.reading import LATEST, Knowledge, OfficialRow
from qis.domain.events import Event, Position, value_stream
from qis.domain.snap import Snap
from tests.support.builders import published, snap, value_append
from tests.support.databases import FreshDatabase

MICROSECOND = timedelta(microseconds=1)
SNAPS = [snap(d) for d in range(4)]
UNTIL = snap(10)
_IDS = count(1)

values = st.decimals(allow_nan=False, allow_infinity=False, min_value="0.0001", max_value=10**9, places=4)
commits = st.lists(
    st.dictionaries(st.sampled_from(range(len(SNAPS))), values, min_size=1), min_size=1, max_size=10
)

Answer = tuple[Decimal, int] | None


def write(
    database: FreshDatabase, id_: str, history: Sequence[dict[int, Decimal]], stepped: int
) -> list[Event]:
    """Publish and restate; before commit number ``stepped`` the clock is set back by an hour, so that what
    follows is recorded a microsecond apart. Returns the official events in the order of the log."""
    store = PostgresEventStore(database.app)
    versions: dict[int, int] = {}
    for number, commit in enumerate(history):
        if number == stepped:
            _set_clock_back(database, id_)
        appends = []
        for n, value in commit.items():
            versions[n] = versions.get(n, 0) + 1
            appends.append(value_append(versions[n] - 1, published(str(value), SNAPS[n], versions[n], id_)))
        assert not store.append(appends)
    loaded = store.load([value_stream(id_, s.text) for s in SNAPS])
    return sorted((e for found in loaded.values() for e in found.events), key=lambda e: e.position)


def _set_clock_back(database: FreshDatabase, id_: str) -> None:
    with database.connect() as owner:
        for statement in (
            "UPDATE events SET recorded_at = recorded_at + interval '1 hour' WHERE starts_with(stream, %s)",
            "UPDATE stream_heads SET recorded_at = recorded_at + interval '1 hour'"
            " WHERE starts_with(stream, %s)",
        ):
            owner.execute(statement, (f"value:{id_}@",))
        owner.execute(
            "UPDATE official_values SET recorded_from = recorded_from + interval '1 hour',"
            " superseded_at = superseded_at + interval '1 hour' WHERE reference_data_id = %s",
            (id_,),
        )


def oracle(log: Sequence[Event], at: Snap, known: Knowledge) -> Answer:
    """The last word on a snap among the events that were known, by looking at every one of them."""
    answer: Answer = None
    for event in log:
        if known.as_of is not None and event.recorded_at > known.as_of:
            continue
        if known.basis is not None and event.position > known.basis:
            continue
        if event.data["snap"] == at.text:
            answer = Decimal(event.data["value"]), event.data["official_version"]
    return answer


def boundaries(log: Sequence[Event]) -> list[Knowledge]:
    moments = {e.recorded_at + by for e in log for by in (-MICROSECOND, MICROSECOND * 0, MICROSECOND)}
    moments |= {log[0].recorded_at - timedelta(days=400), log[-1].recorded_at + timedelta(days=400)}
    places = {Position(e.position.tx, e.position.sequence + by) for e in log for by in (-1, 0, 1)}
    places |= {Position(0, 0), Position(2**62, 0)}
    places |= {Position(e.position.tx + by, 0) for e in log for by in (0, 1)}
    return [LATEST, *(Knowledge(as_of=m) for m in moments), *(Knowledge(basis=p) for p in places)]


def shown(row: OfficialRow | None) -> Answer:
    return None if row is None else (row.value, row.version)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(history=commits, stepped=st.integers(0, 10))
def test_point_several_and_page_equal_a_naive_scan_at_every_boundary(
    database: FreshDatabase, history: list[dict[int, Decimal]], stepped: int
) -> None:
    id_ = f"ID{next(_IDS)}"
    log = write(database, id_, history, stepped)
    reads = PostgresReads(database.app)
    for known in boundaries(log):
        wanted = [oracle(log, s, known) for s in SNAPS]
        points = [reads.point(id_, s, known)[1] for s in SNAPS]
        assert [shown(p) for p in points] == wanted, known
        assert [shown(r) for r in reads.several([(id_, s) for s in SNAPS], known)] == wanted, known
        page = [(r.snap, shown(r)) for r in reads.page(id_, SNAPS[0], UNTIL, known, None, 100)]
        assert page == [(s, w) for s, w in zip(SNAPS, wanted, strict=True) if w is not None], known


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(history=commits, stepped=st.integers(0, 10))
def test_the_events_shown_are_those_that_were_known(
    database: FreshDatabase, history: list[dict[int, Decimal]], stepped: int
) -> None:
    id_ = f"ID{next(_IDS)}"
    log = write(database, id_, history, stepped)
    reads = PostgresReads(database.app)
    streams = [value_stream(id_, s.text) for s in SNAPS]
    for known in boundaries(log):
        found = {e.event_id for e in reads.events(streams, known)}
        assert found == {
            e.event_id
            for e in log
            if (known.as_of is None or e.recorded_at <= known.as_of)
            and (known.basis is None or e.position <= known.basis)
        }


def test_an_earlier_answer_is_still_given_after_a_restatement(database: FreshDatabase) -> None:
    log = write(database, "ID", [{0: Decimal("1.1000")}], -1)
    reads = PostgresReads(database.app)
    before = Knowledge(as_of=log[0].recorded_at), Knowledge(basis=log[0].position)
    first = [reads.point("ID", SNAPS[0], known)[1] for known in before]
    PostgresEventStore(database.app).append(
        [value_append(1, published("1.2", SNAPS[0], 2, "ID", before={"value": "1.1000"}))]
    )
    assert [reads.point("ID", SNAPS[0], known)[1] for known in before] == first
    assert str(first[0] and first[0].value) == "1.1000", "every digit is kept"
    assert shown(reads.point("ID", SNAPS[0], LATEST)[1]) == (Decimal("1.2"), 2)
