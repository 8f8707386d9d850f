"""Decisions on records: who gave which field, what stands in for a mix that does not fit, and what waits."""

from __future__ import annotations

from typing import Any

from qis.domain.kinds.fusing import reconcile_records
from qis.domain.reconciliation import Decision, Status
from tests.support import records
from tests.support.records import ACTION, CHAIN, CURVE, NOTICE, contract, symbol


def decide(
    id_: str, said: dict[str, Any], rules: dict[str, Any] | None = None, **settings: Any
) -> Decision[Any]:
    """The decision on what each source says."""
    structure = records.series(id_, **settings).structure
    assert structure is not None
    claims = [records.record_claim(id_, source, doc, settings) for source, doc in said.items()]
    return reconcile_records(claims, structure, records.rules(**(rules or {})))


def nodes(decision: Decision[Any]) -> dict[str, str]:
    """A curve by tenor."""
    return {n["tenor"]: n["value"] for n in decision.value.document["nodes"]}


def test_each_field_comes_from_those_who_have_it_right() -> None:
    """No source has the whole curve right, and the official one is right in every node."""
    right = {"3M": "4.10", "1Y": "4.00", "10Y": "4.35"}
    decision = decide(
        CURVE,
        {
            source: {"nodes": {**right, tenor: "4.90"}}
            for source, tenor in zip(("alpha", "beta", "gamma"), right, strict=True)
        },
    )
    assert (decision.status, decision.method, nodes(decision)) == (Status.OFFICIAL, "field-wise", right)
    assert decision.fields is not None
    told = {f["field"]: (f["sources"], f["others"]) for f in decision.fields["told"]}
    assert told["nodes/3M/value"] == (["beta", "gamma"], {"alpha": "4.90"})
    assert told["nodes/10Y/value"] == (["alpha", "beta"], {"gamma": "4.90"})


def test_an_element_that_fewer_than_half_list_is_not_in_the_record() -> None:
    common = {"3M": "4.10", "1Y": "4.00"}
    decision = decide(
        CURVE,
        {
            "alpha": {"nodes": {**common, "5Y": "4.20"}},
            "beta": {"nodes": common},
            "gamma": {"nodes": {**common, "2Y": "4.05"}},
            "delta": {"nodes": {**common, "2Y": "4.05"}},
        },
    )
    assert list(nodes(decision)) == ["3M", "1Y", "2Y"]


def test_a_bid_and_an_ask_of_different_sources_that_cross_are_not_put_together() -> None:
    only_ask = {"contracts": [{"symbol": symbol("C", 100), "ask": "1.20"}]}
    both = {"contracts": [contract("C", 100, "2.00", "2.20")]}
    decision = decide(CHAIN, {"alpha": only_ask, "beta": both, "gamma": only_ask})
    assert (decision.status, decision.method) == (Status.OFFICIAL, "single-source")
    assert decision.value.document == only_ask
    assert "valid-record" in decision.reason


def test_two_sources_that_differ_leave_the_field_to_a_person() -> None:
    decision = decide(CURVE, {"alpha": records.curve(), "beta": records.curve(**{"10Y": "4.50"})})
    assert decision.status is Status.SUSPECT
    assert "nodes/10Y/value" in decision.reason
    assert nodes(decision)["10Y"] == "4.35", "the better source's is proposed"


def test_the_tolerance_and_the_method_of_the_rules_decide_on_numbers() -> None:
    said = {
        source: records.curve(**{"10Y": value})
        for source, value in (("alpha", "4.34"), ("beta", "4.35"), ("gamma", "4.36"))
    }
    assert nodes(decide(CURVE, said, {"tolerance": "0.01"}))["10Y"] == "4.34"
    assert nodes(decide(CURVE, said, {"tolerance": "0.01", "method": "median"}))["10Y"] == "4.35"
    assert decide(CURVE, said, {"tolerance": "0.0001", "method": "median"}).status is Status.SUSPECT


def test_an_event_is_cancelled_where_most_say_so_and_names_of_all_sources_are_kept() -> None:
    def message(code: str, scheme: str) -> dict[str, Any]:
        return records.dividend(lifecycle=code, references={scheme: "1"})

    decision = decide(
        ACTION, {"alpha": message("U", "a"), "beta": message("D", "b"), "gamma": message("D", "c")}
    )
    document = decision.value.document
    assert (decision.status, document["state"]) == (Status.OFFICIAL, "cancelled")
    assert document["references"] == {"a": "1", "b": "1", "c": "1"}
    assert "lifecycle" not in document, "a message is a source's, not the event's"


def test_ratios_of_different_conventions_agree() -> None:
    split = {"type": "split", "ex_date": "2026-01-05"}
    decision = decide(
        ACTION,
        {
            "alpha": {**split, "ratio": "2-for-1"},
            "beta": {**split, "ratio": {"factor": "0.5"}},
            "gamma": {**split, "ratio": "1:2", "ratio_convention": "old_for_new"},
        },
    )
    assert decision.value.document["ratio"] == {"new": "2", "old": "1"}
    assert decision.fields == {"count": 4, "unanimous": 4, "told": [], "untold": 0}


def test_a_list_is_one_field_and_text_is_what_most_say() -> None:
    decision = decide(
        NOTICE,
        {
            "alpha": records.notice(tranches=[1], issuer="Exmaple plc"),
            "beta": records.notice(tranches=[1, 2]),
            "gamma": records.notice(tranches=[1, 2]),
        },
    )
    assert decision.value.document == records.notice()


def test_a_quorum_is_of_sources_and_copies_have_one_vote() -> None:
    same = dict.fromkeys(("alpha", "beta"), records.curve())
    assert decide(CURVE, same, {"min_sources": 3}).status is Status.INSUFFICIENT
    copies = {"min_sources": 2, "copy_groups": [["alpha", "beta"]]}
    assert decide(CURVE, same, copies).status is Status.INSUFFICIENT
