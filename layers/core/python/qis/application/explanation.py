"""Why a value is what it is, told from the events of its stream: in fields, in words, and as a graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

from qis.application.answers import MAX_ANSWER, newest_fitting
from qis.domain import events as ev
from qis.domain.kinds.record import short, value_json, value_text
from qis.domain.reconciliation import chain_of
from qis.domain.series import Series
from qis.domain.snap import Snap
from qis.domain.value_history import OpenIssue, ValueHistory

_OFFICIAL = (ev.DATA_PUBLISHED, ev.DATA_RESTATED)
MOST_BYTES = MAX_ANSWER // 4
"""What each list of an answer may weigh; the oldest of it are left out first, and the audit trail has all."""
MOST_TOLD = 100
"""Claims, versions and exceptions that are told in words."""
_CLOSED = {
    ev.QUALITY_ISSUE_RESOLVED: "resolved",
    ev.QUALITY_APPROVED: "approved",
    ev.QUALITY_REJECTED: "rejected",
}


def moment_text(moment: datetime) -> str:
    """An aware moment in UTC with microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def event_body(event: ev.Event) -> dict[str, Any]:
    """A stored event with its envelope."""
    return {
        "event_id": str(event.event_id),
        "type": event.type,
        "type_version": event.type_version,
        "stream": event.stream,
        "version": event.version,
        "recorded_at": moment_text(event.recorded_at),
        "actor": event.actor,
        "correlation_id": event.correlation_id,
        "causation_id": None if event.causation_id is None else str(event.causation_id),
        "basis": event.position.token,
        "data": event.data,
    }


def why_none(reference_data_id: str, snap: Snap, events: Sequence[ev.Event]) -> tuple[str, str, UUID | None]:
    """Reason, sentence and, where one holds the value, the exception. ``events`` are of a stream without an
    official value, not empty."""
    state = ValueHistory(reference_data_id, snap).fold(events)
    where = f"{reference_data_id} at {snap.text}"
    if state.issue is not None:
        return "held-for-review", f"{where} is held for review: {state.issue.reason}", state.issue.issue_id
    if state.decision is None:
        return "not-yet-reconciled", f"claims for {where} are stored and not reconciled yet", None
    detail = f"{where}: {state.decision['reason']}"
    if state.decision["status"] == "insufficient":
        return "insufficient-sources", detail, None
    return "no-official-value", detail, None


def claims_by_source(events: Sequence[ev.Event]) -> dict[str, list[dict[str, Any]]]:
    """The claims in a value's events with their outcomes, by source, in order of recording."""
    found: dict[str, list[dict[str, Any]]] = {}
    for claim in _claims(events):
        found.setdefault(claim["source"], []).append(claim)
    return found


def explain(series: Series, snap: Snap, events: Sequence[ev.Event]) -> dict[str, Any]:
    """Why the value of ``series`` at ``snap`` is what it is.

    Args:
        events: of the value's stream and of the findings about the snap, in order.
    """
    own = [e for e in events if e.stream == ev.value_stream(series.reference_data_id, snap.text)]
    state = ValueHistory(series.reference_data_id, snap).fold(own)
    claims = _claims(own)
    decision = _decision(own)
    versions = [_version(e) for e in own if e.type in _OFFICIAL]
    exceptions = _exceptions(events)
    lists = {"claims": claims, "versions": versions, "exceptions": exceptions}
    newest = {name: newest_fitting(items, MOST_BYTES) for name, items in lists.items()}
    if state.official is not None:
        status = "official"
    else:
        status, _, _ = why_none(series.reference_data_id, snap, own)
    return {
        "reference_data_id": series.reference_data_id,
        "snap": snap.text,
        "status": status,
        "value": None if state.official is None else value_json(state.official.value),
        "explanation": " ".join(_sentences(series, snap, state, claims, decision, versions, exceptions)),
        "claims": newest["claims"],
        "decision": decision,
        "versions": newest["versions"],
        "exceptions": newest["exceptions"],
        **omitted({name: len(items) - len(newest[name]) for name, items in lists.items()}),
    }


