"""The fusion benchmark on data of its own making, and its measures by example."""

from __future__ import annotations

import csv
import gzip
import random
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from benchmarks import fusion
from benchmarks.fusion import bounded_threshold, calibration_error, coverage, lower_bound, most_expected
from benchmarks.fusion_data import EXCHANGES, FAULTS, VENDORS, Past, vendors
from benchmarks.fusion_heldout import CONSTANTS, set_to
from benchmarks.fusion_judge import Decided, to_the_cent
from benchmarks.fusion_vote import vote
from benchmarks.fusion_worlds import WORLDS, World, made
from qis.domain.errors import InvalidInput
from qis.domain.fusion.items import Verdict

DAYS = [f"2020-01-{day:02}" for day in range(1, 13)]


def decided(snap: str, sure: str, right: bool) -> Decided:
    verdict = Verdict(True, Decimal(1), Decimal(sure), "m", "", (), Decimal(0))
    return Decided(snap, "s", verdict, right, 0.0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three sources, seven exchanges and three rates over twelve days, shaped like the real data."""
    rng = random.Random(1)
    stock, bitcoin, fx = (
        tmp_path / p for p in ("fusion_stock", "multisource/btcusd_daily", "multisource/fx")
    )
    for folder in (stock, bitcoin, fx):
        folder.mkdir(parents=True)
    with (
        gzip.open(stock / "claims_x.csv.gz", "wt") as claims,
        gzip.open(stock / "gold_majority_x.csv.gz", "wt") as gold,
    ):
        claims.write("day,object,source,attribute,value\n")
        gold.write("day,object,attribute,value\n")
        for day in DAYS:
            for name in ("aa", "bb"):
                for kind in ("last_price", "prev_close", "change_pct"):
                    claims.write(f"{day},{name},x,{kind},1.5\n")
                price = f"{rng.uniform(10, 20):.2f}"
                gold.write(f"{day},{name},open_price,{price}\n")
                for source in ("x", "y", "z", "nasdaq-com"):
                    said = price if source != "z" else f"{rng.uniform(10, 20):.2f}"
                    claims.write(f"{day},{name},{source},open_price,{said}\n")
    (stock / "gold_nasdaq_x.csv.gz").write_bytes((stock / "gold_majority_x.csv.gz").read_bytes())
    for file in EXCHANGES.values():
        rows = [f"{d},BTCUSD,1,1,1,{rng.uniform(990, 1010):.2f},5,5000" for d in DAYS]
        header = "Date,Symbol,Open,High,Low,Close,Volume BTC,Volume USD"
        (bitcoin / file).write_text("\n".join(["Created on 1", header, *rows]) + "\n")
    (bitcoin / "coinmetrics_PriceUSD_btc.csv").write_text(
        "date,PriceUSD\n" + "".join(f"{d},1000\n" for d in DAYS)
    )
    (fx / "ECB_x.csv").write_text(
        "Date,USD,GBP\n" + "".join(f"{d},1.1{i},0.8{i}\n" for i, d in enumerate(DAYS))
    )
    (fx / "FED_H10_X.csv").write_text(
        "DATE,DEXX\n" + "".join(f"{d},1.3{i}\n" for i, d in enumerate(DAYS)) + "2020-02-01,.\n"
    )
    return tmp_path


def test_a_quick_run_measures_everything(data: Path) -> None:
    document = fusion.run({"quick": "true", "data": str(data)})
    assert document["seeds"]
    begin = {result["metric"].split()[0] for result in document["results"]}
    assert begin == {"B1", "B2", "B3", "B4", "B5", "B6", "held", "constant", "coherence,", "world"}
    by_name = {result["metric"]: result["value"] for result in document["results"]}
    assert by_name["B1 majority accuracy, consensus"] == 1.0


def test_it_needs_data() -> None:
    with pytest.raises(InvalidInput, match="no directory"):
        fusion.run({"quick": "true"})


def test_the_lower_bound_is_that_of_clopper_and_pearson() -> None:
    assert lower_bound([decided("1", "1", True)] * 29_957) == pytest.approx(0.9999, abs=1e-8)
    mixed = [decided("1", "1", i > 0) for i in range(100)]
    assert lower_bound(mixed) == pytest.approx(0.953443, abs=1e-5)  # 5 % quantile of Beta(99, 2)


def test_a_threshold_is_learned_from_the_days_before_only() -> None:
    first = [decided("1", "0.9", True), decided("1", "0.8", False), decided("1", "0.7", True)]
    second = [decided("2", "0.95", True), decided("2", "0.85", False), decided("2", "0.9", False)]
    assert coverage([*first, *second], 0.999) == (pytest.approx(2 / 3), 0.5)


def test_confidence_that_is_accuracy_has_no_calibration_error() -> None:
    honest = [decided("1", "0.75", i % 4 > 0) for i in range(80)]
    assert calibration_error(honest) == pytest.approx(0)
    assert calibration_error([d._replace(right=True) for d in honest]) == pytest.approx(0.25)


def test_cents_and_signs() -> None:
    assert to_the_cent("open_price", Decimal("25.2275"), Decimal("25.23"))
    assert not to_the_cent("open_price", Decimal("-1"), Decimal("1"))
    assert to_the_cent("change_pct", Decimal("-1"), Decimal("1"))


@pytest.mark.parametrize("kind", FAULTS)
def test_every_fault_gives_another_value(kind: str) -> None:
    value = Decimal("1.2345")
    past = Past(value, Decimal("1.2"), Decimal("1.3"), Decimal("130"), random.Random(3))
    assert FAULTS[kind](past) != value


def test_injection_is_repeatable_and_leaves_most_claims_alone() -> None:
    truth = {"a": {f"{2000 + i}": Decimal("1.5") + Decimal(i) / 100 for i in range(200)}}
    table, gold = vendors(truth, random.Random(5), noise=0)
    assert (table, gold) == vendors(truth, random.Random(5), noise=0)
    claims = [(row.value, gold[snap, "a"]) for snap, rows in table for row in rows]
    right = sum(Decimal(value) == truth_ for value, truth_ in claims)
    assert 0.9 * len(claims) < right < len(claims) < 200 * len(VENDORS)


def test_the_vote_of_the_baseline_takes_the_commonest(tmp_path: Path) -> None:
    file = tmp_path / "c.csv"
    rows = ["2020-01-01,A,a,1.5", "2020-01-01,A,b,1.5", "2020-01-01,A,c,9", "2020-01-02,A,a,2"]
    file.write_text("\n".join(["snap,reference_data_id,source,value", *rows]) + "\n")
    vote(str(file), str(tmp_path / "o.csv"))
    with (tmp_path / "o.csv").open() as text:
        assert [row[2] for row in list(csv.reader(text))[1:]] == ["1.5", "2"]


def test_the_bound_of_a_count_is_that_of_garwood() -> None:
    assert most_expected(0) == pytest.approx(2.99573, abs=1e-5)
    assert most_expected(2) == pytest.approx(6.29579, abs=1e-5)


def test_errors_of_the_past_raise_the_bounded_threshold() -> None:
    clean = [decided("1", sure, True) for sure in ["0.99999"] * 90 + ["0.9"] * 10]
    assert bounded_threshold(clean, 0.999) == Decimal("0.99999")
    assert bounded_threshold(clean, 0.8) == Decimal("0.9")
    spoiled = [d._replace(right=False) for d in clean[:9]] + clean[9:]
    assert bounded_threshold(spoiled, 0.999) == Decimal("0.99999")
    assert bounded_threshold(spoiled, 0.8) == Decimal("0.9")
    assert bounded_threshold(spoiled, 0.9999) > 1


def test_a_constant_is_changed_for_a_while_only() -> None:
    for constant in CONSTANTS:
        now = getattr(constant.module, constant.name)
        with set_to(constant, 2.0):
            assert getattr(constant.module, constant.name) > now
        assert getattr(constant.module, constant.name) == now


@pytest.mark.parametrize("world", WORLDS, ids=lambda w: w.name)
def test_a_world_is_the_same_for_a_seed(world: World) -> None:
    small = replace(world, series=3, snaps=4)
    table, gold = made(small, random.Random(5))
    assert (table, gold) == made(small, random.Random(5))
    assert len(gold) == 12
    right = [r for _, rows in table for r in rows]
    assert {r.source for r in right} <= {f"source-{i:02}" for i in range(world.sources)}
