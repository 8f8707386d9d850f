"""Scoreboard: the follower of the log that keeps scores and windows. Checkpoint and effect are one
transaction, so each event counts exactly once, whatever is killed when."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

from qis.application.ports import CatalogueReader
from qis.application.reconcile import rules_for
from qis.domain import events as ev
from qis.domain import sequences
from qis.domain.errors import NotFound, refuse
from qis.domain.gaps import Spoken, gaps_of, has_days
from qis.domain.rules import Level
from qis.domain.scoreboard import (
    FOLLOWED,
    HOUR,
    Cell,
    Tally,
    ValueState,
    cell,
    change,
    errors_of,
    lateness_of,
    scores_of,
)
from qis.domain.sequences import Channel
from qis.domain.sequences import Key as ChannelKey
from qis.domain.snap import Snap, parse_instant
from qis.domain.windows import COUNTED, LATENESS, LENGTH, Window, Windows

BATCH = 5_000
SECONDS = 20.0
"""After which a tick that is far behind begins no further batch and leaves the rest to the next one."""
TYPES = tuple(dict.fromkeys((*FOLLOWED, *COUNTED)))
MOST_WAITING = 1_000
"""Events not followed yet that a question looks at; where more wait, no window is complete."""
LONGEST_WINDOW = timedelta(days=366)
MOST_SERIES = MOST_DATES = 10
"""Of gaps: series told of, the worst first, and days of each, the oldest first."""

Key = tuple[str, int]
"""Series and snap in nanoseconds."""


class ScoreSession(Protocol):
    """One transaction of the follower."""

    def read(self, types: Collection[str], limit: int) -> Sequence[ev.Event]:
        """The next events after the checkpoint that are final; none only where there are none."""
        ...

    def states(self, keys: Collection[Key]) -> Mapping[Key, ValueState]:
        """States of values, where there are any."""
        ...

    def windows(self, length: timedelta) -> Windows:
        """The open windows."""
        ...

    def channels(self, keys: Collection[ChannelKey]) -> Mapping[ChannelKey, Channel]:
        """Channels of sources, where they have numbered anything."""
        ...

    def keep(
        self,
        states: Mapping[Key, ValueState],
        changes: Mapping[Cell, Tally],
        windows: Windows,
        to: ev.Position | None,
        at: datetime,
        channels: Mapping[ChannelKey, Channel],
    ) -> None:
        """Keep states, add changes to the sums, keep the windows and channels and move the checkpoint."""
        ...


class ScoreStore(Protocol):
    """Where the scoreboard is kept."""

    def session(self) -> AbstractContextManager[ScoreSession | None]:
        """A transaction, committed at the end; ``None`` where somebody else follows and does not end soon."""
        ...


@dataclass(slots=True)
class Advance:
    """What was done."""

    events: int = 0
    closed: list[tuple[datetime, Window]] = field(default_factory=list)


class Scoreboard:
    """The use case. One instance per process."""

    def __init__(
        self,
        store: ScoreStore,
        catalogue: CatalogueReader,
        elapsed: Callable[[], float],
        window: timedelta = LENGTH,
    ) -> None:
        """
        Args:
            elapsed: a monotonic clock in seconds.
            window: length of the windows; they close as much sooner as they are shorter than a minute.
        """
        self._store = store
        self._catalogue = catalogue
        self._elapsed = elapsed
        self._window = window
        self._lateness = LATENESS * (window / LENGTH)

    def advance(self, now: datetime, limit: int = BATCH, seconds: float = SECONDS) -> Advance:
        """Follow the log to its end, but no longer than ``seconds`` and the batch that runs then, and close
        the windows that are over by ``now``."""
        done = Advance()
        end = self._elapsed() + seconds
        more = True
        while more:
            with self._store.session() as session:
                if session is None:
                    return done
                more = self._batch(session, now, limit, done) and self._elapsed() < end
        return done

    def _batch(self, session: ScoreSession, now: datetime, limit: int, done: Advance) -> bool:
        events = session.read(TYPES, limit)
        windows = session.windows(self._window)
        for event in events:
            if event.type in COUNTED:
                windows.take(event.recorded_at, event.type, event.data)
        # At the end of the log everything up to now is there, but for transactions that still run. The end
        # is where nothing is read: a batch may be short because its events are large.
        more = bool(events)
        closed = windows.advance((events[-1].recorded_at if more else now) - self._lateness)
        states, changes = self._changes(session, [e for e in events if e.type in FOLLOWED])
        to = events[-1].position if events else None
        session.keep(states, changes, windows, to, now, _numbered(session, events))
        done.events += len(events)
        done.closed += closed
        return more

    def _changes(
        self, session: ScoreSession, events: Sequence[ev.Event]
    ) -> tuple[Mapping[Key, ValueState], Mapping[Cell, Tally]]:
        by_key: dict[Key, list[ev.Event]] = {}
        for event in events:
            snap = parse_instant(event.data["snap"], "snap")
            by_key.setdefault((event.data["reference_data_id"], snap.ns), []).append(event)
        catalogue = self._catalogue.current()
        known = session.states(by_key.keys()) if by_key else {}
        states: dict[Key, ValueState] = {}
        sums: dict[Cell, Tally] = {}
        for (id_, ns), mine in by_key.items():
            snap = Snap(ns)
            rules = rules_for(catalogue, id_, snap)
            state = states[id_, ns] = known.get((id_, ns)) or ValueState()
            before = state.contribution()
            for event in mine:
                state.apply(event.type, event.data, rules.precedence, rules.timely_within)
            after = state.contribution()
            for source in before.keys() | after.keys():
                was, is_ = before.get(source, {}), after.get(source, {})
                if was != is_:
                    change(sums, cell(id_, source, snap), was, -1)
                    change(sums, cell(id_, source, snap), is_, 1)
        return states, sums


def _numbered(session: ScoreSession, events: Sequence[ev.Event]) -> Mapping[ChannelKey, Channel]:
    """The channels that claims in these events are of, with them."""
    claims = [e for e in events if e.type == ev.DATA_INGESTED and "sequence" in e.data]
    if not claims:
        return {}
    keys = {(e.data["source"], e.data.get("channel", "")) for e in claims}
    channels = dict(session.channels(keys))
    for event in claims:
        data = event.data
        channel = channels.setdefault((data["source"], data.get("channel", "")), Channel())
        shown_by = sequences.Place(data["reference_data_id"], data["snap"])
        channel.take(data["sequence"], shown_by, event.recorded_at)
    return channels


class Place(NamedTuple):
    """Which sums belong to a question; ``None``: of all series."""

    ids: Collection[str] | None
    source: str


class Followed(NamedTuple):
    """How far the sums go."""

    position: ev.Position | None
    """Of the last event that is in them; ``None``: none is."""
    recorded_at: datetime | None
    waiting: int
    """Events that are not in them, counted up to ``MOST_WAITING`` + 1."""
    touching: bool
    """Whether one of the ``MOST_WAITING`` events that wait longest belongs to what is asked for."""

    @property
    def complete(self) -> bool:
        """Whether nothing that waits belongs to what is asked for."""
        return not self.touching and self.waiting <= MOST_WAITING

    def as_json(self) -> dict[str, Any]:
        return {
            "position": None if self.position is None else self.position.token,
            "recorded_at": None if self.recorded_at is None else Snap.of(self.recorded_at).text,
            "waiting": min(self.waiting, MOST_WAITING),
            "complete": self.complete,
        }


class ScoreReads(Protocol):
    """The sums as the queries see them."""

    def followed(self, ids: Collection[str] | None, first: int, until: int) -> Followed:
        """How far the sums go, and whether what waits belongs to these series (``None``: all) in a range."""
        ...

    def spoken(self, source: str, ids: Collection[str], first: int, until: int) -> Mapping[str, Spoken]:
        """When a source spoke of each series over the hours that begin in a range; of those of which it
        never did, nothing."""
        ...

    def channels(self, source: str) -> Mapping[str, Channel]:
        """The channels of a source by their name, in its order."""
        ...

    def total(self, place: Place, first: int, until: int) -> Tally:
        """The sum over the hours that begin in a range."""
        ...

    def groups(
        self, source: str, first: int, until: int, by: str | Mapping[str, str], after: str, limit: int
    ) -> Mapping[str, Tally]:
        """As ``total`` for a source, in order of the groups' names: by series, by UTC day, week or month, or
        by the name that ``by`` has for a series."""
        ...


SCOPES = ("series", "source", "asset_class")


GROUPS = ("series", "kind", "rules", "day", "week", "month")


def _moment(text: str) -> datetime:
    return parse_instant(text, "window").moment


def _card(tally: Tally) -> dict[str, Any]:
    measured = scores_of(tally).as_json()
    accuracy = measured["accuracy"]
    return {
        "values": int(tally.get("values", 0)),
        "claims": int(tally.get("claims", 0)),
        "accuracy": accuracy,
        "disagreement": None if accuracy is None else str(1 - Decimal(accuracy)),
        "coverage": measured["completeness"],
        "timeliness": measured["timeliness"],
        "latency": {f"p{s}": lateness_of(tally, Decimal(s) / 100) for s in (50, 95)},
        "bp": errors_of(tally),
    }


class ScoreQueries:
    """Scores of a window of whole hours."""

    def __init__(self, reads: ScoreReads, catalogue: CatalogueReader) -> None:
        self._reads = reads
        self._catalogue = catalogue

    def scores(self, scope: str, name: str, first: Snap, until: Snap) -> dict[str, Any]:
        """Scores of a series, a source or an asset class over a window, widened to whole hours.

        Raises:
            InvalidInput: an unknown scope, or a window that is too long.
            NotFound: there is no such series, source or asset class.
        """
        if until.ns - first.ns > LONGEST_WINDOW.total_seconds() * 1e9:
            said = f"is longer than {LONGEST_WINDOW.days} days"
            raise refuse("timeWindow", f"{first.text}/{until.text}", "window-size", said)
        low, high = first.ns - first.ns % HOUR, until.ns + -until.ns % HOUR
        place = self._place(scope, name, high)
        # Asked before the sums: they hold at least what is told of them.
        followed = self._reads.followed(place.ids, low, high)
        tally = self._reads.total(place, low, high)
        measured = scores_of(tally)
        reason = "empty-window" if measured.composite is None else None
        if not followed.complete:
            reason = "not-followed-yet"
        return {
            "scope": scope,
            "name": name,
            "window": {"from": Snap(low).text, "to": Snap(high).text},
            "scores": measured.as_json(),
            "values": int(tally.get("values", 0)),
            "claims": int(tally.get("claims", 0)) if scope == "source" else None,
            "lateness": {
                "p50": lateness_of(tally, Decimal("0.5")),
                "p95": lateness_of(tally, Decimal("0.95")),
            }
            if scope == "source"
            else None,
            "gaps": self._gaps(name, Snap(low), Snap(high)) if scope == "source" else None,
            "sequences": self._sequences(name) if scope == "source" else None,
            "followed": followed.as_json(),
            "reason": reason,
        }

    def _sequences(self, source: str) -> list[dict[str, Any]]:
        """The channels whose messages the source numbers, as far as they were followed: of all times, as a
        number has none."""
        return [channel.summary(name) for name, channel in self._reads.channels(source).items()]

    def _gaps(self, source: str, first: Snap, until: Snap) -> dict[str, Any]:
        """The gaps of a source over all series whose days are known, and the series with the most."""
        series = {
            i: s.semantics for i, s in self._catalogue.current().series.items() if has_days(s.semantics)
        }
        spoken = self._reads.spoken(source, series, first.ns, until.ns)
        found = {i: gaps_of(series[i], spoken[i], first, until) for i in sorted(spoken)}
        worst = sorted((i for i, g in found.items() if g.missed), key=lambda i: -len(found[i].missed))
        return {
            "expected": sum(g.expected for g in found.values()),
            "missed": sum(len(g.missed) for g in found.values()),
            "series": [
                {
                    "reference_data_id": i,
                    "expected": found[i].expected,
                    "missed": len(found[i].missed),
                    "longest": found[i].longest,
                    "dates": [day.isoformat() for day in found[i].missed[:MOST_DATES]],
                }
                for i in worst[:MOST_SERIES]
            ],
        }

    def scorecard(
        self, source: str, first: Snap, until: Snap, by: str, after: str, limit: int
    ) -> tuple[dict[str, Any], str | None]:
        """What a source is worth over a window, in all and by series, group of series or time.

        Returns:
            The card, and the last group of it where there are more.

        Raises:
            InvalidInput: an unknown grouping, or a window that is too long.
            NotFound: there is no such source.
        """
        if by not in GROUPS:
            raise refuse("by", by, "choice", f"is not one of {', '.join(GROUPS)}")
        found = self.scores("source", source, first, until)
        low, high = (Snap.of(_moment(found["window"][end])) for end in ("from", "to"))
        total = self._reads.total(Place(None, source), low.ns, high.ns)
        groups = self._reads.groups(source, low.ns, high.ns, self._grouping(by), after, limit + 1)
        names = sorted(groups)
        card = {
            "source": source,
            "window": found["window"],
            "by": by,
            "total": _card(total),
            "groups": [{"group": name, **_card(groups[name])} for name in names[:limit]],
            "gaps": found["gaps"],
            "sequences": found["sequences"],
            "followed": found["followed"],
            "reason": found["reason"],
        }
        return card, names[limit - 1] if len(names) > limit else None

    def _grouping(self, by: str) -> str | Mapping[str, str]:
        """Groups of series are those of one kind, or under one rule document, as they are now."""
        series = self._catalogue.current().series
        if by == "kind":
            return {i: s.kind.value for i, s in series.items()}
        return {i: s.rules for i, s in series.items()} if by == "rules" else by

    def _place(self, scope: str, name: str, at: int) -> Place:
        catalogue = self._catalogue.current()
        if scope == "series":
            if name not in catalogue.series:
                raise NotFound(f"series {name} is not registered", "unknown-series")
            return Place([name], "")
        if scope == "source":
            if name not in catalogue.sources:
                raise NotFound(f"source {name} is not registered", "unknown-source")
            return Place(None, name)
        if scope != "asset_class":
            raise refuse("scope", scope, "choice", f"is not one of {', '.join(SCOPES)}")
        ids = [i for i, s in catalogue.series.items() if name in (s.kind.value, *self._classes(s.rules, at))]
        if not ids:
            raise NotFound(f"no series is of asset class {name}", "unknown-asset-class")
        return Place(ids, "")

    def _classes(self, rules: str, at: int) -> list[str]:
        """Names of the rule documents of level asset class that a series' rules come from."""
        chain = self._catalogue.current().rules.chain(rules, at)
        return [layer.rules for layer in chain if layer.level is Level.ASSET_CLASS]
