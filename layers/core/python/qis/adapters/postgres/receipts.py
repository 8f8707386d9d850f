"""Receipts of REST submissions on PostgreSQL."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from qis.adapters.postgres.connection import Database


class PostgresReceipts:
    """``Receipts`` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, actor: str, idempotency_key: str) -> tuple[bytes, dict[str, Any]] | None:
        """See ``Receipts.find``."""
        row = (
            self._database.connect()
            .execute(
                "SELECT request_hash, answer FROM receipts WHERE actor = %s AND idempotency_key = %s",
                (actor, idempotency_key),
            )
            .fetchone()
        )
        return None if row is None else (bytes(row[0]), row[1])

    def keep(
        self,
        receipt: UUID,
        actor: str,
        idempotency_key: str | None,
        request_hash: bytes,
        answer: dict[str, Any],
    ) -> dict[str, Any]:
        """See ``Receipts.keep``."""
        row = (
            self._database.connect()
            .execute(
                "INSERT INTO receipts (receipt, actor, idempotency_key, request_hash, answer, created_at)"
                " VALUES (%s, %s, %s, %s, %s, clock_timestamp())"
                " ON CONFLICT (actor, idempotency_key) DO NOTHING RETURNING receipt",
                (receipt, actor, idempotency_key, request_hash, json.dumps(answer)),
            )
            .fetchone()
        )
        if row is None and idempotency_key is not None:
            first = self.find(actor, idempotency_key)
            assert first is not None
            return first[1]
        return answer
