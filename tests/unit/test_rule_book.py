"""Which rules apply to a series at a snap: layers, validity, and what may not be put in force."""

from __future__ import annotations

from typing import Any

import pytest

from qis.domain.errors import InvalidInput, NotFound
from qis.domain.rules import RuleBook, RuleSet, layer_json, parse_layer, rule_set_json
from qis.domain.rules.book import effective_json
from qis.domain.rules.documents import differences
from tests.support.builders import rules_body, snap
from tests.support.refusals import broken

HOUSE: dict[str, Any] = {"rules": "house", "level": "house", "fallback": "hold", "min_sources": 2}
ASSET_CLASS = {
    **rules_body(rules="fx-class", level="asset_class", extends="house", max_move="0.1"),
    "fallback": None,
    "min_sources": None,
}
GROUP: dict[str, Any] = {"rules": "majors", "extends": "fx-class", "tolerance": {"bp": "5"}}
SERIES: dict[str, Any] = {"rules": "eur-usd", "level": "series", "extends": "majors", "max_move": None}


def book(*bodies: dict[str, Any]) -> RuleBook:
    versions: dict[str, int] = {}
    layers = []
    for body in bodies:
        versions[body["rules"]] = versions.get(body["rules"], 0) + 1
        layers.append(parse_layer(body, versions[body["rules"]]))
    return RuleBook(layers)


ALL = (HOUSE, ASSET_CLASS, GROUP, SERIES)


def tolerance_of(rules: RuleSet) -> Any:
    return rules.tolerance.as_json()


def test_each_field_comes_from_the_narrowest_layer_that_sets_it() -> None:
    found = book(*ALL).rule_set("eur-usd", snap())
    assert [ref.rules for ref in found.chain] == ["eur-usd", "majors", "fx-class", "house"]
    assert tolerance_of(found) == {"bp": "5"}
    assert (found.fallback, found.min_sources) == ("hold", 2)
    assert found.precedence == ("alpha", "beta", "gamma")
    assert found.max_move is None, "null switches off what a broader layer sets"
    assert str(book(*ALL).rule_set("majors", snap()).max_move) == "0.1"


def test_the_answer_says_where_each_field_comes_from() -> None:
    told = effective_json(book(*ALL), "eur-usd", snap())
    origin = {f["field"]: (f["rules"], f["level"]) for f in told["fields"]}
    assert origin["tolerance"] == ("majors", "group")
    assert origin["max_move"] == ("eur-usd", "series")
    assert origin["fallback"] == ("house", "house")
    assert origin["copy_groups"] == (None, None)
    assert [layer["rules"] for layer in told["chain"]] == ["eur-usd", "majors", "fx-class", "house"]


def test_a_snap_is_decided_by_the_newest_version_that_covers_it() -> None:
    first, second, third = snap(10).text, snap(20).text, snap(30).text
    known = book(
        rules_body(tolerance="0.1"),
        rules_body(tolerance="0.2", valid_from=first, valid_to=third),
        rules_body(tolerance="0.3", valid_from=second),
    )
    at = {day: known.rule_set("fx", snap(day)) for day in (9, 10, 19, 20, 30, 99)}
    versions = {day: found.version for day, found in at.items()}
    assert versions == {9: 1, 10: 2, 19: 2, 20: 3, 30: 3, 99: 3}
    assert tolerance_of(at[19]) == "0.2"


def test_a_stored_decision_names_what_its_rules_are_put_together_from() -> None:
    known = book(*ALL)
    found = known.rule_set("eur-usd", snap())
    later = known.having(parse_layer({**GROUP, "tolerance": "1"}, 2))
    assert tolerance_of(later.rule_set("eur-usd", snap())) == "1"
    assert later.exactly(found.chain) == found
    with pytest.raises(NotFound):
        book(HOUSE).exactly(found.chain)


