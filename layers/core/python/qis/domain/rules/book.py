"""Which rules apply to a series at a snap.

Resolution, in this order:

1. A series names one rule document. Of its versions the newest that covers the snap is in force.
2. If that version extends another document, the same holds for that one, and so on: the chain, from the
   series' own document to the broadest.
3. Each field is taken from the first layer of the chain that sets it. ``null`` sets an optional field: it
   switches it off, whatever a broader layer says. A list or object is taken whole, never merged.
4. A field that no layer sets is off; where it must be settled, the rules are refused when they are put in
   force, not when they are needed. Only a document of an asset class or of the house may leave such a field
   open, as long as no series names it.

The first version of a document covers every snap, so there always is one in force.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from qis.domain.errors import InvalidInput, NotFound, Violation, refuse, shown
from qis.domain.rules.documents import FIELDS, incomplete, layer_json, parse_layer
from qis.domain.rules.model import Layer, LayerRef, Level, RuleSet
from qis.domain.snap import Snap

LONGEST_CHAIN = 8
ABOUT_NUMBERS = ("max_move", "range", "exclusion")
"""Fields that say nothing of records (``qis.domain.kinds``); a document under which records are leaves them
open or switches them off."""


class Origin(NamedTuple):
    """Where a field of a rule set comes from; ``layer`` is ``None`` where no layer sets it."""

    value: Any
    layer: Layer | None


class Reach(NamedTuple):
    """What decisions under some document may depend on beside their own claims, at whatever snap."""

    moves: bool
    """Values of the snaps before."""
    standings: bool
    """Standings of the sources after the snap before."""


class RuleBook:
    """Every version of every rule document that is known."""

    def __init__(self, layers: Iterable[Layer]) -> None:
        self._versions: dict[str, list[Layer]] = {}
        for layer in layers:
            self._versions.setdefault(layer.rules, []).append(layer)
        for versions in self._versions.values():
            versions.sort(key=lambda v: -v.version)
        self._settled: dict[tuple[LayerRef, ...], RuleSet] = {}
        self._always: dict[str, RuleSet] = {}
        self._reach: dict[str, Reach] = {}

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._versions)

    def versions(self, name: str) -> Sequence[Layer]:
        """Versions of a document, newest first."""
        return self._versions.get(name, ())

    def having(self, layer: Layer) -> RuleBook:
        """This book with one more version."""
        return RuleBook([*(v for versions in self._versions.values() for v in versions), layer])

    def rule_set(self, name: str, snap: Snap) -> RuleSet:
        """The rules in force for a series that names ``name``, at ``snap``.

        Raises:
            NotFound: there is no such document, or one of the chain is not known.
            InvalidInput: the chain leaves open what must be settled.
        """
        found = self._always.get(name)
        if found is not None:
            return found
        chain = self.chain(name, snap.ns)
        rules = self._settle(chain)
        if all(v is self._versions[v.rules][0] and v.covers_all for v in chain):
            self._always[name] = rules
        return rules

    def reach(self, name: str) -> Reach:
        """What decisions depend on under any version of ``name`` and of what it extends: a change at a snap
        that looks at nothing may concern one that does."""
        found = self._reach.get(name)
        if found is None:
            layers = [v for one in self.family(name) for v in self.versions(one)]
            moves = any(v.fields.get("max_move") is not None for v in layers)
            found = Reach(moves, any(v.fields.get("exclusion") is not None for v in layers))
            self._reach[name] = found
        return found

    def exactly(self, refs: Iterable[LayerRef]) -> RuleSet:
        """The rule set of a stored decision, from the versions that it names.

        Raises:
            NotFound: one of them is not known.
        """
        return self._settle([self._version(*ref) for ref in refs])

    def origins(self, name: str, snap: Snap) -> dict[str, Origin]:
        """Each field of the rules in force, with the layer that sets it.

        Raises:
            NotFound: as in ``rule_set``.
        """
        chain = self.chain(name, snap.ns)
        return {field: _first(chain, field) for field in FIELDS}

    def chain(self, name: str, ns: int) -> list[Layer]:
        """The layers in force at a snap, in order of resolution.

        Raises:
            NotFound: one of them is not known.
            InvalidInput: they extend each other in a circle, or are too many.
        """
        found: list[Layer] = []
        wanted: str | None = name
        while wanted is not None:
            if any(v.rules == wanted for v in found):
                raise refuse("extends", wanted, "no-circle", "extends itself by way of others")
            if len(found) == LONGEST_CHAIN:
                raise refuse("extends", wanted, "chain-length", f"makes a chain of more than {LONGEST_CHAIN}")
            found.append(self._in_force(wanted, ns))
            wanted = found[-1].extends
        return found

    def check(self, layer: Layer, in_use: Iterable[str], of_records: Collection[str] = ()) -> None:
        """Whether ``layer`` may be put in force as the next version of its document.

        Args:
            in_use: documents that series name: their rules must stay settled at every snap.
            of_records: those of them that series of records name: nothing that is about numbers may be set.

        Raises:
            InvalidInput: a first version with bounds, an unknown or narrower document extended, a circle,
                or a chain in use that would leave a field open, or set one that its series cannot have.
        """
        if not self.versions(layer.rules) and not layer.covers_all:
            field = "valid_from" if layer.valid_from is not None else "valid_to"
            bound = layer.valid_from or layer.valid_to
            assert bound is not None
            raise refuse(field, bound.text, "first-version-unbounded", "a first version covers every snap")
        if layer.extends is not None and layer.extends not in self._versions:
            raise refuse("extends", layer.extends, "known-rules", "is not a registered rule set")
        book = self.having(layer)
        for name in sorted({layer.rules, *in_use}):
            for ns in book._turns(name):
                chain = book.chain(name, ns)
                if layer.rules in (v.rules for v in chain):
                    _check_levels(chain)
                    if name in in_use or layer.level in (Level.SERIES, Level.GROUP):
                        book._settle(chain)
                    if name in of_records:
                        _check_for_records(chain)

    def check_settled(self, name: str, *, of_records: bool) -> None:
        """Whether a series, of records or of numbers, may name ``name``: at every snap its chain settles
        every field, and sets none that says nothing of its values.

        Raises:
            InvalidInput: it leaves one open, or sets one about numbers for records.
        """
        for ns in self._turns(name):
            chain = self.chain(name, ns)
            self._settle(chain)
            if of_records:
                _check_for_records(chain)

    def _turns(self, name: str) -> list[int]:
        """Snaps from which other versions may be in force than before: the ends of every validity that the
        chains of ``name`` can meet."""
        bounds = (
            b for one in self.family(name) for v in self.versions(one) for b in (v.valid_from, v.valid_to)
        )
        return sorted({_EARLIEST, *(b.ns for b in bounds if b is not None)})

    def family(self, name: str) -> set[str]:
        """The document and all that any version of it extends, directly or not."""
        reached: set[str] = set()
        waiting = [name]
        while waiting:
            one = waiting.pop()
            if one not in reached:
                reached.add(one)
                waiting += [v.extends for v in self.versions(one) if v.extends is not None]
        return reached

    def _in_force(self, name: str, ns: int) -> Layer:
        for version in self.versions(name):
            if version.covers(ns):
                return version
        raise NotFound(f"rule set {name} is not registered", "unknown-rules")

    def _version(self, name: str, version: int) -> Layer:
        for layer in self.versions(name):
            if layer.version == version:
                return layer
        raise NotFound(f"rule set {name} has no version {version}", "unknown-rules")

    def _settle(self, chain: Sequence[Layer]) -> RuleSet:
        refs = tuple(layer.ref for layer in chain)
        found = self._settled.get(refs)
        if found is None:
            origins = {field: _first(chain, field) for field in FIELDS}
            open_ = [n for n, origin in origins.items() if FIELDS[n].required and origin.layer is None]
            if open_:
                raise incomplete(open_, " → ".join(ref.rules for ref in refs))
            found = RuleSet(chain=refs, **{n: origin.value for n, origin in origins.items()})
            self._settled[refs] = found
        return found


_EARLIEST = -(2**63)


def _first(chain: Sequence[Layer], field: str) -> Origin:
    for layer in chain:
        if field in layer.fields:
            return Origin(layer.fields[field], layer)
    return Origin(FIELDS[field].default, None)


def _check_levels(chain: Sequence[Layer]) -> None:
    for narrow, broad in pairwise(chain):
        if broad.level.breadth < narrow.level.breadth:
            raise refuse(
                "extends",
                broad.rules,
                "broader-level",
                f"is of level {broad.level.value}, narrower than {narrow.level.value}",
            )


def _check_for_records(chain: Sequence[Layer]) -> None:
    """Refuse what would be ignored: whoever sets a largest move relies on it."""
    broken = []
    for name in ABOUT_NUMBERS:
        value, layer = _first(chain, name)
        if layer is not None and value != FIELDS[name].default:
            told = f"is about numbers, has no meaning for records, and is set by {layer.rules}"
            broken.append(Violation(name, shown(FIELDS[name].as_json(value)), "numbers-only", told))
    if broken:
        raise InvalidInput(*broken)


def parse_rules(given: object, version: int) -> RuleSet:
    """A rule document that stands alone, as a rule set.

    Raises:
        InvalidInput: it breaks a rule, extends another, or leaves open what must be settled.
    """
    layer = parse_layer(given, version)
    if layer.extends is not None:
        raise refuse("extends", layer.extends, "stands-alone", "is not known here; give the whole rule set")
    return RuleBook([])._settle([layer])


def check_resolver(layer: Layer, known: Callable[[str], bool]) -> None:
    """Whether the resolver of concurrent overrides that rules name, if any, is installed.

    Raises:
        InvalidInput: it is not.
    """
    conflict = layer.fields.get("conflict")
    if conflict is not None and not known(conflict):
        raise refuse("conflict", conflict, "known-resolver", "is not the name of an installed resolver")


def effective_json(book: RuleBook, name: str, snap: Snap) -> Mapping[str, Any]:
    """The rules in force, each field with where it comes from, and the chain in order of resolution."""
    return {
        "chain": [layer_json(layer) for layer in book.chain(name, snap.ns)],
        "fields": [
            {
                "field": field,
                "value": FIELDS[field].as_json(origin.value),
                "rules": None if origin.layer is None else origin.layer.rules,
                "version": None if origin.layer is None else origin.layer.version,
                "level": None if origin.layer is None else origin.layer.level.value,
            }
            for field, origin in book.origins(name, snap).items()
        ],
    }
