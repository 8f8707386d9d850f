"""The twin's own issuer of tokens: a key in the data directory, its public half as a key set."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

ROLES: Mapping[str, tuple[str, ...]] = {
    "reader": ("read:data",),
    "writer": ("read:data", "write:data"),
    "publisher": ("read:data", "write:data", "publish:data"),
    "admin": ("read:data", "write:data", "publish:data", "admin:data"),
}
KEY_ID = "qis-local"


def ensure_key(data_dir: Path) -> Path:
    """Make the signing key if there is none; readable by its owner only."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    path = data_dir / "signing-key.pem"
    if not path.exists():
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(pem)
    return path


def key_set(data_dir: Path) -> dict[str, Any]:
    """The public key as a JSON Web Key Set."""
    import jwt

    public = _private_key(data_dir).public_key()
    key: dict[str, Any] = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(public))
    return {"keys": [{**key, "kid": KEY_ID, "alg": "RS256", "use": "sig"}]}


def mint_token(
    data_dir: Path, *, role: str, subject: str, issuer: str, audience: str, now: int, seconds: int = 3600
) -> str:
    """A bearer token of a role.

    Raises:
        KeyError: there is no such role.
        FileNotFoundError: the twin was never started in this directory.
    """
    import jwt

    claims = {
        "iss": issuer,
        "aud": audience,
        "sub": subject,
        "scope": " ".join(ROLES[role]),
        "iat": now,
        "exp": now + seconds,
        "jti": str(uuid.uuid4()),
    }
    return jwt.encode(claims, _private_key(data_dir), algorithm="RS256", headers={"kid": KEY_ID})


def token(state: Mapping[str, Any], role: str, subject: str, seconds: int = 3600) -> str:
    """A bearer token for the twin that describes itself so, valid from now on.

    Raises:
        KeyError: there is no such role.
    """
    return mint_token(
        Path(state["data_dir"]),
        role=role,
        subject=subject,
        issuer=state["issuer"],
        audience=state["audience"],
        now=int(time.time()),
        seconds=seconds,
    )


def _private_key(data_dir: Path) -> Any:
    return _checked_key((data_dir / "signing-key.pem").read_bytes())


@lru_cache(maxsize=4)  # checking a key that was read costs ten times what signing does
def _checked_key(pem: bytes) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return load_pem_private_key(pem, password=None)
