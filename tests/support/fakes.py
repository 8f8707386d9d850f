"""The ports of the application, in memory. The contract tests hold them to what the real ones do."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from itertools import accumulate, count
from typing import Any
from uuid import UUID

from qis.application.admission import Held, HeldClaim, accepted_records, sort_out
from qis.application.arrivals import Arrived
from qis.application.detectors import Kept, Past
from qis.application.ingest import Ingest
from qis.application.ports import (
    BUDGET,
    Admission,
    Append,
    Basis,
    Candidate,
    Catalogue,
    DeadLetter,
    Issue,
    Key,
    Loaded,
    Neighbours,
    RecordOutcome,
    Rejection,
    Stored,
    Unavailable,
)
from qis.application.quality import ClaimEntry, OpenFinding, Progress
from qis.application.raw import RawBatch
from qis.domain import events as ev
from qis.domain.checks import Check, parse_check
from qis.domain.findings import Fact
from qis.domain.reconciliation import standings_of
from qis.domain.rules import Layer, RuleBook, parse_layer
from qis.domain.series import Series, Source, parse_series, parse_source
from qis.domain.snap import Snap, parse_instant

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_CLOSING = {
    ev.QUALITY_ISSUE_RESOLVED: "resolved",
    ev.QUALITY_APPROVED: "approved",
    ev.QUALITY_REJECTED: "rejected",
}


class Ticking:
    """A clock that moves on by a microsecond at every look."""

    def __init__(self, start: datetime = EPOCH) -> None:
        self.now = start

    def __call__(self) -> datetime:
        self.now += timedelta(microseconds=1)
        return self.now


class MemoryLedger:
    """What became of records."""

    def __init__(self) -> None:
        self.loads: dict[str, dict[str, int]] = {}
        self.outcomes: dict[str, tuple[str, RecordOutcome]] = {}
        """Of records that did not enter, their load and outcome."""

    def count(
        self,
        entered: Sequence[Candidate],
        duplicates: Sequence[Candidate],
        rejected: Sequence[Rejection],
        held: Held,
    ) -> Mapping[str, RecordOutcome]:
        standing = accepted_records([r.record_id for r in rejected], held)
        rejected = [r for r in rejected if r.record_id not in standing]
        earlier = [c.record_id for c in entered]
        earlier += [r.record_id for r in (*duplicates, *rejected) if r.redriven]
        for record_id in earlier:
            if record_id in self.outcomes and self.outcomes[record_id][1].outcome == "rejected":
                load_id, before = self.outcomes.pop(record_id)
                self._add(load_id, before.outcome, -1)
        for candidate in entered:
            self._add(candidate.load_id, "accepted", 1)
        new: list[tuple[Candidate | Rejection, RecordOutcome]] = [
            (c, RecordOutcome("duplicate", c.claim.claim_id)) for c in duplicates
        ]
        for record, outcome in new + [
            (r, RecordOutcome("rejected", violations=r.violations)) for r in rejected
        ]:
            if record.record_id not in self.outcomes:
                self.outcomes[record.record_id] = (record.load_id, outcome)
                self._add(record.load_id, outcome.outcome, 1)
        return standing | {r.record_id: self.outcomes[r.record_id][1] for r in rejected}

    def _add(self, load_id: str, kind: str, by: int) -> None:
        load = self.loads.setdefault(load_id, {"accepted": 0, "duplicate": 0, "rejected": 0})
        load[kind] += by


class MemoryEventStore:
    """``EventStore`` in memory, with the read models that follow inline."""

    def __init__(self, clock: Callable[[], datetime] | None = None) -> None:
        self._clock = clock or Ticking()
        self._transactions = count(1)
        self.streams: dict[str, list[ev.Event]] = {}
        self.log: list[ev.Event] = []
        self.decisions: dict[tuple[str, Snap], tuple[str, Decimal | None]] = {}
        self.standings: dict[tuple[str, Snap], ev.Data] = {}
        self.official: dict[tuple[str, Snap], list[ev.Event]] = {}
        self.issues: dict[UUID, Issue] = {}
        self.issue_status: dict[UUID, str] = {}
        self.snapshots: dict[str, tuple[int, dict[str, Any]]] = {}
        self.ledger = MemoryLedger()
        self.raw: dict[str, RawBatch] = {}
        self.receipts: dict[tuple[str, str], tuple[bytes, dict[str, Any]]] = {}
        """By actor and idempotency key."""

    def now(self) -> datetime:
        return self._clock()

    def load(self, streams: Collection[str]) -> Mapping[str, Loaded]:
        return {s: Loaded(len(self.streams[s]), tuple(self.streams[s])) for s in streams if s in self.streams}

    def load_recent(self, streams: Collection[str], snapshot_format: int) -> Mapping[str, Loaded]:
        found = {}
        for stream, loaded in self.load(streams).items():
            at, state = self.snapshots.get(stream, (0, {}))
            if state.get("format") == snapshot_format:
                found[stream] = Loaded(loaded.version, loaded.events[at:], (at, state))
            else:
                found[stream] = loaded
        return found

    def keep_snapshot(self, stream: str, version: int, state: Mapping[str, Any]) -> None:
        kept = self.snapshots.get(stream)
        if kept is None or kept[0] < version or kept[1].get("format") != state.get("format"):
            self.snapshots[stream] = version, json.loads(json.dumps(state))

    def versions(self, streams: Collection[str]) -> Mapping[str, int]:
        return {s: len(self.streams[s]) for s in streams if s in self.streams}

    @contextmanager
    def alone_on(self, series: Collection[str]) -> Iterator[None]:
        yield  # nobody else is there

    def append(self, appends: Sequence[Append], bases: Sequence[Basis] = ()) -> frozenset[str]:
        expected: dict[str, int] = {}
        for one in appends:
            expected.setdefault(one.stream, one.expected_version)
        lost = frozenset(s for s, at in expected.items() if len(self.streams.get(s, ())) != at)
        for basis in bases:
            now = {k: self._neighbours(*k, tracked=k in basis.tracked) for k in basis.neighbours}
            if basis.streams & lost or now != basis.neighbours:
                lost |= basis.streams
        moment, tx = self._moment(expected.keys() - lost), next(self._transactions)
        for one in appends:
            if one.stream not in lost:
                self._store(one, moment, tx)
        return lost

    def _moment(self, streams: Collection[str]) -> datetime:
        last = [self.streams[s][-1].recorded_at for s in streams if s in self.streams]
        return max([self._clock(), *(at + timedelta(microseconds=1) for at in last)])

    def _store(self, one: Append, moment: datetime, tx: int) -> None:
        for version, event in enumerate(one.events, one.expected_version + 1):
            placed = ev.Event(
                event_id=UUID(bytes=sha256(f"{one.stream}#{version}".encode()).digest()[:16]),
                type=event.type,
                type_version=ev.VERSIONS[event.type],
                stream=one.stream,
                version=version,
                recorded_at=moment,
                actor=one.actor,
                correlation_id=one.correlation_id,
                causation_id=one.causation_id,
                data=json.loads(json.dumps(event.data)),
                position=ev.Position(tx, len(self.log) + 1),
            )
            self.streams.setdefault(one.stream, []).append(placed)
            self.log.append(placed)
            self._project(placed)

    def _project(self, event: ev.Event) -> None:
        data = event.data
        if event.type in (ev.DATA_PUBLISHED, ev.DATA_RESTATED):
            self.official.setdefault(_key(data), []).append(event)
            self.decisions[_key(data)] = ("official", _number(data["value"]))
        elif event.type == ev.DATA_RECONCILED:
            pinned = data.get("pinned")
            status, value = (data["status"], data["value"]) if pinned is None else ("official", pinned)
            self.decisions[_key(data)] = (status, _number(value))
            self.standings[_key(data)] = data
        elif event.type == ev.QUALITY_ISSUE_DETECTED:
            issue_id = UUID(data["issue_id"])
            self.issues[issue_id] = Issue(*_key(data), data["gate"])
            self.issue_status[issue_id] = "open"
        elif event.type in _CLOSING and self.issue_status.get(UUID(data["issue_id"])) == "open":
            self.issue_status[UUID(data["issue_id"])] = _CLOSING[event.type]

    def neighbours(self, keys: Collection[Key], tracked: Collection[Key] = ()) -> Mapping[Key, Neighbours]:
        return {key: self._neighbours(*key, tracked=key in tracked) for key in keys}

    def _neighbours(self, id_: str, snap: Snap, *, tracked: bool) -> Neighbours:
        mine = sorted((s, status, value) for (i, s), (status, value) in self.decisions.items() if i == id_)
        before: list[tuple[Snap, Any, bool]] = []
        for s, status, value in reversed([m for m in mine if m[0] < snap]):
            if status == "suspect" and not before:
                before.append((s, value, False))
            if status == "official":
                before.insert(0, (s, value, True))
                break
        after: list[Snap] = []
        for s, status, _ in (m for m in mine if m[0] > snap):
            after.append(s)
            if status == "official":
                break
        if not tracked:
            return Neighbours(before, after)
        at = max((s for s, _, _ in mine if s < snap), default=None)
        standings = {} if at is None else standings_of(self.standings.get((id_, at), {}))
        return Neighbours(
            before, after, standings, at, min((s for s, _, _ in mine if s > snap), default=None)
        )

    def decided(self, reference_data_id: str, first: Snap, until: Snap, limit: int) -> Sequence[Snap]:
        found = sorted(s for i, s in self.decisions if i == reference_data_id and first <= s < until)
        return found[:limit]

    def issue(self, issue_id: UUID) -> Issue | None:
        return self.issues.get(issue_id)


def open_exceptions(store: MemoryEventStore) -> set[tuple[str, str, str]]:
    """Kind, snap and source of each finding that is open."""
    return {
        (e.data["kind"], e.data["snap"], e.data["source"])
        for e in store.log
        if e.type == ev.QUALITY_ISSUE_DETECTED and not e.data["gate"]
        if store.issue_status[UUID(e.data["issue_id"])] == "open"
    }


class MemoryAdmissions:
    """``Admissions`` to a ``MemoryEventStore``."""

    def __init__(self, store: MemoryEventStore) -> None:
        self.store = store

    @contextmanager
    def open(self) -> Iterator[Admission]:
        admission = _MemoryAdmission(self.store)
        yield admission
        if lost := MemoryEventStore.append(self.store, admission.appends):
            raise AssertionError(f"{lost} changed while they were taken")
        self.store.ledger = admission.ledger
        for raw in admission.raw:
            self.store.raw.setdefault(raw.address, raw)
        self.store.receipts |= admission.receipts


class _MemoryLookup:
    def __init__(self, store: MemoryEventStore) -> None:
        self._store = store

    def recorded_at(self, stream: str) -> Snap:
        return Snap.of(self._store.now())

    def duplicates(self, records: Collection[str]) -> frozenset[str]:
        outcomes = self._store.ledger.outcomes
        return frozenset(r for r in records if r in outcomes and outcomes[r][1].outcome == "duplicate")

    def claims(self, streams: Collection[str]) -> Mapping[str, list[HeldClaim]]:
        return {
            stream: [
                HeldClaim(
                    e.data["claim_id"],
                    e.data["source"],
                    None if (at := e.data.get("received_at")) is None else parse_instant(at, "received_at"),
                    Snap.of(e.recorded_at),
                )
                for e in loaded.events
                if e.type == ev.DATA_INGESTED
            ]
            for stream, loaded in self._store.load(streams).items()
        }


class _MemoryAdmission:
    def __init__(self, store: MemoryEventStore) -> None:
        self._store = store
        self._taken: Counter[str] = Counter()
        self.appends: list[Append] = []
        self.raw: list[RawBatch] = []
        self.entered: list[Candidate] = []
        self.duplicates: list[Candidate] = []
        self._held: Held = {}
        self.ledger = store.ledger
        self.receipts: dict[tuple[str, str], tuple[bytes, dict[str, Any]]] = {}

    def find_receipt(self, actor: str, idempotency_key: str) -> tuple[bytes, dict[str, Any]] | None:
        return self._store.receipts.get((actor, idempotency_key))

    def keep_receipt(
        self,
        receipt: UUID,
        actor: str,
        idempotency_key: str | None,
        request_hash: bytes,
        answer: dict[str, Any],
    ) -> None:
        if idempotency_key is not None:
            self.receipts[actor, idempotency_key] = (request_hash, answer)

    def take(self, streams: Sequence[str]) -> None:
        if self._taken:
            raise AssertionError("streams are taken once")
        self._taken = Counter(streams)

    def keep(self, raw: RawBatch) -> None:
        self.raw.append(raw)

    def store(self, candidates: Sequence[Candidate]) -> Stored:
        if untaken := Counter([c.stream for c in candidates]) - self._taken:
            raise AssertionError(f"{untaken} are not taken")
        held: Held = {
            stream: {
                e.data["claim_id"]: e.data["record_id"] for e in loaded.events if e.type == ev.DATA_INGESTED
            }
            for stream, loaded in self._store.load(self._taken).items()
        }
        versions = dict(self._store.versions(self._taken))
        stored = sort_out(candidates, held, _MemoryLookup(self._store))
        known, entering = stored
        self._held = held
        self.duplicates = [c for c in candidates if known.get(c.place) == "duplicate"]
        self.entered = list(entering)
        for c in self.entered:
            version = versions.get(c.stream, 0)
            versions[c.stream] = version + 1
            event = ev.NewEvent(ev.DATA_INGESTED, c.data())
            self.appends.append(Append(c.stream, version, (event,), c.actor, c.load_id))
        return stored

    def count(self, rejected: Sequence[Rejection]) -> Mapping[str, RecordOutcome]:
        self.ledger = deepcopy(self._store.ledger)
        return self.ledger.count(self.entered, self.duplicates, rejected, self._held)


def _number(value: Any) -> Decimal | None:
    """A number's value; a record has no place among the numbers."""
    return Decimal(value) if isinstance(value, str) else None


