"""Waiting on conditions, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


def until(ready: Callable[[], object], what: str, seconds: float = 30.0, every: float = 0.02) -> None:
    """Wait until ``ready``.

    Raises:
        AssertionError: it did not come about in ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(every)


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie that nobody waited for has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
