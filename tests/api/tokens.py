"""A token issuer for tests: keys made once, tokens of any shape."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ISSUER, AUDIENCE = "https://issuer.test", "qis-api"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ALL_SCOPES = "read:data write:data publish:data admin:data"


_KEYS: dict[tuple[str, int], rsa.RSAPrivateKey] = {}


def private_key(name: str = "one", bits: int = 2048) -> rsa.RSAPrivateKey:
    """One key per name and size."""
    if (name, bits) not in _KEYS:
        _KEYS[name, bits] = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    return _KEYS[name, bits]


def public_pem() -> bytes:
    """The public key as an attacker finds it."""
    return private_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def jwk(kid: str, name: str = "one", **more: str) -> dict[str, Any]:
    """A public key as published."""
    algorithm = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256)
    return {**algorithm.to_jwk(private_key(name).public_key(), as_dict=True), "kid": kid, **more}


@dataclass
class Jwks:
    """What the issuer publishes, counting who asks."""

    keys: list[dict[str, Any]]
    asked: int = 0
    error: Exception | None = None

    def fetch(self) -> bytes:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return json.dumps({"keys": self.keys}).encode()


def claims(**changes: Any) -> dict[str, Any]:
    """Claims of a valid token; ``None`` leaves one out."""
    now = int(NOW.timestamp())
    body = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "iat": now,
        "exp": now + 3600,
        "jti": "1",
        "scope": ALL_SCOPES,
        **changes,
    }
    return {k: v for k, v in body.items() if v is not None}


def token(key: Any = None, algorithm: str = "RS256", kid: str | None = "k1", **changes: Any) -> str:
    """A signed token."""
    headers = {} if kid is None else {"kid": kid}
    signer = private_key() if key is None else key
    return jwt.encode(claims(**changes), signer, algorithm=algorithm, headers=headers)
