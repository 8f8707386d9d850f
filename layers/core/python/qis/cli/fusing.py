"""Reconciliation of a claims file, without a server: ``fuse``."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qis.cli.failures import failure
from qis.cli.session import Session, command
from qis.domain.errors import refuse

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console

    from qis.application.fusing import Plan
    from qis.domain.fusion.items import Claimed, Item, Verdict
    from qis.domain.fusion.memory import Memory

PANEL = "Claims in"
COLUMNS = (
    "snap",
    "reference_data_id",
    "value",
    "status",
    "confidence",
    "method",
    "sources_used",
    "sources_rejected",
    "attribute",
)
NEEDED = ("snap", "reference_data_id", "source", "value")
TAKEN = (*NEEDED, "volume", "received_at", "attribute")
EXAMPLES = 5
BETWEEN = "|"
"""Between the sources of a cell; a rejected one is followed by a colon and the reason."""


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
    proposals: Annotated[
        Path | None,
        typer.Option(
            "--proposals", metavar="FILE", help="Write what sources seem to mean otherwise, as JSON."
        ),
    ] = None,
) -> None:
    """Reconcile a claims file: for every series and snap one value, how sure it is, and who said so.

    Causal: a snap is decided on what was learned from the snaps before it. A value that is not sure enough is
    suspect, and only proposed.

    Example: qis fuse claims.csv.gz --out official.csv --train-until 2011-07-14
    """
    from qis.application.fusing import fuse
    from qis.domain.fusion.memory import Memory
    from qis.domain.fusion.semantics import Semantics

    if out.suffix.lower() not in (".csv", ".parquet"):
        raise failure("unknown-format", "The name says no known format", f"{out.name}: .csv or .parquet")
    plan = _plan(rules, method, train_until)
    claims = Claims(file)
    memory = Memory()
    semantics = None if proposals is None else Semantics()
    counts = {"official": 0, "suspect": 0}
    with _Output(out) as output:
        for decided in fuse(claims.snaps(plan), plan, memory, semantics):
            for item, verdict in decided:
                counts["official" if verdict.official else "suspect"] += 1
                output.add(claims.row(item, verdict))
    if proposals is not None and semantics is not None:
        found = [p.as_json() for p in semantics.proposals(memory.copies())]
        proposals.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if learned is not None:
        _write_learned(learned, plan, memory)
    document = {
        "rows": claims.rows,
        "unreadable": claims.unreadable,
        **counts,
        "method": plan.method,
        "out": str(out),
    }
    for number, why in claims.examples:
        session.note(f"! row {number} cannot be used: {why}")

    def human(console: Console) -> None:
        from qis.cli import render

        told = f": {counts['official']} official and {counts['suspect']} suspect values of {claims.rows} rows"
        render.line(console, (str(out), "bold"), told)

    session.emit(document, human)


def _plan(rules: Path | None, method: str | None, train_until: str | None) -> Plan:
    from qis.application.fusing import parse_plan

    try:
        body = None if rules is None else json.loads(rules.read_text(encoding="utf-8"), parse_float=str)
    except (OSError, ValueError) as error:
        raise failure("invalid-input", "The rules cannot be read", f"{rules}: {error}") from error
    return parse_plan(body, method, None if train_until is None else instant(train_until))


def _write_learned(file: Path, plan: Plan, memory: Memory) -> None:
    """The ``method`` of a rule document with its weights, for each kind of series."""
    from qis.domain.fusion.learned import learned_from

    methods = {
        kind: {"name": way.method, **learned_from(memory, kind, way.settings.publish_at).as_json()}
        for kind, way in ((k, plan.of(k)) for k in sorted(memory.kinds))
    }
    file.write_text(json.dumps(methods, indent=2) + "\n", encoding="utf-8")


def instant(text: str) -> int:
    """Nanoseconds of a snap; a date is its first moment in UTC."""
    from qis.domain.snap import parse_instant

    return parse_instant(f"{text}T00:00:00Z" if len(text) == 10 else text, "snap").ns


class Claims:
    """A claims file, read whole and put in order by column: a million rows take some 300 MB."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.rows = 0
        self.unreadable = 0
        self.examples: list[tuple[int, str]] = []
        self._said: dict[str, tuple[str, str]] = {}
        """Identifier and attribute of each series, as it is learned."""
        self._snap = ""

    def snaps(self, plan: Plan) -> Iterator[tuple[int, list[Item]]]:
        """The items of each snap, in order of time.

        Raises:
            InvalidInput: the plan is for an attribute that the file lacks, or a snap is none.
        """
        from qis.application.fusing import kinds_of
        from qis.domain.fusion.items import Item

        table = self._read()
        self.rows = table.num_rows
        snaps, table = _by_time(table)
        identifiers = table["reference_data_id"].unique().to_pylist()
        kinds = kinds_of([i for i in identifiers if i])
        plan.check_attributes({*table["attribute"].unique().to_pylist(), *kinds.values()} - {None, ""})
        rows = zip(*(table[name].to_pylist() for name in ("rank", "number", *TAKEN[1:])), strict=True)
        for rank, of_snap in groupby(rows, key=itemgetter(0)):
            at, self._snap = snaps[rank]
            items = []
            for (identifier, attribute), said in groupby(of_snap, key=itemgetter(2, 7)):
                claims = self._last_of_each(said)
                if claims:
                    series = f"{identifier}\n{attribute}" if attribute else identifier
                    self._said[series] = identifier, attribute or ""
                    items.append(Item(series, attribute or kinds[identifier], claims))
            yield at, items

    def _last_of_each(self, said: Iterable[Sequence[Any]]) -> list[Claimed]:
        """One claim a source: that received last, of equals the greatest value, whatever the file's order."""
        from qis.domain.errors import InvalidInput
        from qis.domain.fusion.items import Claimed
        from qis.domain.numbers import parse_decimal

        last: dict[str, tuple[int, Claimed]] = {}
        for _, number, identifier, source, value, volume, received, _ in said:
            try:
                if not identifier or not source:
                    raise refuse(
                        "source" if identifier else "reference_data_id", "", "required", "is required"
                    )
                claim = Claimed(
                    source,
                    parse_decimal(value, "value"),
                    parse_decimal(volume, "volume") if volume else None,
                )
                if claim.volume is not None and claim.volume < 0:
                    raise refuse("volume", volume, "not-negative", "is negative")
                order = instant(received) if received else 0
            except InvalidInput as refusal:
                self.unreadable += 1
                if len(self.examples) < EXAMPLES:
                    self.examples.append((number, str(refusal)))
                continue
            if source not in last or (order, claim.value) > (last[source][0], last[source][1].value):
                last[source] = order, claim
        return [claim for _, claim in last.values()]

    def _read(self) -> pa.Table:
        """The columns that count, as text, with the number of each row."""
        import pyarrow as pa

        table = self._csv() if self._is_csv() else self._other()
        missing = [n for n in NEEDED if n not in table.column_names]
        if missing:
            raise failure("invalid-input", "The file lacks columns", f"{self._file}: {', '.join(missing)}")
        empty = pa.nulls(table.num_rows, pa.string())
        columns = [table[n] if n in table.column_names else empty for n in TAKEN]
        numbers = pa.array(range(1, table.num_rows + 1), pa.int64())
        return pa.table([*columns, numbers], [*TAKEN, "number"])

    def _is_csv(self) -> bool:
        return self._file.name.lower().removesuffix(".gz").endswith(".csv")

    def _csv(self) -> pa.Table:
        import pyarrow as pa
        from pyarrow import csv as pacsv

        def skip(row: Any) -> str:
            self.unreadable += 1
            if len(self.examples) < EXAMPLES:
                self.examples.append((row.number or 0, f"has {row.actual_columns} cells"))
            return "skip"

        convert = pacsv.ConvertOptions(
            column_types=dict.fromkeys(TAKEN, pa.string()),
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        )
        parse = pacsv.ParseOptions(invalid_row_handler=skip)
        reading = pacsv.ReadOptions(use_threads=False)
        try:
            return pacsv.read_csv(self._file, reading, parse, convert)
        except (pa.ArrowException, OSError) as error:
            raise failure("unreadable", "The file cannot be read", f"{self._file}: {error}") from error

    def _other(self) -> pa.Table:
        import pyarrow as pa

        from qis.cli.claims_file import ClaimsFile, Mapped

        rows = []
        for row in ClaimsFile(self._file, Mapped(), "fuse").rows():
            if row.broken is not None:
                self.unreadable += 1
                self.examples.append((row.number, row.broken.message))
                continue
            rows.append({n: None if row.record.get(n) is None else str(row.record[n]) for n in TAKEN})
        return pa.Table.from_pylist(rows, pa.schema([(n, pa.string()) for n in TAKEN]))

    def row(self, item: Item, verdict: Verdict) -> tuple[str, ...]:
        """A verdict of the snap that was given last, as a row of the output."""
        from qis.domain.numbers import decimal_text

        identifier, attribute = self._said[item.series]
        return (
            self._snap,
            identifier,
            "" if verdict.value is None else decimal_text(verdict.value),
            "official" if verdict.official else "suspect",
            decimal_text(verdict.confidence),
            verdict.method,
            BETWEEN.join(v.source for v in verdict.used),
            BETWEEN.join(f"{v.source}:{v.reason}" for v in verdict.rejected),
            attribute,
        )


