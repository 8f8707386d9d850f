"""Only tokens of the issuer, for us, in their time, signed with RS256, are let in."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import timedelta
from typing import Any

import pytest

from qis.adapters import tokens
from qis.adapters.tokens import JwtAuthenticator, fetch_jwks
from qis.application.access import Unauthenticated
from qis.application.ports import Unavailable
from tests.api.tokens import (
    AUDIENCE,
    ISSUER,
    NOW,
    Jwks,
    claims,
    jwk,
    private_key,
    public_pem,
    token,
)

SECONDS = int(NOW.timestamp())

SECOND = "people-client"


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> Any:
        return self.now


def authenticator(jwks: Jwks | None = None, clock: Any = None) -> JwtAuthenticator:
    return JwtAuthenticator(
        (jwks or Jwks([jwk("k1")])).fetch, ISSUER, f"{AUDIENCE},{SECOND}", clock or Clock()
    )


def packed(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def forged_hs256(secret: bytes) -> str:
    """The classic: the public key used as a shared secret."""
    signed = f"{packed({'alg': 'HS256', 'kid': 'k1', 'typ': 'JWT'})}.{packed(claims())}"
    signature = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def test_a_valid_token_gives_its_subject_and_scopes_with_the_prefix_taken_off() -> None:
    principal = authenticator().verify(token(scope="qis/read:data write:data openid"))
    assert principal.subject == "alice"
    assert principal.scopes == {"read:data", "write:data", "openid"}


REFUSED = {
    "algorithm-none": (f"{packed({'alg': 'none', 'kid': 'k1'})}.{packed(claims())}.", "algorithm"),
    "algorithm-none-cased": (f"{packed({'alg': 'nOnE', 'kid': 'k1'})}.{packed(claims())}.", "algorithm"),
    "hs256-with-the-public-key": (forged_hs256(public_pem()), "algorithm"),
    "hs256-with-nothing": (forged_hs256(b""), "algorithm"),
    "rs512": (token(algorithm="RS512"), "algorithm"),
    "ps256": (token(algorithm="PS256"), "algorithm"),
    "unknown-kid": (token(kid="k2"), "unknown-key"),
    "no-kid": (token(kid=None), "unknown-key"),
    "other-key": (token(private_key("two")), "signature"),
    "no-signature": (token().rpartition(".")[0] + ".", "signature"),
    "changed-payload": (
        ".".join((token().split(".")[0], packed(claims(sub="root")), token().split(".")[2])),
        "signature",
    ),
    "expired": (token(iat=SECONDS - 7200, exp=SECONDS - 31), "expired"),
    "not-yet": (token(nbf=SECONDS + 31), "not-yet-valid"),
    "issued-later": (token(iat=SECONDS + 31), "issued-in-future"),
    "no-exp": (token(exp=None), "claim-exp"),
    "no-iat": (token(iat=None), "claim-iat"),
    "exp-huge": (token(exp=10**30), "claim-exp"),
    "exp-true": (token(exp=True), "claim-exp"),
    "other-issuer": (token(iss="https://evil.test"), "issuer"),
    "issuer-with-a-slash": (token(iss=ISSUER + "/"), "issuer"),
    "no-issuer": (token(iss=None), "issuer"),
    "other-audience": (token(aud="other"), "audience"),
    "other-audiences": (token(aud=["other", "another"]), "audience"),
    "no-audience": (token(aud=None), "audience"),
    "id-token-of-our-client": (token(aud=None, token_use="id", client_id=AUDIENCE), "audience"),
    "access-token-of-two-clients": (
        token(aud=None, token_use="access", client_id=f"{AUDIENCE},{SECOND}"),
        "audience",
    ),
    "access-token-of-a-list": (token(aud=None, token_use="access", client_id=[AUDIENCE]), "audience"),
    "access-token-of-another-client": (token(aud=None, token_use="access", client_id="x"), "audience"),
    "no-subject": (token(sub=None), "subject"),
    "empty-subject": (token(sub=""), "subject"),
    "garbage": ("garbage", "malformed"),
    "three-dots": ("a.b.c", "malformed"),
    "too-long": ("a" * 9000, "malformed"),
    "not-ascii": ("\u00e9.\u00e9.\u00e9", "malformed"),
}


@pytest.mark.parametrize(("given", "rule"), REFUSED.values(), ids=REFUSED.keys())
def test_a_wrong_token_is_refused(given: str, rule: str) -> None:
    with pytest.raises(Unauthenticated) as refusal:
        authenticator().verify(given)
    assert refusal.value.rule == rule


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": ["other", AUDIENCE]},
        {"aud": None, "token_use": "access", "client_id": AUDIENCE},
        {"aud": None, "token_use": "access", "client_id": SECOND},
        {"exp": SECONDS - 29, "iat": SECONDS - 3600},
        {"nbf": SECONDS + 29},
        {"iat": SECONDS + 29},
        {"scope": None},
    ],
)
def test_within_the_rules_a_token_is_taken(changes: dict[str, Any]) -> None:
    assert authenticator().verify(token(**changes)).subject == "alice"


def test_a_scope_that_is_no_text_is_refused() -> None:
    with pytest.raises(Unauthenticated):
        authenticator().verify(token(scope=["read:data"]))


def test_keys_not_meant_for_this_are_not_used() -> None:
    for keys in (
        [jwk("k1", use="enc")],
        [jwk("k1", alg="RS512")],
        [{"kty": "oct", "kid": "k1", "k": "c2VjcmV0"}],
    ):
        with pytest.raises(Unavailable):
            authenticator(Jwks(keys)).verify(token())


def test_a_short_key_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MIN_KEY_BITS", 4096)
    with pytest.raises(Unavailable):
        authenticator().verify(token())


def test_a_remembered_token_ends_with_its_time() -> None:
    clock, jwks = Clock(), Jwks([jwk("k1")])
    checked = authenticator(jwks, clock)
    given = token(exp=SECONDS + 60)
    checked.verify(given)
    checked.verify(given)
    assert jwks.asked == 1
    clock.now = NOW + timedelta(seconds=60 + tokens.LEEWAY)
    with pytest.raises(Unauthenticated):
        checked.verify(given)


def test_remembered_tokens_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "KEPT", 3)
    checked = authenticator()
    for n in range(5):
        checked.verify(token(jti=str(n)))
    assert len(checked._verified) == 3


def test_a_rotated_key_is_found_and_forged_ids_do_not_flood_the_issuer() -> None:
    clock, jwks = Clock(), Jwks([jwk("k1")])
    checked = authenticator(jwks, clock)
    checked.verify(token())
    for n in range(10):
        with pytest.raises(Unauthenticated):
            checked.verify(token(kid=f"forged-{n}"))
    assert jwks.asked == 1
    jwks.keys = [jwk("k2", "two")]
    clock.now += timedelta(seconds=tokens.REFETCH_AFTER)
    assert checked.verify(token(private_key("two"), kid="k2")).subject == "alice"
    assert jwks.asked == 2


def test_a_withdrawn_key_is_dropped_within_the_hour() -> None:
    clock, jwks = Clock(), Jwks([jwk("k1")])
    checked = authenticator(jwks, clock)
    checked.verify(token())
    jwks.keys = [jwk("k2", "two")]
    clock.now += timedelta(seconds=tokens.KEYS_FOR)
    with pytest.raises(Unauthenticated):
        checked.verify(token(jti="2", exp=SECONDS + 9000))


def test_while_the_issuer_is_silent_known_keys_are_used() -> None:
    clock, jwks = Clock(), Jwks([jwk("k1")])
    checked = authenticator(jwks, clock)
    checked.verify(token())
    jwks.error = Unavailable("silent")
    clock.now += timedelta(seconds=tokens.KEYS_FOR)
    assert checked.verify(token(jti="2", exp=SECONDS + 9000)).subject == "alice"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"keys": [1]}', b'{"keys": [{"kty": "RSA"}]}'])
def test_malformed_keys_are_no_keys(body: bytes) -> None:
    with pytest.raises(Unavailable):
        JwtAuthenticator(lambda: body, ISSUER, AUDIENCE, Clock()).verify(token())


@pytest.mark.parametrize("url", ["http://issuer.test/jwks", "file:///etc/passwd", "ftp://127.0.0.1/jwks", ""])
def test_keys_are_not_read_over_anything_but_https(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        fetch_jwks(url)
