"""The running system says of claims that arrive oddly what ``qis detect`` says of the same file."""

from __future__ import annotations

import csv
from pathlib import Path

from tests.e2e.twin import Twin
from tests.support.builders import rules_body, series_body, source_body
from tests.support.waiting import until

SERIES = "FX.ODD.ARRIVAL"
FIELDS = ("snap", "reference_data_id", "source", "value", "received_at", "currency")


def rows() -> list[tuple[str, ...]]:
    """A month of days in order; then one of them again with another value, one before its time, and one that
    no longer declares its currency, twice."""
    days = [f"2024-02-{day:02d}" for day in range(1, 29)]
    received = {day: f"{day}T10:05:00Z" for day in days}
    regular = [(day, f"1.1{n:02d}0", received[day], "USD") for n, day in enumerate(days)]
    odd = [
        ("2024-02-10", "1.1095", "2024-03-01T09:00:00Z", "USD"),
        ("2024-03-05", "1.1310", "2024-03-02T10:00:00Z", "USD"),
        ("2024-03-06", "1.1320", "2024-03-06T10:05:00Z", ""),
        ("2024-03-06", "1.1320", "2024-03-06T10:06:00Z", ""),
    ]
    return [(f"{d}T10:00:00Z", SERIES, "alpha", v, r, c) for d, v, r, c in regular + odd]


def test_findings_of_arrival_are_exceptions_and_those_of_the_file(twin: Twin, tmp_path: Path) -> None:
    twin.register([rules_body(max_move=None)], [source_body()], [series_body(SERIES)])
    claims, findings = tmp_path / "claims.csv", tmp_path / "findings.csv"
    with claims.open("w", newline="") as file:
        csv.writer(file).writerows([FIELDS, *rows()])
    twin.qis("detect", str(claims), "--out", str(findings))
    with findings.open(newline="") as file:
        in_the_file = {(f["kind"], f["since"]) for f in csv.DictReader(file)}
    assert {k for k, _ in in_the_file} >= {"out_of_order", "future_time", "duplicate", "schema_drift"}
    twin.qis("ingest", str(claims))

    def open_findings() -> set[tuple[str, str]]:
        found = twin.sql(
            "SELECT details ->> 'kind', details ->> 'snap' FROM exceptions"
            " WHERE reference_data_id = %s AND status = 'open' AND details ->> 'source' IS NOT NULL",
            SERIES,
        )
        return {(kind, snap) for kind, snap in found}

    until(lambda: open_findings() == in_the_file, "the findings of the file")