def _by_time(table: pa.Table) -> tuple[list[tuple[int, str]], pa.Table]:
    """The snaps in order, with their text; and the rows in order of snap, series and source.

    Raises:
        InvalidInput: a snap that is no date and no instant with an offset.
    """
    import pyarrow as pa
    from pyarrow import compute

    encoded = table["snap"].combine_chunks().dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    if encoded.null_count:
        raise refuse("snap", "", "required", "is required in every row")
    moments = [instant(text) for text in texts]
    first = dict(sorted(zip(moments, texts, strict=True), reverse=True))
    snaps = sorted(first.items())
    rank_of = {at: rank for rank, (at, _) in enumerate(snaps)}
    ranks = pa.array([rank_of[at] for at in moments], pa.int64()).take(encoded.indices)
    table = table.drop_columns(["snap"]).append_column("rank", ranks)
    order = compute.sort_indices(
        table,
        [(name, "ascending") for name in ("rank", "reference_data_id", "attribute", "source", "number")],
    )
    return snaps, table.take(order)


class _Output:
    """The file of decisions: it appears under its name when it is complete."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._partial = file.with_name(f".{file.name}.partial")
        self._rows: list[tuple[str, ...]] = []

    def __enter__(self) -> _Output:
        return self

    def add(self, row: tuple[str, ...]) -> None:
        self._rows.append(row)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            return
        if self._file.suffix.lower() == ".parquet":
            import pyarrow as pa
            from pyarrow import parquet

            columns = [[row[i] for row in self._rows] for i in range(len(COLUMNS))]
            parquet.write_table(
                pa.table([pa.array(c, pa.string()) for c in columns], list(COLUMNS)), self._partial
            )
        else:
            with self._partial.open("w", encoding="utf-8", newline="") as text:
                writer = csv.writer(text, lineterminator="\n")
                writer.writerow(COLUMNS)
                writer.writerows(self._rows)
        self._partial.replace(self._file)
