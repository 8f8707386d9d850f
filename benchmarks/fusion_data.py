"""The data of the fusion benchmark: claims and gold from a data directory, and faults injected with a seed.

A table is a list of snaps in order, each with its claims; a claim is (series, kind, source, value as text,
volume as text or empty). Faults are injected per claim, and in episodes that two sources share.
"""

from __future__ import annotations

import csv
import gzip
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

MAJORITY = frozenset({"nasdaq-com", "yahoo-finance", "google-finance", "bloomberg", "msn-money"})
"""The sources whose majority is the first gold standard of the stock claims; the other is nasdaq-com's."""
EXCHANGES: Mapping[str, str] = {
    "bitfinex": "2021-10-17_Bitfinex_BTCUSD_d.csv",
    "bitstamp": "2021-10-17_Bitstamp_BTCUSD_d.csv",
    "cexio": "2019-11-26_Cexio_BTCUSD_d.csv",
    "coinbase": "2019-11-26_Coinbase_BTCUSD_d.csv",
    "gemini": "2019-11-26_Gemini_BTCUSD_d.csv",
    "kraken": "2019-11-26_Kraken_BTCUSD_d.csv",
    "poloniex": "2019-11-26_Poloniex_BTCUSD_d.csv",
}
VENDORS = ("vendor-a", "vendor-b", "vendor-c", "vendor-d", "vendor-e")


class Row(NamedTuple):
    """One claim."""

    series: str
    kind: str
    source: str
    value: str
    volume: str = ""


Table = list[tuple[str, list[Row]]]
Gold = dict[tuple[str, str], Decimal]
"""By snap and series."""


def stock(folder: Path, gold: str) -> tuple[Table, Gold]:
    """Claims without the gold's own sources, and the gold: ``majority`` or ``nasdaq``."""
    left_out = MAJORITY if gold == "majority" else {"nasdaq-com"}
    table: dict[str, list[Row]] = defaultdict(list)
    for file in sorted((folder / "fusion_stock").glob("claims_*.csv.gz")):
        for r in _rows(file):
            if r["source"] not in left_out:
                series = f"{r['object']}.{r['attribute']}"
                table[r["day"]].append(Row(series, r["attribute"], r["source"], r["value"]))
    truth: Gold = {}
    for file in sorted((folder / "fusion_stock").glob(f"gold_{gold}_*.csv.gz")):
        for r in _rows(file):
            truth[r["day"], f"{r['object']}.{r['attribute']}"] = Decimal(r["value"])
    return sorted(table.items()), truth


def bitcoin(folder: Path) -> tuple[Table, Gold]:
    """Daily closes of the exchanges, and the reference rate."""
    base = folder / "multisource" / "btcusd_daily"
    table: dict[str, list[Row]] = defaultdict(list)
    for source, name in EXCHANGES.items():
        for r in _rows(base / name):
            row = {k.lower(): v for k, v in r.items()}
            # One file has its two volume columns the wrong way round; that in bitcoin is the smaller.
            volume = min(row["volume btc"], row["volume usd"], key=float)
            table[row["date"][:10]].append(Row("BTCUSD", "price", source, row["close"], volume))
    truth = {
        (r["date"], "BTCUSD"): Decimal(r["PriceUSD"]) for r in _rows(base / "coinmetrics_PriceUSD_btc.csv")
    }
    return sorted(table.items()), truth


def rates(folder: Path) -> dict[str, dict[str, Decimal]]:
    """ECB reference rates and the Federal Reserve's noon rates, by series and day."""
    base = folder / "multisource" / "fx"
    found: dict[str, dict[str, Decimal]] = defaultdict(dict)
    for file in sorted(base.glob("*.csv")):
        for r in _rows(file):
            day, *cells = r.values()
            prefix = "EUR" if file.name.startswith("ECB") else "H10"
            for name, cell in zip(list(r)[1:], cells, strict=True):
                try:
                    value = Decimal(cell)
                except ArithmeticError:  # a holiday is empty, or a dot
                    continue
                found[f"{prefix}.{name}"][day] = value
    return found


