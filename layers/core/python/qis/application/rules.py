"""Rules in use: which apply to a series, what a change of them would do, and applying them to a range."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qis.application.explanation import moment_text
from qis.application.ports import (
    EMPTY,
    Append,
    Catalogue,
    CatalogueReader,
    EventStore,
    Neighbours,
)
from qis.application.reading import Answer, Knowledge, Reads, pinned
from qis.application.reconcile import Reconciler, Trigger
from qis.domain import events as ev
from qis.domain.errors import NotFound, refuse
from qis.domain.kinds.record import Structure
from qis.domain.reconciliation import Reference
from qis.domain.rules import RuleBook, layer_json, parse_layer
from qis.domain.rules.book import LONGEST_CHAIN, check_resolver, effective_json
from qis.domain.rules.documents import differences
from qis.domain.series import check_id, check_text, parse_series
from qis.domain.snap import Snap, parse_snap
from qis.domain.value_history import REASON_RULES, SNAPSHOT_FORMAT, ValueHistory
from qis.domain.what_if import Course, Report, check_candidate

BATCH = 200
"""Values decided in one transaction."""
MOST_NAMED = 100
"""Series that a request may name."""


class RuleQueries:
    """Reading rules as they were known."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    def effective(self, reference_data_id: str, snap_text: str, at: Knowledge) -> Answer:
        """The rules that apply to a series at a snap, each field with where it comes from.

        Raises:
            NotFound: the series is not registered, or its rules were not known then.
            InvalidInput: the snap does not fit the series.
        """
        entry = self._reads.entry("series", reference_data_id)
        if entry is None:
            raise NotFound(f"series {reference_data_id} is not registered", "unknown-series")
        at = pinned(self._reads, at)
        known = self._reads.events([ev.series_stream(reference_data_id)], at)
        if not known:
            raise NotFound(f"series {reference_data_id} was not registered then", "not-known-at-as-of")
        series = parse_series(known[-1].data)
        snap = parse_snap(snap_text, series.semantics.snap_time)
        told = effective_json(book_as_known(self._reads, {series.rules}, at), series.rules, snap)
        return Answer({"reference_data_id": reference_data_id, "snap": snap.text, **told}, at.basis)

    def versions(self, name: str) -> Answer:
        """Every version of a rule document, newest first, with who put it in force and when.

        Raises:
            NotFound: there is no such document.
        """
        items = [
            {
                "version": event.version,
                "recorded_at": moment_text(event.recorded_at),
                "by": event.actor,
                "definition": event.data,
            }
            for event in reversed(self._events(name))
        ]
        return Answer({"rules": name, "items": items})

    def difference(self, name: str, before: int, after: int) -> Answer:
        """What two versions of a document differ in.

        Raises:
            NotFound: there is no such document, or no such version of it.
        """
        events = {e.version: e for e in self._events(name)}
        for version in (before, after):
            if version not in events:
                raise NotFound(f"rule set {name} has no version {version}", "unknown-rules")
        bodies = [layer_json(parse_layer(events[v].data, v)) for v in (before, after)]
        found = [d.as_json() for d in differences(*bodies)]
        return Answer({"rules": name, "from": before, "to": after, "differences": found})

    def _events(self, name: str) -> list[ev.Event]:
        events = self._reads.events([ev.rules_stream(name)], Knowledge())
        if not events:
            raise NotFound(f"rule set {name} is not registered", "unknown-rules")
        return events


