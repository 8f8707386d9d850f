"""AWS APIs on one loopback port: the package `ministack`, its state kept over restarts."""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from local.processes import Server, free_port, spawn, wait_until

REGION = "us-east-1"
ACCOUNT = "000000000000"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
SERVICES = "kinesis,s3,sqs,events,sts,monitoring"


class AwsServer(Server):
    """One server; ``start`` continues with the streams, queues and objects that are there."""

    patience = 60.0  # the state is written first, which takes as long as there is state

    def __init__(self, data_dir: Path, services: str = SERVICES) -> None:
        """``services`` are the names of those to start, separated by commas; all of them when empty."""
        super().__init__()
        self._data_dir = data_dir
        self._services = services

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """Variables by which an AWS SDK talks to this server."""
        return {
            **CREDENTIALS,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.url,
        }

    def client(self, service: str) -> Any:
        """A boto3 client of this server."""
        import boto3

        make: Any = boto3.client  # its overloads want a literal service name
        return make(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )

    def start(self) -> None:
        """Start on the port used before if it is free (queue addresses hold it), and wait until healthy."""
        self._data_dir.mkdir(parents=True, exist_ok=True)
        marker = self._data_dir / "port.json"
        before = json.loads(marker.read_text()) if marker.exists() else None
        self.port = self.port or free_port(before)
        marker.write_text(json.dumps(self.port))
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
        }
        self._child = spawn([sys.executable, "-m", "local.aws_server"], self._data_dir / "aws.log", env=env)
        wait_until(self._healthy, "the AWS APIs do not answer", 60.0)

    def _healthy(self) -> bool:
        if not self.alive():
            raise RuntimeError(f"the AWS APIs ended at start; see {self._data_dir / 'aws.log'}")
        try:
            with urllib.request.urlopen(f"{self.url}/_ministack/health", timeout=2) as answer:  # noqa: S310 - the address is ours
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