def _rows(file: Path) -> Iterable[dict[str, str]]:
    packed = file.suffix == ".gz"
    with gzip.open(file, "rt", encoding="utf-8") if packed else file.open(encoding="utf-8") as text:
        first = text.readline()
        if not first.startswith("Created"):
            text.seek(0)
        yield from csv.DictReader(text)


# faults --------------------------------------------------------------------------------------


class Past(NamedTuple):
    """What a fault may take its value from."""

    value: Decimal
    before: Decimal
    """Of the snap before."""
    after: Decimal
    """Of the snap after, as a wrong date convention would give."""
    other: Decimal
    """Of another series at the same snap."""
    rng: random.Random


def _digits_swapped(p: Past) -> Decimal:
    text = format(p.value, "f")
    places = [i for i in range(len(text) - 1) if text[i].isdigit() and text[i + 1].isdigit()]
    i = p.rng.choice(places) if places else 0
    return Decimal(text[:i] + text[i + 1] + text[i] + text[i + 2 :]) if places else p.value


FAULTS: Mapping[str, Callable[[Past], Decimal]] = {
    "scale": lambda p: p.value.scaleb(p.rng.choice([-3, -2, 2, 3])),
    "decimal-shift": lambda p: p.value.scaleb(p.rng.choice([-1, 1])),
    "sign": lambda p: -p.value,
    "stale": lambda p: p.before,
    "date-shift": lambda p: p.after,
    "spike": lambda p: _rounded(
        p.value * Decimal(str(1 + p.rng.choice([-1, 1]) * p.rng.uniform(0.02, 0.5))), p.value
    ),
    "fat-finger": _digits_swapped,
    "wrong-series": lambda p: p.other,
    "inverse": lambda p: _rounded(1 / p.value if p.value else p.value, p.value),
    "zero": lambda p: p.value * 0,
}


def _rounded(value: Decimal, like: Decimal) -> Decimal:
    return value.quantize(like) if value else value


RATE = 0.05
"""Share of a vendor's claims with a fault of their own."""
SHARED = 0.002
"""Share of items on which two vendors have one and the same fault."""
MISSING = 0.03
"""Share of claims that are not made."""


def vendors(
    truth: Mapping[str, Mapping[str, Decimal]],
    rng: random.Random,
    *,
    noise: float,
) -> tuple[Table, Gold]:
    """Claims of five vendors on real prices, with faults of every kind.

    Args:
        noise: relative standard deviation of each vendor's own price; 0: vendors pass on the same price.
    """
    table: dict[str, list[Row]] = defaultdict(list)
    gold: Gold = {}
    for series, days in sorted(truth.items()):
        ordered = sorted(days)
        for i, day in enumerate(ordered):
            value = days[day]
            gold[day, series] = value
            past = Past(
                value,
                days[ordered[max(0, i - 1)]],
                days[ordered[min(len(ordered) - 1, i + 1)]],
                next((d[day] for s, d in sorted(truth.items()) if s != series and day in d), value),
                rng,
            )
            both = rng.sample(VENDORS, 2) if rng.random() < SHARED else ()
            wrong = FAULTS[rng.choice(sorted(FAULTS))](past) if both else value
            for vendor in VENDORS:
                if rng.random() < MISSING:
                    continue
                said = value
                if noise:
                    said = _rounded(value * Decimal(str(1 + rng.gauss(0, noise))), value.scaleb(-1))
                if vendor in both:
                    said = wrong
                elif rng.random() < RATE:
                    said = FAULTS[rng.choice(sorted(FAULTS))](past._replace(value=said))
                table[day].append(Row(series, "rate", vendor, format(said, "f")))
    return sorted(table.items()), gold


def with_faults(table: Table, rng: random.Random, rate: float) -> Table:
    """A table with faults in a share of its claims."""
    before: dict[tuple[str, str], Decimal] = {}
    faulted = []
    for snap, rows in table:
        made = []
        for row in rows:
            value = Decimal(row.value)
            last = before.get((row.series, row.source), value)
            before[row.series, row.source] = value
            if rng.random() < rate:
                past = Past(value, last, last, last, rng)
                row = row._replace(value=format(FAULTS[rng.choice(sorted(FAULTS))](past), "f"))
            made.append(row)
        faulted.append((snap, made))
    return faulted
