"""Following the log to the backbone, for as long as the process may run: in a function or in a container.
Beside it the raw payloads that are stored with claims move to the raw store.

Several may run at a time: one holds the follower's lock and works, the others wait for the lock and take over
at once when it ends or dies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from qis.adapters.postgres.connection import PATIENCE, Database
from qis.adapters.postgres.followers import PostgresFollower
from qis.adapters.postgres.horizon import Ending, Holder, end_holder, horizon_holder
from qis.adapters.postgres.partitions import make_months
from qis.adapters.postgres.raw import PostgresRawOutbox
from qis.adapters.raw_moving import RawMoving
from qis.application.ports import Backbone, Unavailable
from qis.application.relay import relay_batch

if TYPE_CHECKING:
    from psycopg import Connection

FOLLOWER = "backbone"
LOCK_WAIT = 10.0
AGAIN_AFTER = 0.5
IDLE_WAIT = 1.0
"""Seconds after which the log is read again without having been woken: a woken reader finds nothing while an
older transaction runs, and that transaction's own wake-up may have been merged with another's."""
STALLED_WAIT = 0.02
REPORT_EVERY = 10.0
TOLD_AFTER = 10.0
"""Seconds for which a transaction is held open before the log says who holds it."""
MONTHS_EVERY = 3600.0
"""Seconds between two looks whether partitions of the coming months are there."""


@dataclass(frozen=True, slots=True)
class Report:
    """How the log stands."""

    default_partition_rows: int
    """Events whose month had no partition, counted up to 1,000."""
    lag_seconds: float
    raw_waiting: int
    """Batches of raw payloads that are not in the raw store yet, counted up to 1,000."""
    holder: Holder | None = None
    """The transaction beyond which no follower reads at this moment."""
    months_trouble: str | None = None
    """Why partitions of the coming months could not be made; it is tried again before the next report."""
    ending: Ending | None = None
    """What became of the attempt to end it, where it lasted too long."""


@dataclass(slots=True)
class _Every:
    """What is due each so many seconds, also over interruptions."""

    seconds: float
    left: Callable[[], float]
    last: float = float("inf")

    def due(self) -> bool:
        """Whether it is now; it is not again before the time is over."""
        now = self.left()
        found = self.last - now > self.seconds
        if found:
            self.last = now
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaying:
    """What following needs of its process."""

    database: Database
    backbone: Backbone
    audit: Backbone | None
    raw: RawMoving
    seconds_left: Callable[[], float]
    """How long the process may still run; it only falls."""
    report: Callable[[Report], None]
    interrupted: Callable[[Exception], None]
    """Told why following begins anew, after which it pauses as it likes."""
    end_after: int = 0
    """Seconds after which a transaction that holds followers up is ended; 0: it never is."""

    def run(self) -> int:
        """Follow until the time is over. Returns how many events were sent.

        A database that restarts and a stream that throttles are tried again here: whatever runs the process
        would start it again only after a minute, in which nothing would flow.

        Raises:
            Misplaced: the checkpoint is one of another server.
        """
        from psycopg import OperationalError

        sent = 0
        reports = _Every(REPORT_EVERY, self.seconds_left)
        while not self._over():
            try:
                for count in self._follow(reports):
                    sent += count
            except (OperationalError, Unavailable) as error:
                self.interrupted(error)
        return sent

    def _follow(self, reports: _Every) -> Iterator[int]:
        """Follow as soon as nobody else does. Yields how many were sent."""
        try:
            connection = self.database.connect()
            follower = PostgresFollower(connection, FOLLOWER)
            while not follower.acquire(LOCK_WAIT):
                if self._over():
                    return
            months = _Every(MONTHS_EVERY, self.seconds_left)
            trouble: str | None = None
            follower.listen()
            with self.raw.running():
                while not self._over():
                    # Before sending, which fails for as long as the stream refuses: that is when it matters.
                    report = reports.due()
                    if months.due() or (report and trouble):
                        trouble = _made_months(connection)
                    if report:
                        self.report(replace(self._report(connection, follower), months_trouble=trouble))
                    count = relay_batch(follower, self.backbone, datetime.now(UTC), audit=self.audit)
                    yield count
                    if not count:
                        follower.wait(STALLED_WAIT if follower.behind() else IDLE_WAIT)
        finally:
            # Ends the lock and the subscription with the connection; the next one to follow connects anew.
            self.database.close()

    def _report(self, connection: Connection, follower: PostgresFollower) -> Report:
        row = connection.execute("SELECT count(*) FROM (SELECT FROM events_default LIMIT 1000) d").fetchone()
        waiting = PostgresRawOutbox(self.database).waiting(1000)
        holder, ending = horizon_holder(connection), None
        if holder is not None and self.end_after and holder.seconds >= self.end_after:
            ending = end_holder(connection, holder, self.end_after)
        rows = row[0] if row else 0
        return Report(rows, follower.lag_seconds(), waiting, holder, ending=ending)

    def _over(self) -> bool:
        """Whether the time left is needed to end in peace."""
        return self.seconds_left() < PATIENCE


def _made_months(connection: Connection) -> str | None:
    """Make partitions of the coming months; why that failed, where it did."""
    from psycopg import Error, OperationalError

    try:
        make_months(connection)
    except Error as error:
        if connection.closed or (isinstance(error, OperationalError) and connection.broken):
            raise
        return str(error).splitlines()[0]
    return None
