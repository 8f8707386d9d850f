"""What consumers of the push channel may ask for, and how they are told what is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qis.domain.events import Position
from qis.domain.subscriptions import MAX_KEYS, parse_wish
from tests.support.push import keys_of
from tests.support.refusals import broken


def test_a_wish_names_series_groups_and_patterns() -> None:
    body = {"action": "subscribe", "id": "1", "series": ["A.B"], "groups": ["fx"], "patterns": ["A.*", "*"]}
    wish = parse_wish(body, with_cursor=False)
    assert wish.keys == {"series:A.B", "group:fx", "pattern:A.*", "pattern:*"}
    assert (wish.cursor, wish.reference) == (None, "1")


def test_a_resumed_wish_has_a_cursor() -> None:
    wish = parse_wish({"series": ["A"], "cursor": "12.34"}, with_cursor=True)
    assert wish.cursor == Position(12, 34)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ([], [("body", "object")]),
        ({}, [("series", "required")]),
        ({"series": "A"}, [("series", "list")]),
        ({"series": ["A", 1, "a b"]}, [("series[1]", "text"), ("series[2]", "identifier")]),
        ({"groups": ["FX"]}, [("groups[0]", "slug")]),
        ({"patterns": ["A*"]}, [("patterns[0]", "pattern")]),
        ({"patterns": ["*.A"]}, [("patterns[0]", "pattern")]),
        ({"patterns": ["A.*.B"]}, [("patterns[0]", "pattern")]),
        ({"series": ["A"], "cursor": "1.2"}, [("cursor", "known-field")]),
        ({"series": ["A"], "serie": []}, [("serie", "known-field")]),
        ({"series": ["A"], "id": "a b"}, [("id", "identifier")]),
        ({"series": [f"A{n}" for n in range(MAX_KEYS + 1)]}, [("series", "max-subscriptions")]),
    ],
)
def test_what_breaks_a_rule_is_named(body: Any, said: list[tuple[str, str]]) -> None:
    assert broken(lambda: parse_wish(body, with_cursor=False)) == said


@pytest.mark.parametrize("cursor", ["", "1", "1.2.3", "-1.2", 12, None, "9" * 20 + ".1"])
def test_a_cursor_that_was_never_given_out_is_refused(cursor: Any) -> None:
    rule = "required" if cursor is None else "cursor"
    body = {"series": ["A"], "cursor": cursor}
    assert broken(lambda: parse_wish(body, with_cursor=True)) == [("cursor", rule)]


_ID = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._:\-]{0,30}\Z")


@given(_ID, _ID)
def test_a_series_is_found_under_exactly_the_patterns_that_it_begins_with(series: str, other: str) -> None:
    keys = keys_of(series, None)
    for i, c in enumerate(other):
        if c == "." and i:
            begins = other[: i + 1]
            assert (f"pattern:{begins}*" in keys) == series.startswith(begins)
    assert (f"series:{other}" in keys) == (series == other)


@given(_ID)
def test_every_key_of_a_series_can_be_asked_for(series: str) -> None:
    fields = {"series": "series", "pattern": "patterns", "group": "groups"}
    for key in keys_of(series, "fx"):
        kind, _, name = key.partition(":")
        assert parse_wish({fields[kind]: [name]}, with_cursor=False).keys == {key}
