"""Ingest: delivered records to claims in the log, each accounted for exactly once.

A record ends as accepted (an event), duplicate (its claim is known from another record) or rejected (a
broken rule, kept with its payload and dead-lettered). A redelivery of the same record changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from hashlib import sha256
from operator import itemgetter
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec

from qis.application.ports import (
    Admissions,
    Candidate,
    Catalogue,
    CatalogueReader,
    DeadLetter,
    DeadLetters,
    Outcome,
    RawStore,
    Receipts,
    Unavailable,
)
from qis.domain import exact_json
from qis.domain.claims import parse_claim
from qis.domain.errors import Conflict, InvalidInput, Violation, refuse, shown
from qis.domain.events import value_stream, value_stream_subject

PIECE = 125
"""Records that are checked and handed to the log together: a few make a batch, so that both sides work."""
RAW_PATIENCE = 2.0
"""Seconds that a batch, its claims in the log but not committed, waits for its raw payloads to be kept."""
MAX_BYTES = 65_536
"""Largest claim record; a claim is a few hundred bytes."""
MAX_REST_CLAIMS = 10_000


class Delivery(NamedTuple):
    """One record as a stream or a request brought it. (A tuple, like all that is made once a record.)"""

    record_id: str
    """Identity of the record if its body names none: the same for every redelivery."""
    load_id: str
    """Load that it counts under if its body names none."""
    payload: bytes
    redriven: bool = False


class _Given(NamedTuple):
    """A record as it was read, or why it could not be."""

    order: str
    """What the names of its streams begin with, after the word ``value``."""
    place: int
    delivery: Delivery
    body: Any
    refusal: InvalidInput | None


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
        admissions: Admissions,
        catalogue: CatalogueReader,
        raw: RawStore,
        dead_letters: DeadLetters,
        receipts: Receipts,
        new_id: Callable[[], UUID],
    ) -> None:
        self._admissions = admissions
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
            Unavailable: nothing may be assumed; redelivering the whole batch is safe.
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
        given = [_read(place, delivery) for place, delivery in enumerate(batch)]
        catalogue = self._catalogue_for(given)
        outcomes: dict[int, Outcome] = {}
        repeated: dict[int, Outcome] = {}
        taken: list[Candidate] = []
        with self._admissions.open() as admission:
            for piece in _pieces(given):
                candidates: list[Candidate] = []
                for one in piece:
                    checked = _examine(one, catalogue, uri, actor)
                    if isinstance(checked, Outcome):
                        outcomes[one.place] = checked
                    else:
                        candidates.append(checked)
                admission.take(candidates)
                taken += candidates
            for candidate, fate in zip(taken, admission.store(), strict=True):
                redriven = batch[candidate.place].redriven
                if fate == "redelivered":
                    repeated[candidate.place] = _outcome(candidate, "duplicate", redriven)
                else:
                    outcomes[candidate.place] = _outcome(candidate, fate, redriven)
            # Before the commit, so that an event's raw payload is there as long as the event is; the upload
            # ran beside all of the above. And before the counting, whose rows other batches wait for.
            try:
                upload.result(RAW_PATIENCE)
            except TimeoutError as error:
                raise Unavailable(f"the raw store took more than {RAW_PATIENCE:g} s") from error
            admission.count(list(outcomes.values()))
        return outcomes, repeated

    def _catalogue_for(self, given: Sequence[_Given]) -> Catalogue:
        """The catalogue; read anew if a record names what it does not have, since that may have been
        registered a moment ago, and for these very claims."""
        catalogue = self._catalogue.current()
        for one in given:
            body = one.body
            if isinstance(body, dict) and not (
                _among(body.get("reference_data_id"), catalogue.series)
                and _among(body.get("source"), catalogue.active)
            ):
                return self._catalogue.newest()
        return catalogue


def _among(name: object, known: Mapping[str, object]) -> bool:
    return isinstance(name, str) and bool(known.get(name))


def _read(place: int, delivery: Delivery) -> _Given:
    try:
        body = decode(delivery.payload)
    except InvalidInput as refusal:
        return _Given("", place, delivery, None, refusal)
    named = body.get("reference_data_id") if isinstance(body, dict) else None
    # With the character that ends a series' name in a stream's, so that series sort as their streams do.
    return _Given(f"{named}@" if isinstance(named, str) else "", place, delivery, body, None)


def _pieces(given: list[_Given]) -> Iterator[Sequence[_Given]]:
    """``given`` in pieces as ``Admission.take`` wants them: by series, none in two pieces. The records of a
    series stay in their order."""
    given.sort(key=itemgetter(0))
    start = 0
    while start < len(given):
        end = min(start + PIECE, len(given))
        while end < len(given) and given[end].order == given[end - 1].order:
            end += 1
        yield given[start:end]
        start = end


def _examine(given: _Given, catalogue: Catalogue, uri: str, actor: str | None) -> Candidate | Outcome:
    """The record as a valid claim, or its rejection."""
    _, place, delivery, body, refusal = given
    record_id, load_id = delivery.record_id, delivery.load_id
    try:
        if refusal is not None:
            raise refusal
        if isinstance(body, Mapping):
            record_id = _own_id(body, "record_id", record_id)
            load_id = _own_id(body, "correlation_id", load_id)
        claim = parse_claim(body, catalogue.series, catalogue.active)
    except InvalidInput as invalid:
        return Outcome(
            record_id=record_id,
            load_id=load_id,
            kind="rejected",
            violations=[v.as_json() for v in invalid.violations],
            payload=delivery.payload,
            redriven=delivery.redriven,
        )
    stream = value_stream(claim.reference_data_id, claim.snap.text)
    return Candidate(claim, stream, record_id, load_id, actor or f"feed:{claim.source}", uri, place)


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


def _outcome(candidate: Candidate, kind: Literal["accepted", "duplicate"], redriven: bool) -> Outcome:
    _, stream, record_id, load_id, _, _, _ = candidate
    return Outcome(record_id, load_id, kind, stream, candidate.claim.claim_id, (), b"", redriven)


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
