"""A system that answers from a table, and remembers what it was asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from qis.cli.rest import Reply, Request


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the system saw it."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Any
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Run:
    """What a command line led to."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout; fails where there is anything else."""
        return json.loads(self.out)


RunCli = Callable[..., Run]


class Refusal(Exception):
    """Answer with a problem document."""

    def __init__(self, status: int, **more: Any) -> None:
        super().__init__(status)
        self.status = status
        self.document = {
            "type": "urn:qis:problem:test",
            "title": "Refused",
            "status": status,
            "detail": "because of the test",
            "correlation_id": "c-1",
            **more,
        }


@dataclass(slots=True)
class System:
    """Answers by ``(method, path)``: a document, or a function of the request."""

    answers: dict[tuple[str, str], Any] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def on(self, method: str, path: str, answer: Any) -> None:
        """Answer a request below the stage ``/live``."""
        self.answers[method, path] = answer

    def send(self, request: Request) -> Reply:
        """The transport of ``qis.cli.rest``."""
        parts = urlsplit(request.url)
        assert parts.netloc == "qis.example"
        assert parts.path.startswith("/live/")
        asked = Asked(
            request.method,
            parts.path.removeprefix("/live"),
            dict(parse_qsl(parts.query)),
            None if request.body is None else json.loads(request.body),
            request.headers,
        )
        self.asked.append(asked)
        try:
            answer = self.answers[asked.method, asked.path]
            found = answer(asked) if callable(answer) else answer
        except KeyError:
            refusal = Refusal(404, reason="not-found")
            return Reply(404, json.dumps(refusal.document).encode())
        except Refusal as refusal:
            return Reply(refusal.status, json.dumps(refusal.document).encode())
        return Reply(200, json.dumps(found).encode())


class Loads:
    """A system that takes claims by REST and accounts for them; the value ``bad`` is refused."""

    def __init__(self, system: System) -> None:
        self.records: dict[str, Mapping[str, Any]] = {}
        self._known: set[tuple[Any, ...]] = set()
        self._items: list[dict[str, Any]] = []
        self._accepted = 0
        self._system = system
        system.on("POST", "/api/v1/data/ingest", self._take)

    def _take(self, asked: Asked) -> Any:
        for claim in asked.body["claims"]:
            if claim["record_id"] in self.records:
                continue
            self.records[claim["record_id"]] = claim
            self._system.on("GET", f"/api/v1/loads/{claim['correlation_id']}", self._state)
            self._judge(claim)
        return {"receipt": "r-1"}

    def _judge(self, claim: Mapping[str, Any]) -> None:
        content = tuple(claim.get(n) for n in ("snap", "reference_data_id", "source", "value"))
        broken = None in content or claim.get("value") == "bad"
        if broken:
            violation = {"field": "value", "value": "bad", "rule": "decimal", "message": "is no decimal"}
            self._items.append(_item(claim, "rejected", [violation]))
        elif content in self._known:
            self._items.append(_item(claim, "duplicate", []))
        else:
            self._known.add(content)
            self._accepted += 1

    def _state(self, asked: Asked) -> Any:
        load = asked.path.rpartition("/")[2]
        items = [i for i in self._items if i["record_id"].startswith(load)]
        mine = sum(r["correlation_id"] == load for r in self.records.values())
        return {
            "load": load,
            "accepted": mine - len(items),
            "duplicates": sum(i["outcome"] == "duplicate" for i in items),
            "rejected": sum(i["outcome"] == "rejected" for i in items),
            "started_at": "2026-01-05T10:00:00Z",
            "updated_at": "2026-01-05T10:00:01Z",
            "items": sorted(items, key=lambda i: i["record_id"]),
            "next": None,
        }


def _item(claim: Mapping[str, Any], outcome: str, violations: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "record_id": claim["record_id"],
        "outcome": outcome,
        "claim_id": None,
        "violations": violations,
        "recorded_at": "2026-01-05T10:00:00Z",
    }


def official(snap: str, value: str, **more: Any) -> dict[str, Any]:
    """The body of an official value."""
    return {
        "reference_data_id": "FX.EUR.USD",
        "snap": snap,
        "value": value,
        "kind": "fx_rate",
        "currency": "USD",
        "base_currency": "EUR",
        "unit": None,
        "status": "official",
        "version": 1,
        "recorded_from": "2026-01-06T09:00:00.123456Z",
        "quality": {
            "accuracy": "1.0000",
            "completeness": "0.5000",
            "timeliness": None,
            "consistency": "1.0000",
            "composite": "0.8333",
        },
        "method": "precedence",
        "confidence": "0.5000",
        "sources": ["ecb", "acme"],
        "rules": "fx",
        "rules_version": 2,
        "restated": False,
        "restatement": None,
        "basis": "7.9",
        **more,
    }


RESTATED = {
    "version": 2,
    "restated": True,
    "confidence": None,
    "restatement": {
        "cause": "correction",
        "reason": "typing error, [sic]",
        "restated_by": "ann",
        "before": {"value": "1.10", "official_version": 1},
    },
}
