"""Runs the AWS APIs, with reading from a stream made cheap and right, and without what only grows.

As shipped, each ``GetRecords`` copies the whole stream (5 ms at 50,000 records, many times a second), and
when records expire the iterators, which are plain indexes, skip as many unread ones. Both follow from one
function, replaced here; a test holds the replacement against the installed version. The bus keeps each event
that it was ever given in a list that nothing reads: not here. Where policies decide, a batch of messages is
asked for as an action of its own, which AWS does not have: here, too, it is the action on one message.
Records of streams are kept in files, see ``local.aws_records``.
"""

from __future__ import annotations

import os
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from local.aws_records import RecordFiles

ARRIVAL = "ApproximateArrivalTimestamp"
ALLOWED_AS = {
    f"sqs:{name}Batch": f"sqs:{name}" for name in ("SendMessage", "DeleteMessage", "ChangeMessageVisibility")
}
"""Source: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsqs.html"""


def install() -> RecordFiles:
    """Replace how the streams keep and forget records and forget iterators, how the bus remembers events, and
    what batches of messages are allowed as.

    Returns:
        The files of the records, to be closed at the end.
    """
    from ministack.core import iam_actions  # type: ignore[import-untyped]  # ships no types
    from ministack.services import eventbridge, kinesis  # type: ignore[import-untyped]  # ships no types

    files = RecordFiles(Path(os.environ["STATE_DIR"]) / "records")
    _install_streams(kinesis, files)
    named = iam_actions.extract_iam_action

    def action(*request: Any) -> str | None:
        found: str | None = named(*request)
        return found and ALLOWED_AS.get(found, found)

    iam_actions.extract_iam_action = action
    eventbridge._events_log_list = list
    return files


def _install_streams(kinesis: Any, files: RecordFiles) -> None:
    iterators: dict[Any, dict[str, Any]] = kinesis._shard_iterators._data
    delete = kinesis._delete_stream

    def expire_records(stream: dict[str, Any]) -> None:
        files.keep(stream)  # here, because this comes before every use of the records
        cutoff = time.time() - stream["RetentionPeriodHours"] * 3600
        for shard_id, shard in stream["shards"].items():
            records = shard["records"]
            gone = next((i for i, r in enumerate(records) if r[ARRIVAL] >= cutoff), len(records))
            if gone:
                del records[:gone]
                for at in iterators.values():
                    if at["stream"] == stream["StreamName"] and at["shard_id"] == shard_id:
                        at["position"] = max(0, at["position"] - gone)

    def expire_iterators() -> None:
        oldest_kept = time.time() - kinesis.ITERATOR_EXPIRY_SECONDS
        while iterators:
            token = next(iter(iterators))  # oldest first
            if iterators[token]["created_at"] >= oldest_kept:
                break
            del iterators[token]

    def delete_stream(request: dict[str, Any]) -> Any:
        files.forget(kinesis._resolve_stream(request)[1])
        return delete(request)

    kinesis._expire_records = expire_records
    kinesis._expire_iterators = expire_iterators
    kinesis._delete_stream = delete_stream


if __name__ == "__main__":
    from ministack.app import main  # type: ignore[import-untyped]  # ships no types

    with closing(install()):
        main()
