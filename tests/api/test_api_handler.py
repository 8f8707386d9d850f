"""The deployed function itself, on a real database."""

from __future__ import annotations

import importlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from lambdas.query import handler as query
from qis.settings import SettingsError
from tests.api.tokens import AUDIENCE, ISSUER, Jwks, jwk, token
from tests.api.world import BASE, SERIES, World, reading
from tests.support.databases import FreshDatabase
from tests.support.lambdas import Context


@pytest.fixture
def deployed(database: FreshDatabase, monkeypatch: pytest.MonkeyPatch) -> World:
    """The function with its settings, its keys and a populated database."""
    for name, value in {
        **database.variables(),
        "QIS_JWKS_URL": "https://issuer.test/jwks",
        "QIS_TOKEN_ISSUER": ISSUER,
        "QIS_TOKEN_AUDIENCE": AUDIENCE,
        "AWS_REGION": "eu-central-1",
        "POWERTOOLS_METRICS_NAMESPACE": "qis",
        "POWERTOOLS_SERVICE_NAME": "query",
        "POWERTOOLS_TRACE_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    jwks = Jwks([jwk("k1")])
    importlib.reload(query)  # Powertools reads its own settings when the module is loaded
    monkeypatch.setattr(query, "fetch_jwks", lambda url: jwks.fetch())
    monkeypatch.setattr(query, "Database", database.made)
    return World(database.app).populate()


def fresh_token() -> str:
    now = int(datetime.now(UTC).timestamp())
    return token(iat=now, exp=now + 600)


def event(resource: str, **given: str) -> dict[str, Any]:
    found = reading(resource, SERIES, **given)
    found["multiValueHeaders"] = {"Authorization": [f"Bearer {fresh_token()}"]}
    return found


def test_the_function_answers_and_counts(deployed: World, capsys: pytest.CaptureFixture[str]) -> None:
    deployed.claim("2026-01-05", "1.0312")
    answer = query.handler(event(f"{BASE}/official", snap="2026-01-05"), Context())
    assert answer["statusCode"] == 200, answer["body"]
    assert json.loads(answer["body"])["value"] == "1.0312"
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert any(line.get("Answers2xx") for line in lines)


def test_a_missing_setting_is_named(deployed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QIS_JWKS_URL")
    with pytest.raises(SettingsError, match="QIS_JWKS_URL"):
        query.bootstrap()
