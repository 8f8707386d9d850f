"""Fusion by example: who is believed, what is learned, and how a rule carries it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from uuid import NAMESPACE_URL, uuid5

import pytest

from qis.application.explanation import explain
from qis.application.fusing import Plan, fuse, kinds_of, parse_plan
from qis.domain import events as ev
from qis.domain.errors import InvalidInput
from qis.domain.fusion.calibration import UNKNOWN, confidence
from qis.domain.fusion.consensus import Terms
from qis.domain.fusion.items import Claimed, Item, Verdict
from qis.domain.fusion.learned import Learned, learned_from, parse_learned
from qis.domain.fusion.memory import HORIZON, Memory, SourceRecord
from qis.domain.fusion.methods import METHODS, PUBLISH_AT, Settings, decide
from qis.domain.fusion.semantics import Semantics
from qis.domain.fusion.trades import Trade, partitioned_median
from qis.domain.reconciliation import Status, reconcile
from qis.domain.rules.methods import LEARNING, MEDIAN
from tests.support.builders import FIRST, claim, ingested, rules, series

Said = Mapping[str, str]
START = datetime(2026, 1, 5, tzinfo=UTC)


def item(said: Said, series: str = "s") -> Item:
    return Item(series, "price", [Claimed(s, Decimal(v)) for s, v in said.items()])


def run(snaps: Iterable[Said], method: str = "consensus") -> tuple[list[Verdict], Memory]:
    memory = Memory()
    decided = fuse(((i, [item(said)]) for i, said in enumerate(snaps)), Plan(method), memory)
    return [verdict for snap in decided for _, verdict in snap], memory


def prices(count: int) -> Iterable[str]:
    """Prices that move a little from snap to snap, in cents."""
    return (f"{100 + (i * 7 % 11) / 100:.2f}" for i in range(count))


def quoted(price: str, off: str = "0.05") -> Said:
    """Three good sources, and a feed with two outlets of its own that is off by something."""
    wrong = str(Decimal(price) + Decimal(off))
    return {"a": price, "b": price, "c": price, "feed": wrong, "outlet-1": wrong, "outlet-2": wrong}


def test_a_copied_feed_has_one_vote_once_it_was_seen_to_be_copied() -> None:
    past = [quoted(p) | {"d": p} for p in prices(30)]
    crowd = {"a": "100.00", "b": "100.00", "feed": "101.00", "outlet-1": "101.00", "outlet-2": "101.00"}
    plain, _ = run([*past, crowd], "vote")
    verdicts, memory = run([*past, crowd])
    assert plain[-1].value == Decimal("101.00")
    assert verdicts[-1].value == Decimal("100.00")
    assert memory.copies() == dict.fromkeys(("feed", "outlet-1", "outlet-2"), "feed")


def test_independent_sources_that_agree_are_no_copies() -> None:
    _, memory = run([quoted(p, "0.00") for p in prices(60)])
    assert memory.copies() == {}


def test_a_source_that_errs_often_loses_its_weight() -> None:
    wrong = (str(Decimal(p) + i % 3) for i, p in enumerate(prices(60)))
    _, memory = run([{"a": p, "b": p, "c": p, "bad": w} for p, w in zip(prices(60), wrong, strict=True)])
    weights = {v.source: v.weight for v in decide("accu", item(quoted("100")), memory)[0].voices}
    records = memory.kinds["price"].sources
    assert records["bad"].right == 20
    assert records["a"].right == records["a"].judged == 60
    assert weights["a"] > weights["feed"]


def test_a_value_that_repeats_while_the_series_moves_counts_less() -> None:
    *_, last = prices(30)
    verdicts, _ = run([*({"a": p, "b": p, "c": p} for p in prices(30)), {"a": last, "b": "100.50"}])
    assert verdicts[-1].value == Decimal("100.50")
    assert not verdicts[-1].official


def test_two_sources_that_leap_alike_do_not_outvote_two_that_do_not() -> None:
    claims = {"a": "100.03", "b": "100.03", "c": "10003", "d": "10003"}
    verdicts, _ = run([*(dict.fromkeys("abcd", p) for p in prices(30)), claims])
    assert verdicts[-1].value == Decimal("100.03")


def test_everybody_may_leap() -> None:
    verdicts, _ = run([*(dict.fromkeys("abcd", p) for p in prices(30)), dict.fromkeys("abcd", "200.00")])
    assert verdicts[-1].value == Decimal("200.00")


def test_where_nobody_agrees_exactly_near_is_enough_and_far_is_not() -> None:
    def spread(i: int) -> Said:
        return {s: f"{100 + (i * 3 + j * 5) % 7 / 100:.2f}" for j, s in enumerate("abcde")}

    verdicts, memory = run([*(spread(i) for i in range(40)), spread(40) | {"e": "103.00"}])
    last = verdicts[-1]
    assert {v.source: v.reason for v in last.voices}["e"] == "outvoted"
    assert last.tolerance > 0
    assert last.value is not None
    assert abs(last.value - 100) < 1
    assert memory.kinds["price"].beside.mean is not None


def test_nothing_traded_says_nothing() -> None:
    claims = [
        Claimed("a", Decimal(1), Decimal(5)),
        Claimed("b", Decimal(2), Decimal(0)),
        Claimed("c", Decimal(2), Decimal(0)),
    ]
    verdict, _, _ = decide("median", Item("s", "price", claims), Memory())
    assert verdict.value == 1
    assert [(v.source, v.reason) for v in verdict.rejected] == [("b", "no-volume"), ("c", "no-volume")]


def test_the_volume_decides_a_volume_weighted_median() -> None:
    claims = [
        Claimed(s, Decimal(v), Decimal(w)) for s, v, w in (("a", 1, 1), ("b", 2, "0.5"), ("c", 3, "1.6"))
    ]
    assert decide("volume-weighted-median", Item("s", "p", claims), Memory())[0].value == 3
    assert decide("median", Item("s", "p", claims), Memory())[0].value == 2


def test_a_first_snap_is_not_published() -> None:
    verdicts, _ = run([dict.fromkeys("abcdefgh", "1.10")])
    assert not verdicts[0].official
    assert verdicts[0].confidence < Decimal(str(UNKNOWN))


def test_confidence_grows_with_support_and_falls_with_a_rival() -> None:
    alone, pair, many = (confidence(n * 8000, 0, 0, known=True) for n in (1, 2, 9))
    assert alone < pair < many < 1
    assert confidence(72_000, 8_000, 1, known=True) > confidence(72_000, 40_000, 5, known=True)


def test_a_frozen_memory_is_not_learned_into() -> None:
    memory = Memory()
    snaps = [(i, [item(quoted(p))]) for i, p in enumerate(prices(10))]
    list(fuse(snaps, Plan(train_until=4), memory))
    assert memory.kinds["price"].sources["a"].judged == 5


def test_old_counts_fade() -> None:
    record = SourceRecord()
    for _ in range(HORIZON):
        record.judge(False, None)
    for _ in range(HORIZON):
        record.judge(True, None)
    assert record.judged <= HORIZON
    assert record.accuracy > 0.6


# semantics ---------------------------------------------------------------------------------------


def proposed(snaps: Iterable[Said]) -> set[tuple[str, tuple[str, ...]]]:
    memory, semantics = Memory(), Semantics()
    list(fuse(((i, [item(said)]) for i, said in enumerate(snaps)), Plan(), memory, semantics))
    return {(p.what, p.sources) for p in semantics.proposals(memory.copies())}


def odd_one(say: Callable[[str, str, str], str], count: int = 120) -> list[Said]:
    """Three sources that agree, and one that says something made of the value, that before and that after."""
    values = [str(Decimal(v) - Decimal("100.05")) if v != "100.05" else "0.5" for v in prices(count)]
    found = []
    for before, value, after in zip(values, values[1:], values[2:], strict=False):
        found.append({"a": value, "b": value, "c": value, "odd": say(value, before, after)})
    return found


def test_what_a_source_means_otherwise_is_proposed_with_its_name() -> None:
    assert ("scale", ("odd",)) in proposed(odd_one(lambda v, _, __: str(Decimal(v) * 1000)))
    assert ("ratio", ("odd",)) in proposed(odd_one(lambda v, _, __: str(Decimal(v) * Decimal("1.5"))))
    assert ("sign", ("odd",)) in proposed(odd_one(lambda v, _, __: v.removeprefix("-")))
    assert ("lag", ("odd",)) in proposed(odd_one(lambda _, before, __: before))
    assert ("lead", ("odd",)) in proposed(odd_one(lambda _, __, after: after))
    assert proposed(odd_one(lambda v, _, __: v)) == set()


def test_two_sources_off_together_for_one_kind_only_are_a_convention() -> None:
    def said(price: str) -> Said:
        other = str(Decimal(price) + 1)
        return {"a": price, "b": price, "c": price, "x": other, "y": other}

    memory, semantics = Memory(), Semantics()
    memory.pairs["x", "y"] = [0, 400]
    snaps = ((i, [item(said(p))]) for i, p in enumerate(prices(40)))
    list(fuse(snaps, Plan(), memory, semantics))
    assert [(p.what, p.sources, p.cases) for p in semantics.proposals(memory.copies())] == [
        ("convention", ("x", "y"), 40)
    ]


# trades ------------------------------------------------------------------------------------------


def trade(at: int, price: str, volume: str = "1") -> Trade:
    return Trade(at, Decimal(price), Decimal(volume))


def test_a_partitioned_median_is_the_mean_of_the_medians_of_its_parts() -> None:
    trades = [trade(0, "10"), trade(1, "11"), trade(2, "12"), trade(10, "20", "3"), trade(11, "99", "2")]
    assert partitioned_median(trades, 0, 20, 2) == Decimal("15.5")


def test_a_part_without_trades_is_left_out_and_a_window_without_any_has_no_rate() -> None:
    assert partitioned_median([trade(1, "10"), trade(99, "5")], 0, 20, 2) == 10
    assert partitioned_median([trade(1, "10", "0")], 0, 20, 2) is None


def test_halves_of_volume_give_the_mean_of_both_prices() -> None:
    assert partitioned_median([trade(1, "10"), trade(2, "11")], 0, 20, 1) == Decimal("10.5")


@pytest.mark.parametrize(("end", "parts"), [(20, 0), (20, 3), (0, 1)])
def test_parts_divide_the_window(end: int, parts: int) -> None:
    with pytest.raises(InvalidInput, match="does not divide"):
        partitioned_median([], 0, end, parts)


# plans -------------------------------------------------------------------------------------------


def test_the_kind_of_a_series_is_the_part_of_its_name_that_recurs() -> None:
    names = [f"{s}.{a}" for s in ("aapl", "ibm", "msft") for a in ("last_price", "open")]
    assert kinds_of(names)["ibm.last_price"] == "last_price"
    turned = [f"{a}:{s}" for s in ("aapl", "ibm", "msft") for a in ("last_price", "open")]
    assert kinds_of(turned)["open:aapl"] == "open"
    assert set(kinds_of(["EUR.USD", "EUR.JPY", "GBP.CHF", "BTCUSD"]).values()) == {""}


def test_a_plan_comes_from_a_rule_document() -> None:
    body = {
        "rules": "r",
        "method": {"name": "accu", "publish_at": "0.99"},
        "tolerance": {"bp": 5},
        "min_sources": 2,
    }
    plan = parse_plan(body | {"copy_groups": [["b", "a"]]}, None, None)
    assert plan.method == "accu"
    assert plan.settings.publish_at == Decimal("0.99")
    assert plan.settings.min_voices == 2
    assert plan.settings.terms.tolerance == pytest.approx(0.0005)
    assert plan.settings.terms.copies == {"a": "a", "b": "a"}
    other = parse_plan(body, "median", 7)
    assert (other.method, other.train_until) == ("median", 7)
    assert other.settings == Settings(Decimal("0.99"), 2, plan.settings.terms._replace(copies={}))


def test_an_attribute_has_what_it_sets_and_else_what_the_document_sets() -> None:
    learned = {"name": "consensus", **weights().as_json()}
    own = {"tolerance": None, "copy_groups": None, "method": {"name": "accu", "publish_at": "0.9"}}
    plan = parse_plan(
        {
            "rules": "r",
            "version": 3,
            "level": "group",
            "method": learned,
            "tolerance": {"bp": "5"},
            "min_sources": 2,
            "copy_groups": [["a", "b"]],
            "attributes": {"open": own, "close": {"tolerance": "0"}},
        },
        None,
        7,
    )
    opened, closed, other = plan.of("open"), plan.of("close"), plan.of("volume")
    assert other is plan
    assert opened.settings == Settings(Decimal("0.9"), 2, Terms(0.0005, {}))
    assert (opened.method, opened.learned.sources, opened.train_until) == ("accu", (), 7)
    assert (closed.method, closed.learned) == ("consensus", plan.learned)
    assert closed.settings.terms == plan.settings.terms._replace(tolerance=0.0)
    memory = Memory()
    for items in fuse([(0, [item({"a": "1", "b": "1"})])], plan, memory):
        assert items
    assert memory.kinds["price"].sources["feed"].judged == dict(plan.learned.sources)["feed"][0]


def test_what_it_takes_to_publish_one_attribute_leaves_the_others_as_they_are() -> None:
    def verdicts(rules: object) -> dict[str, list[Verdict]]:
        found: dict[str, list[Verdict]] = {"open": [], "close": []}
        said = ([Claimed(s, Decimal(price)) for s in "abcd"] for price in prices(30))
        snaps = ((i, [Item(f"s.{k}", k, claims) for k in found]) for i, claims in enumerate(said))
        for decided in fuse(snaps, parse_plan(rules, None, None), Memory()):
            for item_, verdict in decided:
                found[item_.kind].append(verdict)
        return found

    plain = verdicts(None)
    strict = verdicts({"rules": "r", "attributes": {"open": {"min_sources": 5}}})
    assert strict["close"] == plain["close"]
    assert any(v.official for v in plain["open"])
    assert not any(v.official for v in strict["open"])
    assert [v.value for v in strict["open"]] == [v.value for v in plain["open"]]


def convened(price: str) -> Said:
    """Three sources have the first trade of the day, and two the auction."""
    auction = str(Decimal(price) + Decimal("0.40"))
    return {"a": price, "b": price, "c": price, "x": auction, "y": auction}


def test_a_proposed_convention_is_adopted_for_one_attribute() -> None:
    def told(rules: object) -> tuple[list[tuple[str, tuple[str, ...]]], list[tuple[Item, Verdict]]]:
        memory, semantics = Memory(), Semantics()
        memory.pairs["x", "y"] = [0, 400]
        said = (
            (i, [Item(f"s.{kind}", kind, item(convened(p)).claims) for kind in ("open", "first")])
            for i, p in enumerate(prices(40))
        )
        decided = [d for snap in fuse(said, parse_plan(rules, None, None), memory, semantics) for d in snap]
        found = [(p.kind, p.sources) for p in semantics.proposals(memory.copies()) if p.what == "convention"]
        return found, decided

    found, before = told({"rules": "r"})
    assert ("open", ("x", "y")) in found
    sources = next(list(members) for kind, members in found if kind == "open")
    _, after = told({"rules": "r", "attributes": {"open": {"sources": sources}}})
    for (item_, was), (_, is_) in zip(before, after, strict=True):
        said = {v.source: v.value for v in was.voices}
        assert was.value == said["a"]
        assert is_.value == said["x" if item_.kind == "open" else "a"]
        reasons = {v.source: v.reason for v in is_.rejected}
        expected = dict.fromkeys("abc", "not-admitted") if item_.kind == "open" else None
        assert reasons == (expected or dict.fromkeys("xy", "outvoted"))


def test_where_nobody_may_speak_nothing_is_proposed_or_learned() -> None:
    plan, memory = parse_plan({"rules": "r", "sources": ["z"]}, None, None), Memory()
    (((_, verdict),),) = fuse([(0, [item({"a": "1", "b": "1"})])], plan, memory)
    assert (verdict.official, verdict.value) == (False, None)
    assert [v.reason for v in verdict.rejected] == ["not-admitted"] * 2
    assert memory.kinds == {}


@pytest.mark.parametrize(
    "body",
    [
        {"rules": "r", "sources": []},
        {"rules": "r", "method": "guess"},
        {"rules": "r", "max_move": "0.1"},
        {"rules": "r", "extends": "other"},
        {"rules": "r", "valid_from": "2026-01-01"},
        {"tolerance": "0"},
        {"rules": "r", "tolerance": {"absolute": "1"}},
        {"rules": "r", "method": {"name": "accu", "publish_at": "1"}},
        {"rules": "r", "method": {"name": "accu", "weights": {"sources": {}}}},
    ],
)
def test_what_cannot_be_done_with_a_file_is_refused(body: object) -> None:
    with pytest.raises(InvalidInput):
        parse_plan(body, None, None)


# rules -------------------------------------------------------------------------------------------


def weights() -> Learned:
    _, memory = run([quoted(p) | {"d": p} for p in prices(30)])
    return learned_from(memory, "price")


def test_every_learning_method_may_be_named_in_a_rule() -> None:
    assert set(LEARNING) | {MEDIAN} == set(METHODS)


def test_weights_survive_the_rule_document() -> None:
    learned = weights()
    assert learned.copies == (("feed", "outlet-1", "outlet-2"),)
    assert parse_learned(json.loads(json.dumps(learned.as_json())), "method") == learned


def test_the_running_system_decides_with_the_weights_of_its_rule() -> None:
    said = {"a": "100.00", "b": "100.00", "feed": "101.00", "outlet-1": "101.00", "outlet-2": "101.00"}
    claims = [claim(s, v) for s, v in said.items()]
    unlearned = reconcile(claims, rules(method="consensus", tolerance="0"), [])
    method = {"name": "consensus", **weights().as_json()}
    learned = reconcile(claims, rules(method=method, tolerance="0"), [])
    assert unlearned.value == Decimal("101.00")
    assert learned.value == Decimal("100.00")
    assert learned.status is Status.SUSPECT
    assert {r.claim.source: r.rule for r in learned.rejected}["feed"] == "outvoted"
    body = learned.as_json()
    assert set(body["weights"]) == set(said)
    assert [c["check"] for c in body["checks"]] == ["confidence"]


def test_a_file_is_fused_as_the_running_system_decides() -> None:
    said = {"a": "100.00", "b": "100.01", "feed": "101.00", "outlet-1": "101.00", "outlet-2": "101.00"}
    method = {"name": "consensus", **weights().as_json()}
    for tolerance, only in (("0", None), ("0.0005", None), ("0", ["b", "feed"])):
        document = {"rules": "r", "method": method, "tolerance": tolerance, "sources": only}
        plan = parse_plan(document, None, None)
        ((_, offline),) = next(fuse([(0, [item(said)])], plan, Memory()))
        running = reconcile(
            [claim(s, v) for s, v in said.items()],
            rules(method=method, tolerance=tolerance, sources=only),
            [],
        )
        assert (running.value, running.confidence) == (offline.value, offline.confidence)
        assert running.weights == {v.source: v.weight for v in offline.voices if v.reason != "not-admitted"}


def test_a_sure_value_is_official() -> None:
    method = {"name": "consensus", "publish_at": "0.999", "weights": weights().as_json()["weights"]}
    decision = reconcile([claim(s, "100.00") for s in "abcd"], rules(method=method, tolerance="0"), [])
    assert decision.status is Status.OFFICIAL
    assert decision.confidence is not None
    assert decision.confidence > PUBLISH_AT


def test_an_explanation_has_the_weights() -> None:
    method = {"name": "consensus", **weights().as_json()}
    claims = [claim(s, "100.00") for s in "abc"]
    decision = reconcile(claims, rules(method=method, tolerance="0"), []).as_json()
    new = [*map(ingested, claims), ev.NewEvent(ev.DATA_RECONCILED, decision)]
    stream = ev.value_stream(series().reference_data_id, FIRST.text)
    events = [
        ev.Event(uuid5(NAMESPACE_URL, str(i)), e.type, 1, stream, i + 1, START, "test", "", None, e.data)
        for i, e in enumerate(new)
    ]
    told = explain(series(), FIRST, events)
    assert told["decision"]["weights"] == decision["weights"]
    assert set(decision["weights"]) == {"a", "b", "c"}
    assert "In the vote, in units of log odds, the sources weighed: a " in told["explanation"]
