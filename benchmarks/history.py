"""Ten years of official values by the real ``query`` handler, page after page, beside one bare SELECT.

All pages are read on the basis of the first, as the CLI does; of the versions stored the newest is asked for.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from urllib.parse import parse_qsl, urlsplit

from benchmarks import feed, parts, published
from benchmarks.common import Document, Options, Rounds, against, document, main
from benchmarks.query import BARE, Reader, reader
from qis.api.http import CSV, JSON

DAYS = 3_650
PAGE = 1_000
_SELECT = (
    "SELECT snap, value, version, recorded_from, tx::text, position, details FROM official_values"
    " WHERE reference_data_id = %s AND superseded_at IS NULL ORDER BY snap_ns"
)


def run(given: Mapping[str, object] | None = None) -> Document:
    """The document. Options ``quick`` and ``data``."""
    options = Options.of(given or {})
    days, series, rounds = (20, 2, 1) if options.quick else (DAYS, 4, 10)
    ids = feed.series_ids(series)
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(parts.folder(options))
        server = stack.enter_context(parts.postgres(home, options))
        read = stack.enter_context(reader(home, server, "bench_history", ids, published.keys(ids, days)))
        elsewhere = itertools.count()
        taken = {media: _measure(read, ids, days, rounds, media, elsewhere) for media in (JSON, CSV)}
        results = [
            against(f"history of {days} values, {media}", "values/s", days * len(ids), mine, BARE, bare)
            for media, (mine, bare) in taken.items()
        ]
        return document("history", results, **parts.about(home, server), page=PAGE)


def _measure(
    read: Reader, ids: Sequence[str], days: int, rounds: int, media: str, elsewhere: Iterator[int]
) -> tuple[Rounds, Rounds]:
    mine, bare = Rounds([], []), Rounds([], [])
    with parts.quiet():
        for number in range(rounds + 1):
            # An answer on one basis never changes, and is cached: each round has a basis of its own.
            published.publish(read.database, published.keys(["BENCH.ELSEWHERE"], 1, next(elsewhere)), 1)
            if number == 1:
                mine, bare = Rounds([], []), Rounds([], [])
            gc.collect()
            mine.run([partial(_pull, read, i, days, media) for i in ids])
            bare.run([partial(_select, read, i) for i in ids])
    return mine, bare


def _select(read: Reader, reference_data_id: str) -> None:
    read.owner.execute(_SELECT, (reference_data_id,)).fetchall()


def _pull(read: Reader, reference_data_id: str, days: int, media: str) -> None:
    query: dict[str, str] = {"from": "2024-01-01", "to": "2040-01-01", "limit": str(PAGE)}
    found = 0
    while query:
        answer = read.handle(read.event("historical", reference_data_id, query, media))
        if answer["statusCode"] != 200:
            raise RuntimeError(f"the handler answered {answer['statusCode']}: {answer['body'][:200]}")
        body = answer["body"]
        found += body.count("\n") - 1 if media == CSV else len(json.loads(body)["items"])
        link = answer["headers"].get("Link", "")
        query = dict(parse_qsl(urlsplit(link[1 : link.index(">")]).query)) if link else {}
    if found != days:
        raise RuntimeError(f"{found} values were read, not {days}")


if __name__ == "__main__":
    main(run)
