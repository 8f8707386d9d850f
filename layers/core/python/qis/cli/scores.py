"""Scores of a window: ``qis scores series|source|asset_class NAME``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

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


def scorecard(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The source.")],
    window: Annotated[
        str | None,
        typer.Option("--window", metavar="DURATION", help="How far back; P365D if nothing is given."),
    ] = None,
    first: Annotated[
        str | None, typer.Option("--from", metavar="A", help="First snap, with --to instead of a window.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="B", help="First snap after the range.")
    ] = None,
    by: Annotated[
        Literal["series", "day", "week", "month"], typer.Option("--by", help="What to split by.")
    ] = "month",
) -> None:
    """What a source is worth: accuracy, bias, dispersion, latency, coverage, by time or series.

    Example: qis sources scorecard ecb --from 2019-01-01 --to 2020-01-01 --by month
    """
    if (first is None) != (until is None) or (first is not None and window is not None):
        raise typer.BadParameter("give --window, or --from and --to", param_hint="--window")
    span: dict[str, object] = {"from": first, "to": until}
    if first is None:
        span = {"timeWindow": window or "P365D"}
    pages = list(session.api.pages(path("/api/v1/sources/{}/scorecard", name), by=by, **span))
    card = {**pages[0], "groups": [g for page in pages for g in page["groups"]], "next": None}
    session.emit(card, lambda out: _charted(out, card))


def _charted(out: Console, card: dict[str, Any]) -> None:
    from qis.cli import render

    window = card["window"]
    render.line(out, (card["source"], "bold"), f" from {window['from']} to {window['to']}")
    if card["reason"]:
        render.line(out, ("nothing to score", "dim"))
        return
    rows = [_row(g["group"], g) for g in card["groups"]]
    # Fits 80 columns; "late s" is the 95th percentile of the latency in seconds.
    heads = ("group", "values", "accuracy", "", "coverage", "bias bp", "disp. bp", "late s")
    numbers = "values accuracy coverage"
    render.table(out, heads, [*rows, _row("all", card["total"])], numbers)


_EIGHTHS = " ▏▎▍▌▋▊▉█"
_BAR = 8


def _row(name: str, figures: dict[str, Any]) -> tuple[object, ...]:
    bp, latency = figures["bp"], figures["latency"]
    bar = "" if figures["accuracy"] is None else _bar(float(figures["accuracy"]))
    return (
        name,
        figures["values"],
        figures["accuracy"],
        bar,
        figures["coverage"],
        bp["bias"],
        bp["dispersion"],
        latency["p95"],
    )


def _bar(share: float) -> str:
    """A share as a bar of ``_BAR`` characters at most."""
    full, part = divmod(round(share * _BAR * 8), 8)
    return "█" * full + (_EIGHTHS[part] if part else "")
