"""Mappings: how the columns and texts of a vendor's file become fields of claims.

Nothing is guessed. A convention that changes a value (a decimal comma, the order of day and month, the unit
of an epoch) holds only where a mapping declares it. A text that breaks a declared convention is refused.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from qis.cli.failures import cause, failure
from qis.domain.claims import OPTIONAL, REQUIRED
from qis.domain.errors import InvalidInput, Violation, refuse, shown
from qis.domain.numbers import MAX_SCALE, decimal_text
from qis.domain.snap import NANOS, Snap, localize, zone_of

OWN = frozenset({"correlation_id", "record_id"})
"""What a load says of its rows, whatever a file says."""
FIELDS = frozenset(REQUIRED | OPTIONAL) - OWN
"""What a file may say of a claim."""
NAMES = frozenset({"reference_data_id", "source", "attribute", "channel"})
"""Fields that hold names: ``NA`` and ``null`` are names there, whatever a mapping's null words are."""
NUMBERS = frozenset({"value", "volume"})
TIMES = frozenset({"snap", "received_at"})
BLANKS = " \t"
"""What surrounds a cell and says nothing."""
EPOCHS: Mapping[str, int] = {"s": NANOS, "ms": 1_000_000, "us": 1_000, "ns": 1}
"""Nanoseconds of each unit of an epoch."""
MOST_SCALE = 12
"""Powers of ten by which a mapping may move the point of a value."""
_DATES = frozenset("YymbBdj")
_CLOCKS = frozenset("HIpMSfz")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_NAIVE = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,](\d{1,9}))?)?", re.ASCII)
_EXACT = Context(prec=100_000)

Convert = Callable[[str], str]


class TimeForm(NamedTuple):
    """How a file writes times: by a format, as an epoch, or as ISO 8601 without an offset."""

    format: str | None = None
    """Directives of ``strptime``; a format without a clock gives dates."""
    epoch: str | None = None
    zone: str | None = None
    """Of times that have no offset."""

    def read(self, text: str, name: str) -> str:
        """The time as ISO 8601; a text that has an offset or is a date stays as it is without a format.

        Raises:
            InvalidInput: it is not of this form, or the zone has that time never or twice.
        """
        if self.epoch is not None:
            return self._since_epoch(text, name)
        if self.format is not None:
            return self._by_format(text, name, self.format)
        naive = _NAIVE.fullmatch(text)
        if naive is None:
            return text
        return self._localized(_moment(text[:19], name, text), name, (naive[3] or "").ljust(9, "0"))

    def _since_epoch(self, text: str, name: str) -> str:
        unit = EPOCHS[self.epoch or "s"]
        number = Decimal(text) if _NUMBER.fullmatch(text) else None
        nanos = None if number is None else _EXACT.multiply(number, Decimal(unit))
        if nanos is None or not -(10**19) < nanos < 10**19 or nanos != nanos.to_integral_value():
            raise refuse(name, text, "epoch", f"is not a time in {self.epoch} since 1970, to the nanosecond")
        try:
            return Snap(int(nanos)).text
        except InvalidInput as refusal:
            raise refuse(name, text, "epoch", f"in {self.epoch} {refusal.violations[0].message}") from refusal

    def _by_format(self, text: str, name: str, form: str) -> str:
        moment = _moment(text, name, text, form)
        directives = _directives(form)
        if not directives & _CLOCKS:
            return moment.date().isoformat()
        if moment.tzinfo is not None:
            return Snap.of(moment).text
        return self._localized(moment, name, "")

    def _localized(self, wall: datetime, name: str, nanos: str) -> str:
        assert self.zone is not None, "a mapping is checked for it"
        at = localize(wall, self.zone, name)
        return Snap(at.ns + int(nanos or "0")).text


