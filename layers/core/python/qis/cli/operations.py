"""Operations: ``rebuild``, ``redrive``, ``token``, ``migrate``, ``bench``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from qis.cli.failures import failure
from qis.cli.session import Session, command, duration

if TYPE_CHECKING:
    from psycopg import Connection
    from rich.console import Console

    from qis.adapters.postgres.connection import Target

Dsn = Annotated[
    str | None,
    typer.Option(
        "--dsn",
        metavar="DSN",
        help="PostgreSQL, as the schema's owner.",
        show_default="that of the local twin",
    ),
]
BENCHMARKS = (
    "ingest",
    "events",
    "reconcile",
    "asof",
    "query",
    "history",
    "maintenance",
    "memory",
    "coldstart",
    "synth",
    "latency",
    "detection",
    "fusion",
)

PANEL = "Operations"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "rebuild", rich_help_panel=PANEL)(_rebuild)
    command(app, "redrive", rich_help_panel=PANEL)(_redrive)
    command(app, "token", rich_help_panel=PANEL)(_token)
    command(app, "migrate", rich_help_panel=PANEL)(_migrate)
    command(app, "bench", rich_help_panel=PANEL)(_bench)


def _rebuild(
    session: Session,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Read model, such as official_values.")],
    check: Annotated[
        bool, typer.Option("--check", help="Only compare with the log; status 1 where they differ.")
    ] = False,
    dsn: Dsn = None,
) -> None:
    """Rebuild a read model from the event log, beside live traffic, and swap it in.

    Example: qis rebuild official_values --check
    """
    from qis.adapters.postgres import rebuild

    with _database(session, dsn) as connection:
        found = rebuild.check(connection, model) if check else rebuild.rebuild(connection, model)
    document = {**asdict(found), "equal": found.equal}

    def human(out: Console) -> None:
        from qis.cli.render import line

        style = "green" if found.equal else "bold red"
        line(out, (found.model, "bold"), f": {found.rows} rows from {found.events} events")
        told = "the live table was equal" if found.equal else "the live table differed"
        line(out, "  ", (told, style), f" (missing {found.missing}, unexpected {found.unexpected})")
        if found.swapped:
            line(out, "  the rebuilt table is in its place")

    session.emit(document, human)
    if check and not found.equal:
        raise typer.Exit(1)


@contextmanager
def _database(session: Session, dsn: str | None) -> Iterator[Connection]:
    import psycopg

    try:
        connection = psycopg.connect(dsn or session.twin["postgres"], autocommit=True, connect_timeout=5)
    except psycopg.Error as error:
        raise failure("no-answer", "PostgreSQL does not answer", str(error).strip()) from error
    with connection:
        yield connection


def _redrive(
    session: Session,
    queue: Annotated[
        str,
        typer.Argument(
            metavar="QUEUE",
            help="ingest-dlq, events-dlq or bus-dlq; with QIS_URL the full name of the queue in AWS.",
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what lies there and why.")] = False,
) -> None:
    """Put dead-lettered records back where they came from, once their cause is gone.

    Rejected records go to the ingest stream under their own identity; batches that a function failed on are
    read from their stream and put there again; events that a target did not take are sent to it again.

    Example: qis redrive ingest-dlq --dry-run
    """
    from qis.cli.progress import progress_bars
    from qis.cli.redrive import Redrive, Redriven, ingest_stream_of

    if session.remote:
        import boto3

        sqs, kinesis = boto3.client("sqs"), boto3.client("kinesis")
        url, stream = sqs.get_queue_url(QueueName=queue)["QueueUrl"], ingest_stream_of(queue)
    else:
        from local.aws import client

        sqs, kinesis = client(session.twin["aws"], "sqs"), client(session.twin["aws"], "kinesis")
        queues: Mapping[str, str] = session.twin["queues"]
        if not queue.endswith("-dlq") or queue not in queues:
            known = ", ".join(sorted(q for q in queues if q.endswith("-dlq")))
            raise failure(
                "unknown-queue", "There is no such dead-letter queue", f"{queue!r}; known are {known}"
            )
        url, stream = queues[queue], session.twin["streams"]["ingest"]
    run = Redrive(sqs, kinesis, url, stream)
    with progress_bars(session) as bars:
        bar = bars.add_task(queue, total=run.waiting())

        def done(so_far: Redriven) -> None:
            bars.update(bar, completed=so_far.messages)

        found = run.run(dry_run=dry_run, done=done)
    document = {"queue": queue, "dry_run": dry_run, **asdict(found)}

    def human(out: Console) -> None:
        from qis.cli import render

        render.line(out, (queue, "bold"), f": {found.messages} messages, {found.records} records put back")
        if found.reasons:
            most_first = sorted(found.reasons.items(), key=lambda r: (-r[1], r[0]))
            render.table(out, ("messages", "why"), ((n, why) for why, n in most_first), numbers=("messages",))

    session.emit(document, human)
    if found.left:
        raise typer.Exit(1)


def _token(
    session: Session,
    role: Annotated[
        Literal["reader", "writer", "publisher", "admin"], typer.Option("--role", help="What it allows.")
    ],
    subject: Annotated[
        str | None,
        typer.Option(
            "--subject", metavar="S", help="Whom it names.", show_default="the person at the terminal"
        ),
    ] = None,
    ttl: Annotated[
        str, typer.Option("--ttl", metavar="PT1H", help="How long it is valid, an ISO 8601 duration.")
    ] = "PT1H",
) -> None:
    """Print a bearer token for the API of the local twin.

    Example: curl -H "Authorization: Bearer $(qis token --role reader)" …
    """
    from local.identity import token

    seconds, whom = int(duration(ttl, "--ttl").total_seconds()), subject or session.subject
    if session.remote:
        raise failure(
            "unsupported",
            "Tokens of a remote system come from its issuer",
            "this command is for the local twin",
        )
    if seconds < 1:
        raise typer.BadParameter("must be at least a second", param_hint="--ttl")
    minted = token(session.twin, role, whom, seconds)
    document = {"token": minted, "role": role, "subject": whom, "expires_in": seconds}
    session.emit(document, lambda out: out.print(minted, soft_wrap=True, markup=False))


def _migrate(
    session: Session,
    dsn: Dsn = None,
    region: Annotated[
        str | None,
        typer.Option("--region", metavar="R", envvar="AWS_REGION", help="Region of a database in AWS."),
    ] = None,
) -> None:
    """Apply the SQL migrations that a database does not have yet.

    On loopback no password is used; elsewhere a short-lived IAM token over verified TLS.

    Example: qis migrate --dsn "host=db.example.org dbname=qis user=qis_owner" --region eu-central-1
    """
    from qis.adapters.postgres import migrate

    applied = migrate.apply(_target(dsn or session.twin["postgres"], region))
    document = {"applied": applied}

    def human(out: Console) -> None:
        from qis.cli.render import line

        for name in applied:
            line(out, "  applied ", (name, "bold"))
        line(out, f"{len(applied)} applied" if applied else "nothing to apply")

    session.emit(document, human)


def _target(dsn: str, region: str | None) -> Target:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    from qis.adapters.postgres.connection import Target

    try:
        given = conninfo_to_dict(dsn)
    except psycopg.Error as error:
        raise failure("invalid-input", "The DSN cannot be read", str(error).strip()) from error
    missing = [name for name in ("host", "dbname", "user") if not given.get(name)]
    if missing:
        raise failure("invalid-input", "The DSN is not complete", f"it does not say {', '.join(missing)}")
    place = str(given["host"]), int(given.get("port") or 5432), str(given["dbname"]), str(given["user"])
    try:
        return Target(*place)
    except ValueError:  # not loopback: a token instead of trust
        if region is None:
            raise failure("invalid-input", "The region is not known", "give --region or AWS_REGION") from None
        return Target(*place, auth="iam", region=region)


def _bench(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"One of {', '.join(BENCHMARKS)}.")],
    options: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An option of the benchmark; repeat it."),
    ] = None,
) -> None:
    """Run a benchmark with its baseline in the same run.

    Example: qis bench ingest --json
    """
    from importlib import import_module

    if name not in BENCHMARKS:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(BENCHMARKS)}", param_hint="NAME")
    given = dict(_option(text) for text in options or [])
    try:
        module = import_module(f"benchmarks.{name}")
    except ModuleNotFoundError as error:
        raise failure(
            "not-installed",
            "The benchmark cannot run here",
            f"{error.name} is not installed",
            "run it in a checkout after `make install-dev`",
        ) from error
    document: dict[str, Any] = module.run(given)

    def human(out: Console) -> None:
        from qis.cli import render

        render.line(out, (document["name"], "bold"))
        columns = ("metric", "value", "unit", "baseline", "baseline_value", "ratio", "n", "p50", "p95", "p99")
        rows = (tuple(result.get(c) for c in columns) for result in document["results"])
        render.table(
            out, columns, rows, numbers=("value", "baseline_value", "ratio", "n", "p50", "p95", "p99")
        )

    session.emit(document, human)


def _option(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise typer.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--set")
    return key, value
