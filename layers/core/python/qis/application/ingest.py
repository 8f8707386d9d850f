"""Ingest: delivered records to claims in the log, each accounted for exactly once.

A record ends as accepted (an event), duplicate (its claim is known from another record) or rejected (a
broken rule, kept with its payload and dead-lettered). A redelivery of the same record changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from hashlib import sha256
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec

from qis.application.ports import (
    NO_CLAIMS,
    Append,
    Catalogue,
    CatalogueReader,
    Contended,
    DeadLetter,
    DeadLetters,
    EventStore,
    KnownClaims,
    Outcome,
    RawStore,
    Receipts,
)
from qis.domain import exact_json
from qis.domain.claims import Claim, parse_claim
from qis.domain.errors import Conflict, InvalidInput, Violation, refuse, shown
from qis.domain.events import DATA_INGESTED, NewEvent, value_stream, value_stream_subject

ATTEMPTS = 8
MAX_BYTES = 65_536
"""Largest claim record; a claim is a few hundred bytes."""
MAX_REST_CLAIMS = 10_000
_UNKNOWN = frozenset({"known-series", "known-source", "active-source"})
"""Rules that a change of the catalogue may have made good."""


class Delivery(NamedTuple):
    """One record as a stream or a request brought it. (A tuple, like all that is made once a record.)"""

    record_id: str
    """Identity of the record if its body names none: the same for every redelivery."""
    load_id: str
    """Load that it counts under if its body names none."""
    payload: bytes
    redriven: bool = False


class _Accepted(NamedTuple):
    claim: Claim
    stream: str
    record_id: str
    load_id: str
    place: int
    redriven: bool


def decode(payload: bytes) -> Any:
    """JSON with exact decimals; constants such as NaN and repeated keys are refused.

    Raises:
        InvalidInput: rules ``max-bytes``, ``json``, ``finite``, ``distinct-keys``.
    """
    if len(payload) > MAX_BYTES:
        raise refuse("record", f"({len(payload)} bytes)", "max-bytes", f"is larger than {MAX_BYTES} bytes")
    plain = _decode_plain(payload)
    if plain is not None:
        return plain
    try:
        return exact_json.decode(payload.decode("utf-8"))
    except (ValueError, RecursionError, ArithmeticError) as error:
        raise refuse(
            "record",
            shown(payload[:80].decode("utf-8", "replace")),
            "json",
            f"is not JSON ({type(error).__name__})",
        ) from error


def _decode_plain(payload: bytes) -> dict[str, str] | None:
    """A flat object of strings, as nearly every claim is, five times as fast; ``None`` for anything else.

    Without escapes a quote and colon stand only behind a key, so counting them finds a repeated one.
    """
    if b"\\" in payload:
        return None
    try:
        body = _PLAIN.decode(payload)
    except msgspec.DecodeError:
        return None
    return body if payload.count(b'":') == len(body) else None


_PLAIN = msgspec.json.Decoder(dict[str, str])


class Ingest:
    """The use case. One instance per process."""

    def __init__(
        self,
        store: EventStore,
        catalogue: CatalogueReader,
        raw: RawStore,
        dead_letters: DeadLetters,
        receipts: Receipts,
        new_id: Callable[[], UUID],
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._raw = raw
        self._dead_letters = dead_letters
        self._receipts = receipts
        self._new_id = new_id
        self._uploads = ThreadPoolExecutor(1, thread_name_prefix="raw")

    def deliveries(self, batch: Sequence[Delivery]) -> dict[str, int]:
        """Take a batch from a stream, durably.

        Returns:
            How many records ended as ``accepted``, ``duplicate``, ``rejected`` or ``redelivered``.

        Raises:
            Contended, Unavailable: nothing may be assumed; redelivering the whole batch is safe.
        """
        outcomes, _ = self._take(batch, None)
        letters = [
            DeadLetter(o.record_id, o.load_id, _reason(o), o.violations, o.payload)
            for o in outcomes.values()
            if o.kind == "rejected"
        ]
        # After the commit, before the acknowledgement: a crash in between redelivers, and sends again.
        if letters:
            self._dead_letters.send(letters)
        counts = {"accepted": 0, "duplicate": 0, "rejected": 0}
        for outcome in outcomes.values():
            counts[outcome.kind] += 1
        return {**counts, "redelivered": len(batch) - len(outcomes)}

    def submit(
        self, claims: list[object], actor: str, correlation_id: str, idempotency_key: str | None
    ) -> dict[str, Any]:
        """Take claims of a REST request, durably, and answer with a receipt.

        Raises:
            InvalidInput: no claims, or too many.
            Conflict: the idempotency key was used for another request.
        """
        if not 1 <= len(claims) <= MAX_REST_CLAIMS:
            raise refuse("claims", f"({len(claims)})", "count", f"is not 1 to {MAX_REST_CLAIMS} claims")
        payloads = [_encode(c) for c in claims]
        digest = sha256(b"\n".join(payloads)).digest()
        if idempotency_key is not None:
            known = self._receipts.find(actor, idempotency_key)
            if known is not None:
                if known[0] != digest:
                    raise Conflict("the idempotency key was used for another request")
                return known[1]
        receipt = self._new_id()
        batch = [Delivery(f"{receipt}:{i}", str(receipt), p) for i, p in enumerate(payloads)]
        outcomes, repeated = self._take(batch, actor)
        outcomes |= repeated
        answer = {
            "receipt": str(receipt),
            "correlation_id": correlation_id,
            "status": "stored",
            **{
                f"{name}": sum(o.kind == kind for o in outcomes.values())
                for name, kind in (
                    ("accepted", "accepted"),
                    ("duplicates", "duplicate"),
                    ("rejected", "rejected"),
                )
            },
            "claims": [_claim_answer(i, outcomes[i]) for i in range(len(batch))],
        }
        return self._receipts.keep(receipt, actor, idempotency_key, digest, answer)

    def _take(
        self, batch: Sequence[Delivery], actor: str | None
    ) -> tuple[dict[int, Outcome], dict[int, Outcome]]:
        """Outcomes by index in the batch, and apart from them those of redelivered records, which count
        for nothing."""
        payloads = [d.payload for d in batch]
        uri = self._raw.address(payloads)
        upload = self._uploads.submit(self._raw.put, uri, payloads)
        outcomes, accepted = _examine_all(batch, self._catalogue.current())
        if any(v["rule"] in _UNKNOWN for o in outcomes.values() for v in o.violations):
            # It may have been registered a moment ago, and for these very claims.
            outcomes, accepted = _examine_all(batch, self._catalogue.newest())
        waiting = list(outcomes.values())
        repeated: dict[int, Outcome] = {}
        for _ in range(ATTEMPTS):
            with self._store.claims({a.stream for a in accepted}) as stored:
                events = [_event(a, uri) for a in accepted]
            appends, decided, again = _decide(accepted, events, stored, actor)
            # Before the transaction, not in it: one that waits for another service holds up every follower.
            upload.result()
            lost = self._store.append(appends, [*waiting, *decided.values()])
            outcomes |= {i: o for i, o in decided.items() if o.stream not in lost}
            repeated |= {i: o for i, o in again.items() if o.stream not in lost}
            if not lost:
                return outcomes, repeated
            waiting = []
            accepted = [a for a in accepted if a.stream in lost]
        raise Contended(f"{len(accepted)} claims lost to other writers {ATTEMPTS} times")


def _decide(
    accepted: Sequence[_Accepted],
    events: Sequence[NewEvent],
    stored: Mapping[str, KnownClaims],
    actor: str | None,
) -> tuple[list[Append], dict[int, Outcome], dict[int, Outcome]]:
    """Appends and outcomes of valid claims, given what their streams hold, and the redelivered ones."""
    appends: list[Append] = []
    outcomes: dict[int, Outcome] = {}
    repeated: dict[int, Outcome] = {}
    versions: dict[str, int] = {}
    records: dict[str, dict[str, str]] = {}
    for item, event in zip(accepted, events, strict=True):
        stream, claim_id = item.stream, item.claim.claim_id
        if stream not in versions:
            found = stored.get(stream, NO_CLAIMS)
            versions[stream], records[stream] = found.version, dict(found.records)
        known = records[stream]
        if claim_id in known:
            into = outcomes if known[claim_id] != item.record_id else repeated
            into[item.place] = _outcome(item, "duplicate")
            continue
        known[claim_id] = item.record_id
        version = versions[stream]
        versions[stream] = version + 1
        outcomes[item.place] = _outcome(item, "accepted")
        appends.append(Append(stream, version, (event,), actor or f"feed:{item.claim.source}", item.load_id))
    return appends, outcomes, repeated


def _examine_all(
    batch: Sequence[Delivery], catalogue: Catalogue
) -> tuple[dict[int, Outcome], list[_Accepted]]:
    """Refusals by index in the batch, and the valid claims."""
    outcomes: dict[int, Outcome] = {}
    accepted: list[_Accepted] = []
    for index, delivery in enumerate(batch):
        taken = _examine(index, delivery, catalogue)
        if isinstance(taken, Outcome):
            outcomes[index] = taken
        else:
            accepted.append(taken)
    return outcomes, accepted


def _examine(index: int, delivery: Delivery, catalogue: Catalogue) -> _Accepted | Outcome:
    record_id, load_id = delivery.record_id, delivery.load_id
    try:
        body = decode(delivery.payload)
        if isinstance(body, Mapping):
            record_id = _own_id(body, "record_id", record_id)
            load_id = _own_id(body, "correlation_id", load_id)
        claim = parse_claim(body, catalogue.series, catalogue.active)
    except InvalidInput as refusal:
        return Outcome(
            record_id=record_id,
            load_id=load_id,
            kind="rejected",
            violations=[v.as_json() for v in refusal.violations],
            payload=delivery.payload,
            redriven=delivery.redriven,
        )
    stream = value_stream(claim.reference_data_id, claim.snap.text)
    return _Accepted(claim, stream, record_id, load_id, index, delivery.redriven)


def _own_id(body: Mapping[str, Any], name: str, default: str) -> str:
    value = body.get(name)
    if value is None:
        return default
    if (
        not isinstance(value, str)
        or not 1 <= len(value) <= 128
        or not value.isascii()
        or not value.isprintable()
    ):
        raise InvalidInput(
            Violation(name, shown(value), "identifier", "is not 1 to 128 printable ASCII characters")
        )
    return value


def _event(item: _Accepted, uri: str) -> NewEvent:
    body = item.claim.as_json()
    body["record_id"] = item.record_id
    body["raw"] = {"uri": uri, "index": item.place}
    return NewEvent(DATA_INGESTED, body)


def _outcome(item: _Accepted, kind: Literal["accepted", "duplicate"]) -> Outcome:
    return Outcome(
        item.record_id, item.load_id, kind, item.stream, item.claim.claim_id, (), b"", item.redriven
    )


def _reason(outcome: Outcome) -> str:
    return "; ".join(f"{v['field']}: {v['message']} [{v['rule']}]" for v in outcome.violations)


def _encode(claim: object) -> bytes:
    return json.dumps(claim, default=_plain, separators=(",", ":"), sort_keys=True).encode()


def _plain(value: object) -> str:
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _claim_answer(index: int, outcome: Outcome) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "index": index,
        "outcome": outcome.kind,
        "claim_id": outcome.claim_id,
        "violations": list(outcome.violations),
    }
    if outcome.stream is not None:
        answer["reference_data_id"], answer["snap"] = value_stream_subject(outcome.stream)
    return answer
