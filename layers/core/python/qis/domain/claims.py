"""A claim: what one source says a series was worth at one snap.

A claim's identity is all that it carries, so the same row twice is one claim, whoever delivers it and when.
Of several claims of one source for one snap the last one counts: that received last, and where times of
reception do not tell, that recorded last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import time
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol

from qis.domain.errors import InvalidInput, refuse
from qis.domain.kinds.record import Record, Structure, Value, stored_value, value_json
from qis.domain.numbers import decimal_text, parse_decimal
from qis.domain.series import (
    Series,
    check_currency,
    check_fields,
    check_id,
    check_slug,
    check_text,
    check_value,
)
from qis.domain.snap import NANOS, Snap, SnapTime, parse_instant, parse_snap

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    V = TypeVar("V", covariant=True, bound=Value, default=Decimal)
else:  # at run time nothing asks for the default
    from typing import TypeVar

    V = TypeVar("V", covariant=True)

REQUIRED = frozenset({"snap", "reference_data_id", "source", "value"})
OPTIONAL = frozenset(
    {"volume", "received_at", "currency", "unit", "attribute", "sequence", "channel"}
    | {"correlation_id", "record_id"}
)
MOST_SEQUENCE = 2**63 - 1
_FIELDS = REQUIRED | OPTIONAL


class Claim(NamedTuple, Generic[V]):
    """A validated claim of a number, or of a record. ``received_at`` is when the collector had it from the
    provider."""

    claim_id: str
    """32 hexadecimal digits."""
    reference_data_id: str
    snap: Snap
    source: str
    value: V
    volume: Decimal | None
    received_at: Snap | None
    sequence: int | None = None
    """The provider's number of the message that it came in."""
    channel: str = ""
    """What the provider numbers on its own; empty where it numbers all that it sends."""
    currency: str | None = None
    """As it was given; it is that of the series. Whether a source says it is part of its schema."""
    unit: str | None = None
    """As it was given, likewise."""

    def as_json(self) -> dict[str, Any]:
        """The claim's part of a ``DataIngested`` event."""
        body: dict[str, Any] = {
            "claim_id": self.claim_id,
            "reference_data_id": self.reference_data_id,
            "snap": self.snap.text,
            "source": self.source,
            "value": value_json(self.value),
        }
        if self.volume is not None:
            body["volume"] = decimal_text(self.volume)
        if self.received_at is not None:
            body["received_at"] = self.received_at.text
        if self.sequence is not None:
            body["sequence"] = self.sequence
            if self.channel:
                body["channel"] = self.channel
        if self.currency is not None:
            body["currency"] = self.currency
        if self.unit is not None:
            body["unit"] = self.unit
        return body

    @classmethod
    def from_json(cls, body: Mapping[str, Any], structure: Structure | None = None) -> Claim[Any]:
        """The claim in a stored ``DataIngested`` event."""
        volume, received = body.get("volume"), body.get("received_at")
        snap = parse_instant(body["snap"], "snap")
        return Claim(
            claim_id=body["claim_id"],
            reference_data_id=body["reference_data_id"],
            snap=snap,
            source=body["source"],
            value=stored_value(body["value"], structure, snap),
            volume=None if volume is None else Decimal(volume),
            received_at=None if received is None else parse_instant(received, "received_at"),
            sequence=body.get("sequence"),
            channel=body.get("channel", ""),
            currency=body.get("currency"),
            unit=body.get("unit"),
        )


EARLIEST = -(2**63)
"""A moment before any other, in nanoseconds: of a claim whose source has given no time of reception yet."""
CLOCK_SKEW_NS = 900 * NANOS
"""How far the clock of a collector may be ahead of ours. A later time of reception is wrong."""


class Received(Protocol):
    """What tells when a source made a claim."""

    @property
    def source(self) -> str: ...

    @property
    def received_at(self) -> Snap | None: ...


C = TypeVar("C", bound=Received)


def chronological(recorded: Iterable[tuple[C, Snap]]) -> list[C]:
    """Claims on one snap in the order in which their sources made them; each source's last word comes last.

    A claim is as late as it was received, but not later than it was recorded. One without a usable time of
    reception is as late as the latest before it of its source. Of equals the one recorded later is later.
    With times of reception that differ, the order therefore does not depend on the order of recording.

    Args:
        recorded: claims in the order of the log, each with when it was recorded.
    """
    latest: dict[str, int] = {}
    timed: list[tuple[int, C]] = []
    for claim, recorded_at in recorded:
        before = latest.get(claim.source, EARLIEST)
        moment = moment_of(claim.received_at, recorded_at, before)
        latest[claim.source] = max(before, moment)
        timed.append((moment, claim))
    timed.sort(key=itemgetter(0))
    return [claim for _, claim in timed]


