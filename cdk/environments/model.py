"""What all parts of the settings share: the base class and the types that several parts use."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

LogRetentionDays = Literal[1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1827, 2557, 3653]
Region = Literal["us-east-1", "us-west-2", "eu-west-1"]
"""The regions that the documents name."""
AccountId = Annotated[str, Field(pattern=r"^\d{12}$")]
BackupDays = Annotated[int, Field(ge=1, le=35)]

COMPLIANCE_DAYS = 2555
"""Seven years: for how long audit records and official values must be kept."""
RECOVERY_DAYS = 35
"""To any second of how many past days production can go back."""


class Model(BaseModel):
    """Unknown keys are refused, nothing is coerced, nothing changes after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, revalidate_instances="always")
