"""The recovery drill, short: a twin's event store is destroyed under load and comes back with everything."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local.drill import Report, run

RTO, RPO = 900.0, 300.0


@pytest.fixture(scope="module")
def report() -> Iterator[Report]:
    """One drill for all that is asked of it."""
    work = Path(tempfile.mkdtemp(prefix="qis-drill-"))
    work.chmod(0o755)  # PostgreSQL runs as nobody where the tests run as root
    try:
        yield run(work, rate=20, seconds=3, archive_every=600, note=lambda _: None)
    finally:
        shutil.rmtree(work)


@pytest.mark.slow
def test_the_log_came_back_beyond_what_was_archived(report: Report) -> None:
    """Nothing was archived after the backup: the tail came from the stream of events."""
    assert report.given_back > 0
    assert report.restored_to_seconds_before > 1


@pytest.mark.slow
def test_nothing_that_a_stream_acknowledged_is_lost_and_of_the_rest_only_the_last_moment(
    report: Report,
) -> None:
    """What a person was told is done is lost only if the relay had not seen it: milliseconds of it."""
    assert report.acknowledged_before > 50
    assert report.lost.get("stream", 0) == 0
    assert sum(report.lost.values()) <= 1
    assert report.rpo_seconds <= 1


@pytest.mark.slow
def test_nothing_is_twice_wrong_or_missing_and_old_answers_are_the_same_bytes(report: Report) -> None:
    assert report.sound, report.document()


@pytest.mark.slow
def test_consumers_have_everything_and_some_again(report: Report) -> None:
    """At least once: what was read again was delivered again, under the same ids."""
    assert report.undelivered == 0
    assert report.delivered_again > 0


@pytest.mark.slow
def test_the_targets_are_met(
    report: Report, record_testsuite_property: Callable[[str, object], None]
) -> None:
    record_testsuite_property("recovery drill", report.document())
    assert 0 < report.restored_seconds < report.given_back_seconds < report.rto_seconds < RTO
    assert report.rpo_seconds < RPO
