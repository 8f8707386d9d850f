"""Reconciliation of a file of claims, snap by snap, without a server.

The methods are those of the running system, and so is the order of things: every item of a snap is decided on
what was learned from the snaps before it, and only then are its decisions learned.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from qis.domain.errors import InvalidInput, Violation, refuse, shown
from qis.domain.fusion.coherence import Coherence, Identity, parse_identities
from qis.domain.fusion.consensus import Evidence, Terms
from qis.domain.fusion.items import Item, Verdict, Voice
from qis.domain.fusion.learned import Learned
from qis.domain.fusion.memory import Chosen, Memory, Panel
from qis.domain.fusion.methods import DEFAULT_METHOD, DEFAULTS, METHODS, Settings, decide
from qis.domain.fusion.semantics import Semantics
from qis.domain.rules.documents import parse_layer
from qis.domain.rules.tolerance import Unit
from qis.domain.series import MOST_NAMED, check_choice, check_fields

SEPARATORS = ".:/|#_- "
GRID = 0.8
"""Share of all pairs of a name and an attribute that must occur for identifiers to be read as such pairs."""
NOTHING_LEARNED = Learned()
USED = frozenset({"method", "tolerance", "min_sources", "sources", "copy_groups"})
"""Fields of a rule document that mean something where nothing is published."""
NAMES = frozenset({"rules", "version", "level"})
"""What a document says of itself, and of no decision."""
ATTRIBUTES, IDENTITIES = "attributes", "identities"
Lessons = Sequence[tuple[Panel, Chosen]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a file is to be fused."""

    method: str = DEFAULT_METHOD
    settings: Settings = DEFAULTS
    train_until: int | None = None
    """Snap, in nanoseconds, after which nothing is learned any more; ``None``: learning goes on."""
    learned: Learned = NOTHING_LEARNED
    """What every kind of series begins with."""
    sources: frozenset[str] = frozenset()
    """The only sources that may speak; empty: all."""
    identities: tuple[Identity, ...] = ()
    """How the kinds of series of one object hang together."""
    attributes: Mapping[str, Plan] = field(default_factory=dict)
    """Of kinds of series that the rules say something else of."""

    def of(self, kind: str) -> Plan:
        """How series of a kind are to be fused."""
        return self.attributes.get(kind, self)

    def check_attributes(self, kinds: Collection[str]) -> None:
        """Whether every attribute that the rules name is one of the kinds that there are.

        Raises:
            InvalidInput: naming each that is not.
        """
        there = ", ".join(sorted(kinds)[:MOST_NAMED]) or "none"
        named = [(f"{ATTRIBUTES}.{shown(a)}", a) for a in sorted(self.attributes)]
        named += [(f"{IDENTITIES}[{n}]", k) for n, i in enumerate(self.identities) for k in (i.kind, *i.of)]
        unknown = [
            Violation(where, shown(kind), "known-attribute", f"is not in the file: {there}")
            for where, kind in named
            if kind not in kinds
        ]
        if unknown:
            raise InvalidInput(*unknown)


def parse_plan(rules: object | None, method: str | None, train_until: int | None) -> Plan:
    """The plan of a rule document and of what a command line says beside it.

    Under ``attributes`` the document has, by attribute, what is different for it: each field that is set
    there takes the place of the document's own, as that of a layer does.

    Raises:
        InvalidInput: naming field, value and rule; also for a field that has no meaning here.
    """
    if rules is None:
        return _plan({}, method, train_until)
    document = check_fields(rules, "", {"rules"}, USED | NAMES | {ATTRIBUTES, IDENTITIES})
    own = {k: v for k, v in document.items() if k not in (ATTRIBUTES, IDENTITIES)}
    identities = parse_identities(document.get(IDENTITIES, []), IDENTITIES)
    fields = parse_layer(own, 1).fields
    others = document.get(ATTRIBUTES, {})
    if not isinstance(others, dict):
        raise refuse(ATTRIBUTES, others, "object", "is not an object of rules by attribute")
    attributes = {}
    for name, given in others.items():
        where = f"{ATTRIBUTES}.{shown(name)}"
        body = check_fields(given, where, set(), USED)
        try:
            set_here = parse_layer({**body, "rules": own["rules"]}, 1).fields
            attributes[name] = _plan({**fields, **set_here}, method, train_until)
        except InvalidInput as refusal:
            raise InvalidInput(
                *(replace(v, field=f"{where}.{v.field}") for v in refusal.violations)
            ) from refusal
    plan = _plan(fields, method, train_until)
    return replace(plan, attributes=attributes, identities=identities)


