"""Quality: keep what each source said, look for findings, close those disproved, publish the metrics.

What looks is a ``Watcher``. A watcher that fails on a series is a finding itself; the facts are kept, the
others go on, and the finding is closed when the watcher works again.
"""

from __future__ import annotations

import traceback
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from qis.application.claimed_records import ClaimedRecords
from qis.application.ports import EMPTY, Append, Catalogue, CatalogueReader, Contended, EventStore, Issue
from qis.application.reconcile import rules_for
from qis.domain import events as ev
from qis.domain.calendars import calendar
from qis.domain.errors import Conflict
from qis.domain.findings import Fact, Finding, missing_values, stale_sources, window_of
from qis.domain.quality import window_scores
from qis.domain.rules import RuleSet
from qis.domain.sequences import Channel, Key, gap_identity
from qis.domain.series import Kind
from qis.domain.snap import Snap, parse_instant

ACTOR = "qis:quality"
_BY_PEOPLE = frozenset({ev.DATA_PUBLISHED, ev.DATA_RESTATED})
FOLLOWED = _BY_PEOPLE | {ev.DATA_RECONCILED}
"""Types of events that the use case follows; the function's event filter lets them through."""
ATTEMPTS = 5
HOURLY = "hourly"
"""Name of the work of each hour."""
SERIES_AT_A_TIME = 20
"""Series whose hourly work is done before that is noted."""
METRICS_WINDOW = timedelta(days=30)
ACTIONS_REACH = 40
"""Snaps of corporate actions that are looked at on either side: more than fall into the days within which one
speaks against another."""

Identity = tuple[str, str, Snap, str | None]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a watcher looks at: facts of one series around those that are new."""

    catalogue: Catalogue
    reference_data_id: str
    facts: Sequence[Fact]
    """In snap order, without gaps in what is stored."""
    low: Snap
    """The first new one."""
    high: Snap
    """The last new one."""
    arrived: frozenset[Snap]
    """The new ones."""
    from_first: bool
    """Whether the facts begin with the first of the series."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a watcher came to."""

    found: Sequence[Finding] = ()
    settled: Sequence[tuple[str, Snap, Snap]] = ()
    """Kinds and ranges of snaps, ends included, that were judged whole: an open finding of the kind there
    that is not found is disproved."""


class Watcher(Protocol):
    """Looks for one sort of fault."""

    @property
    def name(self) -> str:
        """Stable, in lower case."""
        ...

    def judge(self, batch: Sequence[Seen]) -> Mapping[str, Verdict]:
        """What it comes to of each series of a batch, where it comes to anything; a function of what is seen
        alone. Where it raises, it is asked again of one series at a time."""
        ...


class StaleSources:
    """Sources that stand still while others move."""

    name = "stale"

    def judge(self, batch: Sequence[Seen]) -> Mapping[str, Verdict]:
        """See ``Watcher.judge``."""
        return {seen.reference_data_id: self._verdict(seen) for seen in batch}

    def _verdict(self, seen: Seen) -> Verdict:
        after = _rules(seen).stale_after
        if after is None:
            return Verdict()
        found = stale_sources(seen.reference_data_id, seen.facts, after, from_first=seen.from_first)
        # Every run that ends at or after the first new fact is whole in what is seen; one that ends later
        # than the last may end beyond it, and then it was not touched.
        return Verdict([f for f in found if f.snap >= seen.low], [("stale", seen.low, seen.facts[-1].snap)])


class MissingValues:
    """Sessions of the calendar without any claim."""

    name = "missing"

    def judge(self, batch: Sequence[Seen]) -> Mapping[str, Verdict]:
        """See ``Watcher.judge``."""
        return {seen.reference_data_id: self._verdict(seen) for seen in batch}

    def _verdict(self, seen: Seen) -> Verdict:
        semantics = seen.catalogue.series[seen.reference_data_id].semantics
        if semantics.calendar is None or semantics.snap_time is None:
            return Verdict()
        found = missing_values(
            seen.reference_data_id, seen.facts, calendar(semantics.calendar), semantics.snap_time
        )
        return Verdict(found, [("missing", s, s) for s in seen.arrived])


WATCHERS: tuple[Watcher, ...] = (StaleSources(), MissingValues())


@dataclass(frozen=True, slots=True)
class OpenFinding:
    """A finding that nobody has closed."""

    issue_id: UUID
    identity: Identity


class Progress(NamedTuple):
    """How far the work of an hour has come."""

    hour: datetime
    reached: str | None
    """The last series done, in order of identifiers; ``None``: all of them."""


class ClaimEntry(NamedTuple):
    """A claim in the log, without its value."""

    reference_data_id: str
    snap: Snap
    version: int
    """Of its event in the stream of the value."""
    source: str
    received_at: Snap | None
    recorded_at: datetime


