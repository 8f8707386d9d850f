"""A new password for a user of Kafka, in the steps of Secrets Manager, and again after a step that failed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cdk.constructs.scram_rotation import handler


class Missing(Exception):
    """There is no such version."""


class SecretsManager:
    """A secret as Secrets Manager keeps it: versions by token, each with its stages."""

    class exceptions:  # noqa: N801 -- as the client of AWS names it
        ResourceNotFoundException = Missing

    def __init__(self) -> None:
        self.values = {"old": json.dumps({"username": "consumers", "password": "before"})}
        self.stages: dict[str, list[str]] = {"old": ["AWSCURRENT"], "new": ["AWSPENDING"]}
        self.puts = 0

    def describe_secret(self, **_: Any) -> dict[str, Any]:
        return {"VersionIdsToStages": self.stages}

    def get_secret_value(self, **of: Any) -> dict[str, str]:
        version = of.get("VersionId", "old")
        if version not in self.values:
            raise Missing
        return {"SecretString": self.values[version]}

    def get_random_password(self, **_: Any) -> dict[str, str]:
        return {"RandomPassword": "after"}

    def put_secret_value(self, **of: Any) -> None:
        self.puts += 1
        self.values[of["ClientRequestToken"]] = of["SecretString"]

    def update_secret_version_stage(self, **of: Any) -> None:
        self.stages[of["MoveToVersionId"]] = ["AWSCURRENT"]
        self.stages[of["RemoveFromVersionId"]] = ["AWSPREVIOUS"]


def run(client: SecretsManager, *steps: str) -> None:
    for step in steps:
        handler({"SecretId": "s", "ClientRequestToken": "new", "Step": step}, None, client)


def test_the_user_keeps_its_name_and_gets_a_new_password() -> None:
    client = SecretsManager()
    run(client, "createSecret", "setSecret", "testSecret", "finishSecret")
    assert json.loads(client.values["new"]) == {"username": "consumers", "password": "after"}
    assert client.stages == {"new": ["AWSCURRENT"], "old": ["AWSPREVIOUS"]}


@pytest.mark.parametrize("step", ["createSecret", "finishSecret"])
def test_a_step_that_is_repeated_changes_nothing(step: str) -> None:
    client = SecretsManager()
    steps = ["createSecret", "setSecret", "testSecret", "finishSecret"]
    run(client, *steps[: steps.index(step) + 1], step)
    assert client.puts == 1
    assert sum("AWSCURRENT" in stages for stages in client.stages.values()) == 1
