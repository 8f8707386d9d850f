"""The manifests as they are committed."""

from __future__ import annotations

from pathlib import Path

import yaml

from cdk.environments.settings import Settings
from cdk.manifests import objects

FOLDER = Path(__file__).parent


def text(settings: Settings) -> str:
    """All objects of an environment as one YAML stream."""
    documents = yaml.safe_dump_all(objects(settings), sort_keys=False, explicit_start=True, width=120)
    return f"# Made by `python -m cdk.manifests`.\n{documents}"
