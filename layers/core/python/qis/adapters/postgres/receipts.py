"""Receipts of REST submissions on PostgreSQL, in the transaction that admits their claims."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from psycopg import Connection

_ALONE = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 4712))"


def find(connection: Connection, actor: str, idempotency_key: str) -> tuple[bytes, dict[str, Any]] | None:
    """See ``Admission.find_receipt``."""
    connection.execute(_ALONE, (json.dumps([actor, idempotency_key]),))
    row = connection.execute(
        "SELECT request_hash, answer FROM receipts WHERE actor = %s AND idempotency_key = %s",
        (actor, idempotency_key),
    ).fetchone()
    return None if row is None else (bytes(row[0]), row[1])


def keep(
    connection: Connection,
    receipt: UUID,
    actor: str,
    idempotency_key: str | None,
    request_hash: bytes,
    answer: dict[str, Any],
) -> None:
    """See ``Admission.keep_receipt``."""
    connection.execute(
        "INSERT INTO receipts (receipt, actor, idempotency_key, request_hash, answer, created_at)"
        " VALUES (%s, %s, %s, %s, %s, clock_timestamp())",
        (receipt, actor, idempotency_key, request_hash, json.dumps(answer)),
    )
