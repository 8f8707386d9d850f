"""The running local twin, as the commands see it: its description, a token for it, its AWS APIs."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast


def running(data_dir: Path) -> dict[str, Any] | None:
    """What the twin of a data directory wrote of itself; ``None`` where none runs.

    A look at the same file and lock as ``local.supervisor.twin_running``, without importing the supervisor,
    so that every command starts quickly.
    """
    try:
        state = cast(dict[str, Any], json.loads((data_dir / "twin.json").read_text()))
        with (data_dir / "lock").open("r") as held:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return state
    except FileNotFoundError:
        pass
    return None


def token(data_dir: Path, role: str, subject: str, seconds: int = 3600) -> str:
    """A bearer token of the running twin."""
    from local.identity import mint_token

    state = running(data_dir)
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
