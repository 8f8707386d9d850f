"""Moving raw payloads to the raw store, in a thread beside whatever else a process does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread

from qis.adapters.postgres.connection import Database
from qis.adapters.postgres.raw import PostgresRawOutbox
from qis.application.ports import RawStore
from qis.application.raw import move

IDLE_WAIT = 1.0
"""Seconds after which it is looked again whether something waits."""
PATIENCE = 1.0
"""Seconds for which the end waits for what has begun."""


@dataclass(frozen=True, slots=True)
class RawMoving:
    """What moving needs of its process."""

    database: Callable[[], Database]
    """A new one: a connection is for one thread."""
    store: RawStore
    interrupted: Callable[[Exception], None]
    """Told why nothing moves for now."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Payloads move inside the context. At its end a raw store that hangs is not waited for: what it has
        not taken stays, and what it takes all the same is moved again."""
        over = Event()
        thread = Thread(target=self._run, args=(over,), name="raw", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(PATIENCE)

    def _run(self, over: Event) -> None:
        """Move until the end. Whatever goes wrong is told, and tried again: the thread ends with its context
        only, since payloads that stay would fill the database unseen."""
        database: Database | None = None
        while not over.is_set():
            moved = 0
            try:
                database = database or self.database()
                moved = move(PostgresRawOutbox(database), self.store)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told
                self.interrupted(error)
            if not moved:
                over.wait(IDLE_WAIT)
        if database is not None:
            database.close()
