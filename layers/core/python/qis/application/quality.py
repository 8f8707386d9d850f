"""Quality: keep what each source said, find stale sources and missing values, and publish the metrics."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from qis.application.ports import EMPTY, Append, Catalogue, CatalogueReader, Contended, EventStore, Issue
from qis.application.reconcile import rules_for
from qis.domain import events as ev
from qis.domain.calendars import calendar
from qis.domain.errors import Conflict
from qis.domain.findings import Fact, Finding, missing_values, stale_sources, window_of
from qis.domain.quality import window_scores
from qis.domain.snap import Snap, parse_instant

ACTOR = "qis:quality"
ATTEMPTS = 5
METRICS_WINDOW = timedelta(days=30)


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

    def last(self) -> Mapping[str, Fact]:
        """The newest fact of each series."""
        ...

    def begin(self, work: str, hour: datetime) -> bool:
        """Whether nobody has begun this work for this hour yet; from now on somebody has."""
        ...

    def official_scores(self, reference_data_id: str, since: Snap, until: Snap) -> list[dict[str, Any]]:
        """The ``quality`` objects of the current official values in a window."""
        ...


class Quality:
    """The use case. One instance per process."""

    def __init__(self, store: EventStore, catalogue: CatalogueReader, facts: Facts) -> None:
        self._store = store
        self._catalogue = catalogue
        self._facts = facts

    def follow(self, events: Iterable[Mapping[str, Any]]) -> int:
        """Take backbone events; returns how many findings were opened or resolved."""
        rows: list[tuple[str, Fact, ev.Position]] = []
        for event in events:
            if event["type"] == ev.DATA_RECONCILED:
                data = event["data"]
                position = ev.Position.parse(event["position"])
                rows.append((data["reference_data_id"], _fact(data), position))
        if not rows:
            return 0
        self._facts.keep(rows)
        spans: dict[str, tuple[Snap, Snap]] = {}
        for id_, fact, _ in rows:
            low, high = spans.get(id_, (fact.snap, fact.snap))
            spans[id_] = (min(low, fact.snap), max(high, fact.snap))
        catalogue = self._catalogue.current()
        reach = {id_: _reach(catalogue, id_, span) for id_, span in spans.items()}
        found: list[Finding] = []
        for id_, facts in self._facts.around(spans, reach).items():
            before = sum(f.snap < spans[id_][0] for f in facts)
            found += _findings(catalogue, id_, facts, from_first=before < reach[id_])
        return self._record(found, {(id_, fact.snap) for id_, fact, _ in rows})

    def scheduled(self, now: datetime) -> int:
        """Once an hour: look for values that should be there by now, and publish live series' metrics."""
        if not self._facts.begin("hourly", now.replace(minute=0, second=0, microsecond=0)):
            return 0
        catalogue = self._catalogue.current()
        found: list[Finding] = []
        measured = 0
        for id_, fact in self._facts.last().items():
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
        return self._record(found, set()) + measured

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

    def _record(self, found: Sequence[Finding], arrived: Collection[tuple[str, Snap]]) -> int:
        """Open what is new; resolve what arrived. Repeating changes nothing."""
        keys = {(f.reference_data_id, f.snap) for f in found} | set(arrived)
        for _ in range(ATTEMPTS):
            streams = {ev.quality_stream(i, s.text): (i, s) for i, s in keys}
            loaded = self._store.load(streams.keys())
            appends = []
            for stream, key in streams.items():
                history = loaded.get(stream, EMPTY)
                events = _changes(
                    key,
                    [f for f in found if (f.reference_data_id, f.snap) == key],
                    history.events,
                    key in arrived,
                )
                if events:
                    appends.append(Append(stream, history.version, events, ACTOR, ACTOR))
            lost = self._store.append(appends) if appends else frozenset()
            if not lost:
                return sum(len(a.events) for a in appends)
            keys = {streams[s] for s in lost}
        raise Contended(f"findings on {len(keys)} snaps were changed by others {ATTEMPTS} times")


def _fact(data: Mapping[str, Any]) -> Fact:
    claims = {c["source"]: c["value"] for c in data["sources_rejected"] if c["rule"] != "superseded"}
    claims |= {c["source"]: c["value"] for c in data["sources_used"]}
    return Fact(parse_instant(data["snap"], "snap"), data["status"], claims)


def _reach(catalogue: Catalogue, id_: str, span: tuple[Snap, Snap]) -> int:
    lengths = (rules_for(catalogue, id_, snap).stale_after or 1 for snap in span)
    return max(lengths)


def _findings(catalogue: Catalogue, id_: str, facts: Sequence[Fact], *, from_first: bool) -> list[Finding]:
    series = catalogue.series[id_]
    rules = rules_for(catalogue, id_, facts[-1].snap)
    found = stale_sources(id_, facts, rules.stale_after, from_first=from_first) if rules.stale_after else []
    semantics = series.semantics
    if semantics.calendar is not None and semantics.snap_time is not None:
        found += missing_values(id_, facts, calendar(semantics.calendar), semantics.snap_time)
    return found


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
    key: tuple[str, Snap], found: Sequence[Finding], events: Sequence[ev.Event], arrived: bool
) -> list[ev.NewEvent]:
    known = {UUID(e.data["issue_id"]) for e in events}
    out = [ev.NewEvent(ev.QUALITY_ISSUE_DETECTED, f.as_json()) for f in found if f.issue_id not in known]
    if arrived:
        out += [
            ev.NewEvent(
                ev.QUALITY_ISSUE_RESOLVED,
                {"reference_data_id": key[0], "snap": key[1].text, "issue_id": str(issue_id)},
            )
            for issue_id, kind in _open(events).items()
            if kind == "missing"
        ]
    return out
