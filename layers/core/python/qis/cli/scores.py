"""Scores of a window: ``qis scores series|source|asset_class NAME``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from qis.cli.rest import path
from qis.cli.session import Session, command

if TYPE_CHECKING:
    from rich.console import Console


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "scores", rich_help_panel="Values")(_scores)


def _scores(
    session: Session,
    scope: Annotated[
        Literal["series", "source", "asset_class"], typer.Argument(metavar="SCOPE", help="Scores of what.")
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its identifier.")],
    window: Annotated[
        str, typer.Option("--window", metavar="DURATION", help="How far back, in whole hours of snaps.")
    ] = "P30D",
) -> None:
    """Quality of a series, a source or an asset class over a window.

    Example: qis scores source ecb --window P365D
    """
    found = session.api.get(path("/api/v1/quality/{}/{}", scope, name), timeWindow=window)

    def human(out: Console) -> None:
        from qis.cli.render import fields, line

        if found["reason"]:
            line(out, (f"nothing to score from {found['window']['from']} to {found['window']['to']}", "dim"))
        else:
            fields(out, {k: v for k, v in found.items() if v is not None}, "")

    session.emit(found, human)
