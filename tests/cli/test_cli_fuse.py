"""``qis fuse``: files in, decisions out."""

from __future__ import annotations

import csv
import gzip
import json
import random
from datetime import date, timedelta
from decimal import Decimal
from itertools import product
from pathlib import Path

import pytest
from cli_system import RunCli

ROWS = [
    f"2020-01-{day:02},{name},{source},{100 + day * (1 + len(name) % 3) % 9}.00"
    for day in range(1, 21)
    for name in ("AAA", "BBBB")
    for source in ("a", "b", "c", "d")
]
HEADER = "snap,reference_data_id,source,value"


@pytest.fixture
def claims(tmp_path: Path) -> Path:
    file = tmp_path / "claims.csv"
    file.write_text("\n".join([HEADER, *ROWS]) + "\n")
    return file


def decisions(file: Path) -> list[dict[str, str]]:
    with file.open() as text:
        return list(csv.DictReader(text))


def test_each_series_and_snap_has_a_decision(run_cli: RunCli, claims: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    ran = run_cli("fuse", str(claims), "--out", str(out), "--json")
    assert ran.status == 0
    found = decisions(out)
    assert ran.document["rows"] == len(ROWS)
    assert ran.document["official"] + ran.document["suspect"] == len(found) == 40
    assert [(r["snap"], r["reference_data_id"]) for r in found[:3]] == [
        ("2020-01-01", "AAA"),
        ("2020-01-01", "BBBB"),
        ("2020-01-02", "AAA"),
    ]
    assert found[0]["status"] == "suspect"
    assert found[-1]["status"] == "official"
    assert found[-1]["sources_used"] == "a|b|c|d"
    assert found[-1]["method"] == "consensus"


def test_the_order_of_rows_and_the_form_of_the_file_have_no_effect(
    run_cli: RunCli, claims: Path, tmp_path: Path
) -> None:
    run_cli("fuse", str(claims), "--out", str(tmp_path / "1.csv"))
    turned = tmp_path / "turned.csv.gz"
    turned.write_bytes(gzip.compress("\n".join([HEADER, *reversed(ROWS)]).encode()))
    lines = tmp_path / "lines.jsonl"
    names = HEADER.split(",")
    lines.write_text("\n".join(json.dumps(dict(zip(names, r.split(","), strict=True))) for r in ROWS))
    for i, file in enumerate((turned, lines)):
        out = tmp_path / f"other-{i}.csv"
        assert run_cli("fuse", str(file), "--out", str(out)).status == 0
        assert out.read_bytes() == (tmp_path / "1.csv").read_bytes()


def test_parquet_is_written_and_read(run_cli: RunCli, claims: Path, tmp_path: Path) -> None:
    from pyarrow import csv as pacsv
    from pyarrow import parquet

    parquet.write_table(pacsv.read_csv(claims), tmp_path / "claims.parquet")
    out = tmp_path / "out.parquet"
    assert run_cli("fuse", str(tmp_path / "claims.parquet"), "--out", str(out)).status == 0
    assert parquet.read_table(out).num_rows == 40


def claims_of(tmp_path: Path, *rows: str, header: str = HEADER) -> Path:
    file = tmp_path / "claims.csv"
    file.write_text("\n".join((header, *rows, "")), encoding="utf-8")
    return file


def report(out: Path) -> list[tuple[str, str, str, str]]:
    """Row, field, value and rule of every refused row."""
    return [(r["row"], r["field"], r["value"], r["rule"]) for r in decisions(Path(f"{out}.errors.csv"))]


def test_rows_that_cannot_be_used_are_told_of(run_cli: RunCli, tmp_path: Path) -> None:
    rows = ("2020-01-01,A,a,1.5", "2020-01-01,A,b,NaN", "2020-01-01,A", "2020-01-01,A,c,1.5")
    rows += ("2020-01-02T12:00:00,A,c,1.5", ",A,c,1.5", "2019-01-01,A,c,2.5")
    file, out = claims_of(tmp_path, *rows), tmp_path / "out.csv"
    ran = run_cli("fuse", str(file), "--out", str(out), "--json")
    assert ran.status == 1
    assert ran.document["unreadable"] == 4
    assert "row 2 cannot be used: value" in ran.err
    assert "row 5 cannot be used: snap: has no UTC offset" in ran.err
    assert "row 6 cannot be used: snap: is required" in ran.err
    assert report(out) == [
        ("2", "value", "NaN", "finite"),
        ("3", "row", "2020-01-01,A", "columns"),
        ("5", "snap", "2020-01-02T12:00:00", "aware-time"),
        ("6", "snap", "", "required"),
    ]
    assert ran.document["errors"] == f"{out}.errors.csv"
    assert [(r["rule"], r["rows"], r["first_row"]) for r in ran.document["reasons"]] == [
        ("finite", 1, 2),
        ("columns", 1, 3),
        ("aware-time", 1, 5),
        ("required", 1, 6),
    ]
    found = decisions(out)
    assert [(r["snap"], r["sources_used"]) for r in found] == [("2019-01-01", "c"), ("2020-01-01", "a|c")]
    file.write_text(f"{HEADER}\n{rows[0]}\n")
    assert run_cli("fuse", str(file), "--out", str(out)).status == 0
    assert not Path(f"{out}.errors.csv").exists()


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_name_is_a_name_whatever_it_means_elsewhere(run_cli: RunCli, tmp_path: Path, form: str) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    names = ("NA", "NULL", "nan", "None", "TRUE", "0", "1e5", "inf", "N-A")
    rows = [{"snap": "2020-01-01", "reference_data_id": n, "source": "null", "value": "1.5"} for n in names]
    file, out = tmp_path / f"claims.{form}", tmp_path / "out.csv"
    if form == "csv":
        file.write_text("\n".join([HEADER, *(",".join(r.values()) for r in rows)]))
    elif form == "jsonl":
        file.write_text("\n".join(map(json.dumps, rows)))
    else:
        parquet.write_table(pa.Table.from_pylist(rows), file)
    assert run_cli("fuse", str(file), "--out", str(out)).status == 0
    assert {r["reference_data_id"] for r in decisions(out)} == set(names)


def test_names_of_one_source_are_one_voice_or_none(run_cli: RunCli, tmp_path: Path) -> None:
    said = [("va", "1.10"), ("va ", "1.10"), ("\tva", "1.10"), ("VA", "1.10"), ("va\u00a0", "1.10")]
    said += [("vb", "1.20"), ("vc", "1.20")]
    file = claims_of(tmp_path, *(f"2020-01-01,A,{source},{value}" for source, value in said))
    out = tmp_path / "out.csv"
    assert run_cli("fuse", str(file), "--out", str(out), "--method", "vote").status == 1
    (found,) = decisions(out)
    assert (found["value"], found["sources_used"], found["sources_rejected"]) == (
        "1.20",
        "vb|vc",
        "va:outvoted",
    )
    assert [(row, rule) for row, _, _, rule in report(out)] == [("4", "name"), ("5", "name")]


def test_of_several_statements_of_a_source_the_last_counts(run_cli: RunCli, tmp_path: Path) -> None:
    def decided(*rows: str) -> str:
        file = claims_of(tmp_path, *rows, header=f"{HEADER},received_at")
        run_cli("fuse", str(file), "--out", str(tmp_path / "out.csv"))
        (found,) = decisions(tmp_path / "out.csv")
        return found["value"]

    first, second = "2020-01-01,A,a,9.5,", "2020-01-01,A,a,1.5,"
    noon, later = "2020-01-01T12:00:00Z", "2020-01-01T12:00:01Z"
    assert decided(first, second) == "1.5"
    assert decided(second, first) == "9.5"
    assert decided(first, second, first) == "9.5", "taken back"
    assert decided(first + later, second + noon) == "9.5", "received last, though it came first"
    assert decided(first + noon, second, first + noon) == "9.5"
    assert decided(first + later, second) == "1.5", "without a time it is as late as what came before"
    assert decided(second, first + noon, second + later) == "1.5"


class TestCurrency:
    HEADER = f"{HEADER},currency,unit"

    def rows(self, *declared: str) -> list[str]:
        return [f"2020-01-01,A,s{n},{n}.5,{d}" for n, d in enumerate(declared)]

    def fused(
        self, run_cli: RunCli, tmp_path: Path, *declared: str
    ) -> tuple[int, list[tuple[str, ...]], str]:
        file = claims_of(tmp_path, *self.rows(*declared), header=self.HEADER)
        ran = run_cli("fuse", str(file), "--out", str(tmp_path / "out.csv"))
        used = ("currency", "unit", "sources_used", "sources_rejected")
        found = [tuple(r[n] for n in used) for r in decisions(tmp_path / "out.csv")]
        voices = [
            (c, u, "|".join(sorted(v.partition(":")[0] for v in f"{a}|{b}".split("|") if v)))
            for c, u, a, b in found
        ]
        return ran.status, voices, ran.err

    def test_two_are_never_mixed(self, run_cli: RunCli, tmp_path: Path) -> None:
        status, found, err = self.fused(run_cli, tmp_path, "USD,", "EUR,", "EUR,", "USD,")
        assert (status, found) == (0, [("EUR", "", "s1|s2"), ("USD", "", "s0|s3")])
        assert "A is claimed in EUR and USD" in err

    def test_nor_are_units(self, run_cli: RunCli, tmp_path: Path) -> None:
        _, found, _ = self.fused(run_cli, tmp_path, "USD,kg", "USD,t", "EUR,t")
        assert found == [("EUR", "t", "s2"), ("USD", "kg", "s0"), ("USD", "t", "s1")]

    def test_who_names_none_means_the_only_one(self, run_cli: RunCli, tmp_path: Path) -> None:
        status, found, err = self.fused(run_cli, tmp_path, "USD,", ",", ",", "USD,")
        assert (status, found, err) == (0, [("USD", "", "s0|s1|s2|s3")], "")

    def test_who_names_none_of_two_is_refused(self, run_cli: RunCli, tmp_path: Path) -> None:
        status, found, _ = self.fused(run_cli, tmp_path, "USD,", ",", "EUR,")
        assert (status, found) == (1, [("EUR", "", "s2"), ("USD", "", "s0")])
        assert report(tmp_path / "out.csv") == [("2", "currency", "", "series-currency")]

    def test_a_file_of_one_is_decided_as_one_that_names_none(
        self, run_cli: RunCli, tmp_path: Path, claims: Path
    ) -> None:
        plain, declared = tmp_path / "plain.csv", tmp_path / "declared.csv"
        run_cli("fuse", str(claims), "--out", str(plain))
        file = claims_of(tmp_path, *(f"{row},USD" for row in ROWS), header=f"{HEADER},currency")
        run_cli("fuse", str(file), "--out", str(declared))
        assert [{**r, "currency": ""} for r in decisions(declared)] == decisions(plain)

    def test_what_is_no_currency_is_refused(self, run_cli: RunCli, tmp_path: Path) -> None:
        status, found, _ = self.fused(run_cli, tmp_path, "USD,", "usd,", "US Dollar,", "USD,\x07")
        assert (status, found) == (1, [("USD", "", "s0")])
        rules = [(row, field, rule) for row, field, _, rule in report(tmp_path / "out.csv")]
        assert rules == [
            ("2", "currency", "currency-code"),
            ("3", "currency", "currency-code"),
            ("4", "unit", "text"),
        ]


@pytest.mark.parametrize(
    ("name", "body", "rule"),
    [
        ("c.csv", f"{HEADER},value\n2020-01-01,A,a,1,2\n".encode(), "distinct-columns"),
        ("c.csv", f"{HEADER},snap\n2020-01-01,A,a,1,2020-01-01\n".encode(), "distinct-columns"),
        ("c.csv", f"{HEADER}\n2020-01-01,A,a,1\n".encode("utf-16"), "encoding"),
        ("c.jsonl", f"{HEADER}\n".encode("utf-16"), "encoding"),
        ("c.csv", HEADER.replace(",", ";").encode(), "required-column"),
        ("c.csv", HEADER.encode().replace(b"snap", b"sn\xffp"), "utf-8"),
    ],
)
@pytest.mark.parametrize("command", ["fuse", "detect"])
def test_a_file_of_no_use_is_refused_whole(
    run_cli: RunCli, tmp_path: Path, command: str, name: str, body: bytes, rule: str
) -> None:
    file, out = tmp_path / name, tmp_path / "out.csv"
    file.write_bytes(body)
    ran = run_cli(command, str(file), "--out", str(out), "--json")
    assert (ran.status, {v["rule"] for v in ran.document["violations"]}) == (1, {rule})
    assert not out.exists()


@pytest.mark.parametrize("command", ["fuse", "detect"])
def test_a_row_with_half_a_character_is_one_refused_row(
    run_cli: RunCli, tmp_path: Path, command: str
) -> None:
    file, out = tmp_path / "c.jsonl", tmp_path / "out.csv"
    row = {"snap": "2020-01-01", "reference_data_id": "A", "source": "a", "value": "1"}
    bad = [{**row, name: "x\ud83d"} for name in ("reference_data_id", "source", "unit", "attribute", "snap")]
    file.write_text("\n".join(map(json.dumps, [row, *bad])))
    ran = run_cli(command, str(file), "--out", str(out), "--json")
    assert (ran.status, ran.document["rows"], ran.document["unreadable"]) == (1, 6, 5)
    assert {rule for _, _, _, rule in report(out)} == {"unicode"}


@pytest.mark.parametrize("command", ["fuse", "detect"])
def test_a_mapping_reads_a_vendors_file(run_cli: RunCli, tmp_path: Path, command: str) -> None:
    file, mapping, out = tmp_path / "c.csv", tmp_path / "m.json", tmp_path / "out.csv"
    file.write_text("Datum;Kurs;Name\n05.01.2026;1,5;X\n06.01.2026;1.6;X\n")
    settings = {"delimiter": ";", "decimal": ",", "times": {"snap": {"format": "%d.%m.%Y"}}}
    columns = {"Datum": "snap", "Kurs": "value", "Name": "reference_data_id"}
    mapping.write_text(json.dumps({**settings, "columns": columns, "constants": {"source": "va"}}))
    ran = run_cli(command, str(file), "--out", str(out), "--mapping", str(mapping), "--json")
    assert (ran.status, ran.document["rows"], ran.document["unreadable"]) == (1, 2, 1)
    assert report(out) == [("2", "value", "1.6", "decimal")]


def test_a_negative_volume_is_refused(run_cli: RunCli, tmp_path: Path) -> None:
    file = tmp_path / "claims.csv"
    file.write_text(f"{HEADER},volume\n2020-01-01,A,a,1.5,-1\n2020-01-01,A,b,1.6,2\n")
    ran = run_cli("fuse", str(file), "--out", str(tmp_path / "out.csv"))
    assert "volume" in ran.err
    assert decisions(tmp_path / "out.csv")[0]["sources_used"] == "b"


def test_attributes_are_series_of_their_own(run_cli: RunCli, tmp_path: Path) -> None:
    file = tmp_path / "claims.csv"
    file.write_text(f"{HEADER},attribute\n2020-01-01,A,a,1.5,open\n2020-01-01,A,a,1.6,close\n")
    run_cli("fuse", str(file), "--out", str(tmp_path / "out.csv"))
    assert {(r["attribute"], r["value"]) for r in decisions(tmp_path / "out.csv")} == {
        ("open", "1.5"),
        ("close", "1.6"),
    }


def test_what_was_learned_is_the_method_of_a_rule(run_cli: RunCli, claims: Path, tmp_path: Path) -> None:
    learned = tmp_path / "learned.json"
    run_cli("fuse", str(claims), "--out", str(tmp_path / "1.csv"), "--learned", str(learned))
    (method,) = json.loads(learned.read_text()).values()
    assert method["weights"]["sources"]["a"][0] == 40
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({"rules": "r", "method": method}))
    assert run_cli("fuse", str(claims), "--out", str(tmp_path / "2.csv"), "--rules", str(rules)).status == 0


