"""The environment of each function: one frozen class per function, read once, refused when wrong.

The CDK constructs and the local twin take the variable names from these classes, so a variable is
spelled in one place. Reading happens in a handler's bootstrap, never at import.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

PREFIX = "QIS_"


class SettingsError(ValueError):
    """A variable is missing, unknown or malformed; the message names it and the rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Settings read from variables named ``QIS_<FIELD>``. Subclass per function."""

    environment: str
    """Name of the deployed environment, such as ``dev``."""

    @classmethod
    def variables(cls) -> dict[str, bool]:
        """Variable names that this function reads, each with whether it is required."""
        return {
            PREFIX + f.name.upper(): f.default is MISSING and f.default_factory is MISSING
            for f in fields(cls)
        }

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
        hints = get_type_hints(cls)
        given: dict[str, Any] = {
            f.name: _convert(PREFIX + f.name.upper(), env[PREFIX + f.name.upper()], hints[f.name])
            for f in fields(cls)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseEnvironment(Environment):
    """How a function reaches the event store."""

    database_host: str
    database_port: int
    database_name: str
    database_user: str
    database_auth: Literal["iam", "trust"]
    """``iam``: a short-lived token signed with the function's role, over verified TLS.
    ``trust``: no password; refused for any host that is not loopback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiEnvironment(DatabaseEnvironment):
    """A function that answers requests from outside and so checks bearer tokens."""

    jwks_url: str
    token_issuer: str
    token_audience: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestEnvironment(ApiEnvironment):
    """``ingest``: claims in, from the stream and by REST."""

    raw_bucket: str
    ingest_dlq_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryEnvironment(ApiEnvironment):
    """``query``: every reading route."""

    cache_url: str = ""
    """Valkey for answers that can never change (``valkeys://host:port``); empty: no cache."""
    cache_group: str = ""
    """ElastiCache group that the function's role signs in to; empty: nobody asks."""
    cache_user: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileEnvironment(DatabaseEnvironment):
    """``reconcile``: claims to one official value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityEnvironment(DatabaseEnvironment):
    """``quality``: scores, missing and stale values."""

    window_seconds: int = 60
    """Length of the windows over the log. Alarms count minutes, so only the twin has others, with shorter
    periods of its alarms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishEnvironment(Environment):
    """``publish``: official values and restatements to the event bus."""

    bus_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RealtimeEnvironment(ApiEnvironment):
    """``realtime``: the WebSocket API, and official values to its connections."""

    push_endpoint: str
    """Address of the connections' management API: ``https://ID.execute-api.REGION.amazonaws.com/STAGE``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayEnvironment(DatabaseEnvironment):
    """``relay``: the log's follower that feeds the backbone stream."""

    events_stream: str
    audit_stream: str = ""
    """Where what people and the system decided goes, too; empty: nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrateEnvironment(DatabaseEnvironment):
    """``migrate``: applies the SQL migrations as a deploy step."""

    function_user: str
    """Database role that the other functions connect as; granted what they need, no more."""


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
