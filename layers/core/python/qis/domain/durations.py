"""Durations in the ISO 8601 form of days to seconds."""

from __future__ import annotations

import re
from datetime import timedelta

from qis.domain.errors import refuse

_DURATION = re.compile(r"P(?:(\d{1,4})D)?(?:T(?:(\d{1,4})H)?(?:(\d{1,4})M)?(?:(\d{1,5})S)?)?", re.ASCII)


def parse_duration(value: object, field: str) -> timedelta | None:
    """An ISO 8601 duration of days to seconds, or ``None``.

    Raises:
        InvalidInput: rule ``iso-8601-duration``.
    """
    if value is None:
        return None
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None or not any(match.groups()):
        raise refuse(field, value, "iso-8601-duration", "is not a duration such as P1D or PT90M")
    days, hours, minutes, seconds = (int(g or 0) for g in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def duration_text(value: timedelta | None) -> str | None:
    """``value`` as an ISO 8601 duration."""
    if value is None:
        return None
    minutes, seconds = divmod(value.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    clock = "".join(f"{n}{u}" for n, u in ((hours, "H"), (minutes, "M"), (seconds, "S")) if n)
    days = f"{value.days}D" if value.days or not clock else ""
    return f"P{days}" + (f"T{clock}" if clock else "")
