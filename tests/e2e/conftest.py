"""One twin for all end-to-end tests of a worker: starting one takes seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.twin import Twin


@pytest.hookimpl(tryfirst=True)  # before the groups are read
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts a twin, and keep it on one worker: two at once would only wait for each other."""
    for item in items:
        if "tests/e2e/" in item.nodeid:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.xdist_group("twin"))


@pytest.fixture(scope="session")
def twin() -> Iterator[Twin]:
    """A running twin without data."""
    one = Twin()
    try:
        one.start()
        yield one
    finally:
        one.close()
