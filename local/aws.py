"""AWS APIs on one loopback port: the package `ministack`, its state kept over restarts."""

from __future__ import annotations

import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local.processes import Server, spawn, wait_until
from qis.adapters.self_signed import self_signed

REGION = "us-east-1"
ACCOUNT = "000000000000"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
SERVICES = "kinesis,s3,sqs,events,sts,monitoring"


def client(
    url: str, service: str, credentials: Mapping[str, str] | None = None, trusted: Path | None = None
) -> Any:
    """A boto3 client of the AWS APIs at ``url``.

    Args:
        credentials: what STS gave for a role; ``None``: the account's own.
        trusted: the certificate of a guarded server.
    """
    import boto3

    make: Any = boto3.client  # its overloads want a literal service name
    given = credentials or {
        "AccessKeyId": CREDENTIALS["AWS_ACCESS_KEY_ID"],
        "SecretAccessKey": CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    }
    return make(
        service,
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given.get("SessionToken"),
        verify=None if trusted is None else str(trusted),
    )


class AwsServer(Server):
    """One server; ``start`` continues with the streams, queues and objects that are there."""

    patience = 60.0  # the state is written first, which takes as long as there is state

    def __init__(self, data_dir: Path, services: str = SERVICES, *, guarded: bool = False) -> None:
        """Args:
        services: names of those to start, separated by commas; all of them when empty.
        guarded: signatures are checked and policies decide, of whoever is not the account's own
            ``CREDENTIALS``, and functions run as their roles. It speaks TLS then, since policies refuse
            plain connections, and records what was called for CloudTrail.
        """
        super().__init__()
        self._data_dir = data_dir
        self._services = services
        self._guarded = guarded

    @property
    def url(self) -> str:
        return f"{'https' if self._guarded else 'http'}://127.0.0.1:{self.port}"

    @property
    def certificate(self) -> Path:
        """What a client of a guarded server has to trust."""
        return self._data_dir / "certificate.pem"

    def environment(self) -> dict[str, str]:
        """Variables by which an AWS SDK talks to this server."""
        trust = {name: str(self.certificate) for name in ("AWS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")}
        return {
            **CREDENTIALS,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.url,
            **(trust if self._guarded else {}),
        }

    def client(self, service: str, credentials: Mapping[str, str] | None = None) -> Any:
        """A boto3 client of this server: the account's own, or one with what STS gave for a role."""
        return client(self.url, service, credentials, self.certificate if self._guarded else None)

    def start(self) -> None:
        """Start on the port used before if it is free (queue addresses hold it), and wait until healthy."""
        self._data_dir.mkdir(parents=True, exist_ok=True)
        self._choose_port(self._data_dir / "port.json")
        env = {
            **os.environ,
            "BIND_HOST": "127.0.0.1",
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "MINISTACK_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self.port),
            "MINISTACK_REGION": REGION,
            "MINISTACK_ACCOUNT_ID": ACCOUNT,
            "SERVICES": self._services,
            "PERSIST_STATE": "1",
            "STATE_DIR": str(self._data_dir / "state"),
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(self._data_dir / "s3"),
            "TMPDIR": str(self._data_dir),
            "LOG_LEVEL": "WARNING",
            **(self._guard() if self._guarded else {}),
        }
        self._child = spawn([sys.executable, "-m", "local.aws_server"], self._data_dir / "aws.log", env=env)
        wait_until(self._healthy, "the AWS APIs do not answer", 60.0)

    def _guard(self) -> dict[str, str]:
        """Variables of a server that checks its callers; its certificate is made at the first start."""
        key = self._data_dir / "certificate-key.pem"
        if not self.certificate.exists():
            private, public = self_signed("qis-local", days=1, address="127.0.0.1")
            key.touch(mode=0o600)
            key.write_bytes(private)
            self.certificate.write_bytes(public)
        return {
            **self.environment(),  # whose key is the account's own; functions inherit the rest
            "AUTH": "true",
            "CLOUDTRAIL_RECORDING": "1",
            "USE_SSL": "1",
            "MINISTACK_SSL_CERT": str(self.certificate),
            "MINISTACK_SSL_KEY": str(key),
        }

    def _healthy(self) -> bool:
        if not self.alive():
            raise RuntimeError(f"the AWS APIs ended at start; see {self._data_dir / 'aws.log'}")
        try:
            trusted = ssl.create_default_context(cafile=str(self.certificate)) if self._guarded else None
            health = f"{self.url}/_ministack/health"
            with urllib.request.urlopen(health, timeout=2, context=trusted) as answer:  # noqa: S310 - the address is ours
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
