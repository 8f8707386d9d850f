"""Which claims and records the log knows already."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from qis.application.ports import Candidate, Known, RecordOutcome, Stored
from qis.domain.claims import EARLIEST, moment_of, repeated_identity
from qis.domain.snap import Snap

Held = dict[str, dict[str, str]]
"""By stream, the claims that it holds, each with the record that brought it."""


class HeldClaim(NamedTuple):
    """A claim that a stream holds, as far as it tells which is its source's last word."""

    claim_id: str
    source: str
    received_at: Snap | None
    recorded_at: Snap


class Lookup(Protocol):
    """What is looked up where a claim without a time of reception comes again, which is seldom."""

    def claims(self, streams: Collection[str]) -> Mapping[str, Sequence[HeldClaim]]:
        """The claims that streams hold, in the order of the log."""
        ...

    def duplicates(self, records: Collection[str]) -> Collection[str]:
        """Those of the records that were counted as duplicates."""
        ...

    def recorded_at(self, stream: str) -> Snap:
        """When what enters a stream now is recorded."""
        ...


def sort_out(candidates: Sequence[Candidate], held: Held, lookup: Lookup) -> Stored:
    """Sort candidates into those that enter and those that the log knows; ``held`` is brought up to date.

    A claim is all that it carries: whoever brings it first has it entered, another record with it is a
    duplicate, the same record again changes nothing. A record that had a claim entered is accepted, whatever
    else it brings. A claim without a time of reception is a duplicate only of its source's last word: after
    another one the source takes that back, and the claim enters once more.
    """
    known: dict[int, Known] = {}
    duplicates: list[Candidate] = []
    entering: list[Candidate] = []
    words = _Words(candidates, held, lookup)
    for candidate in candidates:
        claim, record_id = candidate.claim, candidate.record_id
        stream = held.setdefault(candidate.stream, {})
        bringer = stream.get(claim.claim_id)
        if bringer is None:
            pass
        elif bringer == record_id or (claim.received_at is None and record_id in stream.values()):
            known[candidate.place] = "redelivered"
            continue
        elif claim.received_at is not None or words.repeats(candidate, stream):
            known[candidate.place] = "duplicate"
            duplicates.append(candidate)
            continue
        else:
            again = repeated_identity(claim.claim_id, _times(claim.claim_id, stream))
            candidate = candidate._replace(claim=claim._replace(claim_id=again))
        stream[candidate.claim.claim_id] = record_id
        words.note(candidate)
        entering.append(candidate)
    if duplicates:
        accepted = accepted_records([c.record_id for c in duplicates], held)
        known.update({c.place: "redelivered" for c in duplicates if c.record_id in accepted})
    return Stored(known, entering)


def _times(claim_id: str, stream: Collection[str]) -> int:
    """How often a stream holds a claim."""
    times = 0
    while repeated_identity(claim_id, times) in stream:
        times += 1
    return times


class _Words:
    """The last word of each source in the streams in which it matters: where a claim without a time of
    reception comes again."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        held: Held,
        lookup: Lookup,
    ) -> None:
        self._lookup = lookup
        self._last: dict[tuple[str, str], tuple[int, str]] = {}
        seen: set[tuple[str, str]] = set()
        self._streams: set[str] = set()
        for candidate in candidates:
            if candidate.claim.received_at is None:
                stream, claim_id = candidate.stream, candidate.claim.claim_id
                if claim_id in held.get(stream, ()) or (stream, claim_id) in seen:
                    self._streams.add(stream)
                seen.add((stream, claim_id))
        self._duplicates: Collection[str] = ()
        if stored := self._streams & held.keys():
            self._duplicates = lookup.duplicates([c.record_id for c in candidates if c.stream in stored])
            for stream, claims in lookup.claims(stored).items():
                for claim in claims:
                    self._say(stream, claim)

    def note(self, candidate: Candidate) -> None:
        """A candidate enters."""
        if candidate.stream in self._streams:
            claim, now = candidate.claim, self._lookup.recorded_at(candidate.stream)
            self._say(candidate.stream, HeldClaim(claim.claim_id, claim.source, claim.received_at, now))

    def _say(self, stream: str, claim: HeldClaim) -> None:
        key = stream, claim.source
        latest, last = self._last.get(key, (EARLIEST, ""))
        moment = moment_of(claim.received_at, claim.recorded_at, latest)
        self._last[key] = max(latest, moment), claim.claim_id if moment >= latest else last

    def repeats(self, candidate: Candidate, stream: Collection[str]) -> bool:
        """Whether a claim that the stream holds is its source's last word, or was when its record was a
        duplicate of it."""
        if candidate.record_id in self._duplicates:
            return True
        _, last = self._last.get((candidate.stream, candidate.claim.source), (EARLIEST, ""))
        claim_id = candidate.claim.claim_id
        return last in {repeated_identity(claim_id, n) for n in range(_times(claim_id, stream))}


def accepted_records(
    records: Iterable[str], held: Mapping[str, Mapping[str, str]]
) -> dict[str, RecordOutcome]:
    """Those of the records that had a claim entered into a stream of ``held``.

    A record names its series and snap, so an admission that takes the stream of each record sees all that
    earlier deliveries of them had entered, without a further look-up.
    """
    wanted = frozenset(records)
    return {
        record_id: RecordOutcome("accepted", claim_id, stream)
        for stream, claims in held.items()
        for claim_id, record_id in claims.items()
        if record_id in wanted
    }