def _key(data: ev.Data) -> tuple[str, Snap]:
    return data["reference_data_id"], parse_instant(data["snap"], "snap")


class FixedCatalogue:
    """``CatalogueReader`` that always gives the same."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue

    def current(self) -> Catalogue:
        return self.catalogue

    def newest(self) -> Catalogue:
        return self.catalogue


class LogCatalogue:
    """``CatalogueReader`` over the log of a ``MemoryEventStore``."""

    def __init__(self, store: MemoryEventStore) -> None:
        self._store = store

    def current(self) -> Catalogue:
        series: dict[str, Series] = {}
        sources: dict[str, Source] = {}
        layers: list[Layer] = []
        checks: dict[str, Check] = {}
        revision = 0
        for event in self._store.log:
            if event.type in (ev.SERIES_REGISTERED, ev.SCHEMA_EVOLVED):
                series[event.data["reference_data_id"]] = parse_series(event.data)
            elif event.type in (ev.SOURCE_ADDED, ev.SOURCE_CHANGED):
                sources[event.data["source"]] = parse_source(event.data)
            elif event.type == ev.RULES_CHANGED:
                layers.append(parse_layer(event.data, event.version))
            elif event.type == ev.CHECK_CHANGED:
                checks[event.data["check"]] = parse_check(event.data)
            else:
                continue
            revision += 1
        active = {name: s.active for name, s in sources.items()}
        return Catalogue(revision, series, sources, RuleBook(layers), active, checks)

    def newest(self) -> Catalogue:
        return self.current()


class MemoryRawOutbox:
    """``RawOutbox`` of a ``MemoryEventStore``."""

    def __init__(self, store: MemoryEventStore) -> None:
        self._store = store

    def oldest(self, limit: int, most_bytes: int) -> Sequence[RawBatch]:
        oldest: list[RawBatch] = []
        for batch in list(self._store.raw.values())[:limit]:
            if oldest and sum(len(b.body) for b in (*oldest, batch)) > most_bytes:
                break
            oldest.append(batch)
        return oldest

    def drop(self, addresses: Sequence[str]) -> None:
        for address in addresses:
            self._store.raw.pop(address, None)

    def waiting(self, limit: int) -> int:
        return min(limit, len(self._store.raw))


class MemoryRawStore:
    """``RawStore`` in memory."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}

    def put(self, batches: Sequence[RawBatch]) -> None:
        self.bodies.update(batches)


