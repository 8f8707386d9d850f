"""The way to open WebSocket connections: the management API of API Gateway."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qis.adapters.aws.clients import client
from qis.application.ports import Unavailable
from qis.application.push import Gone


def management_client(endpoint: str) -> Any:
    """A client of the connections behind ``endpoint``."""
    return client("apigatewaymanagementapi", endpoint_url=endpoint)


class ApiGatewaySockets:
    """``Sockets`` by ``@connections``. The client is made when it is first used."""

    def __init__(self, client: Callable[[], Any]) -> None:
        self._client = client

    def post(self, connection_id: str, message: bytes) -> None:
        """See ``Sockets.post``. One that does not keep up is gone too: its buffer is full."""
        self._call("post_to_connection", connection_id, Data=message)

    def close(self, connection_id: str) -> None:
        """See ``Sockets.close``."""
        try:
            self._call("delete_connection", connection_id)
        except Gone:
            return

    def _call(self, action: str, connection_id: str, **given: Any) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            getattr(self._client(), action)(ConnectionId=connection_id, **given)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code")
            if code in ("GoneException", "LimitExceededException", "410", "429"):
                raise Gone(f"{action}: {code}") from error
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
            if status >= 500:
                raise Unavailable(f"{action}: {code}") from error
            raise  # refused for a reason that repeating does not change
        except BotoCoreError as error:
            raise Unavailable(f"{action}: {error}") from error
