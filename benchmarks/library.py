"""The library `eventsourcing` on PostgreSQL, as a baseline: the same events, by three of its ways in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, DomainEvent
from eventsourcing.persistence import (
    DatetimeAsISO,
    DecimalAsStr,
    EventStore,
    JSONTranscoder,
    Mapper,
    Notification,
    StoredEvent,
    UUIDAsHex,
)
from eventsourcing.postgres import (
    PostgresAggregateRecorder,
    PostgresApplicationRecorder,
    PostgresDatastore,
)

from benchmarks.stored import Row
from local.postgres import OWNER
from qis.adapters.postgres.connection import Target


@dataclass(frozen=True)  # the library makes it one anyway; type checkers are told
class Ingested(DomainEvent):
    """An event of ours as one of the library."""

    type_version: int
    stream: str
    actor: str
    correlation_id: str
    data: dict[str, Any]


class Library:
    """One database of the library.

    Ordered: its application recorder, which locks the table for the global order that followers need. Not
    ordered: its aggregate recorder, without that.
    """

    def __init__(self, target: Target, *, ordered: bool) -> None:
        self._datastore = PostgresDatastore(
            target.database, target.host, target.port, OWNER, "", originator_id_type="uuid"
        )
        kind = PostgresApplicationRecorder if ordered else PostgresAggregateRecorder
        self._recorder = kind(self._datastore)
        self._recorder.create_table()
        transcoder = JSONTranscoder()
        for transcoding in (UUIDAsHex(), DecimalAsStr(), DatetimeAsISO()):
            transcoder.register(transcoding)
        self._store: EventStore[UUID] = EventStore(Mapper(transcoder), self._recorder)

    def record(self, rows: Sequence[tuple[UUID, Row]]) -> None:
        """By the recorder alone: the state encoded as JSON, stored and committed."""
        self._recorder.insert_events(
            [
                StoredEvent(
                    originator_id=origin,
                    originator_version=row[4],
                    topic=row[1],
                    state=json.dumps(_state(row), separators=(",", ":")).encode(),
                )
                for origin, row in rows
            ]
        )

    def put(self, events: Sequence[Ingested]) -> None:
        """By the event store, as the library's applications do: mapped, stored and committed."""
        self._store.put(events)

    def notifications(self, start: int, limit: int) -> Sequence[Notification]:
        """Events from a place on, in the global order; of an ordered one."""
        assert isinstance(self._recorder, PostgresApplicationRecorder)
        found: Sequence[Notification] = self._recorder.select_notifications(start, limit)
        return found

    def close(self) -> None:
        self._datastore.close()


class Value(Aggregate):
    """A stream of ours as an aggregate of the library; it knows its claims, so that none is added twice."""

    class Ingested(Aggregate.Event):
        """A claim."""

        type_version: int
        stream: str
        actor: str
        correlation_id: str
        data: dict[str, Any]

        def apply(self, aggregate: Value) -> None:
            aggregate.claims.add(self.data["claim_id"])

    class Started(Ingested, Aggregate.Created):
        """The first claim makes the stream, as with us."""

    def __init__(self, **_: object) -> None:
        self.claims: set[str] = set()


class Claims(Application[UUID]):
    """The library as its guide has it used: aggregates are read, changed and saved, here as a batch."""

    def __init__(self, target: Target) -> None:
        super().__init__(
            {
                "PERSISTENCE_MODULE": "eventsourcing.postgres",
                "POSTGRES_DBNAME": target.database,
                "POSTGRES_HOST": target.host,
                "POSTGRES_PORT": str(target.port),
                "POSTGRES_USER": OWNER,
                "POSTGRES_PASSWORD": "none",
            }
        )

    def take(self, rows: Sequence[tuple[UUID, Row]]) -> None:
        """Add each claim to its stream unless it is known, in one transaction."""
        values: dict[UUID, Value] = {}
        for origin, row in rows:
            body = {
                "type_version": row[2],
                "stream": row[3],
                "actor": row[6],
                "correlation_id": row[7],
                "data": row[9],
            }
            if row[4] == 1:
                made: Value = Value._create(Value.Started, id=origin, **body)
                made.claims.add(row[9]["claim_id"])
                values[origin] = made
                continue
            if origin not in values:
                values[origin] = self.repository.get(origin)
            if row[9]["claim_id"] not in values[origin].claims:
                values[origin].trigger_event(Value.Ingested, **body)
        self.save(*values.values())


def originated(rows: Sequence[Row]) -> list[tuple[UUID, Row]]:
    """Rows with the identity that the library knows their stream by."""
    return [(uuid5(NAMESPACE_URL, row[3]), row) for row in rows]


def domain_events(rows: Sequence[Row]) -> list[Ingested]:
    """Rows as events of the library."""
    return [
        Ingested(
            originator_id=origin,
            originator_version=row[4],
            timestamp=row[5],
            type_version=row[2],
            stream=row[3],
            actor=row[6],
            correlation_id=row[7],
            data=row[9],
        )
        for origin, row in originated(rows)
    ]


def _state(row: Row) -> dict[str, Any]:
    return {
        "type_version": row[2],
        "stream": row[3],
        "timestamp": row[5].isoformat(),
        "actor": row[6],
        "correlation_id": row[7],
        "data": row[9],
    }
