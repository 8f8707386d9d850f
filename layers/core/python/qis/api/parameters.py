"""Parameters of the reading operations, each checked by one rule, and the cursors of pages.

A cursor carries the parameters of its first page and the knowledge that all pages share, so that it alone
asks for the next page. It gives no right to anything: what it says is checked like any other parameter.
"""

from __future__ import annotations

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID

from qis.api.http import Request
from qis.application.queries import MAX_IDS
from qis.application.reading import LATEST, Knowledge, NextPage
from qis.domain.durations import parse_duration
from qis.domain.errors import InvalidInput, refuse
from qis.domain.events import Position
from qis.domain.series import check_id
from qis.domain.snap import Snap, parse_instant

MAX_LIMIT, DEFAULT_LIMIT = 10_000, 1_000
_BESIDE_CURSOR = {"cursor", "limit", "format"}
_MAX_CURSOR = 2_000
_GRANULARITIES = ("day", "week", "month")


@dataclass(frozen=True, slots=True)
class Paging:
    """What a paged request asks for: the parameters of its first page, and where this page starts."""

    given: Mapping[str, str]
    after: tuple[str | int, ...]
    limit: int


def paging(request: Request, usual: int = DEFAULT_LIMIT) -> Paging:
    """The page that is asked for, of ``usual`` items at most where no limit is.

    Raises:
        InvalidInput: rules ``count``, ``cursor``, ``cursor-alone``.
    """
    limit = _limit(request.query.get("limit"), usual)
    cursor = request.query.get("cursor")
    if cursor is None:
        return Paging(request.query, (), limit)
    beside = sorted(request.query.keys() - _BESIDE_CURSOR)
    if beside:
        raise refuse(beside[0], request.query[beside[0]], "cursor-alone", "is in the cursor already")
    given, after = _read_cursor(cursor, request)
    return Paging(given, after, limit)


def next_link(request: Request, page: Paging, more: NextPage | None) -> str | None:
    """The link of the following page, relative to the host."""
    if more is None:
        return None
    given = {k: v for k, v in page.given.items() if k not in _BESIDE_CURSOR}
    if more.at.basis is not None:
        given["basis"] = more.at.basis.token
    body = [request.operation.operation_id, dict(request.variables), given, list(more.after)]
    packed = urlsafe_b64encode(json.dumps(body, separators=(",", ":")).encode()).decode().rstrip("=")
    parameters = {"cursor": packed, "limit": str(page.limit)}
    if "format" in request.query:
        parameters["format"] = request.query["format"]
    return f"{request.url_path}?{urlencode(parameters)}"


def _read_cursor(cursor: str, request: Request) -> tuple[dict[str, str], tuple[str | int, ...]]:
    broken = refuse("cursor", cursor, "cursor", "is not a cursor of this request")
    if len(cursor) > _MAX_CURSOR:
        raise broken
    try:
        body = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        operation_id, variables, given, after = body
    except (ValueError, TypeError, binascii.Error, RecursionError) as error:
        raise broken from error
    fits = (
        operation_id == request.operation.operation_id
        and variables == dict(request.variables)
        and isinstance(given, dict)
        and all(isinstance(v, str) for v in given.values())
        and isinstance(after, list)
        and all(isinstance(a, str | int) and not isinstance(a, bool) for a in after)
    )
    if not fits:
        raise broken
    return given, tuple(after)


def _limit(text: str | None, usual: int) -> int:
    if text is None:
        return usual
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and 1 <= int(text) <= MAX_LIMIT):
        raise refuse("limit", text, "count", f"is not a whole number from 1 to {MAX_LIMIT}")
    return int(text)


def knowledge(given: Mapping[str, str]) -> Knowledge:
    """What may be used for the answer.

    Raises:
        InvalidInput: a malformed ``asOf`` or ``basis``, or both.
    """
    as_of, basis = given.get("asOf"), given.get("basis")
    if as_of is not None and basis is not None:
        raise refuse("basis", basis, "exclusive", "may not be given together with asOf")
    if as_of is not None:
        return Knowledge(as_of=parse_instant(as_of, "asOf").moment)
    if basis is not None:
        return Knowledge(basis=_basis(basis))
    return LATEST


def _basis(token: str) -> Position:
    try:
        position = Position.parse(token)
    except ValueError as error:
        raise refuse("basis", token, "basis", "is not a basis token") from error
    if max(position.tx, position.sequence) >= 2**63:
        raise refuse("basis", token, "basis", "is not a basis token")
    return position


