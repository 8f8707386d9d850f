"""A populated world per test."""

from __future__ import annotations

import pytest

from tests.api.world import World
from tests.support.databases import FreshDatabase


@pytest.fixture
def world(database: FreshDatabase) -> World:
    """Registered series on a database of this test alone."""
    return World(database.app).populate()
