"""Faults in a claims file, without a server: ``detect``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qis.cli.failures import cause, failure
from qis.cli.options import MappingFile
from qis.cli.session import Session, command
from qis.cli.tables import check_form, write_table

if TYPE_CHECKING:
    from rich.console import Console

    from qis.application.detection import Arrived
    from qis.cli.claims_file import Row
    from qis.domain.claims import Claim
    from qis.domain.detection import DetectionRules, Found
    from qis.domain.errors import Violation
    from qis.domain.kinds.record import Record
    from qis.domain.series import Series

PANEL = "Claims in"
COLUMNS = (
    "snap",
    "reference_data_id",
    "source",
    "kind",
    "score",
    "action",
    "since",
    "attribute",
    "value",
    "expected",
    "measured",
    "threshold",
    "peers",
    "repair",
    "rules",
)
DAY_NS = 86_400 * 10**9


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "detect", rich_help_panel=PANEL)(_detect)


def _detect(
    session: Session,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="CLAIMS",
            exists=True,
            dir_okay=False,
            readable=True,
            help="Claims as .csv, .jsonl (both also .gz) or .parquet, in the order in which they came.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Findings, as .csv or .parquet.")],
    rules: Annotated[
        Path | None,
        typer.Option("--rules", metavar="R", exists=True, dir_okay=False, help="JSON with thresholds."),
    ] = None,
    series: Annotated[
        Path | None,
        typer.Option(
            "--series",
            metavar="S",
            exists=True,
            dir_okay=False,
            help="JSON list of definitions: of options chains and corporate actions, and of their prices.",
        ),
    ] = None,
    mapping: MappingFile = None,
) -> None:
    """Find faulty claims in a file, causally: what is said of a snap rests on it and those before.

    One row per finding; no claim is changed. ``snap`` is where it was found, ``since`` what it is about.

    Rows that cannot be used are listed in OUT.errors.csv, and end it with status 1; the others are judged.

    Example: qis detect claims.csv.gz --out findings.csv
    """
    from qis.application.detection import detect
    from qis.cli.claims_file import ClaimsFile
    from qis.cli.mapping import read_mapping
    from qis.cli.refusals import Refusals

    check_form(out)
    thresholds = _read_rules(rules)
    reading = Reading(_read_series(series))
    mapped = read_mapping(mapping)
    with Refusals.of(out) as refusals:
        claims = list(reading.claims(ClaimsFile(file, mapped, "detect").rows(), refusals.add))
        report = refusals.write()
    found = [*detect(claims, thresholds, reading.series, reading.records), *reading.refused]
    found.sort(key=lambda f: (f.snap_ns, f.reference_data_id, f.attribute or "", f.source))
    told = [reading.row(f) for f in found]
    write_table(out, {name: [row[name] for row in told] for name in COLUMNS}, numbers=("score",))
    by_kind: dict[str, int] = {}
    for f in found:
        by_kind[f.kind.value] = by_kind.get(f.kind.value, 0) + 1
    document = {
        "rows": reading.rows,
        "unreadable": reading.unreadable,
        "findings": len(found),
        "kinds": dict(sorted(by_kind.items())),
        "rules": thresholds.name,
        "out": str(out),
        "errors": None if report is None else str(report),
        "reasons": [reason.as_json() for reason in refusals.top],
    }
    for number, violation in refusals.first:
        session.note(f"! row {number} cannot be judged: {violation.text}")

    def human(console: Console) -> None:
        from qis.cli import render

        render.line(console, (str(out), "bold"), f": {len(found)} findings in {reading.rows} rows")
        render.table(
            console, ("findings", "kind"), ((n, k) for k, n in by_kind.items()), numbers=("findings",)
        )
        refusals.show(console)

    session.emit(document, human)
    if reading.unreadable:
        raise typer.Exit(1)


def _read_rules(file: Path | None) -> DetectionRules:
    from qis.domain.detection import DetectionRules, parse_detection_rules

    if file is None:
        return DetectionRules()
    try:
        return parse_detection_rules(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise failure("invalid-input", "The rules cannot be read", f"{file}: {cause(error)}") from error


def _read_series(file: Path | None) -> dict[str, Series]:
    from qis.domain.series import parse_series

    if file is None:
        return {}
    try:
        given = json.loads(file.read_text(encoding="utf-8"))
        parsed = [parse_series(one) for one in (given if isinstance(given, list) else [given])]
    except (OSError, ValueError) as error:
        raise failure("invalid-input", "The series cannot be read", f"{file}: {cause(error)}") from error
    return {one.reference_data_id: one for one in parsed}


class Reading:
    """Rows of a file as claims to judge. Snaps keep the text that the file gave them."""

    def __init__(self, series: Mapping[str, Series]) -> None:
        self.series = series
        self.records: list[Claim[Record]] = []
        self.refused: list[Found] = []
        """Findings about records that ingestion would refuse for their figures."""
        self.rows = 0
        self.unreadable = 0
        """Rows that cannot be used."""
        self._texts: dict[int, str] = {}
        self._dates = True

    def claims(self, rows: Iterator[Row], refuse_row: Callable[[int, Violation], None]) -> Iterator[Arrived]:
        """The claims of numbers, in the file's order; those of records are kept aside."""
        from qis.domain.errors import InvalidInput

        for row in rows:
            self.rows += 1
            try:
                if row.broken is not None:
                    raise InvalidInput(row.broken)
                of = self.series.get(str(row.record.get("reference_data_id")))
                if of is not None and of.structure is not None:
                    self._record(of, row.record)
                else:
                    yield self._claim(row.record)
            except InvalidInput as refusal:
                self.unreadable += 1
                refuse_row(row.number, refusal.violations[0])

    def _record(self, series: Series, record: Mapping[str, Any]) -> None:
        from qis.domain.claims import parse_claim
        from qis.domain.detection.records import KINDS, refused
        from qis.domain.errors import InvalidInput, refuse
        from qis.domain.snap import parse_snap

        if series.kind not in KINDS:
            raise refuse("reference_data_id", series.reference_data_id, "kind", f"is a {series.kind.value}")
        source = str(record.get("source") or "")
        try:
            claim = parse_claim(record, {series.reference_data_id: series}, {source: True})
        except InvalidInput as refusal:
            snap = parse_snap(record.get("snap"), series.semantics.snap_time)
            found = refused(series, snap, source, refusal)
            if found is None:
                raise
            self.refused += found
        else:
            snap = claim.snap
            self.records.append(claim)
        self._texts.setdefault(snap.ns, str(record["snap"]))

    def _claim(self, record: Mapping[str, Any]) -> Arrived:
        from qis.application.detection import Arrived
        from qis.domain.claims import parse_statement
        from qis.domain.detection import Observation
        from qis.domain.snap import parse_snap

        stated = parse_statement(record)
        text, ns = str(record["snap"]), stated.snap.ns
        series = self.series.get(stated.reference_data_id)
        if series is not None and series.semantics.snap_time is not None:
            ns = parse_snap(text, series.semantics.snap_time).ns
        self._dates &= len(text) == 10
        self._texts.setdefault(ns, text)
        received = None if stated.received_at is None else stated.received_at.ns
        observation = Observation(
            stated.source, stated.value, stated.volume, received, stated.currency, stated.unit
        )
        return Arrived(stated.reference_data_id, ns, observation, stated.attribute)

    def row(self, found: Found) -> dict[str, str]:
        """A finding as a row of the output."""
        body = found.as_json()
        peers = " ".join(body["peers"])
        row = {k: "" if v is None else str(v) for k, v in body.items()} | {"peers": peers}
        return row | {"snap": self._text(found.snap_ns), "since": self._text(found.since_ns)}

    def _text(self, ns: int) -> str:
        from qis.domain.snap import Snap

        known = self._texts.get(ns)
        if known is not None:
            return known
        text = Snap(ns).text
        return text[:10] if self._dates and ns % DAY_NS == 0 else text
