"""Reading: official values with the knowledge of now, of a moment, or of a log position.

An answer is a function of what was known, never of when it was asked: its body names neither the moment of
the request nor ``asOf``. An answer that is ``pinned`` can never change.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

from qis.application import explanation
from qis.domain import events as ev
from qis.domain.calendars import calendar
from qis.domain.errors import InvalidInput, NotFound, QisError, refuse
from qis.domain.kinds.record import Value, value_json
from qis.domain.quality import window_scores
from qis.domain.series import Semantics, Series, Timing, parse_series
from qis.domain.snap import NANOS, Snap, parse_snap

YOUNG = timedelta(seconds=60)
"""A transaction may still commit something recorded so long ago: writers are cut off well before."""
MAX_WINDOW_VALUES = 100_000
MAX_IDS = 100


class NotSettled(QisError):
    """A transaction that may belong to the answer is still running; repeating shortly is safe."""

    slug = "not-settled"


class NoOfficialValue(NotFound):
    """There is no official value; ``item`` is the exception that holds one back, where there is one."""

    def __init__(self, message: str, reason: str, item: UUID | None = None) -> None:
        super().__init__(message, reason)
        self.item = item


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What may be used for an answer: everything (the default), what was known at a moment, or what the log
    held at a position."""

    as_of: datetime | None = None
    basis: ev.Position | None = None


LATEST = Knowledge()


@dataclass(frozen=True, slots=True)
class Moment:
    """The log at the moment of a statement: below ``horizon`` nothing can change any more."""

    horizon: ev.Position
    clock: datetime


@dataclass(frozen=True, slots=True)
class OfficialRow:
    """One version of an official value as stored."""

    reference_data_id: str
    snap: Snap
    value: Value
    version: int
    recorded_from: datetime
    position: ev.Position
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """A registered series, source or rule set in its newest version."""

    name: str
    version: int
    definition: Mapping[str, Any]
    changed_at: datetime

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "changed_at": explanation.moment_text(self.changed_at),
            "definition": self.definition,
        }


@dataclass(frozen=True, slots=True)
class ExceptionRow:
    """An exception and what became of it."""

    item: UUID
    reference_data_id: str
    snap: Snap
    status: str
    opened_at: datetime
    closed_at: datetime | None
    closed_by: str | None
    details: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        d = self.details
        return {
            "item": str(self.item),
            "reference_data_id": self.reference_data_id,
            "snap": self.snap.text,
            "status": self.status,
            "kind": d["kind"],
            "gate": d["gate"],
            "source": d.get("source"),
            "proposed": d["proposed"],
            "reason": d["reason"],
            "checks": d["checks"],
            "submitters": d["submitters"],
            "siblings": list(d.get("siblings", ())),
            "opened_at": explanation.moment_text(self.opened_at),
            "closed_at": None if self.closed_at is None else explanation.moment_text(self.closed_at),
            "closed_by": self.closed_by,
        }


@dataclass(frozen=True, slots=True)
class ValueState:
    """Where one value stands now. ``status`` as in ``decisions``; ``None``: not reconciled yet."""

    reference_data_id: str
    snap: Snap
    status: str | None
    official: OfficialRow | None


@dataclass(frozen=True, slots=True)
class Load:
    """Accounting of a load."""

    load: str
    accepted: int
    duplicates: int
    rejected: int
    started_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class LoadOutcome:
    """A record of a load that led to no event."""

    record_id: str
    outcome: str
    claim_id: UUID | None
    violations: Sequence[Mapping[str, str]]
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Answer:
    """What to answer with. ``basis``: asking again with it gives the same. ``pinned``: can never change.
    ``next``: the parameters of the following page."""

    body: Mapping[str, Any]
    basis: ev.Position | None = None
    pinned: bool = False
    next: NextPage | None = None


@dataclass(frozen=True, slots=True)
class NextPage:
    """Where the next page starts, and the knowledge that all pages share."""

    after: tuple[str | int, ...]
    at: Knowledge = LATEST


