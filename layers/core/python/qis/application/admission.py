"""Which claims the log knows already."""

from __future__ import annotations

from collections.abc import Sequence

from qis.application.ports import Candidate, Known

Held = dict[str, dict[str, str]]
"""By stream, the claims that it holds, each with the record that brought it."""


def already_known(candidates: Sequence[Candidate], held: Held) -> dict[int, Known]:
    """Those of the candidates, by place, that do not enter where the streams hold ``held``; it is brought up
    to date.

    A claim is its content: whoever brings it first has it entered, another record with it is a duplicate, the
    same record again changes nothing.
    """
    found: dict[int, Known] = {}
    for candidate in candidates:
        claim_id, record_id = candidate.claim.claim_id, candidate.record_id
        stream = held.get(candidate.stream)
        if stream is None:
            held[candidate.stream] = {claim_id: record_id}
            continue
        bringer = stream.get(claim_id)
        if bringer is None:
            stream[claim_id] = record_id
        else:
            found[candidate.place] = "redelivered" if bringer == record_id else "duplicate"
    return found
