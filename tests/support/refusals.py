"""Refusals as values, so that a test can look at them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from qis.domain.errors import InvalidInput

T = TypeVar("T")


def attempt(act: Callable[[], T]) -> tuple[T | None, list[tuple[str, str]]]:
    """What ``act`` gives, or ``(field, rule)`` of each rule that it says is broken."""
    try:
        return act(), []
    except InvalidInput as refusal:
        return None, [(v.field, v.rule) for v in refusal.violations]


def broken(act: Callable[[], object]) -> list[tuple[str, str]]:
    """``(field, rule)`` of each rule that ``act`` says is broken; empty where it is content."""
    return attempt(act)[1]