class NumberForm(NamedTuple):
    """How a file writes numbers."""

    point: str = "."
    grouping: str = ""

    def read(self, text: str, name: str) -> str:
        """The number with a decimal point and without grouping.

        Raises:
            InvalidInput: it is not of this form.
        """
        match = self.pattern.fullmatch(text)
        if match is None:
            grouped = f" and {self.grouping!r} between thousands" if self.grouping else ""
            said = f"is not a number with {self.point!r} before its decimals{grouped}"
            raise refuse(name, text, "decimal", said)
        whole, decimals, power = (part or "" for part in match.groups())
        return re.sub(r"[^0-9+-]", "", whole) + (f".{decimals}" if decimals else "") + power

    @property
    def pattern(self) -> re.Pattern[str]:
        """What a number of this form looks like."""
        between = "[ \u00a0\u202f]" if self.grouping == " " else re.escape(self.grouping)
        grouped = rf"|\d{{1,3}}(?:{between}\d{{3}})+" if self.grouping else ""
        return re.compile(
            rf"([+-]?(?:\d+{grouped}))(?:{re.escape(self.point)}(\d+))?([eE][+-]?\d{{1,3}})?", re.ASCII
        )


PLAIN_NUMBERS = NumberForm()


@dataclass(frozen=True, slots=True)
class Mapped:
    """How a file becomes claims."""

    columns: Mapping[str, str] | None = None
    """Column to field; columns not named are left out. ``None``: columns are fields."""
    constants: Mapping[str, Any] = field(default_factory=dict)
    """Values of fields that a row does not have."""
    encoding: str = "utf-8"
    delimiter: str = ","
    preamble: int = 0
    """Lines before the header."""
    nulls: frozenset[str] = frozenset()
    """Words that stand for an empty cell, except in names."""
    numbers: NumberForm = PLAIN_NUMBERS
    times: Mapping[str, TimeForm] = field(default_factory=dict)
    """By field."""
    names: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By field: the file's name to the name of the claim; other names stay as they are."""
    scale: int = 0
    """Power of ten by which values are multiplied."""
    decimals: int | None = None
    """Decimals to which values are rounded, half to even; ``None``: they are not."""

    def with_constants(self, **given: str | None) -> Mapped:
        """The same with further constants; those that are ``None`` are left out."""
        return replace(
            self, constants={**self.constants, **{k: v for k, v in given.items() if v is not None}}
        )

    def conversion(self, name: str, *, typed: bool = False) -> Convert | None:
        """What turns a cell of a field into the text of a claim; ``None``: it stays as it is.

        Args:
            name: the field.
            typed: the file holds the cell as a number, so it has no convention of writing.
        """
        steps: list[Convert] = []
        if self.nulls and name not in NAMES and not typed:
            steps.append(self._without_null)
        if name in NUMBERS and not typed and self.numbers != PLAIN_NUMBERS:
            steps.append(partial(self.numbers.read, name=name))
        if name == "value" and (self.scale or self.decimals is not None):
            steps.append(self._moved)
        if name in self.times:
            steps.append(partial(self.times[name].read, name=name))
        if name in self.names:
            steps.append(partial(_renamed, self.names[name]))
        return partial(_through, steps) if steps else None

    def _without_null(self, text: str) -> str:
        return "" if text in self.nulls else text

    def _moved(self, text: str) -> str:
        """A value with its point moved and its decimals rounded; what is no number stays, to be refused."""
        if not _NUMBER.fullmatch(text):
            return text
        sign, digits, exponent = Decimal(text).as_tuple()
        assert isinstance(exponent, int)
        number = Decimal((sign, digits, exponent + self.scale))
        if self.decimals is not None and -(exponent + self.scale) > self.decimals:
            rounded = number.quantize(Decimal((0, (1,), -self.decimals)), ROUND_HALF_EVEN, _EXACT)
            if number and not rounded:
                raise refuse("value", text, "round", f"is zero when rounded to {self.decimals} decimals")
            number = rounded
        return decimal_text(number)


def _through(steps: list[Convert], text: str) -> str:
    for step in steps:
        if not text:
            break
        text = step(text)
    return text


def _renamed(names: Mapping[str, str], text: str) -> str:
    return names.get(text, text)


def _moment(text: str, name: str, value: str, form: str | None = None) -> datetime:
    """A date and clock time as ``form`` has it, or ISO 8601 where there is none."""
    try:
        moment = datetime.fromisoformat(text) if form is None else datetime.strptime(text, form)  # noqa: DTZ007
    except ValueError as error:
        said = "is not a real time" if form is None else f"is not of the mapping's format {form}"
        raise refuse(name, value, "time-format", said) from error
    if form is not None and re.search(r"%[A-Za-z]%[A-Za-z]", form) and moment.strftime(form) != text:
        # Without separators `2024111` could be two dates.
        raise refuse(name, value, "time-format", f"is not of the mapping's format {form} with all its digits")
    return moment


