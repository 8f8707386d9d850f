"""After a loss: ``recover`` gives a restored event store its tail back, ``drill`` shows that it works."""

from __future__ import annotations

import shutil
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from qis.cli.failures import failure
from qis.cli.session import Session, command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

PANEL = "Operations"
MARGIN = timedelta(minutes=10)
"""How much earlier than the restored log's end the stream is read: what was committed may have come to the
stream out of order, and what the log holds already is seen."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "recover", rich_help_panel=PANEL)(_recover)
    command(app, "drill", rich_help_panel=PANEL)(_drill)


def _recover(
    session: Session,
    stream: Annotated[
        str, typer.Option("--stream", metavar="NAME", help="Stream of events of the lost system.")
    ],
    dsn: Annotated[
        str, typer.Option("--dsn", metavar="DSN", help="The restored PostgreSQL, as the schema's owner.")
    ],
) -> None:
    """Give a restored event store the events back that were committed after its last restorable point.

    They are read from the stream of events. Run it before any function writes to the restored store.
    Status 1 where an event was too large for the stream and is lost: the answer names it.

    Example: qis recover --stream qis-prod-events --dsn "host=restored dbname=qis user=qis"
    """
    import boto3
    import psycopg

    from qis.adapters.aws.tail import events_since
    from qis.adapters.postgres.recovery import Diverged, give_back, newest

    try:
        with psycopg.connect(dsn, autocommit=True, connect_timeout=5) as connection:
            end = newest(connection)
            if end is None:
                raise failure("empty-log", "Nothing was restored", "the event log is empty")
            records = list(events_since(boto3.client("kinesis"), stream, end - MARGIN))
            done = give_back(connection, records)
    except psycopg.OperationalError as error:
        raise failure("no-answer", "PostgreSQL does not answer", str(error).strip()) from error
    except Diverged as error:
        raise failure("diverged", "The restored log was written to already", str(error)) from error
    document = {
        "restored_to": end.isoformat(),
        "known": done.known,
        "given_back": done.given_back,
        "newest": None if done.newest is None else done.newest.isoformat(),
        "lost": [event.as_json() for event in done.lost],
    }

    def human(out: Console) -> None:
        from qis.cli.render import line

        line(out, "restored up to       ", str(end))
        line(out, "events given back    ", (str(done.given_back), "bold"), f"  (known: {done.known})")
        line(out, "the log now ends at  ", str(done.newest))
        if done.lost:
            line(out, "events lost          ", (str(len(done.lost)), "bold red"), "  see docs/recovery.md")
            for event in done.lost:
                line(out, f"  {event.type} {event.event_id} of {event.stream}: {event.why}")

    session.emit(document, human)
    if done.lost:
        raise typer.Exit(1)


def _drill(
    session: Session,
    what: Annotated[Literal["recovery"], typer.Argument(metavar="WHAT", help="recovery")],
    rate: Annotated[float, typer.Option("--rate", metavar="N", min=1, help="Claims a second.")] = 20.0,
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="S", min=1, help="Written for so long before the loss.")
    ] = 20.0,
    archive_every: Annotated[
        int,
        typer.Option("--archive-every", metavar="S", min=1, help="Seconds between two parts of the archive."),
    ] = 5,
    rto: Annotated[float, typer.Option("--rto", metavar="S", help="Seconds until it takes writes.")] = 900.0,
    rpo: Annotated[float, typer.Option("--rpo", metavar="S", help="Seconds that may be lost.")] = 300.0,
) -> None:
    """Lose the event store of a twin of its own, under load, get it back, look for what was acknowledged.

    Tells how long nothing could be written (RTO) and what was lost (RPO); status 1 where a target is
    missed or something is wrong, twice or gone. The running twin is left alone.

    Example: qis drill recovery --rate 50
    """
    from local.drill import run

    work = Path(tempfile.mkdtemp(prefix=f"qis-drill-{what}-"))
    work.chmod(0o755)  # PostgreSQL runs as nobody where this runs as root
    try:
        report = run(work, rate=rate, seconds=seconds, archive_every=archive_every, note=session.note)
    except (OSError, RuntimeError, TimeoutError) as error:
        raise failure("no-drill", "The drill did not come to its end", str(error)) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    in_time = report.rto_seconds <= rto and report.rpo_seconds <= rpo
    document = {**report.document(), "rto_target": rto, "rpo_target": rpo, "passed": report.sound and in_time}
    session.emit(document, lambda out: _told(out, document))
    if not document["passed"]:
        raise typer.Exit(1)


def _told(out: Console, found: Mapping[str, Any]) -> None:
    from qis.cli.render import line

    good = "green" if found["passed"] else "bold red"
    line(
        out,
        "recovery time        ",
        (f"{found['rto_seconds']:.1f} s", good),
        f"  (at most {found['rto_target']:g} s)",
    )
    for name, until in (
        ("stopped", "fenced"),
        ("restored", "restored from the archive"),
        ("given_back", "tail given back"),
        ("caught_up", "caught up"),
    ):
        line(out, f"  {until:<27}", f"{found[f'{name}_seconds']:.1f} s")
    line(
        out,
        "recovery point       ",
        (f"{found['rpo_seconds']:.1f} s", good),
        f"  (at most {found['rpo_target']:g} s)",
    )
    line(out, f"  archive alone              {found['restored_to_seconds_before']:.1f} s")
    line(out, f"  events from the stream     {found['given_back']}")
    line(out, "acknowledged         ", f"{found['acknowledged']}, of them lost: {found['lost'] or 'none'}")
    wrong = {
        "in the log twice": sum(found["twice"].values()),
        "gaps": found["gaps"],
        "wrong official values": found["wrong_values"],
        "answers that changed": found["changed_answers"],
        "unequal read models": len(found["unequal_models"]),
        "events not delivered": found["undelivered"],
    }
    line(out, "wrong                ", ", ".join(f"{k} {v}" for k, v in wrong.items()))
    line(out, "delivered again      ", f"{found['delivered_again']} (consumers know them by their ids)")
