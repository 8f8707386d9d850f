"""The commands, put together."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import typer

from qis.cli import (
    catalogue,
    corrections,
    detection,
    fusing,
    issues,
    loading,
    operations,
    recovery,
    scores,
    twin,
    values,
    watching,
)
from qis.cli.cost import command as costs
from qis.cli.failures import PREFIX

HELP = (
    "Official market and reference data: many claims in, one official value out, and why."
    "\n\nCommands talk to the local twin that runs here (start it with `qis up`), or to the system that"
    " QIS_URL and QIS_TOKEN name. Every command takes --json. Exit status: 0 success, 1 a failed check or a"
    " refused request, 2 bad usage."
)

app = typer.Typer(
    name="qis",
    help=HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
PARTS = (
    twin,
    loading,
    detection,
    fusing,
    values,
    watching,
    scores,
    corrections,
    issues,
    catalogue,
    operations,
    recovery,
    costs,
)
for part in PARTS:
    part.register(app)


def run(arguments: Sequence[str] | None = None) -> int:
    """The exit status of a command line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(given, prog_name="qis")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if status == 2 and "--json" in given:
            problem = {"type": f"{PREFIX}usage", "title": "Bad usage", "detail": _said(end)}
            print(json.dumps(problem, indent=2, ensure_ascii=False))
        return status
    return 0


def _said(end: SystemExit) -> str:
    """What was wrong with a command line, as stderr has it: the refusal that led to the end."""
    told = getattr(end.__context__, "format_message", None)
    return told() if told else "see stderr"
