"""Scores kept up to date equal a recomputation from the events, for every history and every batching."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qis.application.scoreboard import MOST_WAITING, SECONDS, Followed, Key, Place, Scoreboard, ScoreQueries
from qis.domain import events as ev
from qis.domain.errors import InvalidInput, NotFound
from qis.domain.gaps import Spoken
from qis.domain.quality import mean, share
from qis.domain.scoreboard import HOUR, Cell, Tally, ValueState, change
from qis.domain.sequences import Channel
from qis.domain.sequences import Key as ChannelKey
from qis.domain.snap import NANOS, Snap, parse_instant
from qis.domain.windows import LATENESS, LENGTH, Windows
from tests.support.builders import EUR, FIRST, append, catalogue, detected, rules, series, snap
from tests.support.fakes import FixedCatalogue, MemoryEventStore

OTHER = "FX.OTHER"
VALUES = ("1", "1.0001", "0.999", "2", "-1", "0", "100")
NOW = datetime(2026, 3, 1, tzinfo=UTC)
BOOK = catalogue([series(), series(OTHER)], [rules(timely_within="PT1H")])


class MemoryScores:
    """``ScoreStore``, ``ScoreSession`` and ``ScoreReads`` over the log of a ``MemoryEventStore``."""

    def __init__(self, store: MemoryEventStore) -> None:
        self._store = store
        self._states: dict[Key, dict[str, Any]] = {}
        self._windows: dict[str, Any] | None = None
        self._at = ev.START
        self.sums: dict[Cell, Tally] = {}
        self.numbered: dict[ChannelKey, dict[str, Any]] = {}
        self.busy = False
        self.largest = 10**6
        """Events that fit into the bytes of a batch."""

    @contextmanager
    def session(self) -> Iterator[MemoryScores | None]:
        yield None if self.busy else self

    def read(self, types: Collection[str], limit: int) -> Sequence[ev.Event]:
        return [e for e in self._store.log if e.position > self._at and e.type in types][
            : min(limit, self.largest)
        ]

    def states(self, keys: Collection[Key]) -> Mapping[Key, ValueState]:
        return {k: ValueState.of(self._states[k]) for k in keys if k in self._states}

    def windows(self, length: timedelta) -> Windows:
        return Windows.of(self._windows, length)

    def channels(self, wanted: Any) -> Mapping[Any, Channel]:
        """Those of a session by key, those of a source by name."""
        if isinstance(wanted, str):
            return {c: Channel.of(b) for (s, c), b in sorted(self.numbered.items()) if s == wanted}
        return {k: Channel.of(self.numbered[k]) for k in wanted if k in self.numbered}

    def keep(
        self,
        states: Mapping[Key, ValueState],
        changes: Mapping[Cell, Tally],
        windows: Windows,
        to: ev.Position | None,
        at: datetime,
        channels: Mapping[ChannelKey, Channel],
    ) -> None:
        self.numbered |= {k: c.as_json() for k, c in channels.items()}
        self._states |= {k: s.as_json() for k, s in states.items()}
        for where, tally in changes.items():
            change(self.sums, where, tally, 1)
        self._windows = windows.as_json()
        self._at = to or self._at

    def followed(self, ids: Collection[str] | None, first: int, until: int) -> Followed:
        done = [e for e in self._store.log if e.position <= self._at]
        waits = [e for e in self._store.log if e.position > self._at]
        touching = any(
            first <= parse_instant(e.data["snap"], "").ns < until
            and (ids is None or e.data["reference_data_id"] in ids)
            for e in waits[:MOST_WAITING]
        )
        at = (done[-1].position, done[-1].recorded_at) if done else (None, None)
        return Followed(*at, len(waits), touching)

    def spoken(self, source: str, ids: Collection[str], first: int, until: int) -> Mapping[str, Spoken]:
        found: dict[str, Spoken] = {}
        for id_ in ids:
            mine = sorted(
                h for (i, s, h), t in self.sums.items() if (i, s) == (id_, source) and "claims" in t
            )
            inside = [h for h in mine if first <= h < until]
            if mine:
                found[id_] = Spoken(inside, mine[0] < first, mine[-1] >= until)
        return found

    def total(self, place: Place, first: int, until: int) -> Tally:
        found: dict[Cell, Tally] = {}
        for (id_, source, hour), tally in self.sums.items():
            if source == place.source and first <= hour < until and (place.ids is None or id_ in place.ids):
                change(found, ("", "", 0), tally, 1)
        return found.get(("", "", 0), {})

    def groups(
        self, source: str, first: int, until: int, by: str | Mapping[str, str], after: str, limit: int
    ) -> Mapping[str, Tally]:
        assert by == "series"
        ids = sorted({id_ for id_, s, _ in self.sums if s == source and id_ > after})[:limit]
        return {id_: self.total(Place([id_], source), first, until) for id_ in ids}


def board(scores: MemoryScores) -> Scoreboard:
    return Scoreboard(scores, FixedCatalogue(BOOK), lambda: 0.0)


def ingested(id_: str, at: Snap, source: str, number: int, late: int | None) -> ev.NewEvent:
    data = {"reference_data_id": id_, "snap": at.text, "source": source, "claim_id": f"{number}"}
    if late is not None:
        data["received_at"] = Snap(at.ns + late * NANOS).text
    return ev.NewEvent(ev.DATA_INGESTED, data)


def decided(id_: str, at: Snap, status: str, said: dict[str, str]) -> ev.NewEvent:
    values = {s: VALUES[(number + len(said)) % len(VALUES)] for number, s in enumerate(said)}
    used = [{"source": s, "value": values[s]} for s, rule in said.items() if rule == "used"]
    rejected = [{"source": s, "value": values[s], "rule": rule} for s, rule in said.items() if rule != "used"]
    data = {"reference_data_id": id_, "snap": at.text, "status": status, "value": None}
    return ev.NewEvent(ev.DATA_RECONCILED, {**data, "sources_used": used, "sources_rejected": rejected})


def official(id_: str, at: Snap, value: str = "1", **quality: str | None) -> ev.NewEvent:
    return ev.NewEvent(
        ev.DATA_PUBLISHED, {"reference_data_id": id_, "snap": at.text, "value": value, "quality": quality}
    )


SOURCES = ("alpha", "beta", "gamma", "delta")
AT = st.builds(snap, st.sampled_from([0, 0.01, 0.5, 1]))
IDS = st.sampled_from([EUR, OTHER])
SCORE = st.sampled_from([None, "0.0000", "0.3333", "0.5000", "1.0000"])
SAID = st.dictionaries(
    st.sampled_from(SOURCES), st.sampled_from(["used", "outside-tolerance", "stale", "out-of-range"])
)
EVENTS = st.one_of(
    st.builds(
        ingested, IDS, AT, st.sampled_from(SOURCES), st.integers(0, 10**6),
        st.sampled_from([None, -5, 0, 3, 3600, 3601, 90_000]),
    ),
    st.builds(decided, IDS, AT, st.sampled_from(["official", "suspect", "insufficient"]), SAID),
    st.builds(
        official, IDS, AT, st.sampled_from(VALUES),
        accuracy=SCORE, completeness=SCORE, timeliness=SCORE, consistency=SCORE,
    ),
)  # fmt: skip


def stored(events: Sequence[ev.NewEvent]) -> MemoryEventStore:
    store = MemoryEventStore()
    for n, event in enumerate(events):
        store.append([append(f"one:{n}", 0, event)])
    return store


def recomputed(events: Sequence[ev.NewEvent], ids: Collection[str], source: str) -> dict[str, Decimal | None]:
    """The scores by their definitions, from what every value came to in the end."""
    last: dict[tuple[str, str], dict[str, Any]] = {}
    claims: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for e in events:
        key = e.data["reference_data_id"], e.data["snap"]
        if e.type == ev.DATA_INGESTED:
            claims.setdefault(key, {})[e.data["claim_id"]] = dict(e.data)
        else:
            last.setdefault(key, {})[e.type] = e.data
    of: dict[str, list[Decimal]] = {n: [] for n in ("accuracy", "completeness", "timeliness", "consistency")}
    for found in (f for key, f in last.items() if key[0] in ids):
        if not source and ev.DATA_PUBLISHED in found:
            scored = found[ev.DATA_PUBLISHED]["quality"].items()
            for name, score in ((n, s) for n, s in scored if s is not None):
                of[name].append(Decimal(score))
        if source and ev.DATA_RECONCILED in found:
            _judged(of, found[ev.DATA_RECONCILED], source)
    of["timeliness"] += [
        Decimal(_late(claim) <= HOUR)
        for key, mine in claims.items()
        for claim in mine.values()
        if source == claim["source"] and key[0] in ids and "received_at" in claim
    ]
    return {name: mean(found) for name, found in of.items()}


def _late(claim: dict[str, Any]) -> int:
    return parse_instant(claim["received_at"], "").ns - parse_instant(claim["snap"], "").ns


def _judged(of: dict[str, list[Decimal]], decision: ev.Data, source: str) -> None:
    rule_of = {c["source"]: "used" for c in decision["sources_used"]}
    rule_of |= {c["source"]: c["rule"] for c in decision["sources_rejected"]}
    if source not in rule_of:
        if source in ("alpha", "beta", "gamma"):
            of["completeness"].append(Decimal(0))
        return
    of["completeness"].append(Decimal(1))
    of["consistency"].append(Decimal(rule_of[source] not in ("stale", "out-of-range")))
    if decision["status"] != "insufficient" and rule_of[source] in ("used", "outside-tolerance"):
        of["accuracy"].append(Decimal(rule_of[source] == "used"))


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENTS, max_size=30), st.lists(st.integers(1, 7), min_size=1, max_size=6))
def test_scores_equal_a_recomputation_from_the_events(events: list[ev.NewEvent], sizes: list[int]) -> None:
    store = stored(events)
    scores = MemoryScores(store)
    for size in [*sizes, 1000]:
        board(scores).advance(NOW, size)  # a new process each time
    queries = ScoreQueries(scores, FixedCatalogue(BOOK))
    window = snap(-1), snap(3)
    for scope, name, ids, source in (
        ("series", EUR, {EUR}, ""),
        ("asset_class", "fx_rate", {EUR, OTHER}, ""),
        *(("source", s, {EUR, OTHER}, s) for s in SOURCES),
    ):
        found = queries.scores(scope, name, *window)
        wanted = recomputed(events, ids, source)
        assert {k: v for k, v in found["scores"].items() if k != "composite"} == {
            k: None if v is None else str(v) for k, v in wanted.items()
        }, (scope, name)
        present = [v for v in wanted.values() if v is not None]
        assert found["scores"]["composite"] == (str(mean(present)) if present else None)
        assert found["reason"] == (None if present else "empty-window")


def errors(events: Sequence[ev.NewEvent], id_: str, source: str) -> list[float]:
    """How far the source lies from the official value, from what every value came to in the end."""
    last: dict[str, dict[str, ev.Data]] = {}
    for e in events:
        if e.data["reference_data_id"] == id_:
            last.setdefault(e.data["snap"], {})[e.type] = e.data
    found = []
    for told in last.values():
        if ev.DATA_RECONCILED not in told or ev.DATA_PUBLISHED not in told:
            continue
        decision, reference = told[ev.DATA_RECONCILED], Decimal(told[ev.DATA_PUBLISHED]["value"])
        for c in (*decision["sources_used"], *decision["sources_rejected"]):
            if c["source"] == source and c.get("rule") not in ("stale", "out-of-range") and reference:
                found.append(float((Decimal(c["value"]) - reference) / abs(reference) * 10_000))
    return found


@settings(max_examples=100, deadline=None)
@given(st.lists(EVENTS, max_size=30), st.lists(st.integers(1, 7), min_size=1, max_size=6))
def test_a_scorecard_equals_a_recomputation_from_the_events(
    events: list[ev.NewEvent], sizes: list[int]
) -> None:
    scores = MemoryScores(stored(events))
    for size in [*sizes, 1000]:
        board(scores).advance(NOW, size)
    card, more = ScoreQueries(scores, FixedCatalogue(BOOK)).scorecard(
        "alpha", snap(-1), snap(3), "series", "", 10
    )
    assert more is None
    by_series = {g["group"]: g["bp"] for g in card["groups"]}
    for id_ in (EUR, OTHER):
        wanted = sorted(errors(events, id_, "alpha"))
        told = by_series.get(id_, {"compared": 0, "bias": None, "worst": None})
        assert told["compared"] == len(wanted)
        if wanted:
            middle = wanted[(len(wanted) - 1) // 2]
            assert float(told["bias"]) == pytest.approx(middle, rel=0.011, abs=1e-6)
            assert float(told["worst"]) == pytest.approx(max(map(abs, wanted)), rel=0.011, abs=1e-6)
    assert card["total"]["bp"]["compared"] == sum(b["compared"] for b in by_series.values())


def test_a_window_is_whole_hours_and_an_empty_one_says_so() -> None:
    store = stored([official(EUR, snap(0), accuracy="0.5000"), official(EUR, snap(1), accuracy="1.0000")])
    scores = MemoryScores(store)
    board(scores).advance(NOW)
    queries = ScoreQueries(scores, FixedCatalogue(BOOK))
    at_half_past = Snap(FIRST.ns + 1800 * NANOS)
    found = queries.scores("series", EUR, at_half_past, Snap(at_half_past.ns + 1))
    assert found["window"] == {"from": "2026-01-05T14:00:00Z", "to": "2026-01-05T15:00:00Z"}
    assert (found["scores"]["accuracy"], found["values"]) == ("0.5000", 1)
    empty = queries.scores("series", EUR, snap(2), snap(3))
    assert (set(empty["scores"].values()), empty["reason"]) == ({None}, "empty-window")


def test_lateness_of_a_source_is_told_in_steps() -> None:
    late = [2, 2, 2, 2, 2, 2, 2, 2, 2, 4000]
    events = [ingested(EUR, snap(0), "alpha", n, seconds) for n, seconds in enumerate(late)]
    scores = MemoryScores(stored(events))
    board(scores).advance(NOW)
    found = ScoreQueries(scores, FixedCatalogue(BOOK)).scores("source", "alpha", snap(0), snap(1))
    assert (found["claims"], found["lateness"]) == (10, {"p50": 5, "p95": 21_600})
    assert found["scores"]["timeliness"] == str(share(9, 10))


def test_what_is_not_registered_is_refused() -> None:
    queries = ScoreQueries(MemoryScores(stored([])), FixedCatalogue(BOOK))
    for scope, name in (("series", "X"), ("source", "x"), ("asset_class", "x")):
        with pytest.raises(NotFound):
            queries.scores(scope, name, snap(0), snap(1))
    with pytest.raises(InvalidInput, match="choice"):
        queries.scores("desk", "x", snap(0), snap(1))
    with pytest.raises(InvalidInput, match="window-size") as refusal:
        queries.scores("series", EUR, snap(0), snap(400))
    assert refusal.value.violations[0].value == f"{snap(0).text}/{snap(400).text}"


def test_while_another_follows_nothing_is_done() -> None:
    scores = MemoryScores(stored([official(EUR, snap(0), accuracy="1")]))
    scores.busy = True
    assert board(scores).advance(NOW).events == 0


def test_a_tick_that_is_far_behind_ends_in_time_and_the_next_one_continues() -> None:
    scores = MemoryScores(stored([ingested(EUR, snap(n), "alpha", n, None) for n in range(10)]))
    clock = iter([0.0, SECONDS / 2, SECONDS, 100.0, 101.0, 102.0, 103.0])
    slow = Scoreboard(scores, FixedCatalogue(BOOK), lambda: next(clock))
    assert slow.advance(NOW, 2).events == 4, "the batch that runs then is finished"
    assert slow.advance(NOW, 2).events == 6


def test_an_answer_says_how_far_it_was_followed_and_when_it_is_not_complete() -> None:
    store = stored([official(EUR, snap(0), accuracy="1.0000"), official(EUR, snap(30), accuracy="0.5000")])
    scores = MemoryScores(store)
    queries = ScoreQueries(scores, FixedCatalogue(BOOK))
    nothing = queries.scores("series", EUR, snap(0), snap(1))
    assert nothing["reason"] == "not-followed-yet"
    assert nothing["followed"] == {"position": None, "recorded_at": None, "waiting": 2, "complete": False}
    late = iter([0.0, SECONDS])
    assert Scoreboard(scores, FixedCatalogue(BOOK), lambda: next(late)).advance(NOW, 1).events == 1
    first = queries.scores("series", EUR, snap(0), snap(1))
    assert (first["reason"], first["scores"]["accuracy"]) == (None, "1.0000")
    assert (first["followed"]["waiting"], first["followed"]["complete"]) == (1, True)
    assert first["followed"]["position"] == store.log[0].position.token
    whole = queries.scores("series", EUR, snap(0), snap(31))
    assert (whole["reason"], whole["scores"]["accuracy"]) == ("not-followed-yet", "1.0000")
    other = queries.scores("series", OTHER, snap(0), snap(31))
    assert (other["reason"], other["followed"]["complete"]) == ("empty-window", True)
    board(scores).advance(NOW)
    assert queries.scores("series", EUR, snap(0), snap(31))["scores"]["accuracy"] == "0.7500"


# windows -----------------------------------------------------------------------------------------


def test_windows_close_once_and_in_order_when_the_watermark_passes_them() -> None:
    windows, start = Windows(), datetime(2026, 1, 5, 9, tzinfo=UTC)
    held = detected("00000000-0000-0000-0000-000000000001")
    for second, event in (
        (5, ingested(EUR, snap(0), "alpha", 1, None)),
        (59, official(EUR, snap(0), composite="0.9000")),
        (60, official(EUR, snap(0), composite="0.9500")),
        (30, held),
        (61, detected("00000000-0000-0000-0000-000000000002", kind="missing", gate=False)),
        (62, official(EUR, snap(0), composite=None)),
    ):
        windows.take(start + timedelta(seconds=second), event.type, event.data)
    assert windows.advance(start + timedelta(seconds=59)) == []
    windows = Windows.of(windows.as_json())
    ((at, first),) = windows.advance(start + LENGTH)
    assert (at, first.claims, first.scored, first.score, first.poor) == (start, 1, 2, Decimal("0.45"), 2)
    windows.take(start, ev.DATA_INGESTED, {})
    assert windows.late == 1
    assert windows.advance(start) == [], "the watermark never goes back"
    ((_, second),) = windows.advance(start + 2 * LENGTH)
    assert (second.claims, second.scored, second.poor) == (0, 1, 0), "0.95 itself is not poor"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 600), max_size=40), st.integers(1, 9))
def test_every_claim_is_in_one_window_whatever_the_batches(seconds: list[int], size: int) -> None:
    start = datetime(2026, 1, 5, 9, tzinfo=UTC)
    ticks = iter(sorted(seconds))
    store = MemoryEventStore(lambda: start + timedelta(seconds=next(ticks)))
    for n in range(len(seconds)):
        store.append([append(f"one:{n}", 0, ingested(EUR, snap(0), "alpha", n, None))])
    board = Scoreboard(MemoryScores(store), FixedCatalogue(BOOK), lambda: 0.0)
    closed = board.advance(start, size).closed + board.advance(start + timedelta(hours=1)).closed
    assert [at for at, _ in closed] == sorted({at for at, _ in closed})
    assert {at: w.claims for at, w in closed} == {
        start + n * LENGTH: count for n in range(11) if (count := sum(s // 60 == n for s in seconds))
    }
    assert board.advance(start + timedelta(hours=1) + LATENESS).closed == []


def test_a_batch_that_is_short_because_its_events_are_large_is_not_the_end_of_the_log() -> None:
    start = datetime(2026, 1, 5, 9, tzinfo=UTC)
    ticks = (start + n * LENGTH for n in range(7))
    store = MemoryEventStore(lambda: next(ticks))
    for n in range(7):
        store.append([append(f"one:{n}", 0, ingested(EUR, snap(0), "alpha", n, None))])
    scores = MemoryScores(store)
    scores.largest = 2
    done = board(scores).advance(start + 7 * LENGTH + LATENESS)
    assert done.events == 7
    assert [w.claims for _, w in done.closed] == [1] * 7
    assert scores.windows(LENGTH).late == 0
