"""The functions that follow the backbone, in memory: each gets the events that its template's filter lets
through, as the event source delivers them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

from local import template
from local.patterns import matches
from qis.application.arrivals import ArrivalWatch
from qis.application.claimed_records import ClaimedRecords
from qis.application.detectors import Detectors
from qis.application.ingest import Delivery
from qis.application.issues import IssueWatch
from qis.application.ports import Catalogue
from qis.application.quality import WATCHERS, Quality
from qis.application.reconcile import Reconciler, Trigger
from qis.application.record_detectors import RecordDetectors
from qis.application.relay import backbone_record
from qis.domain import events as ev
from qis.domain.snap import parse_instant
from tests.support.fakes import (
    FixedCatalogue,
    MemoryArrivalStates,
    MemoryDeadLetters,
    MemoryDetectorStates,
    MemoryEventStore,
    MemoryFacts,
    MemoryIssues,
    Ticking,
    ingest_into,
    open_exceptions,
)

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
Backbone = Sequence[Mapping[str, Any]]


@cache
def filters() -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """The event filters of each function's source, from the committed template."""
    text = template.TEMPLATE.read_text(encoding="utf-8")
    resources = json.loads(text)["Resources"].values()
    found = {}
    for resource in resources:
        if resource["Type"] == "AWS::Lambda::EventSourceMapping":
            properties = resource["Properties"]
            function = properties["FunctionName"]["Ref"]
            criteria = properties.get("FilterCriteria", {}).get("Filters", [])
            found[function] = [json.loads(f["Pattern"]) for f in criteria]
    return found


def passes(function: str, event: Mapping[str, Any]) -> bool:
    """Whether the event source of ``function``, such as ``Quality``, delivers ``event``."""
    (patterns,) = (p for name, p in filters().items() if name.startswith(f"Service{function}"))
    return any(matches(pattern, {"data": event}) for pattern in patterns)


class Spine:
    """Claims go in; ``reconcile`` and ``quality`` follow until nothing new happens."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.store = store = MemoryEventStore(Ticking(NOW))
        book = FixedCatalogue(catalogue)
        self.letters = MemoryDeadLetters()
        self.ingest = ingest_into(store, book, letters=self.letters)
        facts = MemoryFacts(store)
        records = ClaimedRecords(facts)
        watchers = (*WATCHERS, Detectors(MemoryDetectorStates(facts), records), RecordDetectors(records))
        reconciler = Reconciler(store, book)
        quality = Quality(store, book, facts, watchers)
        arrivals = ArrivalWatch(MemoryArrivalStates(), book, quality)
        issues = IssueWatch(store, MemoryIssues(store))
        self._functions: Mapping[str, Sequence[Callable[[Backbone], object]]] = {
            "Reconcile": [lambda events: reconciler.run(_trigger(e) for e in events)],
            "Quality": [lambda events: issues.follow(events, NOW), quality.follow, arrivals.follow],
        }
        self._relayed = 0

    def deliver(self, bodies: Iterable[Mapping[str, Any]], batch: int = 50) -> None:
        """Deliver claims in batches and follow each to its end."""
        records = [json.dumps(body).encode() for body in bodies]
        for start in range(0, len(records), batch):
            some = records[start : start + batch]
            self.ingest.deliveries(
                [Delivery(f"{self._relayed}-{start + n}", "load", r) for n, r in enumerate(some)]
            )
            self.follow()

    def follow(self) -> None:
        """Relay what is new to the functions, also what they append themselves."""
        while self._relayed < len(self.store.log):
            fresh = self.store.log[self._relayed :]
            self._relayed = len(self.store.log)
            events = [json.loads(backbone_record(e)[1]) for e in fresh]
            for function, use_cases in self._functions.items():
                delivered = [e for e in events if passes(function, e)]
                for follow in use_cases if delivered else ():
                    follow(delivered)

    def open(self) -> set[tuple[str, str, str]]:
        """Kind, snap and source of each open exception."""
        return open_exceptions(self.store)


def _trigger(event: Mapping[str, Any]) -> Trigger:
    assert event["type"] == ev.DATA_INGESTED, "reconcile takes nothing else"
    snap = parse_instant(event["data"]["snap"], "snap")
    return Trigger(event["reference_data_id"], snap, event["correlation_id"], UUID(event["event_id"]))
