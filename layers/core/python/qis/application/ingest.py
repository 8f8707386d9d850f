"""Ingest: delivered records to claims in the log, each accounted for exactly once.

A record ends as accepted (an event), duplicate (its claim is known from another record) or rejected (a
broken rule, kept with its payload and dead-lettered). A redelivery of the same record changes nothing,
whatever was registered, changed or paused in between: the first outcome stands. Only a rejected record may
enter later.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from qis.application.answers import MAX_ANSWER, weight
from qis.application.ports import (
    Admission,
    Admissions,
    Candidate,
    Catalogue,
    CatalogueReader,
    DeadLetter,
    DeadLetters,
    Known,
    RecordOutcome,
    Rejection,
)
from qis.application.raw import pack
from qis.domain import exact_json
from qis.domain.claims import Claim, parse_claim
from qis.domain.errors import Conflict, InvalidInput, Violation, refuse, shown
from qis.domain.events import value_stream, value_stream_subject
from qis.domain.series import Series
from qis.domain.snap import parse_snap

MAX_BYTES = 65_536
"""Largest claim record; a claim is a few hundred bytes."""
MAX_REST_CLAIMS = 10_000
AGGREGATE = b"\xf3\x89\x9a\xc2"
"""What records that the Kinesis Producer Library packed together begin with; an adapter takes them apart."""
_CLAIM_BYTES = 350
"""Bytes in an answer for one claim without its violations, at most."""


class Delivery(NamedTuple):
    """One record as a stream or a request brought it. (A tuple, like all that is made once a record.)"""

    record_id: str
    """Identity of the record if its body names none: the same for every redelivery."""
    load_id: str
    """Load that it counts under if its body names none."""
    payload: bytes
    redriven: bool = False


class _Taken(NamedTuple):
    """What became of a batch; where a record is named by number, by its place in it."""

    valid: Sequence[Candidate]
    known: Mapping[int, Known]
    """Those of the valid ones that did not enter."""
    rejected: Mapping[int, Rejection]
    """Those that are rejected now, with the violations on record."""
    settled: Mapping[int, RecordOutcome]
    """Those that would be rejected now, and were accepted or duplicates at an earlier delivery."""


def decode(payload: bytes) -> Any:
    """JSON with exact decimals; constants such as NaN and repeated keys are refused.

    Raises:
        InvalidInput: rules ``max-bytes``, ``json``, ``aggregate``, ``finite``, ``distinct-keys``.
    """
    if len(payload) > MAX_BYTES:
        raise refuse("record", f"({len(payload)} bytes)", "max-bytes", f"is larger than {MAX_BYTES} bytes")
    plain = _decode_plain(payload)
    if plain is not None:
        return plain
    try:
        return exact_json.decode(payload.decode("utf-8"))
    except (ValueError, RecursionError, ArithmeticError) as error:
        rule, said = "json", f"is not JSON ({type(error).__name__})"
        if payload.startswith(AGGREGATE):
            rule, said = "aggregate", "is an aggregate of the Kinesis Producer Library that is damaged"
        raise refuse("record", shown(payload[:80].decode("utf-8", "replace")), rule, said) from error


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
        admissions: Admissions,
        catalogue: CatalogueReader,
        raw_place: str,
        dead_letters: DeadLetters,
        new_id: Callable[[], UUID],
    ) -> None:
        self._admissions = admissions
        self._catalogue = catalogue
        self._raw_place = raw_place
        self._dead_letters = dead_letters
        self._new_id = new_id

    def deliveries(self, batch: Sequence[Delivery]) -> dict[str, int]:
        """Take a batch from a stream, durably.

        Returns:
            How many records ended as ``accepted``, ``duplicate``, ``rejected`` or ``redelivered``.

        Raises:
            Unavailable: nothing may be assumed; redelivering the whole batch is safe.
        """
        with self._admissions.open() as admission:
            taken = self._take(admission, batch, None)
        letters = [
            DeadLetter(r.record_id, r.load_id, _reason(r), r.violations, r.payload)
            for r in taken.rejected.values()
        ]
        # After the commit, before the acknowledgement: a crash in between redelivers, and sends again.
        if letters:
            self._dead_letters.send(letters)
        duplicates = list(taken.known.values()).count("duplicate")
        duplicates += sum(s.outcome == "duplicate" for s in taken.settled.values())
        return {
            "accepted": len(taken.valid) - len(taken.known),
            "duplicate": duplicates,
            "rejected": len(letters),
            "redelivered": len(taken.known) + len(taken.settled) - duplicates,
        }

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
        with self._admissions.open() as admission:
            if idempotency_key is not None:
                known = admission.find_receipt(actor, idempotency_key)
                if known is not None:
                    if known[0] != digest:
                        raise Conflict("the idempotency key was used for another request")
                    return _answered(known[1])
            receipt = self._new_id()
            batch = [Delivery(f"{receipt}:{i}", str(receipt), p) for i, p in enumerate(payloads)]
            taken = self._take(admission, batch, actor)
            answer = {
                "receipt": str(receipt),
                "correlation_id": correlation_id,
                "status": "stored",
                "accepted": len(taken.valid) - len(taken.known),
                "duplicates": len(taken.known) + len(taken.settled),
                "rejected": len(taken.rejected),
                "claims": _within_answer(_claim_answers(taken), MAX_ANSWER),
            }
            admission.keep_receipt(receipt, actor, idempotency_key, digest, answer)
        return _answered(answer)

    def _take(self, admission: Admission, batch: Sequence[Delivery], actor: str | None) -> _Taken:
        payloads = [d.payload for d in batch]
        bodies = [_body(p) for p in payloads]
        catalogue = self._catalogue_for(bodies)
        streams = [_stream(b, catalogue.series) for b in bodies]
        valid: list[Candidate] = []
        rejected: dict[int, Rejection] = {}
        admission.take([s for s in streams if s is not None])
        raw = pack(payloads, self._raw_place)
        admission.keep(raw)
        for place, delivery in enumerate(batch):
            checked = _examine(delivery, bodies[place], catalogue)
            if isinstance(checked, Rejection):
                rejected[place] = checked
                continue
            claim, record_id, load_id = checked
            stream = streams[place]
            assert stream is not None, "a claim has a series and a snap"
            by, redriven = actor or f"feed:{claim.source}", delivery.redriven
            valid.append(Candidate(claim, stream, record_id, load_id, by, raw.address, place, redriven))
        known, entered = admission.store(valid)
        as_entered = {candidate.place: candidate for candidate in entered}
        valid = [as_entered.get(candidate.place, candidate) for candidate in valid]
        standing = admission.count(list(rejected.values()))
        settled: dict[int, RecordOutcome] = {}
        for place, rejection in list(rejected.items()):
            stands = standing[rejection.record_id]
            if stands.outcome == "rejected":
                rejected[place] = rejection._replace(violations=stands.violations)
            else:
                settled[place] = stands
                del rejected[place]
        return _Taken(valid, known, rejected, settled)

    def _catalogue_for(self, bodies: Sequence[Any]) -> Catalogue:
        """The catalogue; read anew if a record names what it does not have, since that may have been
        registered a moment ago, and for these very claims."""
        catalogue = self._catalogue.current()
        series, active = catalogue.series, catalogue.active
        try:
            for body in bodies:
                if isinstance(body, dict) and not (
                    body.get("reference_data_id") in series and active.get(body.get("source", ""))
                ):
                    return self._catalogue.newest()
        except TypeError:  # a list or an object as a name
            return self._catalogue.newest()
        return catalogue


def _body(payload: bytes) -> Any:
    """What a record holds, or why it cannot be read."""
    try:
        return decode(payload)
    except InvalidInput as refusal:
        return refusal


def _stream(body: Any, series_of: Mapping[str, Series]) -> str | None:
    """The stream that a claim is for; ``None``: its series or its snap is none, and it will be rejected."""
    named = body.get("reference_data_id") if isinstance(body, dict) else None
    series = series_of.get(named) if isinstance(named, str) else None
    if series is None:
        return None
    try:
        snap = parse_snap(body.get("snap"), series.semantics.snap_time)
    except InvalidInput:
        return None
    return value_stream(series.reference_data_id, snap.text)


def _examine(delivery: Delivery, body: Any, catalogue: Catalogue) -> tuple[Claim[Any], str, str] | Rejection:
    """The record as a valid claim, with its own identity and load, or its rejection."""
    record_id, load_id, payload, redriven = delivery
    try:
        if isinstance(body, InvalidInput):
            raise body
        if isinstance(body, dict):
            if "record_id" in body:
                record_id = _own_id(body, "record_id", record_id)
            if "correlation_id" in body:
                load_id = _own_id(body, "correlation_id", load_id)
        return parse_claim(body, catalogue.series, catalogue.active), record_id, load_id
    except InvalidInput as invalid:
        violations = [v.as_json() for v in invalid.violations]
        return Rejection(record_id, load_id, violations, payload, redriven)


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


def _reason(rejection: Rejection) -> str:
    return "; ".join(f"{v['field']}: {v['message']} [{v['rule']}]" for v in rejection.violations)


def _encode(claim: object) -> bytes:
    return json.dumps(claim, default=_plain, separators=(",", ":"), sort_keys=True).encode()


def _plain(value: object) -> str:
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _claim_answers(taken: _Taken) -> list[dict[str, Any]]:
    """What became of each claim of a request, in its order."""
    answers: dict[int, dict[str, Any]] = {}
    for candidate in taken.valid:
        outcome = "duplicate" if candidate.place in taken.known else "accepted"
        answers[candidate.place] = _claim_answer(outcome, candidate.claim.claim_id, candidate.stream)
    for place, stands in taken.settled.items():
        answers[place] = _claim_answer("duplicate", stands.claim_id, stands.stream)
    for place, rejection in taken.rejected.items():
        answers[place] = _claim_answer("rejected", None, None) | {
            "violations": list(rejection.violations),
            "record_id": rejection.record_id,
        }
    return [{"index": place, **answers[place]} for place in range(len(answers))]


def _claim_answer(outcome: str, claim_id: str | None, stream: str | None) -> dict[str, Any]:
    answer: dict[str, Any] = {"outcome": outcome, "claim_id": claim_id, "violations": []}
    if stream is not None:
        answer["reference_data_id"], answer["snap"] = value_stream_subject(stream)
    return answer


def _within_answer(claims: list[dict[str, Any]], budget: int) -> list[dict[str, Any]]:
    """The answers to all claims, the violations only of those first ones for which there is room.

    A claim without its violations says how many are left out, and keeps the record by which they are found.
    """
    budget -= _CLAIM_BYTES * len(claims)
    for claim in claims:
        if claim["violations"]:
            budget -= weight(claim["violations"])
        if claim["violations"] and budget < 0:
            claim["violations_omitted"] = len(claim["violations"])
            claim["violations"] = []
        else:
            claim.pop("record_id", None)
    return claims


def _answered(kept: dict[str, Any]) -> dict[str, Any]:
    """The answer that is kept with a receipt as its submitter gets it."""
    claims = [{k: v for k, v in c.items() if k != "record_id"} for c in kept["claims"]]
    return {**kept, "claims": claims}
