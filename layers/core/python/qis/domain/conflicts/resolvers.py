"""What becomes of concurrent overrides, by the name that the rules give: ``conflict``.

A resolver takes the siblings and gives those that may stand: one wins, several are for a person to review. It
must be pure, and must not care in which order they come. Others than these two are found by entry point; see
``qis.adapters.resolvers``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from qis.domain.conflicts.registers import Override, last_write, siblings

Resolver = Callable[[Sequence[Override]], Sequence[Override]]


def keep_siblings(overrides: Sequence[Override]) -> Sequence[Override]:
    """A person decides."""
    return siblings(overrides)


def last_writer_wins(overrides: Sequence[Override]) -> Sequence[Override]:
    """The last write by the hybrid clock; the others are named in the restatement."""
    return (last_write(siblings(overrides)),)


BUILT_IN: Mapping[str, Resolver] = {"siblings": keep_siblings, "last-writer-wins": last_writer_wins}
