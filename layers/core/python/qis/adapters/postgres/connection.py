"""Reaching PostgreSQL: one kept connection per process, made when first used, made again when it broke."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from qis.application.ports import Unavailable

if TYPE_CHECKING:
    from psycopg import Connection

    from qis.settings import DatabaseEnvironment

RDS_CA_BUNDLE = "/opt/python/qis/adapters/postgres/rds-global-bundle.pem"


SESSION_SETTINGS = {
    "statement_timeout": "20s",
    "idle_in_transaction_session_timeout": "20s",
    "TimeZone": "UTC",
    # A machine that is gone says no goodbye: nobody waits for it, and for its locks, for long.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10000",
    # A kept plan does not see tables grow a thousandfold; planning costs far less than a bad one.
    "plan_cache_mode": "force_custom_plan",
}
"""Settings of every session of the functions' role, set on the role itself.

RDS Proxy refuses a connection that brings them as options ("currently doesn't support command-line options").
It pins a session that sets them, so that each instance of a function holds a connection of the server:
https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/rds-proxy-pinning.html
"""

PROXY = ".proxy-"
"""Part of the host name of every endpoint of RDS Proxy: NAME.proxy-ID.REGION.rds.amazonaws.com."""
PREPARE_AFTER = 5
"""Runs of a statement after which it is prepared, which saves a point query a fifth of its time."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the database is and how to be let in."""

    host: str
    port: int
    database: str
    user: str
    auth: str = "trust"
    region: str = ""

    def __post_init__(self) -> None:
        if self.auth == "trust" and not _is_loopback(self.host):
            raise ValueError(f"auth 'trust' is for loopback only, not for {self.host}")

    @classmethod
    def of(cls, env: DatabaseEnvironment, region: str) -> Target:
        """The target in a function's settings."""
        return cls(
            env.database_host,
            env.database_port,
            env.database_name,
            env.database_user,
            env.database_auth,
            region,
        )

    @property
    def shared(self) -> bool:
        """Whether RDS Proxy shares the sessions among clients, as the name of its endpoint says."""
        return PROXY in self.host

    def password(self) -> str | None:
        """A token signed for this user with the process's role, good for 15 minutes; ``None`` for trust."""
        if self.auth == "trust":
            return None
        import boto3

        client = boto3.client("rds", region_name=self.region)
        token: str = client.generate_db_auth_token(self.host, self.port, self.user, Region=self.region)
        return token

    def tls(self) -> dict[str, str]:
        """Connection options that verify the server, everywhere but on loopback."""
        if self.auth == "trust":
            return {"sslmode": "disable"}
        return {"sslmode": "verify-full", "sslrootcert": RDS_CA_BUNDLE}


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


PATIENCE = 15.0
"""Seconds for which connecting is tried again: a restart or a failover takes some."""
STREAM_PATIENCE = 45.0
"""The same for a function that reads a stream: nobody waits for its answer, and each attempt that fails
brings its records closer to being given up, which is for what cannot be processed, not for what can wait."""
FIRST_PAUSE, LAST_PAUSE = 0.05, 1.0

# Who dies while it waits for a lock gives up those it has at once, not at the statement's time limit. Only
# here: to look whether the client is there costs each statement a timer, as much as the shortest take.
_BEGIN = "BEGIN; SET LOCAL client_connection_check_interval = '1s'"


def _ended(connection: Connection) -> bool:
    """Whether a connection is of no more use: seen on the socket, so that asking costs no round trip."""
    import psycopg

    if connection.closed or connection.broken:
        return True
    try:
        # What the server has said unasked: a notification, or that it ends.
        while select.select([connection.fileno()], [], [], 0)[0]:
            connection.pgconn.consume_input()
    except psycopg.OperationalError:
        return True
    return connection.broken


def lost(error: Exception) -> Exception:
    """``error``, or where it says that the database went away or took too long, that a part outside did not
    answer. Whether anything changed is then unknown; repeating is safe, because every command is."""
    import psycopg

    if isinstance(error, psycopg.OperationalError):
        return Unavailable("the database does not answer")
    return error


