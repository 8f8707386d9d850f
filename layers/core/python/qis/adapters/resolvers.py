"""Resolvers of concurrent overrides by name: the built-in ones, and those that are installed beside."""

from __future__ import annotations

from functools import cache

from qis.domain.conflicts.resolvers import BUILT_IN, Resolver, keep_siblings

GROUP = "qis.conflict_resolvers"
"""Group of entry points; the name is what a rule document says, the object a ``Resolver``."""


@cache
def resolver(name: str) -> Resolver:
    """The resolver of a name. One that is gone since its rules were put leaves the decision to a person: an
    override must not fail, nor be lost, because of a setting."""
    return _found(name) or keep_siblings


def installed(name: str) -> bool:
    """Whether there is a resolver of that name here, and it can be loaded."""
    return _found(name) is not None


def _found(name: str) -> Resolver | None:
    if name in BUILT_IN:
        return BUILT_IN[name]
    from importlib.metadata import entry_points  # walks the installed distributions

    for found in entry_points(group=GROUP, name=name):
        try:
            loaded = found.load()
        except (ImportError, AttributeError):
            return None
        return loaded if callable(loaded) else None
    return None
