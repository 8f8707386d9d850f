"""The language of business rules: exact, three-valued, and nothing of Python that is not of it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qis.domain.checks import Row, finding, holds, parse_check
from qis.domain.errors import InvalidInput
from qis.domain.expressions import parse_expression
from tests.support.builders import EUR, FIRST, series


def holds_for(text: str, official: dict[str, str] | None = None, **names: str | None) -> bool | None:
    given_ = {n: None if v is None else Decimal(v) for n, v in names.items()}
    other = {i: Decimal(v) for i, v in (official or {}).items()}
    return parse_expression(text, "expression").evaluate(given_, other)


@pytest.mark.parametrize(
    ("text", "names", "expected"),
    [
        ("value > 0", {"value": "1"}, True),
        ("0 < value <= 1.5", {"value": "1.5"}, True),
        ("0 < value < 1.5", {"value": "1.5"}, False),
        ("abs(value / previous - 1) <= 0.2", {"value": "120", "previous": "100"}, True),
        ("abs(value / previous - 1) <= 0.2", {"value": "120.01", "previous": "100"}, False),
        ("abs(value / previous - 1) <= 0.2", {"value": "1", "previous": None}, None),
        ("value / previous > 1", {"value": "1", "previous": "0"}, None),
        ("previous > 0 or value > 0", {"value": "1", "previous": None}, True),
        ("previous > 0 and value < 0", {"value": "1", "previous": None}, False),
        ("not previous > 0", {"previous": None}, None),
        ("not value > 0", {"value": "-1"}, True),
        ("value - -1 == 2 * 1", {"value": "1"}, True),
        ("decimals(value) <= 4", {"value": "1.00001"}, False),
        ("max(low, 1) != min(high, 3)", {"low": "2", "high": "2"}, False),
        ("value * 3 == 0.3", {"value": "0.1"}, True),
        ("value + 0.00000000000000000000000000001 != value", {"value": "1" * 38}, True),
    ],
)
def test_expressions_are_exact_and_three_valued(
    text: str, names: dict[str, str | None], expected: bool | None
) -> None:
    assert holds_for(text, **names) is expected


def test_another_series_is_known_by_its_official_value_at_the_snap() -> None:
    text = 'value <= official("FX.ASK")'
    assert parse_expression(text, "e").series == ("FX.ASK",)
    assert holds_for(text, {"FX.ASK": "1.1"}, value="1.0") is True
    assert holds_for(text, {"FX.ASK": "0.9"}, value="1.0") is False
    assert holds_for(text, {}, value="1.0") is None


@pytest.mark.parametrize(
    "text",
    [
        "", "value", "1 + value", "value >", "value > 0 > True", "value > '0'", "open('x') > 0",
        "__import__('os').system('id') > 0", "value.real > 0", "[value][0] > 0", "lambda: value > 0",
        "value ** 9 > 0", "value if value > 0 else previous", "(value := 1) > 0", "value > 1j",
        "f'{value}' > 0", "value is value", "value in (1, 2)", "other > 0", "abs(value, value) > 0",
        "abs(x=1) > 0", "max() > 0", "not value", "value > 0 and value", "(value > 0) + 1 > 0",
        "official(value) > 0", "official('a b') > 0", "True", "value > None", "value // 2 > 0",
        "value > 0\n", "-" * 30 + "value > 0", "value > 0" + " and value > 0" * 40, "(" * 200 + "value",
        "value\x00 > 0", "value > 1e999999999999",
    ],
)  # fmt: skip
def test_everything_else_is_refused_when_the_rule_is_stored(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_expression(text, "expression")
    assert refused.value.violations[0].field == "expression"


@settings(max_examples=300)
@given(st.text("value previous()<>=+-*/0123456789.andornotabs,\"'[]{}:_x ", max_size=60))
def test_no_text_brings_the_parser_down(text: str) -> None:
    try:
        expression = parse_expression(text, "expression")
    except InvalidInput:
        return
    expression.evaluate({"value": Decimal("1.1"), "previous": None}, {})


CHECK: dict[str, Any] = {
    "check": "moves",
    "name": "Moves of a day",
    "expression": "abs(value / previous - 1) <= 0.1",
    "severity": "high",
    "series": ["FX.*"],
}


def test_a_broken_rule_is_a_finding_with_what_was_measured() -> None:
    check = parse_check(CHECK)
    row = Row(EUR, FIRST, Decimal("2.0"), Decimal("1.0"), {"a": Decimal(2), "b": Decimal(3)}, {})
    assert holds(check, row) is False
    found = finding(check, row)
    assert (found.kind, found.scope, found.severity) == ("rule-moves", "rule/moves", "high")
    assert found.threshold == CHECK["expression"]
    assert found.measured == "value 2.0, previous 1.0, low 2, high 3, sources 2"


def test_a_check_applies_by_name_and_kind() -> None:
    assert parse_check(CHECK).applies(series())
    assert not parse_check({**CHECK, "series": ["PX.*"]}).applies(series())
    assert not parse_check({**CHECK, "kinds": ["price"]}).applies(series())
    check = parse_check({**CHECK, "kinds": ["fx_rate"], "active": False})
    assert check.as_json()["active"] is False


@pytest.mark.parametrize(
    "change",
    [
        {"severity": "awful"}, {"series": []}, {"series": "FX"}, {"kinds": "price"}, {"kinds": ["x"]},
        {"active": "yes"}, {"extra": 1}, {"check": "No Slug"}, {"expression": "value"}, {"name": ""},
    ],
)  # fmt: skip
def test_a_definition_that_breaks_a_rule_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        parse_check({**CHECK, **change})
