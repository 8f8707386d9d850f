"""Sequence numbers of providers: what of a channel did not come, came again, or began anew.

A provider numbers the messages of a channel one by one. A number that is missing is a message that was lost
on the way or waits somewhere; late ones fill their gap. Claims of one message carry the same number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from qis.domain.findings import Finding
from qis.domain.snap import Snap, parse_instant

GRACE = timedelta(minutes=1)
"""For which a number may be missing before it is told: shards and retries put neighbours out of order."""
BEGINNING = 1
"""Numbers up to this one begin a channel anew at once; a higher one does where the next one follows it."""
MOST_GAPS = 100
"""Gaps and incidents of a channel that are remembered, the newest."""

Key = tuple[str, str]
"""Source and channel."""


class Place(NamedTuple):
    """The claim that showed it."""

    reference_data_id: str
    snap: str


class Gap(NamedTuple):
    """Numbers that did not come, ends included."""

    first: int
    last: int
    place: Place
    at: datetime
    """When the first number after them was recorded."""

    @property
    def missing(self) -> int:
        return self.last - self.first + 1


class Incident(NamedTuple):
    """A number that was no news: ``sequence_reset`` or ``sequence_repeated``."""

    kind: str
    number: int
    last: int
    """The highest number before."""
    place: Place


@dataclass(slots=True)
class Channel:
    """What is known of a channel. ``take`` is given every claim in the order of the log, once."""

    last: int | None = None
    place: Place | None = None
    """The last claim with the number ``last``."""
    received: int = 0
    """Numbers that came, each counted once."""
    gaps: list[Gap] = field(default_factory=list)
    """Open, by their first number."""
    lost: list[Gap] = field(default_factory=list)
    """Open when the channel began anew, so that nothing can fill them."""
    filled: list[Place] = field(default_factory=list)
    """Places of gaps that were filled."""
    incidents: list[Incident] = field(default_factory=list)
    doubt: tuple[int, Place] | None = None
    """A number below the last that may begin the channel anew, or be one that came again."""
    resets: int = 0
    repeated: int = 0

    @property
    def missing(self) -> int:
        """Numbers that did not come."""
        return sum(g.missing for g in (*self.gaps, *self.lost))

    def take(self, number: int, place: Place, at: datetime) -> None:
        """Take the number of a claim."""
        if self.doubt is not None and self.doubt[0] != number:
            self._resolve(number)
        if self.last is None:
            self._forward(number, place)
        elif number > self.last:
            if number > self.last + 1:
                self.gaps = [*self.gaps, Gap(self.last + 1, number - 1, place, at)][-MOST_GAPS:]
            self._forward(number, place)
        elif number == self.last:
            if place == self.place:
                self._note("sequence_repeated", number, place)
            self.place = place
        elif not self._fill(number):
            if number <= BEGINNING:
                self._begin(number, place)
            else:
                self.doubt = number, place

    def findings(self, key: Key, now: datetime) -> list[Finding]:
        """What is to be told by ``now``."""
        source, channel = key
        name = f"channel {channel} of {source}" if channel else source
        scope = f"sequence/{source}/{channel}" if channel else f"sequence/{source}"
        found = []
        for gap in (*self.lost, *self.gaps):
            if gap.at + GRACE <= now:
                numbers = str(gap.first) if gap.first == gap.last else f"{gap.first} to {gap.last}"
                said = f"{name}: {numbers} did not come ({gap.missing}), but {gap.last + 1} did"
                found.append(
                    _finding("sequence_gap", source, gap.place, numbers, "none missing", said, scope)
                )
        for one in self.incidents:
            said, severity = f"{name}: {one.number} came after {one.last}", "low"
            wanted = str(one.last + 1)
            found.append(
                _finding(one.kind, source, one.place, str(one.number), wanted, said, scope, severity)
            )
        return found

    def ripe(self, now: datetime) -> bool:
        """Whether all that there is to tell is told by ``now``."""
        return all(gap.at + GRACE <= now for gap in self.gaps)

    def summary(self, channel: str) -> dict[str, Any]:
        """For people: the newest gaps, and counts."""
        open_ = [*self.lost, *self.gaps]
        return {
            "channel": channel,
            "last": self.last,
            "received": self.received,
            "missing": self.missing,
            "resets": self.resets,
            "repeated": self.repeated,
            "gaps": [{"from": g.first, "to": g.last} for g in open_[-10:]],
        }

    def as_json(self) -> dict[str, Any]:
        return {
            "last": self.last,
            "place": self.place,
            "received": self.received,
            "gaps": [_gap_json(g) for g in self.gaps],
            "lost": [_gap_json(g) for g in self.lost],
            "filled": self.filled,
            "incidents": self.incidents,
            "doubt": self.doubt,
            "resets": self.resets,
            "repeated": self.repeated,
        }

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Channel:
        """The state in its JSON form."""
        place, doubt = body["place"], body["doubt"]
        return cls(
            last=body["last"],
            place=None if place is None else Place(*place),
            received=body["received"],
            gaps=[_gap(g) for g in body["gaps"]],
            lost=[_gap(g) for g in body["lost"]],
            filled=[Place(*p) for p in body["filled"]],
            incidents=[Incident(kind, n, last, Place(*p)) for kind, n, last, p in body["incidents"]],
            doubt=None if doubt is None else (doubt[0], Place(*doubt[1])),
            resets=body["resets"],
            repeated=body["repeated"],
        )

    def _forward(self, number: int, place: Place) -> None:
        self.last, self.place = number, place
        self.received += 1

    def _fill(self, number: int) -> bool:
        """Whether the number was missing. What is left of its gap stays open, in two parts where it was in
        the middle; the finding is over when nothing is left."""
        for at, gap in enumerate(self.gaps):
            if gap.first <= number <= gap.last:
                parts = [
                    part
                    for part in (gap._replace(last=number - 1), gap._replace(first=number + 1))
                    if part.missing
                ]
                self.gaps[at : at + 1] = parts
                self.received += 1
                if all(g.place != gap.place for g in self.gaps):
                    self.filled = [*self.filled, gap.place][-MOST_GAPS:]
                return True
        return False

    def _resolve(self, number: int) -> None:
        """What the number below the last was, now that another follows it."""
        assert self.doubt is not None
        held, place = self.doubt
        self.doubt = None
        if number == held + 1:
            self._begin(held, place)
        else:
            self._note("sequence_repeated", held, place)

    def _begin(self, number: int, place: Place) -> None:
        self._note("sequence_reset", number, place)
        self.lost = [*self.lost, *self.gaps][-MOST_GAPS:]
        self.gaps = []
        self._forward(number, place)

    def _note(self, kind: str, number: int, place: Place) -> None:
        assert self.last is not None
        self.incidents = [*self.incidents, Incident(kind, number, self.last, place)][-MOST_GAPS:]
        if kind == "sequence_reset":
            self.resets += 1
        else:
            self.repeated += 1


def _finding(
    kind: str,
    source: str,
    place: Place,
    measured: str,
    threshold: str,
    said: str,
    scope: str,
    severity: str | None = None,
) -> Finding:
    snap = parse_instant(place.snap, "snap")
    return Finding(kind, place.reference_data_id, snap, source, measured, threshold, said, scope, severity)


def gap_identity(source: str, place: Place) -> tuple[str, str, Snap, str | None]:
    """Identity of the finding about a gap."""
    return "sequence_gap", place.reference_data_id, parse_instant(place.snap, "snap"), source


def _gap_json(gap: Gap) -> Sequence[Any]:
    return [gap.first, gap.last, gap.place, gap.at.isoformat()]


def _gap(body: Sequence[Any]) -> Gap:
    first, last, place, at = body
    return Gap(first, last, Place(*place), datetime.fromisoformat(at))
