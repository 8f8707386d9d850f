"""The environment of each function: one frozen class per function, read once, refused when wrong.

The CDK constructs and the local twin take the variable names from these classes, so a variable is
spelled in one place. Reading happens in a handler's bootstrap, never at import.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self, get_args, get_origin

import msgspec

PREFIX = "QIS_"


class SettingsError(ValueError):
    """A variable is missing, unknown or malformed; the message names it and the rule."""


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """Settings read from variables named ``QIS_<FIELD>``. Subclass per function."""

    environment: str
    """Name of the deployed environment, such as ``dev``."""

    @classmethod
    def variables(cls) -> dict[str, bool]:
        """Variable names that this function reads, each with whether it is required."""
        return {PREFIX + f.name.upper(): f.required for f in msgspec.structs.fields(cls)}

    @classmethod
    def read(cls, env: Mapping[str, str]) -> Self:
        """Build the settings from ``env``.

        Raises:
            SettingsError: a required variable is missing, a ``QIS_`` variable is unknown to this
                function, or a value does not have the type of its field.
        """
        known = cls.variables()
        unknown = sorted(k for k in env if k.startswith(PREFIX) and k not in known)
        if unknown:
            raise SettingsError(f"{cls.__name__}: unknown variable {unknown[0]}; known are {sorted(known)}")
        missing = sorted(k for k, required in known.items() if required and not env.get(k))
        if missing:
            raise SettingsError(f"{cls.__name__}: variable {missing[0]} is required and not set")
        given: dict[str, Any] = {
            f.name: _convert(PREFIX + f.name.upper(), env[PREFIX + f.name.upper()], f.type)
            for f in msgspec.structs.fields(cls)
            if env.get(PREFIX + f.name.upper())
        }
        return cls(**given)


def _convert(name: str, text: str, wanted: object) -> object:
    if wanted is int:
        if not text.isdecimal():
            raise SettingsError(f"{name}: {text!r} is not a whole number")
        return int(text)
    if get_origin(wanted) is Literal and text not in get_args(wanted):
        raise SettingsError(f"{name}: {text!r} is not one of {list(get_args(wanted))}")
    return text


class DatabaseEnvironment(Environment, frozen=True, kw_only=True):
    """How a function reaches the event store."""

    database_host: str
    database_port: int
    database_name: str
    database_user: str
    database_auth: Literal["iam", "trust"]
    """``iam``: a short-lived token signed with the function's role, over verified TLS.
    ``trust``: no password; refused for any host that is not loopback."""


class ApiEnvironment(DatabaseEnvironment, frozen=True, kw_only=True):
    """A function that answers requests from outside and so checks bearer tokens."""

    jwks_url: str
    token_issuer: str
    token_audience: str


class IngestEnvironment(ApiEnvironment, frozen=True, kw_only=True):
    """``ingest``: claims in, from the stream and by REST."""

    raw_bucket: str
    ingest_dlq_url: str


class QueryEnvironment(ApiEnvironment, frozen=True, kw_only=True):
    """``query``: every reading route."""

    cache_url: str = ""
    """Valkey for answers that can never change (``valkeys://host:port``); empty: no cache."""
    cache_group: str = ""
    """ElastiCache group that the function's role signs in to; empty: nobody asks."""
    cache_user: str = ""


class ReconcileEnvironment(DatabaseEnvironment, frozen=True, kw_only=True):
    """``reconcile``: claims to one official value."""


class QualityEnvironment(DatabaseEnvironment, frozen=True, kw_only=True):
    """``quality``: scores, missing and stale values."""

    window_seconds: int = 60
    """Length of the windows over the log. Alarms count minutes, so only the twin has others, with shorter
    periods of its alarms."""


class PublishEnvironment(Environment, frozen=True, kw_only=True):
    """``publish``: official values and restatements to the event bus."""

    bus_name: str


class RealtimeEnvironment(ApiEnvironment, frozen=True, kw_only=True):
    """``realtime``: the WebSocket API, and official values to its connections."""

    push_endpoint: str
    """Address of the connections' management API: ``https://ID.execute-api.REGION.amazonaws.com/STAGE``."""


class RelayEnvironment(DatabaseEnvironment, frozen=True, kw_only=True):
    """``relay``: the log's follower that feeds the backbone stream."""

    events_stream: str
    audit_stream: str = ""
    """Where what people and the system decided goes, too; empty: nowhere."""
    end_transactions_after: int = 0
    """Seconds after which a foreign transaction that holds up the followers of the log is ended; 0: never."""


class MigrateEnvironment(DatabaseEnvironment, frozen=True, kw_only=True):
    """``migrate``: applies the SQL migrations as a deploy step."""


FUNCTIONS: dict[str, type[Environment]] = {
    "ingest": IngestEnvironment,
    "reconcile": ReconcileEnvironment,
    "publish": PublishEnvironment,
    "quality": QualityEnvironment,
    "query": QueryEnvironment,
    "realtime": RealtimeEnvironment,
    "relay": RelayEnvironment,
    "migrate": MigrateEnvironment,
}
