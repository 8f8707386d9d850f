"""All sources of one series, snap by snap."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from math import exp, log
from typing import NamedTuple, Self

from qis.domain.detection.judgement import Action, Evidence, Fault, Found, Judgement, Observation
from qis.domain.detection.kept import keep, restore
from qis.domain.detection.peers import Distance, Peer, distances, middle, tail
from qis.domain.detection.rules import DetectionRules
from qis.domain.detection.schedule import Schedule, text_of
from qis.domain.detection.shapes import slip, transposition
from qis.domain.detection.stream import Stream, Suspicion, sure

_REGULAR = 0.9
"""Presence from which the absence of a source is a finding."""
_PRESENCE = 1 / 20
_BACK = 0.5
"""Part of ``peer_jump`` within which a source that was off is back."""
_EXCHANGES = 3
"""Exchanges of neighbouring digits that matter: later ones change nothing material."""
DOUBTED = 0.5
"""Credibility of a source while it is known to be off: biased, a day late, or on a level of its own."""


class _Source:
    """What is kept of one source."""

    __slots__ = ("peer", "present", "snaps", "stream")

    def __init__(self, rules: DetectionRules) -> None:
        self.stream = Stream(rules)
        self.peer = Peer(rules)
        self.present = 0.5
        """How often it spoke of late."""
        self.snaps = 0

    @property
    def trusted(self) -> bool:
        """Whether its word counts against others."""
        return not (self.stream.stale or self.peer.off_n or self.peer.biased or self.peer.shifted)


class _Place(NamedTuple):
    """A source's value at a snap beside its peers'."""

    x: float
    distance: Distance
    own: float
    """The source's own step, in its scales."""
    theirs: float
    """The largest step of a peer, in its scales."""
    peers: tuple[str, ...]
    complete: bool
    """Whether these are all that spoke at the snap."""


class Step(NamedTuple):
    """Where a value lies before it is judged, as logarithms."""

    level: float
    """The level of its source; ``size`` is how far it lies from it, ``last`` how far from the last value."""
    size: float
    last: float
    scale: float


