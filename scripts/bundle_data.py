"""Write ``data/bundle``: real exchange rates, simulated vendors with known faults, and their definitions.

The input folder holds ``ECB_eurofxref_hist_9ccy.csv`` (the ECB's euro reference rates since 1999: ``Date``
and one column for each currency) and ``FED_H10_<series>.csv`` (Federal Reserve H.10 rates by FRED series,
such as ``DEXUSEU``: ``DATE`` and the rate). The same input gives the same bytes.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from decimal import ROUND_CEILING, Context, Decimal
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from qis.domain.calendars import calendar

FIRST, LAST = date(2015, 1, 1), date(2019, 12, 31)
"""What is bundled. Thresholds are learned from what lies before, never from this."""

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
ECB, FED = "ecb", "fed-h10"
VENDORS: Final = ("sim-vendor-a", "sim-vendor-b", "sim-vendor-c")
VENDOR_YEAR: Final = 2019
VENDOR_DECIMALS: Final = {"USD": 6, "GBP": 6, "JPY": 4}
NOISE: Final = Decimal("0.00004")
"""Largest relative distance of a faultless vendor value from the ECB's; the distribution is triangular."""
TOLERANCE: Final = Decimal("0.0005")
MOVE_MARGIN: Final = Decimal("1.5")
SHORTEST_STALE_RUN: Final = 5
SEED: Final = "qis-bundle-1"

OFFICIAL_FIELDS: Final = ("snap", "reference_data_id", "source", "value", "received_at", "currency")
VENDOR_FIELDS: Final = (*OFFICIAL_FIELDS, "unit")
FAULT_FIELDS: Final = (
    *("file", "line", "snap", "reference_data_id", "kind", "expected", "rule", "loses", "detail"),
)

_EXACT = Context(prec=28)


@dataclass(frozen=True, slots=True)
class Pair:
    """One bundled currency pair of one official source."""

    source: str
    base: str
    quote: str
    column: str
    """Where the input has it: a currency column of the ECB file, or a FRED series."""

    @property
    def reference_data_id(self) -> str:
        return f"FX.{self.base}.{self.quote}.{'ECB1415' if self.source == ECB else 'H10'}"

    @property
    def rules(self) -> str:
        return f"{'ecb' if self.source == ECB else 'h10'}-{self.base}-{self.quote}".lower()


ECB_PAIRS: Final = tuple(
    Pair(ECB, "EUR", quote, quote) for quote in ("USD", "GBP", "JPY", "CHF", "CAD", "AUD", "CNY")
)
FED_PAIRS: Final = (
    Pair(FED, "EUR", "USD", "DEXUSEU"),
    Pair(FED, "GBP", "USD", "DEXUSUK"),
    Pair(FED, "USD", "JPY", "DEXJPUS"),
    Pair(FED, "USD", "CAD", "DEXCAUS"),
    Pair(FED, "USD", "CNY", "DEXCHUS"),
)
PAIRS: Final = (*ECB_PAIRS, *FED_PAIRS)

