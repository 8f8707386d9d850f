"""A load of claims that follows from a seed, and what a run without faults makes of it."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from qis.application.ingest import Delivery
from qis.application.reconcile import Reconciler, Trigger
from qis.domain import events as ev
from qis.domain.rules import parse_rules
from qis.domain.series import parse_series, parse_source
from qis.domain.snap import parse_instant
from tests.support.builders import catalogue, rules_body, series_body, source_body
from tests.support.fakes import (
    FixedCatalogue,
    MemoryEventStore,
    ingest_into,
)

SOURCES = ("north", "south", "east", "west", "centre")
FIRST = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
BATCH = 500
RULES = rules_body(rules="load", precedence=list(SOURCES[:3]))

Decisions = dict[tuple[str, int], tuple[str, Decimal | None]]
"""Status and value by series and snap in nanoseconds."""


@dataclass(frozen=True, slots=True)
class Load:
    """Records for the stream, in order of arrival, and what they must come to."""

    name: str
    series: Sequence[str]
    records: Sequence[tuple[str, bytes]]
    accepted: int
    duplicates: int
    rejected: int

    @property
    def counts(self) -> dict[str, int]:
        return {"accepted": self.accepted, "duplicates": self.duplicates, "rejected": self.rejected}


def definitions(series: Sequence[str]) -> dict[str, list[Mapping[str, Any]]]:
    """What has to be registered."""
    return {
        "rules": [RULES],
        "sources": [source_body(s) for s in SOURCES],
        "series": [{**series_body(s), "rules": "load"} for s in series],
    }


def make(name: str, *, series: int, snaps: int, seed: int = 7) -> Load:
    """Claims of five sources on each snap of each series: random walks on which the sources mostly agree.

    Some are off by more than the tolerance, some snaps jump for all, and where one source is alone, half of
    its values are spikes, which are held. One record in a hundred comes twice, one in two hundred breaks a
    rule, and records come early or late.
    """
    random_ = random.Random(seed)
    names = [f"FX.LOAD{n:02d}" for n in range(series)]
    claims: list[dict[str, Any]] = []
    for one in names:
        level = 1.0 + random_.random()
        for n in range(snaps):
            level *= 1 + random_.gauss(0, 0.002)
            if random_.random() < 0.004:
                level *= 1.08  # a real jump, on which the sources agree
            at = FIRST + timedelta(minutes=n)
            alone = random_.random() < 0.02
            spike = 1.1 if alone and random_.random() < 0.5 else 1.0
            for source in SOURCES[:1] if alone else SOURCES:
                off = 1.02 if random_.random() < 0.02 else 1 + random_.uniform(-0.0003, 0.0003)
                claims.append(
                    {
                        "snap": at.isoformat(),
                        "reference_data_id": one,
                        "source": source,
                        "value": f"{level * off * spike:.6f}",
                        "received_at": (at + timedelta(seconds=random_.randint(1, 50))).isoformat(),
                    }
                )
    total = len(claims)
    repeated, broken = total // 100, total // 200
    claims = claims[: total - repeated - broken]
    accepted = len(claims)
    claims += random_.sample(claims, repeated)
    claims += [{**c, "snap": "2026-01-05T09:00:00"} for c in random_.sample(claims[:accepted], broken)]
    order = [n + random_.uniform(-200, 200) for n in range(accepted)]
    order += [random_.uniform(0, accepted) for _ in range(repeated + broken)]
    # A series is spread over the whole load, so that its neighbours come in different batches.
    places = [(n // len(SOURCES)) % snaps * series * len(SOURCES) for n in range(accepted)]
    keys = [p + o * 0.01 for p, o in zip(places, order[:accepted], strict=True)] + order[accepted:]
    arrival = sorted(range(len(claims)), key=keys.__getitem__)
    records = [
        (
            claims[n]["reference_data_id"],
            json.dumps({**claims[n], "correlation_id": name, "record_id": f"{name}:{n}"}).encode(),
        )
        for n in arrival
    ]
    return Load(name, names, records, accepted, repeated, broken)


def clean_run(load: Load) -> Decisions:
    """Decisions on the same load in one process, without a fault.

    Series do not touch each other, so each has a store of its own.
    """
    decided: Decisions = {}
    for one in load.series:
        known = FixedCatalogue(
            catalogue(
                [parse_series({**series_body(one), "rules": "load"})],
                [parse_rules(RULES, 1)],
                [parse_source(source_body(s)) for s in SOURCES],
            )
        )
        store = MemoryEventStore()
        ingest = ingest_into(store, known)
        mine = [data for key, data in load.records if key == one]
        for start in range(0, len(mine), BATCH):
            batch = mine[start : start + BATCH]
            ingest.deliveries([Delivery(f"{start}+{i}", "clean", data) for i, data in enumerate(batch)])
        snaps = sorted(
            {parse_instant(e.data["snap"], "snap") for e in store.log if e.type == ev.DATA_INGESTED}
        )
        reconciler = Reconciler(store, known)
        for begin in range(0, len(snaps), 100):
            reconciler.run(Trigger(one, snap, "clean", None) for snap in snaps[begin : begin + 100])
        decided |= {(id_, snap.ns): found for (id_, snap), found in store.decisions.items()}
    return decided
