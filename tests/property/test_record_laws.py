"""Laws of records: exact round trips, and decisions that follow from the set of claims alone."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import jsonschema
from hypothesis import given
from hypothesis import strategies as st

from qis.domain.claims import Claim
from qis.domain.errors import InvalidInput
from qis.domain.kinds.fusing import reconcile_records
from qis.domain.kinds.record import Structure
from qis.domain.kinds.schema import conform, parse_schema
from qis.domain.reconciliation import Decision, Status
from qis.domain.snap import parse_instant
from tests.support import records
from tests.support.builders import SOURCES
from tests.support.records import AT, CHAIN, CURVE, EXAMPLES, contract

SNAP = parse_instant(AT, "snap")
TENORS = ("1W", "1M", "3M", "6M", "1Y", "2Y", "5Y", "10Y")
decimals = st.decimals(-50, 50, places=4).map(lambda d: format(d, "f"))
curves = st.dictionaries(st.sampled_from(TENORS), decimals, min_size=1).map(lambda n: {"nodes": n})
prices = st.integers(1, 2000).map(lambda cents: Decimal(cents) / 100)


@st.composite
def chains(draw: st.DrawFn) -> dict[str, Any]:
    """Chains of a few strikes, with prices at random."""
    found = []
    for right in "CP":
        for strike in draw(st.lists(st.sampled_from((90, 95, 100, 105)), unique=True)):
            bid, width = draw(prices), draw(prices)
            found.append(contract(right, strike, str(bid), str(bid + width)))
    return {"contracts": found or [contract("C", 100, "1", "2")]}


documents = {CURVE: curves, CHAIN: chains()}
told = st.sampled_from((CURVE, CHAIN)).flatmap(
    lambda id_: st.tuples(st.just(id_), st.dictionaries(st.sampled_from(SOURCES), documents[id_], min_size=1))
)


def structure(id_: str) -> Structure:
    found = records.series(id_).structure
    assert found is not None
    return found


def claims_of(id_: str, said: dict[str, Any]) -> list[Claim[Any]]:
    return [records.record_claim(id_, source, document) for source, document in said.items()]


def decide(id_: str, claims: list[Claim[Any]]) -> Decision[Any]:
    return reconcile_records(claims, structure(id_), records.rules())


@given(told)
def test_parsing_what_parsing_gives_changes_nothing_and_json_keeps_all_of_it(
    case: tuple[str, dict[str, Any]],
) -> None:
    id_, said = case
    for claim in claims_of(id_, said):
        wire = json.loads(json.dumps(claim.as_json()))
        back = Claim.from_json(wire, structure(id_))
        assert back == claim
        assert back.value.document == claim.value.document


@given(told)
def test_a_record_is_the_sum_of_its_fields(case: tuple[str, dict[str, Any]]) -> None:
    id_, said = case
    of = structure(id_)
    for claim in claims_of(id_, said):
        assert of.parse(of.join(of.parts(claim.value)), SNAP) == claim.value


@given(told, st.randoms(use_true_random=False))
def test_the_order_of_arrival_has_no_effect(case: tuple[str, dict[str, Any]], random: Any) -> None:
    id_, said = case
    claims = claims_of(id_, said)
    shuffled = claims.copy()
    random.shuffle(shuffled)
    assert decide(id_, claims).as_json() == decide(id_, shuffled).as_json()


@given(told)
def test_what_is_official_holds_together_and_every_field_was_said_by_somebody(
    case: tuple[str, dict[str, Any]],
) -> None:
    id_, said = case
    claims = claims_of(id_, said)
    decision = decide(id_, claims)
    if decision.status is not Status.OFFICIAL:
        return
    of = structure(id_)
    assert decision.value is not None
    assert all(c.passed for c in of.check(decision.value, SNAP))
    for path, leaf in of.parts(decision.value).items():
        given_ = [of.parts(c.value)[path] for c in claims if path in of.parts(c.value)]
        if isinstance(leaf, Decimal):  # a method may answer between what was said, never outside it
            numbers = [g for g in given_ if isinstance(g, Decimal)]
            assert min(numbers) <= leaf <= max(numbers)
        else:
            assert leaf in given_


@given(st.sampled_from(tuple(EXAMPLES)), st.integers(1, 4))
def test_sources_that_say_the_same_are_believed_field_by_field(id_: str, count: int) -> None:
    claims = claims_of(id_, dict.fromkeys(SOURCES[:count], EXAMPLES[id_]))
    decision = decide(id_, claims)
    assert (decision.status, decision.method) == (Status.OFFICIAL, "field-wise")
    assert structure(id_).parts(decision.value) == structure(id_).parts(claims[0].value)


@given(told)
def test_one_source_alone_is_official_just_where_its_record_holds_together(
    case: tuple[str, dict[str, Any]],
) -> None:
    id_, said = case
    claim = claims_of(id_, said)[0]
    holds = all(c.passed for c in structure(id_).check(claim.value, SNAP))
    assert (decide(id_, [claim]).status is Status.OFFICIAL) is holds


# our part of JSON Schema against a whole implementation of it

names = st.sampled_from(("a", "b", "c"))
scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(("x", "yy", ""))
schemas = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(("string", "number", "integer", "boolean", "null", "object", "array")),
            "enum": st.lists(scalars, min_size=1, max_size=3),
            "const": scalars,
            "minimum": st.integers(-3, 3),
            "exclusiveMaximum": st.integers(-3, 3),
            "minLength": st.integers(0, 2),
            "maxItems": st.integers(0, 2),
        },
    ),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(names, inner, max_size=2),
            "items": inner,
            "required": st.lists(names, max_size=2, unique=True),
            "additionalProperties": st.booleans() | inner,
        },
    ),
    max_leaves=6,
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(names, schemas, max_size=3), st.dictionaries(names, values, max_size=3))
def test_documents_conform_just_where_a_whole_json_schema_validator_says_so(
    properties: dict[str, Any], document: dict[str, Any]
) -> None:
    schema = {"type": "object", "properties": properties}
    valid = jsonschema.Draft202012Validator(schema).is_valid(document)
    try:
        conform(document, parse_schema(schema, "schema"), "value")
        ours = True
    except InvalidInput:
        ours = False
    assert ours == valid
