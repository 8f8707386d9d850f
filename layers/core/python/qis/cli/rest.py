"""The REST API from here: JSON in and out, problem documents raised, pages followed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit

from qis.cli.failures import Failure, failure

TIMEOUT = 30.0
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class Request:
    """One request, ready to be sent."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    status: int
    body: bytes


def send(request: Request) -> Reply:
    """Send over HTTP. Redirects are not followed: a token goes where it was meant to go and nowhere else.

    Raises:
        OSError, HTTPException: no answer.
    """
    from urllib.request import HTTPRedirectHandler, ProxyHandler, build_opener
    from urllib.request import Request as Outgoing

    class Stay(HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    local = urlsplit(request.url).hostname in LOOPBACK
    opener = build_opener(Stay, *([ProxyHandler({})] if local else []))
    outgoing = Outgoing(  # noqa: S310 - the scheme was checked by Api
        request.url, data=request.body, headers=dict(request.headers), method=request.method
    )
    try:
        with opener.open(outgoing, timeout=TIMEOUT) as answer:
            return Reply(answer.status, answer.read())
    except HTTPError as error:
        with error:
            return Reply(error.code, error.read())


def path(template: str, *names: str) -> str:
    """``template`` with each ``{}`` replaced by a name, quoted."""
    return template.format(*(quote(n, safe="") for n in names))


class Api:
    """One system, as one caller, who has a key where the system has usage plans."""

    def __init__(self, url: str, token: str | None, key: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise failure("bad-address", "The address is not usable", f"{url!r} is not an http(s) address")
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise failure(
                "bad-address",
                "The address is not safe",
                f"{url} would send the token in the clear",
                "use https for any host but this one",
            )
        self.url = url.rstrip("/")
        self._token = token
        self._key = key

    def get(self, where: str, **query: object) -> Any:
        """The document at ``where``; parameters that are ``None`` are left out.

        Raises:
            Failure: the API refused, with its problem document, or did not answer.
        """
        given = {k: str(v) for k, v in query.items() if v is not None}
        return self.call("GET", where + (f"?{urlencode(given)}" if given else ""))

    def call(
        self, method: str, where: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """Any request. Raises as ``get`` does."""
        sent = {"Accept": "application/json", **(headers or {})}
        if self._token is not None:
            sent["Authorization"] = f"Bearer {self._token}"
        if self._key is not None:
            sent["x-api-key"] = self._key
        payload = None
        if body is not None:
            payload = json.dumps(body, separators=(",", ":"), default=str).encode()  # decimals as text
            sent["Content-Type"] = "application/json"
        try:
            reply = send(Request(method, self.url + where, sent, payload))
        except (URLError, OSError, HTTPException) as error:
            raise failure(
                "no-answer",
                "The system does not answer",
                f"{self.url}: {getattr(error, 'reason', None) or error}",
                "is it running? `qis status` shows the local one, `qis up` starts it",
            ) from error
        document = _decoded(reply)
        if reply.status >= 300:
            raise Failure(document)
        return document

    def pages(self, where: str, **query: object) -> Iterator[Any]:
        """Every page of a listing, from the first to the one without ``next``."""
        page = self.get(where, **query)
        yield page
        # The link is as the caller of the gateway sees it: below the same host and stage.
        while page.get("next"):
            page = self.call("GET", _below(self.url, page["next"]))
            yield page

    def items(self, where: str, **query: object) -> list[Any]:
        """All items of a listing."""
        return [item for page in self.pages(where, **query) for item in page["items"]]


def _below(url: str, link: str) -> str:
    """``link`` relative to ``url``, whose path (a stage) the link repeats where it has one."""
    stage = urlsplit(url).path
    return link.removeprefix(stage) if stage else link


def _decoded(reply: Reply) -> Any:
    try:
        document = json.loads(reply.body) if reply.body else {}
    except ValueError as error:
        raise failure(
            "bad-answer",
            "The answer is not JSON",
            f"status {reply.status}, {len(reply.body)} bytes: is this the address of the API?",
        ) from error
    if reply.status >= 300 and not (
        isinstance(document, dict) and ("title" in document or "detail" in document)
    ):
        detail = document.get("message") if isinstance(document, dict) else None
        return {
            "type": "urn:qis:problem:refused",
            "title": "The request was refused",
            "status": reply.status,
            "detail": str(detail or f"status {reply.status}"),
        }
    return document
