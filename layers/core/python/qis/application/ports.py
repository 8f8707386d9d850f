"""What the use cases need from outside, as protocols with named errors."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

from qis.domain.errors import QisError

if TYPE_CHECKING:  # a function that needs one port does not pay for the types of all
    from datetime import datetime
    from uuid import UUID

    from qis.application.raw import RawBatch
    from qis.domain.checks import Check
    from qis.domain.claims import Claim
    from qis.domain.events import Event, NewEvent, Position
    from qis.domain.reconciliation import Standings
    from qis.domain.rules import Layer, RuleBook
    from qis.domain.series import Series, Source
    from qis.domain.snap import Snap


class Unavailable(QisError):
    """A part outside did not answer; nothing is known to have changed and repeating is safe."""

    slug = "unavailable"


class Contended(QisError):
    """Other writers kept winning; repeating later is safe."""

    slug = "contended"


class Append(NamedTuple):
    """Events for one stream, at the version on which they were decided. A batch may hold several for one
    stream, in order; they win or lose together."""

    stream: str
    expected_version: int
    events: Sequence[NewEvent]
    actor: str
    correlation_id: str
    causation_id: UUID | None = None


class Candidate(NamedTuple):
    """A valid claim on its way into its stream. (A tuple, like all that is made once a record.)"""

    claim: Claim[Any]
    stream: str
    record_id: str
    load_id: str
    actor: str
    raw: str
    """Where the delivered batch is kept."""
    place: int
    """The record's place in it."""
    redriven: bool = False
    """Whether the record was rejected before, and put back by a person."""

    def data(self) -> dict[str, Any]:
        """The data of its ``DataIngested`` event."""
        data = self.claim.as_json()
        data["record_id"] = self.record_id
        data["raw"] = {"uri": self.raw, "index": self.place}
        return data


class Rejection(NamedTuple):
    """A delivered record that is no claim, and which rules it breaks."""

    record_id: str
    load_id: str
    violations: Sequence[Mapping[str, str]]
    payload: bytes
    redriven: bool = False


Known: TypeAlias = Literal["duplicate", "redelivered"]
"""Why a valid claim does not enter the log: another record brought it before; this one did."""


class RecordOutcome(NamedTuple):
    """The outcome on record of a delivered record."""

    outcome: Literal["accepted", "duplicate", "rejected"]
    claim_id: str | None = None
    stream: str | None = None
    """Stream that holds the claim of an accepted record."""
    violations: Sequence[Mapping[str, str]] = ()


class Stored(NamedTuple):
    """What became of candidates."""

    known: Mapping[int, Known]
    """Those that do not enter, by their place in the batch."""
    entered: Sequence[Candidate]
    """The others, as they entered: a claim that its source makes once more has an identity of its own."""


class Admission(Protocol):
    """Claims entering the log in one transaction: all of it is stored, or nothing."""

    def find_receipt(self, actor: str, idempotency_key: str) -> tuple[bytes, dict[str, Any]] | None:
        """The request hash and answer first given under this key. Called before anything else.

        Nobody else uses the key until the admission ends: whoever asks for it meanwhile waits.
        """
        ...

    def keep_receipt(
        self,
        receipt: UUID,
        actor: str,
        idempotency_key: str | None,
        request_hash: bytes,
        answer: dict[str, Any],
    ) -> None:
        """Keep the answer to a REST submission with its claims, under the key if there is one: it was looked
        for and not found."""
        ...

    def take(self, streams: Sequence[str]) -> None:
        """Take streams, each named once for every claim that may enter it, and look what they hold while the
        caller checks the claims. Asked once, and first.

        They are held until the admission ends: other writers of theirs wait.
        """
        ...

    def keep(self, raw: RawBatch) -> None:
        """Store the raw payloads of the batch, until they are moved to the raw store."""
        ...

    def store(self, candidates: Sequence[Candidate]) -> Stored:
        """Append the claims that their streams, which are taken, do not hold yet."""
        ...

    def count(self, rejected: Sequence[Rejection]) -> Mapping[str, RecordOutcome]:
        """Count what was stored, what was known and what is rejected, each record under its load and once,
        however often it is delivered. Asked last, since other batches of these loads wait from here on.

        The first outcome of a record stands, except that a rejected one may be accepted later, and that a
        redriven one may be rejected for another reason.

        Returns:
            The outcome on record of each of the rejected, by record id.
        """
        ...