class Facts(Protocol):
    """What each source said per snap."""

    def keep(self, rows: Sequence[tuple[str, Fact, ev.Position]]) -> None:
        """Keep facts; of two for one snap the one at the later position stays."""
        ...

    def around(
        self, spans: Mapping[str, tuple[Snap, Snap]], reach: Mapping[str, int]
    ) -> Mapping[str, list[Fact]]:
        """Facts of each series within its span and up to ``reach`` snaps on either side, in snap order."""
        ...

    def claims(self, wanted: Mapping[str, Collection[Snap]]) -> Sequence[ClaimEntry]:
        """Every claim at snaps of series, those of one snap in the order of the log."""
        ...

    def claimed(self, entries: Collection[ClaimEntry]) -> Sequence[ev.Data]:
        """The data of claims' events, in any order. The caller bounds their number: each may be of 64 kB."""
        ...

    def open_findings(self, ids: Collection[str]) -> Sequence[OpenFinding]:
        """Open findings about these series."""
        ...

    def last(self) -> Mapping[str, Fact]:
        """The newest fact of each series."""
        ...

    def progress(self, work: str) -> Progress | None:
        """How far scheduled work has come; ``None``: it has never been done."""
        ...

    def advance(self, work: str, progress: Progress) -> None:
        """Note how far scheduled work has come, unless somebody has come further."""
        ...

    def official_scores(self, reference_data_id: str, since: Snap, until: Snap) -> list[dict[str, Any]]:
        """The ``quality`` objects of the current official values in a window."""
        ...


class Sequences(Protocol):
    """The channels of providers that number their messages, as far as they were followed."""

    def untold(self) -> Mapping[Key, Channel]:
        """Those in which something may be that nobody was told of."""
        ...

    def told(self, channels: Mapping[Key, Channel]) -> None:
        """Note that people know of all that is in them; nothing of those that have changed since."""
        ...


