"""Which claims and records the log knows already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from qis.application.ports import Candidate, Known, Standing

Held = dict[str, dict[str, str]]
"""By stream, the claims that it holds, each with the record that brought it."""


def already_known(candidates: Sequence[Candidate], held: Held) -> dict[int, Known]:
    """Those of the candidates, by place, that do not enter where the streams hold ``held``; it is brought up
    to date.

    A claim is its content: whoever brings it first has it entered, another record with it is a duplicate, the
    same record again changes nothing. A record that had a claim entered is accepted, whatever else it brings.
    """
    known: dict[int, Known] = {}
    duplicates: list[Candidate] = []
    for candidate in candidates:
        claim_id, record_id = candidate.claim.claim_id, candidate.record_id
        stream = held.get(candidate.stream)
        if stream is None:
            held[candidate.stream] = {claim_id: record_id}
            continue
        bringer = stream.get(claim_id)
        if bringer is None:
            stream[claim_id] = record_id
        elif bringer == record_id:
            known[candidate.place] = "redelivered"
        else:
            known[candidate.place] = "duplicate"
            duplicates.append(candidate)
    if duplicates:
        accepted = accepted_records([c.record_id for c in duplicates], held)
        known.update({c.place: "redelivered" for c in duplicates if c.record_id in accepted})
    return known


def accepted_records(records: Iterable[str], held: Mapping[str, Mapping[str, str]]) -> dict[str, Standing]:
    """Those of the records that had a claim entered into a stream of ``held``.

    A record names its series and snap, so an admission that takes the stream of each record sees all that
    earlier deliveries of them had entered, without a further look-up.
    """
    wanted = frozenset(records)
    return {
        record_id: Standing("accepted", claim_id, stream)
        for stream, claims in held.items()
        for claim_id, record_id in claims.items()
        if record_id in wanted
    }
