"""Reading official values: ``official``, ``history``, ``explain``, ``quality``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from qis.cli.rest import path
from qis.cli.session import Session, command

if TYPE_CHECKING:
    from rich.console import Console

Series = Annotated[str, typer.Argument(metavar="ID", help="Series, such as FX.EUR.USD.ECB1415.")]
SnapOption = Annotated[
    str,
    typer.Option(
        "--snap",
        metavar="S",
        help="A date (at the series' snap time), an ISO 8601 time with offset, or '2026-01-05 NYSE close'.",
    ),
]
AsOf = Annotated[
    str | None,
    typer.Option("--as-of", metavar="T", help="Answer with what was known then; ISO 8601 with offset."),
]
PAGE = 10_000
FORMATS = (".csv", ".parquet", ".arrow")

PANEL = "Official values"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "official", rich_help_panel=PANEL)(_official)
    command(app, "history", rich_help_panel=PANEL)(_history)
    command(app, "explain", rich_help_panel=PANEL)(_explain)
    command(app, "quality", rich_help_panel=PANEL)(_quality)


def _official(session: Session, series: Series, snap: SnapOption, as_of: AsOf = None) -> None:
    """The official value of a series at a snap.

    Example: qis official FX.EUR.USD.ECB1415 --snap 2019-12-31
    """
    from qis.cli import render

    where = path("/api/v1/data/reference/{}/official", series)
    value = session.api.get(where, snap=snap, asOf=as_of)
    session.emit(value, lambda out: render.official(out, value))


def _history(
    session: Session,
    series: Series,
    first: Annotated[
        str, typer.Option("--from", metavar="A", help="First snap, inclusive: a date or a time.")
    ],
    until: Annotated[str, typer.Option("--to", metavar="B", help="Last snap, exclusive: a date or a time.")],
    granularity: Annotated[
        Literal["day", "week", "month"] | None,
        typer.Option("--granularity", help="Only the last value of each UTC day, ISO week or month."),
    ] = None,
    as_of: AsOf = None,
    out_file: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write to FILE: .csv, .parquet or .arrow, by its name."),
    ] = None,
) -> None:
    """Official values over a range of snaps, all pages of it, on one state of knowledge.

    Example: qis history FX.EUR.USD.ECB1415 --from 2015-01-01 --to 2020-01-01 --out eurusd.parquet
    """
    if out_file is not None and out_file.suffix.lower() not in FORMATS:
        raise typer.BadParameter(
            f"{out_file.name}: the name must end in {', '.join(FORMATS)}", param_hint="--out"
        )
    where = path("/api/v1/data/reference/{}/historical", series)
    query: dict[str, Any] = {
        "from": first,
        "to": until,
        "granularity": granularity,
        "asOf": as_of,
        "limit": PAGE,
    }
    pages = (page["items"] for page in session.api.pages(where, **query))
    if out_file is None:
        values = [value for page in pages for value in page]
        session.emit({"reference_data_id": series, "items": values}, lambda out: _show(out, series, values))
        return
    from qis.cli.export import write

    rows = write(out_file, pages)
    document = {"reference_data_id": series, "rows": rows, "file": str(out_file)}
    session.emit(document, lambda out: out.print(f"{rows} values written to {out_file}", markup=False))


def _show(out: Console, series: str, values: list[dict[str, Any]]) -> None:
    from qis.cli import render

    render.history(out, series, values)
    render.line(out, (f"{len(values)} values", "dim"))


def _explain(session: Session, series: Series, snap: SnapOption, as_of: AsOf = None) -> None:
    """Why a value is what it is: every claim, the checks, the decision, every version.

    Example: qis explain FX.EUR.USD.ECB1415 --snap 2019-12-31
    """
    from qis.cli import render

    told = session.api.get(path("/api/v1/data/reference/{}/explain", series), snap=snap, asOf=as_of)
    session.emit(told, lambda out: render.story(out, told))


def _quality(
    session: Session,
    series: Series,
    window: Annotated[
        str, typer.Option("--window", metavar="P30D", help="How far back from now, an ISO 8601 duration.")
    ] = "P30D",
) -> None:
    """Quality scores of a series over a window.

    Example: qis quality FX.EUR.USD.ECB1415 --window P365D
    """
    found = session.api.get(path("/api/v1/data/reference/{}/quality", series), timeWindow=window)

    def human(out: Console) -> None:
        from qis.cli import render

        span = found["window"]
        render.line(out, (series, "bold"), f" from {span['from']} to {span['to']}")
        expected = "" if found["expected"] is None else f" of {found['expected']} expected"
        render.line(out, f"  {found['values']} values{expected}")
        if found["reason"]:
            render.line(out, "  no scores: ", (found["reason"], "yellow"))
        else:
            render.scores(out, found["scores"])

    session.emit(found, human)
