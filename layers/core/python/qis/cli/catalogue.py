"""The catalogue: ``series``, ``sources`` and ``rules``, each listed, shown, added and changed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

import typer

from qis.cli import rules, scores
from qis.cli.failures import Failure, cause, failure
from qis.cli.rest import path
from qis.cli.session import Session, command

if TYPE_CHECKING:
    from rich.console import Console

Document = dict[str, Any]
Assignment = tuple[list[str], Any]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Its identifier.")]
FileOption = Annotated[
    Path | None,
    typer.Option("--file", metavar="FILE", help="A JSON file with one definition or a list; - is stdin."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="FIELD=VALUE", help="One field; repeat it. Dots go inside: semantics.currency=USD."
    ),
]


@dataclass(frozen=True, slots=True)
class Kind:
    """One part of the catalogue."""

    route: str
    key: str
    """Field of the definition that names it."""
    one: str
    shown: tuple[str, ...]
    """Fields of the definition in a listing."""


SERIES = Kind("series", "reference_data_id", "series", ("name", "kind", "rules"))
SOURCES = Kind("sources", "source", "source", ("name", "kind", "active", "licence"))
CHECKS = Kind("checks", "check", "business rule", ("severity", "expression", "series", "active"))
RULES = Kind("rules", "rules", "rule set", ("method", "precedence", "tolerance", "min_sources", "fallback"))


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for kind, about in (
        (SERIES, "Registered series: what a number under an identifier means."),
        (SOURCES, "Registered sources of claims; each can be paused and resumed."),
        (CHECKS, "Business rules: checks on official values, tried on history before they are in force."),
        (RULES, "Rule sets that reconcile: versioned data, in force without a deploy."),
    ):
        group = typer.Typer(name=kind.route, help=about, no_args_is_help=True)
        app.add_typer(group, rich_help_panel="Catalogue")
        command(group, "list", help=f"List every {kind.one}.")(_lister(kind))
        command(group, "show", help=f"Show one {kind.one} in its newest version.")(_shower(kind))
        command(
            group,
            "add",
            help=f"Register a new {kind.one}, from a file or field by field."
            f"\n\nExample: qis {kind.route} add --file new.json",
        )(_adder(kind))
        command(
            group,
            "change",
            help=f"Change fields of a {kind.one}; every version stays in the log."
            f"\n\nExample: {EXAMPLES[kind.route]}",
        )(_changer(kind))
        if kind is RULES:
            rules.register(group)
        if kind is CHECKS:
            command(group, "try")(_try)
        if kind is SOURCES:
            command(group, "pause", help="Refuse further claims of a source.")(_switcher(active=False))
            command(group, "scorecard")(scores.scorecard)
            command(group, "resume", help="Take claims of a paused source again.")(_switcher(active=True))


EXAMPLES = {
    "series": "qis series change FX.EUR.USD.ECB1415 --set rules=ecb-eur-usd",
    "sources": "qis sources change ecb --set licence='free, source named'",
    "checks": "qis checks change no-large-move --set active=true",
    "rules": "qis rules change ecb-eur-usd --set tolerance=0.001",
}


def _try(
    session: Session,
    file: FileOption = None,
    fields: SetOption = None,
    window: Annotated[
        str, typer.Option("--window", metavar="DURATION", help="How far back the values go.")
    ] = "P365D",
) -> None:
    """What a business rule would have found in history; nothing is changed.

    Example: qis checks try --file new.json --window P365D
    """
    if (file is None) == (not fields):
        raise typer.BadParameter("give --file, or --set for each field", param_hint="--file")
    assignments = _assignments(fields)
    (candidate, *more) = read_definitions(file) if file is not None else [_with({}, assignments)]
    if more:
        raise failure("invalid-input", "One rule at a time", f"the file has {1 + len(more)}")
    told = session.api.call("POST", f"/api/v1/trials?{urlencode({'timeWindow': window})}", candidate)

    def human(out: Console) -> None:
        from qis.cli.render import line

        line(
            out, f"{told['values']} values of {told['series']} series: ", (f"{told['broken']} broken", "bold")
        )
        line(out, f"  {told['kept']} kept, {told['unknown']} cannot be told")
        for row in told["items"]:
            measured = ", ".join(f"{k} {v}" for k, v in row["measured"].items() if v is not None)
            line(out, f"  {row['reference_data_id']} at {row['snap']}  {measured}")

    session.emit(told, human)


def _lister(kind: Kind) -> Callable[..., None]:
    def run(session: Session) -> None:
        items = session.api.items(f"/api/v1/{kind.route}")

        def human(out: Console) -> None:
            from qis.cli import render

            rows = (
                (e["name"], *(_plain(e["definition"].get(f)) for f in kind.shown), e["version"])
                for e in items
            )
            heads = tuple("title" if f == "name" else f.replace("_", " ") for f in kind.shown)
            render.table(out, ("id", *heads, "version"), rows, numbers=("version", "tolerance"))

        session.emit({"items": items}, human)

    return run


def _plain(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _shower(kind: Kind) -> Callable[..., None]:
    def run(session: Session, name: Name) -> None:
        entry = session.api.get(_where(kind, name))

        def human(out: Console) -> None:
            from qis.cli import render

            head = f" version {entry['version']}, changed {entry['changed_at']}"
            render.line(out, (entry["name"], "bold"), (head, "dim"))
            render.fields(out, entry["definition"])

        session.emit(entry, human)

    return run


def _adder(kind: Kind) -> Callable[..., None]:
    def run(session: Session, file: FileOption = None, fields: SetOption = None) -> None:
        if (file is None) == (not fields):
            raise typer.BadParameter("give --file, or --set for each field", param_hint="--file")
        assignments = _assignments(fields)
        definitions = read_definitions(file) if file is not None else [_with({}, assignments)]
        for definition in definitions:
            if not isinstance(definition.get(kind.key), str):
                raise failure(
                    "invalid-input", "The definition has no name", f"the field {kind.key} is required"
                )
        for definition in definitions:
            if _exists(session, kind, definition[kind.key]):
                name = definition[kind.key]
                hint = f"qis {kind.route} change {name} --set FIELD=VALUE"
                raise failure("conflict", "It is registered already", f"{kind.one} {name} exists", hint)
        _done(session, [_put(session, kind, definition) for definition in definitions], "registered", kind)

    return run


def _changer(kind: Kind) -> Callable[..., None]:
    def run(session: Session, name: Name, fields: SetOption = None, file: FileOption = None) -> None:
        if (file is None) == (not fields):
            raise typer.BadParameter("give --set for each field, or --file", param_hint="--set")
        assignments = _assignments(fields)
        if file is not None:
            definitions = read_definitions(file)
            if len(definitions) != 1:
                raise typer.BadParameter("holds more than one definition", param_hint="--file")
            changed = {**definitions[0], kind.key: name}
            session.api.get(_where(kind, name))
        else:
            changed = _with(_current(session, kind, name), assignments)
        _done(session, [_put(session, kind, changed)], "changed", kind)

    return run


def _switcher(*, active: bool) -> Callable[..., None]:
    def run(session: Session, name: Name) -> None:
        changed = {**_current(session, SOURCES, name), "active": active}
        _done(session, [_put(session, SOURCES, changed)], "resumed" if active else "paused", SOURCES)

    return run


def _where(kind: Kind, name: str) -> str:
    return path(f"/api/v1/{kind.route}/{{}}", name)


def _current(session: Session, kind: Kind, name: str) -> Document:
    definition: Document = session.api.get(_where(kind, name))["definition"]
    return definition


def _exists(session: Session, kind: Kind, name: str) -> bool:
    try:
        session.api.get(_where(kind, name))
    except Failure as error:
        if error.problem.get("status") == 404:
            return False
        raise
    return True


def _put(session: Session, kind: Kind, definition: Document) -> Document:
    # A stored rule set carries the version that the log gave it; a definition does not.
    body = {k: v for k, v in definition.items() if k != "version"}
    answer: Document = session.api.call("PUT", _where(kind, str(body[kind.key])), body)
    return answer


def _done(session: Session, definitions: list[Document], verb: str, kind: Kind) -> None:
    def human(out: Console) -> None:
        from qis.cli import render

        for definition in definitions:
            render.line(out, f"{kind.one} ", (str(definition.get(kind.key)), "bold"), f" {verb}")

    session.emit(definitions[0] if len(definitions) == 1 else {"items": definitions}, human)


def read_definitions(file: Path) -> list[Document]:
    """The definitions in a JSON file: one, or a list. Decimals stay text.

    Raises:
        Failure: it cannot be read or holds none.
    """
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        found = json.loads(text, parse_float=str)
    except (OSError, ValueError) as error:
        raise failure("invalid-input", "The file cannot be read", f"{file}: {cause(error)}") from error
    definitions = found if isinstance(found, list) else [found]
    if not definitions or not all(isinstance(d, dict) for d in definitions):
        raise failure(
            "invalid-input", "The file holds no definition", f"{file}: not a JSON object, nor a list of them"
        )
    return definitions


def _with(definition: Mapping[str, Any], fields: Sequence[Assignment]) -> Document:
    """``definition`` with fields replaced."""
    changed: Document = json.loads(json.dumps(definition))
    for names, value in fields:
        *outer, last = names
        place = changed
        for part in outer:
            inner = place.setdefault(part, {})
            if not isinstance(inner, dict):
                raise typer.BadParameter(f"{part} is not an object", param_hint="--set")
            place = inner
        place[last] = value
    return changed


def _assignments(given: Sequence[str] | None) -> list[Assignment]:
    """``FIELD=VALUE`` as names and value. A value is JSON, or text where it is not; decimals stay text."""
    found = []
    for text in given or ():
        name, separator, value = text.partition("=")
        if not separator or not all(name.split(".")):
            raise typer.BadParameter(f"{text!r} is not FIELD=VALUE", param_hint="--set")
        found.append((name.split("."), _value(value)))
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_float=str)
    except ValueError:
        return text
