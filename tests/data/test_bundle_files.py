"""The bundled data: what the manifest promises is in the files, and the domain judges each row as listed."""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib.util
import json
import sys
from collections import Counter, defaultdict
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from qis.domain.calendars import calendar
from qis.domain.claims import Claim, parse_claim
from qis.domain.errors import InvalidInput
from qis.domain.reconciliation import Reference, Status, reconcile
from qis.domain.rules import RuleSet, parse_rules
from qis.domain.series import Series, parse_series, parse_source

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "data/bundle"
MANIFEST = json.loads((BUNDLE / "manifest.json").read_text())
FILES = [entry["file"] for entry in MANIFEST["claims"]]
README = (BUNDLE / "README.md").read_text()

Judged = tuple[str, str]
"""Outcome of a row, and the rule of its rejection."""


def _definitions(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((BUNDLE / name).read_text())
    return found


SERIES: dict[str, Series] = {s.reference_data_id: s for s in map(parse_series, _definitions("series.json"))}
SOURCES = {s.source: s for s in map(parse_source, _definitions("sources.json"))}
RULES: dict[str, RuleSet] = {r["rules"]: parse_rules(r, 1) for r in _definitions("rules.json")}


def rows_of(name: str) -> list[dict[str, str]]:
    with gzip.open(BUNDLE / name, "rt", encoding="ascii", newline="") as file:
        return list(csv.DictReader(file))


def faults() -> list[dict[str, str]]:
    with (BUNDLE / "faults.csv").open(encoding="ascii", newline="") as file:
        return list(csv.DictReader(file))


def judge(rows: list[dict[str, str]]) -> tuple[list[Judged], dict[int, Claim]]:
    """The outcome of each row, and the accepted claims by line (the header is line 1)."""
    seen: set[object] = set()
    outcomes: list[Judged] = []
    accepted: dict[int, Claim] = {}
    for line, row in enumerate(rows, start=2):
        try:
            claim = parse_claim(
                {k: v for k, v in row.items() if v}, SERIES, {s.source: s.active for s in SOURCES.values()}
            )
        except InvalidInput as refusal:
            outcomes.append(("rejected", refusal.violations[0].rule))
            continue
        outcomes.append(("duplicate" if claim.claim_id in seen else "accepted", ""))
        if claim.claim_id not in seen:
            accepted[line] = claim
        seen.add(claim.claim_id)
    return outcomes, accepted


@pytest.fixture(scope="module")
def judged() -> dict[str, tuple[list[Judged], dict[int, Claim]]]:
    return {name: judge(rows_of(name)) for name in FILES}


def test_the_manifest_names_every_file_with_its_hash() -> None:
    entries = MANIFEST["claims"] + MANIFEST["other_files"]
    for entry in entries:
        content = (BUNDLE / entry["file"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["bytes"] == len(content)
        if "sha256_unpacked" in entry:
            assert entry["sha256_unpacked"] == hashlib.sha256(gzip.decompress(content)).hexdigest()
    assert {e["file"] for e in entries} | {"manifest.json", "README.md"} == {f.name for f in BUNDLE.iterdir()}
    assert sum(f.stat().st_size for f in BUNDLE.iterdir()) < 1_000_000


@pytest.mark.parametrize("name", FILES)
def test_every_row_has_the_outcome_that_is_listed(
    name: str, judged: dict[str, tuple[list[Judged], dict[int, Claim]]]
) -> None:
    outcomes, _ = judged[name]
    listed = {int(f["line"]): (f["expected"], f["rule"]) for f in faults() if f["file"] == name and f["line"]}
    assert outcomes == [listed.get(line, ("accepted", "")) for line in range(2, len(outcomes) + 2)]
    entry = next(e for e in MANIFEST["claims"] if e["file"] == name)
    counted = Counter(outcome for outcome, _ in outcomes)
    assert entry["rows"] == len(outcomes)
    for outcome in ("accepted", "rejected", "duplicate"):
        assert entry[outcome] == counted[outcome]


def test_the_totals_account_for_every_row() -> None:
    totals = MANIFEST["totals"]
    for field, total in totals.items():
        assert total == sum(entry[field] for entry in MANIFEST["claims"])
    assert totals["rows"] == totals["accepted"] + totals["rejected"] + totals["duplicate"]


def test_every_listed_fault_is_in_its_file() -> None:
    rows = {name: rows_of(name) for name in FILES}
    for fault in faults():
        where = [(row["snap"], row["reference_data_id"]) for row in rows[fault["file"]]]
        found = (fault["snap"], fault["reference_data_id"])
        if fault["line"]:
            assert where[int(fault["line"]) - 2] == found
        else:
            assert fault["kind"] == "missing"
            assert found not in where


def test_just_the_claims_said_to_lose_differ_from_the_central_bank(
    judged: dict[str, tuple[list[Judged], dict[int, Claim]]],
) -> None:
    truth = {(c.reference_data_id, c.snap): c.value for c in judged["ecb-reference-rates.csv.gz"][1].values()}
    for name in FILES:
        if not name.startswith("sim-"):
            continue
        losing = {int(f["line"]) for f in faults() if f["file"] == name and f["loses"] == "yes"}
        for line, claim in judged[name][1].items():
            right = truth[claim.reference_data_id, claim.snap]
            tolerance = RULES[SERIES[claim.reference_data_id].rules].tolerance.amount
            outside = abs(claim.value - right) > tolerance * max(claim.value, right)
            assert outside == (line in losing), (name, line)


def test_reconciliation_chooses_the_central_bank_and_drops_the_losing_claims(
    judged: dict[str, tuple[list[Judged], dict[int, Claim]]],
) -> None:
    claims = defaultdict(list)
    losing: set[str] = set()
    for name, (_, accepted) in judged.items():
        listed = {f["line"] for f in faults() if f["file"] == name and f["loses"] == "yes"}
        for line, claim in accepted.items():
            claims[claim.reference_data_id, claim.snap].append(claim)
            if str(line) in listed:
                losing.add(claim.claim_id)
    contested = {key: group for key, group in claims.items() if len(group) > 1}
    assert len(contested) == 3 * 255
    for (series, _), group in contested.items():
        decision = reconcile(group, RULES[SERIES[series].rules], [])
        assert decision.status is Status.OFFICIAL
        assert decision.value == next(c.value for c in group if c.source == "ecb")
        rejected = {r.claim.claim_id for r in decision.rejected}
        assert rejected == losing & {c.claim_id for c in group}


def test_the_end_of_the_franc_floor_is_a_suspect(
    judged: dict[str, tuple[list[Judged], dict[int, Claim]]],
) -> None:
    series = SERIES["FX.EUR.CHF.ECB1415"]
    snap_time = series.semantics.snap_time
    assert snap_time is not None
    by_snap = {
        c.snap: c
        for c in judged["ecb-reference-rates.csv.gz"][1].values()
        if c.reference_data_id == series.reference_data_id
    }
    before, floor_gone = (by_snap[snap_time.on(date(2015, 1, day))] for day in (14, 15))
    decision = reconcile([floor_gone], RULES[series.rules], [Reference(before.snap, before.value)])
    assert decision.status is Status.SUSPECT
    assert decision.value == Decimal("1.028")


def test_at_most_one_vendor_is_wrong_about_a_series_and_day() -> None:
    wrong: dict[tuple[str, str], set[str]] = defaultdict(set)
    for fault in faults():
        wrong[fault["snap"][:10], fault["reference_data_id"]].add(fault["file"])
    assert all(len(files) == 1 for files in wrong.values())


def test_stale_runs_are_long_enough_to_be_found() -> None:
    runs = Counter((f["file"], f["reference_data_id"]) for f in faults() if f["kind"] == "stale")
    for (_, series), repeats in runs.items():
        stale_after = RULES[SERIES[series].rules].stale_after
        assert stale_after is not None
        assert repeats >= stale_after


def test_corrections_are_received_after_what_they_correct(
    judged: dict[str, tuple[list[Judged], dict[int, Claim]]],
) -> None:
    claims: dict[tuple[str, str, str], list[Claim]] = defaultdict(list)
    for fault in faults():
        if fault["kind"] == "late_correction":
            claim = judged[fault["file"]][1][int(fault["line"])]
            claims[fault["file"], fault["reference_data_id"], fault["snap"]].append(claim)
    assert len(claims) == 4
    for wrong, right in claims.values():
        assert right.received_at is not None
        assert wrong.received_at is not None
        assert right.received_at > wrong.received_at


@pytest.mark.parametrize(
    ("name", "bank", "last"),
    [("ecb-reference-rates.csv.gz", "ECB", date(2019, 12, 31)), ("fed-h10.csv.gz", "FED", date(2019, 1, 25))],
)
def test_real_rates_cover_just_the_days_of_their_calendar(name: str, bank: str, last: date) -> None:
    days: dict[str, list[date]] = defaultdict(list)
    for row in rows_of(name):
        days[row["reference_data_id"]].append(date.fromisoformat(row["snap"]))
    expected = list(calendar(bank).sessions(date(2015, 1, 1), last))
    assert set(days) == {i for i, s in SERIES.items() if s.semantics.calendar == bank}
    assert all(found == expected for found in days.values())


def test_rates_are_received_after_their_snap_and_in_time(
    judged: dict[str, tuple[list[Judged], dict[int, Claim]]],
) -> None:
    for _, accepted in judged.values():
        for claim in accepted.values():
            assert claim.received_at is not None
            delay = timedelta(microseconds=(claim.received_at.ns - claim.snap.ns) // 1000)
            allowed = RULES[SERIES[claim.reference_data_id].rules].timely_within
            assert allowed is not None
            assert timedelta(0) < delay
            assert delay <= allowed or claim.source.startswith("sim-")


def test_large_real_moves_are_listed_and_no_others(
    judged: dict[str, tuple[list[Judged], dict[int, Claim]]],
) -> None:
    found: set[tuple[str, str]] = set()
    for name in ("ecb-reference-rates.csv.gz", "fed-h10.csv.gz"):
        before: dict[str, Decimal] = {}
        for row in rows_of(name):
            series, value = row["reference_data_id"], Decimal(row["value"])
            rules = RULES[SERIES[series].rules]
            assert rules.max_move is not None
            low, high = rules.range
            assert low is not None
            assert high is not None
            assert low <= value <= high
            if series in before and abs(value / before[series] - 1) > rules.max_move:
                found.add((series, row["snap"]))
            before[series] = value
    assert found == {(move["reference_data_id"], move["snap"]) for move in MANIFEST["large_moves"]}
    assert ("FX.EUR.CHF.ECB1415", "2015-01-15") in found
    assert all(f"| `{series}` | {snap} |" in README for series, snap in found)


def test_definitions_fit_together() -> None:
    assert len(SERIES) == 12
    assert {s.rules for s in SERIES.values()} == set(RULES)
    assert {source for rules in RULES.values() for source in rules.precedence} == set(SOURCES)
    for name in FILES:
        for row in rows_of(name):
            series = SERIES.get(row["reference_data_id"])
            assert series is None or row["source"] in RULES[series.rules].precedence
    for source in SOURCES.values():
        assert (source.kind == "simulated") == source.source.startswith("sim-")


def test_thresholds_come_from_the_years_before_and_are_in_the_readme() -> None:
    for entry in MANIFEST["learned"]:
        assert entry["until"] < "2015-01-01"
        rules = RULES[SERIES[entry["reference_data_id"]].rules]
        assert rules.max_move == Decimal(entry["max_move"])
        assert rules.range == (Decimal(entry["low"]), Decimal(entry["high"]))
        assert rules.stale_after == entry["stale_after"]
        row = (
            f"| `{entry['reference_data_id']}` | {entry['largest_move']} | {entry['largest_move_on']} "
            f"| {entry['max_move']} | {entry['low']} to {entry['high']} | {entry['stale_after']} |"
        )
        assert row in README


def test_the_readme_counts_rows_and_faults_rightly() -> None:
    entries = {f"| `{entry['file']}` |": entry for entry in MANIFEST["claims"]} | {
        "| all |": MANIFEST["totals"]
    }
    for start, entry in entries.items():
        counts = " | ".join(str(entry[field]) for field in ("rows", "accepted", "rejected", "duplicate"))
        line = next(line for line in README.splitlines() if line.startswith(start))
        assert f"| {counts} |" in line
    for kind, rows in Counter(fault["kind"] for fault in faults()).items():
        line = next(line for line in README.splitlines() if line.startswith(f"| `{kind}`"))
        assert f"| {rows} |" in line


# --- the script itself, on rates made up for the test ------------------------------------------------------


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bundle_data", ROOT / "scripts/bundle_data.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _made_up_input(folder: Path, spike: str = "1.2") -> Path:
    quotes = ("USD", "GBP", "JPY", "CHF", "CAD", "AUD", "CNY")
    with (folder / "ECB_eurofxref_hist_9ccy.csv").open("w", encoding="ascii") as file:
        file.write(f"Date,{','.join(quotes)}\n")
        for number, day in enumerate(calendar("ECB").sessions(date(2013, 1, 1), date(2019, 12, 31))):
            value = spike if day == date(2016, 6, 24) else f"1.0{number * 37 % 90:02d}"
            file.write(f"{day},{','.join([value] * 6)},{'' if day.year == 2013 else value}\n")
    for series in ("DEXUSEU", "DEXUSUK", "DEXJPUS", "DEXCAUS", "DEXCHUS"):
        with (folder / f"FED_H10_{series}.csv").open("w", encoding="ascii") as file:
            file.write(f"DATE,{series}\n2014-12-30,1.1\n2014-12-31,1.2\n2015-01-01,.\n2015-01-02,1.3\n")
    return folder


def test_the_same_input_gives_the_same_bytes(script: ModuleType, tmp_path: Path) -> None:
    source = _made_up_input(tmp_path)
    assert script.bundle(source) == script.bundle(source)


def test_thresholds_do_not_see_the_bundled_years(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "calm").mkdir()
    (tmp_path / "wild").mkdir()
    calm = script.bundle(_made_up_input(tmp_path / "calm"))
    wild = script.bundle(_made_up_input(tmp_path / "wild", spike="9.9"))
    assert calm["ecb-reference-rates.csv.gz"] != wild["ecb-reference-rates.csv.gz"]
    assert calm["rules.json"] == wild["rules.json"]


def test_days_without_a_rate_are_no_claims(script: ModuleType, tmp_path: Path) -> None:
    files = script.bundle(_made_up_input(tmp_path))
    lines = gzip.decompress(files["fed-h10.csv.gz"]).decode().splitlines()
    assert len(lines) == 1 + 5
    assert lines[1] == "2015-01-02,FX.EUR.USD.H10,fed-h10,1.3,2015-01-05T16:15:00-05:00,USD"
