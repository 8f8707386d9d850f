"""When newly learned weights are worth a new version of the rules."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qis.domain.errors import InvalidInput
from qis.domain.fusion.learned import Learned, Origin, parse_learned
from qis.domain.fusion.revision import ENOUGH, revision

IN_FORCE = Learned(
    sources=(("good", (400, 396, 0, 0)), ("poor", (400, 200, 0, 0))),
    dispersion=(400, 0),
    beside=(400, 400_000),
)


def learned(*counts: tuple[int, int], **changes: object) -> Learned:
    named = zip(("good", "poor"), counts, strict=True)
    return replace(IN_FORCE, sources=tuple((s, (*c, 0, 0)) for s, c in named), **changes)  # type: ignore[arg-type]


def test_what_is_in_force_already_is_not_proposed_again() -> None:
    found = revision("consensus", IN_FORCE, IN_FORCE, 400)
    assert (found.proposed, found.reason) == (False, "nothing has changed enough")


def test_luck_proposes_nothing_and_small_changes_add_up_until_they_count() -> None:
    steps = [
        revision("accu", IN_FORCE, learned((400, 396), (400, right)), 400) for right in range(200, 301, 10)
    ]
    assert [s.proposed for s in steps[:3]] == [False] * 3
    assert steps[-1].proposed
    assert steps[-1].reason == "the weights of poor have changed"
    turned = [s.proposed for s in steps]
    assert turned == sorted(turned)


def test_a_version_in_force_is_what_the_next_is_measured_from() -> None:
    later = learned((400, 396), (400, 300))
    assert not revision("accu", later, learned((400, 396), (400, 305)), 400).proposed


def test_few_values_propose_nothing() -> None:
    found = revision("accu", Learned(), IN_FORCE, ENOUGH - 1)
    assert not found.proposed
    assert str(ENOUGH) in found.reason
    assert revision("accu", Learned(), IN_FORCE, ENOUGH).proposed


def test_new_copies_are_a_change() -> None:
    found = revision("accu", IN_FORCE, replace(IN_FORCE, copies=(("good", "poor"),)), 400)
    assert (found.proposed, found.reason) == (True, "the sources that copy each other have changed")


def test_where_weights_come_from_survives_the_rule_document() -> None:
    whole = replace(IN_FORCE, origin=Origin("12.5", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"))
    assert parse_learned(whole.as_json(), "method") == whole
    body = whole.as_json()
    body["weights"]["from"]["to"] = "soon"
    with pytest.raises(InvalidInput, match="ISO 8601"):
        parse_learned(body, "method")
