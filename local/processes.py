"""Child processes that cannot outlive their parent, and free ports."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1


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

    The kernel sends it ``death_signal`` if this process dies, so not even ``kill -9`` leaves an orphan. Call
    from the main thread: the signal is tied to the thread that starts the child.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            cwd=cwd,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            start_new_session=True,
            preexec_fn=_dies_with(os.getpid(), death_signal),
        )


def _dies_with(parent: int, death_signal: int) -> Callable[[], None] | None:
    try:
        prctl = ctypes.CDLL(None).prctl
    except AttributeError:  # not Linux: the supervisor's own clean-up has to do
        return None

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:
            os._exit(1)  # the parent died between fork and prctl

    return ask


def stop(child: subprocess.Popen[bytes], ask: int = signal.SIGTERM, patience: float = 10.0) -> None:
    """End a child: ask, wait, then kill."""
    if child.poll() is None:
        child.send_signal(ask)
    try:
        child.wait(patience)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def free_port(preferred: int | None = None) -> int:
    """A loopback port that is free now; ``preferred`` if it is."""
    for port in (preferred, 0):
        if port is None:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port on loopback")


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
