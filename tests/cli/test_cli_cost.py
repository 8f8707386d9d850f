"""What an environment costs, held against calculations by hand."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from qis.cli.app import run
from qis.cli.cost import model

HOURS = 730


def usd(environment: str, *, claims: float = 0, queries: float = 0) -> model.Estimate:
    return model.estimate(environment, claims_per_second=claims, queries_per_second=queries)


@pytest.mark.parametrize("environment", model.environments())
def test_what_has_no_price_is_named_and_not_taken_for_nothing(environment: str) -> None:
    found = usd(environment, claims=10, queries=10)
    assert all(line.usd is None or line.usd > 0 for line in (*found.idle, *found.traffic))
    assert all((line.usd is None) == (line.basis == "unknown") for line in (*found.idle, *found.traffic))
    assert found.idle_usd == sum(u for _, u in found.choices())


def test_dev_costs_less_than_150_dollars_when_idle() -> None:
    assert 50 < usd("dev").idle_usd <= 150


def test_the_documents_sizes_cost_what_a_calculation_by_hand_says() -> None:
    """Each figure read off the deployment document and the settings, not off the bill."""
    hourly = (
        6 * Decimal(".384")  # compute nodes, m6i.2xlarge
        + 4 * Decimal(".252")  # memory nodes, r6i.xlarge
        + Decimal(".10")  # EKS
        + Decimal("1.038") + 2 * Decimal(".519")  # Aurora: writer r6g.2xlarge, two readers r6g.xlarge
        + 16 * Decimal(".015")  # RDS Proxy before 8 + 4 + 4 vCPUs
        + 6 * Decimal(".84")  # MSK, m5.2xlarge
        + 6 * Decimal(".6568") + 3 * Decimal(".1642") + 4 * Decimal(".3284")  # three caches, Valkey
        + 3 * Decimal(".167")  # OpenSearch, r6g.large
        + 27 * Decimal(".015")  # shards of Kinesis: 10 + 10 + 2 + 5
        + 25 * Decimal(".02")  # shards that keep for a week: 10 + 10 + 5
        + Decimal(".045")  # one NAT gateway
        + 3 * 3 * Decimal(".01")  # three endpoints in three zones
        + Decimal(".0225")  # load balancer
    )  # fmt: skip
    monthly = (
        6 * 1000 * Decimal(".10")  # MSK, 1 TB a broker
        + 3000  # Shield Advanced
        + 2 * 5 + 6  # two firewalls with six rules
        + Decimal("121.07")  # relay, two of 1,769 MB all month
        + 10 * 20 * Decimal(".08")  # disks of the nodes
        + 30  # keys, secrets, alarms, dashboards
    )  # fmt: skip
    by_hand = hourly * HOURS + monthly
    assert abs(usd("prod-reference").idle_usd - by_hand) < by_hand * Decimal("0.05")


def test_production_is_held_against_its_budget_and_each_dollar_has_a_choice() -> None:
    prod, reference = usd("prod"), usd("prod-reference")
    assert prod.budget_usd == reference.budget_usd == 5000
    assert prod.idle_usd < 5000 < reference.idle_usd
    assert reference.choices()[0][0] in {"kafka.brokers", "caches", "edge.shield"}


def test_traffic_costs_in_proportion() -> None:
    one, ten = usd("prod", claims=100), usd("prod", claims=1000)
    assert one.idle_usd == ten.idle_usd
    ratio = (ten.total_usd - ten.idle_usd) / (one.total_usd - one.idle_usd)
    assert abs(ratio - 10) < Decimal("0.01")


def test_a_line_by_hand() -> None:
    """A thousand claims a second are 2.628 billion in a month; a PUT unit costs $0.014 a million. A third as
    many official values, each billed as 5 KB, are 4,485 GB for Firehose at $0.029."""
    traffic = {t.what: t for t in usd("prod", claims=1000).traffic}
    assert traffic["claims in"].usd == Decimal("36.792")
    delivered = traffic["official values to the lake"].usd
    assert delivered is not None
    assert round(delivered, 2) == Decimal("130.07")


def test_listeners_by_hand() -> None:
    """Open 43,800 minutes a month, at $0.25 a million; a heartbeat in each, at $1 a million."""
    found = model.estimate("dev", claims_per_second=0, queries_per_second=0, listeners=20)
    lines = {line.what: line.usd for line in found.traffic}
    assert (lines["connections"], lines["messages"]) == (Decimal("0.219"), Decimal("0.876"))


def test_an_environment_without_a_bill_is_refused_by_name() -> None:
    with pytest.raises(model.UnknownEnvironment, match="'local' is not one of dev, dr, prod, prod-reference"):
        usd("local")


def test_a_price_that_nobody_listed_is_an_error() -> None:
    with pytest.raises(model.UnlistedPrice, match="moon"):
        model._priced(
            {"prices": {}, "unknown": {}}, service="s", what="w", price="moon.gb", quantity=1, choice="c"
        )


def test_every_price_has_a_source_and_a_date() -> None:
    table = json.loads((model.HERE / "prices.json").read_text(encoding="utf-8"))
    assert len(table["as_of"]) == 7
    for name, price in table["prices"].items():
        assert Decimal(price["usd"]) > 0, name
        assert price["basis"] in {"documented", "derived", "unverified"}, name
        assert len(price["source"]) > 20, name
    assert not set(table["prices"]) & set(table["unknown"])


def test_the_command_answers_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cost", "--env", "prod", "--rate", "100", "--queries", "20", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert Decimal(told["total_usd"]) > Decimal(told["idle_usd"])
    assert {line["service"] for line in told["traffic"]} >= {"Kinesis", "Lambda", "API Gateway"}
    assert any("answers" in line for line in told["unknown"])


def test_the_command_itemises_what_is_above_the_budget(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cost", "--env", "prod-reference"]) == 0
    told = capsys.readouterr().out
    assert "exceeded by" in told
    assert "edge.shield" in told


def test_an_unknown_environment_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cost", "--env", "moon"]) == 2
    assert "is not one of" in capsys.readouterr().err
