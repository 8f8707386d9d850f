"""What the deployment does to the event store before its first migration, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from cdk.node import use_packaged_node
from qis.adapters.postgres import migrate
from qis.adapters.postgres.connection import SESSION_SETTINGS, Target
from tests.support.databases import HOST, FreshDatabase

use_packaged_node()

from cdk.constructs.database import FUNCTION_USER, MIGRATE_USER, roles_sql  # noqa: E402

ADMINISTRATOR = "rds_like_administrator"


@pytest.fixture
def as_in_rds(empty_database: FreshDatabase) -> Iterator[FreshDatabase]:
    """A database whose administrator is, as in RDS, no superuser, and may hand out ``rds_iam``."""
    name = empty_database.name
    with empty_database.connect() as owner:
        owner.execute("CREATE ROLE rds_iam NOLOGIN")
        owner.execute(f"CREATE ROLE {ADMINISTRATOR} LOGIN CREATEROLE")
        owner.execute(f"GRANT rds_iam TO {ADMINISTRATOR} WITH ADMIN OPTION")
        # Who makes a role may alter it; here the template's owner made it.
        owner.execute(f"GRANT {FUNCTION_USER} TO {ADMINISTRATOR} WITH ADMIN OPTION")
        owner.execute(f"ALTER DATABASE {name} OWNER TO {ADMINISTRATOR}")
        owner.execute(f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")
    yield empty_database
    with empty_database.connect() as owner:
        owner.execute(f"ALTER DATABASE {name} OWNER TO CURRENT_USER")
        owner.execute(f"DROP OWNED BY {MIGRATE_USER}, {ADMINISTRATOR} CASCADE")
        owner.execute(f"DROP ROLE {MIGRATE_USER}, rds_iam, {ADMINISTRATOR}")


def sign_in(database: FreshDatabase, user: str) -> psycopg.Connection:
    return psycopg.connect(
        host=HOST, port=database.server.port, dbname=database.name, user=user, autocommit=True
    )


def test_the_roles_can_migrate_and_work_and_no_more(as_in_rds: FreshDatabase) -> None:
    with as_in_rds.connect() as owner:
        owner.execute(f"ALTER ROLE {FUNCTION_USER} RESET ALL")
    for _ in range(2):
        with sign_in(as_in_rds, ADMINISTRATOR) as administrator:
            administrator.execute(roles_sql(as_in_rds.name))
    assert migrate.apply(Target(HOST, as_in_rds.server.port, as_in_rds.name, MIGRATE_USER))
    with sign_in(as_in_rds, FUNCTION_USER) as function:
        settings = function.execute("SELECT rolconfig FROM pg_roles WHERE rolname = current_user").fetchone()
        assert settings is not None
        assert set(settings[0]) == {f"{name}={value}" for name, value in SESSION_SETTINGS.items()}
        assert function.execute("SELECT count(*) FROM events").fetchone() == (0,)
        assert function.execute("SELECT pg_has_role('rds_iam', 'MEMBER')").fetchone() == (True,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            function.execute("DELETE FROM events")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            function.execute("CREATE TABLE mine (x int)")