def omitted(counts: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """The part of an answer that says what it leaves out; nothing where it has all."""
    left_out = {name: count for name, count in counts.items() if count}
    return {"omitted": left_out} if left_out else {}


def _claims(events: Iterable[ev.Event]) -> list[dict[str, Any]]:
    events = list(events)
    outcomes = _outcomes(events)
    found = []
    for event in events:
        if event.type != ev.DATA_INGESTED:
            continue
        data = event.data
        outcome, detail = outcomes.get(data["claim_id"], ("waiting", "not reconciled yet"))
        found.append(
            {
                "claim_id": data["claim_id"],
                "source": data["source"],
                "value": data["value"],
                "volume": data.get("volume"),
                "received_at": data.get("received_at"),
                "recorded_at": moment_text(event.recorded_at),
                "submitted_by": event.actor,
                "outcome": outcome,
                "detail": detail,
                "raw": _raw(data),
            }
        )
    return found


def _outcomes(events: Iterable[ev.Event]) -> dict[str, tuple[str, str | None]]:
    """What became of each claim: the word of the last decision, and of an operator after it."""
    found: dict[str, tuple[str, str | None]] = {}
    source_of: dict[str, str] = {}
    for event in events:
        if event.type == ev.DATA_INGESTED:
            source_of[event.data["claim_id"]] = event.data["source"]
        elif event.type == ev.DATA_RECONCILED:
            unlisted = event.data.get("unlisted", {})
            found = {
                claim_id: ("superseded", f"{source} made later claims")
                for claim_id, source in source_of.items()
                if source in unlisted
            }
            found |= {c["claim_id"]: ("used", None) for c in event.data["sources_used"]}
            found |= {c["claim_id"]: (c["rule"], c["detail"]) for c in event.data["sources_rejected"]}
        elif event.type == ev.QUALITY_REJECTED:
            detail = f"rejected in the exception queue: {event.data['reason']}"
            found |= dict.fromkeys(event.data["claim_ids"], ("withdrawn-by-operator", detail))
    return found


def _raw(data: Mapping[str, Any]) -> str | None:
    raw = data.get("raw")
    return None if raw is None else f"{raw['uri']}#{raw['index']}"


def _decision(events: Sequence[ev.Event]) -> dict[str, Any] | None:
    for event in reversed(events):
        if event.type == ev.DATA_RECONCILED:
            keys = ("status", "value", "method", "confidence", "reason", "rules", "rules_version", "checks")
            chain = [ref._asdict() for ref in chain_of(event.data)]
            fields = {"fields": event.data["fields"]} if "fields" in event.data else {}
            return {
                **{k: event.data[k] for k in keys},
                **fields,
                "rules_chain": chain,
                "weights": event.data.get("weights"),
                "decided_at": moment_text(event.recorded_at),
            }
    return None


def _version(event: ev.Event) -> dict[str, Any]:
    data = event.data
    return {
        "version": data["official_version"],
        "value": data["value"],
        "recorded_from": moment_text(event.recorded_at),
        "cause": data.get("cause"),
        "reason": data.get("reason"),
        "by": data.get("restated_by"),
        "basis": event.position.token,
    }


def _exceptions(events: Iterable[ev.Event]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for event in events:
        data = event.data
        if event.type == ev.QUALITY_ISSUE_DETECTED:
            found[data["issue_id"]] = {
                "item": data["issue_id"],
                "status": "open",
                "kind": data["kind"],
                "proposed": data["proposed"],
                "reason": data["reason"],
                "opened_at": moment_text(event.recorded_at),
                "closed_at": None,
                "closed_by": None,
            }
        elif event.type in _CLOSED and data["issue_id"] in found:
            found[data["issue_id"]].update(
                status=_CLOSED[event.type], closed_at=moment_text(event.recorded_at), closed_by=event.actor
            )
    return list(found.values())


# in words ----------------------------------------------------------------------------------------


def _sentences(
    series: Series,
    snap: Snap,
    state: ValueHistory,
    claims: Sequence[Mapping[str, Any]],
    decision: Mapping[str, Any] | None,
    versions: Sequence[Mapping[str, Any]],
    exceptions: Sequence[Mapping[str, Any]],
) -> list[str]:
    said = [_opening(series, snap, state, versions), _claims_sentence(claims)]
    if decision is None:
        said.append("They are not reconciled yet.")
    else:
        said.append(
            f"Rule set {_chain_text(decision['rules_chain'])} decided by"
            f" {decision['method']}: {decision['reason']}."
        )
        said += [_check_sentence(c) for c in decision["checks"]]
        if decision["weights"]:
            said.append(_weights_sentence(decision["weights"]))
    said += [_restated_sentence(a, b) for a, b in pairwise(versions[-MOST_TOLD:])]
    if state.pinned is not None:
        said.append("A person set this value, so later claims are recorded and do not replace it.")
    said += [_exception_sentence(e) for e in exceptions[-MOST_TOLD:]]
    return said


def _chain_text(chain: Sequence[Mapping[str, Any]]) -> str:
    first, *broader = (f"{ref['rules']} version {ref['version']}" for ref in chain)
    return first if not broader else f"{first} (extending {', '.join(broader)})"


def _opening(series: Series, snap: Snap, state: ValueHistory, versions: Sequence[Mapping[str, Any]]) -> str:
    unit = series.semantics.currency or series.semantics.unit or ""
    where = f"{series.name} ({series.reference_data_id}) at {snap.text}"
    if state.official is None:
        return f"{where} has no official value{_held(state.issue)}."
    last = versions[-1]
    return (
        f"{where} is {f'{value_text(state.official.value)} {unit}'.rstrip()}, version {last['version']},"
        f" official since {last['recorded_from']}."
    )


def _held(issue: OpenIssue | None) -> str:
    return "" if issue is None else f": it is held for review as exception {issue.issue_id}"


def _claims_sentence(claims: Sequence[Mapping[str, Any]]) -> str:
    told = [
        f"{c['source']} said {short(c['value'])}"
        f" ({_when(c)}{c['outcome']}{': ' + c['detail'] if c['detail'] and c['outcome'] != 'used' else ''})"
        for c in claims[-MOST_TOLD:]
    ]
    count = "One claim was made" if len(claims) == 1 else f"{len(claims)} claims were made"
    which = "" if len(claims) <= MOST_TOLD else f", the last {MOST_TOLD} of them"
    return f"{count}{which}: {'; '.join(told)}."


def _when(claim: Mapping[str, Any]) -> str:
    if claim["received_at"]:
        return f"received {claim['received_at']}, "
    return f"stored {claim['recorded_at']}, "


def _check_sentence(check: Mapping[str, Any]) -> str:
    passed = "passed" if check["passed"] else "failed"
    return (
        f"Check {check['check']} {passed}: measured {check['measured']} against {check['threshold']}"
        f" ({check['detail']})."
    )


def _weights_sentence(weights: Mapping[str, int]) -> str:
    heaviest = sorted(weights.items(), key=lambda w: (-w[1], w[0]))
    told = ", ".join(f"{source} {weight / 1000:.1f}" for source, weight in heaviest)
    return f"In the vote, in units of log odds, the sources weighed: {told}."


def _restated_sentence(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    return (
        f"Version {after['version']} replaced {short(before['value'])} by {short(after['value'])} at"
        f" {after['recorded_from']}, cause {after['cause']}, by {after['by']}: {after['reason']}."
    )


def _exception_sentence(exception: Mapping[str, Any]) -> str:
    told = f"Exception {exception['item']} ({exception['kind']}: {exception['reason']}) is"
    if exception["status"] == "open":
        return f"{told} open since {exception['opened_at']}."
    return f"{told} {exception['status']} by {exception['closed_by']} at {exception['closed_at']}."


# as a graph --------------------------------------------------------------------------------------


class _Graph:
    def __init__(self) -> None:
        self.nodes: dict[str, dict[str, Any]] = {}
        self.edges: list[dict[str, str]] = []

    def node(self, id_: str, type_: str, label: str, event: ev.Event | None) -> None:
        self.nodes.setdefault(
            id_,
            {
                "id": id_,
                "type": type_,
                "label": label,
                "recorded_at": None if event is None else moment_text(event.recorded_at),
                "event_id": None if event is None else str(event.event_id),
            },
        )

    def edge(self, from_: str, to: str, relation: str) -> None:
        if from_ in self.nodes and to in self.nodes:
            self.edges.append({"from": from_, "to": to, "relation": relation})


def lineage(reference_data_id: str, snap: Snap, events: Sequence[ev.Event]) -> dict[str, Any]:
    """Raw payloads, claims, decisions, exceptions and official versions, with what led to what."""
    graph = _Graph()
    bodies = newest_fitting([e.data for e in events], MOST_BYTES)
    left_out = len(events) - len(bodies)
    events = events[left_out:]
    decision = approval = version = ""
    for event in events:
        data, own = event.data, f"event:{event.event_id}"
        if event.type == ev.DATA_INGESTED:
            _add_claim(graph, event)
        elif event.type == ev.DATA_RECONCILED:
            decision, approval = own, ""
            _add_decision(graph, event, own)
        elif event.type == ev.QUALITY_ISSUE_DETECTED:
            graph.node(
                f"exception:{data['issue_id']}", "exception", f"{data['kind']}: {data['reason']}", event
            )
            if data["kind"] == "suspect":
                graph.edge(decision, f"exception:{data['issue_id']}", "held")
        elif event.type == ev.QUALITY_APPROVED:
            approval = f"exception:{data['issue_id']}"
        elif event.type in _OFFICIAL:
            label = f"version {data['official_version']}: {short(data['value'])}"
            graph.node(own, "official", label, event)
            graph.edge(version, own, "restated")
            if approval:
                graph.edge(approval, own, "approved")
            elif data.get("cause") != "correction":
                graph.edge(decision, own, "published")
            version, approval = own, ""
    return {
        "reference_data_id": reference_data_id,
        "snap": snap.text,
        "nodes": list(graph.nodes.values()),
        "edges": graph.edges,
        **omitted({"events": left_out}),
    }


def _add_claim(graph: _Graph, event: ev.Event) -> None:
    data = event.data
    claim = f"claim:{data['claim_id']}"
    graph.node(claim, "claim", f"{data['source']}: {short(data['value'])}", event)
    raw = _raw(data)
    if raw is not None:
        graph.node(raw, "raw", raw, None)
        graph.edge(raw, claim, "contains")


def _add_decision(graph: _Graph, event: ev.Event, own: str) -> None:
    data = event.data
    graph.node(own, "decision", f"{data['status']}: {data['reason']}", event)
    for claim in data["sources_used"]:
        graph.edge(f"claim:{claim['claim_id']}", own, "used")
    for claim in data["sources_rejected"]:
        graph.edge(f"claim:{claim['claim_id']}", own, "rejected")
