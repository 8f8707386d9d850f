"""Official values with a history, published through the event store for the reading benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal

from benchmarks import feed
from qis.adapters.postgres.connection import Database
from qis.adapters.postgres.event_store import PostgresEventStore
from qis.application.ports import Append
from qis.domain import events as ev
from qis.domain.snap import Snap

Key = tuple[str, Snap]
_SCORES = {"accuracy": 1.0, "completeness": 1.0, "timeliness": 1.0, "consistency": 1.0, "composite": 1.0}


def keys(ids: Sequence[str], days: int, first: int = 0) -> list[Key]:
    """Values of ``ids`` on ``days`` days from the ``first``."""
    return [
        (i, Snap.of(feed.MIXED.first_day + timedelta(days=d)))
        for d in range(first, first + days)
        for i in ids
    ]


def publish(database: Database, wanted: Sequence[Key], versions: int) -> None:
    """Publish and restate each value until it has ``versions`` versions, a commit per version."""
    store = PostgresEventStore(database)
    # Only the preparation: nothing of it is timed, and losing it would lose nothing.
    database.connect().execute("SET synchronous_commit = off")
    for version in range(1, versions + 1):
        lost = store.append([append(key, version) for key in wanted])
        if lost:
            raise RuntimeError(f"{len(lost)} values have a history already")
    database.connect().execute("RESET synchronous_commit")


def append(key: Key, version: int) -> Append:
    id_, snap = key
    data = {
        "reference_data_id": id_,
        "snap": snap.text,
        "value": str(Decimal(1_000_000 + version) / 10_000),
        "official_version": version,
        "quality": _SCORES,
        "method": "precedence",
        "confidence": 1.0,
        "sources": list(feed.SOURCES),
        "rules": "bench",
        "rules_version": 1,
    }
    if version > 1:
        data |= {
            "cause": "operator",
            "reason": "benchmark",
            "restated_by": "benchmark",
            "before": {"value": str(Decimal(999_999 + version) / 10_000), "official_version": version - 1},
        }
    kind = ev.DATA_PUBLISHED if version == 1 else ev.DATA_RESTATED
    return Append(ev.value_stream(id_, snap.text), version - 1, (ev.NewEvent(kind, data),), "benchmark", "b")