History = dict[date, str]
"""A published value for each day, in the digits of the publisher."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a claims file."""

    snap: str
    reference_data_id: str
    source: str
    value: str
    received_at: str
    currency: str
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one row of a vendor (or with a row that is not there)."""

    kind: str
    detail: str
    expected: str = "accepted"
    rule: str = ""
    """The rule that the rejection names."""
    loses: bool = False
    """Whether the claim must not carry the official value: outside the tolerance, or superseded."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A row with its place in the file (day of delivery, then sequence), and its fault if it has one."""

    place: tuple[date, int]
    row: Row
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A fault to inject. ``amount`` is a factor, a number of days, or nothing, as the kind says."""

    source: str
    kind: str
    quote: str
    day: date
    amount: str = ""


PLANS: Final = tuple(
    Plan(f"sim-vendor-{vendor}", kind, quote, date.fromisoformat(f"{VENDOR_YEAR}-{day}"), amount)
    for vendor, kind, quote, day, amount in (
        ("a", "spike", "USD", "02-12", "1.05"),
        ("a", "spike", "GBP", "09-17", "0.97"),
        ("a", "decimal_shift", "JPY", "04-10", "10"),
        ("a", "stale", "USD", "05-06", "8"),
        ("a", "missing", "GBP", "03-11", "3"),
        ("a", "late_correction", "USD", "07-16", "2"),
        ("a", "late_correction", "JPY", "10-08", "7"),
        ("a", "duplicate", "USD", "01-15", ""),
        ("a", "duplicate", "GBP", "06-04", ""),
        ("a", "out_of_order", "JPY", "08-06", "12"),
        ("a", "wrong_currency", "USD", "11-05", "GBP"),
        ("a", "naive_timestamp", "GBP", "12-03", "snap"),
        ("b", "spike", "JPY", "03-20", "0.9"),
        ("b", "decimal_shift", "USD", "06-18", "0.1"),
        ("b", "decimal_shift", "GBP", "10-22", "10"),
        ("b", "stale", "JPY", "08-12", "6"),
        ("b", "missing", "USD", "02-19", "1"),
        ("b", "missing", "JPY", "11-18", "4"),
        ("b", "late_correction", "GBP", "05-21", "1"),
        ("b", "duplicate", "JPY", "01-22", ""),
        ("b", "out_of_order", "USD", "09-10", "5"),
        ("b", "unknown_series", "USD", "04-16", "NOK"),
        ("b", "wrong_snap_time", "GBP", "07-09", "16:00"),
        ("b", "unknown_unit", "JPY", "12-10", "sen"),
        ("c", "spike", "GBP", "01-29", "1.012"),
        ("c", "decimal_shift", "JPY", "05-28", "0.1"),
        ("c", "stale", "GBP", "07-22", "7"),
        ("c", "missing", "JPY", "02-05", "2"),
        ("c", "late_correction", "USD", "03-26", "3"),
        ("c", "duplicate", "USD", "10-15", ""),
        ("c", "duplicate", "JPY", "06-25", ""),
        ("c", "out_of_order", "GBP", "11-12", "20"),
        ("c", "wrong_currency", "JPY", "09-24", "USD"),
        ("c", "naive_timestamp", "USD", "08-20", "received_at"),
        ("c", "unknown_unit", "GBP", "04-02", "pips"),
    )
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, required=True, metavar="DIR")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    for name, content in bundle(given.input).items():
        (given.output / name).write_bytes(content)


def bundle(source: Path) -> dict[str, bytes]:
    """Every generated file of the bundle, by name."""
    history = {pair: read_history(source, pair) for pair in PAIRS}
    files: dict[str, bytes] = {}
    claims: list[dict[str, Any]] = []
    faults: list[dict[str, str]] = []
    for name, pairs in (("ecb-reference-rates", ECB_PAIRS), ("fed-h10", FED_PAIRS)):
        rows = official_rows({pair: history[pair] for pair in pairs})
        add_claims(files, claims, f"{name}.csv.gz", OFFICIAL_FIELDS, rows, [])
    for vendor in VENDORS:
        placed, absent = vendor_rows(vendor, history)
        name = f"{vendor}.csv.gz"
        found = [(line, p.row, p.fault) for line, p in enumerate(placed, start=2) if p.fault]
        add_claims(files, claims, name, VENDOR_FIELDS, [p.row for p in placed], [f for _, _, f in found])
        faults += [fault_line(name, str(line), row, fault) for line, row, fault in found]
        faults += [fault_line(name, "", row, fault) for row, fault in absent]
    learned = {pair: learn(history[pair]) for pair in PAIRS}
    files["faults.csv"] = csv_bytes(FAULT_FIELDS, faults)
    files["sources.json"] = json_bytes(SOURCES)
    files["series.json"] = json_bytes([series_definition(pair) for pair in PAIRS])
    files["rules.json"] = json_bytes([rule_set(pair, learned[pair]) for pair in PAIRS])
    files["manifest.json"] = json_bytes(
        {
            "claims": claims,
            "totals": {
                field: sum(c[field] for c in claims)
                for field in ("rows", "accepted", "rejected", "duplicate")
            },
            "other_files": [
                {"file": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                for name, content in sorted(files.items())
                if not name.endswith(".gz")
            ],
            "learned": [
                {"reference_data_id": pair.reference_data_id, **learned[pair].as_json()} for pair in PAIRS
            ],
            "large_moves": [
                move for pair in PAIRS for move in large_moves(pair, history[pair], learned[pair])
            ],
        }
    )
    return files


def add_claims(
    files: dict[str, bytes],
    claims: list[dict[str, Any]],
    name: str,
    fields: Sequence[str],
    rows: Sequence[Row],
    faults: Iterable[Fault],
) -> None:
    """The claims file and its entry in the manifest."""
    text = csv_bytes(fields, [{field: getattr(row, field) for field in fields} for row in rows])
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, compresslevel=9, mtime=0) as target:
        target.write(text)
    files[name] = packed.getvalue()
    outcome = Counter(fault.expected for fault in faults)
    claims.append(
        {
            "file": name,
            "rows": len(rows),
            "accepted": len(rows) - outcome["rejected"] - outcome["duplicate"],
            "rejected": outcome["rejected"],
            "duplicate": outcome["duplicate"],
            "bytes": len(files[name]),
            "sha256": hashlib.sha256(files[name]).hexdigest(),
            "sha256_unpacked": hashlib.sha256(text).hexdigest(),
        }
    )


def read_history(source: Path, pair: Pair) -> History:
    """All published values of a pair, oldest first; days marked as without a value are left out."""
    name = "ECB_eurofxref_hist_9ccy.csv" if pair.source == ECB else f"FED_H10_{pair.column}.csv"
    with (source / name).open(newline="", encoding="ascii") as file:
        rows = list(csv.DictReader(file))
    day_column = "Date" if pair.source == ECB else "DATE"
    found = {
        date.fromisoformat(row[day_column]): row[pair.column]
        for row in rows
        if row[pair.column] not in ("", ".", "N/A")
    }
    if bad := [day for day, value in found.items() if not Decimal(value) > 0]:
        raise ValueError(f"{name}: not a rate on {bad[0]}")
    return dict(sorted(found.items()))


def official_rows(history: Mapping[Pair, History]) -> list[Row]:
    """The bundled years of a real source, by day."""
    return [
        Row(
            snap=day.isoformat(),
            reference_data_id=pair.reference_data_id,
            source=pair.source,
            value=values[day],
            received_at=published(pair.source, day).isoformat(),
            currency=pair.quote,
        )
        for day in sorted({day for values in history.values() for day in values if FIRST <= day <= LAST})
        for pair, values in history.items()
        if day in values
    ]


def published(source: str, day: date) -> datetime:
    """When a rate came out by the publication schedule, which is not recorded for each day.

    The ECB publishes at about 16:00 on the same day; the Federal Reserve on Monday at 16:15 for the week
    before, on the next business day if that Monday is a holiday.
    """
    if source == ECB:
        return datetime.combine(day, time(16), BERLIN)
    sunday = day + timedelta(days=6 - day.weekday())
    return datetime.combine(calendar("FED").next_session(sunday), time(16, 15), NEW_YORK)


# --- simulated vendors ------------------------------------------------------------------------------------


class VendorFile:
    """The rows of one vendor while faults are put in."""

    def __init__(self, vendor: str, history: Mapping[Pair, History]) -> None:
        self.vendor = vendor
        self.pairs = {pair.quote: pair for pair in ECB_PAIRS if pair.quote in VENDOR_DECIMALS}
        self.truth = {
            quote: {day: Decimal(v) for day, v in history[pair].items() if day.year == VENDOR_YEAR}
            for quote, pair in self.pairs.items()
        }
        self.rows = {
            (quote, day): Placed((day, order), self._faultless(quote, day))
            for order, quote in enumerate(self.pairs)
            for day in self.truth[quote]
        }
        self.extra: list[Placed] = []
        self.absent: list[tuple[Row, Fault]] = []

    def days(self, plan: Plan) -> list[date]:
        """The plan's day and those that follow, as many as its amount says."""
        days = sorted(self.truth[plan.quote])
        start = days.index(plan.day)
        return days[start : start + int(plan.amount)]

    def after(self, plan: Plan) -> date:
        """The session that lies the plan's amount of sessions after its day."""
        days = sorted(self.truth[plan.quote])
        return days[days.index(plan.day) + int(plan.amount)]

    def row(self, plan: Plan) -> Row:
        return self.rows[plan.quote, plan.day].row

    def change(self, quote: str, day: date, fault: Fault, **fields: str) -> None:
        """Change a row, and say whether its value still agrees with the truth."""
        before = self.rows[quote, day]
        if before.fault is not None:
            raise ValueError(f"{self.vendor} {quote} {day} has a fault already")
        row = replace(before.row, **fields)
        if fault.expected == "accepted" and not fault.loses:
            fault = replace(fault, loses=not agrees(Decimal(row.value), self.truth[quote][day]))
        self.rows[quote, day] = replace(before, row=row, fault=fault)

    def _faultless(self, quote: str, day: date) -> Row:
        pair, key = self.pairs[quote], f"{SEED}|{self.vendor}|{quote}|{day}"
        return Row(
            snap=day.isoformat(),
            reference_data_id=pair.reference_data_id,
            source=self.vendor,
            value=rounded(
                self.truth[quote][day] * (1 + NOISE * (uniform(key, 0) + uniform(key, 1) - 1)), quote
            ),
            received_at=datetime.combine(day, time(14, 16 + int(uniform(key, 2) * 14)), BERLIN).isoformat(),
            currency=quote,
        )