class Reads(Protocol):
    """The read models and the log."""

    def ready(self) -> None:
        """Raises ``Unavailable`` where the database does not answer or its schema is not there."""
        ...

    def moment(self) -> Moment: ...

    def settle(self) -> Moment:
        """Wait until every transaction that is running now is finished.

        Raises:
            NotSettled: one is still running after two seconds.
        """
        ...

    def point(self, reference_data_id: str, snap: Snap, at: Knowledge) -> tuple[Moment, OfficialRow | None]:
        """The value at one snap, in one round trip."""
        ...

    def several(self, keys: Sequence[tuple[str, Snap]], at: Knowledge) -> list[OfficialRow | None]:
        """The values of many ``(series, snap)``, in their order."""
        ...

    def page(
        self,
        reference_data_id: str,
        first: Snap,
        until: Snap,
        at: Knowledge,
        granularity: str | None,
        limit: int,
    ) -> list[OfficialRow]:
        """Values with ``first`` <= snap < ``until``, in order; of each UTC ``granularity`` the last."""
        ...

    def scores(self, reference_data_id: str, first: Snap, until: Snap, limit: int) -> list[dict[str, Any]]:
        """The ``quality`` objects of the current values in a window, at most ``limit``."""
        ...

    def events(self, streams: Sequence[str], at: Knowledge) -> list[ev.Event]:
        """Events of streams, in order of stream and version."""
        ...

    def audit(
        self, reference_data_id: str, snap: Snap | None, at: Knowledge, after: tuple[str, int], limit: int
    ) -> list[ev.Event]:
        """Events about a series, or about one snap of it, in order of stream and version."""
        ...

    def entry(self, kind: str, name: str) -> Entry | None: ...

    def entries(self, kind: str, after: str, limit: int) -> list[Entry]: ...

    def exceptions(
        self, status: str, after: tuple[datetime, UUID] | None, limit: int
    ) -> list[ExceptionRow]: ...

    def exception(self, item: UUID) -> ExceptionRow | None: ...

    def receipt(self, receipt: UUID) -> tuple[dict[str, Any], datetime] | None: ...

    def states(self, keys: Sequence[tuple[str, Snap]]) -> list[ValueState]: ...

    def load(self, load: str) -> Load | None: ...

    def outcomes(self, load: str, after: str, limit: int) -> list[LoadOutcome]: ...


class AnswerCache(Protocol):
    """Answers that can never change. Losing one, or all, only slows."""

    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, answer: bytes) -> None: ...


class NoCache:
    """``AnswerCache`` where there is none."""

    def get(self, key: str) -> bytes | None:  # noqa: ARG002 - the port's signature
        return None

    def put(self, key: str, answer: bytes) -> None:
        """Keeps nothing."""


