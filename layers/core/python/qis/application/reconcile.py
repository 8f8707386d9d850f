"""Reconcile: from new claims to decisions and official values, for a batch of snaps at once.

Whether a move is believable depends on the neighbouring snaps, and whether a source votes on those before, so
a changed decision may change those that follow. The plan works forward in snap order over the batch, takes in
the followers that a change reaches, and appends everything in one transaction: the outcome is that of having
seen all claims at once, whatever their order of arrival. What a decision rests on is looked at again in that
transaction; where another writer changed it in between, the series is planned anew.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from qis.application.ports import (
    EMPTY,
    Append,
    Basis,
    Catalogue,
    CatalogueReader,
    Contended,
    EventStore,
    Key,
    Neighbours,
)
from qis.domain.errors import NotFound
from qis.domain.events import Event, NewEvent, value_stream
from qis.domain.reconciliation import NO_STANDINGS, Reference, Standings, Status, standings_of
from qis.domain.rules import RuleSet
from qis.domain.rules.book import Reach
from qis.domain.snap import Snap
from qis.domain.value_history import REASON_LATE, SNAPSHOT_FORMAT, ValueHistory

ACTOR = "qis:reconcile"
ATTEMPTS = 8
SNAPSHOT_EVERY = 100
"""Events since the last snapshot from which reading a stream leaves a new one; most never get there."""

Seed = Callable[[ValueHistory, RuleSet, Sequence[Reference], Standings], list[NewEvent]]
"""What a person's command adds to a history before it is reconciled."""

_UNPLACED = UUID(int=0)
LOOKS_AT_NOTHING = Reach(moves=False, standings=False)


@dataclass(frozen=True, slots=True)
class Trigger:
    """Why a snap is to be reconciled, and on whose behalf."""

    reference_data_id: str
    snap: Snap
    correlation_id: str
    causation_id: UUID | None
    actor: str = ACTOR
    cause: str = REASON_LATE
    """Why an official value may change by it; named in the restatement."""

    @property
    def key(self) -> Key:
        return self.reference_data_id, self.snap


@dataclass(slots=True)
class _Decided:
    """Decisions of one series made in this plan, in snap order."""

    order: list[int] = field(default_factory=list)
    of: dict[int, tuple[Status, Reference | None]] = field(default_factory=dict)
    standings: dict[int, Standings] = field(default_factory=dict)

    def put(self, snap: Snap, status: Status, reference: Reference | None, standings: Standings) -> None:
        if snap.ns not in self.of:
            insort(self.order, snap.ns)
        self.of[snap.ns] = (status, reference)
        self.standings[snap.ns] = standings

    def standings_before(self, snap: Snap, stored: Neighbours) -> Standings:
        """After the nearest decided snap before, whether this plan decided on it or it is stored."""
        index = bisect_left(self.order, snap.ns)
        if index and (stored.at is None or self.order[index - 1] >= stored.at.ns):
            return self.standings[self.order[index - 1]]
        return stored.standings

    def next(self, snap: Snap) -> Snap | None:
        """The nearest snap after that this plan decided on."""
        index = bisect_right(self.order, snap.ns)
        return Snap(self.order[index]) if index < len(self.order) else None

    def official_before(self, snap: Snap) -> Reference | None:
        """The nearest official value before that this plan decided."""
        for ns in reversed(self.order[: bisect_left(self.order, snap.ns)]):
            status, reference = self.of[ns]
            if status is Status.OFFICIAL:
                return reference
        return None

    def after(self, snap: Snap) -> list[Snap]:
        """The following snaps up to and including the first official one."""
        found: list[Snap] = []
        for ns in self.order[bisect_right(self.order, snap.ns) :]:
            found.append(Snap(ns))
            if self.of[ns][0] is Status.OFFICIAL:
                break
        return found


@dataclass(slots=True)
class _Plan:
    """The state of one pass over the batch."""

    histories: dict[Key, ValueHistory] = field(default_factory=dict)
    versions: dict[Key, int] = field(default_factory=dict)
    neighbours: dict[Key, Neighbours] = field(default_factory=dict)
    decided: dict[str, _Decided] = field(default_factory=dict)
    tracked: set[Key] = field(default_factory=set)
    """Keys whose rules ask for the standings of the sources."""
    resting: set[Key] = field(default_factory=set)
    """Keys that were decided on their neighbours."""
    events: dict[Key, list[NewEvent]] = field(default_factory=dict)

    def bases(self) -> list[Basis]:
        """What is to be looked at again before the events are stored."""
        found = []
        for id_ in sorted({i for i, _ in self.resting}):
            written = {
                self.histories[k].stream for k, events in self.events.items() if k[0] == id_ and events
            }
            if written:
                keys = {k for k in self.resting if k[0] == id_}
                neighbours = {k: self.neighbours[k] for k in keys}
                found.append(Basis(id_, frozenset(written), neighbours, frozenset(keys & self.tracked)))
        return found