def moment_of(received_at: Snap | None, recorded_at: Snap, before: int) -> int:
    """How late a claim is, in nanoseconds.

    Args:
        before: how late its source's latest claim before it is, which it shares without a usable time.
    """
    if received_at is None or received_at.ns > recorded_at.ns + CLOCK_SKEW_NS:
        return before
    return min(received_at.ns, recorded_at.ns)


def claim_identity(
    reference_data_id: str,
    snap: Snap,
    source: str,
    value: Value,
    received_at: Snap | None,
    sequence: int | None = None,
    channel: str = "",
    volume: Decimal | None = None,
    currency: str | None = None,
    unit: str | None = None,
) -> str:
    """Identity by content, as 32 hexadecimal digits. ``1.10`` and ``1.1`` are the same claim: the number is,
    the digits are not. Two messages that a provider numbered are two claims, whatever they say."""
    number = value.digest if isinstance(value, Record) else _plain(value)
    received = received_at.ns if received_at else ""
    text = f"{reference_data_id}\n{snap.ns}\n{source}\n{number}\n{received}"
    if sequence is not None:
        text += f"\n{sequence}\n{channel}"
    if volume is not None:
        text += f"\nvolume {_plain(volume)}"
    if currency is not None:
        text += f"\ncurrency {currency}"
    if unit is not None:
        text += f"\nunit {unit}"
    return _digest(text)


def repeated_identity(claim_id: str, times: int) -> str:
    """Identity of a claim that a source makes once more, after it said something else: the statement is
    another one, though all that it carries is the same.

    Args:
        claim_id: identity by content.
        times: how often the source made it before.
    """
    return _digest(f"{claim_id}\nrepeated {times}") if times else claim_id


def _digest(text: str) -> str:
    identity = _IDENTITY.copy()
    identity.update(text.encode())
    return identity.hexdigest()


def _plain(number: Decimal) -> str:
    return _without_zeros(format(number, "f")) if number else "0"  # also for -0 and 0.00


def _without_zeros(plain: str) -> str:
    """A number in plain notation, without zeros that say nothing."""
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


_IDENTITY = blake2b(digest_size=16, person=b"qis-claim-v1")


def parse_claim(given: object, series_of: Mapping[str, Series], sources: Mapping[str, bool]) -> Claim[Any]:
    """A claim as decoded from the wire, against the registered series and sources.

    Args:
        given: the decoded JSON object or file row.
        series_of: registered series by identifier.
        sources: registered sources, each with whether it is active.

    Raises:
        InvalidInput: naming field, value and rule: unknown field, unknown series or source, naive time,
            wrong snap time, wrong currency or unit, not a finite decimal, too many digits, wrong sign;
            of a record every field that breaks a rule of its kind.
    """
    body = _known_fields(given)
    named, source = body["reference_data_id"], body["source"]
    series = series_of.get(named) if isinstance(named, str) else None
    if series is None:
        raise refuse("reference_data_id", check_id(named), "known-series", "is not registered")
    if not (isinstance(source, str) and sources.get(source)):
        raise _bad_source(source, sources)
    semantics = series.semantics
    currency, unit, attribute = body.get("currency"), body.get("unit"), body.get("attribute")
    if currency is not None and currency != semantics.currency:
        code = check_currency(currency, "currency")
        raise refuse("currency", code, "series-currency", f"the series is in {semantics.currency}")
    if unit is not None and unit != semantics.unit:
        raise refuse("unit", unit, "series-unit", f"the series has {semantics.unit or 'none'}")
    if attribute is not None and attribute != semantics.attribute:
        raise refuse(
            "attribute", attribute, "series-attribute", f"the series has {semantics.attribute or 'none'}"
        )
    value: Value
    if series.structure is None:
        value = parse_decimal(body["value"], "value")
        check_value(series, value)
        snap = parse_snap(body["snap"], semantics.snap_time)
    else:
        snap = parse_snap(body["snap"], semantics.snap_time)
        value = series.structure.parse(body["value"], snap)
    given_volume, received = body.get("volume"), body.get("received_at")
    volume = None if given_volume is None else parse_volume(given_volume)
    received_at = None if received is None else parse_instant(received, "received_at")
    sequence, channel = None, ""
    if "sequence" in body or "channel" in body:
        sequence, channel = _numbered(body)
    return Claim(
        claim_identity(named, snap, source, value, received_at, sequence, channel, volume, currency, unit),
        named,
        snap,
        source,
        value,
        volume,
        received_at,
        sequence,
        channel,
        currency,
        unit,
    )


