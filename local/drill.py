"""The recovery drill: a twin that is written to loses its event store, and gets it back.

As production recovers (``docs/recovery.md``), with the same parts: a base backup and the archived
write-ahead log give the store back up to the last archived part; the stream of events gives back the tail
after it; the ingest stream is read again from before that point, where what is known already is seen. The
writers go on meanwhile, as feeds do, and repeat what nobody acknowledged.

Then everything that was acknowledged is looked for, and what was measured is told.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from local import template
from local.aws import AwsServer, client
from local.identity import token
from local.poller import Checkpoints
from local.postgres import OWNER, PostgresServer
from local.processes import Server, accepts, spawn, wait_until
from local.state import twin_running
from local.template import TEMPLATE

if TYPE_CHECKING:
    from psycopg import Connection

SERIES = tuple(f"DRILL.{n:02d}" for n in range(8))
SOURCE, RULES, LOAD = "drill", "drill", "drill"
FIRST_SNAP = datetime(2026, 1, 5, tzinfo=UTC)
REST_SHARE = 5
"""Each fifth claim comes by REST, the others by the stream."""
CORRECT_EVERY = 20
"""Each twentieth value is corrected by a person, which no stream repeats."""
WITNESSES = 5
"""Answers read shortly before the loss, that have to be the same bytes after it."""
MARGIN = timedelta(minutes=10)
"""How much earlier than the end of the restored log streams are read again."""
AFTER = 2.0
"""Seconds for which is written on once it is possible again."""
PATIENCE = 120.0
CONSUMER = "consumer-risk"
TWICE = {
    "event ids": "SELECT event_id FROM events",
    "places": "SELECT tx, position FROM events",
    "versions of a stream": "SELECT stream, version FROM events",
    "records": "SELECT data ->> 'record_id' FROM events WHERE type = 'DataIngested'",
    "official versions": "SELECT data ->> 'reference_data_id', data ->> 'snap', data ->> 'official_version'"
    " FROM events WHERE type IN ('DataPublished', 'DataRestated')",
}
"""What may be in the log once only."""

TWIN = """
import sys
from pathlib import Path
from local.supervisor import run
run(Path(sys.argv[1]))
"""

Note = Callable[[str], None]


@dataclass(slots=True)
class Given:
    """Something that was written, and what was heard of it."""

    number: int
    way: str
    """``stream``, ``rest`` or ``correction``."""
    value: str
    acknowledged_at: float | None = None

    @property
    def series(self) -> str:
        return SERIES[self.number % len(SERIES)]

    @property
    def snap(self) -> str:
        return (FIRST_SNAP + timedelta(minutes=self.number // len(SERIES))).isoformat()


@dataclass(slots=True)
class Report:
    """What the drill found. Seconds count from the loss, unless they say otherwise."""

    rate: float
    archived_every_seconds: int
    acknowledged: int = 0
    acknowledged_before: int = 0
    """Of these, before everything that wrote to the lost store had ended."""
    restored_to_seconds_before: float = 0.0
    """How old the end of the restored log was at the loss: what would be lost without the streams."""
    given_back: int = 0
    """Events that came back from the stream of events."""
    read_again: int = 0
    """Events that came back because the ingest stream was read again, or that a client repeated."""
    lost: dict[str, int] = field(default_factory=dict)
    """What was acknowledged and is nowhere now, by its way in."""
    rpo_seconds: float = 0.0
    """Age, at the loss, of the oldest thing that was lost; 0 where nothing was."""
    stopped_seconds: float = 0.0
    restored_seconds: float = 0.0
    given_back_seconds: float = 0.0
    rto_seconds: float = 0.0
    """Until the first write was acknowledged again."""
    caught_up_seconds: float = 0.0
    """Until everything written meanwhile was official and delivered."""
    fenced: bool = False
    twice: dict[str, int] = field(default_factory=dict)
    """What is in the log more than once, by what may not be."""
    gaps: int = 0
    wrong_values: int = 0
    """Official values that are not those of an undisturbed run."""
    changed_answers: int = 0
    """Answers of before the loss that are other bytes now."""
    unequal_models: list[str] = field(default_factory=list)
    """Read models that do not follow from the log."""
    undelivered: int = 0
    delivered_again: int = 0

    @property
    def sound(self) -> bool:
        """Nothing twice, nothing wrong, nothing missing but what is counted as lost."""
        return self.fenced and not (
            any(self.twice.values())
            or self.gaps
            or self.wrong_values
            or self.changed_answers
            or self.unequal_models
            or self.undelivered
            or self.lost.get("stream")
        )

    def document(self) -> dict[str, Any]:
        """As JSON."""
        rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in asdict(self).items()}
        return {**rounded, "sound": self.sound}


class TwinProcess(Server):
    """A twin in a process of its own."""

    ends_on = signal.SIGINT
    patience = 90.0

    def __init__(self, work: Path) -> None:
        super().__init__()
        self._work = work
        self.state: Mapping[str, Any] = {}

    def start(self) -> None:
        """Start, and wait until it is ready."""
        self._child = spawn([sys.executable, "-c", TWIN, str(self._work)], self._work / "up.log")
        wait_until(self._ready, "the twin is not ready", PATIENCE, every=0.05)

    def _ready(self) -> bool:
        if not self.alive():
            raise RuntimeError(f"the twin ended at start, see {self._work / 'up.log'}")
        found = twin_running(self._work)
        self.state = found or {}
        return found is not None

    def ended(self) -> bool:
        return not self.alive()


class Writer(threading.Thread):
    """Writes at a known rate, and repeats what nobody acknowledged, as clients and feeds do."""

    def __init__(self, work: Path, rate: float) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._every = 1 / rate
        self._stopping = threading.Event()
        self.given: list[Given] = []
        self._token = ""
        self.error: BaseException | None = None

    def run(self) -> None:
        """Write until told to stop; what was begun is brought to its end."""
        try:
            with httpx.Client(timeout=10, trust_env=False) as http:
                number, due = 0, time.monotonic()
                while not self._stopping.is_set():
                    way = "rest" if number % REST_SHARE == 0 else "stream"
                    claim = Given(number, way, f"{1 + number % 997 / 1000:.3f}")
                    self._until_acknowledged(claim, http)
                    if number % CORRECT_EVERY == 0:
                        self._until_acknowledged(Given(number, "correction", f"{claim.value}5"), http)
                    number += 1
                    due = max(due + self._every, time.monotonic() - 1)  # no burst after a pause
                    self._stopping.wait(max(0.0, due - time.monotonic()))
        except BaseException as error:  # noqa: BLE001 - raised again by who waits for this thread
            self.error = error

    def stop(self) -> None:
        """Write no more."""
        self._stopping.set()
        if self.is_alive():
            self.join(PATIENCE)

    def finish(self) -> None:
        """Stop, and raise what went wrong."""
        self.stop()
        if self.error is not None:
            raise self.error

    def _until_acknowledged(self, given: Given, http: httpx.Client) -> None:
        self.given.append(given)
        while given.acknowledged_at is None:
            with suppress(httpx.TransportError, OSError, _Again):
                self._once(given, http)
                given.acknowledged_at = time.time()
                return
            if self._stopping.wait(0.05):
                return

    def _once(self, given: Given, http: httpx.Client) -> None:
        state = twin_running(self._work)
        if state is None:
            raise _Again
        claim = {
            "snap": given.snap,
            "reference_data_id": given.series,
            "source": SOURCE,
            "value": given.value,
            "record_id": f"{LOAD}:{given.number}",
        }
        if given.way == "stream":
            self._put(state, http, claim)
        elif given.way == "rest":
            del claim["record_id"]
            route = f"/api/v1/data/reference/{given.series}/ingest"
            self._post(state, http, route, claim, key=f"{LOAD}-{given.number}")
        elif not self._corrected(state, http, given):
            body = {"snap": given.snap, "value": given.value, "reason": "drill"}
            self._post(state, http, f"/api/v1/data/reference/{given.series}/restate", body)

    def _corrected(self, state: Mapping[str, Any], http: httpx.Client, given: Given) -> bool:
        """Whether a correction was made of which nobody heard."""
        url = f"{state['api']}/api/v1/data/reference/{given.series}/official"
        headers = _bearer(state)
        answer = http.get(url, params={"snap": given.snap}, headers=headers)
        return answer.status_code == 200 and answer.json()["value"] == given.value

    def _put(self, state: Mapping[str, Any], http: httpx.Client, claim: Mapping[str, Any]) -> None:
        import base64

        data = base64.b64encode(json.dumps({**claim, "correlation_id": LOAD}).encode()).decode()
        asked = {"StreamName": state["streams"]["ingest"], "PartitionKey": claim["reference_data_id"]}
        headers = {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": "Kinesis_20131202.PutRecord",
        }
        answer = http.post(state["aws"], content=json.dumps({**asked, "Data": data}), headers=headers)
        if answer.is_error:
            raise _Again

    def _post(
        self, state: Mapping[str, Any], http: httpx.Client, route: str, body: Mapping[str, Any], key: str = ""
    ) -> None:
        headers = _bearer(state)
        if key:
            headers["Idempotency-Key"] = key
        answer = http.post(f"{state['api']}{route}", json=dict(body), headers=headers)
        # What is corrected may not be official yet; everything else is the server's.
        if answer.status_code in (404, 409) or answer.status_code >= 500:
            raise _Again
        answer.raise_for_status()


class _Again(Exception):
    """Not acknowledged: to be repeated."""


def _bearer(state: Mapping[str, Any]) -> dict[str, str]:
    """The header of whoever runs the drill."""
    return {"Authorization": f"Bearer {token(state, 'admin', 'drill')}"}


def run(
    work: Path, *, rate: float = 20.0, seconds: float = 20.0, archive_every: int = 5, note: Note = print
) -> Report:
    """The drill, in an empty directory that it leaves to the caller.

    Args:
        work: where the twin lives.
        rate: claims a second.
        seconds: how long is written before the loss, after the backup.
        archive_every: seconds after which the write-ahead log is archived, see ``PostgresServer.archive``.
        note: told what is being done.

    Raises:
        RuntimeError, TimeoutError: a part does not do what the drill needs.
    """
    return _Drill(work, rate, archive_every, note).run(seconds)


class _Drill:
    """The steps, each measured from the loss."""

    def __init__(self, work: Path, rate: float, archive_every: int, note: Note) -> None:
        self._work = work
        self._note = note
        self._twin = TwinProcess(work)
        self._writer = Writer(work, rate)
        self._report = Report(rate, archive_every)
        self._lost_at = self._fenced_at = 0.0
        self._witnesses: dict[str, bytes] = {}
        self._http = httpx.Client(timeout=30, trust_env=False)

    def run(self, seconds: float) -> Report:
        try:
            self._begin()
            time.sleep(seconds)
            self._lose()
            self._recover()
            self._go_on()
            self._look()
        finally:
            self._writer.stop()
            self._twin.stop()
            self._http.close()
        return self._report

    def _since(self) -> float:
        return time.time() - self._lost_at

    # before --------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._note("starting a twin whose event store is archived")
        with PostgresServer(self._work) as server:
            server.archive(self._report.archived_every_seconds)
        self._twin.start()
        self._register()
        self._writer.start()
        wait_until(lambda: len(self._writer.given) > CORRECT_EVERY, "nothing is written", PATIENCE)
        self._note("backing up, and writing on")
        PostgresServer(self._work).back_up(_port(self._twin.state["postgres"]))

    def _register(self) -> None:
        rules = {
            "rules": RULES,
            "method": "precedence",
            "precedence": [SOURCE],
            "tolerance": "0.01",
            "min_sources": 1,
            "fallback": "median",
        }
        source = {"source": SOURCE, "name": "Drill", "kind": "internal", "licence": "none"}
        self._put("rules", RULES, rules)
        self._put("sources", SOURCE, source)
        meaning = {
            "price_type": "mid",
            "currency": "USD",
            "base_currency": "EUR",
            "timing": "point_in_time",
        }
        for name in SERIES:
            body = {"reference_data_id": name, "name": name, "kind": "fx_rate", "rules": RULES}
            self._put("series", name, {**body, "semantics": meaning})

    def _put(self, kind: str, name: str, body: Mapping[str, Any]) -> None:
        self._call("PUT", f"/api/v1/{kind}/{name}", json=dict(body)).raise_for_status()

    def _call(self, method: str, route: str, **more: Any) -> httpx.Response:
        headers = _bearer(self._twin.state)
        return self._http.request(method, f"{self._twin.state['api']}{route}", headers=headers, **more)

    # the loss ------------------------------------------------------------------------------------

    def _lose(self) -> None:
        """Take answers as witnesses, then destroy the store with everything in it."""
        for given in [g for g in list(self._writer.given) if g.acknowledged_at][: -len(SERIES)][-40:]:
            route = f"/api/v1/data/reference/{given.series}/official?snap={_quoted(given.snap)}"
            answer = self._call("GET", route)
            if answer.status_code == 200 and len(self._witnesses) < WITNESSES:
                at = f"{route}&basis={answer.json()['basis']}"
                self._witnesses[at] = self._call("GET", at).content
        if len(self._witnesses) < WITNESSES:
            raise RuntimeError("too few values were official before the loss to compare later")
        self._note("destroying the event store")
        self._port = _port(self._twin.state["postgres"])
        self._lost_at = time.time()
        PostgresServer(self._work).destroy(self._twin.state["processes"]["postgres"])
        self._note("waiting for everything that wrote to it to end: the fence")
        wait_until(self._twin.ended, "the twin goes on without its event store", PATIENCE)
        self._fenced_at = time.time()
        self._report.stopped_seconds = self._since()
        self._report.fenced = not accepts(self._port)

    # recovery ------------------------------------------------------------------------------------

    def _recover(self) -> None:
        from qis.adapters.aws.tail import events_since
        from qis.adapters.postgres.recovery import give_back, newest

        self._note("restoring the backup and what was archived since")
        server, aws = PostgresServer(self._work), AwsServer(self._work / "aws")
        server.restore()
        try:
            server.start()
            with closing(self._connect(server.port)) as connection:
                end = newest(connection)
                assert end is not None
                self._report.restored_seconds = self._since()
                self._report.restored_to_seconds_before = self._lost_at - end.timestamp()
                self._note("giving back what the stream of events holds")
                aws.start()
                kinesis, streams = aws.client("kinesis"), self._twin.state["streams"]
                done = give_back(connection, list(events_since(kinesis, streams["events"], end - MARGIN)))
                self._report.given_back = done.given_back
            self._rewind(aws, end - MARGIN)
            self._report.given_back_seconds = self._since()
            self._report.fenced &= server.port != self._port and not accepts(self._port)
        finally:
            server.stop()
            aws.stop()

    def _connect(self, port: int) -> Connection:
        import psycopg

        named = dict(part.split("=", 1) for part in self._twin.state["postgres"].split())
        return psycopg.connect(
            host="127.0.0.1", port=port, user=OWNER, dbname=named["dbname"], autocommit=True
        )

    def _rewind(self, aws: AwsServer, since: datetime) -> None:
        """Let every event source read again what arrived since: in AWS, a mapping made anew."""
        body = json.loads(TEMPLATE.read_text(encoding="utf-8"))
        # Only the sources are asked for, and no parameter is about them.
        wiring = template.read(body, dict.fromkeys(body["Parameters"], "0"), aws.url)
        kinesis, checkpoints = aws.client("kinesis"), Checkpoints(self._work / "checkpoints")
        for source in wiring.sources:
            for shard in kinesis.list_shards(StreamName=source.stream)["Shards"]:
                before = _last_before(kinesis, source.stream, shard["ShardId"], since)
                checkpoints.write(source.name, shard["ShardId"], before)

    # after ---------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        self._note("starting the functions on the restored store")
        self._twin.start()
        wait_until(lambda: self._first_after() is not None, "no write is acknowledged", PATIENCE)
        first = self._first_after()
        assert first is not None
        self._report.rto_seconds = first - self._lost_at
        time.sleep(AFTER)
        self._writer.finish()
        self._note("catching up")
        with closing(self._connect(_port(self._twin.state["postgres"]))) as connection:
            wait_until(lambda: self._at_rest(connection), "the pipeline does not come to rest", PATIENCE, 0.5)
        self._report.caught_up_seconds = self._since()

    def _first_after(self) -> float | None:
        """When a write by REST was first acknowledged by the new store; the stream takes records anyway."""
        later = [
            g.acknowledged_at
            for g in list(self._writer.given)
            if g.way != "stream" and g.acknowledged_at is not None and g.acknowledged_at > self._fenced_at
        ]
        return min(later, default=None)

    def _at_rest(self, connection: Connection) -> bool:
        from qis.adapters.postgres.followers import PostgresFollower

        before = self._moving()
        if PostgresFollower(connection, "backbone").behind() or None in before[0]:
            return False
        time.sleep(1.0)
        return before == self._moving()

    def _moving(self) -> tuple[list[Any], list[Any]]:
        sources = self._call("GET", "/_local/pipeline").json()["sources"]
        idle = [None if (s["idle_seconds"] or 0) < 0.5 else s["shard"] for s in sources]
        return idle, [(s["processed"], s["failed"]) for s in sources]

    # findings ------------------------------------------------------------------------------------

    def _look(self) -> None:
        self._note("looking for all that was acknowledged")
        with closing(self._connect(_port(self._twin.state["postgres"]))) as connection:
            self._look_for_the_acknowledged(connection)
            self._look_into_the_log(connection)
            self._look_at_values(connection)
            self._look_at_models(connection)
            self._look_at_the_consumer(connection)
        now = {route: self._call("GET", route).content for route in self._witnesses}
        self._report.changed_answers = sum(now[r] != before for r, before in self._witnesses.items())

    def _look_for_the_acknowledged(self, connection: Connection) -> None:
        """A claim is found by its value, which its snap has from nobody else; so is a correction."""
        held = set(
            connection.execute(
                "SELECT data ->> 'reference_data_id', (data ->> 'snap')::timestamptz, data ->> 'value'"
                " FROM events WHERE type IN ('DataIngested', 'DataPublished', 'DataRestated')"
            )
        )
        heard = [g for g in self._writer.given if g.acknowledged_at is not None]
        before = [g for g in heard if (g.acknowledged_at or 0) <= self._fenced_at]
        lost = [g for g in heard if (g.series, datetime.fromisoformat(g.snap), g.value) not in held]
        self._report.acknowledged, self._report.acknowledged_before = len(heard), len(before)
        self._report.lost = {way: sum(g.way == way for g in lost) for way in sorted({g.way for g in lost})}
        ages = [self._lost_at - (g.acknowledged_at or 0) for g in lost]
        self._report.rpo_seconds = max(0.0, *ages) if ages else 0.0

    def _look_into_the_log(self, connection: Connection) -> None:
        for what, query in TWICE.items():
            several = f"SELECT count(*) FROM (SELECT FROM ({query}) k GROUP BY k HAVING count(*) > 1) t"  # noqa: S608
            self._report.twice[what] = _count(connection, several)
        self._report.gaps = _count(
            connection,
            "SELECT count(*) FROM (SELECT FROM events e JOIN stream_heads h USING (stream)"
            " GROUP BY e.stream, h.version HAVING count(*) <> h.version OR max(e.version) <> h.version) t",
        )
        self._report.read_again = _count(
            connection,
            "SELECT count(*) FROM events WHERE recorded_at > to_timestamp(%s) AND type = 'DataIngested'",
            self._lost_at,
        )

    def _look_at_values(self, connection: Connection) -> None:
        """One source speaks for each value, so the official one is the source's, or the correction's."""
        official = {
            (id_, snap): f"{value:f}"
            for id_, snap, value in connection.execute(
                "SELECT reference_data_id, snap, value FROM official_values WHERE superseded_at IS NULL"
            )
        }
        wanted: dict[tuple[str, datetime], str] = {}
        held = self._report.lost
        for given in self._writer.given:
            if given.acknowledged_at is not None:
                wanted[given.series, datetime.fromisoformat(given.snap)] = given.value
        wrong = [key for key, value in wanted.items() if official.get(key) != value]
        self._report.wrong_values = max(0, len(wrong) - sum(held.values()))

    def _look_at_models(self, connection: Connection) -> None:
        from qis.adapters.postgres.projections import MODELS
        from qis.adapters.postgres.rebuild import check

        self._report.unequal_models = [name for name in MODELS if not check(connection, name).equal]

    def _look_at_the_consumer(self, connection: Connection) -> None:
        sqs = client(self._twin.state["aws"], "sqs")
        url = self._twin.state["queues"][CONSUMER]
        seen: list[str] = []
        while found := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            seen += [json.loads(m["Body"])["detail"]["id"] for m in found]
            entries = [{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(found)]
            sqs.delete_message_batch(QueueUrl=url, Entries=entries)
        query = "SELECT event_id FROM events WHERE type IN ('DataPublished', 'DataRestated')"
        published = {str(event_id) for (event_id,) in connection.execute(query)}
        self._report.undelivered = len(published - set(seen))
        self._report.delivered_again = len(seen) - len(set(seen))


def _count(connection: Connection, query: str, *parameters: object) -> int:
    row = connection.execute(query.encode(), parameters or None).fetchone()
    assert row is not None
    return int(row[0])


def _last_before(kinesis: Any, stream: str, shard: str, since: datetime) -> str | None:
    """Sequence number of the last record of a shard before ``since``; ``None`` where there is none."""
    place = {"StreamName": stream, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"}
    iterator, last = kinesis.get_shard_iterator(**place)["ShardIterator"], None
    while True:
        answer = kinesis.get_records(ShardIterator=iterator)
        for record in answer["Records"]:
            if record["ApproximateArrivalTimestamp"] >= since:
                return last
            last = record["SequenceNumber"]
        if not answer["Records"] and not answer["MillisBehindLatest"]:
            return last
        iterator = answer["NextShardIterator"]


def _port(dsn: str) -> int:
    return int(dict(part.split("=", 1) for part in dsn.split())["port"])


def _quoted(text: str) -> str:
    return text.replace("+", "%2B")