def book_as_known(reads: Reads, names: Collection[str], at: Knowledge) -> RuleBook:
    """The versions, as known, of documents and of all that they extend."""
    layers = []
    wanted, seen = set(names), set[str]()
    for _ in range(LONGEST_CHAIN):
        events = reads.events([ev.rules_stream(n) for n in sorted(wanted)], at)
        found = [parse_layer(e.data, e.version) for e in events]
        layers += found
        seen |= wanted
        wanted = {layer.extends for layer in found if layer.extends is not None} - seen
        if not wanted:
            break
    return RuleBook(layers)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a change of rules concerns: the series under a document, over a range of snaps."""

    rules: str
    first: Snap
    until: Snap
    """The end, excluded."""
    series: Sequence[str] = ()
    """Only these; empty: all that the document applies to."""

    def ids(self, catalogue: Catalogue, book: RuleBook) -> list[str]:
        """The series, in order.

        Raises:
            NotFound: there is no such document.
            InvalidInput: a named series is unknown or not under it.
        """
        if self.rules not in book.names:
            raise NotFound(f"rule set {self.rules} is not registered", "unknown-rules")
        under = {i for i, s in catalogue.series.items() if self.rules in book.family(s.rules)}
        for id_ in self.series:
            if id_ not in under:
                raise refuse("series", id_, "under-rules", f"is not a series under {self.rules}")
        return sorted(self.series or under)


def parse_series_list(value: object) -> list[str]:
    """Series that a request names; none: all.

    Raises:
        InvalidInput: not a list of distinct identifiers, or too many.
    """
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MOST_NAMED or len(set(map(str, value))) != len(value):
        raise refuse(
            "series", value, "distinct-list", f"is not a list of at most {MOST_NAMED} distinct series"
        )
    return [check_id(v, "series") for v in value]


class WhatIf:
    """Rules tried on stored history. Reads only: nothing of it can be published."""

    def __init__(
        self, store: EventStore, catalogue: CatalogueReader, known_resolver: Callable[[str], bool]
    ) -> None:
        """``known_resolver`` says whether a resolver of concurrent overrides of that name is installed."""
        self._store = store
        self._catalogue = catalogue
        self._known_resolver = known_resolver

    def run(
        self, scope: Scope, definition: Mapping[str, Any] | None, resume: str | None, limit: int
    ) -> dict[str, Any]:
        """Decide the next ``limit`` values of the scope under the candidate, and compare.

        Args:
            definition: the candidate, as the next version of the scope's document; ``None``: the rules in
                force, which shows what applying them would do.
            resume: of the answer before; ``None`` at the start.

        Returns:
            ``report``, of everything from the start; ``changes`` of this part; ``resume`` for the next one,
            ``None`` at the end.

        Raises:
            InvalidInput: the candidate may not be put in force, or ``resume`` is not ours.
            NotFound: there is no such document.
        """
        catalogue = self._catalogue.newest()
        book = catalogue.rules
        if definition is not None:
            check_candidate(definition, scope.rules)
            versions = book.versions(scope.rules)
            layer = parse_layer(
                {**definition, "rules": scope.rules}, versions[0].version + 1 if versions else 1
            )
            check_resolver(layer, self._known_resolver)
            catalogue.check_rules(layer)
            book = book.having(layer)
        ids = scope.ids(catalogue, book)
        place = _Place.start(ids) if resume is None else _Place.read(resume)
        changes: list[dict[str, Any]] = []
        left = limit
        while place.series is not None and left > 0:
            snaps = self._store.decided(place.series, place.first(scope), scope.until, min(left, BATCH))
            if place.course is None and snaps:
                place.course = self._course(place.series, snaps[0])
            structure = catalogue.series[place.series].structure
            for history in self._histories(place.series, snaps, structure):
                assert place.course is not None
                rules = book.rule_set(catalogue.series[place.series].rules, history.snap)
                told = place.report.add(history, place.course.decide(history, rules))
                if told is not None:
                    changes.append(told)
                place.after = history.snap
            left -= len(snaps)
            if not snaps:
                place.next_series(ids)
        return {
            "rules": scope.rules,
            "series": len(ids),
            "report": place.report.told(),
            "changes": changes,
            "resume": place.text(),
        }

    def _course(self, id_: str, first: Snap) -> Course:
        """What the stored decisions before the range leave for its first one."""
        key = (id_, first)
        found = self._store.neighbours([key], [key]).get(key, Neighbours())
        official = next((Reference(s, v) for s, v, o in found.before if o), None)
        return Course(official, found.standings)

    def _histories(
        self, id_: str, snaps: Sequence[Snap], structure: Structure | None
    ) -> Iterator[ValueHistory]:
        loaded = self._store.load_recent([ev.value_stream(id_, s.text) for s in snaps], SNAPSHOT_FORMAT)
        for snap in snaps:
            found = loaded.get(ev.value_stream(id_, snap.text), EMPTY)
            at, state = found.snapshot or (0, None)
            yield ValueHistory.restore(id_, snap, at, state, structure).fold(found.events)


@dataclass(slots=True)
class _Place:
    """Where a run stands, and all that it needs to go on."""

    series: str | None
    after: Snap | None
    course: Course | None
    report: Report

    @classmethod
    def start(cls, ids: Sequence[str]) -> _Place:
        return cls(ids[0] if ids else None, None, None, Report())

    def first(self, scope: Scope) -> Snap:
        return scope.first if self.after is None else Snap(self.after.ns + 1)

    def next_series(self, ids: Sequence[str]) -> None:
        self.series = next((i for i in ids if self.series is not None and i > self.series), None)
        self.after = self.course = None

    def text(self) -> str | None:
        if self.series is None:
            return None
        after = None if self.after is None else self.after.ns
        course = None if self.course is None else self.course.as_json()
        body = [self.series, after, course, self.report.as_json()]
        return urlsafe_b64encode(json.dumps(body, separators=(",", ":")).encode()).decode()

    @classmethod
    def read(cls, text: str) -> _Place:
        """Gives no right to anything: it says where the caller's own comparison stands."""
        try:
            series, after, course, report = json.loads(urlsafe_b64decode(text))
            return cls(
                check_id(series),
                None if after is None else Snap(after),
                None if course is None else Course.from_json(course),
                Report.from_json(report),
            )
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, ArithmeticError) as error:
            raise refuse("resume", text, "resume", "is not of an answer to this request") from error