class Queries:
    """The reading use cases. One instance per process; keeps what can never change of each series."""

    def __init__(self, reads: Reads, clock: Callable[[], datetime]) -> None:
        self._reads = reads
        self._clock = clock
        # The semantics of a registered series are fixed, so they may be kept; its name and rules may not.
        self._meanings: dict[str, Meaning] = {}

    # values --------------------------------------------------------------------------------------

    def official(self, reference_data_id: str, snap_text: str, at: Knowledge) -> Answer:
        """The official value at one snap.

        Raises:
            InvalidInput: the snap does not fit the series, or ``at`` lies in the future.
            NoOfficialValue: there is none; ``reason`` says why.
            NotSettled: see ``Reads.settle``.
        """
        meaning = self._meaning(reference_data_id)
        snap = parse_snap(snap_text, meaning.semantics.snap_time)
        moment, row = self._reads.point(reference_data_id, snap, at)
        if not _settled(at, moment):
            _check_reached(at, self._reads.settle())
            _, row = self._reads.point(reference_data_id, snap, at)
        if row is None:
            raise self._why_none(reference_data_id, snap, at, at)
        if at.basis is not None:
            basis = at.basis
        elif at.as_of is not None:
            basis = row.position
        else:
            basis = max(row.position, moment.horizon)
        return Answer(official_body(row, meaning), basis, pinned=at != LATEST)

    def snapshot(self, ids: Sequence[str], snap_text: str, at: Knowledge) -> Answer:
        """Many series at one snap on one basis.

        Raises:
            InvalidInput, NotSettled: as in ``official``.
        """
        pinned = self._pin(at)
        problems: dict[str, dict[str, Any]] = {}
        refusals: list[InvalidInput] = []
        keys: list[tuple[str, Snap]] = []
        for id_ in ids:
            try:
                keys.append((id_, parse_snap(snap_text, self._meaning(id_).semantics.snap_time)))
            except NotFound as missing:
                problems[id_] = _problem(missing)
            except InvalidInput as refusal:
                refusals.append(refusal)
                problems[id_] = {"reason": "snap-not-of-series", "detail": str(refusal), "item": None}
        if len(refusals) == len(ids):
            raise refusals[0]
        found: dict[str, dict[str, Any]] = {}
        for (id_, snap), row in zip(keys, self._reads.several(keys, pinned), strict=True):
            if row is None:
                problems[id_] = _problem(self._why_none(id_, snap, at, pinned))
            else:
                found[id_] = official_body(row, self._meaning(id_))
        items = [found.get(i) or {"reference_data_id": i, "problem": problems[i]} for i in ids]
        return Answer({"snap": snap_text, "items": items}, pinned.basis, pinned=at != LATEST)

    def historical(
        self,
        reference_data_id: str,
        span: tuple[Snap, Snap],
        granularity: str | None,
        at: Knowledge,
        limit: int,
    ) -> Answer:
        """Official values over a range, a page at a time.

        Raises:
            NotFound: unknown series.
            InvalidInput, NotSettled: as in ``official``.
        """
        meaning = self._meaning(reference_data_id)
        pinned = self._pin(at)
        rows = self._reads.page(reference_data_id, *span, pinned, granularity, limit + 1)
        kept = _within_bytes(rows[:limit])
        items = [official_body(r, meaning) for r in kept]
        more = NextPage((kept[-1].snap.ns,), pinned) if len(kept) < len(rows) else None
        return Answer(
            {"reference_data_id": reference_data_id, "items": items},
            pinned.basis,
            pinned=at != LATEST,
            next=more,
        )

    def quality(self, reference_data_id: str, span: tuple[Snap, Snap]) -> Answer:
        """Scores over the official values with ``from`` <= snap < ``to``.

        Raises:
            NotFound: unknown series.
            InvalidInput: the window holds more than ``MAX_WINDOW_VALUES`` values.
        """
        meaning = self._meaning(reference_data_id)
        rows = self._reads.scores(reference_data_id, *span, MAX_WINDOW_VALUES + 1)
        if len(rows) > MAX_WINDOW_VALUES:
            said = f"holds more than {MAX_WINDOW_VALUES} values; ask for less"
            raise refuse("timeWindow", f"{span[0].text}/{span[1].text}", "window-size", said)
        expected = expected_values(meaning.semantics, span[0], min(span[1], Snap.of(self._clock())))
        scores, count = window_scores(rows, len(rows), expected)
        empty = count == 0 and not expected
        return Answer(
            {
                "reference_data_id": reference_data_id,
                "window": {"from": span[0].text, "to": span[1].text},
                "scores": scores.as_json(),
                "values": len(rows),
                "expected": expected,
                "reason": "empty-window" if empty else None,
            }
        )

    def sources(self, reference_data_id: str, snap_text: str | None) -> Answer:
        """The sources of a series, and their claims for one snap.

        Raises:
            NotFound: unknown series.
            InvalidInput: the snap does not fit the series.
        """
        series = self._series(reference_data_id)
        rules = self._reads.entry("rules", series.rules)
        precedence: list[str] = [] if rules is None else list(rules.definition["precedence"])
        snap, claims = None, {}
        if snap_text is not None:
            snap = parse_snap(snap_text, series.semantics.snap_time)
            found = self._reads.events([ev.value_stream(reference_data_id, snap.text)], LATEST)
            claims = explanation.claims_by_source(found)
        names = [*precedence, *sorted(set(claims) - set(precedence))]
        items = []
        for name in names:
            entry = self._reads.entry("source", name)
            known = {} if entry is None else entry.definition
            items.append(
                {
                    "source": name,
                    "name": known.get("name"),
                    "kind": known.get("kind"),
                    "active": known.get("active"),
                    "rank": precedence.index(name) + 1 if name in precedence else None,
                    "claims": claims.get(name, []),
                }
            )
        return Answer(
            {
                "reference_data_id": reference_data_id,
                "snap": None if snap is None else snap.text,
                "rules": series.rules,
                "rules_version": 0 if rules is None else rules.version,
                "sources": items,
            }
        )

    def explain(self, reference_data_id: str, snap_text: str, at: Knowledge) -> Answer:
        """Why the value is what it is, from what was known.

        Raises:
            NoOfficialValue: there is nothing to explain: unknown series, no claim.
            InvalidInput, NotSettled: as in ``official``.
        """
        series = self._series(reference_data_id)
        snap = parse_snap(snap_text, series.semantics.snap_time)
        pinned = self._pin(at) if at != LATEST else at
        about = self._about(reference_data_id, snap, pinned)
        if not any(e.type == ev.DATA_INGESTED for e in about):
            raise _nothing_known(reference_data_id, snap, at)
        return Answer(explanation.explain(series, snap, about), pinned=at != LATEST)

    def lineage(self, reference_data_id: str, snap_text: str) -> Answer:
        """From raw payloads to official versions.

        Raises:
            NoOfficialValue: unknown series, or no claim.
        """
        semantics = self._meaning(reference_data_id).semantics
        snap = parse_snap(snap_text, semantics.snap_time)
        about = self._reads.events([ev.value_stream(reference_data_id, snap.text)], LATEST)
        if not about:
            raise _nothing_known(reference_data_id, snap, LATEST)
        return Answer(explanation.lineage(reference_data_id, snap, about))

    def audit(
        self,
        reference_data_id: str,
        snap_text: str | None,
        at: Knowledge,
        after: tuple[str, int],
        limit: int,
    ) -> Answer:
        """The stored events about a series.

        Raises:
            NotFound: unknown series.
        """
        semantics = self._meaning(reference_data_id).semantics
        snap = None if snap_text is None else parse_snap(snap_text, semantics.snap_time)
        pinned = self._pin(at)
        found = self._reads.audit(reference_data_id, snap, pinned, after, limit + 1)
        page = found[:limit]
        more = NextPage((page[-1].stream, page[-1].version), pinned) if len(found) > limit else None
        items = [explanation.event_body(e) for e in page]
        return Answer(
            {"reference_data_id": reference_data_id, "items": items},
            pinned.basis,
            pinned=at != LATEST,
            next=more,
        )

    # catalogue, exceptions, ingestion ------------------------------------------------------------

    def entries(self, kind: str, after: str, limit: int) -> Answer:
        """Registered series, sources or rule sets in order of name."""
        found = self._reads.entries(kind, after, limit + 1)
        more = NextPage((found[limit - 1].name,)) if len(found) > limit else None
        return Answer({"items": [e.as_json() for e in found[:limit]]}, next=more)

    def entry(self, kind: str, name: str) -> Answer:
        """One of them.

        Raises:
            NotFound: it is not registered.
        """
        found = self._reads.entry(kind, name)
        if found is None:
            raise NotFound(f"{kind} {name} is not registered", f"unknown-{kind}")
        return Answer(found.as_json())

    def exceptions(self, status: str, after: tuple[datetime, UUID] | None, limit: int) -> Answer:
        """The exception queue, oldest first."""
        found = self._reads.exceptions(status, after, limit + 1)
        more = None
        if len(found) > limit:
            last = found[limit - 1]
            more = NextPage((last.opened_at.isoformat(), str(last.item)))
        return Answer({"items": [e.as_json() for e in found[:limit]]}, next=more)

    def exception(self, item: UUID) -> Answer:
        """One exception.

        Raises:
            NotFound: there is none of that identifier.
        """
        found = self._reads.exception(item)
        if found is None:
            raise NotFound(f"there is no exception {item}", "unknown-exception")
        return Answer(found.as_json())

    def receipt(self, receipt: UUID) -> Answer:
        """The answer to a submission, and the state now of each value it is about.

        Raises:
            NotFound: there is no such receipt.
        """
        found = self._reads.receipt(receipt)
        if found is None:
            raise NotFound(f"there is no receipt {receipt}", "unknown-receipt")
        answer, created_at = found
        keys = {
            (c["reference_data_id"], c["snap"])
            for c in answer["claims"]
            if c["outcome"] != "rejected" and "snap" in c
        }
        wanted = [(id_, parse_snap(snap, None)) for id_, snap in sorted(keys)]
        values = [_state_body(s) for s in self._reads.states(wanted)] if wanted else []
        return Answer({**answer, "created_at": explanation.moment_text(created_at), "values": values})

    def load(self, load: str, after: str, limit: int) -> Answer:
        """Accounting of a load.

        Raises:
            NotFound: nothing was counted under this name.
        """
        found = self._reads.load(load)
        if found is None:
            raise NotFound(f"nothing was ingested as load {load}", "unknown-load")
        outcomes = self._reads.outcomes(load, after, limit + 1)
        more = NextPage((outcomes[limit - 1].record_id,)) if len(outcomes) > limit else None
        items = [
            {
                "record_id": o.record_id,
                "outcome": o.outcome,
                "claim_id": None if o.claim_id is None else str(o.claim_id),
                "violations": list(o.violations),
                "recorded_at": explanation.moment_text(o.recorded_at),
            }
            for o in outcomes[:limit]
        ]
        body = {
            "load": found.load,
            "accepted": found.accepted,
            "duplicates": found.duplicates,
            "rejected": found.rejected,
            "started_at": explanation.moment_text(found.started_at),
            "updated_at": explanation.moment_text(found.updated_at),
            "items": items,
        }
        return Answer(body, next=more)

    def ready(self) -> None:
        """Raises ``Unavailable`` where requests cannot be answered."""
        self._reads.ready()

    # shared --------------------------------------------------------------------------------------

    def _series(self, reference_data_id: str) -> Series:
        entry = self._reads.entry("series", reference_data_id)
        if entry is None:
            raise NoOfficialValue(f"series {reference_data_id} is not registered", "unknown-series")
        series = parse_series(entry.definition)
        self._meanings[reference_data_id] = Meaning(series)
        return series

    def _meaning(self, reference_data_id: str) -> Meaning:
        known = self._meanings.get(reference_data_id)
        return Meaning(self._series(reference_data_id)) if known is None else known

    def _pin(self, at: Knowledge) -> Knowledge:
        return pinned(self._reads, at)

    def _about(self, reference_data_id: str, snap: Snap, at: Knowledge) -> list[ev.Event]:
        streams = [
            ev.value_stream(reference_data_id, snap.text),
            ev.quality_stream(reference_data_id, snap.text),
        ]
        return self._reads.events(streams, at)

    def _why_none(
        self, reference_data_id: str, snap: Snap, asked: Knowledge, pinned: Knowledge
    ) -> NoOfficialValue:
        known = self._reads.events([ev.value_stream(reference_data_id, snap.text)], pinned)
        if not known:
            return _nothing_known(reference_data_id, snap, asked)
        reason, detail, item = explanation.why_none(reference_data_id, snap, known)
        return NoOfficialValue(detail, reason, item)


