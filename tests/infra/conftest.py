"""Each environment is synthesised once; the tests read its templates."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cdk.environments import ENVIRONMENTS
from tests.infra.synthesis import HERE, Environment, synthesise


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Environment]:
    """Every environment by name."""
    return {name: synthesise(name, tmp_path_factory.mktemp(name)) for name in ENVIRONMENTS}


@pytest.fixture(params=sorted(ENVIRONMENTS))
def environment(request: pytest.FixtureRequest, environments: dict[str, Environment]) -> Environment:
    """Each environment in turn."""
    return environments[request.param]


@pytest.fixture(params=sorted(set(ENVIRONMENTS) - {"local"}))
def in_aws(request: pytest.FixtureRequest, environments: dict[str, Environment]) -> Environment:
    """Each environment but the local twin."""
    return environments[request.param]


@pytest.fixture
def dev(environments: dict[str, Environment]) -> Environment:
    """The smallest environment in AWS."""
    return environments["dev"]


@pytest.fixture(scope="session")
def document() -> dict[str, Any]:
    """The OpenAPI document that the code serves."""
    from cdk.build import DOCUMENT

    loaded: dict[str, Any] = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    return loaded


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is here, and keep it in one process: each would synthesise for itself."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.infra)
            item.add_marker(pytest.mark.xdist_group("infra"))
