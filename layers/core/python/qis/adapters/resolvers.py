"""Resolvers of concurrent overrides by name: the built-in ones, and those that are installed beside."""

from __future__ import annotations

from functools import cache

from qis.domain.conflicts.resolvers import BUILT_IN, Resolver, keep_siblings

GROUP = "qis.conflict_resolvers"
"""Group of entry points; the name is what a rule document says, the object a ``Resolver``."""


@cache
def resolver(name: str) -> Resolver:
    """The resolver of a name. One that is not installed here leaves the decision to a person: an override
    must not fail, nor be lost, because of a setting."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    from importlib.metadata import entry_points  # walks the installed distributions

    for found in entry_points(group=GROUP, name=name):
        loaded: Resolver = found.load()
        return loaded
    return keep_siblings
