"""Reconcile: from new claims to decisions and official values, for a batch of snaps at once.

Whether a move is believable depends on the neighbouring snaps, so a changed decision may change those that
follow. The plan works forward in snap order over the batch, takes in the followers that a change reaches,
and appends everything in one transaction: the outcome is that of having seen all claims at once, whatever
their order of arrival.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from qis.application.ports import EMPTY, Append, Catalogue, CatalogueReader, Contended, EventStore, Neighbours
from qis.domain.errors import NotFound
from qis.domain.events import Event, NewEvent, value_stream
from qis.domain.reconciliation import Reference, Status
from qis.domain.rules import RuleSet
from qis.domain.snap import Snap
from qis.domain.value_history import SNAPSHOT_FORMAT, ValueHistory

ACTOR = "qis:reconcile"
ATTEMPTS = 8
SNAPSHOT_EVERY = 100
"""Events since the last snapshot from which reading a stream leaves a new one; most never get there."""

Key = tuple[str, Snap]
Seed = Callable[[ValueHistory, RuleSet, Sequence[Reference]], list[NewEvent]]
"""What a person's command adds to a history before it is reconciled."""

_UNPLACED = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Trigger:
    """Why a snap is to be reconciled, and on whose behalf."""

    reference_data_id: str
    snap: Snap
    correlation_id: str
    causation_id: UUID | None
    actor: str = ACTOR

    @property
    def key(self) -> Key:
        return self.reference_data_id, self.snap


@dataclass(slots=True)
class _Decided:
    """Decisions of one series made in this plan, in snap order."""

    order: list[int] = field(default_factory=list)
    of: dict[int, tuple[Status, Reference | None]] = field(default_factory=dict)

    def put(self, snap: Snap, status: Status, reference: Reference | None) -> None:
        if snap.ns not in self.of:
            insort(self.order, snap.ns)
        self.of[snap.ns] = (status, reference)

    def before(self, snap: Snap, status: Status) -> Reference | None:
        for ns in reversed(self.order[: bisect_left(self.order, snap.ns)]):
            if self.of[ns][0] is status and self.of[ns][1] is not None:
                return self.of[ns][1]
            if self.of[ns][0] is Status.OFFICIAL:
                return None
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
    events: dict[Key, list[NewEvent]] = field(default_factory=dict)


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
        for _ in range(ATTEMPTS):
            plan = self._plan(keys, seeds)
            appends = {
                plan.histories[key].stream: (key, self._append(plan, key, by_key))
                for key, events in plan.events.items()
                if events
            }
            lost = self._store.append([a for _, a in appends.values()]) if appends else frozenset()
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

    def _plan(self, keys: Collection[Key], seeds: Mapping[Key, Seed]) -> _Plan:
        catalogue = self._catalogue.current()
        plan = _Plan()
        pending = set(keys)
        while pending:
            self._read(plan, pending)
            reached: set[Key] = set()
            for key in sorted(pending):
                reached |= self._decide(plan, key, catalogue, seeds.get(key)) - pending
            seeds = {}
            pending = reached
        return plan

    def _read(self, plan: _Plan, pending: Collection[Key]) -> None:
        missing = {value_stream(i, s.text): (i, s) for i, s in pending if (i, s) not in plan.histories}
        loaded = self._store.load_recent(missing.keys(), SNAPSHOT_FORMAT)
        for stream, key in missing.items():
            found = loaded.get(stream, EMPTY)
            at, state = found.snapshot or (0, None)
            history = ValueHistory.restore(*key, at, state).fold(found.events)
            if len(found.events) >= SNAPSHOT_EVERY:
                self._store.keep_snapshot(stream, found.version, history.snapshot())
            plan.histories[key] = history
            plan.versions[key] = found.version
        plan.neighbours.update(self._store.neighbours(missing.values()))

    def _decide(self, plan: _Plan, key: Key, catalogue: Catalogue, seed: Seed | None) -> set[Key]:
        """Decide on one key; returns the following keys whose references it changed."""
        id_, snap = key
        rules = rules_for(catalogue, id_)
        history = plan.histories[key]
        decided = plan.decided.setdefault(id_, _Decided())
        references = self._references(plan, key, decided) if rules.max_move is not None else []
        events = seed(history, rules, references) if seed else []
        _fold_new(history, events)
        before = (history.decision or {}).get("status"), (history.decision or {}).get("value")
        outcome, more = history.reconcile(rules, references)
        _fold_new(history, more)
        plan.events.setdefault(key, []).extend([*events, *more])
        value, status = outcome.value, outcome.status
        if history.pinned is not None or (seed and history.official is not None and history.issue is None):
            assert history.official is not None
            value, status = history.official.value, Status.OFFICIAL
        reference = None if value is None else Reference(snap, value, status is Status.OFFICIAL)
        decided.put(snap, status, reference)
        changed = bool(events) or before != (outcome.as_json()["status"], outcome.as_json()["value"])
        if not changed or rules.max_move is None:
            return set()
        # A snap that this plan decided on may not be stored yet, and is a follower all the same.
        return {(id_, s) for s in (*plan.neighbours[key].after, *decided.after(snap))}

    def _references(self, plan: _Plan, key: Key, decided: _Decided) -> list[Reference]:
        """The nearest official value before, and the nearest held one if it is nearer."""
        id_, snap = key
        found = plan.neighbours.get(key, Neighbours())
        stored_official = self._stored(plan, id_, found, decided, official=True)
        stored_held = self._stored(plan, id_, found, decided, official=False)
        official = _nearer(decided.before(snap, Status.OFFICIAL), stored_official)
        held = _nearer(decided.before(snap, Status.SUSPECT), stored_held)
        if held is not None and official is not None and held.snap < official.snap:
            held = None
        return [r for r in (official, held) if r is not None]

    def _stored(
        self, plan: _Plan, id_: str, found: Neighbours, decided: _Decided, *, official: bool
    ) -> Reference | None:
        """A stored neighbour, unless this plan decided otherwise about it: then the one before that."""
        while True:
            match = next((Reference(s, v, o) for s, v, o in found.before if o is official), None)
            if match is None or match.snap.ns not in decided.of:
                return match
            found = plan.neighbours[id_, match.snap]


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


def rules_for(catalogue: Catalogue, reference_data_id: str) -> RuleSet:
    """The rule set in force for a series.

    Raises:
        NotFound: the series is not registered.
    """
    series = catalogue.series.get(reference_data_id)
    if series is None:
        raise NotFound(f"series {reference_data_id} is not registered", "unknown-series")
    return catalogue.rules[series.rules]
