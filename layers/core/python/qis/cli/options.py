"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MappingFile = Annotated[
    Path | None,
    typer.Option(
        "--mapping",
        metavar="M",
        exists=True,
        dir_okay=False,
        help=(
            'How the file is written: {"columns": {"Close": "value"}, "constants": {"currency": "USD"}};'
            " also delimiter, decimal, grouping, encoding, preamble, nulls, times, names, scale, round."
        ),
    ),
]
