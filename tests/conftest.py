"""What every test stands on: no network by default, and real parts on loopback for those that ask.

A test that asks for a real part (``postgres``, ``database``, ``aws``, ``valkey``) is an integration test and
is marked so by asking. Each xdist worker has servers of its own, started at the first need and ended by the
process that started them.
"""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_socket
from hypothesis import HealthCheck, settings

from local.aws import AwsServer
from local.postgres import PostgresServer
from local.valkey import ValkeyServer
from tests.support.databases import FreshDatabase, Template

REAL_PARTS = frozenset({"postgres", "aws", "valkey"})
LOOPBACK = ["127.0.0.1", "localhost", "::1"]

settings.register_profile(
    "default", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("default")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark who asks for a real part."""
    for item in items:
        if REAL_PARTS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.integration)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Close the network: to everything in unit tests, to all but loopback in integration tests."""
    if item.get_closest_marker("integration") or item.get_closest_marker("e2e"):
        pytest_socket.socket_allow_hosts(LOOPBACK, allow_unix_socket=True)
    else:
        pytest_socket.disable_socket(allow_unix_socket=True)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """A handler freezes what is loaded when it starts, for the life of its process. This process outlives it:
    what stayed frozen would never be freed, not even at the end, where DuckDB reports it as leaked."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def parts_dir() -> Iterator[Path]:
    """A directory for the data of the embedded servers, which ``nobody`` may enter: PostgreSQL refuses to
    run as root."""
    folder = Path(tempfile.mkdtemp(prefix="qis-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres(parts_dir: Path) -> Iterator[PostgresServer]:
    """One PostgreSQL per worker, with ``fsync`` as in production."""
    with PostgresServer(parts_dir / "postgres") as server:
        yield server


@pytest.fixture(scope="session")
def template(postgres: PostgresServer) -> Template:
    """A migrated database that fresh ones are copied from."""
    return Template.make(postgres)


@pytest.fixture
def database(template: Template) -> Iterator[FreshDatabase]:
    """A migrated, empty database of this test alone."""
    fresh = template.fresh()
    yield fresh
    fresh.close()


@pytest.fixture
def empty_database(template: Template) -> Iterator[FreshDatabase]:
    """A database of this test alone, without a schema."""
    fresh = template.fresh(migrated=False)
    yield fresh
    fresh.close()


@pytest.fixture(scope="session")
def aws(parts_dir: Path) -> Iterator[AwsServer]:
    """AWS APIs on loopback, one server per worker. Give resources names of their own."""
    with AwsServer(parts_dir / "aws") as server:
        yield server


@pytest.fixture
def aws_variables(aws: AwsServer, monkeypatch: pytest.MonkeyPatch) -> AwsServer:
    """The variables by which a function reaches the AWS APIs, set for this test."""
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in aws.environment().items():
        monkeypatch.setenv(name, value)
    return aws


@pytest.fixture(scope="session")
def valkey(parts_dir: Path) -> Iterator[ValkeyServer]:
    """One Valkey per worker."""
    with ValkeyServer(parts_dir / "valkey") as server:
        yield server
