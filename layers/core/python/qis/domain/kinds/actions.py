"""Corporate actions: one event of one instrument, with exact ratios whatever convention they came in.

A source's message says new, update or delete (``N``, ``U``, ``D``; the last message of a source counts), and
carries its own identifiers. What sources are compared on is the event itself: its identity follows from the
instrument, the type and the day that the event takes effect, and is the same for all of them.

Ratios are kept as two whole numbers in lowest terms. For a split, a reverse split and a merger they are the
securities held after for those held before; for a stock dividend, a spin-off and rights the securities
received for those held.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import Any

from qis.domain.errors import InvalidInput, Violation, refuse
from qis.domain.kinds.record import Gathered, Leaf, Path, Record, document_of, make_record
from qis.domain.numbers import parse_decimal
from qis.domain.reconciliation import Check
from qis.domain.series import check_choice, check_currency, check_fields, check_id, check_text
from qis.domain.snap import Snap

MAX_TERM = 10**9
"""Largest term of a ratio."""
MAX_PRICES = 100
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_FOR = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)[ -]for[ -](\d{1,12}(?:\.\d{1,9})?)", re.ASCII | re.IGNORECASE)
_COLON = re.compile(r"(\d{1,12}(?:\.\d{1,9})?) ?[:/] ?(\d{1,12}(?:\.\d{1,9})?)", re.ASCII)


class ActionType(StrEnum):
    """What happens to the holder."""

    CASH_DIVIDEND = "cash_dividend"
    STOCK_DIVIDEND = "stock_dividend"
    SPLIT = "split"
    REVERSE_SPLIT = "reverse_split"
    SPIN_OFF = "spin_off"
    MERGER = "merger"
    RIGHTS = "rights"
    RETURN_OF_CAPITAL = "return_of_capital"
    DELISTING = "delisting"


_NEEDS: Mapping[ActionType, frozenset[str]] = {
    ActionType.CASH_DIVIDEND: frozenset({"ex_date", "amount", "currency"}),
    ActionType.STOCK_DIVIDEND: frozenset({"ex_date", "ratio"}),
    ActionType.SPLIT: frozenset({"ex_date", "ratio"}),
    ActionType.REVERSE_SPLIT: frozenset({"ex_date", "ratio"}),
    ActionType.SPIN_OFF: frozenset({"ex_date", "ratio", "other_instrument"}),
    ActionType.MERGER: frozenset({"effective_date", "other_instrument"}),
    ActionType.RIGHTS: frozenset({"ex_date", "ratio", "amount", "currency"}),
    ActionType.RETURN_OF_CAPITAL: frozenset({"ex_date", "amount", "currency"}),
    ActionType.DELISTING: frozenset({"effective_date"}),
}
"""Fields without which an event of a type says nothing."""

DATES = ("announced", "ex_date", "record_date", "pay_date", "effective_date")
_TEXTS = ("other_instrument", "subtype")
_OPTIONAL = frozenset(
    {*DATES, *_TEXTS, "amount", "currency", "ratio", "ratio_convention", "due_bills", "references"}
    | {"lifecycle", "event_id", "state"}
)
LIFECYCLE = {"n": "N", "new": "N", "u": "U", "update": "U", "d": "D", "delete": "D", "cancel": "D"}
"""Spellings of the message of a source."""
CONVENTIONS = ("new_for_old", "old_for_new")


@dataclass(frozen=True, slots=True)
class CorporateActions:
    """``Structure`` of the corporate actions of one instrument."""

    instrument: str
    types: tuple[ActionType, ...]
    """Those that the series holds; a series has one event a snap."""
    prices: tuple[str, ...]
    """Series of the instrument's prices, which its events move."""

    @property
    def elements(self) -> frozenset[str]:
        return frozenset()

    def as_json(self) -> dict[str, Any]:
        body = {"instrument": self.instrument, "types": [t.value for t in self.types]}
        return {**body, "prices": list(self.prices)} if self.prices else body

    def parse(self, given: object, snap: Snap, name: str = "value") -> Record:  # noqa: ARG002 - as every kind
        """See ``Structure.parse``."""
        body = check_fields(document_of(given, name), name, {"type"}, _OPTIONAL)
        type_ = ActionType(check_choice(body["type"], f"{name}.type", tuple(t.value for t in self.types)))
        gathered = Gathered()
        document: dict[str, Any] = {"type": type_.value}
        for key in sorted(_NEEDS[type_]):
            if body.get(key) is None:
                said = f"is required for a {type_.value}"
                gathered.add(InvalidInput(Violation(f"{name}.{key}", "", "required", said)))
        for key in sorted(_OPTIONAL - {"ratio", "ratio_convention", "lifecycle", "event_id", "state"}):
            value = body.get(key)
            if value is not None:
                document[key] = gathered.take(partial(_field, key, value, f"{name}.{key}"))
        if body.get("ratio") is not None:
            convention = body.get("ratio_convention")
            document["ratio"] = gathered.take(
                lambda: ratio_json(parse_ratio(body["ratio"], type_, convention, f"{name}.ratio"))
            )
        elif body.get("ratio_convention") is not None:
            gathered.add(refuse(f"{name}.ratio", "", "required", "is required with ratio_convention"))
        state = gathered.take(lambda: _state(body, name))
        gathered.raise_any()
        document |= state
        for broken in date_order(document, name):
            gathered.add(InvalidInput(broken))
        gathered.raise_any()
        document["event_id"] = event_identity(self.instrument, document)
        return make_record(document)

    def parts(self, record: Record) -> dict[Path, Leaf]:
        """See ``Structure.parts``. Sources are compared on whether the event is on, not on their messages."""
        found: dict[Path, Leaf] = {}
        for key, value in record.document.items():
            if key == "amount":
                found[key,] = Decimal(value)
            elif key == "ratio":
                found[key,] = f"{value['new']}-for-{value['old']}"
            elif key == "references":
                found |= {(key, scheme): text for scheme, text in value.items()}
            elif key not in ("event_id", "lifecycle"):
                found[key,] = value
        return found

    def join(self, parts: Mapping[Path, Leaf]) -> Any:
        """See ``Structure.join``."""
        document: dict[str, Any] = {}
        for path, leaf in parts.items():
            if len(path) == 2:
                document.setdefault(path[0], {})[path[1]] = leaf
            else:
                document[path[0]] = leaf
        return document

    def check(self, record: Record, snap: Snap) -> list[Check]:  # noqa: ARG002 - as every kind
        """See ``Structure.check``: what the type needs is there, and its dates follow each other."""
        document = record.document
        needed = sorted(_NEEDS[ActionType(document["type"])] - document.keys())
        broken = date_order(document, "")
        return [
            Check(
                "complete",
                not needed,
                str(len(needed)),
                "0",
                f"{', '.join(needed)} missing" if needed else "every field that the type needs is there",
            ),
            Check(
                "date-order",
                not broken,
                str(len(broken)),
                "0",
                "; ".join(f"{v.field.strip('.')} {v.message}" for v in broken)
                or "the dates follow each other",
            ),
        ]


