"""The fusion benchmark on data of its own making, and its measures by example."""

from __future__ import annotations

import csv
import gzip
import random
from decimal import Decimal
from pathlib import Path

import pytest

from benchmarks import fusion
from benchmarks.fusion import Decided, calibration_error, coverage, lower_bound, to_the_cent
from benchmarks.fusion_data import EXCHANGES, FAULTS, VENDORS, Past, vendors
from benchmarks.fusion_vote import vote
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
    begin = {result["metric"][:2] for result in document["results"]}
    assert begin == {"B1", "B2", "B3", "B4", "B5", "B6"}
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
