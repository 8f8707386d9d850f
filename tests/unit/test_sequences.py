"""Sequence numbers: what did not come, came again or began anew, and that late claims fill what was open."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qis.application.quality import Quality
from qis.application.scoreboard import Scoreboard
from qis.domain import events as ev
from qis.domain.claims import Claim, parse_claim
from qis.domain.errors import InvalidInput
from qis.domain.sequences import GRACE, Channel, Key, Place
from tests.support.builders import EUR, SOURCES, append, catalogue, claim_body, ingested, snap
from tests.support.fakes import FixedCatalogue, MemoryEventStore, MemoryFacts
from tests.unit.test_scoreboard import MemoryScores

NOW = datetime(2026, 1, 5, 15, tzinfo=UTC)
LATER = NOW + GRACE


def place(n: int) -> Place:
    return Place(EUR, snap(n).text)


def channel_of(numbers: Iterable[int]) -> Channel:
    """A channel to which these numbers came, kept and restored after each."""
    channel = Channel()
    for n, number in enumerate(numbers):
        channel.take(number, place(n), NOW)
        channel = Channel.of(channel.as_json())
    return channel


def told(numbers: Iterable[int], now: datetime = LATER) -> list[tuple[str, str]]:
    """Kinds of findings with the numbers that they name."""
    return [(f.kind, f.measured) for f in channel_of(numbers).findings(("alpha", "A"), now)]


def test_numbers_in_a_row_are_nothing_to_tell() -> None:
    assert told(range(7, 20)) == []
    assert told([7, 8, 8, 8, 9]) == [], "several claims of one message"


def test_missing_numbers_are_told_after_a_moment_and_not_before() -> None:
    assert told([1, 2, 6, 7, 9], NOW + GRACE / 2) == []
    assert told([1, 2, 6, 7, 9]) == [("sequence_gap", "3 to 5"), ("sequence_gap", "8")]


def test_late_numbers_fill_their_gap() -> None:
    assert told([1, 2, 6, 4]) == [("sequence_gap", "3"), ("sequence_gap", "5")]
    filled = channel_of([1, 2, 6, 4, 5, 3])
    assert filled.findings(("alpha", ""), LATER) == []
    assert filled.filled == [place(2)]
    assert (filled.received, filled.missing) == (6, 0)


def test_a_channel_that_begins_anew_is_told_and_its_old_gaps_stay() -> None:
    assert told([5, 6, 9, 1, 2, 3]) == [("sequence_gap", "7 to 8"), ("sequence_reset", "1")]
    again = channel_of([5, 6, 9, 1, 2, 7])
    assert [(g.first, g.last) for g in again.gaps] == [(3, 6)], "a number of the new count fills no old gap"
    assert [(g.first, g.last) for g in again.lost] == [(7, 8)]
    assert told([500, 501, 300, 301, 302]) == [("sequence_reset", "300")]


def test_a_number_that_comes_again_is_told() -> None:
    assert told([500, 501, 300, 502]) == [("sequence_repeated", "300")]
    channel = Channel()
    for number in (1, 2, 2):
        channel.take(number, place(0), NOW)
    assert [f.kind for f in channel.findings(("alpha", ""), LATER)] == ["sequence_repeated"]


@given(st.randoms(use_true_random=False), st.integers(1, 60), st.sets(st.integers(0, 59)))
def test_what_is_missing_does_not_depend_on_the_order_within_the_channel(
    numbers: random.Random, count: int, lost: set[int]
) -> None:
    """As long as the first and the last are those: what came before the first is not known to be missing."""
    sent = [n for n in range(10, 10 + count) if n - 10 not in lost]
    middle = sent[1:-1]
    numbers.shuffle(middle)
    channel = channel_of([*sent[:1], *middle, *sent[-1:]] if len(sent) > 1 else sent)
    assert channel.received == len(sent)
    missing = {n for g in channel.gaps for n in range(g.first, g.last + 1)}
    assert missing == set(range(sent[0], sent[-1])) - set(sent) if sent else missing == set()
    assert not channel.incidents


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"sequence": -1}, "sequence-number"),
        ({"sequence": "1.5"}, "sequence-number"),
        ({"sequence": str(2**63)}, "sequence-number"),
        ({"sequence": "next"}, "decimal"),
        ({"channel": "A"}, "required"),
        ({"sequence": 1, "channel": ""}, "text"),
    ],
)
def test_numbers_that_are_none_are_refused(changes: dict[str, Any], rule: str) -> None:
    book = catalogue()
    with pytest.raises(InvalidInput) as refusal:
        parse_claim(claim_body(**changes), book.series, book.active)
    assert [v.rule for v in refusal.value.violations] == [rule]


def numbered(n: int, number: object, **more: Any) -> Claim[Any]:
    book = catalogue()
    return parse_claim(claim_body(snap=snap(n).text, sequence=number, **more), book.series, book.active)


def test_a_claim_carries_its_number_to_the_log_and_back() -> None:
    one = numbered(0, "9223372036854775807", channel="A")
    assert (one.sequence, one.channel) == (2**63 - 1, "A")
    assert Claim.from_json(one.as_json()) == one
    plain = numbered(0, 3)
    assert "channel" not in plain.as_json()
    assert len({numbered(0, n).claim_id for n in (1, 2, "2")}) == 2, "two messages are two claims"


class Kept:
    """``Sequences`` over the scoreboard in memory."""

    def __init__(self, scores: MemoryScores) -> None:
        self._scores = scores
        self.known: dict[Key, dict[str, Any]] = {}

    def untold(self) -> Mapping[Key, Channel]:
        return {k: Channel.of(b) for k, b in self._scores.numbered.items() if self.known.get(k) != b}

    def told(self, channels: Mapping[Key, Channel]) -> None:
        self.known |= {k: c.as_json() for k, c in channels.items()}


def test_a_gap_is_an_exception_of_its_channel_until_late_claims_fill_it() -> None:
    log, store = MemoryEventStore(lambda: NOW), MemoryEventStore()
    scores = MemoryScores(log)
    kept, book = Kept(scores), FixedCatalogue(catalogue())
    quality = Quality(store, book, MemoryFacts(store), ())

    def arrive(*claims: Claim[Any], now: datetime = LATER) -> None:
        for claim in claims:
            stream = ev.value_stream(EUR, claim.snap.text)
            log.append([append(stream, log.versions([stream]).get(stream, 0), ingested(claim))])
        Scoreboard(scores, book, lambda: 0.0).advance(NOW, 2)
        quality.sequences(kept, now)

    def open_() -> list[tuple[str, str, str]]:
        return [
            (e.data["kind"], e.data["scope"], e.data["checks"][0]["measured"])
            for e in store.log
            if e.type == ev.QUALITY_ISSUE_DETECTED and store.issue_status[UUID(e.data["issue_id"])] == "open"
        ]

    arrive(*(numbered(n, 10 + n, channel="A") for n in (0, 1, 4)), now=NOW)
    arrive(*(numbered(n, n, source=SOURCES[1]) for n in (0, 2)), now=NOW)
    assert open_() == [], "a neighbour may be on its way"
    arrive()
    assert sorted(open_()) == [
        ("sequence_gap", "sequence/alpha/A", "12 to 13"),
        ("sequence_gap", f"sequence/{SOURCES[1]}", "1"),
    ]
    before = len(store.log)
    arrive()
    arrive(now=LATER + timedelta(days=1))
    assert len(store.log) == before, "nothing is told twice"
    arrive(numbered(2, 12, channel="A"))
    assert len(open_()) == 2, "half of it is still missing"
    arrive(numbered(3, 13, channel="A"))
    assert open_() == [("sequence_gap", f"sequence/{SOURCES[1]}", "1")]
    assert scores.channels("alpha")["A"].summary("A") == {
        "channel": "A",
        "last": 14,
        "received": 5,
        "missing": 0,
        "resets": 0,
        "repeated": 0,
        "gaps": [],
    }
