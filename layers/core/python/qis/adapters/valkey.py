"""Answers that can never change, in Valkey. Every failure only slows: the answer is made anew."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from valkey import Valkey

log = logging.getLogger(__name__)

TTL = 1800
TIMEOUT = 0.05
CONNECT_TIMEOUT = 0.25
REST = 5.0
"""Seconds for which it is left alone after a failure: a dead cache costs one timeout, not one a request."""
MAX_BYTES = 1 << 20
"""Larger answers are pages of bulk pulls, which are not asked twice."""


class ValkeyAnswers:
    """``AnswerCache`` on Valkey.

    Args:
        url: ``valkeys://host:port`` or, on loopback, ``valkey://host:port``.
        monotonic: gives seconds.
        count: is told of each ``CacheHit``, ``CacheMiss`` and ``CacheFailure``.
    """

    def __init__(self, url: str, monotonic: Callable[[], float], count: Callable[[str], None]) -> None:
        self._url = url
        self._monotonic = monotonic
        self._count = count
        self._client: Valkey | None = None
        self._resting_until = float("-inf")

    def get(self, key: str) -> bytes | None:
        """See ``AnswerCache.get``."""
        found = self._try(lambda client: client.get(key))
        if isinstance(found, bytes):
            self._count("CacheHit")
            return found
        self._count("CacheMiss")
        return None

    def put(self, key: str, answer: bytes) -> None:
        """See ``AnswerCache.put``."""
        if len(answer) <= MAX_BYTES:
            self._try(lambda client: client.set(key, answer, ex=TTL))

    def _try(self, call: Callable[[Valkey], object]) -> object:
        if self._monotonic() < self._resting_until:
            return None
        from valkey.exceptions import ValkeyError

        try:
            return call(self._connected())
        except (ValkeyError, OSError) as error:
            self._resting_until = self._monotonic() + REST
            self._count("CacheFailure")
            log.warning("the answer cache is left alone for %s s: %s", REST, error)
            return None

    def _connected(self) -> Valkey:
        if self._client is None:
            from valkey import Valkey
            from valkey.backoff import NoBackoff
            from valkey.retry import Retry

            self._client = Valkey.from_url(
                self._url,
                socket_timeout=TIMEOUT,
                socket_connect_timeout=CONNECT_TIMEOUT,
                socket_keepalive=True,
                retry=Retry(NoBackoff(), 0),
            )
        return self._client
