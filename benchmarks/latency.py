"""From a put on the ingest stream to the official value readable, in the running local twin.

Claims are put at a steady rate, whatever becomes of them; time counts from when a claim was due to be put,
so that a sender held up makes its claims late and not absent. A sample is asked for by REST until it is
there; of all claims the database tells when their official values were recorded. The twin keeps the
benchmark's own series (``BENCH.LATENCY.*``) and nothing else of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from benchmarks.common import Document, Options, Result, document, fsync_ms, main, percentiles
from local.aws import client
from local.identity import token
from local.processes import wait_until
from local.state import twin_running
from qis.cli.rest import Api, path
from qis.domain.errors import NotFound
from qis.domain.snap import parse_instant

RATE = 200
TICK = 0.05
"""Seconds between two puts."""
SERIES = 20
SAMPLE_EVERY = 25
ASK_EVERY = 0.02
"""Seconds between two requests for one sampled value: by so much its time may be too long."""
READERS = 8
PATIENCE = 60.0
SOURCE, RULES = "bench-latency", "bench-latency"


@dataclass(frozen=True, slots=True)
class Sent:
    """A claim and when it was due, in seconds since the epoch."""

    reference_data_id: str
    snap: str
    due: float


def run(given: Mapping[str, object] | None = None) -> Document:
    """The document. Options ``quick`` and ``data``: the twin's data directory.

    Raises:
        NotFound: no twin runs there.
    """
    options = Options.of(given or {})
    home = options.data or Path(os.environ.get("QIS_DATA_DIR", ".twin"))
    state = twin_running(home)
    if state is None:
        raise NotFound(f"no local twin runs on {home}; start one with `qis up`")
    bearer = token(state, "admin", "benchmark")
    ids = [f"BENCH.LATENCY.{n:02d}" for n in range(SERIES)]
    _register(Api(state["api"], bearer), ids)
    seconds = 3 if options.quick else 30
    with ThreadPoolExecutor(READERS) as readers:
        sent, asked, took = _send(state, bearer, ids, seconds, readers)
        readable = [a.result() for a in asked]
    recorded, postgres = _recorded(state, sent)
    interval = float(state["poll_interval_seconds"]) * 1000
    results = [
        _result("put to official readable by REST", readable, interval),
        _result("put to official recorded", recorded, interval),
        Result(
            "claims put", len(sent) / took, "claims/s", "asked for", RATE, len(sent) / took / RATE, len(sent)
        ),
    ]
    return document(
        "latency",
        results,
        postgres=postgres["server_version"],
        fsync={"on": postgres["fsync"] == "on", "write_8k_ms": fsync_ms(home)},
        poll_interval_ms=interval,
        asked_every_ms=ASK_EVERY * 1000,
    )


def _register(api: Api, ids: Sequence[str]) -> None:
    rules = {
        "rules": RULES,
        "method": "precedence",
        "precedence": [SOURCE],
        "tolerance": "0.001",
        "min_sources": 1,
        "fallback": "median",
    }
    source = {"source": SOURCE, "name": "Latency benchmark", "kind": "simulated", "licence": "none"}
    api.call("PUT", path("/api/v1/rules/{}", RULES), rules)
    api.call("PUT", path("/api/v1/sources/{}", SOURCE), source)
    for id_ in ids:
        series = {
            "reference_data_id": id_,
            "name": "Latency benchmark (made-up values)",
            "kind": "price",
            "rules": RULES,
            "semantics": {"price_type": "mid", "currency": "USD", "timing": "point_in_time"},
        }
        api.call("PUT", path("/api/v1/series/{}", id_), series)


def _send(
    state: Mapping[str, Any], bearer: str, ids: Sequence[str], seconds: int, readers: ThreadPoolExecutor
) -> tuple[list[Sent], list[Future[float]], float]:
    """What was put, the milliseconds of the sample, and the seconds that putting took."""
    kinesis = client(state["aws"], "kinesis")
    stream = state["streams"]["ingest"]
    sent: list[Sent] = []
    asked: list[Future[float]] = []
    begun = time.time()
    for tick in range(round(seconds / TICK)):
        due = begun + tick * TICK
        time.sleep(max(0.0, due - time.time()))
        batch = [_claim(ids, len(sent) + n, due) for n in range(round(RATE * TICK))]
        answer = kinesis.put_records(StreamName=stream, Records=[_record(s, len(sent)) for s in batch])
        if answer["FailedRecordCount"]:
            raise RuntimeError(f"the stream refused {answer['FailedRecordCount']} records")
        for one in batch:
            if len(sent) % SAMPLE_EVERY == 0:
                asked.append(readers.submit(_readable, state["api"], bearer, one))
            sent.append(one)
    return sent, asked, time.time() - begun


def _claim(ids: Sequence[str], number: int, due: float) -> Sent:
    # Every claim is of a moment of its own: each makes an official value.
    moment = datetime.fromtimestamp(due + number % 1000 / 1_000_000, UTC)
    return Sent(ids[number % len(ids)], moment.isoformat(timespec="microseconds"), due)


def _record(sent: Sent, number: int) -> dict[str, Any]:
    body = {
        "snap": sent.snap,
        "reference_data_id": sent.reference_data_id,
        "source": SOURCE,
        "value": f"{100 + number % 7}.25",
        "received_at": sent.snap,
        "correlation_id": "bench-latency",
    }
    return {"PartitionKey": sent.reference_data_id, "Data": json.dumps(body).encode()}


def _readable(api: str, bearer: str, sent: Sent) -> float:
    """Milliseconds from when the claim was due until the API answers with its official value."""
    where = path("/api/v1/data/reference/{}/official", sent.reference_data_id) + f"?snap={quote(sent.snap)}"
    with contextlib.closing(HTTPConnection(urlsplit(api).netloc, timeout=10)) as connection:

        def there() -> bool:
            connection.request("GET", where, headers={"Authorization": f"Bearer {bearer}"})
            answer = connection.getresponse()
            body = answer.read()
            if answer.status not in (200, 404):
                raise RuntimeError(f"the API answered {answer.status}: {body[:200]!r}")
            return answer.status == 200

        wait_until(there, f"{sent} is not official", PATIENCE, ASK_EVERY)
    return (time.time() - sent.due) * 1000


def _recorded(state: Mapping[str, Any], sent: Sequence[Sent]) -> tuple[list[float], dict[str, str]]:
    """Milliseconds from when each claim was due until its official value was recorded; settings."""
    import psycopg

    due = {(s.reference_data_id, parse_instant(s.snap, "snap").ns): s.due for s in sent}
    first = min(ns for _, ns in due)
    found: dict[tuple[str, int], datetime] = {}
    with psycopg.connect(state["postgres"], autocommit=True) as connection:

        def all_there() -> bool:
            rows = connection.execute(
                "SELECT reference_data_id, snap_ns, recorded_from FROM official_values"
                " WHERE reference_data_id LIKE 'BENCH.LATENCY.%%' AND snap_ns >= %s AND version = 1",
                (first,),
            )
            found.update({(id_, ns): at for id_, ns, at in rows})
            return due.keys() <= found.keys()

        wait_until(all_there, "not all claims became official", PATIENCE, 0.2)
        names = ("server_version", "fsync")
        rows = connection.execute(
            "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)", (list(names),)
        )
        settings: dict[str, str] = dict(rows.fetchall())
    return [(found[key].timestamp() - at) * 1000 for key, at in due.items()], settings


def _result(metric: str, taken: Sequence[float], interval: float) -> Result:
    p50, p95, p99 = percentiles(taken)
    return Result(
        metric,
        p50,
        "ms",
        "poll interval of the event sources",
        interval,
        p50 / interval,
        len(taken),
        p50,
        p95,
        p99,
    )


if __name__ == "__main__":
    main(run)
