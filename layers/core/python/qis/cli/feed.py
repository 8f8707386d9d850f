"""Sending records of a load, and following them until each is accounted for."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from qis.adapters.aws.services import KINESIS_BATCH, KINESIS_BYTES, RETRIES
from qis.cli.claims_file import Row
from qis.cli.failures import Failure, failure
from qis.cli.rest import Api, path

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

PATIENCE = 60.0
"""Seconds without any progress after which waiting for a load is given up."""
POLL = 0.2
FIRST_BACKOFF = 0.1


class Sender(Protocol):
    """Where records go."""

    def send(self, rows: Sequence[Row]) -> None:
        """Send, durably; sending the same again changes nothing.

        Raises:
            Failure: not all were taken.
        """
        ...


class StreamSender:
    """``Sender`` to the ingest stream, partitioned by series."""

    def __init__(
        self, client: KinesisClient, stream: str, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._client = client
        self._stream = stream
        self._sleep = sleep

    def send(self, rows: Sequence[Row]) -> None:
        """See ``Sender.send``. What the stream refuses for the moment is sent again, less and less often."""
        self.put([(_key(row), json.dumps(row.record, default=str).encode()) for row in rows])

    def put(self, records: Sequence[tuple[str, bytes]]) -> None:
        """Put ``(partition key, data)``; see ``send``. Order between records is not kept."""
        for batch in _calls(records):
            left = batch
            for attempt in range(RETRIES + 1):
                if attempt:
                    self._sleep(FIRST_BACKOFF * 2.0**attempt)
                entries: list[Any] = [{"PartitionKey": key, "Data": data} for key, data in left]
                answer = self._client.put_records(StreamName=self._stream, Records=entries)
                taken = [not r.get("ErrorCode") for r in answer["Records"]]
                left = [record for record, done in zip(left, taken, strict=True) if not done]
                if not left:
                    break
            else:
                raise failure(
                    "unavailable",
                    "The stream does not take records",
                    f"stream {self._stream} refused {len(left)} records {RETRIES + 1} times",
                )


class RestSender:
    """``Sender`` by REST, for a remote system: an address and a token are all that it needs."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def send(self, rows: Sequence[Row]) -> None:
        """See ``Sender.send``. The idempotency key makes a repetition get the first answer."""
        if rows:
            key = {"Idempotency-Key": str(rows[0].record["record_id"])}
            self._api.call("POST", "/api/v1/data/ingest", {"claims": [r.record for r in rows]}, key)


def _key(row: Row) -> str:
    """Partition key: the series; for a record without one, the load."""
    series = row.record.get("reference_data_id")
    return (
        series if isinstance(series, str) and 1 <= len(series) <= 128 else str(row.record["correlation_id"])
    )


def _calls(records: Sequence[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    """Records in runs that one ``PutRecords`` takes."""
    call: list[tuple[str, bytes]] = []
    size = 0
    for key, data in records:
        weight = len(key.encode()) + len(data)
        if call and (len(call) == KINESIS_BATCH or size + weight > KINESIS_BYTES):
            yield call
            call, size = [], 0
        call.append((key, data))
        size += weight
    if call:
        yield call


@dataclass(frozen=True, slots=True)
class Account:
    """What became of the records of a load so far."""

    accepted: int = 0
    rejected: int = 0
    duplicates: int = 0

    @property
    def total(self) -> int:
        return self.accepted + self.rejected + self.duplicates


def send_all(rows: Iterable[Row], sender: Sender, sent: Callable[[Sequence[Row]], None]) -> int:
    """Send rows in batches, calling ``sent`` after each.

    Returns:
        How many there were.

    Raises:
        Failure: as ``Sender.send``, or from reading the rows.
    """
    count = 0
    left = iter(rows)
    while batch := list(islice(left, KINESIS_BATCH)):
        sender.send(batch)
        count += len(batch)
        sent(batch)
    return count


def account(api: Api, load: str) -> Account:
    """The state of a load; nothing where none of its records has arrived yet."""
    try:
        state = api.get(path("/api/v1/loads/{}", load), limit=1)
    except Failure as error:
        if error.problem.get("status") == 404:
            return Account()
        raise
    return Account(state["accepted"], state["rejected"], state["duplicates"])


def follow(
    api: Api,
    load: str,
    expected: int,
    progress: Callable[[Account], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Account:
    """Wait until every record of a load is accounted for.

    Raises:
        Failure: nothing more was accounted for in ``PATIENCE`` seconds.
    """
    seen, since = -1, clock()
    while True:
        now = account(api, load)
        progress(now)
        if now.total >= expected:
            return now
        if now.total != seen:
            seen, since = now.total, clock()
        elif clock() - since > PATIENCE:
            raise failure(
                "incomplete",
                "The load is not accounted for",
                f"{now.total} of {expected} records of load {load} after {PATIENCE:.0f} s without progress",
                f"nothing is lost: `qis loads {load}` shows how it goes on",
            )
        sleep(POLL)


def rejections(api: Api, load: str) -> Iterator[Mapping[str, Any]]:
    """The rejected records of a load with their violations, in order of record id."""
    for page in api.pages(path("/api/v1/loads/{}", load), limit=10_000):
        yield from (item for item in page["items"] if item["outcome"] == "rejected")
