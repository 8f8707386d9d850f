"""The running local twin, as the commands see it: its description, a token for it, its AWS APIs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def token(data_dir: Path, role: str, subject: str, seconds: int = 3600) -> str:
    """A bearer token of the running twin."""
    from local.identity import mint_token
    from local.state import twin_running

    state = twin_running(data_dir)
    assert state is not None
    return mint_token(
        data_dir,
        role=role,
        subject=subject,
        issuer=state["issuer"],
        audience=state["audience"],
        now=int(time.time()),
        seconds=seconds,
    )


def aws_client(state: Mapping[str, Any], service: str) -> Any:
    """A boto3 client of the twin's AWS APIs."""
    import boto3

    from local.aws import CREDENTIALS, REGION

    connect: Any = boto3.client  # its overloads are by literal names
    return connect(
        service,
        endpoint_url=state["aws"],
        region_name=REGION,
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    )
