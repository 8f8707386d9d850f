"""The answer cache only ever speeds up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import parse_qsl, urlsplit

import pytest
from valkey import Valkey

from local.processes import free_port
from local.valkey import ValkeyServer
from qis.adapters import valkey as cache_module
from qis.adapters.valkey import ValkeyAnswers


@dataclass
class Seconds:
    """A monotonic clock that a test moves."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Counts:
    """What was counted."""

    seen: Counter[str] = field(default_factory=Counter)

    def __call__(self, name: str) -> None:
        self.seen[name] += 1


def test_what_was_put_comes_back_as_it_was_and_goes_in_time(valkey: ValkeyServer) -> None:
    counts = Counts()
    cache = ValkeyAnswers(valkey.url, Seconds(), counts)
    assert cache.get("qis:answer:a") is None
    cache.put("qis:answer:a", b'{"ETag":"x"}\n\x00body\n')
    assert cache.get("qis:answer:a") == b'{"ETag":"x"}\n\x00body\n'
    assert counts.seen == {"CacheMiss": 1, "CacheHit": 1}
    with Valkey.from_url(valkey.url) as client:
        assert 0 < cast("int", client.ttl("qis:answer:a")) <= cache_module.TTL


def test_an_answer_too_large_to_be_asked_twice_is_not_kept(valkey: ValkeyServer) -> None:
    cache = ValkeyAnswers(valkey.url, Seconds(), Counts())
    cache.put("qis:answer:b", b"x" * (cache_module.MAX_BYTES + 1))
    assert cache.get("qis:answer:b") is None


def test_a_cache_that_asks_who_it_is_gets_a_new_answer_for_each_connection(valkey: ValkeyServer) -> None:
    asked = iter(["first", "wrong"])
    with Valkey.from_url(valkey.url) as administrator:
        administrator.execute_command("ACL", "SETUSER", "reader", "on", ">first", "~*", "+@all")
        counts = Counts()
        cache = ValkeyAnswers(valkey.url, Seconds(), counts, lambda: ("reader", next(asked)))
        cache.put("qis:answer:c", b"x")
        assert cache.get("qis:answer:c") == b"x"
        users = {client["user"] for client in administrator.client_list()}
        assert "reader" in users
        administrator.execute_command("ACL", "DELUSER", "reader")  # which ends its connections
    assert cache.get("qis:answer:c") is None
    assert counts.seen == {"CacheHit": 1, "CacheFailure": 1, "CacheMiss": 1}


def test_a_role_signs_a_short_connect_request_for_one_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session")
    user, token = cache_module.role_sign_in("qis-prod-hot", "qis-prod-functions", "us-east-1")
    assert user == "qis-prod-functions"
    parts = urlsplit(f"//{token}")
    asked = dict(parse_qsl(parts.query))
    assert (parts.netloc, parts.path) == ("qis-prod-hot", "/")
    assert asked["Action"] == "connect"
    assert asked["User"] == "qis-prod-functions"
    assert asked["X-Amz-Expires"] == "900"
    assert "/us-east-1/elasticache/aws4_request" in asked["X-Amz-Credential"]
    assert asked["X-Amz-Security-Token"] == "session"
    assert len(asked["X-Amz-Signature"]) == 64


@pytest.mark.integration
def test_a_dead_cache_is_left_alone_for_a_while() -> None:
    seconds, counts = Seconds(), Counts()
    cache = ValkeyAnswers(f"valkey://127.0.0.1:{free_port()}", seconds, counts)
    for _ in range(3):
        assert cache.get("qis:answer:a") is None
        cache.put("qis:answer:a", b"x")
    assert counts.seen == {"CacheFailure": 1, "CacheMiss": 3}
    seconds.now = cache_module.REST
    assert cache.get("qis:answer:a") is None
    assert counts.seen["CacheFailure"] == 2
