"""What a running twin tells of itself, in a file beside a lock that it holds for as long as it lives."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any

STATE_FILE, LOCK_FILE = "twin.json", "lock"


def twin_running(data_dir: Path) -> dict[str, Any] | None:
    """What the running twin of a data directory wrote of itself; ``None`` where none runs or is ready."""
    try:
        state: dict[str, Any] = json.loads((data_dir / STATE_FILE).read_text())
        with (data_dir / LOCK_FILE).open("r") as held:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return state
    except (FileNotFoundError, NotADirectoryError):
        pass
    return None  # whoever wrote the file has died