def uniform(key: str, part: int) -> Decimal:
    """A number from 0 to 1 that depends on ``key`` alone, so that a new fault moves no other row."""
    digest = hashlib.sha256(f"{key}|{part}".encode()).digest()
    return Decimal(int.from_bytes(digest[:6])) / Decimal(2**48)


def rounded(value: Decimal, quote: str) -> str:
    return str(value.quantize(Decimal(1).scaleb(-VENDOR_DECIMALS[quote])))


def agrees(a: Decimal, b: Decimal) -> bool:
    """Whether two values lie within the tolerance of the rule sets."""
    return abs(a - b) <= TOLERANCE * max(a, b)


def spike(file: VendorFile, plan: Plan) -> None:
    value = rounded(Decimal(file.row(plan).value) * Decimal(plan.amount), plan.quote)
    file.change(plan.quote, plan.day, Fault(plan.kind, f"value times {plan.amount}"), value=value)


def stale(file: VendorFile, plan: Plan) -> None:
    days = sorted(file.truth[plan.quote])
    last = file.rows[plan.quote, days[days.index(plan.day) - 1]].row.value
    for number, day in enumerate(file.days(plan), start=1):
        fault = Fault(plan.kind, f"repeat {number} of {plan.amount} of the value before")
        file.change(plan.quote, day, fault, value=last)


