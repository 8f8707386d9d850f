"""Databases for tests: copied from a migrated template, so that a fresh one costs milliseconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

import psycopg

from local.postgres import OWNER, PostgresServer
from qis.adapters.postgres import migrate
from qis.adapters.postgres.connection import PATIENCE, Database, Target

HOST = "127.0.0.1"
APP = "qis_app"
_NUMBERS = count(1)


@dataclass(slots=True)
class FreshDatabase:
    """A database of one test: ``app`` is what a function sees, ``owner`` who runs the migrations."""

    server: PostgresServer
    name: str
    _open: list[Database] = field(default_factory=list)
    _app: Database | None = None

    @property
    def owner(self) -> Target:
        """The role that owns the schema."""
        return Target(HOST, self.server.port, self.name, OWNER)

    @property
    def target(self) -> Target:
        """The role of the functions."""
        return Target(HOST, self.server.port, self.name, APP)

    @property
    def app(self) -> Database:
        """The connection of a function; the same at every call."""
        if self._app is None:
            self._app = self.another()
        return self._app

    def another(self) -> Database:
        """One more connection of a function, closed with the test."""
        return self.made(self.target, "qis-test")

    def made(self, target: Target, application: str, patience: float = PATIENCE) -> Database:
        """A connection, closed with the test: what a handler makes in the process of a test takes the place
        of its ``Database``, which lives as long as its process."""
        self._open.append(Database(target, application, patience))
        return self._open[-1]

    def connect(self) -> psycopg.Connection:
        """A connection of the owner, to be closed by the caller."""
        return psycopg.connect(
            host=HOST, port=self.server.port, dbname=self.name, user=OWNER, autocommit=True
        )

    def variables(self) -> dict[str, str]:
        """The settings by which a function reaches this database."""
        return {
            "QIS_ENVIRONMENT": "test",
            "QIS_DATABASE_HOST": HOST,
            "QIS_DATABASE_PORT": str(self.server.port),
            "QIS_DATABASE_NAME": self.name,
            "QIS_DATABASE_USER": APP,
            "QIS_DATABASE_AUTH": "trust",
        }

    def close(self) -> None:
        """Close the connections and drop the database."""
        for database in self._open:
            database.close()
        with psycopg.connect(self.server.dsn, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {self.name} WITH (FORCE)")


@dataclass(frozen=True, slots=True)
class Template:
    """The migrated database that others are copies of."""

    server: PostgresServer
    name: str

    @classmethod
    def make(cls, server: PostgresServer) -> Template:
        name = "qis_template"
        server.create_database(name)
        migrate.apply(Target(HOST, server.port, name, OWNER))
        return cls(server, name)

    def fresh(self, *, migrated: bool = True) -> FreshDatabase:
        """A new database; ``migrated=False`` gives one without a schema."""
        name = f"qis_{next(_NUMBERS)}"
        self.server.create_database(name, self.name if migrated else None)
        return FreshDatabase(self.server, name)