class MemoryDeadLetters:
    """``DeadLetters`` in memory; ``refuse`` makes it unavailable."""

    def __init__(self) -> None:
        self.letters: list[DeadLetter] = []
        self.refuse = False

    def send(self, letters: Sequence[DeadLetter]) -> None:
        if self.refuse:
            raise Unavailable("the dead-letter queue is away")
        self.letters += letters


def ingest_into(
    store: MemoryEventStore,
    reader: FixedCatalogue,
    *,
    letters: MemoryDeadLetters | None = None,
) -> Ingest:
    """Ingest with everything behind its ports in memory; its ids are numbers."""
    ids = count(1)
    return Ingest(
        MemoryAdmissions(store),
        reader,
        "memory://raw",
        letters or MemoryDeadLetters(),
        lambda: UUID(int=next(ids)),
    )


class MemoryBus:
    """``Bus`` in memory; it does not take events whose id is in ``refuse``."""

    def __init__(self) -> None:
        self.events: list[Mapping[str, Any]] = []
        self.refuse: set[str] = set()

    def put(self, events: Sequence[Mapping[str, Any]]) -> frozenset[int]:
        refused = frozenset(i for i, e in enumerate(events) if e["id"] in self.refuse)
        self.events += [e for i, e in enumerate(events) if i not in refused]
        return refused


