"""What Lambda hands to a handler beside the event."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


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
