"""Which claims enter the log, and which are known already."""

from __future__ import annotations

from collections.abc import Sequence

from qis.application.ports import Candidate, Fate

Known = dict[str, dict[str, str]]
"""By stream, the claims that it holds, each with the record that brought it."""


def fates(candidates: Sequence[Candidate], known: Known) -> list[Fate]:
    """What becomes of each candidate, in order, where the streams hold ``known``; it is brought up to date.

    A claim is its content: whoever brings it first is accepted, another record with it is a duplicate, the
    same record again changes nothing.
    """
    found: list[Fate] = []
    for candidate in candidates:
        claim_id, record_id = candidate.claim.claim_id, candidate.record_id
        stream = known.get(candidate.stream)
        if stream is None:
            known[candidate.stream] = {claim_id: record_id}
            found.append("accepted")
            continue
        bringer = stream.get(claim_id)
        if bringer is None:
            stream[claim_id] = record_id
            found.append("accepted")
        else:
            found.append("redelivered" if bringer == record_id else "duplicate")
    return found