REFUSED: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "an unknown parent": ({**GROUP, "rules": "x", "extends": "none"}, [("extends", "known-rules")]),
    "a first version with a bound": (
        {**GROUP, "rules": "x", "valid_from": "2026-01-01"},
        [("valid_from", "first-version-unbounded")],
    ),
    "a circle": ({**HOUSE, "extends": "majors"}, [("extends", "no-circle")]),
    "itself": ({**HOUSE, "extends": "house"}, [("extends", "no-circle")]),
    "a narrower parent": (
        {**ASSET_CLASS, "rules": "x", "extends": "majors"},
        [("extends", "broader-level")],
    ),
    "a group that leaves fields open": (
        {"rules": "x", "method": "median", "precedence": [], "tolerance": "0"},
        [("min_sources", "required"), ("fallback", "required")],
    ),
    "a parent that leaves a series in use without a field": (
        {"rules": "house", "level": "house", "min_sources": 2},
        [("fallback", "required")],
    ),
    "a version that leaves it open for a while": (
        {"rules": "house", "level": "house", "min_sources": 2, "valid_from": "2027-01-01"},
        [("fallback", "required")],
    ),
}


@pytest.mark.parametrize(("body", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_what_may_not_be_put_in_force_is_refused(
    body: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    known = book(*ALL)
    layer = parse_layer(body, len(known.versions(body["rules"])) + 1)
    assert broken(lambda: known.check(layer, {"eur-usd"})) == expected


def test_an_open_asset_class_is_accepted_and_a_series_may_not_name_it() -> None:
    known = book(HOUSE)
    known.check(parse_layer({**ASSET_CLASS, "extends": None, "rules": "x"}, 1), set())
    assert broken(lambda: known.check_settled("house", of_records=False))[0] == ("method", "required")


@pytest.mark.parametrize(
    ("field", "value", "off"),
    [
        ("max_move", "0.1", None),
        ("range", ["1", None], None),
        ("exclusion", {"after": 2, "readmit_after": 3}, None),
    ],
)
def test_what_is_about_numbers_is_refused_where_records_are(field: str, value: Any, off: Any) -> None:
    plain = {k: v for k, v in rules_body(rules="base", level="house").items() if k != "max_move"}
    records = {"rules": "records", "extends": "base"}
    known = book(plain, records, {"rules": "numbers", "extends": "base"})

    def refused(body: dict[str, Any], of_records: set[str]) -> list[tuple[str, str]]:
        layer = parse_layer(body, len(known.versions(body["rules"])) + 1)
        return broken(lambda: known.check(layer, {"records", "numbers"}, of_records))

    for body in ({**records, field: value}, {**plain, field: value}):
        assert refused(body, {"records"}) == [(field, "numbers-only")]
        assert refused(body, set()) == []
        assert refused({**body, "valid_from": "2027-01-01"}, {"records"}) == [(field, "numbers-only")]
        assert refused({**body, field: off}, {"records"}) == []
    assert refused({"rules": "numbers", "extends": "base", field: value}, {"records"}) == []
    set_ = known.having(parse_layer({**plain, field: value}, 2))
    assert broken(lambda: set_.check_settled("records", of_records=True)) == [(field, "numbers-only")]
    assert broken(lambda: set_.check_settled("records", of_records=False)) == []
    off_again = set_.having(parse_layer({**records, field: off}, 2))
    assert broken(lambda: off_again.check_settled("records", of_records=True)) == []


def test_everything_about_numbers_is_named_with_its_value_and_where_it_is_set() -> None:
    known = book(rules_body(rules="base", range=["0", "9"]), {"rules": "records", "extends": "base"})
    with pytest.raises(InvalidInput) as refusal:
        known.check_settled("records", of_records=True)
    told = [(v.field, v.value, v.message.rpartition(" ")[2]) for v in refusal.value.violations]
    assert told == [("max_move", "0.05", "base"), ("range", "['0', '9']", "base")]


def test_a_chain_of_more_than_eight_is_refused() -> None:
    bodies = [rules_body(rules="r0")] + [{"rules": f"r{n}", "extends": f"r{n - 1}"} for n in range(1, 8)]
    known = book(*bodies)
    assert len(known.chain("r7", 0)) == 8
    assert broken(lambda: known.check(parse_layer({"rules": "r8", "extends": "r7"}, 1), ())) == [
        ("extends", "chain-length")
    ]


BAD_FIELDS: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {
    "no unit": ({"tolerance": {}}, ("tolerance", "one-unit")),
    "two units": ({"tolerance": {"bp": 1, "absolute": 1}}, ("tolerance", "one-unit")),
    "ticks without a tick": ({"tolerance": {"ticks": 2}}, ("tolerance.tick", "required")),
    "a tick of nothing": ({"tolerance": {"ticks": 2, "tick": "0"}}, ("tolerance.tick", "positive")),
    "a tick of basis points": ({"tolerance": {"bp": 2, "tick": "1"}}, ("tolerance.tick", "known-field")),
    "sigma without a floor": ({"tolerance": {"sigma": 3}}, ("tolerance.floor_bp", "required")),
    "a negative amount": ({"tolerance": {"bp": "-1"}}, ("tolerance.bp", "not-negative")),
    "a source in two groups": ({"copy_groups": [["a", "b"], ["b", "c"]]}, ("copy_groups", "copy-groups")),
    "a group of one": ({"copy_groups": [["a"]]}, ("copy_groups", "copy-groups")),
    "exclusion that flickers": (
        {"exclusion": {"after": 3, "readmit_after": 2}},
        ("exclusion.readmit_after", "hysteresis"),
    ),
    "an empty policy": ({"restatement": {}}, ("restatement", "not-empty")),
    "a materiality without a fixed unit": (
        {"restatement": {"materiality": {"sigma": 3, "floor_bp": 1}}},
        ("restatement.materiality", "fixed-unit"),
    ),
    "validity the wrong way": (
        {"valid_from": "2026-02-01", "valid_to": "2026-01-01"},
        ("valid_to", "ordered"),
    ),
    "validity on no day": ({"valid_from": "2026-02-30"}, ("valid_from", "iso-8601")),
    "validity in naive time": ({"valid_from": "2026-02-01T10:00:00"}, ("valid_from", "aware-time")),
    "an unknown level": ({"level": "galaxy"}, ("level", "choice")),
    "a parameter that a method does not take": (
        {"method": {"name": "median", "window": 3}},
        ("method.window", "known-field"),
    ),
    "a method without a name": ({"method": {"window": 3}}, ("method.name", "required")),
}


@pytest.mark.parametrize(("changes", "expected"), BAD_FIELDS.values(), ids=BAD_FIELDS.keys())
def test_a_field_is_refused_naming_field_and_rule(changes: dict[str, Any], expected: tuple[str, str]) -> None:
    assert broken(lambda: parse_layer(rules_body(**changes), 1)) == [expected]


FULL = rules_body(
    tolerance={"sigma": "4", "floor_bp": "1"},
    copy_groups=[["beta", "alpha"]],
    exclusion={"after": 3, "readmit_after": 5},
    restatement={"window": "P5D", "materiality": {"ticks": "1", "tick": "0.0001"}},
    max_staleness="PT90M",
    range=["0.5", None],
    conflict="last-writer-wins",
    method={"name": "median"},
)


@pytest.mark.parametrize("body", [*ALL, FULL, rules_body(valid_from="2026-01-01", valid_to="2027-01-01")])
def test_a_document_survives_its_event(body: dict[str, Any]) -> None:
    layer = parse_layer(body, 3)
    assert parse_layer(layer_json(layer), 3) == layer


def test_a_rule_set_is_told_as_one_document() -> None:
    found = book(*ALL).rule_set("eur-usd", snap())
    alone = RuleBook([parse_layer(rule_set_json(found), 1)]).rule_set("eur-usd", snap())
    assert rule_set_json(alone) == rule_set_json(found)


def test_differences_name_field_before_and_after() -> None:
    before = layer_json(parse_layer(GROUP, 1))
    after = layer_json(parse_layer({**GROUP, "tolerance": "0.1", "max_move": None}, 2))
    assert [d.as_json() for d in differences(before, after)] == [
        {"field": "tolerance", "before": {"bp": "5"}, "after": "0.1", "set_before": True, "set_after": True},
        {"field": "max_move", "before": None, "after": None, "set_before": False, "set_after": True},
    ]
    assert differences(before, {**before, "version": 9}) == []
