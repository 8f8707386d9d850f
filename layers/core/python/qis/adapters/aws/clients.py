"""Clients of AWS that give up in seconds: whoever hangs holds up the attempt that would work."""

from __future__ import annotations

from typing import Any

SECONDS = 5
"""For which connecting, and then an answer, is waited; the SDK's own are 60. Calls take milliseconds."""


def client(service: str, **given: Any) -> Any:
    """A boto3 client. What fails or is throttled for a moment is tried once more."""
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=SECONDS, read_timeout=SECONDS, retries={"mode": "standard", "total_max_attempts": 2}
    )
    make: Any = boto3.client  # its overloads want a literal service name
    return make(service, config=config, **given)