class SeriesDetector:
    """The detector of one series. Snaps come in ascending order; claims of a snap in any order.

    A snap is judged from what is known of it and of those before. When another claim of the newest snap
    comes, judge the snap again, whole, from the checkpoint before it: the answer depends on the claims alone.
    """

    def __init__(self, reference_data_id: str, rules: DetectionRules) -> None:
        self.reference_data_id = reference_data_id
        self._rules = rules
        self._sources: dict[str, _Source] = {}
        self._schedule = Schedule()
        self._before: float | None = None
        """Consensus of the snap before, as a logarithm."""
        self._absent: tuple[str, ...] = ()
        self._last_ns = 0

    def observe(self, ns: int, given: Iterable[Observation]) -> list[Judgement]:
        """Judge every claim of a snap, and take them.

        Args:
            ns: the snap, later than the one before.
            given: its claims. Of two of one source, the one received last counts.
        """
        claims = _last_of_each(given)
        found: dict[str, list[Suspicion]] = {c.source: [] for c in claims}
        for claim in claims:
            if claim.source not in self._sources:
                self._sources[claim.source] = _Source(self._rules)
        self._rhythm(ns, found)
        places = self._places(claims) if len(claims) > 1 else {}
        consensus = self._consensus(places) if places else None
        for claim in claims:
            source = self._sources[claim.source]
            place = places.get(claim.source)
            if place is None or consensus is None:
                more = source.stream.judge(ns, claim.value, claim.volume)
            else:
                more = self._judge_beside(ns, claim, source, place, consensus)
            if more:
                found[claim.source] += more
        if consensus is not None:
            self._before = consensus
        self._last_ns = ns
        return [self._judgement(ns, name, suspicions) for name, suspicions in found.items()]

    @property
    def snaps(self) -> int:
        """How many snaps it has seen."""
        return self._schedule.count

    @property
    def last_ns(self) -> int | None:
        """The snap that it saw last."""
        return self._last_ns if self._sources else None

    def steps(self, given: Iterable[Observation]) -> dict[str, Step]:
        """The steps that claims of the next snap make, of sources that have a level above zero."""
        found = {}
        for claim in _last_of_each(given):
            source = self._sources.get(claim.source)
            if source is None or claim.value <= 0 or source.stream.linear or not source.stream.count:
                continue
            stream = source.stream
            x, _ = stream.step(claim.value)
            found[claim.source] = Step(stream.level, x - stream.level, x - stream.x, stream.scale)
        return found

    def rebase(self, shift: float) -> None:
        """Move what is known of levels by ``shift``, the logarithm of what prices are multiplied by from
        now on; of the securities traded there are as many more."""
        for source in self._sources.values():
            if not source.stream.linear:
                source.stream.rebase(shift)
                source.peer.last += shift
        if self._before is not None:
            self._before += shift

    def checkpoint(self) -> str:
        """The state as JSON: what ``restore`` makes the same detector of."""
        sources = {
            name: [keep(s.stream), keep(s.peer), s.present, s.snaps] for name, s in self._sources.items()
        }
        body = [keep(self._schedule), self._before, self._absent, self._last_ns, sources]
        return json.dumps(body, separators=(",", ":"))

    @classmethod
    def restore(cls, reference_data_id: str, rules: DetectionRules, checkpoint: str) -> Self:
        """The detector of a checkpoint.

        Raises:
            ValueError: it is not a checkpoint of this version of the code.
        """
        detector = cls(reference_data_id, rules)
        schedule, before, absent, last_ns, sources = json.loads(checkpoint)
        restore(detector._schedule, schedule)
        detector._before, detector._absent, detector._last_ns = before, tuple(absent), last_ns
        for name, (stream, peer, present, snaps) in sources.items():
            source = detector._sources[name] = _Source(rules)
            restore(source.stream, stream)
            restore(source.peer, peer)
            source.present, source.snaps = present, snaps
        return detector

    # the rhythm

    def _rhythm(self, ns: int, found: dict[str, list[Suspicion]]) -> None:
        """Sources that were absent at the snap before, snaps that all left out, and odd clock times.

        A snap at which fewer than half of the regular sources spoke is not one of the series' snaps, but a
        mistake in those that did: it says nothing of who is absent, and nothing of the rhythm.
        """
        here = tuple(found)
        for name in self._absent:
            others = tuple(n for n in here if n != name)
            found.setdefault(name, []).append(_missing(self._last_ns, "no claim, unlike its peers", others))
        self._absent = ()
        odd = self._schedule.odd_clock(ns)
        if odd is not None:
            for name in here:
                found[name].append(_odd_clock(ns, odd))
        regular = [
            n for n, s in self._sources.items() if s.present > _REGULAR and s.snaps > self._rules.warm_up
        ]
        if 2 * sum(n in found for n in regular) < len(regular):
            return
        for absent in self._schedule.take(ns):
            for name in regular or here:
                found.setdefault(name, []).append(_missing(absent, f"no claim for {text_of(absent)}", ()))
        self._absent = tuple(sorted(n for n in regular if n not in here))
        for name, source in self._sources.items():
            spoke = name in here
            source.snaps += spoke
            source.present += (spoke - source.present) * _PRESENCE

    # beside the others

    def _places(self, claims: Sequence[Observation]) -> dict[str, _Place]:
        """The place of every source with a usable value among those that are trusted.

        The trusted speak for all only while they are most of those that spoke: a few that agree with each
        other after the others were doubted would otherwise hold everybody else off for good.
        """
        usable = [c for c in claims if c.value > 0 and not self._sources[c.source].stream.linear]
        if len(usable) < 2:
            return {}
        values = {c.source: self._sources[c.source].stream.step(c.value) for c in usable}
        trusted = [c.source for c in usable if self._sources[c.source].trusted]
        if len(trusted) < 2 or 2 * len(trusted) <= len(usable):
            trusted = [c.source for c in usable]
        places = self._among(trusted, values, trusted)
        for claim in usable:
            if claim.source not in places:
                places |= self._among([claim.source], values, [*trusted, claim.source])
        return places

    def _among(
        self, wanted: Sequence[str], values: dict[str, tuple[float, float]], names: Sequence[str]
    ) -> dict[str, _Place]:
        peers = [self._sources[n].peer for n in names]
        given = distances([values[n][0] for n in names], [abs(values[n][1]) for n in names], peers)
        found = {}
        for name, distance in zip(names, given, strict=True):
            if name in wanted:
                others = tuple(n for n in names if n != name)
                theirs = max(abs(values[n][1]) for n in others)
                complete = len(names) == len(values)
                found[name] = _Place(
                    values[name][0], distance, abs(values[name][1]), theirs, others, complete
                )
        return found

    def _consensus(self, places: dict[str, _Place]) -> float:
        """The median of the trusted values, each freed of its basis."""
        trusted = [n for n in places if self._sources[n].trusted] or list(places)
        return middle(sorted(places[n].x - self._sources[n].peer.basis for n in trusted))

    def _judge_beside(
        self, ns: int, claim: Observation, source: _Source, place: _Place, consensus: float
    ) -> list[Suspicion] | None:
        """Judge a value by its peers, and by its own past where they cannot tell."""
        stream, peer, distance = source.stream, source.peer, place.distance
        if not peer.count:
            peer.learn(distance.excess)
            peer.last = place.x
            return stream.judge(ns, claim.value, claim.volume)
        before = self._before
        peer.relax()
        was_shifted, new = peer.shifted, peer.is_new(distance.excess, before)
        peer.shift(place.x, consensus, before)
        if place.x == stream.x:
            # What rounding to a tick can hide says nothing of a value that stayed.
            seen = 0.0 if before is None else max(0.0, abs(consensus - before) - stream.tick)
            moved = seen / peer.spread
            found = stream.judge(ns, claim.value, claim.volume, moved)
            if stream.stale:
                return found
        if peer.shifted:
            stream.set_aside(ns, claim.value)
            if was_shifted:
                return None
            total = max(peer.behind, peer.ahead)
            return [self._peer_suspicion(ns, claim, place, Fault.DATE_SHIFT, self._rules.shift, total)]
        fault = self._beside_fault(ns, claim, source, place, before, new)
        if fault is not None:
            if fault.kind in (Fault.SPIKE, Fault.DATE_SHIFT) and not peer.off_n:
                peer.spend_on(abs(distance.jump))
            if peer.stay_off(distance.excess):
                peer.learn(0.0)
            stream.set_aside(ns, claim.value)
            return [fault] if self._worth_saying(fault, peer) else None
        known = peer.biased
        peer.accumulate(distance.scales, complete=place.complete)
        if peer.biased:
            return self._biased(ns, claim, source, place, known)
        peer.learn(distance.excess)
        vouched = distance.agreeing and abs(distance.jump) <= self._rules.peer_slip
        return stream.judge(ns, claim.value, claim.volume, None, vouched)

    def _beside_fault(
        self,
        ns: int,
        claim: Observation,
        source: _Source,
        place: _Place,
        before: float | None,
        new: bool,
    ) -> Suspicion | None:
        """The fault that the peers speak of, if they can: two that agree, or one that did not move."""
        peer, distance, rules = source.peer, place.distance, self._rules
        if len(place.peers) > 1:
            able = distance.agreeing
        else:
            able = place.own > rules.reversal and place.own > 2.0 * place.theirs
        away = peer.off_n > 0 and not peer.biased
        size = abs(distance.scales if away else distance.jump)
        if not able or size <= rules.peer_slip:
            return None
        # Who is off comes back when it is well within what takes it off: one incident, not one for each day.
        limit = _BACK * rules.peer_jump if away else peer.jump_limit
        if size <= limit:
            repair = self._transposed(claim.value, distance) if new else None
            if repair is None:
                return None
            return self._peer_suspicion(
                ns, claim, place, Fault.TRANSPOSITION, rules.peer_slip, size, str(repair)
            )
        why = slip(claim.value, distance.expected, 3.0 * peer.spread)
        if why is not None:
            return self._peer_suspicion(ns, claim, place, why.kind, limit, size, str(why.repair))
        if before is not None and peer.fits_before(place.x, before):
            return self._peer_suspicion(ns, claim, place, Fault.DATE_SHIFT, limit, size)
        kind = Fault.LEVEL_SHIFT if peer.off_n + 1 >= rules.confirm else Fault.SPIKE
        return self._peer_suspicion(ns, claim, place, kind, limit, size)

    def _transposed(self, value: Decimal, distance: Distance) -> Decimal | None:
        """The value with two digits exchanged, where that explains it much better than a wide distance does.

        Distances have heavy tails: four scales are rare but not absurd, and among a few exchanges one often
        comes near. The likelihood ratio, shared among the exchanges there are, has to reach ``slip_odds``.
        """
        if abs(distance.jump) <= self._rules.peer_slip:
            return None
        unit = abs((log(float(value)) - distance.expected) / distance.jump)
        repair = transposition(value, distance.expected, unit)
        if repair is None:
            return None
        left = (log(float(repair)) - distance.expected) / unit
        odds = tail(distance.jump) / tail(left) / _EXCHANGES
        return repair if odds > self._rules.slip_odds else None

    def _worth_saying(self, fault: Suspicion, peer: Peer) -> bool:
        """Slips are said of every claim; of a source elsewhere only that it went, and that it stayed, unless
        its bias was."""
        if fault.kind not in (Fault.SPIKE, Fault.LEVEL_SHIFT, Fault.DATE_SHIFT):
            return True
        return peer.off_n == 1 or (peer.off_n == self._rules.confirm and not peer.biased)

    def _biased(
        self, ns: int, claim: Observation, source: _Source, place: _Place, known: bool
    ) -> list[Suspicion] | None:
        """One finding for a bias, not one for each claim that has it."""
        peer = source.peer
        total = max(peer.high, peer.low)
        peer.stay_off(place.distance.excess)
        source.stream.set_aside(ns, claim.value)
        if known:
            return None
        peer.spend()
        found = self._peer_suspicion(ns, claim, place, Fault.BIAS, 1.0, total)
        return [found._replace(action=Action.FLAG, measured=f"sum {total:.2f}", threshold="sum 1")]

    def _peer_suspicion(
        self,
        ns: int,
        claim: Observation,
        place: _Place,
        kind: Fault,
        threshold: float,
        size: float,
        repair: str | None = None,
    ) -> Suspicion:
        return Suspicion(
            kind,
            sure(size / threshold),
            Action.QUARANTINE if repair is None else Action.REPAIR,
            ns,
            str(claim.value),
            f"{exp(place.distance.expected):.6g}",
            f"{size:.2f} scales from the peers",
            f"{threshold:g} scales",
            place.peers,
            repair,
        )

    def _judgement(self, ns: int, source: str, suspicions: Sequence[Suspicion]) -> Judgement:
        peer = self._sources[source].peer
        credibility = DOUBTED if peer.biased or peer.shifted or peer.off_n else 1.0
        found = []
        for s in suspicions:
            if s.since_ns == ns:
                credibility *= 1.0 - s.score
            evidence = Evidence(
                s.value, s.expected, s.measured, s.threshold, s.peers, self._rules.name, s.repair
            )
            found.append(
                Found(ns, self.reference_data_id, source, s.kind, s.score, s.action, s.since_ns, evidence)
            )
        return Judgement(source, credibility, tuple(found))


def _last_of_each(given: Iterable[Observation]) -> list[Observation]:
    """One observation of each source, by name; the one received last, ties broken by the value."""
    claims = list(given)
    if len(claims) == 1:
        return claims
    last: dict[str, Observation] = {}
    for one in claims:
        known = last.get(one.source)
        if known is None or _order(known) < _order(one):
            last[one.source] = one
    return [last[name] for name in sorted(last)]


def _order(one: Observation) -> tuple[int, object]:
    return (-(2**63) if one.received_ns is None else one.received_ns, one.value)


def _missing(since_ns: int, said: str, peers: tuple[str, ...]) -> Suspicion:
    return Suspicion(Fault.MISSING, 0.5, Action.FLAG, since_ns, "", "", said, "a claim", peers)


def _odd_clock(ns: int, off: int) -> Suspicion:
    hours = off / 3600e9
    return Suspicion(
        Fault.TIME_SHIFT, 0.7, Action.QUARANTINE, ns, "", "", f"{hours:.2f} h from the usual time", "1 h"
    )