class ApplyRules:
    """The rules in force applied to what is already decided, on a person's word. A change of rules by
    itself decides nothing anew."""

    def __init__(self, store: EventStore, catalogue: CatalogueReader, reconciler: Reconciler) -> None:
        self._store = store
        self._catalogue = catalogue
        self._reconciler = reconciler

    def run(
        self,
        scope: Scope,
        reason: object,
        after: tuple[str, Snap] | None,
        limit: int,
        actor: str,
        correlation_id: str,
    ) -> dict[str, Any]:
        """Decide the next ``limit`` values of the scope anew, durably, whatever the restatement policy.

        Args:
            after: the last series and snap of the answer before.

        Raises:
            NotFound: there is no such document.
            InvalidInput: no reason, or a named series is not under it.
            Contended: other writers kept winning; what was answered before stays.
        """
        why = check_text(reason, "reason", 500)
        catalogue = self._catalogue.newest()
        ids = scope.ids(catalogue, catalogue.rules)
        told = {"decided": 0, "restated": 0, "published": 0, "held": 0}
        place = after
        for id_ in (i for i in ids if after is None or i >= after[0]):
            start = Snap(after[1].ns + 1) if after is not None and id_ == after[0] else scope.first
            while told["decided"] < limit:
                snaps = self._store.decided(id_, start, scope.until, min(BATCH, limit - told["decided"]))
                if not snaps:
                    break
                self._decide(id_, snaps, actor, correlation_id, told)
                place, start = (id_, snaps[-1]), Snap(snaps[-1].ns + 1)
            if told["decided"] >= limit:
                break
        else:
            place = None
        if told["decided"]:
            self._record(scope, why, told, actor, correlation_id)
        next_ = None if place is None else {"series": place[0], "snap": place[1].text}
        return {"rules": scope.rules, "series": len(ids), **told, "next": next_}

    def _decide(
        self, id_: str, snaps: Sequence[Snap], actor: str, correlation_id: str, told: dict[str, int]
    ) -> None:
        triggers = [Trigger(id_, s, correlation_id, None, actor, REASON_RULES) for s in snaps]
        for events in self._reconciler.run(triggers).values():
            for event in events:
                name = _COUNTED.get(event.type)
                if name is not None:
                    told[name] += 1
        told["decided"] += len(snaps)

    def _record(
        self, scope: Scope, reason: str, told: Mapping[str, int], actor: str, correlation_id: str
    ) -> None:
        """That somebody did it, for the audit trail."""
        stream = ev.rules_applied_stream(scope.rules)
        data = {
            "rules": scope.rules,
            "from": scope.first.text,
            "to": scope.until.text,
            "series": list(scope.series),
            "reason": reason,
            **told,
        }
        event = ev.NewEvent(ev.RULES_APPLIED, data)
        lost = True
        while lost:
            version = self._store.versions([stream]).get(stream, 0)
            lost = bool(self._store.append([Append(stream, version, [event], actor, correlation_id, None)]))


_COUNTED = {
    ev.DATA_RESTATED: "restated",
    ev.DATA_PUBLISHED: "published",
    ev.QUALITY_ISSUE_DETECTED: "held",
}
