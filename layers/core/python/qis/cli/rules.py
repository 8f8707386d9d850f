"""Rules in use: ``rules effective | versions | diff | try | apply | learn``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qis.cli.failures import failure
from qis.cli.rest import path
from qis.cli.session import Session, command
from qis.cli.values import AsOf, Series, SnapOption

if TYPE_CHECKING:
    from rich.console import Console

Name = Annotated[str, typer.Argument(metavar="NAME", help="The rule set.")]
First = Annotated[str, typer.Option("--from", metavar="A", help="First snap, inclusive: a date or a time.")]
Until = Annotated[str, typer.Option("--to", metavar="B", help="First snap after the range.")]
Only = Annotated[
    list[str] | None, typer.Option("--series", metavar="ID", help="Only this series; repeat it for more.")
]
SHOWN_CHANGES = 20


def register(group: typer.Typer) -> None:
    """Add the commands to the group of the rules."""
    for name, function in (
        ("effective", _effective),
        ("versions", _versions),
        ("diff", _diff),
        ("try", _try),
        ("apply", _apply),
        ("learn", _learn),
    ):
        command(group, name)(function)


def _effective(session: Session, series: Series, snap: SnapOption, as_of: AsOf = None) -> None:
    """The rules that apply to a series at a snap, and where each field comes from.

    Example: qis rules effective FX.EUR.USD.ECB1415 --snap 2019-12-31
    """
    found = session.api.get(path("/api/v1/data/reference/{}/rules", series), snap=snap, asOf=as_of)

    def human(out: Console) -> None:
        from qis.cli import render

        chain = " → ".join(f"{c['rules']} v{c['version']} ({c['level']})" for c in found["chain"])
        render.line(out, (found["reference_data_id"], "bold"), f" at {found['snap']}: {chain}")
        rows = (
            (f["field"], _text(f["value"]), f["rules"] and f"{f['rules']} v{f['version']}")
            for f in found["fields"]
        )
        render.table(out, ("field", "value", "set by"), rows)

    session.emit(found, human)


def _versions(session: Session, name: Name) -> None:
    """Every version of a rule set: who put it in force, when, and for which snaps.

    Example: qis rules versions ecb-eur-usd
    """
    found = session.api.get(path("/api/v1/rules/{}/versions", name))

    def human(out: Console) -> None:
        from qis.cli import render

        rows = (
            (
                v["version"],
                render.seconds(v["recorded_at"]),
                v["by"],
                v["definition"].get("valid_from"),
                v["definition"].get("valid_to"),
                v["definition"].get("extends"),
            )
            for v in found["items"]
        )
        render.table(out, ("version", "recorded", "by", "valid from", "valid to", "extends"), rows)

    session.emit(found, human)


def _diff(
    session: Session,
    name: Name,
    before: Annotated[int, typer.Option("--from", metavar="V", help="Version before.")],
    after: Annotated[int, typer.Option("--to", metavar="V", help="Version after.")],
) -> None:
    """What two versions of a rule set differ in.

    Example: qis rules diff ecb-eur-usd --from 1 --to 2
    """
    found = session.api.get(path("/api/v1/rules/{}/diff", name), **{"from": before, "to": after})

    def human(out: Console) -> None:
        from qis.cli import render

        for d in found["differences"]:
            old = _text(d["before"]) if d["set_before"] else "left open"
            new = _text(d["after"]) if d["set_after"] else "left open"
            render.line(out, (d["field"], "bold"), f": {old} → {new}")
        if not found["differences"]:
            render.line(out, "no difference")

    session.emit(found, human)


def _try(
    session: Session,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The candidate: a rule set in JSON; - is stdin.")
    ],
    first: First,
    until: Until,
    series: Only = None,
) -> None:
    """What if: decide stored history again under a candidate, beside what is published. Changes nothing.

    Example: qis rules try candidate.json --from 2019-01-01 --to 2020-01-01
    """
    from qis.cli.catalogue import read_definitions

    definitions = read_definitions(file)
    name = definitions[0].get("rules")
    if len(definitions) != 1 or not isinstance(name, str):
        raise failure("invalid-input", "The candidate is not one rule set", f"{file}: one, with its name")
    body = {"definition": definitions[0], "from": first, "to": until, "series": series or []}
    _compared(session, name, body)


def _apply(
    session: Session,
    name: Name,
    first: First,
    until: Until,
    reason: Annotated[str, typer.Option("--reason", metavar="R", help="Why; stored with your name.")],
    series: Only = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what it would do.")] = False,
) -> None:
    """Decide a range anew by the rules in force: a change of rules does not do so by itself.

    What comes out differently is restated with the cause ``rules``. An interrupted run may be repeated.

    Example: qis rules apply ecb-eur-usd --from 2019-01-01 --to 2020-01-01 --reason "wider tolerance"
    """
    if dry_run:
        _compared(session, name, {"from": first, "to": until, "series": series or []})
        return
    where = path("/api/v1/rules/{}/apply", name)
    body: dict[str, Any] = {"from": first, "to": until, "reason": reason, "series": series or []}
    total = dict.fromkeys(("decided", "restated", "published", "held"), 0)
    while True:
        part = session.api.call("POST", where, body)
        total = {k: n + part[k] for k, n in total.items()}
        if part["next"] is None:
            break
        body["after"] = part["next"]
    done = {"rules": name, "series": part["series"], **total}

    def human(out: Console) -> None:
        from qis.cli import render

        told = ", ".join(f"{n} {k}" for k, n in total.items())
        render.line(out, ("rules ", ""), (name, "bold"), f" applied to {done['series']} series: {told}")

    session.emit(done, human)


def _learn(
    session: Session,
    name: Name,
    first: First,
    until: Until,
    series: Only = None,
    basis: Annotated[
        str | None, typer.Option("--basis", metavar="P", help="Learn from the log up to this position.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the candidate, where there is one.")
    ] = None,
) -> None:
    """Learn what the sources are worth from stored history, beside what is in force. Changes nothing.

    A snap is decided on what was learned before it. Where the weights have changed enough, there is a
    candidate, in force from the end of the range: try it, and put it in force with ``rules change``.

    Example: qis rules learn us-prices --from 2019-01-01 --to 2020-01-01 --out candidate.json
    """
    import json

    body: dict[str, Any] = {"from": first, "to": until, "series": series or []}
    if basis is not None:
        body["basis"] = basis
    while True:
        part = session.api.call("POST", path("/api/v1/rules/{}/learn", name), body)
        if part["resume"] is None:
            break
        body["resume"] = part["resume"]
    found = {k: v for k, v in part.items() if k != "resume"}
    if out is not None and found["candidate"] is not None:
        out.write_text(json.dumps(found["candidate"], indent=2) + "\n", encoding="utf-8")

    def human(console: Console) -> None:
        from qis.cli import render

        told = found["revision"]
        counted = f"{told['items']} values of {found['series']} series up to {found['basis']} under "
        render.line(console, counted, (name, "bold"), f": {told['reason']}")
        rows = (
            (
                s["source"],
                *("" if s[when] is None else s[when]["vote"] for when in ("before", "after")),
                f"{s['right']} of {s['judged']}",
                "moved" if s["moved"] else "",
            )
            for s in told["sources"]
        )
        render.table(console, ("source", "vote before", "after", "right", ""), rows, numbers=("after",))
        for group in told["copies"]["after"]:
            render.line(console, f"copies: {', '.join(group)}")
        if out is not None and found["candidate"] is not None:
            render.line(console, "candidate: ", (str(out), "bold"))

    session.emit(found, human)


def _compared(session: Session, name: str, body: dict[str, Any]) -> None:
    """Ask for the whole range, a part at a time; of the changes the first are kept for people."""
    where = path("/api/v1/rules/{}/what-if", name)
    changes: list[dict[str, Any]] = []
    while True:
        part = session.api.call("POST", where, body)
        # People are shown the first ones: a long range does not have to fit into memory for that.
        changes += part["changes"] if session.as_json else part["changes"][: SHOWN_CHANGES - len(changes)]
        if part["resume"] is None:
            break
        body["resume"] = part["resume"]
    found = {"rules": name, "series": part["series"], "report": part["report"], "changes": changes}
    session.emit(found, lambda out: _report(out, found))


def _report(out: Console, found: dict[str, Any]) -> None:
    from qis.cli import render

    report = found["report"]
    head = f"{report['values']} values of {found['series']} series under "
    render.line(out, head, (found["rules"], "bold"), ", beside what is published:")
    render.table(
        out, ("outcome", "values"), ((k, n) for k, n in report["counts"].items()), numbers=("values",)
    )
    coverage, moved = report["coverage"], report["bp"]
    render.line(out, f"coverage {coverage['published']} → {coverage['candidate']}")
    if moved["median"] is not None:
        render.line(
            out,
            f"changes in bp: median {moved['median']}, size median {moved['median_size']},"
            f" p99 {moved['p99_size']}, largest {moved['largest']}",
        )
    shown = found["changes"]
    if shown:
        rows = (
            (c["reference_data_id"], c["snap"], c["change"], c["published"], c["candidate"], c["bp"])
            for c in shown
        )
        render.table(
            out, ("id", "snap", "change", "published", "candidate", "bp"), rows, "published candidate bp"
        )
    more = sum(report["counts"][c] for c in ("changed", "newly-held", "newly-published")) - len(shown)
    if more > 0:
        render.line(out, (f"and {more} more; --json lists all", "dim"))


def _text(value: object) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value)
