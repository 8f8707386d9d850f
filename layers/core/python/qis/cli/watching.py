"""``qis watch``: official values as they are published, without a gap over lost connections."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Protocol
from urllib.parse import urlsplit

import typer

from qis.cli.failures import Failure, failure
from qis.cli.rest import LOOPBACK
from qis.cli.session import Session, command
from qis.domain.events import START, Position

if TYPE_CHECKING:
    from rich.console import Console

PANEL = "Official values"
SILENCE = 150.0
"""Seconds without a message, heartbeats included, after which a connection counts as lost."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
WIDTH = 80


class Lost(Exception):
    """The connection ended, was not opened, or the other end has a fault that passes."""


class Channel(Protocol):
    """An open connection."""

    def send(self, message: str) -> None:
        """Send a message.

        Raises:
            Lost: the connection ended.
        """
        ...

    def receive(self) -> str:
        """The next message.

        Raises:
            Lost: the connection ended, or was silent for too long.
        """
        ...


Open = Callable[[], AbstractContextManager[Channel]]


@dataclass(slots=True)
class Watch:
    """What one consumer wants, and how far it has got. The channel may repeat what it sent before, after a
    process died between sending and noting it: only what is behind the last position is new."""

    wish: Mapping[str, Sequence[str]]
    """Lists ``series``, ``groups``, ``patterns``."""
    cursor: Position | None = None
    seen: Position = field(init=False)

    def __post_init__(self) -> None:
        self.seen = self.cursor or START

    def opening(self) -> str:
        """The first message of a connection."""
        if self.cursor is None:
            return json.dumps({"action": "subscribe", **self.wish})
        return json.dumps({"action": "resume", **self.wish, "cursor": self.cursor.token})

    def take(self, text: str) -> Iterator[dict[str, Any]]:
        """The new events of a message.

        Raises:
            Failure: the request was refused.
            Lost: what was asked cannot be answered now.
        """
        message = json.loads(text)
        kind = message.get("kind")
        if kind == "problem":
            if message["problem"].get("status", 500) >= 500:
                raise Lost(str(message["problem"].get("detail")))
            raise Failure(message["problem"])
        if kind is None:  # of API Gateway itself
            raise Lost(str(message.get("message")))
        for event in message.get("events", ()):
            at = Position.parse(event["sequence"])
            if at > self.seen:
                self.seen = self.cursor = at
                yield event
        # The place moves as well where there was nothing that was asked for.
        if "cursor" in message:
            at = Position.parse(message["cursor"])
            self.seen = self.cursor = max(at, self.seen)


def follow(
    watch: Watch,
    open_: Open,
    note: Callable[[str], None],
    sleep: Callable[[float], None],
    jitter: Callable[[], float],
) -> Generator[dict[str, Any], None, None]:
    """Events for ever. A lost connection is opened again after a pause that doubles up to ``LONGEST_PAUSE``
    while nothing comes.

    Args:
        jitter: from 0 to 1; without it all consumers would come back in one moment.

    Raises:
        Failure: the request was refused.
    """
    pause = FIRST_PAUSE
    while True:
        try:
            with open_() as channel:
                channel.send(watch.opening())
                while True:
                    text = channel.receive()
                    yield from watch.take(text)
                    pause = FIRST_PAUSE
                    if json.loads(text)["kind"] == "behind":
                        channel.send(watch.opening())
        except Lost as lost:
            wait = pause * (0.5 + jitter() / 2)
            where = "from now on" if watch.cursor is None else f"from {watch.cursor.token}"
            note(f"{lost}; again in {wait:.1f} s, {where}")
            sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)


# the command -----------------------------------------------------------------------------------------


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "watch", rich_help_panel=PANEL)(_watch)


