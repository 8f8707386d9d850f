"""Corporate actions, curves, matrices, free documents: what is taken, in which form, and what is refused."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from qis.domain.errors import InvalidInput
from qis.domain.kinds.actions import ActionType, parse_ratio, price_factor
from qis.domain.series import parse_series
from qis.domain.snap import parse_instant
from tests.support import records
from tests.support.records import ACTION, AT, CURVE, EXAMPLES, NOTICE, SURFACE


def parsed(id_: str, document: Any, **settings: Any) -> dict[str, Any]:
    """The canonical document."""
    structure = records.series(id_, **settings).structure
    assert structure is not None
    return dict(structure.parse(document, parse_instant(AT, "snap")).document)


def failed(id_: str, document: Any, **settings: Any) -> list[str]:
    """Checks that a record fails."""
    structure = records.series(id_, **settings).structure
    assert structure is not None
    at = parse_instant(AT, "snap")
    return [c.check for c in structure.check(structure.parse(document, at), at) if not c.passed]


def broken(id_: str, document: Any, **settings: Any) -> set[tuple[str, str]]:
    """Fields and rules of a refusal."""
    with pytest.raises(InvalidInput) as refusal:
        parsed(id_, document, **settings)
    return {(v.field, v.rule) for v in refusal.value.violations}


@pytest.mark.parametrize("id_", EXAMPLES)
def test_a_definition_is_what_it_was_parsed_from(id_: str) -> None:
    series = records.series(id_)
    assert parse_series(series.as_json()) == series


def test_a_series_of_records_needs_its_settings_and_one_of_numbers_has_none() -> None:
    body = records.series_body(CURVE)
    with pytest.raises(InvalidInput, match=r"record: .*required"):
        parse_series({k: v for k, v in body.items() if k != "record"})
    with pytest.raises(InvalidInput, match="no-record"):
        parse_series({**body, "kind": "rate"})


# corporate actions


@pytest.mark.parametrize(
    ("given", "type_", "convention", "ratio"),
    [
        ("2-for-1", "split", None, Fraction(2)),
        ("3 for 2", "split", None, Fraction(3, 2)),
        ("2:1", "split", None, Fraction(2)),
        ("1:2", "split", None, Fraction(2)),  # a split leaves more, so there is one reading
        ("1:10", "reverse_split", None, Fraction(1, 10)),
        ("10/1", "reverse_split", None, Fraction(1, 10)),
        ("1:2", "spin_off", "new_for_old", Fraction(1, 2)),
        ("1:2", "spin_off", "old_for_new", Fraction(2)),
        ({"new": "0.5", "old": 1}, "merger", None, Fraction(1, 2)),
        ({"factor": "0.25"}, "split", None, Fraction(4)),
        ({"new": 20, "old": 10}, "split", None, Fraction(2)),
    ],
)
def test_ratios_of_every_convention_become_one(
    given: Any, type_: str, convention: str | None, ratio: Fraction
) -> None:
    assert parse_ratio(given, ActionType(type_), convention, "ratio") == ratio


@pytest.mark.parametrize(
    ("given", "type_", "convention", "rule"),
    [
        ("1:2", "spin_off", None, "ratio-convention"),
        ("2-for-1", "split", "old_for_new", "ratio-convention"),
        ("1-for-2", "split", None, "ratio-direction"),
        ("2-for-1", "reverse_split", None, "ratio-direction"),
        ("1:1", "split", None, "ratio-direction"),
        ("0:1", "merger", "new_for_old", "ratio"),
        ("two for one", "split", None, "ratio"),
        ({"new": "1000000001", "old": 1}, "split", None, "ratio-terms"),
        ({"factor": "0.5"}, "spin_off", None, "ratio"),
    ],
)
def test_a_ratio_that_can_be_read_two_ways_or_none_is_refused(
    given: Any, type_: str, convention: str | None, rule: str
) -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse_ratio(given, ActionType(type_), convention, "ratio")
    assert [v.rule for v in refusal.value.violations] == [rule]


def test_prices_before_an_event_are_adjusted_exactly() -> None:
    assert price_factor({"type": "split", "ratio": {"new": "3", "old": "2"}}) == Fraction(2, 3)
    assert price_factor({"type": "stock_dividend", "ratio": {"new": "1", "old": "20"}}) == Fraction(20, 21)
    assert price_factor({"type": "split", "state": "cancelled", "ratio": {"new": "3", "old": "2"}}) is None
    assert price_factor({"type": "cash_dividend"}) is None


def test_messages_of_a_source_say_whether_the_event_is_on() -> None:
    new, cancelled = (parsed(ACTION, records.dividend(lifecycle=m)) for m in ("new", "D"))
    assert (new["lifecycle"], new["state"]) == ("N", "live")
    assert (cancelled["lifecycle"], cancelled["state"]) == ("D", "cancelled")
    assert broken(ACTION, records.dividend(lifecycle="X")) == {("value.lifecycle", "choice")}
    assert broken(ACTION, records.dividend(lifecycle="D", state="live")) == {("value.state", "lifecycle")}


def test_an_event_has_one_identity_whatever_a_source_calls_it() -> None:
    ours = parsed(ACTION, records.dividend(references={"alpha": "A-77"}))
    theirs = parsed(ACTION, records.dividend(references={"beta": "9001"}, lifecycle="U", event_id="9001"))
    assert ours["event_id"] == theirs["event_id"] == "XMPL:cash_dividend:2026-01-05"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"announced": "2026-01-06"}, "ex_date"),
        ({"record_date": "2026-01-02"}, "record_date"),
        ({"pay_date": "2026-01-05"}, "pay_date"),
        ({"due_bills": True}, "ex_date"),  # then it goes ex only after payment
    ],
)
def test_dates_in_an_impossible_order_are_refused(change: dict[str, Any], field: str) -> None:
    assert (f"value.{field}", "date-order") in broken(ACTION, records.dividend(**change))


def test_a_large_dividend_with_due_bills_goes_ex_after_payment() -> None:
    large = records.dividend(due_bills=True, record_date="2026-01-02", pay_date="2026-01-02")
    assert parsed(ACTION, large)["due_bills"] is True


def test_an_event_without_what_its_type_needs_is_refused() -> None:
    split = {"type": "split", "announced": "2026-01-02"}
    assert broken(ACTION, split) == {("value.ex_date", "required"), ("value.ratio", "required")}
    assert broken(ACTION, records.dividend(), types=["split"]) == {("value.type", "choice")}


# curves and matrices


def test_tenors_of_equal_length_have_one_name() -> None:
    document = parsed(CURVE, {"nodes": {"ON": "4", "7D": "4", "12M": "4", "18M": "4", "120M": "4"}})
    assert [n["tenor"] for n in document["nodes"]] == ["1D", "1W", "1Y", "18M", "10Y"]
    assert broken(CURVE, {"nodes": {"12M": "4", "1Y": "4"}}) == {("value.nodes", "distinct")}


@pytest.mark.parametrize(
    ("nodes", "rule"),
    [
        ([{"tenor": "1Y", "value": "4"}, {"tenor": "3M", "value": "4"}], "ordered"),
        ([{"tenor": "0M", "value": "4"}], "tenor"),
        ([{"tenor": "3Q", "value": "4"}], "tenor"),
        ([{"tenor": "3M", "value": "x"}], "decimal"),
        ([], "count"),
    ],
)
def test_nodes_that_are_no_curve_are_refused(nodes: list[dict[str, str]], rule: str) -> None:
    assert {r for _, r in broken(CURVE, {"nodes": nodes})} == {rule}


def test_a_curve_lacks_a_tenor_has_a_kink_or_turns() -> None:
    assert failed(CURVE, {"nodes": {"3M": "4"}}) == ["complete"]
    assert failed(CURVE, records.curve(**{"1Y": "5.5"})) == ["step"]
    factors = {"quantity": "discount_factor", "direction": "falling", "max_step": None}
    assert failed(CURVE, {"nodes": {"3M": "0.99", "1Y": "0.995"}}, **factors) == ["direction"]
    zero = broken(CURVE, {"nodes": {"3M": "0", "1Y": "1"}}, **factors)
    assert zero == {("value.nodes[3M].value", "positive")}


def test_a_surface_has_its_shape_and_no_calendar_arbitrage() -> None:
    assert broken(SURFACE, {**records.surface(), "values": [["0.2"], ["0.2"]]}) == {
        ("value.values[1M]", "shape")
    }
    # 0.24² over a month is more variance than 0.12² over three.
    assert failed(SURFACE, {**records.surface(), "values": [["0.24", "0.2"], ["0.12", "0.2"]]}) == [
        "total-variance"
    ]


def test_a_correlation_matrix_is_its_own_mirror() -> None:
    settings = {"quantity": "correlation", "rows": "label", "columns": "label", "symmetric": True}
    cells = {"rows": ["A", "B"], "columns": ["A", "B"], "values": [["1", "0.5"], ["0.4", "1"]]}
    assert failed(SURFACE, cells, **settings) == ["symmetric"]
    assert failed(SURFACE, {**cells, "values": [["1", "0.5"], ["0.50", "1"]]}, **settings) == []


# free documents


def test_a_number_may_be_given_as_one_or_as_text_and_is_kept_as_decimal_text() -> None:
    text = '{"issuer": "Example plc", "coupon": 0.1000000000000000055511151231257827}'
    assert broken(NOTICE, text) == {("value.coupon", "max-scale")}
    for given in ('{"issuer": "E", "coupon": 5.250}', {"issuer": "E", "coupon": "5.250"}):
        assert parsed(NOTICE, given) == {"issuer": "E", "coupon": "5.250"}


def test_a_document_that_breaks_its_schema_is_told_every_rule_that_it_breaks() -> None:
    given = {"coupon": "-1", "callable": "yes", "tranches": [1, "2"], "other": 1}
    assert broken(NOTICE, given) == {
        ("value.issuer", "required"),
        ("value.coupon", "minimum"),
        ("value.callable", "type"),
        ("value.tranches[1]", "type"),
        ("value.other", "known-field"),
    }


@pytest.mark.parametrize(
    ("schema", "rule"),
    [
        ({"pattern": "(a+)+"}, "schema-keyword"),
        ({"properties": {"a": {"$ref": "http://example.com"}}}, "schema-keyword"),
        ({"type": "array"}, "object"),
        ({"properties": {"a": {"type": ["number", "string"]}}}, "number-or-text"),
        ({"properties": {"a": {"type": "text"}}}, "choice"),
        ({"properties": {"a": {"minLength": -1}}}, "count"),
    ],
)
def test_a_schema_of_which_a_part_would_be_ignored_is_refused(schema: dict[str, Any], rule: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        records.series(NOTICE, schema=schema)
    assert [v.rule for v in refusal.value.violations] == [rule]


def test_a_whole_number_beyond_what_every_parser_keeps_is_refused() -> None:
    document = records.notice(tranches=[2**53])
    assert broken(NOTICE, document) == {("value.tranches[0]", "safe-integer")}
