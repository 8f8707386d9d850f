"""Functions of the small twin that the tests of the supervisor run."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path
from typing import Any

DEADLINE = 30.0


def collect(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Write each record to a file, one write a record; told so by its data, fail, or wait for a file."""
    folder = Path(os.environ["FOLDER"])
    for record in event["Records"]:
        said = json.loads(base64.b64decode(record["kinesis"]["data"]))
        if said.get("poison"):
            raise ValueError("poison")
        if "wait" in said and not (folder / said["wait"]).exists():
            (folder / f"{said['wait']}.{os.getpid()}").touch()
            until = time.monotonic() + DEADLINE
            while not (folder / said["wait"]).exists() and time.monotonic() < until:
                time.sleep(0.01)
        line = json.dumps([said["number"], record["kinesis"]["sequenceNumber"]])
        with (folder / "collected").open("a") as out:
            out.write(line + "\n")
    return {"batchItemFailures": []}


def echo(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answers a request with what it was given."""
    return {"statusCode": 200, "body": json.dumps({"id": event["pathParameters"]["id"], "pid": os.getpid()})}


def tick(event: dict[str, Any], context: Any) -> None:
    """Notes that the schedule came."""
    (Path(os.environ["FOLDER"]) / "ticked").write_text(json.dumps(event))


def follow(event: dict[str, Any], context: Any) -> None:
    """Works until the twin ends, as the relay does; notes who works."""
    (Path(os.environ["FOLDER"]) / f"follows.{os.getpid()}").touch()
    time.sleep(DEADLINE * 10)