def parse_actions(given: object, where: str) -> CorporateActions:
    """The settings of a series of corporate actions.

    Raises:
        InvalidInput: naming field, value and rule.
    """
    body = check_fields(given, where, {"instrument"}, {"types", "prices"})
    types = body.get("types") or [t.value for t in ActionType]
    if not isinstance(types, list) or len({str(t) for t in types}) != len(types):
        raise refuse(f"{where}.types", types, "distinct-list", "is not a list of distinct types")
    prices = body.get("prices") or []
    if (
        not isinstance(prices, list)
        or len({str(p) for p in prices}) != len(prices)
        or len(prices) > MAX_PRICES
    ):
        said = f"is not a list of up to {MAX_PRICES} distinct series"
        raise refuse(f"{where}.prices", prices, "distinct-list", said)
    known = tuple(t.value for t in ActionType)
    return CorporateActions(
        check_text(body["instrument"], f"{where}.instrument", 64),
        tuple(ActionType(check_choice(t, f"{where}.types", known)) for t in types),
        tuple(check_id(p, f"{where}.prices") for p in prices),
    )


def event_identity(instrument: str, action: Mapping[str, Any]) -> str:
    """The event's name, the same whichever source speaks of it."""
    day = action.get("ex_date") or action.get("effective_date")
    subtype = f"-{action['subtype']}" if action.get("subtype") else ""
    return f"{instrument}:{action['type']}{subtype}:{day}"


