"""Issues: exceptions with one cause. ``qis issues list | show | triage | snooze | approve | correct``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from qis.cli.rest import path
from qis.cli.session import Session, command, duration

if TYPE_CHECKING:
    from rich.console import Console

Issue = Annotated[str, typer.Argument(metavar="ISSUE", help="Identifier of the issue.")]
Reason = Annotated[str, typer.Option("--reason", metavar="R", help="Why; stored with your name.")]
SHOWN_ITEMS = 20


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        name="issues", help="Exceptions with one cause, as one piece of work.", no_args_is_help=True
    )
    for name, function in (
        ("list", _list),
        ("show", _show),
        ("triage", _triage),
        ("snooze", _snooze),
        ("approve", _approve),
        ("correct", _correct),
    ):
        command(group, name)(function)
    app.add_typer(group, rich_help_panel="Corrections")


def _list(
    session: Session,
    status: Annotated[
        Literal["open", "closed", "detected", "triaged", "snoozed"],
        typer.Option("--status", help="Which ones."),
    ] = "open",
) -> None:
    """Issues, oldest first.

    Example: qis issues list
    """
    items = session.api.items("/api/v1/issues", status=status)

    def human(out: Console) -> None:
        from qis.cli.render import line

        for issue in items:
            _headline(out, issue)
        line(out, (f"{len(items)} {status}", "dim"))

    session.emit({"items": items}, human)


def _show(session: Session, issue: Issue) -> None:
    """One issue with its exceptions and their evidence.

    Example: qis issues show 3f0c…
    """
    found = session.api.get(path("/api/v1/issues/{}", issue))
    items = session.api.items(path("/api/v1/issues/{}/items", issue))
    session.emit({**found, "exceptions": items}, lambda out: _told(out, found, items))


def _triage(session: Session, issue: Issue, reason: Reason) -> None:
    """Take an issue, with an assessment; it no longer escalates.

    Example: qis issues triage 3f0c… --reason "vendor confirms an outage"
    """
    _post(session, issue, "triage", {"reason": reason})


def _snooze(
    session: Session,
    issue: Issue,
    reason: Reason,
    length: Annotated[str, typer.Option("--for", metavar="DURATION", help="How long, such as PT30M or P1D.")],
) -> None:
    """Tell nobody of an issue for a while; then everybody.

    Example: qis issues snooze 3f0c… --for PT2H --reason "vendor delivers at noon"
    """
    until = (datetime.now(UTC) + duration(length, "--for")).isoformat()
    _post(session, issue, "snooze", {"until": until, "reason": reason})


def _approve(session: Session, issue: Issue, reason: Reason) -> None:
    """The data were right: let out what the issue holds back. Refused for who triaged or submitted.

    Example: qis issues approve 3f0c… --reason "a true move" --as second.person
    """
    _post(session, issue, "approve", {"reason": reason})


def _correct(session: Session, issue: Issue, reason: Reason) -> None:
    """The data were wrong: their claims no longer count. Refused for who triaged or submitted.

    Example: qis issues correct 3f0c… --reason "wrong scale, vendor confirmed" --as second.person
    """
    _post(session, issue, "correct", {"reason": reason})


def _post(session: Session, issue: str, what: str, body: Mapping[str, str]) -> None:
    done = session.api.call("POST", path(f"/api/v1/issues/{{}}/{what}", issue), body)

    def human(out: Console) -> None:
        from qis.cli.render import line

        if "decided" in done:
            line(out, f"{done['decided']} exceptions decided, {len(done['left'])} left")
            for left in done["left"][:SHOWN_ITEMS]:
                line(out, f"  {left['item']}  {left['why']}")
        for event in done["events"]:
            line(out, (event["type"], "green"), f"  now {event['resolution'] or event['status']}")

    session.emit(done, human)


def _headline(out: Console, issue: Mapping[str, Any]) -> None:
    from qis.cli.render import line, seconds

    line(
        out,
        (issue["issue"], "bold"),
        (f"  {issue['severity']}", "red" if issue["severity"] in ("high", "critical") else "yellow"),
        f"  {issue['kind']} in {issue['scope']}: {issue['open']} of {issue['items']} open,",
        f" {issue['series']} series",
    )
    said = issue["resolution"] or issue["status"]
    line(out, f"    {said}", (f"  since {seconds(issue['opened_at'])}", "dim"))


def _told(out: Console, issue: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> None:
    from qis.cli.render import line

    _headline(out, issue)
    items = sorted(items, key=lambda item: (item["reference_data_id"], item["snap"], item["item"]))
    for item in items[:SHOWN_ITEMS]:
        line(out, f"    {item['item']}  {item['reference_data_id']} at {item['snap']}  {item['status']}")
        line(out, (f"      {item['reason']}", "dim"))
    if len(items) > SHOWN_ITEMS:
        line(out, f"    and {len(items) - SHOWN_ITEMS} more; --json has them all")
