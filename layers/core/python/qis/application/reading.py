"""What reading rests on: the read models and the log as a port, how much of them an answer may use, and what
an answer is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from qis.application.explanation import moment_text
from qis.domain import events as ev
from qis.domain.errors import NotFound, QisError, refuse
from qis.domain.kinds.record import Value
from qis.domain.snap import Snap

YOUNG = timedelta(seconds=60)
"""A transaction may still commit something recorded so long ago: writers are cut off well before."""


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
            "changed_at": moment_text(self.changed_at),
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
            "opened_at": moment_text(self.opened_at),
            "closed_at": None if self.closed_at is None else moment_text(self.closed_at),
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

    def violations(self, records: Sequence[str]) -> Mapping[str, Sequence[Mapping[str, str]]]:
        """Which rules rejected records break, by record id."""
        ...

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


def pinned(reads: Reads, at: Knowledge) -> Knowledge:
    """``at`` as knowledge that can no longer change: of now, what is settled.

    Raises:
        InvalidInput: it lies in the future.
        NotSettled: see ``Reads.settle``.
    """
    moment = reads.moment()
    if at == LATEST:
        return Knowledge(basis=moment.horizon)
    if not settled(at, moment):
        check_reached(at, reads.settle())
    return at


def settled(at: Knowledge, moment: Moment) -> bool:
    """Whether what was known then can no longer change.

    Raises:
        InvalidInput: it lies in the future.
    """
    if at.as_of is not None:
        if at.as_of > moment.clock:
            raise refuse("asOf", at.as_of.isoformat(), "as-of-future", "lies in the future")
        return moment.clock - at.as_of > YOUNG
    return at.basis is None or at.basis <= moment.horizon


def check_reached(at: Knowledge, moment: Moment) -> None:
    """After waiting, everything that existed at the request is settled; a later basis is not one of ours."""
    if at.basis is not None and at.basis > moment.horizon:
        raise refuse("basis", at.basis.token, "basis-future", "is not a position that the log has reached")
