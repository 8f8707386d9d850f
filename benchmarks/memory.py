"""Peak memory of what follows the log, with the largest claims and with many claims on one snap.

Each figure is that of a process of its own: what a warm function holds beside it is in the figure, too.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks import parts
from benchmarks.common import Document, Options, Result, document, main
from qis.adapters.postgres.connection import Database, Target
from qis.adapters.postgres.detector_states import PostgresDetectorStates
from qis.adapters.postgres.event_store import PostgresEventStore
from qis.adapters.postgres.followers import PostgresFollower
from qis.adapters.postgres.quality_facts import PostgresFacts
from qis.adapters.postgres.scoreboard import PostgresScoreStore
from qis.application.claimed_records import ClaimedRecords
from qis.application.detectors import Detectors
from qis.application.ports import Catalogue
from qis.application.quality import WATCHERS, Quality
from qis.application.reconcile import Reconciler, Trigger
from qis.application.record_detectors import RecordDetectors
from qis.application.relay import relay_batch
from qis.application.scoreboard import Scoreboard
from qis.domain import events as ev
from qis.domain.findings import Fact
from qis.domain.rules import RuleBook, parse_layer
from qis.domain.series import parse_series
from qis.domain.snap import Snap, parse_instant

FUNCTION_MB = 512
"""Smallest memory of the function in an environment."""
CLAIMS, QUICK_CLAIMS = 5_000, 50
ON_ONE_SNAP, QUICK_ON_ONE_SNAP = 20_000, 200
SNAPS, QUICK_SNAPS = 180, 6
ARRIVED = 3
"""A batch brings decisions on each third of the snaps: 60 are as many as have room in one."""
CONTRACTS, QUICK_CONTRACTS = 1_000, 20
"""Contracts of a chain; 1,000 are nearly the largest claim."""
CHAIN, PRICE, DOCUMENT = "OPT.BENCH", "BENCH.0", "NOTICE.BENCH"
SOURCES = ("alpha", "beta", "gamma")
FIRST = datetime(2026, 1, 5, 21, tzinfo=UTC)

_CLAIMS = """
INSERT INTO events (recorded_at, event_id, stream, version, type, type_version, actor, correlation_id, data)
SELECT now(), gen_random_uuid(), 'value:' || id || '@' || snap, n, 'DataIngested', 1, 'bench', 'bench',
    jsonb_build_object('reference_data_id', id, 'snap', snap, 'source', source, 'claim_id', md5(snap || n),
        'received_at', snap, 'value', value, 'record_id', md5(snap || n))
FROM json_to_recordset(%s) AS x(id text, snap text, source text, n integer, value jsonb)
"""

# Every earlier claim of a source is superseded by its last one, and named.
_DECISION = """
INSERT INTO events (recorded_at, event_id, stream, version, type, type_version, actor, correlation_id, data)
SELECT now(), gen_random_uuid(), 'value:' || %(id)s || '@' || %(snap)s, %(version)s, 'DataReconciled', 1,
    'bench', 'bench', jsonb_build_object('reference_data_id', %(id)s::text, 'snap', %(snap)s::text,
        'status', 'official', 'value', %(value)s::jsonb, 'method', 'precedence', 'sources_used', '[]'::jsonb,
        'sources_rejected', coalesce(jsonb_agg(jsonb_build_object('source', 's' || n %% 3,
            'claim_id', md5(n::text), 'value', n || '.25', 'rule', 'superseded',
            'detail', 's' || n %% 3 || ' said ' || n || '.75 later')), '[]'::jsonb))
