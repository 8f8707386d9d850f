"""Progress bars on stderr, where somebody watches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from qis.cli.session import Session

if TYPE_CHECKING:
    from rich.progress import Progress


@contextmanager
def progress_bars(session: Session) -> Iterator[Progress]:
    """Bars that go away when done; nothing where stderr is no terminal or the output is for a program."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    quiet = session.as_json or not session.err.is_terminal
    with Progress(*columns, console=session.err, transient=True, disable=quiet) as bars:
        yield bars
