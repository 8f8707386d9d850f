"""Corrections and the four-eyes queue: ``restate``, ``exceptions``, ``approve``, ``reject``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from qis.cli.rest import path
from qis.cli.session import Session, command
from qis.cli.values import Series, SnapOption

if TYPE_CHECKING:
    from rich.console import Console

Item = Annotated[str, typer.Argument(metavar="ITEM", help="Identifier of the exception.")]

PANEL = "Corrections"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "restate", rich_help_panel=PANEL)(_restate)
    command(app, "exceptions", rich_help_panel=PANEL)(_exceptions)
    command(app, "approve", rich_help_panel=PANEL)(_approve)
    command(app, "reject", rich_help_panel=PANEL)(_reject)


def _restate(
    session: Session,
    series: Series,
    snap: SnapOption,
    value: Annotated[str, typer.Option("--value", metavar="V", help="The right value, a decimal.")],
    reason: Annotated[str, typer.Option("--reason", metavar="R", help="Why; stored and sent to consumers.")],
    seen: Annotated[
        int | None,
        typer.Option("--seen", metavar="V", help="Official version that you saw; left out: the current one."),
    ] = None,
) -> None:
    """Correct a published value. The earlier version stays readable; a doubtful one waits for approval.

    Example: qis restate FX.EUR.USD.ECB1415 --snap 2019-12-31 --value 1.1235 --reason "late correction"
    """
    body: dict[str, Any] = {"snap": snap, "value": value, "reason": reason}
    if seen is not None:
        body["official_version"] = seen
    done = session.api.call("POST", path("/api/v1/data/reference/{}/restate", series), body)
    session.emit(done, lambda out: _told(out, done))


def _exceptions(
    session: Session,
    item: Annotated[str | None, typer.Argument(metavar="[ITEM]", help="Only this one, in full.")] = None,
    status: Annotated[
        Literal["open", "approved", "rejected", "resolved"], typer.Option("--status", help="Which ones.")
    ] = "open",
) -> None:
    """Values waiting for a second person, and findings to look at; oldest first.

    Example: qis exceptions
    """
    from qis.cli import render

    if item is not None:
        found = session.api.get(path("/api/v1/exceptions/{}", item))
        session.emit(found, lambda out: render.fields(out, found, ""))
        return
    items = session.api.items("/api/v1/exceptions", status=status)

    def human(out: Console) -> None:
        if items:
            render.exceptions(out, items)
        render.line(out, (f"{len(items)} {status}", "dim"))

    session.emit({"items": items}, human)


def _approve(
    session: Session,
    item: Item,
    value: Annotated[
        str | None,
        typer.Option("--value", metavar="V", help="Of a conflict, the value that is right; else the newest."),
    ] = None,
) -> None:
    """Let a waiting value out. Refused for whoever submitted it.

    Example: qis approve 3f0c… --as second.person
    """
    body = None if value is None else {"value": value}
    done = session.api.call("POST", path("/api/v1/exceptions/{}/approve", item), body)
    session.emit(done, lambda out: _told(out, done))


def _reject(
    session: Session,
    item: Item,
    reason: Annotated[
        str, typer.Option("--reason", metavar="R", help="Why.")
    ] = "rejected by a second person",
) -> None:
    """Refuse a waiting value; its claims no longer count. Refused for whoever submitted it.

    Example: qis reject 3f0c… --reason "typing error at the source" --as second.person
    """
    done = session.api.call("POST", path("/api/v1/exceptions/{}/reject", item), {"reason": reason})
    session.emit(done, lambda out: _told(out, done))


def _told(out: Console, done: Mapping[str, Any]) -> None:
    from qis.cli.render import line

    line(out, (str(done["reference_data_id"]), "bold"), f" at {done['snap']}")
    for event in done["events"]:
        line(out, "  ", *_sentence(event))
    if not done["events"]:
        line(out, "  nothing changed")


def _sentence(event: Mapping[str, Any]) -> list[str | tuple[str, str]]:
    from qis.cli.render import in_short

    match event["type"]:
        case "DataPublished":
            return [
                ("published ", "green"),
                (in_short(event["value"]), "bold"),
                f", version {event['official_version']}",
            ]
        case "DataRestated":
            change = f"{event['before']['value']} → {event['after']['value']}"
            return [("restated ", "green"), (change, "bold"), f", version {event['official_version']}"]
        case "QualityIssueDetected":
            failed = [c["detail"] for c in event.get("checks", ()) if not c["passed"]]
            held = f" as exception {event['issue_id']}: {'; '.join(failed) or event['reason']}"
            return [("held for a second person", "yellow"), held]
        case _:
            told = ", ".join(
                f"{k} {in_short(v)}"
                for k, v in event.items()
                if k not in ("type", "checks") and v is not None
            )
            return [event["type"], f": {told}" if told else ""]
