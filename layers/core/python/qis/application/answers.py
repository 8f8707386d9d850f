"""How large answers may be, and parts of them that fit.

A function answers with at most 6 MB (https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html,
"Invocation payload"), which is less than the 10 MB of API Gateway. The body is a JSON string inside the
function's answer, so each quote and backslash of it takes two bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

MAX_PAYLOAD = 6 * 1000 * 1000
"""Bytes that a function may answer with."""
MAX_ANSWER = 4 * 1000 * 1000
"""Bytes of the list in an answer; what is beside it has the rest."""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def escaped_bytes(body: bytes) -> int:
    """Bytes that text takes as a JSON string, without the quotes around it."""
    return len(body) + sum(map(body.count, (b'"', b"\\", b"\n", b"\r", b"\t")))


def weight(item: object) -> int:
    """Bytes that an item of a list takes in a function's answer."""
    return escaped_bytes(_encode(item).encode("utf-8", "replace")) + 1


def fitting(items: Sequence[object], budget: int, least: int = 1) -> int:
    """How many of the first items weigh no more than ``budget`` together.

    Args:
        least: so many fit whatever they weigh; 1, so that pages end.
    """
    for count, item in enumerate(items):
        budget -= weight(item)
        if budget < 0 and count >= least:
            return count
    return len(items)


def newest_fitting(items: Sequence[Any], budget: int) -> Sequence[Any]:
    """The last items that weigh no more than ``budget`` together."""
    return items[len(items) - fitting(items[::-1], budget, least=0) :]