def _plan(fields: Mapping[str, Any], method: str | None, train_until: int | None) -> Plan:
    given = fields.get("method")
    named = method or (given.name if given is not None else DEFAULT_METHOD)
    check_choice(named, "method", tuple(METHODS))
    learned = NOTHING_LEARNED
    if given is not None and given.parameters is not None:
        learned = given.parameters
    declared = {s: group[0] for group in fields.get("copy_groups", ()) for s in group}
    terms = Terms(_relative(fields.get("tolerance")), {**learned.groups, **declared})
    settings = Settings(learned.publish_at, fields.get("min_sources", 1), terms)
    return Plan(named, settings, train_until, learned, frozenset(fields.get("sources", ())))


def _relative(tolerance: Any) -> float | None:
    if tolerance is None:
        return None
    scale = {Unit.RELATIVE: Decimal(1), Unit.BP: Decimal("0.0001")}.get(tolerance.unit)
    if scale is None:
        raise refuse("tolerance", tolerance.as_json(), "relative", "is neither relative nor in bp")
    return float(tolerance.amount * scale)


def fuse(
    snaps: Iterable[tuple[int, Iterable[Item]]],
    plan: Plan,
    memory: Memory,
    semantics: Semantics | None = None,
) -> Iterator[list[tuple[Item, Verdict]]]:
    """Verdicts of each snap. ``snaps`` come in order of time, each once; ``memory`` learns of them, and
    ``semantics`` counts what sources seem to mean."""
    coherence = Coherence(plan.identities, memory) if plan.identities else None
    for at, items in snaps:
        items = list(items)
        ways = {kind: plan.of(kind) for kind in {item.kind for item in items}}
        for kind, way in ways.items():
            if way.learned.sources and kind not in memory.kinds:
                memory.kinds[kind] = way.learned.record()
        decided = _decided(items, ways, memory, coherence)
        found = [lesson for _, _, lessons in decided for lesson in lessons]
        if semantics is not None:
            for panel, chosen in found:
                semantics.note(panel, chosen)
        verdicts = [(item, verdict) for item, verdict, _ in decided]
        if plan.train_until is None or at <= plan.train_until:
            if coherence is not None:
                coherence.learn(verdicts)
            memory.learn(found)
        yield verdicts


def _decided(
    items: Sequence[Item], ways: Mapping[str, Plan], memory: Memory, coherence: Coherence | None
) -> list[tuple[Item, Verdict, Lessons]]:
    """The items of a snap, each by itself, and then again those of which the others say something."""
    decided = [(item, *_decide(ways[item.kind], item, memory)) for item in items]
    if coherence is not None:
        coherence.see((item, verdict) for item, verdict, _ in decided)
        for i, item in enumerate(items):
            evidence = coherence.evidence(item)
            if evidence is not None:
                decided[i] = item, *_decide(_on(evidence, ways[item.kind]), item, memory)
    return decided


def _on(evidence: Evidence, way: Plan) -> Plan:
    """A plan in the light of what else is known of an item."""
    settings = way.settings
    return replace(way, settings=replace(settings, terms=settings.terms._replace(evidence=evidence)))


def _decide(way: Plan, item: Item, memory: Memory) -> tuple[Verdict, Lessons]:
    """The verdict on an item among those who may speak, and what there is to learn of it."""
    if not way.sources:
        verdict, panel, chosen = decide(way.method, item, memory, way.settings)
        return verdict, ((panel, chosen),)
    aside = [
        Voice(c.source, c.value, 0, c.source, "not-admitted")
        for c in item.claims
        if c.source not in way.sources
    ]
    heard = [c for c in item.claims if c.source in way.sources]
    if not heard:
        why = "nobody who may speak has a claim"
        return Verdict(False, None, Decimal(0), way.method, why, tuple(sorted(aside)), Decimal(0)), ()
    verdict, panel, chosen = decide(way.method, replace(item, claims=heard), memory, way.settings)
    return replace(verdict, voices=tuple(sorted([*verdict.voices, *aside]))), ((panel, chosen),)


def kinds_of(identifiers: Collection[str]) -> Mapping[str, str]:
    """The kind of each series, read from its name: of ``aapl.open``, ``aapl.close``, ``ibm.open`` and
    ``ibm.close`` it is the part after the point. Names that do not fall into such a grid are of one kind."""
    for separator in SEPARATORS:
        for split in (str.rpartition, str.partition):
            parts = {i: split(i, separator) for i in identifiers}
            if all(first and last for first, _, last in parts.values()):
                found = _grid({i: (first, last) for i, (first, _, last) in parts.items()})
                if found is not None:
                    return found
    return dict.fromkeys(identifiers, "")


def _grid(pairs: Mapping[str, tuple[str, str]]) -> Mapping[str, str] | None:
    firsts, lasts = ({p[i] for p in pairs.values()} for i in (0, 1))
    if min(len(firsts), len(lasts)) < 2 or len(pairs) < GRID * len(firsts) * len(lasts):
        return None
    side = int(len(lasts) <= len(firsts))
    return {identifier: pair[side] for identifier, pair in pairs.items()}
