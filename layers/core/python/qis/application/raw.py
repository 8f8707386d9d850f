"""Raw payloads: stored with what they become, in one transaction, and moved to the raw store after it.

So taking claims waits for one part outside, not for two, and no claim is without its raw payload. The
database is their outbox; the raw store is where they stay, under the address that the claims' events name.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from qis.application.ports import RawOutbox, RawStore

BATCHES, BATCHES_BYTES = 20, 16 * 1024 * 1024
"""Most batches that are moved together, and most bytes of them, for they are held in memory."""


class RawBatch(NamedTuple):
    """The payloads of a batch, as the raw store has them."""

    address: str
    """Where they are once they are there. It follows from the payloads, so the same batch is kept once."""
    body: bytes
    """Gzip of a line with the payloads' lengths in bytes, a JSON array, and the payloads, a newline after
    each: `zcat` shows what came."""


def pack(payloads: Sequence[bytes], place: str) -> RawBatch:
    """``payloads`` as a batch whose address is in ``place``, such as ``s3://bucket/raw``."""
    lengths = json.dumps([len(p) for p in payloads], separators=(",", ":")).encode()
    content = b"\n".join([lengths, *payloads, b""])
    digest = sha256(content).hexdigest()
    return RawBatch(f"{place}/{digest[:2]}/{digest}.gz", gzip.compress(content, compresslevel=1, mtime=0))


def move(outbox: RawOutbox, store: RawStore) -> int:
    """Move the oldest batches to the raw store. A crash in between moves them again, to where they are.

    Returns:
        How many were moved.

    Raises:
        Unavailable: the store does not answer; those that it did not take stay.
    """
    batches = outbox.oldest(BATCHES, BATCHES_BYTES)
    if batches:
        store.put(batches)
        outbox.drop([b.address for b in batches])
    return len(batches)
