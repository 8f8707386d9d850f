"""Reading: official values with the knowledge of now, of a moment, or of a log position.

An answer is a function of what was known, never of when it was asked: its body names neither the moment of
the request nor ``asOf``. An answer that is ``pinned`` can never change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from qis.application import explanation
from qis.application.answers import MAX_ANSWER, fitting, newest_fitting, weight
from qis.application.reading import (
    LATEST,
    Answer,
    Knowledge,
    NextPage,
    NoOfficialValue,
    OfficialRow,
    Reads,
    ValueState,
    check_reached,
    pinned,
    settled,
)
from qis.domain import events as ev
from qis.domain.errors import InvalidInput, NotFound, refuse
from qis.domain.expectations import expected_values
from qis.domain.kinds.record import Value, value_json
from qis.domain.quality import window_scores
from qis.domain.series import Semantics, Series, parse_series
from qis.domain.snap import Snap, parse_snap

MAX_WINDOW_VALUES = 100_000
MAX_IDS = 100


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
        if not settled(at, moment):
            check_reached(at, self._reads.settle())
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
        items: list[dict[str, Any]] = []
        left_out: dict[str, int] = {}
        budget = MAX_PAGE_BYTES // max(len(names), 1)
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
                    "claims": (newest := newest_fitting(claims.get(name, []), budget)),
                }
            )
            left_out[name] = len(claims.get(name, [])) - len(newest)
        return Answer(
            {
                "reference_data_id": reference_data_id,
                "snap": None if snap is None else snap.text,
                "rules": series.rules,
                "rules_version": 0 if rules is None else rules.version,
                "sources": items,
                **explanation.omitted(left_out),
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
        items: list[dict[str, Any]] = []
        budget, more = MAX_PAGE_BYTES, True
        # In runs, so that a page of large events is not read whole to be cut.
        while more and len(items) < limit:
            run = min(_AUDIT_RUN, limit - len(items))
            found = self._reads.audit(reference_data_id, snap, pinned, after, run + 1)
            bodies = [explanation.event_body(e) for e in found[:run]]
            fits = 0
            for body in bodies:
                budget -= weight(body)
                if budget < 0 and items:
                    break
                items.append(body)
                fits += 1
            if fits:
                after = found[fits - 1].stream, found[fits - 1].version
            more = fits < len(found)
            if fits < len(bodies):
                break
        return Answer(
            {"reference_data_id": reference_data_id, "items": items},
            pinned.basis,
            pinned=at != LATEST,
            next=NextPage(after, pinned) if more else None,
        )

    # catalogue, exceptions, ingestion ------------------------------------------------------------

    def entries(self, kind: str, after: str, limit: int) -> Answer:
        """Registered series, sources or rule sets in order of name."""
        found = self._reads.entries(kind, after, limit + 1)
        items = _page([e.as_json() for e in found[:limit]])
        more = NextPage((found[len(items) - 1].name,)) if len(found) > len(items) else None
        return Answer({"items": items}, next=more)

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
        items = _page([e.as_json() for e in found[:limit]])
        more = None
        if len(found) > len(items):
            last = found[len(items) - 1]
            more = NextPage((last.opened_at.isoformat(), str(last.item)))
        return Answer({"items": items}, next=more)

    def exception(self, item: UUID) -> Answer:
        """One exception.

        Raises:
            NotFound: there is none of that identifier.
        """
        found = self._reads.exception(item)
        if found is None:
            raise NotFound(f"there is no exception {item}", "unknown-exception")
        return Answer(found.as_json())

    def receipt(self, receipt: UUID, after: int, limit: int) -> Answer:
        """The answer to a submission, and the state now of each value it is about, a page at a time.

        Args:
            after: how many claims the pages before have.

        Raises:
            NotFound: there is no such receipt.
        """
        found = self._reads.receipt(receipt)
        if found is None:
            raise NotFound(f"there is no receipt {receipt}", "unknown-receipt")
        answer, created_at = found
        page: list[dict[str, Any]] = []
        values: dict[tuple[str, str], dict[str, Any]] = {}
        rest = answer["claims"][after : after + limit]
        budget = MAX_PAGE_BYTES
        while rest and budget > 0:
            group, rest = rest[:_RECEIPT_GROUP], rest[_RECEIPT_GROUP:]
            states = self._states(group)
            for claim in self._with_violations(group):
                key = (claim.get("reference_data_id", ""), claim.get("snap", ""))
                state = None if key in values else states.get(key)
                budget -= weight(claim) + (weight(state) if state else 0)
                if budget < 0 and page:
                    break
                page.append(claim)
                if state:
                    values[key] = state
        end = after + len(page)
        body = {**answer, "created_at": explanation.moment_text(created_at), "claims": page}
        body["values"] = [values[key] for key in sorted(values)]
        return Answer(body, next=NextPage((end,)) if end < len(answer["claims"]) else None)

    def _states(self, claims: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
        """State now of the values that claims of a receipt are about, by series and snap."""
        keys = {
            (c["reference_data_id"], c["snap"]) for c in claims if c["outcome"] != "rejected" and "snap" in c
        }
        wanted = [(id_, parse_snap(snap, None)) for id_, snap in sorted(keys)]
        states = map(_state_body, self._reads.states(wanted)) if wanted else ()
        return {(s["reference_data_id"], s["snap"]): s for s in states}

    def _with_violations(self, claims: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Claims of a receipt with the violations that its answer had no room for."""
        records = [c["record_id"] for c in claims if "record_id" in c]
        violations = self._reads.violations(records) if records else {}
        filled = []
        for claim in claims:
            body = dict(claim)
            if (record := body.pop("record_id", "")) in violations:
                del body["violations_omitted"]
                body["violations"] = list(violations[record])
            filled.append(body)
        return filled

    def load(self, load: str, after: str, limit: int) -> Answer:
        """Accounting of a load.

        Raises:
            NotFound: nothing was counted under this name.
        """
        found = self._reads.load(load)
        if found is None:
            raise NotFound(f"nothing was ingested as load {load}", "unknown-load")
        outcomes = self._reads.outcomes(load, after, limit + 1)
        bodies = [
            {
                "record_id": o.record_id,
                "outcome": o.outcome,
                "claim_id": None if o.claim_id is None else str(o.claim_id),
                "violations": list(o.violations),
                "recorded_at": explanation.moment_text(o.recorded_at),
            }
            for o in outcomes[:limit]
        ]
        items = _page(bodies)
        more = NextPage((outcomes[len(items) - 1].record_id,)) if len(outcomes) > len(items) else None
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
MAX_PAGE_BYTES = MAX_ANSWER
"""A page that would weigh more ends early and says that there is more."""
_RECEIPT_GROUP = 500
"""Claims of a receipt that are looked up together."""
_AUDIT_RUN = 250
"""Events of a page that are read together."""
_ROW_BYTES = 700


def _page(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first items, as many as fit into one answer."""
    return items[: fitting(items, MAX_PAGE_BYTES)]


def _within_bytes(rows: list[OfficialRow]) -> list[OfficialRow]:
    size = 0
    for index, row in enumerate(rows):
        size += (
            _ROW_BYTES
            + _record_bytes(row.value)
            + sum(map(len, row.details["sources"]), 8 * len(row.details["sources"]))
            + 7 * len(row.details.get("reason", ""))  # each of its characters may be escaped twice
        )
        if size > MAX_PAGE_BYTES and index > 0:
            return rows[:index]
    return rows


def _record_bytes(value: Value) -> int:
    """A bound of the bytes of a record in an answer; a number is within those of every row."""
    return 0 if isinstance(value, Decimal) else weight(value.document)


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
