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


SignIn = Callable[[], tuple[str, str]]


def role_sign_in(group: str, user: str, region: str) -> tuple[str, str]:
    """``user`` with a token signed by the process's role for one ElastiCache group, good for 15 minutes.

    The token is a presigned ``connect`` request without its scheme; see "Authenticating with IAM" in the
    ElastiCache guide.

    Raises:
        PermissionError: the process has no role; like every failure of the cache, it only slows.
    """
    import botocore.session
    from botocore.model import ServiceId
    from botocore.signers import RequestSigner

    session = botocore.session.get_session()
    credentials = session.get_credentials()
    if credentials is None:
        raise PermissionError("there is no role to sign in to the cache with")
    signer = RequestSigner(
        ServiceId("elasticache"),
        region,
        "elasticache",
        "v4",
        credentials,
        session.get_component("event_emitter"),
    )
    request = {
        "method": "GET",
        "url": f"https://{group}/?Action=connect&User={user}",
        "body": {},
        "headers": {},
        "context": {},
    }
    url: str = signer.generate_presigned_url(
        request, operation_name="connect", expires_in=900, region_name=region
    )
    return user, url.removeprefix("https://")


class ValkeyAnswers:
    """``AnswerCache`` on Valkey.

    Args:
        url: ``valkeys://host:port`` or, on loopback, ``valkey://host:port``.
        monotonic: gives seconds.
        count: is told of each ``CacheHit``, ``CacheMiss`` and ``CacheFailure``.
        sign_in: gives user and password of each new connection; none where no sign-in is asked for.
    """

    def __init__(
        self,
        url: str,
        monotonic: Callable[[], float],
        count: Callable[[str], None],
        sign_in: SignIn | None = None,
    ) -> None:
        self._url = url
        self._sign_in = sign_in
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
            from valkey.credentials import CredentialProvider
            from valkey.retry import Retry

            sign_in = self._sign_in

            class Credentials(CredentialProvider):
                def get_credentials(self) -> tuple[str, str]:
                    assert sign_in is not None
                    return sign_in()

            self._client = Valkey.from_url(
                self._url,
                credential_provider=Credentials() if sign_in else None,
                socket_timeout=TIMEOUT,
                socket_connect_timeout=CONNECT_TIMEOUT,
                socket_keepalive=True,
                retry=Retry(NoBackoff(), 0),
            )
        return self._client
