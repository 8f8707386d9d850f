"""The environment of each function: read once, and refused with the variable's name where it is wrong."""

from __future__ import annotations

import msgspec
import pytest

from qis.adapters.postgres.connection import Target
from qis.settings import FUNCTIONS, PREFIX, Environment, IngestEnvironment, QueryEnvironment, SettingsError

VALUES = {
    "database_port": "5432",
    "database_auth": "trust",
    "window_seconds": "7",
    "end_transactions_after": "7",
}


def complete(kind: type[Environment]) -> dict[str, str]:
    """Every variable of a function, required or not."""
    return {
        PREFIX + f.name.upper(): VALUES.get(f.name, f"the-{f.name}") for f in msgspec.structs.fields(kind)
    }


@pytest.mark.parametrize("kind", FUNCTIONS.values(), ids=FUNCTIONS)
def test_complete_settings_are_read_into_their_fields(kind: type[Environment]) -> None:
    env = kind.read({**complete(kind), "PATH": "/bin", "AWS_REGION": "eu-central-1"})
    for field in msgspec.structs.fields(kind):
        expected = VALUES.get(field.name, f"the-{field.name}")
        assert getattr(env, field.name) == (int(expected) if expected.isdigit() else expected)


@pytest.mark.parametrize("kind", FUNCTIONS.values(), ids=FUNCTIONS)
def test_each_required_variable_is_missed_by_name(kind: type[Environment]) -> None:
    required = [name for name, needed in kind.variables().items() if needed]
    assert "QIS_ENVIRONMENT" in required
    for name in required:
        for value in (None, ""):
            env = {**complete(kind), name: value}
            with pytest.raises(SettingsError, match=rf"\b{name}\b"):
                kind.read({k: v for k, v in env.items() if v is not None})


@pytest.mark.parametrize("kind", FUNCTIONS.values(), ids=FUNCTIONS)
def test_an_unknown_variable_of_ours_is_refused_by_name(kind: type[Environment]) -> None:
    with pytest.raises(SettingsError, match="QIS_DATABSE_HOST"):
        kind.read({**complete(kind), "QIS_DATABSE_HOST": "typo"})


@pytest.mark.parametrize("port", ["five", "5432.0", "-1", "0x10", " 5432", "1e3"])
def test_a_port_that_is_no_whole_number_is_refused(port: str) -> None:
    with pytest.raises(SettingsError, match="QIS_DATABASE_PORT"):
        IngestEnvironment.read({**complete(IngestEnvironment), "QIS_DATABASE_PORT": port})


def test_a_way_in_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"QIS_DATABASE_AUTH.*'password'"):
        IngestEnvironment.read({**complete(IngestEnvironment), "QIS_DATABASE_AUTH": "password"})


def test_an_optional_variable_may_be_left_out_or_empty() -> None:
    env = complete(QueryEnvironment)
    for given in ({}, {"QIS_CACHE_URL": ""}):
        del env["QIS_CACHE_URL"]
        env |= given
        assert QueryEnvironment.read(env).cache_url == ""
        env["QIS_CACHE_URL"] = ""


def test_settings_cannot_be_changed_once_read() -> None:
    env = IngestEnvironment.read(complete(IngestEnvironment))
    with pytest.raises(AttributeError, match="immutable"):
        env.raw_bucket = "other"  # type: ignore[misc]


# the way to the database -------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.53", "::1", "localhost"])
def test_without_a_password_loopback_may_be_reached_in_the_clear(host: str) -> None:
    target = Target(host, 5432, "qis", "qis_app")
    assert target.password() is None
    assert target.tls() == {"sslmode": "disable"}


@pytest.mark.parametrize("host", ["db.internal", "10.0.0.1", "0.0.0.0", "localhost.evil.test", "::2", ""])
def test_without_a_password_nothing_else_may_be_reached(host: str) -> None:
    with pytest.raises(ValueError, match="loopback only"):
        Target(host, 5432, "qis", "qis_app")


def test_elsewhere_the_server_is_verified() -> None:
    tls = Target("db.internal", 5432, "qis", "qis_app", "iam", "eu-central-1").tls()
    assert tls["sslmode"] == "verify-full"
    assert tls["sslrootcert"].endswith(".pem")


def test_a_token_is_signed_for_this_host_and_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    token = Target("db.internal", 5432, "qis", "qis_app", "iam", "eu-central-1").password()
    assert token is not None
    assert token.startswith("db.internal:5432/?Action=connect&DBUser=qis_app&")
    assert "X-Amz-Signature=" in token
    assert "eu-central-1" in token