def parse_ratio(given: object, type_: ActionType, convention: object, name: str) -> Fraction:
    """A ratio as ``new / old``, exactly.

    Taken are ``2-for-1`` and ``2 for 1`` (always new for old), ``{"new": 2, "old": 1}``, ``2:1`` and ``2/1``
    with a ``ratio_convention`` (a split tells it by itself: there are more securities after it), and
    ``{"factor": "0.5"}``, by which earlier prices are multiplied. A factor is taken at its word: one third
    cannot be given as a rounded factor.

    Raises:
        InvalidInput: rules ``ratio``, ``ratio-convention``, ``ratio-direction``, ``ratio-terms``.
    """
    if convention is not None:
        check_choice(convention, f"{name}_convention", CONVENTIONS)
    new, old = _terms(given, type_, convention, name)
    if new <= 0 or old <= 0:
        raise refuse(name, given, "ratio", "has a term that is not greater than zero")
    ratio = new / old
    if max(ratio.numerator, ratio.denominator) > MAX_TERM:
        raise refuse(name, given, "ratio-terms", f"has terms above {MAX_TERM} when reduced")
    if type_ is ActionType.SPLIT and ratio <= 1:
        raise refuse(
            name, given, "ratio-direction", "leaves no more securities than before; see reverse_split"
        )
    if type_ is ActionType.REVERSE_SPLIT and ratio >= 1:
        raise refuse(name, given, "ratio-direction", "leaves no fewer securities than before; see split")
    return ratio


def _terms(given: object, type_: ActionType, convention: object, name: str) -> tuple[Fraction, Fraction]:
    if isinstance(given, Mapping):
        if "factor" in given:
            if type_ not in (ActionType.SPLIT, ActionType.REVERSE_SPLIT):
                raise refuse(f"{name}.factor", type_.value, "ratio", "is the ratio of a split only")
            body = check_fields(given, name, {"factor"}, set())
            return Fraction(1), Fraction(parse_decimal(body["factor"], f"{name}.factor"))
        body = check_fields(given, name, {"new", "old"}, set())
        return (
            Fraction(parse_decimal(body["new"], f"{name}.new")),
            Fraction(parse_decimal(body["old"], f"{name}.old")),
        )
    text = given if isinstance(given, str) else ""
    found = _FOR.fullmatch(text)
    if found is not None:
        if convention == "old_for_new":
            raise refuse(f"{name}_convention", convention, "ratio-convention", f"{text!r} is new for old")
        return Fraction(found[1]), Fraction(found[2])
    found = _COLON.fullmatch(text)
    if found is None:
        raise refuse(name, given, "ratio", 'is not a ratio such as "2-for-1", "2:1" or {"new": 2, "old": 1}')
    first, second = Fraction(found[1]), Fraction(found[2])
    if convention is None:
        if type_ is ActionType.SPLIT:
            return max(first, second), min(first, second)
        if type_ is ActionType.REVERSE_SPLIT:
            return min(first, second), max(first, second)
        said = f"is needed to read {text!r}: {' or '.join(CONVENTIONS)}"
        raise refuse(f"{name}_convention", "", "ratio-convention", said)
    return (first, second) if convention == "new_for_old" else (second, first)


