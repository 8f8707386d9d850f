"""A lean client of the AWS APIs on loopback: kept connections, no signing, about 1 ms a call."""

from __future__ import annotations

import json
from typing import Any

import httpx

from local.poller import Record

_PROTOCOLS = {
    "kinesis": ("Kinesis_20131202", "application/x-amz-json-1.1"),
    "sqs": ("AmazonSQS", "application/x-amz-json-1.0"),
    "cloudwatch": ("GraniteServiceVersion20100801", "application/x-amz-json-1.0"),
    "events": ("AWSEvents", "application/x-amz-json-1.1"),
}


class AwsRefusal(ValueError):
    """The service refused. ``code`` is its name for why, such as ``ResourceInUseException``."""

    def __init__(self, action: str, code: str, message: str) -> None:
        super().__init__(f"{action}: {code}: {message}")
        self.code = code


class AwsCalls:
    """``Shards`` of the pollers, and their on-failure destination, on the twin's AWS APIs."""

    def __init__(self, url: str) -> None:
        self._client = httpx.AsyncClient(base_url=url, timeout=10.0, trust_env=False)

    async def shards(self, stream: str) -> list[str]:
        """Shard ids of a stream."""
        answer = await self.call("kinesis", "ListShards", StreamName=stream)
        return [s["ShardId"] for s in answer["Shards"]]

    async def iterator(self, stream: str, shard: str, after: str | None, from_start: bool) -> str:
        """A place in a shard: after a sequence number, at its start, or at its end."""
        place: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON" if from_start else "LATEST"}
        if after is not None:
            place = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": after}
        answer = await self.call("kinesis", "GetShardIterator", StreamName=stream, ShardId=shard, **place)
        return str(answer["ShardIterator"])

    async def records(self, iterator: str, limit: int) -> tuple[list[Record], str]:
        """Records from a place on, and the place after them."""
        answer = await self.call("kinesis", "GetRecords", ShardIterator=iterator, Limit=limit)
        return answer["Records"], answer["NextShardIterator"]

    async def send(self, queue_url: str, message: dict[str, Any]) -> None:
        """Send a message to a queue."""
        await self.call("sqs", "SendMessage", QueueUrl=queue_url, MessageBody=json.dumps(message))

    async def call(self, service: str, action: str, **request: Any) -> Any:
        """One call of Kinesis, SQS, EventBridge or CloudWatch.

        Raises:
            AwsRefusal: the service refused.
            ConnectionError: it does not answer.
        """
        target, media = _PROTOCOLS[service]
        headers = {"Content-Type": media, "X-Amz-Target": f"{target}.{action}"}
        answer = await self._send("POST", "/", json.dumps(request), headers)
        body = answer.json() if answer.content else {}
        if answer.is_error:
            code = str(body.get("__type", answer.status_code)).rpartition("#")[2]
            raise AwsRefusal(action, code, str(body.get("message", body.get("Message", ""))))
        return body

    async def put_bucket(self, name: str, setting: str = "", body: str = "") -> None:
        """Create a bucket, or write one of its settings, such as ``versioning``.

        Raises:
            AwsRefusal: the service refused.
            ConnectionError: it does not answer.
        """
        answer = await self._send("PUT", f"/{name}{setting and '?' + setting}", body, {})
        if answer.is_error:
            raise AwsRefusal("PutBucket", str(answer.status_code), answer.text[:200])

    async def close(self) -> None:
        """Close the kept connections."""
        await self._client.aclose()

    async def _send(self, method: str, path: str, body: str, headers: dict[str, str]) -> httpx.Response:
        try:
            return await self._client.request(method, path, content=body, headers=headers)
        except httpx.TransportError as error:
            raise ConnectionError(f"{method} {path}: {error!r}") from error
