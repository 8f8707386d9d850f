"""Real prices in, official values out: the bundled data through the stream, the functions and the queues."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from tests.e2e.twin import ROOT, Twin

BUNDLE = ROOT / "data" / "bundle"
MANIFEST = json.loads((BUNDLE / "manifest.json").read_text())
EURUSD = "FX.EUR.USD.ECB1415"
VENDORS = ("sim-vendor-a.csv.gz", "sim-vendor-b.csv.gz", "sim-vendor-c.csv.gz")
BUNDLED = [s["reference_data_id"] for s in json.loads((BUNDLE / "series.json").read_text())]
CONSUMERS = ("consumer-strategy", "consumer-risk", "consumer-analytics")
Row = dict[str, str]


def rows_of(file: str) -> list[Row]:
    """Rows of a bundled file, without the empty fields."""
    with gzip.open(BUNDLE / file) as packed:
        return [{k: v for k, v in row.items() if v} for row in csv.DictReader(io.TextIOWrapper(packed))]


def ecb_rows() -> list[Row]:
    """The real rates of one series: all years of EUR/USD."""
    return [r for r in rows_of("ecb-reference-rates.csv.gz") if r["reference_data_id"] == EURUSD]


def expected(file: str) -> dict[str, int]:
    (entry,) = (e for e in MANIFEST["claims"] if e["file"] == file)
    found = {"accepted": "accepted", "rejected": "rejected", "duplicate": "duplicates"}
    return {ours: entry[theirs] for theirs, ours in found.items()}


@pytest.fixture(scope="module")
def loaded(twin: Twin) -> Iterator[Twin]:
    """The twin with the simulated vendors' year and the ECB's EUR/USD, drained."""
    definitions = {n: json.loads((BUNDLE / f"{n}.json").read_text()) for n in ("rules", "sources", "series")}
    twin.register(**definitions)
    twin.put_claims(ecb_rows(), "ecb")
    for file in VENDORS:
        twin.put_claims(rows_of(file), file)
    twin.accounted("ecb", len(ecb_rows()))
    for file in VENDORS:
        twin.accounted(file, len(rows_of(file)))
    twin.drain()
    return twin


@pytest.fixture(scope="module")
def messages(loaded: Twin) -> dict[str, list[dict[str, Any]]]:
    """What the consumers were sent, taken from their queues."""
    return {queue: loaded.take(queue) for queue in CONSUMERS}


@pytest.mark.parametrize("file", VENDORS)
def test_each_row_of_a_file_is_accounted_for_as_the_manifest_says(loaded: Twin, file: str) -> None:
    counts = loaded.load(file)
    assert counts == expected(file)
    assert sum(counts.values()) == len(rows_of(file))


def test_every_real_rate_is_accepted(loaded: Twin) -> None:
    assert loaded.load("ecb") == {"accepted": len(ecb_rows()), "duplicates": 0, "rejected": 0}


def test_rejected_rows_name_the_rule_that_the_list_of_faults_names(loaded: Twin) -> None:
    with (BUNDLE / "faults.csv").open() as file:
        faults = [f for f in csv.DictReader(file) if f["expected"] == "rejected"]
    wanted = {(f["file"], int(f["line"]) - 2): f["rule"] for f in faults if f["file"] in VENDORS}
    found = {
        (load, int(record_id.rpartition(":")[2])): violations[0]["rule"]
        for load, record_id, violations in loaded.sql(
            "SELECT load_id, record_id, violations FROM ingest_outcomes WHERE outcome = 'rejected'"
            " AND load_id = ANY(%s)",
            list(VENDORS),
        )
    }
    assert found == wanted


def test_one_value_reads_the_same_by_rest_sql_and_command_line(loaded: Twin) -> None:
    last = ecb_rows()[-1]
    by_rest = loaded.official(EURUSD, last["snap"]).json()
    ((by_sql,),) = loaded.sql(
        "SELECT value FROM official_values WHERE reference_data_id = %s AND superseded_at IS NULL"
        " ORDER BY snap_ns DESC LIMIT 1",
        EURUSD,
    )
    by_command = loaded.qis("official", EURUSD, "--snap", last["snap"])
    assert Decimal(by_rest["value"]) == by_sql == Decimal(last["value"])
    assert by_command == by_rest


def test_real_rates_become_official_unaltered(loaded: Twin) -> None:
    """The ECB comes first in the rules; what differs from it is a vendor's error."""
    official = dict(
        loaded.sql(
            "SELECT to_char(snap AT TIME ZONE 'Europe/Berlin', 'YYYY-MM-DD'), value FROM official_values"
            " WHERE reference_data_id = %s AND superseded_at IS NULL",
            EURUSD,
        )
    )
    given = {r["snap"]: Decimal(r["value"]) for r in ecb_rows()}
    assert {day: official.get(day) for day in given} == given


