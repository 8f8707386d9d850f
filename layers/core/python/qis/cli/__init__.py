"""The command line ``qis``."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 success, 1 a failed check or a refused request, 2 bad usage."""
    from qis.cli.app import run

    raise SystemExit(run(arguments))