def _directives(form: str) -> set[str]:
    return set(re.findall(r"%(.)", form.replace("%%", "")))


# the document ------------------------------------------------------------------------------------


def read_mapping(file: Path | None) -> Mapped:
    """A mapping file, a JSON object of settings that are all optional; without one the settings as they are.

    Raises:
        Failure: the file cannot be read.
        InvalidInput: naming each setting that is unknown or wrong.
    """
    if file is None:
        return Mapped()
    try:
        body = json.loads(file.read_text(encoding="utf-8-sig"), parse_float=str)
    except (OSError, ValueError, RecursionError) as error:
        raise failure("invalid-input", "The mapping cannot be read", f"{file}: {cause(error)}") from error
    return parse_mapping(body)


def parse_mapping(body: object) -> Mapped:
    """The settings of a mapping document.

    Raises:
        InvalidInput: naming each setting that is unknown or wrong.
    """
    if not isinstance(body, dict) or not body:
        raise refuse("mapping", body, "known-field", f"is no object with any of {', '.join(SETTINGS)}")
    broken = [
        Violation("mapping", shown(name), "known-field", f"is no setting; those are {', '.join(SETTINGS)}")
        for name in body
        if name not in SETTINGS
    ]
    settings: dict[str, Any] = {}
    for name, given in body.items():
        if name in SETTINGS:
            try:
                settings[name] = SETTINGS[name](given, f"mapping.{name}")
            except InvalidInput as refusal:
                broken += refusal.violations
    point, grouping = settings.pop("decimal", "."), settings.pop("grouping", "")
    if point == grouping:
        broken.append(Violation("mapping.grouping", grouping, "distinct", "is the sign before decimals too"))
    if broken:
        raise InvalidInput(*broken)
    if "round" in settings:
        settings["decimals"] = settings.pop("round")
    return Mapped(numbers=NumberForm(point, grouping), **settings)


