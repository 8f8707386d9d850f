"""Receipts of REST submissions on PostgreSQL."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from qis.adapters.postgres.connection import Database

_ALONE = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 4712))"


class PostgresReceipts:
    """``Receipts`` on PostgreSQL: on the database of the admissions, whose transaction they take part in."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, actor: str, idempotency_key: str) -> tuple[bytes, dict[str, Any]] | None:
        """See ``Receipts.find``."""
        connection = self._database.connect()
        connection.execute(_ALONE, (json.dumps([actor, idempotency_key]),))
        row = connection.execute(
            "SELECT request_hash, answer FROM receipts WHERE actor = %s AND idempotency_key = %s",
            (actor, idempotency_key),
        ).fetchone()
        return None if row is None else (bytes(row[0]), row[1])

    def keep(
        self,
        receipt: UUID,
        actor: str,
        idempotency_key: str | None,
        request_hash: bytes,
        answer: dict[str, Any],
    ) -> None:
        """See ``Receipts.keep``."""
        self._database.connect().execute(
            "INSERT INTO receipts (receipt, actor, idempotency_key, request_hash, answer, created_at)"
            " VALUES (%s, %s, %s, %s, %s, clock_timestamp())",
            (receipt, actor, idempotency_key, request_hash, json.dumps(answer)),
        )
