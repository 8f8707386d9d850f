"""The local twin: ``up``, ``down``, ``status``."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qis.cli.failures import Failure, failure, told
from qis.cli.rest import Api
from qis.cli.session import Session, command, project_root

if TYPE_CHECKING:
    from rich.console import Console

    from qis.cli.bundle import Pipeline

SUMMARY = "summary.json"
LOG = "up.log"
READY_PATIENCE = 600.0
STOP_PATIENCE = 120.0

PANEL = "Local twin"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "up", rich_help_panel=PANEL)(_up)
    command(app, "down", rich_help_panel=PANEL)(_down)
    command(app, "status", rich_help_panel=PANEL)(_status)


def _up(
    session: Session,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", metavar="N", min=1, max=65535, help="Port of the API.", show_default="the one before"
        ),
    ] = None,
    empty: Annotated[bool, typer.Option("--empty", help="Do not load the bundled data.")] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when ready and go on in the background.")
    ] = False,
) -> None:
    """Start the local twin: the real handlers on PostgreSQL, Valkey and AWS APIs on this machine.

    The bundled real data is loaded through the ingest stream the first time. Stays until Ctrl-C; a second
    start goes on with all data.

    Example: qis up --detach
    """
    from local.state import twin_running

    found = twin_running(session.data_dir)
    if found is not None:
        there = session.chosen_by_option
        raise failure(
            "already-running",
            "A local twin is running already",
            f"in {session.data_dir}, process {found['pid']}, API {found['api']}",
            f"`qis status{there}` shows it, `qis down{there}` stops it",
        )
    summary = _start_detached(session, port, empty) if detach else None
    if summary is None:
        _run(session, port, empty)
    else:
        session.emit(summary, lambda out: _show(out, summary))


def _run(session: Session, port: int | None, empty: bool) -> None:
    """The twin in this process, until it is told to stop."""
    from local.supervisor import AlreadyRunning, run

    session.note(f"starting the local twin in {session.data_dir} …")
    started = time.monotonic()

    failed: list[Exception] = []

    def ready(state: dict[str, Any]) -> None:
        try:
            summary = _prepare(session, state, empty, started)
        except Exception as error:  # noqa: BLE001 - this is a thread: the main one tells what happened
            if not _ready(state["api"]):
                session.note("cut off; the next `qis up` goes on where this one stopped")
                return
            failed.append(error)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        _write(session.data_dir / SUMMARY, json.dumps(summary, indent=2))
        session.emit(summary, lambda out: _show(out, summary))
        sys.stdout.flush()
        session.note("running; Ctrl-C stops it")

    try:
        run(session.data_dir, port=port, on_ready=ready)
    except (AlreadyRunning, OSError, TimeoutError, RuntimeError) as error:
        said = told(error) if isinstance(error, OSError) else str(error)
        raise failure("not-started", "The local twin did not start", said) from error
    if failed:
        raise failed[0]
    session.note("stopped")


def _write(file: Path, text: str) -> None:
    """All of a file at once, for those who wait for it to be there."""
    fresh = file.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(file)


def _start_detached(session: Session, port: int | None, empty: bool) -> dict[str, Any]:
    """The twin in a process of its own; its summary once it is ready."""
    from local.state import twin_running

    session.data_dir.mkdir(parents=True, exist_ok=True)
    summary, log = session.data_dir / SUMMARY, session.data_dir / LOG
    summary.unlink(missing_ok=True)
    options = [*(["--port", str(port)] if port else []), *(["--empty"] if empty else [])]
    with log.open("wb") as out:
        child = subprocess.Popen(  # noqa: S603 - this program itself
            [sys.executable, "-m", "qis", "up", "--data-dir", str(session.data_dir), *options],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + READY_PATIENCE
    with session.err.status("starting the local twin …") as shown:
        while not summary.exists():
            if twin_running(session.data_dir) is not None:
                shown.update("it runs; waiting until all data has reached the consumers …")
            if child.poll() is not None:
                told = log.read_text(errors="replace").strip()
                raise failure(
                    "not-started", "The local twin did not start", told[-2000:], f"all of it: {log}"
                )
            if time.monotonic() > deadline:
                os.kill(child.pid, signal.SIGTERM)
                raise failure("not-started", "The local twin is not ready", f"see {log}")
            time.sleep(0.1)
    child.returncode = 0  # it goes on without us, and Popen would warn that nobody waits for it
    found: dict[str, Any] = json.loads(summary.read_text())
    return found


# summary -----------------------------------------------------------------------------------------


def _prepare(session: Session, state: Mapping[str, Any], empty: bool, started: float) -> dict[str, Any]:
    """Load what is to be loaded, wait until it has reached the consumers, and say what is there."""
    import psycopg

    from local.aws import client
    from qis.cli.bundle import CONSUMERS, Pipeline, load_bundle
    from qis.cli.progress import progress_bars

    up_after = time.monotonic() - started
    bundle = None if empty else _bundle()
    loaded = [] if bundle is None else load_bundle(session, bundle)
    with psycopg.connect(state["postgres"], autocommit=True) as connection, progress_bars(session) as bars:
        pipeline = Pipeline(state, connection, client(state["aws"], "sqs"))
        bar = bars.add_task("on their way to the consumers", total=None)
        sources = Api(state["api"], None)
        standing = pipeline.drain(
            lambda: all(s["idle_seconds"] is not None for s in sources.get("/_local/pipeline")["sources"]),
            lambda now: bars.update(
                bar,
                completed=sum(now.queues[c] for c in CONSUMERS),
                total=len(CONSUMERS) * now.published,
            ),
        )
        examples = _examples(session, pipeline, bundle)
    keys = ("pid", "data_dir", "api", "aws", "postgres")
    return {
        **{key: state[key] for key in keys},
        "files": [{**asdict(f), "as_expected": f.as_expected} for f in loaded],
        **asdict(standing),
        **examples,
        "seconds_to_ready": round(up_after, 1),
        "seconds": round(time.monotonic() - started, 1),
    }


def _bundle() -> Path:
    root = project_root()
    if root is None:
        raise failure("no-bundle", "The bundled data is not here", "it comes with a checkout of the project")
    return root / "data" / "bundle"


def _examples(session: Session, pipeline: Pipeline, bundle: Path | None) -> dict[str, Any]:
    """An open exception with the command that explains it, and three commands to try."""
    names = (
        []
        if bundle is None
        else [s["reference_data_id"] for s in json.loads((bundle / "series.json").read_text())]
    )
    newest = pipeline.latest(names)
    waiting = next(iter(session.api.get("/api/v1/exceptions", limit=1)["items"]), None)
    there = session.chosen_by_option

    def explain(where: Mapping[str, Any]) -> str:
        return f"qis explain {where['reference_data_id']} --snap {where['snap']}{there}"

    commands = []
    if newest is not None:
        series, snap, value = newest
        commands = [
            f"qis official {series} --snap {snap}{there}",
            explain(waiting or {"reference_data_id": series, "snap": snap}),
            f'qis restate {series} --snap {snap} --value {_next_to(value)} --reason "late correction"{there}',
        ]
    return {"exception": waiting and {**waiting, "explain": explain(waiting)}, "commands": commands}


def _next_to(value: str) -> Decimal:
    """``value`` plus one in its last place."""
    number = Decimal(value)
    return number + Decimal((0, (1,), int(number.as_tuple().exponent)))


def _show(out: Console, summary: Mapping[str, Any]) -> None:
    from rich.text import Text

    from qis.cli.bundle import CONSUMERS, OPERATORS
    from qis.cli.render import line, table

    out.print()
    if summary["files"]:
        table(
            out,
            ("bundled file", "rows", "accepted", "rejected", "duplicate", ""),
            (
                (
                    f["file"],
                    f["rows"],
                    f["accepted"],
                    f["rejected"],
                    f["duplicates"],
                    Text("✓ as expected", "green")
                    if f["as_expected"]
                    else Text(f"✗ expected {f['expected']}", "bold red"),
                )
                for f in summary["files"]
            ),
            numbers=("rows", "accepted", "rejected", "duplicate"),
        )
    line(out, "official values   ", (str(summary["official_values"]), "bold green"))
    line(out, "open exceptions   ", (str(summary["open_exceptions"]), "bold yellow"))
    if summary["exception"]:
        item = summary["exception"]
        line(out, f"  for example     {item['reference_data_id']} at {item['snap']}: {item['reason']}")
        line(out, ("                  ", ""), (item["explain"], "cyan"))
    queues = summary["queues"]
    line(out, "in the queues     ", ", ".join(f"{q} {queues[q]}" for q in CONSUMERS))
    if queues.get(OPERATORS):
        line(out, f"alerts            {OPERATORS} {queues[OPERATORS]}", " (`qis issues list`)")
    dead = {q: n for q, n in queues.items() if q not in (*CONSUMERS, OPERATORS) and n}
    if dead:
        line(
            out,
            "dead letters      ",
            ", ".join(f"{q} {n}" for q, n in dead.items()),
            " (`qis redrive QUEUE --dry-run`)",
        )
    out.print()
    line(out, "API               ", (summary["api"], "bold"))
    line(out, "AWS endpoint      ", (summary["aws"], "bold"))
    line(out, "PostgreSQL        ", (f'psql "{summary["postgres"]}"', "bold"))
    if summary["commands"]:
        out.print()
        line(
            out, "try next", "" if shutil.which("qis") else " (`source .venv/bin/activate` makes `qis` known)"
        )
        for text in summary["commands"]:
            line(out, "  ", (text, "cyan"))
    line(
        out, (f"\nready after {summary['seconds_to_ready']} s, all data after {summary['seconds']} s", "dim")
    )


# down and status ---------------------------------------------------------------------------------


def _down(session: Session) -> None:
    """Stop the local twin and wait until all of its processes are gone. The data stays.

    Example: qis down
    """
    from local.state import twin_running

    state = twin_running(session.data_dir)
    if state is None:
        session.emit({"stopped": False}, lambda out: out.print("no local twin is running", markup=False))
        return
    os.kill(state["pid"], signal.SIGTERM)
    left = _processes(state)
    deadline = time.monotonic() + STOP_PATIENCE
    with session.err.status("stopping the local twin …"):
        while left and time.monotonic() < deadline:
            time.sleep(0.05)
            left = [pid for pid in left if _alive(pid)]
    if left:
        raise failure(
            "not-stopped", "The local twin does not stop", f"processes {left} after {STOP_PATIENCE:.0f} s"
        )
    session.emit({"stopped": True, "pid": state["pid"]}, lambda out: out.print("stopped", markup=False))


def _processes(state: Mapping[str, Any]) -> list[int]:
    parts = state["processes"]
    functions = [pid for pids in parts["functions"].values() for pid in pids]
    return [state["pid"], *(pid for name, pid in parts.items() if name != "functions"), *functions]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's process: of PostgreSQL, which does not run as root
        return True
    try:
        # One that has ended and that nobody waits for, as where process 1 of a container does not, is gone.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:  # no /proc here, or ended just now
        return not Path("/proc/self").exists()


def _status(session: Session) -> None:
    """Where the system is and whether it is ready; status 1 where it is not.

    Example: qis status --json
    """
    if session.remote:
        document: dict[str, Any] = {"running": True, "api": session.api.url}
    else:
        from local.state import twin_running

        state = twin_running(session.data_dir)
        if state is None:
            document = {"running": False, "ready": False, "data_dir": str(session.data_dir)}
            session.emit(document, lambda out: out.print(f"not running ({session.data_dir})", markup=False))
            raise typer.Exit(1)
        document = {"running": True, **state, "console": state.get("console")}
    document["ready"] = _ready(document["api"])
    session.emit(document, lambda out: _show_status(out, document))
    if not document["ready"]:
        raise typer.Exit(1)


def _ready(url: str) -> bool:
    try:
        Api(url, None).get("/ready")
    except Failure:
        return False
    return True


def _show_status(out: Console, document: Mapping[str, Any]) -> None:
    from qis.cli.render import fields, line

    line(out, ("ready", "bold green") if document["ready"] else ("running, not ready", "bold yellow"))
    shown = (
        "api",
        "console",
        "aws",
        "region",
        "postgres",
        "valkey",
        "kafka",
        "streams",
        "bus",
        "buckets",
        "queues",
        "data_dir",
    )
    fields(out, {name: document[name] for name in (*shown, "pid") if name in document})
