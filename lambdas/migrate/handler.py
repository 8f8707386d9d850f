"""``migrate``: brings the schema up to date, as a step of a deployment. No other function changes it."""

from __future__ import annotations

import os
from typing import Any

from aws_lambda_powertools import Logger

from qis.adapters.postgres.connection import Target
from qis.adapters.postgres.migrate import apply
from qis.settings import MigrateEnvironment

logger = Logger()


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: object) -> dict[str, list[str]]:
    """The deployment's trigger. Raises on failure, which stops the deployment."""
    env = MigrateEnvironment.read(os.environ)
    applied = apply(Target.of(env, os.environ["AWS_REGION"]))
    logger.info("migrations applied", extra={"applied": applied})
    return {"applied": applied}
