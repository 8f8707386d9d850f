"""Records of streams in files: as shipped, the AWS APIs keep them in memory until they are asked to end."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


class Kept(list[dict[str, Any]]):
    """Records of a shard. Each is in a file, too, before its put is answered, so that a killed server loses
    none; the file holds what the saved state does not."""

    def __init__(self, records: Iterable[dict[str, Any]], file: Path) -> None:
        super().__init__(records)
        newest = self[-1]["SequenceNumber"] if self else ""
        missing = [r for r in _read(file) if r["SequenceNumber"] > newest]
        self.extend(missing)
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_suffix(".new")
        fresh.write_text("".join(map(_line, missing)), encoding="utf-8")
        fresh.replace(file)
        self._file = file.open("a", encoding="utf-8")

    def append(self, record: dict[str, Any]) -> None:
        """Add a record, and write it."""
        super().append(record)
        self._file.write(_line(record))
        self._file.flush()

    def close(self) -> None:
        """Write no more."""
        self._file.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> list[dict[str, Any]]:
        return copy.deepcopy(list(self), memo)


class RecordFiles:
    """The files of all shards in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[Path, Kept] = {}

    def keep(self, stream: Mapping[str, Any]) -> None:
        """Keep the records of a stream from now on, with those that were kept before."""
        for shard_id, shard in stream["shards"].items():
            if not isinstance(shard["records"], Kept):
                file = self._file(stream, shard_id)
                self._close(file)
                shard["records"] = self._kept[file] = Kept(shard["records"], file)

    def forget(self, stream: Mapping[str, Any] | None) -> None:
        """Remove what was kept, if there was such a stream: a new one of the name is another."""
        if stream is None:
            return
        for shard_id in stream["shards"]:
            file = self._file(stream, shard_id)
            self._close(file)
            file.unlink(missing_ok=True)

    def close(self) -> None:
        """Write no more."""
        for file in list(self._kept):
            self._close(file)

    def _close(self, file: Path) -> None:
        kept = self._kept.pop(file, None)
        if kept is not None:
            kept.close()

    def _file(self, stream: Mapping[str, Any], shard_id: str) -> Path:
        return self._folder / f"{stream['StreamName']}.{shard_id}"


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, separators=(",", ":")) + "\n"


def _read(file: Path) -> list[dict[str, Any]]:
    """Records in a file; a last line that was being written when the server died was not answered for."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]
