"""What people read: tables, stories and problems. Text from outside is never read as markup."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from qis.cli.failures import Failure

Row = Mapping[str, Any]
OUTCOME_STYLE = {"used": "green", "waiting": "yellow"}


def line(out: Console, *parts: str | tuple[str, str] | Text) -> None:
    """One line of parts, each text or ``(text, style)``."""
    out.print(Text.assemble(*parts), soft_wrap=True)


_COPIED = ("id", "item", "snap", "record", "group", "recorded", "known since", "received", "outcome")
"""Columns of what people copy: never broken over lines."""
_WORD = 16
"""Characters of a longer word may be broken over lines."""
_GAP = 2
"""Characters between two columns."""
_EDGES = 2
"""Characters before the first and after the last."""


def table(
    out: Console, columns: Sequence[str], rows: Iterable[Sequence[object]], numbers: Sequence[str] = ()
) -> None:
    """A table; columns named in ``numbers`` are set to the right.

    Numbers, what people copy and single words stay in one piece. Where the terminal has no room for that,
    each row is a block of lines, one for each of its cells.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    whole = {*_COPIED, *numbers}
    texts = [[Text(name), *(row[i] for row in cells)] for i, name in enumerate(columns)]
    least = [
        max(_least(text, name in whole) for text in column)
        for name, column in zip(columns, texts, strict=True)
    ]
    spare = out.width - _EDGES - _GAP * (len(columns) - 1) - sum(least)
    if spare < 0:
        _blocks(out, columns, cells)
        return
    most = [max(text.cell_len for text in column) for column in texts]
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, header_style="bold")
    for name, width in zip(columns, _widths(least, most, spare), strict=True):
        side: JustifyMethod = "right" if name in numbers else "left"
        shown.add_column(name, justify=side, overflow="fold", width=width)
    for row in cells:
        shown.add_row(*row)
    out.print(shown)


def _widths(least: Sequence[int], most: Sequence[int], spare: int) -> list[int]:
    """What each column needs at least, and of what there is to spare as much as the others that want more."""
    widths = list(least)
    while spare > 0 and (wanting := [i for i, width in enumerate(widths) if width < most[i]]):
        for i in wanting[:spare]:
            widths[i] += 1
        spare -= len(wanting)
    return widths


def _least(text: Text, whole: bool) -> int:
    """Characters that a cell needs at least."""
    if whole:
        return text.cell_len
    return max((min(len(word), _WORD) for word in text.plain.split()), default=0)


def _blocks(out: Console, columns: Sequence[str], rows: Iterable[Sequence[Text]]) -> None:
    longest = max(map(len, columns))
    for row in rows:
        out.print()
        for name, text in zip(columns, row, strict=True):
            line(out, (f"{name:>{longest}}  ", "bold"), text)


def _cell(value: object) -> Text:
    if isinstance(value, Text):
        return value
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    return Text("-" if value is None else str(value))


def problem(err: Console, error: Failure) -> None:
    """A problem document on stderr: what, which field, which value, which rule, what to do."""
    document = error.problem
    status = f" ({document['status']})" if "status" in document else ""
    line(err, ("✗ ", "bold red"), (f"{document.get('title', 'Refused')}{status}", "bold"))
    violations = document.get("violations") or []
    for v in violations:
        value = f" {v['value']!r}" if v["value"] else ""
        line(err, "  ", (v["field"], "bold"), value, f" {v['message']} ", (f"[{v['rule']}]", "dim"))
    if not violations and document.get("detail"):
        line(err, "  ", str(document["detail"]))
    if document.get("reason"):
        line(err, "  reason: ", (str(document["reason"]), "bold"))
    if document.get("item"):
        line(err, "  held as exception ", (str(document["item"]), "bold"), ": see `qis exceptions`")
    if document.get("correlation_id"):
        line(err, ("  correlation id ", "dim"), (str(document["correlation_id"]), "dim"))
    if error.hint:
        line(err, ("  → ", "cyan"), error.hint)


def unit_of(value: Row) -> str:
    """``USD per EUR``, ``USD``, ``percent`` or nothing."""
    currency, base = value.get("currency"), value.get("base_currency")
    if currency and base:
        return f"{currency} per {base}"
    return str(currency or value.get("unit") or "")


def official(out: Console, value: Row) -> None:
    """One official value."""
    line(out, (value["reference_data_id"], "bold"), f" at {value['snap']}")
    line(
        out,
        "  ",
        (in_short(value["value"]), "bold green"),
        f" {unit_of(value)}",
        (f"   version {value['version']}, official since {value['recorded_from']}", "dim"),
    )
    if not isinstance(value["value"], str):
        out.print(Text(json.dumps(value["value"], indent=2, ensure_ascii=False)))
    by = f"by {value['method']} from {', '.join(value['sources']) or 'a person'}"
    sure = "" if value["confidence"] is None else f", confidence {value['confidence']}"
    line(out, f"  {by}{sure}", (f"   rules {value['rules']} v{value['rules_version']}", "dim"))
    scores(out, value["quality"])
    if value["restatement"]:
        cause = value["restatement"]
        before = cause["before"]
        line(
            out,
            ("  restated ", "yellow"),
            f"from {before['value']} (version {before['official_version']}) by {cause['restated_by']}: ",
            f"{cause['reason']} [{cause['cause']}]",
        )


def scores(out: Console, found: Row) -> None:
    """The four scores and their mean, on one line."""
    told = "  ".join(f"{name} {'-' if score is None else score}" for name, score in found.items())
    line(out, "  quality: ", told)