def missing(file: VendorFile, plan: Plan) -> None:
    for day in file.days(plan):
        row = file.rows.pop((plan.quote, day)).row
        file.absent.append((row, Fault(plan.kind, "no row for this day", expected="absent")))


def late_correction(file: VendorFile, plan: Plan) -> None:
    right, delivered = file.row(plan), file.after(plan)
    received = datetime.combine(delivered, time(9, 30), BERLIN).isoformat()
    note = f"corrected after {plan.amount} session(s)"
    wrong = rounded(Decimal(right.value) * Decimal("1.004"), plan.quote)
    file.change(plan.quote, plan.day, Fault(plan.kind, f"value times 1.004, {note}", loses=True), value=wrong)
    fault = Fault(plan.kind, f"the correction of {plan.day}, received later")
    file.extra.append(Placed((delivered, 10), replace(right, received_at=received), fault))


def duplicate(file: VendorFile, plan: Plan) -> None:
    fault = Fault(plan.kind, "the same row a second time", expected="duplicate")
    file.extra.append(Placed((plan.day, 20), file.row(plan), fault))


def out_of_order(file: VendorFile, plan: Plan) -> None:
    fault = Fault(plan.kind, f"stands {plan.amount} session(s) later in the file")
    file.change(plan.quote, plan.day, fault)
    late = file.rows.pop((plan.quote, plan.day))
    file.extra.append(replace(late, place=(file.after(plan), 30)))


