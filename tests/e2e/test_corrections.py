"""Corrections by people: what was answered before stays what it was, and two people decide."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest

from tests.e2e.twin import Twin
from tests.support.builders import claim_body, rules_body, series_body, source_body
from tests.support.waiting import until

CONSUMERS = ("consumer-strategy", "consumer-risk", "consumer-analytics")


class Case:
    """A series of one test, with an official value."""

    def __init__(self, twin: Twin) -> None:
        self.twin = twin
        self.id = f"FX.CASE.{uuid4().hex[:8].upper()}"
        self.rules = f"case-{uuid4().hex[:8]}"
        self.snap = "2026-01-05T14:00:00Z"
        twin.register(
            [rules_body(rules=self.rules)],
            [source_body("alpha"), source_body("beta")],
            [{**series_body(self.id), "rules": self.rules}],
        )
        self.ingest("1.1000", self.snap)

    @property
    def path(self) -> str:
        return f"/api/v1/data/reference/{self.id}"

    def ingest(self, value: str, snap: str, source: str = "alpha", subject: str = "feeder") -> None:
        body = claim_body(reference_data_id=self.id, value=value, snap=snap, source=source)
        answer = self.twin.call("POST", f"{self.path}/ingest", body, subject=subject)
        assert answer.status_code == 202, answer.text
        receipt = answer.json()["receipt"]

        def settled() -> bool:
            state = self.twin.get(f"/api/v1/receipts/{receipt}").json()
            found = {v["status"] for v in state["values"]}
            return bool(found) and found <= {"official", "held-for-review"}

        until(settled, "the receipt to settle")

    def restate(self, value: str, *, subject: str = "alice", reason: str = "wrong input") -> dict[str, Any]:
        body = {"snap": self.snap, "value": value, "reason": reason}
        answer = self.twin.call("POST", f"{self.path}/restate", body, role="publisher", subject=subject)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def official(self, **parameters: str) -> Any:
        return self.twin.official(self.id, self.snap, **parameters)

    def value(self) -> str:
        return str(self.official().json()["value"])

    def exception(self) -> dict[str, Any]:
        """The only open exception of the series."""
        items = self.twin.get("/api/v1/exceptions", limit="1000").json()["items"]
        (mine,) = (i for i in items if i["reference_data_id"] == self.id)
        return dict(mine)

    def decide(self, what: str, *, subject: str, reason: str | None = None) -> Any:
        body = None if reason is None else {"reason": reason}
        where = f"/api/v1/exceptions/{self.exception()['item']}/{what}"
        return self.twin.call("POST", where, body, role="publisher", subject=subject)


@pytest.fixture
def case(twin: Twin) -> Case:
    return Case(twin)


@pytest.fixture
def suspect(case: Case) -> Case:
    """A case with a value that waits: a move of 30 % on the next day."""
    case.snap = "2026-01-06T14:00:00Z"
    case.ingest("1.4300", case.snap)
    return case


def test_a_restatement_tells_before_and_after_to_each_consumer(case: Case) -> None:
    case.restate("1.1005")
    case.twin.drain()
    for queue in CONSUMERS:
        found = [m["detail"] for m in case.twin.take(queue) if m["detail"]["subject"] == case.id]
        (restated,) = (m for m in found if m["type"] == "com.qis.data.restated.v1")
        data = restated["data"]
        assert data["before"] == {"value": "1.1000", "official_version": 1}
        assert data["after"] == {"value": "1.1005", "official_version": 2}
        assert data["reason"] == "wrong input"
        assert data["restated_by"] == "alice"


def test_the_answer_of_before_is_given_byte_for_byte_as_of_before(case: Case) -> None:
    before = case.official()
    basis = before.json()["basis"]
    moment = case.twin.one("SELECT clock_timestamp()")
    by_basis = case.official(basis=basis)
    case.restate("1.1005")
    assert case.value() == "1.1005"
    assert case.official(asOf=moment.isoformat()).content == before.content
    assert case.official(basis=basis).content == by_basis.content == before.content
    case.restate("1.1007")
    assert case.official(asOf=moment.isoformat()).content == before.content
    assert case.official(basis=basis).content == before.content


def test_as_of_is_exact_at_the_moment_of_a_restatement(case: Case) -> None:
    case.restate("1.1005")
    ((at,),) = case.twin.sql(
        "SELECT recorded_from FROM official_values WHERE reference_data_id = %s AND version = 2", case.id
    )
    assert isinstance(at, datetime)
    assert case.official(asOf=at.isoformat()).json()["value"] == "1.1005"
    just_before = at.replace(microsecond=at.microsecond - 1) if at.microsecond else at
    if just_before != at:
        assert case.official(asOf=just_before.isoformat()).json()["value"] == "1.1000"


def test_explain_tells_who_corrected_what_and_why(case: Case) -> None:
    case.restate("1.1005", reason="the fixing was corrected")
    told = json.dumps(case.twin.get(f"{case.path}/explain", snap=case.snap).json())
    for part in ("1.1005", "the fixing was corrected", "alice"):
        assert part in told


def test_a_suspect_waits_and_is_no_official_value(suspect: Case) -> None:
    answer = suspect.official()
    assert answer.status_code == 404
    assert answer.json()["item"] == suspect.exception()["item"]


def test_who_submitted_may_not_approve(suspect: Case) -> None:
    answer = suspect.decide("approve", subject="feeder")
    assert answer.status_code == 403
    assert answer.json()["type"].endswith("four-eyes")
    assert suspect.official().status_code == 404


def test_who_submitted_may_not_reject(suspect: Case) -> None:
    assert suspect.decide("reject", subject="feeder", reason="mine").status_code == 403


def test_a_second_person_lets_it_out(suspect: Case) -> None:
    answer = suspect.decide("approve", subject="bob")
    assert answer.status_code == 200, answer.text
    assert suspect.value() == "1.4300"
    told = json.dumps(suspect.twin.get(f"{suspect.path}/explain", snap=suspect.snap).json())
    assert "bob" in told


def test_what_is_decided_cannot_be_decided_again(suspect: Case) -> None:
    item = suspect.exception()["item"]
    assert suspect.decide("approve", subject="bob").status_code == 200
    again = suspect.twin.call("POST", f"/api/v1/exceptions/{item}/approve", role="publisher", subject="carol")
    assert again.status_code == 409


def test_a_rejected_value_stays_away_and_its_claim_no_longer_counts(suspect: Case) -> None:
    answer = suspect.decide("reject", subject="bob", reason="a typing error")
    assert answer.status_code == 200, answer.text
    assert suspect.official().status_code == 404
    suspect.ingest("1.1010", suspect.snap, source="beta")
    assert suspect.value() == "1.1010"


def test_a_restatement_that_fails_its_checks_waits_for_a_second_person(case: Case) -> None:
    case.ingest("1.1000", "2026-01-06T14:00:00Z")
    case.snap = "2026-01-06T14:00:00Z"
    case.restate("1.9000", subject="alice")
    assert case.value() == "1.1000"
    assert case.decide("approve", subject="alice").status_code == 403
    assert case.decide("approve", subject="bob").status_code == 200
    assert case.value() == "1.9000"


def test_a_late_claim_restates_and_says_that_it_was_late(case: Case) -> None:
    """A source with precedence speaks after another one was made official."""
    case.snap = "2026-01-07T14:00:00Z"
    case.ingest("1.1010", case.snap, source="beta")
    assert case.value() == "1.1010"
    case.ingest("1.1015", case.snap, source="alpha")
    # Its receipt shows the state of the value, which was official before it.
    until(lambda: case.value() == "1.1015", "the late claim to count")
    ((data,),) = case.twin.sql(
        "SELECT data FROM events WHERE type = 'DataRestated' AND data ->> 'reference_data_id' = %s", case.id
    )
    assert data["cause"] == "late-claim"
    assert data["before"]["value"] == "1.1010"
