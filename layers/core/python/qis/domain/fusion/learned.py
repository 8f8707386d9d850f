"""What was learned, as data of a rule: the weights that the running system decides with.

A learning method of a rule document carries its weights as a parameter, so they are versioned, effective-
dated and bitemporal like every rule: a decision names the versions of its rules, and is derived again with
them. New weights are a new version. Left out, the method starts from what it believes of an unknown source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from qis.domain.errors import refuse
from qis.domain.fusion.memory import Average, KindRecord, Memory, SourceRecord
from qis.domain.numbers import decimal_text, parse_decimal
from qis.domain.series import check_fields, check_slug, check_text
from qis.domain.snap import parse_instant

KIND = ""
"""The one kind that a rule's weights are for."""
PUBLISH_AT = Decimal("0.9999")


class Origin(NamedTuple):
    """What weights were learned from, so that they can be learned again."""

    basis: str
    """Position of the log: nothing that came later was looked at."""
    first: str
    """The snaps: the first, and the end, which is not among them."""
    until: str


@dataclass(frozen=True, slots=True)
class Learned:
    """Parameters of a learning method."""

    publish_at: Decimal = PUBLISH_AT
    """Confidence from which a value is published; others wait for a person."""
    sources: tuple[tuple[str, tuple[int, int, int, int]], ...] = ()
    """Of each source: claims judged and right, deviations counted, their sum in thousandths."""
    copies: tuple[tuple[str, ...], ...] = ()
    """Sources that were found to copy each other."""
    dispersion: tuple[int, int] = (0, 0)
    """Items counted, and the sum of their relative dispersions in billionths."""
    beside: tuple[int, int] = (0, 0)
    """Items counted, and the sum of their shares of equal claims in thousandths."""
    origin: Origin | None = None
    """``None``: not from a log."""

    def as_json(self) -> dict[str, Any]:
        body: dict[str, Any] = {"publish_at": decimal_text(self.publish_at)}
        if self.sources:
            body["weights"] = {
                "sources": {source: list(counts) for source, counts in self.sources},
                "copies": [list(group) for group in self.copies],
                "dispersion": list(self.dispersion),
                "beside": list(self.beside),
            }
            if self.origin is not None:
                origin = self.origin
                body["weights"]["from"] = {"basis": origin.basis, "from": origin.first, "to": origin.until}
        return body

    def record(self) -> KindRecord:
        """As the record of a kind, to learn on from."""
        records = {source: SourceRecord(*counts) for source, counts in self.sources}
        return KindRecord(Average(*self.beside), Average(*self.dispersion), records)

    @property
    def groups(self) -> Mapping[str, str]:
        """The first name of the copy group of each source that is in one."""
        return {source: group[0] for group in self.copies for source in group}


@lru_cache(maxsize=256)
def memory_of(learned: Learned) -> Memory:
    """As a memory of the one kind, to be read only."""
    memory = Memory()
    if learned.sources:
        memory.kinds[KIND] = learned.record()
    return memory


def learned_from(
    memory: Memory, kind: str, publish_at: Decimal = PUBLISH_AT, origin: Origin | None = None
) -> Learned:
    """What a memory has learned of a kind."""
    record = memory.kinds.get(kind, KindRecord())
    groups: dict[str, list[str]] = {}
    for source, first in sorted(memory.copies().items()):
        groups.setdefault(first, []).append(source)
    return Learned(
        publish_at,
        tuple((s, (r.judged, r.right, r.distances, r.distance)) for s, r in sorted(record.sources.items())),
        tuple(tuple(group) for _, group in sorted(groups.items())),
        (record.dispersion.count, record.dispersion.total),
        (record.beside.count, record.beside.total),
        origin,
    )


def parse_learned(given: Mapping[str, Any], field: str) -> Learned:
    """Parameters as a rule document has them, without the method's name.

    Raises:
        InvalidInput: naming field, value and rule.
    """
    body = check_fields(given, field, set(), {"publish_at", "weights"})
    publish_at = parse_decimal(body.get("publish_at", PUBLISH_AT), f"{field}.publish_at")
    if not 0 <= publish_at < 1:
        raise refuse(f"{field}.publish_at", str(publish_at), "probability", "is not from 0 to below 1")
    if body.get("weights") is None:
        return Learned(publish_at)
    where = f"{field}.weights"
    weights = check_fields(body["weights"], where, {"sources", "copies", "dispersion", "beside"}, {"from"})
    sources = weights["sources"]
    if not isinstance(sources, dict) or not sources:
        raise refuse(f"{where}.sources", sources, "object", "is not an object of sources")
    groups = weights["copies"]
    if not isinstance(groups, list) or not all(isinstance(g, list) for g in groups):
        raise refuse(f"{where}.copies", groups, "list", "is not a list of groups of sources")
    found = []
    for source, counts in sorted(sources.items()):
        judged, right, deviations, total = _counts(counts, 4, f"{where}.sources")
        found.append((check_slug(source, f"{where}.sources"), (judged, right, deviations, total)))
    return Learned(
        publish_at,
        tuple(found),
        tuple(sorted(tuple(sorted(check_slug(s, f"{where}.copies") for s in g)) for g in groups)),
        _pair(weights["dispersion"], f"{where}.dispersion"),
        _pair(weights["beside"], f"{where}.beside"),
        None if weights.get("from") is None else _origin(weights["from"], f"{where}.from"),
    )


def _origin(value: object, field: str) -> Origin:
    given = check_fields(value, field, {"basis", "from", "to"}, set())
    first, until = (parse_instant(given[n], f"{field}.{n}").text for n in ("from", "to"))
    return Origin(check_text(given["basis"], f"{field}.basis", 60), first, until)


def _pair(value: object, field: str) -> tuple[int, int]:
    count, total = _counts(value, 2, field)
    return count, total


def _counts(value: object, many: int, field: str) -> Sequence[int]:
    if isinstance(value, list) and len(value) == many:
        counts = [int(v) if isinstance(v, Decimal) and v == v.to_integral_value() else v for v in value]
        if all(isinstance(c, int) and not isinstance(c, bool) and 0 <= c <= 10**15 for c in counts):
            return [int(c) for c in counts]
    raise refuse(field, value, "counts", f"is not a list of {many} whole numbers of zero or more")
