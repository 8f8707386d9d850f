"""Scores of a window: ``qis scores series|source|asset_class NAME``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from qis.cli.rest import path
from qis.cli.session import Session, command
from qis.cli.values import PANEL

if TYPE_CHECKING:
    from rich.console import Console


First = Annotated[
    str | None, typer.Option("--from", metavar="A", help="First snap, with --to instead of a window.")
]
Until = Annotated[str | None, typer.Option("--to", metavar="B", help="First snap after the range.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "scores", rich_help_panel=PANEL)(_scores)


def _scores(
    session: Session,
    scope: Annotated[
        Literal["series", "source", "asset_class"], typer.Argument(metavar="SCOPE", help="Scores of what.")
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its identifier.")],
    window: Annotated[
        str | None,
        typer.Option("--window", metavar="DURATION", help="How far back; P30D if nothing is given."),
    ] = None,
    first: First = None,
    until: Until = None,
) -> None:
    """Quality of a series, a source or an asset class over a window of whole hours of snaps.

    Example: qis scores source ecb --from 2019-01-01 --to 2020-01-01
    """
    span = _span(window, first, until, "P30D")
    found = session.api.get(path("/api/v1/quality/{}/{}", scope, name), **span)

    def human(out: Console) -> None:
        from qis.cli.render import fields, line

        gaps = found["gaps"]
        if found["scores"]["composite"] is None:
            line(out, (f"nothing to score from {found['window']['from']} to {found['window']['to']}", "dim"))
        else:
            told = {k: v for k, v in found.items() if k not in ("gaps", "sequences", "followed", "reason")}
            fields(out, {k: v for k, v in told.items() if v is not None}, "")
        if gaps is not None:
            _gaps(out, gaps)
            _sequences(out, found["sequences"])
        _followed(out, found)

    session.emit(found, human)


def _span(window: str | None, first: str | None, until: str | None, usual: str) -> dict[str, object]:
    """The query of a window, given as a duration or as a range."""
    if (first is None) != (until is None) or (first is not None and window is not None):
        raise typer.BadParameter("give --window, or --from and --to", param_hint="--window")
    return {"timeWindow": window or usual} if first is None else {"from": first, "to": until}


def _gaps(out: Console, gaps: dict[str, Any]) -> None:
    from qis.cli.render import line, table

    line(out, f"gaps: {gaps['missed']} of {gaps['expected']} days between first and last claim")
    if gaps["series"]:
        rows = [
            (
                s["reference_data_id"],
                s["missed"],
                s["expected"],
                s["longest"],
                " ".join(s["dates"]) + (" …" if s["missed"] > len(s["dates"]) else ""),
            )
            for s in gaps["series"]
        ]
        table(out, ("series", "missed", "of", "longest run", "days"), rows, ("missed", "of"))


def _sequences(out: Console, channels: list[dict[str, Any]]) -> None:
    """What did not come, of channels whose messages are numbered."""
    from qis.cli.render import table

    rows = [
        (
            c["channel"] or "(all)",
            c["received"],
            c["missing"],
            c["resets"],
            c["repeated"],
            " ".join(str(g["from"]) if g["from"] == g["to"] else f"{g['from']}-{g['to']}" for g in c["gaps"]),
        )
        for c in channels
    ]
    if rows:
        heads = ("channel", "received", "missing", "resets", "repeated", "numbers missing")
        table(out, heads, rows, heads[1:5])


def _followed(out: Console, found: dict[str, Any]) -> None:
    """How far the scores go, and that they are not final where something of the window waits."""
    from qis.cli.render import line

    followed = found["followed"]
    upto = followed["recorded_at"] or "nothing yet"
    if followed["complete"]:
        line(out, (f"followed to {upto}, position {followed['position']}", "dim"))
    else:
        waiting = f"{followed['waiting']} events wait"
        line(out, (f"not complete ({found['reason']}): followed to {upto}, {waiting}", "yellow"))


def scorecard(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The source.")],
    window: Annotated[
        str | None,
        typer.Option("--window", metavar="DURATION", help="How far back; P365D if nothing is given."),
    ] = None,
    first: First = None,
    until: Until = None,
    by: Annotated[
        Literal["series", "kind", "rules", "day", "week", "month"],
        typer.Option("--by", help="What to split by."),
    ] = "month",
) -> None:
    """What a source is worth: accuracy, bias, dispersion, latency, coverage, by time or series.

    Example: qis sources scorecard ecb --from 2019-01-01 --to 2020-01-01 --by month
    """
    span = _span(window, first, until, "P365D")
    pages = list(session.api.pages(path("/api/v1/sources/{}/scorecard", name), by=by, **span))
    card = {**pages[0], "groups": [g for page in pages for g in page["groups"]], "next": None}
    session.emit(card, lambda out: _charted(out, card))


def _charted(out: Console, card: dict[str, Any]) -> None:
    from qis.cli import render

    window = card["window"]
    render.line(out, (card["source"], "bold"), f" from {window['from']} to {window['to']}")
    if not card["groups"]:
        render.line(out, ("nothing to score", "dim"))
        _followed(out, card)
        return
    rows = [_row(g["group"], g) for g in card["groups"]]
    # Fits 80 columns; "late s" is the 95th percentile of the latency in seconds.
    heads = ("group", "values", "accuracy", "", "coverage", "bias bp", "disp bp", "late s")
    render.table(out, heads, [*rows, _row("all", card["total"])], ("values", "accuracy", "coverage"))
    _gaps(out, card["gaps"])
    _sequences(out, card["sequences"])
    _followed(out, card)


_EIGHTHS = " ▏▎▍▌▋▊▉█"
_BAR = 4


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