def wrong_currency(file: VendorFile, plan: Plan) -> None:
    fault = Fault(
        plan.kind, f"currency {plan.amount}, the series is in {plan.quote}", "rejected", "series-currency"
    )
    file.change(plan.quote, plan.day, fault, currency=plan.amount)


def unknown_unit(file: VendorFile, plan: Plan) -> None:
    fault = Fault(plan.kind, f"unit {plan.amount}, the series has none", "rejected", "series-unit")
    file.change(plan.quote, plan.day, fault, unit=plan.amount)


def unknown_series(file: VendorFile, plan: Plan) -> None:
    fault = Fault(plan.kind, f"nobody registered EUR/{plan.amount}", "rejected", "known-series")
    series = f"FX.EUR.{plan.amount}.ECB1415"
    file.change(plan.quote, plan.day, fault, reference_data_id=series, currency=plan.amount)


def naive_timestamp(file: VendorFile, plan: Plan) -> None:
    row = file.row(plan)
    naive = f"{plan.day}T14:15:00" if plan.amount == "snap" else row.received_at[: len("2019-01-01T00:00:00")]
    fault = Fault(plan.kind, f"{plan.amount} has no UTC offset", "rejected", "aware-time")
    file.change(plan.quote, plan.day, fault, **{plan.amount: naive})


def wrong_snap_time(file: VendorFile, plan: Plan) -> None:
    fault = Fault(plan.kind, f"a value of {plan.amount} London, another moment", "rejected", "snap-time")
    snap = datetime.combine(plan.day, time.fromisoformat(plan.amount), ZoneInfo("Europe/London"))
    file.change(plan.quote, plan.day, fault, snap=snap.isoformat())


INJECT: Final[Mapping[str, Callable[[VendorFile, Plan], None]]] = {
    "spike": spike,
    "decimal_shift": spike,
    "stale": stale,
    "missing": missing,
    "late_correction": late_correction,
    "duplicate": duplicate,
    "out_of_order": out_of_order,
    "wrong_currency": wrong_currency,
    "unknown_unit": unknown_unit,
    "unknown_series": unknown_series,
    "naive_timestamp": naive_timestamp,
    "wrong_snap_time": wrong_snap_time,
}


def vendor_rows(vendor: str, history: Mapping[Pair, History]) -> tuple[list[Placed], list[tuple[Row, Fault]]]:
    """A vendor's rows in file order, and the rows that are missing."""
    file = VendorFile(vendor, history)
    for plan in PLANS:
        if plan.source == vendor:
            INJECT[plan.kind](file, plan)
    return sorted([*file.rows.values(), *file.extra], key=lambda p: p.place), file.absent


def fault_line(name: str, line: str, row: Row, fault: Fault) -> dict[str, str]:
    """One line of ``faults.csv``; ``line`` counts the header as 1 and is empty for a missing row."""
    return {
        "file": name,
        "line": line,
        "snap": row.snap,
        "reference_data_id": row.reference_data_id,
        "kind": fault.kind,
        "expected": fault.expected,
        "rule": fault.rule,
        "loses": "yes" if fault.loses else "no",
        "detail": fault.detail,
    }


# --- definitions ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Learned:
    """Thresholds of one series, from its values before ``FIRST``."""

    since: date
    until: date
    values: int
    largest_move: Decimal
    largest_move_on: date
    max_move: Decimal
    low: Decimal
    high: Decimal
    longest_run: int
    stale_after: int

    def as_json(self) -> dict[str, Any]:
        return {
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "values": self.values,
            "largest_move": str(self.largest_move),
            "largest_move_on": self.largest_move_on.isoformat(),
            "max_move": str(self.max_move),
            "low": str(self.low),
            "high": str(self.high),
            "longest_run": self.longest_run,
            "stale_after": self.stale_after,
        }