class MemoryBackbone:
    """``Backbone`` in memory."""

    def __init__(self) -> None:
        self.records: list[tuple[str, bytes]] = []
        self.refuse = False

    def put(self, records: Sequence[tuple[str, bytes]]) -> None:
        if self.refuse:
            raise Unavailable("the backbone is away")
        self.records += [(key, body) for key, data in records for body in _bodies(data)]


def _bodies(data: bytes) -> list[bytes]:
    """Events of a record, one by one; the record itself where it holds none."""
    try:
        body = json.loads(data)
    except ValueError:
        return [data]
    if not isinstance(body, dict) or "events" not in body:
        return [data]
    return [json.dumps(event, separators=(",", ":")).encode() for event in body["events"]]


class MemoryFollower:
    """``FollowerLog`` over the log of a ``MemoryEventStore``."""

    def __init__(self, store: MemoryEventStore) -> None:
        self._store = store
        self._at = ev.START

    def read(
        self, after: ev.Position, limit: int, types: Collection[str] = (), most_bytes: int = BUDGET
    ) -> Sequence[ev.Event]:
        wanted = (e for e in self._store.log if e.position > after and (not types or e.type in types))
        events = [e for _, e in zip(range(limit), wanted, strict=False)]
        sizes = accumulate(len(json.dumps(e.data)) for e in events)
        return [
            e for n, (e, size) in enumerate(zip(events, sizes, strict=True)) if not n or size <= most_bytes
        ]

    def checkpoint(self) -> ev.Position:
        return self._at

    def move(self, to: ev.Position, at: datetime) -> None:
        self._at = to


