"""Bearer tokens: RS256 only, against the issuer's published keys."""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NoReturn
from urllib.parse import urlsplit

from qis.application.access import Principal, Unauthenticated
from qis.application.ports import Unavailable

log = logging.getLogger(__name__)

LEEWAY = 30
"""Seconds by which the issuer's clock may differ."""
REFETCH_AFTER = 30
"""Seconds until an unknown key id makes the keys be read again; forged ids must not flood the issuer."""
KEYS_FOR = 3600
"""Seconds for which keys are used without looking whether one was withdrawn."""
MAX_TOKEN = 8192
MAX_JWKS = 1 << 20
MIN_KEY_BITS = 2048
KEPT = 1024
SCOPE_PREFIX = "qis/"

Fetch = Callable[[], bytes]


def fetch_jwks(url: str) -> bytes:
    """The key set at ``url``, which is https, or http on loopback.

    Raises:
        Unavailable: it does not answer, or answers with more than a key set can be.
    """
    from urllib.error import URLError
    from urllib.request import urlopen

    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ValueError(f"keys are read over https, not from {url!r}")
    try:
        with urlopen(url, timeout=3) as answer:  # noqa: S310 - the scheme is checked above
            body: bytes = answer.read(MAX_JWKS + 1)
    except (URLError, OSError) as error:
        raise Unavailable("the keys of the token issuer cannot be read") from error
    if len(body) > MAX_JWKS:
        raise Unavailable("the keys of the token issuer are too large")
    return body


_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class JwtAuthenticator:
    """``Authenticator`` of one issuer. A verified token is remembered until it expires.

    Args:
        audience: whom a token must be for; where several clients are let in, their names with commas.
    """

    def __init__(self, fetch: Fetch, issuer: str, audience: str, clock: Callable[[], datetime]) -> None:
        self._keys = _Keys(fetch)
        self._issuer = issuer
        self._audiences = frozenset(audience.split(","))
        self._clock = clock
        self._verified: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()

    def verify(self, token: str) -> Principal:
        """See ``Authenticator.verify``."""
        if len(token) > MAX_TOKEN or not token.isascii():
            _refuse("malformed")
        now = self._clock().timestamp()
        digest = sha256(token.encode()).digest()
        known = self._verified.get(digest)
        if known is not None and now < known[0]:
            return known[1]
        claims = self._verified_claims(token, now)
        expires, principal = self._admitted(claims, now)
        self._verified[digest] = (expires, principal)
        while len(self._verified) > KEPT:
            self._verified.popitem(last=False)
        return principal

    def _verified_claims(self, token: str, now: float) -> Mapping[str, Any]:
        import jwt

        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError as error:
            raise _refusal("malformed") from error
        if header.get("alg") != "RS256":
            _refuse("algorithm")
        key = self._keys.find(header.get("kid"), now)
        if key is None:
            _refuse("unknown-key")
        try:
            payload = jwt.PyJWS(algorithms=["RS256"]).decode(token, key, algorithms=["RS256"])
            claims = json.loads(payload, parse_constant=_constant)
        except jwt.InvalidTokenError as error:
            raise _refusal("signature") from error
        except (ValueError, RecursionError) as error:
            raise _refusal("malformed") from error
        if not isinstance(claims, dict):
            _refuse("malformed")
        return claims

    def _admitted(self, claims: Mapping[str, Any], now: float) -> tuple[float, Principal]:
        expires, issued = _seconds(claims, "exp"), _seconds(claims, "iat")
        if now >= expires + LEEWAY:
            _refuse("expired")
        if issued > now + LEEWAY:
            _refuse("issued-in-future")
        if "nbf" in claims and _seconds(claims, "nbf") > now + LEEWAY:
            _refuse("not-yet-valid")
        if claims.get("iss") != self._issuer:
            _refuse("issuer")
        if not self._is_for_us(claims):
            _refuse("audience")
        subject = claims.get("sub")
        if not isinstance(subject, str) or not subject or len(subject) > 128 or not subject.isprintable():
            _refuse("subject")
        scope = claims.get("scope", "")
        if not isinstance(scope, str):
            _refuse("scope")
        scopes = frozenset(s.removeprefix(SCOPE_PREFIX) for s in scope.split())
        until = expires + LEEWAY
        return until, Principal(subject, scopes, datetime.fromtimestamp(until, UTC))

    def _is_for_us(self, claims: Mapping[str, Any]) -> bool:
        audience = claims.get("aud")
        if audience is None:
            # An access token of Cognito names its client instead.
            given = [claims.get("client_id")] if claims.get("token_use") == "access" else []
        else:
            given = audience if isinstance(audience, list) else [audience]
        return any(isinstance(name, str) and name in self._audiences for name in given)


class _Keys:
    """The issuer's RSA keys by id, read again when one is unknown or when they are old."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._keys: dict[str, Any] = {}
        self._read_at = float("-inf")
        self._tried_at = float("-inf")

    def find(self, kid: object, now: float) -> Any:
        """The key, or ``None``.

        Raises:
            Unavailable: the keys cannot be read and none are known.
        """
        if not isinstance(kid, str):
            return None
        old = now - self._read_at >= KEYS_FOR
        if (old or kid not in self._keys) and now - self._tried_at >= REFETCH_AFTER:
            self._read(now)
        if not self._keys:
            raise Unavailable("the keys of the token issuer cannot be read")
        return self._keys.get(kid)

    def _read(self, now: float) -> None:
        self._tried_at = now
        try:
            self._keys = _parse_keys(self._fetch())
            self._read_at = now
        except Unavailable:
            if not self._keys:
                self._tried_at = float("-inf")
                raise
            log.warning("token keys could not be read again; the known ones are used", exc_info=True)


def _parse_keys(body: bytes) -> dict[str, Any]:
    import jwt

    try:
        given = json.loads(body)["keys"]
        found = {}
        for jwk in given:
            if (
                jwk.get("kty") != "RSA"
                or jwk.get("use", "sig") != "sig"
                or jwk.get("alg", "RS256") != "RS256"
            ):
                continue
            key = jwt.PyJWK({**jwk, "alg": "RS256"}).key
            if key.key_size >= MIN_KEY_BITS:
                found[jwk["kid"]] = key
    except (ValueError, KeyError, TypeError, AttributeError, jwt.PyJWTError) as error:
        raise Unavailable("the keys of the token issuer are malformed") from error
    return found


def _seconds(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e11:
        _refuse(f"claim-{name}")
    return float(value)


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _refuse(rule: str) -> NoReturn:
    raise _refusal(rule)


def _refusal(rule: str) -> Unauthenticated:
    return Unauthenticated(f"the bearer token is not valid: {rule}", rule)
