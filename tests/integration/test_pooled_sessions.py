"""What the functions behind the proxy do in the database, none of which may rest on a session.

RDS Proxy gives a session to whoever runs a transaction. Where it sees state of the session, it pins it to the
client for as long as that is connected, and then shares nothing.
https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/rds-proxy-pinning.html
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from qis.adapters.postgres import connection
from qis.adapters.postgres.connection import SESSION_SETTINGS, Database, Target
from qis.adapters.postgres.push import PostgresConnections
from qis.application.relay import backbone_record
from qis.settings import FUNCTIONS
from tests.api.world import BASE, INTRADAY, World, reading
from tests.support.builders import kinesis_event
from tests.support.databases import FreshDatabase
from tests.support.lambdas import Context, set_powertools
from tests.support.pooling import REFUSED, Pool, Statement

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:No application metrics to publish"),
]

PINNING = re.compile(
    r"\bSET\s+(?!LOCAL\b)(SESSION\s+)?[a-z_.]+\s*(=|TO)|\bset_config\s*\(|\bRESET\b|\bLISTEN\b|\bDISCARD\b"
    r"|^\s*(PREPARE|EXECUTE|DEALLOCATE|DECLARE|LOAD)\b|\bTEMP(ORARY)?\b|\bpg_(try_)?advisory_lock"
    r"|\b(nextval|setval|currval|lastval)\s*\(",
    re.IGNORECASE,
)
UPDATE_SET = re.compile(r"\bUPDATE\b.*?\bSET\b", re.IGNORECASE | re.DOTALL)
MAX_STATEMENT = 16_384
"""Bytes of a statement's text beyond which the proxy pins."""


def pins(statement: Statement) -> bool:
    """Whether the proxy would pin the session of this statement."""
    text = UPDATE_SET.sub("UPDATE", statement.text)
    return bool(statement.name) or len(text) > MAX_STATEMENT or PINNING.search(text) is not None


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("SELECT 1", "", False),
        ("SELECT 1", "_pg3_0", True),
        ("SET statement_timeout = 0", "", True),
        ("BEGIN; SET LOCAL statement_timeout = 0", "", False),
        ("SELECT set_config('lock_timeout', '1s', true)", "", True),
        ("SELECT pg_advisory_lock(1)", "", True),
        ("SELECT pg_try_advisory_lock(1)", "", True),
        ("SELECT pg_advisory_xact_lock(1)", "", False),
        ("INSERT INTO t VALUES (1) ON CONFLICT (x) DO UPDATE SET x = 1", "", False),
        ("CREATE TEMPORARY TABLE t (x int)", "", True),
        ("LISTEN channel", "", True),
        ("NOTIFY channel", "", False),
        ("SELECT '" + "x" * MAX_STATEMENT + "'", "", True),
    ],
)
def test_what_pins(text: str, name: str, expected: bool) -> None:
    assert pins(Statement(text, name)) == expected


@pytest.fixture
def pool(database: FreshDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    monkeypatch.setattr(connection, "PROXY", "127.0.0.1")
    made = Pool(database.server.port)
    yield made
    made.close()


@pytest.fixture
def pooled(database: FreshDatabase, pool: Pool) -> Database:
    """The database of a function that reaches it through the proxy."""
    host, name, user = database.target.host, database.target.database, database.target.user
    return database.made(Target(host, pool.port, name, user), "qis-test")


@pytest.fixture
def function(
    database: FreshDatabase, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Callable[[dict[str, Any]], Any]]]:
    """Handlers of functions whose database is behind the proxy."""
    known = database.variables() | {"QIS_DATABASE_PORT": str(pool.port), "AWS_REGION": "eu-central-1"}
    set_powertools(monkeypatch)
    for variable in known.keys() - {v for v in known if v.startswith("QIS_")}:
        monkeypatch.setenv(variable, known[variable])
    optional = {"QIS_CACHE_URL": "", "QIS_CACHE_GROUP": "", "QIS_CACHE_USER": "", "QIS_WINDOW_SECONDS": "60"}
    loaded = []

    def made(name: str) -> Callable[[dict[str, Any]], Any]:
        module = importlib.reload(importlib.import_module(f"lambdas.{name}.handler"))
        monkeypatch.setattr(module, "Database", database.made)
        loaded.append(module)
        own = FUNCTIONS[name].variables()
        with monkeypatch.context() as starting:
            for variable in own:
                starting.setenv(variable, known.get(variable, optional.get(variable, "none")))
            module.bootstrap()
        return lambda event: module.handler(event, Context())

    yield made
    for module in loaded:
        module.bootstrap.cache_clear()


def claims(*values: str, source: str = "ecb", id_: str = INTRADAY) -> list[bytes]:
    snap = "2026-01-05T09:0{}:00Z"
    return [
        json.dumps({"snap": snap.format(n), "value": v, "source": source, "reference_data_id": id_}).encode()
        for n, v in enumerate(values)
    ]