def history(out: Console, series: str, values: Sequence[Row]) -> None:
    """A range of official values of a series."""
    line(out, (series, "bold"), *(f"  {unit}" for unit in sorted({unit_of(v) for v in values})))
    table(
        out,
        ("snap", "value", "version", "sources", "quality", "known since"),
        (
            (
                v["snap"],
                in_short(v["value"]),
                v["version"],
                len(v["sources"]),
                v["quality"]["composite"],
                seconds(v["recorded_from"]),
            )
            for v in values
        ),
        numbers=("value", "version", "sources", "quality"),
    )


def story(out: Console, told: Row) -> None:
    """Why a value is what it is."""
    official_now = told["status"] == "official"
    style = "bold green" if official_now else "bold yellow"
    line(out, (told["reference_data_id"], "bold"), f" at {told['snap']}")
    line(
        out,
        "  ",
        ("no official value" if told["value"] is None else in_short(told["value"]), style),
        "" if official_now else f"  {told['status']}",
    )
    out.print()
    out.print(Text(told["explanation"]))
    if told["claims"]:
        _heading(out, "What the sources said")
        table(
            out,
            ("source", "value", "received", "outcome", "why"),
            (
                (
                    c["source"],
                    in_short(c["value"]),
                    seconds(c["received_at"] or c["recorded_at"]),
                    Text(c["outcome"], OUTCOME_STYLE.get(c["outcome"], "red")),
                    c["detail"],
                )
                for c in told["claims"]
            ),
            numbers=("value",),
        )
    if told["decision"]:
        _decision(out, told["decision"])
    if told["versions"]:
        _heading(out, "What was official")
        table(
            out,
            ("version", "value", "known since", "cause", "by", "reason"),
            (
                (
                    v["version"],
                    in_short(v["value"]),
                    seconds(v["recorded_from"]),
                    v["cause"] or "first",
                    v["by"],
                    v["reason"],
                )
                for v in told["versions"]
            ),
            numbers=("version", "value"),
        )
    if told["exceptions"]:
        _heading(out, "Exceptions")
        for e in told["exceptions"]:
            by = f" by {e['closed_by']}" if e["closed_by"] else ""
            _exception(out, e, f"  {e['status']}{by}")


def _decision(out: Console, decision: Row) -> None:
    _heading(out, "How it was decided")
    sure = "" if decision["confidence"] is None else f", confidence {decision['confidence']}"
    line(out, f"{decision['status']} by {decision['method']}{sure}: {decision['reason']}")
    line(
        out,
        (f"rules {decision['rules']} version {decision['rules_version']}, {decision['decided_at']}", "dim"),
    )
    if decision.get("fields"):
        _fields_of_record(out, decision["fields"])
    if decision["checks"]:
        table(
            out,
            ("check", "result", "measured", "threshold", "detail"),
            (
                (
                    c["check"],
                    Text("passed", "green") if c["passed"] else Text("failed", "red"),
                    c["measured"],
                    c["threshold"],
                    c["detail"],
                )
                for c in decision["checks"]
            ),
            numbers=("measured", "threshold"),
        )


def in_short(value: Any) -> Any:
    """A value as one reads it in a line: of a record how much it holds, which its document says in full."""
    if not isinstance(value, Mapping):
        return value
    listed = [f"{len(v)} {k}" for k, v in value.items() if isinstance(v, list)]
    return ", ".join(listed) or str(value.get("event_id") or f"{len(value)} fields")


def _fields_of_record(out: Console, fields: Row) -> None:
    """Which sources gave which field of a record, where not all gave it alike."""
    line(out, f"{fields['unanimous']} of {fields['count']} fields are unanimous")
    if fields["told"]:
        table(
            out,
            ("field", "value", "from", "others", "why"),
            (
                (
                    f["field"],
                    f["value"],
                    ", ".join(f["sources"]),
                    ", ".join(f"{source} {said}" for source, said in f["others"].items()),
                    f["reason"],
                )
                for f in fields["told"]
            ),
            numbers=("value",),
        )
    if fields["untold"]:
        line(out, f"and {fields['untold']} more")


def seconds(moment: str | None) -> str | None:
    """A moment cut to seconds, for tables; the exact one is in the JSON document."""
    return None if moment is None else moment.partition(".")[0].rstrip("Z") + "Z"


def _heading(out: Console, text: str) -> None:
    out.print()
    out.print(Text(text, "bold underline"))


def exceptions(out: Console, items: Sequence[Row]) -> None:
    """The four-eyes queue, two lines each, so that identifiers stay in one piece on a narrow terminal."""
    for e in items:
        _exception(out, e, f"  {e['reference_data_id']} at {e['snap']}")


def _exception(out: Console, e: Row, which: str) -> None:
    proposed = "" if e["proposed"] is None else f"  proposes {in_short(e['proposed'])}"
    line(out, (e["item"], "bold"), (f"  {e['kind']}", "yellow"), which, proposed)
    line(out, f"    {e['reason']}", (f"  opened {seconds(e['opened_at'])}", "dim"))


def fields(out: Console, document: Row, indent: str = "  ") -> None:
    """A document as indented lines."""
    for name, value in document.items():
        if isinstance(value, Mapping):
            line(out, f"{indent}{name}:")
            fields(out, value, indent + "  ")
        elif isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
            for number, part in enumerate(value, start=1):
                fields(out, {f"{name} {number}": part}, indent)
        else:
            shown = _cell(", ".join(map(str, value)) if isinstance(value, list) else value)
            shown.stylize("bold")
            line(out, f"{indent}{name}: ", shown)
