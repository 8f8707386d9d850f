"""Reconciliation of a claims file, without a server: ``fuse``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qis.cli.failures import cause, failure
from qis.cli.options import MappingFile
from qis.cli.session import Session, command
from qis.cli.tables import check_form, write_table

if TYPE_CHECKING:
    from rich.console import Console

    from qis.application.fusing import Plan
    from qis.domain.fusion.memory import Memory

PANEL = "Claims in"


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "fuse", rich_help_panel=PANEL)(_fuse)


def _fuse(
    session: Session,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="CLAIMS",
            exists=True,
            dir_okay=False,
            readable=True,
            help="Claims as .csv, .jsonl (both also .gz) or .parquet, in any order.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Decisions, as .csv or .parquet.")],
    method: Annotated[
        str | None, typer.Option("--method", metavar="M", help="Method, in place of that of the rules.")
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option("--rules", metavar="R", exists=True, dir_okay=False, help="A rule document as JSON."),
    ] = None,
    train_until: Annotated[
        str | None,
        typer.Option("--train-until", metavar="SNAP", help="Learn from snaps up to this one only."),
    ] = None,
    learned: Annotated[
        Path | None,
        typer.Option(
            "--learned", metavar="FILE", help="Write what was learned, as methods of rule documents."
        ),
    ] = None,
    mapping: MappingFile = None,
    proposals: Annotated[
        Path | None,
        typer.Option(
            "--proposals", metavar="FILE", help="Write what sources seem to mean otherwise, as JSON."
        ),
    ] = None,
) -> None:
    """Reconcile a claims file: for every series and snap one value, how sure it is, and who said so.

    Causal: a snap is decided on what was learned from the snaps before it. A value that is not sure enough is
    suspect, and only proposed. A series that is claimed in two currencies or units is decided in each.

    Rows that cannot be used are listed in OUT.errors.csv, and end it with status 1; the others are decided.

    Example: qis fuse claims.csv.gz --out official.csv --train-until 2011-07-14
    """
    from qis.application.fusing_columns import fuse_columns
    from qis.cli.claims_file import ClaimsFile
    from qis.cli.fusing_file import read_claims, told
    from qis.cli.mapping import read_mapping
    from qis.cli.refusals import Refusals
    from qis.domain.fusion.semantics import Semantics

    check_form(out)
    plan = _plan(rules, method, train_until)
    claims = read_claims(ClaimsFile(file, read_mapping(mapping), "fuse"), plan)
    semantics = None if proposals is None else Semantics()
    verdicts = fuse_columns(claims.said, plan, semantics)
    write_table(out, told(claims, verdicts, plan))
    official = sum(verdicts.official)
    counts = {"official": official, "suspect": len(verdicts.official) - official}
    if proposals is not None and semantics is not None:
        found = [p.as_json() for p in semantics.proposals(verdicts.memory().copies())]
        proposals.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if learned is not None:
        _write_learned(learned, plan, verdicts.memory())
    with Refusals.of(out) as refusals:
        for number, violation in claims.refused:
            refusals.add(number, violation)
        report = refusals.write()
        document = {
            "rows": claims.rows,
            "unreadable": len(claims.refused),
            **counts,
            "method": plan.method,
            "out": str(out),
            "errors": None if report is None else str(report),
            "reasons": [reason.as_json() for reason in refusals.top],
            "mixed": claims.mixed,
        }
    for name, declared in claims.mixed.items():
        session.note(f"! {name} is claimed in {' and '.join(declared)}: each is decided by itself")
    for number, violation in refusals.first:
        session.note(f"! row {number} cannot be used: {violation.text}")

    def human(console: Console) -> None:
        from qis.cli import render

        told = f": {counts['official']} official and {counts['suspect']} suspect values of {claims.rows} rows"
        render.line(console, (str(out), "bold"), told)
        refusals.show(console)

    session.emit(document, human)
    if claims.refused:
        raise typer.Exit(1)


def _plan(rules: Path | None, method: str | None, train_until: str | None) -> Plan:
    from qis.application.fusing import parse_plan
    from qis.cli.claims_file import instant

    try:
        body = None if rules is None else json.loads(rules.read_text(encoding="utf-8"), parse_float=str)
    except (OSError, ValueError) as error:
        raise failure("invalid-input", "The rules cannot be read", f"{rules}: {cause(error)}") from error
    return parse_plan(body, method, None if train_until is None else instant(train_until))


def _write_learned(file: Path, plan: Plan, memory: Memory) -> None:
    """The ``method`` of a rule document with its weights, for each kind of series."""
    from qis.domain.fusion.learned import learned_from

    methods = {
        kind: {"name": way.method, **learned_from(memory, kind, way.settings.publish_at).as_json()}
        for kind, way in ((k, plan.of(k)) for k in sorted(memory.kinds))
    }
    file.write_text(json.dumps(methods, indent=2) + "\n", encoding="utf-8")