def snap_or_day(text: str, field: str) -> Snap:
    """An instant with offset, or a date, which stands for its midnight UTC."""
    try:
        day = date.fromisoformat(text) if len(text) == 10 else None
    except ValueError as error:
        raise refuse(field, text, "iso-8601", "is not a real date") from error
    return parse_instant(text if day is None else f"{day.isoformat()}T00:00:00Z", field)


def span(given: Mapping[str, str], after: tuple[str | int, ...]) -> tuple[Snap, Snap]:
    """The range of snaps, from the place of the page on.

    Raises:
        InvalidInput: ``from`` or ``to`` missing or malformed, or not in order.
    """
    for name in ("from", "to"):
        if not given.get(name):
            raise refuse(name, "", "required", "is required")
    first, until = snap_or_day(given["from"], "from"), snap_or_day(given["to"], "to")
    if until <= first:
        raise refuse("to", given["to"], "ordered", "is not after from")
    if after:
        try:
            first = max(first, Snap(int(_one(after)) + 1))
        except (ValueError, InvalidInput) as error:
            raise refuse("cursor", "", "cursor", "is not a cursor of this request") from error
    return first, until


def window(given: Mapping[str, str], now: datetime) -> tuple[Snap, Snap]:
    """The window of quality scores: ``timeWindow`` back from now, or ``from`` and ``to``; else 30 days.

    Raises:
        InvalidInput: both forms at once, or malformed.
    """
    length = given.get("timeWindow")
    if "from" in given or "to" in given:
        if length is not None:
            raise refuse("timeWindow", length, "exclusive", "may not be given together with from and to")
        return span(given, ())
    back = timedelta(days=30) if length is None else parse_duration(length, "timeWindow")
    if not back:
        raise refuse("timeWindow", length, "positive", "is not longer than nothing")
    # `to` is exclusive, and a value at this very moment belongs to the window.
    return Snap.of(now - back), Snap.of(now + timedelta(microseconds=1))


def granularity(given: Mapping[str, str]) -> str | None:
    """``day``, ``week`` or ``month``; ``None`` for every value."""
    value = given.get("granularity")
    if value is not None and value not in _GRANULARITIES:
        raise refuse("granularity", value, "choice", f"is not one of {', '.join(_GRANULARITIES)}")
    return value


def ids(given: Mapping[str, str]) -> list[str]:
    """Distinct series identifiers.

    Raises:
        InvalidInput: none, too many, one twice, or a malformed one.
    """
    found = [check_id(i, "ids") for i in given["ids"].split(",")]
    if len(found) > MAX_IDS:
        raise refuse("ids", f"({len(found)})", "count", f"are more than {MAX_IDS}")
    if len(set(found)) != len(found):
        raise refuse("ids", given["ids"], "distinct-list", "names a series twice")
    return found


def uuid(text: str, field: str) -> UUID:
    """A UUID in its canonical form."""
    try:
        found = UUID(text)
    except ValueError as error:
        raise refuse(field, text, "uuid", "is not a UUID") from error
    if str(found) != text.lower():
        raise refuse(field, text, "uuid", "is not a UUID in its canonical form")
    return found


def after_name(after: tuple[str | int, ...]) -> str:
    """Place in a list by name; the empty name before all."""
    return str(_one(after)) if after else ""


def after_count(after: tuple[str | int, ...]) -> int:
    """How many items the pages before have.

    Raises:
        InvalidInput: rule ``cursor``.
    """
    if not after:
        return 0
    count = _one(after)
    if not isinstance(count, int) or count < 0:
        raise refuse("cursor", "", "cursor", "is not a cursor of this request")
    return count


def after_event(after: tuple[str | int, ...]) -> tuple[str, int]:
    """Place in a list of events."""
    if not after:
        return "", 0
    if len(after) != 2 or not isinstance(after[0], str) or not isinstance(after[1], int):
        raise refuse("cursor", "", "cursor", "is not a cursor of this request")
    if not 0 <= after[1] < 2**31 or "\0" in after[0]:
        raise refuse("cursor", "", "cursor", "is not a cursor of this request")
    return after[0], after[1]


def after_exception(after: tuple[str | int, ...]) -> tuple[datetime, UUID] | None:
    """Place in the exception queue."""
    if not after:
        return None
    if len(after) != 2:
        raise refuse("cursor", "", "cursor", "is not a cursor of this request")
    opened_at, item = str(after[0]), str(after[1])
    return parse_instant(opened_at, "cursor").moment, uuid(item, "cursor")


def _one(after: tuple[str | int, ...]) -> str | int:
    if len(after) != 1 or "\0" in str(after[0]):
        raise refuse("cursor", "", "cursor", "is not a cursor of this request")
    return after[0]
