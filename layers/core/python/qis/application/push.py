"""Push: official values to open connections, from the log, each from its own place on.

A connection is a follower of the log: it has a place, and is told of everything after it that it asked for,
in the order of the log. That a value was published only wakes the connections that listen to it; what they
are told is read from the log. So whoever comes back with the last place it was told goes on there, nothing
is missing between what was read again and what comes live, and a wake-up that is lost delays and loses
nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from qis.application.access import Principal
from qis.application.ports import Unavailable
from qis.application.publish import cloud_event
from qis.application.relay import backbone_event
from qis.domain.errors import InvalidInput, QisError, Violation, refuse, shown
from qis.domain.events import DATA_PUBLISHED, DATA_RESTATED, Event, Position
from qis.domain.subscriptions import MAX_KEYS, Wish, groups_of, parse_wish, series_of, too_many

PUSHED = (DATA_PUBLISHED, DATA_RESTATED)
MAX_DURATION = timedelta(hours=2)
"""API Gateway ends a connection then, whether or not it tells us."""
HEARTBEAT_AFTER = timedelta(seconds=45)
"""Silence after which a connection is told that it lives, at the next minute."""
FRAME = 32 * 1024
"""Bytes of a message: the size of a WebSocket frame of API Gateway, by which it also charges."""
ENVELOPE = 128
"""Bytes of a message around its events, at most."""
PAGE = 2000
"""Events of the log that are looked at in one step."""
TURN = 10
"""Steps that one connection gets before it has to ask to go on, so that who is far behind holds up nobody."""


class Gone(QisError):
    """The connection does not exist any more, or takes nothing any more."""

    slug = "gone"


@dataclass(frozen=True, slots=True)
class Listener:
    """An open connection, held by this process alone."""

    connection_id: str
    cursor: Position | None
    """How far it has been told; ``None``: it asked for nothing yet."""
    told_at: datetime
    keys: frozenset[str]


@dataclass(frozen=True, slots=True)
class Page:
    """What the log holds for a connection after a place."""

    events: Sequence[Event]
    reached: Position
    """How far the log was looked at: further than the last of the events."""
    more: bool
    """Whether there may be more behind it."""


class Connections(Protocol):
    """Open connections, what they asked for, and the log as it is for them."""

    def open(self, connection_id: str, subject: str, at: datetime, expires_at: datetime) -> None:
        """Remember a connection; opening it again changes nothing."""
        ...

    def forget(self, connection_id: str) -> None:
        """Remember it no longer."""
        ...

    def hold(self, connection_id: str, at: datetime) -> AbstractContextManager[Listener | None]:
        """The connection, for nobody else meanwhile; ``None``: it is not known, or its time is over.

        Raises:
            Unavailable: somebody else held it for too long.
        """
        ...

    def listen(self, connection_id: str, keys: frozenset[str], cursor: Position) -> None:
        """Listen to ``keys`` and no others, from ``cursor`` on."""
        ...

    def read(self, connection_id: str, after: Position, limit: int) -> Page | None:
        """What is final in the log after a place, of at most ``limit`` events; ``None``: nothing is."""
        ...

    def move(self, connection_id: str, to: Position | None, told_at: datetime | None) -> None:
        """The connection has been told of everything up to ``to``, with a message at ``told_at``; ``None``
        leaves the one or the other as it is."""
        ...

    def newest(self) -> Position:
        """The place up to which the log is final: whatever is written from now on comes after it."""
        ...

    def listening(self, series: Collection[str], at: datetime) -> Sequence[str]:
        """Connections that listen to any of ``series``; found by the keys of these."""
        ...

    def living(self, at: datetime) -> Sequence[str]:
        """All connections whose time is not over."""
        ...

    def over(self, at: datetime) -> Sequence[str]:
        """Connections whose time is over."""
        ...

    def unknown(self, series: frozenset[str], groups: frozenset[str]) -> tuple[Sequence[str], Sequence[str]]:
        """Those of the series and of the groups that are not registered."""
        ...


class Sockets(Protocol):
    """The way to the other end of connections."""

    def post(self, connection_id: str, message: bytes) -> None:
        """Send a message.

        Raises:
            Gone: there is no such connection, or it does not keep up with what it is sent.
            Unavailable: unknown whether it was sent.
        """
        ...

    def close(self, connection_id: str) -> None:
        """End a connection; one that does not exist is ended already.

        Raises:
            Unavailable: unknown whether it was ended.
        """
        ...


@dataclass(slots=True)
class Told:
    """What was sent."""

    values: int = 0
    messages: int = 0
    dropped: int = 0
    """Connections that were given up."""


class Push:
    """The use cases of the push channel."""

    def __init__(
        self, connections: Connections, sockets: Sockets, clock: Callable[[], datetime], page: int = PAGE
    ) -> None:
        self._connections = connections
        self._sockets = sockets
        self._clock = clock
        self._page = page

    def connect(self, connection_id: str, principal: Principal) -> None:
        """A connection that lives as long as the token that opened it, and no longer than AWS lets it."""
        now = self._clock()
        until = min(principal.expires_at, now + MAX_DURATION)
        self._connections.open(connection_id, principal.subject, now, until)

    def disconnect(self, connection_id: str) -> None:
        """The other end is gone."""
        self._connections.forget(connection_id)

    def subscribe(self, connection_id: str, body: object) -> Told:
        """Listen to more, from now on; what is listened to already goes on without a gap.

        Raises:
            InvalidInput: see ``parse_wish``; ``known-series``, ``known-group``.
            Gone: the connection is not known.
        """
        wish = self._wish(body, with_cursor=False)
        with self._held(connection_id) as listener:
            keys = listener.keys | wish.keys
            if len(keys) > MAX_KEYS:
                raise too_many(len(keys))
            return self._changed(listener, "subscribed", wish, keys, listener.cursor)

    def unsubscribe(self, connection_id: str, body: object) -> Told:
        """Listen to less. Raises as ``subscribe`` does; ``subscribed``: for what was not listened to."""
        wish = parse_wish(body, with_cursor=False)
        with self._held(connection_id) as listener:
            if never := sorted(wish.keys - listener.keys):
                named = [key.partition(":") for key in never]
                raise InvalidInput(
                    *[Violation(_FIELD[k], n, "subscribed", "is not subscribed to") for k, _, n in named]
                )
            return self._changed(listener, "unsubscribed", wish, listener.keys - wish.keys, listener.cursor)

    def resume(self, connection_id: str, body: object) -> Told:
        """Listen to what the message names and nothing else, to everything after its cursor. Raises as
        ``subscribe`` does; ``cursor-ahead``: the log has not come so far."""
        wish = self._wish(body, with_cursor=True)
        assert wish.cursor is not None
        newest = self._connections.newest()
        if wish.cursor > newest:
            token = wish.cursor.token
            raise refuse(
                "cursor", token, "cursor-ahead", f"is ahead of the log, which ends at {newest.token}"
            )
        with self._held(connection_id) as listener:
            return self._changed(listener, "resumed", wish, wish.keys, wish.cursor)

    def _wish(self, body: object, *, with_cursor: bool) -> Wish:
        wish = parse_wish(body, with_cursor=with_cursor)
        series, groups = self._connections.unknown(series_of(wish.keys), groups_of(wish.keys))
        broken = [Violation("series", shown(s), "known-series", "is not registered") for s in series]
        broken += [Violation("groups", shown(g), "known-group", "reconciles no series") for g in groups]
        if broken:
            raise InvalidInput(*broken)
        return wish

    @contextmanager
    def _held(self, connection_id: str) -> Iterator[Listener]:
        """The connection, which has to be there."""
        with self._connections.hold(connection_id, self._clock()) as listener:
            if listener is None:
                raise Gone(f"the connection {shown(connection_id)} is not known, or its time is over")
            yield listener

    def _changed(
        self, listener: Listener, kind: str, wish: Wish, keys: frozenset[str], cursor: Position | None
    ) -> Told:
        """Store what is listened to, say so, and go on from there."""
        at = self._connections.newest() if cursor is None else cursor
        self._connections.listen(listener.connection_id, keys, at)
        answer = {"kind": kind, "cursor": at.token, "subscriptions": len(keys)}
        if wish.reference is not None:
            answer["id"] = wish.reference
        told = Told(messages=1)
        now = Listener(listener.connection_id, at, listener.told_at, keys)
        try:
            self._sockets.post(listener.connection_id, encoded(answer))
            self._tell(now, told)
        except Gone:
            self._drop(listener.connection_id, told)
        return told

    def refuse(self, connection_id: str, problem: Mapping[str, Any], reference: str | None) -> None:
        """Say what is wrong with a message."""
        named = {} if reference is None else {"id": reference}
        try:
            self._sockets.post(connection_id, encoded({"kind": "problem", **named, "problem": problem}))
        except Gone:
            self.end(connection_id)

    def end(self, connection_id: str) -> None:
        """End a connection, at both ends."""
        self._sockets.close(connection_id)
        self._connections.forget(connection_id)

    def wake(self, series: Collection[str], more_time: Callable[[], bool]) -> Told:
        """Tell whoever listens to ``series`` what is new.

        Raises:
            Unavailable: not everybody was told; doing it again tells the rest.
        """
        ids = self._connections.listening(series, self._clock()) if series else ()
        return self._each(ids, self._told, more_time)

    def tick(self, more_time: Callable[[], bool]) -> Told:
        """Each minute: end what is over, tell what a lost wake-up left behind, and that we live."""
        now = self._clock()
        dropped = 0
        for connection_id in self._connections.over(now):
            self.end(connection_id)
            dropped += 1
        told = self._each(self._connections.living(now), self._beat, more_time)
        told.dropped += dropped
        return told

    def _each(
        self, ids: Sequence[str], act: Callable[[Listener, Told], None], more_time: Callable[[], bool]
    ) -> Told:
        told = Told()
        failed: Unavailable | None = None
        for connection_id in ids:
            if not more_time():
                raise Unavailable("the time was too short for all connections")
            try:
                with self._connections.hold(connection_id, self._clock()) as listener:
                    if listener is not None:
                        act(listener, told)
            except Gone:
                self._drop(connection_id, told)
            except Unavailable as error:
                failed = error  # the others are told first
        if failed is not None:
            raise failed
        return told

    def _told(self, listener: Listener, told: Told) -> None:
        if listener.cursor is not None:
            self._tell(listener, told)

    def _beat(self, listener: Listener, told: Told) -> None:
        before = told.messages
        cursor = None if listener.cursor is None else self._tell(listener, told)
        now = self._clock()
        if told.messages == before and now - listener.told_at >= HEARTBEAT_AFTER:
            at = {} if cursor is None else {"cursor": cursor.token}
            self._sockets.post(listener.connection_id, encoded({"kind": "heartbeat", **at}))
            told.messages += 1
            self._connections.move(listener.connection_id, cursor, now)

    def _tell(self, listener: Listener, told: Told) -> Position:
        """What is after the listener's place. The place moves after each step: who dies between sending and
        moving lets the step be sent again, and the consumer drops what it knows by its position.

        Returns:
            The place after it.
        """
        at = listener.cursor
        assert at is not None
        for _ in range(TURN):
            page = self._connections.read(listener.connection_id, at, self._page)
            if page is None:
                return at
            for message, count in messages(page.events):
                self._sockets.post(listener.connection_id, message)
                told.messages += 1
                told.values += count
            at = page.reached
            self._connections.move(listener.connection_id, at, self._clock() if page.events else None)
            if not page.more:
                return at
        self._sockets.post(listener.connection_id, encoded({"kind": "behind", "cursor": at.token}))
        told.messages += 1
        return at

    def _drop(self, connection_id: str, told: Told) -> None:
        """A connection that is gone, or too slow: its consumer comes back with its cursor."""
        self.end(connection_id)
        told.dropped += 1


_FIELD = {"series": "series", "group": "groups", "pattern": "patterns"}


def encoded(message: Mapping[str, Any]) -> bytes:
    """A message as it is sent."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def messages(events: Sequence[Event]) -> Iterator[tuple[bytes, int]]:
    """Messages of at most ``FRAME`` bytes for events, each with how many events it holds. The cursor of a
    message is the position of its last event: everything before it was sent before it."""
    run: list[bytes] = []
    size, last = 0, ""
    for event in events:
        body = _body(event)
        if run and size + len(body) + 1 + ENVELOPE > FRAME:
            yield _message(run, last), len(run)
            run, size = [], 0
        run.append(body)
        size += len(body) + 1
        last = event.position.token
    if run:
        yield _message(run, last), len(run)


def _message(bodies: Sequence[bytes], cursor: str) -> bytes:
    return b'{"kind":"values","cursor":"%s","events":[%s]}' % (cursor.encode(), b",".join(bodies))


def _body(event: Event) -> bytes:
    """The event as on the bus; one that no frame could hold without its data, which is read from the place
    that ``dataref`` names (the claim check of CloudEvents)."""
    told = cloud_event(backbone_event(event))
    body = encoded(told)
    if len(body) + ENVELOPE <= FRAME:
        return body
    del told["data"], told["datacontenttype"]
    told["dataref"] = f"/api/v1/data/reference/{event.reference_data_id}/official?{_query(event)}"
    return encoded(told)


def _query(event: Event) -> str:
    from urllib.parse import urlencode

    return urlencode({"snap": event.data["snap"], "basis": event.position.token})
