"""Records through the API: registered, ingested, reconciled, published, read, explained, corrected."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from qis.adapters.postgres.projections import MODELS
from qis.adapters.postgres.rebuild import check
from qis.application.ingest import Delivery
from qis.application.publish import cloud_event
from qis.application.relay import backbone_record
from qis.domain.snap import parse_instant
from tests.api.world import BASE, World
from tests.support import records
from tests.support.builders import source_body
from tests.support.databases import FreshDatabase
from tests.support.records import ACTION, AT, CHAIN, CURVE, EXAMPLES, NOTICE, SURFACE, symbol

OFFICIAL, EXPLAIN, HISTORICAL = f"{BASE}/official", f"{BASE}/explain", f"{BASE}/historical"


@pytest.fixture
def kinds(world: World) -> World:
    """Five series, one of each kind, registered by REST."""
    world.register.rules(records.rules_body(), "admin", "setup")
    for name in ("alpha", "beta", "gamma"):
        world.register.source(source_body(name), "admin", "setup")
    for id_ in EXAMPLES:
        reply = world.send("PUT", "/api/v1/series/{id}", records.series_body(id_), id=id_)
        assert reply.status == 200, reply.text
    return world


def tell(world: World, id_: str, **by_source: Any) -> None:
    """What each source says, stored by REST and reconciled."""
    from qis.application.reconcile import Trigger

    for source, value in by_source.items():
        body = {"snap": AT, "source": source, "value": value}
        reply = world.send("POST", f"{BASE}/ingest", body, id=id_)
        assert reply.status == 202, reply.text
    world.reconciler.run([Trigger(id_, parse_instant(AT, "snap"), "load-1", None)])


@pytest.mark.parametrize("id_", EXAMPLES)
def test_each_kind_is_read_as_it_was_given_by_json_csv_history_and_event(
    kinds: World, id_: str, database: FreshDatabase
) -> None:
    tell(kinds, id_, alpha=EXAMPLES[id_])
    body = kinds.get(OFFICIAL, id_, snap=AT).json
    series = records.series(id_)
    assert series.structure is not None
    given = records.record_claim(id_, "alpha", EXAMPLES[id_]).value
    back = series.structure.parse(body["value"], parse_instant(AT, "snap"))
    assert series.structure.parts(back) == series.structure.parts(given)
    assert (body["kind"], body["status"], body["version"]) == (series.kind.value, "official", 1)
    page = kinds.get(HISTORICAL, id_, from_="2026-01-01T00:00:00Z", to="2026-02-01T00:00:00Z").json
    assert page["items"] == [body]
    table = kinds.get(OFFICIAL, id_, snap=AT, format="csv").text
    assert json.loads(next(csv.DictReader(io.StringIO(table)))["value"]) == body["value"]
    published = [e for e in kinds.log() if e.type == "DataPublished" and e.reference_data_id == id_]
    event = cloud_event(json.loads(backbone_record(published[0])[1]))
    assert event["data"]["value"] == body["value"]
    kinds.scoreboard.advance(datetime.now(UTC))
    with database.connect() as owner:
        assert all(check(owner, name).equal for name in MODELS)


def test_digits_survive_all_of_the_way(kinds: World) -> None:
    exact = "5.250000000000000001"
    tell(kinds, NOTICE, alpha=records.notice(coupon=exact))
    assert kinds.get(OFFICIAL, NOTICE, snap=AT).json["value"]["coupon"] == exact


def test_explain_says_which_source_gave_which_field(kinds: World) -> None:
    alpha = records.chain()
    beta = records.chain()
    gamma = records.chain()
    alpha["contracts"][0] = {**alpha["contracts"][0], "bid": "9.00", "ask": "9.20"}  # alone, and wrong
    tell(kinds, CHAIN, alpha=alpha, beta=beta, gamma=gamma)
    value = kinds.get(OFFICIAL, CHAIN, snap=AT).json["value"]
    assert {c["symbol"]: c["bid"] for c in value["contracts"]}[symbol("C", 95)] == "6.60"
    told = kinds.get(EXPLAIN, CHAIN, snap=AT).json
    fields = told["decision"]["fields"]
    assert (fields["count"], fields["unanimous"], fields["untold"]) == (20, 18, 0)
    bid = next(f for f in fields["told"] if f["field"] == f"contracts/{symbol('C', 95)}/bid")
    assert (bid["value"], bid["sources"], bid["others"]) == ("6.60", ["beta", "gamma"], {"alpha": "9.00"})
    assert bid["reason"] == "beta is first in precedence and agrees with 1 of 2 others"


def test_a_mix_that_does_not_fit_together_gives_way_to_one_source_that_does(kinds: World) -> None:
    # Each source alone has a smooth curve; the tenor that only one of them has does not fit the others'.
    tell(
        kinds,
        CURVE,
        alpha={"nodes": {"3M": "4.10", "1Y": "4.00"}},
        beta={"nodes": {"3M": "4.10", "1Y": "4.00", "10Y": "9.00"}},
    )
    body = kinds.get(OFFICIAL, CURVE, snap=AT).json
    assert body["method"] == "single-source"
    assert [n["tenor"] for n in body["value"]["nodes"]] == ["3M", "1Y"]
    assert body["sources"] == ["alpha", "beta"]  # both say so of these two tenors
    reason = kinds.get(EXPLAIN, CURVE, snap=AT).json["decision"]["reason"]
    assert "step: 5.00 from 1Y to 10Y" in reason
    assert "alpha has a record that does" in reason


def test_what_does_not_hold_together_waits_for_a_second_person_who_lets_it_out(kinds: World) -> None:
    kinked = {"nodes": {"3M": "4.10", "1Y": "9.00"}}
    tell(kinds, CURVE, alpha=kinked)
    missing = kinds.get(OFFICIAL, CURVE, snap=AT)
    assert (missing.status, missing.json["reason"]) == (404, "held-for-review")
    (item,) = kinds.get("/api/v1/exceptions").json["items"]
    assert item["proposed"]["nodes"][1] == {"tenor": "1Y", "value": "9.00"}
    reply = kinds.send("POST", "/api/v1/exceptions/{item}/approve", None, subject="bob", item=item["item"])
    assert reply.status == 200, reply.text
    assert kinds.get(OFFICIAL, CURVE, snap=AT).json["value"]["nodes"][1]["value"] == "9.00"


def test_a_corrected_record_is_a_new_version_and_the_old_answer_stays(kinds: World) -> None:
    tell(kinds, ACTION, alpha=records.dividend())
    before = kinds.get(OFFICIAL, ACTION, snap=AT)
    kinds.reads.settle()
    moment = kinds.reads.moment().clock.isoformat()
    right = records.dividend(amount="0.2600")
    restatement = {"snap": AT, "value": right, "reason": "misread"}
    reply = kinds.send("POST", f"{BASE}/restate", restatement, id=ACTION)
    assert reply.status == 200, reply.text
    after = kinds.get(OFFICIAL, ACTION, snap=AT).json
    assert (after["version"], after["value"]["amount"]) == (2, "0.2600")
    assert after["restatement"]["before"]["value"].startswith("record:")
    kinds.reads.settle()
    assert kinds.get(OFFICIAL, ACTION, snap=AT, asOf=moment).text == before.text
    assert kinds.get(OFFICIAL, ACTION, snap=AT, basis=before.json["basis"]).text == before.text
    invalid = {**restatement, "value": records.dividend(pay_date="2025-12-01")}
    refused = kinds.send("POST", f"{BASE}/restate", invalid, id=ACTION)
    assert refused.status == 400
    assert {v["rule"] for v in refused.json["violations"]} == {"date-order"}


def test_other_digits_of_the_same_numbers_change_nothing(kinds: World) -> None:
    tell(kinds, SURFACE, alpha=records.surface())
    padded = json.loads(json.dumps(records.surface()).replace('"0.24"', '"0.2400"'))
    tell(kinds, SURFACE, alpha=padded)
    assert kinds.get(OFFICIAL, SURFACE, snap=AT).json["version"] == 1


def test_a_bad_record_is_refused_naming_each_field_and_rule(kinds: World) -> None:
    bad = records.chain()
    bad["contracts"][0]["bid"] = "7.00"
    bad["contracts"][1]["symbol"] = "XMPL  250220P00095000"
    bad["contracts"][2]["volume"] = "1.5"
    body = {"snap": AT, "source": "alpha", "value": bad}
    reply = kinds.send("POST", f"{BASE}/ingest", body, id=CHAIN)
    assert reply.status == 400
    assert {(v["field"], v["rule"]) for v in reply.json["violations"]} == {
        ("value.contracts[0].bid", "bid-not-above-ask"),
        ("value.contracts[1].symbol", "expiry-after-snap"),
        ("value.contracts[2].volume", "whole-number"),
    }


def test_settings_of_a_registered_series_stay(kinds: World) -> None:
    changed = records.series_body(CURVE, max_step="2")
    reply = kinds.send("PUT", "/api/v1/series/{id}", changed, id=CURVE)
    assert reply.status == 400
    assert reply.json["violations"][0]["rule"] == "semantics-fixed"


def test_a_record_of_the_stream_is_the_same_with_numbers_or_text_or_as_a_cell_of_a_file(kinds: World) -> None:
    numbers = json.dumps(records.record_body(NOTICE, "alpha", records.notice(coupon=None)))
    numbers = numbers.replace('"coupon": null', '"coupon": 5.250')
    text = json.dumps(records.record_body(NOTICE, "alpha", records.notice()))
    cell = json.dumps(records.record_body(NOTICE, "alpha", json.dumps(records.notice())))
    batch = [Delivery(f"r{i}", "load", p.encode()) for i, p in enumerate((numbers, text, cell))]
    assert kinds.ingest.deliveries(batch) == {
        "accepted": 1,
        "duplicate": 2,
        "rejected": 0,
        "redelivered": 0,
    }


def test_two_people_who_correct_a_record_unseen_by_each_other_are_siblings_to_review(kinds: World) -> None:
    tell(kinds, ACTION, alpha=records.dividend())
    for author, amount in (("alice", "0.26"), ("bob", "0.27")):
        body = {
            "snap": AT,
            "value": records.dividend(amount=amount),
            "reason": "misread",
            "official_version": 1,
        }
        reply = kinds.send("POST", f"{BASE}/restate", body, subject=author, id=ACTION)
        assert reply.status == 200, reply.text
    (item,) = kinds.get("/api/v1/exceptions").json["items"]
    assert sorted(o["value"]["amount"] for o in item["siblings"]) == ["0.26", "0.27"]
    approve = "/api/v1/exceptions/{item}/approve"
    other = kinds.send("POST", approve, {"value": records.dividend(amount="0.28")}, "cid", item=item["item"])
    assert (other.status, other.json["violations"][0]["rule"]) == (400, "waiting-value")
    chosen = {"value": records.dividend(amount="0.270")}
    done = kinds.send("POST", approve, chosen, "cid", item=item["item"])
    assert [e["type"] for e in done.json["events"]] == ["QualityApproved", "DataRestated"]
    assert kinds.get(OFFICIAL, ACTION, snap=AT).json["value"]["amount"] == "0.27"


def test_a_person_may_give_no_larger_record_than_a_source_however_numbers_are_written(kinds: World) -> None:
    tell(kinds, NOTICE, alpha=records.notice())
    body = {"snap": AT, "value": records.notice(tranches=list(range(60_000))), "reason": "too much"}
    reply = kinds.send("POST", f"{BASE}/restate", body, id=NOTICE)
    assert reply.status == 400, reply.text[:300]
    (violation,) = reply.json["violations"]
    assert (violation["field"], violation["rule"]) == ("value", "max-bytes")
