"""What the management API of connections answers, as the push channel understands it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from botocore.stub import Stubber

from qis.adapters.aws.sockets import ApiGatewaySockets, management_client
from qis.application.ports import Unavailable
from qis.application.push import Gone

ID = "L0SM9cOFvHcCIhw="


@pytest.fixture
def api() -> Iterator[tuple[ApiGatewaySockets, Stubber]]:
    client = boto3.client(
        "apigatewaymanagementapi",
        endpoint_url="http://127.0.0.1:1/live",
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )
    with Stubber(client) as stub:
        yield ApiGatewaySockets(lambda: client), stub
        stub.assert_no_pending_responses()


def test_a_message_is_posted_to_its_connection(api: tuple[ApiGatewaySockets, Stubber]) -> None:
    sockets, stub = api
    stub.add_response("post_to_connection", {}, {"ConnectionId": ID, "Data": b"{}"})
    sockets.post(ID, b"{}")


@pytest.mark.parametrize(
    ("code", "status", "understood"),
    [
        ("GoneException", 410, Gone),
        ("LimitExceededException", 429, Gone),
        ("InternalServerError", 500, Unavailable),
        ("ServiceUnavailable", 503, Unavailable),
        ("ForbiddenException", 403, ClientError),
        ("PayloadTooLargeException", 413, ClientError),
    ],
)
def test_an_error_is_understood(
    api: tuple[ApiGatewaySockets, Stubber], code: str, status: int, understood: type[Exception]
) -> None:
    sockets, stub = api
    stub.add_client_error("post_to_connection", code, http_status_code=status)
    with pytest.raises(understood):
        sockets.post(ID, b"{}")


def test_ending_what_is_ended_changes_nothing(api: tuple[ApiGatewaySockets, Stubber]) -> None:
    sockets, stub = api
    stub.add_client_error("delete_connection", "GoneException", http_status_code=410)
    sockets.close(ID)


def test_no_answer_is_no_refusal() -> None:
    class Silent:
        def post_to_connection(self, **_: Any) -> None:
            raise ReadTimeoutError(endpoint_url="x")

    with pytest.raises(Unavailable):
        ApiGatewaySockets(Silent).post(ID, b"{}")


def test_the_client_gives_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hanging call would hold the connection, and the batch behind it."""
    for name in ("AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "us-east-1")
    client = management_client("https://a.execute-api.us-east-1.amazonaws.com/live")
    config = client.meta.config
    assert (config.connect_timeout, config.read_timeout, config.retries["total_max_attempts"]) == (5, 5, 2)
    assert client.meta.endpoint_url == "https://a.execute-api.us-east-1.amazonaws.com/live"