class Quality:
    """The use case. One instance per process."""

    def __init__(
        self,
        store: EventStore,
        catalogue: CatalogueReader,
        facts: Facts,
        watchers: Sequence[Watcher] = WATCHERS,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._facts = facts
        self._records = ClaimedRecords(facts)
        self._watchers = watchers

    def follow(self, events: Sequence[Mapping[str, Any]]) -> int:
        """Take backbone events; returns how many findings were opened or resolved."""
        rows: list[tuple[str, Fact, ev.Position]] = []
        for event in events:
            if event["type"] == ev.DATA_RECONCILED:
                data = event["data"]
                position = ev.Position.parse(event["position"])
                rows.append((data["reference_data_id"], _fact(data), position))
        arrived = _decided_by_people(events)
        if rows:
            self._facts.keep(rows)
        for id_, fact, _ in rows:
            arrived.setdefault(id_, set()).add(fact.snap)
        if not arrived:
            return 0
        for id_, snaps in self._records.moved(self._catalogue.current(), arrived).items():
            arrived.setdefault(id_, set()).update(snaps)
        work = _Work()
        seen = list(self._seen(arrived))
        for watcher in self._watchers:
            _judge(watcher, seen, work)
        open_ = self._facts.open_findings(arrived.keys())
        return self._record(work.found, [o for o in open_ if work.disproves(o.identity)])

    def _seen(self, arrived: Mapping[str, Collection[Snap]]) -> Iterable[Seen]:
        catalogue = self._catalogue.current()
        spans = {id_: (min(snaps), max(snaps)) for id_, snaps in arrived.items()}
        reach = {id_: _reach(catalogue, id_, span) for id_, span in spans.items()}
        for id_, facts in self._facts.around(spans, reach).items():
            low, high = spans[id_]
            before = sum(f.snap < low for f in facts)
            yield Seen(
                catalogue, id_, facts, low, high, frozenset(arrived[id_]), from_first=before < reach[id_]
            )

    def tell(self, found: Sequence[Finding]) -> int:
        """Open findings that nothing disproves later; those that are known change nothing."""
        return self._record(found, ())

    def sequences(self, sequences: Sequences, now: datetime) -> int:
        """Tell of what the numbers of providers show to be missing by ``now``, and close what was filled.
        What was told or closed before is left as it is, so that a crash in between is made good."""
        channels = sequences.untold()
        if not channels:
            return 0
        found = [f for key, channel in channels.items() for f in channel.findings(key, now)]
        told = {f.identity for f in found}
        filled = {gap_identity(source, p) for (source, _), c in channels.items() for p in c.filled} - told
        open_ = self._facts.open_findings({id_ for _, id_, _, _ in filled}) if filled else ()
        changed = self._record(found, [o for o in open_ if o.identity in filled])
        sequences.told({key: channel for key, channel in channels.items() if channel.ripe(now)})
        return changed

    def scheduled(self, now: datetime) -> int:
        """Once an hour: look for values that should be there by now, and publish live series' metrics.

        What is done is noted after it is done, a few series at a time: a run that is cut short is taken up
        where it ended, and repeats at most those few.
        """
        hour = now.replace(minute=0, second=0, microsecond=0)
        progress = self._facts.progress(HOURLY)
        if progress is not None and (progress.hour > hour or progress == (hour, None)):
            return 0
        reached = progress.reached if progress is not None and progress.hour == hour else None
        facts = sorted(self._facts.last().items())
        left = [(id_, fact) for id_, fact in facts if reached is None or id_ > reached]
        done = 0
        for start in range(0, len(left), SERIES_AT_A_TIME):
            some = left[start : start + SERIES_AT_A_TIME]
            done += self._look(some, now)
            self._facts.advance(HOURLY, Progress(hour, some[-1][0]))
        self._facts.advance(HOURLY, Progress(hour, None))
        return done

    def _look(self, facts: Sequence[tuple[str, Fact]], now: datetime) -> int:
        """Look at the newest facts of series; returns how many findings and metrics came of it."""
        catalogue = self._catalogue.current()
        found: list[Finding] = []
        measured = 0
        for id_, fact in facts:
            series = catalogue.series[id_]
            rules = catalogue.rules.rule_set(series.rules, Snap.of(now))
            until = Snap.of(now - (rules.timely_within or timedelta(0)))
            semantics = series.semantics
            if semantics.calendar is not None and semantics.snap_time is not None and fact.snap < until:
                days = calendar(semantics.calendar)
                found += missing_values(id_, [fact], days, semantics.snap_time, until)
            since, end = window_of(now, METRICS_WINDOW)
            if fact.snap >= since:
                self._measure(id_, since, end)
                measured += 1
        return self._record(found, ()) + measured

    def close(
        self, issue_id: UUID, issue: Issue, type_: str, actor: str, correlation_id: str, reason: str
    ) -> ev.NewEvent:
        """A person acknowledges (``QualityApproved``) or dismisses (``QualityRejected``) a finding.

        Raises:
            Conflict: it is not open.
            Contended: somebody else closed something on this snap at the same moment.
        """
        stream = ev.quality_stream(issue.reference_data_id, issue.snap.text)
        loaded = self._store.load([stream]).get(stream, EMPTY)
        if issue_id not in _open(loaded.events):
            raise Conflict(f"exception {issue_id} is not open")
        data: dict[str, Any] = {
            "reference_data_id": issue.reference_data_id,
            "snap": issue.snap.text,
            "issue_id": str(issue_id),
            "value": None,
            "claim_ids": [],
            "reason": reason,
        }
        event = ev.NewEvent(type_, data)
        if self._store.append([Append(stream, loaded.version, [event], actor, correlation_id)]):
            raise Contended(f"{stream} was changed at the same moment")
        return event

    def _measure(self, id_: str, since: Snap, until: Snap) -> None:
        scores, count = window_scores(self._facts.official_scores(id_, since, until), 0, None)
        stream = ev.metrics_stream(id_)
        version = self._store.versions([stream]).get(stream, 0)
        data = {
            "reference_data_id": id_,
            "from": since.text,
            "to": until.text,
            "values": count,
            "scores": scores.as_json(),
        }
        # Losing to another measurement of the same series is no loss.
        self._store.append(
            [Append(stream, version, [ev.NewEvent(ev.QUALITY_METRICS_CALCULATED, data)], ACTOR, ACTOR)]
        )

    def _record(self, found: Sequence[Finding], disproved: Sequence[OpenFinding]) -> int:
        """Open what is new; resolve what was disproved. Repeating changes nothing."""
        by_key: dict[tuple[str, Snap], tuple[list[Finding], set[UUID]]] = {}
        for finding in found:
            by_key.setdefault(finding.identity[1:3], ([], set()))[0].append(finding)
        for closed in disproved:
            by_key.setdefault(closed.identity[1:3], ([], set()))[1].add(closed.issue_id)
        keys = set(by_key)
        for _ in range(ATTEMPTS):
            streams = {ev.quality_stream(i, s.text): (i, s) for i, s in keys}
            loaded = self._store.load(streams.keys())
            appends = []
            for stream, key in streams.items():
                history = loaded.get(stream, EMPTY)
                if events := _changes(*by_key[key], history.events):
                    appends.append(Append(stream, history.version, events, ACTOR, ACTOR))
            lost = self._store.append(appends) if appends else frozenset()
            if not lost:
                return sum(len(a.events) for a in appends)
            keys = {streams[s] for s in lost}
        raise Contended(f"findings on {len(keys)} snaps were changed by others {ATTEMPTS} times")


@dataclass(slots=True)
class _Work:
    """Verdicts of a batch."""

    found: list[Finding] = field(default_factory=list)
    settled: dict[tuple[str, str], list[tuple[Snap, Snap]]] = field(default_factory=dict)
    """Ranges judged whole, by kind and series."""

    def take(self, reference_data_id: str, verdict: Verdict) -> None:
        self.found += verdict.found
        for kind, first, last in verdict.settled:
            self.settled.setdefault((kind, reference_data_id), []).append((first, last))

    def disproves(self, identity: Identity) -> bool:
        kind, id_, snap, _ = identity
        judged = any(first <= snap <= last for first, last in self.settled.get((kind, id_), ()))
        return judged and all(f.identity != identity for f in self.found)


_EVER = (Snap.of(datetime(1900, 1, 1, tzinfo=UTC)), Snap.of(datetime(2199, 1, 1, tzinfo=UTC)))


def _judge(watcher: Watcher, batch: Sequence[Seen], work: _Work) -> None:
    """The watcher's verdicts, or that it failed: a fault in it must not lose the records or the others'
    findings, and must not go unnoticed."""
    failed = f"watcher-{watcher.name}-failed"
    try:
        verdicts = watcher.judge(batch)
    except Exception as error:  # noqa: BLE001 - whatever it is, it becomes a finding
        if len(batch) > 1:
            for seen in batch:
                _judge(watcher, [seen], work)
            return
        id_, high = batch[0].reference_data_id, batch[0].high
        where = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__} in {where.name}, line {where.lineno}: {error}"[:300]
        scope = f"watcher/{watcher.name}"
        finding = Finding(failed, id_, high, None, type(error).__name__, "none", what, scope, "high")
        work.take(id_, Verdict([finding]))
    else:
        for id_, verdict in verdicts.items():
            work.take(id_, verdict)
        for seen in batch:
            work.take(seen.reference_data_id, Verdict([], [(failed, *_EVER)]))


