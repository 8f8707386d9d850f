"""A function's database whose session the server ends at a chosen statement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import psycopg

from qis.adapters.postgres.connection import Database
from tests.support.databases import FreshDatabase
from tests.support.waiting import until

When: TypeAlias = Literal["before", "unanswered", "after"]
"""Before a statement reaches the server; when it has run and its answer is lost; when it is answered."""


class EndingDatabase(Database):
    """Ends its first session around the statement with number ``at``, counted from 0."""

    def __init__(self, database: FreshDatabase, at: int, when: When) -> None:
        super().__init__(database.target, "qis-test", 5.0)
        self._owner = database
        self._at = at
        self._when = when
        self.statements: list[str] = []
        """Statements of the first session."""
        self.ended = False

    def _open(self) -> psycopg.Connection:
        connection = super()._open()
        if not self.statements:
            connection.cursor_factory = _cursor_of(self)
            pipeline = connection.pipeline

            @contextmanager
            def answered() -> Iterator[psycopg.Pipeline]:
                """A pipeline; that all in it is answered counts as a statement."""
                with self.around(connection, "(answers of a pipeline)"), pipeline() as entered:
                    yield entered

            connection.pipeline = answered  # type: ignore[method-assign]
        return connection

    @contextmanager
    def around(self, connection: psycopg.Connection, query: Any) -> Iterator[None]:
        """Run a statement, and end the session if this is the one."""
        number = len(self.statements)
        self.statements.append(str(query))
        if number == self._at and self._when == "before":
            self._end(connection)
        yield
        if number == self._at and self._when != "before":
            self._end(connection)
        if number == self._at and self._when == "unanswered":
            raise psycopg.OperationalError("the connection was lost before the answer came")

    def _end(self, connection: psycopg.Connection) -> None:
        self.ended = True
        end_session(self._owner, connection)


def end_session(database: FreshDatabase, connection: psycopg.Connection) -> None:
    """End the session of a connection at the server, as a failover does."""
    pid = connection.info.backend_pid
    with database.connect() as owner:
        owner.execute("SELECT pg_terminate_backend(%s)", (pid,))
        alive = "SELECT FROM pg_stat_activity WHERE pid = %s"
        until(lambda: owner.execute(alive, (pid,)).fetchone() is None, "the session to end")


def _cursor_of(database: EndingDatabase) -> type[psycopg.Cursor[Any]]:
    class Ending(psycopg.Cursor[Any]):
        def execute(self, query: Any, *given: Any, **more: Any) -> Any:
            with database.around(self.connection, query):
                return super().execute(query, *given, **more)

        @contextmanager
        def copy(self, statement: Any, *given: Any, **more: Any) -> Iterator[psycopg.Copy]:
            with database.around(self.connection, statement), super().copy(statement, *given, **more) as copy:
                yield copy

    return Ending
