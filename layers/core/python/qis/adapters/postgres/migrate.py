"""SQL migrations, applied in order and once (yoyo). Run by a command or a deploy step, never by a handler."""

from __future__ import annotations

from importlib import resources
from urllib.parse import quote

from qis.adapters.postgres.connection import Target


def apply(target: Target) -> list[str]:
    """Apply what is missing, each migration in its own transaction, under yoyo's lock.

    Returns:
        Names of the migrations applied now, in order.
    """
    from yoyo import get_backend, read_migrations

    with resources.as_file(resources.files("qis.adapters.postgres") / "migrations") as folder:
        migrations = read_migrations(str(folder))
        backend = get_backend(_url(target))
        try:
            with backend.lock():
                missing = backend.to_apply(migrations)
                backend.apply_migrations(missing)
                return [m.id for m in missing]
        finally:
            backend.connection.close()


def _url(target: Target) -> str:
    password = target.password()
    secret = f":{quote(password, safe='')}" if password else ""
    options = "&".join(f"{name}={quote(value)}" for name, value in target.tls().items())
    at = f"{target.host}:{target.port}/{target.database}"
    return f"postgresql+psycopg://{quote(target.user)}{secret}@{at}?{options}"
