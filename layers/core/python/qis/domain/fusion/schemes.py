"""How what was learned of a source becomes its vote, one scheme per method of the literature.

All are causal here: the records come from earlier snaps, where the papers iterate over one batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from qis.domain.fusion.memory import MILLI, NEW_PRECISION, SourceRecord, Weigher, Weights

WRONG_VALUES = 100
"""Plausible wrong values of an item (the n of ACCU): how unlikely it is that two sources err alike."""


class Scheme(NamedTuple):
    """A way to vote."""

    weigh: Weigher
    newcomer: Weights
    """Weights of a source of which nothing is known."""
    copies: bool
    """Whether sources that were found to copy each other have one vote."""
    continuity: bool
    """Whether repeated values and leaps count less."""


def _accu(records: Mapping[str, SourceRecord]) -> Mapping[str, Weights]:
    return {source: Weights(log_odds(record), record.precision) for source, record in records.items()}


def log_odds(record: SourceRecord) -> int:
    """Weight in a vote by ACCU, in thousandths of a nat."""
    accuracy = record.accuracy
    return max(0, round(MILLI * math.log(WRONG_VALUES * accuracy / (1 - accuracy))))


def _truthfinder(records: Mapping[str, SourceRecord]) -> Mapping[str, Weights]:
    return {
        source: Weights(round(-MILLI * math.log(1 - record.accuracy)), record.precision)
        for source, record in records.items()
    }


def _crh(records: Mapping[str, SourceRecord]) -> Mapping[str, Weights]:
    """Losses are 0-1 for the vote and normalised absolute for the median, as in the paper."""
    wrong = {s: (r.judged - r.right + 1) / (r.judged + 2) for s, r in records.items()}
    far = {s: (r.distance + MILLI) / (r.distances + 1) for s, r in records.items()}
    all_wrong, all_far = math.fsum(wrong.values()), math.fsum(far.values())
    return {
        s: Weights(
            round(-MILLI * math.log(wrong[s] / all_wrong)), max(1, round(-MILLI * math.log(far[s] / all_far)))
        )
        for s in records
    }


_NEW = SourceRecord()
_NEWCOMER = _accu({"": _NEW})[""]


def _equal(records: Mapping[str, SourceRecord]) -> Mapping[str, Weights]:
    return dict.fromkeys(records, _NEWCOMER)


VOTE = Scheme(_equal, _NEWCOMER, copies=False, continuity=False)
"""One source, one vote."""
ACCU = Scheme(_accu, _NEWCOMER, copies=False, continuity=False)
"""ln(n A / (1 - A)), A the accuracy (Dong, Berti-Equille, Srivastava, PVLDB 2(1), 2009)."""
TRUTHFINDER = Scheme(_truthfinder, _truthfinder({"": _NEW})[""], copies=False, continuity=False)
"""-ln(1 - A) (Yin, Han, Yu, Truth Discovery with Multiple Conflicting Information Providers on the Web,
TKDE 20(6), 2008), without its similarity of values, for which the tolerance stands."""
CRH = Scheme(_crh, Weights(MILLI, NEW_PRECISION), copies=False, continuity=False)
"""-ln(share of all losses) (Li, Li, Gao, Zhao, Fan, Han, Resolving Conflicts in Heterogeneous Data by Truth
Discovery and Source Reliability Estimation, SIGMOD 2014)."""
CONSENSUS = Scheme(_accu, _NEWCOMER, copies=True, continuity=True)
"""The house scheme: ACCU's votes, one per copy group, with the series' own past as a witness."""