def test_what_a_source_seems_to_mean_is_proposed(run_cli: RunCli, claims: Path, tmp_path: Path) -> None:
    hundredfold = [r.replace(".00", "00.00") if ",d," in r else r for r in ROWS]
    claims.write_text("\n".join([HEADER, *hundredfold]))
    found = tmp_path / "proposals.json"
    run_cli("fuse", str(claims), "--out", str(tmp_path / "o.csv"), "--proposals", str(found))
    (proposal,) = json.loads(found.read_text())
    assert (proposal["what"], proposal["sources"], proposal["cases"]) == ("scale", ["d"], 40)
    assert "10^2" in proposal["detail"]


def test_an_attribute_may_have_rules_of_its_own(run_cli: RunCli, tmp_path: Path) -> None:
    file, rules, out = tmp_path / "claims.csv", tmp_path / "rules.json", tmp_path / "out.csv"
    rows = [
        f"2020-01-{day:02},A,{source},{value},{attribute}"
        for day in range(1, 11)
        for attribute in ("open", "close")
        for source, value in (("a", "1.50"), ("b", "1.50"), ("x", "1.60"), ("y", "1.60"), ("z", "1.60"))
    ]
    file.write_text("\n".join([f"{HEADER},attribute", *rows]))
    body = {"rules": "r", "attributes": {"open": {"copy_groups": [["x", "y", "z"]], "min_sources": 2}}}
    rules.write_text(json.dumps(body))
    ran = run_cli("fuse", str(file), "--out", str(out), "--rules", str(rules))
    assert ran.status == 0
    assert {(r["attribute"], r["value"]) for r in decisions(out)} == {("open", "1.50"), ("close", "1.60")}


