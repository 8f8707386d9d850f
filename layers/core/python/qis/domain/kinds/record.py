"""What a structured value is, and what a kind of them must be able to do.

A record's document is JSON made of objects, lists, text, whole numbers, booleans and nulls. Every other
number is decimal text with all of its digits, so no JSON parser on the way can turn it into a float.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from qis.domain import exact_json
from qis.domain.errors import InvalidInput, refuse, shown
from qis.domain.numbers import MAX_DIGITS, decimal_text
from qis.domain.snap import Snap

if TYPE_CHECKING:
    from qis.domain.reconciliation import Check

MAX_DEPTH = 16
MAX_SAFE_INTEGER = 2**53 - 1
"""Largest whole number that every JSON parser keeps exact (RFC 7493); a larger one is given as a decimal."""
_EVERY_DIGIT = Context(prec=MAX_DIGITS)


@dataclass(frozen=True, slots=True)
class Record:
    """A structured value. Two are equal where their content is: ``1.10`` is ``1.1`` where a number stands."""

    key: str
    """32 hexadecimal digits that follow from the content."""
    document: Mapping[str, Any] = field(compare=False)

    @property
    def digest(self) -> str:
        """Short text that names this content, where repeating all of it would not help."""
        return f"record:{self.key}"


Value = Decimal | Record
"""What a claim may say and what may become official."""


def value_json(value: Value) -> Any:
    """A value as events and answers hold it: decimal text, or a document."""
    return decimal_text(value) if isinstance(value, Decimal) else value.document


def stored_value(body: Any, structure: Structure | None, snap: Snap) -> Value:
    """The value in an event; without its structure the digits of a record count, as in ``plain_record``."""
    if isinstance(body, str):
        return Decimal(body)
    return plain_record(body) if structure is None else structure.parse(body, snap)


def value_text(value: Value) -> str:
    """A value in one short piece of text: decimal text, or the digest of a record."""
    return decimal_text(value) if isinstance(value, Decimal) else value.digest


def short(value: Any) -> Any:
    """A value as an event holds it, a document as its digest: for words and labels."""
    return plain_record(value).digest if isinstance(value, Mapping) else value


class Whole(NamedTuple):
    """A list that is taken or left as one: ``text`` tells it from others, ``document`` is what it was."""

    text: str
    document: Any


Leaf = Decimal | str | int | bool | Whole | None
Path = tuple[str, ...]


class Structure(Protocol):
    """One kind of record, with the settings of one series."""

    @property
    def elements(self) -> frozenset[str]:
        """First steps of paths under which sources list elements (contracts, nodes): each of those is in the
        official record only where at least half of the sources list it."""
        ...

    def as_json(self) -> dict[str, Any]:
        """The settings, as a series definition has them."""
        ...

    def parse(self, given: object, snap: Snap, name: str = "value") -> Record:
        """A record from the wire or from an event; parsing what it gives changes nothing.

        Raises:
            InvalidInput: naming each field (below ``name``), value and rule.
        """
        ...

    def parts(self, record: Record) -> dict[Path, Leaf]:
        """The fields of a record that sources can be right or wrong about."""
        ...

    def join(self, parts: Mapping[Path, Leaf]) -> Any:
        """The document that has these fields, as ``parse`` takes it."""
        ...

    def check(self, record: Record, snap: Snap) -> list[Check]:
        """Whether the record holds together as a whole, with the evidence."""
        ...


def make_record(document: Mapping[str, Any]) -> Record:
    """A record of a document that holds numbers as ``Decimal``."""
    text = json.dumps(_each(document, _same_number), sort_keys=True, ensure_ascii=False)
    key = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, person=b"qis-record-v1")
    return Record(key.hexdigest(), _each(document, decimal_text))


def plain_record(document: Mapping[str, Any]) -> Record:
    """A record as stored, where its structure is not at hand; digits count in its key."""
    return make_record(document)


def _each(value: Any, number: Callable[[Decimal], str]) -> Any:
    if isinstance(value, Decimal):
        return number(value)
    if isinstance(value, Mapping):
        return {k: _each(v, number) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_each(v, number) for v in value]
    return value


def _same_number(number: Decimal) -> str:
    return format(number.normalize(_EVERY_DIGIT), "f") if number else "0"


def document_of(given: object, name: str) -> Mapping[str, Any]:
    """The JSON object in ``given``, which may be text, as a cell of a CSV file is.

    Raises:
        InvalidInput: rules ``json``, ``object``, ``distinct-keys``.
    """
    if isinstance(given, str):
        try:
            given = exact_json.decode(given)
        except InvalidInput:
            raise
        except (ValueError, RecursionError, ArithmeticError) as error:
            raise refuse(name, given, "json", f"is not JSON ({type(error).__name__})") from error
    if not isinstance(given, Mapping):
        raise refuse(name, given, "object", "is not a JSON object")
    return given


def whole(document: Sequence[Any]) -> Whole:
    """A list as one field."""
    text = json.dumps(_each(document, _same_number), sort_keys=True, ensure_ascii=False)
    return Whole(text, document)


def path_text(path: Path) -> str:
    """A path as people read it."""
    return "/".join(path)


def leaf_text(leaf: Leaf) -> str:
    """A field's value as people read it."""
    if isinstance(leaf, Decimal):
        return decimal_text(leaf)
    return shown(leaf.text if isinstance(leaf, Whole) else str(leaf))


class Gathered:
    """Violations of a document, collected so that all are told at once; the first hundred of them."""

    MOST = 100

    def __init__(self) -> None:
        self._found: list[InvalidInput] = []

    def add(self, refusal: InvalidInput) -> None:
        """Keep one for the end."""
        self._found.append(refusal)

    def take(self, check: Callable[[], Any]) -> Any:
        """What ``check`` gives, or ``None`` where it refuses."""
        try:
            return check()
        except InvalidInput as refusal:
            self._found.append(refusal)
            return None

    def raise_any(self) -> None:
        """Raises ``InvalidInput`` where something was refused."""
        if self._found:
            raise InvalidInput(*[v for r in self._found for v in r.violations][: self.MOST])
