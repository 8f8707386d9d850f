"""Rule documents: from JSON to layers and back, and what two of them differ in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

from qis.domain.durations import duration_text, parse_duration
from qis.domain.errors import InvalidInput, Violation, refuse
from qis.domain.numbers import decimal_text, parse_decimal
from qis.domain.rules.methods import parse_method
from qis.domain.rules.model import Exclusion, Fallback, Layer, Level, RestatementPolicy, RuleSet
from qis.domain.rules.tolerance import Tolerance, Unit, not_negative, parse_tolerance
from qis.domain.series import check_choice, check_fields, check_slug
from qis.domain.snap import Snap, parse_instant


class Field(NamedTuple):
    """One field of a rule document."""

    parse: Callable[[object, str], Any]
    as_json: Callable[[Any], Any]
    required: bool = False
    """Whether some layer must set it; the others are off until one does."""
    default: Any = None


def _same(value: Any) -> Any:
    return value


def _optional(parse: Callable[[object, str], Any]) -> Callable[[object, str], Any]:
    """``null`` switches a field off, also where a broader layer sets it."""
    return lambda value, field: None if value is None else parse(value, field)


def _text_of(value: Decimal | None) -> str | None:
    return None if value is None else decimal_text(value)


def _parse_fallback(value: object, field: str) -> Fallback:
    return Fallback(check_choice(value, field, tuple(Fallback)))


def _parse_precedence(value: object, field: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(set(map(str, value))) != len(value):
        raise refuse(field, value, "distinct-list", "is not a list of distinct sources")
    return tuple(check_slug(s, field) for s in value)


def _parse_sources(value: object, field: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if value == []:
        raise refuse(field, value, "not-empty", "admits nobody; null admits all")
    return tuple(sorted(_parse_precedence(value, field)))


def _parse_range(value: object, field: str) -> tuple[Decimal | None, Decimal | None]:
    if value is None:
        return None, None
    if not isinstance(value, list) or len(value) != 2:
        raise refuse(field, value, "pair", "is not a pair [low, high]")
    low, high = (None if x is None else parse_decimal(x, field) for x in value)
    if low is not None and high is not None and low > high:
        raise refuse(field, value, "ordered", "has its low above its high")
    return low, high


def _range_json(value: tuple[Decimal | None, Decimal | None]) -> list[str | None] | None:
    return None if value == (None, None) else [_text_of(x) for x in value]


def _parse_count(value: object, field: str) -> int:
    if isinstance(value, Decimal) and value == value.to_integral_value():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 10_000:
        raise refuse(field, value, "count", "is not a whole number from 1 to 10000")
    return value


def _parse_groups(value: object, field: str) -> tuple[tuple[str, ...], ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise refuse(field, value, "list", "is not a list of groups of sources")
    groups = tuple(_parse_precedence(group, field) for group in value)
    named = [source for group in groups for source in group]
    if any(len(group) < 2 for group in groups) or len(set(named)) != len(named):
        raise refuse(field, value, "copy-groups", "has a group of one source, or a source in two groups")
    return tuple(sorted(tuple(sorted(group)) for group in groups))


def _parse_exclusion(value: object, field: str) -> Exclusion:
    body = check_fields(value, field, {"after", "readmit_after"}, set())
    exclusion = Exclusion(
        _parse_count(body["after"], f"{field}.after"),
        _parse_count(body["readmit_after"], f"{field}.readmit_after"),
    )
    if exclusion.readmit_after < exclusion.after:
        raise refuse(
            f"{field}.readmit_after",
            exclusion.readmit_after,
            "hysteresis",
            f"is less than the {exclusion.after} after which a source is excluded",
        )
    return exclusion


def _exclusion_json(value: Exclusion | None) -> dict[str, int] | None:
    return None if value is None else {"after": value.after, "readmit_after": value.readmit_after}


def _parse_restatement(value: object, field: str) -> RestatementPolicy:
    body = check_fields(value, field, set(), {"window", "materiality"})
    if not body:
        raise refuse(field, value, "not-empty", "has neither window nor materiality")
    given = body.get("materiality")
    materiality = None if given is None else parse_tolerance(given, f"{field}.materiality")
    if materiality is not None and materiality.unit is Unit.SIGMA:
        raise refuse(f"{field}.materiality", given, "fixed-unit", "has no spread to be counted in")
    return RestatementPolicy(parse_duration(body.get("window"), f"{field}.window"), materiality)


def _restatement_json(value: RestatementPolicy | None) -> dict[str, Any] | None:
    if value is None:
        return None
    materiality = None if value.materiality is None else value.materiality.as_json()
    return {"window": duration_text(value.window), "materiality": materiality}


def _tolerance_json(value: Tolerance) -> Any:
    return value.as_json()


SIBLINGS = "siblings"

FIELDS: Mapping[str, Field] = {
    "method": Field(parse_method, lambda m: m.as_json(), required=True),
    "precedence": Field(_parse_precedence, list, required=True),
    "tolerance": Field(parse_tolerance, _tolerance_json, required=True),
    "min_sources": Field(_parse_count, _same, required=True),
    "fallback": Field(_parse_fallback, lambda f: f.value, required=True),
    "max_staleness": Field(parse_duration, duration_text),
    "max_move": Field(_optional(not_negative), _text_of),
    "range": Field(_parse_range, _range_json, default=(None, None)),
    "stale_after": Field(_optional(_parse_count), _same),
    "timely_within": Field(parse_duration, duration_text),
    "sources": Field(_parse_sources, lambda ss: list(ss) or None, default=()),
    "copy_groups": Field(_parse_groups, lambda gs: [list(g) for g in gs], default=()),
    "exclusion": Field(_optional(_parse_exclusion), _exclusion_json),
    "restatement": Field(_optional(_parse_restatement), _restatement_json),
    "conflict": Field(check_slug, _same, default=SIBLINGS),
}
"""Every field that a layer may set, in the order in which they are shown."""

_ENVELOPE = {"extends", "level", "valid_from", "valid_to", "version"}


def parse_layer(given: object, version: int) -> Layer:
    """A rule document as it comes by REST, file or event; its ``version`` is given by the log.

    Raises:
        InvalidInput: naming field, value and rule.
    """
    body = check_fields(given, "", {"rules"}, FIELDS.keys() | _ENVELOPE)
    extends = body.get("extends")
    fields = {}
    for name, field in FIELDS.items():
        if name not in body or (field.required and body[name] is None):
            continue
        fields[name] = field.parse(body[name], name)
    valid_from, valid_to = (_instant(body.get(name), name) for name in ("valid_from", "valid_to"))
    if valid_from is not None and valid_to is not None and valid_from >= valid_to:
        raise refuse("valid_to", body["valid_to"], "ordered", "is not after valid_from")
    return Layer(
        rules=check_slug(body["rules"], "rules"),
        version=version,
        level=Level(check_choice(body.get("level") or Level.GROUP, "level", tuple(Level))),
        extends=None if extends is None else check_slug(extends, "extends"),
        valid_from=valid_from,
        valid_to=valid_to,
        fields=fields,
    )


def _instant(value: object, field: str) -> Snap | None:
    if value is None:
        return None
    try:
        day = date.fromisoformat(value) if isinstance(value, str) and len(value) == 10 else None
    except ValueError as error:
        raise refuse(field, value, "iso-8601", "is not a real date") from error
    return parse_instant(value if day is None else f"{value}T00:00:00Z", field)


def layer_json(layer: Layer) -> dict[str, Any]:
    """A layer as it is stored: what was given, in one form, and its version."""
    body: dict[str, Any] = {"rules": layer.rules, "version": layer.version, "level": layer.level.value}
    if layer.extends is not None:
        body["extends"] = layer.extends
    for name, bound in (("valid_from", layer.valid_from), ("valid_to", layer.valid_to)):
        if bound is not None:
            body[name] = bound.text
    return body | {n: FIELDS[n].as_json(layer.fields[n]) for n in FIELDS if n in layer.fields}


def rule_set_json(rules: RuleSet) -> dict[str, Any]:
    """A rule set as one document that stands alone."""
    return {"rules": rules.rules, "version": rules.version} | {
        name: field.as_json(getattr(rules, name)) for name, field in FIELDS.items()
    }


def incomplete(missing: list[str], where: str) -> InvalidInput:
    """The refusal of rules that leave fields open that must be settled."""
    return InvalidInput(
        *(Violation(name, "", "required", f"is set by no layer of {where}") for name in missing)
    )


class Difference(NamedTuple):
    """A field in which two documents differ. To set ``null`` is something else than to leave a field open."""

    field: str
    before: Any
    after: Any
    set_before: bool
    set_after: bool

    def as_json(self) -> dict[str, Any]:
        return self._asdict()


_ORDER = ("rules", "level", "extends", "valid_from", "valid_to", *FIELDS)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """What two documents or rule sets, as JSON, differ in; their version aside."""
    found = (Difference(n, before.get(n), after.get(n), n in before, n in after) for n in _ORDER)
    return [d for d in found if (d.set_before, d.before) != (d.set_after, d.after)]
