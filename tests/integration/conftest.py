"""What the tests on real parts share."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.support.databases import FreshDatabase


@pytest.fixture
def owner(database: FreshDatabase) -> Iterator[psycopg.Connection]:
    """A connection of the role that owns the schema."""
    with database.connect() as connection:
        yield connection
