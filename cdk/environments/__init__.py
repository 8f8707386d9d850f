"""The environments that exist. Their settings are validated before any construct is made."""

from __future__ import annotations

from collections.abc import Callable

from cdk.environments import dev, dr, local, prod, prod_reference, staging
from cdk.environments.settings import Settings

ENVIRONMENTS: dict[str, Callable[[], Settings]] = {
    "local": local.settings,
    "dev": dev.settings,
    "staging": staging.settings,
    "prod": prod.settings,
    "prod-reference": prod_reference.settings,
    "dr": dr.settings,
}


class UnknownEnvironmentError(ValueError):
    """No environment has this name. There is no default: deploying somewhere is always a choice."""


def load(name: str | None) -> Settings:
    """The validated settings of the environment ``name``.

    Raises:
        UnknownEnvironmentError: no name was given, or none of ours.
        pydantic.ValidationError: a setting is wrong; the message names the field and the reason.
    """
    if name not in ENVIRONMENTS:
        known = ", ".join(sorted(ENVIRONMENTS))
        raise UnknownEnvironmentError(f"environment {name!r} does not exist; choose one of: {known}")
    return ENVIRONMENTS[name]()
