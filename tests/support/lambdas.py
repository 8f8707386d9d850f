"""What Lambda hands to a handler beside the event."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType

import pytest

POWERTOOLS = {
    "POWERTOOLS_METRICS_NAMESPACE": "QIS",
    "POWERTOOLS_SERVICE_NAME": "test",
    "POWERTOOLS_TRACE_DISABLED": "true",
}


def set_powertools(monkeypatch: pytest.MonkeyPatch, handler: ModuleType | None = None) -> None:
    """Set what Powertools reads when a handler is loaded, and load ``handler`` again with it."""
    for name, value in POWERTOOLS.items():
        monkeypatch.setenv(name, value)
    if handler is not None:
        importlib.reload(handler)


@dataclass
class Context:
    """What is read of the context of an invocation, by Powertools and by handlers."""

    function_name: str = "qis-test"
    memory_limit_in_mb: int = 512
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:000000000000:function:qis-test"
    aws_request_id: str = "1"
    remaining: Iterator[int] = field(default_factory=lambda: iter([]))
    """Milliseconds that are left, at one look after another; then none are."""

    def get_remaining_time_in_millis(self) -> int:
        return next(self.remaining, 0)