def _object(given: object, where: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise refuse(where, given, "object", "is not a JSON object")
    return given


def _columns(given: object, where: str) -> Mapping[str, str] | None:
    if given is None:
        return None
    columns = _object(given, where)
    if not columns:
        raise refuse(where, given, "object", "names no column")
    targets = [*columns.values()]
    broken = [_no_field(t) for t in targets if not _is_field(t)]
    broken += [
        Violation("mapping", shown(t), "distinct", "is the target of more than one column")
        for t in sorted({str(t) for t in targets if targets.count(t) > 1})
    ]
    if broken:
        raise InvalidInput(*broken)
    return columns


def _constants(given: object, where: str) -> Mapping[str, Any]:
    constants = _object(given, where)
    broken = [_no_field(name) for name in constants if not _is_field(name)]
    broken += [
        Violation(f"{where}.{name}", shown(text), "text", "is neither text nor a number")
        for name, text in constants.items()
        if isinstance(text, bool) or not isinstance(text, str | int)
    ]
    if broken:
        raise InvalidInput(*broken)
    return {name: str(text) for name, text in constants.items()}


def _is_field(given: object) -> bool:
    return isinstance(given, str) and given in FIELDS


def _no_field(given: object) -> Violation:
    return Violation("mapping", shown(given), "known-field", f"is not one of {', '.join(sorted(FIELDS))}")


def _encoding(given: object, where: str) -> str:
    try:
        found = codecs.lookup(given) if isinstance(given, str) else None
        if found is not None and isinstance("".encode(found.name), bytes):
            return found.name
    except (LookupError, ValueError):
        pass
    raise refuse(where, given, "encoding", "is not a text encoding such as utf-16 or cp1252")


def _delimiter(given: object, where: str) -> str:
    if not isinstance(given, str) or len(given) != 1 or not given.isascii() or given in '"\r\n\0':
        raise refuse(where, given, "delimiter", 'is not one ASCII character such as ";" or "\\t"')
    return given


def _count(most: int, least: int = 0) -> Callable[[object, str], int]:
    def check(given: object, where: str) -> int:
        if isinstance(given, bool) or not isinstance(given, int) or not least <= given <= most:
            raise refuse(where, given, "whole-number", f"is not a whole number from {least} to {most}")
        return given

    return check


def _one_of(*choices: str) -> Callable[[object, str], str]:
    def check(given: object, where: str) -> str:
        if not isinstance(given, str) or given not in choices:
            raise refuse(where, given, "choice", f"is not one of {', '.join(map(repr, choices))}")
        return given

    return check


def _words(given: object, where: str) -> frozenset[str]:
    if not isinstance(given, list) or not all(isinstance(word, str) for word in given):
        raise refuse(where, given, "words", "is not a list of texts")
    return frozenset(word.strip(BLANKS) for word in given)


def _times(given: object, where: str) -> Mapping[str, TimeForm]:
    return {name: _time_form(body, f"{where}.{name}", name) for name, body in _object(given, where).items()}


def _time_form(given: object, where: str, name: str) -> TimeForm:
    if name not in TIMES:
        raise refuse(where, name, "known-field", f"is not one of {', '.join(sorted(TIMES))}")
    body = _object(given, where)
    form, epoch, zone = body.get("format"), body.get("epoch"), body.get("zone")
    unknown = sorted(body.keys() - set(TimeForm._fields))
    if unknown:
        raise refuse(where, unknown[0], "known-field", "is not one of format, epoch, zone")
    if (form is not None and epoch is not None) or not (form or epoch or zone):
        raise refuse(where, body, "time-format", "needs one of format and epoch, or a zone alone")
    if zone is not None:
        if not isinstance(zone, str):
            raise refuse(f"{where}.zone", zone, "iana-zone", "is not an IANA time zone")
        zone_of(zone)
    if epoch is not None:
        _one_of(*EPOCHS)(epoch, f"{where}.epoch")
        if zone is not None:
            raise refuse(f"{where}.zone", zone, "time-format", "is of no use with an epoch")
    if form is not None:
        _check_format(form, zone, f"{where}.format")
    return TimeForm(form, epoch, zone)


def _check_format(form: object, zone: object, where: str) -> None:
    used = _directives(form) if isinstance(form, str) else set()
    whole = bool(used & {"Y", "y"}) and ("j" in used or ("d" in used and bool(used & {"m", "b", "B"})))
    if not isinstance(form, str) or not whole or used - _DATES - _CLOCKS:
        said = "does not have year, month and day, as %d.%m.%Y has, by directives of strptime"
        raise refuse(where, form, "time-format", said)
    clock = used & _CLOCKS
    if clock and (("I" in used) != ("p" in used) or not used & {"H", "I"}):
        raise refuse(where, form, "time-format", "has no hour, or %I without %p")
    if clock and "z" not in used and zone is None:
        raise refuse(
            where, form, "aware-time", 'has a clock without an offset (%z), and no "zone" is beside it'
        )
    if zone is not None and ("z" in used or not clock):
        raise refuse(where, form, "time-format", 'has an offset or no clock, so "zone" is of no use')


def _names(given: object, where: str) -> Mapping[str, Mapping[str, str]]:
    names = _object(given, where)
    for name, renamed in names.items():
        if name not in NAMES:
            raise refuse(where, name, "known-field", f"is not one of {', '.join(sorted(NAMES))}")
        if not all(isinstance(new, str) and new for new in _object(renamed, f"{where}.{name}").values()):
            raise refuse(f"{where}.{name}", renamed, "text", "does not give a text for each name")
    return names


SETTINGS: Mapping[str, Callable[[object, str], Any]] = {
    "columns": _columns,
    "constants": _constants,
    "encoding": _encoding,
    "delimiter": _delimiter,
    "preamble": _count(1000),
    "decimal": _one_of(".", ","),
    "grouping": _one_of(",", ".", " ", "'", "_"),
    "nulls": _words,
    "times": _times,
    "names": _names,
    "scale": _count(MOST_SCALE, -MOST_SCALE),
    "round": _count(MAX_SCALE),
}