class Reconciler:
    """The use case. One instance per process."""

    def __init__(self, store: EventStore, catalogue: CatalogueReader) -> None:
        self._store = store
        self._catalogue = catalogue

    def run(
        self, triggers: Iterable[Trigger], seeds: Mapping[Key, Seed] | None = None
    ) -> Mapping[Key, list[NewEvent]]:
        """Reconcile the triggers' snaps, and what follows from them, durably.

        Returns:
            The events appended, by key; empty where nothing new was found.

        Raises:
            Contended: other writers kept winning a stream.
            NotFound: a series is not registered.
        """
        by_key = {t.key: t for t in triggers}
        seeds = seeds or {}
        done: dict[Key, list[NewEvent]] = {}
        keys: set[Key] = set(by_key)
        for attempt in range(ATTEMPTS):
            # Whoever lost makes the others wait: deciding again beside them could lose for ever.
            alone = self._store.alone_on({id_ for id_, _ in keys}) if attempt else nullcontext()
            with alone:
                plan = self._plan(keys, seeds, by_key)
                appends = {
                    plan.histories[key].stream: (key, self._append(plan, key, by_key))
                    for key, events in plan.events.items()
                    if events
                }
                new = [a for _, a in appends.values()]
                lost = self._store.append(new, plan.bases()) if new else frozenset()
            for stream, (key, _) in appends.items():
                if stream not in lost:
                    done[key] = plan.events[key]
            if not lost:
                return done
            # A follower that lost is decided again, and so is whoever reached it.
            keys = {appends[s][0] for s in lost} | (keys - done.keys())
            by_key |= {k: _on_behalf(k, by_key) for k in keys if k not in by_key}
            seeds = {k: s for k, s in seeds.items() if k not in done}
        raise Contended(f"{len(keys)} streams were taken by other writers {ATTEMPTS} times")

    def _append(self, plan: _Plan, key: Key, by_key: Mapping[Key, Trigger]) -> Append:
        trigger = by_key.get(key) or _on_behalf(key, by_key)
        return Append(
            stream=plan.histories[key].stream,
            expected_version=plan.versions[key],
            events=plan.events[key],
            actor=trigger.actor,
            correlation_id=trigger.correlation_id,
            causation_id=trigger.causation_id,
        )

    def _plan(self, keys: Collection[Key], seeds: Mapping[Key, Seed], by_key: Mapping[Key, Trigger]) -> _Plan:
        catalogue = self._catalogue.current()
        plan = _Plan()
        pending = set(keys)
        while pending:
            self._read(plan, pending, catalogue)
            reached: set[Key] = set()
            for key in sorted(pending):
                cause = (by_key.get(key) or _on_behalf(key, by_key)).cause
                reached |= self._decide(plan, key, catalogue, seeds.get(key), cause) - pending
            seeds = {}
            pending = reached
        return plan

    def _read(self, plan: _Plan, pending: Collection[Key], catalogue: Catalogue) -> None:
        missing = {value_stream(i, s.text): (i, s) for i, s in pending if (i, s) not in plan.histories}
        loaded = self._store.load_recent(missing.keys(), SNAPSHOT_FORMAT)
        for stream, key in missing.items():
            found = loaded.get(stream, EMPTY)
            at, state = found.snapshot or (0, None)
            series = catalogue.series.get(key[0])
            structure = None if series is None else series.structure
            history = ValueHistory.restore(*key, at, state, structure).fold(found.events)
            # Of a large history a snapshot costs more than reading some events does.
            if len(found.events) >= max(SNAPSHOT_EVERY, len(history.claims) // 4):
                self._store.keep_snapshot(stream, found.version, history.snapshot())
            plan.histories[key] = history
            plan.versions[key] = found.version
        reaches = {key: _reach(catalogue, key[0]) for key in missing.values()}
        tracked = {key for key, reach in reaches.items() if reach.standings}
        looking = [key for key, reach in reaches.items() if reach != LOOKS_AT_NOTHING]
        plan.tracked |= tracked
        if looking:
            plan.neighbours.update(self._store.neighbours(looking, tracked))

    def _decide(self, plan: _Plan, key: Key, catalogue: Catalogue, seed: Seed | None, cause: str) -> set[Key]:
        """Decide on one key; returns the following keys whose references or standings it changed."""
        id_, snap = key
        rules = rules_for(catalogue, id_, snap)
        history = plan.histories[key]
        decided = plan.decided.setdefault(id_, _Decided())
        stored = plan.neighbours.get(key, Neighbours())
        reach = _reach(catalogue, id_)
        references = self._references(plan, key, decided) if rules.max_move is not None else []
        standings = decided.standings_before(snap, stored)
        if reach != LOOKS_AT_NOTHING:
            plan.resting.add(key)
        events = seed(history, rules, references, standings) if seed else []
        _fold_new(history, events)
        said = history.decision or {}
        before = said.get("status"), said.get("value")
        stood = standings_of(said) if said else standings
        outcome, more = history.reconcile(rules, references, standings, cause)
        _fold_new(history, more)
        plan.events.setdefault(key, []).extend([*events, *more])
        value, status = outcome.value, outcome.status
        if history.pinned is not None or (seed and history.official is not None and history.issue is None):
            assert history.official is not None
            value, status = history.official.value, Status.OFFICIAL
        reference = None  # nothing is measured against a record
        if isinstance(value, Decimal):
            reference = Reference(snap, value)
        left = outcome.standings or NO_STANDINGS
        decided.put(snap, status, reference, left)
        told = outcome.as_json()
        followers: set[Snap] = set()
        # A snap that this plan decided on may not be stored yet, and is a follower all the same.
        if reach.moves and (events or before != (told["status"], told["value"])):
            followers |= {*stored.after, *decided.after(snap)}
        if reach.standings and left != stood:
            following = [s for s in (stored.next, decided.next(snap)) if s is not None]
            followers |= {min(following)} if following else set()
        return {(id_, s) for s in followers}

    def _references(self, plan: _Plan, key: Key, decided: _Decided) -> list[Reference]:
        """The nearest official value before. A held value explains no move: it may be wrong itself."""
        id_, snap = key
        stored = self._stored(plan, id_, plan.neighbours.get(key, Neighbours()), decided)
        official = _nearer(decided.official_before(snap), stored)
        return [] if official is None else [official]

    def _stored(self, plan: _Plan, id_: str, neighbours: Neighbours, decided: _Decided) -> Reference | None:
        """The stored official neighbour, unless this plan decided its snap: then the one before that."""
        while True:
            match = next((Reference(s, v) for s, v, o in neighbours.before if o), None)
            if match is None or match.snap.ns not in decided.of:
                return match
            neighbours = plan.neighbours.get((id_, match.snap), Neighbours())


def _nearer(a: Reference | None, b: Reference | None) -> Reference | None:
    return max((r for r in (a, b) if r is not None), key=lambda r: r.snap, default=None)


def _on_behalf(key: Key, by_key: Mapping[Key, Trigger]) -> Trigger:
    """The trigger for a follower: that of the nearest triggered snap before it."""
    id_, snap = key
    nearest = max(
        (t for t in by_key.values() if t.reference_data_id == id_ and t.snap <= snap), key=lambda t: t.snap
    )
    return Trigger(id_, snap, nearest.correlation_id, nearest.causation_id)


def _fold_new(history: ValueHistory, events: Iterable[NewEvent]) -> None:
    """Fold events that are not stored yet, so that the next decision sees them."""
    now = datetime(1970, 1, 1, tzinfo=UTC)
    for event in events:
        placed = Event(
            _UNPLACED, event.type, 1, history.stream, history.version + 1, now, ACTOR, "", None, event.data
        )
        history.fold([placed])


def _reach(catalogue: Catalogue, reference_data_id: str) -> Reach:
    series = catalogue.series.get(reference_data_id)
    return LOOKS_AT_NOTHING if series is None else catalogue.rules.reach(series.rules)


def rules_for(catalogue: Catalogue, reference_data_id: str, snap: Snap) -> RuleSet:
    """The rules in force for a series at a snap.

    Raises:
        NotFound: the series is not registered.
    """
    series = catalogue.series.get(reference_data_id)
    if series is None:
        raise NotFound(f"series {reference_data_id} is not registered", "unknown-series")
    return catalogue.rules.rule_set(series.rules, snap)