def _commit(connection: Connection) -> None:
    """Commit; the server answers a commit of a failed transaction by rolling it back, without an error."""
    import psycopg

    ended = connection.execute("COMMIT").statusmessage
    if ended != "COMMIT":
        raise psycopg.errors.InFailedSqlTransaction(f"the transaction ended with {ended}: a statement failed")


class Database:
    """A connection that is kept between calls, as a warm function keeps it.

    A kept connection that the server ended is replaced when it is next used, but never inside a transaction
    or a session: what belongs to one runs on its connection, or fails. An error during the work goes to the
    caller: only it knows whether repeating is safe.
    """

    def __init__(self, target: Target, application: str, patience: float = PATIENCE) -> None:
        self.patience = patience
        """Seconds for which connecting is tried again. A function that answers people and reads a stream sets
        it for each."""
        self._target = target
        self._application = application
        self._connection: Connection | None = None
        self._pinned = False
        """Whether a session or a transaction is open, whose connection nothing replaces."""
        self._in_transaction = False

    def connect(self) -> Connection:
        """The kept connection; a new one where it is closed or broken, or the server ended it meanwhile.

        Inside ``transaction`` and ``session`` it is theirs: a statement never runs beside them unnoticed.

        Raises:
            psycopg.OperationalError: the server could not be reached for as long as there was patience, or
                the session that is open was ended.
        """
        import psycopg

        if self._connection is not None and _ended(self._connection):
            self.close()
        if self._connection is None:
            if self._pinned:
                raise psycopg.OperationalError("the session was ended while it was in use")
            self._connection = self._reached()
        return self._connection

    def _reached(self) -> Connection:
        """A new connection, tried for as long as there is patience."""
        import psycopg

        deadline = time.monotonic() + self.patience
        pause = FIRST_PAUSE
        while True:
            try:
                return self._open()
            except psycopg.OperationalError:
                if time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE)

    def _open(self) -> Connection:
        import msgspec
        import psycopg
        from psycopg.types.json import set_json_loads

        tls: dict[str, Any] = {**self._target.tls()}
        connection = psycopg.connect(
            host=self._target.host,
            port=self._target.port,
            dbname=self._target.database,
            user=self._target.user,
            password=self._target.password(),
            application_name=self._application,
            connect_timeout=5,
            autocommit=True,
            # As the server does by the settings of its sessions.
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
            tcp_user_timeout=10_000,
            # A named prepared statement stays with its session, which the proxy would have to pin.
            prepare_threshold=None if self._target.shared else PREPARE_AFTER,
            **tls,
        )
        # Reading events and values is reading JSON, for the most part.
        set_json_loads(msgspec.json.decode, connection)
        return connection

    @contextmanager
    def session(self) -> Iterator[Connection]:
        """The connection for work that rests on its session, such as on a lock that the session holds.

        Nothing replaces the connection before the context ends.
        """
        connection = self.connect()
        with self._pin():
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """The connection inside a transaction: committed at the end, rolled back on an error.

        Where the server went away before anything was sent, it connects again once. An error of the commit
        leaves unknown whether it happened.

        Raises:
            RuntimeError: a transaction is open already.
        """
        import psycopg

        if self._in_transaction:
            raise RuntimeError("a transaction is open already; what takes part in it takes its connection")
        connection = self.connect()
        try:
            connection.execute(_BEGIN)
        except psycopg.OperationalError:
            self.close()
            connection = self.connect()
            connection.execute(_BEGIN)
        self._in_transaction = True
        try:
            with self._pin():
                yield connection
                _commit(connection)
        except BaseException:
            self._roll_back(connection)
            raise
        finally:
            self._in_transaction = False

    @contextmanager
    def _pin(self) -> Iterator[None]:
        before, self._pinned = self._pinned, True
        try:
            yield
        finally:
            self._pinned = before

    def _roll_back(self, connection: Connection) -> None:
        """Undo the transaction; a connection that cannot is given up, which undoes it, too."""
        import psycopg

        try:
            connection.execute("ROLLBACK")
        except psycopg.Error:
            self.close()

    def close(self) -> None:
        """Give the connection up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