class Admissions(Protocol):
    """Where claims enter the log."""

    def open(self) -> AbstractContextManager[Admission]:
        """An admission: durable when the context ends, undone if it ends with an error."""
        ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """A stream as read: its version and its events in order, those after the snapshot if one was used."""

    version: int
    events: Sequence[Event]
    snapshot: tuple[int, Mapping[str, Any]] | None = None
    """Version and state of the snapshot."""


EMPTY = Loaded(0, ())


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Decisions around a snap: what its move is measured against, and who is measured against it."""

    before: Sequence[tuple[Snap, Any, bool]] = ()
    """``(snap, value, official)``: the nearest official one, and the nearest held one if nearer."""
    after: Sequence[Snap] = ()
    """The following snaps up to and including the first official one."""
    standings: Standings = field(default_factory=dict)
    """Of the sources after the nearest decided snap before; only where they were asked for."""
    at: Snap | None = None
    """That snap."""
    next: Snap | None = None
    """The nearest decided snap after; only where standings were asked for."""


Key: TypeAlias = "tuple[str, Snap]"
"""A series and a snap."""


@dataclass(frozen=True, slots=True)
class Basis:
    """What decisions on one series rest on beside the streams themselves. If it no longer holds when they
    are to be stored, none of them is."""

    reference_data_id: str
    streams: frozenset[str]
    """Streams that win or lose together."""
    neighbours: Mapping[Key, Neighbours]
    tracked: frozenset[Key]
    """Those of the keys whose neighbours were read with standings."""


@dataclass(frozen=True, slots=True)
class Issue:
    """An exception: the value it is about, and whether it holds the value back."""

    reference_data_id: str
    snap: Snap
    gate: bool


class EventStore(Protocol):
    """The append-only log."""

    def load(self, streams: Collection[str]) -> Mapping[str, Loaded]:
        """Streams with their events, in one round trip; a stream that does not exist is left out."""
        ...

    def load_recent(self, streams: Collection[str], snapshot_format: int) -> Mapping[str, Loaded]:
        """As ``load``, but from the last snapshot of this format on, where there is one."""
        ...

    def keep_snapshot(self, stream: str, version: int, state: Mapping[str, Any]) -> None:
        """Keep a snapshot, unless a newer one is kept."""
        ...

    def append(self, appends: Sequence[Append], bases: Sequence[Basis] = ()) -> frozenset[str]:
        """Append durably, in one transaction, with the read models that follow inline.

        Args:
            bases: what the appends rest on, at most one of each series. Writers that name a basis on the
                same series wait for each other, so that a basis that holds is not changed by one of them
                before the append is there to be seen.

        Returns:
            The streams that lost to another writer: nothing of theirs was stored, the rest was. With one
            stream of a basis, or the basis itself, all its streams are lost.
        """
        ...

    def alone_on(self, series: Collection[str]) -> AbstractContextManager[None]:
        """Keep other writers that name a basis on these series waiting while what is appended to them is
        decided: of what is read and appended inside the context, no basis is overtaken. Inside it appends
        become durable together, at its end."""
        ...

    def neighbours(self, keys: Collection[Key], tracked: Collection[Key] = ()) -> Mapping[Key, Neighbours]:
        """Decisions before and after each key, in one round trip; with standings for those ``tracked``."""
        ...

    def decided(self, reference_data_id: str, first: Snap, until: Snap, limit: int) -> Sequence[Snap]:
        """The first ``limit`` snaps of a series with a decision, ``first`` <= snap < ``until``, in order."""
        ...

    def issue(self, issue_id: UUID) -> Issue | None:
        """What an exception is about."""
        ...

    def versions(self, streams: Collection[str]) -> Mapping[str, int]:
        """Versions of streams, without their events; a stream that does not exist is left out."""
        ...


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Registered series, sources and rules, as of one revision."""

    revision: int
    series: Mapping[str, Series]
    sources: Mapping[str, Source]
    rules: RuleBook
    active: Mapping[str, bool] = field(default_factory=dict)
    """Sources, each with whether claims of it are taken."""
    checks: Mapping[str, Check] = field(default_factory=dict)
    """Business rules, those that are not active included."""

    def check_rules(self, layer: Layer) -> None:
        """Whether ``layer`` may be put in force for the series that there are.

        Raises:
            InvalidInput: see ``RuleBook.check``.
        """
        used = self.series.values()
        self.rules.check(layer, {s.rules for s in used}, {s.rules for s in used if s.structure is not None})


