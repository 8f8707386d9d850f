"""Event patterns match what AWS says they match."""

from __future__ import annotations

from typing import Any

import pytest

from local.patterns import matches

EVENT: dict[str, Any] = {
    "type": "DataPublished",
    "tags": ["a", "b"],
    "count": 7,
    "ratio": 0.5,
    "flag": True,
    "nothing": None,
    "data": {"snap": "2026-01-05", "inner": {"deep": "x"}},
}


@pytest.mark.parametrize(
    "pattern",
    [
        {},
        {"type": ["DataPublished"]},
        {"type": ["Other", "DataPublished"]},
        {"tags": ["b"]},
        {"count": [7]},
        {"flag": [True]},
        {"nothing": [None]},
        {"data": {"inner": {"deep": ["x"]}}},
        {"type": ["DataPublished"], "count": [7]},
        {"type": [{"prefix": "Data"}]},
        {"type": [{"suffix": "Published"}]},
        {"type": [{"anything-but": "Other"}]},
        {"type": [{"anything-but": ["Other", "More"]}]},
        {"count": [{"numeric": [">", 5, "<=", 7]}]},
        {"ratio": [{"numeric": ["=", 0.5]}]},
        {"type": [{"exists": True}]},
        {"missing": [{"exists": False}]},
        {"data": {"missing": [{"exists": False}]}},
        {"other": {"missing": [{"exists": False}]}},
        {"$or": [{"type": ["Other"]}, {"count": [7]}]},
    ],
)
def test_matches(pattern: dict[str, Any]) -> None:
    assert matches(pattern, EVENT)


@pytest.mark.parametrize(
    "pattern",
    [
        {"type": ["datapublished"]},
        {"type": ["Other"]},
        {"tags": ["c"]},
        {"count": ["7"]},
        {"count": [True]},
        {"flag": [1]},
        {"missing": ["x"]},
        {"missing": [None]},
        {"missing": [{"anything-but": "x"}]},
        {"nothing": ["x"]},
        {"data": {"inner": {"deep": ["y"]}}},
        {"type": {"inner": ["x"]}},
        {"type": ["DataPublished"], "count": [8]},
        {"type": [{"prefix": "data"}]},
        {"count": [{"prefix": "7"}]},
        {"type": [{"anything-but": "DataPublished"}]},
        {"type": [{"anything-but": ["DataPublished"]}]},
        {"count": [{"numeric": [">", 7]}]},
        {"type": [{"numeric": [">", 7]}]},
        {"flag": [{"numeric": ["=", 1]}]},
        {"type": [{"exists": False}]},
        {"missing": [{"exists": True}]},
        {"$or": [{"type": ["Other"]}, {"count": [8]}]},
    ],
)
def test_does_not_match(pattern: dict[str, Any]) -> None:
    assert not matches(pattern, EVENT)


@pytest.mark.parametrize("event", [None, "text", 7, ["type"]])
def test_what_is_no_object_matches_no_pattern(event: object) -> None:
    assert not matches({"type": ["DataPublished"]}, event)


def test_an_unknown_condition_is_refused() -> None:
    with pytest.raises(ValueError, match="wildcard"):
        matches({"type": [{"wildcard": "Data*"}]}, EVENT)