def moves(history: History) -> list[tuple[Decimal, date]]:
    """The relative move to each value from the one before, without sign."""
    exact = [(day, Decimal(value)) for day, value in history.items()]
    return [(abs(_EXACT.divide(now, before) - 1), day) for (_, before), (day, now) in pairwise(exact)]


def learn(history: History) -> Learned:
    """Largest move times 1.5; half the lowest to twice the highest value; longest run of equal values."""
    training = {day: value for day, value in history.items() if day < FIRST}
    values = [Decimal(value) for value in training.values()]
    largest, on = max(moves(training))
    run = max(len(list(same)) for _, same in groupby(values))
    return Learned(
        since=min(training),
        until=max(training),
        values=len(training),
        largest_move=largest.quantize(Decimal("0.000001")),
        largest_move_on=on,
        max_move=(largest * MOVE_MARGIN).quantize(Decimal("0.0001"), rounding=ROUND_CEILING),
        low=min(values) / 2,
        high=max(values) * 2,
        longest_run=run,
        stale_after=max(SHORTEST_STALE_RUN, run + 1),
    )


def large_moves(pair: Pair, history: History, learned: Learned) -> list[dict[str, str]]:
    """Real moves in the bundled years that exceed what was seen before: one source alone makes a suspect."""
    return [
        {"reference_data_id": pair.reference_data_id, "snap": day.isoformat(), "move": f"{move:.6f}"}
        for move, day in moves(history)
        if FIRST <= day <= LAST and move > learned.max_move
    ]


SOURCES: Final = [
    {
        "source": ECB,
        "name": "European Central Bank, euro foreign exchange reference rates",
        "kind": "official",
        "licence": "Free reuse, source to be named: European Central Bank (ECB)",
    },
    {
        "source": FED,
        "name": "Board of Governors of the Federal Reserve System, H.10 foreign exchange rates",
        "kind": "official",
        "licence": "Public domain (work of the US government)",
    },
    *(
        {
            "source": vendor,
            "name": f"Simulated vendor {vendor[-1].upper()} (made from ECB rates, with known faults)",
            "kind": "simulated",
            "licence": "Generated for this project (Apache-2.0), from ECB rates",
        }
        for vendor in VENDORS
    ),
]


def series_definition(pair: Pair) -> dict[str, Any]:
    """The series as registered by REST."""
    ecb = pair.source == ECB
    return {
        "reference_data_id": pair.reference_data_id,
        "name": f"{pair.base}/{pair.quote} "
        + ("ECB reference rate, 14:15 Frankfurt" if ecb else "Federal Reserve H.10 rate, noon New York"),
        "kind": "fx_rate",
        "semantics": {
            "price_type": "fixing" if ecb else "noon-buying-rate",
            "currency": pair.quote,
            "base_currency": pair.base,
            "unit": None,
            "snap_time": "14:15" if ecb else "12:00",
            "snap_zone": "Europe/Berlin" if ecb else "America/New_York",
            "timing": "point_in_time",
            "calendar": "ECB" if ecb else "FED",
        },
        "rules": pair.rules,
    }


def rule_set(pair: Pair, learned: Learned) -> dict[str, Any]:
    """The rule set as registered by REST. H.10 is weekly: over holidays nine days and some hours late."""
    vendors = VENDORS if pair.source == ECB and pair.quote in VENDOR_DECIMALS else ()
    return {
        "rules": pair.rules,
        "precedence": [pair.source, *vendors],
        "method": "precedence",
        "tolerance": str(TOLERANCE),
        "min_sources": 1,
        "max_staleness": "P7D",
        "fallback": "median",
        "max_move": str(learned.max_move),
        "range": [str(learned.low), str(learned.high)],
        "stale_after": learned.stale_after,
        "timely_within": "P1D" if pair.source == ECB else "P10D",
    }


def csv_bytes(fields: Sequence[str], rows: Iterable[Mapping[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("ascii")


def json_bytes(body: object) -> bytes:
    return (json.dumps(body, indent=1) + "\n").encode("ascii")


if __name__ == "__main__":
    main()
