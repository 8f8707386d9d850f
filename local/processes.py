"""Child processes that cannot outlive their parent, and free ports."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

NOBODY = 65534

# Runs between fork and the program: gives up root where asked, then asks the kernel for a signal when the
# parent dies (changing the user clears that wish, so in this order). A preexec_fn would do the same inside
# the forked copy of a threaded process, which may deadlock.
_LAUNCH = """
import ctypes, os, sys
parent, death, user, program = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
if user >= 0:
    os.setgroups([]); os.setgid(user); os.setuid(user)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, death)
if os.getppid() != parent:
    sys.exit("the parent is gone")
os.execvp(program[0], program)
"""


def spawn(
    command: Sequence[str],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user: int | None = None,
    death_signal: int = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own (Ctrl-C reaches only the supervisor), its output in ``log``.

    The kernel sends it ``death_signal`` when this thread ends, so not even ``kill -9`` leaves an orphan. Call
    from a thread that lives as long as the child may.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    identity = [str(os.getpid()), str(int(death_signal)), str(-1 if user is None else user)]
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _LAUNCH, *identity, *command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,
        )


def stop(child: subprocess.Popen[bytes], ask: int = signal.SIGTERM, patience: float = 10.0) -> None:
    """End a child: ask, wait, then kill."""
    if child.poll() is None:
        child.send_signal(ask)
    try:
        child.wait(patience)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


class Server(ABC):
    """A child process that serves on a loopback port; as a context it is started and stopped."""

    ends_on: signal.Signals = signal.SIGTERM
    patience: float = 10.0
    """Seconds that it may take to end."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @abstractmethod
    def start(self) -> None:
        """Start, and wait until it serves; stopped or ended before, it goes on where it was."""

    def stop(self) -> None:
        if self._child is not None:
            stop(self._child, self.ends_on, self.patience)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _choose_port(self, remembered: Path) -> None:
        """Take the port used before, which ``remembered`` holds, if it is free: others may know it."""
        before = json.loads(remembered.read_text()) if remembered.exists() else None
        self.port = self.port or free_port(before)
        remembered.write_text(json.dumps(self.port))


def listener(preferred: int | None = None) -> socket.socket:
    """A listening socket on a loopback port: ``preferred`` if that is free, else any."""
    for port in (preferred, 0):
        if port is None:
            continue
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            held.bind(("127.0.0.1", port))
            held.listen(128)
        except OSError:
            held.close()
            continue
        return held
    raise OSError("no free port on loopback")


def free_port(preferred: int | None = None) -> int:
    """A loopback port that is free now, for a child that opens it itself; ``preferred`` if it is."""
    with listener(preferred) as held:
        return int(held.getsockname()[1])


def wait_until(ready: Callable[[], bool], what: str, seconds: float, every: float = 0.02) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: it did not come about in ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} after {seconds:.0f} s")
        time.sleep(every)


def accepts(port: int) -> bool:
    """Whether something listens on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
