"""What the sources of a rule document are worth, learned from the log up to a position.

Causal: a snap is decided on what was learned from the snaps before it, from nothing but claims that the log
held at the position, under the rules as they were known there. The answer is a candidate for the next version
of the document, in force from the end of the range, so that no snap is decided by what was learned of it. A
person puts it in force or does not. Position and range are part of the weights: learning again from there
gives the same ones.
"""

from __future__ import annotations

import json
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qis.application.ports import Catalogue, CatalogueReader, EventStore
from qis.application.reading import Knowledge, Reads, pinned
from qis.application.rules import BATCH, Scope, book_as_known
from qis.domain import events as ev
from qis.domain.errors import refuse
from qis.domain.fusion.learned import KIND, Learned, Origin, learned_from
from qis.domain.fusion.memory import Memory
from qis.domain.fusion.revision import revision
from qis.domain.reconciliation import lesson_of
from qis.domain.rules import RuleBook, layer_json
from qis.domain.rules.methods import LEARNING, Method
from qis.domain.snap import Snap
from qis.domain.value_history import ValueHistory

LARGEST_STATE = 64 * 1024 * 1024
"""Bytes that the memory of a run may have as JSON."""


class LearnWeights:
    """Weights learned from stored history. Reads only: what it finds is put in force by a person, or not."""

    def __init__(self, store: EventStore, reads: Reads, catalogue: CatalogueReader) -> None:
        self._store = store
        self._reads = reads
        self._catalogue = catalogue

    def run(self, scope: Scope, at: Knowledge, resume: str | None, limit: int) -> dict[str, Any]:
        """Learn from the next ``limit`` values of the scope, or a few more.

        Args:
            at: what may be looked at; of a run that goes on, that of its start.
            resume: of the answer before; ``None`` at the start.

        Returns:
            ``resume`` for the next part; at the end ``None``, and with it the ``revision`` and the
            ``candidate``, which is ``None`` where nothing is proposed.

        Raises:
            InvalidInput: the rules do not learn, or ``resume`` is not ours.
            NotFound: there is no such document.
        """
        catalogue = self._catalogue.newest()
        ids = [i for i in scope.ids(catalogue, catalogue.rules) if catalogue.series[i].structure is None]
        place = _Place(pinned(self._reads, at), None, 0, Memory()) if resume is None else _Place.read(resume)
        book = book_as_known(self._reads, {scope.rules, *(catalogue.series[i].rules for i in ids)}, place.at)
        method = _method(scope, catalogue, book, ids)
        after = self._learn(scope, catalogue, book, ids, place, limit)
        done = _Place(place.at, after, place.items, place.memory)
        assert place.at.basis is not None
        told = {"rules": scope.rules, "series": len(ids), "basis": place.at.basis.token}
        if after is not None:
            return {**told, "revision": None, "candidate": None, "resume": done.text()}
        in_force = method.parameters if isinstance(method.parameters, Learned) else Learned()
        origin = Origin(place.at.basis.token, scope.first.text, scope.until.text)
        learned = learned_from(place.memory, KIND, in_force.publish_at, origin)
        found = revision(method.name, in_force, learned, place.items)
        candidate = _candidate(scope, book, Method(method.name, learned)) if found.proposed else None
        return {**told, "revision": found.as_json(), "candidate": candidate, "resume": None}

    def _learn(
        self,
        scope: Scope,
        catalogue: Catalogue,
        book: RuleBook,
        ids: Sequence[str],
        place: _Place,
        limit: int,
    ) -> Snap | None:
        """Learn the next snaps of all series; the last one learned, ``None`` at the end."""
        first = scope.first if place.after is None else Snap(place.after.ns + 1)
        page = max(1, limit // max(1, len(ids)))
        found = {id_: self._store.decided(id_, first, scope.until, page) for id_ in ids}
        # A series with a full page may have more: beyond its last snap nothing is complete yet.
        cut = min((snaps[-1] for snaps in found.values() if len(snaps) == page), default=None)
        by_snap: dict[Snap, list[str]] = {}
        for id_, snaps in found.items():
            for snap in snaps:
                if cut is None or snap <= cut:
                    by_snap.setdefault(snap, []).append(id_)
        keys = [(snap, id_) for snap in sorted(by_snap) for id_ in by_snap[snap]]
        lessons: dict[Snap, list[Any]] = {}
        for (snap, id_), history in self._histories(keys, place.at):
            if history.claims:
                rules = book.rule_set(catalogue.series[id_].rules, snap)
                if lessons and snap not in lessons:
                    place.learn(lessons.popitem()[1])
                claims = history.statements()
                lesson = lesson_of(id_, claims, rules, history.withdrawn, place.memory)
                lessons.setdefault(snap, []).extend([] if lesson is None else [lesson])
        for found_last in lessons.values():
            place.learn(found_last)
        return cut

    def _histories(
        self, keys: Sequence[tuple[Snap, str]], at: Knowledge
    ) -> Iterator[tuple[tuple[Snap, str], ValueHistory]]:
        """Values as the log had them, in the order of the keys."""
        for begin in range(0, len(keys), BATCH):
            part = keys[begin : begin + BATCH]
            histories = {ev.value_stream(i, s.text): ValueHistory(i, s) for s, i in part}
            by_stream: dict[str, list[ev.Event]] = {}
            for event in self._reads.events(sorted(histories), at):
                by_stream.setdefault(event.stream, []).append(event)
            for snap, id_ in part:
                stream = ev.value_stream(id_, snap.text)
                yield (snap, id_), histories[stream].fold(by_stream.get(stream, ()))


def _method(scope: Scope, catalogue: Catalogue, book: RuleBook, ids: Sequence[str]) -> Method:
    """The method that all series of the scope have at its end.

    Raises:
        InvalidInput: they have several, one that learns nothing, or there are none.
    """
    found = {book.rule_set(catalogue.series[i].rules, scope.until).method for i in ids}
    names = sorted({m.name for m in found})
    if len(found) != 1 or names[0] not in LEARNING:
        told = ", ".join(names) or "of no series"
        raise refuse("rules", scope.rules, "learning-method", f"has not one method that learns: {told}")
    return found.pop()


def _candidate(scope: Scope, book: RuleBook, method: Method) -> Mapping[str, Any]:
    """The version that is in force at the end of the range, with the weights, from there on."""
    layer = next(v for v in book.versions(scope.rules) if v.covers(scope.until.ns))
    body = {k: v for k, v in layer_json(layer).items() if k not in ("version", "valid_to")}
    return {**body, "method": method.as_json(), "valid_from": scope.until.text}


@dataclass(slots=True)
class _Place:
    """Where a run stands, and all that it needs to go on."""

    at: Knowledge
    after: Snap | None
    items: int
    memory: Memory

    def learn(self, lessons: Sequence[Any]) -> None:
        """Learn one snap."""
        self.memory.learn(lessons)
        self.items += len(lessons)

    def text(self) -> str:
        assert self.at.basis is not None
        assert self.after is not None
        body = [self.at.basis.token, self.after.ns, self.items, self.memory.as_json()]
        packed = zlib.compress(json.dumps(body, separators=(",", ":")).encode(), 1)
        return urlsafe_b64encode(packed).decode()

    @classmethod
    def read(cls, text: str) -> _Place:
        """Gives no right to anything: it says where the caller's own run stands."""
        try:
            packed = zlib.decompressobj().decompress(urlsafe_b64decode(text), LARGEST_STATE)
            basis, after, items, memory = json.loads(packed)
            at = Knowledge(basis=ev.Position.parse(basis))
            return cls(at, Snap(after), int(items), Memory.from_json(memory))
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, zlib.error) as error:
            raise refuse("resume", text, "resume", "is not of an answer to this request") from error
