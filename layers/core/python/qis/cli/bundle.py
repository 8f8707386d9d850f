"""The bundled real data: registered by REST, sent through the ingest stream, followed to the consumers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qis.cli.claims_file import ClaimsFile
from qis.cli.failures import failure
from qis.cli.feed import POLL, account
from qis.cli.loading import transfer
from qis.cli.mapping import Mapped
from qis.cli.rest import path
from qis.cli.session import Session

if TYPE_CHECKING:
    from psycopg import Connection

CATALOGUE = (("rules", "rules"), ("sources", "source"), ("series", "reference_data_id"))
"""In this order: a series names its rules."""
RELAY = "backbone"
"""Name under which the function ``relay`` follows the log."""
CONSUMERS = ("consumer-strategy", "consumer-risk", "consumer-analytics")
OPERATORS = "consumer-operations"
"""Where alerts of issues go."""
DRAIN_PATIENCE = 300.0
QUIET = 3
"""Looks in a row at which nothing moved, before the pipeline counts as drained."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of one file, beside what the manifest says of it."""

    file: str
    load: str
    rows: int
    accepted: int
    rejected: int
    duplicates: int
    expected: Mapping[str, int]

    @property
    def as_expected(self) -> bool:
        """Whether every row is accounted for as the manifest says."""
        found = {"accepted": self.accepted, "rejected": self.rejected, "duplicate": self.duplicates}
        return found == self.expected and sum(found.values()) == self.rows


def load_bundle(session: Session, bundle: Path) -> list[Loaded]:
    """Bring the bundled data in, what of it is not there yet. A load that was cut off goes on.

    Raises:
        Failure: the API refused, or rows were not accounted for.
    """
    manifest = json.loads((bundle / "manifest.json").read_text())
    files = [(entry, f"bundle:{entry['file']}:{entry['sha256'][:12]}") for entry in manifest["claims"]]
    states = {load: account(session.api, load) for _, load in files}
    if any(states[load].total < entry["rows"] for entry, load in files):
        _register(session, bundle)
    loaded = []
    for entry, load in files:
        done, rows = states[load], entry["rows"]
        if done.total < rows:
            rows, done = transfer(
                session, ClaimsFile(bundle / entry["file"], Mapped(), load), load, entry["file"]
            )
        expected = {outcome: entry[outcome] for outcome in ("accepted", "rejected", "duplicate")}
        loaded.append(Loaded(entry["file"], load, rows, **asdict(done), expected=expected))
    return loaded


def _register(session: Session, bundle: Path) -> None:
    """Register what is missing; what somebody changed since stays changed."""
    for route, key in CATALOGUE:
        known = {entry["name"] for entry in session.api.items(f"/api/v1/{route}")}
        for definition in json.loads((bundle / f"{route}.json").read_text()):
            if definition[key] not in known:
                session.api.call("PUT", path(f"/api/v1/{route}/{{}}", definition[key]), definition)


@dataclass(frozen=True, slots=True)
class Standing:
    """What the twin holds."""

    official_values: int
    published: int
    """Official values and their restatements: each is one message in each consumer's queue."""
    open_exceptions: int
    queues: Mapping[str, int]
    """Messages by queue, consumers and dead letters."""


class Pipeline:
    """The twin from the log to the consumers' queues."""

    def __init__(self, twin: Mapping[str, Any], connection: Connection, sqs: Any) -> None:
        self._twin = twin
        self._connection = connection
        self._sqs = sqs

    def standing(self) -> Standing:
        """Counts as of now."""
        row = self._connection.execute(
            "SELECT (SELECT count(*) FROM official_values WHERE superseded_at IS NULL),"
            " (SELECT count(*) FROM official_values),"
            " (SELECT count(*) FROM exceptions WHERE status = 'open')"
        ).fetchone()
        assert row is not None
        queues = {name: self._messages(url) for name, url in self._twin["queues"].items()}
        return Standing(row[0], row[1], row[2], queues)

    def _messages(self, url: str) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        attributes = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(attributes[name]) for name in names)

    def drain(self, idle: Callable[[], bool], progress: Callable[[Standing], None]) -> Standing:
        """Wait until every event has reached the queues: nothing is read, relayed or delivered any more.

        Raises:
            Failure: that did not come about in ``DRAIN_PATIENCE`` seconds.
        """
        deadline = time.monotonic() + DRAIN_PATIENCE
        before, quiet = self.standing(), 0
        while quiet < QUIET:
            if time.monotonic() > deadline:
                raise failure(
                    "incomplete",
                    "The pipeline does not come to rest",
                    f"after {DRAIN_PATIENCE:.0f} s: {before}",
                )
            time.sleep(POLL)
            now = self.standing()
            progress(now)
            quiet = quiet + 1 if now == before and idle() and not self._relay_behind() else 0
            before = now
        return before

    def _relay_behind(self) -> bool:
        from qis.adapters.postgres.followers import PostgresFollower

        return PostgresFollower(self._connection, RELAY).behind()

    def latest(self, series: Sequence[str]) -> tuple[str, str, str] | None:
        """The newest official value of the first of these series that has one: series, snap, value."""
        for name in series:
            row = self._connection.execute(
                "SELECT to_char(snap AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), value::text"
                " FROM official_values WHERE reference_data_id = %s AND superseded_at IS NULL"
                " ORDER BY snap_ns DESC LIMIT 1",
                (name,),
            ).fetchone()
            if row is not None:
                return name, row[0], row[1]
        return None
