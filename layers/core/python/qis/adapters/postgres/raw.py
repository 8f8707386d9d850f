"""Raw payloads on their way to the raw store, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from qis.adapters.postgres.connection import Database
from qis.application.raw import RawBatch

_OLDEST = """
SELECT address, body FROM (
    SELECT address, body, kept_at, row_number() OVER waiting AS number,
        sum(octet_length(body)) OVER waiting AS bytes
    FROM (SELECT address, body, kept_at FROM raw_batches ORDER BY kept_at, address LIMIT %s) oldest
    WINDOW waiting AS (ORDER BY kept_at, address)
) counted
WHERE number = 1 OR bytes <= %s ORDER BY kept_at, address
"""


class PostgresRawOutbox:
    """``RawOutbox`` on PostgreSQL. Whoever reads locks nothing: a batch moved twice is where it was."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def oldest(self, limit: int, most_bytes: int) -> Sequence[RawBatch]:
        """See ``RawOutbox.oldest``."""
        rows = self._database.connect().execute(_OLDEST, (limit, most_bytes))
        return [RawBatch(address, body) for address, body in rows]

    def drop(self, addresses: Sequence[str]) -> None:
        """See ``RawOutbox.drop``."""
        self._database.connect().execute(
            "DELETE FROM raw_batches WHERE address = ANY(%s)", (list(addresses),)
        )

    def waiting(self, limit: int) -> int:
        """See ``RawOutbox.waiting``."""
        row = (
            self._database.connect()
            .execute("SELECT count(*) FROM (SELECT FROM raw_batches LIMIT %s) b", (limit,))
            .fetchone()
        )
        return row[0] if row else 0