def _further(progress: Progress) -> tuple[datetime, bool, str]:
    return progress.hour, progress.reached is None, progress.reached or ""


class MemoryFacts:
    """``Facts`` in memory."""

    def __init__(self, store: MemoryEventStore | None = None) -> None:
        self._store = store or MemoryEventStore()
        self.rows: dict[str, dict[Snap, tuple[ev.Position, Fact]]] = {}
        self.scores: dict[str, list[tuple[Snap, dict[str, Any]]]] = {}
        self.progresses: dict[str, Progress] = {}

    def keep(self, rows: Sequence[tuple[str, Fact, ev.Position]]) -> None:
        for id_, fact, position in rows:
            kept = self.rows.setdefault(id_, {})
            if fact.snap not in kept or kept[fact.snap][0] < position:
                kept[fact.snap] = position, fact

    def around(
        self, spans: Mapping[str, tuple[Snap, Snap]], reach: Mapping[str, int]
    ) -> Mapping[str, list[Fact]]:
        found = {}
        for id_, (low, high) in spans.items():
            facts = [fact for _, (_, fact) in sorted(self.rows.get(id_, {}).items())]
            before = [f for f in facts if f.snap < low][-reach[id_] :]
            after = [f for f in facts if f.snap > high][: reach[id_]]
            if chosen := [*before, *(f for f in facts if low <= f.snap <= high), *after]:
                found[id_] = chosen
        return found

    def claims(self, wanted: Mapping[str, Collection[Snap]]) -> Sequence[ClaimEntry]:
        return [
            ClaimEntry(
                *_key(e.data),
                e.version,
                e.data["source"],
                parse_instant(e.data["received_at"], "") if "received_at" in e.data else None,
                e.recorded_at,
            )
            for e in sorted(self._store.log, key=lambda e: (e.stream, e.version))
            if e.type == ev.DATA_INGESTED and _key(e.data)[1] in wanted.get(_key(e.data)[0], ())
        ]

    def claimed(self, entries: Collection[ClaimEntry]) -> Sequence[ev.Data]:
        places = {(ev.value_stream(e.reference_data_id, e.snap.text), e.version) for e in entries}
        return [e.data for e in self._store.log if (e.stream, e.version) in places]

    def open_findings(self, ids: Collection[str]) -> Sequence[OpenFinding]:
        opened = (e.data for e in self._store.log if e.type == ev.QUALITY_ISSUE_DETECTED)
        return [
            OpenFinding(item, (d["kind"], *_key(d), d["source"]))
            for d in opened
            if not d["gate"] and d["reference_data_id"] in ids
            if self._store.issue_status[item := UUID(d["issue_id"])] == "open"
        ]

    def last(self) -> Mapping[str, Fact]:
        return {id_: rows[max(rows)][1] for id_, rows in self.rows.items()}

    def progress(self, work: str) -> Progress | None:
        return self.progresses.get(work)

    def advance(self, work: str, progress: Progress) -> None:
        known = self.progresses.get(work)
        if known is None or _further(progress) > _further(known):
            self.progresses[work] = progress

    def official_scores(self, reference_data_id: str, since: Snap, until: Snap) -> list[dict[str, Any]]:
        return [q for s, q in self.scores.get(reference_data_id, ()) if since <= s <= until]