class CatalogueReader(Protocol):
    """The catalogue, read again only when it changed."""

    def current(self) -> Catalogue:
        """The catalogue as it was a moment ago: cheap, and right for all that is known for longer."""
        ...

    def newest(self) -> Catalogue:
        """The catalogue as it is now: for what ``current`` does not know."""
        ...


class RawStore(Protocol):
    """Where raw payloads stay, linked from the events."""

    def put(self, batches: Sequence[RawBatch]) -> None:
        """Keep batches durably, each under its address.

        Raises:
            Unavailable: some may have been kept.
        """
        ...


class RawOutbox(Protocol):
    """Raw payloads that are stored with their claims, and not in the raw store yet."""

    def oldest(self, limit: int, most_bytes: int) -> Sequence[RawBatch]:
        """Those that wait longest: at most so many, of so many bytes together, but one if there is one."""
        ...

    def drop(self, addresses: Sequence[str]) -> None:
        """Forget batches; they are in the raw store."""
        ...

    def waiting(self, limit: int) -> int:
        """How many there are, counted up to ``limit``."""
        ...


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that can not be processed as it is, with the reason."""

    record_id: str
    load_id: str
    reason: str
    violations: Sequence[Mapping[str, str]]
    payload: bytes


class DeadLetters(Protocol):
    """The queue of records to be looked at and redriven."""

    def send(self, letters: Sequence[DeadLetter]) -> None:
        """Queue all of them.

        Raises:
            Unavailable: some could not be queued.
        """
        ...


class Bus(Protocol):
    """The event bus of the consuming domains."""

    def put(self, events: Sequence[Mapping[str, Any]]) -> frozenset[int]:
        """Send CloudEvents. Returns the indexes of those that were not taken."""
        ...


class Backbone(Protocol):
    """The stream of internal events, ordered by series."""

    def put(self, records: Sequence[tuple[str, bytes]]) -> None:
        """Send ``(partition key, record)`` pairs; order is kept within a key.

        Raises:
            Unavailable: not all were taken; those after the first refused one may be missing.
        """
        ...


BUDGET = 8 * 1024 * 1024
"""Bytes of events' data that a follower reads at once: decoded, JSON takes up to eight times as much."""


class FollowerLog(Protocol):
    """Reading the log in its gap-free order, with a durable checkpoint."""

    def read(
        self, after: Position, limit: int, types: Collection[str] = (), most_bytes: int = BUDGET
    ) -> Sequence[Event]:
        """Events after a position that no running transaction can still precede, in order.

        Args:
            limit: most events.
            types: the only types to read; empty: all.
            most_bytes: most bytes of the events' data together. The first event is read whatever its size.

        Returns:
            No events only where there are none: fewer than ``limit`` do not mean the end of the log.
        """
        ...

    def checkpoint(self) -> Position: ...

    def move(self, to: Position, at: datetime) -> None: ...