def _watch(
    session: Session,
    series: Annotated[
        list[str] | None,
        typer.Argument(metavar="SERIES...", help="Series, or patterns such as FX.EUR.* and '*'."),
    ] = None,
    groups: Annotated[
        list[str] | None,
        typer.Option("--group", metavar="NAME", help="All series that the rules NAME reconcile."),
    ] = None,
    cursor: Annotated[
        str | None,
        typer.Option("--from", metavar="CURSOR", help="Begin after this cursor, or Qis-Basis of an answer."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="End after N values.")
    ] = None,
) -> None:
    """Official values as they are published and restated, until Ctrl-C.

    A lost connection is resumed where it was. With --json each line is one event, as on the event bus.

    Example: qis watch FX.EUR.USD.ECB1415
    """
    given = series or []
    wish = {
        "series": [s for s in given if not s.endswith("*")],
        "patterns": [s for s in given if s.endswith("*")],
        "groups": groups or [],
    }
    wish = {name: names for name, names in wish.items() if names}
    if not wish:
        raise typer.BadParameter("names nothing to watch", param_hint="SERIES")
    watch = Watch(wish, _position(cursor))
    events = follow(watch, _opener(session), session.note, time.sleep, random.random)
    with closing(events), suppress(KeyboardInterrupt):
        for count, event in enumerate(events, 1):
            _show(session, event)
            if count == limit:
                break
    if watch.cursor is not None:
        session.note(f"--from {watch.cursor.token} goes on here")


def _position(cursor: str | None) -> Position | None:
    if cursor is None:
        return None
    try:
        return Position.parse(cursor)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--from") from error


def _show(session: Session, event: Mapping[str, Any]) -> None:
    if session.as_json:
        sys.stdout.write(json.dumps(event, ensure_ascii=False, separators=(",", ":")) + "\n")
        sys.stdout.flush()  # whoever reads a pipe waits for each line
    else:
        _line(session.out, event)


def _line(out: Console, event: Mapping[str, Any]) -> None:
    """One value in at most 80 columns, or over two lines where its names are long."""
    from qis.cli import render

    data = event.get("data")
    if data is None:
        value, version, snap = f"too large, read {event['dataref']}", "", ""
    else:
        told = data["value"]
        value = told if isinstance(told, str) else "a record, see `qis official`"
        version, snap = f"v{data['official_version']}", data["snap"]
    restated = ".restated." in event["type"]
    words = [w for w in (snap, value, version, "restated" if restated else "") if w]
    rest = "  ".join(words)
    name = event["subject"]
    between = "  " if len(name) + 2 + len(rest) <= WIDTH else "\n  "
    render.line(out, (name, "bold"), between, (rest, "yellow" if restated else ""))


def _opener(session: Session) -> Open:
    """Opens connections to the chosen system: a fresh token each time in the twin, ``QIS_TOKEN`` else."""
    from contextlib import contextmanager

    opened = False

    @contextmanager
    def open_() -> Iterator[Channel]:
        nonlocal opened
        from websockets.exceptions import InvalidStatus, WebSocketException
        from websockets.sync.client import connect

        try:
            url, bearer = session.push
        except Failure:
            if opened:  # the twin is started anew, say
                raise Lost("the system is not there") from None
            raise
        local = urlsplit(url).hostname in LOOPBACK
        headers = {"Authorization": f"Bearer {bearer}"}
        try:
            with connect(
                url, additional_headers=headers, proxy=None if local else True, ping_interval=None
            ) as socket:
                opened = True
                yield _Socket(socket)
        except InvalidStatus as refused:
            status = refused.response.status_code
            if status < 500 and status != 429:
                raise _refused(url, status) from refused
            raise Lost(f"the system answers {status}") from refused
        except (OSError, WebSocketException) as error:
            if not opened:
                raise failure("no-answer", "The system does not answer", f"{url}: {error}") from error
            raise Lost("the connection is lost") from error

    return open_


class _Socket:
    """``Channel`` on a WebSocket."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket

    def send(self, message: str) -> None:
        """See ``Channel.send``."""
        self._socket.send(message)

    def receive(self) -> str:
        """See ``Channel.receive``."""
        try:
            return str(self._socket.recv(SILENCE))
        except TimeoutError:
            raise Lost(f"nothing was heard for {SILENCE:.0f} s") from None


def _refused(url: str, status: int) -> Failure:
    why = {401: "the token is not valid", 403: "the token does not carry the scope read:data"}
    detail = f"{url} answers {status}: {why.get(status, 'is this the address of the push channel?')}"
    return Failure(
        {"type": "urn:qis:problem:refused", "title": "The connection was refused", "status": status}
        | {"detail": detail}
    )
