"""Functions for the tests of the runtime. They run in processes of their own."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

DEADLINE = 30.0


def echo(event: Any, context: Any) -> dict[str, Any]:
    """Tells what it got and where it runs."""
    sys.stdout.write(f"saw {event}\n")
    sys.stdout.flush()
    return {
        "event": event,
        "pid": os.getpid(),
        "request_id": context.aws_request_id,
        "remaining_ms": context.get_remaining_time_in_millis(),
        "arn": context.invoked_function_arn,
        "setting": os.environ.get("SETTING"),
        "home": os.environ.get("HOME"),
    }


def obey(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Raises, hangs, dies or waits for a file, as told."""
    if "arrived" in event:
        Path(event["arrived"], str(os.getpid())).touch()
    if event.get("raise"):
        raise ValueError(event["raise"])
    if event.get("exit"):
        os._exit(event["exit"])
    until = time.monotonic() + DEADLINE
    while "until" in event and not Path(event["until"]).exists() and time.monotonic() < until:
        time.sleep(0.01)
    return {"pid": os.getpid()}