def test_a_proposed_convention_is_taken_up_for_one_attribute(run_cli: RunCli, tmp_path: Path) -> None:
    """The example of ``docs/reconciliation.md``."""
    rng = random.Random(1)
    rows = []
    for i in range(60):
        day = date(2026, 1, 5) + timedelta(days=i)
        for name, attribute in product(("ACME", "ZETA"), ("open", "high", "low", "close")):
            price = rng.randint(9_900, 10_100)
            for source in ("alpha", "beta", "gamma", "delta", "omega"):
                said = price + (rng.randint(1, 40) if rng.random() < 0.15 else 0)
                if attribute == "open":
                    said = price + 40 * (source in ("delta", "omega"))
                rows.append(f"{day},{name},{attribute},{source},{said / 100}")
    file, rules, proposals = tmp_path / "claims.csv", tmp_path / "rules.json", tmp_path / "proposals.json"
    file.write_text("\n".join(["snap,reference_data_id,attribute,source,value", *rows]))
    plain, adopted = tmp_path / "plain.csv", tmp_path / "adopted.csv"
    run_cli("fuse", str(file), "--out", str(plain), "--proposals", str(proposals))
    (proposal,) = json.loads(proposals.read_text())
    assert (proposal["kind"], proposal["what"], proposal["cases"]) == ("open", "convention", 120)
    body = {"rules": "us-prices", "attributes": {proposal["kind"]: {"sources": proposal["sources"]}}}
    rules.write_text(json.dumps(body))
    assert run_cli("fuse", str(file), "--out", str(adopted), "--rules", str(rules)).status == 0
    before, after = decisions(plain), decisions(adopted)
    changed = [(b, a) for b, a in zip(before, after, strict=True) if b != a]
    assert {b["attribute"] for b, _ in changed} == {"open"}
    assert len(changed) == 120
    assert {Decimal(a["value"]) - Decimal(b["value"]) for b, a in changed} == {Decimal("0.40")}
    assert sum(a["status"] == "official" for _, a in changed) == 43