def ratio_json(ratio: Fraction) -> dict[str, str]:
    """A ratio as a document holds it."""
    return {"new": str(ratio.numerator), "old": str(ratio.denominator)}


def price_factor(action: Mapping[str, Any]) -> Fraction | None:
    """What prices before the event are multiplied by to compare with those after it, where the event alone
    says so: ``1/2`` for a 2-for-1 split, ``20/21`` for one share in twenty."""
    ratio = action.get("ratio")
    if ratio is None or action.get("state") == "cancelled":
        return None
    share = Fraction(int(ratio["new"]), int(ratio["old"]))
    match ActionType(action["type"]):
        case ActionType.SPLIT | ActionType.REVERSE_SPLIT:
            return 1 / share
        case ActionType.STOCK_DIVIDEND:
            return 1 / (1 + share)
        case _:
            return None


def date_order(action: Mapping[str, Any], name: str) -> list[Violation]:
    """Dates that cannot be in this order.

    An announcement comes first. A cash distribution goes ex before or on its record date and is paid on or
    after it, unless due bills trade with the security, which is then ex only after payment. Splits, stock
    dividends and spin-offs go ex after the record date in some markets, so that their ex date is bound by the
    announcement alone.
    """
    prefix = f"{name}." if name else ""
    type_ = ActionType(action["type"])
    chains: list[tuple[str, ...]] = [("announced", key) for key in DATES[1:]]
    chains.append(("record_date", "pay_date"))
    if type_ in (ActionType.CASH_DIVIDEND, ActionType.RETURN_OF_CAPITAL):
        if action.get("due_bills"):
            chains.append(("pay_date", "ex_date"))
        else:
            chains += [("ex_date", "record_date"), ("ex_date", "pay_date")]
    broken = []
    for chain in chains:
        for earlier, later in pairwise(chain):
            first, then = action.get(earlier), action.get(later)
            if first is not None and then is not None and first > then:
                said = f"is before {earlier} {first}"
                broken.append(Violation(prefix + later, str(then), "date-order", said))
    return broken


def _field(key: str, value: object, name: str) -> Any:
    if key in DATES:
        return _date(value, name)
    if key in _TEXTS:
        return check_text(value, name, 64)
    if key == "currency":
        return check_currency(value, name)
    if key == "amount":
        amount = parse_decimal(value, name)
        if amount <= 0:
            raise refuse(name, str(amount), "positive", "is not greater than zero")
        return amount
    if key == "due_bills":
        if not isinstance(value, bool):
            raise refuse(name, value, "boolean", "is not true or false")
        return value
    if not isinstance(value, Mapping) or not 1 <= len(value) <= 20:
        raise refuse(name, value, "object", "is not an object of 1 to 20 identifiers by scheme")
    return {
        check_text(scheme, name, 32): check_text(text, f"{name}.{scheme}", 64)
        for scheme, text in value.items()
    }


def _date(value: object, name: str) -> str:
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        raise refuse(name, value, "iso-date", "is not a date such as 2026-02-06")
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError as error:
        raise refuse(name, value, "iso-date", "is not a calendar day") from error


def _state(body: Mapping[str, Any], name: str) -> dict[str, str]:
    """Whether the event is on: from the message of a source, or as an official record says it."""
    message, state = body.get("lifecycle"), body.get("state")
    if message is None:
        return {"state": check_choice(state or "live", f"{name}.state", ("live", "cancelled"))}
    code = LIFECYCLE.get(message.lower()) if isinstance(message, str) else None
    if code is None:
        raise refuse(f"{name}.lifecycle", message, "choice", "is not one of N, U, D, new, update, delete")
    implied = "cancelled" if code == "D" else "live"
    if state not in (None, implied):
        raise refuse(f"{name}.state", state, "lifecycle", f"a message {code} says {implied}")
    return {"lifecycle": code, "state": implied}