def test_the_functions_behind_the_proxy_work_on_any_session_and_pin_none(
    pool: Pool, pooled: Database, function: Callable[[str], Callable[[dict[str, Any]], Any]]
) -> None:
    world = World(pooled).populate()
    ingest, reconcile, quality, query = map(function, ("ingest", "reconcile", "quality", "query"))
    for batch in (claims("100", "101", "9999"), claims("100", "100.5", source="vendor-a")):
        for _ in range(8):  # a statement is prepared when it has run five times, if it ever is
            assert ingest(kinesis_event(batch, "ingest")) == {"batchItemFailures": []}
    events = [backbone_record(e)[1] for e in world.log()]
    for _ in range(2):
        reconcile(kinesis_event(events))
    quality(kinesis_event([backbone_record(e)[1] for e in world.log()]))
    quality({"detail-type": "Scheduled Event"})
    assert query({"httpMethod": "GET", "resource": "/ready", "path": "/ready"})["statusCode"] == 200

    snap = "2026-01-05T09:00:00Z"
    body = {"claims": [json.loads(c) for c in claims("7", "x", source="vendor-b")]}
    assert world.send("POST", "/api/v1/data/ingest", body).status == 202
    told = world.send("POST", f"{BASE}/restate", {"snap": snap, "value": "99", "reason": "r"}, id=INTRADAY)
    assert told.status == 200, told.text
    for resource in ("official", "explain", "lineage", "sources", "rules"):
        assert world.get(f"{BASE}/{resource}", INTRADAY, snap=snap).status == 200
    for _ in range(7):
        span = {"from_": "2026-01-01", "to": "2026-02-01"}
        assert world.call(reading(f"{BASE}/historical", INTRADAY, **span)).status == 200
        assert world.get(f"{BASE}/audit", INTRADAY).status == 200
        assert world.get(f"{BASE}/quality", INTRADAY, timeWindow="P30D").status in (200, 400)
        assert world.get("/api/v1/exceptions").status == 200
    item = world.get("/api/v1/exceptions").json["items"][0]["item"]
    value = {"value": "101"}
    approved = world.send("POST", "/api/v1/exceptions/{item}/approve", value, "bob", item=item)
    assert approved.status == 200, approved.text
    world.watch.follow([json.loads(backbone_record(e)[1]) for e in world.log()], datetime.now(UTC))
    assert world.get("/api/v1/issues").status == 200
    world.scoreboard.advance(datetime.now(UTC))
    assert world.get("/api/v1/sources/{source}/scorecard", "ecb").status == 200
    assert world.faults.seen == []

    assert pool.switches > 100, "transactions ran on one session after the other"
    assert len(pool.statements) > 200
    pinning = {s.name + ": " + s.text[:200] for s in pool.statements if pins(s)}
    assert not pinning


@pytest.mark.parametrize(
    ("host", "shared"),
    [
        ("qis-prod-store.proxy-c0ffee.eu-central-1.rds.amazonaws.com", True),
        ("qis-prod-store.cluster-c0ffee.eu-central-1.rds.amazonaws.com", False),
        ("qis-prod-store.cluster-ro-c0ffee.eu-central-1.rds.amazonaws.com", False),
    ],
)
def test_a_proxy_is_known_by_its_endpoint(host: str, shared: bool) -> None:
    assert Target(host, 5432, "qis", "qis_app", "iam").shared == shared


def test_what_rests_on_a_session_is_seen(pool: Pool, pooled: Database) -> None:
    """The push channel holds locks of its session, which is why it goes to the server itself."""
    at = datetime(2026, 1, 5, tzinfo=UTC)
    with PostgresConnections(pooled).hold("c", at) as listener:
        assert listener is None
    assert [s.text for s in pool.statements if pins(s)] != []


def test_the_proxy_refuses_connections_that_bring_options(database: FreshDatabase, pool: Pool) -> None:
    with pytest.raises(psycopg.OperationalError, match=re.escape(REFUSED)):
        psycopg.connect(
            host="127.0.0.1",
            port=pool.port,
            dbname=database.name,
            user=database.target.user,
            options="-c statement_timeout=20s",
        )


def test_every_session_of_the_functions_role_has_its_settings(pooled: Database) -> None:
    session = pooled.connect()
    shown = {}
    for name in SESSION_SETTINGS:
        row = session.execute("SELECT setting, unit FROM pg_settings WHERE name = %s", (name,)).fetchone()
        assert row is not None
        shown[name] = row
    assert shown["statement_timeout"] == ("20000", "ms")
    assert shown["idle_in_transaction_session_timeout"] == ("20000", "ms")
    rows = session.execute("SELECT unnest(rolconfig) FROM pg_roles WHERE rolname = current_user")
    assert {r[0] for r in rows} == {f"{name}={value}" for name, value in SESSION_SETTINGS.items()}