def test_identities_are_proposed_and_when_declared_they_decide(run_cli: RunCli, tmp_path: Path) -> None:
    rng = random.Random(1)
    rows = []
    for i in range(30):
        day = date(2026, 1, 5) + timedelta(days=i)
        for name in ("ACME", "ZETA"):
            bid, width = rng.randint(9_900, 10_100), rng.randint(1, 400)
            for source, slip in (("alpha", 0), ("beta", 0), ("gamma", 7 * (i > 27))):
                said = {"bid": bid, "ask": bid + width, "spread": width + slip}
                if source == "beta":
                    del said["spread"]
                rows += [f"{day},{name},{a},{source},{v / 100}" for a, v in said.items()]
    file, rules, proposals = tmp_path / "claims.csv", tmp_path / "rules.json", tmp_path / "proposals.json"
    file.write_text("\n".join(["snap,reference_data_id,attribute,source,value", *rows]))
    plain, coherent = tmp_path / "plain.csv", tmp_path / "coherent.csv"
    run_cli("fuse", str(file), "--out", str(plain), "--proposals", str(proposals))
    (proposal,) = json.loads(proposals.read_text())
    assert (proposal["what"], proposal["detail"]) == ("identity", "bid = difference(ask, spread)")
    identity = {"kind": "spread", "is": "difference", "of": ["ask", "bid"]}
    rules.write_text(json.dumps({"rules": "r", "identities": [identity]}))
    assert run_cli("fuse", str(file), "--out", str(coherent), "--rules", str(rules)).status == 0
    before, after = ([r for r in decisions(f) if r["attribute"] == "spread"] for f in (plain, coherent))
    assert {r["sources_used"] for r in after[-4:]} == {"alpha"}
    assert sum(float(r["confidence"]) for r in after) > sum(float(r["confidence"]) for r in before)