def pinned(reads: Reads, at: Knowledge) -> Knowledge:
    """``at`` as knowledge that can no longer change: of now, what is settled.

    Raises:
        InvalidInput: it lies in the future.
        NotSettled: see ``Reads.settle``.
    """
    moment = reads.moment()
    if at == LATEST:
        return Knowledge(basis=moment.horizon)
    if not _settled(at, moment):
        _check_reached(at, reads.settle())
    return at


class Meaning:
    """What can never change of a series: its kind and semantics, as they stand in every answer."""

    __slots__ = ("fields", "semantics")

    def __init__(self, series: Series) -> None:
        self.semantics: Semantics = series.semantics
        self.fields: dict[str, str | None] = {
            "kind": series.kind.value,
            "currency": series.semantics.currency,
            "base_currency": series.semantics.base_currency,
            "unit": series.semantics.unit,
        }


def official_body(row: OfficialRow, meaning: Meaning) -> dict[str, Any]:
    """An official value as answered; a function of the stored version alone."""
    d = row.details
    cause = d.get("cause")
    return {
        "reference_data_id": row.reference_data_id,
        "snap": row.snap.text,
        "value": value_json(row.value),
        **meaning.fields,
        "status": "official",
        "version": row.version,
        "recorded_from": explanation.moment_text(row.recorded_from),
        "quality": {k: d["quality"].get(k) for k in SCORES},
        "method": d["method"],
        "confidence": d["confidence"],
        "sources": d["sources"],
        "rules": d["rules"],
        "rules_version": d["rules_version"],
        "restated": cause is not None,
        "restatement": None
        if cause is None
        else {
            "cause": cause,
            "reason": d["reason"],
            "restated_by": d["restated_by"],
            "before": {k: d["before"][k] for k in ("value", "official_version")},
        },
        "basis": row.position.token,
    }


