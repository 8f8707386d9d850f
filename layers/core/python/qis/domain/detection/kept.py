"""Keeping and restoring the state of the parts: the values of their slots, in the order of their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_GIVEN = "rules"


def keep(part: object) -> list[Any]:
    """The state of a part; numbers, texts and lists of them."""
    return [getattr(part, name) for name in _names(part)]


def restore(part: object, kept: Sequence[Any]) -> None:
    """Put a kept state into a new part.

    Raises:
        ValueError: it is not the state of such a part.
    """
    for name, value in zip(_names(part), kept, strict=True):
        setattr(part, name, value)


def _names(part: object) -> list[str]:
    return sorted(n for n in type(part).__slots__ if n != _GIVEN)  # type: ignore[attr-defined]