@pytest.mark.parametrize(
    ("attributes", "field", "rule"),
    [
        ({"opne": {}}, "attributes.opne", "known-attribute"),
        ({"open": {"max_move": "0.1"}}, "attributes.open.max_move", "known-field"),
        ({"open": {"extends": "other"}}, "attributes.open.extends", "known-field"),
        ({"open": {"tolerance": {"ticks": 1, "tick": "1"}}}, "attributes.open.tolerance", "relative"),
        (
            {"open": {"method": {"name": "accu", "publish_at": "1"}}},
            "attributes.open.method.publish_at",
            "probability",
        ),
        ({"open": []}, "attributes.open", "object"),
        ([], "attributes", "object"),
    ],
)
def test_rules_of_an_attribute_are_checked(
    run_cli: RunCli, tmp_path: Path, attributes: object, field: str, rule: str
) -> None:
    file, rules, out = tmp_path / "claims.csv", tmp_path / "rules.json", tmp_path / "out.csv"
    file.write_text(f"{HEADER},attribute\n2020-01-01,A,a,1.5,open\n2020-01-01,A,a,1.6,close\n")
    rules.write_text(json.dumps({"rules": "r", "attributes": attributes}))
    ran = run_cli("fuse", str(file), "--out", str(out), "--rules", str(rules), "--json")
    assert ran.status == 1
    assert [(v["field"], v["rule"]) for v in ran.document["violations"]] == [(field, rule)]
    assert not out.exists()


