"""``qis cost``: what an environment costs each month."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qis.cli.cost import model
from qis.cli.session import Session, command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

PANEL = "Operations"
_CENT = Decimal("0.01")


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "cost", rich_help_panel=PANEL)(_cost)


def _cost(
    session: Session,
    env: Annotated[str, typer.Option("--env", metavar="E", help="The environment.")],
    rate: Annotated[float, typer.Option("--rate", min=0, help="Claims a second, on average.")] = 0,
    queries: Annotated[float, typer.Option("--queries", min=0, help="Queries a second, on average.")] = 0,
    listeners: Annotated[
        float, typer.Option("--listeners", min=0, help="Open push connections, on average.")
    ] = 0,
) -> None:
    """Each month's cost of an environment, line by line, from its templates and a dated table of prices.

    Without --rate, --queries, --listeners: before any traffic. What has no known price is listed and not
    counted.

    Example: qis cost --env prod --rate 200 --queries 50
    """
    try:
        found = model.estimate(env, claims_per_second=rate, queries_per_second=queries, listeners=listeners)
    except model.UnknownEnvironment as error:
        raise typer.BadParameter(str(error), param_hint="--env") from error
    document = {"listeners": listeners, **_document(found, rate, queries)}

    def human(out: Console) -> None:
        from qis.cli import render

        render.line(out, (found.environment, "bold"), f"  prices of {found.as_of}, {found.region}, on demand")
        columns = ("service", "what", "quantity", "unit", "usd", "choice")
        lines = [*document["idle"], *document["traffic"]]
        rows = (tuple("unknown" if line[c] is None else line[c] for c in columns) for line in lines)
        render.table(out, columns, rows, numbers=("quantity", "usd"))
        render.line(out, "before traffic  ", (f"${document['idle_usd']}", "bold"))
        if rate or queries or listeners:
            render.line(out, "with traffic    ", (f"${document['total_usd']}", "bold"))
        if document["unknown"]:
            render.line(out, f"not counted, price unknown: {'; '.join(document['unknown'])}")
        _against_budget(out, document)

    session.emit(document, human)


def _against_budget(out: Console, document: dict[str, Any]) -> None:
    from qis.cli import render

    if document["budget_usd"] is None:
        return
    excess = Decimal(document["excess_usd"])
    if excess <= 0:
        render.line(out, f"budget ${document['budget_usd']}: ", ("met before traffic", "green"))
        return
    render.line(out, f"budget ${document['budget_usd']}: ", (f"exceeded by ${excess}", "bold red"))
    render.table(out, ("setting", "usd"), [tuple(c.values()) for c in document["choices"]], numbers=("usd",))


def _document(found: model.Estimate, rate: float, queries: float) -> dict[str, Any]:
    budget = found.budget_usd
    return {
        "environment": found.environment,
        "as_of": found.as_of,
        "region": found.region,
        "claims_per_second": rate,
        "queries_per_second": queries,
        "idle_usd": _money(found.idle_usd),
        "total_usd": _money(found.total_usd),
        "budget_usd": None if budget is None else _money(budget),
        "excess_usd": None if budget is None else _money(found.idle_usd - budget),
        "idle": _lines(found.idle),
        "traffic": _lines(found.traffic),
        "unknown": [f"{line.service}, {line.what}" for line in found.unknown],
        "choices": [{"setting": name, "usd": _money(usd)} for name, usd in found.choices()],
    }


def _lines(lines: Sequence[model.Line]) -> list[dict[str, Any]]:
    return [
        {
            "service": line.service,
            "what": line.what,
            "quantity": f"{line.quantity.normalize():f}",
            "unit": line.unit,
            "usd": None if line.usd is None else _money(line.usd),
            "choice": line.choice,
            "basis": line.basis,
        }
        for line in lines
    ]


def _money(usd: Decimal) -> str:
    return str(usd.quantize(_CENT))
