"""A value comes out of JSON and CSV with the digits that went in."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.api.events import proxy_event
from tests.api.fakes import ID, FakeReads, Front, row
from tests.api.tokens import token

SNAP = "1970-01-01T00:00:00Z"
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, places=None).filter(
    lambda d: -18 <= int(d.as_tuple().exponent) <= 10 and len(d.as_tuple().digits) <= 38
)
WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=80)


def answer(value: Decimal, form: str, **details: Any) -> str:
    front = Front(FakeReads(row(value, **details)))
    query = {"snap": SNAP, "format": form}
    event = proxy_event("GET", "/api/v1/data/reference/{id}/official", {"id": ID}, query, token=token())
    body: str = front.checked(event)["body"]
    return body


@given(DECIMALS)
def test_values_keep_every_digit(value: Decimal) -> None:
    text = format(value, "f")
    assert json.loads(answer(value, "json"))["value"] == text
    (found,) = csv.DictReader(io.StringIO(answer(value, "csv"), newline=""))
    assert found["value"] == text
    assert Decimal(found["value"]) == value


@given(reason=WORDS)
def test_words_that_people_wrote_survive_and_start_no_formula(reason: str) -> None:
    details = {
        "cause": "correction",
        "reason": reason,
        "restated_by": "alice",
        "before": {"value": "-1.5", "official_version": 1},
        "official_version": 2,
    }
    told = json.loads(answer(Decimal(1), "json", **details))["restatement"]
    assert told["reason"] == reason
    (found,) = csv.DictReader(io.StringIO(answer(Decimal(1), "csv", **details), newline=""))
    assert found["restatement_reason"].removeprefix("'") == reason.removeprefix("'")
    assert found["restatement_reason"][0] not in "=@\t\r"
    assert found["value_before"] == "-1.5"
