"""A connection proxy that gives every transaction another session, and records the statements.

Whatever rests on its session fails behind it, or is seen in the statements. As RDS Proxy it refuses
connections that bring options; it is no model of what else RDS Proxy does.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field

REFUSED = "Feature not supported: RDS Proxy currently doesn't support command-line options."
_NO_ENCRYPTION = (80877103, 80877104)
"""Requests for TLS and for GSS encryption."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement as it crossed the wire."""

    text: str
    name: str = ""
    """Of a prepared one."""


@dataclass
class Pool:
    """The proxy, in front of a server on this machine. Every client has two sessions, used in turn."""

    server_port: int
    statements: list[Statement] = field(default_factory=list)
    switches: int = 0

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """End every connection."""
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                self._threads.append(threading.Thread(target=self._serve, args=(client,), daemon=True))
                self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, EOFError), client:
            startup = _startup(client)
            if b"\0options\0" in startup:
                client.sendall(_frame(b"E", b"SFATAL\0VFATAL\0C0A000\0M" + REFUSED.encode() + b"\0\0"))
                return
            sessions = [socket.create_connection(("127.0.0.1", self.server_port)) for _ in range(2)]
            self._open += sessions
            for session in sessions:
                session.sendall(startup)
            _until_ready(sessions[1])
            _Client(self, client, sessions).run()


class _Client:
    """One client and its sessions."""

    def __init__(self, pool: Pool, client: socket.socket, sessions: list[socket.socket]) -> None:
        self._pool = pool
        self._client = client
        self._sessions = sessions
        self._pending = 1
        """Answers that are to end with the server being ready: at first, that to the startup."""
        self._idle = False
        self._synced = False
        """Whether the last request was ended by a Sync, which the server ignores once it takes a COPY."""

    def run(self) -> None:
        while True:
            ready, _, _ = select.select([self._client, self._sessions[0]], [], [])
            if self._sessions[0] in ready:
                self._answer()
            elif self._client in ready:
                self._ask()

    def _answer(self) -> None:
        kind, body = _read(self._sessions[0])
        if kind == b"Z":
            self._pending -= 1
            self._idle = body == b"I"
        elif kind == b"G" and self._synced:
            self._pending -= 1
        self._client.sendall(_frame(kind, body))

    def _ask(self) -> None:
        kind, body = _read(self._client)
        if self._idle and not self._pending and kind != b"X":
            self._sessions.reverse()
            self._pool.switches += 1
        self._idle = False
        if kind in (b"Q", b"S"):
            self._pending += 1
            self._synced = kind == b"S"
        if kind == b"Q":
            self._pool.statements.append(Statement(body.rstrip(b"\0").decode()))
        elif kind == b"P":
            name, text, _ = body.split(b"\0", 2)
            self._pool.statements.append(Statement(text.decode(), name.decode()))
        self._sessions[0].sendall(_frame(kind, body))
        if kind == b"X":
            raise EOFError


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def _startup(client: socket.socket) -> bytes:
    """The message by which a client connects, without encryption."""
    while True:
        (size,) = struct.unpack("!i", head := _exactly(client, 4))
        body = _exactly(client, size - 4)
        if struct.unpack("!i", body[:4])[0] not in _NO_ENCRYPTION:
            return head + body
        client.sendall(b"N")


def _read(sock: socket.socket) -> tuple[bytes, bytes]:
    kind = _exactly(sock, 1)
    (size,) = struct.unpack("!i", _exactly(sock, 4))
    return kind, _exactly(sock, size - 4)


def _frame(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _until_ready(session: socket.socket) -> None:
    while _read(session)[0] != b"Z":
        pass