def test_an_attribute_in_the_name_has_rules_too(run_cli: RunCli, tmp_path: Path) -> None:
    file, rules, out = tmp_path / "claims.csv", tmp_path / "rules.json", tmp_path / "out.csv"
    rows = [f"2020-01-01,{name}.{a},s,1.5" for name in ("A", "B", "C") for a in ("open", "close")]
    file.write_text("\n".join([HEADER, *rows]))
    rules.write_text(json.dumps({"rules": "r", "attributes": {"open": {"method": "median"}}}))
    assert run_cli("fuse", str(file), "--out", str(out), "--rules", str(rules)).status == 0
    by_name = {r["reference_data_id"]: r["method"] for r in decisions(out)}
    assert by_name == {f"{n}.{a}": m for n in "ABC" for a, m in (("open", "median"), ("close", "consensus"))}


def test_bad_input_is_refused(run_cli: RunCli, claims: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    assert run_cli("fuse", str(claims), "--out", str(tmp_path / "out.txt")).status == 1
    assert run_cli("fuse", str(claims), "--out", str(out), "--method", "mean").status == 1
    assert run_cli("fuse", str(claims), "--out", str(out), "--train-until", "soon").status == 1
    claims.write_text("snap,source,value\n2020-01-01,a,1\n")
    assert run_cli("fuse", str(claims), "--out", str(out)).status == 1
    assert not out.exists()