def _known_fields(given: object) -> Mapping[str, Any]:
    """``check_fields``, whose answer is known sooner where all is well, as it is with nearly all claims."""
    if isinstance(given, dict) and None not in given.values() and _in_form(tuple(given)):
        return given
    return check_fields(given, "", REQUIRED, OPTIONAL)


@lru_cache(maxsize=256)  # a feed sends the same fields always
def _in_form(names: tuple[str, ...]) -> bool:
    return REQUIRED.issubset(names) and _FIELDS.issuperset(names)


def _bad_source(value: object, sources: Mapping[str, bool]) -> InvalidInput:
    if not isinstance(value, str) or value not in sources:
        return refuse("source", check_slug(value, "source"), "known-source", "is not registered")
    return refuse("source", value, "active-source", "is paused")


def _numbered(body: Mapping[str, Any]) -> tuple[int | None, str]:
    """The sequence number, and the channel that it counts in."""
    given, channel = body.get("sequence"), body.get("channel")
    if given is None:
        if channel is not None:
            raise refuse("sequence", "", "required", "is required with channel")
        return None, ""
    return parse_sequence(given), "" if channel is None else check_text(channel, "channel", 64)


def parse_sequence(value: object) -> int:
    """The provider's number of a message.

    Raises:
        InvalidInput: rule ``sequence-number``.
    """
    number = parse_decimal(value, "sequence")
    if number != number.to_integral_value() or not 0 <= number <= MOST_SEQUENCE:
        raise refuse("sequence", value, "sequence-number", "is not a whole number from 0 to 2^63 - 1")
    return int(number)


def parse_volume(value: object) -> Decimal:
    """The volume of a claim.

    Raises:
        InvalidInput: not a decimal, or rule ``not-negative``.
    """
    volume = parse_decimal(value, "volume")
    if volume < 0:
        raise refuse("volume", str(volume), "not-negative", "is negative")
    return volume


class Statement(NamedTuple):
    """What a claim says by itself, where no catalogue is at hand: a number of a series by a source."""

    reference_data_id: str
    snap: Snap
    source: str
    value: Decimal
    volume: Decimal | None = None
    received_at: Snap | None = None
    currency: str | None = None
    unit: str | None = None
    attribute: str | None = None


def _parse_moment(value: object) -> Snap:
    """A snap of a series that is not known: a date is its first moment in UTC."""
    dated = isinstance(value, str) and len(value) == len("2026-01-05")
    return parse_snap(value, _MIDNIGHT if dated else None)


_MIDNIGHT = SnapTime(time(), "UTC")
_NUMBERING = frozenset({"sequence", "channel"})
STATED: Mapping[str, Callable[[object], Any]] = {
    "reference_data_id": check_id,
    "source": lambda v: check_slug(v, "source"),
    "currency": lambda v: check_currency(v, "currency"),
    "unit": lambda v: check_text(v, "unit", 32),
    "attribute": lambda v: check_text(v, "attribute", 64),
    "value": lambda v: parse_decimal(v, "value"),
    "snap": _parse_moment,
    "volume": parse_volume,
    "received_at": lambda v: parse_instant(v, "received_at"),
    "sequence": parse_sequence,
    "channel": lambda v: check_text(v, "channel", 64),
}
"""The rule of each field of a claim by itself, in the order in which they are checked; each raises
``InvalidInput``."""


def parse_statement(given: object) -> Statement:
    """A statement as decoded from a file: by the rules of ``parse_claim`` that need no catalogue.

    Raises:
        InvalidInput: naming field, value and rule.
    """
    body = _known_fields(given)
    alone = (name for name in STATED if name not in _NUMBERING and body.get(name) is not None)
    stated = {name: STATED[name](body[name]) for name in alone}
    _numbered(body)
    return Statement(**stated)
