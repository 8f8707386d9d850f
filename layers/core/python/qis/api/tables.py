"""Official values as CSV: one row each, the same digits as in JSON, a record as JSON in its cell."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

from qis.application.queries import SCORES

_PLAIN = (
    "reference_data_id",
    "snap",
    "value",
    "kind",
    "currency",
    "base_currency",
    "unit",
    "status",
    "version",
    "recorded_from",
    "method",
    "confidence",
)
COLUMNS = (
    *_PLAIN,
    *SCORES,
    "sources",
    "rules",
    "rules_version",
    "restated",
    "restatement_cause",
    "restatement_reason",
    "restated_by",
    "value_before",
    "basis",
)


def csv_bytes(values: Iterable[Mapping[str, Any]]) -> bytes:
    """A header row and one row per official value body (RFC 4180, UTF-8); sources separated by ``;``."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    writer.writerows(_row(v) for v in values)
    return out.getvalue().encode("utf-8", "replace")


def value_cell(value: object) -> object:
    """A value in one cell: a record as compact JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _row(value: Mapping[str, Any]) -> list[Any]:
    cause = value["restatement"]
    told = (
        ("", "", "", "")
        if cause is None
        else (
            cause["cause"],
            cause["reason"],
            cause["restated_by"],
            cause["before"]["value"],
        )
    )
    return [
        *(value[k] if k != "value" else value_cell(value[k]) for k in _PLAIN),
        *(value["quality"][k] for k in SCORES),
        ";".join(value["sources"]),
        value["rules"],
        value["rules_version"],
        "true" if value["restated"] else "false",
        *(_inert(t) for t in told),
        value["basis"],
    ]


def _inert(text: str) -> str:
    """Text that people wrote, kept from being read as a formula by a spreadsheet."""
    return "'" + text if text[:1] in ("=", "@", "+", "-", "\t", "\r") and not _is_number(text) else text


def _is_number(text: str) -> bool:
    return text.lstrip("+-").replace(".", "", 1).isdecimal()
