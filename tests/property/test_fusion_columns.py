"""The array code of a file of claims gives what the code for one item gives, to the bit."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qis.application.fusing import Plan, parse_plan
from qis.application.fusing_columns import REASONS, Rows, Said, Series, arranged, item_by_item, snap_by_snap
from qis.domain.fusion import columns, memory
from qis.domain.fusion.learned import Learned
from qis.domain.fusion.methods import METHODS
from qis.domain.fusion.semantics import Semantics

SOURCES = tuple(f"source-{c}" for c in "abcdefg")
ODD = ("0", "-0.0", "0.00", "-1", "1e2", "100", "100.0", "100.005", "12345678901234567890.123456789012345678")
VOLUMES = ("0", "0.0", "3", "2.50")


@dataclass(frozen=True)
class World:
    """How a file of claims comes to be."""

    seed: int
    snaps: int
    series: int
    kinds: int
    wrong: float = 0.1
    missing: float = 0.1
    still: float = 0.2
    odd: float = 0.02
    noise: bool = False
    volumes: bool = False
    copiers: bool = True
    again: float = 0.05
    """Share of the claims that their source says twice."""

    def said(self, plan: Plan) -> Said:
        rng = random.Random(self.seed)
        numbers: dict[str, int] = {}
        volumes: dict[str | None, int] = {None: 0}
        rows = []
        prices = [rng.randrange(1_000, 20_000) for _ in range(self.series)]
        for snap in range(self.snaps):
            for i in range(self.series):
                if rng.random() > self.still:
                    prices[i] += rng.choice((-20, -1, 3, 15, 900))
                for source, text in self._texts(rng, prices[i]).items():
                    for _ in range(2 if rng.random() < self.again else 1):
                        volume = rng.choice((None, *VOLUMES)) if self.volumes else None
                        number = numbers.setdefault(text, len(numbers))
                        traded = volumes.setdefault(volume, len(volumes))
                        rows.append((snap, i, source, number, traded, rng.randrange(3)))
                        text = rng.choice((text, "7.5"))
        rng.shuffle(rows)
        names = [f"s{i % 3}{'x' * i}" for i in range(self.series)]
        return arranged(
            Rows(*np.array(rows, np.int64).reshape(-1, 6).T),
            [snap * 10**9 for snap in range(self.snaps)],
            [Series(f"k{i % self.kinds}", n, (n, "")) for i, n in enumerate(names)],
            SOURCES,
            [Decimal(n) for n in numbers],
            [None if v is None else Decimal(v) for v in volumes],
            plan,
        )

    def _texts(self, rng: random.Random, cents: int) -> Mapping[int, str]:
        said: dict[int, str] = {}
        slip = rng.choice((1, 100, -500))
        for source in range(len(SOURCES)):
            here = cents + (rng.choice((slip, rng.randrange(-400, 400))) if rng.random() < self.wrong else 0)
            text = str(Decimal(here).scaleb(-2))
            if self.noise:
                text = str(round(here / 100 * (1 + rng.gauss(0, 0.001)), 6))
            if rng.random() < self.odd:
                text = rng.choice(ODD)
            elif rng.random() < 0.1:
                text = text.rstrip("0").rstrip(".") if "." in text else text
            said[source] = text
        if self.copiers:
            said[5] = said[6] = said[4]
        return {s: t for s, t in said.items() if rng.random() >= self.missing}


def outcome(said: Said, plan: Plan, by_arrays: bool) -> tuple[object, ...]:
    """Everything that could differ."""
    semantics = Semantics()
    verdicts = (snap_by_snap if by_arrays else item_by_item)(said, plan, semantics)
    past = verdicts.memory()
    return (
        [str(v) for v in verdicts.value],
        verdicts.official,
        [str(c) for c in verdicts.confidence],
        [REASONS[r] for r in verdicts.reason.tolist()],
        verdicts.weight.tolist(),
        past.as_json(),
        list(semantics.proposals(past.copies())),
    )


WORLDS = st.builds(
    World,
    seed=st.integers(0, 2**32),
    snaps=st.integers(1, 14),
    series=st.integers(1, 7),
    kinds=st.integers(1, 3),
    wrong=st.sampled_from((0.0, 0.1, 0.4)),
    missing=st.sampled_from((0.0, 0.3, 0.8)),
    still=st.sampled_from((0.0, 0.3, 0.9)),
    odd=st.sampled_from((0.0, 0.1)),
    noise=st.booleans(),
    volumes=st.booleans(),
    copiers=st.booleans(),
)
WEIGHTS = Learned(
    sources=(
        ("elsewhere", (30, 20, 5, 4000)),
        ("source-a", (1999, 1990, 1999, 10**6)),
        ("source-b", (0,) * 4),
    ),
    copies=(("source-c", "source-d"),),
    dispersion=(1999, 10**9),
    beside=(1999, 1_500_000),
)
PLANS = st.builds(
    lambda method, rules, until: parse_plan({"rules": "r", **rules}, method, until),
    st.sampled_from([*METHODS]),
    st.sampled_from(
        (
            {},
            {"tolerance": {"relative": "0"}, "min_sources": 3},
            {"tolerance": {"bp": "10"}},
            {"sources": ["source-a", "source-b", "source-e", "source-f"]},
            {"copy_groups": [["source-b", "source-a"]]},
            {"method": {"name": "consensus", **WEIGHTS.as_json()}},
            {"attributes": {"k0": {"min_sources": 4}, "k1": {"method": "vote", "sources": ["source-g"]}}},
        )
    ),
    st.none() | st.integers(0, 10 * 10**9),
)


@settings(max_examples=100)
@given(world=WORLDS, plan=PLANS)
def test_arrays_decide_and_learn_as_the_code_for_one_item_does(world: World, plan: Plan) -> None:
    said = world.said(plan)
    assert outcome(said, plan, by_arrays=True) == outcome(said, plan, by_arrays=False)


@pytest.mark.parametrize("rules", [{}, {"copy_groups": [["source-f", "source-g"]]}])
def test_copies_are_found_and_counted_alike(rules: dict[str, object]) -> None:
    """Of sources that are off together often enough, which few of the worlds above have."""
    plan = parse_plan({"rules": "r", **rules}, None, None)
    found = 0
    for seed in range(6):
        said = World(seed, snaps=20, series=6, kinds=2, missing=0.0, odd=0.0, again=0.0).said(plan)
        found += bool(snap_by_snap(said, plan).memory().copies())
        assert outcome(said, plan, by_arrays=True) == outcome(said, plan, by_arrays=False)
    assert found


@settings(max_examples=30)
@given(world=WORLDS, horizon=st.integers(2, 9))
def test_what_fades_fades_alike(world: World, horizon: int) -> None:
    plan = Plan()
    said = replace(world, snaps=14).said(plan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "HORIZON", horizon)
        patch.setattr(columns, "HORIZON", horizon)
        assert outcome(said, plan, by_arrays=True) == outcome(said, plan, by_arrays=False)


def test_most_of_what_is_compared_is_decided_by_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    alone: list[int] = []
    plain = columns.Columns._alone

    def counted(self: columns.Columns, claims: object, by_itself: np.ndarray, *rest: object) -> object:
        alone.append(int(by_itself.sum()))
        return plain(self, claims, by_itself, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(columns.Columns, "_alone", counted)
    said = World(1, snaps=10, series=7, kinds=2, odd=0.0).said(Plan())
    snap_by_snap(said, Plan())
    assert sum(alone) < len(said.snap_of) / 10