def _decided_by_people(events: Iterable[Mapping[str, Any]]) -> dict[str, set[Snap]]:
    """Values that people corrected or let out: what was found of them is looked at again."""
    found: dict[str, set[Snap]] = {}
    for event in events:
        data = event["data"]
        if event["type"] in _BY_PEOPLE and data.get("method") in ("approval", "restatement"):
            found.setdefault(data["reference_data_id"], set()).add(parse_instant(data["snap"], "snap"))
    return found


def _fact(data: Mapping[str, Any]) -> Fact:
    said = [c for c in data["sources_rejected"] if c["rule"] != "superseded"] + list(data["sources_used"])
    return Fact(
        parse_instant(data["snap"], "snap"),
        data["status"],
        {c["source"]: c["value"] for c in said},
        {c["source"]: c["volume"] for c in said if "volume" in c},
    )


def _reach(catalogue: Catalogue, id_: str, span: tuple[Snap, Snap]) -> int:
    lengths = [rules_for(catalogue, id_, snap).stale_after or 1 for snap in span]
    if catalogue.series[id_].kind is Kind.CORPORATE_ACTION:
        lengths.append(ACTIONS_REACH)
    return max(lengths)


def _rules(seen: Seen) -> RuleSet:
    return rules_for(seen.catalogue, seen.reference_data_id, seen.high)


def _open(events: Iterable[ev.Event]) -> dict[UUID, str]:
    open_: dict[UUID, str] = {}
    for event in events:
        issue_id = UUID(event.data["issue_id"])
        if event.type == ev.QUALITY_ISSUE_DETECTED:
            open_[issue_id] = event.data["kind"]
        else:
            open_.pop(issue_id, None)
    return open_


def _changes(
    found: Sequence[Finding], disproved: Collection[UUID], events: Sequence[ev.Event]
) -> list[ev.NewEvent]:
    """What is new about one snap. A finding that a person closed stays closed; one that data closed and
    that is found again is another occurrence."""
    last = {UUID(e.data["issue_id"]): e.type for e in events}
    out = []
    for finding in found:
        occurrence = 0
        while last.get(finding.issue_id(occurrence)) == ev.QUALITY_ISSUE_RESOLVED:
            occurrence += 1
        if (issue_id := finding.issue_id(occurrence)) not in last:
            last[issue_id] = ev.QUALITY_ISSUE_DETECTED  # two claims of a batch may show the same
            out.append(ev.NewEvent(ev.QUALITY_ISSUE_DETECTED, finding.as_json(occurrence)))
    for issue_id in _open(events).keys() & set(disproved):
        first = events[0].data
        body = {"reference_data_id": first["reference_data_id"], "snap": first["snap"]}
        out.append(ev.NewEvent(ev.QUALITY_ISSUE_RESOLVED, {**body, "issue_id": str(issue_id)}))
    return out
