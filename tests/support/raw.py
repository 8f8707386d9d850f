"""Reading raw payloads as anybody would who finds the object."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable

from qis.application.raw import RawBatch


def unpack(body: bytes) -> list[bytes]:
    """The payloads of a batch, in order."""
    lengths, _, rest = gzip.decompress(body).partition(b"\n")
    payloads: list[bytes] = []
    for length in json.loads(lengths):
        payload, end, rest = rest[:length], rest[length : length + 1], rest[length + 1 :]
        assert end == b"\n"
        payloads.append(payload)
    assert not rest
    return payloads


def payload_of(raw: dict[str, object], batches: Iterable[RawBatch]) -> bytes:
    """The payload that an event's ``raw`` leads to."""
    (body,) = (b.body for b in batches if b.address == raw["uri"])
    index = raw["index"]
    assert isinstance(index, int)
    return unpack(body)[index]