class MemoryDetectorStates:
    """``DetectorStates`` in memory, over the facts of ``MemoryFacts``."""

    def __init__(self, facts: MemoryFacts) -> None:
        self._facts = facts
        self.states: dict[str, dict[Snap, Kept]] = {}

    def since(self, before: Mapping[str, Snap]) -> Mapping[str, Past]:
        found = {}
        for id_, snap in before.items():
            earlier = [k for s, k in sorted(self.states.get(id_, {}).items()) if s < snap]
            kept = earlier[-1] if earlier else None
            rows = sorted(self._facts.rows.get(id_, {}).items())
            facts = [fact for s, (_, fact) in rows if kept is None or s > kept.snap]
            if kept is not None or facts:
                found[id_] = Past(kept, facts)
        return found

    def keep(self, states: Mapping[str, tuple[Snap | None, Sequence[Kept]]]) -> None:
        for id_, (after, kept) in states.items():
            known = self.states.get(id_, {})
            left = {
                s: k for s, k in known.items() if after is not None and (s < after or (s == after and k.mark))
            }
            self.states[id_] = left | {k.snap: k for k in kept}


class MemoryArrivalStates:
    """``ArrivalStates`` in memory, as JSON keeps them."""

    def __init__(self) -> None:
        self._kept: dict[str, str] = {}

    def load(self, ids: Collection[str]) -> Mapping[str, Arrived]:
        kept = {i: json.loads(self._kept[i]) for i in ids if i in self._kept}
        return {i: Arrived(ev.Position.parse(at), sources) for i, (at, sources) in kept.items()}

    def keep(self, arrived: Mapping[str, Arrived]) -> None:
        self._kept |= {i: json.dumps([a.at.token, a.sources]) for i, a in arrived.items()}


def racing(store: MemoryEventStore, rivals: Sequence[Append]) -> MemoryEventStore:
    """``store``, in which each of ``rivals`` gets in just before one append."""
    waiting = list(rivals)
    append = store.append

    def beaten(appends: Sequence[Append], *more: Any) -> frozenset[str]:
        if waiting:
            rival = waiting.pop(0)
            now = store.versions([rival.stream]).get(rival.stream, 0)
            append(
                [
                    Append(
                        rival.stream, now, rival.events, rival.actor, rival.correlation_id, rival.causation_id
                    )
                ]
            )
        return append(appends, *more)

    store.append = beaten  # type: ignore[method-assign]
    return store


class MemoryIssues:
    """``IssueBook`` over the log of a ``MemoryEventStore``."""

    def __init__(self, store: MemoryEventStore) -> None:
        self._store = store

    def _events(self) -> list[ev.Event]:
        return [e for e in self._store.log if e.type.startswith("Issue")]

    def groups_of(self, items: Collection[str]) -> Mapping[str, str]:
        joined = (e for e in self._events() if e.type in (ev.ISSUE_OPENED, ev.ISSUE_EXTENDED))
        known = {i["item"]: e.data["group"] for e in joined for i in e.data["items"]}
        return {item: known[item] for item in items if item in known}

    def due(self, now: datetime) -> Sequence[str]:
        last = {e.data["issue"]: e for e in self._events()}
        return [
            e.data["group"]
            for e in last.values()
            if (due := e.data["state"]["due_at"]) is not None and datetime.fromisoformat(due) <= now
        ]

    def group_of_issue(self, issue: UUID) -> str | None:
        return next((e.data["group"] for e in self._events() if e.data["issue"] == str(issue)), None)

    def still_open(self, items: Collection[str]) -> frozenset[str]:
        return frozenset(i for i in items if self._store.issue_status.get(UUID(i)) == "open")
