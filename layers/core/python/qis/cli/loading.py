"""Claims in: ``ingest``, and what became of them: ``loads``, ``receipts``."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qis.cli.options import MappingFile
from qis.cli.rest import path
from qis.cli.session import Session, command

if TYPE_CHECKING:
    from rich.console import Console

    from qis.cli.claims_file import ClaimsFile, Row
    from qis.cli.feed import Account, Sender
    from qis.cli.refusals import Refusals

LOOK = 0.5
"""Seconds between two looks at the load while it is being sent."""
EXAMPLES = 5
"""Refused rows that the terminal shows; the report has all."""

PANEL = "Claims in"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "ingest", rich_help_panel=PANEL)(_ingest)
    command(app, "loads", rich_help_panel=PANEL)(_loads)
    command(app, "receipts", rich_help_panel=PANEL)(_receipts)


def _ingest(
    session: Session,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            readable=True,
            help="Claims as .csv, .jsonl (both also .gz) or .parquet.",
        ),
    ],
    source: Annotated[
        str | None, typer.Option("--source", metavar="S", help="Source of rows that name none.")
    ] = None,
    series: Annotated[
        str | None, typer.Option("--series", metavar="ID", help="Series of rows that name none.")
    ] = None,
    mapping: MappingFile = None,
) -> None:
    """Load a file of claims and follow it until every row is accounted for.

    Columns: snap, reference_data_id, source, value, and optionally volume, received_at, currency, unit,
    attribute, sequence, channel. Row 1 is the first row of data. Rows that are refused are listed in
    FILE.errors.csv; the same file twice changes nothing. Status 1 where every row is refused.

    Example: qis ingest prices.csv.gz --source acme
    """
    from qis.cli.claims_file import ClaimsFile
    from qis.cli.feed import rejections
    from qis.cli.mapping import read_mapping
    from qis.cli.refusals import Refusals

    load = str(uuid.uuid4())
    mapped = read_mapping(mapping).with_constants(source=source, reference_data_id=series)
    claims = ClaimsFile(file, mapped, load)
    with Refusals.of(file) as refusals:
        rows, done = transfer(session, claims, load, file.name, refusals)
        report = refusals.write(rejections(session.api, load) if done.rejected else ())
        document = {
            "load": load,
            "rows": rows,
            "accepted": done.accepted,
            "rejected": done.rejected,
            "duplicates": done.duplicates,
            "errors": None if report is None else str(report),
            "reasons": [reason.as_json() for reason in refusals.top],
        }
    session.emit(document, lambda out: _summary(out, file, document, refusals))
    if rows and done.rejected == rows:
        raise typer.Exit(1)


def transfer(
    session: Session, claims: ClaimsFile, load: str, label: str, refusals: Refusals | None = None
) -> tuple[int, Account]:
    """Send a file and wait until the system has accounted for each of its rows.

    Where that is cut off, also by Ctrl-C, it is said what stays, if anything was sent.

    Returns:
        How many rows it had, and what became of them.

    Raises:
        Failure: not all could be read, sent or accounted for.
    """
    from qis.cli.feed import Account, account, follow, send_all
    from qis.cli.progress import progress_bars

    sent = 0
    looked = time.monotonic()
    try:
        with progress_bars(session) as bars:
            reading = bars.add_task(f"{label}: read", total=claims.size)
            counted = bars.add_task(f"{label}: accounted for", total=None)

            def after(batch: Sequence[Row]) -> None:
                nonlocal looked, sent
                sent += len(batch)
                for row in batch:
                    if refusals is not None and row.broken is not None:
                        refusals.add(row.number, row.broken)
                bars.update(reading, completed=claims.position())
                if time.monotonic() - looked > LOOK and not bars.disable:
                    bars.update(counted, completed=account(session.api, load).total, total=sent)
                    looked = time.monotonic()

            rows = send_all(claims.rows(), _sender(session), after)
            bars.update(reading, completed=claims.size)
            if claims.unknown:
                named = ", ".join(claims.unknown)
                said = f"! not fields of a claim: {named}; rows that fill them are refused (see --mapping)"
                session.note(said)
            if not rows:
                return 0, Account()
            return rows, follow(
                session.api, load, rows, lambda a: bars.update(counted, completed=a.total, total=rows)
            )
    except BaseException:
        if sent:
            session.note(f"! cut off: what was sent stays, as load {load}; the whole file again is safe")
        raise


def _sender(session: Session) -> Sender:
    from qis.cli.feed import RestSender, StreamSender

    if session.remote:
        return RestSender(session.api)
    from local.aws import client

    return StreamSender(client(session.twin["aws"], "kinesis"), session.twin["streams"]["ingest"])


def _summary(out: Console, file: Path, document: dict[str, Any], refusals: Refusals) -> None:
    from qis.cli.render import line

    line(out, (file.name, "bold"), f": {document['rows']} rows")
    line(
        out,
        ("  accepted ", "green"),
        f"{document['accepted']}  ",
        ("rejected ", "red" if document["rejected"] else ""),
        f"{document['rejected']}  ",
        ("duplicates ", "yellow" if document["duplicates"] else ""),
        str(document["duplicates"]),
    )
    refusals.show(out)
    refusals.show_first(out)
    line(out, (f"  load {document['load']}", "dim"))


def _loads(
    session: Session,
    load: Annotated[str, typer.Argument(metavar="LOAD", help="As `qis ingest` told it.")],
) -> None:
    """What became of the records of a load, and why some were refused.

    Example: qis loads 0f3e2a1c-…
    """
    pages = list(session.api.pages(path("/api/v1/loads/{}", load), limit=10_000))
    found = {**pages[-1], "items": [item for page in pages for item in page["items"]]}
    del found["next"]

    def human(out: Console) -> None:
        from qis.cli import render

        render.line(out, (load, "bold"), (f"  {found['started_at']} to {found['updated_at']}", "dim"))
        counts = ("accepted", "rejected", "duplicates")
        render.line(out, "  ", "  ".join(f"{name} {found[name]}" for name in counts))
        refused = [i for i in found["items"] if i["outcome"] == "rejected"]
        if refused:
            rows = (
                (i["record_id"].rpartition(":")[2], v["field"], v["value"], v["rule"], v["message"])
                for i in refused[:EXAMPLES]
                for v in i["violations"]
            )
            render.table(out, ("record", "field", "value", "rule", "why"), rows)
        if len(refused) > EXAMPLES:
            render.line(out, (f"  and {len(refused) - EXAMPLES} more; --json has all", "dim"))

    session.emit(found, human)


def _receipts(
    session: Session,
    receipt: Annotated[str, typer.Argument(metavar="R", help="As answered to a REST submission.")],
) -> None:
    """What became of a REST submission, up to the values it led to.

    Example: qis receipts 0f3e2a1c-…
    """
    pages = list(session.api.pages(path("/api/v1/receipts/{}", receipt)))
    states = {(v["reference_data_id"], v["snap"]): v for page in pages for v in page["values"]}
    found = pages[0] | {
        "claims": [claim for page in pages for claim in page["claims"]],
        "values": list(states.values()),
        "next": None,
    }

    def human(out: Console) -> None:
        from qis.cli import render

        counts = "  ".join(f"{name} {found[name]}" for name in ("accepted", "rejected", "duplicates"))
        render.line(out, (receipt, "bold"), f"  {found['status']}  {counts}")
        for claim in found["claims"]:
            for v in claim.get("violations", []):
                told = f"  claim {claim['index']}: {v['field']} {v['value']!r} {v['message']} [{v['rule']}]"
                render.line(out, told)
        values = (
            (v["reference_data_id"], v["snap"], v["status"], v["value"], v["version"])
            for v in found["values"]
        )
        if found["values"]:
            render.table(out, ("series", "snap", "status", "value", "version"), values, ("value", "version"))

    session.emit(found, human)