SCORES = ("accuracy", "completeness", "timeliness", "consistency", "composite")
MAX_PAGE_BYTES = 4_000_000
"""A function may answer with 6 MB; a page that would come near it ends early and says that there is more."""
_ROW_BYTES = 600


def _within_bytes(rows: list[OfficialRow]) -> list[OfficialRow]:
    size = 0
    for index, row in enumerate(rows):
        size += (
            _ROW_BYTES
            + _record_bytes(row.value)
            + 40 * len(row.details["sources"])
            + len(row.details.get("reason", ""))
        )
        if size > MAX_PAGE_BYTES and index > 0:
            return rows[:index]
    return rows


def _record_bytes(value: Value) -> int:
    """A bound of the bytes of a record in an answer; a number is within those of every row."""
    return 0 if isinstance(value, Decimal) else len(json.dumps(value.document))


def expected_values(semantics: Semantics, first: Snap, until: Snap) -> int | None:
    """How many values the calendar expects with ``first`` <= snap < ``until``; ``None``: no expectation.

    Days outside the years that the calendar covers are not expected.
    """
    if semantics.cadence is not None:
        return _expected_by_cadence(semantics, semantics.cadence, first, until)
    if semantics.calendar is None or semantics.snap_time is None:
        return None
    days, at = calendar(semantics.calendar), semantics.snap_time
    low = max(first.local_date(at.zone), days.first)
    high = min(until.local_date(at.zone), days.last)
    if until <= first or high < low:
        return 0
    return sum(first <= at.on(day) < until for day in days.sessions(low, high))