def test_each_event_reaches_each_consumer_as_a_cloud_event(
    loaded: Twin, messages: dict[str, list[dict[str, Any]]]
) -> None:
    stored = {
        str(event_id): (type_, data)
        for event_id, type_, data in loaded.sql(
            "SELECT event_id, type, data FROM events WHERE type IN ('DataPublished', 'DataRestated')"
            " AND data ->> 'reference_data_id' = ANY(%s)",
            BUNDLED,
        )
    }
    assert stored
    types = {"com.qis.data.published.v1": "DataPublished", "com.qis.data.restated.v1": "DataRestated"}
    for queue in CONSUMERS:
        seen = set()
        for message in messages[queue]:
            if message["detail"]["subject"] not in BUNDLED:
                continue  # of other tests
            event = JSONFormat().read(CloudEvent, json.dumps(message["detail"]))
            type_, data = stored[event.get_id()]
            assert types[event.get_type()] == type_
            assert message["detail-type"] == event.get_type()
            assert event.get_source() == "/qis/data-management"
            assert event.get_subject() == data["reference_data_id"]
            assert event.get_time() is not None
            assert event.get_data() == data
            assert event.get_extension("correlationid")
            seen.add(event.get_id())
        assert seen == stored.keys(), queue


def test_the_events_of_a_series_reach_a_consumer_in_order(
    loaded: Twin, messages: dict[str, list[dict[str, Any]]]
) -> None:
    by_value: dict[tuple[str, str], list[int]] = {}
    for message in messages["consumer-risk"]:
        data = message["detail"]["data"]
        key = data["reference_data_id"], data["snap"]
        by_value.setdefault(key, []).append(data["official_version"])
    assert all(versions == sorted(versions) for versions in by_value.values())


@pytest.mark.usefixtures("messages")
def test_the_same_rows_twice_change_nothing(loaded: Twin) -> None:
    file = VENDORS[0]
    last = ecb_rows()[-1]["snap"]
    before = loaded.official(EURUSD, last).content
    events = loaded.one("SELECT count(*) FROM events")
    again = rows_of(file)
    loaded.put_claims(again, "again")
    counts = loaded.accounted("again", len(again))
    assert counts == {
        "accepted": 0,
        "duplicates": len(again) - expected(file)["rejected"],
        "rejected": expected(file)["rejected"],
    }
    loaded.drain()
    assert loaded.one("SELECT count(*) FROM events") == events
    assert loaded.official(EURUSD, last).content == before
    assert all(loaded.take(queue) == [] for queue in CONSUMERS)
    assert loaded.load(file) == expected(file)


def test_the_command_line_loads_a_file_and_accounts_for_it(loaded: Twin, tmp_path: Path) -> None:
    file = VENDORS[1]
    copy = tmp_path / file
    copy.write_bytes((BUNDLE / file).read_bytes())
    told = loaded.qis("ingest", str(copy))
    counts = expected(file)
    assert told["rows"] == sum(counts.values())
    assert told["duplicates"] == counts["accepted"] + counts["duplicates"]
    assert (told["accepted"], told["rejected"]) == (0, counts["rejected"])


@pytest.mark.parametrize("model", ["official_values", "decisions", "exceptions", "catalogue"])
def test_a_rebuilt_read_model_equals_the_live_one(loaded: Twin, model: str) -> None:
    assert loaded.qis("rebuild", model, "--check")["equal"] is True
