"""The ports of the push channel, in memory, and what a consumer makes of its messages."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from qis.application.ports import Unavailable
from qis.application.push import PUSHED, Gone, Listener, Page
from qis.domain.events import Position, value_stream_subject
from qis.domain.subscriptions import GROUP, PATTERN, SERIES
from tests.support.fakes import MemoryEventStore


def keys_of(reference_data_id: str, group: str | None) -> frozenset[str]:
    """Every key under which a value of a series finds its listeners: what the database has to say, too."""
    dots = (i for i, c in enumerate(reference_data_id) if c == ".")
    patterns = {f"{PATTERN}{reference_data_id[: i + 1]}*" for i in dots if i}
    groups = set() if group is None else {GROUP + group}
    return frozenset({SERIES + reference_data_id, f"{PATTERN}*", *patterns, *groups})


@dataclass
class _Row:
    subject: str
    expires_at: datetime
    told_at: datetime
    cursor: Position | None = None
    keys: frozenset[str] = frozenset()


class MemoryConnections:
    """``Connections`` over the log of a ``MemoryEventStore``; ``groups`` names the group of each series."""

    def __init__(self, store: MemoryEventStore, groups: dict[str, str]) -> None:
        self._store = store
        self._groups = groups
        self.rows: dict[str, _Row] = {}
        self.held: set[str] = set()

    def open(self, connection_id: str, subject: str, at: datetime, expires_at: datetime) -> None:
        self.rows.setdefault(connection_id, _Row(subject, expires_at, at))

    def forget(self, connection_id: str) -> None:
        self.rows.pop(connection_id, None)

    @contextmanager
    def hold(self, connection_id: str, at: datetime) -> Iterator[Listener | None]:
        if connection_id in self.held:
            raise Unavailable("held by another")
        self.held.add(connection_id)
        try:
            row = self.rows.get(connection_id)
            if row is None or row.expires_at <= at:
                yield None
            else:
                yield Listener(connection_id, row.cursor, row.told_at, row.keys)
        finally:
            self.held.remove(connection_id)

    def listen(self, connection_id: str, keys: frozenset[str], cursor: Position) -> None:
        row = self.rows[connection_id]
        row.keys, row.cursor = keys, cursor

    def read(self, connection_id: str, after: Position, limit: int) -> Page | None:
        scanned = [e for e in self._store.log if e.position > after][:limit]
        if not scanned:
            return None
        found = [
            e
            for e in scanned
            if e.type in PUSHED and self._wanted(connection_id, value_stream_subject(e.stream)[0])
        ]
        return Page(found, scanned[-1].position, len(scanned) == limit)

    def _wanted(self, connection_id: str, series: str) -> bool:
        return bool(self.rows[connection_id].keys & keys_of(series, self._groups.get(series)))

    def move(self, connection_id: str, to: Position | None, told_at: datetime | None) -> None:
        row = self.rows[connection_id]
        row.cursor, row.told_at = to or row.cursor, told_at or row.told_at

    def newest(self) -> Position:
        return Position(self._store.log[-1].position.tx + 1 if self._store.log else 1, 0)

    def listening(self, series: Collection[str], at: datetime) -> Sequence[str]:
        return [i for i in self.living(at) if any(self._wanted(i, s) for s in series)]

    def living(self, at: datetime) -> Sequence[str]:
        return sorted(i for i, row in self.rows.items() if row.expires_at > at)

    def over(self, at: datetime) -> Sequence[str]:
        return sorted(i for i, row in self.rows.items() if row.expires_at <= at)

    def unknown(self, series: frozenset[str], groups: frozenset[str]) -> tuple[Sequence[str], Sequence[str]]:
        return sorted(series - self._groups.keys()), sorted(groups - set(self._groups.values()))


@dataclass
class MemorySockets:
    """``Sockets`` that keep what was sent."""

    sent: list[tuple[str, bytes]] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    fail_after: int | None = None
    """Sending fails after so many messages, as where a process dies."""

    def post(self, connection_id: str, message: bytes) -> None:
        if connection_id in self.gone:
            raise Gone(connection_id)
        if self.fail_after is not None:
            self.fail_after -= 1
            if self.fail_after < 0:
                raise Unavailable("the process died here")
        self.sent.append((connection_id, message))

    def close(self, connection_id: str) -> None:
        self.closed.append(connection_id)

    def messages(self, connection_id: str, kind: str = "") -> list[dict[str, Any]]:
        """What a connection was sent, of one kind where it is named."""
        bodies = [json.loads(m) for i, m in self.sent if i == connection_id]
        return [b for b in bodies if not kind or b["kind"] == kind]

    def events(self, connection_id: str) -> list[dict[str, Any]]:
        """The events that it was sent, repeats included."""
        return [e for b in self.messages(connection_id, "values") for e in b["events"]]


def values(events: Sequence[dict[str, Any]]) -> list[str]:
    """The values in events."""
    return [e["data"]["value"] for e in events]


def without_repeats(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a consumer keeps: only what is behind the last position that it saw."""
    kept: list[dict[str, Any]] = []
    seen = Position(0, 0)
    for event in events:
        at = Position.parse(event["sequence"])
        if at > seen:
            kept.append(event)
            seen = at
    return kept
