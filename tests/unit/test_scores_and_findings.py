"""Quality scores of values and windows, and findings about stale sources and missing values."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from qis.domain.calendars import calendar
from qis.domain.findings import Fact, missing_values, stale_sources
from qis.domain.quality import Scores, mean, share, value_scores, window_scores
from qis.domain.reconciliation import Check
from qis.domain.snap import Snap
from tests.support.builders import EUR, FIXING, claim, daily, rules, snap

DAILY = daily().semantics.snap_time
assert DAILY is not None
ECB = calendar("ECB")


def check(passed: bool) -> Check:
    return Check("spike", passed, "0", "0", "")


# scores of a value -------------------------------------------------------------------------------


def test_the_four_scores_of_a_value() -> None:
    claims = [
        claim("alpha", "1.1", received=60),
        claim("alpha", "1.2", received=90),
        claim("beta", "1.2", received=4_000),
        claim("gamma", "9", received=None),
    ]
    agreeing = {c.claim_id for c in claims if c.value == Decimal("1.2")}
    rule_set = rules(precedence=["alpha", "beta", "epsilon"], timely_within="PT1H")
    scores = value_scores(claims, agreeing, [check(True), check(False)], rule_set)
    assert scores.accuracy == Decimal("0.5000"), "two of four claims agree"
    assert scores.completeness == Decimal("0.7500"), "three of the four sources spoke"
    assert scores.timeliness == Decimal("0.6667"), "two of three claims that say when"
    assert scores.consistency == Decimal("0.5000")
    assert scores.composite == Decimal("0.6042")


def test_sources_that_may_not_speak_count_in_no_score() -> None:
    claims = [claim("alpha", "1.1", received=60), claim("beta", "9", received=9_999)]
    rule_set = rules(precedence=["alpha", "beta"], sources=["alpha"], timely_within="PT1H")
    scores = value_scores(claims, {claims[0].claim_id}, [], rule_set)
    assert (scores.accuracy, scores.completeness, scores.timeliness) == (1, 1, 1)


def test_a_score_that_nothing_was_measured_for_does_not_exist() -> None:
    scores = value_scores([claim(received=None)], set(), [], rules())
    assert scores.timeliness is None
    assert scores.consistency == 1, "no check applied, none failed"
    assert scores.as_json()["timeliness"] is None
    assert value_scores([], set(), [], rules(precedence=[])).completeness is None


@pytest.mark.parametrize(("received", "score"), [(3_600, "1.0000"), (3_601, "0.0000"), (-60, "1.0000")])
def test_a_claim_is_timely_up_to_the_delay_of_the_rules(received: int, score: str) -> None:
    scores = value_scores([claim(received=received)], set(), [], rules(timely_within="PT1H"))
    assert scores.timeliness == Decimal(score)


def test_without_a_delay_in_the_rules_every_claim_is_timely() -> None:
    assert value_scores([claim(received=10**6)], set(), [], rules()).timeliness == 1


def test_a_share_and_a_mean_of_nothing_do_not_exist() -> None:
    assert share(0, 0) is None
    assert mean([]) is None
    assert share(1, 3) == Decimal("0.3333")
    assert mean([Decimal(1), Decimal(0), Decimal(0)]) == Decimal("0.3333")


# windows -----------------------------------------------------------------------------------------


def quality(accuracy: str | None, completeness: str | None = "1.0000") -> dict[str, Any]:
    return {"accuracy": accuracy, "completeness": completeness, "timeliness": None, "consistency": "1.0000"}


def test_an_empty_window_has_no_score_and_says_so() -> None:
    scores, count = window_scores([], 0, None)
    assert (scores, count) == (Scores(None, None, None, None), 0)
    assert scores.composite is None
    assert set(scores.as_json().values()) == {None}
    assert window_scores([], 0, 0) == (Scores(None, None, None, None), 0)


def test_a_window_in_which_every_expected_value_is_missing_is_incomplete() -> None:
    scores, count = window_scores([], 0, 5)
    assert (scores.completeness, scores.accuracy, count) == (Decimal("0.0000"), None, 0)
    assert scores.composite == Decimal("0.0000")


def test_the_scores_of_a_window_are_the_means_over_its_values() -> None:
    scores, count = window_scores([quality("1.0000"), quality("0.5000"), quality(None)], 3, 4)
    assert (scores.accuracy, scores.completeness, count) == (Decimal("0.7500"), Decimal("0.7500"), 3)
    assert scores.timeliness is None


def test_more_values_than_expected_are_no_more_than_complete() -> None:
    assert window_scores([quality("1")] * 3, 3, 2)[0].completeness == 1


def test_without_a_calendar_completeness_is_that_of_the_values() -> None:
    assert window_scores([quality("1", "0.5000"), quality("1", "1.0000")], 2, None)[
        0
    ].completeness == Decimal("0.7500")


# stale sources -----------------------------------------------------------------------------------


def facts(*rows: dict[str, str]) -> list[Fact]:
    return [Fact(snap(n), "official", row) for n, row in enumerate(rows)]


def stale(*rows: dict[str, str], after: int = 3, from_first: bool = True) -> list[tuple[str | None, Snap]]:
    return [(f.source, f.snap) for f in stale_sources(EUR, facts(*rows), after, from_first=from_first)]


def test_a_source_that_stands_still_while_another_moves_is_stale_from_the_given_length() -> None:
    rows = [{"alpha": "1", "beta": str(n)} for n in range(6)]
    assert stale(*rows) == [("alpha", snap(2))]
    (found,) = stale_sources(EUR, facts(*rows), 3, from_first=True)
    assert (found.kind, found.measured, found.threshold) == ("stale", "3", "3")
    assert "alpha has said 1 for 3 snaps" in found.detail


def test_one_snap_short_of_the_length_is_not_stale() -> None:
    assert stale({"alpha": "1", "beta": "1"}, {"alpha": "1", "beta": "2"}) == []


def test_a_market_that_stands_still_makes_nobody_stale() -> None:
    assert stale(*[{"alpha": "1", "beta": "1"}] * 5) == []


def test_a_source_alone_that_stands_still_is_stale() -> None:
    assert stale(*[{"alpha": "1"}] * 4) == [("alpha", snap(2))]


def test_a_move_begins_the_count_again() -> None:
    rows = [{"alpha": v} for v in ("1", "1", "2", "2", "2", "2")]
    assert stale(*rows) == [("alpha", snap(4))]


def test_a_run_that_may_have_begun_before_what_is_looked_at_was_found_then() -> None:
    rows = [{"alpha": v} for v in ("1", "1", "1", "2", "2", "2")]
    assert stale(*rows, from_first=False) == [("alpha", snap(5))]


def test_a_second_run_is_a_second_finding_and_finding_it_again_is_none() -> None:
    rows = [{"alpha": v} for v in ("1", "1", "1", "2", "2", "2")]
    found = stale_sources(EUR, facts(*rows), 3, from_first=True)
    assert [f.snap for f in found] == [snap(2), snap(5)]
    assert len({f.issue_id() for f in found}) == 2
    assert [f.issue_id() for f in stale_sources(EUR, facts(*rows), 3, from_first=True)] == [
        f.issue_id() for f in found
    ]


# missing values ----------------------------------------------------------------------------------


def fixings(*days: str) -> list[Fact]:
    assert DAILY is not None
    return [Fact(DAILY.on(date.fromisoformat(d)), "official", {}) for d in days]


def missing(*days: str, until: str | None = None) -> list[str]:
    assert DAILY is not None
    end = None if until is None else DAILY.on(date.fromisoformat(until))
    found = missing_values(FIXING, fixings(*days), ECB, DAILY, end)
    assert all(f.snap.local_date(DAILY.zone).isoformat() in f.detail for f in found)
    return [f.snap.local_date(DAILY.zone).isoformat() for f in found]


def test_a_session_without_a_value_between_two_that_have_one_is_missing() -> None:
    assert missing("2026-01-05", "2026-01-08") == ["2026-01-06", "2026-01-07"]


def test_weekends_and_holidays_are_not_missing() -> None:
    assert missing("2026-01-09", "2026-01-12") == []
    assert missing("2025-12-24", "2025-12-29") == [], "25 and 26 December are TARGET holidays"
    assert missing("2026-04-02", "2026-04-07") == [], "Good Friday and Easter Monday"
    assert missing("2025-12-30", "2026-01-02") == ["2025-12-31"]


def test_neighbouring_sessions_have_nothing_between_them() -> None:
    assert missing("2026-01-05", "2026-01-06") == []
    assert missing("2026-01-05") == []
    assert missing() == []


def test_values_due_by_now_are_missing_after_the_last_one() -> None:
    assert missing("2026-01-05", until="2026-01-07") == ["2026-01-06", "2026-01-07"]


def test_a_value_whose_hour_has_not_come_is_not_missing() -> None:
    assert DAILY is not None
    last = fixings("2026-01-05")
    a_minute_early = Snap(DAILY.on(date(2026, 1, 6)).ns - 60 * 10**9)
    assert missing_values(FIXING, last, ECB, DAILY, a_minute_early) == []


def test_a_series_that_fell_silent_long_ago_is_dormant_and_not_missing() -> None:
    assert len(missing("2026-01-05", until="2026-01-19")) == 10
    assert missing("2026-01-05", until="2026-01-20") == []


def test_a_finding_holds_nothing_back() -> None:
    (found,) = missing_values(FIXING, fixings("2026-01-05", "2026-01-07"), ECB, DAILY)
    body = found.as_json()
    assert (body["kind"], body["gate"], body["proposed"]) == ("missing", False, None)
    assert body["issue_id"] == str(found.issue_id())
    assert body["checks"][0]["passed"] is False
