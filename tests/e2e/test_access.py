"""Who may do what: a token on each route, and the scope of the route in it."""

from __future__ import annotations

import base64
import hmac
import json
import time

import jwt
import pytest

from tests.e2e.twin import Twin
from tests.support.builders import EUR, rules_body, series_body, source_body

ITEM = "00000000-0000-0000-0000-000000000000"
WRITING = {
    "ingest one": ("POST", f"/api/v1/data/reference/{EUR}/ingest", {}, "writer"),
    "ingest many": ("POST", "/api/v1/data/ingest", {"claims": []}, "writer"),
    "restate": ("POST", f"/api/v1/data/reference/{EUR}/restate", {}, "publisher"),
    "approve": ("POST", f"/api/v1/exceptions/{ITEM}/approve", None, "publisher"),
    "reject": ("POST", f"/api/v1/exceptions/{ITEM}/reject", {"reason": "x"}, "publisher"),
    "put series": ("PUT", f"/api/v1/series/{EUR}", series_body(), "admin"),
    "put source": ("PUT", "/api/v1/sources/alpha", source_body(), "admin"),
    "put rules": ("PUT", "/api/v1/rules/fx", rules_body(max_move=None), "admin"),
}
READING = (
    f"/api/v1/data/reference/{EUR}/official?snap=2026-01-05T14:00:00Z",
    f"/api/v1/data/reference/{EUR}/historical?from=2026-01-05&to=2026-01-06",
    f"/api/v1/data/reference/{EUR}/quality",
    f"/api/v1/data/reference/{EUR}/explain?snap=2026-01-05T14:00:00Z",
    "/api/v1/series",
    "/api/v1/sources",
    "/api/v1/rules",
    "/api/v1/exceptions",
)
ROLES = ("reader", "writer", "publisher", "admin")


@pytest.mark.parametrize("path", READING)
def test_reading_needs_a_token(twin: Twin, path: str) -> None:
    answer = twin.http.get(path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert twin.call("GET", path, role="reader").status_code in (200, 404)


@pytest.mark.parametrize("path", ["/health", "/ready", "/openapi.json", "/.well-known/jwks.json"])
def test_what_says_how_the_service_is_needs_none(twin: Twin, path: str) -> None:
    assert twin.http.get(path).status_code == 200


@pytest.mark.parametrize("name", WRITING)
def test_writing_needs_a_token(twin: Twin, name: str) -> None:
    method, path, body, _ = WRITING[name]
    assert twin.http.request(method, path, json=body).status_code == 401


@pytest.mark.parametrize("name", WRITING)
def test_writing_needs_the_scope_of_the_route(twin: Twin, name: str) -> None:
    method, path, body, least = WRITING[name]
    for role in ROLES[: ROLES.index(least)]:
        answer = twin.call(method, path, body, role=role)
        assert answer.status_code == 403, f"{role} may {name}"
        assert "insufficient_scope" in answer.headers["www-authenticate"]
    assert twin.call(method, path, body, role=least).status_code not in (401, 403)


def _segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _claims(twin: Twin, **changes: object) -> dict[str, object]:
    now = int(time.time())
    return {
        "iss": twin.state["issuer"],
        "aud": twin.state["audience"],
        "sub": "mallory",
        "scope": "read:data write:data publish:data admin:data",
        "iat": now,
        "exp": now + 3600,
        "jti": "1",
        **changes,
    }


def _none(twin: Twin) -> str:
    return f"{_segment({'alg': 'none', 'kid': 'qis-local', 'typ': 'JWT'})}.{_segment(_claims(twin))}."


def _hmac_with_the_public_key(twin: Twin) -> str:
    key = json.dumps(twin.http.get("/.well-known/jwks.json").json()["keys"][0]).encode()
    head = f"{_segment({'alg': 'HS256', 'kid': 'qis-local', 'typ': 'JWT'})}.{_segment(_claims(twin))}"
    signature = hmac.digest(key, head.encode(), "sha256")
    return f"{head}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def _signed(twin: Twin, **changes: object) -> str:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key((twin.dir / "signing-key.pem").read_bytes(), password=None)
    return jwt.encode(_claims(twin, **changes), key, algorithm="RS256", headers={"kid": "qis-local"})  # type: ignore[arg-type]  # an RSA key


FORGED = {
    "alg none": _none,
    "HMAC with the public key": _hmac_with_the_public_key,
    "expired": lambda t: _signed(t, exp=int(time.time()) - 3600),
    "another issuer": lambda t: _signed(t, iss="https://elsewhere"),
    "another audience": lambda t: _signed(t, aud="other"),
    "not yet valid": lambda t: _signed(t, nbf=int(time.time()) + 3600),
    "a changed payload": lambda t: ".".join(
        [(parts := t.token("reader").split("."))[0], _segment(_claims(t)), parts[2]]
    ),
    "one word": lambda _: "token",
    "nonsense": lambda _: "a.b.c",
}


@pytest.mark.parametrize("name", FORGED)
def test_a_token_that_is_not_ours_opens_nothing(twin: Twin, name: str) -> None:
    headers = {"Authorization": f"Bearer {FORGED[name](twin)}"}
    assert twin.http.get("/api/v1/series", headers=headers).status_code == 401
    answer = twin.http.put("/api/v1/sources/evil", headers=headers, json=source_body("evil"))
    assert answer.status_code == 401
    assert twin.get("/api/v1/sources/evil").status_code == 404


def test_a_token_of_ours_opens(twin: Twin) -> None:
    headers = {"Authorization": f"Bearer {_signed(twin)}"}
    assert twin.http.get("/api/v1/series", headers=headers).status_code == 200
