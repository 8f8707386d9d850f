"""Text goes to the log and comes back as it was, whatever it holds; what cannot be kept is refused whole."""

from __future__ import annotations

from itertools import count
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from qis.adapters.postgres.event_store import PostgresEventStore
from qis.domain.events import QUALITY_METRICS_CALCULATED, NewEvent
from tests.support.builders import append
from tests.support.databases import FreshDatabase

_STREAMS = count(1)
texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=40)
documents = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actor=texts, correlation=texts, suffix=texts, document=documents)
@example(actor="\\N", correlation="\\.", suffix="\t\n\r\\", document={"\\t": "\t\\\n\\n\r\\\\\u2028"})
@example(actor="", correlation="\\", suffix="a\tb", document={"": '"\\"'})
@example(actor="\x7f\x01\x1b", correlation="\ufeff", suffix="\U0001f600", document="\ud7ff\ue000\uffff")
def test_any_text_comes_back_as_it_was(
    database: FreshDatabase, actor: str, correlation: str, suffix: str, document: Any
) -> None:
    store = PostgresEventStore(database.app)
    stream = f"s{next(_STREAMS)}:{suffix}"
    event = NewEvent(QUALITY_METRICS_CALCULATED, {"document": document})
    assert not store.append([append(stream, 0, event, actor=actor, correlation_id=correlation)])
    (found,) = store.load([stream])[stream].events
    assert (found.stream, found.actor, found.correlation_id) == (stream, actor, correlation)
    assert found.data == {"document": document}


@pytest.mark.parametrize("bad", ["\x00", "a\x00b", "\ud800"])
@pytest.mark.parametrize("where", ["actor", "correlation_id", "stream", "data"])
def test_a_nul_or_half_a_character_is_refused_and_the_store_goes_on(
    database: FreshDatabase, bad: str, where: str
) -> None:
    store = PostgresEventStore(database.app)
    event = NewEvent(QUALITY_METRICS_CALCULATED, {"text": bad if where == "data" else ""})
    envelope = {where: bad} if where in ("actor", "correlation_id") else {}
    stream = bad if where == "stream" else "s"
    with pytest.raises((psycopg.DataError, UnicodeEncodeError, ValueError)):
        store.append([append("other", 0, event), append(stream, 0, event, **envelope)])
    good = NewEvent(QUALITY_METRICS_CALCULATED, {})
    assert not store.append([append("other", 0, good), append("s", 0, good)])
