"""A lean Kinesis and SQS client for the pollers: kept connections, no signing, about 1 ms a call."""

from __future__ import annotations

import json
import urllib.parse
from typing import Any

import httpx

from local.aws import REGION
from local.poller import Record

_AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=local/20260101/{region}/{service}/aws4_request, "
    "SignedHeaders=host, Signature=0000000000000000000000000000000000000000000000000000000000000000"
)


class AwsCalls:
    """``Shards`` of the pollers, and their on-failure destination, on the twin's AWS APIs."""

    def __init__(self, url: str) -> None:
        self._client = httpx.AsyncClient(base_url=url, timeout=10.0, limits=httpx.Limits(max_connections=32))

    async def shards(self, stream: str) -> list[str]:
        """Shard ids of a stream."""
        answer = await self._kinesis("ListShards", {"StreamName": stream})
        return [s["ShardId"] for s in answer["Shards"]]

    async def iterator(self, stream: str, shard: str, after: str | None, from_start: bool) -> str:
        """A place in a shard: after a sequence number, at its start, or at its end."""
        place: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON" if from_start else "LATEST"}
        if after is not None:
            place = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": after}
        answer = await self._kinesis("GetShardIterator", {"StreamName": stream, "ShardId": shard, **place})
        return str(answer["ShardIterator"])

    async def records(self, iterator: str, limit: int) -> tuple[list[Record], str]:
        """Records from a place on, and the place after them."""
        answer = await self._kinesis("GetRecords", {"ShardIterator": iterator, "Limit": limit})
        return answer["Records"], answer["NextShardIterator"]

    async def send(self, queue_url: str, message: dict[str, Any]) -> None:
        """Send a message to a queue."""
        body = {"QueueUrl": queue_url, "MessageBody": json.dumps(message)}
        await self._call("sqs", "AmazonSQS.SendMessage", "application/x-amz-json-1.0", body)

    async def close(self) -> None:
        """Close the kept connections."""
        await self._client.aclose()

    async def _kinesis(self, action: str, body: dict[str, Any]) -> Any:
        return await self._call("kinesis", f"Kinesis_20131202.{action}", "application/x-amz-json-1.1", body)

    async def _call(self, service: str, target: str, media: str, body: dict[str, Any]) -> Any:
        path = urllib.parse.urlsplit(str(body.get("QueueUrl", ""))).path or "/"
        try:
            answer = await self._client.post(
                path,
                content=json.dumps(body),
                headers={
                    "Content-Type": media,
                    "X-Amz-Target": target,
                    "Authorization": _AUTHORIZATION.format(region=REGION, service=service),
                },
            )
        except httpx.TransportError as error:
            raise ConnectionError(f"{target}: {error}") from error
        if answer.status_code != 200:
            raise ValueError(f"{target} answered {answer.status_code}: {answer.text[:200]}")
        return answer.json()