def _expected_by_cadence(semantics: Semantics, cadence: timedelta, first: Snap, until: Snap) -> int:
    """Steps from each opening on, the close included where values are of a moment; around the clock without a
    calendar."""
    step = int(cadence.total_seconds() * NANOS)
    if semantics.calendar is None:
        return max(0, -(-until.ns // step) - -(-first.ns // step))
    days = calendar(semantics.calendar)
    margin = timedelta(days=1)  # a session may open on the day before its date
    low = max((first.moment - margin).astimezone(days.zone).date(), days.first)
    high = min((until.moment + margin).astimezone(days.zone).date(), days.last)
    found = 0
    for day in days.sessions(low, high) if low <= high else ():
        opens, closes = Snap.of(days.open(day)).ns, Snap.of(days.close(day)).ns
        last = closes if semantics.timing is Timing.POINT_IN_TIME else closes - 1
        begin = opens + max(0, -(-(first.ns - opens) // step)) * step
        end = min(last, until.ns - 1)
        found += max(0, (end - begin) // step + 1)
    return found


def _settled(at: Knowledge, moment: Moment) -> bool:
    if at.as_of is not None:
        if at.as_of > moment.clock:
            raise refuse("asOf", at.as_of.isoformat(), "as-of-future", "lies in the future")
        return moment.clock - at.as_of > YOUNG
    return at.basis is None or at.basis <= moment.horizon


def _check_reached(at: Knowledge, moment: Moment) -> None:
    """After waiting, everything that existed at the request is settled; a later basis is not one of ours."""
    if at.basis is not None and at.basis > moment.horizon:
        raise refuse("basis", at.basis.token, "basis-future", "is not a position that the log has reached")


def _nothing_known(reference_data_id: str, snap: Snap, at: Knowledge) -> NoOfficialValue:
    where = f"{reference_data_id} at {snap.text}"
    if at == LATEST:
        return NoOfficialValue(f"no source has made a claim for {where}", "no-claims-yet")
    return NoOfficialValue(f"nothing was known for {where}", "not-known-at-as-of")


def _problem(missing: NotFound) -> dict[str, Any]:
    item = missing.item if isinstance(missing, NoOfficialValue) else None
    return {
        "reason": missing.reason,
        "detail": str(missing),
        "item": None if item is None else str(item),
    }


_REASONS = {"suspect": "held-for-review", "insufficient": "insufficient-sources", None: "not-yet-reconciled"}


def _state_body(state: ValueState) -> dict[str, Any]:
    row = state.official
    return {
        "reference_data_id": state.reference_data_id,
        "snap": state.snap.text,
        "status": "official" if row else _REASONS.get(state.status, "no-official-value"),
        "value": None if row is None else value_json(row.value),
        "version": None if row is None else row.version,
        "recorded_from": None if row is None else explanation.moment_text(row.recorded_from),
    }