FROM generate_series(1, %(claims)s::integer) n
"""

_HEADS = """
INSERT INTO stream_heads (stream, version, first_at, recorded_at)
SELECT stream, max(version), min(recorded_at), max(recorded_at) FROM events GROUP BY stream
"""


def run(given: Mapping[str, object] | None = None) -> Document:
    """The document. Options ``quick`` and ``data``."""
    options = Options.of(given or {})
    with parts.folder(options) as home, parts.postgres(home, options) as server:
        cases = {
            "scoreboard, claims of 64 kB": ("claims", "scoreboard"),
            "scoreboard, 20,000 claims on one snap": ("snap", "scoreboard"),
            "quality, chains of 64 kB": ("chains", "quality"),
            "relay, claims of 64 kB": ("claims", "relay"),
            "reconcile, 20,000 claims on one snap": ("undecided", "reconcile_price"),
            "reconcile, documents of 64 kB": ("documents", "reconcile_documents"),
        }
        results: list[Result] = []
        events: dict[str, int] = {}
        for metric, (filled, case) in cases.items():
            name = f"bench_memory_{filled}"
            target = server.database(name)
            if filled not in events:
                with contextlib.closing(server.connect(name)) as owner:
                    events[filled] = _FILLED[filled](owner, quick=options.quick)
                server.settle()
            process = [sys.executable, "-m", "benchmarks.memory", case, str(target.port), name]
            root = Path(__file__).parent.parent
            output = subprocess.run(process, check=True, stdout=subprocess.PIPE, text=True, cwd=root).stdout
            answer = json.loads(output)
            if answer["events"] < 1:
                raise RuntimeError(f"{metric}: nothing was done of {events[filled]} events")
            figures = (answer["peak_mb"], "MB", "memory of the function", FUNCTION_MB)
            results.append(Result(metric, *figures, answer["peak_mb"] / FUNCTION_MB, answer["events"]))
        return document("memory", results, **parts.about(home, server))


def _snap(day: int) -> str:
    return Snap.of(FIRST + timedelta(days=day)).text


def _chain(contracts: int) -> dict[str, Any]:
    strikes = range(50, 50 + contracts)
    return {
        "spot": "100.00",
        "contracts": [
            {"symbol": f"BENCH 270219C{k * 1000:08d}", "bid": f"{max(1, 3000 - k)}.00", "ask": "9000.10"}
            for k in strikes
        ],
    }


def _fill_claims(owner: Any, *, quick: bool) -> int:
    count, chain = (QUICK_CLAIMS, _chain(QUICK_CONTRACTS)) if quick else (CLAIMS, _chain(CONTRACTS))
    for day in range(count):
        _claims(owner, CHAIN, _snap(day % 50), [(SOURCES[day % 3], day + 1, chain)])
    return count


def _fill_snap(owner: Any, *, quick: bool) -> int:
    count = QUICK_ON_ONE_SNAP if quick else ON_ONE_SNAP
    step, version = count // 200, 0
    for first in range(0, count, step):
        rows = [(SOURCES[n % 3], version + n - first + 1, f"{n}.25") for n in range(first, first + step)]
        _claims(owner, PRICE, _snap(0), rows)
        version += step + 1
        _decide(owner, PRICE, 0, version, "1.25", first + step)
    return count + 200


def _fill_undecided(owner: Any, *, quick: bool) -> int:
    count = QUICK_ON_ONE_SNAP if quick else ON_ONE_SNAP
    for first in range(0, count, 100):
        rows = [(SOURCES[n % 3], n + 1, f"{n}.25") for n in range(first, first + 100)]
        _claims(owner, PRICE, _snap(0), rows)
    owner.execute(_HEADS)
    return count


def _fill_chains(owner: Any, *, quick: bool) -> int:
    """Each source corrects its chain of every snap twice, and each time it is decided on."""
    days, chain = (QUICK_SNAPS, _chain(QUICK_CONTRACTS)) if quick else (SNAPS, _chain(CONTRACTS))
    for day in range(days):
        for version in (1, 5, 9):
            rows = [(source, version + n, chain) for n, source in enumerate(SOURCES)]
            _claims(owner, CHAIN, _snap(day), rows)
            _decide(owner, CHAIN, day, version + 3, chain, version)
    owner.execute(_HEADS)
    return days * 12


def _fill_documents(owner: Any, *, quick: bool) -> int:
    """Three sources that each say three things of as many snaps as a batch of the backbone can bring."""
    days, size = (3, 100) if quick else (60, 60_000)
    for day in range(days):
        rows = [(SOURCES[n % 3], n + 1, {"text": f"{n // 3}{'x' * size}"}) for n in range(9)]
        _claims(owner, DOCUMENT, _snap(day), rows)
    owner.execute(_HEADS)
    return days * 9


_FILLED = {
    "claims": _fill_claims,
    "snap": _fill_snap,
    "chains": _fill_chains,
    "undecided": _fill_undecided,
    "documents": _fill_documents,
}


def _claims(owner: Any, id_: str, snap: str, rows: list[tuple[str, int, Any]]) -> None:
    given = [{"id": id_, "snap": snap, "source": s, "n": n, "value": value} for s, n, value in rows]
    owner.execute(_CLAIMS, (json.dumps(given),))


def _decide(owner: Any, id_: str, day: int, version: int, value: Any, claims: int) -> None:
    given = {"id": id_, "snap": _snap(day), "version": version, "value": json.dumps(value), "claims": claims}
    owner.execute(_DECISION, given)


# in the process that is measured --------------------------------------------------------------------------


class _Fixed:
    """A catalogue of a chain, a price and documents."""

    def __init__(self) -> None:
        names = {"name": "x", "rules": "bench"}
        semantics = {"price_type": "record", "timing": "point_in_time", "currency": "USD"}
        settings = {"underlying": "X", "exercise": "european", "rate": "0.04", "dividend_yield": "0"}
        chain = {"reference_data_id": CHAIN, "kind": "options_chain", "semantics": semantics, **names}
        price = {
            "reference_data_id": PRICE,
            "kind": "price",
            "semantics": {"price_type": "mid", "timing": "point_in_time", "currency": "USD"},
        }
        schema = {"type": "object", "properties": {"text": {"type": "string"}}}
        document_ = {
            "reference_data_id": DOCUMENT,
            "kind": "json",
            "semantics": {"price_type": "record", "timing": "point_in_time"},
            "record": {"schema": schema},
        }
        rules: dict[str, object] = {"rules": "bench", "method": "precedence", "precedence": list(SOURCES)}
        rules |= {"tolerance": "0.001", "min_sources": 1, "fallback": "median"}
        series = [
            parse_series({**chain, "record": {**settings, "slack": "0.05"}}),
            parse_series(price | names),
            parse_series(document_ | names),
        ]
        book = RuleBook([parse_layer(rules, 1)])
        self._catalogue = Catalogue(1, {s.reference_data_id: s for s in series}, {}, book)

    def current(self) -> Catalogue:
        return self._catalogue

    newest = current


def _scoreboard(database: Database) -> int:
    now = datetime.now(UTC)
    return Scoreboard(PostgresScoreStore(database), _Fixed(), time.monotonic).advance(now, seconds=1e9).events


def _quality(database: Database) -> int:
    """One batch as the backbone brings it, of snaps among others that are known."""
    store, facts = PostgresEventStore(database), PostgresFacts(database)
    records = ClaimedRecords(facts)
    watchers = (*WATCHERS, Detectors(PostgresDetectorStates(database), records), RecordDetectors(records))
    rows = database.connect().execute(
        "SELECT tx::text, position, data->>'snap' FROM events WHERE type = 'DataReconciled' AND version = 12"
        " ORDER BY tx, position"
    )
    last = rows.fetchall()
    said = dict.fromkeys(SOURCES, f"record:{'0' * 32}")
    for tx, position, snap in last:
        fact = Fact(parse_instant(snap, "snap"), "official", said)
        facts.keep([(CHAIN, fact, ev.Position(int(tx), position - 1))])
    query = "SELECT tx::text, position, data::text FROM events WHERE tx = %s::xid8 AND position = %s"
    batch = []
    for tx, position, _ in last[::ARRIVED]:
        (row,) = database.connect().execute(query, (tx, position)).fetchall()
        data = {**json.loads(row[2]), "sources_used": [{"source": s, "value": v} for s, v in said.items()]}
        batch.append({"type": ev.DATA_RECONCILED, "position": f"{tx}.{position}", "data": data})
    Quality(store, _Fixed(), facts, watchers).follow(batch)
    return len(batch)


class _Nowhere:
    """A backbone that takes everything and keeps nothing."""

    def put(self, records: Sequence[tuple[str, bytes]]) -> None:
        pass


def _relay(database: Database) -> int:
    follower, relayed = PostgresFollower(database.connect(), "bench"), 0
    while count := relay_batch(follower, _Nowhere(), datetime.now(UTC)):
        relayed += count
    return relayed


def _reconcile_price(database: Database) -> int:
    snap = parse_instant(_snap(0), "snap")
    Reconciler(PostgresEventStore(database), _Fixed()).run([Trigger(PRICE, snap, "bench", None)])
    return 1


def _reconcile_documents(database: Database) -> int:
    query = "SELECT DISTINCT data->>'snap' FROM events ORDER BY 1 LIMIT 60"
    snaps = [parse_instant(snap, "snap") for (snap,) in database.connect().execute(query)]
    Reconciler(PostgresEventStore(database), _Fixed()).run(Trigger(DOCUMENT, s, "bench", None) for s in snaps)
    return len(snaps)


def _peak_mb() -> float:
    """Of this program alone: ``getrusage`` counts what the process was before it became this program."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = (text for text in status.splitlines() if text.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def _measure(case: str, port: str, name: str) -> None:
    database = Database(Target(parts.HOST, int(port), name, parts.APP), "qis-bench")
    cases = {
        "scoreboard": _scoreboard,
        "quality": _quality,
        "relay": _relay,
        "reconcile_price": _reconcile_price,
        "reconcile_documents": _reconcile_documents,
    }
    events = cases[case](database)
    database.close()
    json.dump({"events": events, "peak_mb": _peak_mb()}, sys.stdout)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        _measure(*sys.argv[1:])
    else:
        main(run)
