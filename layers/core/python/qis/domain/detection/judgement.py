"""What detectors are given and what they answer."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple

from qis.domain.snap import Snap


class Fault(StrEnum):
    """Kinds of faults. The name is what a finding says; ``docs/quality.md`` defines each."""

    SPIKE = "spike"
    FAT_FINGER = "fat_finger"
    DECIMAL_SHIFT = "decimal_shift"
    SCALE = "scale"
    SIGN = "sign"
    ZERO = "zero"
    TRANSPOSITION = "digit_transposition"
    CURRENCY = "currency_swap"
    UNIT = "unit"
    STALE = "stale"
    LEVEL_SHIFT = "level_shift"
    BIAS = "bias"
    DATE_SHIFT = "date_shift"
    TIME_SHIFT = "time_shift"
    DUPLICATE = "duplicate"
    OUT_OF_ORDER = "out_of_order"
    FUTURE = "future_time"
    RECEPTION = "future_reception"
    MISSING = "missing"
    SCHEMA = "schema_drift"
    VOLUME = "volume"
    CROSSED = "crossed_quotes"
    PARITY = "put_call_parity"
    STRIKE_ORDER = "strike_order"
    BUTTERFLY = "butterfly"
    CALENDAR_ORDER = "calendar_order"
    PRICE_BOUNDS = "price_bounds"
    GREEKS = "impossible_greeks"
    STALE_CONTRACT = "stale_contract"
    MISSING_STRIKES = "missing_strikes"
    ACTION_CONFLICT = "action_conflict"
    ACTION_REPEATED = "action_repeated"
    ACTION_UNDATED = "action_before_declared"
    ACTION_NOT_APPLIED = "action_not_applied"
    CANCELLED_APPLIED = "cancelled_action_applied"
    UNDECLARED_SPLIT = "undeclared_split"


class Action(StrEnum):
    """What a finding asks for. None of them changes what is stored."""

    QUARANTINE = "quarantine"
    """Do not use the claim until somebody has looked."""
    REPAIR = "repair-proposed"
    """As quarantine; what the source meant is known, and proposed."""
    FLAG = "flag"
    """Usable, but look at it."""


class Observation(NamedTuple):
    """A claim as detectors see it."""

    source: str
    value: Decimal
    volume: Decimal | None = None
    received_ns: int | None = None
    currency: str | None = None
    unit: str | None = None
    recorded_ns: int | None = None
    """When the log recorded it, or when its file was read; ``None``: its time of reception is trusted."""


class Evidence(NamedTuple):
    """Why: what was measured against which threshold, on whose word."""

    value: str
    """The value judged, as it was given; empty where the finding is about a claim that is not there."""
    expected: str
    """What it was measured against, empty where nothing was."""
    measured: str
    threshold: str
    peers: tuple[str, ...]
    """Sources that the judgement rests on; empty where it rests on the source's own past."""
    rules: str
    """Name and version of the thresholds."""
    repair: str | None = None
    """What the source probably meant."""


class Found(NamedTuple):
    """A finding about one claim (or its absence)."""

    snap_ns: int
    """The snap at which it was found: nothing after it was known."""
    reference_data_id: str
    source: str
    kind: Fault
    score: float
    """How sure, from 0 to 1: what the finding takes off the claim's credibility."""
    action: Action
    since_ns: int
    """The snap that it is about: ``snap_ns``, or one before it, where only what followed could tell."""
    evidence: Evidence
    attribute: str | None = None
    """The vendor attribute of the claim, where a file holds several of an instrument."""

    def as_json(self) -> dict[str, Any]:
        """The finding as it is written to files and events."""
        return {
            "snap": Snap(self.snap_ns).text,
            "reference_data_id": self.reference_data_id,
            "source": self.source,
            "kind": self.kind.value,
            "score": round(self.score, 4),
            "action": self.action.value,
            "attribute": self.attribute,
            "since": Snap(self.since_ns).text,
            "value": self.evidence.value,
            "expected": self.evidence.expected,
            "measured": self.evidence.measured,
            "threshold": self.evidence.threshold,
            "peers": list(self.evidence.peers),
            "rules": self.evidence.rules,
            "repair": self.evidence.repair,
        }


class Judgement(NamedTuple):
    """What is thought of one claim."""

    source: str
    credibility: float
    """From 0 to 1; 1 where nothing speaks against it."""
    found: tuple[Found, ...]
