"""From votes to a probability.

Two ways to be wrong, taken as independent:

- By chance: the sources for the value err, each alone. Votes are log odds, of which half are believed, since
  sources that are no copies still share feeds and habits: ``0.6 exp(-margin / 2)``.
- By convention: many stand against many, each side with its own idea of what is asked (a close adjusted for
  a dividend or not). One dissenter is a fault and says nothing of that, so the rival counts without its
  heaviest voice: a logistic function of the log ratio of votes.

The constants were set by hand, round, on the first ten days of the stock claims and on faults injected into
central-bank rates; docs/reconciliation.md tells how they hold. While nothing is known of a kind of series,
copies cannot be told from independent sources, and the confidence stays below ``UNKNOWN``.
"""

from __future__ import annotations

import math
from decimal import Decimal

DEPENDENT = 2.0
CHANCE = 0.6
CONVENTION_AT_EVEN = -1.0
CONVENTION_SLOPE = 6.0
VOICE = 3.0
"""Added to both sides of the ratio, in nats, so that little evidence gives little confidence."""
UNKNOWN = 0.99
PLACES = Decimal("0.000000001")
MOST = 1 - 1e-9


def confidence(support: int, rival: int, rival_voices: int, known: bool) -> float:
    """Probability that the value with most votes is right.

    Args:
        support, rival: votes for the value and for the strongest other, in thousandths of a nat.
        rival_voices: independent voices for the other.
        known: whether anything was learned of the kind of series.
    """
    ours, theirs = support / 1000, rival / 1000
    chance = CHANCE * math.exp(-max(0.0, ours - theirs) / DEPENDENT)
    beside = theirs * (1 - 1 / rival_voices) if rival_voices else 0.0
    ratio = math.log((ours + VOICE) / (beside + VOICE))
    convention = 1 / (1 + math.exp(CONVENTION_AT_EVEN + CONVENTION_SLOPE * ratio))
    return min((1 - chance) * (1 - convention), MOST) * (1.0 if known else UNKNOWN)
